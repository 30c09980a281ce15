//! Lines taken apart into words.

use super::text::{At, Cell, Report, is_space, span};

/// A word, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) text: String,
    /// The column of its first character, from 1.
    pub(super) column: u32,
    /// How many characters of the file it is, quotes not counted.
    pub(super) length: usize,
}

impl Word {
    fn of(cells: &[Cell], column: u32) -> Self {
        Self {
            text: super::text::string(cells),
            column: cells.first().map_or(column, |cell| cell.column),
            length: span(cells),
        }
    }
}

/// The words of a line: what stands between `"` is one, without the quotes.
pub(super) fn words(text: &[Cell], at: &At, report: &mut Report) -> Vec<Word> {
    let mut words = Vec::new();
    let mut rest = text;
    loop {
        let blanks = rest.iter().take_while(|cell| is_space(cell.c)).count();
        rest = &rest[blanks..];
        let Some(first) = rest.first() else {
            return words;
        };
        let end = if first.c == '"' {
            let Some(length) = rest[1..].iter().position(|cell| cell.c == '"') else {
                report.warn(at, rest, "this quote is never closed; the rest is ignored");
                return words;
            };
            words.push(Word::of(&rest[1..=length], first.column));
            length + 2
        } else {
            let is_end = |cell: &Cell| is_space(cell.c) || cell.c == '"';
            let length = rest.iter().position(is_end).unwrap_or(rest.len());
            words.push(Word::of(&rest[..length], first.column));
            length
        };
        rest = &rest[end..];
    }
}

/// The words of a line as those of scripts are read: quotes of both kinds, anywhere, and
/// escapes. None: a quote stays open, or a `\` stands at the end.
pub(super) fn escaped(text: &[Cell]) -> Option<Vec<Word>> {
    let mut words = Vec::new();
    let mut at = 0;
    loop {
        while text.get(at).is_some_and(|cell| is_space(cell.c)) {
            at += 1;
        }
        if at == text.len() {
            return Some(words);
        }
        let start = at;
        let mut word = String::new();
        let mut quote = None;
        while let Some(cell) = text.get(at) {
            match cell.c {
                '\\' => {
                    let (c, after) = escape(text, at + 1)?;
                    word.push(c);
                    at = after;
                    continue;
                }
                c if Some(c) == quote => quote = None,
                c if quote.is_some() => word.push(c),
                c if is_space(c) => break,
                c @ ('"' | '\'') => quote = Some(c),
                c => word.push(c),
            }
            at += 1;
        }
        if quote.is_some() {
            return None;
        }
        words.push(Word {
            text: word,
            column: text[start].column,
            length: span(&text[start..at]),
        });
    }
}

/// What an escape means whose `\` stands before `at`, and where it ends.
fn escape(text: &[Cell], at: usize) -> Option<(char, usize)> {
    let c = text.get(at)?.c;
    let next = text.get(at + 1).map(|cell| cell.c);
    Some(match c {
        'x' if next.is_some_and(|c| c.is_ascii_hexdigit()) => {
            let digits = text[at + 1..].iter().map_while(|cell| cell.c.to_digit(16));
            let (count, value) = digits.fold((0, 0u8), |(count, value), digit| {
                (count + 1, value.wrapping_shl(4) | digit as u8)
            });
            (char::from(value), at + 1 + count)
        }
        'c' if next.is_some() => {
            let control = next.map_or(0, |c| u32::from(c) as u8 & 0x1f);
            (char::from(control), at + 2)
        }
        '0'..='7' => {
            let digits = text[at..].iter().take(3);
            let digits = digits.map_while(|cell| cell.c.to_digit(8));
            let (count, value) = digits.fold((0, 0u8), |(count, value), digit| {
                (count + 1, value.wrapping_shl(3) | digit as u8)
            });
            (char::from(value), at + count)
        }
        'a' => ('\x07', at + 1),
        'b' => ('\x08', at + 1),
        'E' => ('\x1b', at + 1),
        'f' => ('\x0c', at + 1),
        'n' => ('\n', at + 1),
        'r' => ('\r', at + 1),
        't' => ('\t', at + 1),
        'v' => ('\x0b', at + 1),
        c => (c, at + 1),
    })
}

#[cfg(test)]
mod tests {
    use super::super::text::cells;
    use super::*;

    fn at() -> At {
        At {
            file: "f".into(),
            line: 1,
        }
    }

    #[test]
    fn words_are_taken_apart() {
        let mut report = Report::default();
        let line = cells("  misc_path \"/a b\"c  'd e'");
        let found = words(&line, &at(), &mut report);
        let texts: Vec<_> = found.iter().map(|word| word.text.as_str()).collect();
        assert_eq!(texts, ["misc_path", "/a b", "c", "'d", "e'"]);
        assert_eq!((found[1].column, found[1].length), (14, 4));
        assert!(report.found.is_empty());
        assert_eq!(words(&cells("a \"\" b"), &at(), &mut report)[1].text, "");
        assert_eq!(words(&cells("a \"b"), &at(), &mut report).len(), 1);
        assert_eq!(report.found.len(), 1);
    }

    #[test]
    fn scripts_have_escapes() {
        let texts = |line: &str| -> Option<Vec<String>> {
            let words = escaped(&cells(line))?;
            Some(words.into_iter().map(|word| word.text).collect())
        };
        let line = r#"x "a 'b'" c\ d 'e "f"' \x41\102\cA g"h i"j \d"#;
        let expected = ["x", "a 'b'", "c d", "e \"f\"", "AB\u{1}", "gh ij", "d"];
        assert_eq!(texts(line).unwrap(), expected);
        assert_eq!(texts("a 'b"), None);
        assert_eq!(texts("a \\"), None);
        assert_eq!(texts("").unwrap(), Vec::<String>::new());
    }
}
