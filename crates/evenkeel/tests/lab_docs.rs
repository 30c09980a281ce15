//! The sessions in the documentation, run on the hosts of the first field case.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use evenkeel_lab::case1::Network;
use evenkeel_lab::host::Host;
use evenkeel_lab::{sandbox, session};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

fn on_client(client: &Host, command: &str) -> Result<String> {
    let output = client.output(Command::new("sh").args(["-c", command]))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn the_readmes_tour_prints_what_is_written() {
    sandbox::run_test(|| {
        let text = fs::read_to_string(Path::new(ROOT).join("README.md")).context("README.md")?;
        let steps = session::parse(&text)?;
        assert!(!steps.is_empty(), "README.md has no session");
        let network = Network::build(Path::new(env!("CARGO_BIN_EXE_evenkeel")))?;
        session::run(&steps, |host, command| match host {
            "director" => Ok(network.director.shell(command)?.to_string()),
            "A" => on_client(&network.clients[0], command),
            "B" => on_client(&network.clients[1], command),
            other => bail!("the session has no host {other}"),
        })
    });
}
