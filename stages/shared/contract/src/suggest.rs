//! Names that may have been meant.

/// The nearest candidate to a misspelled name, if one is near enough.
pub fn suggest<'a>(wrong: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    const FAR: usize = 3;
    if wrong.len() > 100 {
        return None;
    }
    let flat = |name: &str| name.to_lowercase().replace(['_', ' '], "-");
    let wrong = flat(wrong);
    let near = |candidate: &&str| {
        let longest = wrong.len().max(candidate.len());
        if wrong.len().abs_diff(candidate.len()) > FAR {
            return None;
        }
        let distance = strsim::osa_distance(&wrong, &flat(candidate));
        (distance < longest && distance <= longest.div_ceil(4).min(FAR)).then_some(distance)
    };
    let found = candidates.into_iter().filter_map(|candidate| Some((near(&candidate)?, candidate)));
    found.min_by_key(|(distance, _)| *distance).map(|(_, candidate)| candidate)
}

/// What a wrong name may have been meant for, for a sentence: the nearest candidate, or all of them.
pub fn meant<'a>(wrong: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    let candidates: Vec<&str> = candidates.into_iter().collect();
    match suggest(wrong, candidates.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("there are `{}`", candidates.join("`, `")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_name_is_told_what_there_is() {
        assert_eq!(meant("planing", ["planning", "analogy"]), "did you mean `planning`?");
        assert_eq!(meant("x", ["planning", "analogy"]), "there are `planning`, `analogy`");
    }

    #[test]
    fn suggests_only_what_is_near() {
        assert_eq!(suggest("studnet", ["student", "teacher"]), Some("student"));
        assert_eq!(suggest("std_cot", ["std-cot", "mind"]), Some("std-cot"));
        assert_eq!(suggest("Epochs", ["epochs"]), Some("epochs"));
        assert_eq!(suggest("a", ["b"]), None);
        assert_eq!(suggest("quantum", ["student", "teacher"]), None);
        assert_eq!(suggest(&"x".repeat(10_000), ["x"]), None);
    }
}
