//! The packet path's part: which server a service's ring, tree or table names, and what
//! the endpoint tables find.

use alloc::collections::BTreeSet;

use evenkeel_datapath::layout::{
    Address, ENDPOINT_PROBES, ENDPOINT_TOMBSTONE, NOBODY, RING_HEADER, mapped, scheduler,
    server_flags, service_flags,
};
use evenkeel_datapath::spread::{MAGLEV_SLOT_KEY, fold, hash_32, siphash};
use evenkeel_datapath::tree::{Tree, has_tree};
use evenkeel_datapath::word::Word;
use evenkeel_datapath::{hash, load};

use super::*;
use crate::director::endpoints::{Key, Wide};

/// A client's address and port, in host order, and where it connects to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Client {
    pub address: u32,
    pub port: u16,
    pub destination: Address,
}

impl Rig {
    pub(super) fn is_available(&self, server: u32) -> bool {
        const WANTED: u32 = server_flags::ALIVE | server_flags::WEIGHTED;
        let memory = self.memory();
        memory.servers[server as usize].flags.get() & WANTED == WANTED
            && memory.loads[server as usize].overloaded.get() == 0
    }

    /// Where a service's ring begins behind its header, and its length.
    fn ring_of(&self, key: &ServiceKey) -> (usize, u32) {
        let ring = self.memory().services[self.index(key)].ring.get();
        ((ring >> 32) as usize + RING_HEADER as usize, ring as u32)
    }

    /// Who stands in a service's ring or table, former owners of Maglev's behind.
    pub(super) fn slots(&self, key: &ServiceKey) -> Vec<u32> {
        let (first, length) = self.ring_of(key);
        let number = self.memory().services[self.index(key)].scheduler.get();
        let tables = if number == scheduler::MH { 2 } else { 1 };
        let words = &self.memory().rings[first..][..tables * length as usize];
        words.iter().map(Word::get).collect()
    }

    /// The servers that a service's ring names at all.
    pub(super) fn named(&self, key: &ServiceKey) -> BTreeSet<u32> {
        let memory = self.memory();
        let service = &memory.services[self.index(key)];
        let (first, length) = self.ring_of(key);
        if !has_tree(service.scheduler.get()) {
            let slots = self.slots(key);
            return slots[..length as usize].iter().copied().collect();
        }
        let pairs = first + evenkeel_datapath::tree::nodes(length) as usize;
        (0..length as usize)
            .map(|place| {
                let server = memory.rings[pairs + 2 * place].get();
                assert_eq!(memory.servers[server as usize].leaf.get() as usize, place);
                server
            })
            .collect()
    }

    /// The server that the packet path gives a connection to, as IPVS would.
    pub(super) fn choose(&self, key: &ServiceKey, client: Client) -> Option<u32> {
        let memory = self.memory();
        let service = &memory.services[self.index(key)];
        let (number, ring) = (service.scheduler.get(), service.ring.get());
        let (first, length) = self.ring_of(key);
        if length == 0 {
            return None;
        }
        if has_tree(number) {
            return Tree::of(number, ring).best(&memory);
        }
        let slot = |slot: u32| {
            let server = memory.rings[first + (slot % length) as usize].get();
            (server != NOBODY && self.is_available(server)).then_some(server)
        };
        let flags = service.flags.get();
        let port = if flags & service_flags::PORT != 0 {
            u32::from(client.port)
        } else {
            0
        };
        let value = client.address.wrapping_add(port);
        let hashed = |offset: u32| match number {
            scheduler::MH => siphash(value.wrapping_add(offset), MAGLEV_SLOT_KEY) % length,
            _ => hash_32(value, 8).wrapping_add(offset) % length,
        };
        match number {
            scheduler::RING => {
                (0..length).find_map(|_| slot(memory.rings[first - RING_HEADER as usize].add(1)))
            }
            scheduler::DH => slot(hash_32(fold(client.destination), 8)),
            scheduler::SH | scheduler::MH => {
                let home = hashed(0);
                let tries = if flags & service_flags::FALLBACK == 0 {
                    0
                } else {
                    length
                };
                slot(home).or_else(|| (0..tries).find_map(|n| slot(hashed((n + home) % length))))
            }
            _ => panic!("nothing to choose by: {number}"),
        }
    }

    /// [`Rig::choose`], by port.
    pub(super) fn choose_port(&self, key: &ServiceKey, client: Client) -> Option<u16> {
        let server = &self.memory().servers[self.choose(key, client)? as usize];
        Some(u16::from_be(server.ports.get() as u16))
    }

    /// Ports of the servers that connections of this state go to, one after the other.
    pub(super) fn opened(&self, key: &ServiceKey, state: u32, count: usize) -> Vec<u16> {
        (0..count)
            .filter_map(|_| {
                let server = self.choose(key, Client::default())?;
                load::begin(&self.memory(), server, state);
                Some(u16::from_be(
                    self.memory().servers[server as usize].ports.get() as u16,
                ))
            })
            .collect()
    }

    /// What the packet path finds under an endpoint's key.
    pub(super) fn find(&self, key: Key) -> Option<u32> {
        match key {
            Key::Narrow(key) => self.find_narrow(key),
            Key::Wide(key) => self.find_wide(key),
        }
    }

    fn knows(&self, bit: u32) -> bool {
        let word = &self.memory().addresses.words[bit as usize / 32];
        word.get() >> (bit % 32) & 1 != 0
    }

    fn find_narrow(&self, key: u64) -> Option<u32> {
        let memory = self.memory();
        let seed = memory.control.seed.get();
        if !self.knows(hash::address((key >> 32) as u32, seed)) {
            return None;
        }
        let home = hash::endpoint(key, seed) as usize;
        for probe in 0..ENDPOINT_PROBES {
            let bucket = &memory.endpoints[(home + probe) % memory.endpoints.len()];
            if let Some(slot) = bucket.slots.iter().find(|slot| slot.key.get() == key) {
                return Some(slot.value.get());
            }
            if bucket.slots.iter().any(|slot| slot.key.get() == 0) {
                return None;
            }
        }
        None
    }

    fn find_wide(&self, wide: Wide) -> Option<u32> {
        let memory = self.memory();
        let seed = memory.control.seed.get();
        if !self.knows(hash::wide_address(wide.address, seed)) {
            return None;
        }
        let home = hash::wide_endpoint(wide.address, wide.key, seed) as usize;
        for probe in 0..ENDPOINT_PROBES {
            let bucket = &memory.wide_endpoints[(home + probe) % memory.wide_endpoints.len()];
            for slot in &bucket.slots {
                let address: Address = core::array::from_fn(|word| slot.address[word].get());
                if slot.key.get() == wide.key && address == wide.address {
                    return Some(slot.value.get());
                }
            }
            if bucket.slots.iter().any(|slot| slot.key.get() == 0) {
                return None;
            }
        }
        None
    }

    /// Endpoints in the memory, of both tables.
    pub(super) fn endpoint_count(&self) -> usize {
        let memory = self.memory();
        let narrow = memory.endpoints.iter().flat_map(|bucket| &bucket.slots);
        let narrow = narrow.filter(|slot| slot.key.get() > ENDPOINT_TOMBSTONE);
        let wide = memory.wide_endpoints.iter();
        let wide = wide.flat_map(|bucket| &bucket.slots);
        let wide = wide.filter(|slot| u64::from(slot.key.get()) > ENDPOINT_TOMBSTONE);
        narrow.count() + wide.count()
    }
}

/// An IPv4 address as packets have it, mapped.
pub(super) fn mapped_host(address: u32) -> Address {
    mapped(address.to_be())
}
