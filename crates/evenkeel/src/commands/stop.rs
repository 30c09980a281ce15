//! `evenkeel stop`

use std::path::Path;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Args;
use evenkeel_api::client::Client;
use evenkeel_api::{StopRequest, paths};

/// Longest that a daemon may take to end.
const END: Duration = Duration::from_secs(10);

/// Arguments of `evenkeel stop`.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Arguments {
    /// Leave the forwarding running, without a daemon.
    #[arg(long)]
    detach: bool,
}

/// Stops the director and says what is left.
pub(crate) fn run(instance: &str, arguments: Arguments) -> Result<ExitCode> {
    let left = stop(instance, arguments.detach)?;
    if left.is_empty() {
        println!("stopped; nothing of instance {instance} is left");
        return Ok(ExitCode::SUCCESS);
    }
    println!("the daemon has stopped; what goes on:");
    for line in left {
        println!("  {line}");
    }
    println!("`evenkeel run` takes it over again, `evenkeel purge` removes it");
    Ok(ExitCode::SUCCESS)
}

/// Stops the daemon, waits for its end and gives what is left, a line each.
pub(super) fn stop(instance: &str, detach: bool) -> Result<Vec<String>> {
    let client = Client::new(instance);
    let left = client.stop(StopRequest { detach })?.left;
    let pins = paths::pins(instance);
    let ended = wait_for(|| !client.socket().exists() && (detach || !is_there(&pins)));
    if !ended {
        bail!(
            "the daemon of instance {instance} has not ended within {} s; \
             see its log, then try `evenkeel purge`",
            END.as_secs()
        );
    }
    Ok(left)
}

/// True: something is pinned there.
pub(super) fn is_there(pins: &Path) -> bool {
    pins.read_dir()
        .is_ok_and(|mut entries| entries.next().is_some())
}

fn wait_for(condition: impl Fn() -> bool) -> bool {
    let end = Instant::now() + END;
    while !condition() {
        if Instant::now() > end {
            return false;
        }
        sleep(Duration::from_millis(20));
    }
    true
}
