//! Single changes of the shared memory. An edit becomes several; they are made in
//! the order in which the director queued them, one after the other.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::sync::atomic::{Ordering, fence};

use evenkeel_datapath::layout::{
    Address, ENDPOINT_TOMBSTONE, KEPT, NOBODY, RING_HEADER, Server, Service, WideEndpointSlot,
    server_flags,
};
use evenkeel_datapath::memory::Memory;
use evenkeel_datapath::tree::{self, Tree};
use evenkeel_datapath::word::Word;

use super::marks::{self, MarkRecord};
use super::records::{ipv4_of, write_words};
use super::source_nat::Pool;
use crate::model::Timeouts;

/// One change. Between any two of them every packet sees a whole table, and a
/// daemon that dies leaves something that [`super::Director::adopt`] repairs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// A ring that no service names yet.
    Ring {
        /// Index of its first word.
        base: u32,
        /// Header and contents.
        words: Vec<u32>,
    },
    /// Makes all comparisons of a tree ([`evenkeel_datapath::tree`]).
    Compare {
        /// [`Service::scheduler`].
        scheduler: u32,
        /// As [`Service::ring`] names it.
        ring: u64,
    },
    /// Tells the servers of a tree their places in it.
    Leaves {
        /// As [`Service::ring`] names it.
        ring: u64,
    },
    /// Puts the present owners of a Maglev table's slots in the place of a former one.
    Forget {
        /// As [`Service::ring`] names the table.
        ring: u64,
        /// The former owner.
        server: u32,
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
    /// A server counts as overloaded no more.
    Relieve {
        /// Its index.
        server: u32,
    },
    /// The hop of a server that does not count at this moment.
    Hop {
        /// The server.
        server: u32,
        /// Which of the two.
        which: usize,
        /// [`evenkeel_datapath::layout::HopWords`], in order.
        words: [u32; 4],
        /// Room for packets on the way, bytes, up to 65,535.
        mtu: u32,
        /// [`Server::source`].
        source: Address,
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
    /// An IPv6 endpoint.
    WideEndpoint {
        /// Its bucket.
        bucket: u32,
        /// Its slot in the bucket.
        slot: u32,
        /// The address.
        address: Address,
        /// The key, 0 or a tombstone.
        key: u32,
        /// The value.
        value: u32,
    },
    /// [`evenkeel_datapath::layout::Control::features`].
    Features(u32),
    /// Sets all that was counted for a server that nobody uses any more to 0.
    ClearCounters {
        /// The server.
        server: u32,
    },
    /// The timeouts of connections.
    Timeouts(Timeouts),
    /// Addresses and ports of source NAT.
    Pool(Box<Pool>),
    /// The rules that mark packets, all of them.
    MarkRules(Box<[MarkRecord]>),
    /// [`evenkeel_datapath::layout::Control::settings`].
    Settings(u32),
    /// [`evenkeel_datapath::layout::Control::kept`].
    Kept(Box<[u32; KEPT]>),
    /// [`evenkeel_datapath::layout::Control::drop_rate`].
    DropRate(u32),
    /// The next rank in the servers' list order.
    NextOrder(u32),
}

/// [`Service`] without its ring. IPv4 addresses are mapped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServiceRecord {
    /// [`Service::wide_address`]; says what [`Service::address`] is.
    pub address: Address,
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
    /// [`Service::mark`]
    pub mark: u32,
    /// [`Service::persistence`]
    pub persistence: u32,
    /// [`Service::netmask`]
    pub netmask: u32,
    /// [`Service::segment`]
    pub segment: u32,
}

/// [`Server`] without its hops and its place in a tree. IPv4 addresses are mapped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServerRecord {
    /// [`Server::wide_address`]; says what [`Server::address`] is.
    pub address: Address,
    /// [`Server::wide_virtual_address`]; says what [`Server::virtual_address`] is.
    pub virtual_address: Address,
    /// [`Server::ports`]
    pub ports: u32,
    /// [`Server::service`]
    pub service: u32,
    /// [`Server::flags`]
    pub flags: u32,
    /// [`Server::weight`]
    pub weight: u32,
    /// [`Server::order`]
    pub order: u32,
    /// [`Server::tunnel`]
    pub tunnel: u32,
    /// [`Server::upper_threshold`]
    pub upper_threshold: u32,
    /// [`Server::lower_threshold`]
    pub lower_threshold: u32,
}

/// True: what it writes depends on what packets write.
const fn reads(write: &Write) -> bool {
    matches!(
        write,
        Write::Compare { .. } | Write::Leaves { .. } | Write::Forget { .. }
    )
}

/// Makes one change. Indices come from the director of the same memory; one that
/// is out of range is ignored, because nothing else can be done about it here.
pub fn apply(memory: &Memory<'_>, write: &Write) {
    // What was written before must be seen before: on CPUs that reorder stores,
    // and by the compiler. What also reads what packets write waits until it is seen; the
    // others would wait for memory one after the other.
    fence(if reads(write) {
        Ordering::SeqCst
    } else {
        Ordering::Release
    });
    match write {
        Write::Ring { base, words } => set_words(memory.rings, *base, words),
        Write::Compare { scheduler, ring } => Tree::of(*scheduler, *ring).settle_all(memory),
        Write::Leaves { ring } => write_leaves(memory, *ring),
        Write::Forget { ring, server } => forget_owner(memory, *ring, *server),
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
        Write::Relieve { server } => {
            if let Some(load) = memory.loads.get(*server as usize) {
                load.overloaded.set(0);
            }
        }
        Write::Hop {
            server,
            which,
            words,
            mtu,
            source,
        } => {
            if let Some(server) = memory.servers.get(*server as usize) {
                write_hop(server, *which, *words, *mtu);
                write_words(&server.source, *source);
            }
        }
        Write::Addresses { first, words } => set_words(&memory.addresses.words, *first, words),
        Write::Endpoint { .. } | Write::WideEndpoint { .. } => write_endpoint(memory, write),
        Write::Features(features) => memory.control.features.set(*features),
        Write::ClearCounters { server } => clear_counters(memory, *server),
        Write::Timeouts(timeouts) => {
            memory.control.timeout_tcp.set(timeouts.tcp);
            memory.control.timeout_tcp_fin.set(timeouts.tcp_fin);
            memory.control.timeout_udp.set(timeouts.udp);
        }
        Write::Pool(pool) => pool.write(memory.control),
        Write::MarkRules(records) => marks::write(memory, records),
        Write::Settings(settings) => memory.control.settings.set(*settings),
        Write::Kept(words) => set_words(&memory.control.kept, 0, &words[..]),
        Write::DropRate(rate) => memory.control.drop_rate.set(*rate),
        Write::NextOrder(order) => memory.control.next_order.set(*order),
    }
}

fn set_words(memory: &[Word], first: u32, words: &[u32]) {
    let targets = memory.get(first as usize..).unwrap_or_default();
    for (target, &word) in targets.iter().zip(words) {
        target.set(word);
    }
}

/// A ring's length, and where what is behind its header stands.
const fn parts(ring: u64) -> (u32, u32) {
    (ring as u32, ((ring >> 32) as u32).wrapping_add(RING_HEADER))
}

fn write_leaves(memory: &Memory<'_>, ring: u64) {
    let (servers, base) = parts(ring);
    if servers > tree::SERVERS_MAX {
        return;
    }
    let first = base.wrapping_add(tree::nodes(servers)) as usize;
    let pairs = memory.rings.get(first..).unwrap_or_default().chunks(2);
    for (place, pair) in (0..servers).zip(pairs) {
        if let Some(server) = memory.servers.get(pair[0].get() as usize) {
            server.leaf.set(place);
        }
    }
}

fn forget_owner(memory: &Memory<'_>, ring: u64, server: u32) {
    let (slots, base) = parts(ring);
    let tables = memory.rings.get(base as usize..).unwrap_or_default();
    let former = tables.get(slots as usize..).unwrap_or_default();
    for (former, present) in former
        .iter()
        .zip(&tables[..tables.len().min(slots as usize)])
    {
        if former.get() == server {
            former.set(present.get());
        }
    }
}

fn write_endpoint(memory: &Memory<'_>, write: &Write) {
    match *write {
        Write::Endpoint {
            bucket,
            slot,
            key,
            value,
        } => {
            if let Some(bucket) = memory.endpoints.get(bucket as usize)
                && let Some(slot) = bucket.slots.get(slot as usize)
            {
                slot.value.set(value);
                fence(Ordering::Release);
                slot.key.set(key);
            }
        }
        Write::WideEndpoint {
            bucket,
            slot,
            address,
            key,
            value,
        } => {
            if let Some(bucket) = memory.wide_endpoints.get(bucket as usize)
                && let Some(slot) = bucket.slots.get(slot as usize)
            {
                write_wide_endpoint(slot, address, key, value);
            }
        }
        _ => {}
    }
}

/// No packet finds the key with an address or a value that is not its own.
fn write_wide_endpoint(slot: &WideEndpointSlot, address: Address, key: u32, value: u32) {
    if u64::from(key) <= ENDPOINT_TOMBSTONE {
        slot.key.set(key);
        fence(Ordering::Release);
    }
    write_words(&slot.address, address);
    slot.value.set(value);
    fence(Ordering::Release);
    slot.key.set(key);
}

fn write_service(service: &Service, record: &ServiceRecord) {
    service.address.set(ipv4_of(record.address));
    write_words(&service.wide_address, record.address);
    service.port.set(record.port);
    service.scheduler.set(record.scheduler);
    service.scheduler_name.set(record.scheduler_name);
    service.current_weight.set(record.current_weight);
    service.mark.set(record.mark);
    service.persistence.set(record.persistence);
    service.netmask.set(record.netmask);
    service.segment.set(record.segment);
    fence(Ordering::Release);
    service.flags.set(record.flags);
}

fn write_server(server: &Server, record: &ServerRecord) {
    const TAKES_CONNECTIONS: u32 = server_flags::ALIVE | server_flags::WEIGHTED;
    server.address.set(ipv4_of(record.address));
    write_words(&server.wide_address, record.address);
    server.virtual_address.set(ipv4_of(record.virtual_address));
    write_words(&server.wide_virtual_address, record.virtual_address);
    server.ports.set(record.ports);
    server.service.set(record.service);
    server.weight.set(record.weight);
    server.order.set(record.order);
    server.tunnel.set(record.tunnel);
    server.upper_threshold.set(record.upper_threshold);
    server.lower_threshold.set(record.lower_threshold);
    if record.flags & TAKES_CONNECTIONS != TAKES_CONNECTIONS {
        server.leaf.set(NOBODY);
    }
    fence(Ordering::Release);
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
    if let Some(load) = memory.loads.get(server as usize) {
        load.overloaded.set(0);
    }
}
