//! From servers to clients.

use super::inbound::{check, refuse, settings};
use super::packet::{Packet, Transport};
use super::width::Width;
use super::{Arrival, end, fragment, next_state, segment};
use crate::forward::{Verdict, count_packet, counted_length, method_of, track};
use crate::frame::protocol;
use crate::hop::{self, Way};
use crate::host::Host;
use crate::layout::{Address, NOBODY, Server, endpoint_kind, method, settings};
use crate::reason::Reason;
use crate::state::{Direction, tcp_flags};
use crate::table::{self, Found, Slot};

/// True: a server may have sent the packet.
#[inline(always)]
pub(super) fn is_from_server<H: Host>(host: &H, arrival: &Arrival) -> bool {
    let port = u32::from(arrival.transport.source_port);
    let at = |port, kind| host.seek(end::SOURCE, port, kind) != NOBODY;
    (!arrival.packet.is_ipv6 && at(port, endpoint_kind::SERVER))
        || at(port, endpoint_kind::WIDE_SERVER)
        || at(0, endpoint_kind::WIDE_SERVER)
}

/// A server's packet that belongs to no connection: its own business, or to be answered
/// (`handle_response` and what comes before it in `ip_vs_out_hook`).
#[inline(always)]
pub(super) fn unexpected<H: Host>(host: &H, arrival: &Arrival) -> Verdict {
    const ABORT: u8 = 6;
    let event = arrival.transport.event;
    let is_end = match arrival.packet.protocol {
        protocol::TCP => event & tcp_flags::RST != 0,
        protocol::SCTP => event == ABORT,
        _ => false,
    };
    if settings(host) & settings::NAT_ICMP_SEND == 0 || is_end {
        return Verdict::Pass;
    }
    refuse(host, arrival, Reason::Unexpected, 0)
}

/// From a server to a client; [`Verdict::Pass`]: there is no such connection, it is the
/// server's own business.
#[inline(always)]
pub(super) fn process<H: Host, W: Width>(host: &H, arrival: &Arrival) -> Verdict {
    of_connection::<H, W>(
        host,
        &arrival.packet,
        &arrival.transport,
        is_routed,
        |entry, server| send::<H, W>(host, arrival, entry, server),
    )
}

/// True: what a server with these flags answers comes through the director, to the client's
/// address.
#[inline(always)]
pub(super) fn is_routed(flags: u32) -> bool {
    method_of(flags) == method::MASQ
}

/// Does something with the connection of a server's packet, and with the server, if
/// `is_wanted` says so of its flags; [`Verdict::Pass`]: there is no such connection.
#[inline(always)]
pub(super) fn of_connection<'a, H: Host, W: Width + 'a>(
    host: &'a H,
    packet: &Packet,
    transport: &Transport,
    is_wanted: impl FnOnce(u32) -> bool,
    go: impl FnOnce(&'a W::Entry, &'a Server) -> Verdict,
) -> Verdict {
    let wanted = W::of_server(host, packet, *transport);
    let found: Option<Found<'a, W>> = table::find(host, W::place(host, wanted), wanted);
    let Some(found) = found else {
        return Verdict::Pass;
    };
    let entry = found.entry;
    match sender::<H, W>(host, entry, packet, transport, is_wanted) {
        Some(server) => go(entry, server),
        None => Verdict::Pass,
    }
}

/// The server of a connection, if it is the packet's sender and is wanted.
#[inline(always)]
fn sender<'a, H: Host, W: Width>(
    host: &'a H,
    entry: &W::Entry,
    packet: &Packet,
    transport: &Transport,
    is_wanted: impl FnOnce(u32) -> bool,
) -> Option<&'a Server> {
    let server = host.server(entry.server().get())?;
    let end = W::server_end(entry, server);
    let is_it = end.address == packet.source
        && end.port == transport.source_port
        && is_wanted(server.flags.get());
    is_it.then_some(server)
}

/// Sends a server's packet to the client.
#[inline(always)]
fn send<H: Host, W: Width>(
    host: &H,
    arrival: &Arrival,
    entry: &W::Entry,
    server: &Server,
) -> Verdict {
    let after = W::virtual_end(entry, server);
    let packet = &arrival.packet;
    let way = hop::remembered(host, entry, || {
        route(host, packet, after.address, packet.destination)
    });
    if let Err(verdict) = check(host, arrival, &way) {
        return verdict;
    }
    note(host, arrival, entry);
    arrival.job.set_source(after);
    arrival.job.set_way(&way);
    segment::next_of(host, arrival, entry.service().get(), server)
}

/// Asks the kernel for the way of a server's packet to a client.
#[inline(always)]
pub(super) fn route<H: Host>(host: &H, packet: &Packet, from: Address, client: Address) -> Way {
    hop::route(host, packet.is_ipv6, from, client, packet.protocol)
}

/// Notes a server's packet in its connection, and counts it.
#[inline(always)]
pub(super) fn note<H: Host, E: Slot>(host: &H, arrival: &Arrival, entry: &E) {
    let direction = Direction::Output;
    let present = entry.state().get();
    let event = arrival.transport.event;
    let next = next_state(host, arrival.packet.protocol, present, event, direction);
    track(host, entry, next, direction);
    let index = entry.server().get();
    count_packet(host, index, counted_length(host), direction);
    fragment::note(arrival, index, fragment::kind::FROM_SERVER);
}
