//! `evenkeel save`

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use evenkeel_api::client::Client;
use evenkeel_config::ipvsadm::save_all;
use serde_json::json;

use super::text::{print, print_json};

/// What stands behind the options in the help.
const HELP: &str = "The rules have the form of `ipvsadm -S -n`, which leaves out thresholds and \
                    timeouts; `ipvsadm -R` reads them.";

/// Arguments of `evenkeel save`.
#[derive(Args, Debug)]
#[command(after_help = HELP)]
pub(crate) struct Arguments {
    /// Print a list of the rules as JSON.
    #[arg(long)]
    json: bool,
}

/// Prints the rules that make the table.
pub(crate) fn run(instance: &str, arguments: &Arguments) -> Result<ExitCode> {
    let client = Client::new(instance);
    let services = client.services(None)?.services;
    let rules = save_all(&services, &client.timeouts()?);
    if arguments.json {
        let rules: Vec<&str> = rules.lines().collect();
        print_json(&json!(rules))?;
    } else {
        print(&rules)?;
    }
    Ok(ExitCode::SUCCESS)
}
