//! `$NAME` and `${NAME}`.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::Path;

use super::text::{Cell, Text, is_blank, starts_with, string};
use crate::files::Files;

/// Longest line, in characters; a substitution that would make a longer one is left out.
const LINE_MAX: usize = 1 << 14;
/// Most substitutions in one line.
const ROUNDS_MAX: usize = 512;

/// What names stand for.
#[derive(Debug, Default)]
pub(super) struct Definitions {
    values: HashMap<String, Value>,
}

/// What a name stands for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Value {
    /// Its lines; one, unless it goes on with `\`.
    pub(super) lines: Vec<String>,
    /// True: it may stand at the end of a line alone.
    pub(super) multiline: bool,
}

/// What the names that nobody defines depend on.
pub(super) struct Context<'a> {
    pub(super) files: &'a dyn Files,
    /// Directory of the file that is read.
    pub(super) directory: &'a Path,
    /// The configuration's id.
    pub(super) id: &'a str,
}

/// A line after substitution.
pub(super) struct Replaced {
    pub(super) text: Text,
    /// Lines that come after it.
    pub(super) following: Vec<String>,
    /// True: something was replaced.
    pub(super) changed: bool,
    /// True: something was not, since it would never end, or be too long.
    pub(super) endless: bool,
}

/// A use of a name.
struct Use {
    name: String,
    /// Length with `$` and braces.
    length: usize,
    parameters: String,
    /// Nothing comes behind it.
    is_last: bool,
}

impl Definitions {
    pub(super) fn set(&mut self, name: &str, value: Value) {
        self.values.insert(name.to_owned(), value);
    }

    /// Replaces every name that is defined, those in what is put in too.
    pub(super) fn replace(&self, text: Text, context: &Context<'_>) -> Replaced {
        let mut replaced = Replaced {
            text,
            following: Vec::new(),
            changed: false,
            endless: false,
        };
        let mut at = 0;
        let mut rounds = 0;
        while let Some(next) = replaced.text[at..].iter().position(|cell| cell.c == '$') {
            at += next;
            let found = name_at(&replaced.text[at..]);
            let value = found.and_then(|used| Some((self.value(&used, context)?, used)));
            let Some((value, used)) = value else {
                at += 1;
                continue;
            };
            let mut lines = value.lines.into_iter();
            let first = lines.next().unwrap_or_default();
            let length = replaced.text.len() + first.chars().count();
            if rounds == ROUNDS_MAX || length > LINE_MAX {
                replaced.endless = true;
                return replaced;
            }
            rounds += 1;
            replaced.changed = true;
            let columns = &replaced.text[at..at + used.length];
            let cells = stretched(&first, columns);
            replaced.text.splice(at..at + used.length, cells);
            let rest: Vec<String> = lines.collect();
            if !rest.is_empty() {
                // Those of a name in the first line of another come before the other's.
                replaced.following.splice(0..0, rest);
            }
            if first.trim_start().starts_with('~') {
                break;
            }
        }
        replaced
    }

    fn value(&self, used: &Use, context: &Context<'_>) -> Option<Value> {
        if let Some(value) = self.values.get(&used.name) {
            let fits = used.parameters.is_empty() && (used.is_last || !value.multiline);
            return fits.then(|| value.clone());
        }
        let text = match used.name.as_str() {
            "_RANDOM" => random(&used.parameters)?,
            "_ENV" => context.files.variable(used.parameters.trim())?,
            _ if !used.parameters.is_empty() => return None,
            "_PWD" => context.directory.display().to_string(),
            "_INSTANCE" => context.id.to_owned(),
            "_HASH" => "#".into(),
            "_BANG" => "!".into(),
            _ => return None,
        };
        Some(Value {
            lines: vec![text],
            multiline: false,
        })
    }
}

/// Characters in the columns of what they replace.
fn stretched(text: &str, columns: &[Cell]) -> Vec<Cell> {
    let count = text.chars().count();
    let last = columns.len().saturating_sub(1);
    let cells = text.chars().enumerate().map(|(number, c)| {
        let column = if number + 1 == count {
            last
        } else {
            number.min(last)
        };
        Cell {
            c,
            column: columns.get(column).map_or(1, |cell| cell.column),
        }
    });
    cells.collect()
}

/// The name whose `$` a text begins with.
fn name_at(text: &[Cell]) -> Option<Use> {
    let c = |at: usize| text.get(at).map(|cell| cell.c);
    let braces = c(1) == Some('{');
    let start = if braces { 2 } else { 1 };
    let length = name_length(&text[start..])?;
    let name = string(&text[start..start + length]);
    let mut end = start + length;
    let mut parameters = String::new();
    if braces {
        let close = text[end..].iter().position(|cell| cell.c == '}')?;
        parameters = string(&text[end..end + close]);
        let is_digits = |c: char| c == ' ' || c.is_ascii_digit();
        let good = parameters.is_empty()
            || (name == "_ENV" && parameters.starts_with(' '))
            || (parameters.starts_with(' ')
                && parameters.chars().all(is_digits)
                && !parameters.ends_with(' '));
        if !good {
            return None;
        }
        end += close + 1;
    } else if !matches!(c(end), None | Some(' ' | '\t' | ',' | ')')) {
        return None;
    }
    Some(Use {
        name,
        length: end,
        parameters,
        is_last: end == text.len(),
    })
}

/// How long the name is that a text begins with.
fn name_length(text: &[Cell]) -> Option<usize> {
    let first = text.first()?.c;
    if !first.is_ascii_alphabetic() && first != '_' {
        return None;
    }
    let rest = text.iter();
    Some(
        rest.take_while(|cell| cell.c.is_ascii_alphanumeric() || cell.c == '_')
            .count(),
    )
}

/// A definition, `$NAME=VALUE`: its name, its value, and true if it goes on in the next
/// line.
pub(super) fn definition(text: &[Cell]) -> Option<(String, String, bool)> {
    if !starts_with(text, "$") {
        return None;
    }
    let length = name_length(&text[1..])?;
    if text.get(1 + length)?.c != '=' {
        return None;
    }
    let name = string(&text[1..=length]);
    let blanks = text[2 + length..]
        .iter()
        .take_while(|cell| is_blank(cell.c));
    let value = string(&text[2 + length + blanks.count()..]);
    Some(match value.strip_suffix('\\') {
        Some(first) => (name, first.trim_end_matches([' ', '\t']).to_owned(), true),
        None => (name, value, false),
    })
}

/// A number from the first to the second parameter.
fn random(parameters: &str) -> Option<String> {
    let mut numbers = parameters.split(' ').filter(|word| !word.is_empty());
    let mut number = |usual: u64| numbers.next().map_or(Some(usual), |word| word.parse().ok());
    let least = number(0)?;
    let greatest = number(32_767)?;
    let count = greatest.checked_sub(least)?.checked_add(1)?;
    let chance = RandomState::new().build_hasher().finish();
    Some((least + chance % count).to_string())
}

#[cfg(test)]
mod tests {
    use super::super::text::cells;
    use super::*;
    use crate::files::Memory;

    fn replaced(definitions: &Definitions, line: &str) -> Replaced {
        let context = Context {
            files: &Memory::default(),
            directory: Path::new("/etc/keepalived"),
            id: "left",
        };
        definitions.replace(cells(line), &context)
    }

    #[test]
    fn names_are_replaced() {
        let mut known = Definitions::default();
        for line in ["$A=1", "$B=x$A y", "$LOOP=$LOOP", "$N="] {
            let (name, value, multiline) = definition(&cells(line)).unwrap();
            let lines = vec![value];
            known.set(&name, Value { lines, multiline });
        }
        let text = |line: &str| string(&replaced(&known, line).text);
        assert_eq!(text("a $A ${A}b $Ab $(A) ${A 1}"), "a 1 1b $Ab $(A) ${A 1}");
        assert_eq!(text("${B}"), "x1 y");
        assert_eq!(text("[${N}]"), "[]");
        assert_eq!(text("${_PWD}/${_INSTANCE}"), "/etc/keepalived/left");
        assert_eq!(text("${_RANDOM 7 7} ${_RANDOM 8 7}"), "7 ${_RANDOM 8 7}");
        assert!(replaced(&known, "$LOOP").endless);
        assert!(definition(&cells("$A = 1")).is_none());
        assert!(definition(&cells("$1=1")).is_none());
    }

    #[test]
    fn what_was_put_in_stands_where_its_name_does() {
        let mut known = Definitions::default();
        let lines = vec!["long value".into()];
        known.set(
            "V",
            Value {
                lines,
                multiline: false,
            },
        );
        let found = replaced(&known, "a ${V} b").text;
        let columns: Vec<u32> = found.iter().map(|cell| cell.column).collect();
        assert_eq!(columns, [1, 2, 3, 4, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8]);
    }
}
