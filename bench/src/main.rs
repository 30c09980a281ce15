//! What Evenkeel costs, beside its alternatives: `make bench` runs it.
//!
//! - [`mod@program`]: nanoseconds that the packet path takes
//! - [`lab`]: traffic through networks of namespaces
//! - [`mod@memory`]: of a connection
//! - [`load`]: many services in one transaction
//! - [`emulated`]: instructions of a guest, beside the kernel's IPVS
//! - [`change`]: one server among many, while packets come
//! - [`mod@listing`]: many connections
//! - [`mod@checks`]: checks of many servers
//! - [`report`]: the table; [`measure`]: what stands in it
//! - [`flood`]: small frames as fast as a CPU can make them
//! - [`machine`]: on what it was measured
//!
//! Everything happens in a sandbox that is gone at the end.

mod change;
mod checks;
mod emulated;
mod flood;
mod lab;
mod listing;
mod load;
mod machine;
mod measure;
mod memory;
mod program;
mod report;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use evenkeel_api::paths;
use evenkeel_lab::sandbox::{self, Side};

use crate::machine::Machine;
use crate::report::Part;

/// Rounds of test runs.
const PROGRAM_ROUNDS: usize = 7;

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
    /// Nanoseconds a packet, by test runs in the kernel.
    Program {
        /// One short round, to see whether everything works.
        #[arg(long)]
        quick: bool,
        /// Rounds.
        #[arg(long, default_value_t = PROGRAM_ROUNDS)]
        rounds: usize,
        /// Those alone that have this in their names.
        #[arg(long, default_value = "")]
        only: String,
    },
    /// Traffic through networks of namespaces.
    Lab(lab::Options),
    /// Memory of connections.
    Memory {
        /// Fewer connections, to see whether everything works.
        #[arg(long)]
        quick: bool,
    },
    /// Time to load many services.
    Load(load::Options),
    /// Instructions of an emulated machine, beside the kernel's IPVS.
    Emulated(emulated::Options),
    /// What [`Command::Emulated`] runs in the machine; elsewhere its figures are times.
    #[command(hide = true)]
    Guest(emulated::Rounds),
    /// Time to change one server among many.
    Change(change::Options),
    /// Time to list many connections.
    Listing(listing::Options),
    /// Cost of checking many servers.
    Checks(checks::Options),
    /// All of it.
    All {
        /// As little as shows whether everything works.
        #[arg(long)]
        quick: bool,
    },
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
    let evenkeel = evenkeel(cli)?;
    let part = match &cli.command {
        Command::Guest(rounds) => return emulated::guest(*rounds, &evenkeel),
        Command::Emulated(options) => emulated::run(options, &evenkeel)?,
        Command::Program {
            quick,
            rounds,
            only,
        } => program(*quick, *rounds, only)?,
        Command::Lab(options) => lab::run(options, &evenkeel)?,
        Command::Memory { quick } => memory(*quick)?,
        Command::Load(options) => load::run(*options, &evenkeel)?,
        Command::Change(options) => change::run(*options, &evenkeel)?,
        Command::Listing(options) => listing::run(*options, &evenkeel)?,
        Command::Checks(options) => checks::run(*options)?,
        Command::All { quick } => {
            let mut all = program(*quick, PROGRAM_ROUNDS, "")?;
            all.append(lab::run(&lab::Options::usual(*quick), &evenkeel)?);
            all.append(memory(*quick)?);
            all.append(load::run(load::Options::usual(*quick), &evenkeel)?);
            all.append(emulated::run_if_possible(
                &emulated::Options::usual(*quick),
                &evenkeel,
            )?);
            all.append(change::run(change::Options::usual(*quick), &evenkeel)?);
            all.append(listing::run(listing::Options::usual(*quick), &evenkeel)?);
            all.append(checks::run(checks::Options::usual(*quick))?);
            all
        }
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

fn program(quick: bool, rounds: usize, only: &str) -> Result<Part> {
    let object = flood::object_bytes()?;
    let (rounds, scale) = if quick { (1, 100) } else { (rounds, 1) };
    eprintln!("running the packet path in the kernel, {rounds} rounds");
    let lines = program::run(&paths::pins("program"), &object, rounds, scale, only)?;
    Ok(program::part(&lines))
}

fn memory(quick: bool) -> Result<Part> {
    memory::run(&paths::pins("memory"), quick)
}

/// Evenkeel's program.
fn evenkeel(cli: &Cli) -> Result<PathBuf> {
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
