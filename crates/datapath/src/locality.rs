//! The schedulers `lblc` and `lblcr`: a destination stays with the server, or the few
//! servers, that have served it, so that they find it in their caches. Which these
//! are is kept beside the connections, an entry for each destination.

use crate::host::{Ledger, Store};
use crate::layout::{
    Address, NOBODY, RING_HEADER, Service, WideBucket, WideEntry, scheduler, server_flags,
};
use crate::schedule::Request;
use crate::state;
use crate::table::{self, Aim, By, Found, WantedWide, WideOpening};
use crate::tree::{SERVERS_MAX, Tree};
use crate::word::Word;

/// Most servers of a destination.
const SERVERS: usize = 6;
/// Free place for a server.
const VACANT: u32 = u32::MAX;

/// A server of a destination: its places stand where a connection has the address that
/// the client connected to, and its server.
#[inline(always)]
fn place(entry: &WideEntry, index: usize) -> &Word {
    match index {
        0 => &entry.server,
        1 => &entry.virtual_address[0],
        2 => &entry.virtual_address[1],
        3 => &entry.virtual_address[2],
        4 => &entry.virtual_address[3],
        _ => &entry.server_tag,
    }
}

/// Connections of a server, and its weight; nothing if it takes none.
#[inline(always)]
fn burden<S: Store>(store: &S, service: u32, index: u32) -> Option<(u64, u64, u32)> {
    const WANTED: u32 = server_flags::ALIVE | server_flags::WEIGHTED;
    let (server, load) = (store.server(index)?, store.load(index)?);
    // What is kept here may outlive a server, whose slot another service then takes.
    let is_ours = server.service.get() == service;
    if !is_ours || server.flags.get() & WANTED != WANTED || load.overloaded.get() != 0 {
        return None;
    }
    let active = load.active.get();
    let cost = (u64::from(active) << 8) + u64::from(load.inactive.get());
    Some((cost, u64::from(server.weight.get()), active))
}

/// True: the server has more connections than its weight says, while another has less
/// than half of its own.
#[inline(always)]
fn is_overburdened<S: Store>(store: &S, service: u32, active: u32, weight: u64) -> bool {
    u64::from(active) > weight && store.is_any_idle(service) != 0
}

/// 1: the server of a tree at this place of the rings has less than half the connections
/// of its weight.
#[inline(always)]
pub fn is_idle<L: Ledger>(ledger: &L, at: u32) -> u32 {
    let (Some(server), Some(weight)) = (ledger.ring(at), ledger.ring(at.wrapping_add(1))) else {
        return 0;
    };
    let active = ledger
        .load(server.get())
        .map_or(u32::MAX, |load| load.active.get());
    u32::from(u64::from(active) * 2 < u64::from(weight.get()))
}

/// 1: a server of the service's tree has less than half the connections of its weight.
#[inline(always)]
pub fn is_any_idle<S: Store>(ledger: &S, service: u32) -> u32 {
    let Some(service) = ledger.service(service) else {
        return 0;
    };
    let ring = service.ring.get();
    let servers = ring as u32;
    let first = ((ring >> 32) as u32)
        .wrapping_add(RING_HEADER)
        .wrapping_add(crate::tree::nodes_of(servers));
    let mut any = 0;
    for turn in 0..SERVERS_MAX {
        if ledger.opaque(turn) >= servers {
            break;
        }
        // Without a way out of each turn, for the verifier keeps all of them in mind.
        any |= ledger.is_idle(first.wrapping_add(2 * turn));
    }
    any
}

/// The server that `lblc` or `lblcr` gives a connection; [`NOBODY`]: none.
#[inline(always)]
pub fn decide<S: Store>(store: &S, index: u32, request: &Request) -> u32 {
    store
        .service(index)
        .and_then(|service| choose(store, service, index, request.destination))
        .unwrap_or(NOBODY)
}

/// The server for a destination.
#[inline(always)]
fn choose<S: Store>(
    store: &S,
    record: &Service,
    service: u32,
    destination: Address,
) -> Option<u32> {
    let (number, ring) = (record.scheduler.get(), record.ring.get());
    if ring as u32 == 0 {
        return None;
    }
    let wanted = wanted(service, destination);
    let known: Option<Found<'_, WideBucket>> = table::find(store, wanted.place(store), wanted);
    if let Some(found) = known {
        found.entry.seen.set(store.tick());
        if number == scheduler::LBLCR {
            expire(store, service, found.entry);
        }
        if let Some(server) = least(store, service, found.entry) {
            return Some(server);
        }
    }
    let best = Tree::of(number, ring).best(store)?;
    match known {
        Some(found) if number == scheduler::LBLCR => enter(store, found.entry, best),
        Some(found) => found.entry.server.set(best),
        None => {
            store.note_locally(service, best);
        }
    }
    Some(best)
}

/// Notes the first server of the destination of the packet that is kept.
#[inline(always)]
pub fn note<S: Store>(store: &S, service: u32, server: u32) -> u32 {
    let Some(arrival) = store.kept() else {
        return 0;
    };
    let wanted = wanted(service, arrival.packet.destination);
    let new = WideOpening {
        address: wanted.address,
        port: wanted.port,
        virtual_address: [VACANT; 4],
        ports: store.tick(),
        service,
        server,
        server_tag: VACANT,
        state: state::LOCALITY,
        hop: 0,
    };
    table::enter::<S, WideBucket>(store, wanted.place(store), new);
    1
}

/// What finds the servers of a destination.
#[inline(always)]
fn wanted(service: u32, destination: Address) -> WantedWide {
    WantedWide {
        address: destination,
        port: state::LOCALITY << 24,
        aim: Aim::any(By::Service(service)),
    }
}

/// Of a destination's servers the one with the fewest connections for its weight,
/// unless even that has too many.
#[inline(always)]
fn least<S: Store>(store: &S, service: u32, entry: &WideEntry) -> Option<u32> {
    let mut best: (u64, u64, u32, u32) = (1, 0, 0, VACANT);
    for index in 0..SERVERS {
        let server = place(entry, index).get();
        if server != VACANT
            && let Some((cost, weight, active)) = burden(store, service, server)
            && (best.3 == VACANT || best.0 * weight > cost * best.1)
        {
            best = (cost, weight, active, server);
        }
    }
    let (_, weight, active, server) = best;
    if server == VACANT || is_overburdened(store, service, active, weight) {
        return None;
    }
    Some(server)
}

/// Adds a server to those of a destination.
#[inline(always)]
fn enter<S: Store>(store: &S, entry: &WideEntry, server: u32) {
    let mut vacant = SERVERS - 1;
    for index in (0..SERVERS).rev() {
        let present = place(entry, index).get();
        if present == server {
            return;
        }
        if present == VACANT {
            vacant = index;
        }
    }
    place(entry, vacant).set(server);
    entry.ports.set(store.tick());
}

/// Takes the busiest of several servers from a destination that has not been given a
/// new one for long.
#[inline(always)]
fn expire<S: Store>(store: &S, service: u32, entry: &WideEntry) {
    let limit = store
        .control()
        .map_or(0, |control| control.locality_ticks.get());
    if limit == 0 || store.tick().wrapping_sub(entry.ports.get()) <= limit {
        return;
    }
    let mut most: (u64, u64, usize) = (0, 1, SERVERS);
    let mut count = 0;
    for index in 0..SERVERS {
        let server = place(entry, index).get();
        if server == VACANT {
            continue;
        }
        count += 1;
        if let Some((cost, weight, _)) = burden(store, service, server)
            && most.0 * weight < cost * most.1
        {
            most = (cost, weight, index);
        }
    }
    if count > 1 && most.2 < SERVERS {
        place(entry, most.2).set(VACANT);
        entry.ports.set(store.tick());
    }
}
