//! What a command line asks for, as values that cannot be wrong in form.

use core::net::{IpAddr, Ipv4Addr};

use evenkeel_core::model::{ForwardMethod, ServerKey, ServiceKey, Timeouts};

/// A command line that was understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// `-A`
    AddService(Service),
    /// `-E`
    EditService(Service),
    /// `-D`
    DeleteService(VirtualService),
    /// `-C`
    Clear,
    /// `-a`
    AddServer(Server),
    /// `-e`
    EditServer(Server),
    /// `-d`
    DeleteServer {
        /// The service.
        service: VirtualService,
        /// The server.
        server: ServerKey,
    },
    /// `-L`, `-l`, or no word at all.
    List(List),
    /// `-Z`; no service: all.
    Zero(Option<VirtualService>),
    /// `--set`; 0 leaves a value as it is.
    SetTimeouts(Timeouts),
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

/// A virtual service as the command line names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VirtualService {
    /// By protocol, address and port.
    Address(ServiceKey),
    /// By the firewall mark of its packets.
    Mark {
        /// The mark, not 0.
        mark: u32,
        /// True: for IPv6 packets.
        ipv6: bool,
    },
}

/// `-A` and `-E`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Which.
    pub service: VirtualService,
    /// Scheduler by name, at most 15 bytes.
    pub scheduler: String,
    /// Persistence timeout, 1 to 2,678,400 s; none: not persistent.
    pub persistent: Option<u32>,
    /// Which part of the client's address counts for persistence; none: all.
    pub netmask: Option<Netmask>,
    /// Each UDP datagram is scheduled for itself.
    pub one_packet: bool,
    /// Persistence engine by name.
    pub persistence_engine: Option<String>,
    /// Scheduler flags: bit 0 to 2.
    pub scheduler_flags: u8,
}

/// `-M`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Netmask {
    /// Any pattern of bits.
    V4(Ipv4Addr),
    /// Length, 1 to 128.
    V6(u8),
}

/// `-a` and `-e`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Server {
    /// The service it is in.
    pub service: VirtualService,
    /// Which. The port is already the service's where the method demands it.
    pub server: ServerKey,
    /// How it is reached.
    pub method: ForwardMethod,
    /// The tunnel, if the method is one.
    pub tunnel: Option<Tunnel>,
    /// 0 to 2,147,483,647.
    pub weight: u32,
    /// No new connections from this many on; 0: no limit.
    pub upper_threshold: u32,
    /// New connections again below this many.
    pub lower_threshold: u32,
}

/// `--tun-type` and what belongs to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tunnel {
    /// IP in IP.
    Ipip,
    /// Generic UDP encapsulation.
    Gue {
        /// Destination port, not 0.
        port: u16,
        /// Its checksum.
        checksum: TunnelChecksum,
    },
    /// Generic routing encapsulation.
    Gre {
        /// Its checksum.
        checksum: TunnelChecksum,
    },
}

/// `--tun-nocsum`, `--tun-csum`, `--tun-remcsum`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TunnelChecksum {
    /// None.
    #[default]
    None,
    /// Over the encapsulated packet.
    Full,
    /// Remote checksum offload.
    Remote,
}

/// `-L`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an option that is given or not, in any mix"
)]
pub struct List {
    /// What is listed.
    pub what: Listed,
    /// `-n`: addresses and ports as numbers.
    pub numeric: bool,
    /// `--exact`: counters in full.
    pub exact: bool,
    /// `--nosort`: as the director keeps them.
    pub unsorted: bool,
    /// `--stats`
    pub stats: bool,
    /// `--rate`
    pub rate: bool,
    /// `--thresholds`
    pub thresholds: bool,
    /// `--persistent-conn`
    pub persistent_connections: bool,
    /// `--tun-info`
    pub tunnel_info: bool,
}

/// The subject of a listing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Listed {
    /// All services and their servers.
    #[default]
    Services,
    /// One service and its servers.
    Service(VirtualService),
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
