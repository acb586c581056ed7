//! Kind model: a base student, loaded or pretrained.
