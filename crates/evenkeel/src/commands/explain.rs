//! `evenkeel explain`

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Args;
use evenkeel_config::explain::{Explanation, explain, guess};

/// Arguments of `evenkeel explain`.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Keyword of keepalived.conf or key of the daemon's own file, with its block or
    /// without: quorum, `virtual_server.quorum`, timeouts.tcp.
    keyword: String,
}

/// How wide lines are at most.
const WIDTH: usize = 80;

/// Tells what a keyword means.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let name = &arguments.keyword;
    let found = explain(name);
    if found.is_empty() {
        match guess(name) {
            Some(near) => bail!("there is no keyword {name}; did you mean {near}?"),
            None => bail!("there is no keyword {name}"),
        }
    }
    let shown: Vec<String> = found.iter().map(shown).collect();
    let mut out = io::stdout().lock();
    out.write_all(shown.join("\n").as_bytes())
        .context("cannot write")?;
    Ok(ExitCode::SUCCESS)
}

fn shown(found: &Explanation) -> String {
    let mut text = String::new();
    let title = found.names.first().map_or("", String::as_str);
    let _ = writeln!(text, "{title} ({})", found.language);
    if !found.syntax.is_empty() {
        let _ = writeln!(text, "    {}", found.syntax);
    }
    paragraph(&mut text, &found.help);
    for (name, note) in &found.notes {
        paragraph(&mut text, &format!("{name}: {note}"));
    }
    if let [_, others @ ..] = &found.names[..]
        && !others.is_empty()
    {
        paragraph(&mut text, &format!("also: {}", others.join(", ")));
    }
    text
}

/// A text over lines that are not too long.
fn paragraph(text: &mut String, words: &str) {
    let mut width = WIDTH;
    for word in words.split_whitespace() {
        let length = word.chars().count();
        if width + 1 + length > WIDTH {
            if !text.ends_with('\n') {
                text.push('\n');
            }
            text.push_str("    ");
            width = 4;
        } else {
            text.push(' ');
            width += 1;
        }
        text.push_str(word);
        width += length;
    }
    text.push('\n');
}
