//! Options one by one, each with its own argument.

use core::net::IpAddr;

use evenkeel_core::model::{
    MethodKind, Netmask, Protocol, ServerKey, Timeouts, Tunnel, TunnelChecksum,
};

use super::address::{self, Names};
use super::command::{SyncRole, Usage};
use super::options::Opt;
use super::rules::{self, Given, Kind};
use super::words::Found;

/// Longest timeout that can be set, in seconds: 31 days.
const TIMEOUT_MAX_S: i64 = 31 * 86_400;
/// Persistence timeout when `-p` names none.
const PERSISTENCE_DEFAULT_S: u32 = 360;
/// Bytes that the kernel takes of a scheduler's or an interface's name.
const NAME_BYTES: usize = 15;
/// Bytes that the kernel takes of a persistence engine's name.
const ENGINE_BYTES: usize = 16;

/// The options so far. What one means can depend on those before it: a server
/// without a port takes the port of a service that is already named.
pub(super) struct Draft<'n> {
    pub(super) names: &'n dyn Names,
    pub(super) given: Given,
    pub(super) protocol: Option<Protocol>,
    pub(super) address: Option<IpAddr>,
    pub(super) port: u16,
    pub(super) mark: u32,
    /// The service's packets are IPv6's.
    pub(super) ipv6: bool,
    pub(super) netmask: Option<Netmask>,
    pub(super) scheduler: String,
    pub(super) flags: Option<String>,
    pub(super) persistent: Option<u32>,
    pub(super) engine: Option<String>,
    pub(super) server: Option<ServerKey>,
    pub(super) method: MethodKind,
    /// The type alone; port and checksum have options of their own.
    pub(super) tunnel: Tunnel,
    pub(super) tunnel_port: u16,
    pub(super) tunnel_checksum: TunnelChecksum,
    pub(super) weight: u32,
    pub(super) upper_threshold: u32,
    pub(super) lower_threshold: u32,
    pub(super) timeouts: Timeouts,
    pub(super) role: Option<SyncRole>,
    pub(super) interface: String,
    pub(super) sync_id: u8,
    pub(super) max_length: Option<u16>,
    pub(super) group: Option<IpAddr>,
    pub(super) mcast_port: Option<u16>,
    pub(super) ttl: Option<u8>,
}

impl<'n> Draft<'n> {
    pub(super) fn new(names: &'n dyn Names) -> Self {
        Self {
            names,
            given: Given::default(),
            protocol: None,
            address: None,
            port: 0,
            mark: 0,
            ipv6: false,
            netmask: None,
            scheduler: String::new(),
            flags: None,
            persistent: None,
            engine: None,
            server: None,
            method: MethodKind::Route,
            tunnel: Tunnel::Ipip,
            tunnel_port: 0,
            tunnel_checksum: TunnelChecksum::None,
            weight: 1,
            upper_threshold: 0,
            lower_threshold: 0,
            timeouts: Timeouts {
                tcp: 0,
                tcp_fin: 0,
                udp: 0,
            },
            role: None,
            interface: String::new(),
            sync_id: 0,
            max_length: None,
            group: None,
            mcast_port: None,
            ttl: None,
        }
    }

    fn note(&mut self, kind: Kind) -> Result<(), Usage> {
        self.given.add(kind).map_err(Usage::new)
    }

    /// Takes one option; `word` is the word it stood in.
    pub(super) fn option(&mut self, found: Found<'_>, word: &str) -> Result<(), Usage> {
        let argument = found.argument.unwrap_or("");
        match found.option {
            Opt::TcpService => self.service(argument, Protocol::Tcp),
            Opt::UdpService => self.service(argument, Protocol::Udp),
            Opt::SctpService => self.service(argument, Protocol::Sctp),
            Opt::FwmarkService => self.fwmark(argument),
            Opt::Ipv6 => self.mark_is_ipv6(),
            Opt::RealServer => self.real_server(argument),
            Opt::Gatewaying => self.method(MethodKind::Route),
            Opt::Ipip => self.method(MethodKind::Tunnel),
            Opt::Masquerading => self.method(MethodKind::Masq),
            Opt::FullNat => self.method(MethodKind::FullNat),
            Opt::TunnelNoChecksum => self.checksum(Kind::TunnelNoChecksum, TunnelChecksum::None),
            Opt::TunnelChecksum => self.checksum(Kind::TunnelChecksum, TunnelChecksum::Full),
            Opt::TunnelRemoteChecksum => {
                self.checksum(Kind::TunnelRemoteChecksum, TunnelChecksum::Remote)
            }
            Opt::Numeric => self.note(Kind::Numeric),
            Opt::Connection => self.note(Kind::Connection),
            Opt::Exact => self.note(Kind::Exact),
            Opt::NoSort => self.note(Kind::NoSort),
            // It does nothing, however often.
            Opt::Sort => Ok(()),
            Opt::Stats => self.note(Kind::Stats),
            Opt::Rate => self.note(Kind::Rate),
            Opt::Thresholds => self.note(Kind::Thresholds),
            Opt::PersistentConn => self.note(Kind::PersistentConn),
            Opt::TunnelInfo => self.note(Kind::TunnelInfo),
            Opt::Timeout => self.note(Kind::Timeout),
            Opt::Daemon => self.note(Kind::Daemon),
            Opt::OnePacket => self.note(Kind::OnePacket),
            Opt::Persistent => self.persistent(found.argument),
            Opt::Scheduler
            | Opt::Netmask
            | Opt::PersistenceEngine
            | Opt::SchedulerFlags
            | Opt::Weight
            | Opt::UpperThreshold
            | Opt::LowerThreshold
            | Opt::TunnelType
            | Opt::TunnelPort => self.value(found.option, argument),
            Opt::McastInterface
            | Opt::SyncId
            | Opt::SyncMaxLength
            | Opt::McastGroup
            | Opt::McastPort
            | Opt::McastTtl => self.daemon_value(found.option, argument),
            _ => Err(Usage::new(format!("invalid option `{word}'"))),
        }
    }

    fn service(&mut self, word: &str, protocol: Protocol) -> Result<(), Usage> {
        self.note(Kind::ServiceAddress)?;
        self.protocol = Some(protocol);
        let endpoint = address::endpoint(word, self.protocol, self.names)
            .ok_or_else(|| Usage::new("illegal virtual server address[:port] specified"))?;
        self.address = Some(endpoint.address);
        self.port = endpoint.port.unwrap_or(0);
        self.ipv6 = endpoint.address.is_ipv6();
        if self.ipv6 {
            self.netmask = None;
        }
        Ok(())
    }

    fn fwmark(&mut self, word: &str) -> Result<(), Usage> {
        self.note(Kind::ServiceAddress)?;
        self.protocol = Some(Protocol::Tcp);
        self.mark = ranged(
            word,
            1,
            i64::from(u32::MAX),
            &format!("invalid fwmark value `{word}' specified"),
        )?;
        Ok(())
    }

    fn mark_is_ipv6(&mut self) -> Result<(), Usage> {
        if self.mark == 0 {
            return Err(Usage::new("-6 used before -f\n"));
        }
        self.ipv6 = true;
        self.netmask = None;
        Ok(())
    }

    fn real_server(&mut self, word: &str) -> Result<(), Usage> {
        self.note(Kind::RealServer)?;
        let endpoint = address::endpoint(word, self.protocol, self.names)
            .ok_or_else(|| Usage::new("illegal real server address[:port] specified"))?;
        let port = endpoint.port.unwrap_or(self.port);
        self.server = Some(ServerKey {
            address: endpoint.address,
            port,
        });
        Ok(())
    }

    fn method(&mut self, method: MethodKind) -> Result<(), Usage> {
        self.note(Kind::ForwardingMethod)?;
        self.method = method;
        Ok(())
    }

    fn checksum(&mut self, kind: Kind, checksum: TunnelChecksum) -> Result<(), Usage> {
        self.note(kind)?;
        self.tunnel_checksum = checksum;
        Ok(())
    }

    fn persistent(&mut self, seconds: Option<&str>) -> Result<(), Usage> {
        self.note(Kind::Persistent)?;
        self.persistent = Some(seconds.map_or(Ok(PERSISTENCE_DEFAULT_S), |word| timeout(word, 1))?);
        Ok(())
    }

    fn value(&mut self, option: Opt, word: &str) -> Result<(), Usage> {
        const MOST: i64 = i32::MAX as i64;
        match option {
            Opt::Scheduler => {
                self.note(Kind::Scheduler)?;
                self.scheduler = cut(word, NAME_BYTES);
            }
            Opt::Netmask => {
                self.note(Kind::Netmask)?;
                self.netmask = Some(self.netmask(word)?);
            }
            Opt::PersistenceEngine => {
                self.note(Kind::PersistenceEngine)?;
                self.engine = Some(cut(word, ENGINE_BYTES));
            }
            Opt::SchedulerFlags => {
                self.note(Kind::SchedulerFlags)?;
                self.flags = Some(word.into());
            }
            Opt::Weight => {
                self.note(Kind::Weight)?;
                self.weight = ranged(word, 0, MOST, "illegal weight specified")?;
            }
            Opt::UpperThreshold => {
                self.note(Kind::UpperThreshold)?;
                self.upper_threshold = ranged(word, 0, MOST, "illegal u_threshold specified")?;
            }
            Opt::LowerThreshold => {
                self.note(Kind::LowerThreshold)?;
                self.lower_threshold = ranged(word, 0, MOST, "illegal l_threshold specified")?;
            }
            Opt::TunnelType => {
                self.note(Kind::TunnelType)?;
                self.tunnel = rules::tunnel_named(word)
                    .ok_or_else(|| Usage::new("illegal tunnel type specified"))?;
            }
            _ => {
                self.note(Kind::TunnelPort)?;
                self.tunnel_port = ranged(word, 1, 65_535, "illegal tunnel port specified")?;
            }
        }
        Ok(())
    }

    fn netmask(&self, word: &str) -> Result<Netmask, Usage> {
        if self.ipv6 {
            return u8::try_from(address::leading_number(word))
                .ok()
                .filter(|length| (1..=128).contains(length))
                .map(Netmask::V6)
                .ok_or_else(|| Usage::new("illegal ipv6 netmask specified"));
        }
        address::ipv4(word, self.names)
            .map(Netmask::V4)
            .ok_or_else(|| Usage::new("illegal virtual server persistent mask specified"))
    }

    fn daemon_value(&mut self, option: Opt, word: &str) -> Result<(), Usage> {
        match option {
            Opt::McastInterface => {
                self.note(Kind::McastInterface)?;
                self.interface = cut(word, NAME_BYTES);
            }
            Opt::SyncId => {
                self.note(Kind::SyncId)?;
                self.sync_id = ranged(word, 0, 255, "illegal syncid specified")?;
            }
            Opt::SyncMaxLength => {
                self.note(Kind::SyncMaxLength)?;
                self.max_length = Some(ranged(word, 1, 65_507, "illegal sync-maxlen specified")?);
            }
            Opt::McastGroup => {
                self.note(Kind::McastGroup)?;
                self.group = Some(group(word)?);
            }
            Opt::McastPort => {
                self.note(Kind::McastPort)?;
                self.mcast_port = Some(ranged(word, 1, 65_535, "illegal mcast-port specified")?);
            }
            _ => {
                self.note(Kind::McastTtl)?;
                self.ttl = Some(ranged(word, 1, 255, "illegal mcast-ttl specified")?);
            }
        }
        Ok(())
    }
}

/// Seconds, at most 31 days.
pub(super) fn timeout(word: &str, least: i64) -> Result<u32, Usage> {
    address::number(word, least, TIMEOUT_MAX_S)
        .and_then(|seconds| u32::try_from(seconds).ok())
        .ok_or_else(|| Usage::new(format!("invalid timeout value `{word}' specified")))
}

/// A number of type `T` from `least` on, up to `most`.
fn ranged<T: TryFrom<i64>>(word: &str, least: i64, most: i64, complaint: &str) -> Result<T, Usage> {
    address::number(word, least, most)
        .and_then(|number| T::try_from(number).ok())
        .ok_or_else(|| Usage::new(complaint))
}

/// At most so many bytes of a name, cut between characters.
fn cut(name: &str, bytes: usize) -> String {
    let mut end = bytes.min(name.len());
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    name[..end].into()
}

/// A multicast address; a colon makes it an IPv6 one.
fn group(word: &str) -> Result<IpAddr, Usage> {
    match word.parse::<IpAddr>() {
        Ok(address) if address.is_multicast() => Ok(address),
        _ => {
            let family = if word.contains(':') { "IPv6" } else { "IPv4" };
            Err(Usage::new(format!("invalid {family} mcast-group `{word}'")))
        }
    }
}
