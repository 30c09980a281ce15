//! All arrays of an instance in ordinary memory.

use std::vec::Vec;

use crate::layout::{
    ADDRESS_BITS, Addresses, Bucket, CLIENT_HOPS, ClientHop, Control, Counters, ENDPOINT_WAYS,
    EndpointBucket, EndpointSlot, Entry, HopWords, INTERFACES, Interface, LAYOUT_VERSION, Load,
    MarkRule, MarkRules, POOL_PORTS_DEFAULT, REASONS, Reasons, Server, Service, WAYS, WideBucket,
    WideEndpointBucket, WideEndpointSlot, WideEntry, settings,
};
use crate::memory::Memory;
use crate::word::{Word, Word64};

/// Sizes of the arrays.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Buckets of the connection table, a power of two.
    pub buckets: u32,
    /// Buckets of the table of wide entries, a power of two.
    pub wide_buckets: u32,
    /// Buckets of the endpoint table, a power of two.
    pub endpoint_buckets: u32,
    /// Buckets of the table of IPv6 endpoints, a power of two.
    pub wide_endpoint_buckets: u32,
    /// Services.
    pub services: u32,
    /// Servers.
    pub servers: u32,
    /// Words for rings.
    pub ring_words: u32,
    /// CPUs.
    pub cpus: u32,
    /// Seed of the hashes.
    pub seed: u64,
}

impl Default for Sizes {
    fn default() -> Self {
        Self {
            buckets: 64,
            wide_buckets: 64,
            endpoint_buckets: 64,
            wide_endpoint_buckets: 64,
            services: 16,
            servers: 64,
            ring_words: 1024,
            cpus: 1,
            seed: 0x0123_4567_89ab_cdef,
        }
    }
}

/// All arrays, in ordinary memory.
pub struct Tables {
    control: Control,
    connections: Vec<Bucket>,
    wide_connections: Vec<WideBucket>,
    addresses: Vec<Addresses>,
    endpoints: Vec<EndpointBucket>,
    wide_endpoints: Vec<WideEndpointBucket>,
    services: Vec<Service>,
    servers: Vec<Server>,
    rings: Vec<Word>,
    client_hops: Vec<ClientHop>,
    loads: Vec<Load>,
    counters: Vec<Counters>,
    reasons: Vec<Reasons>,
    interfaces: Vec<Interface>,
    mark_rules: Vec<MarkRules>,
}

fn many<T>(count: u32, make: impl Fn() -> T) -> Vec<T> {
    (0..count).map(|_| make()).collect()
}

fn w() -> Word {
    Word::default()
}

fn w64() -> Word64 {
    Word64::default()
}

fn entry() -> Entry {
    Entry {
        client_address: w(),
        client_port: w(),
        service: w(),
        server: w(),
        state: w(),
        seen: w(),
        hop: w(),
        server_tag: w(),
    }
}

fn words<const N: usize>() -> [Word; N] {
    core::array::from_fn(|_| w())
}

fn wide_entry() -> WideEntry {
    WideEntry {
        client_address: words(),
        virtual_address: words(),
        client_port: w(),
        ports: w(),
        service: w(),
        server: w(),
        state: w(),
        seen: w(),
        hop: w(),
        server_tag: w(),
    }
}

fn hop_words() -> HopWords {
    HopWords {
        interface: w(),
        destination_low: w(),
        middle: w(),
        source_high: w(),
    }
}

fn mark_rule() -> MarkRule {
    MarkRule {
        flags: w(),
        mark: w(),
        interface: w(),
        reserved: w(),
        source: words(),
        source_mask: words(),
        destination: words(),
        destination_mask: words(),
        ports: words(),
        reserved_2: words(),
    }
}

fn control(sizes: &Sizes) -> Control {
    let control = Control {
        layout_version: w(),
        route_generation: w(),
        buckets: w(),
        endpoint_buckets: w(),
        services: w(),
        servers: w(),
        ring_words: w(),
        cpus: w(),
        seed: w64(),
        object_hash: w64(),
        timeout_tcp: w(),
        timeout_tcp_fin: w(),
        timeout_udp: w(),
        next_order: w(),
        features: w(),
        settings: w(),
        wide_buckets: w(),
        wide_endpoint_buckets: w(),
        locality_ticks: w(),
        answers: w(),
        pool_count: w(),
        pool_ports: w(),
        reserved: words(),
        pool: core::array::from_fn(|_| words()),
        kept: words(),
        drop_rate: w(),
        drop_turn: w(),
        reserved_2: words(),
    };
    control.settings.set(settings::DEFAULT);
    control.pool_ports.set(POOL_PORTS_DEFAULT);
    control.wide_buckets.set(sizes.wide_buckets);
    control
        .wide_endpoint_buckets
        .set(sizes.wide_endpoint_buckets);
    control.layout_version.set(LAYOUT_VERSION);
    control.buckets.set(sizes.buckets);
    control.endpoint_buckets.set(sizes.endpoint_buckets);
    control.services.set(sizes.services);
    control.servers.set(sizes.servers);
    control.ring_words.set(sizes.ring_words);
    control.cpus.set(sizes.cpus);
    control.seed.set(sizes.seed);
    control.timeout_tcp.set(900);
    control.timeout_tcp_fin.set(120);
    control.timeout_udp.set(300);
    control
}

impl Tables {
    /// Empty tables of these sizes.
    #[must_use]
    pub fn new(sizes: &Sizes) -> Self {
        Self {
            control: control(sizes),
            connections: many(sizes.buckets, || Bucket {
                signatures: core::array::from_fn::<_, WAYS, _>(|_| w()),
                entries: core::array::from_fn(|_| entry()),
            }),
            wide_connections: many(sizes.wide_buckets, || WideBucket {
                signatures: words(),
                entries: core::array::from_fn(|_| wide_entry()),
            }),
            addresses: many(1, || Addresses {
                words: core::array::from_fn::<_, { ADDRESS_BITS as usize / 32 }, _>(|_| w()),
            }),
            endpoints: many(sizes.endpoint_buckets, || EndpointBucket {
                slots: core::array::from_fn::<_, ENDPOINT_WAYS, _>(|_| EndpointSlot {
                    key: w64(),
                    value: w(),
                    reserved: w(),
                }),
            }),
            wide_endpoints: many(sizes.wide_endpoint_buckets, || WideEndpointBucket {
                slots: core::array::from_fn::<_, ENDPOINT_WAYS, _>(|_| WideEndpointSlot {
                    address: words(),
                    key: w(),
                    value: w(),
                    reserved: words(),
                }),
            }),
            services: many(sizes.services, || Service {
                ring: w64(),
                address: w(),
                port: w(),
                scheduler: w(),
                scheduler_name: w(),
                current_weight: w(),
                flags: w(),
                wide_address: words(),
                mark: w(),
                persistence: w(),
                netmask: w(),
                segment: w(),
            }),
            servers: many(sizes.servers, || Server {
                address: w(),
                ports: w(),
                virtual_address: w(),
                service: w(),
                flags: w(),
                weight: w(),
                order: w(),
                mtu: w(),
                hops: [hop_words(), hop_words()],
                wide_address: words(),
                wide_virtual_address: words(),
                source: words(),
                tunnel: w(),
                upper_threshold: w(),
                lower_threshold: w(),
                leaf: w(),
            }),
            rings: many(sizes.ring_words, w),
            client_hops: many(CLIENT_HOPS, || ClientHop {
                tag: w(),
                mtu: w(),
                hop: hop_words(),
                reserved: [w(), w()],
            }),
            loads: many(sizes.servers, || Load {
                active: w(),
                inactive: w(),
                persistent: w(),
                overloaded: w(),
            }),
            counters: many(sizes.servers * sizes.cpus, || Counters {
                connections: w64(),
                in_packets: w64(),
                out_packets: w64(),
                in_bytes: w64(),
                out_bytes: w64(),
                reserved: core::array::from_fn(|_| w64()),
            }),
            reasons: many(sizes.cpus, || Reasons {
                counts: core::array::from_fn::<_, REASONS, _>(|_| w64()),
            }),
            interfaces: many(INTERFACES, || Interface {
                index: w(),
                mac_low: w(),
                mac_high: w(),
                reserved: w(),
            }),
            mark_rules: many(1, || MarkRules {
                active: w(),
                reserved: words(),
                rules: core::array::from_fn(|_| core::array::from_fn(|_| mark_rule())),
            }),
        }
    }

    /// The arrays.
    #[must_use]
    pub fn memory(&self) -> Memory<'_> {
        Memory {
            control: &self.control,
            connections: &self.connections,
            wide_connections: &self.wide_connections,
            addresses: &self.addresses[0],
            endpoints: &self.endpoints,
            wide_endpoints: &self.wide_endpoints,
            services: &self.services,
            servers: &self.servers,
            rings: &self.rings,
            client_hops: &self.client_hops,
            loads: &self.loads,
            counters: &self.counters,
            reasons: &self.reasons,
            interfaces: &self.interfaces,
            mark_rules: &self.mark_rules[0],
        }
    }
}
