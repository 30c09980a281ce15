//! The table, aligned for a terminal, which is a Markdown table as well.

use std::fmt::Write as _;

use crate::machine::Machine;
use crate::measure::{Aim, Measurement};

/// What a part of the benchmarks gives.
#[derive(Debug, Default)]
pub(crate) struct Part {
    /// The lines of the table.
    pub(crate) measurements: Vec<Measurement>,
    /// The aims that these lines decide.
    pub(crate) aims: Vec<Aim>,
    /// What a reader has to know about them, a paragraph each.
    pub(crate) notes: Vec<String>,
}

impl Part {
    /// Appends another part.
    pub(crate) fn append(&mut self, mut other: Self) {
        self.measurements.append(&mut other.measurements);
        self.aims.append(&mut other.aims);
        self.notes.append(&mut other.notes);
    }
}

const HEADER: [&str; 8] = [
    "measured",
    "on",
    "median",
    "min .. max",
    "unit",
    "of forwarding",
    "of nft",
    "notes",
];

/// The table with nothing around it.
pub(crate) fn table(measurements: &[Measurement]) -> String {
    let rows: Vec<[String; 8]> = measurements.iter().map(row).collect();
    let mut widths = HEADER.map(|title| title.chars().count());
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    line(&mut text, &HEADER.map(String::from), &widths);
    for (column, width) in widths.iter().enumerate() {
        let dashes = "-".repeat(*width);
        let _ = if is_number(column) {
            write!(text, "| {}: ", &dashes[1..])
        } else {
            write!(text, "| {dashes} ")
        };
    }
    text.push_str("|\n");
    for row in &rows {
        line(&mut text, row, &widths);
    }
    text
}

/// Columns of numbers stand to the right.
const fn is_number(column: usize) -> bool {
    matches!(column, 2 | 3 | 5 | 6)
}

fn line(text: &mut String, cells: &[String; 8], widths: &[usize; 8]) {
    for (column, (cell, width)) in cells.iter().zip(widths).enumerate() {
        let _ = if is_number(column) {
            write!(text, "| {cell:>width$} ")
        } else {
            write!(text, "| {cell:<width$} ")
        };
    }
    text.push_str("|\n");
}

fn row(line: &Measurement) -> [String; 8] {
    let ratio = |ratio: Option<f64>| ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}"));
    let unit = line.unit;
    [
        line.what.clone(),
        line.subject.clone(),
        line.samples
            .median()
            .map_or_else(|| "none".into(), |median| unit.write(median)),
        line.samples
            .spread()
            .map_or_else(String::new, |(least, most)| {
                format!("{} .. {}", unit.write(least), unit.write(most))
            }),
        unit.name().into(),
        ratio(line.of_forwarding),
        ratio(line.of_nft),
        line.notes.clone(),
    ]
}

/// Everything, for a terminal.
pub(crate) fn terminal(part: &Part) -> String {
    format!("{}\n{}", table(&part.measurements), remarks(part))
}

/// Everything, as a page of the documentation. `command` is what was run, and
/// `source` how to build what it needs.
pub(crate) fn page(part: &Part, machine: &Machine, command: &str) -> String {
    format!(
        "# Benchmarks\n\n\
         What Evenkeel costs beside its alternatives, measured in one run on one machine. \
         Absolute figures are this machine's; compare within the table. How it is measured: \
         [bench/README.md](../bench/README.md).\n\n\
         Written by `{command}` ({}).\n\n{machine}\n\
         ## Results\n\n{}\n{}",
        machine.date,
        table(&part.measurements),
        remarks(part)
    )
}

fn remarks(part: &Part) -> String {
    let mut text = String::new();
    if !part.aims.is_empty() {
        text.push_str("Aims:\n\n");
        for aim in &part.aims {
            let _ = writeln!(text, "- {aim}");
        }
    }
    if !part.notes.is_empty() {
        text.push_str("\nRemarks:\n\n");
        for note in &part.notes {
            let _ = writeln!(text, "- {note}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Unit;

    #[test]
    fn the_table_is_aligned_and_markdown() {
        let mut line = Measurement::new(
            "UDP",
            "evenkeel",
            Unit::Packets,
            [1000.0, 3000.0, 2000.0].into_iter().collect(),
        );
        line.of_forwarding = Some(1.5);
        let text = table(&[line]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        assert!(
            lines.iter().all(|line| line.len() == lines[0].len()),
            "{text}"
        );
        assert!(
            lines[1].starts_with("| -------- | -------- | -----: |"),
            "{text}"
        );
        assert!(
            lines[2].contains("|  2,000 | 1,000 .. 3,000 | packets/s |          1.50 |"),
            "{text}"
        );
    }
}
