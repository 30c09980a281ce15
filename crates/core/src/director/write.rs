//! Single changes of the shared memory. An edit becomes several; they are made in
//! the order in which the director queued them, one after the other.

use alloc::vec::Vec;
use core::sync::atomic::{Ordering, fence};

use evenkeel_datapath::layout::{Server, Service};
use evenkeel_datapath::memory::Memory;

use crate::model::Timeouts;

/// One change. Between any two of them every packet sees a whole table, and a
/// daemon that dies leaves something that [`super::Director::adopt`] repairs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// A ring that no service names yet.
    Ring {
        /// Index of its first word.
        base: u32,
        /// Header and servers.
        words: Vec<u32>,
    },
    /// A service's fields, without its ring.
    Service {
        /// Its index.
        index: u32,
        /// The fields.
        record: ServiceRecord,
    },
    /// Makes a ring that of a service.
    Publish {
        /// The service.
        service: u32,
        /// [`Service::ring`].
        ring: u64,
    },
    /// A server's fields, without its hops.
    Server {
        /// Its index.
        index: u32,
        /// The fields.
        record: ServerRecord,
    },
    /// A server's flags alone.
    ServerFlags {
        /// Its index.
        index: u32,
        /// [`Server::flags`].
        flags: u32,
    },
    /// The hop of a server that does not count at this moment.
    Hop {
        /// The server.
        server: u32,
        /// Which of the two.
        which: usize,
        /// [`evenkeel_datapath::layout::HopWords`], in order.
        words: [u32; 4],
        /// MTU of the way, bytes, up to 65,535.
        mtu: u32,
    },
    /// Words of the endpoints' addresses.
    Addresses {
        /// Index of the first one.
        first: u32,
        /// They.
        words: Vec<u32>,
    },
    /// An endpoint.
    Endpoint {
        /// Its bucket.
        bucket: u32,
        /// Its slot in the bucket.
        slot: u32,
        /// The key, 0 or a tombstone.
        key: u64,
        /// The value.
        value: u32,
    },
    /// Sets all counters of a server that nobody uses any more to 0.
    ClearCounters {
        /// The server.
        server: u32,
    },
    /// The timeouts of connections.
    Timeouts(Timeouts),
    /// The next rank in the servers' list order.
    NextOrder(u32),
}

/// [`Service`] without its ring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServiceRecord {
    /// [`Service::address`]
    pub address: u32,
    /// [`Service::port`]
    pub port: u32,
    /// [`Service::scheduler`]
    pub scheduler: u32,
    /// [`Service::scheduler_name`]
    pub scheduler_name: u32,
    /// [`Service::current_weight`]
    pub current_weight: u32,
    /// [`Service::flags`]
    pub flags: u32,
}

/// [`Server`] without its hops.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServerRecord {
    /// [`Server::address`]
    pub address: u32,
    /// [`Server::ports`]
    pub ports: u32,
    /// [`Server::virtual_address`]
    pub virtual_address: u32,
    /// [`Server::service`]
    pub service: u32,
    /// [`Server::flags`]
    pub flags: u32,
    /// [`Server::weight`]
    pub weight: u32,
    /// [`Server::order`]
    pub order: u32,
}

/// Makes one change. Indices come from the director of the same memory; one that
/// is out of range is ignored, because nothing else can be done about it here.
pub fn apply(memory: &Memory<'_>, write: &Write) {
    // What was written before must be seen before: on CPUs that reorder stores,
    // and by the compiler.
    fence(Ordering::SeqCst);
    match write {
        Write::Ring { base, words } => {
            let targets = memory.rings.get(*base as usize..).unwrap_or_default();
            for (target, &word) in targets.iter().zip(words) {
                target.set(word);
            }
        }
        Write::Service { index, record } => {
            if let Some(service) = memory.services.get(*index as usize) {
                write_service(service, record);
            }
        }
        Write::Publish { service, ring } => {
            if let Some(service) = memory.services.get(*service as usize) {
                service.ring.set(*ring);
            }
        }
        Write::Server { index, record } => {
            if let Some(server) = memory.servers.get(*index as usize) {
                write_server(server, record);
            }
        }
        Write::ServerFlags { index, flags } => {
            if let Some(server) = memory.servers.get(*index as usize) {
                server.flags.set(*flags);
            }
        }
        Write::Hop {
            server,
            which,
            words,
            mtu,
        } => {
            if let Some(server) = memory.servers.get(*server as usize) {
                write_hop(server, *which, *words, *mtu);
            }
        }
        Write::Addresses { first, words } => {
            let targets = memory.addresses.words.get(*first as usize..);
            for (target, &word) in targets.unwrap_or_default().iter().zip(words) {
                target.set(word);
            }
        }
        Write::Endpoint {
            bucket,
            slot,
            key,
            value,
        } => {
            if let Some(bucket) = memory.endpoints.get(*bucket as usize)
                && let Some(slot) = bucket.slots.get(*slot as usize)
            {
                slot.value.set(*value);
                fence(Ordering::SeqCst);
                slot.key.set(*key);
            }
        }
        Write::ClearCounters { server } => clear_counters(memory, *server),
        Write::Timeouts(timeouts) => {
            memory.control.timeout_tcp.set(timeouts.tcp);
            memory.control.timeout_tcp_fin.set(timeouts.tcp_fin);
            memory.control.timeout_udp.set(timeouts.udp);
        }
        Write::NextOrder(order) => memory.control.next_order.set(*order),
    }
}

fn write_service(service: &Service, record: &ServiceRecord) {
    service.address.set(record.address);
    service.port.set(record.port);
    service.scheduler.set(record.scheduler);
    service.scheduler_name.set(record.scheduler_name);
    service.current_weight.set(record.current_weight);
    fence(Ordering::SeqCst);
    service.flags.set(record.flags);
}

fn write_server(server: &Server, record: &ServerRecord) {
    server.address.set(record.address);
    server.ports.set(record.ports);
    server.virtual_address.set(record.virtual_address);
    server.service.set(record.service);
    server.weight.set(record.weight);
    server.order.set(record.order);
    fence(Ordering::SeqCst);
    server.flags.set(record.flags);
}

fn write_hop(server: &Server, which: usize, words: [u32; 4], mtu: u32) {
    let hop = &server.hops[which & 1];
    hop.interface.set(words[0]);
    hop.destination_low.set(words[1]);
    hop.middle.set(words[2]);
    hop.source_high.set(words[3]);
    let shift = 16 * (which & 1);
    let others = server.mtu.get() & !(0xffff << shift);
    server.mtu.set(others | mtu.min(0xffff) << shift);
}

fn clear_counters(memory: &Memory<'_>, server: u32) {
    let servers = memory.servers.len();
    for row in memory.counters.chunks_exact(servers.max(1)) {
        if let Some(counters) = row.get(server as usize) {
            counters.connections.set(0);
            counters.in_packets.set(0);
            counters.out_packets.set(0);
            counters.in_bytes.set(0);
            counters.out_bytes.set(0);
        }
    }
}
