//! Secrets of the environment: looked up here and nowhere else, and only those that cells about to run declare.
//!
//! `run` refuses to start while one is not set; `plan` says so and goes on, because what a run would cost can be told
//! without a key. Values leave this module only as [`Secret`]s. What opens a remote cache is read by the library that speaks
//! to it; here it is read once more, to be kept out of messages.

use std::collections::{BTreeMap, BTreeSet};

use contract::{Secret, SecretError};

use crate::{
    graph::Graph,
    plan::{Decision, Plan},
};

/// Secrets by environment variable.
pub type Secrets = BTreeMap<String, Secret>;

/// A secret that cells need and the environment does not offer.
#[derive(Clone, Debug, thiserror::Error)]
#[error("stage `{stage}` needs a secret: {problem}")]
pub struct MissingSecret {
    /// What is wrong with the variable.
    problem: SecretError,
    /// A stage that needs it.
    stage: String,
}

impl MissingSecret {
    /// The remedy.
    pub fn help(&self) -> String {
        let (SecretError::NotSet { variable } | SecretError::Malformed { variable }) = &self.problem;
        format!("`export {variable}=...` before the command; a key never stands in a recipe")
    }
}

/// Whatever the environment holds that may open somebody's storage.
pub fn of_storage() -> Vec<Secret> {
    let telling = |name: &str| {
        ["AWS_", "AZURE_", "GOOGLE_"].iter().any(|cloud| name.starts_with(cloud))
            && ["KEY", "SECRET", "TOKEN", "SAS", "PASSWORD"].iter().any(|part| name.contains(part))
    };
    let variables = std::env::vars().filter(|(name, _)| telling(name));
    variables.filter_map(|(name, value)| Secret::new(&name, &value).ok()).collect()
}

/// Reads the secrets of every cell that is not reused; `lookup` is the environment.
pub fn read(
    graph: &Graph,
    plan: &Plan,
    lookup: impl Fn(&str) -> Option<String>,
) -> (Secrets, Vec<MissingSecret>) {
    let (mut secrets, mut missing, mut seen) = (Secrets::new(), Vec::new(), BTreeSet::new());
    for (&cell, decision) in &plan.decisions {
        let cell = &graph.cells[cell];
        let fetched = match decision {
            Decision::Reuse { .. } => continue,
            Decision::Fetch { .. } => true, // Computed only if what the remote has turns out to be bad.
            Decision::Run { .. } | Decision::Undecided { .. } => false,
        };
        let needed = cell.kind.secrets(&cell.params).into_iter().map(|variable| (variable, !fetched));
        let optional = cell.kind.optional_secrets(&cell.params).into_iter().map(|variable| (variable, false));
        for (variable, needed) in needed.chain(optional) {
            if !seen.insert((variable.clone(), needed)) {
                continue;
            }
            match Secret::new(&variable, &lookup(&variable).unwrap_or_default()) {
                Ok(secret) => drop(secrets.insert(variable, secret)),
                Err(SecretError::NotSet { .. }) if !needed => {}
                Err(problem) => {
                    let stage = graph.stages[cell.stage].name.clone();
                    missing.push(MissingSecret { problem, stage });
                }
            }
        }
    }
    (secrets, missing)
}
