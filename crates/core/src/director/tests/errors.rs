//! Packets that can't go on as they are, and errors by ICMP about those that went.

use alloc::vec;
use alloc::vec::Vec;
use core::net::{Ipv4Addr, Ipv6Addr};

use evenkeel_datapath::Reason;
use evenkeel_datapath::Verdict;
use evenkeel_datapath::host::{Hop as PathHop, Route, RouteAnswer};
use evenkeel_datapath::memory::Memory;
use evenkeel_datapath::simulated::{Circumstances, reason_count, run_tc, run_xdp};
use evenkeel_datapath::state;

use super::*;
use crate::model::{Sysctl, SysctlValue};

const UDP: u8 = 17;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
/// Interfaces: where frames come by, where servers are, where clients are.
pub(super) const INGRESS: u32 = 4;
pub(super) const TO_SERVERS: u32 = 2;
pub(super) const TO_CLIENTS: u32 = 3;
const PORT: u16 = 4000;

/// Addresses of a family.
pub(super) struct Net {
    pub(super) client: IpAddr,
    pub(super) vip: IpAddr,
    pub(super) server: IpAddr,
    director: IpAddr,
    router: IpAddr,
}

pub(super) fn net(family: Family) -> Net {
    let at = |last: u8| match family {
        Family::V4 => Ipv4Addr::new(10, 0, 0, last).into(),
        Family::V6 => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last.into()).into(),
    };
    Net {
        client: at(2),
        vip: at(10),
        server: at(21),
        director: at(1),
        router: at(99),
    }
}

pub(super) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

pub(super) fn checksum(bytes: &[u8], start: u32) -> u16 {
    let words = bytes.chunks(2);
    let mut sum = words.fold(start, |sum, pair| {
        sum + (u32::from(pair[0]) << 8) + u32::from(*pair.get(1).unwrap_or(&0))
    });
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// An IP packet; of IPv4, one that must not be cut if `whole`.
pub(super) fn packet(
    from: IpAddr,
    to: IpAddr,
    protocol: u8,
    whole: bool,
    payload: &[u8],
) -> Vec<u8> {
    let length = payload.len() as u16;
    let mut packet = if from.is_ipv4() {
        let mut head = vec![0x45, 0, 0, 0, 0x12, 0x34, 0, 0, 64, protocol, 0, 0];
        head[2..4].copy_from_slice(&(length + 20).to_be_bytes());
        head[6] = if whole { 0x40 } else { 0 };
        head
    } else {
        let mut head = vec![0x60, 0, 0, 0, 0, 0, protocol, 64];
        head[4..6].copy_from_slice(&length.to_be_bytes());
        head
    };
    packet.extend([octets(from), octets(to)].concat());
    if from.is_ipv4() {
        let sum = checksum(&packet, 0);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
    }
    packet.extend_from_slice(payload);
    packet
}

/// A datagram without a checksum of its own.
pub(super) fn udp(from: (IpAddr, u16), to: (IpAddr, u16), whole: bool, data: usize) -> Vec<u8> {
    let mut payload = vec![7; 8 + data];
    payload[..2].copy_from_slice(&from.1.to_be_bytes());
    payload[2..4].copy_from_slice(&to.1.to_be_bytes());
    payload[4..6].copy_from_slice(&(8 + data as u16).to_be_bytes());
    payload[6..8].fill(0);
    packet(from.0, to.0, UDP, whole, &payload)
}

/// An ICMP error.
pub(super) fn error(from: IpAddr, to: IpAddr, kind: [u8; 2], mtu: u32, about: &[u8]) -> Vec<u8> {
    let mut message = [kind.to_vec(), vec![0; 2], mtu.to_be_bytes().to_vec()].concat();
    message.extend_from_slice(about);
    let (protocol, pseudo) = if from.is_ipv4() {
        (ICMP, 0)
    } else {
        (ICMPV6, pseudo(from, to, &message))
    };
    let sum = checksum(&message, pseudo);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    packet(from, to, protocol, false, &message)
}

fn pseudo(from: IpAddr, to: IpAddr, message: &[u8]) -> u32 {
    let addresses = [octets(from), octets(to)].concat();
    let sum = !checksum(&addresses, 0);
    u32::from(sum) + u32::from(ICMPV6) + message.len() as u32
}

/// An ICMP error as its receiver sees it; its checksums are right.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    from: IpAddr,
    to: IpAddr,
    kind: [u8; 2],
    mtu: u32,
    about: Vec<u8>,
}

fn seen(frame: &[u8]) -> Seen {
    let packet = &frame[14..];
    let address = |at: usize, length: usize| -> IpAddr {
        let bytes = &packet[at..at + length];
        match length {
            4 => <[u8; 4]>::try_from(bytes).unwrap().into(),
            _ => <[u8; 16]>::try_from(bytes).unwrap().into(),
        }
    };
    let kind = if packet[0] == 0x45 {
        [8, 0]
    } else {
        [0x86, 0xdd]
    };
    assert_eq!(frame[12..14], kind);
    let (from, to, protocol, message) = if packet[0] == 0x45 {
        let length = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
        assert_eq!(checksum(&packet[..20], 0), 0);
        assert_eq!(checksum(&packet[20..length], 0), 0);
        (
            address(12, 4),
            address(16, 4),
            packet[9],
            &packet[20..length],
        )
    } else {
        let length = 40 + usize::from(u16::from_be_bytes([packet[4], packet[5]]));
        let (from, to) = (address(8, 16), address(24, 16));
        let message = &packet[40..length];
        assert_eq!(checksum(message, pseudo(from, to, message)), 0);
        (from, to, packet[6], message)
    };
    assert!([ICMP, ICMPV6].contains(&protocol), "protocol {protocol}");
    Seen {
        from,
        to,
        kind: [message[0], message[1]],
        mtu: u32::from_be_bytes(message[4..8].try_into().unwrap()),
        about: message[8..].to_vec(),
    }
}

/// Runs a packet through the packet path, on both hooks' models in turn.
pub(super) fn go(rig: &Rig, packet: &[u8], tc: bool) -> (Verdict, Vec<u8>) {
    go_by(rig, packet, if tc { run_tc } else { run_xdp })
}

/// A model of a hook.
type Run = fn(Memory<'_>, &mut Vec<u8>, Circumstances<'_>) -> Verdict;

/// Runs a packet through the model of a hook.
pub(super) fn go_by(rig: &Rig, packet: &[u8], run: Run) -> (Verdict, Vec<u8>) {
    let kind: [u8; 2] = if packet[0] >> 4 == 4 {
        [8, 0]
    } else {
        [0x86, 0xdd]
    };
    let mut frame = [&[4; 12][..], &kind, packet].concat();
    let route = |to: IpAddr| Route {
        answer: if [2, 21, 22].contains(octets(to).last().unwrap()) {
            RouteAnswer::Ready
        } else {
            RouteAnswer::None
        },
        hop: PathHop {
            interface: TO_CLIENTS,
            mtu: 1500,
            ..PathHop::default()
        },
    };
    let around = Circumstances {
        interface: INGRESS,
        tick: 1,
        cpu: 0,
        routes: &|_, to, _| route(to.to_ne_bytes().into()),
        wide_routes: &|_, to, _| {
            let bytes: Vec<u8> = to.iter().flat_map(|word| word.to_ne_bytes()).collect();
            route(<[u8; 16]>::try_from(bytes).unwrap().into())
        },
        mark: 0,
        tagged: false,
        for_us: true,
    };
    let verdict = run(rig.memory(), &mut frame, around);
    (verdict, frame)
}

/// A UDP service of one family with a server of another, and the way to it.
fn rig(service: Family, server: Family, method: ForwardMethod) -> Rig {
    let key = ServiceKey::at(Protocol::Udp, net(service).vip, 53);
    rig_of(key, ServiceSettings::scheduled_by("rr"), server, method)
}

/// The same with any service.
pub(super) fn rig_of(
    key: ServiceKey,
    settings: ServiceSettings,
    server: Family,
    method: ForwardMethod,
) -> Rig {
    served(Rig::new(), key, settings, server, method)
}

/// The same in tables of any size.
fn served(
    mut rig: Rig,
    key: ServiceKey,
    settings: ServiceSettings,
    server: Family,
    method: ForwardMethod,
) -> Rig {
    rig.apply(add_with(key, settings));
    let to = net(server);
    let at = ServerKey {
        address: to.server,
        port: key.port(),
    };
    rig.apply(add_by(key, at, method));
    let hop = Hop {
        interface: TO_SERVERS,
        destination_mac: [2; 6],
        source_mac: [4; 6],
        mtu: 1500,
        source: Some(to.director),
    };
    rig.director.set_hop(to.server, Some(Reach::By(hop)));
    let tables = &rig.tables;
    rig.director.write_all(&tables.memory());
    rig
}

fn set(rig: &mut Rig, setting: Sysctl, number: u32) {
    rig.apply(Edit::Set {
        setting,
        value: SysctlValue::Number(number),
    });
}

pub(super) fn count(rig: &Rig, reason: Reason) -> u64 {
    reason_count(&rig.memory(), reason)
}

pub(super) const FAMILIES: [Family; 2] = [Family::V4, Family::V6];
const TUNNELS: [(Tunnel, u32); 3] = [
    (Tunnel::Ipip, 0),
    (
        Tunnel::Gue {
            port: 6080,
            checksum: TunnelChecksum::None,
        },
        12,
    ),
    (
        Tunnel::Gre {
            checksum: TunnelChecksum::None,
        },
        4,
    ),
];

/// The client's packet, and as it stands in the tunnel.
fn enter(rig: &Rig, inner: Family, data: usize) -> (Vec<u8>, Vec<u8>) {
    let net = net(inner);
    let sent = udp((net.client, PORT), (net.vip, 53), true, data);
    let (verdict, frame) = go(rig, &sent, true);
    let interface = TO_SERVERS;
    assert_eq!(verdict, Verdict::Transmit { interface }, "{inner:?}");
    (sent, frame[14..].to_vec())
}

/// The packet one hop on.
fn passed_on(sent: &[u8]) -> Vec<u8> {
    let mut sent = sent.to_vec();
    if sent[0] >> 4 == 6 {
        sent[7] -= 1;
        return sent;
    }
    sent[8] -= 1;
    sent[10..12].fill(0);
    let sum = checksum(&sent[..20], 0);
    sent[10..12].copy_from_slice(&sum.to_be_bytes());
    sent
}

fn too_big(family: Family) -> [u8; 2] {
    match family {
        Family::V4 => [3, 4],
        Family::V6 => [2, 0],
    }
}

fn each_tunnel(mut action: impl FnMut(Family, Family, Tunnel, u32)) {
    for inner in FAMILIES {
        for outer in FAMILIES {
            for (tunnel, more) in TUNNELS {
                let around = more + if outer == Family::V4 { 20 } else { 40 };
                action(inner, outer, tunnel, around);
            }
        }
    }
}

#[test]
fn a_client_is_told_what_a_tunnel_has_room_for() {
    each_tunnel(|inner, outer, tunnel, around| {
        for tc in [true, false] {
            let rig = rig(inner, outer, ForwardMethod::Tunnel(tunnel));
            let (sent, outside) = enter(&rig, inner, 1350);
            let (to, way) = (net(inner), net(outer));
            let about = &outside[..outside.len().min(400)];
            let error = error(way.router, way.director, too_big(outer), 1400, about);
            let (verdict, frame) = go(&rig, &error, tc);
            let interface = TO_CLIENTS;
            assert_eq!(verdict, Verdict::Transmit { interface }, "{tunnel:?}");
            let expected = Seen {
                from: to.vip,
                to: to.client,
                kind: too_big(inner),
                mtu: 1400 - around,
                about: passed_on(&sent)[..128].to_vec(),
            };
            assert_eq!(seen(&frame), expected, "{inner:?} {outer:?} {tunnel:?}");
            assert_eq!(count(&rig, Reason::Relayed), 1);
        }
    });
}

#[test]
fn a_client_is_told_of_other_errors_too() {
    let cases = [
        (Family::V4, Family::V4, [3, 1], [3, 1]),
        (Family::V4, Family::V4, [11, 0], [11, 0]),
        (Family::V6, Family::V4, [3, 1], [1, 3]),
        (Family::V6, Family::V4, [11, 0], [3, 0]),
        (Family::V4, Family::V6, [1, 0], [3, 1]),
        (Family::V4, Family::V6, [3, 0], [11, 0]),
        (Family::V6, Family::V6, [1, 0], [1, 0]),
    ];
    for (inner, outer, told, expected) in cases {
        let rig = rig(inner, outer, ForwardMethod::Tunnel(Tunnel::Ipip));
        let (_, outside) = enter(&rig, inner, 100);
        let way = net(outer);
        let error = error(way.router, way.director, told, 0, &outside);
        let (_, frame) = go(&rig, &error, true);
        let seen = seen(&frame);
        assert_eq!((seen.kind, seen.mtu), (expected, 0), "{inner:?} {outer:?}");
        assert_eq!(seen.to, net(inner).client);
    }
}

#[test]
fn what_quotes_too_little_of_a_tunnel_or_is_anothers_is_left_to_the_kernel() {
    each_tunnel(|inner, outer, tunnel, _| {
        let rig = rig(inner, outer, ForwardMethod::Tunnel(tunnel));
        let (_, outside) = enter(&rig, inner, 1300);
        let way = net(outer);
        let head = if outer == Family::V4 { 20 } else { 40 };
        let kind = too_big(outer);
        let short = error(way.router, way.director, kind, 1400, &outside[..head + 8]);
        assert_eq!(go(&rig, &short, true).0, Verdict::Pass);
        assert_eq!(
            count(&rig, Reason::QuoteTooShort),
            1,
            "{outer:?} {tunnel:?}"
        );
        // Of a tunnel that somebody else has here.
        let mut other = outside.clone();
        let source = if outer == Family::V4 { 15 } else { 23 };
        other[source] ^= 0x40;
        let error = error(way.router, way.director, kind, 1400, &other[..400]);
        assert_eq!(go(&rig, &error, true).0, Verdict::Pass);
        assert_eq!(count(&rig, Reason::Relayed), 0);
    });
}

#[test]
fn a_tunnels_outer_header_forbids_fragments_as_the_inner_one_does() {
    for (discovery, size, inner, expected) in [
        (1, 1300, Family::V4, 0x40),
        (0, 1300, Family::V4, 0),
        (1, 1300, Family::V6, 0x40),
        // Every way has to take that much.
        (1, 1000, Family::V6, 0),
        (0, 1300, Family::V6, 0),
    ] {
        let mut rig = rig(inner, Family::V4, ForwardMethod::Tunnel(Tunnel::Ipip));
        set(&mut rig, Sysctl::PmtuDisc, discovery);
        let (_, outside) = enter(&rig, inner, size);
        assert_eq!(outside[6], expected, "{discovery} {size} {inner:?}");
        assert_eq!(checksum(&outside[..20], 0), 0);
        if expected == 0 {
            assert_ne!(outside[4..6], [0, 0], "no identification");
        }
    }
}

#[test]
fn what_may_be_cut_is_left_to_the_kernel_or_answered() {
    let to = net(Family::V4);
    let large = |whole| udp((to.client, PORT), (to.vip, 53), whole, 1500);
    for (method, whole, is_left) in [
        (ForwardMethod::Masq, false, true),
        (ForwardMethod::Masq, true, false),
        (ForwardMethod::Route, false, false),
        (ForwardMethod::FullNat, false, false),
        (ForwardMethod::Tunnel(Tunnel::Ipip), false, false),
    ] {
        for tc in [true, false] {
            let rig = rig(Family::V4, Family::V4, method);
            let (verdict, frame) = go(&rig, &large(whole), tc);
            if is_left {
                assert_eq!(verdict, Verdict::Pass);
                assert_eq!(frame[30..34], octets(to.server), "{method:?}");
                // It is the kernel that counts the hop.
                assert_eq!(frame[22], 64);
                assert_eq!(count(&rig, Reason::LeftToBeCut), 1);
                assert_eq!(count(&rig, Reason::TooBig), 0);
                continue;
            }
            let interface = INGRESS;
            assert_eq!(verdict, Verdict::Transmit { interface }, "{method:?}");
            let seen = seen(&frame);
            let mtu = 1500 - u32::from(matches!(method, ForwardMethod::Tunnel(_))) * 20;
            assert_eq!((seen.kind, seen.mtu), ([3, 4], mtu), "{method:?}");
        }
    }
}

#[test]
fn errors_find_their_way_through_source_nat() {
    for family in FAMILIES {
        let rig = rig(family, family, ForwardMethod::FullNat);
        let to = net(family);
        let head = if family == Family::V4 { 20 } else { 40 };
        let unreachable = if family == Family::V4 { [3, 3] } else { [1, 4] };
        let sent = udp((to.client, PORT), (to.vip, 53), false, 50);
        let (_, frame) = go(&rig, &sent, true);
        let translated = &frame[14..];
        assert_eq!(
            translated[head - 2 * octets(to.server).len()..head],
            [octets(to.director), octets(to.server)].concat()
        );
        // Nobody listens on the server.
        let back = error(to.server, to.director, unreachable, 0, translated);
        let (verdict, frame) = go(&rig, &back, true);
        let interface = TO_CLIENTS;
        assert_eq!(verdict, Verdict::Transmit { interface });
        let expected = Seen {
            from: to.vip,
            to: to.client,
            kind: unreachable,
            mtu: 0,
            about: passed_on(&sent),
        };
        assert_eq!(seen(&frame), expected, "{family:?}");
        // The client is gone when the reply comes.
        let port = u16::from_be_bytes([translated[head], translated[head + 1]]);
        let reply = udp((to.server, 53), (to.director, port), false, 20);
        let (_, frame) = go(&rig, &reply, true);
        let gone = error(to.client, to.vip, unreachable, 0, &frame[14..]);
        let (verdict, frame) = go(&rig, &gone, true);
        let interface = TO_SERVERS;
        assert_eq!(verdict, Verdict::Transmit { interface });
        let expected = Seen {
            from: to.director,
            to: to.server,
            kind: unreachable,
            mtu: 0,
            about: passed_on(&reply),
        };
        assert_eq!(seen(&frame), expected, "{family:?}");
    }
}

#[test]
fn a_servers_packet_without_a_connection_is_answered_if_wanted() {
    for family in FAMILIES {
        let mut rig = rig(family, family, ForwardMethod::Masq);
        let to = net(family);
        let alone = udp((to.server, 53), (to.client, 777), false, 20);
        assert_eq!(go(&rig, &alone, true).0, Verdict::Pass);
        set(&mut rig, Sysctl::NatIcmpSend, 1);
        let (verdict, frame) = go(&rig, &alone, true);
        let interface = INGRESS;
        assert_eq!(verdict, Verdict::Transmit { interface });
        let seen = seen(&frame);
        let unreachable = if family == Family::V4 { [3, 3] } else { [1, 4] };
        assert_eq!((seen.to, seen.kind), (to.server, unreachable));
        assert_eq!(count(&rig, Reason::Unexpected), 1);
    }
}

#[test]
fn errors_about_packets_without_a_connection_are_scheduled_if_wanted() {
    for family in FAMILIES {
        for method in [ForwardMethod::Masq, ForwardMethod::FullNat] {
            let mut rig = rig(family, family, method);
            let to = net(family);
            // Another director's reply.
            let reply = udp((to.vip, 53), (to.client, PORT), true, 1200);
            let error = error(to.router, to.vip, too_big(family), 1300, &reply[..80]);
            assert_eq!(go(&rig, &error, true).0, Verdict::Pass);
            set(&mut rig, Sysctl::ScheduleIcmp, 1);
            let (verdict, frame) = go(&rig, &error, true);
            let interface = TO_SERVERS;
            assert_eq!(verdict, Verdict::Transmit { interface }, "{method:?}");
            let seen = seen(&frame);
            assert_eq!((seen.to, seen.mtu), (to.server, 1300));
            let head = if family == Family::V4 { 20 } else { 40 };
            let source = octets(to.server);
            let length = source.len();
            assert_eq!(seen.about[head - 2 * length..head - length], source);
            let key = ServiceKey::at(Protocol::Udp, to.vip, 53);
            assert_eq!(rig.servers(&key)[0].inactive, 1);
        }
    }
}

/// Where there is one place left, a connection takes that of its own translated source, and
/// both are gone. The error is not looked at for ever.
#[test]
fn an_error_whose_connection_finds_no_room_is_dropped() {
    let to = net(Family::V6);
    let key = ServiceKey::at(Protocol::Udp, to.vip, 53);
    let rig = Rig::sized(Sizes {
        wide_buckets: 1,
        ..Sizes::default()
    });
    let settings = ServiceSettings::scheduled_by("rr");
    let mut rig = served(rig, key, settings, Family::V6, ForwardMethod::FullNat);
    set(&mut rig, Sysctl::ScheduleIcmp, 1);
    let memory = rig.memory();
    let bucket = &memory.wide_connections[0];
    for way in 1..bucket.entries.len() {
        bucket.signatures[way].set(1);
        bucket.entries[way].state.set(state::ESTABLISHED);
    }
    let reply = udp((to.vip, 53), (to.client, PORT), true, 100);
    let error = error(to.router, to.vip, too_big(Family::V6), 1300, &reply);
    assert_eq!(go(&rig, &error, true).0, Verdict::Drop);
    assert_eq!(count(&rig, Reason::TableFull), 1);
    assert_eq!(rig.servers(&key)[0].inactive, 0);
}

#[test]
fn errors_that_nobody_serves_are_not_answered() {
    let mut rig = Rig::new();
    let to = net(Family::V4);
    rig.apply(add(ServiceKey::at(Protocol::Udp, to.vip, 53), "rr"));
    set(&mut rig, Sysctl::ScheduleIcmp, 1);
    let reply = udp((to.vip, 53), (to.client, PORT), true, 100);
    let error = error(to.router, to.vip, [3, 4], 1300, &reply);
    assert_eq!(go(&rig, &error, true).0, Verdict::Drop);
    assert_eq!(count(&rig, Reason::NoServer), 1);
}
