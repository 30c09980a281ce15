//! Random tables: services of every kind with servers of every kind.

use std::net::{IpAddr, Ipv4Addr};

use evenkeel_core::model::{
    Edit, Family, ForwardMethod, MarkRule, MssClamp, Netmask, Persistence, Prefix, Protocol,
    Scheduler, SchedulerFlags, ServerKey, ServerSettings, ServiceKey, ServiceSettings, Sysctl,
    SysctlValue, Tunnel, TunnelChecksum,
};

use crate::packets::Random;

/// Addresses, IPv4's first.
pub(crate) const VIPS: [[&str; 2]; 2] = [["10.9.0.1", "10.9.0.2"], ["fd09::1", "fd09::2"]];
pub(crate) const SERVERS: [[&str; 4]; 2] = [
    ["10.2.0.11", "10.2.0.12", "10.2.0.13", "10.2.0.14"],
    ["fd02::11", "fd02::12", "fd02::13", "fd02::14"],
];
/// The last of each has no neighbour entry.
pub(crate) const CLIENTS: [[&str; 4]; 2] = [
    ["10.1.0.11", "10.1.0.12", "10.1.0.13", "10.1.0.99"],
    ["fd01::11", "fd01::12", "fd01::13", "fd01::99"],
];

pub(crate) fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// All services that a table can have.
pub(crate) fn services() -> Vec<ServiceKey> {
    let at = |protocol, vip: &str, port| ServiceKey::at(protocol, address(vip), port);
    let mark = |mark, family| ServiceKey::Mark { mark, family };
    vec![
        at(Protocol::Tcp, VIPS[0][0], 80),
        at(Protocol::Udp, VIPS[0][0], 53),
        // Nobody serves here.
        at(Protocol::Tcp, VIPS[0][0], 81),
        at(Protocol::Tcp, VIPS[1][0], 80),
        at(Protocol::Udp, VIPS[1][0], 53),
        at(Protocol::Sctp, VIPS[0][0], 5000),
        at(Protocol::Sctp, VIPS[1][0], 5000),
        at(Protocol::Tcp, VIPS[0][0], 21),
        at(Protocol::Tcp, VIPS[0][1], 0),
        at(Protocol::Udp, VIPS[1][1], 0),
        mark(1, Family::V4),
        mark(2, Family::V6),
    ]
}

fn settings(random: &mut Random, key: &ServiceKey) -> ServiceSettings {
    let without_port = key.port() == 0 && matches!(key, ServiceKey::Address { .. });
    let persistent = without_port || key.port() == 21 || random.one_in(4);
    let udp = matches!(
        key,
        ServiceKey::Address {
            protocol: Protocol::Udp,
            ..
        }
    );
    let netmask = match key.family() {
        Family::V4 => Netmask::V4(random.of(&[
            Ipv4Addr::BROADCAST,
            Ipv4Addr::new(255, 255, 255, 0),
            Ipv4Addr::new(255, 255, 255, 253),
        ])),
        Family::V6 => Netmask::V6(random.of(&[128, 64, 127, 125, 33])),
    };
    ServiceSettings {
        scheduler: random.of(Scheduler::ALL).name().into(),
        flags: SchedulerFlags {
            fallback: random.one_in(2),
            port: random.one_in(2),
            third: false,
        },
        persistence: persistent.then_some(Persistence {
            timeout_s: 300,
            netmask,
        }),
        one_packet: udp && random.one_in(4),
        engine: (udp && persistent && random.one_in(2)).then(|| "sip".into()),
        compatible: random.of(&[None, Some(true), Some(false)]),
        mss_clamp: random.of(&[
            None,
            Some(MssClamp::Off),
            Some(MssClamp::Way),
            Some(MssClamp::Bytes(1000)),
        ]),
    }
}

fn method(random: &mut Random) -> ForwardMethod {
    let checksum = random.of(&[
        TunnelChecksum::None,
        TunnelChecksum::Full,
        TunnelChecksum::Remote,
    ]);
    match random.below(11) {
        0..=3 => ForwardMethod::Masq,
        8..=10 => ForwardMethod::FullNat,
        4 => ForwardMethod::Route,
        5 => ForwardMethod::Tunnel(Tunnel::Ipip),
        6 => ForwardMethod::Tunnel(Tunnel::Gue {
            port: 6080,
            checksum,
        }),
        _ => ForwardMethod::Tunnel(Tunnel::Gre {
            checksum: if checksum == TunnelChecksum::Remote {
                TunnelChecksum::Full
            } else {
                checksum
            },
        }),
    }
}

fn server(random: &mut Random, service: &ServiceKey) -> (ServerKey, ServerSettings) {
    let method = method(random);
    let family = usize::from(service.family() == Family::V6);
    let mixed = matches!(method, ForwardMethod::Tunnel(_)) && random.one_in(2);
    let list = SERVERS[if mixed { 1 - family } else { family }];
    let own = service.port();
    let port = match method {
        ForwardMethod::Masq | ForwardMethod::FullNat if own != 0 => random.of(&[own, own + 8000]),
        _ => own,
    };
    let key = ServerKey {
        address: address(random.of(&list)),
        port,
    };
    let upper = if random.one_in(4) {
        2 + random.below(20)
    } else {
        0
    };
    let settings = ServerSettings {
        method,
        weight: random.of(&[1, 1, 2, 3, 5, 0]),
        upper_threshold: upper,
        lower_threshold: if upper > 0 && random.one_in(2) {
            upper / 2
        } else {
            0
        },
    };
    (key, settings)
}

/// Settings that the packet path heeds, beside those that tables are made with.
const SETTINGS: [Sysctl; 4] = [
    Sysctl::CacheBypass,
    Sysctl::NatIcmpSend,
    Sysctl::PmtuDisc,
    Sysctl::ScheduleIcmp,
];

fn set(random: &mut Random, setting: Sysctl) -> Edit {
    Edit::Set {
        setting,
        value: SysctlValue::Number(random.below(2)),
    }
}

/// A table to begin with.
pub(crate) fn table(random: &mut Random) -> Vec<Edit> {
    let mut edits: Vec<Edit> = SETTINGS.iter().map(|&which| set(random, which)).collect();
    for service in services() {
        // Marks come before all else, and so are rarely there.
        if matches!(service, ServiceKey::Mark { .. }) && !random.one_in(3) {
            continue;
        }
        edits.push(Edit::AddService {
            service,
            settings: settings(random, &service),
        });
        if service.port() == 81 {
            continue;
        }
        for _ in 0..=random.below(5) {
            let (server, settings) = server(random, &service);
            edits.push(Edit::AddServer {
                service,
                server,
                settings,
            });
        }
    }
    edits
}

/// Rules that mark packets, each with the index of its interface: none half of the time.
pub(crate) fn marks(random: &mut Random) -> Vec<(MarkRule, u32)> {
    let count = if random.one_in(2) { random.below(6) } else { 0 };
    (0..count).map(|_| mark(random)).collect()
}

fn mark(random: &mut Random) -> (MarkRule, u32) {
    let family = random.below(2) as usize;
    let bits = random.of(&[0, 32]);
    let prefix = |random: &mut Random, list: &[&str]| {
        let address = address(random.of(list));
        let bits = if family == 0 { bits } else { 4 * bits };
        let none = if address.is_ipv4() { "0.0.0.0" } else { "::" };
        Prefix {
            address: if bits == 0 {
                none.parse().unwrap()
            } else {
                address
            },
            bits,
        }
    };
    let rule = MarkRule {
        mark: 1 + random.below(3),
        protocol: random.of(&[None, Some(Protocol::Tcp), Some(Protocol::Sctp)]),
        source: random
            .one_in(2)
            .then(|| prefix(random, &CLIENTS[family][..2])),
        destination: Some(prefix(random, &VIPS[family])),
        ports: random
            .of::<&[_]>(&[&[], &[(80, 80)], &[(20, 21), (1000, 6000)]])
            .iter()
            .map(|&(low, high)| low..=high)
            .collect(),
        interface: None,
    };
    (rule, random.of(&[0, 0, 1, 2]))
}

/// A defence against floods begins, or ends.
fn defence(random: &mut Random) -> Edit {
    let mode = random.of(&[0, 0, 3]);
    let (setting, number) = random.of(&[
        (Sysctl::DropPacket, mode),
        (Sysctl::SecureTcp, mode),
        (Sysctl::AmDroprate, 2 + mode),
    ]);
    Edit::Set {
        setting,
        value: SysctlValue::Number(number),
    }
}

/// A change while connections are there.
pub(crate) fn change(random: &mut Random) -> Edit {
    let service = random.of(&services());
    let (server, new) = server(random, &service);
    match random.below(14) {
        12 | 13 => defence(random),
        0 if random.one_in(2) => {
            let which = random.of(&SETTINGS);
            set(random, which)
        }
        0 => Edit::DeleteServer { service, server },
        1 | 2 => Edit::AddServer {
            service,
            server,
            settings: new,
        },
        3 => Edit::EditService {
            service,
            settings: settings(random, &service),
        },
        _ => Edit::EditServer {
            service,
            server,
            settings: new,
        },
    }
}
