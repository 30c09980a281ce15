//! A copy of the shared memory that is made as it is looked at: what a packet would do
//! can be tried on it while other packets use the memory itself, and costs as much as the
//! little that one packet touches.
//!
//! What changes meanwhile is copied as it is when it is looked at first, which is what a
//! packet would see, too.

use core::cell::OnceCell;
use std::boxed::Box;
use std::vec::Vec;

use crate::host::Ledger;
use crate::layout::{
    Addresses, Bucket, ClientHop, Control, Counters, EndpointBucket, Interface, Load, MarkRules,
    REASONS, Reasons, Server, Service, WideBucket, WideEndpointBucket,
};
use crate::memory::{Arrays, Memory};
use crate::word::{Word, Word64};

/// Values that are copied together.
const BLOCK: usize = 64;

/// A copy of an array.
struct Blocks<'a, T> {
    source: &'a [T],
    copies: Vec<OnceCell<Box<[T]>>>,
}

impl<'a, T: Clone> Blocks<'a, T> {
    fn of(source: &'a [T]) -> Self {
        let count = source.len().div_ceil(BLOCK);
        Self {
            source,
            copies: (0..count).map(|_| OnceCell::new()).collect(),
        }
    }

    fn get(&self, index: u32) -> Option<&T> {
        self.from(index)?.first()
    }

    /// The value at an index, and those behind it that are copied together with it.
    fn from(&self, index: u32) -> Option<&[T]> {
        let (block, place) = (index as usize / BLOCK, index as usize % BLOCK);
        let copy = self.copies.get(block)?.get_or_init(|| {
            let rest = self.source.get(block * BLOCK..).unwrap_or_default();
            rest.iter().take(BLOCK).cloned().collect()
        });
        copy.get(place..)
    }
}

/// A copy of all arrays. Counts begin at 0.
pub struct Copied<'a> {
    control: Control,
    connections: Blocks<'a, Bucket>,
    wide_connections: Blocks<'a, WideBucket>,
    addresses: Addresses,
    endpoints: Blocks<'a, EndpointBucket>,
    wide_endpoints: Blocks<'a, WideEndpointBucket>,
    services: Blocks<'a, Service>,
    servers: Blocks<'a, Server>,
    rings: Blocks<'a, Word>,
    client_hops: Blocks<'a, ClientHop>,
    loads: Blocks<'a, Load>,
    interfaces: Blocks<'a, Interface>,
    /// Never written by packets, and large.
    mark_rules: &'a MarkRules,
    reasons: Reasons,
    counters: Counters,
}

impl<'a> Copied<'a> {
    /// A copy of this memory.
    #[must_use]
    pub fn of(memory: &Memory<'a>) -> Self {
        let word64 = |_| Word64::default();
        Self {
            control: memory.control.clone(),
            connections: Blocks::of(memory.connections),
            wide_connections: Blocks::of(memory.wide_connections),
            addresses: memory.addresses.clone(),
            endpoints: Blocks::of(memory.endpoints),
            wide_endpoints: Blocks::of(memory.wide_endpoints),
            services: Blocks::of(memory.services),
            servers: Blocks::of(memory.servers),
            rings: Blocks::of(memory.rings),
            client_hops: Blocks::of(memory.client_hops),
            loads: Blocks::of(memory.loads),
            interfaces: Blocks::of(memory.interfaces),
            mark_rules: memory.mark_rules,
            reasons: Reasons {
                counts: core::array::from_fn::<_, REASONS, _>(word64),
            },
            counters: Counters {
                connections: Word64::default(),
                in_packets: Word64::default(),
                out_packets: Word64::default(),
                in_bytes: Word64::default(),
                out_bytes: Word64::default(),
                reserved: core::array::from_fn(word64),
            },
        }
    }
}

impl Ledger for Copied<'_> {
    fn service(&self, index: u32) -> Option<&Service> {
        self.services.get(index)
    }
    fn server(&self, index: u32) -> Option<&Server> {
        self.servers.get(index)
    }
    fn ring(&self, index: u32) -> Option<&Word> {
        self.rings.get(index)
    }
    fn ring_pair(&self, index: u32) -> Option<&[Word; 2]> {
        self.rings.from(index & !1)?.first_chunk()
    }
    fn load(&self, server: u32) -> Option<&Load> {
        self.loads.get(server)
    }
    fn compare_and_swap(&self, word: &Word, old: u32, new: u32) -> bool {
        word.compare_and_swap(old, new)
    }
    fn add(&self, word: &Word, amount: u32) -> u32 {
        word.add(amount)
    }
    fn rank(&self, server: u32) {
        crate::tree::changed(self, server);
    }
}

impl Arrays for Copied<'_> {
    fn control(&self) -> &Control {
        &self.control
    }
    fn bucket(&self, index: u32) -> Option<&Bucket> {
        self.connections.get(index)
    }
    fn buckets(&self) -> usize {
        self.connections.source.len()
    }
    fn wide_bucket(&self, index: u32) -> Option<&WideBucket> {
        self.wide_connections.get(index)
    }
    fn wide_buckets(&self) -> usize {
        self.wide_connections.source.len()
    }
    fn addresses(&self) -> &Addresses {
        &self.addresses
    }
    fn endpoint_bucket(&self, index: u32) -> Option<&EndpointBucket> {
        self.endpoints.get(index)
    }
    fn endpoint_buckets(&self) -> usize {
        self.endpoints.source.len()
    }
    fn wide_endpoint_bucket(&self, index: u32) -> Option<&WideEndpointBucket> {
        self.wide_endpoints.get(index)
    }
    fn wide_endpoint_buckets(&self) -> usize {
        self.wide_endpoints.source.len()
    }
    fn client_hop(&self, index: u32) -> Option<&ClientHop> {
        self.client_hops.get(index)
    }
    fn counters(&self, _cpu: u32, server: u32) -> Option<&Counters> {
        // Of a packet's counts all that is asked is whether it has any.
        self.servers.get(server).map(|_| &self.counters)
    }
    fn reasons(&self, _cpu: u32) -> Option<&Reasons> {
        Some(&self.reasons)
    }
    fn mark_rules(&self) -> &MarkRules {
        self.mark_rules
    }
    fn interface(&self, place: u32) -> Option<&Interface> {
        self.interfaces.get(place)
    }
}
