//! `evenkeel check`

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use evenkeel_config::diagnostic::{Diagnostic, Place, Severity};
use evenkeel_config::load::Loaded;
use evenkeel_core::model::Ends;
use serde_json::{Value, json};

use super::reading::ReadingArguments;

/// Arguments of `evenkeel check`.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Configuration files, which are looked at together.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    reading: ReadingArguments,
    /// JSON in place of text.
    #[arg(long)]
    json: bool,
}

/// Tells everything that is wrong in some files. Nothing is touched.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let count = arguments.files.len();
    let loaded = arguments.reading.load(&arguments.files);
    let text = if arguments.json {
        let mut text = serde_json::to_string_pretty(&as_json(&loaded))?;
        text.push('\n');
        text
    } else {
        as_text(&loaded, count, io::stdout().is_terminal())
    };
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).context("cannot write")?;
    Ok(if loaded.is_refused() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn as_text(loaded: &Loaded, files: usize, coloured: bool) -> String {
    let mut text = String::new();
    for found in &loaded.diagnostics {
        text.push_str(&loaded.sources.render(found, coloured));
        text.push_str("\n\n");
    }
    let services = loaded.config.services.iter();
    let (mut count, mut servers) = (0u128, 0);
    for placed in services {
        count += placed.service.ends.iter().map(Ends::count).sum::<u128>();
        servers += placed.service.servers.len();
    }
    let _ = writeln!(
        text,
        "{}, {}, {}: {}, {}",
        counted(files, "file"),
        counted(count, "service"),
        counted(servers, "server"),
        counted(loaded.count(Severity::Error), "error"),
        counted(loaded.count(Severity::Warning), "warning"),
    );
    text
}

fn counted(count: impl TryInto<u64>, what: &str) -> String {
    let count = count.try_into().unwrap_or(u64::MAX);
    let s = if count == 1 { "" } else { "s" };
    format!("{count} {what}{s}")
}

fn as_json(loaded: &Loaded) -> Value {
    let diagnostics: Vec<Value> = loaded.diagnostics.iter().map(one).collect();
    json!({
        "diagnostics": diagnostics,
        "errors": loaded.count(Severity::Error),
        "warnings": loaded.count(Severity::Warning),
    })
}

fn one(found: &Diagnostic) -> Value {
    let mut value = place(&found.place);
    value["severity"] = found.severity.name().into();
    value["message"] = found.message.as_str().into();
    value["length"] = found.length.into();
    value["last_line"] = found.last_line.into();
    if let Some(expected) = &found.expected {
        value["expected"] = expected.as_str().into();
    }
    if let Some(hint) = &found.hint {
        value["hint"] = hint.as_str().into();
    }
    if let Some((other, label)) = &found.other {
        value["other"] = place(other);
        value["other"]["message"] = label.as_str().into();
    }
    value
}

fn place(place: &Place) -> Value {
    json!({ "file": &*place.file, "line": place.line, "column": place.column })
}
