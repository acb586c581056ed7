//! Why a student cannot be trained.

use contract::StageError;

/// Why a student cannot be trained.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StudentError {
    /// No question has a rationale the objective can learn from.
    #[error("no question has a rationale this objective can learn from")]
    NothingToLearn,
    /// The objective asks for a perspective no rationale is written from.
    #[error("there are no rationales from perspective `{name}`")]
    UnknownPerspective {
        /// The perspective asked for.
        name: String,
        /// The perspectives there are.
        known: Vec<String>,
    },
    /// A snapshot is wanted of a step that training does not reach.
    #[error("there is no step {step} to take a snapshot after: training ends after {steps}")]
    NoStep {
        /// The step.
        step: usize,
        /// The last one.
        steps: usize,
    },
    /// The objective needs an assistant and has none.
    #[error("objective `mind` needs port `assistant`")]
    NoAssistant,
    /// The objective needs wrong rationales and has none.
    #[error("objective `edit` needs wrong rationales, and no question has one beside a right one")]
    NoMistakes,
    /// The assistant was trained on rationales from other perspectives.
    #[error("the assistant knows the perspectives `{}`, the rationales are from `{}`", known.join("`, `"), found.join("`, `"))]
    OtherPerspectives {
        /// Those of the assistant.
        known: Vec<String>,
        /// Those of the rationales.
        found: Vec<String>,
    },
    /// The assistant was trained on other questions.
    #[error("the assistant has no features of question `{question}`")]
    NoFeatures {
        /// The question's id.
        question: String,
    },
}

impl StudentError {
    /// What the user can do about it.
    fn help(&self) -> String {
        match self {
            Self::NothingToLearn => "look at what the judge kept, and at `max_tokens`".into(),
            Self::UnknownPerspective { known, .. } => {
                format!("the rationales are from `{}`", known.join("`, `"))
            }
            Self::NoStep { steps, .. } => format!("name steps up to {steps} in `snapshots`, or train longer"),
            Self::NoAssistant => "add a stage of kind `assistant` and join it to this port".into(),
            Self::NoMistakes => {
                "join port `mistakes` to the judge's output of that name; a teacher that is always right has none".into()
            }
            Self::OtherPerspectives { .. } | Self::NoFeatures { .. } => {
                "train the assistant on the same rationales".into()
            }
        }
    }
}

impl From<StudentError> for StageError {
    fn from(error: StudentError) -> Self {
        let help = error.help();
        Self::failed(error).with_help(help)
    }
}
