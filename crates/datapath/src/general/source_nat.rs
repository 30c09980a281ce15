//! Source NAT: the server sees an address of the director's, and answers to it; so it
//! needs neither a route back nor any setting. IPVS has no such method.
//!
//! An address and a port stand for one connection to one server's port: the same pair
//! serves other servers at the same time. It is reserved by an entry of its own
//! ([`state::TRANSLATED`]) that finds the connection for the server's answers. The
//! connection's entry names the pair in place of the server's tag.

use super::icmp;
use super::inbound::check;
use super::outbound;
use super::packet::{Packet, Transport};
use super::rewrite::{self, WideEnd};
use super::width::Width;
use super::{Arrival, UNASKED, fragment, lease, next_state, segment};
use crate::forward::{Verdict, client_port, count_packet, counted_length, track};
use crate::frame::End;
use crate::hash;
use crate::hop;
use crate::host::{Host, Store};
use crate::layout::{Address, Bucket, Control, POOL, Server, WideBucket, WideEntry};
use crate::state::{self, Direction};
use crate::table::{self, Aim, By, Found, Slot, WantedWide, WideOpening, address_of};

/// Ports that are tried for a new connection: while nine of ten are taken, one in thirty
/// connections finds none.
const TRIES: u32 = 64;
/// How many of them are anywhere; the others follow each other.
const SCATTERED: u32 = 32;
/// In place of a pool's address: the director's own on the way to the server.
const OWN: u32 = POOL as u32;

/// A pair of an address's number and a port as it stands in the packet, as a connection
/// names it. Never [`UNASKED`].
#[inline(always)]
const fn reference(number: u32, port: u16) -> u32 {
    number << 16 | port as u32
}

/// The address that a reference names.
#[inline(always)]
fn address<S: Store>(store: &S, server: &Server, reference: u32) -> Address {
    let number = reference >> 16;
    if number >= OWN {
        return address_of(&server.source);
    }
    // Bounded in a way that the verifier sees.
    let number = store.opaque(number) as usize & (POOL - 1);
    store
        .control()
        .map_or([0; 4], |control| address_of(&control.pool[number]))
}

/// The translated source of a connection.
#[inline(always)]
pub(super) fn source_end<S: Store>(store: &S, server: &Server, reference: u32) -> WideEnd {
    WideEnd {
        address: address(store, server, reference),
        port: reference as u16,
    }
}

/// Rewrites the source and the destination of a client's packet, which are `before`, and
/// takes one from its time to live.
#[inline(always)]
pub(super) fn to_server<H: Host>(
    host: &H,
    packet: &Packet,
    before: [WideEnd; 2],
    after: WideEnd,
    server: &Server,
    reference: u32,
) -> bool {
    let source = source_end(host, server, reference);
    rewrite::set_end(host, packet, End::Destination, before[1], after)
        && rewrite::set_end(host, packet, End::Source, before[0], source)
        && rewrite::pass_on(host, packet)
}

/// Which of a pool's addresses a client gets.
#[inline(always)]
fn number(control: &Control, is_ipv6: bool, hash: u32) -> u32 {
    let count = control.pool_count.get();
    let count = if is_ipv6 { count >> 16 } else { count & 0xffff };
    if count == 0 {
        return OWN;
    }
    let number = hash % count;
    // IPv6's stand at the end, so that they keep their places when IPv4 gets more.
    if is_ipv6 {
        (POOL as u32 - 1).wrapping_sub(number)
    } else {
        number
    }
}

/// Reserves an address and a port for the connection that is kept, to the server that
/// was chosen for it. False: all that were tried are taken.
#[inline(always)]
pub(super) fn allocate<H: Host>(host: &H, arrival: &Arrival) -> bool {
    let (packet, transport) = (&arrival.packet, &arrival.transport);
    let Some(control) = host.control() else {
        return false;
    };
    let place = hash::wide_connection(
        packet.source,
        client_port(transport.source_port, packet.protocol),
        host.seed(),
    );
    let number = number(control, packet.is_ipv6, place.signature >> 8);
    let range = control.pool_ports.get();
    let (low, count) = (range & 0xffff, range >> 16);
    if count == 0 {
        return false;
    }
    // The client's own port if it is one of these, then any, then one after the other:
    // of a small range all are tried, and of a large one ports that have nothing to do
    // with those of other clients.
    let own = u32::from(u16::from_be(transport.source_port)).wrapping_sub(low);
    let step = place.signature | 1;
    for turn in 0..TRIES {
        let at = match turn {
            0 if own < count => own,
            0..SCATTERED => place.bucket.wrapping_add(turn.wrapping_mul(step)),
            _ => place.bucket.wrapping_add(turn),
        };
        let port = low + at % count;
        let wanted = reference(number, (port as u16).to_be());
        let is_reserved = host.reserve(wanted) != 0;
        lease::settle(host, arrival);
        if is_reserved {
            arrival.reference.set(wanted);
            return true;
        }
    }
    false
}

/// What finds the connection of an answer that a server sends to a translated source.
#[inline(always)]
pub(super) fn wanted<S: Store>(
    store: &S,
    protocol: u8,
    source: WideEnd,
    server: WideEnd,
) -> WantedWide {
    let tag = hash::wide_server_tag(server.address, server.port, store.seed());
    wanted_by(protocol, source, tag)
}

/// The same by the tag of the server's address and port.
#[inline(always)]
pub(super) fn wanted_by(protocol: u8, source: WideEnd, tag: u32) -> WantedWide {
    WantedWide {
        address: source.address,
        port: client_port(source.port, protocol) | state::TRANSLATED << 24,
        aim: Aim::any(By::ServerTag(tag)),
    }
}

/// Reserves a pair for the connection that is kept: 1, or 0 where it is taken.
#[inline(always)]
pub fn reserve<S: Store>(store: &S, reference: u32) -> u32 {
    let Some(arrival) = store.kept() else {
        return 0;
    };
    let index = arrival.chosen.get();
    let Some(server) = store.server(index) else {
        return 0;
    };
    let (packet, transport) = (&arrival.packet, &arrival.transport);
    let end = WideEnd {
        address: address_of(&server.wide_address),
        port: arrival.server_port.get() as u16,
    };
    let source = source_end(store, server, reference);
    if source.address == [0; 4] {
        return 0;
    }
    let wanted = wanted(store, packet.protocol, source, end);
    let place = wanted.place(store);
    let taken: Option<Found<'_, WideBucket>> = table::find(store, place, wanted);
    if taken.is_some() || lease::is_ambiguous(store, arrival.index.get(), reference) {
        return 0;
    }
    let By::ServerTag(server_tag) = wanted.aim.by else {
        return 0;
    };
    let new = WideOpening {
        address: wanted.address,
        port: wanted.port,
        virtual_address: packet.source,
        ports: u32::from(transport.source_port) | u32::from(transport.destination_port) << 16,
        service: arrival.index.get(),
        server: index,
        server_tag,
        state: state::TRANSLATED,
        hop: reference,
    };
    let opened: Option<Found<'_, WideBucket>> = table::open(store, place, new, None);
    let Some(opened) = opened else {
        return 0;
    };
    // Another CPU may have reserved it at the same moment, for another client.
    let entry = opened.entry;
    let is_ours = entry.ports.get() == new.ports
        && entry.service.get() & 0xffff == new.service
        && table::is_address(&entry.virtual_address, packet.source);
    is_ours.into()
}

/// A server's answer to a translated source; [`Verdict::Pass`]: it is none.
#[inline(always)]
pub(super) fn process<H: Host>(host: &H, arrival: &Arrival) -> Verdict {
    let [to, from] = ends(&arrival.packet, &arrival.transport);
    find::<H, false>(host, arrival, to, from)
}

/// An ICMP error about a packet with a translated source; [`Verdict::Pass`]: it is none.
#[inline(always)]
pub(super) fn error<H: Host>(host: &H, arrival: &Arrival) -> Verdict {
    let (packet, transport) = icmp::turned(arrival);
    let [to, from] = ends(&packet, &transport);
    find::<H, true>(host, arrival, to, from)
}

/// The client whose source it is.
#[inline(always)]
fn client_of(translated: &WideEntry) -> WideEnd {
    WideEnd {
        address: address_of(&translated.virtual_address),
        port: translated.ports.get() as u16,
    }
}

/// Where a packet goes, and where it comes from.
#[inline(always)]
fn ends(packet: &Packet, transport: &Transport) -> [WideEnd; 2] {
    let to = WideEnd {
        address: packet.destination,
        port: transport.destination_port,
    };
    let from = WideEnd {
        address: packet.source,
        port: transport.source_port,
    };
    [to, from]
}

/// Finds the connection whose translated source is `to`, with the server at `from`, for an
/// error about its packet or for an answer.
#[inline(always)]
fn find<H: Host, const IS_ERROR: bool>(
    host: &H,
    arrival: &Arrival,
    to: WideEnd,
    from: WideEnd,
) -> Verdict {
    let protocol = arrival.protocol();
    let wanted = wanted(host, protocol, to, from);
    let translated: Option<Found<'_, WideBucket>> = table::find(host, wanted.place(host), wanted);
    let Some(translated) = translated else {
        return Verdict::Pass;
    };
    let entry = translated.entry;
    let number = entry.server.get();
    let Some(server) = host.server(number) else {
        return Verdict::Pass;
    };
    if !table::is_address(&server.wide_address, from.address) {
        return Verdict::Pass;
    }
    let client = client_of(entry);
    let Some(service) = host.service(entry.service.get() & 0xffff) else {
        return Verdict::Pass;
    };
    let port = client_port(client.port, protocol);
    let reference = entry.hop.get();
    if lease::is_wide(service) {
        let wanted = lease::wide(client.address, port, reference);
        let found: Option<Found<'_, WideBucket>> = table::find(host, wanted.place(host), wanted);
        return go::<H, WideBucket, IS_ERROR>(host, arrival, entry, found, number, server);
    }
    let wanted = lease::narrow(client.address, port, reference);
    let found: Option<Found<'_, Bucket>> = table::find(host, wanted.place(host), wanted);
    go::<H, Bucket, IS_ERROR>(host, arrival, entry, found, number, server)
}

/// Tells or answers the client of the connection that was found, if it is to this server,
/// which has this number.
#[inline(always)]
fn go<H: Host, W: Width, const IS_ERROR: bool>(
    host: &H,
    arrival: &Arrival,
    translated: &WideEntry,
    found: Option<Found<'_, W>>,
    number: u32,
    server: &Server,
) -> Verdict {
    match found {
        Some(found) if found.entry.server().get() == number => {
            let send = if IS_ERROR {
                tell::<H, W>
            } else {
                reply::<H, W>
            };
            send(host, arrival, translated, found.entry, server)
        }
        _ => Verdict::Pass,
    }
}

/// Tells the client of an error about what it sent.
#[inline(always)]
fn tell<H: Host, W: Width>(
    host: &H,
    arrival: &Arrival,
    translated: &WideEntry,
    entry: &W::Entry,
    server: &Server,
) -> Verdict {
    let packet = &arrival.packet;
    let client = client_of(translated);
    let after = W::virtual_end(entry, server);
    let way = hop::remembered(host, entry, || {
        outbound::route(host, packet, after.address, client.address)
    });
    if let Err(verdict) = check(host, arrival, &way) {
        return verdict;
    }
    count_packet(host, entry.server().get(), packet.length, Direction::Output);
    arrival.job.set_source(after);
    arrival.job.set_destination(client);
    arrival.job.set_way(&way);
    icmp::DELIVER
}

/// Sends a server's answer to the client.
#[inline(always)]
fn reply<H: Host, W: Width>(
    host: &H,
    arrival: &Arrival,
    translated: &WideEntry,
    entry: &W::Entry,
    server: &Server,
) -> Verdict {
    let (packet, transport) = (&arrival.packet, &arrival.transport);
    let client = client_of(translated);
    let after = W::virtual_end(entry, server);
    let way = hop::remembered(host, entry, || {
        outbound::route(host, packet, after.address, client.address)
    });
    if let Err(verdict) = check(host, arrival, &way) {
        return verdict;
    }
    let direction = Direction::Output;
    let present = entry.state().get();
    let next = next_state(host, packet.protocol, present, transport.event, direction);
    lease::answered(host, translated, next);
    track(host, entry, next, direction);
    count_packet(host, entry.server().get(), counted_length(host), direction);
    arrival.job.set_source(after);
    arrival.job.set_destination(client);
    arrival.job.set_way(&way);
    fragment::note(arrival, entry.server().get(), fragment::kind::TO_SOURCE);
    segment::next_of(host, arrival, entry.service().get(), server)
}

const _: () = assert!(POOL.is_power_of_two() && reference(OWN, u16::MAX) < UNASKED);
