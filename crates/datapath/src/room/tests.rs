//! Full tables, and connections that are looked for while others make room.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use std::vec;
use std::vec::Vec;

use crate::host::{Route, RouteAnswer};
use crate::layout::{Bucket, WAYS, WideBucket, mapped, state_word};
use crate::memory::Memory;
use crate::opening::{Opening, WideOpening};
use crate::reason::Reason;
use crate::simulated::{Circumstances, Simulated, Sizes, Tables, in_place};
use crate::state;
use crate::table::{self, By, Found, New, Slot, Wanted, WantedNarrow, WantedWide};

const BUCKETS: u32 = 1 << 10;
const ENTRIES: u32 = BUCKETS * WAYS as u32;
/// What has to find room: 95.4 %, as a million in 1,048,576.
const MANY: u32 = ENTRIES / 1000 * 954;
const SERVERS: u32 = 8;
/// TCP, port 80.
const CLIENT_PORT: u32 = 0x0006_0050;

fn tables() -> Tables {
    Tables::new(&Sizes {
        buckets: BUCKETS,
        wide_buckets: BUCKETS,
        cpus: 4,
        ..Sizes::default()
    })
}

type Host<'h, 'm> = Simulated<'h, Memory<'m>, false>;

fn with<'m, T>(tables: &'m Tables, action: impl FnOnce(&Host<'_, 'm>) -> T) -> T {
    let nowhere = |_, _, _| Route::without_hop(RouteAnswer::None);
    let wide_nowhere = |_, _, _| Route::without_hop(RouteAnswer::None);
    let around = Circumstances {
        interface: 1,
        tick: 7,
        cpu: 0,
        routes: &nowhere,
        wide_routes: &wide_nowhere,
        mark: 0,
        tagged: false,
        for_us: true,
    };
    in_place::<_, false, _>(&tables.memory(), &mut vec![0; 64], around, action)
}

fn narrow(client: u32, state: u32) -> Opening {
    Opening {
        address: client,
        port: CLIENT_PORT,
        service: 1,
        server: client % SERVERS,
        server_tag: client,
        state,
    }
}

fn wide(client: u32, state: u32) -> WideOpening {
    WideOpening {
        address: mapped(client),
        port: CLIENT_PORT,
        virtual_address: mapped(1),
        ports: 80,
        service: 1,
        server: client % SERVERS,
        server_tag: client,
        state,
    }
}

fn find_narrow<'a>(host: &'a Host<'_, '_>, client: u32) -> Option<Found<'a, Bucket>> {
    let wanted: WantedNarrow = narrow(client, state::ESTABLISHED).wanted();
    table::find_here(host, wanted.place(host), wanted)
}

fn open_narrow(host: &Host<'_, '_>, client: u32, state: u32) -> bool {
    let new = narrow(client, state);
    table::open::<_, Bucket>(host, new.wanted().place(host), new, None).is_some()
}

fn counted(tables: &Tables, reason: Reason) -> u64 {
    tables.memory().reasons[0].counts[reason as usize].get()
}

fn active(tables: &Tables) -> Vec<u32> {
    let loads = &tables.memory().loads[..SERVERS as usize];
    loads.iter().map(|load| load.active.get()).collect()
}

fn of_each_server(clients: impl Iterator<Item = u32>) -> Vec<u32> {
    let mut counts = vec![0; SERVERS as usize];
    clients.for_each(|client| counts[(client % SERVERS) as usize] += 1);
    counts
}

#[test]
fn a_table_takes_nearly_as_many_connections_as_it_has_entries() {
    let tables = tables();
    with(&tables, |host| {
        for client in 0..MANY {
            assert!(
                open_narrow(host, client, state::ESTABLISHED),
                "connection {client}"
            );
        }
        for client in 0..MANY {
            let found = find_narrow(host, client).expect("a connection that was opened");
            assert_eq!(found.entry.server_tag.get(), client);
            assert_eq!(found.entry.seen.get(), 7);
        }
    });
    assert_eq!(active(&tables), of_each_server(0..MANY));
}

#[test]
fn a_table_of_wide_entries_does_so_too() {
    let tables = tables();
    with(&tables, |host| {
        let place = |client| -> (WideOpening, _) {
            let new = wide(client, state::ESTABLISHED);
            let wanted: WantedWide = new.wanted();
            (new, wanted.place(host))
        };
        for client in 0..MANY {
            let (new, place) = place(client);
            let opened: Option<Found<'_, WideBucket>> = table::open(host, place, new, None);
            assert!(opened.is_some(), "connection {client}");
        }
        for client in 0..MANY {
            let (new, place) = place(client);
            let found: Option<Found<'_, WideBucket>> = table::find(host, place, new.wanted());
            let entry = found.expect("a connection that was opened").entry;
            assert_eq!(entry.server_tag.get(), client);
            assert!(table::is_address(&entry.virtual_address, mapped(1)));
        }
    });
    assert_eq!(active(&tables), of_each_server(0..MANY));
}

#[test]
fn what_is_half_open_stays_while_others_can_move() {
    let tables = tables();
    with(&tables, |host| {
        for client in 0..ENTRIES / 2 {
            assert!(open_narrow(host, client, state::SYN_RECV));
        }
    });
    assert_eq!(counted(&tables, Reason::EvictedHalfOpen), 0);
}

#[test]
fn what_is_closed_goes_before_anything_moves() {
    let tables = tables();
    with(&tables, |host| {
        for client in 0..ENTRIES * 2 {
            assert!(open_narrow(host, client, state::TIME_WAIT));
        }
    });
    let gone = counted(&tables, Reason::EvictedClosed);
    assert!(gone >= u64::from(ENTRIES), "{gone}");
    let kept = &tables.memory().loads[..SERVERS as usize];
    let kept: u64 = kept.iter().map(|load| u64::from(load.inactive.get())).sum();
    assert_eq!(kept + gone, u64::from(ENTRIES * 2));
}

#[test]
fn a_full_table_refuses_what_is_new_and_keeps_what_is_established() {
    let tables = tables();
    let mut opened = BTreeMap::new();
    with(&tables, |host| {
        for client in 0..ENTRIES + ENTRIES / 10 {
            opened.insert(client, open_narrow(host, client, state::ESTABLISHED));
        }
        for (&client, &is_open) in &opened {
            assert_eq!(find_narrow(host, client).is_some(), is_open);
        }
    });
    let open = || opened.iter().filter(|(_, is_open)| **is_open);
    assert!(open().count() <= ENTRIES as usize);
    assert!(open().count() > MANY as usize);
    assert_eq!(
        active(&tables),
        of_each_server(open().map(|(client, _)| *client))
    );
}

/// One CPU fills the table to its end and empties it again, another moves connections from
/// state to state; two look for connections that last.
#[test]
fn who_looks_for_a_connection_finds_it_while_others_move() {
    const LASTING: u32 = 500;
    let tables = &tables();
    let is_over = &AtomicBool::new(false);
    let looked = &AtomicU32::new(0);
    with(tables, |host| {
        for client in 0..LASTING {
            assert!(open_narrow(host, client, state::ESTABLISHED));
        }
    });
    thread::scope(|scope| {
        scope.spawn(|| {
            let deadline = Instant::now() + Duration::from_secs(20);
            let mut round = 0;
            while round < 3
                || (looked.load(Ordering::Relaxed) < 200_000 && Instant::now() < deadline)
            {
                with(tables, |host| fill_and_empty(host, LASTING));
                round += 1;
            }
            is_over.store(true, Ordering::Relaxed);
        });
        for _ in 0..2 {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    with(tables, |host| {
                        for client in 0..LASTING {
                            assert!(find_narrow(host, client).is_some(), "connection {client}");
                        }
                    });
                    looked.fetch_add(LASTING, Ordering::Relaxed);
                }
            });
        }
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                with(tables, |host| {
                    for client in 0..LASTING {
                        for state in [state::FIN_WAIT, state::ESTABLISHED] {
                            if let Some(found) = find_narrow(host, client) {
                                table::change_state(host, found.entry, state, 0);
                            }
                        }
                    }
                });
            }
        });
    });
    // Nothing is counted that is not there.
    let mut counts = [vec![0; SERVERS as usize], vec![0; SERVERS as usize]];
    for bucket in tables.memory().connections {
        for entry in &bucket.entries {
            match entry.state.get() & state_word::STATE {
                state::FREE => {}
                state::ESTABLISHED => counts[0][entry.server.get() as usize] += 1,
                _ => counts[1][entry.server.get() as usize] += 1,
            }
        }
    }
    let loads = &tables.memory().loads[..SERVERS as usize];
    let inactive: Vec<u32> = loads.iter().map(|load| load.inactive.get()).collect();
    assert_eq!(counts, [active(tables), inactive]);
    with(tables, |host| {
        for client in 0..LASTING {
            assert!(find_narrow(host, client).is_some(), "connection {client}");
        }
    });
}

fn fill_and_empty(host: &Host<'_, '_>, first: u32) {
    let last = first + ENTRIES + ENTRIES / 20;
    for client in first..last {
        open_narrow(host, client, state::ESTABLISHED);
    }
    for client in first..last {
        if let Some(found) = find_narrow(host, client) {
            table::release(host, found);
        }
    }
}

#[test]
fn what_is_looked_for_by_its_server_is_found_where_it_moved() {
    let tables = tables();
    with(&tables, |host| {
        for client in 0..MANY {
            assert!(open_narrow(host, client, state::ESTABLISHED));
        }
        for client in 0..MANY {
            let wanted = WantedNarrow {
                by: By::ServerTag(client),
                ..narrow(client, state::ESTABLISHED).wanted()
            };
            let found: Option<Found<'_, Bucket>> = table::find(host, wanted.place(host), wanted);
            assert!(found.is_some_and(|found| wanted.is(found.entry)));
            assert_eq!(
                found.map(|found| found.entry.server().get()),
                Some(client % SERVERS)
            );
        }
    });
}
