//! Lines that `-R` reads.

use super::address::Names;
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

/// Reads the words of a line. What `-S` writes is read, even where `ipvsadm` can not read
/// it. The one command that a line can not be is a restore.
///
/// # Errors
/// The message and exit code of `ipvsadm` for words that it refuses.
pub fn parse_line(words: &[&str], names: &dyn Names) -> Result<Command, Usage> {
    let mark = saved_mark(words);
    let mut words = words.to_vec();
    if let Some((at, mark)) = &mark {
        words[*at] = mark;
    }
    if matches!(words[..], ["-A", .., "-b"]) {
        // Flags are set, and none of them has a name: it is the third.
        words.push("flag-3");
    }
    match grammar::parse(&words, names)? {
        Command::Restore => Err(grammar::try_help()),
        command => Ok(command),
    }
}

/// A firewall mark from 2,147,483,648 on, which `-S` writes with a sign: where it stands,
/// and as it is read.
fn saved_mark(words: &[&str]) -> Option<(usize, String)> {
    let at = words.iter().position(|word| *word == "-f")? + 1;
    let signed: i32 = words.get(at)?.parse().ok()?;
    (signed < 0).then(|| (at, signed.cast_unsigned().to_string()))
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
