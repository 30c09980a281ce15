//! From servers on this machine to clients: what the local stack sends gets the end that the
//! client knows, and leaves by the way that the stack has found. Translated where it leaves,
//! at tc's egress, since it never comes in.

use super::icmp::{self, DELIVER};
use super::outbound::is_from_server;
use super::packet::{self, Packet, Transport, what};
use super::rewrite::WideEnd;
use super::width::Width;
use super::{Arrival, Part, fragment, next_state, segment};
use crate::endpoint;
use crate::forward::{Verdict, count_packet, counted_length, method_of, track};
use crate::frame::{ETHERNET, ETHERTYPE_IPV4, ETHERTYPE_IPV6, protocol};
use crate::host::{Host, Window};
use crate::layout::{Bucket, Server, WideBucket, method, server_flags};
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
    let is_later = kept.packet.what == what::LATER;
    let is_icmp = matches!(kept.packet.protocol, protocol::ICMP | protocol::ICMPV6);
    if is_icmp && !is_later {
        return if host.parse_quoted() != 0 {
            Verdict::Then {
                part: Part::ReplyError,
            }
        } else {
            Verdict::Pass
        };
    }
    if is_later {
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
    let sender_end = WideEnd {
        address: packet.source,
        port: transport.source_port,
    };
    let Some(server) = server_at::<H, W>(host, entry, sender_end) else {
        return Verdict::Pass;
    };
    let direction = Direction::Output;
    let present = entry.state().get();
    let next = next_state(host, packet.protocol, present, transport.event, direction);
    track(host, entry, next, direction);
    count_packet(host, index, counted_length(host), direction);
    arrival.job.set_source(W::virtual_end(entry, server));
    arrival.job.set_local();
    fragment::note(arrival, index, fragment::kind::FROM_SERVER);
    segment::next_of(host, arrival, entry.service().get(), server)
}

/// An error about a client's packet, which quotes it as the server would have got it.
#[inline(always)]
pub(super) fn error<H: Host>(host: &H, arrival: &Arrival) -> Verdict {
    let (packet, transport) = icmp::turned(arrival);
    if !packet.is_ipv6 {
        let verdict = error_in::<H, Bucket>(host, arrival, &packet, transport);
        if verdict != Verdict::Pass {
            return verdict;
        }
    }
    error_in::<H, WideBucket>(host, arrival, &packet, transport)
}

/// The same about a connection in this table; `answer` is the quoted packet turned round.
#[inline(always)]
fn error_in<H: Host, W: Width>(
    host: &H,
    arrival: &Arrival,
    answer: &Packet,
    transport: Transport,
) -> Verdict {
    let wanted = W::of_server(host, answer, transport);
    let found: Option<Found<'_, W>> = table::find(host, W::place(host, wanted), wanted);
    let Some(found) = found else {
        return Verdict::Pass;
    };
    let entry = found.entry;
    let before = WideEnd {
        address: answer.source,
        port: transport.source_port,
    };
    let Some(server) = server_at::<H, W>(host, entry, before) else {
        return Verdict::Pass;
    };
    let length = arrival.packet.length;
    count_packet(host, entry.server().get(), length, Direction::Output);
    arrival.job.set_source(W::virtual_end(entry, server));
    arrival.job.set_local();
    DELIVER
}

/// The server of a connection, if this is its end and it is on this machine.
#[inline(always)]
fn server_at<'a, H: Host, W: Width>(
    host: &'a H,
    entry: &W::Entry,
    it: WideEnd,
) -> Option<&'a Server> {
    let server = host.server(entry.server().get())?;
    let flags = server.flags.get();
    let end = W::server_end(entry, server);
    let is_it = end.address == it.address
        && end.port == it.port
        && flags & server_flags::LOCAL != 0
        && matches!(method_of(flags), method::MASQ | method::FULL_NAT);
    is_it.then_some(server)
}
