//! Checks run: each to its verdict, within times of its own. When one is run, and what its
//! verdict means for a server, is decided elsewhere.
//!
//! - [`run`]: any check
//! - `connect`: sockets, `stream`: dialogues over them, `tls`
//! - `http`, `datagram` (DNS, UDP), `database` (and what else is a dialogue), `grpc`,
//!   `ping`, `script`, `file`: the kinds
//! - `words`: how failures are told

mod blocking;
mod connect;
mod database;
mod datagram;
mod file;
mod grpc;
mod http;
mod ping;
mod script;
mod stream;
#[cfg(test)]
mod tests;
mod tls;
mod words;

use std::sync::Arc;

use evenkeel_core::model::Probe;
use evenkeel_core::probe::Verdict;
use tokio::sync::Semaphore;

use self::blocking::Blocking;
use crate::script::Scripts;

/// Scripts that run at a time, of all checks.
const SCRIPTS: usize = 64;
/// Descriptors that are left to the daemon's other work.
const OTHER_DESCRIPTORS: usize = 512;

/// What checks have in common.
#[derive(Debug)]
pub struct Context {
    tls: tls::Configurations,
    patterns: http::Patterns,
    blocking: Blocking,
    scripts: Arc<Scripts>,
    script_slots: Semaphore,
    /// So many checks have a socket at a time. One more would fail for want of a
    /// descriptor, which says nothing of its server.
    sockets: Semaphore,
}

impl Context {
    /// With scripts run in this way, and in a process that may open so many files
    /// (`RLIMIT_NOFILE`).
    #[must_use]
    pub fn new(scripts: Arc<Scripts>, open_files: usize) -> Self {
        let sockets = open_files
            .saturating_sub(OTHER_DESCRIPTORS)
            .clamp(16, Semaphore::MAX_PERMITS);
        Self {
            tls: tls::Configurations::default(),
            patterns: http::Patterns::default(),
            blocking: Blocking::new(),
            scripts,
            script_slots: Semaphore::new(SCRIPTS),
            sockets: Semaphore::new(sockets),
        }
    }

    /// Certificates, keys and authorities are read from their files again when they are
    /// next used: for a new configuration.
    pub fn forget_files(&self) {
        self.tls.forget();
        self.patterns.forget();
    }
}

/// Runs a check. Dropping the future ends whatever it has begun.
///
/// It takes no longer than the probe's own times, but for what it waits for sockets when
/// the process has none left.
pub async fn run(probe: &Probe, context: &Context) -> Verdict {
    match probe {
        Probe::Script {
            script,
            timeout,
            dynamic,
        } => {
            let slots = &context.script_slots;
            Box::pin(script::run(
                script,
                *timeout,
                *dynamic,
                &context.scripts,
                slots,
            ))
            .await
        }
        Probe::File { path, weight, .. } => file::run(path, *weight, &context.blocking).await,
        _ => {
            // It is never closed.
            let _socket = context.sockets.acquire().await;
            connected(probe, context).await
        }
    }
}

/// Runs a check that has a socket. The kinds that keep much are boxed, so that the others
/// take little.
async fn connected(probe: &Probe, context: &Context) -> Verdict {
    match probe {
        Probe::Tcp(connect) => stream::connects(connect).await,
        Probe::Http(probe) => Box::pin(http::run(probe, context)).await,
        Probe::Smtp { hosts, helo } => Box::pin(database::smtp(hosts, helo, context)).await,
        Probe::Dns {
            connect,
            record,
            name,
        } => Box::pin(datagram::dns(connect, *record, name)).await,
        Probe::Ping(connect) => Box::pin(ping::run(connect)).await,
        Probe::Udp(probe) => Box::pin(datagram::udp(probe)).await,
        Probe::Postgres(probe) => Box::pin(database::postgres(probe, context)).await,
        Probe::Mysql(probe) => Box::pin(database::mysql(probe, context)).await,
        Probe::Redis(probe) => Box::pin(database::redis(probe, context)).await,
        Probe::Ldap(probe) => Box::pin(database::ldap(probe, context)).await,
        Probe::Grpc {
            connect,
            tls,
            service,
        } => Box::pin(grpc::run(connect, tls.as_ref(), service, context)).await,
        Probe::Script { .. } | Probe::File { .. } => {
            Verdict::Failed("a check without a socket".into())
        }
    }
}

/// Bytes that nobody can guess.
fn random<const COUNT: usize>() -> [u8; COUNT] {
    let mut bytes = [0; COUNT];
    // So few come at once, and no kernel that BPF runs on is without it.
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    bytes
}

/// What keepalived's checks fill packets with that have nothing to say.
fn filling<const COUNT: usize>() -> [u8; COUNT] {
    let text = b"keepalived check - ";
    std::array::from_fn(|index| text[index % text.len()])
}
