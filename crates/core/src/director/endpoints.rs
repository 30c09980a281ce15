//! The director's copy of the endpoint tables: where each address and port stands, and
//! where a new one fits.

mod table;

use alloc::vec;
use alloc::vec::Vec;
use core::net::IpAddr;

use evenkeel_datapath::hash;
use evenkeel_datapath::layout::{
    ADDRESS_BITS, Address, ENDPOINT_TOMBSTONE, endpoint_key, endpoint_kind, wide_endpoint_key,
};
use evenkeel_datapath::memory::Memory;
use evenkeel_datapath::word::Word;

use super::records;
use super::write::Write;
use crate::model::Family;
use table::{Key as _, Table};

/// What an endpoint is found by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    /// [`endpoint_key`].
    Narrow(u64),
    /// That of an IPv6 endpoint.
    Wide(Wide),
}

/// An address and a [`wide_endpoint_key`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Wide {
    pub address: Address,
    pub key: u32,
}

impl Key {
    /// An address and port as `kind` ([`endpoint_kind`]).
    pub(super) fn at(address: IpAddr, port: u16, protocol: u8, kind: u32) -> Self {
        let words = records::words(address);
        let port = port.to_be();
        match address {
            IpAddr::V4(_) => Self::Narrow(endpoint_key(words[3], port, protocol, kind)),
            IpAddr::V6(_) => Self::Wide(Wide {
                address: words,
                key: wide_endpoint_key(port, protocol, kind),
            }),
        }
    }

    /// That of this protocol, instead of 0.
    pub(super) const fn of_protocol(self, protocol: u8) -> Self {
        match self {
            Self::Narrow(key) => Self::Narrow(key | endpoint_key(0, 0, protocol, 0)),
            Self::Wide(Wide { address, key }) => Self::Wide(Wide {
                address,
                key: key | wide_endpoint_key(0, protocol, 0),
            }),
        }
    }

    /// A firewall mark.
    pub(super) const fn mark(mark: u32, family: Family) -> Self {
        let family = match family {
            Family::V4 => 4,
            Family::V6 => 6,
        };
        Self::Narrow(endpoint_key(mark, family, 255, endpoint_kind::MARK))
    }
}

impl table::Key for u64 {
    const TOMBSTONE: Self = ENDPOINT_TOMBSTONE;

    fn home(self, seed: u64) -> u32 {
        hash::endpoint(self, seed)
    }

    fn address_bit(self, seed: u64) -> u32 {
        hash::address((self >> 32) as u32, seed)
    }

    fn write(self, bucket: u32, slot: u32, value: u32) -> Write {
        Write::Endpoint {
            bucket,
            slot,
            key: self,
            value,
        }
    }
}

impl table::Key for Wide {
    const TOMBSTONE: Self = Self {
        address: [0; 4],
        key: ENDPOINT_TOMBSTONE as u32,
    };

    fn home(self, seed: u64) -> u32 {
        hash::wide_endpoint(self.address, self.key, seed)
    }

    fn address_bit(self, seed: u64) -> u32 {
        hash::wide_address(self.address, seed)
    }

    fn write(self, bucket: u32, slot: u32, value: u32) -> Write {
        Write::WideEndpoint {
            bucket,
            slot,
            address: self.address,
            key: self.key,
            value,
        }
    }
}

/// How to take back one change.
#[derive(Clone, Copy, Debug)]
pub(super) enum Undo {
    Narrow(table::Undo),
    Wide(table::Undo),
}

/// Words of [`Addresses`].
const ADDRESS_WORDS: usize = ADDRESS_BITS as usize / 32;

/// [`Addresses`](evenkeel_datapath::layout::Addresses) as the memory has them.
#[derive(Debug)]
struct Addresses {
    seed: u64,
    words: Vec<u32>,
    /// Endpoints went, and bits of their addresses may be set without need.
    is_stale: bool,
}

impl Addresses {
    fn new(seed: u64) -> Self {
        Self {
            seed,
            words: vec![0; ADDRESS_WORDS],
            is_stale: false,
        }
    }

    /// The write for a key's address, if it is a new one. It has to come before the
    /// key's own: packets look for no address that they do not know.
    fn know(&mut self, key: impl table::Key) -> Option<Write> {
        let bit = key.address_bit(self.seed);
        let word = bit / 32;
        let present = &mut self.words[word as usize];
        let before = *present;
        *present |= 1 << (bit % 32);
        (*present != before).then(|| Write::Addresses {
            first: word,
            words: vec![*present],
        })
    }

    /// Forgets all but these.
    fn forget(&mut self, bits: impl Iterator<Item = u32>) -> Option<Write> {
        if !core::mem::take(&mut self.is_stale) {
            return None;
        }
        let mut words = vec![0; ADDRESS_WORDS];
        for bit in bits {
            words[bit as usize / 32] |= 1 << (bit % 32);
        }
        if words == self.words {
            return None;
        }
        self.words.clone_from(&words);
        Some(Write::Addresses { first: 0, words })
    }

    /// Notes what the memory holds.
    fn note(&mut self, words: impl Iterator<Item = u32>) {
        for (present, word) in self.words.iter_mut().zip(words) {
            *present = word;
        }
        self.is_stale = true;
    }
}

/// Both tables.
#[derive(Debug)]
pub(super) struct Endpoints {
    narrow: Table<u64>,
    wide: Table<Wide>,
    addresses: Addresses,
}

impl Endpoints {
    /// Empty, for a memory of this size.
    pub(super) fn new(memory: &Memory<'_>) -> Self {
        let seed = memory.control.seed.get();
        Self {
            narrow: Table::new(memory.endpoints.len(), seed),
            wide: Table::new(memory.wide_endpoints.len(), seed),
            addresses: Addresses::new(seed),
        }
    }

    /// Adds a user of `key`, and the key where it is not there. Nothing: no room.
    pub(super) fn add(&mut self, key: Key, value: u32) -> Option<Undo> {
        match key {
            Key::Narrow(key) => self.narrow.add(key, value).map(Undo::Narrow),
            Key::Wide(key) => self.wide.add(key, value).map(Undo::Wide),
        }
    }

    /// Takes a user from `key`; the last one takes its place along.
    pub(super) fn remove(&mut self, key: Key, now_ms: u64) -> Option<Undo> {
        match key {
            Key::Narrow(key) => self.narrow.remove(key, now_ms).map(Undo::Narrow),
            Key::Wide(key) => self.wide.remove(key, now_ms).map(Undo::Wide),
        }
    }

    /// Takes back the last change that was not taken back.
    pub(super) fn undo(&mut self, undo: Undo) {
        match undo {
            Undo::Narrow(undo) => self.narrow.undo(undo),
            Undo::Wide(undo) => self.wide.undo(undo),
        }
    }

    /// Frees what was given up at or before `until_ms`.
    pub(super) fn release(&mut self, until_ms: u64) {
        self.narrow.release(until_ms);
        self.wide.release(until_ms);
    }

    /// When the newest resting slot was given up.
    pub(super) fn newest_rest(&self) -> Option<u64> {
        self.narrow.newest_rest().max(self.wide.newest_rest())
    }

    /// Makes room for this many additions at once.
    pub(super) fn reserve(&mut self, keys: usize) {
        self.narrow.reserve(keys);
    }

    /// Reads where a search for `key` begins, see [`Table::glance`].
    pub(super) fn glance(&self, key: Key) -> u32 {
        match key {
            Key::Narrow(key) => self.narrow.glance(key),
            Key::Wide(key) => self.wide.glance(key),
        }
    }

    /// Gives `write` the writes for all changes since the last time, what is there now before
    /// what went.
    pub(super) fn take_changes(&mut self, mut write: impl FnMut(Write)) {
        self.narrow.take_changes(&mut self.addresses, &mut write);
        self.wide.take_changes(&mut self.addresses, &mut write);
    }

    /// Forgets the addresses that no endpoint has any more. To be called when all
    /// changes are taken.
    pub(super) fn forget_addresses(&mut self) -> Option<Write> {
        let seed = self.addresses.seed;
        let narrow = self.narrow.keys().map(|key| key.address_bit(seed));
        let wide = self.wide.keys().map(|key| key.address_bit(seed));
        self.addresses.forget(narrow.chain(wide))
    }

    /// Notes what the memory holds: to be called before any edit. `wanted` are the keys
    /// in use, a value each time. False: there is no room for one of them.
    pub(super) fn adopt(&mut self, memory: &Memory<'_>, wanted: &[(Key, u32)]) -> bool {
        for (bucket, record) in memory.endpoints.iter().enumerate() {
            for (slot, record) in record.slots.iter().enumerate() {
                let key = record.key.get();
                if key != 0 {
                    self.narrow.note(bucket, slot, key, record.value.get());
                }
            }
        }
        for (bucket, record) in memory.wide_endpoints.iter().enumerate() {
            for (slot, record) in record.slots.iter().enumerate() {
                let key = match record.key.get() {
                    0 => continue,
                    key if key == Wide::TOMBSTONE.key => Wide::TOMBSTONE,
                    key => Wide {
                        address: records::read_words(&record.address),
                        key,
                    },
                };
                self.wide.note(bucket, slot, key, record.value.get());
            }
        }
        let (mut narrow, mut wide) = (Vec::new(), Vec::new());
        for &(key, value) in wanted {
            match key {
                Key::Narrow(key) => narrow.push((key, value)),
                Key::Wide(key) => wide.push((key, value)),
            }
        }
        // Both, whatever becomes of the first.
        let is_complete = self.narrow.settle(&narrow) & self.wide.settle(&wide);
        self.addresses
            .note(memory.addresses.words.iter().map(Word::get));
        is_complete
    }
}
