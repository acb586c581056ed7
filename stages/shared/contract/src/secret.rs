//! Values that must never be seen: keys of services.

use std::{borrow::Cow, fmt};

use serde::{Serialize, Serializer};

/// What is shorter is a placeholder such as `none` or `EMPTY`, and no secret.
const SHORTEST: usize = 8;

/// The value of an environment variable that a kind declared in [`crate::Stage::secrets`].
///
/// The engine reads it and hands it over in the [`crate::Context`]. Neither `Debug` nor `Serialize` shows the value.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    variable: String,
    value: String,
}

/// Why a value cannot serve as a secret. The value itself is in no message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// The variable is not there, or holds nothing.
    #[error("environment variable `{variable}` is not set")]
    NotSet {
        /// The variable.
        variable: String,
    },
    /// The value has line breaks, spaces inside or letters outside ASCII, which no header may hold.
    #[error("environment variable `{variable}` holds characters that no key has")]
    Malformed {
        /// The variable.
        variable: String,
    },
}

impl Secret {
    /// Takes the value of an environment variable; white space around it does not count.
    pub fn new(variable: &str, value: &str) -> Result<Self, SecretError> {
        let value = value.trim();
        if value.is_empty() {
            return Err(SecretError::NotSet { variable: variable.to_owned() });
        }
        if !value.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(SecretError::Malformed { variable: variable.to_owned() });
        }
        Ok(Self { variable: variable.to_owned(), value: value.to_owned() })
    }

    /// The variable it comes from.
    pub fn variable(&self) -> &str {
        &self.variable
    }

    /// The value, for the one header it belongs in.
    pub fn expose(&self) -> &str {
        &self.value
    }

    /// The text with the name of the variable wherever the value stood, as it is or as JSON escapes it.
    pub fn redact<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let mut text = Cow::Borrowed(text);
        for form in self.forms() {
            if text.contains(&form) {
                text = Cow::Owned(text.replace(&form, &self.to_string()));
            }
        }
        text
    }

    /// Whether the value stands anywhere in these bytes.
    pub fn is_in(&self, bytes: &[u8]) -> bool {
        let found = |form: &String| bytes.windows(form.len()).any(|window| window == form.as_bytes());
        self.forms().iter().any(found)
    }

    /// The value, longest form first; nothing if it is too short to be a secret.
    fn forms(&self) -> Vec<String> {
        if self.value.len() < SHORTEST {
            return Vec::new();
        }
        let escaped = self.value.replace('\\', "\\\\").replace('"', "\\\"");
        if escaped == self.value { vec![escaped] } else { vec![escaped, self.value.clone()] }
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "[{}]", self.variable)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Secret([{}])", self.variable)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    const KEY: &str = "sk-\"quoted\\0123456789";

    #[test]
    fn no_form_of_output_shows_the_value() {
        let secret = Secret::new("API_KEY", &format!(" {KEY}\n")).unwrap();
        assert_eq!(secret.expose(), KEY);
        let outputs =
            [format!("{secret}"), format!("{secret:?}"), serde_json::to_string(&[&secret, &secret]).unwrap()];
        for output in outputs {
            assert!(output.contains("[API_KEY]") && !output.contains("0123456789"), "{output}");
        }
    }

    #[test]
    fn the_value_is_found_and_replaced_raw_and_escaped() {
        let secret = Secret::new("API_KEY", KEY).unwrap();
        let json = serde_json::to_string(&format!("bad key {KEY}!")).unwrap();
        assert_eq!(secret.redact(&json), "\"bad key [API_KEY]!\"");
        assert_eq!(secret.redact(KEY), "[API_KEY]");
        assert!(secret.is_in(json.as_bytes()) && secret.is_in(KEY.as_bytes()));
        assert!(!secret.is_in(b"bad key sk-"));
        assert!(matches!(secret.redact("nothing here"), Cow::Borrowed("nothing here")));
    }

    #[test]
    fn placeholders_are_no_secrets_and_odd_values_are_refused_unseen() {
        let none = Secret::new("API_KEY", "none").unwrap();
        assert_eq!(none.redact("none of them"), "none of them");
        assert_eq!(Secret::new("K", " ").unwrap_err(), SecretError::NotSet { variable: "K".into() });
        let error = Secret::new("K", "two words").unwrap_err();
        assert_eq!(error.to_string(), "environment variable `K` holds characters that no key has");
    }
}
