//! What an edit means for the packets of connections that were there before it.

use alloc::vec;
use alloc::vec::Vec;

use evenkeel_datapath::layout::{settings, state_word};
use evenkeel_datapath::state;

use super::frames::*;
use super::*;
use crate::model::SourceNat;

const FIRST: [u8; 4] = [192, 168, 1, 1];
const SECOND: [u8; 4] = [192, 168, 1, 2];

fn at(address: [u8; 4]) -> ServerKey {
    ServerKey {
        address: address.into(),
        port: 80,
    }
}

/// A SYN from a port of 10.0.0.2 to 10.0.0.10:80.
fn syn(port: u16) -> Vec<u8> {
    segment((2, port), 80, SYN)
}

/// The server that a frame is sent to.
fn sent_to(rig: &Rig, frame: Vec<u8>) -> [u8; 4] {
    sent(rig, frame)[30..34].try_into().unwrap()
}

/// A frame as it is sent on.
fn sent(rig: &Rig, frame: Vec<u8>) -> Vec<u8> {
    send(rig, frame).unwrap()
}

#[test]
fn a_client_whose_server_is_gone_or_quiesced_begins_anew() {
    let service = service(80);
    let leave: [fn(ServiceKey, ServerKey) -> Edit; 2] = [delete_server, |service, server| {
        edit_server(service, server, 0)
    }];
    for leave in leave {
        let mut rig = Rig::new();
        let settings = &rig.memory().control.settings;
        settings.set(settings.get() | settings::EXPIRE_NODEST_CONN);
        rig.apply(add(service, "rr"));
        rig.apply(add_server(service, at(FIRST), 1));
        assert_eq!(sent_to(&rig, syn(1024)), FIRST);
        let state = state_word(&rig);
        state.set(state.get() & !state_word::STATE | state::ESTABLISHED);
        rig.apply(add_server(service, at(SECOND), 1));
        rig.apply(leave(service, at(FIRST)));
        assert_eq!(sent_to(&rig, syn(1024)), SECOND);
        let load = |index: usize| rig.memory().loads[index].active.get();
        assert_eq!((load(0), load(1)), (0, 1));
    }
}

#[test]
fn servers_with_source_nat_get_their_turn() {
    let mut rig = Rig::new();
    let service = service(80);
    rig.apply(add(service, "rr"));
    for (address, method) in [
        (FIRST, ForwardMethod::FullNat),
        (SECOND, ForwardMethod::Masq),
    ] {
        rig.apply(add_by(service, at(address), method));
        rig.reach(address.into(), Some([192, 168, 1, 254].into()));
    }
    let sent: Vec<_> = (1024..1028).map(|port| sent_to(&rig, syn(port))).collect();
    assert_eq!(sent, [SECOND, FIRST, SECOND, FIRST]);
}

/// The only live connection's state word.
fn state_word(rig: &Rig) -> &evenkeel_datapath::word::Word {
    &live(rig).next().unwrap().state
}

/// With IPVS's ways a connection that the client has closed gives way to its next one only
/// where nothing of the server's side is seen.
#[test]
fn a_port_is_used_again_whose_connection_the_client_has_closed() {
    let service = service(80);
    for (mode, compatible, is_answered, anew) in [
        (1, true, false, false),
        (2, true, false, true),
        (3, true, false, true),
        (2, true, true, false),
        (0, false, false, false),
        (1, false, true, true),
        (2, false, true, true),
    ] {
        let mut rig = Rig::new();
        rig.set(Sysctl::ConnReuseMode, mode);
        rig.apply(add_with(
            service,
            ServiceSettings {
                compatible: Some(compatible),
                ..ServiceSettings::scheduled_by("rr")
            },
        ));
        for address in [FIRST, SECOND] {
            rig.apply(add_server(service, at(address), 1));
        }
        let before = sent_to(&rig, syn(1024));
        let word = state_word(&rig);
        let answered = if is_answered { state_word::ANSWERED } else { 0 };
        let generation = word.get() & !0xffff;
        word.set(generation | answered | state::FIN_WAIT);
        let after = sent_to(&rig, syn(1024));
        let about = (mode, compatible, is_answered);
        assert_eq!(before != after, anew, "{about:?}");
    }
}

/// All ports of a small range are found, whichever is tried first.
#[test]
fn source_nat_finds_the_last_free_port() {
    const PORTS: u16 = 8;
    let mut rig = Rig::new();
    let service = service(80);
    rig.apply(add(service, "rr"));
    rig.apply(add_by(service, at(FIRST), ForwardMethod::FullNat));
    rig.reach(FIRST.into(), Some([192, 168, 1, 254].into()));
    let nat = SourceNat {
        addresses: vec![],
        ports: 20_000..=20_000 + PORTS - 1,
    };
    let memory = rig.tables.memory();
    assert_eq!(rig.director.set_source_nat(&nat, &memory), Ok(()));
    rig.director.write_all(&memory);
    for port in 1024..1024 + PORTS {
        assert_eq!(sent_to(&rig, syn(port)), FIRST, "{port}");
    }
}

#[test]
fn data_of_ftp_keeps_its_port_there_and_back() {
    let mut rig = Rig::new();
    let service = service(21);
    let settings = ServiceSettings {
        persistence: Some(persistent(Family::V4)),
        ..ServiceSettings::scheduled_by("rr")
    };
    rig.apply(add_with(service, settings));
    for address in [FIRST, SECOND] {
        let server = ServerKey {
            address: address.into(),
            port: 2121,
        };
        rig.apply(add_server(service, server, 1));
    }
    // The same client port for each, as it may well be.
    let server = sent_to(&rig, segment((2, 1024), 21, SYN));
    for (port, at_server) in [(21, 2121_u16), (20, 20), (40_000, 40_000)] {
        let frame = sent(&rig, segment((2, 1024), port, SYN));
        assert_eq!(frame[30..34], server);
        assert_eq!(frame[36..38], at_server.to_be_bytes());
        let back = sent(&rig, answer(frame, SYN));
        assert_eq!(back[26..30], [10, 0, 0, 10]);
        assert_eq!(back[34..36], port.to_be_bytes());
        // What follows belongs to the same connection.
        let next = sent(&rig, segment((2, 1024), port, ACK));
        assert_eq!(next[30..34], server, "{port}");
    }
}

#[test]
fn ftp_without_persistence_goes_on_after_its_first_packet() {
    let mut rig = Rig::new();
    let service = service(21);
    rig.apply(add(service, "rr"));
    rig.apply(add_server(service, at(FIRST), 1));
    rig.apply(add_server(service, at(SECOND), 1));
    for client in 1024..1028 {
        let server = sent_to(&rig, segment((2, client), 21, SYN));
        assert_eq!(sent_to(&rig, segment((2, client), 21, ACK)), server);
    }
    // Nobody's is nobody's.
    let nobody = segment((2, 2000), 21, ACK);
    assert_eq!(send(&rig, nobody), None);
}

#[test]
fn a_persistent_client_leaves_a_quiesced_server_unless_ipvs_would_keep_it() {
    for (compatible, expires, expected) in [
        (false, false, SECOND),
        (true, false, FIRST),
        (true, true, SECOND),
    ] {
        let mut rig = Rig::new();
        let service = service(80);
        let settings = ServiceSettings {
            persistence: Some(persistent(Family::V4)),
            compatible: Some(compatible),
            ..ServiceSettings::scheduled_by("rr")
        };
        rig.apply(add_with(service, settings));
        rig.apply(add_server(service, at(FIRST), 1));
        assert_eq!(sent_to(&rig, syn(1024)), FIRST);
        rig.apply(add_server(service, at(SECOND), 1));
        assert_eq!(sent_to(&rig, syn(1025)), FIRST);
        if expires {
            let settings = &rig.memory().control.settings;
            settings.set(settings.get() | settings::EXPIRE_QUIESCENT_TEMPLATE);
        }
        rig.apply(edit_server(service, at(FIRST), 0));
        for port in [1026, 1027] {
            assert_eq!(sent_to(&rig, syn(port)), expected, "{compatible} {expires}");
        }
    }
}
