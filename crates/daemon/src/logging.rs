//! Where the daemon's log goes: to the journal when it is what reads standard
//! error, else to standard error.

use std::io::IsTerminal;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, fmt};

/// Set by systemd: device and inode of the journal's stream.
const JOURNAL_STREAM: &str = "JOURNAL_STREAM";

/// Environment variable with filters, such as `debug` or `evenkeel_daemon=trace`.
const FILTER: &str = "EVENKEEL_LOG";

/// Begins logging; level `info` unless `EVENKEEL_LOG` says otherwise.
pub fn start() {
    let filter = EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .with_env_var(FILTER)
        .from_env_lossy();
    let registry = tracing_subscriber::registry().with(filter);
    let journal = if is_journal() {
        tracing_journald::layer().ok()
    } else {
        None
    };
    // A second start is of no use and does no harm.
    let _ = if let Some(journal) = journal {
        let journal = journal.with_syslog_identifier("evenkeel".into());
        registry.with(journal).try_init()
    } else {
        let plain = fmt::layer()
            .with_target(false)
            .with_ansi(std::io::stderr().is_terminal())
            .with_writer(std::io::stderr);
        registry.with(plain).try_init()
    };
}

/// True: standard error is the stream that systemd has made for the journal.
fn is_journal() -> bool {
    let Ok(stream) = std::env::var(JOURNAL_STREAM) else {
        return false;
    };
    let Ok(descriptor) = std::io::stderr().as_fd().try_clone_to_owned() else {
        return false;
    };
    let Ok(found) = std::fs::File::from(descriptor).metadata() else {
        return false;
    };
    stream == format!("{}:{}", found.dev(), found.ino())
}
