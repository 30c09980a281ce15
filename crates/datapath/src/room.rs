//! Room for a new connection whose buckets are both full. Nearly every entry of a full
//! bucket has another bucket where it could stand as well, and some of those are not full:
//! an entry moves there, and the new connection takes its place. So a table fills almost
//! to its last entry; without this a connection would be refused at half of it.
//!
//! What is closed goes before anything moves. What a flood has opened stands in nearly
//! every bucket, and not much is done to keep it.

use crate::evict::{Victim, class};
use crate::hash::Place;
use crate::host::Store;
use crate::layout::WAYS;
use crate::relocate;
use crate::table::{self, Buckets, IN_SIBLING};

/// Entries of the home bucket that are tried in a flood: the rest gives way instead.
const FEW: u32 = 4;
/// All of the home bucket's and all of the sibling's entries.
const NEAR: u32 = 2 * WAYS as u32;
/// Those, and some whose siblings have to make room themselves.
const ALL: u32 = NEAR + 2;

/// Moves one of the first so many entries that may give way, and claims its place.
#[inline(always)]
fn by_moving<S: Store, B: Buckets>(store: &S, place: Place, turns: u32) -> u64 {
    let mut made = ALL;
    for turn in 0..ALL {
        if store.opaque(turn) >= turns {
            break;
        }
        let (bucket, way) = (bucket_of(place, turn), way_of(place, turn));
        let moved = if turn < NEAR {
            store.relocate::<B>(bucket, way)
        } else {
            store.relocate_far::<B>(bucket, way)
        };
        if moved != 0 {
            made = turn;
            break;
        }
    }
    let made = store.opaque(made);
    if made >= ALL {
        return 0;
    }
    let Some(bucket) = B::of(store, bucket_of(place, made)) else {
        return 0;
    };
    let found = table::at::<S, B>(store, bucket, way_of(place, made) as usize);
    if !relocate::take_over(store, found, place.signature) {
        return 0;
    }
    (u64::from(is_sibling(made)) * IN_SIBLING) | table::location(&found)
}

/// 1: this turn is about the sibling; 0: about the home bucket.
#[inline(always)]
const fn is_sibling(turn: u32) -> u32 {
    (turn / WAYS as u32) & 1
}

#[inline(always)]
const fn bucket_of(place: Place, turn: u32) -> u32 {
    let difference = place.bucket ^ place.sibling();
    place.bucket ^ difference & is_sibling(turn).wrapping_neg()
}

#[inline(always)]
const fn way_of(place: Place, turn: u32) -> u32 {
    (place.way() as u32).wrapping_add(turn) & (WAYS as u32 - 1)
}

/// Claims an entry whose connection moves or gives way. Says where, as [`table::claim`] does,
/// which was asked before and has marked the home bucket.
#[inline(always)]
pub fn make<S: Store, B: Buckets>(store: &S, place: Place) -> u64 {
    let victim = Victim::unpacked(store.first_to_go::<B>(place.bucket));
    let mut made = 0;
    if victim.class() > class::CLOSED {
        let turns = if victim.is_of_flood() { FEW } else { ALL };
        made = by_moving::<S, B>(store, place, turns);
    }
    if made != 0 {
        return made;
    }
    // Its class is told from it again: a value less to keep, and the kernel has 512 bytes
    // for all calls together.
    let mut victim = victim.veiled(store);
    let mut in_sibling = 0;
    // The sibling is looked through only where what would have to go at home is not what
    // goes first of all.
    if victim.class() > class::CROWD {
        let other = Victim::unpacked(store.first_to_go::<B>(place.sibling()));
        if other.class() < victim.class() {
            victim = other;
            in_sibling = 1;
        }
    }
    let bucket = bucket_of(place, in_sibling * WAYS as u32);
    let evicted = store.evict::<B>(bucket, victim, place.signature);
    if evicted == 0 {
        return 0;
    }
    evicted | (u64::from(in_sibling) * IN_SIBLING)
}

#[cfg(test)]
mod tests;
