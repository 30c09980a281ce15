//! Where rings stand in the ring memory: a buddy allocator, so that rings of any
//! size come and go for years without fragmenting it.

use alloc::collections::{BTreeSet, VecDeque};
use alloc::vec::Vec;

/// Smallest block: 4 words.
const ORDER_MIN: u8 = 2;

/// `1 << order` words beginning at `base`, a multiple of its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Block {
    pub base: u32,
    pub order: u8,
}

/// The ring memory.
#[derive(Debug)]
pub(super) struct Rings {
    /// Free blocks by order.
    free: Vec<BTreeSet<u32>>,
    /// Blocks that packets may still be reading, oldest first, and when they were
    /// given up (ms).
    resting: VecDeque<(u64, Block)>,
}

/// Order of the block that a ring of so many words needs.
pub(super) fn order_for(words: u32) -> u8 {
    let words = u64::from(words).next_power_of_two();
    (words.trailing_zeros() as u8).max(ORDER_MIN)
}

impl Rings {
    /// All of `words` words free.
    pub(super) fn new(words: u32) -> Self {
        let mut rings = Self {
            free: (0..=32).map(|_| BTreeSet::new()).collect(),
            resting: VecDeque::new(),
        };
        let mut base = 0;
        while words - base >= 1 << ORDER_MIN {
            let largest = (words - base).ilog2();
            let order = largest.min(if base == 0 { 31 } else { base.trailing_zeros() });
            rings.free[order as usize].insert(base);
            base += 1 << order;
        }
        rings
    }

    /// A block, or nothing when there is none.
    pub(super) fn allocate(&mut self, order: u8) -> Option<Block> {
        let found = (order..32).find(|&o| !self.free[usize::from(o)].is_empty())?;
        let base = self.free[usize::from(found)].pop_first()?;
        self.split(Block { base, order: found }, base, order);
        Some(Block { base, order })
    }

    /// Takes this very block. False: it is not free.
    pub(super) fn reserve(&mut self, block: Block) -> bool {
        if block.order >= 32 || !block.base.is_multiple_of(1 << block.order) {
            return false;
        }
        for order in block.order..32 {
            let base = block.base & !((1u32 << order) - 1);
            if self.free[usize::from(order)].remove(&base) {
                self.split(Block { base, order }, block.base, block.order);
                return true;
            }
        }
        false
    }

    /// Gives back the parts of `whole` other than the block of `order` at `base`.
    fn split(&mut self, whole: Block, base: u32, order: u8) {
        let mut at = whole.base;
        for half in (order..whole.order).rev() {
            let middle = at + (1 << half);
            if base < middle {
                self.free[usize::from(half)].insert(middle);
            } else {
                self.free[usize::from(half)].insert(at);
                at = middle;
            }
        }
    }

    /// Gives back a block that no packet has ever seen.
    pub(super) fn free(&mut self, block: Block) {
        let Block {
            mut base,
            mut order,
        } = block;
        while order < 31 && self.free[usize::from(order)].remove(&(base ^ (1 << order))) {
            base &= !(1 << order);
            order += 1;
        }
        self.free[usize::from(order)].insert(base);
    }

    /// Gives back a block that packets may be reading at this moment.
    pub(super) fn rest(&mut self, block: Block, now_ms: u64) {
        self.resting.push_back((now_ms, block));
    }

    /// Frees what was given up at or before `until_ms`.
    pub(super) fn release(&mut self, until_ms: u64) {
        while let Some(&(since, block)) = self.resting.front()
            && since <= until_ms
        {
            self.resting.pop_front();
            self.free(block);
        }
    }

    /// When the newest resting block was given up.
    pub(super) fn newest_rest(&self) -> Option<u64> {
        self.resting.back().map(|&(since, _)| since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn free_words(rings: &Rings) -> u64 {
        rings
            .free
            .iter()
            .enumerate()
            .map(|(order, set)| (set.len() as u64) << order)
            .sum()
    }

    #[test]
    fn all_words_are_usable_whatever_their_number() {
        assert_eq!(free_words(&Rings::new(1000)), 1000);
        assert_eq!(free_words(&Rings::new(1 << 20)), 1 << 20);
        assert_eq!(free_words(&Rings::new(3)), 0);
    }

    #[test]
    fn a_block_has_room_for_its_ring() {
        assert_eq!(order_for(1), 2);
        assert_eq!(order_for(4), 2);
        assert_eq!(order_for(5), 3);
        assert_eq!(order_for(2 + 2 * 4093), 13);
        assert_eq!(order_for(16_384), 14);
        assert_eq!(order_for(16_385), 15);
    }

    #[test]
    fn rest_ends_in_time() {
        let mut rings = Rings::new(4);
        let block = rings.allocate(2).unwrap();
        rings.rest(block, 5000);
        rings.release(4999);
        assert_eq!(rings.allocate(2), None);
        rings.release(5000);
        assert_eq!(rings.allocate(2), Some(block));
    }

    proptest! {
        #[test]
        fn blocks_never_overlap_and_all_come_back(
            words in 4u32..5000,
            steps in prop::collection::vec((0u8..8, any::<prop::sample::Index>()), 0..200),
        ) {
            let mut rings = Rings::new(words);
            let whole = free_words(&rings);
            let mut held: Vec<Block> = Vec::new();
            for (order, index) in steps {
                if order < 2 && !held.is_empty() {
                    let block = held.swap_remove(index.index(held.len()));
                    rings.free(block);
                } else if let Some(block) = rings.allocate(order.max(2)) {
                    prop_assert!(block.base + (1 << block.order) <= words);
                    for other in &held {
                        prop_assert!(
                            block.base + (1 << block.order) <= other.base
                                || other.base + (1 << other.order) <= block.base
                        );
                    }
                    held.push(block);
                }
            }
            // What an adopting director finds, it can reserve again.
            let mut again = Rings::new(words);
            for &block in &held {
                prop_assert!(again.reserve(block));
                prop_assert!(!again.reserve(block));
            }
            prop_assert_eq!(free_words(&again), free_words(&rings));
            for block in held {
                rings.free(block);
            }
            prop_assert_eq!(free_words(&rings), whole);
        }
    }
}
