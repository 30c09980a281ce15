//! What a command line asks for, as values that cannot be wrong in form.

use core::net::IpAddr;

use evenkeel_core::model::{Edit, ServiceKey};

/// A command line that was understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// The table is to be changed: `-A`, `-E`, `-D`, `-C`, `-a`, `-e`, `-d`, `-Z`,
    /// `--set`. A scheduler or engine that does not exist is left to the director,
    /// which answers in the order that IPVS does.
    Edit(Edit),
    /// `-L`, `-l`, or no word at all.
    List(List),
    /// `-S`
    Save {
        /// Addresses and ports as numbers.
        numeric: bool,
    },
    /// `-R`
    Restore,
    /// `--start-daemon`
    StartDaemon(SyncDaemon),
    /// `--stop-daemon`
    StopDaemon {
        /// Which of the two.
        role: SyncRole,
        /// Its synchronisation id.
        sync_id: u8,
    },
    /// `-h`
    Help,
    /// `-v`
    Version,
}

/// `-L`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct List {
    /// What is listed.
    pub what: Listed,
    /// How.
    pub layout: Layout,
}

/// How things are listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// What of them.
    pub columns: Columns,
    /// `-n`: addresses and ports as numbers.
    pub numeric: bool,
    /// `--exact`: large numbers in full.
    pub exact: bool,
    /// `--nosort`: in the order in which they come.
    pub unsorted: bool,
}

/// What is told of services and servers. Of several that are asked for, the first in
/// this order counts, [`Columns::Connections`] being what is told else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Columns {
    /// `--stats`: connections, packets and bytes.
    Stats,
    /// `--rate`: the same by second.
    Rate,
    /// `--thresholds`
    Thresholds,
    /// `--persistent-conn`; with `-c` the persistence engine and its data.
    Persistence,
    /// `--tun-info`
    Tunnels,
    /// Forwarding method, weight and connections.
    #[default]
    Connections,
}

/// The subject of a listing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Listed {
    /// All services and their servers.
    #[default]
    Services,
    /// One service and its servers.
    Service(ServiceKey),
    /// `-c`
    Connections,
    /// `--timeout`
    Timeouts,
    /// `--daemon`
    Daemons,
}

/// Which of the two synchronisation daemons.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncRole {
    /// Sends.
    Master,
    /// Receives.
    Backup,
}

/// `--start-daemon`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncDaemon {
    /// Which of the two.
    pub role: SyncRole,
    /// Interface of the multicast group, at most 15 bytes.
    pub interface: String,
    /// Synchronisation id.
    pub sync_id: u8,
    /// Longest message in bytes, 1 to 65,507; none: by the interface's MTU.
    pub max_length: Option<u16>,
    /// Multicast group; none: 224.0.0.81.
    pub group: Option<IpAddr>,
    /// UDP port, not 0; none: 8848.
    pub port: Option<u16>,
    /// Time to live, not 0; none: 1.
    pub ttl: Option<u8>,
}

/// A command line that was not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Usage {
    /// What to print on standard error, without the end of the line.
    pub message: String,
    /// Exit code: 2, or 255 where popt found the error.
    pub exit_code: u8,
    /// True: a restore (`-R`) goes on with the next line nevertheless. popt's
    /// complaints about an option behind the command are of this kind.
    pub restore_goes_on: bool,
}

impl Usage {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            exit_code: 2,
            restore_goes_on: false,
        }
    }
}
