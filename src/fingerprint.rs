//! The identity of a cell's result.
//!
//! | in the fingerprint | why |
//! |---|---|
//! | format version, kind, the kind's `VERSION` | the code that makes the result |
//! | resolved params, defaults filled in | a default that changes must be noticed |
//! | content digests of inputs, by port; axis labels on ports that take many | what the result is made from |
//! | content digests of external files, in place of their paths | a moved file is the same file |
//! | seed, where the kind uses one | |
//! | backend and dtype, where the kind computes tensors | floating point differs between them |
//!
//! Not in it: paths, times, cell and stage names, host, thread count, device index, and the params a kind declares
//! immaterial (how fast, how patient, at what expense, at which mirror). They cannot change a result.
//!
//! Two names are trusted to mean the same thing for ever, because nothing here can look behind them: the model that an
//! endpoint serves (`model`, whatever the `base_url`), and a revision on the Hugging Face hub (`hf: a/b@main`), where a
//! branch can move and a commit cannot. What they meant when the result was made is what is kept.
//!
//! The record is kept as JSON beside the result, so that [`changes`] can say what differs between two.

use std::{collections::BTreeMap, fmt};

use contract::Digest;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Raised when the meaning of the record itself changes.
const FORMAT: u32 = 1;

/// What a result's identity is made of; see the module's table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FingerprintRecord {
    /// Version of this struct's meaning.
    pub format: u32,
    /// The kind's name.
    pub kind: String,
    /// The kind's version.
    pub version: u32,
    /// Resolved params; external files appear as `blake3:<digest>`.
    pub params: Value,
    /// Inputs by port, in a stable order.
    pub inputs: BTreeMap<String, Vec<InputRecord>>,
    /// The seed, for kinds that use one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Backend and dtype, for kinds that compute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<contract::Backend>,
}

/// One input of a cell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InputRecord {
    /// Axis labels; empty on ports that take one artifact.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The artifact's content digest.
    pub digest: Digest,
}

/// The hash of a [`FingerprintRecord`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fingerprint(pub Digest);

impl fmt::Display for Fingerprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl FingerprintRecord {
    /// A record of the current format; `backend` where the cell computes tensors.
    pub fn new(
        kind: &dyn contract::Kind,
        params: Value,
        inputs: BTreeMap<String, Vec<InputRecord>>,
        seed: Option<u64>,
        backend: Option<&contract::Backend>,
    ) -> Self {
        Self {
            format: FORMAT,
            kind: kind.name().to_owned(),
            version: kind.version(),
            params,
            inputs,
            seed: seed.filter(|_| kind.seeded()),
            backend: backend.cloned(),
        }
    }

    /// Hashes the record; key order does not matter.
    pub fn fingerprint(&self) -> Fingerprint {
        let value = serde_json::to_value(self).expect("a record is plain data");
        Fingerprint(Digest::of_json(&sorted(value)))
    }
}

/// Rebuilds objects in key order, whatever map type `serde_json` was built with.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let map: BTreeMap<String, Value> = map.into_iter().map(|(k, v)| (k, sorted(v))).collect();
            Value::Object(map.into_iter().collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value,
    }
}

/// One field that differs between two records.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// The field, dotted: `learning_rate`, `objective.mind.beta`, `input rationales`.
    pub field: String,
    /// Its old value; `None` where it was not there.
    pub old: Option<Value>,
    /// Its new value; `None` where it is gone.
    pub new: Option<Value>,
}

impl fmt::Display for Change {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = |value: &Option<Value>| value.as_ref().map_or_else(|| "(absent)".to_owned(), short);
        write!(formatter, "{}: {} -> {}", self.field, show(&self.old), show(&self.new))
    }
}

/// A value in few characters; digests are cut.
fn short(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            value.to_string()
        }
    };
    match text.strip_prefix("blake3:") {
        Some(digest) => digest.chars().take(12).collect(),
        None if text.chars().count() > 60 => text.chars().take(57).chain("...".chars()).collect(),
        None => text,
    }
}

/// The fields that differ, params first; empty when the fingerprints are equal.
pub fn changes(old: &FingerprintRecord, new: &FingerprintRecord) -> Vec<Change> {
    let mut changes = Vec::new();
    let mut field = |name: &str, old: Value, new: Value| {
        if old != new {
            let present = |value: Value| (!value.is_null()).then_some(value);
            changes.push(Change { field: name.to_owned(), old: present(old), new: present(new) });
        }
    };
    field("kind", old.kind.as_str().into(), new.kind.as_str().into());
    field("version of the kind", old.version.into(), new.version.into());
    field("format", old.format.into(), new.format.into());
    field("seed", old.seed.into(), new.seed.into());
    let backend = |record: &FingerprintRecord| match &record.backend {
        Some(backend) => Value::from(format!("{} {}", backend.name, backend.dtype)),
        None => Value::Null,
    };
    field("backend", backend(old), backend(new));
    differences("", &old.params, &new.params, &mut changes);
    let ports: std::collections::BTreeSet<_> = old.inputs.keys().chain(new.inputs.keys()).collect();
    for port in ports {
        let by_label = |record: &FingerprintRecord| -> BTreeMap<String, Value> {
            let inputs = record.inputs.get(port).map_or(&[][..], Vec::as_slice);
            inputs.iter().map(|input| (labels(&input.labels), digest_value(&input.digest))).collect()
        };
        let (old, new) = (by_label(old), by_label(new));
        let all: std::collections::BTreeSet<_> = old.keys().chain(new.keys()).collect();
        for label in all {
            let (old, new) = (old.get(label).cloned(), new.get(label).cloned());
            if old != new {
                changes.push(Change { field: format!("input {port}{label}"), old, new });
            }
        }
    }
    changes
}

/// How a digest stands in params and in messages.
pub fn digest_value(digest: &Digest) -> Value {
    Value::from(format!("blake3:{digest}"))
}

/// `[method=mind,seed=1]`, or nothing without axes.
pub fn labels(axes: &BTreeMap<String, String>) -> String {
    if axes.is_empty() {
        return String::new();
    }
    let pairs: Vec<String> = axes.iter().map(|(axis, value)| format!("{axis}={value}")).collect();
    format!("[{}]", pairs.join(","))
}

fn differences(path: &str, old: &Value, new: &Value, changes: &mut Vec<Change>) {
    if let (Value::Object(old), Value::Object(new)) = (old, new) {
        let keys: std::collections::BTreeSet<_> = old.keys().chain(new.keys()).collect();
        for key in keys {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            match (old.get(key), new.get(key)) {
                (Some(old), Some(new)) => differences(&path, old, new, changes),
                (old, new) => changes.push(Change { field: path, old: old.cloned(), new: new.cloned() }),
            }
        }
    } else if old != new {
        changes.push(Change { field: path.to_owned(), old: Some(old.clone()), new: Some(new.clone()) });
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use serde_json::json;

    use super::*;

    fn record(params: Value) -> FingerprintRecord {
        FingerprintRecord {
            format: FORMAT,
            kind: "student".into(),
            version: 1,
            params,
            inputs: BTreeMap::from([(
                "model".to_owned(),
                vec![InputRecord { labels: BTreeMap::new(), digest: Digest::of_bytes(b"m") }],
            )]),
            seed: Some(1),
            backend: None,
        }
    }

    #[test]
    fn key_order_does_not_matter_and_values_do() {
        let a = record(json!({"lr": 1e-4, "objective": {"mind": {"beta": 0.8}}}));
        let b = record(serde_json::from_str(r#"{"objective":{"mind":{"beta":0.8}},"lr":0.0001}"#).unwrap());
        assert_eq!(a.fingerprint(), b.fingerprint());
        let c = record(json!({"lr": 2e-4, "objective": {"mind": {"beta": 0.8}}}));
        assert_ne!(a.fingerprint(), c.fingerprint());
        let shown: Vec<String> = changes(&a, &c).iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["lr: 0.0001 -> 0.0002"]);
    }

    #[test]
    fn changes_name_nested_fields_inputs_and_absence() {
        let old = record(json!({"objective": {"mind": {"beta": 0.8}}, "gone": 1}));
        let mut new = record(json!({"objective": {"mind": {"beta": 0.5}}}));
        new.inputs.get_mut("model").unwrap()[0].digest = Digest::of_bytes(b"n");
        new.seed = Some(2);
        let shown: Vec<String> = changes(&old, &new).iter().map(ToString::to_string).collect();
        assert_eq!(shown.len(), 4, "{shown:?}");
        assert_eq!(shown[0], "seed: 1 -> 2");
        assert_eq!(shown[1], "gone: 1 -> (absent)");
        assert_eq!(shown[2], "objective.mind.beta: 0.8 -> 0.5");
        assert!(shown[3].starts_with("input model: "), "{}", shown[3]);
    }
}
