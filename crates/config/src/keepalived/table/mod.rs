//! Every keyword of keepalived.conf: in which block it stands, what it takes, what it
//! does, and how much of that is done here. Parser, `evenkeel explain` and the pages of
//! documentation come from here.

mod bfd;
mod checkers;
mod failover;
mod global;
mod machine;
mod services;
mod vrrp;

use std::fmt::Write as _;

pub use global::ROOT;
pub(super) use services::PERSISTENCE_MAX;

/// A keyword in a block.
#[derive(Debug)]
pub struct Keyword {
    /// Name.
    pub name: &'static str,
    /// What stands behind it.
    pub takes: Takes,
    /// What it does, in one or two sentences.
    pub help: &'static str,
    /// What holds without it; empty: nothing of the kind.
    pub default: &'static str,
    /// How much of it is done here.
    pub grade: Grade,
    /// The keyword that it is an old name of.
    pub old_name_of: Option<&'static str>,
    /// The release of keepalived that first has it, if that is newer than 2.2.7.
    pub since: Option<&'static str>,
    /// True: keepalived has no such keyword.
    pub ours: bool,
}

/// How much of a keyword is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grade {
    /// All of it.
    Acts,
    /// It is read and does nothing, for this reason.
    Idle(&'static str),
    /// It belongs to a part of keepalived that this release does not have yet.
    NotYet(&'static str),
}

/// What stands behind a keyword.
#[derive(Debug)]
pub enum Takes {
    /// Nothing.
    Nothing,
    /// `on`, `off` and the like; nothing means on.
    Switch,
    /// A whole number in this range.
    Number(u64, u64),
    /// A whole number, negative ones too, and a word of these behind it or nothing.
    Signed(i64, i64, &'static [&'static str]),
    /// Seconds with a decimal point, in microseconds from the first to the second.
    Seconds(u64, u64),
    /// One word, of which this says what it is.
    Word(&'static str),
    /// One of these words.
    Choice(&'static [&'static str]),
    /// An IPv4 or IPv6 address.
    Address,
    /// A command, in quotes if it has arguments, and whom it runs as.
    Script,
    /// Words as this says; none is less than the first number.
    Words(usize, &'static str),
    /// A block of lines, with words before it as the first text says, each of which is what
    /// the second one says.
    Lines(&'static str, &'static str),
    /// A block of keywords, with words before it as the text says.
    Block(&'static Block, &'static str),
}

/// What may stand between a pair of braces.
#[derive(Debug)]
pub struct Block {
    /// The keyword before it, empty for what stands outside of all blocks.
    pub name: &'static str,
    /// Its keywords.
    pub keywords: &'static [&'static [Keyword]],
}

impl Block {
    /// Each of its keywords.
    pub fn all(&'static self) -> impl Iterator<Item = &'static Keyword> {
        self.keywords.iter().copied().flatten()
    }

    /// The keyword of this name.
    #[must_use]
    pub fn find(&'static self, name: &str) -> Option<&'static Keyword> {
        self.all().find(|keyword| keyword.name == name)
    }
}

/// Seconds in microseconds.
const S: u64 = 1_000_000;
/// The longest time where keepalived has no other limit: some 136 years.
const LONG: u64 = (u32::MAX as u64) * S;
/// Greatest number of 32 bits.
const U32: u64 = u32::MAX as u64;
/// Greatest weight.
const WEIGHT: u64 = i32::MAX as u64;
/// The same, where it may be negative.
const WEIGHT_SIGNED: i64 = i32::MAX as i64;
const FAILOVER: &str = "failover is not run by this release";

const fn kw(name: &'static str, takes: Takes, help: &'static str) -> Keyword {
    Keyword {
        name,
        takes,
        help,
        default: "",
        grade: Grade::Acts,
        old_name_of: None,
        since: None,
        ours: false,
    }
}

/// One that is part of failover.
const fn later(name: &'static str, takes: Takes, help: &'static str) -> Keyword {
    let mut keyword = kw(name, takes, help);
    keyword.grade = Grade::NotYet(FAILOVER);
    keyword
}

/// One that does nothing here, and why.
const fn idle(name: &'static str, takes: Takes, help: &'static str, why: &'static str) -> Keyword {
    let mut keyword = kw(name, takes, help);
    keyword.grade = Grade::Idle(why);
    keyword
}

impl Keyword {
    const fn or(mut self, default: &'static str) -> Self {
        self.default = default;
        self
    }

    const fn old(mut self, new: &'static str) -> Self {
        self.old_name_of = Some(new);
        self
    }

    const fn since(mut self, release: &'static str) -> Self {
        self.since = Some(release);
        self
    }

    /// How it is written: its name, and what stands behind it.
    #[must_use]
    pub fn syntax(&self) -> String {
        let mut syntax = self.name.to_owned();
        let takes = self.takes.shown();
        if !takes.is_empty() {
            let _ = write!(syntax, " {takes}");
        }
        syntax
    }
}

impl Takes {
    /// As a page of documentation has it.
    #[must_use]
    pub fn shown(&self) -> String {
        match self {
            Self::Nothing => String::new(),
            Self::Switch => "[on|off]".into(),
            Self::Number(least, greatest) => match *greatest {
                U32 | WEIGHT if *least == 0 => "NUMBER".into(),
                U32 | WEIGHT => format!("NUMBER from {least} on"),
                _ => format!("{least}-{greatest}"),
            },
            Self::Signed(least, greatest, words) => {
                let mut shown = match greatest {
                    1_000_000_000.. => "NUMBER".into(),
                    _ => format!("{least}…{greatest}"),
                };
                if !words.is_empty() {
                    let _ = write!(shown, " [{}]", words.join("|"));
                }
                shown
            }
            Self::Seconds(least, greatest) => match *greatest {
                LONG => "SECONDS".into(),
                _ => format!("SECONDS {}-{}", seconds(*least), seconds(*greatest)),
            },
            Self::Word(what) | Self::Words(_, what) => (*what).into(),
            Self::Choice(words) => words.join("|"),
            Self::Address => "ADDRESS".into(),
            Self::Script => "COMMAND [USER [GROUP]]".into(),
            Self::Lines("", what) => format!("{{ {what} … }}"),
            Self::Lines(before, what) => format!("{before} {{ {what} … }}"),
            Self::Block(_, "") => "{ … }".into(),
            Self::Block(_, before) => format!("{before} {{ … }}"),
        }
    }
}

/// Microseconds in seconds, with as many places as are needed.
#[must_use]
pub fn seconds(microseconds: u64) -> String {
    let whole = microseconds / S;
    match microseconds % S {
        0 => whole.to_string(),
        part => format!("{whole}.{part:06}").trim_end_matches('0').into(),
    }
}

/// A keyword, and the blocks that it stands in from the outermost on.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Names of the blocks.
    pub path: Vec<&'static str>,
    /// It.
    pub keyword: &'static Keyword,
}

impl Entry {
    /// Block and keyword, such as `virtual_server.quorum`.
    #[must_use]
    pub fn dotted(&self) -> String {
        let mut parts = self.path.clone();
        parts.push(self.keyword.name);
        parts.join(".")
    }
}

/// Every keyword of every block, each block after the keyword that opens it.
#[must_use]
pub fn entries() -> Vec<Entry> {
    fn visit(block: &'static Block, path: &[&'static str], entries: &mut Vec<Entry>) {
        for keyword in block.all() {
            entries.push(Entry {
                path: path.to_vec(),
                keyword,
            });
            if let Takes::Block(inner, _) = keyword.takes {
                let mut path = path.to_vec();
                path.push(keyword.name);
                visit(inner, &path, entries);
            }
        }
    }
    let mut entries = Vec::new();
    visit(&ROOT, &[], &mut entries);
    entries
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn the_table_is_whole() {
        let entries = entries();
        assert!(entries.len() > 300, "{}", entries.len());
        let mut seen = HashSet::new();
        for entry in &entries {
            let name = entry.dotted();
            assert!(seen.insert(name.clone()), "{name} stands there twice");
            let Keyword { help, .. } = entry.keyword;
            assert!(help.ends_with('.') && help.len() > 10, "{name}: {help}");
            if let Some(new) = entry.keyword.old_name_of {
                let new = new.rsplit(' ').next().unwrap_or(new);
                assert!(
                    entries.iter().any(|entry| entry.keyword.name == new),
                    "{name} is an old name of {new}"
                );
            }
        }
    }
}
