//! Packets that came without a link-layer header, as out of a tunnel on the director.

use alloc::vec::Vec;
use core::net::{Ipv4Addr, Ipv6Addr};

use evenkeel_datapath::simulated::run_bare;
use evenkeel_datapath::{Reason, Verdict};

use super::errors::{error, udp};
use super::frames::{FAMILIES, INGRESS, TO_CLIENTS, TO_SERVERS, count, go, go_by, net, rig_of};
use super::*;

const PORT: u16 = 4000;

fn rig(family: Family) -> Rig {
    let key = ServiceKey::at(Protocol::Udp, net(family).vip, 53);
    let settings = ServiceSettings::scheduled_by("rr");
    rig_of(key, settings, family, ForwardMethod::Masq)
}

/// Runs a packet that came out of a tunnel.
fn come(rig: &Rig, packet: &[u8]) -> (Verdict, Vec<u8>) {
    go_by(rig, packet, run_bare)
}

/// Somebody whom no service and no server has to do with.
fn stranger(family: Family, last: u8) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(172, 16, 7, last).into(),
        Family::V6 => Ipv6Addr::new(0x2001, 0xdb8, 7, 0, 0, 0, 0, last.into()).into(),
    }
}

#[test]
fn they_are_served_like_any_other() {
    for family in FAMILIES {
        let net = net(family);
        let sent = udp((net.client, PORT), (net.vip, 53), true, 10);
        let (bare, other) = (come(&rig(family), &sent), go(&rig(family), &sent, true));
        assert_eq!(
            bare.0,
            Verdict::Transmit {
                interface: TO_SERVERS
            }
        );
        assert_eq!(bare, other, "{family:?}");
        let rig = rig(family);
        come(&rig, &sent);
        let answer = udp((net.server, 53), (net.client, PORT), true, 10);
        let (verdict, _) = come(&rig, &answer);
        assert_eq!(
            verdict,
            Verdict::Transmit {
                interface: TO_CLIENTS
            }
        );
    }
}

#[test]
fn an_answer_takes_the_way_to_its_receiver() {
    for family in FAMILIES {
        let net = net(family);
        let mut rig = rig(family);
        let service = ServiceKey::at(Protocol::Udp, net.vip, 54);
        rig.apply(add(service, "rr"));
        let nobody = |client| udp((client, PORT), (net.vip, 54), true, 30);
        let (verdict, frame) = come(&rig, &nobody(net.client));
        assert_eq!(
            verdict,
            Verdict::Transmit {
                interface: TO_CLIENTS
            }
        );
        let (bare, other) = (frame, go(&rig, &nobody(net.client), true));
        assert_eq!(
            other.0,
            Verdict::Transmit { interface: INGRESS },
            "with a link's addresses it goes back"
        );
        assert_eq!(bare[12..], other.1[12..], "the same words");
        assert_eq!(count(&rig, Reason::Answered), 2);
        // To whom there is no way, nothing is said.
        let (verdict, _) = come(&rig, &nobody(stranger(family, 9)));
        assert_eq!(verdict, Verdict::Drop);
        assert_eq!(count(&rig, Reason::Answered), 2);
        assert_eq!(count(&rig, Reason::NoRoute), 1);
    }
}

#[test]
fn what_is_nobodys_gets_no_header() {
    for family in FAMILIES {
        let mut rig = rig(family);
        let net = net(family);
        let (from, to) = (stranger(family, 1), stranger(family, 2));
        let is_taken = |rig: &Rig, packet: &[u8]| {
            let (verdict, frame) = come(rig, packet);
            assert_eq!(verdict, Verdict::Pass);
            frame[..12] == [0; 12]
        };
        let theirs = udp((from, PORT), (to, 53), true, 10);
        assert!(!is_taken(&rig, &theirs));
        // What might be ours: by an address, as an error, by a mark.
        assert!(is_taken(
            &rig,
            &udp((from, PORT), (net.server, 9), true, 10)
        ));
        assert!(is_taken(&rig, &udp((net.vip, PORT), (to, 53), true, 10)));
        assert!(is_taken(&rig, &error(from, to, [3, 1], 0, &theirs)));
        rig.apply(add(ServiceKey::Mark { mark: 8, family }, "rr"));
        assert!(is_taken(&rig, &theirs));
        // Cut off, or nothing that has to do with IP.
        let whole = udp((net.client, PORT), (net.vip, 53), true, 10);
        assert!(!is_taken(&rig, &whole[..19]));
    }
}
