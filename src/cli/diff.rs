//! `diff`: what changed between two runs: cells field by field, tables value by value, files of artifacts.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use contract::{ArtifactType, Digest};

use super::{CliError, exit, print};
use crate::{
    fingerprint::{Change, Fingerprint, changes},
    kinds::Kinds,
    log,
    reporter::counted,
    store::{CellRecord, Store, list},
};

/// A run's finished cells, those it reused included.
struct Side {
    id: String,
    cells: BTreeMap<String, Fingerprint>,
}

/// Prints what differs between two runs of a store.
pub(super) fn diff(kinds: &Kinds, store: &Store, from: &str, to: &str) -> Result<u8, CliError> {
    let (from, to) = (side(store, from)?, side(store, to)?);
    let mut text = format!("{} -> {}\n", from.id, to.id);
    let only = |a: &Side, b: &Side| -> Vec<String> {
        a.cells.keys().filter(|cell| !b.cells.contains_key(*cell)).cloned().collect()
    };
    for (side, cells) in [(&from, only(&from, &to)), (&to, only(&to, &from))] {
        if !cells.is_empty() {
            writeln!(text, "\nonly in {}: {}", side.id, cells.join(", ")).ok();
        }
    }
    let mut changed = Vec::new();
    let mut gone = Vec::new();
    for (cell, old) in &from.cells {
        let Some(new) = to.cells.get(cell).filter(|new| *new != old) else { continue };
        match (store.record(old), store.record(new)) {
            (Some(old), Some(new)) => changed.push((cell.as_str(), old, new)),
            (None, _) | (_, None) => gone.push(cell.as_str()),
        }
    }
    causes(&changed, &mut text);
    tables(kinds, store, &changed, &mut text)?;
    artifacts(kinds, store, &changed, &mut text)?;
    if !gone.is_empty() {
        let results = counted(gone.len(), "cell");
        writeln!(text, "\nchanged, but no longer in the store: {results}: {}", gone.join(", ")).ok();
    }
    if from.cells == to.cells {
        text.push_str("\nno difference: the same cells with the same fingerprints\n");
    }
    print(&text);
    Ok(exit::DONE)
}

/// Reads what a run ended with.
fn side(store: &Store, id: &str) -> Result<Side, CliError> {
    let known = || log::runs(store).into_iter().map(|run| run.id).collect::<Vec<_>>();
    let events = log::events(store, id);
    if events.is_empty() {
        let known = known();
        let help = crate::recipe::suggest(id, known.iter().map(String::as_str))
            .map_or("`retort runs` lists them".to_owned(), |near| format!("did you mean `{near}`?"));
        return Err(CliError::Asked { message: format!("there is no run `{id}`"), help: Some(help) });
    }
    let end = events.last().filter(|event| event["event"] == "end");
    let cells = end.and_then(|end| serde_json::from_value(end["cells"].clone()).ok());
    let cells = cells.ok_or_else(|| CliError::Asked {
        message: match end {
            None => format!("run `{id}` did not end, so what it had is not known"),
            Some(_) => {
                format!("run `{id}` was written by an earlier version, which did not note what it had")
            }
        },
        help: Some("`retort runs` lists the others".to_owned()),
    })?;
    Ok(Side { id: id.to_owned(), cells })
}

/// What differs in params, versions and files; cells that only read something else are counted.
fn causes(changed: &[(&str, CellRecord, CellRecord)], text: &mut String) {
    let mut groups: Vec<(String, Vec<String>, Vec<&str>)> = Vec::new();
    let mut follow: BTreeMap<&str, usize> = BTreeMap::new();
    for (cell, old, new) in changed {
        let input = |change: &Change| change.field.starts_with("input ");
        let own: Vec<String> = changes(&old.cell, &new.cell)
            .iter()
            .filter(|change| !input(change))
            .map(ToString::to_string)
            .collect();
        let stage = stage(cell);
        if own.is_empty() {
            *follow.entry(stage).or_default() += 1;
            continue;
        }
        match groups.iter_mut().find(|group| group.0 == stage && group.1 == own) {
            Some(group) => group.2.push(cell),
            None => groups.push((stage.to_owned(), own, vec![cell])),
        }
    }
    if !groups.is_empty() {
        text.push_str("\nrecipe\n");
    }
    for (stage, own, cells) in groups {
        let name =
            if let [cell] = cells[..] { cell.to_owned() } else { format!("{stage} ({} cells)", cells.len()) };
        writeln!(text, "  {name}").ok();
        for change in own {
            writeln!(text, "    {change}").ok();
        }
    }
    if !follow.is_empty() {
        let stages: Vec<String> =
            follow.iter().map(|(stage, count)| format!("{stage} ({})", counted(*count, "cell"))).collect();
        writeln!(text, "  other inputs only: {}", stages.join(", ")).ok();
    }
}

/// The stage a cell's name begins with.
fn stage(cell: &str) -> &str {
    cell.split('[').next().unwrap_or(cell)
}

/// The results that differ.
fn tables(
    kinds: &Kinds,
    store: &Store,
    changed: &[(&str, CellRecord, CellRecord)],
    text: &mut String,
) -> Result<(), CliError> {
    for (cell, old, new) in changed {
        for (_, old, new) in
            outputs(kinds, old, new).filter(|(artifact, _, _)| *artifact == ArtifactType::Table)
        {
            writeln!(text, "\n{cell}").ok();
            let lines = (kinds.compare_tables)(&store.object(old), &store.object(new))?;
            for line in &lines {
                writeln!(text, "  {line}").ok();
            }
            if lines.is_empty() {
                text.push_str("  no value differs\n");
            }
        }
    }
    Ok(())
}

/// The artifacts that differ, stage by stage, with the files of figures.
fn artifacts(
    kinds: &Kinds,
    store: &Store,
    changed: &[(&str, CellRecord, CellRecord)],
    text: &mut String,
) -> Result<(), CliError> {
    let mut other: BTreeMap<String, (usize, BTreeSet<String>)> = BTreeMap::new();
    for (cell, old, new) in changed {
        for (artifact, old, new) in outputs(kinds, old, new).filter(|(_, old, new)| old != new) {
            let entry = other.entry(format!("{} of {}", artifact.name(), stage(cell))).or_default();
            entry.0 += 1;
            if artifact == ArtifactType::Figures {
                entry.1.extend(files_that_differ(store, old, new)?);
            }
        }
    }
    if !other.is_empty() {
        text.push_str("\nartifacts that differ\n");
    }
    for (what, (count, files)) in other {
        let files: Vec<String> = files.into_iter().collect();
        let files = if files.is_empty() { String::new() } else { format!(": {}", files.join(", ")) };
        writeln!(text, "  {what} ({count}){files}").ok();
    }
    Ok(())
}

/// Outputs of the same port in two records of a cell.
fn outputs<'r>(
    kinds: &'r Kinds,
    old: &'r CellRecord,
    new: &'r CellRecord,
) -> impl Iterator<Item = (ArtifactType, &'r Digest, &'r Digest)> {
    let kind = kinds.all.iter().find(|kind| kind.name() == new.cell.kind);
    let ports = kind.map_or(&[][..], |kind| kind.outputs()).iter();
    ports.filter_map(|port| Some((port.artifact, old.outputs.get(port.name)?, new.outputs.get(port.name)?)))
}

fn files_that_differ(store: &Store, old: &Digest, new: &Digest) -> Result<BTreeSet<String>, CliError> {
    let (old, new) = (store.object(old), store.object(new));
    let (before, after) = (list(&old)?, list(&new)?);
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let differs = |name: &&&String| {
        before.get(**name) != after.get(**name)
            || std::fs::read(old.join(name)).ok() != std::fs::read(new.join(name)).ok()
    };
    Ok(names.iter().filter(differs).map(|name| (*name).clone()).collect())
}
