//! The models of an analysis under their names.

use std::collections::{BTreeMap, BTreeSet};

use contract::{Context, Input};

use crate::results::{CLUSTERS, LAYERS, SENTENCE_SPACE, SUMMARY};

/// The label of the control.
pub(crate) const UNDISTILLED: &str = "undistilled";

/// A model under its names.
pub(crate) struct Subject<'a> {
    /// Whether it is the undistilled model.
    pub(crate) control: bool,
    /// Its artifact.
    pub(crate) input: &'a Input,
    /// Its name for people.
    pub(crate) label: String,
    /// Its name as a file, without ending.
    pub(crate) file: String,
}

/// The control first, then the models in order, each under a name of its own.
///
/// Names come from axis values alone: a stage's name is no part of a fingerprint and may not show in a result.
pub(crate) fn subjects<'a>(context: &'a Context) -> Vec<Subject<'a>> {
    let mut taken = BTreeSet::from([SUMMARY, LAYERS, CLUSTERS, SENTENCE_SPACE].map(str::to_owned));
    let control = context.optional("base").map(|input| (true, input, UNDISTILLED.to_owned()));
    let models = context.inputs("models").iter().map(|input| {
        let name = label(&input.labels);
        (false, input, if name.is_empty() { "model".to_owned() } else { name })
    });
    control
        .into_iter()
        .chain(models)
        .map(|(control, input, name)| {
            let file = file_name(&name);
            let tries = (1..).map(|n| match n {
                1 => (file.clone(), name.clone()),
                n => (format!("{file}-{n}"), format!("{name} ({n})")),
            });
            let (file, label) =
                tries.into_iter().find(|(file, _)| taken.insert(file.clone())).expect("numbers do not end");
            Subject { control, input, label, file }
        })
        .collect()
}

/// Axis values as people read them: `method=mind,seed=1`.
pub(crate) fn label(labels: &BTreeMap<String, String>) -> String {
    labels.iter().map(|(axis, value)| format!("{axis}={value}")).collect::<Vec<_>>().join(",")
}

/// A label with everything but plain characters replaced by single hyphens.
pub(crate) fn file_name(label: &str) -> String {
    let plain = |character: char| character.is_ascii_alphanumeric() || "._".contains(character);
    let words: Vec<&str> =
        label.split(|character| !plain(character)).filter(|word| !word.is_empty()).collect();
    let name: String = words.join("-").chars().take(80).collect();
    let name = name.trim_matches(['.', '-']);
    if name.is_empty() { "model".to_owned() } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_are_plain() {
        assert_eq!(file_name("method=mind,seed=1"), "method-mind-seed-1");
        assert_eq!(file_name("../a b/\"lr=0.5\""), "a-b-lr-0.5");
        assert_eq!(file_name("ü"), "model");
    }
}
