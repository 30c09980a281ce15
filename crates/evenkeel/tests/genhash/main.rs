//! keepalived's `genhash` and ours side by side: the same command lines, and servers that are
//! good, slow, truncated and rude. Both have to ask for the same and to print the same, byte
//! for byte, and to end with the same status; only the times of `-v` are their own.

mod pages;
#[allow(dead_code, reason = "the comparison of checks uses all of it")]
#[path = "../checks_beside_keepalived/server.rs"]
mod server;
mod usage;

use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// What a run leaves behind.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) status: Option<i32>,
    /// Escaped, so that any byte can be compared and shown.
    pub(crate) out: String,
    pub(crate) errors: String,
}

/// The program that keepalived's package installs.
pub(crate) const THEIRS: &str = "/usr/bin/genhash";
/// Ours, which is called by the same name.
pub(crate) const OURS: &str = env!("CARGO_BIN_EXE_evenkeel");

/// Runs a program as `genhash` with these words.
pub(crate) fn run(program: &str, words: &[String]) -> Result<Run> {
    let output = Command::new(program)
        .arg0("genhash")
        .args(words)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {program}: `scripts/setup test` installs it"))?;
    Ok(Run {
        status: output.status.code(),
        out: without_times(&output.stdout),
        errors: output.stderr.escape_ascii().to_string(),
    })
}

/// The text, with no number where the response time stands.
fn without_times(text: &[u8]) -> String {
    let text = text.escape_ascii().to_string();
    match text.rsplit_once("] = ") {
        Some((before, after)) => {
            let rest = after.trim_start_matches(|sign: char| sign.is_ascii_digit());
            let is_time = rest.starts_with(" usecs") && rest.len() < after.len();
            let time = if is_time { "TIME" } else { "" };
            format!("{before}] = {time}{rest}")
        }
        None => text,
    }
}

/// The words that ask for a page of this server.
pub(crate) fn asking(server: SocketAddr, path: &str, options: &[&str]) -> Vec<String> {
    let (host, port) = (server.ip().to_string(), server.port().to_string());
    let page = ["-s", &host, "-p", &port, "-u", path];
    let words = options.iter().chain(&page);
    words.map(ToString::to_string).collect()
}

/// Brings up the sandbox's loopback.
pub(crate) fn loopback() -> Result<()> {
    let up = Command::new("ip")
        .args(["link", "set", "lo", "up"])
        .status();
    ensure!(up.context("cannot start ip")?.success(), "no loopback");
    Ok(())
}
