//! A tree to a [`Recipe`]: which keys there are and what each may hold.
//!
//! A mistake is pushed to `out` and reading goes on. A function returns `None` only where what is left
//! would lead the graph to false mistakes; a misspelled key is read as the key it resembles.

mod executor;
mod fields;
mod matrix;
mod remote;
mod stage;

use std::collections::BTreeMap;

use super::{Diagnostic, ExecutorDecl, Node, NodeValue, Recipe, SourceMap, Span, Spanned, TableDecl};
pub use executor::seconds as time_limit;
use fields::{check_name, expected, fields, name_list, required, text, whole_number};

const KEYS: &[&str] = &[
    "recipe",
    "about",
    "backend",
    "dtype",
    "seeds",
    "vars",
    "matrix",
    "include",
    "stages",
    "tables",
    "claims",
    "resources",
    "executor",
    "remote",
];

/// Reads a whole document.
pub(super) fn recipe(document: &Node, out: &mut Vec<Diagnostic>) -> Option<Recipe> {
    if document.is_null() {
        out.push(
            Diagnostic::at(document.span, "the recipe is empty")
                .help("`retort init` writes a recipe to start from"),
        );
        return None;
    }
    let top = fields(document, "the recipe", KEYS, out)?;
    if let Some(include) = top.get("include") {
        out.push(Diagnostic::at(include.span, "`include` is misspelled, so nothing was included"));
        return None;
    }
    let name = required(&top, "recipe", "the recipe", document.span, out)
        .and_then(|node| text(node, "`recipe`", "a name", out))
        .inspect(|name| check_name(name, "recipe", out))
        .map(|name| name.value)
        .unwrap_or_default();
    let mut optional = |key: &str, what: &str| {
        let node = top.get(key).filter(|node| !node.is_null())?;
        text(node, &format!("`{key}`"), what, out)
    };
    let about = optional("about", "a text").map(|about| about.value);
    let backend = optional("backend", "the name of a backend");
    let dtype = optional("dtype", "the name of a number type");
    let vars = top.get("vars").map_or_else(BTreeMap::new, |node| vars(node, out));
    let pools = top.get("resources").map_or_else(BTreeMap::new, |node| pools(node, out));
    let local = ExecutorDecl::Local;
    let executor =
        top.get("executor").map_or(local.clone(), |node| executor::executor(node, "the recipe", &local, out));
    let remote = top.get("remote").and_then(|node| remote::remote(node, out));
    let matrix = matrix::axes(top.get("matrix"), top.get("seeds"), &vars, out);
    let stages = match required(&top, "stages", "the recipe", document.span, out) {
        Some(node) if node.entries().is_some_and(<[_]>::is_empty) || node.is_null() => {
            out.push(Diagnostic::at(node.span, "the recipe has no stages"));
            None
        }
        Some(node) => stage::stages(node, &pools, &executor, out),
        None => None,
    };
    let mut tables = top.get("tables").map_or_else(Vec::new, |node| tables(node, out));
    if let Some(node) = top.get("claims") {
        claims(node, &mut tables, out);
    }
    let ((axes, exclude), stages) = (matrix?, stages?);
    let sources = SourceMap::default();
    Some(Recipe { name, about, backend, dtype, vars, axes, exclude, stages, tables, pools, remote, sources })
}

fn vars(node: &Node, out: &mut Vec<Diagnostic>) -> BTreeMap<String, Node> {
    let entries = mapping(node, "`vars`", "a mapping from names to values", out);
    for (name, _) in entries {
        check_name(name, "variable", out);
    }
    entries.iter().map(|(name, node)| (name.value.clone(), node.clone())).collect()
}

fn pools(node: &Node, out: &mut Vec<Diagnostic>) -> BTreeMap<String, usize> {
    let Some(top) = fields(node, "`resources`", &["pools"], out) else { return BTreeMap::new() };
    let Some(node) = top.get("pools") else { return BTreeMap::new() };
    let entries = mapping(node, "`pools`", "a mapping from names to sizes", out);
    let mut pools = BTreeMap::new();
    for (name, node) in entries {
        check_name(name, "pool", out);
        let what = format!("pool `{}`", name.value);
        // A pool with a bad size stays known, so that stages that use it are not reported as well.
        let size = whole_number(node, &what, 1, u64::from(u32::MAX), out).unwrap_or(u64::from(u32::MAX));
        pools.insert(name.value.clone(), usize::try_from(size).unwrap_or(usize::MAX));
    }
    pools
}

fn tables(node: &Node, out: &mut Vec<Diagnostic>) -> Vec<TableDecl> {
    let mut tables = Vec::new();
    for (name, node) in mapping(node, "`tables`", "a mapping from names to tables", out) {
        check_name(name, "table", out);
        let what = format!("table `{}`", name.value);
        let mut from = None;
        let mut with = Vec::new();
        for (key, value) in mapping(node, &what, "a mapping", out) {
            if key.value == "from" {
                from = name_list(value, &format!("`from` of {what}"), "a stage", out);
            } else {
                with.push((key.clone(), value.clone()));
            }
        }
        let with = Node::new(NodeValue::Mapping(with), name.span);
        tables.push(TableDecl { name: name.clone(), from, with });
    }
    tables
}

/// Moves each claim into the table it is about.
fn claims(node: &Node, tables: &mut [TableDecl], out: &mut Vec<Diagnostic>) {
    let shape = "a list such as `- mind wins: {left: .., right: .., at_least: ..}`";
    let mut claims: Vec<&(Spanned<String>, Node)> = Vec::new();
    match &node.value {
        NodeValue::Mapping(entries) => claims.extend(entries),
        NodeValue::Sequence(items) => {
            for item in items {
                match item.entries() {
                    Some([claim]) => claims.push(claim),
                    Some(_) | None => out.push(
                        expected(item, "a claim", "one sentence with its comparison")
                            .help(format!("write {shape}")),
                    ),
                }
            }
        }
        NodeValue::Scalar(_) => {
            out.push(expected(node, "`claims`", shape));
            return;
        }
    }
    for (sentence, body) in claims {
        let Some(entries) = body.entries() else {
            out.push(expected(body, "a claim", "a mapping with `left`, `right` and `at_least`"));
            continue;
        };
        let wanted = entries.iter().find(|(key, _)| key.value == "table").map(|(_, node)| node);
        let Some(table) = claimed_table(wanted, sentence.span, tables, out) else { continue };
        let rest = entries.iter().filter(|(key, _)| key.value != "table").cloned().collect();
        add_claim(table, sentence, Node::new(NodeValue::Mapping(rest), sentence.span), out);
    }
}

fn claimed_table<'a>(
    wanted: Option<&Node>,
    claim: Span,
    tables: &'a mut [TableDecl],
    out: &mut Vec<Diagnostic>,
) -> Option<&'a mut TableDecl> {
    let Some(wanted) = wanted else {
        if tables.is_empty() {
            out.push(Diagnostic::at(claim, "a claim needs a table, and the recipe has none"));
        }
        return tables.first_mut();
    };
    let name = text(wanted, "`table` of a claim", "the name of a table", out)?;
    let Some(index) = tables.iter().position(|table| table.name.value == name.value) else {
        out.push(
            Diagnostic::at(name.span, format!("no table is named `{}`", name.value))
                .suggest(&name.value, tables.iter().map(|table| table.name.value.as_str())),
        );
        return None;
    };
    Some(&mut tables[index])
}

fn add_claim(table: &mut TableDecl, sentence: &Spanned<String>, body: Node, out: &mut Vec<Diagnostic>) {
    let NodeValue::Mapping(entries) = &mut table.with.value else { return };
    let at = match entries.iter().position(|(key, _)| key.value == "claims") {
        Some(at) => at,
        None => {
            let key = Spanned::new("claims".to_owned(), sentence.span);
            entries.push((key, Node::empty_mapping(sentence.span)));
            entries.len() - 1
        }
    };
    // Where `claims` of the table is no mapping, the schema of tables says so.
    let NodeValue::Mapping(claims) = &mut entries[at].1.value else { return };
    if let Some((first, _)) = claims.iter().find(|(name, _)| name.value == sentence.value) {
        let message = format!("claim `{}` is written twice", sentence.value);
        out.push(Diagnostic::at(sentence.span, message).note(first.span, "first written here"));
        return;
    }
    claims.push((sentence.clone(), body));
}

/// The entries of a mapping; nothing, which null is, counts as an empty one.
fn mapping<'a>(
    node: &'a Node,
    what: &str,
    shape: &str,
    out: &mut Vec<Diagnostic>,
) -> &'a [(Spanned<String>, Node)] {
    if !node.is_null() && node.entries().is_none() {
        out.push(expected(node, what, shape));
    }
    node.entries().unwrap_or(&[])
}
