//! The words of the field as types: services, real servers, schedulers,
//! forwarding methods, and the edits that `ipvsadm` and the API make.

#[cfg(feature = "serde")]
mod wire;

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::net::IpAddr;
use core::str::FromStr;

/// Transport protocol of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "kebab-case")
)]
pub enum Protocol {
    /// TCP, 6.
    Tcp,
    /// UDP, 17.
    Udp,
    /// SCTP, 132.
    Sctp,
}

impl Protocol {
    /// Its number in the IP header.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }

    /// The protocol with this number.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            6 => Some(Self::Tcp),
            17 => Some(Self::Udp),
            132 => Some(Self::Sctp),
            _ => None,
        }
    }
}

/// What clients connect to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ServiceKey {
    /// Protocol.
    pub protocol: Protocol,
    /// Virtual address.
    pub address: IpAddr,
    /// Port, host order; 0 (any port) only with persistence.
    pub port: u16,
}

/// Where a real server listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ServerKey {
    /// Its address.
    pub address: IpAddr,
    /// Its port, host order; 0 keeps the packet's port.
    pub port: u16,
}

/// How connections are spread. The names are IPVS's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "kebab-case")
)]
pub enum Scheduler {
    /// Round robin.
    Rr,
    /// Weighted round robin.
    Wrr,
}

/// Schedulers of IPVS that are not here yet.
pub const SCHEDULERS_TO_COME: &[&str] = &[
    "lc", "wlc", "lblc", "lblcr", "dh", "sh", "sed", "nq", "fo", "ovf", "mh",
];

impl Scheduler {
    /// Its IPVS name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rr => "rr",
            Self::Wrr => "wrr",
        }
    }
}

impl FromStr for Scheduler {
    type Err = EditError;

    fn from_str(name: &str) -> Result<Self, EditError> {
        match name {
            "rr" => Ok(Self::Rr),
            "wrr" => Ok(Self::Wrr),
            _ if SCHEDULERS_TO_COME.contains(&name) => Err(EditError::NotSupported(name.into())),
            _ => Err(EditError::SchedulerNotFound),
        }
    }
}

/// How a packet reaches the real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "kebab-case")
)]
pub enum ForwardMethod {
    /// Routed NAT.
    Masq,
    /// Direct routing.
    Route,
    /// A tunnel.
    Tunnel,
}

/// Connection timeouts that can be set, in seconds, each 1 to 2,678,400.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Timeouts {
    /// Established TCP connections.
    pub tcp: u32,
    /// TCP connections after a FIN.
    pub tcp_fin: u32,
    /// UDP.
    pub udp: u32,
}

impl Default for Timeouts {
    /// IPVS's: 900, 120 and 300 s.
    fn default() -> Self {
        Self {
            tcp: 900,
            tcp_fin: 120,
            udp: 300,
        }
    }
}

/// One change of the table, as `ipvsadm` makes them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(tag = "op", rename_all = "kebab-case", try_from = "wire::Edit")
)]
pub enum Edit {
    /// `-A`
    AddService {
        /// The service.
        service: ServiceKey,
        /// Scheduler by name; unknown names are an error of the edit.
        scheduler: String,
    },
    /// `-E`
    EditService {
        /// The service.
        service: ServiceKey,
        /// Scheduler by name.
        scheduler: String,
    },
    /// `-D`
    DeleteService {
        /// The service.
        service: ServiceKey,
    },
    /// `-C`
    Flush,
    /// `-a`
    AddServer {
        /// The service.
        service: ServiceKey,
        /// The server.
        server: ServerKey,
        /// How it is reached.
        method: ForwardMethod,
        /// 0 to 2,147,483,647; 0: quiesced, it gets no new connections.
        weight: u32,
    },
    /// `-e`
    EditServer {
        /// The service.
        service: ServiceKey,
        /// The server.
        server: ServerKey,
        /// How it is reached.
        method: ForwardMethod,
        /// As in `AddServer`.
        weight: u32,
    },
    /// `-d`
    DeleteServer {
        /// The service.
        service: ServiceKey,
        /// The server.
        server: ServerKey,
    },
    /// `-Z`
    Zero {
        /// The service; none: all.
        service: Option<ServiceKey>,
    },
    /// `--set`; 0 leaves a value as it is.
    SetTimeouts(Timeouts),
}

/// Why an edit was refused. Nothing has changed then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(tag = "code", content = "name", rename_all = "kebab-case")
)]
pub enum EditError {
    /// `-A` of a service that is there.
    #[error("service already exists")]
    ServiceExists,
    /// `-E`, `-D` or `-Z` of a service that is not there.
    #[error("no such service")]
    NoSuchService,
    /// `-a`, `-e` or `-d` in a service that is not there.
    #[error("service not defined")]
    ServiceNotDefined,
    /// `-a` of a server that is there.
    #[error("destination already exists")]
    ServerExists,
    /// `-e` or `-d` of a server that is not there.
    #[error("no such destination")]
    NoSuchServer,
    /// No scheduler has this name.
    #[error("scheduler not found")]
    SchedulerNotFound,
    /// The kernel's EINVAL: an address that is not unicast, for example.
    #[error("invalid operation")]
    Invalid,
    /// A value outside its range.
    #[error("numerical result out of range")]
    OutOfRange,
    /// The dataplane's memory holds no more of this: `services`, `servers` or
    /// `ring words`.
    #[error("no room for more {0}; raise the capacity in the configuration")]
    Full(String),
    /// Known to IPVS, not yet to Evenkeel.
    #[error("not supported yet: {0}")]
    NotSupported(String),
    /// An earlier edit of the same transaction was refused.
    #[error("not applied, because an earlier edit of the transaction was refused")]
    NotApplied,
}

/// Traffic of a server or a service since it was added or zeroed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Stats {
    /// Connections.
    pub connections: u64,
    /// Packets from clients.
    pub in_packets: u64,
    /// Packets from servers.
    pub out_packets: u64,
    /// Bytes from clients, from the IP header on.
    pub in_bytes: u64,
    /// Bytes from servers.
    pub out_bytes: u64,
}

/// A service as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ServiceView {
    /// Which.
    pub key: ServiceKey,
    /// Its scheduler.
    pub scheduler: Scheduler,
    /// Its traffic.
    pub stats: Stats,
    /// Its servers, in list order (the last added first).
    pub servers: Vec<ServerView>,
}

/// A real server as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ServerView {
    /// Which.
    pub key: ServerKey,
    /// How it is reached.
    pub method: ForwardMethod,
    /// Weight.
    pub weight: u32,
    /// Connections in an active state.
    pub active: u32,
    /// Other connections.
    pub inactive: u32,
    /// Its traffic.
    pub stats: Stats,
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = match self.protocol {
            Protocol::Tcp => "TCP",
            Protocol::Udp => "UDP",
            Protocol::Sctp => "SCTP",
        };
        write!(
            f,
            "{protocol} {}",
            core::net::SocketAddr::new(self.address, self.port)
        )
    }
}
