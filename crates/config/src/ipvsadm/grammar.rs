//! From words to a [`Command`], with every complaint of `ipvsadm` in its order:
//! first each option's own argument, as the words come; then scheduler flags;
//! then the table of the command; then what only options together can get wrong.

use core::net::{IpAddr, Ipv4Addr};

use evenkeel_core::model::{ForwardMethod, Protocol, ServerKey, ServiceKey, Timeouts};

use super::address::{self, Names};
use super::command::{
    Command, List, Listed, Netmask, Server, Service, SyncDaemon, SyncRole, Tunnel, TunnelChecksum,
    Usage, VirtualService,
};
use super::flags;
use super::options::{Given, Kind, Opt, TunnelKind, Verb};
use super::words::{Found, WordError, Words};

/// Longest timeout that can be set, in seconds: 31 days.
const TIMEOUT_MAX_S: i64 = 31 * 86_400;
/// Persistence timeout when `-p` names none.
const PERSISTENCE_DEFAULT_S: u32 = 360;
/// Scheduler when `-s` is missing.
const DEFAULT_SCHEDULER: &str = "wlc";
/// Interface of the synchronisation daemons when none is named.
const DEFAULT_INTERFACE: &str = "eth0";
/// Bytes that the kernel takes of a scheduler's or an interface's name.
const NAME_BYTES: usize = 15;
/// Bytes that the kernel takes of a persistence engine's name.
const ENGINE_BYTES: usize = 16;

/// Reads the words behind the program's name.
///
/// # Errors
/// The message and exit code of `ipvsadm` 1.31 for words that it refuses.
pub fn parse(words: &[&str], names: &dyn Names) -> Result<Command, Usage> {
    if words.is_empty() {
        return Ok(Command::List(List::default()));
    }
    let mut walk = Words::new(words);
    let Ok(Some(first)) = walk.next_option() else {
        return Err(try_help());
    };
    let verb = match first.option {
        Opt::Help => return Ok(Command::Help),
        Opt::Version => return Ok(Command::Version),
        option => Verb::of(option).ok_or_else(try_help)?,
    };
    let mut draft = Draft::new(names);
    match verb {
        Verb::StartDaemon => {
            draft.role = Some(role(&first, "illegal start-daemon parameter specified")?);
        }
        Verb::StopDaemon => draft.role = Some(role(&first, "illegal start_daemon specified")?),
        _ => {}
    }
    loop {
        match walk.next_option() {
            Ok(Some(found)) => draft.option(found, walk.current())?,
            Ok(None) => break,
            Err(error) => return Err(popt_error(walk.current(), error)),
        }
    }
    let mut arguments = walk.arguments().into_iter();
    if verb == Verb::Set {
        draft.timeouts = timeouts(&mut arguments)?;
    }
    if let Some(argument) = arguments.next() {
        return Err(Usage::new(format!("unexpected argument {argument}")));
    }
    draft.finish(verb)
}

/// The way out of a restore inside a restore, and of a first word that is no
/// command.
pub(super) fn try_help() -> Usage {
    Usage {
        message: "Try `ipvsadm -h' or 'ipvsadm --help' for more information.".into(),
        exit_code: 255,
        restore_goes_on: false,
    }
}

fn popt_error(word: &str, error: WordError) -> Usage {
    Usage {
        message: format!("{word}: {}", error.text()),
        exit_code: 255,
        restore_goes_on: true,
    }
}

fn role(found: &Found<'_>, complaint: &str) -> Result<SyncRole, Usage> {
    match found.argument {
        Some("master") => Ok(SyncRole::Master),
        Some("backup") => Ok(SyncRole::Backup),
        _ => Err(Usage::new(complaint)),
    }
}

fn timeouts<'w>(arguments: &mut impl Iterator<Item = &'w str>) -> Result<Timeouts, Usage> {
    let mut next = || {
        arguments
            .next()
            .ok_or_else(|| Usage::new("--set option requires 3 timeout values"))
    };
    let (tcp, tcp_fin, udp) = (next()?, next()?, next()?);
    Ok(Timeouts {
        tcp: timeout(tcp, 0)?,
        tcp_fin: timeout(tcp_fin, 0)?,
        udp: timeout(udp, 0)?,
    })
}

fn timeout(word: &str, least: i64) -> Result<u32, Usage> {
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

/// The options so far. What one means can depend on those before it: a server
/// without a port takes the port of a service that is already named.
struct Draft<'n> {
    names: &'n dyn Names,
    given: Given,
    protocol: Option<Protocol>,
    address: Option<IpAddr>,
    port: u16,
    mark: u32,
    /// The service's packets are IPv6's.
    ipv6: bool,
    netmask: Option<Netmask>,
    scheduler: String,
    flags: Option<String>,
    persistent: Option<u32>,
    engine: Option<String>,
    server: Option<ServerKey>,
    method: ForwardMethod,
    tunnel: TunnelKind,
    tunnel_port: u16,
    tunnel_checksum: TunnelChecksum,
    weight: u32,
    upper_threshold: u32,
    lower_threshold: u32,
    timeouts: Timeouts,
    role: Option<SyncRole>,
    interface: String,
    sync_id: u8,
    max_length: Option<u16>,
    group: Option<IpAddr>,
    mcast_port: Option<u16>,
    ttl: Option<u8>,
}

impl<'n> Draft<'n> {
    fn new(names: &'n dyn Names) -> Self {
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
            method: ForwardMethod::Route,
            tunnel: TunnelKind::Ipip,
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
    fn option(&mut self, found: Found<'_>, word: &str) -> Result<(), Usage> {
        let argument = found.argument.unwrap_or("");
        match found.option {
            Opt::TcpService => self.service(argument, Protocol::Tcp),
            Opt::UdpService => self.service(argument, Protocol::Udp),
            Opt::SctpService => self.service(argument, Protocol::Sctp),
            Opt::FwmarkService => self.fwmark(argument),
            Opt::Ipv6 => self.mark_is_ipv6(),
            Opt::RealServer => self.real_server(argument),
            Opt::Gatewaying => self.method(ForwardMethod::Route),
            Opt::Ipip => self.method(ForwardMethod::Tunnel),
            Opt::Masquerading => self.method(ForwardMethod::Masq),
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

    fn method(&mut self, method: ForwardMethod) -> Result<(), Usage> {
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
                self.tunnel = TunnelKind::from_name(word)
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

    /// What only shows when all options are there.
    fn finish(self, verb: Verb) -> Result<Command, Usage> {
        let scheduler = if self.scheduler.is_empty() {
            DEFAULT_SCHEDULER
        } else {
            &self.scheduler
        };
        let flags =
            flags::parse(self.flags.as_deref().unwrap_or(""), scheduler).map_err(Usage::new)?;
        self.given.check_command(verb).map_err(Usage::new)?;
        let target = self.target();
        // Never missing where the table of the command demands a service.
        let service = target.ok_or_else(try_help);
        Ok(match verb {
            Verb::AddService => {
                Command::AddService(self.checked_service(service?, scheduler, flags)?)
            }
            Verb::EditService => {
                Command::EditService(self.checked_service(service?, scheduler, flags)?)
            }
            Verb::DeleteService => Command::DeleteService(service?),
            Verb::Flush => Command::Clear,
            Verb::List => Command::List(self.list()?),
            Verb::AddServer => Command::AddServer(self.checked_server(service?)?),
            Verb::EditServer => Command::EditServer(self.checked_server(service?)?),
            Verb::DeleteServer => Command::DeleteServer {
                service: service?,
                server: self.server.ok_or_else(try_help)?,
            },
            Verb::Set => Command::SetTimeouts(self.timeouts),
            Verb::StartDaemon => Command::StartDaemon(self.sync_daemon()?),
            Verb::StopDaemon => Command::StopDaemon {
                role: self.role.ok_or_else(try_help)?,
                sync_id: self.sync_id,
            },
            Verb::Restore => Command::Restore,
            Verb::Save => Command::Save {
                numeric: self.given.has(Kind::Numeric),
            },
            Verb::Zero => Command::Zero(target),
        })
    }

    fn target(&self) -> Option<VirtualService> {
        if self.mark != 0 {
            return Some(VirtualService::Mark {
                mark: self.mark,
                ipv6: self.ipv6,
            });
        }
        let (protocol, address) = (self.protocol?, self.address?);
        Some(VirtualService::Address(ServiceKey {
            protocol,
            address,
            port: self.port,
        }))
    }

    fn checked_service(
        &self,
        service: VirtualService,
        scheduler: &str,
        flags: u8,
    ) -> Result<Service, Usage> {
        let one_packet = self.given.has(Kind::OnePacket);
        if let VirtualService::Address(key) = service {
            if key.port == 0 && self.persistent.is_none() {
                return Err(Usage::new("Zero port specified for non-persistent service"));
            }
            if one_packet && key.protocol != Protocol::Udp {
                return Err(Usage::new(
                    "One-Packet Scheduling is only for UDP virtual services",
                ));
            }
        }
        Ok(Service {
            service,
            scheduler: scheduler.into(),
            persistent: self.persistent,
            netmask: self
                .netmask
                .filter(|&mask| mask != Netmask::V4(Ipv4Addr::BROADCAST)),
            one_packet,
            persistence_engine: self.engine.clone(),
            scheduler_flags: flags,
        })
    }

    fn checked_server(&self, service: VirtualService) -> Result<Server, Usage> {
        let mut server = self.server.ok_or_else(try_help)?;
        if let (VirtualService::Address(key), ForwardMethod::Route | ForwardMethod::Tunnel) =
            (service, self.method)
        {
            server.port = key.port;
        }
        if server.address.is_ipv6() != self.ipv6 && self.method != ForwardMethod::Tunnel {
            return Err(Usage::new(
                "Different address family is allowed only for tunneling servers",
            ));
        }
        let tunnel = self.checked_tunnel()?;
        Ok(Server {
            service,
            server,
            method: self.method,
            tunnel,
            weight: self.weight,
            upper_threshold: self.upper_threshold,
            lower_threshold: self.lower_threshold,
        })
    }

    fn checked_tunnel(&self) -> Result<Option<Tunnel>, Usage> {
        if self.method != ForwardMethod::Tunnel {
            let options = [
                Kind::TunnelType,
                Kind::TunnelPort,
                Kind::TunnelNoChecksum,
                Kind::TunnelChecksum,
                Kind::TunnelRemoteChecksum,
            ];
            if self.given.has_any(&options) {
                return Err(Usage::new("Tunnel options conflict with forward method"));
            }
            return Ok(None);
        }
        self.given.check_tunnel(self.tunnel).map_err(Usage::new)?;
        let checksum = self.tunnel_checksum;
        Ok(Some(match self.tunnel {
            TunnelKind::Ipip => Tunnel::Ipip,
            TunnelKind::Gue => Tunnel::Gue {
                port: self.tunnel_port,
                checksum,
            },
            TunnelKind::Gre => Tunnel::Gre { checksum },
        }))
    }

    fn list(&self) -> Result<List, Usage> {
        let given = self.given;
        if given.has_any(&[Kind::Connection, Kind::Timeout, Kind::Daemon])
            && (given.has_any(&[Kind::Stats, Kind::Rate, Kind::Thresholds])
                || given.has(Kind::PersistentConn) && !given.has(Kind::Connection))
        {
            return Err(Usage::new("options conflicts in the list command"));
        }
        let what = if given.has(Kind::Connection) {
            Listed::Connections
        } else if let Some(service) = self.target() {
            Listed::Service(service)
        } else if given.has(Kind::Timeout) {
            Listed::Timeouts
        } else if given.has(Kind::Daemon) {
            Listed::Daemons
        } else {
            Listed::Services
        };
        Ok(List {
            what,
            numeric: given.has(Kind::Numeric),
            exact: given.has(Kind::Exact),
            unsorted: given.has(Kind::NoSort),
            stats: given.has(Kind::Stats),
            rate: given.has(Kind::Rate),
            thresholds: given.has(Kind::Thresholds),
            persistent_connections: given.has(Kind::PersistentConn),
            tunnel_info: given.has(Kind::TunnelInfo),
        })
    }

    fn sync_daemon(&self) -> Result<SyncDaemon, Usage> {
        let interface = if self.interface.is_empty() {
            DEFAULT_INTERFACE
        } else {
            &self.interface
        };
        Ok(SyncDaemon {
            role: self.role.ok_or_else(try_help)?,
            interface: interface.into(),
            sync_id: self.sync_id,
            max_length: self.max_length,
            group: self.group,
            port: self.mcast_port,
            ttl: self.ttl,
        })
    }
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
