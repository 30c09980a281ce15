//! The director's copy of the endpoint table: where each address and port stands,
//! and where a new one fits.

use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;

use super::write::Write;
use evenkeel_datapath::hash;
use evenkeel_datapath::layout::{ADDRESS_BITS, ENDPOINT_PROBES, ENDPOINT_TOMBSTONE, ENDPOINT_WAYS};

/// A slot of the table: 16 bytes, so that a bucket is a cache line here too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Slot {
    key: u64,
    value: u32,
    /// [`FREE`], [`TOMBSTONE`], [`RESTING`] with the number of its rest, else how
    /// many share the key.
    taken: u32,
}

/// Free; a search that comes by ends here.
const FREE: u32 = 0;
/// Free; a search that comes by goes on.
const TOMBSTONE: u32 = 1 << 30;
/// Given up; packets may be reading it at this moment.
const RESTING: u32 = 1 << 31;

impl Slot {
    const fn is_live(self) -> bool {
        self.taken != FREE && self.taken < TOMBSTONE
    }

    const fn is_resting(self) -> bool {
        self.taken & RESTING != 0
    }
}

/// How to take back one change.
#[derive(Clone, Copy, Debug)]
pub(super) enum Undo {
    /// A key got one more user.
    Use(u32),
    /// A key lost a user but not its place.
    Unuse(u32),
    /// A key was entered where nothing was.
    Enter { at: u32, tombstone: bool },
    /// A key came back to its place before its rest was over.
    Return { at: u32, value: u32, taken: u32 },
    /// A key was removed.
    Remove(u32),
}

/// A slot that packets may be reading.
#[derive(Clone, Copy, Debug)]
struct Rest {
    since_ms: u64,
    at: u32,
    /// What the slot says if it is still this rest.
    taken: u32,
}

/// The table.
#[derive(Debug)]
pub(super) struct Endpoints {
    seed: u64,
    mask: u32,
    slots: Vec<Slot>,
    /// By bucket: keys beyond it, whose search passes it; resting ones count. A
    /// bucket that is passed has no slot that is [`FREE`].
    passed: Vec<u32>,
    resting: VecDeque<Rest>,
    rests: u32,
    /// Slots to be written.
    changed: Vec<u32>,
    /// [`Addresses`](evenkeel_datapath::layout::Addresses) as the memory has it.
    addresses: Vec<u32>,
    /// Endpoints went, and bits of their addresses may be set without need.
    is_stale: bool,
}

/// Words of [`Addresses`](evenkeel_datapath::layout::Addresses).
const ADDRESS_WORDS: usize = ADDRESS_BITS as usize / 32;

/// The word of a key's address there, and its bit.
fn place_of_address(key: u64, seed: u64) -> (usize, u32) {
    let bit = hash::address((key >> 32) as u32, seed);
    (bit as usize / 32, 1 << (bit % 32))
}

/// What a search for a key comes to.
enum Search {
    /// It is there.
    Found(usize),
    /// It is not, and this is where it would go.
    Room(usize),
    /// It is not, and can not be.
    Full,
}

impl Endpoints {
    /// Empty, for `buckets` (a power of two).
    pub(super) fn new(buckets: usize, seed: u64) -> Self {
        Self {
            seed,
            mask: (buckets.max(1) - 1) as u32,
            slots: vec![Slot::default(); buckets * ENDPOINT_WAYS],
            passed: vec![0; buckets],
            resting: VecDeque::new(),
            rests: 0,
            changed: Vec::new(),
            addresses: vec![0; ADDRESS_WORDS],
            is_stale: false,
        }
    }

    /// The buckets that a search for `key` looks at, in order.
    fn way(&self, key: u64) -> impl Iterator<Item = usize> + use<> {
        let (home, mask) = (hash::endpoint(key, self.seed), self.mask);
        let probes = ENDPOINT_PROBES.min(self.passed.len()) as u32;
        (0..probes).map(move |probe| (home.wrapping_add(probe) & mask) as usize)
    }

    /// Buckets that a search for `key` passes before it finds it in slot `at`.
    fn passes(&self, key: u64, at: usize) -> impl Iterator<Item = usize> + use<> {
        let target = at / ENDPOINT_WAYS;
        self.way(key).take_while(move |&bucket| bucket != target)
    }

    /// Looks for `key`. A new one goes to the slot it was given up just now, else
    /// to the first on its way that nobody may be reading.
    fn search(&self, key: u64) -> Search {
        let mut room = None;
        let mut resting = None;
        for bucket in self.way(key) {
            let base = bucket * ENDPOINT_WAYS;
            let mut ends = false;
            for (at, slot) in (base..).zip(&self.slots[base..base + ENDPOINT_WAYS]) {
                if slot.taken == FREE {
                    ends = true;
                    room = room.or(Some(at));
                } else if slot.taken == TOMBSTONE {
                    room = room.or(Some(at));
                } else if slot.key == key {
                    if slot.is_live() {
                        return Search::Found(at);
                    }
                    resting = Some(at);
                }
            }
            if ends {
                break;
            }
        }
        resting.or(room).map_or(Search::Full, Search::Room)
    }

    /// Adds a user of `key`, and the key where it is not there. Nothing: no room.
    pub(super) fn add(&mut self, key: u64, value: u32) -> Option<Undo> {
        let at = match self.search(key) {
            Search::Found(at) => {
                self.slots[at].taken += 1;
                return Some(Undo::Use(at as u32));
            }
            Search::Room(at) => at,
            Search::Full => return None,
        };
        let before = self.slots[at];
        self.slots[at] = Slot {
            key,
            value,
            taken: 1,
        };
        let word = at as u32;
        self.changed.push(word);
        // A key that comes back to its place is still counted there.
        if before.is_resting() {
            let Slot { value, taken, .. } = before;
            return Some(Undo::Return {
                at: word,
                value,
                taken,
            });
        }
        for bucket in self.passes(key, at) {
            self.passed[bucket] += 1;
        }
        Some(Undo::Enter {
            at: word,
            tombstone: before.taken == TOMBSTONE,
        })
    }

    /// Takes a user from `key`; the last one takes its place along.
    pub(super) fn remove(&mut self, key: u64, now_ms: u64) -> Option<Undo> {
        let Search::Found(at) = self.search(key) else {
            return None;
        };
        let slot = &mut self.slots[at];
        if slot.taken > 1 {
            slot.taken -= 1;
            return Some(Undo::Unuse(at as u32));
        }
        self.rests = self.rests.wrapping_add(1);
        slot.taken = RESTING | self.rests;
        let (at, taken) = (at as u32, slot.taken);
        self.resting.push_back(Rest {
            since_ms: now_ms,
            at,
            taken,
        });
        self.changed.push(at);
        Some(Undo::Remove(at))
    }

    /// Takes back the last change that was not taken back.
    pub(super) fn undo(&mut self, undo: Undo) {
        match undo {
            Undo::Use(at) => self.slots[at as usize].taken -= 1,
            Undo::Unuse(at) => self.slots[at as usize].taken += 1,
            Undo::Enter { at, tombstone } => {
                let slot = &mut self.slots[at as usize];
                let key = slot.key;
                *slot = Slot {
                    taken: if tombstone { TOMBSTONE } else { FREE },
                    ..Slot::default()
                };
                self.changed.pop();
                for bucket in self.passes(key, at as usize) {
                    self.passed[bucket] -= 1;
                }
            }
            Undo::Return { at, value, taken } => {
                let slot = &mut self.slots[at as usize];
                slot.value = value;
                slot.taken = taken;
                self.changed.pop();
            }
            Undo::Remove(at) => {
                // What rests in the queue under this slot is stale now, and is
                // recognised as such when its time comes.
                self.slots[at as usize].taken = 1;
                self.changed.pop();
            }
        }
    }

    /// Frees what was given up at or before `until_ms`.
    pub(super) fn release(&mut self, until_ms: u64) {
        while let Some(&Rest {
            since_ms,
            at,
            taken,
        }) = self.resting.front()
            && since_ms <= until_ms
        {
            self.resting.pop_front();
            let at = at as usize;
            if self.slots[at].taken != taken {
                continue;
            }
            self.slots[at].taken = TOMBSTONE;
            for bucket in self.passes(self.slots[at].key, at) {
                self.passed[bucket] -= 1;
                self.clear_tombstones(bucket);
            }
            self.clear_tombstones(at / ENDPOINT_WAYS);
        }
    }

    /// Once nothing stands beyond a bucket, its tombstones need not be there.
    fn clear_tombstones(&mut self, bucket: usize) {
        if self.passed[bucket] > 0 {
            return;
        }
        for at in bucket * ENDPOINT_WAYS..(bucket + 1) * ENDPOINT_WAYS {
            if self.slots[at].taken == TOMBSTONE {
                self.slots[at] = Slot::default();
                self.changed.push(at as u32);
            }
        }
    }

    /// When the newest resting slot was given up.
    pub(super) fn newest_rest(&self) -> Option<u64> {
        self.resting.back().map(|rest| rest.since_ms)
    }

    /// The writes for all changes since the last time: for what is there now, and
    /// for what went.
    pub(super) fn take_changes(&mut self) -> (Vec<Write>, Vec<Write>) {
        let changed = core::mem::take(&mut self.changed);
        let mut there = Vec::with_capacity(changed.len());
        let mut gone = Vec::new();
        for at in changed {
            let slot = self.slots[at as usize];
            let key = if slot.is_live() {
                slot.key
            } else if slot.taken == FREE {
                0
            } else {
                ENDPOINT_TOMBSTONE
            };
            let write = Write::Endpoint {
                bucket: at / ENDPOINT_WAYS as u32,
                slot: at % ENDPOINT_WAYS as u32,
                key,
                value: slot.value,
            };
            if slot.is_live() {
                there.extend(self.know(slot.key));
                there.push(write);
            } else {
                self.is_stale = true;
                gone.push(write);
            }
        }
        (there, gone)
    }

    /// The write for a key's address, if it is a new one. It has to come before the
    /// key's own: packets look for no address that they do not know.
    fn know(&mut self, key: u64) -> Option<Write> {
        let (word, mask) = place_of_address(key, self.seed);
        let present = &mut self.addresses[word];
        if *present & mask != 0 {
            return None;
        }
        *present |= mask;
        Some(Write::Addresses {
            first: word as u32,
            words: vec![*present],
        })
    }

    /// Forgets the addresses that no endpoint has any more. To be called when all
    /// changes are taken.
    pub(super) fn forget_addresses(&mut self) -> Option<Write> {
        if !core::mem::take(&mut self.is_stale) {
            return None;
        }
        let mut words = vec![0; ADDRESS_WORDS];
        for slot in self.slots.iter().filter(|slot| slot.is_live()) {
            let (word, mask) = place_of_address(slot.key, self.seed);
            words[word] |= mask;
        }
        if words == self.addresses {
            return None;
        }
        self.addresses.clone_from(&words);
        Some(Write::Addresses { first: 0, words })
    }

    /// Notes which addresses the memory holds: to be called before any edit.
    pub(super) fn note_addresses(&mut self, words: impl IntoIterator<Item = u32>) {
        for (present, word) in self.addresses.iter_mut().zip(words) {
            *present = word;
        }
        self.is_stale = true;
    }

    /// Notes what the memory holds: to be called for every slot before any edit.
    pub(super) fn note(&mut self, bucket: usize, slot: usize, key: u64, value: u32) {
        let at = bucket * ENDPOINT_WAYS + slot;
        if key == ENDPOINT_TOMBSTONE || !self.way(key).any(|way| way == bucket) {
            self.slots[at].taken = TOMBSTONE;
            if key != ENDPOINT_TOMBSTONE {
                // It does not belong where it stands.
                self.changed.push(at as u32);
            }
            return;
        }
        // Without a user yet, and not usable for another.
        self.slots[at] = Slot {
            key,
            value,
            taken: RESTING,
        };
    }

    /// Ends the notes: keys without a user go, and so does what stands twice; what
    /// a search would not come to is made to be found. `wanted` are the keys in
    /// use, a value each time. False: there is no room for one of them.
    pub(super) fn settle(&mut self, wanted: &[(u64, u32)]) -> bool {
        let mut missing = Vec::new();
        for &(key, value) in wanted {
            let Some(at) = self.noted(key) else {
                missing.push((key, value));
                continue;
            };
            let slot = &mut self.slots[at];
            slot.taken = if slot.is_live() { slot.taken + 1 } else { 1 };
            if slot.value != value {
                slot.value = value;
                self.changed.push(at as u32);
            }
        }
        for (at, slot) in (0..).zip(&mut self.slots) {
            if slot.taken == RESTING {
                slot.taken = TOMBSTONE;
                self.changed.push(at);
            }
        }
        self.count_passes();
        let complete = missing
            .into_iter()
            .all(|(key, value)| self.add(key, value).is_some());
        for bucket in 0..self.passed.len() {
            self.clear_tombstones(bucket);
        }
        complete
    }

    /// Where a key was noted first.
    fn noted(&self, key: u64) -> Option<usize> {
        self.way(key).find_map(|bucket| {
            let mut slots = bucket * ENDPOINT_WAYS..(bucket + 1) * ENDPOINT_WAYS;
            slots.find(|&at| {
                let slot = self.slots[at];
                slot.key == key && slot.taken != FREE && slot.taken != TOMBSTONE
            })
        })
    }

    /// Counts the keys beyond each bucket, and closes gaps on their way.
    fn count_passes(&mut self) {
        for at in 0..self.slots.len() {
            if !self.slots[at].is_live() {
                continue;
            }
            for bucket in self.passes(self.slots[at].key, at) {
                self.passed[bucket] += 1;
                for gap in bucket * ENDPOINT_WAYS..(bucket + 1) * ENDPOINT_WAYS {
                    if self.slots[gap].taken == FREE {
                        self.slots[gap].taken = TOMBSTONE;
                        self.changed.push(gap as u32);
                    }
                }
            }
        }
    }

    /// Makes room for this many additions at once.
    pub(super) fn reserve(&mut self, keys: usize) {
        self.changed.reserve(keys);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeMap;
    use proptest::prelude::*;

    /// The memory's side: what packets see.
    struct Table {
        keys: Vec<u64>,
        values: Vec<u32>,
        addresses: Vec<u32>,
    }

    impl Table {
        fn new(buckets: usize) -> Self {
            Self {
                keys: vec![0; buckets * ENDPOINT_WAYS],
                values: vec![0; buckets * ENDPOINT_WAYS],
                addresses: vec![0; ADDRESS_WORDS],
            }
        }

        fn write(&mut self, endpoints: &mut Endpoints) {
            let (there, gone) = endpoints.take_changes();
            for write in there.into_iter().chain(gone) {
                self.apply(write, endpoints.seed);
            }
        }

        fn apply(&mut self, write: Write, seed: u64) {
            match write {
                Write::Endpoint {
                    bucket,
                    slot,
                    key,
                    value,
                } => {
                    assert!(key <= ENDPOINT_TOMBSTONE || self.knows(key, seed));
                    let at = bucket as usize * ENDPOINT_WAYS + slot as usize;
                    self.keys[at] = key;
                    self.values[at] = value;
                }
                Write::Addresses { first, words } => {
                    let first = first as usize;
                    self.addresses[first..first + words.len()].copy_from_slice(&words);
                }
                _ => {}
            }
        }

        fn knows(&self, key: u64, seed: u64) -> bool {
            let (word, mask) = place_of_address(key, seed);
            self.addresses[word] & mask != 0
        }

        /// As the layout describes the search.
        fn find(&self, key: u64, seed: u64) -> Option<u32> {
            if !self.knows(key, seed) {
                return None;
            }
            let mask = self.keys.len() / ENDPOINT_WAYS - 1;
            for probe in 0..ENDPOINT_PROBES {
                let bucket = (hash::endpoint(key, seed) as usize + probe) & mask;
                let slots = bucket * ENDPOINT_WAYS..(bucket + 1) * ENDPOINT_WAYS;
                if let Some(at) = slots.clone().find(|&at| self.keys[at] == key) {
                    return Some(self.values[at]);
                }
                if slots.clone().any(|at| self.keys[at] == 0) {
                    return None;
                }
            }
            None
        }
    }

    /// Some keys that share addresses.
    const fn key_of(number: u64) -> u64 {
        (number % 11) << 32 | (number + 1) << 16 | 0x0600
    }

    proptest! {
        /// Small tables, so that buckets overflow: what is in is found, with every
        /// step taken back now and then, and adopted again in the end.
        #[test]
        fn keys_are_found_until_they_are_removed(
            buckets in 0u32..4,
            steps in prop::collection::vec((0u8..8, 0u64..40, any::<bool>()), 1..120),
        ) {
            let seed = 0x9876_5432_10fe_dcb1;
            let buckets = 1 << buckets;
            let mut endpoints = Endpoints::new(buckets, seed);
            let mut table = Table::new(buckets);
            let mut model: BTreeMap<u64, (u32, u32)> = BTreeMap::new();
            for (now, (step, key, take_back)) in steps.into_iter().enumerate() {
                let key = key_of(key);
                let now = now as u64;
                endpoints.release(now.saturating_sub(5));
                let value = now as u32;
                if step < 5 {
                    let Some(undo) = endpoints.add(key, value) else {
                        prop_assert!(!model.contains_key(&key));
                        continue;
                    };
                    if take_back {
                        endpoints.undo(undo);
                    } else {
                        model.entry(key).or_insert((value, 0)).1 += 1;
                    }
                } else if let Some(undo) = endpoints.remove(key, now) {
                    if take_back {
                        endpoints.undo(undo);
                    } else {
                        let users = model.get_mut(&key).unwrap();
                        users.1 -= 1;
                        if users.1 == 0 {
                            model.remove(&key);
                        }
                    }
                } else {
                    prop_assert!(!model.contains_key(&key));
                }
                table.write(&mut endpoints);
                if value.is_multiple_of(7)
                    && let Some(write) = endpoints.forget_addresses()
                {
                    table.apply(write, seed);
                    let bits: u32 = table.addresses.iter().map(|word| word.count_ones()).sum();
                    prop_assert!(bits as usize <= model.len());
                }
                for key in (0..42).map(key_of) {
                    prop_assert_eq!(table.find(key, seed), model.get(&key).map(|v| v.0));
                }
            }
            let mut adopted = Endpoints::new(buckets, seed);
            adopted.note_addresses(table.addresses.iter().copied());
            for (at, &key) in table.keys.iter().enumerate().filter(|(_, k)| **k != 0) {
                adopted.note(at / ENDPOINT_WAYS, at % ENDPOINT_WAYS, key, table.values[at]);
            }
            // One key is not wanted any more, one has another value, one is new.
            let mut wanted: Vec<(u64, u32)> = model.iter().map(|(k, v)| (*k, v.0)).collect();
            if wanted.len() > 2 {
                wanted.pop();
                wanted[0].1 += 1;
                wanted[1].0 += 1 << 40;
            }
            if adopted.settle(&wanted) {
                table.write(&mut adopted);
                for &(key, value) in &wanted {
                    prop_assert_eq!(table.find(key, seed), Some(value));
                }
                let live = table.keys.iter().filter(|&&k| k > ENDPOINT_TOMBSTONE).count();
                prop_assert_eq!(live, wanted.len());
            }
        }
    }
}
