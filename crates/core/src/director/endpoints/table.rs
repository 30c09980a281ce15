//! A table of endpoints as the director keeps it: where each key stands, and where a new
//! one fits. IPv4's and IPv6's differ in their keys alone.

use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt::Debug;

use evenkeel_datapath::layout::{ENDPOINT_PROBES, ENDPOINT_WAYS};

use super::Addresses;
use crate::director::write::Write;

/// What a table finds its values by.
pub(in crate::director) trait Key: Copy + Debug + Default + Eq {
    /// What stands in a slot that is free, but that a search has to pass.
    const TOMBSTONE: Self;

    /// Its hash; the low bits name the home bucket.
    fn home(self, seed: u64) -> u32;

    /// The bit of its address ([`evenkeel_datapath::layout::Addresses`]).
    fn address_bit(self, seed: u64) -> u32;

    /// The write that puts it into a slot.
    fn write(self, bucket: u32, slot: u32, value: u32) -> Write;
}

/// A slot of the table. With IPv4's keys it has 16 bytes, so that a bucket is a cache
/// line here too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Slot<K> {
    key: K,
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

impl<K> Slot<K> {
    const fn is_live(&self) -> bool {
        self.taken != FREE && self.taken < TOMBSTONE
    }

    const fn is_resting(&self) -> bool {
        self.taken & RESTING != 0
    }
}

/// How to take back one change.
#[derive(Clone, Copy, Debug)]
pub(in crate::director) enum Undo {
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
pub(in crate::director) struct Table<K> {
    seed: u64,
    mask: u32,
    slots: Vec<Slot<K>>,
    /// By bucket: keys beyond it, whose search passes it; resting ones count. A
    /// bucket that is passed has no slot that is [`FREE`].
    passed: Vec<u32>,
    resting: VecDeque<Rest>,
    rests: u32,
    /// Slots to be written.
    changed: Vec<u32>,
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

impl<K: Key> Table<K> {
    /// Empty, for `buckets` (a power of two).
    pub(in crate::director) fn new(buckets: usize, seed: u64) -> Self {
        Self {
            seed,
            mask: (buckets.max(1) - 1) as u32,
            slots: vec![Slot::default(); buckets * ENDPOINT_WAYS],
            passed: vec![0; buckets],
            resting: VecDeque::new(),
            rests: 0,
            changed: Vec::new(),
        }
    }

    /// The buckets that a search for `key` looks at, in order.
    fn way(&self, key: K) -> impl Iterator<Item = usize> + use<K> {
        let (home, mask) = (key.home(self.seed), self.mask);
        let probes = ENDPOINT_PROBES.min(self.passed.len()) as u32;
        (0..probes).map(move |probe| (home.wrapping_add(probe) & mask) as usize)
    }

    /// Buckets that a search for `key` passes before it finds it in slot `at`.
    fn passes(&self, key: K, at: usize) -> impl Iterator<Item = usize> + use<K> {
        let target = at / ENDPOINT_WAYS;
        self.way(key).take_while(move |&bucket| bucket != target)
    }

    /// Reads where a search for `key` begins. What comes of it means nothing; but what is
    /// read before it is needed is there when it is.
    pub(in crate::director) fn glance(&self, key: K) -> u32 {
        let home = (key.home(self.seed) & self.mask) as usize;
        self.slots
            .get(home * ENDPOINT_WAYS)
            .map_or(0, |slot| slot.taken)
    }

    /// Looks for `key`. A new one goes to the slot it was given up just now, else
    /// to the first on its way that nobody may be reading.
    fn search(&self, key: K) -> Search {
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
    pub(in crate::director) fn add(&mut self, key: K, value: u32) -> Option<Undo> {
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
    pub(in crate::director) fn remove(&mut self, key: K, now_ms: u64) -> Option<Undo> {
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
    pub(in crate::director) fn undo(&mut self, undo: Undo) {
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
    pub(in crate::director) fn release(&mut self, until_ms: u64) {
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
    pub(in crate::director) fn newest_rest(&self) -> Option<u64> {
        self.resting.back().map(|rest| rest.since_ms)
    }

    /// Gives `write` the writes for all changes since the last time: for what is there now,
    /// and then for what went. Addresses that packets do not know yet come first.
    pub(in crate::director) fn take_changes(
        &mut self,
        addresses: &mut Addresses,
        write: &mut impl FnMut(Write),
    ) {
        let changed = core::mem::take(&mut self.changed);
        let mut has_gone = false;
        for &at in &changed {
            let slot = &self.slots[at as usize];
            if slot.is_live() {
                if let Some(address) = addresses.know(slot.key) {
                    write(address);
                }
                write(Self::write(at, slot.key, slot.value));
            } else {
                has_gone = true;
            }
        }
        if !has_gone {
            return;
        }
        addresses.is_stale = true;
        for at in changed {
            let slot = &self.slots[at as usize];
            if !slot.is_live() {
                let free = slot.taken == FREE;
                let key = if free { K::default() } else { K::TOMBSTONE };
                write(Self::write(at, key, slot.value));
            }
        }
    }

    fn write(at: u32, key: K, value: u32) -> Write {
        let ways = ENDPOINT_WAYS as u32;
        key.write(at / ways, at % ways, value)
    }

    /// The keys that are there.
    pub(in crate::director) fn keys(&self) -> impl Iterator<Item = K> {
        let live = self.slots.iter().filter(|slot| slot.is_live());
        live.map(|slot| slot.key)
    }

    /// Notes what the memory holds: to be called for every slot before any edit.
    pub(in crate::director) fn note(&mut self, bucket: usize, slot: usize, key: K, value: u32) {
        let at = bucket * ENDPOINT_WAYS + slot;
        if key == K::TOMBSTONE || !self.way(key).any(|way| way == bucket) {
            self.slots[at].taken = TOMBSTONE;
            if key != K::TOMBSTONE {
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
    pub(in crate::director) fn settle(&mut self, wanted: &[(K, u32)]) -> bool {
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
    fn noted(&self, key: K) -> Option<usize> {
        self.way(key).find_map(|bucket| {
            let mut slots = bucket * ENDPOINT_WAYS..(bucket + 1) * ENDPOINT_WAYS;
            slots.find(|&at| {
                let slot = &self.slots[at];
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
    pub(in crate::director) fn reserve(&mut self, keys: usize) {
        self.changed.reserve(keys);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ADDRESS_WORDS, Wide};
    use super::*;
    use alloc::collections::BTreeMap;
    use proptest::prelude::*;

    const SEED: u64 = 0x9876_5432_10fe_dcb1;

    /// The memory's side: what packets see.
    struct Seen<K> {
        keys: Vec<K>,
        values: Vec<u32>,
        addresses: Vec<u32>,
    }

    impl<K: Key + Ord> Seen<K> {
        fn new(buckets: usize) -> Self {
            Self {
                keys: vec![K::default(); buckets * ENDPOINT_WAYS],
                values: vec![0; buckets * ENDPOINT_WAYS],
                addresses: vec![0; ADDRESS_WORDS],
            }
        }

        fn write(&mut self, table: &mut Table<K>, addresses: &mut Addresses, of: Of<K>) {
            let mut writes = VecDeque::new();
            table.take_changes(addresses, &mut |write| writes.push_back(write));
            for write in writes {
                self.apply(write, of);
            }
        }

        fn apply(&mut self, write: Write, of: Of<K>) {
            if let Some((bucket, slot, key, value)) = of(&write) {
                assert!(key == K::default() || key == K::TOMBSTONE || self.knows(key));
                let at = bucket as usize * ENDPOINT_WAYS + slot as usize;
                self.keys[at] = key;
                self.values[at] = value;
            } else if let Write::Addresses { first, words } = write {
                let first = first as usize;
                self.addresses[first..first + words.len()].copy_from_slice(&words);
            }
        }

        fn knows(&self, key: K) -> bool {
            let bit = key.address_bit(SEED);
            self.addresses[bit as usize / 32] >> (bit % 32) & 1 != 0
        }

        /// As the layout describes the search.
        fn find(&self, key: K) -> Option<u32> {
            if !self.knows(key) {
                return None;
            }
            let mask = self.keys.len() / ENDPOINT_WAYS - 1;
            for probe in 0..ENDPOINT_PROBES {
                let bucket = (key.home(SEED) as usize + probe) & mask;
                let slots = bucket * ENDPOINT_WAYS..(bucket + 1) * ENDPOINT_WAYS;
                if let Some(at) = slots.clone().find(|&at| self.keys[at] == key) {
                    return Some(self.values[at]);
                }
                if slots.clone().any(|at| self.keys[at] == K::default()) {
                    return None;
                }
            }
            None
        }
    }

    /// Bucket, slot, key and value of a write to this table.
    type Of<K> = fn(&Write) -> Option<(u32, u32, K, u32)>;

    fn narrow(write: &Write) -> Option<(u32, u32, u64, u32)> {
        match *write {
            Write::Endpoint {
                bucket,
                slot,
                key,
                value,
            } => Some((bucket, slot, key, value)),
            _ => None,
        }
    }

    fn wide(write: &Write) -> Option<(u32, u32, Wide, u32)> {
        match *write {
            Write::WideEndpoint {
                bucket,
                slot,
                address,
                key,
                value,
            } => Some((bucket, slot, Wide { address, key }, value)),
            _ => None,
        }
    }

    /// Keys that share addresses.
    const fn narrow_key(number: u64) -> u64 {
        (number % 11) << 32 | (number + 1) << 16 | 0x0600
    }

    const fn wide_key(number: u64) -> Wide {
        Wide {
            address: [0x0120, 0, 0, number as u32 % 11],
            key: number as u32 + 2,
        }
    }

    /// What is done with a key, whether it is taken back.
    type Step = (u8, u64, bool);

    fn check<K: Key + Ord>(
        buckets: usize,
        steps: Vec<Step>,
        key_of: fn(u64) -> K,
        of: Of<K>,
    ) -> Result<(), TestCaseError> {
        let mut table = Table::new(buckets, SEED);
        let mut addresses = Addresses::new(SEED);
        let mut seen = Seen::new(buckets);
        let mut model: BTreeMap<K, (u32, u32)> = BTreeMap::new();
        for (now, (step, number, take_back)) in steps.into_iter().enumerate() {
            let key = key_of(number);
            let now = now as u64;
            table.release(now.saturating_sub(5));
            let value = now as u32;
            if step < 5 {
                let Some(undo) = table.add(key, value) else {
                    prop_assert!(!model.contains_key(&key));
                    continue;
                };
                if take_back {
                    table.undo(undo);
                } else {
                    model.entry(key).or_insert((value, 0)).1 += 1;
                }
            } else if let Some(undo) = table.remove(key, now) {
                if take_back {
                    table.undo(undo);
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
            seen.write(&mut table, &mut addresses, of);
            if value.is_multiple_of(7) {
                if let Some(write) = addresses.forget(table.keys().map(|k| k.address_bit(SEED))) {
                    seen.apply(write, of);
                }
                let bits: u32 = seen.addresses.iter().map(|word| word.count_ones()).sum();
                prop_assert!(bits as usize <= model.len());
            }
            for key in (0..42).map(key_of) {
                prop_assert_eq!(seen.find(key), model.get(&key).map(|v| v.0));
            }
        }
        let model = model.into_iter().map(|(key, (value, _))| (key, value));
        adopts(&mut seen, model.collect(), key_of(99), of)
    }

    /// A table that is filled from the memory: one key is not wanted any more, one has
    /// another value, one is new.
    fn adopts<K: Key + Ord>(
        seen: &mut Seen<K>,
        mut wanted: Vec<(K, u32)>,
        new: K,
        of: Of<K>,
    ) -> Result<(), TestCaseError> {
        let buckets = seen.keys.len() / ENDPOINT_WAYS;
        let mut table = Table::new(buckets, SEED);
        let mut addresses = Addresses::new(SEED);
        addresses.note(seen.addresses.iter().copied());
        for (at, &key) in seen.keys.iter().enumerate() {
            if key != K::default() {
                table.note(at / ENDPOINT_WAYS, at % ENDPOINT_WAYS, key, seen.values[at]);
            }
        }
        if wanted.len() > 2 {
            wanted.pop();
            wanted[0].1 += 1;
            wanted[1].0 = new;
        }
        if table.settle(&wanted) {
            seen.write(&mut table, &mut addresses, of);
            for &(key, value) in &wanted {
                prop_assert_eq!(seen.find(key), Some(value));
            }
            let empty = |key: &&K| **key == K::default() || **key == K::TOMBSTONE;
            let free = seen.keys.iter().filter(empty).count();
            prop_assert_eq!(seen.keys.len() - free, wanted.len());
        }
        Ok(())
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        prop::collection::vec((0u8..8, 0u64..40, any::<bool>()), 1..120)
    }

    proptest! {
        /// Small tables, so that buckets overflow: what is in is found, with every
        /// step taken back now and then, and adopted again in the end.
        #[test]
        fn keys_are_found_until_they_are_removed(buckets in 0u32..4, steps in steps()) {
            check(1 << buckets, steps, narrow_key, narrow)?;
        }

        #[test]
        fn so_are_wide_ones(buckets in 0u32..4, steps in steps()) {
            check(1 << buckets, steps, wide_key, wide)?;
        }
    }
}
