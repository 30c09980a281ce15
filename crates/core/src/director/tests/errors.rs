//! Packets that can't go on as they are, and errors by ICMP about those that went.

use alloc::vec;
use alloc::vec::Vec;

use evenkeel_datapath::{Reason, Verdict, state};

use super::frames::*;
use super::*;

const PORT: u16 = 4000;

/// A datagram with so many bytes of data.
pub(super) fn udp(from: End, to: End, whole: bool, data: usize) -> Vec<u8> {
    frames::udp(from, to, whole, &vec![7; data])
}

/// An ICMP error.
pub(super) fn error(from: IpAddr, to: IpAddr, kind: [u8; 2], mtu: u32, about: &[u8]) -> Vec<u8> {
    let mut message = [kind.to_vec(), vec![0; 2], mtu.to_be_bytes().to_vec()].concat();
    message.extend_from_slice(about);
    let (protocol, pseudo) = if from.is_ipv4() {
        (ICMP, 0)
    } else {
        (ICMPV6, pseudo(from, to, ICMPV6, &message))
    };
    let sum = checksum(&message, pseudo);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    packet(from, to, protocol, false, &message)
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
    let (from, to, message) = parts(packet);
    let is_v4 = packet[0] == 0x45;
    let (kind, protocol, length, sum) = if is_v4 {
        assert_eq!(checksum(&packet[..20], 0), 0);
        let length = u16::from_be_bytes([packet[2], packet[3]]) - 20;
        ([8, 0], packet[9], length, 0)
    } else {
        let length = u16::from_be_bytes([packet[4], packet[5]]);
        let message = &message[..length.into()];
        let sum = pseudo(from, to, ICMPV6, message);
        ([0x86, 0xdd], packet[6], length, sum)
    };
    let message = &message[..length.into()];
    assert_eq!(frame[12..14], kind);
    assert_eq!(protocol, if is_v4 { ICMP } else { ICMPV6 });
    assert_eq!(checksum(message, sum), 0);
    Seen {
        from,
        to,
        kind: [message[0], message[1]],
        mtu: u32::from_be_bytes(message[4..8].try_into().unwrap()),
        about: message[8..].to_vec(),
    }
}

/// A UDP service of one family with a server of another, and the way to it.
fn rig(service: Family, server: Family, method: ForwardMethod) -> Rig {
    let key = ServiceKey::at(Protocol::Udp, net(service).vip, 53);
    rig_of(key, ServiceSettings::scheduled_by("rr"), server, method)
}

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
        rig.set(Sysctl::PmtuDisc, discovery);
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
        rig.set(Sysctl::NatIcmpSend, 1);
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
            rig.set(Sysctl::ScheduleIcmp, 1);
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
    rig.set(Sysctl::ScheduleIcmp, 1);
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
    rig.set(Sysctl::ScheduleIcmp, 1);
    let reply = udp((to.vip, 53), (to.client, PORT), true, 100);
    let error = error(to.router, to.vip, [3, 4], 1300, &reply);
    assert_eq!(go(&rig, &error, true).0, Verdict::Drop);
    assert_eq!(count(&rig, Reason::NoServer), 1);
}
