//! What is written down about one optimizer step.

use std::collections::BTreeMap;

use contract::records::Metric;

/// Collects the numbers of one optimizer step over its batches.
#[derive(Debug, Default)]
pub(crate) struct StepLog {
    means: BTreeMap<String, (f64, usize)>,
    totals: BTreeMap<String, f64>,
}

impl StepLog {
    /// A value whose mean over the step is logged.
    pub(crate) fn mean(&mut self, name: impl Into<String>, value: f64) {
        self.mean_over(name, value, 1);
    }

    /// The sum of several values whose mean over the step is logged.
    pub(crate) fn mean_over(&mut self, name: impl Into<String>, sum: f64, count: usize) {
        let mean = self.means.entry(name.into()).or_default();
        mean.0 += sum;
        mean.1 += count;
    }

    /// A value whose sum over the step is logged.
    pub(crate) fn total(&mut self, name: impl Into<String>, value: f64) {
        *self.totals.entry(name.into()).or_default() += value;
    }

    /// The record of the step.
    pub(crate) fn finish(self, step: usize) -> Metric {
        let means = self.means.into_iter().map(|(name, (sum, count))| (name, sum / count as f64));
        Metric { step, values: means.chain(self.totals).collect() }
    }
}
