//! Answers of servers on the director itself.

use evenkeel_datapath::host::RouteAnswer;
use evenkeel_datapath::simulated::{Circumstances, run_egress, run_tc};
use evenkeel_datapath::{Verdict, state};

use super::frames::{self, *};
use super::*;

const CLIENT: [u8; 4] = [10, 0, 0, 2];
const VIP: [u8; 4] = [10, 0, 0, 10];
const OWN: [u8; 4] = [192, 168, 1, 1];
const PORT: u16 = 4000;

fn tcp(from: ([u8; 4], u16), to: ([u8; 4], u16), flags: u8) -> Vec<u8> {
    framed(&frames::tcp(
        (from.0.into(), from.1),
        (to.0.into(), to.1),
        flags,
        &[],
    ))
}

/// What becomes of a frame that comes in, or of one that leaves: it goes on to the stack, or
/// out, with these ends.
fn ends(rig: &Rig, mut frame: Vec<u8>, leaves: bool) -> [([u8; 4], u16); 2] {
    let around = Circumstances {
        routes: &|_, _, _| route(RouteAnswer::None),
        ..around()
    };
    let run = if leaves { run_egress } else { run_tc };
    assert_eq!(run(rig.memory(), &mut frame, around), Verdict::Pass);
    assert_eq!(frame[22], 64, "a hop was counted");
    let address = |at: usize| <[u8; 4]>::try_from(&frame[at..at + 4]).unwrap();
    let port = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
    [(address(26), port(34)), (address(30), port(36))]
}

/// A service with a server at `port`, by this method.
fn rig(method: ForwardMethod, port: u16) -> Rig {
    let mut rig = Rig::new();
    rig.apply(add(service(80), "rr"));
    rig.apply(add_by(service(80), server(port), method));
    rig
}

fn set_reach(rig: &mut Rig, reach: Option<Reach>) {
    rig.director.set_hop(OWN.into(), reach);
    rig.director.write_all(&rig.tables.memory());
}

fn has_replies(rig: &Rig) -> bool {
    rig.director.has_replies_to_translate(&rig.memory())
}

fn states(rig: &Rig) -> Vec<u32> {
    live(rig).map(state_of).collect()
}

#[test]
fn they_get_the_end_that_the_client_knows() {
    for method in [ForwardMethod::Masq, ForwardMethod::FullNat] {
        let mut rig = rig(method, 8080);
        set_reach(&mut rig, Some(Reach::Local));
        let client = (CLIENT, PORT);
        let (own, known) = ((OWN, 8080), (VIP, 80));
        assert_eq!(
            ends(&rig, tcp(client, known, SYN), false),
            [client, own],
            "{method:?}"
        );
        let answer = || tcp(own, client, SYN | ACK);
        assert_eq!(ends(&rig, answer(), true), [known, client], "{method:?}");
        ends(&rig, tcp(client, known, ACK), false);
        assert_eq!(states(&rig), [state::ESTABLISHED], "{method:?}");
        let stats = rig.servers(&service(80))[0].stats;
        assert_eq!((stats.in_packets, stats.out_packets), (2, 1));
        // Another client's, and another program's.
        for other in [
            tcp(own, (CLIENT, PORT + 1), ACK),
            tcp((OWN, 8081), client, ACK),
            tcp(known, client, ACK),
        ] {
            let before = ends(&Rig::new(), other.clone(), true);
            assert_eq!(ends(&rig, other, true), before);
        }
    }
}

#[test]
fn a_server_elsewhere_is_none_of_them() {
    let rig = rig(ForwardMethod::Masq, 8080);
    let answer = tcp((OWN, 8080), (CLIENT, PORT), ACK);
    let before = ends(&Rig::new(), answer.clone(), true);
    assert_eq!(ends(&rig, answer, true), before);
}

#[test]
fn they_are_looked_for_while_there_may_be_some() {
    let tunnel = ForwardMethod::Tunnel(Tunnel::Ipip);
    for (method, wanted) in [
        (ForwardMethod::Masq, true),
        (ForwardMethod::FullNat, true),
        (ForwardMethod::Route, false),
        (tunnel, false),
    ] {
        let mut rig = rig(method, 80);
        assert!(!has_replies(&rig));
        set_reach(&mut rig, Some(Reach::Local));
        assert_eq!(has_replies(&rig), wanted, "{method:?}");
        rig.restart();
        assert_eq!(has_replies(&rig), wanted, "{method:?}");
        set_reach(&mut rig, None);
        assert!(!has_replies(&rig));
    }
    // A deleted one, as long as it has connections.
    let mut rig = rig(ForwardMethod::Masq, 8080);
    set_reach(&mut rig, Some(Reach::Local));
    ends(&rig, tcp((CLIENT, PORT), (VIP, 80), SYN), false);
    rig.apply(delete_server(service(80), server(8080)));
    assert!(has_replies(&rig));
    let load = &rig.memory().loads[0];
    load.active.set(0);
    load.inactive.set(0);
    assert!(!has_replies(&rig));
    // The virtual end itself.
    let mut rig = Rig::new();
    rig.apply(add(service(80), "rr"));
    let same = |port| ServerKey {
        address: VIP.into(),
        port,
    };
    rig.director.set_hop(VIP.into(), Some(Reach::Local));
    for (port, wanted) in [(80, false), (0, false), (81, true)] {
        rig.apply(add_server(service(80), same(port), 1));
        assert_eq!(has_replies(&rig), wanted, "{port}");
    }
}
