//! Kind evaluate: answers questions with a model and scores the answers.
