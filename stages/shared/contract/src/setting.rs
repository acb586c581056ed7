//! What is known of a cell's surroundings when a recipe is checked.

use std::collections::BTreeMap;

use crate::Backend;

/// What a cell will compute on and read, as far as that is known before anything runs.
pub struct Setting<'a> {
    backend: &'a Backend,
    joined: BTreeMap<&'a str, Vec<Joined<'a>>>,
}

/// An artifact that a cell will read.
#[derive(Clone, Copy)]
pub struct Joined<'a> {
    /// The stage that will have made it.
    pub stage: &'a str,
    /// Its labels, as [`crate::Input::labels`].
    pub labels: &'a BTreeMap<String, String>,
    /// The perspectives it holds rationales of, where they are known.
    pub perspectives: Option<&'a [String]>,
}

impl<'a> Setting<'a> {
    /// Made by the engine, and by tests of a kind; `joined` holds the ports that are joined, each with its artifacts.
    pub fn new(backend: &'a Backend, joined: BTreeMap<&'a str, Vec<Joined<'a>>>) -> Self {
        Self { backend, joined }
    }

    /// The artifacts on a port.
    pub fn joined(&self, port: &str) -> &[Joined<'a>] {
        self.joined.get(port).map_or(&[], Vec::as_slice)
    }

    /// What the cell will compute on.
    pub fn backend(&self) -> &Backend {
        self.backend
    }

    /// Whether anything is joined to an input port.
    pub fn joins(&self, port: &str) -> bool {
        self.joined.contains_key(port)
    }

    /// The perspectives of all artifacts on a port, each once; `None` where those of any are not known.
    pub fn perspectives(&self, port: &str) -> Option<Vec<String>> {
        let mut all: Vec<String> = Vec::new();
        for joined in self.joined.get(port)? {
            for name in joined.perspectives? {
                if !all.contains(name) {
                    all.push(name.clone());
                }
            }
        }
        Some(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn perspectives_of_a_port_are_known_where_those_of_each_artifact_are() {
        let backend = Backend::default();
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let (one, two) = (names(&["planning", "analogy"]), names(&["socratic", "planning"]));
        let labels = BTreeMap::new();
        let joined = |perspectives| Joined { stage: "teacher", labels: &labels, perspectives };
        let setting = Setting::new(
            &backend,
            BTreeMap::from([
                ("both", vec![joined(Some(one.as_slice())), joined(Some(two.as_slice()))]),
                ("half", vec![joined(Some(one.as_slice())), joined(None)]),
            ]),
        );
        assert_eq!(setting.perspectives("both"), Some(names(&["planning", "analogy", "socratic"])));
        assert_eq!(setting.perspectives("half"), None);
        assert_eq!(setting.perspectives("none"), None);
        assert!(setting.joins("half") && !setting.joins("none"));
    }
}
