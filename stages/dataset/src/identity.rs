//! When two questions are one, wherever they stand.

use contract::Digest;
use icu_normalizer::ComposingNormalizerBorrowed;

/// Equal for questions that read the same: case, spacing, Unicode form, id and the order of choices do not count.
pub(crate) fn identity(question: &str, choices: &[String]) -> Digest {
    let mut choices: Vec<String> = choices.iter().map(|choice| plain(choice)).collect();
    choices.sort_unstable();
    Digest::of_json(&(plain(question), choices))
}

/// The text in normal form NFKC and lower case, with single spaces.
fn plain(text: &str) -> String {
    let text = ComposingNormalizerBorrowed::new_nfkc().normalize(text).to_lowercase();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_that_read_the_same_are_one() {
        let one = identity("How many caf\u{e9}s are there?", &[]);
        for same in [
            "how many caf\u{e9}s are there?",
            " How  many\tcaf\u{e9}s\u{a0}are\nthere? ",
            "How many cafe\u{301}s are there?",
            "\u{ff28}ow many caf\u{e9}s are there?",
        ] {
            assert_eq!(identity(same, &[]), one, "{same}");
        }
        for other in ["How many cafes are there?", "How many caf\u{e9}s are there", "2 - 3", "2 + 3"] {
            assert_ne!(identity(other, &[]), one, "{other}");
        }
        assert_ne!(identity("2 - 3", &[]), identity("2 + 3", &[]));
        let choices = |choices: [&str; 2]| identity("Which is true?", &choices.map(str::to_owned));
        assert_eq!(choices(["Yes", "no"]), choices(["no", "yes"]));
        assert_ne!(choices(["yes", "no"]), choices(["yes", "maybe"]));
    }
}
