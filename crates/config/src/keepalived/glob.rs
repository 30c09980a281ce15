//! File names with wildcards and braces.

use std::path::{Path, PathBuf};

use crate::files::Files;

/// Most alternatives of a pattern's braces, and most files.
const MAX: usize = 1024;

/// True if a pattern may stand for several names.
pub(super) fn is_pattern(pattern: &str) -> bool {
    pattern.contains(['*', '?', '['])
}

/// The alternatives of a pattern's braces: `a{b,c}` is `ab` and `ac`.
pub(super) fn alternatives(pattern: &str) -> Vec<String> {
    let mut open = vec![pattern.to_owned()];
    let mut whole = Vec::new();
    while let Some(pattern) = open.pop() {
        match braces(&pattern) {
            Some((before, inner, after)) if open.len() + whole.len() < MAX => {
                let parts = inner.iter().rev();
                open.extend(parts.map(|part| format!("{before}{part}{after}")));
            }
            _ => whole.push(pattern),
        }
    }
    whole.truncate(MAX);
    whole
}

/// What stands before a pattern's first braces, in them, and behind them.
fn braces(pattern: &str) -> Option<(&str, Vec<&str>, &str)> {
    let start = pattern.find('{')?;
    let mut depth = 0usize;
    let mut parts = Vec::new();
    let mut part = start + 1;
    for (at, c) in pattern.char_indices().skip_while(|(at, _)| *at < start) {
        match c {
            '{' => depth += 1,
            ',' if depth == 1 => {
                parts.push(&pattern[part..at]);
                part = at + 1;
            }
            '}' if depth == 1 => {
                parts.push(&pattern[part..at]);
                return Some((&pattern[..start], parts, &pattern[at + 1..]));
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
    None
}

/// The files that a pattern without braces stands for, by name.
pub(super) fn matches(files: &dyn Files, directory: &Path, pattern: &str) -> Vec<PathBuf> {
    let mut found = vec![if pattern.starts_with('/') {
        PathBuf::from("/")
    } else {
        directory.to_owned()
    }];
    for part in pattern.split('/').filter(|part| !part.is_empty()) {
        let mut next = Vec::new();
        for path in found {
            if !is_pattern(part) {
                next.push(path.join(part));
                continue;
            }
            let mut names = files.entries(&path).unwrap_or_default();
            names.retain(|name| fits(part, name));
            names.sort_unstable();
            next.extend(names.into_iter().map(|name| path.join(name)));
        }
        next.truncate(MAX);
        found = next;
    }
    found.retain(|path| files.status(path).is_ok());
    found
}

/// True if a name fits a pattern. A dot at its start has to be written.
fn fits(pattern: &str, name: &str) -> bool {
    if name.starts_with('.') && !pattern.starts_with('.') {
        return false;
    }
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    let (mut p, mut n) = (0, 0);
    // Where to go on when what was tried behind the last `*` does not fit.
    let mut star = None;
    loop {
        let step = match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
                continue;
            }
            None if n == name.len() => return true,
            None => None,
            Some(_) => name.get(n).and_then(|&c| one(&pattern[p..], c)),
        };
        match (step, star) {
            (Some(length), _) => {
                p += length;
                n += 1;
            }
            (None, Some((at, from))) if from < name.len() => {
                star = Some((at, from + 1));
                p = at + 1;
                n = from + 1;
            }
            _ => return false,
        }
    }
}

/// How long the part of a pattern is that a character fits.
fn one(pattern: &[char], c: char) -> Option<usize> {
    match *pattern {
        ['?', ..] => Some(1),
        ['[', ref rest @ ..] => {
            let (negated, skipped) = match rest {
                ['!' | '^', ..] => (true, 1),
                _ => (false, 0),
            };
            let set = &rest[skipped..];
            // A `]` at the start stands for itself.
            let Some(end) = set.iter().skip(1).position(|&c| c == ']') else {
                return (c == '[').then_some(1);
            };
            let set = &set[..=end];
            (contains(set, c) != negated).then_some(set.len() + skipped + 2)
        }
        ['\\', escaped, ..] => (escaped == c).then_some(2),
        [wanted, ..] => (wanted == c).then_some(1),
        [] => None,
    }
}

fn contains(set: &[char], c: char) -> bool {
    let mut rest = set;
    loop {
        match *rest {
            [from, '-', to, ref after @ ..] => {
                if (from..=to).contains(&c) {
                    return true;
                }
                rest = after;
            }
            [one, ref after @ ..] => {
                if one == c {
                    return true;
                }
                rest = after;
            }
            [] => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::Memory;

    #[test]
    fn names_fit_patterns() {
        let good = [
            ("*.conf", "a.conf"),
            ("a?c*", "abcde"),
            ("[a-c]x[!0-9]", "bxy"),
            ("*a*b*", "xxayyabz"),
            ("\\*", "*"),
            ("[]x]", "]"),
            ("[", "["),
        ];
        for (pattern, name) in good {
            assert!(fits(pattern, name), "{pattern} {name}");
        }
        let bad = [
            ("*.conf", ".conf"),
            ("*.conf", "a.conf~"),
            ("[!a]", "a"),
            ("?", ""),
        ];
        for (pattern, name) in bad {
            assert!(!fits(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn braces_are_alternatives() {
        assert_eq!(alternatives("a{b,c{d,e}}f"), ["abf", "acdf", "acef"]);
        assert_eq!(alternatives("a{b"), ["a{b"]);
        assert_eq!(alternatives("{,x}"), ["", "x"]);
        assert!(alternatives(&"{a,b}".repeat(40)).len() <= MAX);
    }

    #[test]
    fn files_are_found_below_a_directory() {
        let mut memory = Memory::default();
        for path in ["/e/b.conf", "/e/a.conf", "/e/x.txt", "/e/d/c.conf"] {
            memory.add(path, "");
        }
        let found = |pattern: &str| matches(&memory, Path::new("/e"), pattern);
        let paths =
            |paths: &[&str]| -> Vec<PathBuf> { paths.iter().copied().map(PathBuf::from).collect() };
        assert_eq!(found("*.conf"), paths(&["/e/a.conf", "/e/b.conf"]));
        assert_eq!(found("*/*.conf"), paths(&["/e/d/c.conf"]));
        assert_eq!(found("/e/x.*"), paths(&["/e/x.txt"]));
        assert_eq!(found("none"), paths(&[]));
    }
}
