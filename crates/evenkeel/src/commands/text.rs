//! What the commands that show things share: tables, numbers and times for people, and
//! output that may end early.

use std::fmt::{self, Display};
use std::io::{self, ErrorKind, Write};
use std::time::Duration;

use anyhow::{Context, Result};

/// A table whose columns are as wide as they must be.
#[derive(Debug)]
pub(crate) struct Table {
    head: &'static [(&'static str, Side)],
    rows: Vec<Vec<String>>,
}

/// Where a column's text stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Left,
    Right,
}

impl Table {
    pub(crate) fn new(head: &'static [(&'static str, Side)]) -> Self {
        Self {
            head,
            rows: Vec::new(),
        }
    }

    /// Adds a row, which has a cell for each column.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }
}

impl Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |column: usize, name: &str| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            let widest = cells.map(|cell| cell.chars().count()).max();
            widest.unwrap_or(0).max(name.chars().count())
        };
        let columns: Vec<(usize, Side)> = (self.head.iter().enumerate())
            .map(|(at, (name, side))| (width(at, name), *side))
            .collect();
        let line = |cells: &mut dyn Iterator<Item = &str>| {
            let cells = cells
                .zip(&columns)
                .map(|(cell, &(width, side))| match side {
                    Side::Left => format!("{cell:<width$}"),
                    Side::Right => format!("{cell:>width$}"),
                });
            let mut line = cells.collect::<Vec<_>>().join("  ");
            line.truncate(line.trim_end().len());
            line
        };
        writeln!(f, "{}", line(&mut self.head.iter().map(|(name, _)| *name)))?;
        for row in &self.rows {
            writeln!(f, "{}", line(&mut row.iter().map(String::as_str)))?;
        }
        Ok(())
    }
}

/// A number in at most five characters.
pub(crate) fn scaled(number: u64) -> String {
    const LETTERS: [char; 6] = ['k', 'M', 'G', 'T', 'P', 'E'];
    if number < 10_000 {
        return number.to_string();
    }
    let mut tenths = number / 100;
    let mut letters = LETTERS.iter();
    let mut letter = letters.next();
    while tenths >= 10_000 {
        tenths /= 1000;
        letter = letters.next();
    }
    let letter = letter.unwrap_or(&'E');
    if tenths < 1000 {
        format!("{}.{}{letter}", tenths / 10, tenths % 10)
    } else {
        format!("{}{letter}", tenths / 10)
    }
}

/// A number of things: `1 service`, `2 services`.
pub(crate) fn counted(count: u64, thing: &str) -> String {
    format!("{count} {thing}{}", if count == 1 { "" } else { "s" })
}

/// A time as it is written on the command line: `90`, `90s`, `10m`, `2h`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no time; the forms are 90s, 10m and 2h");
    let (digits, unit) = text.split_at(
        text.find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len()),
    );
    let unit = match unit {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err(wrong()),
    };
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    let seconds = number.checked_mul(unit).ok_or_else(wrong)?;
    Ok(Duration::from_secs(seconds))
}

/// Writes to standard output. False: nobody reads it any more.
pub(crate) fn offer(text: &str) -> Result<bool> {
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    match written {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        written => {
            written.context("cannot write to standard output")?;
            Ok(true)
        }
    }
}

/// Writes to standard output. A reader who has seen enough is no error.
pub(crate) fn print(text: &str) -> Result<()> {
    offer(text).map(|_| ())
}

/// Writes a value as JSON to standard output.
pub(crate) fn print_json(value: &serde_json::Value) -> Result<()> {
    print(&format!("{value:#}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_they_must_be() {
        let mut table = Table::new(&[
            ("name", Side::Left),
            ("count", Side::Right),
            ("note", Side::Left),
        ]);
        let mut row = |cells: [&str; 3]| table.row(cells.map(Into::into).into());
        row(["longer than its head", "1", ""]);
        row(["x", "1000000", "told"]);
        assert_eq!(
            table.to_string(),
            "name                    count  note\n\
             longer than its head        1\n\
             x                     1000000  told\n"
        );
    }

    #[test]
    fn numbers_for_people() {
        for (number, text) in [
            (0, "0"),
            (9_999, "9999"),
            (10_000, "10.0k"),
            (99_999, "99.9k"),
            (100_000, "100k"),
            (999_999, "999k"),
            (1_000_000, "1.0M"),
            (12_345_678_901, "12.3G"),
            (u64::MAX, "18.4E"),
        ] {
            assert_eq!(scaled(number), text, "{number}");
        }
    }

    #[test]
    fn times() {
        let seconds = |text| duration(text).map(|time| time.as_secs());
        assert_eq!(seconds("90"), Ok(90));
        assert_eq!(seconds("90s"), Ok(90));
        assert_eq!(seconds("10m"), Ok(600));
        assert_eq!(seconds("2h"), Ok(7200));
        for wrong in ["", "m", "-1", "1d", "1.5m", "99999999999999999999h"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }
}
