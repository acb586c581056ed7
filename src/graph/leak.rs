//! Invariant 10: held-out questions never reach a port that trains.
//!
//! Questions are held out by what a cell says of itself, and by what it reads: a file that another cell of the same kind
//! holds out stays held out under any other split, name or path. So does each of its questions: where a kind tells the
//! questions of its files ([`contract::Stage::items`]), one of them in another file is found whatever its line, id, case or
//! spacing; other files are compared byte by byte. A port that leaves questions out ([`PortFlow::Excludes`]) lifts this for
//! the cells it is joined to. Questions told in other words are not found out here.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    fs::{self, File},
    io::{self, BufReader, Read},
    path::{Path, PathBuf},
    rc::Rc,
};

use contract::{Digest, Item, PortFlow};

use super::{Cell, Draft, Graph};
use crate::recipe::Diagnostic;

/// Questions named in a message; more are counted.
const NAMED: usize = 3;

/// Where held-out questions come from.
#[derive(Clone)]
struct Origin {
    /// The cell that holds them out.
    cell: usize,
    /// How they are read again as if they were not.
    read_again: Option<Rc<ReadAgain>>,
}

/// A cell that reads questions another one holds out.
struct ReadAgain {
    reader: usize,
    /// Its file.
    own: PathBuf,
    /// The file held out.
    file: PathBuf,
    how: Reading,
}

enum Reading {
    /// The two are one file.
    Same,
    /// Their bytes are equal.
    Copy,
    /// Questions that both hold, as the reader's file has them; how many are held out, and how many it reads.
    Questions { shared: Vec<Item>, held_out: usize, read: usize },
}

impl Graph {
    pub(super) fn refuse_leaks(&self, drafts: &[Draft<'_>], mistakes: &mut Vec<Diagnostic>) {
        let mut guard = Guard::new(&self.cells);
        let mut origin: Vec<Option<Origin>> = vec![None; self.cells.len()];
        let mut said = BTreeSet::new();
        for (index, cell) in self.cells.iter().enumerate() {
            origin[index] = if cell.kind.held_out(&cell.params) {
                Some(Origin { cell: index, read_again: None })
            } else {
                guard.read_again(index, cell, left_out(cell, &origin))
            };
            for port in cell.kind.inputs() {
                for source in cell.inputs.get(port.name).into_iter().flatten() {
                    let Some(from) = origin[source.cell].clone() else { continue };
                    match port.flow {
                        PortFlow::Carries => origin[index] = Some(from),
                        PortFlow::Measures | PortFlow::Excludes => {}
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
        let Some(read_again) = &from.read_again else { return mistake };
        let ReadAgain { reader, own, file, how } = &**read_again;
        let reader = &self.cells[*reader];
        let mistake = mistake
            .note(drafts[held_out.stage].span, format!("`{}` holds out `{}`", held_out.name, file.display()))
            .note(
                drafts[reader.stage].span,
                format!("`{}` reads {}: `{}`", reader.name, how.told(), own.display()),
            );
        let excludes = reader.kind.inputs().iter().find(|port| port.flow == PortFlow::Excludes);
        match excludes {
            Some(port) if how.is_part() => mistake.help(format!(
                "or leave them out: `needs: {{{}: {}}}` in stage `{}`",
                port.name, self.stages[held_out.stage].name, self.stages[reader.stage].name
            )),
            Some(_) | None => mistake,
        }
    }
}

impl Reading {
    /// Whether the reader has other questions besides.
    fn is_part(&self) -> bool {
        match self {
            Self::Same | Self::Copy => false,
            Self::Questions { shared, read, .. } => shared.len() < *read,
        }
    }

    /// What is read, for a sentence.
    fn told(&self) -> String {
        match self {
            Self::Same => "the same file".to_owned(),
            Self::Copy => "a copy of it".to_owned(),
            Self::Questions { shared, held_out, .. } => {
                let named = shared.iter().take(NAMED);
                let named: Vec<String> =
                    named.map(|item| format!("`{}` in line {}", item.id, item.line)).collect();
                let more = match shared.len().saturating_sub(NAMED) {
                    0 => String::new(),
                    more => format!(" and {more} more"),
                };
                format!("{} of these {held_out} questions, {}{more}", shared.len(), named.join(", "))
            }
        }
    }
}

/// The held-out cells whose questions an input port of a cell leaves out.
fn left_out(cell: &Cell, origin: &[Option<Origin>]) -> BTreeSet<usize> {
    let excludes = cell.kind.inputs().iter().filter(|port| port.flow == PortFlow::Excludes);
    let sources = excludes.filter_map(|port| cell.inputs.get(port.name)).flatten();
    sources.filter_map(|source| origin[source.cell].as_ref()).map(|origin| origin.cell).collect()
}

/// A file of questions that a cell holds out.
struct HeldOut<'g> {
    cell: usize,
    written: &'g Path,
    real: PathBuf,
    /// What its questions are known by, where its kind tells.
    identities: Option<Rc<HashSet<Digest>>>,
}

/// Finds what is held out in the files of other cells.
struct Guard<'g> {
    held_out: BTreeMap<&'static str, Vec<HeldOut<'g>>>,
    /// By kind, params and what is left out: cells of one stage often read one file, and each is compared once.
    found: HashMap<(&'static str, String, BTreeSet<usize>), Option<Origin>>,
}

impl<'g> Guard<'g> {
    fn new(cells: &'g [Cell]) -> Self {
        let mut held_out: BTreeMap<&str, Vec<HeldOut>> = BTreeMap::new();
        let reads = |cell: &&Cell| !cell.files.is_empty() && !cell.kind.held_out(&cell.params);
        let readers: BTreeSet<&str> = cells.iter().filter(reads).map(|cell| cell.kind.name()).collect();
        let mut known: HashMap<String, Option<Rc<HashSet<Digest>>>> = HashMap::new();
        for (index, cell) in cells.iter().enumerate() {
            let kind = cell.kind;
            if cell.files.is_empty() || !readers.contains(kind.name()) || !kind.held_out(&cell.params) {
                continue;
            }
            let identities = known.entry(format!("{} {}", kind.name(), cell.params)).or_insert_with(|| {
                Some(Rc::new(kind.items(&cell.params)?.into_iter().map(|item| item.identity).collect()))
            });
            held_out.entry(kind.name()).or_default().extend(cell.files.iter().map(|(_, path)| HeldOut {
                cell: index,
                written: path,
                real: real(path),
                identities: identities.clone(),
            }));
        }
        Self { held_out, found: HashMap::new() }
    }

    /// What a cell reads of that which other cells hold out, some of them aside.
    fn read_again(&mut self, index: usize, cell: &Cell, left_out: BTreeSet<usize>) -> Option<Origin> {
        let held_out = self.held_out.get(cell.kind.name()).filter(|_| !cell.files.is_empty())?;
        let key = (cell.kind.name(), cell.params.to_string(), left_out);
        if let Some(found) = self.found.get(&key) {
            return found.clone();
        }
        let held_out: Vec<&HeldOut> = held_out.iter().filter(|file| !key.2.contains(&file.cell)).collect();
        let found = same_file(index, cell, &held_out).or_else(|| same_questions(index, cell, &held_out));
        self.found.insert(key, found.clone());
        found
    }
}

impl HeldOut<'_> {
    fn origin(&self, reader: usize, own: &Path, how: Reading) -> Origin {
        let read_again = ReadAgain { reader, own: own.to_owned(), file: self.written.to_owned(), how };
        Origin { cell: self.cell, read_again: Some(Rc::new(read_again)) }
    }
}

/// A file that is held out under another name, or a copy of one.
fn same_file(reader: usize, cell: &Cell, held_out: &[&HeldOut<'_>]) -> Option<Origin> {
    let pairs = cell.files.iter().flat_map(|(_, own)| held_out.iter().map(move |file| (own, file)));
    pairs.into_iter().find_map(|(own, file)| {
        let at = real(own);
        let same = (file.real == at).then_some(Reading::Same);
        let how = same.or_else(|| same_content(&file.real, &at).unwrap_or(false).then_some(Reading::Copy))?;
        Some(file.origin(reader, own, how))
    })
}

/// Questions that are held out among those of a cell's file.
fn same_questions(reader: usize, cell: &Cell, held_out: &[&HeldOut<'_>]) -> Option<Origin> {
    let (_, own) = cell.files.first()?;
    let items = cell.kind.items(&cell.params)?;
    held_out.iter().find_map(|file| {
        let known = file.identities.as_ref()?;
        let mut met = HashSet::new();
        let shared = items.iter().filter(|item| known.contains(&item.identity) && met.insert(&item.identity));
        let shared: Vec<Item> = shared.cloned().collect();
        (!shared.is_empty()).then(|| {
            let how = Reading::Questions { shared, held_out: known.len(), read: items.len() };
            file.origin(reader, own, how)
        })
    })
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
