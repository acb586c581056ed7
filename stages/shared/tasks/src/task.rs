//! The tasks there are, and the names of the perspectives rationales are written from.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The eight perspectives, in MIND's order (arXiv 2601.03717); kebab-case.
pub const PERSPECTIVES: [&str; 8] = [
    "formal-symbolic",
    "intuitive",
    "decomposition",
    "planning",
    "analogy",
    "socratic",
    "contrastive",
    "counterfactual",
];

/// A dataset together with its prompt, its answer extraction and its scoring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Task {
    /// Built in: word problems of two or three additions and subtractions.
    Arithmetic,
    /// Built in: who has more or most, and by how much.
    Comparison,
    /// Built in: days of the week and conversions of time units.
    Calendar,
    /// Grade-school mathematics word problems (Cobbe et al. 2021).
    Gsm8k,
    /// One-step arithmetic word problems with distractors (Patel et al. 2021).
    Svamp,
    /// The 500 test problems of MATH chosen by Lightman et al. (2023).
    Math500,
    /// CommonsenseQA: five choices (Talmor et al. 2019).
    Csqa,
    /// StrategyQA: yes or no after several facts (Geva et al. 2021).
    Strategyqa,
    /// GPQA-Diamond: four choices for experts (Rein et al. 2023); see [`crate::gpqa`].
    GpqaDiamond,
}

impl Task {
    /// Every task.
    pub const ALL: [Self; 9] = [
        Self::Arithmetic,
        Self::Comparison,
        Self::Calendar,
        Self::Gsm8k,
        Self::Svamp,
        Self::Math500,
        Self::Csqa,
        Self::Strategyqa,
        Self::GpqaDiamond,
    ];

    /// The name in recipes and records.
    pub fn name(self) -> &'static str {
        match self {
            Self::Arithmetic => "arithmetic",
            Self::Comparison => "comparison",
            Self::Calendar => "calendar",
            Self::Gsm8k => "gsm8k",
            Self::Svamp => "svamp",
            Self::Math500 => "math500",
            Self::Csqa => "csqa",
            Self::Strategyqa => "strategyqa",
            Self::GpqaDiamond => "gpqa-diamond",
        }
    }

    /// Whether its questions are generated; see [`crate::builtin`].
    pub fn is_builtin(self) -> bool {
        match self {
            Self::Arithmetic | Self::Comparison | Self::Calendar => true,
            Self::Gsm8k | Self::Svamp | Self::Math500 | Self::Csqa | Self::Strategyqa | Self::GpqaDiamond => {
                false
            }
        }
    }
}

impl fmt::Display for Task {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

/// No task has this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no task is named `{0}`")]
pub struct UnknownTask(pub String);

impl FromStr for Task {
    type Err = UnknownTask;

    fn from_str(name: &str) -> Result<Self, UnknownTask> {
        Self::ALL.into_iter().find(|task| task.name() == name).ok_or_else(|| UnknownTask(name.to_owned()))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn every_name_reads_back_and_is_what_serde_writes() {
        for task in Task::ALL {
            assert_eq!(task.name().parse::<Task>().unwrap(), task);
            assert_eq!(serde_json::to_value(task).unwrap(), task.name());
        }
        assert_eq!("gsm9k".parse::<Task>().unwrap_err().to_string(), "no task is named `gsm9k`");
    }
}
