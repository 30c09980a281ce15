//! A program that runs on a host while the lab goes on.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::host::Host;
use crate::sandbox;
use crate::wait;

/// A running program whose output goes to a file; it is killed when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command` on a host. `name` is its log's name; starting another
    /// one under the same name continues the log.
    pub fn start(host: &Host, name: &str, command: &mut Command) -> Result<Self> {
        let log = Path::new(sandbox::DIRECTORY).join(format!("{name}.log"));
        let file = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| format!("cannot write {}", log.display()))?;
        let errors = file
            .try_clone()
            .context("cannot copy a file's descriptor")?;
        let child = host.spawn(
            command
                // Apache ends its whole group, which must not be ours.
                .process_group(0)
                .stdin(std::process::Stdio::null())
                .stdout(file)
                .stderr(errors),
        )?;
        Ok(Self {
            name: name.into(),
            child,
            log,
        })
    }

    /// Its process number in the sandbox.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The file that its output goes to.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// How it ended, or nothing while it runs.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child
            .try_wait()
            .with_context(|| format!("cannot look at {}", self.name))
    }

    /// `kill -9`, and waits for the end.
    pub fn kill_hard(&mut self) -> Result<()> {
        self.child
            .kill()
            .and_then(|()| self.child.wait())
            .map(drop)
            .with_context(|| format!("cannot kill {}", self.name))
    }

    /// SIGTERM, and waits for the end, at most for `deadline`.
    pub fn terminate(&mut self, deadline: Duration) -> Result<ExitStatus> {
        kill(
            Pid::from_raw(self.child.id().cast_signed()),
            Signal::SIGTERM,
        )
        .with_context(|| format!("cannot end {}", self.name))?;
        let what = format!("the end of {} after SIGTERM", self.name);
        wait::until(deadline, &what, || match self.child.try_wait() {
            Ok(Some(status)) => Ok(status),
            Ok(None) => Err("it runs".into()),
            Err(error) => Err(error.to_string()),
        })
    }

    /// The last `lines` of what it wrote, indented for an error message.
    #[must_use]
    pub fn log_tail(&self, lines: usize) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let all: Vec<&str> = text.lines().collect();
        let tail = &all[all.len().saturating_sub(lines)..];
        if tail.is_empty() {
            return format!("    ({} wrote nothing)", self.name);
        }
        format!(
            "    the end of {}'s log:\n    | {}",
            self.name,
            tail.join("\n    | ")
        )
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Fails only where it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
