//! What gives way to new connections where there is no more room.

use alloc::vec;
use alloc::vec::Vec;

use evenkeel_datapath::layout::{Entry, WAYS};
use evenkeel_datapath::{Reason, state};
use proptest::prelude::*;

use super::frames::{segment as tcp, *};
use super::*;
use crate::director::Fill;

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
        rig.reach(server.address, None);
    }
    rig
}

/// True: it was sent on.
fn send(rig: &Rig, tick: u32, frame: Vec<u8>) -> bool {
    send_at(rig, tick, frame).is_some()
}

/// The connection of a client.
fn entry(rig: &Rig, (address, port): Client) -> Option<&Entry> {
    let address = u32::from_ne_bytes((10 << 24 | address).to_be_bytes());
    let port = u32::from(TCP) << 16 | u32::from(port.to_be());
    live(rig).find(|entry| (entry.client_address.get(), entry.client_port.get()) == (address, port))
}

fn establish(rig: &Rig, client: Client, port: u16) {
    assert!(send(rig, 1, tcp(client, port, SYN)), "{client:?}");
    assert!(send(rig, 1, tcp(client, port, ACK)), "{client:?}");
}

fn is_established(rig: &Rig, client: Client) -> bool {
    entry(rig, client).is_some_and(|entry| state_of(entry) == state::ESTABLISHED)
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
        let there = |client: u32| entry(&rig, (client, 1)).is_some();
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
            assert!(entry(&rig, other).is_some(), "{number}: {other:?}");
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
    assert!(entry(&rig, half_open).is_none());
    assert_eq!(count(&rig, Reason::EvictedHalfOpen), 1);
    // One is closed, and goes before that which is half-open.
    assert!(send(&rig, later, tcp((2, 1), 80, RST)));
    assert!(send(&rig, later, tcp((102, 1), 80, SYN)));
    assert!(entry(&rig, (101, 1)).is_some());
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
            rig.set(Sysctl::SecureTcp, 3);
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
        let mut counts = vec![(0, 0); 2];
        for entry in live(&rig) {
            let (active, inactive) = &mut counts[entry.server.get() as usize];
            *(if state::is_active(state_of(entry)) { active } else { inactive }) += 1;
        }
        for (load, counted) in memory.loads.iter().zip(counts) {
            prop_assert_eq!((load.active.get(), load.inactive.get()), counted);
        }
    }
}

/// Of the packets that would begin a connection one in so many is dropped.
#[test]
fn packets_are_dropped_by_rate() {
    let mut rig = rig(64);
    establish(&rig, (1, 1), 80);
    rig.set(Sysctl::AmDroprate, 4);
    rig.set(Sysctl::DropPacket, 3);
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
    rig.set(Sysctl::DropPacket, 1);
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
        rig.set(setting, 1);
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
    rig.set(Sysctl::Amemthresh, 0);
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
