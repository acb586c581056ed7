//! How alike two texts are: the Jaccard index of their word 3-grams, as in MCC-KD (Chen et al. 2023).

use std::collections::HashSet;

/// The 3-grams of a text's words in lower case; a shorter text is one gram.
pub(crate) fn three_grams(text: &str) -> HashSet<String> {
    let text = text.to_lowercase();
    let words: Vec<&str> = text.split_whitespace().collect();
    if words.len() < 3 {
        return HashSet::from([words.join(" ")]);
    }
    words.windows(3).map(|gram| gram.join(" ")).collect()
}

/// The share of grams in both among those in either.
pub(crate) fn jaccard(a: &HashSet<String>, b: &HashSet<String>) -> f64 {
    let both = a.intersection(b).count();
    let either = a.len() + b.len() - both;
    if either == 0 { 1.0 } else { both as f64 / either as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alike(a: &str, b: &str) -> f64 {
        jaccard(&three_grams(a), &three_grams(b))
    }

    #[test]
    fn similarity_is_worked_out_by_hand() {
        // Grams "a b c", "b c d" against "b c d", "c d e": one of three is in both.
        assert_eq!(alike("a b c d", "b c d e"), 1.0 / 3.0);
        assert_eq!(alike("A b\nc", "a B c"), 1.0);
        assert_eq!(alike("a b c", "d e f"), 0.0);
        assert_eq!(alike("yes", "yes"), 1.0);
        assert_eq!(alike("yes", "no"), 0.0);
        assert_eq!(alike("", ""), 1.0);
    }
}
