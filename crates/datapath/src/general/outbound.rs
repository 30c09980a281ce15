//! From servers to clients.

use super::find;
use super::inbound::check;
use super::packet::{Packet, Transport};
use super::rewrite::{self, WideEnd};
use super::width::Width;
use crate::forward::{
    Verdict, count_packet, counted_length, drop, leave, method_of, next_state, track,
};
use crate::frame::End;
use crate::hop;
use crate::host::Host;
use crate::layout::{Bucket, Server, WideBucket, endpoint_kind, method};
use crate::reason::Reason;
use crate::state::Direction;
use crate::table::{self, Found, Slot};

/// True: a server may have sent the packet.
#[inline(always)]
pub(super) fn is_from_server<H: Host>(host: &H, packet: &Packet, transport: &Transport) -> bool {
    let port = transport.source_port;
    let at = |port, kind| find(host, packet, packet.source, port, kind).is_some();
    (!packet.is_ipv6 && at(port, endpoint_kind::SERVER))
        || at(port, endpoint_kind::WIDE_SERVER)
        || at(0, endpoint_kind::WIDE_SERVER)
}

/// From a server to a client.
#[inline(always)]
pub(super) fn process<H: Host>(host: &H, packet: &Packet, transport: &Transport) -> Verdict {
    if !packet.is_ipv6 {
        let wanted = Bucket::of_server(host, packet, transport);
        let found: Option<Found<'_, Bucket>> = table::find(host, wanted.place(host), wanted);
        if let Some(found) = found
            && let Some(server) = sender::<H, Bucket>(host, found.entry, packet, transport)
        {
            let departure = Departure { packet, transport };
            let sent = reply::<H, Bucket>(host, &departure, found.entry, server);
            return Verdict::unpacked(sent);
        }
    }
    let wanted = WideBucket::of_server(host, packet, transport);
    let found: Option<Found<'_, WideBucket>> = table::find(host, wanted.place(host), wanted);
    if let Some(found) = found
        && let Some(server) = sender::<H, WideBucket>(host, found.entry, packet, transport)
    {
        let departure = Departure { packet, transport };
        let sent = reply::<H, WideBucket>(host, &departure, found.entry, server);
        return Verdict::unpacked(sent);
    }
    // The server's own business.
    Verdict::Pass
}

/// The server of a connection, if it is the packet's sender and answers through the
/// director.
#[inline(always)]
fn sender<'a, H: Host, W: Width>(
    host: &'a H,
    entry: &W::Entry,
    packet: &Packet,
    transport: &Transport,
) -> Option<&'a Server> {
    let server = host.server(entry.server().get())?;
    let end = W::server_end(entry, server);
    let is_it = end.address == packet.source
        && end.port == transport.source_port
        && method_of(server.flags.get()) == method::MASQ;
    is_it.then_some(server)
}

/// A server's packet.
struct Departure<'a> {
    packet: &'a Packet,
    transport: &'a Transport,
}

/// Sends a server's packet to the client.
#[inline(never)]
fn reply<H: Host, W: Width>(
    host: &H,
    departure: &Departure<'_>,
    entry: &W::Entry,
    server: &Server,
) -> u64 {
    send::<H, W>(host, departure, entry, server).packed()
}

#[inline(always)]
fn send<H: Host, W: Width>(
    host: &H,
    departure: &Departure<'_>,
    entry: &W::Entry,
    server: &Server,
) -> Verdict {
    let Departure { packet, transport } = departure;
    let after = W::virtual_end(entry, server);
    let way = hop::remembered(host, entry, || {
        hop::route(host, packet.is_ipv6, after.address, packet.destination, packet.protocol)
    });
    if let Err(verdict) = check(host, packet, &way) {
        return verdict;
    }
    let direction = Direction::Output;
    let next = next_state(
        packet.protocol,
        entry.state().get(),
        transport.event,
        direction,
    );
    track(host, entry, next, direction);
    count_packet(host, entry.server().get(), counted_length(host), direction);
    let before = WideEnd {
        address: packet.source,
        port: transport.source_port,
    };
    if !rewrite::translate(host, packet, End::Source, before, after) {
        return drop(host, Reason::RewriteFailed);
    }
    leave(host, way)
}
