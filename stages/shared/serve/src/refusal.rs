//! Why a request is not answered, in OpenAI's shape.

use contract::StageError;
use lm::LmError;
use serde_json::{Value, json};

/// A request that is not answered.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Refusal {
    /// The HTTP status.
    pub(crate) status: u16,
    message: String,
    /// The field that is wrong.
    field: Option<String>,
    code: &'static str,
}

impl Refusal {
    /// A field of the request is wrong.
    pub(crate) fn field(field: &str, problem: impl std::fmt::Display) -> Self {
        let message = format!("`{field}` {problem}");
        Self { status: 400, message, field: Some(field.to_owned()), code: "invalid_value" }
    }

    /// The request as a whole is wrong.
    pub(crate) fn request(message: impl Into<String>) -> Self {
        Self { status: 400, message: message.into(), field: None, code: "invalid_request" }
    }

    /// With another status and code.
    pub(crate) fn of(status: u16, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), field: None, code }
    }

    /// Names the field.
    pub(crate) fn at(self, field: &str) -> Self {
        Self { field: Some(field.to_owned()), ..self }
    }

    /// The body of the reply.
    pub(crate) fn body(&self) -> Value {
        let kind = if self.status < 500 { "invalid_request_error" } else { "server_error" };
        json!({"error": {"message": self.message, "type": kind, "param": self.field, "code": self.code}})
    }
}

impl From<LmError> for Refusal {
    fn from(error: LmError) -> Self {
        match error {
            LmError::Chat(error) => {
                let message = format!("{error}; {}", error.help());
                Self { code: "chat_template", ..Self::request(message) }.at("messages")
            }
            error => Self::of(500, "internal_error", error.to_string()),
        }
    }
}

impl From<StageError> for Refusal {
    fn from(error: StageError) -> Self {
        match error {
            StageError::Cancelled => Self::of(503, "shutting_down", "the server is shutting down"),
            error => Self::of(500, "internal_error", error.to_string()),
        }
    }
}
