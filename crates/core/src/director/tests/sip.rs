//! Persistence by the Call-ID of SIP.

use alloc::format;
use alloc::vec::Vec;

use evenkeel_datapath::{Reason, Verdict};

use super::frames::{FAMILIES, count, go, host, net, octets, udp};
use super::*;
use crate::connections::{self, Filter};
use crate::model::ConnectionView;

/// A service with two servers, which take turns.
fn rig(family: Family, netmask: Netmask) -> Rig {
    let mut rig = Rig::new();
    let key = ServiceKey::at(Protocol::Udp, net(family).vip, 5060);
    let wanted = ServiceSettings {
        persistence: Some(Persistence {
            timeout_s: 60,
            netmask,
        }),
        engine: Some("sip".into()),
        ..ServiceSettings::scheduled_by("rr")
    };
    rig.apply(add_with(key, wanted));
    for last in [21, 22] {
        let address = host(family, last);
        let at = ServerKey {
            address,
            port: 5060,
        };
        rig.apply(add_by(key, at, ForwardMethod::Masq));
        rig.reach(address, None);
    }
    rig
}

/// The server that a message is sent to, by the last byte of its address. None: it is
/// dropped.
fn server(rig: &Rig, family: Family, port: u16, message: &str) -> Option<u8> {
    let net = net(family);
    let (from, to) = ((net.client, port), (net.vip, 5060));
    let sent = udp(from, to, false, message.as_bytes());
    let (verdict, frame) = go(rig, &sent, true);
    match verdict {
        Verdict::Transmit { .. } => {
            let end = 14 + if family == Family::V4 { 20 } else { 40 };
            Some(frame[end - 1])
        }
        Verdict::Drop => None,
        other => panic!("{other:?}"),
    }
}

fn invite(header: &str) -> Vec<alloc::string::String> {
    ["", "Via: SIP/2.0/UDP 10.0.0.2;branch=z9hG4bKnashds8\r\n"]
        .iter()
        .map(|via| format!("INVITE sip:bob@b.example SIP/2.0\r\n{via}{header}\r\nCSeq: 1\r\n\r\n"))
        .collect()
}

#[test]
fn a_call_stays_with_its_server() {
    for family in FAMILIES {
        let rig = rig(family, Netmask::host(family));
        let mut ports = 4000..;
        let mut ask = |header: &str| {
            let messages = invite(header);
            let servers: Vec<_> = messages
                .iter()
                .filter_map(|message| server(&rig, family, ports.next()?, message))
                .collect();
            assert_eq!(servers.len(), 2, "{header}");
            assert_eq!(servers[0], servers[1], "{header}");
            servers[0]
        };
        let first = ask("Call-ID: a84b4c76e66710@pc33.example");
        let second = ask("Call-ID: b84b4c76e66710@pc33.example");
        assert_ne!(first, second);
        for same in [
            "call-id: a84b4c76e66710@pc33.example",
            "CALL-ID :a84b4c76e66710@pc33.example",
            "Call-ID:\ta84b4c76e66710@pc33.example  ",
            "i: a84b4c76e66710@pc33.example",
            "I:a84b4c76e66710@pc33.example",
        ] {
            assert_eq!(ask(same), first, "{same}");
        }
        assert_eq!(ask("i: b84b4c76e66710@pc33.example"), second);
    }
}

#[test]
fn what_has_no_call_id_begins_nothing() {
    let rig = rig(Family::V4, Netmask::host(Family::V4));
    let far = format!("Via: {}\r\nCall-ID: abc", "x".repeat(1100));
    for (number, header) in [
        "Subject: Call-ID: abc",
        "Call-ID:",
        "Call-ID",
        "Xi: abc",
        far.as_str(),
    ]
    .iter()
    .enumerate()
    {
        for message in invite(header) {
            let port = 5000 + number as u16;
            assert_eq!(server(&rig, Family::V4, port, &message), None, "{header}");
        }
    }
    assert_eq!(count(&rig, Reason::NoCallId), 10);
    // A connection goes on without one.
    let [begin, _] = &invite("Call-ID: abc")[..] else {
        panic!("two messages");
    };
    let first = server(&rig, Family::V4, 6000, begin);
    assert!(first.is_some());
    assert_eq!(server(&rig, Family::V4, 6000, "\r\n\r\n"), first);
}

fn templates(rig: &Rig) -> Vec<ConnectionView> {
    let memory = rig.memory();
    let all = 0..memory.connections.len() + memory.wide_connections.len();
    let mut found = Vec::new();
    let filter = Filter::default();
    let _ = connections::visit(&memory, &rig.director, all, 1, 4.0, &filter, &mut |view| {
        if view.template {
            found.push(view);
        }
        core::ops::ControlFlow::Continue(())
    });
    found
}

#[test]
fn templates_are_listed_with_their_engine() {
    let rig = rig(Family::V4, Netmask::V4([0, 0, 0, 0].into()));
    for call in ["abc", "abd"] {
        let message = &invite(&format!("Call-ID: {call}"))[0];
        assert!(server(&rig, Family::V4, 4000 + u16::from(call == "abc"), message).is_some());
    }
    let found = templates(&rig);
    assert_eq!(found.len(), 2);
    let engines: Vec<_> = found
        .iter()
        .filter_map(|view| view.engine.clone())
        .collect();
    assert_eq!(engines.len(), 2);
    assert_ne!(engines[0].data, engines[1].data);
    for (view, engine) in found.iter().zip(&engines) {
        assert_eq!(engine.name, "sip");
        assert_eq!(engine.data.len(), 12);
        assert_eq!(view.client.port(), 0);
        assert!(octets(view.client.ip()).iter().all(|byte| *byte == 0));
    }
}
