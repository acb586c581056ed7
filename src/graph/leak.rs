//! Invariant 10: held-out questions never reach a port that trains.
//!
//! Questions are held out by what a cell says of itself, and by what it reads: a file that another cell of the same kind
//! holds out stays held out under any other split, name or path, its copies included. Files that overlap only in part
//! are not found out here.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{self, BufReader, Read},
    path::{Path, PathBuf},
};

use contract::PortFlow;

use super::{Draft, Graph};
use crate::recipe::Diagnostic;

/// Where held-out questions come from.
#[derive(Clone)]
struct Origin {
    /// The cell that holds them out.
    cell: usize,
    /// The cell that reads the same questions as if they were not, with its file and the one held out.
    read_again: Option<(usize, PathBuf, PathBuf)>,
}

/// A file of questions that a cell holds out.
struct HeldOut {
    cell: usize,
    written: PathBuf,
    real: PathBuf,
}

impl Graph {
    pub(super) fn refuse_leaks(&self, drafts: &[Draft<'_>], mistakes: &mut Vec<Diagnostic>) {
        let held_out = self.held_out_files();
        // Cells of one stage often read one file: each is compared once.
        let mut compared: BTreeMap<(&str, &Path), Option<Origin>> = BTreeMap::new();
        let mut origin: Vec<Option<Origin>> = vec![None; self.cells.len()];
        let mut said = BTreeSet::new();
        for (index, cell) in self.cells.iter().enumerate() {
            if cell.kind.held_out(&cell.params) {
                origin[index] = Some(Origin { cell: index, read_again: None });
            } else if let Some(held_out) = held_out.get(cell.kind.name()) {
                for (_, path) in &cell.files {
                    let found = compared.entry((cell.kind.name(), path));
                    let found = found.or_insert_with(|| read_again(index, path, held_out));
                    origin[index] = origin[index].take().or_else(|| found.clone());
                }
            }
            for port in cell.kind.inputs() {
                for source in cell.inputs.get(port.name).into_iter().flatten() {
                    let Some(from) = origin[source.cell].clone() else { continue };
                    match port.flow {
                        PortFlow::Carries => origin[index] = Some(from),
                        PortFlow::Measures => {}
                        PortFlow::Trains => {
                            if said.insert((cell.stage, port.name)) {
                                mistakes.push(self.leak(&from, index, port.name, drafts));
                            }
                        }
                    }
                }
            }
        }
    }

    /// The files that cells hold out, by kind.
    fn held_out_files(&self) -> BTreeMap<&str, Vec<HeldOut>> {
        let mut files: BTreeMap<&str, Vec<HeldOut>> = BTreeMap::new();
        for (index, cell) in self.cells.iter().enumerate() {
            if cell.kind.held_out(&cell.params) {
                for (_, path) in &cell.files {
                    let known = files.entry(cell.kind.name()).or_default();
                    let real = real(path);
                    if known.iter().all(|file| file.real != real) {
                        known.push(HeldOut { cell: index, written: path.clone(), real });
                    }
                }
            }
        }
        files
    }

    fn leak(&self, from: &Origin, cell: usize, port: &str, drafts: &[Draft<'_>]) -> Diagnostic {
        let (held_out, cell) = (&self.cells[from.cell], &self.cells[cell]);
        let need = drafts[cell.stage].needs.iter().find(|need| need.port.name == port);
        let span = need.map_or(drafts[cell.stage].span, |need| need.span);
        let message = format!(
            "held-out questions of `{}` reach `{port}` of `{}`, which trains",
            held_out.name, cell.name
        );
        let mistake = Diagnostic::at(span, message).help(
            "a number measured on questions the student has seen is worth nothing: use another split here",
        );
        let Some((reader, own, file)) = &from.read_again else { return mistake };
        let reader = &self.cells[*reader];
        let how = if real(own) == real(file) { "the same file" } else { "a copy of it" };
        mistake
            .note(drafts[held_out.stage].span, format!("`{}` holds out `{}`", held_out.name, file.display()))
            .note(drafts[reader.stage].span, format!("`{}` reads {how}: `{}`", reader.name, own.display()))
    }
}

/// Whether a file holds the questions of one that is held out.
fn read_again(reader: usize, path: &Path, held_out: &[HeldOut]) -> Option<Origin> {
    let own = real(path);
    let same = |file: &&HeldOut| file.real == own || same_content(&file.real, &own).unwrap_or(false);
    let file = held_out.iter().find(same)?;
    let read_again = Some((reader, path.to_owned(), file.written.clone()));
    Some(Origin { cell: file.cell, read_again })
}

fn real(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

/// Whether two files hold the same bytes; they are read only where their sizes are equal.
fn same_content(one: &Path, other: &Path) -> io::Result<bool> {
    let (a, b) = (fs::metadata(one)?, fs::metadata(other)?);
    if !a.is_file() || !b.is_file() || a.len() != b.len() {
        return Ok(false);
    }
    let (mut a, mut b) =
        (BufReader::new(File::open(one)?).bytes(), BufReader::new(File::open(other)?).bytes());
    loop {
        match (a.next().transpose()?, b.next().transpose()?) {
            (None, None) => return Ok(true),
            (a, b) if a != b => return Ok(false),
            _ => {}
        }
    }
}
