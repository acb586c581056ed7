//! Kind `teacher`: rationales for questions, each written from a perspective.
//!
//! Four providers: `openai` asks a model behind a chat endpoint, with one prompt template a perspective; `local`, built with
//! the feature of that name, asks a model of the recipe with the same templates; `symbolic`
//! solves the built-in questions and writes the solution up, with slips at a known rate, so that a whole recipe runs
//! offline; `recorded` joins a file of rationales by question id.
//!
//! It does not decide which rationales are right; that is the judge's work, and a file's own verdicts are not
//! read. It only looks at answers to ask again where one is wrong and attempts are left. Completions of a question
//! stand in the order of `perspectives.json`, then by attempt.

#[cfg(feature = "local")]
mod local;
mod openai;
mod perspective;
mod recorded;
mod symbolic;
mod usage;

use std::collections::{BTreeMap, BTreeSet};

use chat::Endpoint;
use contract::{
    ArtifactType, Context, Digest, Estimate, FilePath, Outlook, Port, PortFlow, Setting, Stage, StageError,
    jsonl, meant,
    records::{Question, QuestionRationales, Rationale, files},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tasks::PERSPECTIVES;

#[cfg(feature = "local")]
pub use local::Local;
pub use perspective::Perspectives;
pub use usage::{PerspectiveUsage, Taken, UsageReport};

use perspective::{Template, is_file};

/// The file name inside a `usage` artifact: a [`UsageReport`].
pub const USAGE: &str = "usage.json";

/// Attempts have seeds of their own, this many for each seed of the recipe.
pub(crate) const MOST_ATTEMPTS: u32 = 1000;

/// The kind `teacher`.
pub struct Teacher;

/// What a teacher stage is told.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TeacherParams {
    /// Who writes the rationales.
    pub provider: Provider,
    /// The perspectives to write from: `paper` for the eight of MIND, or a list of names and, where a model writes, of
    /// template files (`.md`, see `recipes/perspectives`). Default: `paper`; for `recorded`, all in the file.
    #[serde(default)]
    pub perspectives: Option<Perspectives>,
    /// At most so many attempts a perspective; another one is made where the answer is wrong or cut off. Default: 1;
    /// for `recorded`, all in the file.
    #[serde(default)]
    pub attempts: Option<u32>,
    /// The digests of built-in templates in use: never written in a recipe, filled in for the fingerprint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub templates: Option<BTreeMap<String, Digest>>,
}

impl TeacherParams {
    /// Whether a model of the recipe writes.
    fn is_local(&self) -> bool {
        match &self.provider {
            #[cfg(feature = "local")]
            Provider::Local(_) => true,
            Provider::Openai(_) | Provider::Symbolic(_) | Provider::Recorded(_) => false,
        }
    }

    fn entries(&self) -> Vec<String> {
        self.perspectives.as_ref().unwrap_or(&Perspectives::Paper).list()
    }

    /// The names of the templates.
    fn names(&self) -> Option<Vec<String>> {
        Some(self.loaded().ok()?.into_iter().map(|template| template.name).collect())
    }

    fn loaded(&self) -> Result<Vec<Template>, StageError> {
        let load = |entry: String| match Template::find(&entry) {
            Some(Ok(template)) => Ok(template),
            Some(Err(error)) => Err(StageError::failed(error)),
            None => Err(StageError::failed(UnknownTemplate(entry))),
        };
        self.entries().into_iter().map(load).collect()
    }
}

/// `check` lets no such name through.
#[derive(Debug, thiserror::Error)]
#[error("no template is named `{0}`")]
struct UnknownTemplate(String);

/// Who writes the rationales.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Provider {
    /// A model behind a chat endpoint that speaks OpenAI's protocol.
    Openai(Box<Endpoint>),
    /// A model of the recipe, on port `model`.
    #[cfg(feature = "local")]
    Local(Local),
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
    /// Perspectives whose rationales are worthless: the words of the reasoning in random order, before the right answer. For
    /// tests of whether a method notices. Default: none.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub scrambled: BTreeSet<String>,
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
    const VERSION: u32 = 3;
    const ABOUT: &'static str = "rationales for questions, one or more from every perspective";
    const SEEDED: bool = true;
    const COMPUTES: bool = false;
    const INPUTS: &'static [Port] = &[
        Port::input(
            "questions",
            ArtifactType::Questions,
            PortFlow::Carries,
            "the questions to write rationales for",
        ),
        Port::input(
            "model",
            ArtifactType::Model,
            PortFlow::Carries,
            "the model that writes; only for provider `local`",
        )
        .optional(),
    ];
    const OUTPUTS: &'static [Port] = &[
        Port::output("completions", ArtifactType::Completions, "every rationale as the teacher wrote it"),
        Port::output("usage", ArtifactType::Other("usage"), "completions, tokens and cost, by perspective"),
    ];

    fn computes(params: &TeacherParams) -> bool {
        params.is_local()
    }

    fn reads(params: &TeacherParams, port: &str) -> bool {
        port != "model" || params.is_local()
    }

    fn check(params: &TeacherParams) -> Vec<(String, String)> {
        let mut problems = Vec::new();
        let mut problem = |field: String, text: String| problems.push((field, text));
        if params.attempts == Some(0) {
            problem("/attempts".into(), "must be at least 1".into());
        }
        let names = params.perspectives.as_ref().map(Perspectives::list).unwrap_or_default();
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
                    let text = || format!("no perspective is named `{name}`; {}", meant(name, PERSPECTIVES));
                    (!PERSPECTIVES.contains(&name)).then(text)
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
                let written = params.entries();
                for name in &symbolic.scrambled {
                    let text = || {
                        let near = meant(name, written.iter().map(String::as_str));
                        format!("nothing is written from perspective `{name}`; {near}")
                    };
                    if let Some(text) = unknown(name).or_else(|| (!written.contains(name)).then(text)) {
                        problem("/provider/symbolic/scrambled".into(), text);
                    }
                }
                if let Some(text) = not_a_share(symbolic.error_rate) {
                    problem("/provider/symbolic/error_rate".into(), text);
                }
            }
            Provider::Recorded(_) => {}
            #[cfg(feature = "local")]
            Provider::Local(local) => {
                problems.extend(local.check("/provider/local", params.attempts));
                problems.extend(check_templates(&params.entries()));
                return problems;
            }
            Provider::Openai(endpoint) => {
                problems.extend(endpoint.check("/provider/openai"));
                problems.extend(check_templates(&params.entries()));
                if params.attempts.is_some_and(|attempts| attempts > MOST_ATTEMPTS) {
                    problems.push(("/attempts".into(), format!("must be at most {MOST_ATTEMPTS}")));
                }
                return problems;
            }
        }
        for (index, name) in names.iter().enumerate().filter(|(_, name)| is_file(name)) {
            let text = format!("`{name}` is a template, and this provider uses none");
            problems.push((format!("/perspectives/{index}"), text));
        }
        problems
    }

    fn perspectives(params: &TeacherParams, _: &Setting<'_>) -> Option<Vec<String>> {
        match &params.provider {
            Provider::Symbolic(_) => Some(params.entries()),
            Provider::Recorded(_) => {
                let wanted = params.perspectives.as_ref()?.list();
                Some(wanted.iter().map(|name| recorded::slug(name)).collect())
            }
            #[cfg(feature = "local")]
            Provider::Local(_) => params.names(),
            Provider::Openai(_) => params.names(),
        }
    }

    fn settle(mut params: TeacherParams) -> TeacherParams {
        let asked = match &mut params.provider {
            Provider::Openai(endpoint) => {
                endpoint.settle(0.7, 1024);
                true
            }
            #[cfg(feature = "local")]
            Provider::Local(_) => true,
            Provider::Symbolic(_) | Provider::Recorded(_) => false,
        };
        if asked {
            params.templates = Some(perspective::digests(&params.entries()));
        }
        params
    }

    fn immaterial() -> &'static [&'static str] {
        &[
            "/provider/openai/base_url",
            "/provider/openai/api_key_env",
            "/provider/openai/concurrency",
            "/provider/openai/limits",
            "/provider/openai/timeout",
            "/provider/openai/retry",
            "/provider/openai/budget",
        ]
    }

    fn secrets(params: &TeacherParams) -> Vec<String> {
        match &params.provider {
            Provider::Openai(endpoint) => endpoint.secrets(),
            #[cfg(feature = "local")]
            Provider::Local(_) => Vec::new(),
            Provider::Symbolic(_) | Provider::Recorded(_) => Vec::new(),
        }
    }

    fn estimate(params: &TeacherParams, outlook: &Outlook) -> Estimate {
        let input = outlook.inputs("questions").first();
        let path = input.and_then(|input| input.path.as_ref());
        let questions: Option<Vec<Question>> =
            path.and_then(|path| jsonl::read(&path.join(files::QUESTIONS)).ok());
        let known = questions.as_ref().map(|questions| questions.len() as u64);
        let records = known.or_else(|| input.and_then(|input| input.records));
        let calls = match &params.provider {
            #[cfg(feature = "local")]
            Provider::Local(_) => None,
            Provider::Symbolic(_) | Provider::Recorded(_) => None,
            Provider::Openai(endpoint) => records.zip(params.loaded().ok()).map(|(records, templates)| {
                let attempts = params.attempts.unwrap_or(1);
                openai::estimate(endpoint, &templates, attempts, questions.as_deref(), records, outlook)
            }),
        };
        Estimate { records, calls }
    }

    fn run(params: TeacherParams, context: &Context) -> Result<(), StageError> {
        let questions: Vec<Question> = jsonl::read(&context.input("questions").file(files::QUESTIONS))?;
        let mut usage = UsageReport::default();
        let (perspectives, rationales) = match &params.provider {
            Provider::Openai(endpoint) => {
                let templates = params.loaded()?;
                let attempts = params.attempts.unwrap_or(1);
                let (rationales, report) =
                    openai::write(endpoint, &templates, attempts, &questions, context)?;
                usage = report;
                (templates.into_iter().map(|template| template.name).collect(), rationales)
            }
            #[cfg(feature = "local")]
            Provider::Local(local) => {
                let templates = params.loaded()?;
                let attempts = params.attempts.unwrap_or(1);
                let (rationales, report) = local::write(local, &templates, attempts, &questions, context)?;
                usage = report;
                (templates.into_iter().map(|template| template.name).collect(), rationales)
            }
            Provider::Symbolic(symbolic) => {
                let perspectives = params.entries();
                let attempts = params.attempts.unwrap_or(1);
                let rationales = symbolic::write(symbolic, &perspectives, attempts, &questions, context)?;
                (perspectives, rationales)
            }
            Provider::Recorded(recorded) => {
                let attempts = params.attempts.unwrap_or(u32::MAX);
                recorded::join(
                    recorded.path.as_ref(),
                    params.perspectives.as_ref().map(Perspectives::list).as_deref(),
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
        jsonl::write_json(&output.join(files::PERSPECTIVES), &perspectives)?;
        jsonl::write_json(&context.output("usage").join(USAGE), &usage)
    }
}

/// What is wrong with the templates of a list; files that are not there are the engine's to name.
fn check_templates(entries: &[String]) -> Vec<(String, String)> {
    let mut problems = Vec::new();
    let mut seen: Vec<String> = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        let field = format!("/perspectives/{index}");
        match Template::find(entry) {
            None => {
                let near = meant(entry, PERSPECTIVES);
                let text = format!("no perspective is named `{entry}`; {near}, or your own `.md` file");
                problems.push((field, text));
            }
            Some(Ok(template)) if seen.contains(&template.name) => {
                // The same entry twice is said already.
                if is_file(entry) {
                    problems.push((field, format!("another perspective is named `{}`", template.name)));
                }
            }
            Some(Ok(template)) => seen.push(template.name),
            Some(Err(_)) if !std::path::Path::new(entry).exists() => {}
            Some(Err(error)) => problems.push((field, format!("`{entry}`: {error}"))),
        }
    }
    problems
}

/// The rationales of each question, in the order of the questions.
type ByQuestion = Vec<Vec<Rationale>>;

fn not_a_share(value: f64) -> Option<String> {
    (!(0.0..=1.0).contains(&value)).then(|| format!("{value} is not between 0 and 1"))
}

/// Sealed questions are held out: no teacher writes rationales for them.
fn refuse_sealed(questions: &[Question]) -> Result<(), StageError> {
    tasks::gpqa::refuse_sealed(questions).map_err(|sealed| {
        let help = sealed.help();
        StageError::failed(sealed).with_help(help)
    })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use contract::Kind;
    use serde_json::{Value, json};

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
        assert_eq!(problems[2].1, "no perspective is named `planing`; did you mean `planning`?");
        let own = json!({"provider": {"recorded": {"path": "a.jsonl"}}, "perspectives": ["gpt-4"]});
        assert!(Teacher.resolve(&own).is_ok());
        let template = json!({"provider": {"recorded": {"path": "a.jsonl"}}, "perspectives": ["own.md"]});
        assert!(Teacher.resolve(&template).unwrap_err()[0].1.contains("this provider uses none"));
        let both = json!({"provider": {"recorded": {"path": "a.jsonl"}, "symbolic": {}}});
        assert!(Teacher.resolve(&both).is_err());
    }

    #[test]
    fn what_is_scrambled_is_written() {
        let problems = |scrambled: &[&str], perspectives: Value| {
            let provider = json!({"symbolic": {"scrambled": scrambled}});
            let params = json!({"provider": provider, "perspectives": perspectives});
            Teacher.resolve(&params).err().unwrap_or_default()
        };
        let field = "/provider/symbolic/scrambled".to_owned();
        assert_eq!(
            problems(&["decompositon"], "paper".into()),
            [(field.clone(), "no perspective is named `decompositon`; did you mean `decomposition`?".into())]
        );
        assert_eq!(
            problems(&["analogy", "planning"], json!(["planning", "socratic"])),
            [(
                field,
                "nothing is written from perspective `analogy`; there are `planning`, `socratic`".to_owned()
            )]
        );
        assert_eq!(problems(&["planning"], json!(["planning", "socratic"])), []);
    }

    #[test]
    fn perspectives_are_known_before_anything_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let own = folder.path().join("own.md");
        std::fs::write(&own, "---\nname: by-hand\ndescription: d\n---\n{{ question }}\n").unwrap();
        let backend = contract::Backend::default();
        let known = |params: Value| {
            let params = Teacher.resolve(&params).unwrap();
            Kind::perspectives(&Teacher, &params, &Setting::new(&backend, BTreeMap::new()))
        };
        let endpoint = json!({"openai": {"base_url": "http://x/v1", "model": "m"}});
        assert_eq!(known(json!({"provider": {"symbolic": {}}})).unwrap(), PERSPECTIVES);
        let written = known(json!({"provider": endpoint, "perspectives": ["planning", own]}));
        assert_eq!(written.unwrap(), ["planning", "by-hand"]);
        let recorded = json!({"recorded": {"path": "a.jsonl"}});
        assert_eq!(known(json!({"provider": recorded})), None);
        let some = known(json!({"provider": recorded, "perspectives": ["GPT-4 (zhou)"]}));
        assert_eq!(some.unwrap(), ["gpt-4-zhou"]);
    }

    #[test]
    fn an_endpoint_is_checked_with_its_templates_and_settled() {
        let folder = tempfile::tempdir().unwrap();
        let own = folder.path().join("own.md");
        std::fs::write(&own, "---\nname: planning\ndescription: d\n---\n{{ question }}\n").unwrap();
        let bad = folder.path().join("bad.md");
        std::fs::write(&bad, "{{ question }}").unwrap();
        let endpoint = |url: &str| json!({"openai": {"base_url": url, "model": "m", "api_key_env": "K"}});
        let problems = Teacher
            .resolve(&json!({
                "provider": endpoint("example.org"),
                "perspectives": ["planning", "planing", own, bad],
                "attempts": 5000,
            }))
            .unwrap_err();
        let fields: Vec<&str> = problems.iter().map(|(field, _)| field.as_str()).collect();
        assert_eq!(
            fields,
            [
                "/provider/openai/base_url",
                "/perspectives/1",
                "/perspectives/2",
                "/perspectives/3",
                "/attempts"
            ]
        );
        assert_eq!(problems[2].1, "another perspective is named `planning`");

        let params = json!({"provider": endpoint("http://x/v1"), "perspectives": ["planning", "socratic"]});
        let settled = Teacher.resolve(&params).unwrap();
        assert_eq!(settled["provider"]["openai"]["temperature"], 0.7);
        assert_eq!(settled["provider"]["openai"]["max_tokens"], 1024);
        assert_eq!(settled["templates"].as_object().unwrap().len(), 2);
        assert_eq!(Kind::secrets(&Teacher, &settled), ["K"]);
        let symbolic = Teacher.resolve(&json!({"provider": {"symbolic": {}}})).unwrap();
        assert!(symbolic.get("templates").is_none());
        // A recipe cannot write it.
        assert!(Teacher.schema()["properties"].get("templates").is_none());
        for pointer in Kind::immaterial(&Teacher) {
            assert!(settled.pointer(pointer).is_some(), "{pointer} is no param");
        }
        let block = Endpoint::IMMATERIAL.map(|field| format!("/provider/openai/{field}"));
        assert_eq!(Kind::immaterial(&Teacher), block);
    }
}
