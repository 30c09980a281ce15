//! From files to pieces: lines without comments, with all that is included, chosen,
//! defined and repeated, split at braces.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::definitions::{Context, Definitions, Value, definition};
use super::glob;
use super::sequence::Repetition;
use super::text::{
    At, Cell, Report, Text, cells, is_blank, is_space, starts_with, string, trim_end, trim_start,
    without_comment,
};
use crate::diagnostic::Sources;
use crate::files::Files;

/// How deep files include each other.
const DEPTH_MAX: usize = 32;
/// Most files that are included.
const FILES_MAX: usize = 4096;
/// What a line counts for beside its characters.
const LINE_COST: usize = 40;
/// Most characters that repetitions and definitions may come to.
const EXPANSION_MAX: usize = 1 << 22;

/// What a piece is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PieceKind {
    /// A line, or what stands before and behind braces in it.
    Line,
    /// `{`
    Open,
    /// `}`
    Close,
}

/// A line or a brace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) kind: PieceKind,
    pub(super) at: At,
    pub(super) text: Text,
}

/// What gives the next line.
enum Level {
    File(OpenFile),
    /// What stands behind a brace.
    Rest(At, Text),
    /// Lines of a definition; the last comes first.
    Definition(At, u32, Vec<String>),
    Repetition(At, Repetition),
}

struct OpenFile {
    name: Arc<str>,
    path: PathBuf,
    lines: std::vec::IntoIter<String>,
    number: usize,
}

/// A definition whose lines are read.
struct Growing {
    name: String,
    value: Value,
}

pub(super) struct Source<'a> {
    files: &'a dyn Files,
    id: &'a str,
    sources: &'a mut Sources,
    definitions: Definitions,
    stack: Vec<Level>,
    growing: Option<Growing>,
    file_count: usize,
    expanded: usize,
    pub(super) report: Report,
}

impl<'a> Source<'a> {
    pub(super) fn new(files: &'a dyn Files, id: &'a str, sources: &'a mut Sources) -> Self {
        Self {
            files,
            id,
            sources,
            definitions: Definitions::default(),
            stack: Vec::new(),
            growing: None,
            file_count: 0,
            expanded: 0,
            report: Report::default(),
        }
    }

    /// Reads another file; what was defined stays.
    pub(super) fn open(&mut self, name: &str, bytes: &[u8]) {
        self.growing = None;
        let path = self.files.absolute(Path::new(name));
        self.push(name.into(), path, bytes);
    }

    fn push(&mut self, name: Arc<str>, path: PathBuf, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes);
        self.sources.add(Arc::clone(&name), &text);
        let lines = text.split('\n').map(|line| line.trim_end_matches('\r'));
        let mut lines: Vec<String> = lines.map(str::to_owned).collect();
        if lines.last().is_some_and(String::is_empty) {
            lines.pop();
        }
        self.file_count += 1;
        self.stack.push(Level::File(OpenFile {
            name,
            path,
            lines: lines.into_iter(),
            number: 0,
        }));
    }

    fn file(&self) -> Option<&OpenFile> {
        let files = self.stack.iter().rev();
        files.into_iter().find_map(|level| match level {
            Level::File(file) => Some(file),
            _ => None,
        })
    }

    fn directory(&self) -> PathBuf {
        let parent = self.file().and_then(|file| file.path.parent());
        parent.map_or_else(|| PathBuf::from("/"), Path::to_owned)
    }

    /// The next line or brace.
    pub(super) fn next(&mut self) -> Option<Piece> {
        loop {
            let (at, text) = self.line()?;
            let text = if self.growing.is_some() {
                self.grow(&text);
                continue;
            } else {
                self.processed(&at, text)
            };
            if text.is_empty() || self.include(&at, &text) {
                continue;
            }
            if let Some(piece) = self.split(at, &text) {
                return Some(piece);
            }
        }
    }

    /// The next line as it comes from a file, a definition or a repetition.
    fn line(&mut self) -> Option<(At, Text)> {
        loop {
            match self.stack.last_mut()? {
                Level::Rest(..) => {
                    if let Some(Level::Rest(at, text)) = self.stack.pop() {
                        return Some((at, text));
                    }
                }
                Level::Definition(at, column, lines) => {
                    let (at, column) = (at.clone(), *column);
                    let Some(line) = lines.pop() else {
                        self.stack.pop();
                        continue;
                    };
                    let text: Text = line.chars().map(|c| Cell { c, column }).collect();
                    self.expand(&at, text.len());
                    return Some((at, text));
                }
                Level::Repetition(at, repetition) => {
                    let at = at.clone();
                    let Some(values) = repetition.next() else {
                        self.stack.pop();
                        continue;
                    };
                    let text = repetition.text.clone();
                    for (name, value) in values {
                        let value = Value {
                            lines: vec![value],
                            multiline: false,
                        };
                        self.definitions.set(&name, value);
                    }
                    self.expand(&at, text.len());
                    return Some((at, text));
                }
                Level::File(file) => {
                    let Some(line) = file.lines.next() else {
                        self.stack.pop();
                        continue;
                    };
                    file.number += 1;
                    let at = At {
                        file: Arc::clone(&file.name),
                        line: file.number,
                    };
                    if let Some(text) = self.cleaned(&at, &line) {
                        return Some((at, text));
                    }
                }
            }
        }
    }

    /// A line of a file without its comment, if there is anything else in it.
    fn cleaned(&mut self, at: &At, line: &str) -> Option<Text> {
        if line.is_empty() {
            // A definition ends at an empty line.
            self.finish();
            return None;
        }
        let (text, unclosed) = without_comment(&cells(line));
        if unclosed {
            self.report
                .warn(at, &text, "a quote is not closed in this line");
        }
        (!text.is_empty()).then_some(text)
    }

    /// Counts what did not come from a file. Too much of it: nothing more is read.
    fn expand(&mut self, at: &At, characters: usize) {
        self.expanded += characters + LINE_COST;
        if self.expanded > EXPANSION_MAX {
            let message = "repetitions and definitions come to more than 4 million characters";
            self.report.refuse(at, &[], message);
            self.stack.clear();
        }
    }

    /// Adds a line to the definition that is read.
    fn grow(&mut self, text: &[Cell]) {
        let line = string(text);
        let (line, goes_on) = match line.strip_suffix('\\') {
            Some(line) => (line.trim_end_matches([' ', '\t']), true),
            None => (line.as_str(), false),
        };
        if let Some(growing) = &mut self.growing
            && !line.is_empty()
        {
            growing.value.lines.push(line.to_owned());
        }
        if !goes_on {
            self.finish();
        }
    }

    fn finish(&mut self) {
        if let Some(Growing { name, mut value }) = self.growing.take() {
            value.multiline = !value.lines.is_empty();
            self.definitions.set(&name, value);
        }
    }

    /// What is left of a line when its condition, its definition and its repetition were
    /// seen to.
    fn processed(&mut self, at: &At, mut text: Text) -> Text {
        loop {
            if starts_with(&text, "@") {
                text = self.chosen(&text);
            }
            if let Some((name, value, goes_on)) = definition(&text) {
                self.define(&name, value, goes_on);
                return Text::new();
            }
            if starts_with(&text, "~SEQ") || starts_with(&text, "~LST") {
                self.repeat(at, &text);
                return Text::new();
            }
            if starts_with(&text, "~") || !text.iter().any(|cell| cell.c == '$') {
                return text;
            }
            let column = text.first().map_or(1, |cell| cell.column);
            let replaced = self.definitions.replace(
                text,
                &Context {
                    files: self.files,
                    directory: &self.directory(),
                    id: self.id,
                },
            );
            if replaced.endless {
                let message = "what stands for $NAMEs here never ends";
                self.report.warn(at, &replaced.text, message);
                return replaced.text;
            }
            if !replaced.following.is_empty() {
                let mut lines = replaced.following;
                lines.reverse();
                self.stack
                    .push(Level::Definition(at.clone(), column, lines));
            }
            if !replaced.changed {
                return replaced.text;
            }
            self.expand(at, replaced.text.len());
            text = without_comment(&replaced.text).0;
        }
    }

    /// What stands behind `@ID` if that is this configuration's id, behind `@^ID` if it
    /// is not.
    fn chosen(&self, text: &[Cell]) -> Text {
        let negated = text.get(1).is_some_and(|cell| cell.c == '^');
        let id = &text[if negated { 2 } else { 1 }..];
        let Some(end) = id.iter().position(|cell| is_blank(cell.c)) else {
            return Text::new();
        };
        if (string(&id[..end]) == self.id) == negated {
            return Text::new();
        }
        trim_start(&id[end..]).to_vec()
    }

    fn define(&mut self, name: &str, value: String, goes_on: bool) {
        let lines = if goes_on && value.is_empty() {
            Vec::new()
        } else {
            vec![value]
        };
        let value = Value {
            lines,
            multiline: false,
        };
        if goes_on {
            self.growing = Some(Growing {
                name: name.to_owned(),
                value,
            });
        } else {
            self.definitions.set(name, value);
        }
    }

    fn repeat(&mut self, at: &At, text: &[Cell]) {
        let directory = self.directory();
        let context = Context {
            files: self.files,
            directory: &directory,
            id: self.id,
        };
        let definitions = &self.definitions;
        let read = Repetition::read(text, |numbers| {
            definitions.replace(numbers.to_vec(), &context).text
        });
        match read {
            Ok(repetition) => self.stack.push(Level::Repetition(at.clone(), repetition)),
            Err(fault) => {
                let name = string(&text[..4]);
                let message = format!("{name} cannot be read: {fault}; the line is ignored");
                self.report.warn(at, text, message);
            }
        }
    }

    /// A line up to its first brace, or that brace; the rest comes next.
    fn split(&mut self, at: At, text: &[Cell]) -> Option<Piece> {
        let brace = brace(text);
        let (end, rest) = match brace {
            Some(0) => (1, trim_start(&text[1..])),
            Some(brace) => (brace, &text[brace..]),
            None => (text.len(), &text[text.len()..]),
        };
        let rest = trim_end(rest);
        if !rest.is_empty() {
            self.stack.push(Level::Rest(at.clone(), rest.to_vec()));
        }
        let text = trim_end(&text[..end]).to_vec();
        let kind = match (brace, text.first()?.c) {
            (Some(0), '{') => PieceKind::Open,
            (Some(0), _) => PieceKind::Close,
            _ => PieceKind::Line,
        };
        Some(Piece { kind, at, text })
    }

    /// True if the line was one that includes files.
    fn include(&mut self, at: &At, text: &[Cell]) -> bool {
        if !starts_with(text, "include") {
            return false;
        }
        let c = |at: usize| text.get(at).map(|cell| cell.c);
        let (kind, start) = match (c(7), c(8)) {
            (Some(blank), _) if is_space(blank) => (' ', 8),
            (Some(kind @ ('r' | 'm' | 'w' | 'b' | 'a')), Some(blank)) if is_space(blank) => {
                (kind, 9)
            }
            _ => return false,
        };
        let pattern = trim_start(&text[start..]).to_vec();
        let has_to_match = matches!(kind, 'w' | 'a');
        self.include_files(at, &pattern, has_to_match);
        true
    }

    fn include_files(&mut self, at: &At, pattern: &[Cell], has_to_match: bool) {
        let written = string(pattern);
        let directory = self.directory();
        let mut found = Vec::new();
        for alternative in glob::alternatives(&written) {
            let paths = glob::matches(self.files, &directory, &alternative);
            if paths.is_empty() && (has_to_match || !glob::is_pattern(&alternative)) {
                let message = format!("there is no file {alternative} to include");
                self.report.warn(at, pattern, message);
            }
            found.extend(paths);
        }
        let prefix = self.file().map(|file| (Arc::clone(&file.name), directory));
        let mut open = Vec::new();
        for path in found {
            let shown = prefix.as_ref().map_or_else(
                || path.display().to_string(),
                |(name, directory)| name_beside(name, directory, &path),
            );
            if let Some(bytes) = self.readable(at, pattern, &path, &shown) {
                open.push((shown, path, bytes));
            }
        }
        // The first is read first.
        for (shown, path, bytes) in open.into_iter().rev() {
            self.push(shown.into(), path, &bytes);
        }
    }

    /// A file's bytes, if it may be included.
    fn readable(&mut self, at: &At, pattern: &[Cell], path: &Path, shown: &str) -> Option<Vec<u8>> {
        let open = self.stack.iter().filter_map(|level| match level {
            Level::File(file) => Some(file.path.as_path()),
            _ => None,
        });
        let open: Vec<&Path> = open.collect();
        if open.contains(&path) || open.len() >= DEPTH_MAX {
            let message = format!("{shown} includes itself");
            self.report.refuse(at, pattern, message);
            return None;
        }
        if self.file_count >= FILES_MAX {
            let message = "more than 4096 files are included";
            self.report.refuse(at, pattern, message);
            return None;
        }
        let status = self.files.status(path).ok()?;
        if !status.is_file || status.is_executable() {
            let what = if status.is_directory {
                "a directory"
            } else if status.is_file {
                "executable"
            } else {
                "no regular file"
            };
            let message = format!("{shown} is not included: it is {what}");
            self.report.warn(at, pattern, message);
            return None;
        }
        match self.files.read(path) {
            Ok(bytes) => Some(bytes),
            Err(error) => {
                let message = format!("{shown} cannot be read: {error}");
                self.report.refuse(at, pattern, message);
                None
            }
        }
    }
}

/// A file's name for messages: as that of the file that includes it is written.
fn name_beside(name: &str, directory: &Path, path: &Path) -> String {
    let Ok(below) = path.strip_prefix(directory) else {
        return path.display().to_string();
    };
    let parent = Path::new(name).parent();
    let parent = parent.filter(|parent| parent.as_os_str() != OsStr::new(""));
    let named = parent.map_or_else(|| below.to_owned(), |parent| parent.join(below));
    named.display().to_string()
}

/// Where the first brace outside of quotes stands.
fn brace(text: &[Cell]) -> Option<usize> {
    let mut quoted = false;
    for (at, cell) in text.iter().enumerate() {
        match cell.c {
            '"' => quoted = !quoted,
            '{' | '}' if !quoted => return Some(at),
            _ => {}
        }
    }
    None
}
