//! The words of the field as types: services, real servers, schedulers,
//! forwarding methods, and the edits that `ipvsadm` and the API make.

mod alerts;
mod check;
mod configured;
mod connection;
mod monitored;
mod sysctl;
#[cfg(feature = "serde")]
mod wire;

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::net::{IpAddr, Ipv4Addr};
use core::str::FromStr;

pub use alerts::{Alerts, Mail, Pipe};
pub use check::{
    Check, Connect, DatabaseProbe, DnsRecord, HeaderDemand, HttpProbe, HttpVersion, JsonDemand,
    LdapProbe, Page, PageRegex, Probe, Secret, Timing, Tls, UdpProbe, UdpReply,
};
pub use configured::{ConfiguredService, MarkRule, Prefix, SourceNat};
pub use connection::{ConnectionView, EngineData, MethodKind, ServerTraits};
pub use monitored::{Ends, Notify, Quorum, RealServer, Script, Sorry, User, VirtualServer};
pub use sysctl::{SYSCTL_PREFIX, Sysctl, SysctlKind, SysctlValue, Sysctls};

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

/// Internet Protocol version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "kebab-case")
)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// That of an address.
    #[must_use]
    pub const fn of(address: &IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

/// What clients connect to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(try_from = "wire::ServiceKey", into = "wire::ServiceKey")
)]
pub enum ServiceKey {
    /// An address and a port.
    Address {
        /// Protocol.
        protocol: Protocol,
        /// Virtual address.
        address: IpAddr,
        /// Port, host order; 0 (any port) only with persistence.
        port: u16,
    },
    /// Packets that carry this firewall mark.
    Mark {
        /// The mark, 1 to 4,294,967,295.
        mark: u32,
        /// Of which family.
        family: Family,
    },
}

impl ServiceKey {
    /// The service at this address and port.
    #[must_use]
    pub fn at(protocol: Protocol, address: impl Into<IpAddr>, port: u16) -> Self {
        Self::Address {
            protocol,
            address: address.into(),
            port,
        }
    }

    /// Family of its packets.
    #[must_use]
    pub const fn family(&self) -> Family {
        match self {
            Self::Address { address, .. } => Family::of(address),
            Self::Mark { family, .. } => *family,
        }
    }

    /// Its port; 0 for a mark.
    #[must_use]
    pub const fn port(&self) -> u16 {
        match self {
            Self::Address { port, .. } => *port,
            Self::Mark { .. } => 0,
        }
    }
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

macro_rules! schedulers {
    ($($(#[doc = $doc:literal])+ $variant:ident, $name:literal;)+) => {
        /// How connections are spread. The names are IPVS's.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[cfg_attr(
            feature = "serde",
            derive(serde::Serialize, serde::Deserialize),
            serde(rename_all = "kebab-case")
        )]
        pub enum Scheduler {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Scheduler {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// Its IPVS name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }
    };
}

schedulers! {
    /// Round robin.
    Rr, "rr";
    /// Weighted round robin.
    Wrr, "wrr";
    /// Least connections.
    Lc, "lc";
    /// Weighted least connections.
    Wlc, "wlc";
    /// Locality-based least connections.
    Lblc, "lblc";
    /// Locality-based least connections with replication.
    Lblcr, "lblcr";
    /// Destination hashing.
    Dh, "dh";
    /// Source hashing.
    Sh, "sh";
    /// Shortest expected delay.
    Sed, "sed";
    /// Never queue.
    Nq, "nq";
    /// Weighted failover.
    Fo, "fo";
    /// Weighted overflow.
    Ovf, "ovf";
    /// Maglev hashing.
    Mh, "mh";
    /// Power of two choices.
    Twos, "twos";
}

impl FromStr for Scheduler {
    type Err = EditError;

    fn from_str(name: &str) -> Result<Self, EditError> {
        let known = Self::ALL.iter().find(|known| known.name() == name);
        known.copied().ok_or(EditError::SchedulerNotFound)
    }
}

/// What a scheduler's flags are called depends on it: `sh-fallback` and `mh-fallback`
/// are flag 1, `sh-port` and `mh-port` flag 2 (`IP_VS_SVC_F_SCHED1` to `3`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct SchedulerFlags {
    /// Flag 1.
    pub fallback: bool,
    /// Flag 2.
    pub port: bool,
    /// Flag 3, which no scheduler has a meaning for.
    pub third: bool,
}

/// Which clients count as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "kebab-case")
)]
pub enum Netmask {
    /// IPv4: those that are equal under the mask, which may have holes.
    V4(Ipv4Addr),
    /// IPv6: those with this prefix, 1 to 128 bits.
    V6(u8),
}

impl Netmask {
    /// Of which clients.
    #[must_use]
    pub const fn family(self) -> Family {
        match self {
            Self::V4(_) => Family::V4,
            Self::V6(_) => Family::V6,
        }
    }

    /// Each client for itself.
    #[must_use]
    pub const fn host(family: Family) -> Self {
        match family {
            Family::V4 => Self::V4(Ipv4Addr::BROADCAST),
            Family::V6 => Self::V6(128),
        }
    }
}

/// Clients stay with their server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(deny_unknown_fields)
)]
pub struct Persistence {
    /// How long after the client's last new connection, in seconds, 1 to 2,678,400.
    pub timeout_s: u32,
    /// Which clients share a server.
    pub netmask: Netmask,
}

/// A service's settings beside its key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(deny_unknown_fields)
)]
pub struct ServiceSettings {
    /// Scheduler by name; unknown names are an error of the edit.
    pub scheduler: String,
    /// Its flags.
    #[cfg_attr(feature = "serde", serde(default))]
    pub flags: SchedulerFlags,
    /// Persistence.
    #[cfg_attr(feature = "serde", serde(default))]
    pub persistence: Option<Persistence>,
    /// UDP: every packet is scheduled for itself, and no connection kept.
    #[cfg_attr(feature = "serde", serde(default))]
    pub one_packet: bool,
    /// Persistence engine by name.
    #[cfg_attr(feature = "serde", serde(default))]
    pub engine: Option<String>,
    /// IPVS's ways where Evenkeel has better ones. None: those that the service has;
    /// of a new one, those of the director.
    #[cfg_attr(
        feature = "serde",
        serde(default, skip_serializing_if = "Option::is_none")
    )]
    pub compatible: Option<bool>,
    /// What TCP's ends may ask for when they open a connection. None: what the service has;
    /// of a new one, anything.
    #[cfg_attr(
        feature = "serde",
        serde(default, skip_serializing_if = "Option::is_none")
    )]
    pub mss_clamp: Option<MssClamp>,
}

/// The largest segment that TCP's ends may ask for when they open a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "kebab-case")
)]
pub enum MssClamp {
    /// Any.
    #[default]
    Off,
    /// What the way to the server has room for, in its tunnel if there is one.
    Way,
    /// This many bytes, [`MSS_MIN`] at least.
    Bytes(u16),
}

/// Least of [`MssClamp::Bytes`]: what IPv4's least way has room for.
pub const MSS_MIN: u16 = 28;

impl ServiceSettings {
    /// Those of a service with this scheduler and nothing else.
    #[must_use]
    pub fn scheduled_by(scheduler: impl Into<String>) -> Self {
        Self {
            scheduler: scheduler.into(),
            ..Self::default()
        }
    }
}

/// Outer header of a tunnel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "kebab-case")
)]
pub enum Tunnel {
    /// IP in IP.
    #[default]
    Ipip,
    /// Generic UDP encapsulation.
    Gue {
        /// UDP port of the server, 1 to 65,535.
        port: u16,
        /// Its checksum.
        checksum: TunnelChecksum,
    },
    /// GRE.
    Gre {
        /// Its checksum; remote is none.
        checksum: TunnelChecksum,
    },
}

/// Checksum of a tunnel's outer header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "kebab-case")
)]
pub enum TunnelChecksum {
    /// None.
    #[default]
    None,
    /// Over everything.
    Full,
    /// Remote checksum offload.
    Remote,
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
    Tunnel(Tunnel),
    /// NAT of the source as well: the server sees an address of the director.
    FullNat,
}

impl ForwardMethod {
    /// Without its particulars.
    #[must_use]
    pub const fn kind(self) -> MethodKind {
        match self {
            Self::Masq => MethodKind::Masq,
            Self::Route => MethodKind::Route,
            Self::Tunnel(_) => MethodKind::Tunnel,
            Self::FullNat => MethodKind::FullNat,
        }
    }
}

/// A real server's settings beside its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(deny_unknown_fields)
)]
pub struct ServerSettings {
    /// How it is reached.
    pub method: ForwardMethod,
    /// 0 to 2,147,483,647; 0: quiesced, it gets no new connections.
    pub weight: u32,
    /// Connections from which on it gets no more; 0: no limit.
    #[cfg_attr(feature = "serde", serde(default))]
    pub upper_threshold: u32,
    /// Connections below which it gets some again; 0: three quarters of the upper.
    #[cfg_attr(feature = "serde", serde(default))]
    pub lower_threshold: u32,
}

impl ServerSettings {
    /// Those of a server that is reached by `method`, without thresholds.
    #[must_use]
    pub const fn new(method: ForwardMethod, weight: u32) -> Self {
        Self {
            method,
            weight,
            upper_threshold: 0,
            lower_threshold: 0,
        }
    }
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
        /// Its settings.
        settings: ServiceSettings,
    },
    /// `-E`
    EditService {
        /// The service.
        service: ServiceKey,
        /// All of its settings, anew.
        settings: ServiceSettings,
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
        /// Its settings.
        #[cfg_attr(
            feature = "serde",
            serde(rename = "server_settings", serialize_with = "wire::without_usual")
        )]
        settings: ServerSettings,
    },
    /// `-e`
    EditServer {
        /// The service.
        service: ServiceKey,
        /// The server.
        server: ServerKey,
        /// All of its settings, anew.
        #[cfg_attr(
            feature = "serde",
            serde(rename = "server_settings", serialize_with = "wire::without_usual")
        )]
        settings: ServerSettings,
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
    /// One of the settings of `net.ipv4.vs`.
    Set {
        /// Which.
        setting: Sysctl,
        /// What it is to be.
        value: SysctlValue,
    },
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
    /// No persistence engine has this name.
    #[error("persistence engine not found")]
    EngineNotFound,
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

/// Traffic per second, estimated every two seconds as the kernel does
/// (`net/netfilter/ipvs/ip_vs_est.c`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Rates {
    /// Connections.
    pub connections: u64,
    /// Packets from clients.
    pub in_packets: u64,
    /// Packets from servers.
    pub out_packets: u64,
    /// Bytes from clients.
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
    /// Its settings.
    pub settings: ServiceSettings,
    /// True: it has IPVS's ways where Evenkeel has better ones.
    #[cfg_attr(feature = "serde", serde(default))]
    pub compatible: bool,
    /// True: it stands in the configuration.
    #[cfg_attr(feature = "serde", serde(default))]
    pub configured: bool,
    /// Its traffic.
    pub stats: Stats,
    /// Its traffic per second.
    pub rates: Rates,
    /// Its servers, in list order (the last added first).
    pub servers: Vec<ServerView>,
}

/// A real server as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ServerView {
    /// Which.
    pub key: ServerKey,
    /// Its settings.
    pub settings: ServerSettings,
    /// Connections in an active state.
    pub active: u32,
    /// Other connections.
    pub inactive: u32,
    /// Templates of persistence.
    pub persistent: u32,
    /// Its traffic.
    pub stats: Stats,
    /// Its traffic per second.
    pub rates: Rates,
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Address {
                protocol,
                address,
                port,
            } => {
                let protocol = match protocol {
                    Protocol::Tcp => "TCP",
                    Protocol::Udp => "UDP",
                    Protocol::Sctp => "SCTP",
                };
                let end = core::net::SocketAddr::new(address, port);
                write!(f, "{protocol} {end}")
            }
            Self::Mark { mark, family } => {
                let family = if family == Family::V6 { " IPv6" } else { "" };
                write!(f, "FWM {mark}{family}")
            }
        }
    }
}
