//! Packets of tests, the ways that they go, and what is left of them in the memory.

use alloc::vec;
use alloc::vec::Vec;
use core::net::{Ipv4Addr, Ipv6Addr};

use evenkeel_datapath::host::{Hop as PathHop, Route, RouteAnswer};
use evenkeel_datapath::layout::{Entry, state_word};
use evenkeel_datapath::simulated::{Circumstances, reason_count, run_tc, run_xdp};
use evenkeel_datapath::{Reason, Verdict, state};

use super::*;

pub(super) const ICMP: u8 = 1;
pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;
pub(super) const ICMPV6: u8 = 58;
pub(super) const FIN: u8 = 1;
pub(super) const SYN: u8 = 2;
pub(super) const RST: u8 = 4;
pub(super) const ACK: u8 = 16;
/// Interfaces: where frames come by, where servers are, where clients are.
pub(super) const INGRESS: u32 = 4;
pub(super) const TO_SERVERS: u32 = 2;
pub(super) const TO_CLIENTS: u32 = 3;

/// An address and a port.
pub(super) type End = (IpAddr, u16);
/// A client's address in 10/8, by its last three bytes, and its port.
pub(super) type Client = (u32, u16);

pub(super) const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

/// Addresses of a family.
pub(super) struct Net {
    pub(super) client: IpAddr,
    pub(super) vip: IpAddr,
    pub(super) server: IpAddr,
    pub(super) director: IpAddr,
    pub(super) router: IpAddr,
}

/// The address of a family's network with this last byte.
pub(super) fn host(family: Family, last: u8) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(10, 0, 0, last).into(),
        Family::V6 => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last.into()).into(),
    }
}

pub(super) fn net(family: Family) -> Net {
    Net {
        client: host(family, 2),
        vip: host(family, 10),
        server: host(family, 21),
        director: host(family, 1),
        router: host(family, 99),
    }
}

pub(super) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// The address that stands at the beginning of these 4 or 16 bytes.
pub(super) fn address(bytes: &[u8]) -> IpAddr {
    match <[u8; 4]>::try_from(bytes) {
        Ok(v4) => v4.into(),
        Err(_) => <[u8; 16]>::try_from(bytes).unwrap().into(),
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

/// The sum of a pseudo header before this payload.
pub(super) fn pseudo(from: IpAddr, to: IpAddr, protocol: u8, payload: &[u8]) -> u32 {
    let addresses = [octets(from), octets(to)].concat();
    u32::from(!checksum(&addresses, 0)) + u32::from(protocol) + payload.len() as u32
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

/// The source and the destination of a packet without options, and what it carries.
pub(super) fn parts(packet: &[u8]) -> (IpAddr, IpAddr, &[u8]) {
    let (first, length) = if packet[0] == 0x45 { (12, 4) } else { (8, 16) };
    let (second, behind) = (first + length, first + 2 * length);
    (
        address(&packet[first..second]),
        address(&packet[second..behind]),
        &packet[behind..],
    )
}

/// A datagram without a checksum of its own.
pub(super) fn udp(from: End, to: End, whole: bool, data: &[u8]) -> Vec<u8> {
    let mut payload = [from.1.to_be_bytes(), to.1.to_be_bytes()].concat();
    payload.extend((8 + data.len() as u16).to_be_bytes());
    payload.extend([0; 2]);
    payload.extend_from_slice(data);
    packet(from.0, to.0, UDP, whole, &payload)
}

/// A segment without data.
pub(super) fn tcp(from: End, to: End, flags: u8, options: &[u8]) -> Vec<u8> {
    let mut segment = [from.1.to_be_bytes(), to.1.to_be_bytes()].concat();
    segment.resize(20, 0);
    segment[12] = (5 + options.len() as u8 / 4) << 4;
    segment[13] = flags;
    segment.extend_from_slice(options);
    let sum = checksum(&segment, pseudo(from.0, to.0, TCP, &segment));
    segment[16..18].copy_from_slice(&sum.to_be_bytes());
    packet(from.0, to.0, TCP, true, &segment)
}

/// The end of a client that [`Client`] names.
pub(super) fn end((address, port): Client) -> End {
    (Ipv4Addr::from(10 << 24 | address).into(), port)
}

/// A port of the services that [`service`] names.
pub(super) fn virtual_end(port: u16) -> End {
    ([10, 0, 0, 10].into(), port)
}

/// A packet in an Ethernet frame.
pub(super) fn framed(packet: &[u8]) -> Vec<u8> {
    let kind: [u8; 2] = if packet[0] >> 4 == 4 {
        [8, 0]
    } else {
        [0x86, 0xdd]
    };
    [&[4; 12][..], &kind, packet].concat()
}

/// The frame of a segment of a client to a service that [`service`] names.
pub(super) fn segment(client: Client, port: u16, flags: u8) -> Vec<u8> {
    framed(&tcp(end(client), virtual_end(port), flags, &[]))
}

/// What a server answers to an IPv4 frame that was sent to it, with these flags if it is of
/// TCP; its checksums are of no matter.
pub(super) fn answer(mut sent: Vec<u8>, flags: u8) -> Vec<u8> {
    for (one, other) in [(26, 30), (27, 31), (28, 32), (29, 33), (34, 36), (35, 37)] {
        sent.swap(one, other);
    }
    sent[22] = 64;
    if sent[23] == TCP {
        sent[47] = flags;
    }
    sent
}

/// A way to clients.
pub(super) fn route(answer: RouteAnswer) -> Route {
    Route {
        answer,
        hop: PathHop {
            interface: TO_CLIENTS,
            mtu: 1500,
            ..PathHop::default()
        },
    }
}

/// What surrounds a frame where the way to every client is known.
pub(super) fn around() -> Circumstances<'static> {
    Circumstances {
        interface: INGRESS,
        tick: 1,
        cpu: 0,
        routes: &|_, _, _| route(RouteAnswer::Ready),
        wide_routes: &|_, _, _| route(RouteAnswer::Ready),
        mark: 0,
        tagged: false,
        for_us: true,
    }
}

/// A frame as tc sends it on, to a server or a client. None: it does not.
pub(super) fn send_at(rig: &Rig, tick: u32, mut frame: Vec<u8>) -> Option<Vec<u8>> {
    let around = Circumstances { tick, ..around() };
    let verdict = run_tc(rig.memory(), &mut frame, around);
    let ways = [TO_SERVERS, TO_CLIENTS].map(|interface| Verdict::Transmit { interface });
    ways.contains(&verdict).then_some(frame)
}

/// The same, at the first tick.
pub(super) fn send(rig: &Rig, frame: Vec<u8>) -> Option<Vec<u8>> {
    send_at(rig, 1, frame)
}

/// Runs a packet through the packet path, on one hook's model, where there is a way to few
/// addresses.
pub(super) fn go(rig: &Rig, packet: &[u8], tc: bool) -> (Verdict, Vec<u8>) {
    go_by(rig, packet, if tc { run_tc } else { run_xdp })
}

/// A model of a hook.
pub(super) type Run = fn(Memory<'_>, &mut Vec<u8>, Circumstances<'_>) -> Verdict;

/// The same on any model.
pub(super) fn go_by(rig: &Rig, packet: &[u8], run: Run) -> (Verdict, Vec<u8>) {
    let to = |address: IpAddr| {
        let is_known = [2, 21, 22].contains(octets(address).last().unwrap());
        route(if is_known {
            RouteAnswer::Ready
        } else {
            RouteAnswer::None
        })
    };
    let around = Circumstances {
        routes: &|_, address, _| to(address.to_ne_bytes().into()),
        wide_routes: &|_, address, _| {
            let bytes = address.map(u32::to_ne_bytes);
            to(self::address(bytes.as_flattened()))
        },
        ..around()
    };
    let mut frame = framed(packet);
    let verdict = run(rig.memory(), &mut frame, around);
    (verdict, frame)
}

/// A service with a server, and the way to it.
pub(super) fn rig_of(
    key: ServiceKey,
    settings: ServiceSettings,
    server: Family,
    method: ForwardMethod,
) -> Rig {
    served(Rig::new(), key, settings, server, method)
}

/// The same in tables of any size.
pub(super) fn served(
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
    rig.reach(to.server, Some(to.director));
    rig
}

pub(super) fn count(rig: &Rig, reason: Reason) -> u64 {
    reason_count(&rig.memory(), reason)
}

pub(super) fn state_of(entry: &Entry) -> u32 {
    entry.state.get() & state_word::STATE
}

/// Connections in narrow entries that are there.
pub(super) fn live(rig: &Rig) -> impl Iterator<Item = &Entry> {
    let all = rig.memory().connections.iter();
    let all = all.flat_map(|bucket| &bucket.entries);
    all.filter(|entry| state_of(entry) != state::FREE)
}
