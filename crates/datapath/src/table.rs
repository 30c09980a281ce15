//! The connection table: finding, claiming and giving up entries while other CPUs
//! and the daemon do the same.
//!
//! An entry belongs to whoever changed its signature from 0 by compare and swap;
//! it is live when its state is not 0; and it is given up by changing the state
//! to 0 by compare and swap. Only the one who succeeds in that corrects the
//! server's load and clears the signature.

use crate::hash::Place;
use crate::host::Host;
use crate::layout::{Bucket, Entry, WAYS, state_word};
use crate::reason::Reason;
use crate::state;
use crate::word::Word;

/// Bit of a bucket's first signature: connections of this bucket may stand in its
/// sibling. Never cleared: it costs a look at one more line, and only when a
/// connection is not found.
pub const OVERFLOWED: u32 = 1 << 31;

/// Ticks of silence after which an answered UDP flow may be evicted.
const IDLE_TICKS: u32 = 128;

/// An entry and where it stands.
pub struct Found<'a> {
    /// Its bucket.
    pub bucket: &'a Bucket,
    /// Its place in the bucket.
    pub way: usize,
    /// The entry.
    pub entry: &'a Entry,
}

impl Clone for Found<'_> {
    fn clone(&self) -> Self {
        *self
    }
}
impl Copy for Found<'_> {}

/// The signature of the entry at `way` without the bucket's mark.
#[inline(always)]
fn signature(bucket: &Bucket, way: usize) -> u32 {
    bucket.signatures[way].get() & !OVERFLOWED
}

#[inline(always)]
fn find_in<'a>(
    bucket: &'a Bucket,
    wanted: u32,
    address: u32,
    port: u32,
    matches: &impl Fn(&Entry) -> bool,
) -> Option<Found<'a>> {
    for way in 0..WAYS {
        if signature(bucket, way) != wanted {
            continue;
        }
        let entry = &bucket.entries[way];
        if entry.client_address.get() == address
            && entry.client_port.get() == port
            && entry.state.get() & state_word::STATE != state::FREE
            && matches(entry)
        {
            return Some(Found { bucket, way, entry });
        }
    }
    None
}

/// The live connection of this client for which `matches` holds.
#[inline(always)]
pub fn find<'a, H: Host>(
    host: &'a H,
    place: Place,
    address: u32,
    port: u32,
    matches: impl Fn(&Entry) -> bool,
) -> Option<Found<'a>> {
    let home = host.bucket(place.bucket & host.bucket_mask())?;
    let found = find_in(home, place.signature, address, port, &matches);
    if found.is_some() || home.signatures[0].get() & OVERFLOWED == 0 {
        return found;
    }
    let sibling = host.bucket(place.sibling() & host.bucket_mask())?;
    find_in(sibling, place.signature, address, port, &matches)
}

/// Clears the signature of an entry that was given up, but not the bucket's mark.
#[inline(always)]
fn clear_signature<H: Host>(host: &H, word: &Word) {
    let present = word.get() & !OVERFLOWED;
    host.add(word, present.wrapping_neg());
}

/// As the packet path does, for the daemon: clears the signature of an entry whose
/// state it has changed to 0.
#[cfg(not(target_arch = "bpf"))]
pub fn free_signature(word: &Word) {
    let present = word.get() & !OVERFLOWED;
    word.subtract(present);
}

/// Changes the entry's state word from `old` to dead. True: the caller was the one.
#[inline(always)]
fn kill<H: Host>(host: &H, entry: &Entry, old: u32) -> bool {
    let dead = (old & !0xffff).wrapping_add(state_word::GENERATION);
    if old & state_word::STATE == state::FREE || !host.compare_and_swap(&entry.state, old, dead) {
        return false;
    }
    if let Some(load) = host.load(entry.server.get()) {
        let counter = if state::is_active(old) { &load.active } else { &load.inactive };
        host.add(counter, u32::MAX);
    }
    true
}

/// Gives up a live connection.
#[inline(always)]
pub fn release<H: Host>(host: &H, found: Found<'_>) {
    if kill(host, found.entry, found.entry.state.get()) {
        clear_signature(host, &found.bucket.signatures[found.way]);
    }
}

/// A new connection's contents.
#[derive(Clone, Copy)]
pub struct Opening {
    /// Client's address.
    pub address: u32,
    /// As [`Entry::client_port`].
    pub port: u32,
    /// Service index.
    pub service: u32,
    /// Server index.
    pub server: u32,
    /// First state.
    pub state: u32,
}

/// A free entry of the bucket, claimed.
#[inline(always)]
fn claim<'a, H: Host>(host: &H, bucket: &'a Bucket, signature: u32) -> Option<Found<'a>> {
    let mut free = WAYS;
    for way in 0..WAYS {
        if bucket.signatures[way].get() & !OVERFLOWED == 0 {
            free = way;
            break;
        }
    }
    if free == WAYS {
        return None;
    }
    let way = host.opaque(free as u32) as usize & (WAYS - 1);
    let word = &bucket.signatures[way];
    let mark = word.get() & OVERFLOWED;
    if !host.compare_and_swap(word, mark, mark | signature) {
        return None;
    }
    Some(Found { bucket, way, entry: &bucket.entries[way] })
}

/// How willingly an entry is evicted: 0 never, else the more the higher.
#[inline(always)]
fn expendability(word: u32, age: u32) -> u32 {
    const CLOSED: u32 = 1 << state::CLOSE | 1 << state::TIME_WAIT | 1 << state::LAST_ACK;
    const HALF_OPEN: u32 =
        1 << state::SYN_RECV | 1 << state::SYN_SENT | 1 << state::SYNACK | 1 << state::NONE;
    let state = word & state_word::STATE;
    let age = if age > 0x00ff_ffff { 0x00ff_ffff } else { age };
    if (CLOSED >> state) & 1 == 1 {
        3 << 24 | age
    } else if (HALF_OPEN >> state) & 1 == 1
        || (state == state::UDP && word & state_word::ANSWERED == 0)
    {
        2 << 24 | age
    } else if state == state::UDP && age > IDLE_TICKS {
        1 << 24 | age
    } else {
        0
    }
}

/// Takes the place of the most expendable entry of a full bucket.
#[inline(always)]
fn evict<'a, H: Host>(host: &H, bucket: &'a Bucket, signature: u32) -> Option<Found<'a>> {
    let now = host.tick();
    let mut best = 0;
    let mut victim = 0;
    for way in 0..WAYS {
        let entry = &bucket.entries[way];
        let rank = expendability(entry.state.get(), now.wrapping_sub(entry.seen.get()));
        if rank > best {
            best = rank;
            victim = way as u32;
        }
    }
    let way = host.opaque(victim) as usize & (WAYS - 1);
    let entry = &bucket.entries[way];
    let word = entry.state.get();
    let rank = expendability(word, now.wrapping_sub(entry.seen.get()));
    if rank == 0 || !kill(host, entry, word) {
        return None;
    }
    crate::count_reason(
        host,
        match rank >> 24 {
            3 => Reason::EvictedClosed,
            2 => Reason::EvictedHalfOpen,
            _ => Reason::EvictedIdle,
        },
    );
    let sign = &bucket.signatures[way];
    let old = sign.get();
    if !host.compare_and_swap(sign, old, old & OVERFLOWED | signature) {
        return None;
    }
    Some(Found { bucket, way, entry })
}

/// Notes in the home bucket that some of its connections stand in the sibling.
#[inline(always)]
fn mark_overflowed<H: Host>(host: &H, home: &Bucket) {
    let word = &home.signatures[0];
    let old = word.get();
    if old & OVERFLOWED == 0 && !host.compare_and_swap(word, old, old | OVERFLOWED) {
        // Another CPU changed the entry at the same moment; once more is enough.
        let old = word.get();
        host.compare_and_swap(word, old, old | OVERFLOWED);
    }
}

/// Claims an entry: in the home bucket, in the sibling, or that of an expendable
/// connection.
#[inline(always)]
fn claim_any<H: Host>(host: &H, place: Place) -> Option<Found<'_>> {
    let home = host.bucket(place.bucket & host.bucket_mask())?;
    if let Some(found) = claim(host, home, place.signature) {
        return Some(found);
    }
    let sibling = host.bucket(place.sibling() & host.bucket_mask())?;
    if let Some(found) = claim(host, sibling, place.signature) {
        mark_overflowed(host, home);
        return Some(found);
    }
    if let Some(found) = evict(host, home, place.signature) {
        return Some(found);
    }
    let found = evict(host, sibling, place.signature)?;
    mark_overflowed(host, home);
    Some(found)
}

/// Enters a new connection. None: its buckets are full of established ones.
#[inline(always)]
pub fn open<'a, H: Host>(host: &'a H, place: Place, new: Opening) -> Option<Found<'a>> {
    let found = claim_any(host, place)?;
    let entry = found.entry;
    entry.client_address.set(new.address);
    entry.client_port.set(new.port);
    entry.service.set(new.service);
    entry.server.set(new.server);
    entry.seen.set(host.tick());
    entry.hop.set(0);
    entry.packets.set(0);
    if let Some(load) = host.load(new.server) {
        let counter = if state::is_active(new.state) { &load.active } else { &load.inactive };
        host.add(counter, 1);
    }
    let old = entry.state.get();
    let live = (old & !0xffff).wrapping_add(state_word::GENERATION) | new.state;
    host.compare_and_swap(&entry.state, old, live);
    // Another CPU may have opened the same connection meanwhile. Both find the same
    // first one, so the other gives way.
    let first = find(host, place, new.address, new.port, |other| {
        other.service.get() == new.service
    });
    if let Some(first) = first
        && !core::ptr::eq(first.entry, entry)
    {
        crate::count_reason(host, Reason::Duplicate);
        release(host, found);
        return Some(first);
    }
    Some(found)
}

/// Moves a connection to `state`, setting `flags`, and keeps the server's load
/// exact: of several CPUs only the one whose swap succeeds counts.
#[inline(always)]
pub fn change_state<H: Host>(host: &H, entry: &Entry, state: u32, flags: u32) {
    let old = entry.state.get();
    let new = (old & !state_word::STATE) | flags | state;
    if new == old || old & state_word::STATE == state::FREE {
        return;
    }
    if !host.compare_and_swap(&entry.state, old, new) {
        return;
    }
    let (was, is) = (state::is_active(old), state::is_active(new));
    if was != is
        && let Some(load) = host.load(entry.server.get())
    {
        host.add(&load.active, if is { 1 } else { u32::MAX });
        host.add(&load.inactive, if is { u32::MAX } else { 1 });
    }
}
