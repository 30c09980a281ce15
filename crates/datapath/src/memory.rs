//! The shared memory as the host sees it: slices over the mapped arrays, or over
//! ordinary memory in tests. Everything in them is an atomic word, so a shared
//! reference is enough to write.

use crate::layout::{
    Addresses, Bucket, ClientHop, Control, Counters, EndpointBucket, Interface, Load, Reasons,
    Server, Service,
};
use crate::word::Word;

/// All arrays of one instance.
#[derive(Clone, Copy)]
pub struct Memory<'a> {
    /// Sizes, timeouts, generations.
    pub control: &'a Control,
    /// Connection table; the length is a power of two.
    pub connections: &'a [Bucket],
    /// Addresses of all endpoints.
    pub addresses: &'a Addresses,
    /// Endpoint table; the length is a power of two.
    pub endpoints: &'a [EndpointBucket],
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
}
