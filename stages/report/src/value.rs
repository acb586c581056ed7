//! What the numbers of a table are, by the names they have in `scores.json`.

use std::{borrow::Cow, fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

/// What the numbers of a table are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Value {
    /// The share of right answers.
    #[default]
    Accuracy,
    /// The share of answers in which no answer was found.
    Unparsed,
    /// The share of answers that stopped at the length limit.
    Truncated,
    /// The share of answers that the scoring profile cannot decide.
    Undecided,
    /// Generated tokens an answer.
    Tokens,
    /// `pass@k`: the chance that one of so many sampled answers is right.
    PassAt(usize),
    /// `maj@n`: the share of questions that most of so many sampled answers get right.
    MajorityOf(usize),
}

/// Every value that has no number in its name.
const PLAIN: [Value; 5] =
    [Value::Accuracy, Value::Unparsed, Value::Truncated, Value::Undecided, Value::Tokens];

impl Value {
    /// Whether more is better.
    pub fn higher_is_better(self) -> bool {
        match self {
            Self::Accuracy | Self::PassAt(_) | Self::MajorityOf(_) => true,
            Self::Unparsed | Self::Truncated | Self::Undecided | Self::Tokens => false,
        }
    }

    /// Whether it is a share, 0 to 1.
    pub fn is_rate(self) -> bool {
        match self {
            Self::Accuracy
            | Self::Unparsed
            | Self::Truncated
            | Self::Undecided
            | Self::PassAt(_)
            | Self::MajorityOf(_) => true,
            Self::Tokens => false,
        }
    }

    /// What it is multiplied with to be shown: rates are shown in percent.
    pub fn scale(self) -> f64 {
        if self.is_rate() { 100.0 } else { 1.0 }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accuracy => formatter.write_str("accuracy"),
            Self::Unparsed => formatter.write_str("unparsed"),
            Self::Truncated => formatter.write_str("truncated"),
            Self::Undecided => formatter.write_str("undecided"),
            Self::Tokens => formatter.write_str("tokens"),
            Self::PassAt(k) => write!(formatter, "pass@{k}"),
            Self::MajorityOf(n) => write!(formatter, "maj@{n}"),
        }
    }
}

/// A text that names no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no value of a result")]
pub struct UnknownValue(String);

impl FromStr for Value {
    type Err = UnknownValue;

    fn from_str(text: &str) -> Result<Self, UnknownValue> {
        let plain = PLAIN.into_iter().find(|value| value.to_string() == text);
        let numbered = || {
            let (name, number) = text.split_once('@')?;
            let number = number.parse().ok().filter(|number| *number > 0)?;
            let value = match name {
                "pass" => Self::PassAt(number),
                "maj" => Self::MajorityOf(number),
                _ => return None,
            };
            // One spelling a value: `pass@04` is none.
            (value.to_string() == text).then_some(value)
        };
        plain.or_else(numbered).ok_or_else(|| UnknownValue(text.to_owned()))
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl JsonSchema for Value {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Value".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let plain = PLAIN.map(|value| value.to_string());
        let mut examples = plain.to_vec();
        examples.extend([Self::PassAt(8), Self::MajorityOf(8)].map(|value| value.to_string()));
        schemars::json_schema!({
            "type": "string",
            "pattern": format!("^({}|(pass|maj)@[1-9][0-9]{{0,8}})$", plain.join("|")),
            "examples": examples,
        })
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn every_name_reads_back_and_no_other_is_taken() {
        let numbered = [1, 8, 100].map(|n| [Value::PassAt(n), Value::MajorityOf(n)]);
        for value in PLAIN.into_iter().chain(numbered.into_iter().flatten()) {
            assert_eq!(value.to_string().parse(), Ok(value));
            let json = serde_json::to_string(&value).unwrap();
            assert_eq!(json, format!("\"{value}\""));
            assert_eq!(serde_json::from_str::<Value>(&json).unwrap(), value);
        }
        for text in ["", "Accuracy", "pass", "pass@", "pass@0", "pass@04", "pass@-1", "best@4", "maj@1.5"] {
            assert!(text.parse::<Value>().is_err(), "{text}");
        }
    }
}
