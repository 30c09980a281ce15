//! The schedulers: which server a new connection goes to. Decisions are those of IPVS
//! (`net/netfilter/ipvs/ip_vs_{rr,wrr,lc,wlc,…}.c`), connection by connection.

use crate::host::Store;
use crate::layout::{
    Address, NOBODY, RING_HEADER, Server, Service, scheduler, server_flags, service_flags,
};
use crate::spread::{self, MAGLEV_SLOT_KEY};
use crate::tree::{self, Tree};

/// Servers of a ring that are passed over, because they are overloaded, before it
/// counts as having none.
const RING_TRIES: u32 = 1024;
/// Slots of a table that are tried one after the other for a server that is available.
const FALLBACK_TRIES: u32 = 128;

/// What schedulers know of a connection.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Request {
    /// Client's address.
    pub client: Address,
    /// Client's port, as it stands in the packet.
    pub client_port: u32,
    /// The address that the client connects to.
    pub destination: Address,
}

/// True: the server takes new connections.
#[inline(always)]
fn is_available<S: Store>(store: &S, index: u32) -> bool {
    const WANTED: u32 = server_flags::ALIVE | server_flags::WEIGHTED;
    store
        .server(index)
        .is_some_and(|server: &Server| server.flags.get() & WANTED == WANTED)
        && store
            .load(index)
            .is_some_and(|load| load.overloaded.get() == 0)
}

/// The server at the ring's cursor, which moves on: one step over all CPUs.
#[inline(always)]
pub(crate) fn next_in_ring<S: Store>(store: &S, service: &Service) -> Option<u32> {
    let ring = service.ring.get();
    let (base, length) = ((ring >> 32) as u32, ring as u32);
    if length == 0 {
        return None;
    }
    let step = store.add(store.ring(base)?, 1);
    Some(
        store
            .ring(base.wrapping_add(RING_HEADER).wrapping_add(step % length))?
            .get(),
    )
}

/// The server that the service's scheduler gives a connection; [`NOBODY`]: none. Not for
/// `lblc` and `lblcr`, see [`crate::locality`].
#[inline(always)]
pub fn decide<S: Store>(store: &S, index: u32, request: &Request) -> u32 {
    store
        .service(index)
        .and_then(|service| by_scheduler(store, service, request))
        .unwrap_or(NOBODY)
}

#[inline(always)]
fn by_scheduler<S: Store>(store: &S, service: &Service, request: &Request) -> Option<u32> {
    let number = service.scheduler.get();
    let ring = service.ring.get();
    if ring as u32 == 0 {
        return None;
    }
    match number {
        scheduler::RING => available_in_ring(store, ring),
        scheduler::SH | scheduler::MH => in_table(store, service, ring, number, request),
        scheduler::DH => {
            let slot = spread::hash_32(spread::fold(request.destination), 8);
            let server = store.available_at((ring >> 32) as u32, slot);
            (server != NOBODY).then_some(server)
        }
        scheduler::TWOS => better_of_two(store, service, ring),
        _ if tree::has_tree(number) => Tree::of(number, ring).best(store),
        _ => None,
    }
}

/// The server in a slot behind a ring's header, if it takes new connections; else
/// [`NOBODY`].
#[inline(always)]
pub fn available_at<S: Store>(store: &S, ring: u32, slot: u32) -> u32 {
    let at = ring.wrapping_add(RING_HEADER).wrapping_add(slot);
    match store.ring(at) {
        Some(word) if is_available(store, word.get()) => word.get(),
        _ => NOBODY,
    }
}

/// The next server of a ring that is not overloaded.
#[inline(always)]
fn available_in_ring<S: Store>(store: &S, ring: u64) -> Option<u32> {
    let (base, length) = ((ring >> 32) as u32, ring as u32);
    let cursor = store.ring(base)?;
    let tries = length.min(RING_TRIES);
    for turn in 0..RING_TRIES {
        if store.opaque(turn) >= tries {
            break;
        }
        let step = store.add(cursor, 1);
        let server = store.available_at(base, step % length);
        if server != NOBODY {
            return Some(server);
        }
    }
    None
}

/// The server of a table's slot.
#[inline(always)]
fn slot_of<S: Store>(store: &S, ring: u64, slot: u32) -> Option<u32> {
    let base = ((ring >> 32) as u32).wrapping_add(RING_HEADER);
    let server = store.ring(base.wrapping_add(slot))?.get();
    (server != NOBODY).then_some(server)
}

/// What is hashed of a client: its address, and its port if the service says so.
#[inline(always)]
fn hashed(service: &Service, request: &Request) -> u32 {
    let port = if service.flags.get() & service_flags::PORT != 0 {
        u32::from(u16::from_be(request.client_port as u16))
    } else {
        0
    };
    spread::fold(request.client).wrapping_add(port)
}

/// The slot of a client in the table of `sh` or `mh`, `offset` slots on.
#[inline(always)]
fn slot_at(number: u32, size: u32, value: u32, offset: u32) -> u32 {
    let hash = if number == scheduler::MH {
        spread::siphash(value.wrapping_add(offset), MAGLEV_SLOT_KEY)
    } else {
        spread::hash_32(value, 8).wrapping_add(offset)
    };
    hash % size
}

/// The server that a client's address names, or, where it is not available and the
/// service says so, another that it names.
#[inline(always)]
fn in_table<S: Store>(
    store: &S,
    service: &Service,
    ring: u64,
    number: u32,
    request: &Request,
) -> Option<u32> {
    let size = ring as u32;
    let value = hashed(service, request);
    let base = (ring >> 32) as u32;
    let first = slot_at(number, size, value, 0);
    let server = store.available_at(base, first);
    if server != NOBODY {
        return Some(server);
    }
    if service.flags.get() & service_flags::FALLBACK == 0 {
        return None;
    }
    for turn in 0..FALLBACK_TRIES {
        let slot = slot_at(number, size, value, turn.wrapping_add(first) % size);
        let server = store.available_at(base, slot);
        if server != NOBODY {
            return Some(server);
        }
    }
    None
}

/// Who had a client before the last change of the servers, while it lives: for a
/// packet in the middle of a connection that another director has opened.
#[inline(always)]
pub(crate) fn previous_owner<S: Store>(
    store: &S,
    service: &Service,
    request: &Request,
) -> Option<u32> {
    let ring = service.ring.get();
    let size = ring as u32;
    if service.scheduler.get() != scheduler::MH || size == 0 {
        return None;
    }
    let slot = slot_at(scheduler::MH, size, hashed(service, request), 0);
    let alive = |server: &u32| {
        store
            .server(*server)
            .is_some_and(|server| server.flags.get() & server_flags::ALIVE != 0)
    };
    slot_of(store, ring, slot.wrapping_add(size))
        .filter(alive)
        .or_else(|| slot_of(store, ring, slot).filter(alive))
}

/// How many connections a server has for its weight: cost and weight.
#[inline(always)]
fn burden<S: Store>(store: &S, server: u32) -> Option<(u64, u64)> {
    let load = store.load(server)?;
    let weight = store.server(server)?.weight.get();
    let active = u64::from(load.active.get());
    Some((
        (active << 8) + u64::from(load.inactive.get()),
        u64::from(weight),
    ))
}

/// Of two servers, drawn by their weights, the one with fewer connections for its
/// weight. What is drawn follows from the ring's cursor, so that it can be repeated.
#[inline(always)]
fn better_of_two<S: Store>(store: &S, service: &Service, ring: u64) -> Option<u32> {
    let (cursor, size) = ((ring >> 32) as u32, ring as u32);
    let step = store.add(store.ring(cursor)?, 1);
    let random = (u64::from(step) ^ store.seed() ^ u64::from(service.port.get()) << 32)
        .wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let random = (random ^ random >> 32).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    let first = drawn(store, ring, random as u32, size)?;
    let second = drawn(store, ring, (random >> 32) as u32, size)?;
    let ((cost_1, weight_1), (cost_2, weight_2)) = (burden(store, first)?, burden(store, second)?);
    Some(if weight_2 * cost_1 > weight_1 * cost_2 {
        second
    } else {
        first
    })
}

/// Redraws for an overloaded server.
const DRAWS: u32 = 16;

/// The server in a random slot.
#[inline(always)]
fn drawn<S: Store>(store: &S, ring: u64, random: u32, size: u32) -> Option<u32> {
    let mut random = random;
    for _ in 0..DRAWS {
        let server = store.available_at((ring >> 32) as u32, random % size);
        if server != NOBODY {
            return Some(server);
        }
        random = random.wrapping_mul(0x9E37_79B1).wrapping_add(0x7F4A_7C15);
    }
    None
}

/// The server for a new connection, by whatever scheduler.
#[inline(always)]
pub(crate) fn choose<S: Store>(store: &S, service: &Service, index: u32, request: &Request) -> u32 {
    if matches!(service.scheduler.get(), scheduler::LBLC | scheduler::LBLCR) {
        store.decide_locally(index, request)
    } else {
        store.decide(index, request)
    }
}
