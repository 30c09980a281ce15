//! From servers to clients.

use super::inbound::{check, refuse, settings};
use super::packet::{Packet, Transport};
use super::width::Width;
use super::{Arrival, end, fragment, next_state, segment};
use crate::forward::{Verdict, count_packet, counted_length, method_of, track};
use crate::frame::protocol;
use crate::hop;
use crate::host::Host;
use crate::layout::{NOBODY, Server, endpoint_kind, method, settings};
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
    let Arrival {
        packet, transport, ..
    } = arrival;
    let wanted = W::of_server(host, packet, *transport);
    let found: Option<Found<'_, W>> = table::find(host, W::place(host, wanted), wanted);
    let Some(found) = found else {
        return Verdict::Pass;
    };
    match sender::<H, W>(host, found.entry, packet, transport) {
        Some(server) => send::<H, W>(host, arrival, found.entry, server),
        None => Verdict::Pass,
    }
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

/// Sends a server's packet to the client.
#[inline(always)]
fn send<H: Host, W: Width>(
    host: &H,
    arrival: &Arrival,
    entry: &W::Entry,
    server: &Server,
) -> Verdict {
    let Arrival {
        packet, transport, ..
    } = arrival;
    let after = W::virtual_end(entry, server);
    let way = hop::remembered(host, entry, || {
        hop::route(
            host,
            packet.is_ipv6,
            after.address,
            packet.destination,
            packet.protocol,
        )
    });
    if let Err(verdict) = check(host, arrival, &way) {
        return verdict;
    }
    let direction = Direction::Output;
    let next = next_state(
        host,
        packet.protocol,
        entry.state().get(),
        transport.event,
        direction,
    );
    track(host, entry, next, direction);
    count_packet(host, entry.server().get(), counted_length(host), direction);
    arrival.job.set_source(after);
    fragment::note(arrival, entry.server().get(), fragment::kind::FROM_SERVER);
    arrival.job.set_way(&way);
    segment::next_of(host, arrival, entry.service().get(), server)
}
