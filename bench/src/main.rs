//! What Evenkeel costs, beside its alternatives: `make bench` runs it.
//!
//! - [`lab`]: traffic through networks of namespaces
//! - [`report`]: the table; [`measure`]: what stands in it
//! - [`flood`]: small frames as fast as a CPU can make them
//! - [`machine`]: on what it was measured
//!
//! Everything happens in a sandbox that is gone at the end.

mod flood;
mod lab;
mod machine;
mod measure;
mod report;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use evenkeel_lab::sandbox::{self, Side};

use crate::machine::Machine;
use crate::report::Part;

/// Measures Evenkeel beside its alternatives.
#[derive(Debug, Parser)]
#[command(name = "evenkeel-bench", version)]
struct Cli {
    /// Writes the table into this file as well.
    #[arg(long, global = true, value_name = "FILE")]
    write: Option<PathBuf>,
    /// Evenkeel's program; without it the one beside this program.
    #[arg(long, global = true, value_name = "FILE")]
    evenkeel: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Traffic through networks of namespaces.
    Lab(lab::Options),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match sandbox::enter() {
        Ok(Side::Outside(status)) => ExitCode::from(status),
        Ok(Side::Inside) => result(run(&cli)),
        Err(error) => result(Err(error)),
    }
}

fn result(result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("evenkeel-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<()> {
    let evenkeel = program(cli)?;
    let part = match &cli.command {
        Command::Lab(options) => lab::run(options, &evenkeel)?,
    };
    print!("{}", report::terminal(&part));
    if let Some(file) = &cli.write {
        write(file, &part)?;
    }
    Ok(())
}

fn write(file: &PathBuf, part: &Part) -> Result<()> {
    let page = report::page(part, &Machine::look(), "make bench");
    fs::write(file, page).with_context(|| format!("cannot write {}", file.display()))
}

/// Evenkeel's program.
fn program(cli: &Cli) -> Result<PathBuf> {
    let path = match &cli.evenkeel {
        Some(path) => path.clone(),
        None => std::env::current_exe()
            .context("cannot find this program's own file")?
            .with_file_name("evenkeel"),
    };
    if !path.exists() {
        bail!(
            "there is no {}: build it with `make build`, or name one with --evenkeel",
            path.display()
        );
    }
    path.canonicalize()
        .with_context(|| format!("cannot find {}", path.display()))
}
