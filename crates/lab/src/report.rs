//! What a scenario shows: steps, commands with their output, and a verdict a point.

use std::fmt::Display;
use std::io::{self, Write};

/// Writes to one place and counts the verdicts.
#[derive(Debug)]
pub struct Report<W> {
    out: W,
    passed: u32,
    failed: u32,
}

impl<W: Write> Report<W> {
    /// A report that goes to `out`.
    pub fn new(out: W) -> Self {
        Self {
            out,
            passed: 0,
            failed: 0,
        }
    }

    /// A heading: what comes now.
    pub fn step(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.out, "\n== {text}")
    }

    /// Text, indented.
    pub fn text(&mut self, text: &str) -> io::Result<()> {
        for line in text.lines() {
            writeln!(self.out, "   {line}")?;
        }
        self.out.flush()
    }

    /// A verdict: passed where `expected` was `seen`.
    pub fn check<T: PartialEq + Display>(
        &mut self,
        point: &str,
        expected: &T,
        seen: &T,
    ) -> io::Result<()> {
        if expected == seen {
            return self.pass(point);
        }
        self.fail(point, &format!("expected:\n{expected}\nseen:\n{seen}"))
    }

    /// A point that holds.
    pub fn pass(&mut self, point: &str) -> io::Result<()> {
        self.passed += 1;
        writeln!(self.out, "PASS {point}")?;
        self.out.flush()
    }

    /// A point that does not hold: what was expected, what was seen.
    pub fn fail(&mut self, point: &str, why: &str) -> io::Result<()> {
        self.failed += 1;
        let why = why.trim_end().replace('\n', "\n     ");
        writeln!(self.out, "FAIL {point}\n     {why}")?;
        self.out.flush()
    }

    /// The last line. True where at least one point was looked at and all held.
    pub fn finish(mut self) -> io::Result<bool> {
        writeln!(self.out, "{} passed, {} failed", self.passed, self.failed)?;
        self.out.flush()?;
        Ok(self.passed > 0 && self.failed == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_says_why() -> io::Result<()> {
        let mut out = Vec::new();
        let mut report = Report::new(&mut out);
        report.check("1 same", &"a", &"a")?;
        report.check("2 other", &"a\nb", &"c")?;
        assert!(!report.finish()?);
        let text = String::from_utf8_lossy(&out);
        assert_eq!(
            text,
            "PASS 1 same\nFAIL 2 other\n     expected:\n     a\n     b\n     seen:\n     c\n1 passed, 1 failed\n"
        );
        Ok(())
    }

    #[test]
    fn nothing_looked_at_is_no_success() -> io::Result<()> {
        assert!(!Report::new(Vec::new()).finish()?);
        Ok(())
    }
}
