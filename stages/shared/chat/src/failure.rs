//! Why a request brought no completion, and what to do about it.

use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::Usage;

/// Characters of an endpoint's own words that are shown.
const SHOWN: usize = 300;

/// The kinds of failure, as they are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// Too many requests (429): wait and ask again.
    Throttled,
    /// The endpoint failed (5xx, 408, 409, 425).
    Server,
    /// No reply in time.
    Timeout,
    /// The connection broke or was never made.
    Connection,
    /// The reply is not what the protocol says.
    Malformed,
    /// A completion without text.
    Empty,
    /// No choice, or several.
    Choices,
    /// This request is refused for what it is (400, 413, 422, a content filter); asking again is useless.
    Refused,
    /// Every request would be refused (401, 403, 404, a redirect).
    Denied,
    /// The account's quota is used up, which waiting does not mend.
    Quota,
}

/// What follows from a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Remedy {
    Repeat,
    GiveUpItem,
    Stop,
}

impl Fault {
    pub(crate) fn remedy(self) -> Remedy {
        match self {
            Self::Throttled
            | Self::Server
            | Self::Timeout
            | Self::Connection
            | Self::Malformed
            | Self::Empty
            | Self::Choices => Remedy::Repeat,
            Self::Refused => Remedy::GiveUpItem,
            Self::Denied | Self::Quota => Remedy::Stop,
        }
    }

    /// Its name in counts.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Throttled => "throttled",
            Self::Server => "server error",
            Self::Timeout => "timed out",
            Self::Connection => "connection lost",
            Self::Malformed => "malformed reply",
            Self::Empty => "empty completion",
            Self::Choices => "wrong number of choices",
            Self::Refused => "refused",
            Self::Denied => "denied",
            Self::Quota => "quota exhausted",
        }
    }
}

/// One failed request.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Failure {
    pub(crate) fault: Fault,
    /// The endpoint's words, or what was wrong; nothing secret is taken out of it yet.
    pub(crate) problem: String,
    /// How long the endpoint asks to wait.
    pub(crate) wait: Option<Duration>,
    /// What it took all the same.
    pub(crate) paid: Option<Usage>,
}

impl Failure {
    pub(crate) fn new(fault: Fault, problem: String) -> Self {
        Self { fault, problem, wait: None, paid: None }
    }

    /// From a reply whose status is not 200.
    pub(crate) fn of_status(status: u16, body: &str) -> Self {
        let fault = match status {
            402 => Fault::Quota,
            429 => Fault::Throttled,
            408 | 409 | 425 | 500..=599 => Fault::Server,
            300..=399 | 401 | 403..=407 => Fault::Denied,
            _ => Fault::Refused,
        };
        let error = serde_json::from_str::<Value>(body).ok().and_then(|mut body| {
            body.get_mut("error").map(Value::take).or_else(|| body.get("message").is_some().then_some(body))
        });
        match error {
            Some(error) => Self::of_error(&error, Some(status), fault),
            None if body.trim().is_empty() => Self::new(fault, format!("status {status}")),
            None => Self::new(fault, format!("status {status}: {}", shown(body))),
        }
    }

    /// From an error object as OpenAI writes it.
    pub(crate) fn of_error(error: &Value, status: Option<u16>, fault: Fault) -> Self {
        let field = |name: &str| error.get(name).and_then(Value::as_str).unwrap_or_default();
        let exhausted = |word: &str| {
            word.starts_with("insufficient_") || word.starts_with("billing_") || word == "quota_exceeded"
        };
        let fault = if exhausted(field("code")) || exhausted(field("type")) { Fault::Quota } else { fault };
        let message = error.as_str().unwrap_or_else(|| field("message"));
        let message = if message.is_empty() { error.to_string() } else { message.to_owned() };
        let status = status.map(|status| format!("status {status}: ")).unwrap_or_default();
        Self::new(fault, format!("{status}{}", shown(&message)))
    }

    /// From what the client says.
    pub(crate) fn of_client(error: &ureq::Error) -> Self {
        let fault = match error {
            ureq::Error::Timeout(_) => Fault::Timeout,
            ureq::Error::Io(error) if error.kind() == std::io::ErrorKind::TimedOut => Fault::Timeout,
            ureq::Error::BadUri(_) | ureq::Error::Http(_) | ureq::Error::InvalidProxyUrl => Fault::Denied,
            _ => Fault::Connection,
        };
        Self::new(fault, shown(&error.to_string()))
    }
}

/// The start of a foreign text, on one line.
fn shown(text: &str) -> String {
    let line: String = text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    match line.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line,
    }
}

/// What the headers `Retry-After-Ms` and `Retry-After` ask for: seconds, or an HTTP date.
pub(crate) fn retry_after(header: impl Fn(&str) -> Option<String>, now: SystemTime) -> Option<Duration> {
    let number = |text: String| text.trim().parse::<f64>().ok();
    let seconds = |value: f64| Duration::try_from_secs_f64(value).ok();
    if let Some(wait) = header("retry-after-ms").and_then(number).and_then(|value| seconds(value / 1e3)) {
        return Some(wait);
    }
    let text = header("retry-after")?;
    let date = || httpdate::parse_http_date(text.trim()).ok();
    number(text.clone())
        .and_then(seconds)
        .or_else(|| date().map(|date| date.duration_since(now).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quota_and_throttling_are_told_apart() {
        let of = |status: u16, code: &str| {
            let body = format!(r#"{{"error": {{"message": "m", "type": "{code}", "code": null}}}}"#);
            Failure::of_status(status, &body).fault
        };
        assert_eq!(of(429, "requests"), Fault::Throttled);
        assert_eq!(of(429, "rate_limit_exceeded"), Fault::Throttled);
        assert_eq!(of(429, "insufficient_quota"), Fault::Quota);
        assert_eq!(of(403, "billing_hard_limit_reached"), Fault::Quota);
        assert_eq!(Failure::of_status(402, "Insufficient Balance").fault, Fault::Quota);
    }

    #[test]
    fn statuses_have_their_remedies() {
        let cases = [
            (500, Remedy::Repeat),
            (503, Remedy::Repeat),
            (408, Remedy::Repeat),
            (429, Remedy::Repeat),
            (400, Remedy::GiveUpItem),
            (422, Remedy::GiveUpItem),
            (401, Remedy::Stop),
            (404, Remedy::Stop),
            (307, Remedy::Stop),
        ];
        for (status, remedy) in cases {
            assert_eq!(Failure::of_status(status, "").fault.remedy(), remedy, "{status}");
        }
    }

    #[test]
    fn the_endpoints_words_are_shown_on_one_short_line() {
        assert_eq!(Failure::of_status(500, "a\nb").problem, "status 500: a b");
        assert_eq!(Failure::of_status(500, "").problem, "status 500");
        assert_eq!(
            Failure::of_status(400, r#"{"message": "no such model"}"#).problem,
            "status 400: no such model"
        );
        assert_eq!(Failure::of_status(400, r#"{"error": "bad"}"#).problem, "status 400: bad");
        let long = Failure::of_status(500, &"é".repeat(5000)).problem;
        assert_eq!(long.chars().count(), "status 500: ".len() + SHOWN + 3);
    }

    #[test]
    fn waits_are_read_in_every_form() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777 - 5);
        let read = |name: &'static str, value: &'static str| {
            retry_after(move |header| (header == name).then(|| value.to_owned()), now)
        };
        assert_eq!(read("retry-after", "2"), Some(Duration::from_secs(2)));
        assert_eq!(read("retry-after", "0.5"), Some(Duration::from_millis(500)));
        assert_eq!(read("retry-after-ms", "20"), Some(Duration::from_millis(20)));
        assert_eq!(read("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::from_secs(5)));
        assert_eq!(read("retry-after", "Sun, 06 Nov 1994 08:49:31 GMT"), Some(Duration::ZERO));
        assert_eq!(read("retry-after", "soon"), None);
        assert_eq!(read("retry-after", "-1"), None);
        assert_eq!(read("other", "2"), None);
    }
}
