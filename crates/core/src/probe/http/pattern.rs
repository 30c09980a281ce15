//! Expressions as Perl writes them, for a matcher that needs no more time than the body is
//! long.
//!
//! What is written differently there is rewritten; what such a matcher can't do (looking ahead
//! or behind, back-references, recursion, atomic groups, possessive quantifiers) is an error.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt::Write as _;

use regex::bytes::{Regex, RegexBuilder};

use crate::model::PageRegex;

mod class;

/// The options' names, as keepalived has them. Those that only say how a match is looked for,
/// or what an expression may contain, change nothing here; `utf` and `ucp` do, and `ucp` only
/// together with `utf`.
pub const OPTIONS: &[&str] = &[
    "allow_empty_class",
    "alt_bsux",
    "auto_callout",
    "caseless",
    "dollar_endonly",
    "dotall",
    "dupnames",
    "extended",
    "firstline",
    "match_unset_backref",
    "multiline",
    "never_ucp",
    "never_utf",
    "no_auto_capture",
    "no_auto_possess",
    "no_dotstar_anchor",
    "no_start_optimize",
    "ucp",
    "ungreedy",
    "utf",
    "never_backslash_c",
    "alt_circumflex",
    "alt_verbnames",
    "use_offset_limit",
];

/// An expression ready to be looked for.
#[derive(Clone, Debug)]
pub struct Pattern {
    pub(super) regex: Regex,
    /// Offsets of the body where matches may begin.
    pub(super) min: usize,
    pub(super) max: Option<usize>,
    /// They begin in the body's first line.
    pub(super) first_line: bool,
}

impl Pattern {
    pub(super) const fn has_offsets(&self) -> bool {
        self.min > 0 || self.max.is_some()
    }
}

/// Makes an expression ready; an error says, in words, what of it is not understood and where.
/// Options that keepalived does not know count for nothing, as there.
pub fn compile(page: &PageRegex) -> Result<Pattern, String> {
    let has = |name: &str| page.options.iter().any(|option| option == name);
    let utf = has("utf");
    let text = Translation::of(&page.pattern, &has)?;
    let regex = RegexBuilder::new(&text)
        .unicode(utf)
        .case_insensitive(has("caseless"))
        .multi_line(has("multiline"))
        .dot_matches_new_line(has("dotall"))
        .swap_greed(has("ungreedy"))
        .build()
        .map_err(|error| format!("cannot read the expression: {}", in_short(&error)))?;
    Ok(Pattern {
        regex,
        min: page.min_offset,
        max: Some(page.max_offset).filter(|max| *max > 0),
        first_line: has("firstline"),
    })
}

/// The last line of a syntax error, which says what it is; the lines before draw it.
fn in_short(error: &regex::Error) -> String {
    let text = format!("{error}");
    let last = text.lines().last().unwrap_or_default();
    last.strip_prefix("error: ").unwrap_or(last).into()
}

/// An expression on its way from one syntax to the other.
struct Translation {
    /// What it is made of: characters with `utf`, else bytes.
    units: Vec<u32>,
    at: usize,
    out: String,
    utf: bool,
    ucp: bool,
    /// What `$` means: the end alone, or also before a newline there.
    end: &'static str,
    empty_class: bool,
    /// Whether white space is left out, for each open group.
    extended: Vec<bool>,
}

/// What an escape stands for.
enum Escape {
    /// One character or byte.
    One(u32),
    /// Several: members of a class in the other syntax.
    Members(String),
    /// Something that has no place in a class, in the other syntax.
    Other(String),
}

type Result<T, E = String> = core::result::Result<T, E>;

impl Translation {
    fn of(pattern: &str, has: &dyn Fn(&str) -> bool) -> Result<String> {
        let utf = has("utf");
        let units = if utf {
            pattern.chars().map(u32::from).collect()
        } else {
            pattern.bytes().map(u32::from).collect()
        };
        let mut this = Self {
            units,
            at: 0,
            out: String::new(),
            utf,
            ucp: utf && has("ucp"),
            end: if has("dollar_endonly") {
                "$"
            } else {
                "(?:$|\\n\\z)"
            },
            empty_class: has("allow_empty_class"),
            extended: vec![has("extended")],
        };
        while let Some(unit) = this.next() {
            this.unit(unit)?;
        }
        Ok(this.out)
    }

    fn peek(&self) -> Option<char> {
        self.units.get(self.at).copied().and_then(ascii)
    }

    fn next(&mut self) -> Option<u32> {
        let unit = self.units.get(self.at).copied();
        self.at += usize::from(unit.is_some());
        unit
    }

    /// Goes past this if it comes next.
    fn eat(&mut self, text: &str) -> bool {
        let rest = self.units.get(self.at..).unwrap_or_default();
        let is_next = rest.len() >= text.len()
            && rest
                .iter()
                .zip(text.bytes())
                .all(|(unit, byte)| *unit == u32::from(byte));
        if is_next {
            self.at += text.len();
        }
        is_next
    }

    /// What comes next as long as it is of this kind, as text.
    fn eat_while(&mut self, is: impl Fn(char) -> bool, most: usize) -> String {
        let rest = self.units[self.at..].iter().map_while(|unit| ascii(*unit));
        let text: String = rest.take_while(|c| is(*c)).take(most).collect();
        self.at += text.len();
        text
    }

    fn refuse<T>(&self, what: &str) -> Result<T> {
        Err(format!("at {}: {what}", self.at))
    }

    fn is_extended(&self) -> bool {
        self.extended.last().copied().unwrap_or_default()
    }

    /// One thing outside classes.
    fn unit(&mut self, unit: u32) -> Result<()> {
        match ascii(unit) {
            Some('\\') => self.escaped()?,
            Some('[') => self.class()?,
            Some('(') => self.group()?,
            Some(')') => {
                self.extended.pop();
                self.out.push(')');
            }
            Some('$') => self.out.push_str(self.end),
            Some(c @ ('*' | '+' | '?')) => {
                self.out.push(c);
                self.after_quantifier()?;
            }
            Some('{') => self.brace()?,
            Some(c @ ('^' | '.' | '|')) => self.out.push(c),
            Some('#') if self.is_extended() => {
                while self.next().is_some_and(|unit| unit != u32::from(b'\n')) {}
            }
            Some(c) if self.is_extended() && is_space(c) => {}
            _ => one(&mut self.out, unit),
        }
        Ok(())
    }

    /// A quantifier if it is written as one, else a brace.
    fn brace(&mut self) -> Result<()> {
        let start = self.at;
        let digit = |c: char| c.is_ascii_digit();
        let least = self.eat_while(digit, 5);
        let comma = self.eat(",");
        let most = self.eat_while(digit, 5);
        if least.is_empty() || !self.eat("}") {
            self.at = start;
            one(&mut self.out, u32::from(b'{'));
            return Ok(());
        }
        let comma = if comma { "," } else { "" };
        // Writing to a string does not fail.
        let _ = write!(self.out, "{{{least}{comma}{most}}}");
        self.after_quantifier()
    }

    fn after_quantifier(&mut self) -> Result<()> {
        if self.eat("?") {
            self.out.push('?');
        } else if self.peek() == Some('+') {
            return self.refuse("possessive quantifiers are not supported");
        }
        Ok(())
    }

    /// What stands after `(`. Groups that are referred to by nothing need neither number nor
    /// name.
    fn group(&mut self) -> Result<()> {
        if self.peek() == Some('*') {
            return self.refuse("verbs in (*…) are not supported");
        }
        if self.eat("?#") {
            while !self.eat(")") {
                if self.next().is_none() {
                    return self.refuse("a comment without its end");
                }
            }
            return Ok(());
        }
        if self.eat("?") {
            return self.special_group();
        }
        self.open("");
        Ok(())
    }

    fn open(&mut self, flags: &str) {
        // Writing to a string does not fail.
        let _ = write!(self.out, "(?{flags}:");
        self.extended.push(self.is_extended());
    }

    /// What stands after `(?`.
    fn special_group(&mut self) -> Result<()> {
        const REFUSED: &[(&str, &str)] = &[
            ("=", "look-ahead is"),
            ("!", "look-ahead is"),
            ("<=", "look-behind is"),
            ("<!", "look-behind is"),
            (">", "atomic groups are"),
            ("P=", "back-references are"),
            ("P>", "recursion is"),
            ("&", "recursion is"),
            ("R", "recursion is"),
            ("+", "recursion is"),
            ("(", "conditions are"),
            ("C", "callouts are"),
            ("^", "(?^ is"),
        ];
        if self.peek().is_some_and(|c| c.is_ascii_digit()) {
            return self.refuse("recursion is not supported");
        }
        for (text, name) in REFUSED {
            if self.eat(text) {
                return self.refuse(&format!("{name} not supported"));
            }
        }
        for (start, end) in [("P<", '>'), ("<", '>'), ("'", '\'')] {
            if self.eat(start) {
                while self.next().is_some_and(|unit| ascii(unit) != Some(end)) {}
                self.open("");
                return Ok(());
            }
        }
        // Without references, groups with the same numbers are groups.
        if self.eat("|") || self.eat(":") {
            self.open("");
            return Ok(());
        }
        self.flags()
    }

    /// Flags for the rest of a group, or for a group of their own.
    fn flags(&mut self) -> Result<()> {
        let mut flags = String::new();
        let mut extended = self.is_extended();
        let mut on = true;
        loop {
            match self.next().and_then(ascii) {
                Some('-') if on => {
                    on = false;
                    flags.push('-');
                }
                Some('x') => extended = on,
                Some('J' | 'n') => {}
                Some(c @ ('i' | 'm' | 's' | 'U')) => flags.push(c),
                Some(end @ (')' | ':')) => {
                    let flags = flags.strip_suffix('-').unwrap_or(&flags);
                    if end == ':' {
                        self.open(flags);
                    } else if !flags.is_empty() {
                        // Writing to a string does not fail.
                        let _ = write!(self.out, "(?{flags})");
                    }
                    if let Some(last) = self.extended.last_mut() {
                        *last = extended;
                    }
                    return Ok(());
                }
                _ => return self.refuse("this kind of group is not known"),
            }
        }
    }

    /// An escape outside classes.
    fn escaped(&mut self) -> Result<()> {
        if self.eat("Q") {
            while self.at < self.units.len() && !self.eat("\\E") {
                if let Some(unit) = self.next() {
                    one(&mut self.out, unit);
                }
            }
            return Ok(());
        }
        if self.eat("E") {
            return Ok(());
        }
        match self.escape(false)? {
            Escape::One(unit) => one(&mut self.out, unit),
            Escape::Members(members) => {
                let _ = write!(self.out, "[{members}]");
            }
            Escape::Other(text) => self.out.push_str(&text),
        }
        Ok(())
    }

    /// What stands after a backslash.
    fn escape(&mut self, in_class: bool) -> Result<Escape> {
        let Some(unit) = self.next() else {
            return self.refuse("a backslash at the end");
        };
        let Some(c) = ascii(unit).filter(char::is_ascii_alphanumeric) else {
            return Ok(Escape::One(unit));
        };
        if let Some(members) = self.set(c) {
            return Ok(Escape::Members(members));
        }
        let one = |code: u8| Ok(Escape::One(code.into()));
        match c {
            'a' => one(7),
            'e' => one(0x1b),
            'f' => one(0x0c),
            'n' => one(b'\n'),
            'r' => one(b'\r'),
            't' => one(b'\t'),
            'b' if in_class => one(8),
            'c' | 'o' | 'x' => self.number(c).map(Escape::One),
            '0' | '1'..='7' if in_class || c == '0' => {
                self.at -= 1;
                self.number('0').map(Escape::One)
            }
            'p' | 'P' => self.property(c).map(Escape::Members),
            '1'..='9' | 'g' | 'k' => self.refuse("back-references are not supported"),
            _ if !in_class => self.assertion(c).map(Escape::Other),
            _ => self.refuse(&format!("\\{c} in a class is not supported")),
        }
    }

    /// The members of a set that has a letter.
    fn set(&self, letter: char) -> Option<String> {
        let name = match letter {
            'd' | 'D' => "digit",
            's' | 'S' => "space",
            'w' | 'W' => "word",
            // Without newlines of other kinds these are the same in bytes and characters.
            'h' => return Some("\\t\\x20\\xA0".into()),
            'v' => return Some("\\n\\x0B\\f\\r\\x85".into()),
            'H' => return Some("[^\\t\\x20\\xA0]".into()),
            'V' => return Some("[^\\n\\x0B\\f\\r\\x85]".into()),
            'N' => return Some("[^\\n]".into()),
            _ => return None,
        };
        let not = if letter.is_ascii_uppercase() { "^" } else { "" };
        Some(if self.ucp {
            format!("\\{letter}")
        } else {
            format!("[:{not}{name}:]")
        })
    }

    /// What is no character.
    fn assertion(&self, letter: char) -> Result<String> {
        Ok(match letter {
            'A' => "\\A".into(),
            'z' => "\\z".into(),
            'Z' => "(?:\\z|\\n\\z)".into(),
            'b' | 'B' if self.ucp => format!("\\{letter}"),
            'b' | 'B' => format!("(?-u:\\{letter})"),
            'R' => "(?:\\r\\n|[\\n\\x0B\\f\\r\\x85])".into(),
            'C' => "(?s-u:.)".into(),
            _ => return self.refuse(&format!("\\{letter} is not supported")),
        })
    }

    /// A character by its number, after the letter that says how it is written.
    fn number(&mut self, letter: char) -> Result<u32> {
        let octal = |c: char| c.is_digit(8);
        let hexadecimal = |c: char| c.is_ascii_hexdigit();
        let (digits, base) = match letter {
            'c' => {
                return match self.next().and_then(ascii) {
                    Some(c) if c.is_ascii_graphic() => Ok(u32::from(c.to_ascii_uppercase()) ^ 0x40),
                    _ => self.refuse("\\c without a character"),
                };
            }
            'x' | 'o' if self.eat("{") => {
                let base = if letter == 'x' { 16 } else { 8 };
                let digits = self.eat_while(|c| c.is_digit(base), 8);
                if digits.is_empty() || !self.eat("}") {
                    return self.refuse("no number in braces");
                }
                (digits, base)
            }
            'x' => (self.eat_while(hexadecimal, 2), 16),
            '0' => (self.eat_while(octal, 3), 8),
            _ => return self.refuse("\\o without braces"),
        };
        let most = if self.utf { 0x10_ffff } else { 0xff };
        match u32::from_str_radix(&format!("0{digits}"), base) {
            Ok(number) if number <= most => Ok(number),
            _ => self.refuse("a character's number is too large"),
        }
    }

    /// `\p…`, which needs `utf`.
    fn property(&mut self, letter: char) -> Result<String> {
        if !self.utf {
            return self.refuse("\\p needs the option utf");
        }
        let name = if self.eat("{") {
            let name = self.eat_while(|c| c != '}', 64);
            self.eat("}");
            name
        } else {
            self.eat_while(|c| c.is_ascii_alphabetic(), 1)
        };
        Ok(format!("\\{letter}{{{name}}}"))
    }
}

fn ascii(unit: u32) -> Option<char> {
    u8::try_from(unit).ok().filter(u8::is_ascii).map(char::from)
}

const fn is_space(c: char) -> bool {
    matches!(c, '\t'..='\r' | ' ')
}

/// One character or byte, such that nothing of it has a meaning of its own.
fn one(out: &mut String, unit: u32) {
    match ascii(unit) {
        Some(c) if c.is_ascii_alphanumeric() => out.push(c),
        // Two digits are a byte where all is bytes, braces never are. Writing to a string does
        // not fail.
        _ if unit <= 0xff => _ = write!(out, "\\x{unit:02X}"),
        _ => _ = write!(out, "\\x{{{unit:X}}}"),
    }
}

#[cfg(test)]
mod tests;
