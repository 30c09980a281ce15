//! `evenkeel lab`: field cases in a network of namespaces on this machine.

use std::io;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use evenkeel_lab::sandbox::{self, Side};
use evenkeel_lab::{case1, case3};

/// Arguments of `evenkeel lab`.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct LabArguments {
    /// What to run.
    scenario: Scenario,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Scenario {
    /// Round robin over two Apaches by NAT, set up by hand with ipvsadm.
    Case1,
    /// Direct routing with checks, quorum and a sorry server, as keepalived.conf has it.
    Case3,
}

/// Runs a scenario. The exit status is 0 only where every point of it holds.
///
/// Call it before any thread was started: it starts this program again.
pub(crate) fn run(arguments: LabArguments) -> Result<ExitCode> {
    match sandbox::enter()? {
        Side::Outside(status) => Ok(ExitCode::from(status)),
        Side::Inside => {
            let program = std::env::current_exe().context("cannot find this program's own file")?;
            let all_hold = match arguments.scenario {
                Scenario::Case1 => case1::run(&program, io::stdout().lock())?,
                Scenario::Case3 => case3::run(&program, io::stdout().lock())?,
            };
            Ok(if all_hold {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            })
        }
    }
}
