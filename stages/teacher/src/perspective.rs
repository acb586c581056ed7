//! Perspectives as a recipe names them, and the templates behind them.

use std::{borrow::Cow, collections::BTreeMap, fs, path::Path};

use contract::{Digest, records::Question};
use minijinja::{Environment, UndefinedBehavior, context};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// How a template file's name ends; what ends otherwise is a name.
const EXTENSION: &str = ".md";

/// The templates of the eight perspectives, in the order of [`tasks::PERSPECTIVES`].
const BUILT_IN: [&str; 8] = [
    include_str!("../../../recipes/perspectives/formal-symbolic.md"),
    include_str!("../../../recipes/perspectives/intuitive.md"),
    include_str!("../../../recipes/perspectives/decomposition.md"),
    include_str!("../../../recipes/perspectives/planning.md"),
    include_str!("../../../recipes/perspectives/analogy.md"),
    include_str!("../../../recipes/perspectives/socratic.md"),
    include_str!("../../../recipes/perspectives/contrastive.md"),
    include_str!("../../../recipes/perspectives/counterfactual.md"),
];

/// `paper` for the eight of MIND, or a list of names and template files (`.md`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Perspectives {
    /// The eight of MIND.
    Paper,
    /// These, in order: names, and paths of template files.
    List(Vec<String>),
}

impl Perspectives {
    /// As a list.
    pub fn list(&self) -> Vec<String> {
        match self {
            Self::Paper => tasks::PERSPECTIVES.iter().map(|name| (*name).to_owned()).collect(),
            Self::List(list) => list.clone(),
        }
    }
}

/// Whether an entry of the list is the path of a template file.
pub(crate) fn is_file(entry: &str) -> bool {
    entry.ends_with(EXTENSION)
}

impl Serialize for Perspectives {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Paper => serializer.serialize_str("paper"),
            Self::List(list) => list.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Perspectives {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::String(text) if text == "paper" => Ok(Self::Paper),
            list @ serde_json::Value::Array(_) => {
                serde_json::from_value(list).map(Self::List).map_err(D::Error::custom)
            }
            other => Err(D::Error::custom(format!("expected `paper` or a list, found {other}"))),
        }
    }
}

impl JsonSchema for Perspectives {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Perspectives".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        // A template file is a path, so that the engine digests its content; a name is any other text.
        schemars::json_schema!({
            "anyOf": [
                {"type": "string", "enum": ["paper"]},
                {"type": "array", "items": {"anyOf": [
                    {"type": "string", "format": "path", "pattern": "\\.md$"},
                    {"type": "string"},
                ]}},
            ],
        })
    }
}

/// What is wrong with a template.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TemplateError {
    #[error("cannot read the template: {0}")]
    Read(#[from] std::io::Error),
    #[error("the template does not begin with a front matter between two lines `---`")]
    NoFrontMatter,
    #[error("in the template's front matter: {0}")]
    FrontMatter(#[from] serde_yaml::Error),
    #[error("`{0}` is no name for a perspective: use lower-case letters, digits and hyphens")]
    Name(String),
    #[error("in the template's body: {}", body_problem(.0))]
    Body(#[from] minijinja::Error),
    #[error("the template never says `{{{{ question }}}}`")]
    NoQuestion,
}

/// What minijinja says, with the line counted in the body.
fn body_problem(error: &minijinja::Error) -> String {
    let line = error.line().map(|line| format!(" (line {line} of the body)")).unwrap_or_default();
    let detail = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    format!("{detail}{line}")
}

/// A prompt template.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    pub(crate) name: String,
    system: Option<String>,
    body: String,
    /// Of the whole file.
    digest: Digest,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FrontMatter {
    name: String,
    /// For people who read the file.
    #[serde(rename = "description")]
    _description: String,
    system: Option<String>,
}

impl Template {
    /// The template an entry of `perspectives` stands for, if there is one.
    pub(crate) fn find(entry: &str) -> Option<Result<Self, TemplateError>> {
        if is_file(entry) {
            return Some(Self::read(Path::new(entry)));
        }
        built_in().into_iter().find(|template| template.name == entry).map(Ok)
    }

    fn read(path: &Path) -> Result<Self, TemplateError> {
        Self::parse(&fs::read_to_string(path)?)
    }

    fn parse(text: &str) -> Result<Self, TemplateError> {
        let lines = text.replace("\r\n", "\n");
        let (front, body) = lines
            .strip_prefix("---\n")
            .and_then(|rest| rest.split_once("\n---\n"))
            .ok_or(TemplateError::NoFrontMatter)?;
        let FrontMatter { name, system, .. } = serde_yaml::from_str(front)?;
        let kebab = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if !name.starts_with(|c: char| c.is_ascii_lowercase()) || !name.chars().all(kebab) {
            return Err(TemplateError::Name(name));
        }
        let template =
            Self { name, system, body: body.to_owned(), digest: Digest::of_bytes(text.as_bytes()) };
        let marker = "the question's own words";
        for choices in [&[][..], &["this".to_owned(), "that".to_owned()]] {
            let sample = Question {
                id: "sample".to_owned(),
                task: "sample".to_owned(),
                question: marker.to_owned(),
                answer: String::new(),
                choices: choices.to_vec(),
                facts: None,
            };
            if !template.render(&sample)?.contains(marker) {
                return Err(TemplateError::NoQuestion);
            }
        }
        Ok(template)
    }

    /// What the teacher is asked.
    pub(crate) fn messages(&self, question: &Question) -> Result<Vec<chat::Message>, TemplateError> {
        let system = self.system.iter().map(|text| chat::Message { role: "system", content: text.clone() });
        let user = chat::Message { role: "user", content: self.render(question)? };
        Ok(system.chain([user]).collect())
    }

    fn render(&self, question: &Question) -> Result<String, TemplateError> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        let mut text = question.question.trim().to_owned();
        for (letter, choice) in ('A'..='Z').zip(&question.choices) {
            text.push_str(&format!("\n{letter}) {choice}"));
        }
        let values = context! {
            question => text,
            choices => &question.choices,
            task => &question.task,
            answer_format => answer_format(question),
        };
        Ok(environment.render_str(&self.body, values)?.trim().to_owned())
    }
}

/// How an answer is to be stated, so that scoring finds it.
fn answer_format(question: &Question) -> String {
    let inside = if !question.choices.is_empty() {
        "only the letter of the right choice"
    } else if ["yes", "no"].contains(&question.answer.as_str()) {
        "only Yes or No"
    } else {
        "only the final answer"
    };
    format!("End with a line of its own that reads: The answer is \\boxed{{...}} with {inside} in the box.")
}

fn built_in() -> Vec<Template> {
    let parse = |text: &&str| Template::parse(text).expect("a test parses every built-in template");
    BUILT_IN.iter().map(parse).collect()
}

/// The digests of the built-in templates among these entries: they go into the fingerprint, as files do.
pub(crate) fn digests(entries: &[String]) -> BTreeMap<String, Digest> {
    let named = |template: &Template| entries.contains(&template.name);
    built_in().into_iter().filter(named).map(|template| (template.name, template.digest)).collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn question(choices: &[&str]) -> Question {
        Question {
            id: "q".into(),
            task: "csqa".into(),
            question: " Where? ".into(),
            answer: "B".into(),
            choices: choices.iter().map(|choice| (*choice).to_owned()).collect(),
            facts: None,
        }
    }

    #[test]
    fn the_eight_are_built_in_and_differ() {
        let names: Vec<String> = built_in().into_iter().map(|template| template.name).collect();
        assert_eq!(names, tasks::PERSPECTIVES);
        let mut prompts: Vec<String> =
            built_in().iter().map(|template| template.render(&question(&[])).unwrap()).collect();
        assert!(prompts.iter().all(|prompt| prompt.contains("Problem: Where?\n")));
        assert!(prompts.iter().all(|prompt| prompt.ends_with("with only the final answer in the box.")));
        prompts.dedup();
        assert_eq!(prompts.len(), 8);
        assert_eq!(digests(&["planning".to_owned(), "mine.md".to_owned()]).len(), 1);
    }

    #[test]
    fn choices_stand_below_the_question_and_the_gold_answer_nowhere() {
        let text = "---\nname: mine\ndescription: d\nsystem: Be brief.\n---\n{{ task }}: {{ question }}\
                    {% for choice in choices %}\n- {{ choice }}{% endfor %}\n";
        let messages = Template::parse(text).unwrap().messages(&question(&["bank", "mall"])).unwrap();
        assert_eq!((messages[0].role, messages[0].content.as_str()), ("system", "Be brief."));
        assert_eq!(messages[1].content, "csqa: Where?\nA) bank\nB) mall\n- bank\n- mall");
        let leak = "---\nname: mine\ndescription: d\n---\n{{ question }} {{ answer }}\n";
        let error = Template::parse(leak).unwrap_err().to_string();
        assert_eq!(error, "in the template's body: `answer` is undefined (line 1 of the body)");
    }

    #[test]
    fn mistakes_in_a_template_are_named() {
        let problem = |text: &str| Template::parse(text).unwrap_err().to_string();
        assert!(problem("Solve {{ question }}").contains("front matter between two lines"));
        assert!(problem("---\nname: x\n---\n{{ question }}").contains("missing field `description`"));
        assert!(
            problem("---\nname: X y\ndescription: d\n---\n{{ question }}").starts_with("`X y` is no name")
        );
        assert!(
            problem("---\nname: x\ndescription: d\n---\nSolve it.").contains("never says `{{ question }}`")
        );
        assert!(problem("---\nname: x\ndescription: d\n---\n{{ question").contains("(line 1 of the body)"));
    }

    #[test]
    fn both_forms_are_read_and_written() {
        let read = |text: &str| serde_json::from_str::<Perspectives>(text);
        assert_eq!(read("\"paper\"").unwrap(), Perspectives::Paper);
        assert_eq!(Perspectives::Paper.list(), tasks::PERSPECTIVES);
        let list = read("[\"planning\", \"a/mine.md\"]").unwrap();
        assert_eq!(serde_json::to_string(&list).unwrap(), "[\"planning\",\"a/mine.md\"]");
        assert!(read("\"planning\"").is_err());
        assert!(read("3").is_err());
    }
}
