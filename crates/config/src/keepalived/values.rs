//! What stands behind a keyword, checked against what the table says.

use std::net::IpAddr;
use std::time::Duration;

use super::table::{Grade, Keyword, Takes, seconds};
use super::text::{At, Report};
use super::words::Word;
use crate::diagnostic::{Diagnostic, Severity};
use crate::native::nearest;

/// What stands behind a keyword.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    /// Nothing that can be used: it was warned of.
    Wrong,
    /// Words that are looked at elsewhere, or none.
    Words,
    Switch(bool),
    Number(u64),
    Signed(i64),
    Seconds(Duration),
}

/// About a word.
pub(super) fn about(
    severity: Severity,
    at: &At,
    word: &Word,
    message: impl Into<String>,
) -> Diagnostic {
    Diagnostic::new(severity, at.place(word.column), message).spanning(word.length.max(1))
}

/// Warns of a word.
pub(super) fn warning(at: &At, word: &Word, message: impl Into<String>) -> Diagnostic {
    about(Severity::Warning, at, word, message)
}

/// True, false, or none of both.
pub(super) fn switch(word: &str) -> Option<bool> {
    match word {
        "on" | "true" | "yes" => Some(true),
        "off" | "false" | "no" => Some(false),
        _ => None,
    }
}

/// An address, without a mask or a range behind it.
pub(super) fn address(word: &str) -> Option<IpAddr> {
    word.parse().ok()
}

/// Reads what stands behind a keyword, the first word. Whatever is wrong is warned of.
pub(super) fn read(keyword: &Keyword, words: &[Word], at: &At, report: &mut Report) -> Value {
    let Some((name, words)) = words.split_first() else {
        return Value::Wrong;
    };
    let (least, most) = count(&keyword.takes);
    if words.len() < least {
        report.add(missing(keyword, at, name));
        return Value::Wrong;
    }
    if let Some(extra) = words.get(most..).filter(|extra| !extra.is_empty()) {
        report.add(too_many(keyword, at, extra));
    }
    let Some(word) = words.first() else {
        return match keyword.takes {
            Takes::Switch => Value::Switch(true),
            _ => Value::Words,
        };
    };
    let read = first(keyword, words, at, report);
    read.unwrap_or_else(|fault| {
        let message = format!("{:?} {fault}", word.text);
        let found = warning(at, word, message).expecting(expected(keyword));
        report.add(usual(found, keyword));
        Value::Wrong
    })
}

/// About words that have no meaning.
fn too_many(keyword: &Keyword, at: &At, extra: &[Word]) -> Diagnostic {
    let start = extra[0].column;
    let end = extra.last().map_or(start, |word| {
        word.column + u32::try_from(word.length).unwrap_or(0)
    });
    let name = keyword.name;
    let message = format!("{name} takes no more than this; the rest is ignored");
    warning(at, &extra[0], message)
        .spanning(end.saturating_sub(start).max(1) as usize)
        .expecting(expected(keyword))
}

/// What the first word comes to, or what is wrong with it.
fn first(keyword: &Keyword, words: &[Word], at: &At, report: &mut Report) -> Result<Value, String> {
    let word = &words[0];
    let mut warn = |message: String, expected: String| {
        report.add(warning(at, word, message).expecting(expected));
    };
    match &keyword.takes {
        Takes::Switch => switch(&word.text)
            .map(Value::Switch)
            .ok_or_else(|| "is neither on nor off".to_owned()),
        Takes::Number(least, greatest) => {
            let (number, whole) = number(&word.text, *least, *greatest)?;
            if !whole {
                let message = format!("{:?} is no number; {number} is taken", word.text);
                warn(message, expected(keyword));
            }
            Ok(Value::Number(number))
        }
        Takes::Seconds(least, greatest) => {
            let (time, rounded) = time(&word.text, *least, *greatest)?;
            if rounded {
                let message = format!("{} has more than six decimal places", word.text);
                warn(message, "it is rounded".into());
            }
            Ok(Value::Seconds(time))
        }
        Takes::Signed(least, greatest, options) => {
            let is_wrong = |word: &&Word| !options.contains(&word.text.as_str());
            let option = words.get(1).filter(|_| !options.is_empty());
            if let Some(option) = option.filter(is_wrong) {
                let message = format!("{:?} is nothing that {} takes", option.text, keyword.name);
                report.add(warning(at, option, message).expecting(options.join(" or ")));
                return Ok(Value::Wrong);
            }
            signed(&word.text, *least, *greatest).map(Value::Signed)
        }
        Takes::Choice(known) if !fits(keyword, known, &word.text) => {
            report.add(no_choice(keyword, known, at, word));
            Ok(Value::Wrong)
        }
        Takes::Address if address(&word.text).is_none() => Err("is no address".into()),
        _ => Ok(Value::Words),
    }
}

fn no_choice(keyword: &Keyword, known: &[&str], at: &At, word: &Word) -> Diagnostic {
    let message = format!("{:?} is nothing that {} takes", word.text, keyword.name);
    let found = warning(at, word, message).expecting(expected(keyword));
    // Of numbers none is nearer than another.
    let text = Some(&word.text).filter(|text| (3..40).contains(&text.len()));
    match text.and_then(|text| nearest(text, known)) {
        Some(near) => found.hinting(format!("did you mean {near}?")),
        None => usual(found, keyword),
    }
}

/// Says what holds in place of a value that is wrong.
fn usual(found: Diagnostic, keyword: &Keyword) -> Diagnostic {
    if keyword.default.is_empty() {
        return found.hinting("the line is ignored");
    }
    found.hinting(format!(
        "the line is ignored; without it holds: {}",
        keyword.default
    ))
}

fn fits(keyword: &Keyword, known: &[&str], word: &str) -> bool {
    // keepalived takes protocols in any case, and nothing else.
    if keyword.name == "protocol" {
        return known.iter().any(|known| known.eq_ignore_ascii_case(word));
    }
    known.contains(&word)
}

/// Keywords behind which something may be missing, for keepalived.
const MAY_LACK: &[&str] = &[
    "http_protocol",
    "lvs_notify_fifo",
    "lvs_notify_fifo_script",
    "lvs_timeouts",
    "misc_path",
    "notify_fifo",
    "notify_fifo_script",
    "payload",
    "regex",
    "regex_options",
    "script_user",
    "status_code",
    "user",
];

fn missing(keyword: &Keyword, at: &At, name: &Word) -> Diagnostic {
    // keepalived itself ends here, but for texts and some others, where it goes on.
    let goes_on = matches!(keyword.takes, Takes::Word(_) | Takes::Signed(..))
        || MAY_LACK.contains(&keyword.name);
    let is_fatal = keyword.grade == Grade::Acts && !goes_on;
    let severity = if is_fatal {
        Severity::Error
    } else {
        Severity::Warning
    };
    let message = format!("nothing stands behind {}", name.text);
    about(severity, at, name, message).expecting(expected(keyword))
}

fn expected(keyword: &Keyword) -> String {
    match keyword.takes {
        Takes::Nothing => format!("expected {} alone", keyword.name),
        _ => format!("expected {}", keyword.syntax()),
    }
}

/// The least and the greatest number of words behind a keyword.
fn count(takes: &Takes) -> (usize, usize) {
    match takes {
        Takes::Nothing | Takes::Block(_, "") | Takes::Lines("", _) => (0, 0),
        Takes::Switch => (0, 1),
        Takes::Number(..)
        | Takes::Seconds(..)
        | Takes::Word(_)
        | Takes::Choice(_)
        | Takes::Lines(..)
        | Takes::Address => (1, 1),
        Takes::Signed(_, _, words) => (1, if words.is_empty() { 1 } else { 2 }),
        // The words of scripts are told apart in another way.
        Takes::Script | Takes::Block(..) => (1, usize::MAX),
        Takes::Words(least, _) => (*least, usize::MAX),
    }
}

/// A number, and true if the word is nothing else.
pub(super) fn number(word: &str, least: u64, greatest: u64) -> Result<(u64, bool), String> {
    let word = word.trim_start();
    if word.starts_with('-') {
        return Err("is negative".into());
    }
    let digits = word.trim_start_matches('+');
    let end = digits
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(digits.len());
    if end == 0 {
        return Err("is no number".into());
    }
    let outside = || format!("is outside of {least} to {greatest}");
    let number: u64 = digits[..end].parse().map_err(|_| outside())?;
    if !(least..=greatest).contains(&number) {
        return Err(outside());
    }
    Ok((number, end == digits.len()))
}

/// A number that is the whole word.
pub(super) fn whole(word: &str, least: u64, greatest: u64) -> Option<u64> {
    let read = number(word, least, greatest).ok();
    read.filter(|(_, whole)| *whole).map(|(number, _)| number)
}

fn signed(word: &str, least: i64, greatest: i64) -> Result<i64, String> {
    let number: i64 = word.trim().parse().map_err(|_| "is no whole number")?;
    if !(least..=greatest).contains(&number) {
        return Err(format!("is outside of {least} to {greatest}"));
    }
    Ok(number)
}

/// A time, and true if it had to be rounded.
fn time(word: &str, least: u64, greatest: u64) -> Result<(Duration, bool), String> {
    if word.starts_with('-') {
        return Err("is negative".into());
    }
    let (whole, part) = word.split_once('.').unwrap_or((word, ""));
    let is_digits = |digits: &str| digits.bytes().all(|c| c.is_ascii_digit());
    if (whole.is_empty() && part.is_empty()) || !is_digits(whole) || !is_digits(part) {
        return Err("is no number of seconds".into());
    }
    let outside = || format!("is outside of {} to {}", seconds(least), seconds(greatest));
    let kept = &part[..part.len().min(6)];
    let digits = format!("0{whole}{kept:0<6}");
    let mut time: u64 = digits.parse().map_err(|_| outside())?;
    if part.as_bytes().get(6).is_some_and(|digit| *digit >= b'5') {
        time = time.saturating_add(1);
    }
    if !(least..=greatest).contains(&time) {
        return Err(outside());
    }
    Ok((Duration::from_micros(time), part.len() > 6))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times_are_read() {
        assert_eq!(number("6", 1, 9), Ok((6, true)));
        assert_eq!(number("6x", 1, 9), Ok((6, false)));
        assert!(number("x", 1, 9).is_err() && number("-1", 0, 9).is_err());
        assert!(number("99999999999999999999", 0, 9).is_err());
        let seconds =
            |word| time(word, 1, 1_000_000_000).map(|(time, rounded)| (time.as_micros(), rounded));
        assert_eq!(seconds("2"), Ok((2_000_000, false)));
        assert_eq!(seconds(".25"), Ok((250_000, false)));
        assert_eq!(seconds("1.0000005"), Ok((1_000_001, true)));
        for wrong in [
            "",
            ".",
            "1s",
            "-1",
            "0",
            "1e3",
            "1001",
            "99999999999999999999",
        ] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }
}
