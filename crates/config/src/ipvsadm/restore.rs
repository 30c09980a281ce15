//! Lines that `-R` reads.

use super::command::{Command, Usage};
use super::grammar;

/// The words of a line, without the program's own name wherever it stands, so
/// that lines copied from a script work. Nothing quotes.
#[must_use]
pub fn words_of_line(line: &str) -> Vec<&str> {
    line.split([' ', '\t', '\r', '\n', '\0'])
        .filter(|word| !word.is_empty() && *word != "ipvsadm")
        .collect()
}

/// Refuses the one command that a line of a restore can not be: a restore.
///
/// # Errors
/// The message of `ipvsadm` for it.
pub fn line_usage(command: Command) -> Result<Command, Usage> {
    if command == Command::Restore {
        Err(grammar::try_help())
    } else {
        Ok(command)
    }
}

#[cfg(test)]
mod tests {
    use super::words_of_line;

    #[test]
    fn the_programs_name_is_skipped() {
        assert_eq!(words_of_line("ipvsadm -A\t-t  a:1\r"), ["-A", "-t", "a:1"]);
        assert_eq!(words_of_line("ipvsadm"), [""; 0]);
        assert_eq!(words_of_line("/sbin/ipvsadm -C"), ["/sbin/ipvsadm", "-C"]);
    }
}
