//! `evenkeel purge`

use std::process::ExitCode;

use anyhow::Result;
use evenkeel_api::client::{Client, ClientError};
use evenkeel_daemon::purge;

use super::stop::stop;

/// Removes everything of an instance, the daemon first if it is running.
pub(crate) fn run(instance: &str) -> Result<ExitCode> {
    let mut removed = Vec::new();
    match Client::new(instance).status() {
        Ok(status) => {
            stop(instance, false)?;
            removed.push(format!("the daemon, process {}", status.pid));
            removed.push("its packet path, tables and programs".into());
        }
        Err(ClientError::Unreachable { .. }) => {}
        // It is there and can not be asked; what is left over is removed below if
        // nobody holds it.
        Err(ClientError::Permission { socket }) => {
            return Err(ClientError::Permission { socket }.into());
        }
        Err(error) => eprintln!("evenkeel: {error}"),
    }
    removed.extend(purge::purge(instance)?);
    if removed.is_empty() {
        println!("there is nothing of instance {instance}");
    }
    for line in removed {
        println!("removed {line}");
    }
    Ok(ExitCode::SUCCESS)
}
