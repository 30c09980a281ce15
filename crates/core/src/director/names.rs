//! How services and servers are found by their keys. The tables hold no keys, which
//! stand in the slots: a transaction looks for hundreds of thousands, and what takes
//! time is the memory that it touches.

use core::hash::{BuildHasher, Hash, Hasher};
use core::net::IpAddr;

use hashbrown::{DefaultHashBuilder, HashTable};

use crate::model::{Family, ServerKey, ServiceKey};

/// A key as numbers: an address, or a mark, and what goes with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Name {
    address: [u64; 2],
    rest: u64,
}

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let [upper, lower] = self.address;
        state.write_u64(upper);
        state.write_u64(lower);
        state.write_u64(self.rest);
    }
}

/// An address as a number, and its family.
fn number(address: IpAddr) -> ([u64; 2], u64) {
    match address {
        IpAddr::V4(address) => ([0, address.to_bits().into()], 4),
        IpAddr::V6(address) => {
            let bits = address.to_bits();
            ([(bits >> 64) as u64, bits as u64], 6)
        }
    }
}

impl Name {
    /// That of a service.
    pub(super) fn service(key: &ServiceKey) -> Self {
        match *key {
            ServiceKey::Address {
                protocol,
                address,
                port,
            } => {
                let (address, family) = number(address);
                let port = u64::from(port) << 16 | u64::from(protocol.number()) << 8;
                Self {
                    address,
                    rest: port | family,
                }
            }
            ServiceKey::Mark { mark, family } => Self {
                address: [0, mark.into()],
                // No protocol has this number.
                rest: 0xff << 8 | if family == Family::V4 { 4 } else { 6 },
            },
        }
    }

    /// That of a server of a service.
    pub(super) fn server(service: u32, key: &ServerKey) -> Self {
        let (address, family) = number(key.address);
        let port = u64::from(key.port) << 8 | family;
        Self {
            address,
            rest: u64::from(service) << 32 | port,
        }
    }
}

/// A slot, and the hash of what it is found by.
#[derive(Clone, Copy, Debug)]
struct Entry {
    hash: u32,
    index: u32,
}

impl Entry {
    /// The table takes bits from both ends.
    fn spread(self) -> u64 {
        u64::from(self.hash) << 32 | u64::from(self.hash)
    }
}

/// Slots by name.
#[derive(Debug, Default)]
pub(super) struct Names {
    entries: HashTable<Entry>,
    hasher: DefaultHashBuilder,
}

impl Names {
    fn entry(&self, name: &Name, index: u32) -> Entry {
        let hash = self.hasher.hash_one(name) as u32;
        Entry { hash, index }
    }

    /// The slot with this name; `is` tells whether a slot has it.
    pub(super) fn find(&self, name: &Name, is: impl Fn(u32) -> bool) -> Option<u32> {
        let wanted = self.entry(name, 0);
        let same = |entry: &Entry| entry.hash == wanted.hash && is(entry.index);
        let found = self.entries.find(wanted.spread(), same)?;
        Some(found.index)
    }

    /// Enters a slot whose name no other has.
    pub(super) fn insert(&mut self, name: &Name, index: u32) {
        let entry = self.entry(name, index);
        self.entries
            .insert_unique(entry.spread(), entry, |entry| entry.spread());
    }

    /// Removes a slot.
    pub(super) fn remove(&mut self, name: &Name, index: u32) {
        let entry = self.entry(name, index);
        let same = |other: &Entry| other.index == index;
        if let Ok(found) = self.entries.find_entry(entry.spread(), same) {
            found.remove();
        }
    }

    /// Makes room for this many more.
    pub(super) fn reserve(&mut self, names: usize) {
        self.entries.reserve(names, |entry| entry.spread());
    }
}
