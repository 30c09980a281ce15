//! Services and servers as the memory has them: written and read in one place, so that
//! what one daemon writes the next one understands.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use evenkeel_datapath::layout::{
    self, Address, AddressWords, MAPPED, SEGMENT_BY_WAY, mapped, method, scheduler, server_flags,
    service_flags, tunnel,
};
pub(super) use evenkeel_datapath::table::address_of as read_words;

use super::server::Server;
use super::service::{Service, Settings};
use super::write::{ServerRecord, ServiceRecord};
use crate::model::{
    Family, ForwardMethod, MssClamp, Netmask, Persistence, Protocol, Scheduler, SchedulerFlags,
    ServerKey, ServerSettings, ServiceKey, Tunnel, TunnelChecksum,
};

/// An address as it stands in packets, an IPv4 one mapped.
pub(crate) fn words(address: IpAddr) -> Address {
    match address {
        IpAddr::V4(address) => mapped(u32::from_ne_bytes(address.octets())),
        IpAddr::V6(address) => {
            let octets = address.octets();
            core::array::from_fn(|word| {
                let at = 4 * word;
                u32::from_ne_bytes([octets[at], octets[at + 1], octets[at + 2], octets[at + 3]])
            })
        }
    }
}

/// The IPv4 address that is mapped into this one; 0: none is.
pub(super) const fn ipv4_of(words: Address) -> u32 {
    match words {
        [0, 0, MAPPED, address] => address,
        _ => 0,
    }
}

/// The address, an IPv4 one where one is mapped.
pub(super) fn ip_of(words: Address) -> IpAddr {
    let ipv4 = address_of(words, Family::V4);
    ipv4.or_else(|| address_of(words, Family::V6))
        .unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED))
}

/// The address of this family. Nothing: it is of the other.
fn address_of(words: Address, family: Family) -> Option<IpAddr> {
    let is_mapped = matches!(words, [0, 0, MAPPED, _]);
    match family {
        Family::V4 if is_mapped => Some(Ipv4Addr::from(words[3].to_ne_bytes()).into()),
        Family::V6 if !is_mapped => {
            let mut octets = [0; 16];
            for (bytes, word) in octets.chunks_exact_mut(4).zip(words) {
                bytes.copy_from_slice(&word.to_ne_bytes());
            }
            Some(Ipv6Addr::from(octets).into())
        }
        _ => None,
    }
}

/// Stores an address.
pub(crate) fn write_words(target: &AddressWords, address: Address) {
    for (word, value) in target.iter().zip(address) {
        word.set(value);
    }
}

fn port_of(word: u32) -> u16 {
    u16::from_be(word as u16)
}

const fn flag(is_set: bool, flag: u32) -> u32 {
    if is_set { flag } else { 0 }
}

const fn family_of(is_ipv6: bool) -> Family {
    if is_ipv6 { Family::V6 } else { Family::V4 }
}

/// [`layout::Service::scheduler`] of a scheduler.
pub(super) const fn scheduler_number(scheduler: Scheduler) -> u32 {
    match scheduler {
        Scheduler::Rr | Scheduler::Wrr => scheduler::RING,
        Scheduler::Lc => scheduler::LC,
        Scheduler::Wlc => scheduler::WLC,
        Scheduler::Lblc => scheduler::LBLC,
        Scheduler::Lblcr => scheduler::LBLCR,
        Scheduler::Dh => scheduler::DH,
        Scheduler::Sh => scheduler::SH,
        Scheduler::Sed => scheduler::SED,
        Scheduler::Nq => scheduler::NQ,
        Scheduler::Fo => scheduler::FO,
        Scheduler::Ovf => scheduler::OVF,
        Scheduler::Mh => scheduler::MH,
        Scheduler::Twos => scheduler::TWOS,
    }
}

/// [`layout::Service::scheduler_name`] of a scheduler. A number that was given stays.
const fn scheduler_name(scheduler: Scheduler) -> u32 {
    match scheduler {
        Scheduler::Rr => 1,
        Scheduler::Wrr => 2,
        Scheduler::Lc => 3,
        Scheduler::Wlc => 4,
        Scheduler::Lblc => 5,
        Scheduler::Lblcr => 6,
        Scheduler::Dh => 7,
        Scheduler::Sh => 8,
        Scheduler::Sed => 9,
        Scheduler::Nq => 10,
        Scheduler::Fo => 11,
        Scheduler::Ovf => 12,
        Scheduler::Mh => 13,
        Scheduler::Twos => 14,
    }
}

fn virtual_words(key: &ServiceKey) -> Address {
    match *key {
        ServiceKey::Address { address, .. } => words(address),
        ServiceKey::Mark { .. } => [0; 4],
    }
}

fn service_flags_of(service: &Service) -> u32 {
    let Settings {
        flags,
        persistence,
        one_packet,
        sip,
        ..
    } = service.settings;
    service_flags::USED
        | flag(!service.live, service_flags::DELETED)
        | flag(service.key.family() == Family::V6, service_flags::IPV6)
        | flag(service.is_wide(), service_flags::WIDE)
        | flag(persistence.is_some(), service_flags::PERSISTENT)
        | flag(one_packet, service_flags::ONE_PACKET)
        | flag(flags.fallback, service_flags::FALLBACK)
        | flag(flags.port, service_flags::PORT)
        | flag(flags.third, service_flags::FLAG_3)
        | flag(service.compatible, service_flags::COMPATIBLE)
        | flag(sip, service_flags::SIP)
        | flag(service.configured, service_flags::CONFIGURED)
}

pub(super) fn service_record(service: &Service) -> ServiceRecord {
    let netmask = |persistence: Persistence| match persistence.netmask {
        Netmask::V4(mask) => u32::from_ne_bytes(mask.octets()),
        Netmask::V6(prefix) => u32::from(prefix),
    };
    let Settings {
        scheduler,
        persistence,
        mss_clamp,
        ..
    } = service.settings;
    let mark = match service.key {
        ServiceKey::Mark { mark, .. } => mark,
        ServiceKey::Address { .. } => 0,
    };
    ServiceRecord {
        address: virtual_words(&service.key),
        port: u32::from(service.key.port().to_be()) | u32::from(service.protocol()) << 16,
        scheduler: scheduler_number(scheduler),
        scheduler_name: scheduler_name(scheduler),
        current_weight: service.position,
        flags: service_flags_of(service),
        mark,
        persistence: persistence.map_or(0, |p| p.timeout_s),
        netmask: persistence.map_or(0, netmask),
        segment: match mss_clamp {
            MssClamp::Off => 0,
            MssClamp::Way => SEGMENT_BY_WAY,
            MssClamp::Bytes(bytes) => bytes.into(),
        },
    }
}

/// The record that the memory has.
pub(super) fn read_service(record: &layout::Service) -> ServiceRecord {
    ServiceRecord {
        address: read_words(&record.wide_address),
        port: record.port.get(),
        scheduler: record.scheduler.get(),
        scheduler_name: record.scheduler_name.get(),
        current_weight: record.current_weight.get(),
        flags: record.flags.get(),
        mark: record.mark.get(),
        persistence: record.persistence.get(),
        netmask: record.netmask.get(),
        segment: record.segment.get(),
    }
}

fn service_key(record: &ServiceRecord) -> Option<ServiceKey> {
    let family = family_of(record.flags & service_flags::IPV6 != 0);
    if record.mark != 0 {
        return Some(ServiceKey::Mark {
            mark: record.mark,
            family,
        });
    }
    Some(ServiceKey::Address {
        protocol: Protocol::from_number((record.port >> 16) as u8)?,
        address: address_of(record.address, family)?,
        port: port_of(record.port),
    })
}

fn persistence_of(record: &ServiceRecord, family: Family) -> Option<Persistence> {
    if record.flags & service_flags::PERSISTENT == 0 {
        return None;
    }
    let netmask = match family {
        Family::V4 => Netmask::V4(Ipv4Addr::from(record.netmask.to_ne_bytes())),
        Family::V6 => Netmask::V6(record.netmask.clamp(1, 128) as u8),
    };
    Some(Persistence {
        timeout_s: record.persistence,
        netmask,
    })
}

/// The service that a record describes. Nothing: there can be no such service.
pub(super) fn service_of(record: &ServiceRecord, now_ms: u64) -> Option<Service> {
    let key = service_key(record)?;
    let is = |flag: u32| record.flags & flag != 0;
    let name = |known: &&Scheduler| scheduler_name(**known) == record.scheduler_name;
    let settings = Settings {
        scheduler: *Scheduler::ALL.iter().find(name)?,
        flags: SchedulerFlags {
            fallback: is(service_flags::FALLBACK),
            port: is(service_flags::PORT),
            third: is(service_flags::FLAG_3),
        },
        persistence: persistence_of(record, key.family()),
        one_packet: is(service_flags::ONE_PACKET),
        sip: is(service_flags::SIP),
        mss_clamp: match record.segment {
            0 => MssClamp::Off,
            bytes => u16::try_from(bytes).map_or(MssClamp::Way, MssClamp::Bytes),
        },
    };
    let service = Service {
        live: !is(service_flags::DELETED),
        deleted_ms: now_ms,
        position: record.current_weight,
        configured: is(service_flags::CONFIGURED),
        ..Service::new(key, settings, is(service_flags::COMPATIBLE))
    };
    // What it is found by was written before anything referred to it, and stays. The
    // rest may be half of an edit.
    let expected = service_record(&service);
    let same = expected.address == record.address
        && expected.port == record.port
        && (expected.flags ^ record.flags) & service_flags::WIDE == 0;
    same.then_some(service)
}

const fn method_number(method: ForwardMethod) -> u32 {
    match method {
        ForwardMethod::Masq => method::MASQ,
        ForwardMethod::Tunnel(_) => method::TUNNEL,
        ForwardMethod::Route => method::ROUTE,
        ForwardMethod::FullNat => method::FULL_NAT,
    }
}

fn tunnel_word(method: ForwardMethod) -> u32 {
    let checksum = |checksum| match checksum {
        TunnelChecksum::None => 0,
        TunnelChecksum::Full => tunnel::CHECKSUM,
        TunnelChecksum::Remote => tunnel::REMOTE_CHECKSUM,
    };
    match method {
        ForwardMethod::Tunnel(Tunnel::Gue {
            port,
            checksum: kind,
        }) => tunnel::GUE | checksum(kind) | u32::from(port.to_be()) << tunnel::PORT_SHIFT,
        ForwardMethod::Tunnel(Tunnel::Gre { checksum: kind }) => tunnel::GRE | checksum(kind),
        ForwardMethod::Tunnel(Tunnel::Ipip) => tunnel::IPIP,
        _ => 0,
    }
}

fn method_of(flags: u32, word: u32) -> ForwardMethod {
    let checksum = if word & tunnel::CHECKSUM != 0 {
        TunnelChecksum::Full
    } else if word & tunnel::REMOTE_CHECKSUM != 0 {
        TunnelChecksum::Remote
    } else {
        TunnelChecksum::None
    };
    match flags >> server_flags::METHOD_SHIFT & server_flags::METHOD {
        method::TUNNEL => ForwardMethod::Tunnel(match word & tunnel::KIND {
            tunnel::GUE => Tunnel::Gue {
                port: port_of(word >> tunnel::PORT_SHIFT),
                checksum,
            },
            tunnel::GRE => Tunnel::Gre { checksum },
            _ => Tunnel::Ipip,
        }),
        method::ROUTE => ForwardMethod::Route,
        method::FULL_NAT => ForwardMethod::FullNat,
        _ => ForwardMethod::Masq,
    }
}

/// [`layout::Server::flags`].
pub(super) fn server_flags_of(server: &Server, service: &Service) -> u32 {
    server_flags::USED
        | server.hop_flags
        | flag(server.live, server_flags::ALIVE)
        | flag(server.key.port == 0, server_flags::PORT_GIVEN_AS_ZERO)
        | flag(server.settings.weight > 0, server_flags::WEIGHTED)
        | flag(server.requested, server_flags::REQUESTED)
        | flag(server.key.address.is_ipv6(), server_flags::IPV6)
        | u32::from(service.protocol()) << server_flags::PROTOCOL_SHIFT
        | method_number(server.settings.method) << server_flags::METHOD_SHIFT
}

pub(super) fn server_record(server: &Server, service: &Service) -> ServerRecord {
    let port = server.actual_port(service).to_be();
    let ServerSettings {
        method,
        weight,
        upper_threshold,
        lower_threshold,
    } = server.settings;
    ServerRecord {
        address: words(server.key.address),
        virtual_address: virtual_words(&service.key),
        ports: u32::from(port) | u32::from(service.key.port().to_be()) << 16,
        service: server.service,
        flags: server_flags_of(server, service),
        weight: if weight > 0 {
            weight
        } else {
            server.last_weight
        },
        order: server.order,
        tunnel: tunnel_word(method),
        upper_threshold,
        lower_threshold,
    }
}

/// The record that the memory has.
pub(super) fn read_server(record: &layout::Server) -> ServerRecord {
    ServerRecord {
        address: read_words(&record.wide_address),
        virtual_address: read_words(&record.wide_virtual_address),
        ports: record.ports.get(),
        service: record.service.get(),
        flags: record.flags.get(),
        weight: record.weight.get(),
        order: record.order.get(),
        tunnel: record.tunnel.get(),
        upper_threshold: record.upper_threshold.get(),
        lower_threshold: record.lower_threshold.get(),
    }
}

/// The server that a record describes. Nothing: there can be no such server.
pub(super) fn server_of(record: &ServerRecord, now_ms: u64) -> Option<Server> {
    const HOP_FLAGS: u32 = server_flags::HOP | server_flags::HOP_READY | server_flags::LOCAL;
    let is = |flag: u32| record.flags & flag != 0;
    let key = ServerKey {
        address: address_of(record.address, family_of(is(server_flags::IPV6)))?,
        port: if is(server_flags::PORT_GIVEN_AS_ZERO) {
            0
        } else {
            port_of(record.ports)
        },
    };
    let last_weight = record.weight & i32::MAX as u32;
    let settings = ServerSettings {
        method: method_of(record.flags, record.tunnel),
        weight: if is(server_flags::WEIGHTED) {
            last_weight
        } else {
            0
        },
        upper_threshold: record.upper_threshold,
        lower_threshold: record.lower_threshold,
    };
    Some(Server {
        live: is(server_flags::ALIVE),
        deleted_ms: now_ms,
        order: record.order,
        hop_flags: record.flags & HOP_FLAGS,
        last_weight,
        requested: is(server_flags::REQUESTED),
        ..Server::new(key, record.service, settings)
    })
}

/// True: the record is that of the server as far as it never changes. Records are
/// written before what refers to them, so that one without its service was never used.
pub(super) fn is_of(record: &ServerRecord, server: &Server, service: &Service) -> bool {
    const FIXED: u32 = 0xff << server_flags::PROTOCOL_SHIFT
        | server_flags::PORT_GIVEN_AS_ZERO
        | server_flags::IPV6;
    let expected = server_record(server, service);
    expected.ports == record.ports
        && expected.virtual_address == record.virtual_address
        && (expected.flags ^ record.flags) & FIXED == 0
        && server.can_serve(service)
}
