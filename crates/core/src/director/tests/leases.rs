//! Translated sources where there is no more room for them.

use alloc::vec;
use alloc::vec::Vec;

use evenkeel_datapath::host::{Hop as PathHop, Route, RouteAnswer};
use evenkeel_datapath::layout::{WAYS, WideEntry, mapped, state_word};
use evenkeel_datapath::simulated::{Circumstances, reason_count, run_tc};
use evenkeel_datapath::table::address_of;
use evenkeel_datapath::{Reason, Verdict, state};

use super::*;

const SYN: u8 = 2;
const ACK: u8 = 16;
const RST: u8 = 4;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// A client's address in 10/8, by its last three bytes, and its port.
type Client = (u32, u16);

/// A packet of TCP with these flags, or of UDP, to a port of 10.0.0.10; its checksums are of
/// no matter.
fn packet(protocol: u8, (address, from): Client, to: u16, flags: u8) -> Vec<u8> {
    let mut frame = vec![0; 60];
    frame[12..15].copy_from_slice(&[8, 0, 0x45]);
    frame[17] = 46;
    frame[22..24].copy_from_slice(&[64, protocol]);
    frame[26..30].copy_from_slice(&(10 << 24 | address).to_be_bytes());
    frame[30..34].copy_from_slice(&[10, 0, 0, 10]);
    frame[34..36].copy_from_slice(&from.to_be_bytes());
    frame[36..38].copy_from_slice(&to.to_be_bytes());
    if protocol == TCP {
        frame[46..48].copy_from_slice(&[0x50, flags]);
    } else {
        frame[39] = 8;
    }
    frame
}

/// Of a client to an IPv6 service at port 53.
fn packet6(client: u16) -> Vec<u8> {
    let mut frame = vec![0; 62];
    frame[12..15].copy_from_slice(&[0x86, 0xdd, 0x60]);
    frame[19..22].copy_from_slice(&[8, UDP, 64]);
    let address: core::net::Ipv6Addr = "2001:db8::10".parse().unwrap();
    frame[22..24].copy_from_slice(&[0x20, 1]);
    frame[36..38].copy_from_slice(&client.to_be_bytes());
    frame[38..54].copy_from_slice(&address.octets());
    frame[54..58].copy_from_slice(&[4, 0, 0, 53]);
    frame[59] = 8;
    frame
}

/// What the server answers to a packet that was sent to it.
fn answer(mut sent: Vec<u8>, flags: u8) -> Vec<u8> {
    for (one, other) in [(26, 30), (27, 31), (28, 32), (29, 33), (34, 36), (35, 37)] {
        sent.swap(one, other);
    }
    sent[22] = 64;
    if sent[23] == TCP {
        sent[47] = flags;
    }
    sent
}

fn udp(port: u16) -> ServiceKey {
    ServiceKey::at(Protocol::Udp, [10, 0, 0, 10], port)
}

/// An instance with so few places for wide entries, services of source NAT at ports 80, 81
/// and 53, and one of IPv6.
fn rig(wide_buckets: u32) -> Rig {
    let mut rig = Rig::sized(Sizes {
        wide_buckets,
        ..Sizes::default()
    });
    let own: IpAddr = [192, 168, 1, 254].into();
    let own6: IpAddr = "2001:db8::1:254".parse().unwrap();
    let mut serve = |service: ServiceKey, server: ServerKey, method, source| {
        rig.apply(add(service, "wlc"));
        rig.apply(add_by(service, server, method));
        let hop = Hop {
            interface: 2,
            destination_mac: [2; 6],
            source_mac: [4; 6],
            mtu: 1500,
            source: Some(source),
        };
        rig.director.set_hop(server.address, Some(Reach::By(hop)));
    };
    for service in [service(80), service(81), udp(53)] {
        let server = server(service.port());
        serve(service, server, ForwardMethod::FullNat, own);
    }
    serve(service6(53), server6(53), ForwardMethod::Masq, own6);
    rig.director.write_all(&rig.tables.memory());
    rig
}

/// The frame as it is sent on; none: it is not.
fn send(rig: &Rig, mut frame: Vec<u8>) -> Option<Vec<u8>> {
    let route = Route {
        answer: RouteAnswer::Ready,
        hop: PathHop {
            interface: 2,
            ..PathHop::default()
        },
    };
    let around = Circumstances {
        interface: 2,
        tick: 1,
        cpu: 0,
        routes: &|_, _, _| route,
        wide_routes: &|_, _, _| route,
        mark: 0,
        tagged: false,
        for_us: true,
    };
    let verdict = run_tc(rig.memory(), &mut frame, around);
    (verdict == Verdict::Transmit { interface: 2 }).then_some(frame)
}

/// Opens a connection, and gives its SYN as the server got it.
fn establish(rig: &Rig, client: Client, port: u16) -> Vec<u8> {
    let sent = send(rig, packet(TCP, client, port, SYN)).unwrap();
    assert!(send(rig, answer(sent.clone(), SYN | ACK)).is_some());
    assert!(send(rig, packet(TCP, client, port, ACK)).is_some());
    sent
}

/// True: packets go to and fro.
fn goes_on(rig: &Rig, client: Client, port: u16, sent: &[u8]) -> bool {
    let Some(up) = send(rig, packet(TCP, client, port, ACK)) else {
        return false;
    };
    let Some(down) = send(rig, answer(sent.to_vec(), ACK)) else {
        return false;
    };
    up[26..38] == sent[26..38] && down[30..34] == (10 << 24 | client.0).to_be_bytes()
}

fn count(rig: &Rig, reason: Reason) -> u64 {
    reason_count(&rig.memory(), reason)
}

/// Translated sources that are there.
fn sources<'a>(memory: &Memory<'a>) -> Vec<&'a WideEntry> {
    let all = memory.wide_connections.iter().flat_map(|b| &b.entries);
    all.filter(|entry| entry.state.get() & state_word::STATE == state::TRANSLATED)
        .collect()
}

/// Connections of IPv4 that are there; each has its source, and counts for its server.
fn connections(rig: &Rig) -> usize {
    let memory = rig.memory();
    let all = memory.connections.iter().flat_map(|b| &b.entries);
    let live: Vec<_> = all
        .filter(|entry| entry.state.get() & state_word::STATE != state::FREE)
        .collect();
    let sources = sources(&memory);
    for entry in &live {
        let client = mapped(entry.client_address.get());
        let is_there = sources.iter().any(|source| {
            address_of(&source.virtual_address) == client
                && source.ports.get() & 0xffff == entry.client_port.get() & 0xffff
                && source.hop.get() == entry.server_tag.get()
                && source.server.get() == entry.server.get()
        });
        assert!(is_there, "{:x}", entry.client_address.get().to_be());
    }
    let loads = &memory.loads[..3];
    let counted = loads.iter().map(|l| l.active.get() + l.inactive.get());
    assert_eq!(counted.sum::<u32>(), live.len() as u32);
    live.len()
}

#[test]
fn an_unanswered_source_gives_way_and_its_connection_with_it() {
    let rig = rig(1);
    let room = WAYS as u32;
    for number in 0..1000 {
        assert!(send(&rig, packet(TCP, (number, 1), 80, SYN)).is_some());
        assert_eq!(connections(&rig), room.min(number + 1) as usize);
    }
    assert_eq!(count(&rig, Reason::EvictedHalfOpen), 1000 - u64::from(room));
    assert_eq!(count(&rig, Reason::NoPort), 0);
    // Whose source has given way comes too late, or begins anew.
    let late = (0, 1);
    assert!(send(&rig, packet(TCP, late, 80, ACK)).is_none());
    assert_eq!(count(&rig, Reason::NoConnection), 1);
    let sent = establish(&rig, late, 80);
    assert!(goes_on(&rig, late, 80, &sent));
}

#[test]
fn an_established_connection_keeps_its_source_in_a_flood() {
    let rig = rig(1);
    let kept: Vec<_> = (0..WAYS as u32 - 4)
        .map(|number| {
            let (client, port) = ((1_000_000 + number, 9), 80 + number as u16 % 2);
            (client, port, establish(&rig, client, port))
        })
        .collect();
    for number in 0..500 {
        assert!(send(&rig, packet(TCP, (number, 1), 80, SYN)).is_some());
        // Others find room, too.
        assert!(send(&rig, packet6(number as u16)).is_some(), "{number}");
        for (client, port, sent) in &kept {
            assert!(goes_on(&rig, *client, *port, sent), "{number}: {client:?}");
        }
        connections(&rig);
    }
    // A new connection becomes established, and keeps its place as well.
    let client = (2_000_000, 3);
    let sent = establish(&rig, client, 80);
    for number in 500..1000 {
        send(&rig, packet(TCP, (number, 1), 80, SYN));
    }
    assert!(goes_on(&rig, client, 80, &sent));
    // Where all are established, there is none for a new one.
    for number in 0..3 {
        establish(&rig, (3_000_000 + number, 1), 81);
    }
    assert!(send(&rig, packet(TCP, (1, 1), 80, SYN)).is_none());
    assert_eq!(count(&rig, Reason::NoPort), 1);
}

#[test]
fn an_answer_keeps_the_source_of_a_flow() {
    let rig = rig(1);
    let client = (7, 7);
    let sent = send(&rig, packet(UDP, client, 53, 0)).unwrap();
    let answered = answer(sent.clone(), 0);
    assert!(send(&rig, answered.clone()).is_some());
    for number in 1000..2000 {
        assert!(send(&rig, packet(UDP, (number, 1), 53, 0)).is_some());
        assert_eq!(connections(&rig), WAYS.min(number as usize - 1000 + 2));
    }
    assert!(send(&rig, answered).is_some());
    let again = send(&rig, packet(UDP, client, 53, 0)).unwrap();
    assert_eq!(again[26..38], sent[26..38]);
    let assured = sources(&rig.memory())
        .iter()
        .filter(|source| source.state.get() & state_word::ASSURED != 0)
        .count();
    assert_eq!(assured, 1);
}

/// The server may also be the one whose packet establishes a connection.
#[test]
fn what_a_server_says_keeps_a_source() {
    let rig = rig(1);
    let client = (7, 7);
    let sent = send(&rig, packet(TCP, client, 80, SYN)).unwrap();
    assert!(send(&rig, answer(sent.clone(), ACK)).is_some());
    for number in 1000..1100 {
        send(&rig, packet(TCP, (number, 1), 80, SYN));
    }
    assert!(goes_on(&rig, client, 80, &sent));
}

/// What was refused is closed, and counted so.
#[test]
fn the_source_of_a_refused_connection_gives_way() {
    let rig = rig(1);
    let sent = send(&rig, packet(TCP, (7, 7), 80, SYN)).unwrap();
    assert!(send(&rig, answer(sent, RST | ACK)).is_some());
    // In which order they came while there was room is not known.
    let room = WAYS as u32;
    for number in 0..2 * room {
        assert!(send(&rig, packet(TCP, (1000 + number, 1), 80, SYN)).is_some());
    }
    assert_eq!(count(&rig, Reason::EvictedClosed), 1);
    assert_eq!(count(&rig, Reason::EvictedHalfOpen), u64::from(room));
    assert_eq!(connections(&rig), WAYS);
}

/// A client may use its port for two services at once: whose an answer is, is never in doubt.
#[test]
fn connections_of_one_port_are_translated_differently() {
    let rig = rig(64);
    for port in [1024, 20_000] {
        let client = (7, port);
        let sent = [80, 81].map(|to| establish(&rig, client, to));
        let source = |sent: &[u8]| sent[26..30] == [192, 168, 1, 254];
        assert!(sent.iter().all(|sent| source(sent)), "{sent:x?}");
        assert_ne!(sent[0][34..36], sent[1][34..36]);
        // One ends, the other goes on.
        assert!(send(&rig, answer(sent[1].clone(), RST)).is_some());
        let states = |state| {
            let memory = rig.memory();
            let all = memory.connections.iter().flat_map(|b| &b.entries);
            all.filter(|entry| {
                let client = entry.client_port.get() & 0xffff;
                client == u32::from(port.to_be()) && entry.state.get() & state_word::STATE == state
            })
            .map(|entry| entry.service.get() & 0xffff)
            .collect::<Vec<_>>()
        };
        assert_eq!(states(state::ESTABLISHED), [rig.index(&service(80)) as u32]);
        assert_eq!(states(state::CLOSE), [rig.index(&service(81)) as u32]);
    }
}

/// Between the moments when a source gives way and its connection ends, the client says more.
#[test]
fn what_is_established_without_a_source_ends() {
    let rig = rig(64);
    let client = (7, 7);
    let lose = || {
        let memory = rig.memory();
        let all = sources(&memory);
        let word = &all.first().unwrap().state;
        word.set(word.get() & !state_word::STATE);
    };
    assert!(send(&rig, packet(TCP, client, 80, SYN)).is_some());
    lose();
    assert!(send(&rig, packet(TCP, client, 80, ACK)).is_none());
    assert_eq!(count(&rig, Reason::NoConnection), 1);
    assert_eq!(connections(&rig), 0);
    // With another's in its place, too.
    let sent = send(&rig, packet(TCP, client, 80, SYN)).unwrap();
    sources(&rig.memory())[0]
        .ports
        .set(u32::from(8_u16.to_be()));
    assert!(send(&rig, packet(TCP, client, 80, ACK)).is_none());
    assert_eq!(connections(&rig), 0);
    assert!(send(&rig, answer(sent, SYN | ACK)).is_none());
}
