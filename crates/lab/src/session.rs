//! Sessions written down in documentation: commands on the hosts of a lab and
//! what they print, checked by running them.
//!
//! In a fenced block of the kind `console`, a line `HOST# COMMAND` is run on that
//! host, and the lines under it are its output, standard output first. `…` stands
//! for any text in a line; alone in a line, for any lines.

use std::time::Duration;

use anyhow::{Result, bail};

use crate::wait;

/// Longest that a command may take to print what is written; it is run again
/// until then, since a counter or a daemon may need a moment.
const SHOW: Duration = Duration::from_secs(30);
/// Stands for what is different each time.
const ANYTHING: &str = "…";

/// A command of a session and what it prints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The host to run it on.
    pub host: String,
    /// The command, for the shell.
    pub command: String,
    /// Its output, line by line, without the white space at their ends.
    pub output: Vec<String>,
}

/// The steps in the `console` blocks of a text in Markdown.
///
/// An error names the line, counted from 1, that belongs to no command.
pub fn parse(markdown: &str) -> Result<Vec<Step>> {
    let mut steps: Vec<Step> = Vec::new();
    let mut block = None;
    for (number, line) in (1..).zip(markdown.lines()) {
        match (block, line.trim_end()) {
            (None, "```console") => block = Some(steps.len()),
            (None, _) => {}
            (Some(_), "```") => block = None,
            (Some(start), line) => match line.split_once("# ") {
                Some((host, command)) if is_name(host) => steps.push(Step {
                    host: host.into(),
                    command: command.into(),
                    output: Vec::new(),
                }),
                _ => match steps.get_mut(start..).and_then(<[Step]>::last_mut) {
                    Some(step) => step.output.push(line.into()),
                    None => bail!("line {number}: output without a command: {line}"),
                },
            },
        }
    }
    Ok(steps)
}

/// Runs each step by `shell`, which is given host and command and gives what was
/// printed. An error tells the first step that prints something else.
pub fn run(steps: &[Step], mut shell: impl FnMut(&str, &str) -> Result<String>) -> Result<()> {
    for step in steps {
        let mut first = None;
        let outcome = wait::until(SHOW, "the output as written", || {
            let seen = shell(&step.host, &step.command).map_err(|error| format!("{error:#}"))?;
            let lines: Vec<&str> = seen.lines().map(str::trim_end).collect();
            if lines_match(&step.output, &lines) {
                return Ok(());
            }
            first.get_or_insert(seen);
            Err("other output".into())
        });
        if let Err(error) = outcome {
            let seen = first.unwrap_or_else(|| format!("{error:#}"));
            let (host, command, written) = (&step.host, &step.command, step.output.join("\n"));
            bail!("{host}# {command}\n--- written:\n{written}\n--- seen:\n{seen}");
        }
    }
    Ok(())
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
}

fn lines_match(written: &[String], seen: &[&str]) -> bool {
    match written.split_first() {
        None => seen.is_empty(),
        Some((first, rest)) if first == ANYTHING => {
            (0..=seen.len()).any(|skipped| lines_match(rest, &seen[skipped..]))
        }
        Some((first, rest)) => seen
            .split_first()
            .is_some_and(|(line, others)| line_matches(first, line) && lines_match(rest, others)),
    }
}

fn line_matches(written: &str, seen: &str) -> bool {
    match written.split_once(ANYTHING) {
        None => written == seen,
        Some((before, after)) => seen.strip_prefix(before).is_some_and(|rest| {
            rest.char_indices()
                .map(|(at, _)| at)
                .chain([rest.len()])
                .any(|at| line_matches(after, &rest[at..]))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "Text # with signs\n```console\na# one\nfirst\n\nlb# two | x\n```\n```sh\nno# step\n```\n";

    #[test]
    fn only_console_blocks_are_steps() -> Result<()> {
        let step = |host: &str, command: &str, output: &[&str]| Step {
            host: host.into(),
            command: command.into(),
            output: output.iter().map(|line| (*line).into()).collect(),
        };
        assert_eq!(
            parse(TEXT)?,
            [step("a", "one", &["first", ""]), step("lb", "two | x", &[])]
        );
        let error = parse("```console\nlost\n```").map_err(|error| error.to_string());
        assert_eq!(error, Err("line 2: output without a command: lost".into()));
        Ok(())
    }

    #[test]
    fn three_dots_stand_for_anything() {
        let written = |text: &str| text.lines().map(String::from).collect::<Vec<_>>();
        let matches = |w: &str, s: &str| lines_match(&written(w), &s.lines().collect::<Vec<_>>());
        assert!(matches("up … s, … left", "up 12 s, 3 left"));
        assert!(!matches("up … s", "up 12 m"));
        assert!(matches("a\n…\nd", "a\nb\nc\nd"));
        assert!(matches("a\n…", "a"));
        assert!(!matches("a", "a\nb"));
        assert!(!matches("a\nb", "a"));
    }

    #[test]
    fn a_step_is_tried_until_it_prints_what_is_written() -> Result<()> {
        let mut tries = 0;
        run(&parse("```console\na# x\n2\n```")?, |_, _| {
            tries += 1;
            Ok(format!("{tries}  \n"))
        })
    }
}
