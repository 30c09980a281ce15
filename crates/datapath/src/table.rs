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
use crate::{load, state};
use crate::word::Word;

/// Bit of a bucket's first signature: connections of this bucket may stand in its
/// sibling. Never cleared: it costs a look at one more line, and only when a
/// connection is not found.
pub const OVERFLOWED: u32 = 1 << 31;

/// Ticks of silence after which an answered UDP flow may be evicted.
const IDLE_TICKS: u32 = 128;

/// An entry and where it stands.
#[derive(Clone, Copy)]
pub struct Found<'a> {
    /// Its bucket.
    pub bucket: &'a Bucket,
    /// Its place in the bucket.
    pub way: usize,
    /// The entry.
    pub entry: &'a Entry,
}

/// The signature of the entry at `way` without the bucket's mark.
#[inline(always)]
fn signature(bucket: &Bucket, way: usize) -> u32 {
    bucket.signatures[way].get() & !OVERFLOWED
}

/// What a connection is looked for by, beside its client.
#[derive(Clone, Copy)]
pub enum By {
    /// The service's index.
    Service(u32),
    /// The server's tag.
    ServerTag(u32),
}

/// A connection that is looked for.
#[derive(Clone, Copy)]
struct Wanted {
    address: u32,
    /// As [`Entry::client_port`].
    port: u32,
    by: By,
}

impl Wanted {
    /// True: `entry` is live, and this connection's.
    #[inline(always)]
    fn is(self, entry: &Entry) -> bool {
        let partner = match self.by {
            By::Service(index) => entry.service.get() & 0xffff == index,
            By::ServerTag(tag) => entry.server_tag.get() == tag,
        };
        partner
            && entry.client_address.get() == self.address
            && entry.client_port.get() == self.port
            && entry.state.get() & state_word::STATE != state::FREE
    }
}

/// The entry of `bucket` at `way`, which neither the compiler nor the verifier may
/// make a copy of the code behind for each value of.
#[inline(always)]
fn at<'a, H: Host>(host: &H, bucket: &'a Bucket, way: usize) -> Found<'a> {
    let way = host.opaque(way as u32) as usize & (WAYS - 1);
    Found {
        bucket,
        way,
        entry: &bucket.entries[way],
    }
}

/// Looks through a bucket by its signatures.
#[inline(always)]
fn find_in<'a, H: Host>(
    host: &H,
    bucket: &'a Bucket,
    wanted_signature: u32,
    wanted: Wanted,
) -> Option<Found<'a>> {
    let mut hit = WAYS;
    for way in 0..WAYS {
        if signature(bucket, way) == wanted_signature && wanted.is(&bucket.entries[way]) {
            hit = way;
            break;
        }
    }
    if hit == WAYS {
        return None;
    }
    Some(at(host, bucket, hit))
}

/// The live connection of this client with that service or server.
#[inline(always)]
pub fn find<H: Host>(host: &H, place: Place, address: u32, port: u32, by: By) -> Option<Found<'_>> {
    let wanted = Wanted { address, port, by };
    let home = host.bucket(place.bucket & host.bucket_mask())?;
    // Most connections have the way they prefer, or its neighbour in the same cache
    // line: then the line of the signatures need not be fetched, which with many
    // connections is what a packet waits for.
    let preferred = at(host, home, place.way());
    if wanted.is(preferred.entry) {
        return Some(preferred);
    }
    let neighbour = at(host, home, place.way() ^ 1);
    if wanted.is(neighbour.entry) {
        return Some(neighbour);
    }
    let found = find_in(host, home, place.signature, wanted);
    if found.is_some() || home.signatures[0].get() & OVERFLOWED == 0 {
        return found;
    }
    let sibling = host.bucket(place.sibling() & host.bucket_mask())?;
    find_in(host, sibling, place.signature, wanted)
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
    load::end(host, entry.server.get(), old);
    true
}

/// Ends a connection in `TIME_WAIT`. True: the caller owns the entry. False: another
/// CPU was first.
#[inline(always)]
fn end<H: Host>(host: &H, entry: &Entry) -> bool {
    let word = entry.state.get();
    word & state_word::STATE == state::TIME_WAIT && kill(host, entry, word)
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
    /// [`crate::hash::server_tag`] of the server.
    pub server_tag: u32,
    /// First state.
    pub state: u32,
}

/// A free way of the bucket: `preferred`, its neighbour, or the first one.
#[inline(always)]
fn free_way<H: Host>(host: &H, bucket: &Bucket, preferred: usize) -> Option<usize> {
    for way in [preferred, preferred ^ 1] {
        let way = host.opaque(way as u32) as usize & (WAYS - 1);
        if signature(bucket, way) == 0 {
            return Some(way);
        }
    }
    (0..WAYS).find(|&way| signature(bucket, way) == 0)
}

/// A free entry of the bucket, claimed.
#[inline(always)]
fn claim<'a, H: Host>(host: &H, bucket: &'a Bucket, place: Place) -> Option<Found<'a>> {
    let found = at(host, bucket, free_way(host, bucket, place.way())?);
    let word = &bucket.signatures[found.way];
    let mark = word.get() & OVERFLOWED;
    host.compare_and_swap(word, mark, mark | place.signature)
        .then_some(found)
}

/// Of a bucket's entries those that may be evicted, a bit each.
#[derive(Clone, Copy, Default)]
struct Expendable {
    /// Closed on both sides.
    closed: u32,
    /// Not answered yet.
    half_open: u32,
    /// UDP, silent for [`IDLE_TICKS`].
    idle: u32,
}

/// Sorts a bucket's entries. Without a branch, because the verifier follows every
/// branch of every turn, and there are sixteen; and with sets of states that the
/// compiler does not know, lest it make branches of them again.
#[inline(always)]
fn expendable<H: Host>(host: &H, bucket: &Bucket, now: u32) -> Expendable {
    let closed = host.opaque(1 << state::CLOSE | 1 << state::TIME_WAIT | 1 << state::LAST_ACK);
    let half_open = host.opaque(
        1 << state::SYN_RECV | 1 << state::SYN_SENT | 1 << state::SYNACK | 1 << state::NONE,
    );
    let udp = host.opaque(1 << state::UDP);
    let idle_ticks = host.opaque(IDLE_TICKS);
    let mut masks = Expendable::default();
    for way in 0..WAYS {
        let entry = &bucket.entries[way];
        let word = entry.state.get();
        let state = word & state_word::STATE;
        let unanswered = !word >> state_word::ANSWERED.trailing_zeros();
        // The top bit of the difference: set when the age is the greater.
        let age = now.wrapping_sub(entry.seen.get()) & 0x7fff_ffff;
        let old = idle_ticks.wrapping_sub(age) >> 31;
        masks.closed |= (closed >> state & 1) << way;
        masks.half_open |= ((half_open >> state | udp >> state & unanswered) & 1) << way;
        masks.idle |= (udp >> state & old & 1) << way;
    }
    masks
}

/// Position of the lowest set bit of a 16-bit mask that is not 0: a de Bruijn
/// multiplication, because the target has no instruction for it.
#[inline(always)]
const fn lowest_bit(mask: u32) -> u32 {
    const SEQUENCE: u32 = 0x09AF;
    const POSITIONS: u64 = {
        let mut table = 0;
        let mut i = 0;
        while i < 16 {
            table |= i << (4 * ((((1 << i) * SEQUENCE as u64) >> 12) & 0xf));
            i += 1;
        }
        table
    };
    let index = ((mask & mask.wrapping_neg()).wrapping_mul(SEQUENCE) >> 12) & 0xf;
    (POSITIONS >> (4 * index)) as u32 & 0xf
}

/// Takes the place of an expendable entry of a full bucket.
#[inline(always)]
fn evict<'a, H: Host>(host: &H, bucket: &'a Bucket, signature: u32) -> Option<Found<'a>> {
    let masks = expendable(host, bucket, host.tick());
    let (mask, reason) = if masks.closed != 0 {
        (masks.closed, Reason::EvictedClosed)
    } else if masks.half_open != 0 {
        (masks.half_open, Reason::EvictedHalfOpen)
    } else if masks.idle != 0 {
        (masks.idle, Reason::EvictedIdle)
    } else {
        return None;
    };
    let way = host.opaque(lowest_bit(mask)) as usize & (WAYS - 1);
    let entry = &bucket.entries[way];
    let word = entry.state.get();
    // It may have become established since; then it stays.
    if word & state_word::STATE == state::ESTABLISHED || !kill(host, entry, word) {
        return None;
    }
    crate::count_reason(host, reason);
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
    if let Some(found) = claim(host, home, place) {
        return Some(found);
    }
    let sibling = host.bucket(place.sibling() & host.bucket_mask())?;
    if let Some(found) = claim(host, sibling, place) {
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

/// Enters a new connection, in the place of `before`, which ends with it, if there is
/// such. None: its buckets are full of established ones.
#[inline(always)]
pub fn open<'a, H: Host>(
    host: &'a H,
    place: Place,
    new: Opening,
    before: Option<Found<'a>>,
) -> Option<Found<'a>> {
    // Staying where the former one was spares the line of the signatures.
    let found = match before {
        Some(before) if end(host, before.entry) => before,
        _ => claim_any(host, place)?,
    };
    let entry = found.entry;
    entry.client_address.set(new.address);
    entry.client_port.set(new.port);
    entry.service.set(new.service);
    entry.server.set(new.server);
    entry.seen.set(host.tick());
    entry.hop.set(0);
    entry.server_tag.set(new.server_tag);
    load::begin(host, new.server, new.state);
    let old = entry.state.get();
    let live = (old & !0xffff).wrapping_add(state_word::GENERATION) | new.state;
    host.compare_and_swap(&entry.state, old, live);
    // Another CPU may have opened the same connection meanwhile. Both find the same
    // first one, so the other gives way.
    let first = find(host, place, new.address, new.port, By::Service(new.service));
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
    load::shift(host, entry.server.get(), old, new);
}

#[cfg(test)]
mod tests {
    use super::lowest_bit;

    #[test]
    fn lowest_bit_is_the_lowest() {
        for mask in 1u32..0x1_0000 {
            assert_eq!(lowest_bit(mask), mask.trailing_zeros());
        }
    }
}
