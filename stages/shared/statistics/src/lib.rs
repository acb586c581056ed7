//! Means of runs over questions, their differences, and 95 % intervals of both, in closed form.
//!
//! An [`Estimate`] is made from plain answers, by run and question; whatever sets accuracies against one another judges chance
//! by it. Nothing here is drawn at random, and nothing corrects for the number of comparisons.

mod intervals;
pub use intervals::{mean, standard_deviation, wilson};

mod estimate;
pub use estimate::{Estimate, Run, RunAnswers};
