//! Names in the params of a table, checked against the rows, columns and axes that there are.
//!
//! Most are known when a recipe is checked, from the labels of what is joined: a mistake then costs no training. What is
//! only known from results, such as the task they were measured on, is checked again when the table is made.

use std::collections::{BTreeMap, BTreeSet};

use contract::{Joined, Setting, meant};

use crate::{ReportParams, default_over, expression};

/// Why a name in the params is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NameError {
    #[error("no {what} of the table is called `{name}`; {}", meant(name, known.iter().map(String::as_str)))]
    Unknown { what: &'static str, name: String, known: Vec<String> },
    #[error("group `{0}` has the name of a column")]
    Group(String),
    #[error(
        "metrics of stage `{stage}` belong to row `{row}`, which the table does not have; leave the stage out of `from`"
    )]
    NoRow { stage: String, row: String },
}

/// What is wrong, by the field it stands in.
type Mistakes = Vec<(String, NameError)>;

/// Everything that can be said before there are results.
pub(crate) fn check_joined(params: &ReportParams, setting: &Setting<'_>) -> Mistakes {
    let mut mistakes = Mistakes::new();
    let scores = setting.joined("scores");
    if scores.is_empty() {
        return mistakes;
    }
    let mut axes: BTreeSet<&str> =
        scores.iter().flat_map(|joined| joined.labels.keys()).map(String::as_str).collect();
    axes.insert("task");
    let mut is_axis = |field: &str, axis: &str| {
        let known = axes.contains(axis);
        if !known {
            let known = axes.iter().map(|axis| (*axis).to_owned()).collect();
            mistakes.push((pointer(&[field]), unknown("axis", axis, known)));
        }
        known
    };
    let rows = is_axis("rows", &params.rows).then(|| names_on(scores, &params.rows)).flatten();
    let columns = is_axis("columns", &params.columns).then(|| names_on(scores, &params.columns)).flatten();
    if params.over != default_over() {
        is_axis("over", &params.over);
    }
    mistakes.extend(check(params, rows.as_deref(), columns.as_deref()));
    if let (Some(rows), Some(columns)) = (&rows, &columns) {
        let known = [rows.as_slice(), columns].concat();
        for (place, name) in params.order.iter().enumerate().filter(|(_, name)| !known.contains(name)) {
            let field = pointer(&["order", &place.to_string()]);
            mistakes.push((field, unknown("row or column", name, known.clone())));
        }
    }
    for metrics in setting.joined("metrics") {
        let row = row_of_metrics(params, metrics.stage, metrics.labels);
        if rows.as_ref().is_some_and(|rows| !rows.iter().any(|known| known == row)) {
            let (stage, row) = (metrics.stage.to_owned(), row.to_owned());
            mistakes.push((String::new(), NameError::NoRow { stage, row }));
        }
    }
    mistakes
}

/// What the results are called on an axis, in order; `None` where only they tell: without a label, the task measured on stands
/// for `task`.
fn names_on(scores: &[Joined<'_>], axis: &str) -> Option<Vec<String>> {
    let name = |joined: &Joined<'_>| {
        let stage = joined.labels.get("stage").filter(|_| axis != "task");
        joined.labels.get(axis).or(stage).cloned()
    };
    let names: BTreeSet<String> = scores.iter().map(name).collect::<Option<_>>()?;
    Some(names.into_iter().collect())
}

/// The row of a training.
pub(crate) fn row_of_metrics<'a>(
    params: &ReportParams,
    stage: &'a str,
    labels: &'a BTreeMap<String, String>,
) -> &'a str {
    labels.get(&params.rows).or(labels.get("stage")).map_or(stage, String::as_str)
}

/// Names of rows and columns; either may be unknown, and is not checked then.
pub(crate) fn check(params: &ReportParams, rows: Option<&[String]>, columns: Option<&[String]>) -> Mistakes {
    let mut mistakes = Mistakes::new();
    let mut named = |what, name: &String, known: Option<&[String]>, field: &[&str]| {
        if let Some(known) = known.filter(|known| !known.contains(name)) {
            mistakes.push((pointer(field), unknown(what, name, known.to_vec())));
        }
    };
    if let Some(row) = &params.relative_to {
        named("row", row, rows, &["relative_to"]);
    }
    for (place, row) in params.baselines.iter().flatten().enumerate() {
        named("row", row, rows, &["baselines", &place.to_string()]);
    }
    for (group, members) in &params.groups {
        for (place, column) in members.iter().enumerate() {
            named("column", column, columns, &["groups", group, &place.to_string()]);
        }
    }
    let is_column = |name: &&String| columns.is_some_and(|columns| columns.contains(name));
    let groups = params.groups.keys().filter(|group| !is_column(group));
    let shown: Option<Vec<String>> = columns.map(|columns| columns.iter().chain(groups).cloned().collect());
    for (row, values) in &params.published {
        named("row", row, rows, &["published", row]);
        for column in values.keys() {
            named("column", column, shown.as_deref(), &["published", row, column]);
        }
    }
    for group in params.groups.keys().filter(is_column) {
        mistakes.push((pointer(&["groups", group]), NameError::Group(group.clone())));
    }
    let Some(rows) = rows else { return mistakes };
    for (name, claim) in &params.claims {
        for (side, text) in [("left", &claim.left), ("right", &claim.right)] {
            if let Err((what, wrong)) = expression::parse(text, rows, shown.as_deref()) {
                let known = if what == "row" { Some(rows) } else { shown.as_deref() };
                let known = known.unwrap_or_default().to_vec();
                mistakes.push((pointer(&["claims", name, side]), unknown(what, &wrong, known)));
            }
        }
    }
    mistakes
}

fn unknown(what: &'static str, name: &str, known: Vec<String>) -> NameError {
    NameError::Unknown { what, name: name.to_owned(), known }
}

/// A JSON pointer.
pub(crate) fn pointer(parts: &[&str]) -> String {
    parts.iter().map(|part| format!("/{}", part.replace('~', "~0").replace('/', "~1"))).collect()
}
