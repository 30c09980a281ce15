//! Lines whose every character knows the column it stands at, through all expansion.

use std::collections::HashSet;
use std::sync::Arc;

use crate::diagnostic::{Diagnostic, Place, Severity};

/// A character and its column, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cell {
    pub(super) c: char,
    pub(super) column: u32,
}

/// Characters of one line.
pub(super) type Text = Vec<Cell>;

/// The line of a file that something came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct At {
    pub(super) file: Arc<str>,
    pub(super) line: usize,
}

impl At {
    pub(super) fn place(&self, column: u32) -> Place {
        Place {
            file: Arc::clone(&self.file),
            line: self.line,
            column: column as usize,
        }
    }

    /// Where the first character stands.
    pub(super) fn place_of(&self, text: &[Cell]) -> Place {
        self.place(text.first().map_or(1, |cell| cell.column))
    }
}

/// A line as it stands in its file.
pub(super) fn cells(line: &str) -> Text {
    let columns = 1..;
    let cells = line.chars().zip(columns);
    cells.map(|(c, column)| Cell { c, column }).collect()
}

/// The characters alone.
pub(super) fn string(text: &[Cell]) -> String {
    text.iter().map(|cell| cell.c).collect()
}

/// How many characters of the file a text spans.
pub(super) fn span(text: &[Cell]) -> usize {
    match (text.first(), text.last()) {
        (Some(first), Some(last)) => (last.column + 1).saturating_sub(first.column) as usize,
        _ => 0,
    }
}

pub(super) const fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t')
}

/// What ends a word.
pub(super) const fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c')
}

pub(super) fn trim_start(text: &[Cell]) -> &[Cell] {
    let blanks = text.iter().take_while(|cell| is_blank(cell.c)).count();
    &text[blanks..]
}

pub(super) fn trim_end(text: &[Cell]) -> &[Cell] {
    let blanks = text.iter().rev().take_while(|cell| is_blank(cell.c));
    &text[..text.len() - blanks.count()]
}

pub(super) fn starts_with(text: &[Cell], word: &str) -> bool {
    let mut cells = text.iter();
    word.chars()
        .all(|c| cells.next().is_some_and(|cell| cell.c == c))
}

/// Most that is told of a configuration.
const FOUND_MAX: usize = 10_000;

/// What was found wrong so far.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) found: Vec<Diagnostic>,
    /// Where, and what: a line that is repeated is told of once.
    told: HashSet<(Arc<str>, usize, usize, String)>,
}

impl Report {
    /// Adds what is wrong, unless it was told already. False: it was.
    pub(super) fn add(&mut self, diagnostic: Diagnostic) -> bool {
        let place = &diagnostic.place;
        let key = (
            Arc::clone(&place.file),
            place.line,
            place.column,
            diagnostic.message.clone(),
        );
        let is_new = self.found.len() < FOUND_MAX && self.told.insert(key);
        if is_new {
            self.found.push(diagnostic);
        }
        is_new
    }

    /// A warning about a part of a line.
    pub(super) fn warn(&mut self, at: &At, text: &[Cell], message: impl Into<String>) {
        let place = at.place_of(text);
        self.add(Diagnostic::new(Severity::Warning, place, message).spanning(span(text)));
    }

    /// An error about a part of a line.
    pub(super) fn refuse(&mut self, at: &At, text: &[Cell], message: impl Into<String>) {
        let place = at.place_of(text);
        self.add(Diagnostic::new(Severity::Error, place, message).spanning(span(text)));
    }
}

/// Takes the comment off a line, and blanks at both ends. True as well: a quote stays
/// open. What stands before a `\` at the end of the line goes together with it.
pub(super) fn without_comment(text: &[Cell]) -> (Text, bool) {
    let text = trim_start(text);
    let mut kept = Text::with_capacity(text.len());
    let mut quoted = false;
    let mut cut = None;
    let mut at = 0;
    let mut continued = None;
    while let Some(&cell) = text.get(at) {
        match cell.c {
            '"' if cut.is_none() => quoted = !quoted,
            '\\' => match text.get(at + 1) {
                None => {
                    continued = Some(cell);
                    break;
                }
                Some(next) => {
                    if quoted || !matches!(next.c, '#' | '!') {
                        kept.push(cell);
                    }
                    kept.push(*next);
                    at += 2;
                    continue;
                }
            },
            '#' | '!' if !quoted && cut.is_none() => cut = Some(kept.len()),
            _ => {}
        }
        kept.push(cell);
        at += 1;
    }
    if let Some(cut) = cut {
        kept.truncate(cut);
    }
    kept.truncate(trim_end(&kept).len());
    kept.extend(continued);
    (kept, quoted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clean(line: &str) -> String {
        string(&without_comment(&cells(line)).0)
    }

    #[test]
    fn comments_go() {
        let cases = [
            ("  weight 1  # so", "weight 1"),
            ("! all of it", ""),
            ("path \"/a#b!\" # c", "path \"/a#b!\""),
            ("a \\# b \\! c # d", "a # b ! c"),
            ("$X = a b \\", "$X = a b\\"),
            ("# comment \\", "\\"),
            ("a\\\\b", "a\\\\b"),
            ("# it's \"quoted", ""),
        ];
        for (line, expected) in cases {
            assert_eq!(clean(line), expected, "{line}");
        }
        assert!(without_comment(&cells("a \"b")).1);
        assert!(!without_comment(&cells("a # \"b")).1);
    }

    #[test]
    fn columns_are_kept() {
        let (text, _) = without_comment(&cells("  ab \"c d\" # x"));
        assert_eq!((text[0].column, span(&text)), (3, 8));
    }
}
