//! What several sampled answers to each question say of a model: pass@k and the majority's answer.

use std::collections::BTreeMap;

use contract::records::Prediction;

/// The chance that at least one of `k` answers is right, from `n` answers of which `right` are; unbiased.
///
/// `k` is at most `n`.
pub(crate) fn pass_at(n: usize, right: usize, k: usize) -> f64 {
    if n - right < k {
        return 1.0;
    }
    // 1 - C(n - right, k) / C(n, k), as a product. Eq. 1, Evaluating Large Language Models Trained on Code,
    // arXiv 2107.03374.
    1.0 - ((n - right + 1)..=n).map(|i| 1.0 - k as f64 / i as f64).product::<f64>()
}

/// Whether the answer most samples agree on is right (self-consistency, arXiv 2203.11171).
///
/// All right answers are one answer, however they are spelled; wrong ones agree where they are spelled alike. Samples
/// without an answer do not vote, and among equals the answer given first wins.
pub(crate) fn majority_is_right(samples: &[Prediction]) -> bool {
    let mut votes: BTreeMap<Option<&str>, (usize, usize)> = BTreeMap::new();
    for (place, sample) in samples.iter().enumerate() {
        let answer = match (&sample.extracted, sample.correct) {
            (Some(_), true) => None,
            (Some(wrong), false) => Some(wrong.trim()),
            (None, _) => continue,
        };
        votes.entry(answer).or_insert((0, place)).0 += 1;
    }
    let most = votes.into_iter().max_by_key(|(_, (votes, first))| (*votes, std::cmp::Reverse(*first)));
    most.is_some_and(|(answer, _)| answer.is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pass_at_k_is_what_counting_says() {
        // Of 4 answers 1 is right: of the 6 pairs, 3 hold it.
        assert!((pass_at(4, 1, 2) - 0.5).abs() < 1e-12);
        // Of 5 answers 2 are right: of the 10 triples, 1 holds neither.
        assert!((pass_at(5, 2, 3) - 0.9).abs() < 1e-12);
        assert!((pass_at(8, 3, 1) - 0.375).abs() < 1e-12, "pass@1 is the mean");
        assert_eq!((pass_at(8, 0, 8), pass_at(8, 1, 8), pass_at(8, 8, 1)), (0.0, 1.0, 1.0));
        // It grows with k, and never leaves 0..=1.
        let growing: Vec<f64> = (1..=100).map(|k| pass_at(100, 3, k)).collect();
        assert!(growing.is_sorted() && growing[99] == 1.0);
    }

    fn vote(samples: &[(Option<&str>, bool)]) -> bool {
        let prediction = |(extracted, correct): &(Option<&str>, bool)| Prediction {
            id: "q".into(),
            text: String::new(),
            extracted: extracted.map(str::to_owned),
            correct: *correct,
            truncated: false,
            undecided: false,
            tokens: 1,
        };
        let predictions: Vec<Prediction> = samples.iter().map(prediction).collect();
        majority_is_right(&predictions)
    }

    #[test]
    fn the_majority_decides() {
        let (right, also) = ((Some("7"), true), (Some("7.0"), true));
        let (six, eight, none) = ((Some("6"), false), (Some(" 8"), false), (None, false));
        assert!(vote(&[right, six, also]), "spellings of the right answer vote together");
        assert!(!vote(&[six, right, six]));
        assert!(vote(&[six, right, eight, right]), "wrong answers that differ do not");
        assert!(vote(&[none, none, right, none]), "silence is no vote");
        assert!(!vote(&[none, none]) && !vote(&[]));
        assert!(vote(&[right, six]) && !vote(&[six, right]), "the first of equals");
        assert!(!vote(&[right, eight, (Some("8 "), false)]), "spaces make no other answer");
    }
}
