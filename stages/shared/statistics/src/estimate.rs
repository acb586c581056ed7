//! What a cell, or a difference of two, is estimated from, and its 95 % interval.
//!
//! An estimate is a weighted sum of answers. Chance enters it twice, and the two variances are added:
//!
//! - by the questions, drawn from more of their kind. Answers to the same question are summed first, so a difference over the
//!   same questions is paired; sets of different questions are independent;
//! - by the runs, drawn from more of their kind in each row: the variance between run-level values, which holds no noise of
//!   the questions, since every run answered the same. Runs of one row are the same students in every column, so their
//!   values are summed by run; runs of different rows are independent. A single run says nothing of runs.
//!
//! Noise of a single answer is in both, so intervals of several runs are rather too wide than too narrow.

use std::collections::BTreeMap;

use crate::intervals::{self, Variance};

/// What one run answered to a set of questions.
#[derive(Clone, Copy, Debug)]
pub struct RunAnswers<'a> {
    /// What tells the run from others of its row; `None` where nothing does.
    pub label: Option<&'a str>,
    /// The value of the run as a whole: the mean of `answers`, as it was measured.
    pub value: f64,
    /// A name of the set of questions that no other set has.
    pub questions: &'a str,
    /// What each question contributes, in an order that every run over the set shares.
    pub answers: &'a [f64],
}

/// A run as a part of an estimate.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// As in [`RunAnswers`].
    pub label: Option<String>,
    /// Its value, under the weights of the estimate.
    pub value: f64,
}

/// A weighted sum of answers.
#[derive(Clone, Debug)]
pub struct Estimate {
    value: f64,
    /// By the questions asked.
    asked: BTreeMap<String, Answers>,
    /// See [`Self::runs`].
    runs: Vec<Run>,
    /// Whether `runs` are all it is made from.
    complete: bool,
    /// What the runs contribute to its variance.
    between_runs: Vec<Variance>,
}

/// Answers to one set of questions.
#[derive(Clone, Debug, Default)]
struct Answers {
    /// One weighted sum a question, in the order of ids.
    sums: Vec<f64>,
    /// What a sum could be at least and at most, if an answer is between 0 and 1.
    range: (f64, f64),
}

impl Estimate {
    /// The mean of runs.
    pub fn mean_of_runs(answered: &[RunAnswers<'_>]) -> Self {
        let weight = 1.0 / answered.len() as f64;
        let mut asked = BTreeMap::new();
        for run in answered {
            add(&mut asked, weight, run.questions, run.answers, (0.0, 1.0));
        }
        let run = |run: &RunAnswers<'_>| Run { label: run.label.map(str::to_owned), value: run.value };
        let runs: Vec<Run> = answered.iter().map(run).collect();
        let values: Vec<f64> = runs.iter().map(|run| run.value).collect();
        Self {
            value: intervals::mean(&values),
            asked,
            runs,
            complete: true,
            between_runs: intervals::over_runs(&values).into_iter().collect(),
        }
    }

    /// A weighted sum of estimates of one row.
    pub fn within_row(members: &[(f64, &Self)]) -> Self {
        let in_every_member = |run: &Run| {
            let of = |member: &Self| {
                member.runs.iter().find(|other| other.label == run.label).map(|run| run.value)
            };
            let values: Option<Vec<f64>> =
                members.iter().map(|(weight, member)| Some(weight * of(member)?)).collect();
            Some(Run { label: run.label.clone(), value: values?.iter().sum() })
        };
        let runs: Vec<Run> =
            members.iter().take(1).flat_map(|(_, first)| &first.runs).filter_map(in_every_member).collect();
        let complete = members.iter().all(|(_, member)| member.complete && member.runs.len() == runs.len());
        let between_runs = if complete {
            let values: Vec<f64> = runs.iter().map(|run| run.value).collect();
            intervals::over_runs(&values).into_iter().collect()
        } else {
            // Which runs belong together is not known of all: as much as there could be (Cauchy and Schwarz).
            let parts = weighted(members);
            let count = parts.len() as f64;
            parts.into_iter().map(|part| Variance { value: count * part.value, ..part }).collect()
        };
        Self { runs, complete, between_runs, ..Self::sum(members) }
    }

    /// The difference to an estimate of another row.
    pub fn minus(&self, other: &Self) -> Self {
        Self::sum(&[(1.0, self), (-1.0, other)])
    }

    /// A weighted sum of estimates with runs of their own.
    fn sum(members: &[(f64, &Self)]) -> Self {
        let mut asked = BTreeMap::new();
        for (weight, member) in members {
            for (questions, answers) in &member.asked {
                add(&mut asked, *weight, questions, &answers.sums, answers.range);
            }
        }
        let value = members.iter().map(|(weight, member)| weight * member.value).sum();
        Self { value, asked, runs: Vec::new(), complete: false, between_runs: weighted(members) }
    }

    /// The sum itself.
    pub fn value(&self) -> f64 {
        self.value
    }

    /// The runs of its row, each with the same weights; those that it has in every member.
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// Whether both were asked the same questions.
    pub fn asked_as(&self, other: &Self) -> bool {
        self.asked.keys().eq(other.asked.keys())
    }

    /// Whether chance of runs is in its interval.
    fn samples_runs(&self) -> bool {
        !self.between_runs.is_empty()
    }

    /// The 95 % interval; `rate` says that answers are between 0 and 1. It holds the value, which the pseudo-questions of a
    /// rate can leave off its center.
    pub fn interval(&self, rate: bool) -> (f64, f64) {
        let mut variances = self.between_runs.clone();
        let (mut center, mut least, mut most) = (0.0, 0.0, 0.0);
        for answers in self.asked.values() {
            let (mean, variance) = intervals::over_questions(&answers.sums, rate.then_some(answers.range));
            variances.push(variance);
            center += mean;
            least += answers.range.0;
            most += answers.range.1;
        }
        let half = intervals::half_width(&variances);
        let (mut low, mut high) = (center - half, center + half);
        if rate {
            (low, high) = (low.max(least), high.min(most));
        }
        (low.min(self.value), high.max(self.value))
    }

    /// The 95 % interval of a rate that is the mean of some columns, each given by its rate and its questions: Wilson's over the
    /// questions, and with several runs the smallest that also holds [`Self::interval`].
    pub fn interval_of_rate(&self, columns: &[(f64, usize)]) -> (f64, f64) {
        let of_column = |(rate, questions): &(f64, usize)| (*rate, intervals::wilson(*rate, *questions));
        let parts: Vec<(f64, (f64, f64))> = columns.iter().map(of_column).collect();
        let over_questions = intervals::interval_of_mean(&parts);
        if self.samples_runs() {
            intervals::hull(over_questions, self.interval(true))
        } else {
            over_questions
        }
    }
}

fn add(asked: &mut BTreeMap<String, Answers>, weight: f64, questions: &str, sums: &[f64], range: (f64, f64)) {
    let all = asked.entry(questions.to_owned()).or_default();
    all.sums.resize(sums.len(), 0.0);
    for (all, own) in all.sums.iter_mut().zip(sums) {
        *all += weight * own;
    }
    let (low, high) = if weight < 0.0 { (range.1, range.0) } else { range };
    all.range = (all.range.0 + weight * low, all.range.1 + weight * high);
}

/// The variances that the members' runs contribute, if they are independent.
fn weighted(members: &[(f64, &Estimate)]) -> Vec<Variance> {
    let of = |(weight, member): &(f64, &Estimate)| {
        let weight = weight.powi(2);
        member
            .between_runs
            .iter()
            .map(move |part| Variance { value: weight * part.value, ..*part })
            .collect::<Vec<_>>()
    };
    members.iter().flat_map(of).collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests;
