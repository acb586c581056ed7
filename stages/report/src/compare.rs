//! What differs between two tables, in sentences.

use std::path::Path;

use contract::StageError;

use crate::{ClaimResult, TableData};

/// One line a value or verdict that differs, in the order of the second table; what only one of them has is named.
pub fn compare(old: &Path, new: &Path) -> Result<Vec<String>, StageError> {
    let (old, new) = (TableData::read(old)?, TableData::read(new)?);
    let mut lines = Vec::new();
    if old.value != new.value {
        return Ok(vec![format!("shows {} instead of {}", new.value, old.value)]);
    }
    for (place, column) in new.columns.iter().enumerate() {
        let before = old.columns.iter().position(|known| known.name == column.name);
        for row in &new.rows {
            let cell = row.cells[place].as_ref();
            let earlier = before.and_then(|before| {
                old.rows.iter().find(|known| known.name == row.name)?.cells[before].as_ref()
            });
            let name = format!("{}.{}", row.name, column.name);
            match (earlier, cell) {
                (Some(old), Some(cell)) if old.mean != cell.mean || old.interval != cell.interval => {
                    let (from, to) = (new.mean(old), new.mean(cell));
                    lines.push(format!("{name}: {from} -> {to} ({})", new.signed(cell.mean - old.mean)));
                }
                (Some(old), None) => lines.push(format!("{name}: {} -> missing", new.mean(old))),
                (None, Some(cell)) => lines.push(format!("{name}: new, {}", new.mean(cell))),
                (Some(_), Some(_)) | (None, None) => {}
            }
        }
    }
    for (what, gone) in [
        ("row", gone(old.rows.iter().map(|row| &row.name), new.rows.iter().map(|row| &row.name))),
        ("column", gone(old.columns.iter().map(|c| &c.name), new.columns.iter().map(|c| &c.name))),
    ] {
        lines.extend(gone.into_iter().map(|name| format!("{what} {name}: gone")));
    }
    for claim in &new.claims {
        let earlier = old.claims.iter().find(|known| known.name == claim.name);
        let words = |claim: &ClaimResult| claim.verdict.to_string();
        match earlier.map(words) {
            Some(before) if before != words(claim) => {
                lines.push(format!("claim {}: {before} -> {}", claim.name, claim.verdict));
            }
            Some(_) => {}
            None => lines.push(format!("claim {}: new, {}", claim.name, claim.verdict)),
        }
    }
    Ok(lines)
}

fn gone<'a>(old: impl Iterator<Item = &'a String>, new: impl Iterator<Item = &'a String>) -> Vec<&'a String> {
    let new: Vec<&String> = new.collect();
    old.filter(|name| !new.contains(name)).collect()
}
