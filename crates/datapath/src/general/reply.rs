//! From servers on this machine to clients: what the local stack sends gets the end that the
//! client knows, and leaves by the way that the stack has found. Translated where it leaves,
//! at tc's egress, since it never comes in.

use super::outbound::is_from_server;
use super::packet::{self, Packet, Transport, what};
use super::width::Width;
use super::{Arrival, Part, fragment, next_state, segment};
use crate::endpoint;
use crate::forward::{Verdict, count_packet, counted_length, method_of, track};
use crate::frame::{ETHERNET, ETHERTYPE_IPV4, ETHERTYPE_IPV6, protocol};
use crate::host::{Host, Window};
use crate::layout::{Server, method, server_flags};
use crate::state::Direction;
use crate::table::{self, Found, Slot};

/// Decides about a frame that leaves this machine.
#[inline(always)]
pub(crate) fn process<H: Host>(host: &H) -> Verdict {
    if !may_be_ours(host) || packet::parse(host) != packet::parsed::KEPT {
        return Verdict::Pass;
    }
    let Some(kept) = host.kept() else {
        return Verdict::Pass;
    };
    // What covers SCTP's packets is not known before it is on the wire.
    if !matches!(kept.packet.protocol, protocol::TCP | protocol::UDP) {
        return Verdict::Pass;
    }
    if kept.packet.what == what::LATER {
        return Verdict::Then {
            part: Part::ReplyFragment,
        };
    }
    if host.parse_transport() == 0 {
        return Verdict::Pass;
    }
    match host.kept() {
        Some(arrival) if is_from_server(host, arrival) => Verdict::Then { part: Part::Reply },
        _ => Verdict::Pass,
    }
}

/// False for nearly all frames that are not a server's.
#[inline(always)]
fn may_be_ours<H: Host>(host: &H) -> bool {
    let Some(head) = host.window(0, ETHERNET + 20) else {
        return false;
    };
    match head.u16(12) {
        ETHERTYPE_IPV4 => endpoint::is_known_narrow(host, head.u32(26)),
        ETHERTYPE_IPV6 => {
            let Some(head) = host.window(0, ETHERNET + 40) else {
                return false;
            };
            let source = [head.u32(22), head.u32(26), head.u32(30), head.u32(34)];
            endpoint::is_known_wide(host, source)
        }
        _ => false,
    }
}

/// A packet of a connection; [`Verdict::Pass`]: there is none in this table.
#[inline(always)]
pub(super) fn connection<H: Host, W: Width>(host: &H, arrival: &Arrival) -> Verdict {
    let Arrival {
        packet, transport, ..
    } = arrival;
    let wanted = W::of_server(host, packet, *transport);
    let found: Option<Found<'_, W>> = table::find(host, W::place(host, wanted), wanted);
    let Some(found) = found else {
        return Verdict::Pass;
    };
    let entry = found.entry;
    let index = entry.server().get();
    let Some(server) = sender::<H, W>(host, entry, packet, transport) else {
        return Verdict::Pass;
    };
    let direction = Direction::Output;
    let present = entry.state().get();
    let next = next_state(host, packet.protocol, present, transport.event, direction);
    track(host, entry, next, direction);
    count_packet(host, index, counted_length(host), direction);
    arrival.job.set_source(W::virtual_end(entry, server));
    arrival.job.set_local();
    fragment::note(host, arrival, index, direction);
    segment::next_of(host, arrival, entry.service().get(), server)
}

/// The server of a connection, if it is the packet's sender and on this machine.
#[inline(always)]
fn sender<'a, H: Host, W: Width>(
    host: &'a H,
    entry: &W::Entry,
    packet: &Packet,
    transport: &Transport,
) -> Option<&'a Server> {
    let server = host.server(entry.server().get())?;
    let flags = server.flags.get();
    let end = W::server_end(entry, server);
    let is_it = end.address == packet.source
        && end.port == transport.source_port
        && flags & server_flags::LOCAL != 0
        && matches!(method_of(flags), method::MASQ | method::FULL_NAT);
    is_it.then_some(server)
}
