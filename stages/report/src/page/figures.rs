//! Figures with their numbers, and JSON that no other part of the page knows.
//!
//! A figure is put into the page as a picture, whose scripts and links a browser leaves dead. Its numbers are shown
//! whatever their names: single values as a list, records of the same kind as a table, long lists by their length.

use std::{collections::BTreeMap, fs, path::Path};

use contract::{ArtifactType, StageError, jsonl};
use serde::Serialize;
use serde_json::Value;

use super::{
    Facts, State,
    text::{number, short},
};

/// Longest list of records shown, and most values of one file.
const RECORDS: usize = 80;
/// Figures beyond so many bytes are named but not shown.
const BUDGET: usize = 1_200_000;

/// A cell's figures.
#[derive(Serialize)]
pub(super) struct Figures {
    cell: String,
    outdated: bool,
    pictures: Vec<Picture>,
    /// JSON without a picture: a summary.
    summaries: Vec<Numbers>,
}

#[derive(Serialize)]
struct Picture {
    name: String,
    /// `data:` URI; nothing where the page would grow too large.
    source: Option<String>,
    numbers: Option<Numbers>,
}

/// What a JSON file holds, readably.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Numbers {
    name: String,
    values: Vec<(String, String)>,
    tables: Vec<Records>,
    left_out: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct Records {
    name: String,
    heads: Vec<String>,
    rows: Vec<Vec<String>>,
}

/// Reads every artifact of figures.
pub(super) fn read(facts: &Facts) -> Result<Vec<Figures>, StageError> {
    let mut all = Vec::new();
    let mut budget = BUDGET;
    for (_, cell, folder) in facts.artifacts(ArtifactType::Figures) {
        let (mut pictures, mut jsons) = (Vec::new(), BTreeMap::new());
        for name in names(folder)? {
            let path = folder.join(&name);
            match name.rsplit_once('.') {
                Some((stem, "svg")) => {
                    let svg = fs::read_to_string(&path).map_err(StageError::io(&path))?;
                    let source = (svg.len() <= budget).then(|| data_uri(&svg));
                    budget -= source.as_ref().map_or(0, |_| svg.len());
                    pictures.push(Picture { name: stem.to_owned(), source, numbers: None });
                }
                Some((stem, "json")) => {
                    jsons.insert(stem.to_owned(), Numbers::of(stem, &jsonl::read_json(&path)?));
                }
                Some(_) | None => {}
            }
        }
        for picture in &mut pictures {
            picture.numbers = jsons.remove(&picture.name);
        }
        all.push(Figures {
            cell: cell.name.clone(),
            outdated: cell.state == State::Outdated,
            pictures,
            summaries: jsons.into_values().collect(),
        });
    }
    Ok(all)
}

/// JSON of artifacts that have no part of the page to themselves, such as what a teacher's answers cost.
pub(super) fn other_json(facts: &Facts) -> Result<Vec<Numbers>, StageError> {
    let mut all = Vec::new();
    for cell in &facts.cells {
        for artifact in &cell.artifacts {
            // Judgements have their own part.
            let ArtifactType::Other(kind) = artifact.artifact else { continue };
            for name in names(&artifact.folder)?.iter().filter(|name| name.ends_with(".json")) {
                if kind == super::samples::JUDGEMENTS {
                    continue;
                }
                let value: Value = jsonl::read_json(&artifact.folder.join(name))?;
                all.push(Numbers::of(&format!("{}: {kind}", cell.name), &value));
            }
        }
    }
    Ok(all)
}

fn names(folder: &Path) -> Result<Vec<String>, StageError> {
    let entries = fs::read_dir(folder).map_err(StageError::io(folder))?;
    let mut names: Vec<String> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort_unstable();
    Ok(names)
}

/// A picture inside the page. What is not plain is percent-encoded, so that no character can end the attribute.
fn data_uri(svg: &str) -> String {
    let mut uri = String::with_capacity(svg.len() * 5 / 4);
    uri.push_str("data:image/svg+xml,");
    for byte in svg.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => uri.push(char::from(byte)),
            b' ' | b'=' | b'/' | b'.' | b',' | b':' | b';' | b'-' | b'(' | b')' | b'_' => {
                uri.push(char::from(byte));
            }
            byte => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    uri
}

impl Numbers {
    /// Reads any JSON.
    pub(super) fn of(name: &str, value: &Value) -> Self {
        let mut numbers = Self { name: name.to_owned(), ..Self::default() };
        numbers.add("", value);
        let more = numbers.values.len().saturating_sub(RECORDS);
        if more > 0 {
            numbers.values.truncate(RECORDS);
            numbers.left_out.push(format!("{more} more values"));
        }
        numbers
    }

    fn add(&mut self, path: &str, value: &Value) {
        let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
        match value {
            Value::Null => {}
            Value::Object(fields) => fields.iter().for_each(|(key, value)| self.add(&below(key), value)),
            Value::Array(items) if items.is_empty() => {}
            Value::Array(items) if items.len() > RECORDS => {
                self.left_out.push(format!("{path}: {} entries", items.len()));
            }
            Value::Array(items) => match Records::of(path, items) {
                Some(records) => self.tables.push(records),
                None => self.values.push((path.to_owned(), list(items))),
            },
            Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                self.values.push((path.to_owned(), scalar(value)));
            }
        }
    }
}

impl Records {
    /// A table of objects; nothing where an item is no object.
    fn of(name: &str, items: &[Value]) -> Option<Self> {
        let mut rows: Vec<BTreeMap<String, String>> = Vec::new();
        let mut heads: Vec<String> = Vec::new();
        for item in items {
            let Value::Object(fields) = item else { return None };
            let mut row = BTreeMap::new();
            for (key, value) in fields {
                match value {
                    Value::Object(inner) => {
                        for (field, value) in inner {
                            row.insert(format!("{key}.{field}"), scalar(value));
                        }
                    }
                    value => {
                        row.insert(key.clone(), scalar(value));
                    }
                }
            }
            heads.extend(row.keys().filter(|key| !heads.contains(key)).cloned().collect::<Vec<_>>());
            rows.push(row);
        }
        let cells = |row: &BTreeMap<String, String>| {
            heads.iter().map(|head| row.get(head).cloned().unwrap_or_default()).collect()
        };
        let rows = rows.iter().map(cells).collect();
        // `numbers.layer` is `layer` where no other column is.
        let last = |head: &String| head.rsplit('.').next().unwrap_or(head).to_owned();
        let short: Vec<String> = heads.iter().map(last).collect();
        let only = |head: &String| short.iter().filter(|other| *other == head).count() == 1;
        let heads = short.iter().zip(&heads).map(|(short, head)| if only(short) { short } else { head });
        let heads = heads.cloned().collect();
        Some(Self { name: name.to_owned(), heads, rows })
    }
}

fn list(items: &[Value]) -> String {
    items.iter().map(scalar).collect::<Vec<_>>().join(", ")
}

fn scalar(value: &Value) -> String {
    match value {
        Value::Null => "–".to_owned(),
        Value::Number(value) => value.as_f64().map_or_else(|| value.to_string(), number),
        Value::String(text) => short(text),
        Value::Bool(value) => value.to_string(),
        Value::Array(items) if items.len() > 12 => format!("{} entries", items.len()),
        Value::Array(items) => list(items),
        Value::Object(fields) => fields
            .iter()
            .map(|(key, value)| format!("{key} {}", scalar(value)))
            .collect::<Vec<_>>()
            .join(", "),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn any_json_is_shown_by_its_shape() {
        let points: Vec<Value> = (0..200).map(|x| json!({"x": x})).collect();
        let mut numbers = Numbers::of(
            "a",
            &json!({
                "setting": {"layer": 2, "mean": 0.123456},
                "layers": [{"layer": 0, "of": {"rank": 1.5}}, {"layer": 1, "same_as": null}],
                "names": ["a", "b"], "points": points, "nothing": null,
            }),
        );
        let pairs = |list: &[(&str, &str)]| -> Vec<(String, String)> {
            list.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
        };
        // In which order depends on the map that `serde_json` was built with.
        numbers.values.sort();
        assert_eq!(
            numbers.values,
            pairs(&[("names", "a, b"), ("setting.layer", "2"), ("setting.mean", "0.1235")])
        );
        assert_eq!(numbers.left_out, ["points: 200 entries"]);
        assert_eq!(numbers.tables[0].heads, ["layer", "rank", "same_as"]);
        assert_eq!(numbers.tables[0].rows, [["0", "1.5", ""], ["1", "", "–"]]);
    }

    #[test]
    fn nothing_in_a_picture_can_leave_its_attribute() {
        let uri = data_uri("<svg a=\"1\">&'\n%#ü</svg>");
        assert_eq!(uri, "data:image/svg+xml,%3Csvg a=%221%22%3E%26%27%0A%25%23%C3%BC%3C/svg%3E");
    }
}
