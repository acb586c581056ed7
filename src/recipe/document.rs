//! A recipe file, the files it includes and the `--set` arguments to one tree.
//!
//! Knows nothing about the keys of a recipe except `include`.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::{Diagnostic, Node, NodeValue, SourceId, SourceMap, Span, Spanned, parse};

/// The largest recipe file, bytes.
const FILE_SIZE: u64 = 4 << 20;
/// The most files a recipe is read from.
const FILES: usize = 64;
/// The most `--set` arguments.
const SETS: usize = 1000;

/// Reads everything. `None` where a file is missing from the tree; the flag is false where a `--set` is.
pub(super) fn assemble(
    path: &Path,
    sets: &[String],
    sources: &mut SourceMap,
    out: &mut Vec<Diagnostic>,
) -> Option<(Node, bool)> {
    let mut loader = Loader { sources, out, open: Vec::new(), done: BTreeMap::new() };
    let mut document = loader.file(path, None)?;
    if sets.len() > SETS {
        out.push(Diagnostic::general(format!("more than {SETS} `--set` arguments")));
        return None;
    }
    let mut complete = true;
    for argument in sets {
        let source = sources.add_set(argument);
        complete &= apply_set(&mut document, argument, source, out).is_some();
    }
    Some((document, complete))
}

struct Loader<'a> {
    sources: &'a mut SourceMap,
    out: &'a mut Vec<Diagnostic>,
    /// The files being read, each included by the one before.
    open: Vec<(PathBuf, PathBuf)>,
    /// Files already read, with their includes merged in.
    done: BTreeMap<PathBuf, Option<Node>>,
}

impl Loader<'_> {
    fn file(&mut self, path: &Path, included_at: Option<Span>) -> Option<Node> {
        let place = |message: String| match included_at {
            Some(span) => Diagnostic::at(span, message),
            None => Diagnostic::general(message),
        };
        let (identity, bytes) = match read(path) {
            Ok(read) => read,
            Err(problem) => {
                self.out.push(place(format!("cannot read `{}`: {problem}", path.display())));
                return None;
            }
        };
        if let Some(start) = self.open.iter().position(|(open, _)| *open == identity) {
            let shown = self.open[start..].iter().map(|(_, path)| path.as_path()).chain([path]);
            let cycle: Vec<String> = shown.map(|path| format!("`{}`", path.display())).collect();
            self.out.push(place(format!("files include each other: {}", cycle.join(" -> "))));
            return None;
        }
        if let Some(done) = self.done.get(&identity) {
            return done.clone();
        }
        if self.done.len() + self.open.len() >= FILES {
            self.out.push(place(format!("more than {FILES} files")));
            return None;
        }
        self.open.push((identity.clone(), path.to_owned()));
        let node = self.decode(path, bytes).and_then(|node| self.includes(node, path));
        self.open.pop();
        self.done.insert(identity, node.clone());
        node
    }

    fn decode(&mut self, path: &Path, bytes: Vec<u8>) -> Option<Node> {
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
        let valid = match std::str::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => {
                let before = std::str::from_utf8(&bytes[..error.valid_up_to()]).expect("valid up to here");
                let byte = bytes[error.valid_up_to()];
                let span_of = end_of(before);
                let source = self.sources.add_file(path, String::from_utf8_lossy(bytes).into_owned());
                let message = format!("not UTF-8: byte 0x{byte:02x}");
                self.out.push(Diagnostic::at(span_of(source), message).help("save the file as UTF-8"));
                return None;
            }
        };
        let source = self.sources.add_file(path, valid.to_owned());
        if let Some(control) = find_control(valid) {
            let code = u32::from(valid[control..].chars().next().unwrap_or('\0'));
            let span = end_of(&valid[..control])(source);
            self.out.push(Diagnostic::at(span, format!("control character U+{code:04X}")));
            return None;
        }
        parse::parse(valid, source, 0, self.out)
    }

    /// Takes `include` out of a file's tree and merges the tree over what it includes.
    fn includes(&mut self, mut node: Node, path: &Path) -> Option<Node> {
        let NodeValue::Mapping(entries) = &mut node.value else { return Some(node) };
        let Some(at) = entries.iter().position(|(key, _)| key.value == "include") else { return Some(node) };
        let (_, include) = entries.remove(at);
        let folder = path.parent().unwrap_or(Path::new(""));
        let paths = match &include.value {
            NodeValue::Sequence(items) => items.as_slice(),
            NodeValue::Scalar(_) | NodeValue::Mapping(_) => std::slice::from_ref(&include),
        };
        let mut base: Option<Node> = None;
        let mut complete = true;
        for path in paths {
            let included = match path.as_str() {
                Some(text) => self.file(&folder.join(text), Some(path.span)),
                None => {
                    let message =
                        format!("`include`: expected the path of a file, found {}", path.describe());
                    self.out.push(Diagnostic::at(path.span, message));
                    None
                }
            };
            let Some(included) = included else {
                complete = false;
                continue;
            };
            if included.entries().is_none() {
                let message = "an included file must hold a mapping";
                self.out.push(Diagnostic::at(path.span, message));
                complete = false;
                continue;
            }
            base = Some(match base {
                Some(base) => merge(base, included),
                None => included,
            });
        }
        match base {
            _ if !complete => None,
            Some(base) => Some(merge(base, node)),
            None => Some(node),
        }
    }
}

/// Mappings merge key by key; anything else is replaced.
fn merge(base: Node, over: Node) -> Node {
    match (base.value, over.value) {
        (NodeValue::Mapping(mut merged), NodeValue::Mapping(entries)) => {
            let places: BTreeMap<String, usize> =
                merged.iter().enumerate().map(|(index, (key, _))| (key.value.clone(), index)).collect();
            for (key, node) in entries {
                match places.get(&key.value) {
                    Some(&index) => {
                        let below = std::mem::replace(&mut merged[index].1, Node::empty_mapping(key.span));
                        merged[index] = (key, merge(below, node));
                    }
                    None => merged.push((key, node)),
                }
            }
            Node::new(NodeValue::Mapping(merged), over.span)
        }
        (_, value) => Node::new(value, over.span),
    }
}

fn apply_set(document: &mut Node, argument: &str, source: SourceId, out: &mut Vec<Diagnostic>) -> Option<()> {
    let whole = Span { source, line: 1, column: 1, length: length(argument) };
    let Some((path, text)) = argument.split_once('=') else {
        out.push(Diagnostic::at(whole, "expected `PATH=VALUE`, such as `vars.data=data/gsm8k`"));
        return None;
    };
    if let Some(control) = find_control(argument) {
        out.push(Diagnostic::at(end_of(&argument[..control])(source), "a control character"));
        return None;
    }
    let value = parse::parse(text, source, length(path) + 1, out)?;
    let mut names = Vec::new();
    let mut column = 1;
    for name in path.split('.') {
        let span = Span { source, line: 1, column, length: length(name).max(1) };
        names.push(Spanned::new(name.to_owned(), span));
        column += length(name) + 1;
    }
    if let Some(empty) = names.iter().find(|name| name.value.is_empty()) {
        out.push(Diagnostic::at(empty.span, format!("`{path}` has an empty part")));
        return None;
    }
    if names[0].value == "include" {
        out.push(Diagnostic::at(names[0].span, "`include` can only be written in a file"));
        return None;
    }
    let last = names.pop().expect("splitting gives at least one part");
    let mut node = document;
    for (depth, name) in names.iter().enumerate() {
        let parent = path_text(&names[..depth]);
        node = step(node, name, &parent).map_err(|mistake| out.push(mistake)).ok()?;
    }
    let parent = path_text(&names);
    if let NodeValue::Scalar(serde_json::Value::Null) = node.value {
        node.value = NodeValue::Mapping(Vec::new());
    }
    if let NodeValue::Mapping(entries) = &mut node.value
        && !entries.iter().any(|(key, _)| key.value == last.value)
    {
        entries.push((last, value));
        return Some(());
    }
    *step(node, &last, &parent).map_err(|mistake| out.push(mistake)).ok()? = value;
    Some(())
}

/// The child of a node: a key of a mapping or an index of a list.
fn step<'a>(node: &'a mut Node, name: &Spanned<String>, parent: &str) -> Result<&'a mut Node, Diagnostic> {
    let found = node.describe();
    match &mut node.value {
        NodeValue::Mapping(entries) => match entries.iter().position(|(key, _)| key.value == name.value) {
            Some(index) => Ok(&mut entries[index].1),
            None => Err(Diagnostic::at(name.span, format!("{parent} has no key `{}`", name.value))
                .suggest(&name.value, entries.iter().map(|(key, _)| key.value.as_str()))),
        },
        NodeValue::Sequence(items) => {
            let count = items.len();
            let index = name.value.parse::<usize>().ok();
            index.and_then(|index| items.get_mut(index)).ok_or_else(|| {
                Diagnostic::at(
                    name.span,
                    format!("{parent} is a list of {count}, it has no `{}`", name.value),
                )
                .help(format!("an index is a number from 0, below {count}"))
            })
        }
        NodeValue::Scalar(_) => {
            Err(Diagnostic::at(name.span, format!("{parent} is {found}, it has no `{}`", name.value)))
        }
    }
}

fn path_text(names: &[Spanned<String>]) -> String {
    if names.is_empty() {
        return "the recipe".to_owned();
    }
    let names: Vec<&str> = names.iter().map(|name| name.value.as_str()).collect();
    format!("`{}`", names.join("."))
}

fn length(text: &str) -> u32 {
    u32::try_from(text.chars().count()).unwrap_or(u32::MAX / 2)
}

/// The file's identity and content, or why it cannot be read.
fn read(path: &Path) -> Result<(PathBuf, Vec<u8>), String> {
    let reason = |error: std::io::Error| {
        let text = error.to_string();
        text.split(" (os error").next().unwrap_or(&text).to_lowercase()
    };
    let identity = std::fs::canonicalize(path).map_err(reason)?;
    let file = std::fs::File::open(path).map_err(reason)?;
    let mut bytes = Vec::new();
    file.take(FILE_SIZE + 1).read_to_end(&mut bytes).map_err(reason)?;
    if bytes.len() as u64 > FILE_SIZE {
        return Err(format!("larger than {} MiB", FILE_SIZE >> 20));
    }
    Ok((identity, bytes))
}

/// Where a character is that YAML forbids: the parser would take a NUL for the end of the file.
fn find_control(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let forbidden = |at: usize| match bytes[at] {
        b'\r' => bytes.get(at + 1) != Some(&b'\n'),
        byte => byte == 0x7f || byte < 0x20 && !matches!(byte, b'\t' | b'\n'),
    };
    (0..bytes.len()).find(|&at| forbidden(at))
}

/// The place right after a text, in the source it starts.
fn end_of(text: &str) -> impl Fn(SourceId) -> Span {
    let line = text.matches('\n').count() + 1;
    let column = text.rsplit('\n').next().unwrap_or("").chars().count() + 1;
    let small = |value: usize| u32::try_from(value).unwrap_or(u32::MAX / 2);
    move |source| Span { source, line: small(line), column: small(column), length: 1 }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use crate::recipe::tests::{load_files, show};

    const STAGE: &str = "recipe: x\nstages: {a: {uses: b, with: {n: 1, list: [1, 2]}}}\n";

    fn set(sets: &[&str]) -> Result<String, Vec<String>> {
        load_files(&[("recipe.yaml", STAGE)], sets)
            .map(|recipe| recipe.stages[0].with.to_json().to_string())
            .map_err(|error| show(&error))
    }

    #[test]
    fn included_files_are_merged_under() {
        let files = [
            (
                "recipes/main.yaml",
                "include: [../base.yaml, near.yaml]\nrecipe: main\nstages: {a: {with: {n: 2}}}\n",
            ),
            (
                "base.yaml",
                "recipe: base\nabout: b\nvars: {p: file}\nstages: {a: {uses: base, with: {m: 1, n: 1}}}\n",
            ),
            ("recipes/near.yaml", "stages: {a: {uses: near}, b: {uses: c}}\n"),
        ];
        let recipe = load_files(&files, &[]).unwrap();
        assert_eq!((recipe.name.as_str(), recipe.about.as_deref()), ("main", Some("b")));
        assert_eq!(recipe.stages[0].uses.value, "near");
        assert_eq!(recipe.stages[0].with.to_json().to_string(), r#"{"m":1,"n":2}"#);
        assert_eq!(recipe.stages[1].name.value, "b");
        let span = recipe.vars["p"].span;
        assert!(recipe.sources.name(span.source).ends_with("base.yaml"));
        assert!(recipe.sources.dir(span.source).ends_with("recipes/.."));
        assert!(recipe.sources.dir(recipe.stages[1].uses.span.source).ends_with("recipes"));
    }

    #[test]
    fn a_file_can_be_reached_twice_but_not_from_itself() {
        let files = [
            ("main.yaml", "include: [a.yaml, b.yaml]\nrecipe: x\n"),
            ("a.yaml", "include: c.yaml\n"),
            ("b.yaml", "include: c.yaml\n"),
            ("c.yaml", "stages: {a: {uses: b}}\n"),
        ];
        assert_eq!(load_files(&files, &[]).unwrap().stages.len(), 1);
        let files = [("main.yaml", "include: a.yaml\n"), ("a.yaml", "vars: {}\ninclude: ./main.yaml\n")];
        let error = show(&load_files(&files, &[]).unwrap_err());
        assert_eq!(error.len(), 1);
        assert!(error[0].starts_with("2:10 files include each other: "), "{error:?}");
        assert_eq!(error[0].matches(" -> ").count(), 2);
    }

    #[test]
    fn an_include_that_cannot_be_read_is_shown_at_the_include() {
        let files = [
            ("main.yaml", "recipe: x\ninclude:\n  - none.yaml\n  - 5\n  - list.yaml\n"),
            ("list.yaml", "[1]"),
        ];
        let error = show(&load_files(&files, &[]).unwrap_err());
        assert!(error[0].starts_with("3:5 cannot read `") && error[0].ends_with("no such file or directory"));
        assert_eq!(error[1], "4:5 `include`: expected the path of a file, found `5`");
        assert_eq!(error[2], "5:5 an included file must hold a mapping");
    }

    #[test]
    fn endless_includes_end() {
        let mut files: Vec<(String, String)> = Vec::new();
        for index in 0..80 {
            files.push((format!("f{index}.yaml"), format!("include: f{}.yaml\n", index + 1)));
        }
        let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (&**name, &**text)).collect();
        assert_eq!(show(&load_files(&files, &[]).unwrap_err()), ["1:10 more than 64 files"]);
    }

    #[test]
    fn set_replaces_values_and_adds_keys() {
        assert_eq!(
            set(&["stages.a.with.n=2", "stages.a.with.list.1={k: v}"]).unwrap(),
            r#"{"list":[1,{"k":"v"}],"n":2}"#
        );
        assert_eq!(set(&["stages.a.with.new=1=1"]).unwrap(), r#"{"list":[1,2],"n":1,"new":"1=1"}"#);
        assert_eq!(set(&["stages.a.with="]).unwrap(), "{}");
        assert_eq!(set(&["stages.a.with=", "stages.a.with.k=1"]).unwrap(), r#"{"k":1}"#);
    }

    #[test]
    fn set_says_what_does_not_exist() {
        let error =
            set(&["stages.b.with.n=1", "stages.a.wiht.n=1", "stages.a.with.list.2=1", "stages.a.uses.x=1"]);
        assert_eq!(
            error.unwrap_err(),
            [
                "1:8 `stages` has no key `b`",
                "1:10 `stages.a` has no key `wiht`",
                "1:20 `stages.a.with.list` is a list of 2, it has no `2`",
                "1:15 `stages.a.uses` is `b`, it has no `x`",
            ]
        );
        let error = set(&["vars.data", "a..b=1", "include=x", "about=[", "x=\u{1}"]).unwrap_err();
        assert_eq!(error[0], "1:1 expected `PATH=VALUE`, such as `vars.data=data/gsm8k`");
        assert_eq!(error[1], "1:3 `a..b` has an empty part");
        assert_eq!(error[2], "1:1 `include` can only be written in a file");
        assert_eq!(error[3], "1:8 expected a value");
        assert_eq!(error[4], "1:3 a control character");
    }

    #[test]
    fn bytes_that_are_no_text_are_shown_where_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("recipe.yaml");
        let mistakes = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            show(&crate::recipe::Recipe::load(&path, &[]).unwrap_err())
        };
        assert_eq!(mistakes(b"recipe: x\nabout: caf\xe9 here\n"), ["2:11 not UTF-8: byte 0xe9"]);
        assert_eq!(mistakes(b"\xff\xfer\0"), ["1:1 not UTF-8: byte 0xff"]);
        assert_eq!(mistakes(b"recipe: x\nabout: a\0b\n"), ["2:9 control character U+0000"]);
        assert_eq!(mistakes(b"a: 1\rb: 2\r"), ["1:5 control character U+000D"]);
        std::fs::write(&path, b"\xef\xbb\xbfrecipe: x\r\nstages: {a: {uses: b}}\r\n").unwrap();
        assert_eq!(crate::recipe::Recipe::load(&path, &[]).unwrap().name, "x");
    }
}
