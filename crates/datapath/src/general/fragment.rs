//! Fragments: the first one has ports, and says where the others go. Which way it went
//! is kept like a connection, for as long as a receiver would wait for the rest.

use super::inbound::{check, check_inbound, set_job};
use super::packet::{Packet, what};
use super::rewrite::WideEnd;
use super::{Arrival, Part, lease};
use crate::forward::{Verdict, count_packet, counted_length, drop, is_alive, pass};
use crate::hash;
use crate::hop;
use crate::host::{Host, Store};
use crate::layout::WideBucket;
use crate::reason::Reason;
use crate::state::{self, Direction};
use crate::table::{self, Aim, By, Found, WantedWide, WideOpening, address_of};

/// Direction of the packet, in the entry's ports.
const FROM_SERVER: u32 = 1;

/// What finds the fragments of a packet: its source, its identification, its protocol
/// and, as a tag, its destination.
#[inline(always)]
fn wanted<S: Store>(store: &S, packet: &Packet) -> WantedWide {
    let upper = (packet.id >> 16) as u16;
    let tag = hash::wide_server_tag(packet.destination, upper, store.seed());
    WantedWide {
        address: packet.source,
        port: packet.id & 0xffff | u32::from(packet.protocol) << 16 | state::FRAGMENT << 24,
        aim: Aim::any(By::ServerTag(tag)),
    }
}

/// Has noted where a packet goes, if it is the first fragment of one: to or from which
/// server. The address that it gets stands in its job.
#[inline(always)]
pub(super) fn note<H: Host>(host: &H, arrival: &Arrival, server: u32, direction: Direction) {
    if arrival.packet.what == what::FIRST {
        host.note_fragment(server, direction as u32);
        lease::settle(host, arrival);
    }
}

/// Notes where the packet that is kept goes, for its other fragments.
#[inline(always)]
pub(super) fn enter<S: Store>(store: &S, server: u32, direction: u32) -> u32 {
    let Some(arrival) = store.kept() else {
        return 0;
    };
    let from_server = direction == Direction::Output as u32;
    let wanted = wanted(store, &arrival.packet);
    let By::ServerTag(server_tag) = wanted.aim.by else {
        return 0;
    };
    let place = wanted.place(store);
    let known: Option<Found<'_, WideBucket>> = table::find(store, place, wanted);
    if let Some(known) = known {
        table::discard(store, known);
    }
    let new = WideOpening {
        address: wanted.address,
        port: wanted.port,
        virtual_address: if from_server {
            arrival.job.source().address
        } else {
            arrival.job.destination().address
        },
        ports: if from_server { FROM_SERVER } else { 0 },
        service: 0,
        server,
        server_tag,
        state: state::FRAGMENT,
        hop: 0,
    };
    table::enter::<S, WideBucket>(store, place, new);
    1
}

/// A later fragment of what a server on this machine sends follows the first one.
#[inline(always)]
pub(super) fn reply<H: Host>(host: &H, arrival: &Arrival) -> Verdict {
    let wanted = wanted(host, &arrival.packet);
    let found: Option<Found<'_, WideBucket>> = table::find(host, wanted.place(host), wanted);
    let Some(found) = found.filter(|found| found.entry.ports.get() == FROM_SERVER) else {
        return Verdict::Pass;
    };
    let entry = found.entry;
    let index = entry.server.get();
    count_packet(host, index, counted_length(host), Direction::Output);
    arrival.job.set_source(WideEnd {
        address: address_of(&entry.virtual_address),
        port: 0,
    });
    arrival.job.set_local();
    Verdict::Then {
        part: Part::Deliver,
    }
}

/// A later fragment follows the first one.
#[inline(always)]
pub(super) fn process<H: Host>(host: &H, arrival: &Arrival) -> Verdict {
    let packet = &arrival.packet;
    let wanted = wanted(host, packet);
    let found: Option<Found<'_, WideBucket>> = table::find(host, wanted.place(host), wanted);
    let Some(found) = found else {
        return pass(host, Reason::Fragment);
    };
    let entry = found.entry;
    let index = entry.server.get();
    let Some(server) = host.server(index).filter(|server| is_alive(server)) else {
        return drop(host, Reason::ServerGone);
    };
    let from_server = entry.ports.get() == FROM_SERVER;
    let address = address_of(&entry.virtual_address);
    let flags = server.flags.get();
    let way = if from_server {
        hop::remembered(host, entry, || {
            hop::route(
                host,
                packet.is_ipv6,
                address,
                packet.destination,
                packet.protocol,
            )
        })
    } else {
        hop::to_server_wide(host, server, packet.source, packet.protocol)
    };
    let checked = if from_server {
        check(host, arrival, &way)
    } else {
        check_inbound(host, arrival, flags, &way)
    };
    if let Err(verdict) = checked {
        return verdict;
    }
    let direction = if from_server {
        Direction::Output
    } else {
        Direction::Input
    };
    count_packet(host, index, counted_length(host), direction);
    let job = &arrival.job;
    // There are no ports to be changed.
    let after = WideEnd { address, port: 0 };
    if from_server {
        job.set_source(after);
    } else {
        set_job(job, index, server, after);
    }
    job.set_way(&way);
    Verdict::Then {
        part: Part::Deliver,
    }
}
