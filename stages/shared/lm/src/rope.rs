//! Frequencies of the rotary position embedding, and the scaling of Llama 3 that stretches them to longer texts.

use std::f64::consts::TAU;

use serde::{Deserialize, Serialize};

/// `rope_scaling` of type `llama3`: slow frequencies are divided by `factor`, fast ones are kept, those between blend.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Llama3Scaling {
    /// What the slow frequencies are divided by.
    pub factor: f64,
    /// A frequency that turns fewer times than this over the original context is slow.
    pub low_freq_factor: f64,
    /// A frequency that turns more often than this over the original context is fast.
    pub high_freq_factor: f64,
    /// The context before scaling, in tokens.
    pub original_max_position_embeddings: usize,
}

impl Llama3Scaling {
    /// What is wrong with these numbers, if anything.
    pub(crate) fn problem(&self) -> Option<String> {
        let Self { factor, low_freq_factor: low, high_freq_factor: high, .. } = *self;
        if !(factor.is_finite() && factor >= 1.0) {
            return Some("`factor` must be at least 1".into());
        }
        if !(low > 0.0 && high.is_finite() && low < high) {
            return Some("`low_freq_factor` must be above 0 and below `high_freq_factor`".into());
        }
        (self.original_max_position_embeddings == 0)
            .then(|| "`original_max_position_embeddings` must be at least 1".into())
    }

    /// What a frequency with this wave length, in tokens, is divided by.
    pub(crate) fn divisor(&self, wave: f64) -> f64 {
        let Self { factor, low_freq_factor: low, high_freq_factor: high, .. } = *self;
        let turns = self.original_max_position_embeddings as f64 / wave;
        if turns > high {
            1.0
        } else if turns < low {
            factor
        } else {
            let smooth = (turns - low) / (high - low);
            1.0 / ((1.0 - smooth) / factor + smooth)
        }
    }
}

/// The frequencies of one head, in radians a token, for each pair of its coordinates.
pub(crate) fn frequencies(head_size: usize, theta: f64, scaling: Option<&Llama3Scaling>) -> Vec<f32> {
    let frequency = |pair: usize| {
        let frequency = theta.powf(-2.0 * pair as f64 / head_size as f64);
        (frequency / scaling.map_or(1.0, |scaling| scaling.divisor(TAU / frequency))) as f32
    };
    (0..head_size / 2).map(frequency).collect()
}

/// The scaling whose divisors these are, for files that hold the divisors instead: none where they are all 1, an error
/// where they are not those of Llama 3's own 1 and 4 turns over a context that is a power of two.
pub(crate) fn scaling_of(divisors: &[f32], theta: f64) -> Result<Option<Llama3Scaling>, ()> {
    let factor = divisors.iter().copied().fold(1.0, f32::max);
    if divisors.iter().all(|divisor| *divisor == 1.0) {
        return Ok(None);
    }
    let waves: Vec<f64> =
        (0..divisors.len()).map(|pair| TAU * theta.powf(pair as f64 / divisors.len() as f64)).collect();
    let fits = |scaling: &Llama3Scaling| {
        let close = |(wave, found): (&f64, &f32)| {
            let expected = scaling.divisor(*wave);
            (expected - f64::from(*found)).abs() <= 1e-3 * expected
        };
        scaling.problem().is_none() && waves.iter().zip(divisors).all(close)
    };
    let scaling = (0..24).map(|power| Llama3Scaling {
        factor: f64::from(factor),
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_position_embeddings: 1 << power,
    });
    scaling.into_iter().find(fits).map(Some).ok_or(())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    const LLAMA_3_1: Llama3Scaling = Llama3Scaling {
        factor: 8.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_position_embeddings: 8192,
    };

    #[test]
    fn fast_frequencies_stay_and_slow_ones_are_divided() {
        let plain = frequencies(128, 500_000.0, None);
        let scaled = frequencies(128, 500_000.0, Some(&LLAMA_3_1));
        assert_eq!(plain.len(), 64);
        assert_eq!((plain[0], scaled[0]), (1.0, 1.0));
        assert_eq!(scaled[63], plain[63] / 8.0);
        // 2 turns are a third of the way from 1 to 4: 1 / (2/3 / 8 + 1/3).
        assert!((LLAMA_3_1.divisor(4096.0) - 2.4).abs() < 1e-12);
    }

    #[test]
    fn a_scaling_is_found_by_its_divisors() {
        let waves = (0..64).map(|pair| TAU * 500_000f64.powf(f64::from(pair) / 64.0));
        let mut divisors: Vec<f32> = waves.map(|wave| LLAMA_3_1.divisor(wave) as f32).collect();
        assert_eq!(scaling_of(&divisors, 500_000.0), Ok(Some(LLAMA_3_1)));
        divisors[40] *= 1.1;
        assert_eq!(scaling_of(&divisors, 500_000.0), Err(()));
        assert_eq!(scaling_of(&[1.0; 8], 1e4).unwrap(), None);
        assert_eq!(scaling_of(&[f32::NAN, 2.0], 1e4), Err(()));
    }
}
