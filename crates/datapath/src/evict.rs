//! Which entry of a full bucket gives way to a new connection: one that is closed, then
//! one that is half-open, then one that is silent; an established one never.
//!
//! A flood shows by what it fills buckets with. Where one service has most of the
//! half-open connections of a bucket, these go before those of other services, so that it
//! pays for its flood itself; and of a service's own the oldest goes first, so that a
//! client has as much time to answer as there is room.
//!
//! There are no branches that depend on an entry, as far as the compiler goes along: the
//! verifier would follow each of them in each of sixteen turns.

use crate::host::Store;
use crate::layout::{WAYS, state_word};
use crate::reason::Reason;
use crate::table::{self, Buckets, OVERFLOWED, Slot};
use crate::{load, state};

/// Ticks of silence after which a UDP flow, a connection that one side has closed, or a
/// template may be evicted.
const IDLE_TICKS: u32 = 128;

/// Which goes first.
pub(crate) mod class {
    /// Closed on both sides.
    pub(crate) const CLOSED: u32 = 0;
    /// Not answered yet, of the service that has most of these in the bucket.
    pub(crate) const CROWD: u32 = 1;
    /// Not answered yet.
    pub(crate) const HALF_OPEN: u32 = 2;
    /// Silent.
    pub(crate) const IDLE: u32 = 3;
    /// It stays.
    pub(crate) const KEPT: u32 = 7;
}

const CLASS_SHIFT: u32 = 28;
const ORDER_SHIFT: u32 = 8;
/// The bucket has a crowd, and that is large.
const FLOODED: u32 = 1 << 4;
/// Half-open entries of one service in a bucket from which on it is likely to be flooded.
const FLOOD: u32 = 6;
/// In what [`crowd`] says: it is [`FLOOD`] or more.
const LARGE: u32 = 1 << 17;
const GENERATION_SHIFT: u32 = state_word::GENERATION.trailing_zeros();
/// Half of what a generation can be: added to a difference, it makes it comparable.
const MIDDLE: u32 = 1 << 15;

/// The entry of a bucket that goes first.
#[derive(Clone, Copy)]
pub struct Victim {
    /// Its [`class`], the order in which it came, whether its bucket is flooded, its way. The
    /// least goes first.
    key: u32,
    /// The generation of what comes in its place, less one, in the upper half.
    generation: u32,
}

impl Victim {
    /// As one number.
    #[inline(always)]
    #[must_use]
    pub const fn packed(self) -> u64 {
        (self.generation as u64) << 32 | self.key as u64
    }

    /// From one number.
    #[inline(always)]
    #[must_use]
    pub const fn unpacked(packed: u64) -> Self {
        Self {
            key: packed as u32,
            generation: (packed >> 32) as u32,
        }
    }

    /// The same, which the compiler does not know.
    #[inline(always)]
    pub(crate) fn veiled<S: Store>(self, store: &S) -> Self {
        Self {
            key: store.veiled(self.key),
            ..self
        }
    }

    #[inline(always)]
    pub(crate) const fn class(self) -> u32 {
        self.key >> CLASS_SHIFT
    }

    #[inline(always)]
    pub(crate) const fn is_of_flood(self) -> bool {
        self.class() == class::CROWD && self.key & FLOODED != 0
    }

    #[inline(always)]
    const fn way(self) -> u32 {
        self.key & (WAYS as u32 - 1)
    }
}

/// What it is counted by when something in this state gives way.
#[inline(always)]
fn reason_of(class: u32, state: u32) -> Reason {
    match class {
        _ if state == state::TEMPLATE => Reason::EvictedTemplate,
        class::CLOSED => Reason::EvictedClosed,
        class::IDLE => Reason::EvictedIdle,
        _ => Reason::EvictedHalfOpen,
    }
}

/// The same for a connection in this state that can't be without what gives way.
#[inline(always)]
pub(crate) fn reason_without(state: u32) -> Reason {
    if (CLOSED >> (state & state_word::STATE)) & 1 == 1 {
        Reason::EvictedClosed
    } else {
        Reason::EvictedHalfOpen
    }
}

/// True: something with this state word stays, whatever it was just now.
#[inline(always)]
const fn stays(word: u32) -> bool {
    const ASSURED: u32 = state::TRANSLATED | state_word::ASSURED;
    state::is_established(word) || word & (state_word::STATE | state_word::ASSURED) == ASSURED
}

/// 1 if the numbers are the same, else 0.
#[inline(always)]
fn same<S: Store>(store: &S, a: u32, b: u32) -> u32 {
    let difference = a ^ b;
    let differs = (difference | store.veiled(difference.wrapping_neg())) >> 31;
    1 ^ store.veiled(differs)
}

/// `a` where `which` is 1, `b` where it is 0.
#[inline(always)]
const fn select(which: u32, a: u32, b: u32) -> u32 {
    b ^ ((a ^ b) & which.wrapping_neg())
}

/// 1 if `a` is less, else 0; both below 2³¹.
#[inline(always)]
fn less<S: Store>(store: &S, a: u32, b: u32) -> u32 {
    store.veiled(a.wrapping_sub(b) >> 31)
}

/// Closed on both sides, or as good as that.
const CLOSED: u32 = 1 << state::CLOSE
    | 1 << state::TIME_WAIT
    | 1 << state::LAST_ACK
    | 1 << state::FRAGMENT
    | 1 << state::SCTP_CLOSED
    | 1 << state::SCTP_REJECTED;
/// Not established yet, whatever was answered.
const HALF_OPEN: u32 = state::HALF_OPEN | 1 << state::LOCALITY;
/// The same as long as nothing was answered. A template is answered when one of its
/// connections was established, and a translated source when its connection is: a flood
/// makes as many of these.
const UNANSWERED: u32 = 1 << state::UDP | 1 << state::TEMPLATE | 1 << state::TRANSLATED;
/// Silent ones go.
const IDLE: u32 = 1 << state::UDP
    | 1 << state::FIN_WAIT
    | 1 << state::CLOSE_WAIT
    | 1 << state::SCTP_SHUTDOWN_SENT
    | 1 << state::SCTP_SHUTDOWN_RECEIVED
    | 1 << state::SCTP_SHUTDOWN_ACK_SENT
    | 1 << state::TEMPLATE;

/// In the lowest bit whether a state is one of a set, which the compiler does not know:
/// it would make branches of it.
#[inline(always)]
fn is_one<S: Store>(store: &S, set: u32, word: u32) -> u32 {
    store.veiled(set) >> (word & state_word::STATE)
}

/// 1 if an entry with this state word is half-open, else 0.
#[inline(always)]
fn is_half_open<S: Store>(store: &S, word: u32) -> u32 {
    const ANSWERED: u32 = state_word::ANSWERED.trailing_zeros();
    const ASSURED: u32 = state_word::ASSURED.trailing_zeros();
    let answered = word >> ANSWERED | word >> ASSURED;
    (is_one(store, HALF_OPEN, word) | is_one(store, UNANSWERED, word) & !answered) & 1
}

/// 1 if an entry is silent for long and may go therefore, else 0.
#[inline(always)]
fn is_idle<S: Store>(store: &S, word: u32, seen: u32, now: u32) -> u32 {
    let age = now.wrapping_sub(seen) & 0x7fff_ffff;
    is_one(store, IDLE, word) & less(store, IDLE_TICKS, age)
}

/// The service that has more than half of a bucket's half-open entries; one that is none:
/// there is no such. By two elections: in the first those for different services take
/// each other out, and who is left is the only one that can have the majority.
/// With [`LARGE`] if it has many.
#[inline(always)]
fn crowd<S: Store, B: Buckets>(store: &S, bucket: &B) -> u32 {
    const NOBODY: u32 = 1 << 16;
    let (mut candidate, mut lead) = (NOBODY, 0);
    for way in 0..WAYS {
        let entry = &bucket.entries()[way];
        let votes = is_half_open(store, entry.state().get());
        let service = entry.service().get() & 0xffff;
        candidate = select(votes & same(store, lead, 0), service, candidate);
        let is_for = same(store, service, candidate);
        lead = lead.wrapping_add(votes & is_for);
        lead = lead.wrapping_sub(votes & !is_for);
    }
    let (mut all, mut own) = (0, 0);
    for way in 0..WAYS {
        let entry = &bucket.entries()[way];
        let votes = is_half_open(store, entry.state().get());
        all += votes;
        own += votes & same(store, entry.service().get() & 0xffff, candidate);
    }
    let large = less(store, FLOOD - 1, own) * LARGE;
    select(less(store, all, 2 * own), candidate | large, NOBODY)
}

/// The entry of a full bucket that goes first, [packed](Victim::packed).
#[inline(always)]
pub fn first<S: Store, B: Buckets>(store: &S, bucket: u32) -> u64 {
    let Some(bucket) = B::of(store, bucket) else {
        return u64::from(class::KEPT << CLASS_SHIFT);
    };
    let now = store.tick();
    let crowd = crowd::<S, B>(store, bucket);
    // Generations go in a circle; seen from one of them, they are in a row.
    let reference = bucket.entries()[0].state().get() >> GENERATION_SHIFT;
    let mut key = class::KEPT << CLASS_SHIFT;
    let mut newest = 0;
    for way in 0..WAYS {
        let entry = &bucket.entries()[way];
        let word = entry.state().get();
        let half_open = is_half_open(store, word);
        let of_crowd = half_open
            & same(
                store,
                ((entry.service().get() & 0xffff) ^ crowd) & (LARGE - 1),
                0,
            );
        let idle = is_idle(store, word, entry.seen().get(), now) & !half_open;
        let class = class::KEPT
            - class::KEPT * (is_one(store, CLOSED, word) & 1)
            - (class::KEPT - class::HALF_OPEN) * half_open
            - (class::HALF_OPEN - class::CROWD) * of_crowd
            - (class::KEPT - class::IDLE) * idle;
        let generation = word >> GENERATION_SHIFT;
        let order = generation.wrapping_sub(reference).wrapping_add(MIDDLE) & 0xffff;
        let this = class << CLASS_SHIFT | order << ORDER_SHIFT | way as u32;
        key = select(less(store, this, key), this, key);
        let counted = order * half_open;
        newest = select(less(store, newest, counted), counted, newest);
    }
    let own = key >> ORDER_SHIFT & 0xffff;
    let newest = select(less(store, newest, own), own, newest);
    let generation = newest.wrapping_add(reference).wrapping_sub(MIDDLE);
    let victim = Victim {
        key: key | (crowd / LARGE * FLOODED),
        generation: generation << GENERATION_SHIFT,
    };
    victim.packed()
}

/// Gives the place of an entry of a full bucket to what has this signature. Says which, as
/// [`table::claim`] does, and in the upper half 1 + the server whose connection it was; 0:
/// it stays.
#[inline(always)]
pub fn evict<S: Store, B: Buckets>(store: &S, bucket: u32, victim: Victim, signature: u32) -> u64 {
    let Some(bucket) = B::of(store, bucket) else {
        return 0;
    };
    let found = table::at::<S, B>(store, bucket, victim.way() as usize);
    let word = found.entry.state().get();
    let state = word & state_word::STATE;
    // It may have become established since; then it stays.
    if victim.class() == class::KEPT
        || stays(word)
        || state == state::FREE
        || !store.compare_and_swap(found.entry.state(), word, victim.generation)
    {
        return 0;
    }
    let server = found.entry.server().get();
    load::leave(store, server, state);
    if state == state::TRANSLATED {
        // Counted is its connection, if it still has one.
        B::lose(store, found.entry);
    } else {
        crate::count_reason(store, reason_of(victim.class(), state));
    }
    let sign = &bucket.signatures()[found.way];
    let old = sign.get();
    if !store.compare_and_swap(sign, old, old & OVERFLOWED | signature) {
        return 0;
    }
    u64::from(server + 1) << 32 | table::location(&found)
}

const _: () = assert!(WAYS == 16);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_established_stays() {
        for state in 0..32 {
            let is_established = matches!(state, state::ESTABLISHED | state::SCTP_ESTABLISHED);
            assert_eq!(stays(7 << 16 | state), is_established);
            let is_kept = is_established || state == state::TRANSLATED;
            assert_eq!(stays(7 << 16 | state_word::ASSURED | state), is_kept);
        }
    }
}
