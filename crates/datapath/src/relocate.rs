//! Moving entries from full buckets. Only what stands in its home bucket moves, and only to its sibling: who looks for a
//! connection looks in this order, so it finds it before, while, and after it moves. The
//! copy is made known first, then the original is given up by compare and swap of its
//! state; if that has changed meanwhile, the copy is taken back.

use crate::hash::Place;
use crate::host::Store;
use crate::layout::{Entry, WAYS, WideEntry, state_word};
use crate::table::{self, Buckets, Found, OVERFLOWED, Slot};
use crate::{load, state};

/// Gives a claimed way whose entry is dead to what has this signature.
#[inline(always)]
pub(crate) fn take_over<S: Store, B: Buckets>(
    store: &S,
    found: Found<'_, B>,
    signature: u32,
) -> bool {
    let word = &found.bucket.signatures()[found.way];
    let old = word.get();
    if store.compare_and_swap(word, old, old & OVERFLOWED | signature) {
        return true;
    }
    // Another CPU has marked the bucket at the same moment; once more is enough.
    let old = word.get();
    store.compare_and_swap(word, old, old & OVERFLOWED | signature)
}

/// Moves the entry at `way` of a bucket to its sibling if that has a way free. 1: it has
/// moved, and its way belongs to the caller; 0: it stays.
#[inline(always)]
pub fn relocate<S: Store, B: Buckets>(store: &S, bucket: u32, way: u32) -> u32 {
    let Some((from, place)) = leaving::<S, B>(store, bucket, way) else {
        return 0;
    };
    let Some(sibling) = B::of(store, place.sibling()) else {
        return 0;
    };
    match table::claim_free(store, sibling, place) {
        Some(to) => transfer(store, from, to),
        None => 0,
    }
}

/// As [`relocate`], where the sibling is full: one of its entries moves first.
#[inline(always)]
pub fn relocate_far<S: Store, B: Buckets>(store: &S, bucket: u32, way: u32) -> u32 {
    let Some((from, place)) = leaving::<S, B>(store, bucket, way) else {
        return 0;
    };
    let mut freed = WAYS as u32;
    for turn in 0..WAYS as u32 {
        if store.opaque(turn) >= WAYS as u32 {
            break;
        }
        if store.relocate::<B>(place.sibling(), turn) != 0 {
            freed = turn;
            break;
        }
    }
    if freed == WAYS as u32 {
        return 0;
    }
    let Some(sibling) = B::of(store, place.sibling()) else {
        return 0;
    };
    let to = table::at(store, sibling, freed as usize);
    if take_over(store, to, place.signature) {
        transfer(store, from, to)
    } else {
        0
    }
}

/// The live entry at `way` of a bucket, and its place, if that bucket is its home.
#[inline(always)]
fn leaving<S: Store, B: Buckets>(
    store: &S,
    bucket: u32,
    way: u32,
) -> Option<(Found<'_, B>, Place)> {
    let found: Found<'_, B> = table::at(store, B::of(store, bucket)?, way as usize);
    let place = B::place_of(store, found.entry);
    (can_move(found.entry) && B::is_same(store, place.bucket, bucket)).then_some((found, place))
}

/// True: the entry is live, and whole.
#[inline(always)]
fn can_move<E: Slot>(entry: &E) -> bool {
    match entry.state().get() & state_word::STATE {
        state::FREE => false,
        // The CPU that made it has yet to write this.
        state::TRANSLATED => entry.hop().get() != 0,
        _ => true,
    }
}

/// Moves a live entry to a claimed way of its sibling. 1: done; 0: it stays where it is,
/// and the way is free again.
#[inline(always)]
fn transfer<S: Store, B: Buckets>(store: &S, from: Found<'_, B>, to: Found<'_, B>) -> u32 {
    let word = from.entry.state().get();
    B::copy(from.entry, to.entry);
    table::mark_overflowed(store, from.bucket);
    let before = to.entry.state().get();
    let live =
        (before & !0xffff).wrapping_add(state_word::GENERATION) | word & !state_word::GENERATIONS;
    // It may have ended meanwhile, and what was copied may be another's.
    let is_ready = word & state_word::STATE != state::FREE
        && from.bucket.signatures()[0].get() & OVERFLOWED != 0
        && from.entry.state().get() == word
        && store.compare_and_swap(to.entry.state(), before, live);
    if !is_ready {
        table::clear_signature(store, &to.bucket.signatures()[to.way]);
        return 0;
    }
    if table::end_state(store, from.entry, word) {
        return 1;
    }
    take_back(store, to, live);
    0
}

/// Takes back a copy that was made known when the original's state changed. What the copy
/// has changed for its server meanwhile is undone; if it has ended by itself, it took with
/// it what counts for the original. The server's tree is left to the next change: the
/// kernel allows no more depth of calls.
#[inline(always)]
fn take_back<S: Store, B: Buckets>(store: &S, copy: Found<'_, B>, live: u32) {
    let server = copy.entry.server().get();
    let now = copy.entry.state().get();
    let is_same = (now ^ live) & state_word::GENERATIONS == 0;
    if is_same && table::end_state(store, copy.entry, now) {
        load::leave(store, server, now & state_word::STATE);
        table::clear_signature(store, &copy.bucket.signatures()[copy.way]);
    }
    load::join(store, server, live & state_word::STATE);
}

macro_rules! copy {
    ($name:ident, $entry:ty: $($field:ident)+) => {
        #[inline(always)]
        pub(crate) fn $name(from: &$entry, to: &$entry) {
            $(to.$field.set(from.$field.get());)+
        }
    };
}

copy!(copy_rest, WideEntry: client_port ports service server seen hop server_tag);
copy!(copy_narrow, Entry: client_address client_port service server seen hop server_tag);

#[inline(always)]
pub(crate) fn copy_wide(from: &WideEntry, to: &WideEntry) {
    for word in 0..4 {
        to.client_address[word].set(from.client_address[word].get());
        to.virtual_address[word].set(from.virtual_address[word].get());
    }
    copy_rest(from, to);
}
