//! Chat templates: how a model wants a conversation written, as transformers renders it.
//!
//! A template is a Jinja program that comes with a checkpoint. It is run with what transformers offers: `trim_blocks` and
//! `lstrip_blocks`, loop controls, Python's methods on strings, lists and mappings, `raise_exception`, `strftime_now`, a `tojson`
//! that escapes nothing, and blocks marked `generation`. Unlike there, `strftime_now` always tells the same date: a prompt
//! must not depend on the day it is made.

use std::io;

use minijinja::{
    AutoEscape, Environment, Error, ErrorKind, Value,
    syntax::SyntaxConfig,
    value::{Kwargs, Rest, Serde},
};
use minijinja_contrib::pycompat::unknown_method_callback;
use regex::Regex;
use serde::{Deserialize, Serialize};
use serde_json::ser::{Formatter, PrettyFormatter};

/// The name of a template in messages.
const NAME: &str = "chat_template";

/// What `strftime_now` answers, by directive: the date Llama 3.1's template falls back to, at midnight.
const DATE: [(char, &str); 18] = [
    ('Y', "2024"),
    ('y', "24"),
    ('m', "07"),
    ('B', "July"),
    ('b', "Jul"),
    ('d', "26"),
    ('e', "26"),
    ('j', "208"),
    ('A', "Friday"),
    ('a', "Fri"),
    ('H', "00"),
    ('I', "12"),
    ('M', "00"),
    ('S', "00"),
    ('p', "AM"),
    ('F', "2024-07-26"),
    ('T', "00:00:00"),
    ('%', "%"),
];

/// Why a conversation cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum ChatError {
    /// The template is not Jinja, or uses something transformers does not offer.
    #[error("the model's chat template does not compile: {source}")]
    Syntax {
        /// What is wrong, and in which line.
        #[source]
        source: Error,
    },
    /// The template failed, or refused the conversation.
    #[error("the model's chat template refuses this conversation: {source}")]
    Render {
        /// What it said.
        #[source]
        source: Error,
    },
    /// A message spells out special tokens, and the template does not just put it in its place.
    #[error(
        "a message spells out a special token, and the chat template writes messages more than once or not at all"
    )]
    NotOnce,
}

impl ChatError {
    /// What the user can do about it.
    pub fn help(&self) -> &'static str {
        match self {
            Self::Syntax { .. } => {
                "mend `chat_template` in the model's `tokenizer_config.json`, or remove it for plain prompts"
            }
            Self::Render { .. } => {
                "the template decides which roles may speak and in which order; see `chat_template`"
            }
            Self::NotOnce => "leave out the question that spells out a special token",
        }
    }
}

/// What one side says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// The text.
    pub content: String,
}

impl Message {
    /// What a user says.
    pub fn user(content: impl Into<String>) -> Self {
        Self { role: "user".to_owned(), content: content.into() }
    }
}

/// A chat template with the special tokens it may name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChatTemplate {
    source: String,
    bos_token: Option<String>,
    eos_token: Option<String>,
}

impl ChatTemplate {
    /// A template as it stands in a checkpoint; refused where it does not compile.
    pub fn new(
        source: &str,
        bos_token: Option<String>,
        eos_token: Option<String>,
    ) -> Result<Self, ChatError> {
        let source = without_generation_marks(source);
        environment()
            .template_from_named_str(NAME, &source)
            .map_err(|source| ChatError::Syntax { source })?;
        Ok(Self { source, bos_token, eos_token })
    }

    /// The conversation as one text; with `add_generation_prompt` it ends where the assistant's next words begin.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String, ChatError> {
        let Self { source, bos_token, eos_token } = self;
        let scope = Scope {
            messages,
            tools: None,
            documents: None,
            add_generation_prompt,
            bos_token: bos_token.as_deref(),
            eos_token: eos_token.as_deref(),
        };
        environment()
            .render_named_str(NAME, source, Serde(scope))
            .map_err(|source| ChatError::Render { source })
    }
}

/// What a template sees.
#[derive(Serialize)]
struct Scope<'a> {
    messages: &'a [Message],
    tools: Option<()>,
    documents: Option<()>,
    add_generation_prompt: bool,
    // A token that the model lacks is undefined, not empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    bos_token: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    eos_token: Option<&'a str>,
}

/// What transformers' environment offers.
fn environment<'source>() -> Environment<'source> {
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    environment.set_syntax(syntax.expect("Jinja's own delimiters are valid"));
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_unknown_method_callback(unknown_method_callback);
    environment.add_function("raise_exception", raise_exception);
    environment.add_function("strftime_now", strftime_now);
    environment.add_filter("tojson", tojson);
    environment
}

/// `{% generation %}` marks what the assistant says, for training masks; ours come from elsewhere.
fn without_generation_marks(source: &str) -> String {
    let mark = |word: &str| {
        let pattern = format!(r"\{{%([-+]?)\s*{word}\s*([-+]?)%\}}");
        Regex::new(&pattern).expect("the pattern is fixed")
    };
    let source = mark("generation").replace_all(source, "{%${1} if true ${2}%}");
    mark("endgeneration").replace_all(&source, "{%${1} endif ${2}%}").into_owned()
}

fn raise_exception(message: String) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message))
}

fn strftime_now(format: &str) -> Result<String, Error> {
    let mut text = String::new();
    let mut characters = format.chars();
    while let Some(character) = characters.next() {
        if character != '%' {
            text.push(character);
            continue;
        }
        let mut directive = characters.next();
        let unpadded = directive == Some('-');
        if unpadded {
            directive = characters.next();
        }
        let known = DATE.iter().find(|(name, _)| Some(*name) == directive).map(|(_, value)| *value);
        let Some(value) = known else {
            let problem = format!("`strftime_now` does not know `{format}`");
            return Err(Error::new(ErrorKind::InvalidOperation, problem));
        };
        let shorter = value.trim_start_matches('0');
        text.push_str(match (unpadded, shorter) {
            (true, "") => "0",
            (true, shorter) => shorter,
            (false, _) => value,
        });
    }
    Ok(text)
}

/// Python's `json.dumps` with `ensure_ascii=False`; of its options templates use `indent`.
fn tojson(value: Value, positional: Rest<Value>, options: Kwargs) -> Result<String, Error> {
    let failed = |error: serde_json::Error| Error::new(ErrorKind::BadSerialization, error.to_string());
    let indent: Option<usize> = match positional.first() {
        Some(indent) => indent.as_usize(),
        None => options.get::<Option<usize>>("indent")?,
    };
    let mut bytes = Vec::new();
    match indent {
        Some(indent) => {
            let spaces = " ".repeat(indent);
            let formatter = PrettyFormatter::with_indent(spaces.as_bytes());
            value.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, formatter))
        }
        None => value.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, OneLine)),
    }
    .map_err(failed)?;
    String::from_utf8(bytes).map_err(|error| Error::new(ErrorKind::BadSerialization, error.to_string()))
}

/// JSON on one line with Python's separators, `, ` and `: `.
struct OneLine;

impl Formatter for OneLine {
    fn begin_array_value<W: io::Write + ?Sized>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        writer.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_key<W: io::Write + ?Sized>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        writer.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_value<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::fs;

    use super::*;
    use crate::fixture;

    /// A template of `fixtures/chat.json`.
    #[derive(Deserialize)]
    struct Published {
        name: String,
        template: String,
        bos_token: Option<String>,
        eos_token: Option<String>,
        cases: Vec<Case>,
    }

    #[derive(Deserialize)]
    struct Case {
        messages: Vec<Message>,
        add_generation_prompt: bool,
        rendered: String,
    }

    fn published() -> Vec<Published> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/chat.json");
        serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
    }

    fn compile(source: &str) -> Result<ChatTemplate, ChatError> {
        ChatTemplate::new(source, Some("<s>".into()), Some("</s>".into()))
    }

    #[test]
    fn conversations_are_written_as_by_transformers() {
        // fixtures/chat.py
        for Published { name, template, bos_token, eos_token, cases } in published() {
            let template = ChatTemplate::new(&template, bos_token, eos_token).unwrap();
            assert_eq!(cases.len(), 8);
            for Case { messages, add_generation_prompt, rendered } in cases {
                let found = template.render(&messages, add_generation_prompt).unwrap();
                assert_eq!(found, rendered, "{name}, {messages:?}");
            }
        }
    }

    #[test]
    fn the_reference_prompts_of_smollm2_are_reproduced() {
        #[derive(Deserialize)]
        struct Reference {
            cases: Vec<Prompt>,
        }
        #[derive(Deserialize)]
        struct Prompt {
            prompt: String,
            rendered: String,
        }
        let Some(path) = fixture::shared_data("reference/smollm2-135m-instruct.json") else { return };
        let reference: Reference = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        assert!(reference.cases.len() >= 5);
        let smollm2 = published().into_iter().find(|template| template.name == "smollm2").unwrap();
        let template = ChatTemplate::new(&smollm2.template, smollm2.bos_token, smollm2.eos_token).unwrap();
        for case in &reference.cases {
            assert_eq!(template.render(&[Message::user(&case.prompt)], true).unwrap(), case.rendered);
        }
        fixture::say(&format!("SmolLM2: {} rendered prompts reproduced", reference.cases.len()));
    }

    #[test]
    fn a_template_that_refuses_says_why() {
        let syntax = compile("{% for message in messages %}").unwrap_err();
        assert!(syntax.to_string().starts_with("the model's chat template does not compile: "), "{syntax}");
        let template = compile("{{ raise_exception('system first') }}").unwrap();
        let refused = template.render(&[], true).unwrap_err();
        assert!(refused.to_string().contains("system first"), "{refused}");
        assert!(!syntax.help().is_empty() && !refused.help().is_empty());
        let unknown = compile("{{ strftime_now('%s') }}").unwrap().render(&[], true).unwrap_err();
        assert!(unknown.to_string().contains("does not know `%s`"), "{unknown}");
    }

    #[test]
    fn a_token_the_model_lacks_is_undefined() {
        let source = "{% if bos_token is defined %}{{ bos_token }}{% else %}none{% endif %}{{ eos_token }}";
        assert_eq!(compile(source).unwrap().render(&[], false).unwrap(), "<s></s>");
        let lacking = ChatTemplate::new(source, None, Some("</s>".into())).unwrap();
        assert_eq!(lacking.render(&[], false).unwrap(), "none</s>");
    }

    #[test]
    fn dates_are_always_the_same() {
        assert_eq!(strftime_now("%d %b %Y").unwrap(), "26 Jul 2024");
        assert_eq!(strftime_now("%-m/%-d/%y %-H 100%%").unwrap(), "7/26/24 0 100%");
    }
}
