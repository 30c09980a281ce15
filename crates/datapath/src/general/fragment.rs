//! Fragments: the first one has ports, and says where the others go. Which way it went
//! is kept like a connection, for as long as a receiver would wait for the rest. Where both
//! its ends were changed, the entry says by what the translated source is found.

use super::inbound::{check, check_inbound, is_translated, set_job};
use super::packet::{Packet, what};
use super::rewrite::WideEnd;
use super::{Arrival, Part, UNASKED, lease, source_nat};
use crate::forward::{Verdict, count_packet, counted_length, drop, is_alive, pass};
use crate::hash;
use crate::hop;
use crate::host::{Host, Store};
use crate::layout::{Address, Server, WideBucket, WideEntry};
use crate::reason::Reason;
use crate::state::{self, Direction};
use crate::table::{self, Aim, By, Found, WantedWide, WideOpening, address_of};

/// What the first fragment was, in the lower half of the entry's ports.
pub(super) mod kind {
    /// Nothing is to be noted.
    pub(crate) const NOTHING: u32 = 0;
    /// From a client. With a translated source, the entry's hop is the reference of that.
    pub(crate) const TO_SERVER: u32 = 1;
    /// From a server to a client.
    pub(crate) const FROM_SERVER: u32 = 2;
    /// From a server to a translated source. The upper half of the entry's ports is that one's
    /// port, and the entry's hop the server's tag.
    pub(crate) const TO_SOURCE: u32 = 3;
    /// Mask.
    pub(crate) const KIND: u32 = 0xffff;
}

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
/// server. The addresses that it gets stand in its job.
#[inline(always)]
pub(super) fn note(arrival: &Arrival, server: u32, kind: u32) {
    if arrival.packet.what == what::FIRST {
        arrival.chosen.set(server);
        arrival.fragment.set(kind);
    }
}

/// Notes where the packet that is kept goes, for its other fragments, and sends it there.
#[inline(always)]
pub(super) fn first<H: Host>(host: &H, arrival: &Arrival) -> Verdict {
    enter(host, arrival);
    lease::settle(host, arrival);
    Verdict::Then {
        part: if arrival.job.segment() == 0 {
            Part::Deliver
        } else {
            Part::Segment
        },
    }
}

#[inline(always)]
fn enter<S: Store>(store: &S, arrival: &Arrival) {
    let (packet, transport) = (&arrival.packet, &arrival.transport);
    let wanted = wanted(store, packet);
    let By::ServerTag(server_tag) = wanted.aim.by else {
        return;
    };
    let place = wanted.place(store);
    let known: Option<Found<'_, WideBucket>> = table::find(store, place, wanted);
    if let Some(known) = known {
        table::discard(store, known);
    }
    let kind = arrival.fragment.get();
    let job = &arrival.job;
    let (end, ports, hop) = match kind {
        kind::TO_SERVER => (job.destination(), 0, arrival.reference.get()),
        kind::TO_SOURCE => {
            let tag = hash::wide_server_tag(packet.source, transport.source_port, store.seed());
            (job.source(), transport.destination_port, tag)
        }
        _ => (job.source(), 0, 0),
    };
    let new = WideOpening {
        address: wanted.address,
        port: wanted.port,
        virtual_address: end.address,
        ports: u32::from(ports) << 16 | kind,
        service: 0,
        server: arrival.chosen.get(),
        server_tag,
        state: state::FRAGMENT,
        hop,
    };
    table::enter::<S, WideBucket>(store, place, new);
}

/// A later fragment of what a server on this machine sends follows the first one.
#[inline(always)]
pub(super) fn reply<H: Host>(host: &H, arrival: &Arrival) -> Verdict {
    let wanted = wanted(host, &arrival.packet);
    let found: Option<Found<'_, WideBucket>> = table::find(host, wanted.place(host), wanted);
    let Some(found) = found.filter(|found| found.entry.ports.get() == kind::FROM_SERVER) else {
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
    let wanted = wanted(host, &arrival.packet);
    let found: Option<Found<'_, WideBucket>> = table::find(host, wanted.place(host), wanted);
    let Some(found) = found else {
        return pass(host, Reason::Fragment);
    };
    let entry = found.entry;
    let index = entry.server.get();
    let Some(server) = host.server(index).filter(|server| is_alive(server)) else {
        return drop(host, Reason::ServerGone);
    };
    if entry.ports.get() & kind::KIND == kind::TO_SERVER {
        to_server(host, arrival, entry, server)
    } else {
        to_client(host, arrival, entry)
    }
}

#[inline(always)]
fn to_server<H: Host>(host: &H, arrival: &Arrival, entry: &WideEntry, server: &Server) -> Verdict {
    let packet = &arrival.packet;
    let flags = server.flags.get();
    let way = hop::to_server_wide(host, server, packet.source, packet.protocol);
    if let Err(verdict) = check_inbound(host, arrival, flags, &way) {
        return verdict;
    }
    let index = entry.server.get();
    count_packet(host, index, counted_length(host), Direction::Input);
    let job = &arrival.job;
    if is_translated(flags) && entry.hop.get() != UNASKED {
        let source = source_nat::source_end(host, server, entry.hop.get());
        job.set_source(without_port(source.address));
    }
    let after = without_port(address_of(&entry.virtual_address));
    set_job(job, index, server, after);
    job.set_way(&way);
    Verdict::Then {
        part: Part::Deliver,
    }
}

#[inline(always)]
fn to_client<H: Host>(host: &H, arrival: &Arrival, entry: &WideEntry) -> Verdict {
    let packet = &arrival.packet;
    let source = address_of(&entry.virtual_address);
    let way = if entry.ports.get() & kind::KIND == kind::TO_SOURCE {
        let wanted = source_nat::wanted_by(
            packet.protocol,
            WideEnd {
                address: packet.destination,
                port: (entry.ports.get() >> 16) as u16,
            },
            entry.hop.get(),
        );
        let found: Option<Found<'_, WideBucket>> = table::find(host, wanted.place(host), wanted);
        let Some(found) = found else {
            return pass(host, Reason::Fragment);
        };
        let client = address_of(&found.entry.virtual_address);
        arrival.job.set_destination(without_port(client));
        hop::route(host, packet.is_ipv6, source, client, packet.protocol)
    } else {
        hop::remembered(host, entry, || {
            let client = packet.destination;
            hop::route(host, packet.is_ipv6, source, client, packet.protocol)
        })
    };
    if let Err(verdict) = check(host, arrival, &way) {
        return verdict;
    }
    let index = entry.server.get();
    count_packet(host, index, counted_length(host), Direction::Output);
    arrival.job.set_source(without_port(source));
    arrival.job.set_way(&way);
    Verdict::Then {
        part: Part::Deliver,
    }
}

/// Later fragments have no ports to be changed.
#[inline(always)]
fn without_port(address: Address) -> WideEnd {
    WideEnd { address, port: 0 }
}
