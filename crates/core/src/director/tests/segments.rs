//! The largest segment that TCP's ends ask for, lowered on its way.

use alloc::vec;
use alloc::vec::Vec;

use evenkeel_datapath::Verdict;

use super::frames::*;
use super::*;

/// The options of a TCP packet whose checksum is right.
fn options(packet: &[u8]) -> Vec<u8> {
    let (from, to, segment) = parts(packet);
    let sum = checksum(segment, pseudo(from, to, TCP, segment));
    assert_eq!(sum, 0, "checksum");
    segment[20..].to_vec()
}

fn service(family: Family) -> ServiceKey {
    ServiceKey::at(Protocol::Tcp, net(family).vip, 80)
}

fn rig(family: Family, method: ForwardMethod, clamp: MssClamp) -> Rig {
    let settings = ServiceSettings {
        mss_clamp: Some(clamp),
        ..ServiceSettings::scheduled_by("rr")
    };
    rig_of(service(family), settings, family, method)
}

/// The options with which a client's packet reaches the server.
fn sent(rig: &Rig, family: Family, flags: u8, given: &[u8], around: usize) -> Vec<u8> {
    let net = net(family);
    let syn = tcp((net.client, 4000), (net.vip, 80), flags, given);
    let (verdict, frame) = go(rig, &syn, true);
    let interface = TO_SERVERS;
    assert_eq!(verdict, Verdict::Transmit { interface });
    options(&frame[14 + around..])
}

fn asks(bytes: u16) -> [u8; 4] {
    let [a, b] = bytes.to_be_bytes();
    [2, 4, a, b]
}

#[test]
fn a_client_asks_for_what_the_way_has_room_for() {
    for family in FAMILIES {
        let (outer, headers) = if family == Family::V4 {
            (20, 40)
        } else {
            (40, 60)
        };
        for (method, around) in [
            (ForwardMethod::Masq, 0),
            (ForwardMethod::Tunnel(Tunnel::Ipip), outer),
        ] {
            let room = 1500 - around as u16 - headers;
            for (clamp, wanted, expected) in [
                (MssClamp::Off, 8960, 8960),
                (MssClamp::Way, 8960, room),
                (MssClamp::Way, room, room),
                (MssClamp::Way, 536, 536),
                (MssClamp::Bytes(1300), 1460, 1300),
                (MssClamp::Bytes(1300), 1200, 1200),
            ] {
                let rig = rig(family, method, clamp);
                // The one that is sent again is no other.
                for _ in 0..2 {
                    let got = sent(&rig, family, SYN, &asks(wanted), around);
                    assert_eq!(got, asks(expected), "{family:?} {method:?} {clamp:?}");
                }
                // Only what opens a connection asks for anything.
                let got = sent(&rig, family, ACK, &asks(wanted), around);
                assert_eq!(got, asks(wanted));
            }
        }
    }
}

#[test]
fn options_stand_anywhere() {
    let rig = rig(Family::V4, ForwardMethod::Masq, MssClamp::Bytes(1000));
    for (given, expected) in [
        // At an odd place.
        (
            vec![1, 2, 4, 5, 0xb4, 0, 0, 0],
            vec![1, 2, 4, 3, 0xe8, 0, 0, 0],
        ),
        (
            vec![4, 2, 3, 3, 7, 2, 4, 5, 0xb4, 1, 1, 1],
            vec![4, 2, 3, 3, 7, 2, 4, 3, 0xe8, 1, 1, 1],
        ),
        // Behind the end, or cut off, or of another length: not that option.
        (
            vec![0, 0, 0, 0, 2, 4, 5, 0xb4],
            vec![0, 0, 0, 0, 2, 4, 5, 0xb4],
        ),
        (vec![1, 1, 2, 4], vec![1, 1, 2, 4]),
        (vec![2, 3, 5, 1], vec![2, 3, 5, 1]),
        (vec![7, 0, 2, 4], vec![7, 0, 2, 4]),
        (vec![], vec![]),
    ] {
        assert_eq!(sent(&rig, Family::V4, SYN, &given, 0), expected);
    }
}

#[test]
fn a_server_asks_for_what_the_way_to_it_has_room_for() {
    for family in FAMILIES {
        for method in [ForwardMethod::Masq, ForwardMethod::FullNat] {
            let rig = rig(family, method, MssClamp::Bytes(1300));
            let to = net(family);
            let syn = tcp((to.client, 4000), (to.vip, 80), SYN, &asks(1460));
            let (_, frame) = go(&rig, &syn, true);
            let (source, _, segment) = parts(&frame[14..]);
            let port = u16::from_be_bytes([segment[0], segment[1]]);
            let answer = tcp((to.server, 80), (source, port), SYN | ACK, &asks(1460));
            let (verdict, frame) = go(&rig, &answer, true);
            let interface = TO_CLIENTS;
            assert_eq!(verdict, Verdict::Transmit { interface }, "{method:?}");
            assert_eq!(options(&frame[14..]), asks(1300), "{family:?} {method:?}");
        }
    }
}

#[test]
fn an_edit_that_does_not_speak_of_it_leaves_it() {
    let mut rig = rig(Family::V4, ForwardMethod::Masq, MssClamp::Way);
    let service = service(Family::V4);
    let edit = |settings| Edit::EditService { service, settings };
    let shown = |rig: &Rig| {
        let list = rig.director.list(None, AsOf::Now, &rig.memory()).unwrap();
        list[0].settings.mss_clamp
    };
    rig.apply(edit(ServiceSettings::scheduled_by("wlc")));
    assert_eq!(shown(&rig), Some(MssClamp::Way));
    rig.restart();
    assert_eq!(shown(&rig), Some(MssClamp::Way));
    rig.apply(edit(ServiceSettings {
        mss_clamp: Some(MssClamp::Off),
        ..ServiceSettings::scheduled_by("wlc")
    }));
    assert_eq!(shown(&rig), None);
    let wrong = edit(ServiceSettings {
        mss_clamp: Some(MssClamp::Bytes(27)),
        ..ServiceSettings::scheduled_by("wlc")
    });
    assert_eq!(rig.attempt(wrong), Err(EditError::OutOfRange));
}
