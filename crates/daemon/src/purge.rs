//! `evenkeel purge` without a daemon.

use std::fs;
use std::io::ErrorKind;

use anyhow::{Context, bail};
use evenkeel_api::paths;
use evenkeel_kernel::attach;

use crate::socket::refuse_second_daemon;

/// Removes what an instance without a daemon has left, and gives it, a line each.
pub fn purge(instance: &str) -> anyhow::Result<Vec<String>> {
    let (socket, pins) = (paths::socket(instance), paths::pins(instance));
    refuse_second_daemon(&socket)?;
    let mut removed = Vec::new();
    if attach::purge(&pins).with_context(|| format!("cannot remove {}", pins.display()))? {
        removed.push(format!(
            "{}: the packet path, its tables and programs",
            pins.display()
        ));
    }
    match fs::remove_file(&socket) {
        Ok(()) => removed.push(format!("{}, which nobody answered at", socket.display())),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => bail!("cannot remove {}: {error}", socket.display()),
    }
    Ok(removed)
}
