//! The real keepalived, its checkers alone, on a kernel that may have no IPVS.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use evenkeel_lab::{keepalived, sandbox, wait};

/// What it said of a server: well or not, and all lines about it.
#[derive(Debug, Default)]
pub(crate) struct Said {
    pub(crate) good: Option<bool>,
    pub(crate) lines: Vec<String>,
}

/// Runs it with this configuration until it has said something of every port in `expected`.
/// The answer is by the port of the real server.
pub(crate) fn run(
    configuration: &str,
    expected: &[u16],
    deadline: Duration,
) -> Result<BTreeMap<u16, Said>> {
    let file = Path::new(sandbox::DIRECTORY).join("keepalived.conf");
    let log = Path::new(sandbox::DIRECTORY).join("keepalived.log");
    fs::write(&file, configuration)?;
    let output = fs::File::create(&log)?;
    let errors = output.try_clone()?;
    let mut command = keepalived::checkers(&file);
    command.arg("--log-detail").stdout(output).stderr(errors);
    let mut child = keepalived::pretending(move || Ok(command.spawn()?))?;
    let said = wait::until(deadline, "keepalived's verdicts", || {
        let text = fs::read_to_string(&log).map_err(|error| error.to_string())?;
        let said = read(&text);
        let known = |port: &&u16| said.get(port).is_some_and(|said| said.good.is_some());
        match expected.iter().find(|port| !known(port)) {
            Some(port) => Err(format!("nothing of {port} in {text}")),
            None => Ok(said),
        }
    });
    let _ = child.kill();
    let _ = child.wait();
    said
}

/// What a log says of each real server.
fn read(log: &str) -> BTreeMap<u16, Said> {
    const BAD: &[&str] = &[
        "failed", "error", "bad ", "failure", "timeout", "no data", "overflow",
    ];
    let mut all: BTreeMap<u16, Said> = BTreeMap::new();
    for line in log.lines().filter(|line| line.contains(": ")) {
        let Some(port) = port_in(line) else { continue };
        let said = all.entry(port).or_default();
        let lower = line.to_lowercase();
        if line.contains("Adding service") {
            said.good = said.good.or(Some(true));
        } else if BAD.iter().any(|word| lower.contains(word)) {
            said.good = said.good.or(Some(false));
        }
        said.lines.push(line.into());
    }
    all
}

/// The port of `[127.0.0.1]:tcp:PORT` or `[127.0.0.1]:PORT`.
fn port_in(line: &str) -> Option<u16> {
    let (_, rest) = line.split_once("[127.0.0.1]:")?;
    let rest = rest
        .strip_prefix("tcp:")
        .or_else(|| rest.strip_prefix("udp:"))
        .unwrap_or(rest);
    let end = rest
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(rest.len());
    rest[..end].parse().ok()
}
