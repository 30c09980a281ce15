//! Translated sources where there is no more room for them.

use alloc::vec::Vec;

use evenkeel_datapath::layout::{WAYS, WideEntry, mapped, state_word};
use evenkeel_datapath::table::address_of;
use evenkeel_datapath::{Reason, state};

use super::frames::{self, *};
use super::*;

/// A packet of TCP with these flags, or of UDP, to a port of 10.0.0.10.
fn packet(protocol: u8, client: Client, to: u16, flags: u8) -> Vec<u8> {
    if protocol == TCP {
        return segment(client, to, flags);
    }
    framed(&frames::udp(end(client), virtual_end(to), false, &[]))
}

/// Of a client to an IPv6 service at port 53.
fn packet6(client: u16) -> Vec<u8> {
    let from: core::net::Ipv6Addr = [0x2001, 0, 0, 0, 0, 0, 0, client].into();
    let to: IpAddr = "2001:db8::10".parse().unwrap();
    framed(&frames::udp((from.into(), 1024), (to, 53), false, &[]))
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
        rig.reach(server.address, Some(source));
    };
    for service in [service(80), service(81), udp(53)] {
        let server = server(service.port());
        serve(service, server, ForwardMethod::FullNat, own);
    }
    serve(service6(53), server6(53), ForwardMethod::Masq, own6);
    rig
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

/// Translated sources that are there.
fn sources<'a>(memory: &Memory<'a>) -> Vec<&'a WideEntry> {
    let all = memory.wide_connections.iter().flat_map(|b| &b.entries);
    all.filter(|entry| entry.state.get() & state_word::STATE == state::TRANSLATED)
        .collect()
}

/// Connections of IPv4 that are there; each has its source, and counts for its server.
fn connections(rig: &Rig) -> usize {
    let memory = rig.memory();
    let live: Vec<_> = live(rig).collect();
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
            live(&rig)
                .filter(|entry| {
                    let client = entry.client_port.get() & 0xffff;
                    client == u32::from(port.to_be()) && state_of(entry) == state
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
