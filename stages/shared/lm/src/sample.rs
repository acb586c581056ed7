//! Drawing the next token from a model's distribution.
//!
//! Every text has a generator of its own, made of the seed, the item and the sample's number, and takes one number from it
//! a token. So a sampled text does not depend on which others share its batch, or on how many there are.

use contract::rng;
use rand::Rng;
use rand_chacha::ChaCha8Rng;

/// How tokens are drawn; the filters apply in this order.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// What logits are divided by; above 0.
    pub temperature: f64,
    /// Only so many of the likeliest tokens; all of them where absent.
    pub top_k: Option<usize>,
    /// Only the likeliest tokens that hold this share of the probability together; 1 keeps all (nucleus sampling,
    /// arXiv 1904.09751).
    pub top_p: f64,
    /// Decides every draw, with the item and the sample's number.
    pub seed: u64,
}

impl Sampling {
    /// The generator of one text.
    pub(crate) fn rng(&self, item: &str, sample: usize) -> ChaCha8Rng {
        rng(self.seed, &format!("sample/{sample}/{item}"))
    }

    /// Draws a token from the logits of the whole vocabulary.
    pub(crate) fn draw(&self, logits: &[f32], rng: &mut ChaCha8Rng) -> u32 {
        let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let weight = |logit: f32| (f64::from(logit - most) / self.temperature).exp();
        let mut candidates: Vec<(usize, f64)> =
            logits.iter().map(|logit| weight(*logit)).enumerate().collect();
        let likelier = |a: &(usize, f64), b: &(usize, f64)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
        if let Some(top_k) = self.top_k.filter(|top_k| *top_k < candidates.len()) {
            candidates.select_nth_unstable_by(top_k, likelier);
            candidates.truncate(top_k);
        }
        if self.top_p < 1.0 {
            let total: f64 = candidates.iter().map(|(_, weight)| weight).sum();
            // Tokens below this hold less than the share to be dropped, all together: they need no sorting.
            let negligible = (1.0 - self.top_p) * total / candidates.len() as f64;
            candidates.retain(|(_, weight)| *weight >= negligible);
            candidates.sort_unstable_by(likelier);
            let mut share = 0.0;
            let kept = candidates.iter().position(|(_, weight)| {
                share += weight;
                share >= self.top_p * total
            });
            candidates.truncate(kept.map_or(candidates.len(), |last| last + 1));
        }
        // In the order of the vocabulary, where rounding moves borders but swaps no neighbours.
        candidates.sort_unstable_by_key(|(token, _)| *token);
        let total: f64 = candidates.iter().map(|(_, weight)| weight).sum();
        let mut left = rng.random::<f64>() * total;
        for (token, weight) in &candidates {
            left -= weight;
            if left < 0.0 {
                return *token as u32;
            }
        }
        candidates.last().map_or(0, |(token, _)| *token as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Probabilities 0.5, 0.3, 0.15, 0.05 at temperature 1, not in this order.
    const LOGITS: [f32; 4] = [-0.897_12, 0.306_853, -1.995_732, -0.203_973];

    fn sampling(temperature: f64, top_k: Option<usize>, top_p: f64) -> Sampling {
        Sampling { temperature, top_k, top_p, seed: 7 }
    }

    /// How often each token is drawn.
    fn shares(sampling: &Sampling) -> [f64; 4] {
        let mut rng = sampling.rng("item", 0);
        let mut counts = [0.0; 4];
        for _ in 0..20_000 {
            counts[sampling.draw(&LOGITS, &mut rng) as usize] += 1.0 / 20_000.0;
        }
        counts
    }

    fn assert_near(found: [f64; 4], expected: [f64; 4]) {
        // Three standard deviations of a share of 20,000 draws.
        let near = found.iter().zip(&expected).all(|(found, expected)| (found - expected).abs() < 0.011);
        assert!(near, "{found:?} is not {expected:?}");
    }

    #[test]
    fn tokens_come_as_often_as_the_distribution_says() {
        assert_near(shares(&sampling(1.0, None, 1.0)), [0.15, 0.5, 0.05, 0.3]);
        // Squared and scaled: 0.25, 0.09, 0.0225, 0.0025 of 0.365.
        assert_near(shares(&sampling(0.5, None, 1.0)), [0.062, 0.685, 0.007, 0.247]);
    }

    #[test]
    fn filters_keep_the_likeliest() {
        let expected = [0.0, 0.625, 0.0, 0.375];
        for filtered in [sampling(1.0, Some(2), 1.0), sampling(1.0, None, 0.79), sampling(1.0, Some(3), 0.8)]
        {
            let found = shares(&filtered);
            assert_near(found, expected);
            assert_eq!((found[0], found[2]), (0.0, 0.0), "{filtered:?}");
        }
        assert!(shares(&sampling(1.0, Some(1), 1.0))[1] > 0.999);
        assert!(shares(&sampling(1.0, None, 0.01))[1] > 0.999, "the likeliest always stays");
        assert_near(shares(&sampling(1.0, Some(9), 1.0)), [0.15, 0.5, 0.05, 0.3]);
    }

    #[test]
    fn seed_item_and_sample_decide_the_draws() {
        let first = |sampling: &Sampling, item: &str, sample: usize| {
            let mut rng = sampling.rng(item, sample);
            (0..20).map(|_| sampling.draw(&LOGITS, &mut rng)).collect::<Vec<_>>()
        };
        let one = sampling(1.0, None, 1.0);
        assert_eq!(first(&one, "a", 0), first(&one, "a", 0));
        assert_ne!(first(&one, "a", 0), first(&one, "b", 0));
        assert_ne!(first(&one, "a", 0), first(&one, "a", 1));
        assert_ne!(first(&one, "a", 0), first(&Sampling { seed: 8, ..one }, "a", 0));
    }
}
