//! The shared memory as the host sees it: slices over the mapped arrays, or over
//! ordinary memory in tests. Everything in them is an atomic word, so a shared
//! reference is enough to write.

use crate::host::Ledger;
use crate::layout::{
    Addresses, Bucket, ClientHop, Control, Counters, EndpointBucket, Interface, Load, MarkRules,
    Reasons, Server, Service, WideBucket, WideEndpointBucket,
};
use crate::word::Word;

/// All arrays of one instance.
#[derive(Clone, Copy)]
pub struct Memory<'a> {
    /// Sizes, timeouts, generations.
    pub control: &'a Control,
    /// Connection table; the length is a power of two.
    pub connections: &'a [Bucket],
    /// Table of what is wider; the length is a power of two.
    pub wide_connections: &'a [WideBucket],
    /// Addresses of all endpoints.
    pub addresses: &'a Addresses,
    /// Endpoint table; the length is a power of two.
    pub endpoints: &'a [EndpointBucket],
    /// IPv6 endpoints; the length is a power of two.
    pub wide_endpoints: &'a [WideEndpointBucket],
    /// Services.
    pub services: &'a [Service],
    /// Real servers.
    pub servers: &'a [Server],
    /// Rings.
    pub rings: &'a [Word],
    /// Hops to clients, [`crate::layout::CLIENT_HOPS`] of them.
    pub client_hops: &'a [ClientHop],
    /// Live connections, by server.
    pub loads: &'a [Load],
    /// Counters, cpu × servers + server.
    pub counters: &'a [Counters],
    /// Reasons, by CPU.
    pub reasons: &'a [Reasons],
    /// Interfaces, [`crate::layout::INTERFACES`] of them.
    pub interfaces: &'a [Interface],
    /// Rules that mark packets.
    pub mark_rules: &'a MarkRules,
}

/// All arrays of one instance, or a copy of them, as the packet path on the host reads
/// them.
pub trait Arrays: Ledger {
    /// [`Memory::control`]
    fn control(&self) -> &Control;
    /// A bucket of the connection table.
    fn bucket(&self, index: u32) -> Option<&Bucket>;
    /// Length of the connection table.
    fn buckets(&self) -> usize;
    /// A bucket of the table of what is wider.
    fn wide_bucket(&self, index: u32) -> Option<&WideBucket>;
    /// Length of the table of what is wider.
    fn wide_buckets(&self) -> usize;
    /// [`Memory::addresses`]
    fn addresses(&self) -> &Addresses;
    /// A bucket of the endpoint table.
    fn endpoint_bucket(&self, index: u32) -> Option<&EndpointBucket>;
    /// Length of the endpoint table.
    fn endpoint_buckets(&self) -> usize;
    /// A bucket of IPv6 endpoints.
    fn wide_endpoint_bucket(&self, index: u32) -> Option<&WideEndpointBucket>;
    /// Length of the table of IPv6 endpoints.
    fn wide_endpoint_buckets(&self) -> usize;
    /// A hop to clients.
    fn client_hop(&self, index: u32) -> Option<&ClientHop>;
    /// Counters of a server on a CPU.
    fn counters(&self, cpu: u32, server: u32) -> Option<&Counters>;
    /// Reasons of a CPU.
    fn reasons(&self, cpu: u32) -> Option<&Reasons>;
    /// [`Memory::mark_rules`]
    fn mark_rules(&self) -> &MarkRules;
    /// The record at a place of [`Memory::interfaces`].
    fn interface(&self, place: u32) -> Option<&Interface>;
}

impl Arrays for Memory<'_> {
    fn control(&self) -> &Control {
        self.control
    }
    fn bucket(&self, index: u32) -> Option<&Bucket> {
        self.connections.get(index as usize)
    }
    fn buckets(&self) -> usize {
        self.connections.len()
    }
    fn wide_bucket(&self, index: u32) -> Option<&WideBucket> {
        self.wide_connections.get(index as usize)
    }
    fn wide_buckets(&self) -> usize {
        self.wide_connections.len()
    }
    fn addresses(&self) -> &Addresses {
        self.addresses
    }
    fn endpoint_bucket(&self, index: u32) -> Option<&EndpointBucket> {
        self.endpoints.get(index as usize)
    }
    fn endpoint_buckets(&self) -> usize {
        self.endpoints.len()
    }
    fn wide_endpoint_bucket(&self, index: u32) -> Option<&WideEndpointBucket> {
        self.wide_endpoints.get(index as usize)
    }
    fn wide_endpoint_buckets(&self) -> usize {
        self.wide_endpoints.len()
    }
    fn client_hop(&self, index: u32) -> Option<&ClientHop> {
        self.client_hops.get(index as usize)
    }
    fn counters(&self, cpu: u32, server: u32) -> Option<&Counters> {
        let index = cpu as usize * self.servers.len() + server as usize;
        self.counters.get(index)
    }
    fn reasons(&self, cpu: u32) -> Option<&Reasons> {
        self.reasons.get(cpu as usize)
    }
    fn mark_rules(&self) -> &MarkRules {
        self.mark_rules
    }
    fn interface(&self, place: u32) -> Option<&Interface> {
        self.interfaces.get(place as usize)
    }
}

impl Ledger for Memory<'_> {
    fn service(&self, index: u32) -> Option<&Service> {
        self.services.get(index as usize)
    }
    fn server(&self, index: u32) -> Option<&Server> {
        self.servers.get(index as usize)
    }
    fn ring(&self, index: u32) -> Option<&Word> {
        self.rings.get(index as usize)
    }
    fn ring_pair(&self, index: u32) -> Option<&[Word; 2]> {
        self.rings.get(index as usize & !1..)?.first_chunk()
    }
    fn load(&self, server: u32) -> Option<&Load> {
        self.loads.get(server as usize)
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
