//! Where text came from: files, `--set` arguments, and places in them.

use std::path::{Path, PathBuf};

/// One text in a [`SourceMap`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceId(pub u16);

/// A place in a source. Lines and columns count from 1, columns and lengths in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// The text it is in.
    pub source: SourceId,
    /// The line, from 1.
    pub line: u32,
    /// The column of the first character, from 1.
    pub column: u32,
    /// How many characters, all on that line.
    pub length: u32,
}

/// A value and where it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// Where it was written.
    pub span: Span,
}

impl<T> Spanned<T> {
    /// A value with its place.
    pub fn new(value: T, span: Span) -> Self {
        Self { value, span }
    }
}

/// Every text a recipe was read from: its file, the files it includes, and the `--set` arguments.
#[derive(Clone, Debug, Default)]
pub struct SourceMap {
    sources: Vec<Source>,
}

#[derive(Clone, Debug)]
struct Source {
    name: String,
    folder: PathBuf,
    text: String,
    /// Byte offset at which each line starts.
    lines: Vec<usize>,
}

impl SourceMap {
    /// Adds a file's text; relative paths in it start from the file's folder.
    pub fn add_file(&mut self, path: &Path, text: String) -> SourceId {
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        self.add(path.display().to_string(), folder, text)
    }

    /// Adds the argument of a `--set`; relative paths in it start from the current folder.
    pub fn add_set(&mut self, argument: &str) -> SourceId {
        self.add(format!("--set {argument}"), PathBuf::new(), argument.to_owned())
    }

    fn add(&mut self, name: String, folder: PathBuf, text: String) -> SourceId {
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        self.sources.push(Source { name, folder, text, lines });
        let last = self.sources.len() - 1;
        SourceId(u16::try_from(last).expect("the loader bounds files and `--set` arguments"))
    }

    /// The folder that relative paths in this source start from; empty for the current folder.
    pub fn dir(&self, source: SourceId) -> &Path {
        &self.get(source).folder
    }

    /// Every text with the name it goes by, files and `--set` arguments, in the order they were read.
    pub fn all(&self) -> impl Iterator<Item = (&str, &str)> {
        self.sources.iter().map(|source| (source.name.as_str(), source.text.as_str()))
    }

    /// The name shown to people: the file's path, or `--set ARGUMENT`.
    pub fn name(&self, source: SourceId) -> &str {
        &self.get(source).name
    }

    /// The whole text.
    pub fn text(&self, source: SourceId) -> &str {
        &self.get(source).text
    }

    /// A line of the text, from 1, without its line break; empty past the end.
    pub fn line(&self, source: SourceId, line: u32) -> &str {
        let source = self.get(source);
        let index = (line as usize).saturating_sub(1);
        let Some(&start) = source.lines.get(index) else { return "" };
        let end = source.lines.get(index + 1).copied().unwrap_or(source.text.len());
        source.text[start..end].trim_end_matches(['\n', '\r'])
    }

    /// `FILE:LINE:COLUMN`.
    pub fn place(&self, span: Span) -> String {
        format!("{}:{}:{}", self.name(span.source), span.line, span.column)
    }

    fn get(&self, source: SourceId) -> &Source {
        &self.sources[usize::from(source.0)]
    }
}
