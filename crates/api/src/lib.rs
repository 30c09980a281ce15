//! What crosses the control socket: HTTP/1.1 with JSON bodies on a Unix socket.
//!
//! | request | body | answer |
//! |---|---|---|
//! | `GET /v1/status` | | [`Status`] |
//! | `GET /v1/services` (`?service=tcp:10.0.0.1:80`, `counters=sampled`) | | [`Services`], 404 without that service |
//! | `GET /v1/connections` ([`connections::Query`]) | | a line for each, see [`connections`] |
//! | `POST /v1/reload` | | [`Reloaded`], 422 when the configuration is not accepted |
//! | `GET /v1/settings` | | a list of [`SettingView`], by name |
//! | `GET /v1/trace` ([`trace::Query`]) | | [`trace::Trace`] |
//! | `GET /v1/timeouts` | | [`evenkeel_core::model::Timeouts`] |
//! | `POST /v1/edits` | [`EditRequest`] | [`EditResponse`] |
//! | `POST /v1/stop` | [`StopRequest`] | [`StopResponse`] |
//!
//! Errors of the protocol itself (malformed, too large, unknown path) come with
//! a 4xx status and a [`Problem`].

pub mod client;
pub mod connections;
pub mod delivery;
pub mod escape;
pub mod keys;
pub mod paths;
pub mod trace;

pub use evenkeel_core::health::view::{CheckView, ServerView, VirtualView};
use evenkeel_core::model::{Edit, EditError, ServiceView, Sysctl, SysctlValue};
use serde::{Deserialize, Serialize};

/// Largest request body that is read, in bytes.
pub const REQUEST_BYTES_MAX: usize = 256 << 20;

/// In the query of `/v1/services`: the counters as of the last sample, which is taken
/// every two seconds, in place of those of now.
pub const SAMPLED: &str = "counters=sampled";

/// Edits, in order.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EditRequest {
    /// True: all or nothing. False: each for itself, as `ipvsadm -R` does.
    pub transaction: bool,
    /// The edits.
    pub edits: Vec<Edit>,
}

/// One entry an edit: nothing when it was applied, else why it was refused.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EditResponse {
    /// The refusals, by index of the edit; empty when all were applied.
    pub refused: Vec<Refusal>,
}

/// An edit that was refused.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Refusal {
    /// Index into the request's edits.
    pub index: usize,
    /// Why.
    pub error: EditError,
}

/// The table.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Services {
    /// What IPVS calls the connection table's size: its number of buckets.
    pub table_size: u32,
    /// The services, unsorted.
    pub services: Vec<ServiceView>,
}

/// A setting of `net.ipv4.vs`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettingView {
    /// Which.
    pub setting: Sysctl,
    /// Its present value.
    pub value: SysctlValue,
    /// Its value unless it is set.
    pub default: SysctlValue,
    /// What it takes, in words.
    pub takes: String,
    /// What it is.
    pub meaning: String,
    /// Why it changes nothing here when it is set; none: it does.
    pub without_effect: Option<String>,
}

/// What `evenkeel status` shows.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// Evenkeel's version.
    pub version: String,
    /// Instance name.
    pub instance: String,
    /// Daemon's process.
    pub pid: u32,
    /// Seconds since the daemon started.
    pub uptime_s: u64,
    /// True: the dataplane was found running and taken over.
    pub adopted: bool,
    /// Layout version of the shared memory.
    pub layout_version: u32,
    /// Interfaces.
    pub interfaces: Vec<InterfaceStatus>,
    /// Connection table.
    pub connections: ConnectionStatus,
    /// Number of services and of servers.
    pub services: u32,
    /// Number of servers.
    pub servers: u32,
    /// Servers whose next hop is not known yet: their first packets take the slow way.
    pub servers_without_hop: u32,
    /// Packets by reason, those that occurred.
    pub reasons: Vec<ReasonCount>,
    /// The configuration's virtual servers and how they are.
    #[serde(default)]
    pub virtual_servers: Vec<VirtualView>,
    /// What became of news about them.
    #[serde(default)]
    pub deliveries: delivery::Deliveries,
}

/// An interface and how the dataplane sits on it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct InterfaceStatus {
    /// Name.
    pub name: String,
    /// Index.
    pub index: u32,
    /// `xdp+tc`, `tc (tcx)`, `tc (clsact)` or `none`.
    pub hook: String,
    /// Why this one.
    pub why: String,
}

/// The connection table.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ConnectionStatus {
    /// Entries.
    pub capacity: u64,
    /// Bytes of memory an entry takes.
    pub bytes_per_entry: u32,
    /// Entries in use at the last sweep.
    pub in_use: u64,
    /// By state, those that occur.
    pub states: Vec<ReasonCount>,
}

/// A name and a count.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReasonCount {
    /// Name, with underscores.
    pub name: String,
    /// Count.
    pub count: u64,
}

/// `evenkeel stop`.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StopRequest {
    /// True: the forwarding goes on without the daemon.
    pub detach: bool,
}

/// What came of reading the configuration again.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Reloaded {
    /// Warnings about what it says, a line each.
    pub warnings: Vec<String>,
}

/// What stopping leaves behind.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StopResponse {
    /// One line each.
    pub left: Vec<String>,
}

/// Why a request was refused.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Problem {
    /// One line; of a configuration all its mistakes.
    pub message: String,
}
