//! What gives way to new connections where there is no more room.

use alloc::vec;
use alloc::vec::Vec;

use evenkeel_datapath::host::{Hop as PathHop, Route, RouteAnswer};
use evenkeel_datapath::layout::{Entry, WAYS, state_word};
use evenkeel_datapath::simulated::{Circumstances, reason_count, run_tc};
use evenkeel_datapath::{Reason, Verdict, state};
use proptest::prelude::*;

use super::*;
use crate::director::Fill;
use crate::model::{Sysctl, SysctlValue};

const SYN: u8 = 2;
const ACK: u8 = 16;
const FIN: u8 = 1;
const RST: u8 = 4;

/// A client's address in 10/8, by its last three bytes, and its port.
type Client = (u32, u16);

/// A TCP packet of a client to a port of 10.0.0.10; its checksums are of no matter.
fn tcp((address, from): Client, to: u16, flags: u8) -> Vec<u8> {
    let mut frame = vec![0; 60];
    frame[12..15].copy_from_slice(&[8, 0, 0x45]);
    frame[17] = 46;
    frame[22..24].copy_from_slice(&[64, 6]);
    frame[26..30].copy_from_slice(&(10 << 24 | address).to_be_bytes());
    frame[30..34].copy_from_slice(&[10, 0, 0, 10]);
    frame[34..36].copy_from_slice(&from.to_be_bytes());
    frame[36..38].copy_from_slice(&to.to_be_bytes());
    frame[46..48].copy_from_slice(&[0x50, flags]);
    frame
}

/// An instance with so few places, and services at ports 80 and 81.
fn rig(buckets: u32) -> Rig {
    let mut rig = Rig::sized(Sizes {
        buckets,
        wide_buckets: buckets,
        ..Sizes::default()
    });
    for port in [80, 81] {
        rig.apply(add(service(port), "rr"));
        let server = ServerKey {
            address: [192, 168, 1, 1].into(),
            port,
        };
        rig.apply(add_by(service(port), server, ForwardMethod::Masq));
        let hop = Hop {
            interface: 2,
            destination_mac: [2; 6],
            source_mac: [4; 6],
            mtu: 1500,
            source: None,
        };
        let reach = Some(Reach::By(hop));
        rig.director.set_hop(server.address, reach);
    }
    rig.director.write_all(&rig.tables.memory());
    rig
}

/// True: it was sent on.
fn send(rig: &Rig, tick: u32, mut frame: Vec<u8>) -> bool {
    let route = Route {
        answer: RouteAnswer::Ready,
        hop: PathHop {
            interface: 2,
            ..PathHop::default()
        },
    };
    let around = Circumstances {
        interface: 2,
        tick,
        cpu: 0,
        routes: &|_, _, _| route,
        wide_routes: &|_, _, _| route,
        mark: 0,
        tagged: false,
        for_us: true,
    };
    let verdict = run_tc(rig.memory(), &mut frame, around);
    verdict == Verdict::Transmit { interface: 2 }
}

/// The connection of a client.
fn entry<'a>(memory: &Memory<'a>, (address, port): Client) -> Option<&'a Entry> {
    let address = u32::from_ne_bytes((10 << 24 | address).to_be_bytes());
    let port = 6 << 16 | u32::from(port.to_be());
    let mut all = memory.connections.iter().flat_map(|b| &b.entries);
    all.find(|entry| {
        (entry.client_address.get(), entry.client_port.get()) == (address, port)
            && state_of(entry) != state::FREE
    })
}

fn state_of(entry: &Entry) -> u32 {
    entry.state.get() & state_word::STATE
}

fn establish(rig: &Rig, client: Client, port: u16) {
    assert!(send(rig, 1, tcp(client, port, SYN)), "{client:?}");
    assert!(send(rig, 1, tcp(client, port, ACK)), "{client:?}");
}

fn is_established(rig: &Rig, client: Client) -> bool {
    entry(&rig.memory(), client).is_some_and(|entry| state_of(entry) == state::ESTABLISHED)
}

fn count(rig: &Rig, reason: Reason) -> u64 {
    reason_count(&rig.memory(), reason)
}

#[test]
fn the_oldest_half_open_connection_goes_first() {
    let rig = rig(1);
    let room = WAYS as u32;
    for number in 0..1000 {
        assert!(send(&rig, 1, tcp((number, 1), 80, SYN)));
        // In which order they came while there was room is not known.
        if number < 2 * room {
            continue;
        }
        let from = number + 1 - room;
        let there = |client: u32| entry(&rig.memory(), (client, 1)).is_some();
        assert!((from..=number).all(there), "{number}");
        assert!(!there(from - 1), "{number}");
    }
    assert_eq!(count(&rig, Reason::EvictedHalfOpen), 1000 - u64::from(room));
}

/// As long as there are some of the service that has the most, others keep theirs.
#[test]
fn a_flooded_service_pays_for_its_flood_itself() {
    let rig = rig(1);
    let others: Vec<Client> = (0..7).map(|number| (7_000_000 + number, 2)).collect();
    for &client in &others {
        assert!(send(&rig, 1, tcp(client, 81, SYN)));
    }
    for number in 0..1000 {
        assert!(send(&rig, 1, tcp((number, 1), 80, SYN)));
        for &other in &others {
            assert!(entry(&rig.memory(), other).is_some(), "{number}: {other:?}");
        }
    }
    // They can still become established, and new ones of theirs find room.
    for &client in &others {
        assert!(send(&rig, 1, tcp(client, 81, ACK)));
        assert!(is_established(&rig, client));
    }
    establish(&rig, (8_000_000, 3), 81);
}

#[test]
fn closed_ones_go_before_half_open_ones_and_silent_ones_last() {
    let rig = rig(1);
    let later = 1000;
    // Closed on the client's side, and silent since.
    establish(&rig, (1, 1), 80);
    assert!(send(&rig, 1, tcp((1, 1), 80, FIN | ACK)));
    for number in 2..WAYS as u32 {
        establish(&rig, (number, 1), 80);
    }
    let half_open = (100, 1);
    assert!(send(&rig, later, tcp(half_open, 80, SYN)));
    // Nothing is closed: the half-open one goes.
    assert!(send(&rig, later, tcp((101, 1), 80, SYN)));
    assert!(entry(&rig.memory(), half_open).is_none());
    assert_eq!(count(&rig, Reason::EvictedHalfOpen), 1);
    // One is closed, and goes before that which is half-open.
    assert!(send(&rig, later, tcp((2, 1), 80, RST)));
    assert!(send(&rig, later, tcp((102, 1), 80, SYN)));
    assert!(entry(&rig.memory(), (101, 1)).is_some());
    assert_eq!(count(&rig, Reason::EvictedClosed), 1);
    for client in [(101, 1), (102, 1)] {
        assert!(send(&rig, later, tcp(client, 80, ACK)));
    }
    // The silent one is all that is left, and then there is no room.
    assert!(send(&rig, later, tcp((103, 1), 80, SYN)));
    assert_eq!(count(&rig, Reason::EvictedIdle), 1);
    assert!(send(&rig, later, tcp((103, 1), 80, ACK)));
    assert!(!send(&rig, later, tcp((104, 1), 80, SYN)));
    assert_eq!(count(&rig, Reason::TableFull), 1);
    let established = (3..WAYS as u32).all(|number| is_established(&rig, (number, 1)));
    assert!(established);
}

/// What comes to an instance that has little room.
#[derive(Clone, Debug)]
struct Sent {
    client: Client,
    port: u16,
    flags: u8,
    /// Ticks since the one before.
    after: u32,
}

prop_compose! {
    fn sent()(
        client in (0u32..200, 1u16..4),
        port in 80u16..82,
        flags in prop_oneof![
            6 => Just(SYN), 2 => Just(ACK), 1 => Just(FIN | ACK), 1 => Just(RST), 1 => any::<u8>(),
        ],
        after in prop_oneof![9 => Just(0u32), 2 => 1u32..5, 1 => 100u32..400],
    ) -> Sent {
        Sent { client, port, flags, after }
    }
}

proptest! {
    #[test]
    fn an_established_connection_never_gives_way(
        buckets in prop_oneof![Just(1u32), Just(2), Just(4)],
        kept in 1usize..14,
        secure in any::<bool>(),
        sent in prop::collection::vec(sent(), 1..400),
    ) {
        let mut rig = rig(buckets);
        let kept: Vec<Client> = (0..kept as u32).map(|number| (1000 + number, 9)).collect();
        for (&client, port) in kept.iter().zip([80, 81].into_iter().cycle()) {
            establish(&rig, client, port);
        }
        if secure {
            rig.apply(Edit::Set {
                setting: Sysctl::SecureTcp,
                value: SysctlValue::Number(3),
            });
        }
        let mut established: Vec<Client> = kept;
        let mut tick = 1u32;
        for Sent { client, port, flags, after } in sent {
            tick += after;
            send(&rig, tick, tcp(client, port, flags));
            established.retain(|&other| other != client);
            if is_established(&rig, client) {
                established.push(client);
            }
            for &other in &established {
                prop_assert!(is_established(&rig, other), "{other:?}");
            }
        }
        // The servers' loads are those of the table.
        let memory = rig.memory();
        let mut live = vec![(0, 0); 2];
        for entry in memory.connections.iter().flat_map(|bucket| &bucket.entries) {
            let state = state_of(entry);
            if state != state::FREE {
                let (active, inactive) = &mut live[entry.server.get() as usize];
                *(if state::is_active(state) { active } else { inactive }) += 1;
            }
        }
        for (load, live) in memory.loads.iter().zip(live) {
            prop_assert_eq!((load.active.get(), load.inactive.get()), live);
        }
    }
}

/// Of the packets that would begin a connection one in so many is dropped.
#[test]
fn packets_are_dropped_by_rate() {
    let mut rig = rig(64);
    let set = |rig: &mut Rig, setting, number| {
        let value = SysctlValue::Number(number);
        rig.apply(Edit::Set { setting, value });
    };
    establish(&rig, (1, 1), 80);
    set(&mut rig, Sysctl::AmDroprate, 4);
    set(&mut rig, Sysctl::DropPacket, 3);
    let mut number = 10;
    let mut dropped = |rig: &Rig| {
        let mut ask = || {
            number += 1;
            !send(rig, 1, tcp((number, 1), 80, SYN))
        };
        (0..40).filter(|_| ask()).count()
    };
    assert_eq!(dropped(&rig), 10);
    assert_eq!(count(&rig, Reason::DroppedPacket), 10);
    for _ in 0..20 {
        assert!(send(&rig, 1, tcp((1, 1), 80, ACK)), "not a new one");
    }
    rig.restart();
    assert_eq!(dropped(&rig), 10, "a new daemon keeps it");
    set(&mut rig, Sysctl::DropPacket, 1);
    assert_eq!(dropped(&rig), 0);
}

#[test]
fn automatic_defences_follow_the_room_that_is_left() {
    let mut rig = rig(64);
    let modes = |rig: &Rig| {
        let sysctls = rig.director.sysctls();
        [Sysctl::DropEntry, Sysctl::DropPacket, Sysctl::SecureTcp]
            .map(|setting| sysctls.get(setting).number())
    };
    let fill = |in_use| Fill {
        // 64 pages, of which 8 are to be free.
        capacity: 4096,
        in_use,
        entry_bytes: 64,
    };
    let defend = |rig: &mut Rig, in_use| {
        let drops = rig.director.defend(&[fill(in_use), fill(0)]);
        rig.director.write_all(&rig.tables.memory());
        let control = rig.tables.memory().control;
        (drops, control.drop_rate.get(), control.settings.get())
    };
    let usual = rig.memory().control.settings.get();
    assert_eq!(defend(&mut rig, 4096), (false, 0, usual));
    for setting in [Sysctl::DropEntry, Sysctl::DropPacket, Sysctl::SecureTcp] {
        let value = SysctlValue::Number(1);
        rig.apply(Edit::Set { setting, value });
    }
    let secure = usual | evenkeel_datapath::layout::settings::SECURE_TCP;
    let defence = evenkeel_datapath::layout::features::DEFENCE;
    assert_eq!(defend(&mut rig, 3584), (false, 0, usual), "eight pages");
    assert_eq!(
        (modes(&rig), rig.memory().control.features.get()),
        ([1; 3], 0)
    );
    // Six pages: of four packets one, as the kernel reckons.
    assert_eq!(defend(&mut rig, 3712), (true, 4, secure));
    assert_eq!(modes(&rig), [2; 3]);
    assert_eq!(rig.memory().control.features.get(), defence);
    assert_eq!(defend(&mut rig, 4096), (true, 1, secure));
    rig.restart();
    assert_eq!(
        (modes(&rig), rig.memory().control.drop_rate.get()),
        ([2; 3], 1)
    );
    assert_eq!(defend(&mut rig, 0), (false, 0, usual));
    assert_eq!(
        (modes(&rig), rig.memory().control.features.get()),
        ([1; 3], 0)
    );
    let value = SysctlValue::Number(0);
    rig.apply(Edit::Set {
        setting: Sysctl::Amemthresh,
        value,
    });
    assert_eq!(defend(&mut rig, 4096), (false, 0, usual), "never short");
}

/// All settings outlive the daemon.
#[test]
fn settings_that_the_packet_path_does_not_know_are_kept() {
    let mut rig = Rig::new();
    let set = [
        (Sysctl::SyncThreshold, SysctlValue::Pair([7, 90])),
        (Sysctl::LblcExpiration, SysctlValue::Number(0)),
        (Sysctl::DropEntry, SysctlValue::Number(3)),
        (Sysctl::ExpireNodestConn, SysctlValue::Number(1)),
    ];
    for (setting, value) in set {
        rig.apply(Edit::Set { setting, value });
    }
    let before = rig.director.sysctls();
    rig.restart();
    assert_eq!(rig.director.sysctls(), before);
    assert_eq!(rig.director.repairs(), 0);
    for (setting, value) in set {
        assert_eq!(before.get(setting), value);
    }
}
