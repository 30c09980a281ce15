//! The sessions of a page, run against a daemon of the test.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use evenkeel_api::paths;
use evenkeel_lab::session;

/// Runs the sessions of a text in Markdown, `least` steps at least, with the `evenkeel` of this
/// build and the daemon of this instance; they print what is written.
pub(crate) fn run(text: &str, least: usize, instance: &str) {
    let programs = tempfile::tempdir().expect("a temporary directory");
    let binary = Path::new(env!("CARGO_BIN_EXE_evenkeel"));
    symlink(binary, programs.path().join("evenkeel")).expect("a link");
    let usual = std::env::var("PATH").unwrap_or_default();
    let steps = session::parse(text).expect("sessions");
    assert!(steps.len() >= least, "{} steps", steps.len());
    session::run(&steps, |_, line| {
        let output = Command::new("sh")
            .args(["-c", line])
            .env("PATH", format!("{}:{usual}", programs.path().display()))
            .env(paths::INSTANCE_VARIABLE, instance)
            .output()?;
        let (out, errors) = (output.stdout, output.stderr);
        Ok(String::from_utf8_lossy(&[errors, out].concat()).into_owned())
    })
    .expect("the sessions are right");
}
