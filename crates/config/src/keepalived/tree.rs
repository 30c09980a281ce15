//! From pieces to keywords with what stands behind and between their braces.

use super::source::{Piece, PieceKind, Source};
use super::table::{Block, Grade, Keyword, ROOT, Takes, entries};
use super::text::{At, Text};
use super::values::{self, Value, warning};
use super::words::{Word, words};
use crate::diagnostic::Diagnostic;
use crate::diagnostic::Severity;
use crate::native::nearest;

/// A keyword of the file.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) keyword: &'static Keyword,
    pub(super) at: At,
    /// The whole line.
    pub(super) text: Text,
    /// Its words, the keyword first.
    pub(super) words: Vec<Word>,
    pub(super) value: Value,
    /// What stands between its braces, if these are keywords.
    pub(super) children: Vec<Node>,
    /// The lines between its braces, if they are none.
    pub(super) items: Vec<Item>,
    /// Its line, or that of the end of its block.
    last_line: usize,
}

/// A line that is no keyword.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) at: At,
    pub(super) words: Vec<Word>,
}

impl Node {
    pub(super) fn name(&self) -> &'static str {
        self.keyword.name
    }

    /// The keyword itself; every node has it.
    pub(super) fn head(&self) -> &Word {
        &self.words[0]
    }

    /// The word of this number, from 1 on behind the keyword.
    pub(super) fn word(&self, number: usize) -> Option<&Word> {
        self.words.get(number)
    }

    /// A warning about the keyword, or its block as a whole.
    pub(super) fn warning(&self, message: impl Into<String>) -> Diagnostic {
        let mut found = warning(&self.at, self.head(), message);
        found.last_line = self.last_line;
        found
    }

    /// A warning about one of its words, or the keyword.
    pub(super) fn warning_at(&self, number: usize, message: impl Into<String>) -> Diagnostic {
        let word = self.word(number).unwrap_or(self.head());
        let mut found = warning(&self.at, word, message);
        found.last_line = self.last_line;
        found
    }

    /// An error about one of its words, or the keyword.
    pub(super) fn error_at(&self, number: usize, message: impl Into<String>) -> Diagnostic {
        let word = self.word(number).unwrap_or(self.head());
        values::about(Severity::Error, &self.at, word, message)
    }

    pub(super) fn number(&self) -> Option<u64> {
        match self.value {
            Value::Number(number) => Some(number),
            _ => None,
        }
    }

    /// A number that the table keeps to 32 bits.
    pub(super) fn small(&self) -> Option<u32> {
        self.number().and_then(|number| u32::try_from(number).ok())
    }

    pub(super) fn switch(&self) -> Option<bool> {
        match self.value {
            Value::Switch(on) => Some(on),
            _ => None,
        }
    }

    /// The first word behind the keyword, if it is right.
    pub(super) fn text(&self) -> Option<&str> {
        match self.value {
            Value::Wrong => None,
            _ => self.word(1).map(|word| word.text.as_str()),
        }
    }
}

/// The longest word that may be a misspelling.
const LONGEST: usize = 40;

/// Where a block ends.
enum End {
    /// At its `}`.
    Closed(At),
    /// It does not.
    Open,
}

/// Reads one file with all that it includes.
pub(super) fn read(source: &mut Source<'_>, nodes: &mut Vec<Node>) {
    let mut reader = TreeReader {
        source,
        next: None,
        unclosed: Vec::new(),
    };
    reader.block(&ROOT, 0, false, nodes);
    reader.tell_unclosed();
}

struct TreeReader<'s, 'a> {
    source: &'s mut Source<'a>,
    /// A piece that was looked at.
    next: Option<Piece>,
    /// Blocks without an end, the innermost first.
    unclosed: Vec<(At, Word)>,
}

impl TreeReader<'_, '_> {
    fn next(&mut self) -> Option<Piece> {
        self.next.take().or_else(|| self.source.next())
    }

    /// Takes a `{` if it comes next.
    fn opens(&mut self) -> bool {
        self.next = self.next();
        let opens = self
            .next
            .as_ref()
            .is_some_and(|piece| piece.kind == PieceKind::Open);
        if opens {
            self.next = None;
        }
        opens
    }

    fn tell_unclosed(&mut self) {
        let count = self.unclosed.len();
        let Some((at, word)) = self.unclosed.pop() else {
            return;
        };
        let message = match count {
            1 => format!("the block of {} is never closed", word.text),
            _ => format!(
                "the block of {} is never closed: {count} closing braces are missing",
                word.text
            ),
        };
        let hint = "each { needs a }";
        self.source
            .report
            .add(warning(&at, &word, message).hinting(hint));
    }

    /// Reads what stands in a block. Quiet: it is known to have no effect.
    fn block(
        &mut self,
        block: &'static Block,
        depth: usize,
        quiet: bool,
        nodes: &mut Vec<Node>,
    ) -> End {
        while let Some(piece) = self.next() {
            match piece.kind {
                PieceKind::Close if depth > 0 => return End::Closed(piece.at),
                PieceKind::Close => {
                    let message = "this closing brace is one too many; it is ignored";
                    self.source.report.warn(&piece.at, &piece.text, message);
                }
                PieceKind::Open => {
                    let message = "no keyword stands before this brace; it is ignored";
                    self.source.report.warn(&piece.at, &piece.text, message);
                }
                PieceKind::Line => nodes.extend(self.keyword(piece, block, depth, quiet)),
            }
        }
        End::Open
    }

    fn keyword(
        &mut self,
        piece: Piece,
        block: &'static Block,
        depth: usize,
        quiet: bool,
    ) -> Option<Node> {
        let Piece { at, text, .. } = piece;
        let words = words(&text, &at, &mut self.source.report);
        let head = words.first()?.clone();
        let Some(keyword) = block.find(&head.text) else {
            self.unknown(&at, &head, block);
            return None;
        };
        let value = values::read(keyword, &words, &at, &mut self.source.report);
        let mut node = Node {
            keyword,
            last_line: at.line,
            at,
            text,
            words,
            value,
            children: Vec::new(),
            items: Vec::new(),
        };
        // Filled in below: a block is told of with its end.
        let told = self.source.report.found.len();
        let has_told = !quiet && self.tell_grade(&node);
        let quiet = quiet || keyword.grade != Grade::Acts;
        let end = match keyword.takes {
            Takes::Block(inner, _) => {
                self.expect_open(&node);
                let mut children = Vec::new();
                let end = self.block(inner, depth + 1, quiet, &mut children);
                node.children = children;
                end
            }
            Takes::Lines(..) => {
                self.expect_open(&node);
                self.lines(&mut node.items)
            }
            _ => {
                if self.opens() {
                    let message = format!("{} has no block; it is skipped", head.text);
                    self.source.report.add(node.warning(message));
                    self.skip();
                }
                return Some(node);
            }
        };
        match end {
            End::Closed(end) if end.file == node.at.file => node.last_line = end.line,
            End::Closed(_) => {}
            End::Open => self.unclosed.push((node.at.clone(), head)),
        }
        if has_told && let Some(found) = self.source.report.found.get_mut(told) {
            found.last_line = node.last_line;
        }
        Some(node)
    }

    /// Warns of what is not acted upon, or has another name. True: the former.
    fn tell_grade(&mut self, node: &Node) -> bool {
        let name = node.name();
        let why = match node.keyword.grade {
            Grade::Acts => {
                if let Some(new) = node
                    .keyword
                    .old_name_of
                    .filter(|_| !name.starts_with("lb_"))
                {
                    let message = format!("{name} is an old name of {new}");
                    self.source.report.add(node.warning(message));
                }
                return false;
            }
            Grade::Idle(why) | Grade::NotYet(why) => why,
        };
        let message = match node.keyword.takes {
            Takes::Block(..) | Takes::Lines(..) => {
                format!("the block of {name} is read, and has no effect")
            }
            _ => format!("{name} has no effect"),
        };
        self.source.report.add(node.warning(message).expecting(why))
    }

    fn unknown(&mut self, at: &At, head: &Word, block: &'static Block) {
        let place = if block.name.is_empty() {
            "outside of blocks".to_owned()
        } else {
            format!("in {}", block.name)
        };
        let name = &head.text;
        let found = warning(at, head, format!("there is no keyword {name} {place}"));
        let number = self.source.report.found.len();
        let is_new = self.source.report.add(found);
        let end = if self.opens() {
            Some(self.skip())
        } else {
            None
        };
        let found = self.source.report.found.get_mut(number);
        let Some(found) = found.filter(|_| is_new) else {
            return;
        };
        let known: Vec<&str> = block.all().map(|keyword| keyword.name).collect();
        // No keyword is as long as that.
        let is_short = name.len() <= LONGEST;
        let near = is_short.then(|| nearest(name, &known)).flatten();
        found.hint = near
            .map(|near| format!("did you mean {near}?"))
            .or_else(|| elsewhere(name, block));
        if let Some(end) = end {
            found.expected = Some("the whole block is skipped".into());
            if let Some(end) = end.filter(|end| end.file == at.file) {
                found.last_line = end.line;
            }
        }
    }

    fn expect_open(&mut self, node: &Node) {
        if self.opens() {
            return;
        }
        let message = format!("the {{ of {} is missing", node.name());
        let found = match &self.next {
            Some(piece) => {
                let place = piece.at.place_of(&piece.text);
                Diagnostic::new(Severity::Warning, place, message).spanning(1)
            }
            None => node.warning(message),
        };
        let label = format!("{} stands here", node.name());
        let head = node.at.place(node.head().column);
        self.source.report.add(found.beside(head, label));
    }

    /// The lines up to the block's end.
    fn lines(&mut self, items: &mut Vec<Item>) -> End {
        let mut depth = 0usize;
        while let Some(Piece { kind, at, text }) = self.next() {
            match kind {
                PieceKind::Close if depth == 0 => return End::Closed(at),
                PieceKind::Close => depth -= 1,
                PieceKind::Open => {
                    let message = "a brace stands where none is expected; it is ignored";
                    self.source.report.warn(&at, &text, message);
                    depth += 1;
                }
                PieceKind::Line => {
                    let words = words(&text, &at, &mut self.source.report);
                    if !words.is_empty() {
                        items.push(Item { at, words });
                    }
                }
            }
        }
        End::Open
    }

    /// Skips a block whose `{` was read; where it ends.
    fn skip(&mut self) -> Option<At> {
        let mut depth = 1usize;
        while let Some(piece) = self.next() {
            match piece.kind {
                PieceKind::Open => depth += 1,
                PieceKind::Close => depth -= 1,
                PieceKind::Line => {}
            }
            if depth == 0 {
                return Some(piece.at);
            }
        }
        None
    }
}

/// Where a keyword belongs that stands in the wrong block.
fn elsewhere(name: &str, block: &'static Block) -> Option<String> {
    if !block.name.is_empty() && ROOT.find(name).is_some() {
        return Some(format!(
            "{name} stands outside of blocks: is a }} missing before it?"
        ));
    }
    let entries = entries();
    let mut places = entries
        .iter()
        .filter(|entry| entry.keyword.name == name)
        .filter_map(|entry| entry.path.last());
    let first = places.next()?;
    Some(format!("it stands in {first}"))
}
