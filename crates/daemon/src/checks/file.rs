//! A number in a file.

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

use evenkeel_core::probe::Verdict;
use nix::fcntl::OFlag;

use super::blocking::Blocking;
use super::words;

/// How long reading may take.
const TIME: Duration = Duration::from_secs(5);
/// Bytes of the file that are looked at.
const LENGTH: u64 = 127;

/// Reads the number; what it means depends on `weight`
/// ([`evenkeel_core::model::Probe::File`]).
pub(super) async fn run(path: &str, weight: i32, blocking: &Blocking) -> Verdict {
    let owned = path.to_owned();
    match blocking.run(TIME, move || read(&owned)).await {
        Ok(Ok(text)) => verdict(path, &text, weight),
        // A file that is to be made when something is wrong.
        Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => verdict(path, "", weight),
        Ok(Err(error)) => Verdict::Failed(format!("cannot read {path}: {}", words::error(&error))),
        Err(reason) => Verdict::Failed(reason),
    }
}

fn read(path: &str) -> io::Result<String> {
    let file = OpenOptions::new()
        .read(true)
        // A pipe without a writer must not keep us.
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(path)?;
    let mut bytes = Vec::new();
    file.take(LENGTH).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn verdict(path: &str, text: &str, weight: i32) -> Verdict {
    let number = number(text);
    let change = number.saturating_mul(i64::from(weight));
    match weight {
        0 if number == 0 => Verdict::Passed(format!("{path} has 0")),
        0 => Verdict::Failed(format!("{path} has {number}")),
        _ if change <= i64::from(i32::MIN) => {
            Verdict::Failed(format!("{path} has {number}, times {weight}"))
        }
        _ => Verdict::Change(change),
    }
}

/// The number that a text begins with: decimal, hexadecimal behind `0x`, octal behind `0`.
/// 0 where there is none, or none of 32 bits.
fn number(text: &str) -> i64 {
    let text = text.trim_ascii_start();
    let (sign, text) = match text.as_bytes().first() {
        Some(b'-') => (-1, &text[1..]),
        Some(b'+') => (1, &text[1..]),
        _ => (1, text),
    };
    let (radix, text) = match text.get(..2) {
        Some("0x" | "0X") => (16, &text[2..]),
        _ if text.starts_with('0') => (8, text),
        _ => (10, text),
    };
    let end = text
        .find(|digit: char| !digit.is_digit(radix))
        .unwrap_or(text.len());
    let number = i64::from_str_radix(&text[..end], radix).unwrap_or(0) * sign;
    if i32::try_from(number).is_ok() {
        number
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn numbers_are_read_as_c_does() {
        for (text, expected) in [
            ("", 0),
            ("  12\n", 12),
            ("-3 and more", -3),
            ("+7", 7),
            ("0x1f", 31),
            ("010", 8),
            ("0", 0),
            ("word", 0),
            ("ä1", 0),
            ("99999999999", 0),
            ("2147483647", 2_147_483_647),
        ] {
            assert_eq!(number(text), expected, "{text}");
        }
    }

    #[tokio::test]
    async fn a_file_says_life_death_or_weight() {
        let blocking = Blocking::new();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("number");
        let name = path.to_str().unwrap();
        // There is no file: nothing is wrong.
        assert!(run(name, 0, &blocking).await.is_good());
        fs::write(&path, "2\n").unwrap();
        assert_eq!(
            run(name, 0, &blocking).await,
            Verdict::Failed(format!("{name} has 2"))
        );
        assert_eq!(run(name, -10, &blocking).await, Verdict::Change(-20));
        fs::write(&path, "-2147483648").unwrap();
        assert!(!run(name, 1, &blocking).await.is_good());
        let directory = directory.path().to_str().unwrap();
        let Verdict::Failed(reason) = run(directory, 0, &blocking).await else {
            panic!("a directory has no number");
        };
        assert!(reason.starts_with("cannot read "), "{reason}");
    }
}
