//! What an edit means for the packets of connections that were there before it.

use alloc::vec;
use alloc::vec::Vec;

use evenkeel_datapath::host::{Hop as PathHop, Route, RouteAnswer};
use evenkeel_datapath::layout::{settings, state_word};
use evenkeel_datapath::simulated::{Circumstances, run_tc};
use evenkeel_datapath::{Verdict, state};

use super::*;
use crate::model::{SourceNat, Sysctl, SysctlValue};

const FIRST: [u8; 4] = [192, 168, 1, 1];
const SECOND: [u8; 4] = [192, 168, 1, 2];

fn at(address: [u8; 4]) -> ServerKey {
    ServerKey {
        address: address.into(),
        port: 80,
    }
}

/// A SYN from a port of 10.0.0.2 to 10.0.0.10:80; its checksums are of no matter.
fn syn(port: u16) -> Vec<u8> {
    syn_to(port, 80)
}

/// The same, to another port.
fn syn_to(port: u16, to: u16) -> Vec<u8> {
    let mut frame = vec![0; 60];
    frame[12..15].copy_from_slice(&[8, 0, 0x45]);
    frame[17] = 46;
    frame[22..24].copy_from_slice(&[64, 6]);
    frame[26..38].copy_from_slice(&[10, 0, 0, 2, 10, 0, 0, 10, 0, 0, 0, 80]);
    frame[34..36].copy_from_slice(&port.to_be_bytes());
    frame[36..38].copy_from_slice(&to.to_be_bytes());
    frame[46..48].copy_from_slice(&[0x50, 0x02]);
    frame
}

/// The server that a frame is sent to.
fn sent_to(rig: &Rig, frame: Vec<u8>) -> [u8; 4] {
    sent(rig, frame)[30..34].try_into().unwrap()
}

/// A frame as it is sent on.
fn sent(rig: &Rig, mut frame: Vec<u8>) -> Vec<u8> {
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
    assert_eq!(verdict, Verdict::Transmit { interface: 2 });
    frame
}

#[test]
fn a_client_whose_server_is_gone_or_quiesced_begins_anew() {
    let service = service(80);
    let leave: [fn(ServiceKey, ServerKey) -> Edit; 2] = [
        |service, server| Edit::DeleteServer { service, server },
        |service, server| edit_server(service, server, 0),
    ];
    for leave in leave {
        let mut rig = Rig::new();
        let settings = &rig.memory().control.settings;
        settings.set(settings.get() | settings::EXPIRE_NODEST_CONN);
        rig.apply(add(service, "rr"));
        rig.apply(add_server(service, at(FIRST), 1));
        assert_eq!(sent_to(&rig, syn(1024)), FIRST);
        let memory = rig.memory();
        let entries = memory.connections.iter().flat_map(|b| &b.entries);
        let mut live = entries.filter(|entry| entry.state.get() & state_word::STATE != 0);
        let state = &live.next().unwrap().state;
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
        let hop = Hop {
            interface: 2,
            destination_mac: [2; 6],
            source_mac: [4; 6],
            mtu: 1500,
            source: Some([192, 168, 1, 254].into()),
        };
        let hop = Some(Reach::By(hop));
        rig.director.set_hop(address.into(), hop);
    }
    rig.director.write_all(&rig.tables.memory());
    let sent: Vec<_> = (1024..1028).map(|port| sent_to(&rig, syn(port))).collect();
    assert_eq!(sent, [SECOND, FIRST, SECOND, FIRST]);
}

/// The only live connection's state word.
fn state_word(rig: &Rig) -> &evenkeel_datapath::word::Word {
    let entries = rig.tables.memory().connections.iter();
    let mut all = entries.flat_map(|bucket| &bucket.entries);
    let live = all.find(|entry| entry.state.get() & state_word::STATE != 0);
    &live.unwrap().state
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
        rig.apply(Edit::Set {
            setting: Sysctl::ConnReuseMode,
            value: SysctlValue::Number(mode),
        });
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
    let hop = Hop {
        interface: 2,
        destination_mac: [2; 6],
        source_mac: [4; 6],
        mtu: 1500,
        source: Some([192, 168, 1, 254].into()),
    };
    rig.director.set_hop(FIRST.into(), Some(Reach::By(hop)));
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
    let server = sent_to(&rig, syn_to(1024, 21));
    for (port, at_server) in [(21, 2121_u16), (20, 20), (40_000, 40_000)] {
        let mut frame = sent(&rig, syn_to(1024, port));
        assert_eq!(frame[30..34], server);
        assert_eq!(frame[36..38], at_server.to_be_bytes());
        // The answer.
        for (one, other) in [(26, 30), (27, 31), (28, 32), (29, 33), (34, 36), (35, 37)] {
            frame.swap(one, other);
        }
        frame[22] = 64;
        let back = sent(&rig, frame);
        assert_eq!(back[26..30], [10, 0, 0, 10]);
        assert_eq!(back[34..36], port.to_be_bytes());
    }
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
