//! The director's copy of the endpoint table: where each address and port stands,
//! and where a new one fits.

use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;

use evenkeel_datapath::hash;
use evenkeel_datapath::layout::{ENDPOINT_PROBES, ENDPOINT_TOMBSTONE, ENDPOINT_WAYS};
use hashbrown::HashMap;

use super::write::Write;

/// What a slot is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Use {
    /// Free; a search that comes by ends here.
    #[default]
    Free,
    /// Free; a search that comes by goes on.
    Tombstone,
    /// Taken.
    Live,
    /// Given up; packets may be reading it at this moment.
    Resting,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    key: u64,
    value: u32,
    taken: Use,
    /// When it was given up (ms).
    since_ms: u64,
}

/// A key's place and how many users it has.
#[derive(Clone, Copy, Debug)]
struct Place {
    slot: u32,
    users: u32,
}

/// How to take back one change.
#[derive(Clone, Copy, Debug)]
pub(super) enum Undo {
    /// A key got one more user.
    Use(u64),
    /// A key lost a user but not its place.
    Unuse(u64),
    /// A key was entered; the slot was this before.
    Enter {
        at: u32,
        before: EndpointBefore,
        key: u64,
    },
    /// A key was removed.
    Remove { at: u32, key: u64 },
}

/// A slot before a change.
#[derive(Clone, Copy, Debug)]
pub(super) struct EndpointBefore(Slot);

/// The table.
#[derive(Debug)]
pub(super) struct Endpoints {
    seed: u64,
    mask: u32,
    slots: Vec<Slot>,
    /// By bucket: keys beyond it, whose search passes it. Resting ones count.
    passed: Vec<u32>,
    places: HashMap<u64, Place>,
    resting: VecDeque<(u64, u32)>,
    /// Slots to be written.
    changed: Vec<u32>,
}

impl Endpoints {
    /// Empty, for `buckets` (a power of two).
    pub(super) fn new(buckets: usize, seed: u64) -> Self {
        Self {
            seed,
            mask: (buckets.max(1) - 1) as u32,
            slots: vec![Slot::default(); buckets * ENDPOINT_WAYS],
            passed: vec![0; buckets],
            places: HashMap::new(),
            resting: VecDeque::new(),
            changed: Vec::new(),
        }
    }

    fn bucket(&self, key: u64, probe: usize) -> usize {
        (hash::endpoint(key, self.seed).wrapping_add(probe as u32) & self.mask) as usize
    }

    /// Buckets that a search for `key` passes before it finds it in slot `at`.
    fn passes(&self, key: u64, at: u32) -> impl Iterator<Item = usize> + use<> {
        let (home, mask) = (hash::endpoint(key, self.seed), self.mask);
        let target = at as usize / ENDPOINT_WAYS;
        (0..ENDPOINT_PROBES as u32)
            .map(move |probe| (home.wrapping_add(probe) & mask) as usize)
            .take_while(move |&bucket| bucket != target)
    }

    /// Adds a user of `key`, and the key where it is not there. Nothing: no room.
    pub(super) fn add(&mut self, key: u64, value: u32) -> Option<Undo> {
        if let Some(place) = self.places.get_mut(&key) {
            place.users += 1;
            return Some(Undo::Use(key));
        }
        let at = self.room(key)?;
        let slot = &mut self.slots[at as usize];
        let before = EndpointBefore(*slot);
        // A key that comes back to its place is still counted there.
        let returns = slot.taken == Use::Resting;
        *slot = Slot {
            key,
            value,
            taken: Use::Live,
            since_ms: 0,
        };
        if !returns {
            for bucket in self.passes(key, at) {
                self.passed[bucket] += 1;
            }
        }
        self.places.insert(key, Place { slot: at, users: 1 });
        self.changed.push(at);
        Some(Undo::Enter { at, before, key })
    }

    /// The slot for a new key: its own, if it was given up just now, else the first
    /// on its way that nobody may be reading.
    fn room(&self, key: u64) -> Option<u32> {
        let mut first = None;
        for probe in 0..ENDPOINT_PROBES.min(self.passed.len()) {
            let bucket = self.bucket(key, probe);
            let base = bucket * ENDPOINT_WAYS;
            for at in base..base + ENDPOINT_WAYS {
                match self.slots[at].taken {
                    Use::Resting if self.slots[at].key == key => return Some(at as u32),
                    Use::Free | Use::Tombstone if first.is_none() => first = Some(at as u32),
                    _ => {}
                }
            }
        }
        first
    }

    /// Takes a user from `key`; the last one takes its place along.
    pub(super) fn remove(&mut self, key: u64, now_ms: u64) -> Option<Undo> {
        let place = self.places.get_mut(&key)?;
        place.users -= 1;
        if place.users > 0 {
            return Some(Undo::Unuse(key));
        }
        let at = place.slot;
        self.places.remove(&key);
        let slot = &mut self.slots[at as usize];
        slot.taken = Use::Resting;
        slot.since_ms = now_ms;
        self.resting.push_back((now_ms, at));
        self.changed.push(at);
        Some(Undo::Remove { at, key })
    }

    /// Takes back the last change that was not taken back.
    pub(super) fn undo(&mut self, undo: Undo) {
        match undo {
            Undo::Use(key) => {
                if let Some(place) = self.places.get_mut(&key) {
                    place.users -= 1;
                }
            }
            Undo::Unuse(key) => {
                if let Some(place) = self.places.get_mut(&key) {
                    place.users += 1;
                }
            }
            Undo::Enter { at, before, key } => {
                self.places.remove(&key);
                self.slots[at as usize] = before.0;
                self.changed.pop();
                if before.0.taken != Use::Resting {
                    for bucket in self.passes(key, at) {
                        self.passed[bucket] -= 1;
                    }
                }
            }
            Undo::Remove { at, key } => {
                // What rests in the queue under this slot is stale now, and is
                // recognised as such when its time comes.
                self.slots[at as usize].taken = Use::Live;
                self.changed.pop();
                self.places.insert(key, Place { slot: at, users: 1 });
            }
        }
    }

    /// Frees what was given up at or before `until_ms`.
    pub(super) fn release(&mut self, until_ms: u64) {
        while let Some(&(since, at)) = self.resting.front()
            && since <= until_ms
        {
            self.resting.pop_front();
            let slot = self.slots[at as usize];
            if slot.taken == Use::Resting && slot.since_ms == since {
                self.slots[at as usize].taken = Use::Tombstone;
                for bucket in self.passes(slot.key, at) {
                    self.passed[bucket] -= 1;
                    self.clear_tombstones(bucket);
                }
                self.clear_tombstones(at as usize / ENDPOINT_WAYS);
            }
        }
    }

    /// Once nothing stands beyond a bucket, its tombstones need not be there.
    fn clear_tombstones(&mut self, bucket: usize) {
        if self.passed[bucket] > 0 {
            return;
        }
        for at in bucket * ENDPOINT_WAYS..(bucket + 1) * ENDPOINT_WAYS {
            if self.slots[at].taken == Use::Tombstone {
                self.slots[at].taken = Use::Free;
                self.changed.push(at as u32);
            }
        }
    }

    /// When the oldest resting slot was given up.
    pub(super) fn oldest_rest(&self) -> Option<u64> {
        self.resting.front().map(|&(since, _)| since)
    }

    /// The writes for all changes since the last time, one for each slot: for those
    /// that are there now, and for those that went.
    pub(super) fn take_changes(&mut self) -> (Vec<Write>, Vec<Write>) {
        let mut changed = core::mem::take(&mut self.changed);
        changed.sort_unstable();
        changed.dedup();
        let (mut there, mut gone) = (Vec::new(), Vec::new());
        for at in changed {
            let slot = self.slots[at as usize];
            let key = match slot.taken {
                Use::Live => slot.key,
                Use::Free => 0,
                Use::Tombstone | Use::Resting => ENDPOINT_TOMBSTONE,
            };
            let write = Write::Endpoint {
                bucket: at / ENDPOINT_WAYS as u32,
                slot: at % ENDPOINT_WAYS as u32,
                key,
                value: slot.value,
            };
            if slot.taken == Use::Live {
                there.push(write)
            } else {
                gone.push(write)
            }
        }
        (there, gone)
    }

    /// Notes what the memory holds: to be called for every slot before any edit.
    /// False: the key does not belong where it stands, or stands there twice, and
    /// is to be written anew.
    pub(super) fn note(&mut self, bucket: usize, slot: usize, key: u64, value: u32) {
        let at = bucket * ENDPOINT_WAYS + slot;
        let within = (0..ENDPOINT_PROBES).any(|probe| self.bucket(key, probe) == bucket);
        if key == ENDPOINT_TOMBSTONE || !within || self.places.contains_key(&key) {
            self.slots[at].taken = Use::Tombstone;
            if key != ENDPOINT_TOMBSTONE {
                self.changed.push(at as u32);
            }
            return;
        }
        self.slots[at] = Slot {
            key,
            value,
            taken: Use::Live,
            since_ms: 0,
        };
        self.places.insert(
            key,
            Place {
                slot: at as u32,
                users: 0,
            },
        );
    }

    /// Ends the notes: keys without a user go, and so does what can not be found
    /// because its search ends before. `wanted` are the keys in use, a value each
    /// time. False: there is no room for one of them.
    pub(super) fn settle(&mut self, wanted: &[(u64, u32)]) -> bool {
        for &(key, value) in wanted {
            if let Some(place) = self.places.get_mut(&key) {
                place.users += 1;
                let slot = &mut self.slots[place.slot as usize];
                if slot.value != value {
                    slot.value = value;
                    self.changed.push(place.slot);
                }
            }
        }
        let orphans: Vec<(u64, u32)> = self
            .places
            .iter()
            .filter(|(_, place)| place.users == 0)
            .map(|(&key, place)| (key, place.slot))
            .collect();
        for (key, at) in orphans {
            self.places.remove(&key);
            self.slots[at as usize].taken = Use::Tombstone;
            self.changed.push(at);
        }
        self.count_passes();
        let missing = wanted
            .iter()
            .filter(|(key, _)| !self.places.contains_key(key));
        let missing: Vec<(u64, u32)> = missing.copied().collect();
        let complete = missing
            .into_iter()
            .all(|(key, value)| self.add(key, value).is_some());
        for bucket in 0..self.passed.len() {
            self.clear_tombstones(bucket);
        }
        complete
    }

    /// Counts the keys beyond each bucket, and closes gaps on their way.
    fn count_passes(&mut self) {
        let places: Vec<(u64, u32)> = self
            .places
            .iter()
            .map(|(&key, place)| (key, place.slot))
            .collect();
        for (key, at) in places {
            for bucket in self.passes(key, at) {
                self.passed[bucket] += 1;
                for gap in bucket * ENDPOINT_WAYS..(bucket + 1) * ENDPOINT_WAYS {
                    if self.slots[gap].taken == Use::Free {
                        self.slots[gap].taken = Use::Tombstone;
                        self.changed.push(gap as u32);
                    }
                }
            }
        }
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
    }

    impl Table {
        fn new(buckets: usize) -> Self {
            Self {
                keys: vec![0; buckets * ENDPOINT_WAYS],
                values: vec![0; buckets * ENDPOINT_WAYS],
            }
        }

        fn write(&mut self, endpoints: &mut Endpoints) {
            let (there, gone) = endpoints.take_changes();
            for write in there.into_iter().chain(gone) {
                if let Write::Endpoint {
                    bucket,
                    slot,
                    key,
                    value,
                } = write
                {
                    let at = bucket as usize * ENDPOINT_WAYS + slot as usize;
                    self.keys[at] = key;
                    self.values[at] = value;
                }
            }
        }

        /// As the layout describes the search.
        fn find(&self, key: u64, seed: u64) -> Option<u32> {
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
                let key = (key + 1) << 16 | 0x0600;
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
                for key in (0..42).map(|k| (k + 1) << 16 | 0x0600) {
                    prop_assert_eq!(table.find(key, seed), model.get(&key).map(|v| v.0));
                }
            }
            let mut adopted = Endpoints::new(buckets, seed);
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
