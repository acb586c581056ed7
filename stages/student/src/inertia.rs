//! Signal inertia: what the student loses on each path, averaged over its visits.

use serde::{Deserialize, Serialize};

/// Exponential moving averages with bias correction, one per (question, path).
///
/// `m <- rho m + (1 - rho) x`, read as `m / (1 - rho^t)` after t values, so the first value is read as itself and
/// with `rho` 0 the last one is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Inertia {
    rho: f64,
    paths: usize,
    averages: Vec<f64>,
    visits: Vec<u32>,
}

/// An [`Inertia`] on disk. Floats are kept as their bits: JSON readers may round the last digit.
#[derive(Serialize, Deserialize)]
pub(crate) struct InertiaState {
    averages: Vec<u64>,
    visits: Vec<u32>,
}

impl Inertia {
    /// Starts from one value for each path, row by row; paths that do not exist hold anything.
    pub(crate) fn new(rho: f64, paths: usize, first: impl Iterator<Item = f64>) -> Self {
        let averages: Vec<f64> = first.map(|value| (1.0 - rho) * value).collect();
        let visits = vec![1; averages.len()];
        Self { rho, paths, averages, visits }
    }

    /// Takes a new value of one path.
    pub(crate) fn observe(&mut self, question: usize, path: usize, value: f64) {
        let at = question * self.paths + path;
        self.averages[at] = self.rho * self.averages[at] + (1.0 - self.rho) * value;
        self.visits[at] += 1;
    }

    /// The average of one path.
    pub(crate) fn average(&self, question: usize, path: usize) -> f64 {
        let at = question * self.paths + path;
        self.averages[at] / (1.0 - self.rho.powf(f64::from(self.visits[at])))
    }

    /// What a checkpoint keeps.
    pub(crate) fn state(&self) -> InertiaState {
        InertiaState {
            averages: self.averages.iter().map(|value| value.to_bits()).collect(),
            visits: self.visits.clone(),
        }
    }

    /// Goes on from a checkpoint.
    pub(crate) fn restore(&mut self, state: InertiaState) {
        self.averages = state.averages.into_iter().map(f64::from_bits).collect();
        self.visits = state.visits;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_average_is_bias_corrected() {
        let mut inertia = Inertia::new(0.9, 2, [4.0, 1.0].into_iter());
        assert!((inertia.average(0, 0) - 4.0).abs() < 1e-12, "the first value is read as itself");
        inertia.observe(0, 0, 2.0);
        // (0.9 * 0.1 * 4 + 0.1 * 2) / (1 - 0.81)
        assert!((inertia.average(0, 0) - 0.56 / 0.19).abs() < 1e-12);
        assert!((inertia.average(0, 1) - 1.0).abs() < 1e-12, "other paths are not touched");
    }

    #[test]
    fn without_inertia_the_last_value_is_read() {
        let mut inertia = Inertia::new(0.0, 1, [4.0].into_iter());
        inertia.observe(0, 0, 2.5);
        assert!((inertia.average(0, 0) - 2.5).abs() < 1e-12);
    }

    #[test]
    fn a_checkpoint_is_exact() {
        let mut inertia = Inertia::new(0.7, 1, [0.1 + 0.2].into_iter());
        inertia.observe(0, 0, 1.0 / 3.0);
        let mut other = Inertia::new(0.7, 1, [0.0].into_iter());
        let json = serde_json::to_string(&inertia.state()).expect("plain data");
        other.restore(serde_json::from_str(&json).expect("just written"));
        assert_eq!(other, inertia);
    }
}
