//! Kind `teacher`: rationales for questions, each written from a perspective.
//!
//! Two providers: `symbolic` solves the built-in questions and writes the solution up, with slips at a known
//! rate, so that a whole recipe runs offline; `recorded` joins a file of rationales by question id.
//!
//! It does not decide which rationales are right; that is the judge's work, and a file's own verdicts are not
//! read. Completions of a question stand in the order of `perspectives.json`, then by attempt.

mod recorded;
mod symbolic;

use std::collections::BTreeMap;

use contract::{
    ArtifactType, Context, FilePath, Port, PortFlow, Stage, StageError, jsonl,
    records::{Question, QuestionRationales, Rationale, files},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tasks::PERSPECTIVES;

/// The kind `teacher`.
pub struct Teacher;

/// What a teacher stage is told.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TeacherParams {
    /// Who writes the rationales.
    pub provider: Provider,
    /// The perspectives to write from, in order. Default: the eight of MIND; for `recorded`, all in the file.
    #[serde(default)]
    pub perspectives: Option<Vec<String>>,
    /// At most so many attempts a perspective. Default: 1; for `recorded`, all in the file.
    #[serde(default)]
    pub attempts: Option<u32>,
}

/// Who writes the rationales.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Provider {
    /// The built-in tasks' own solver.
    Symbolic(Symbolic),
    /// A file of rationales.
    Recorded(Recorded),
}

/// How often the built-in solver slips. It answers again, up to `attempts` times, only where it slipped.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Symbolic {
    /// The share of rationales with a slip that makes the answer wrong, 0 to 1. Default: 0.
    #[serde(default)]
    pub error_rate: f64,
    /// Another share for some perspectives, by name. Default: none.
    #[serde(default)]
    pub error_rates: BTreeMap<String, f64>,
}

impl Symbolic {
    fn rate(&self, perspective: &str) -> f64 {
        self.error_rates.get(perspective).copied().unwrap_or(self.error_rate)
    }
}

/// Where recorded rationales are.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Recorded {
    /// A `.jsonl` file, one question a line: `{"id", "rationales": [{"text", ...}]}`, where a rationale names its
    /// `perspective` (and `attempt`, `truncated`) or its `teacher`, who then stands as a perspective.
    pub path: FilePath,
}

impl Stage for Teacher {
    type Params = TeacherParams;

    const NAME: &'static str = "teacher";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "rationales for questions, one or more from every perspective";
    const SEEDED: bool = true;
    const COMPUTES: bool = false;
    const INPUTS: &'static [Port] = &[Port::input(
        "questions",
        ArtifactType::Questions,
        PortFlow::Carries,
        "the questions to write rationales for",
    )];
    const OUTPUTS: &'static [Port] =
        &[Port::output("completions", ArtifactType::Completions, "every rationale as the teacher wrote it")];

    fn check(params: &TeacherParams) -> Vec<(String, String)> {
        let mut problems = Vec::new();
        let mut problem = |field: String, text: String| problems.push((field, text));
        if params.attempts == Some(0) {
            problem("/attempts".into(), "must be at least 1".into());
        }
        let names = params.perspectives.as_deref().unwrap_or_default();
        if params.perspectives.is_some() && names.is_empty() {
            problem("/perspectives".into(), "must name at least one perspective".into());
        }
        for (index, name) in names.iter().enumerate() {
            if names[..index].contains(name) {
                problem(format!("/perspectives/{index}"), format!("`{name}` stands here twice"));
            }
        }
        match &params.provider {
            Provider::Symbolic(symbolic) => {
                let unknown = |name: &str| {
                    let known = PERSPECTIVES.join("`, `");
                    (!PERSPECTIVES.contains(&name))
                        .then(|| format!("no perspective is named `{name}`; there are `{known}`"))
                };
                for (index, name) in names.iter().enumerate() {
                    if let Some(text) = unknown(name) {
                        problem(format!("/perspectives/{index}"), text);
                    }
                }
                let rates = symbolic.error_rates.iter();
                for (name, rate) in rates {
                    let field = format!("/provider/symbolic/error_rates/{name}");
                    if let Some(text) = unknown(name).or_else(|| not_a_share(*rate)) {
                        problem(field, text);
                    }
                }
                if let Some(text) = not_a_share(symbolic.error_rate) {
                    problem("/provider/symbolic/error_rate".into(), text);
                }
            }
            Provider::Recorded(_) => {}
        }
        problems
    }

    fn run(params: TeacherParams, context: &Context) -> Result<(), StageError> {
        let questions: Vec<Question> = jsonl::read(&context.input("questions").file(files::QUESTIONS))?;
        let (perspectives, rationales) = match &params.provider {
            Provider::Symbolic(symbolic) => {
                let perspectives = params
                    .perspectives
                    .clone()
                    .unwrap_or_else(|| PERSPECTIVES.iter().map(|name| (*name).to_owned()).collect());
                let attempts = params.attempts.unwrap_or(1);
                let rationales = symbolic::write(symbolic, &perspectives, attempts, &questions, context)?;
                (perspectives, rationales)
            }
            Provider::Recorded(recorded) => {
                let attempts = params.attempts.unwrap_or(u32::MAX);
                recorded::join(
                    recorded.path.as_ref(),
                    params.perspectives.as_deref(),
                    attempts,
                    &questions,
                    context,
                )?
            }
        };
        let completions: Vec<QuestionRationales> = questions
            .into_iter()
            .zip(rationales)
            .map(|(question, rationales)| QuestionRationales { question, rationales })
            .collect();
        let output = context.output("completions");
        jsonl::write(&output.join(files::COMPLETIONS), &completions)?;
        jsonl::write_json(&output.join(files::PERSPECTIVES), &perspectives)
    }
}

/// The rationales of each question, in the order of the questions.
type ByQuestion = Vec<Vec<Rationale>>;

fn not_a_share(value: f64) -> Option<String> {
    (!(0.0..=1.0).contains(&value)).then(|| format!("{value} is not between 0 and 1"))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use contract::Kind;
    use serde_json::json;

    use super::*;

    #[test]
    fn params_are_checked_before_anything_runs() {
        let problems = Teacher
            .resolve(&json!({
                "provider": {"symbolic": {"error_rate": 1.5, "error_rates": {"planing": 0.1, "planning": -1.0}}},
                "perspectives": ["planning", "planing", "planning"],
                "attempts": 0,
            }))
            .unwrap_err();
        let fields: Vec<&str> = problems.iter().map(|(field, _)| field.as_str()).collect();
        assert_eq!(
            fields,
            [
                "/attempts",
                "/perspectives/2",
                "/perspectives/1",
                "/provider/symbolic/error_rates/planing",
                "/provider/symbolic/error_rates/planning",
                "/provider/symbolic/error_rate",
            ]
        );
        assert!(problems[2].1.starts_with("no perspective is named `planing`; there are `formal-symbolic`"));
        let own = json!({"provider": {"recorded": {"path": "a.jsonl"}}, "perspectives": ["gpt-4"]});
        assert!(Teacher.resolve(&own).is_ok());
        let both = json!({"provider": {"recorded": {"path": "a.jsonl"}, "symbolic": {}}});
        assert!(Teacher.resolve(&both).is_err());
    }
}
