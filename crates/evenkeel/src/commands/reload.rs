//! `evenkeel reload`

use std::process::ExitCode;

use anyhow::Result;
use evenkeel_api::client::{Client, ClientError};

/// Has the daemon read its configuration again.
pub(crate) fn run(instance: &str) -> Result<ExitCode> {
    match Client::new(instance).reload() {
        Ok(reloaded) => {
            for warning in &reloaded.warnings {
                eprintln!("{warning}");
            }
            println!("the configuration was read again");
            Ok(ExitCode::SUCCESS)
        }
        Err(ClientError::Refused { message, .. }) => {
            eprintln!("{message}");
            eprintln!("evenkeel: the configuration was not accepted, all stays as it was");
            Ok(ExitCode::FAILURE)
        }
        Err(error) => Err(error.into()),
    }
}
