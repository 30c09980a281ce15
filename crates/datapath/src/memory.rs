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
    /// Rules that mark packets; none: the instance has no place for them.
    pub mark_rules: Option<&'a MarkRules>,
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
    fn settle(&self, service: u32, node: u32) {
        crate::tree::settle(self, service, node);
    }
}
