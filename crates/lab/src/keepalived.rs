//! The real keepalived, its checkers alone, on a kernel that may have no IPVS.

use std::path::Path;
use std::process::Command;
use std::thread;

use anyhow::{Context, Result, anyhow};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, apply_filter,
};

use crate::host::Host;
use crate::process::Process;

/// The first of the socket options that edit IPVS's table.
const IPVS_OPTIONS: u64 = 64 + 1024 + 64;

/// The command that runs the checkers of a configuration in the foreground, and logs to its
/// standard error.
#[must_use]
pub fn checkers(configuration: &Path) -> Command {
    let mut command = Command::new("keepalived");
    command
        .args(["--check", "--dont-fork", "--log-console", "--use-file"])
        .arg(configuration);
    command
}

/// Starts the checkers of a configuration on a host; every edit of IPVS's table succeeds, and
/// does nothing.
pub fn start(host: &Host, name: &str, configuration: &Path) -> Result<Process> {
    pretending(|| Process::start(host, name, &mut checkers(configuration)))
}

/// Runs this on a thread whose children believe in IPVS: the kernel answers every edit of its
/// table with success. A thread's filter is its children's, too, and goes with it.
pub fn pretending<T: Send>(action: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| {
        let child = scope.spawn(|| {
            pretend_ipvs()?;
            action().context("cannot start keepalived (scripts/setup test or bench installs it)")
        });
        child.join().map_err(|_| anyhow!("the thread has ended"))?
    })
}

fn pretend_ipvs() -> Result<()> {
    let rule = || {
        let is = |index, operator, value| {
            SeccompCondition::new(index, SeccompCmpArgLen::Dword, operator, value)
        };
        SeccompRule::new(vec![
            is(1, SeccompCmpOp::Eq, 0)?,
            is(2, SeccompCmpOp::Ge, IPVS_OPTIONS)?,
        ])
    };
    let rules = [libc::SYS_getsockopt, libc::SYS_setsockopt];
    let rules = rules.map(|call| Ok((call, vec![rule()?])));
    let filter = SeccompFilter::new(
        rules.into_iter().collect::<Result<_, BackendError>>()?,
        SeccompAction::Allow,
        SeccompAction::Errno(0),
        std::env::consts::ARCH.try_into()?,
    )?;
    let program: BpfProgram = filter.try_into()?;
    apply_filter(&program)?;
    Ok(())
}
