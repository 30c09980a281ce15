//! The largest segment that an end of a TCP connection asks for, when it opens it: lowered to
//! what the way to the server has room for, if the service wants it so.

use super::{Arrival, Part, fragment};
use crate::checksum;
use crate::forward::{Verdict, drop};
use crate::frame::protocol;
use crate::host::{ChecksumChange, Host, Window};
use crate::layout::{SEGMENT_BY_WAY, Server, Service, server_flags};
use crate::reason::Reason;
use crate::state::tcp_flags;

/// Offset of the checksum, and length without options (RFC 9293, 3.1).
const CHECKSUM: usize = 16;
const TCP: usize = 20;
/// Headers of a packet, for IPv4 and IPv6, without options.
const HEADERS: [u32; 2] = [20 + 20, 40 + 20];
/// Options that are looked at.
const OPTIONS: usize = 12;
/// Farthest that an option may stand in a frame.
const OFFSET_MAX: usize = 1023;

/// Kinds of options (RFC 9293, 3.2).
mod option {
    pub(super) const END: u8 = 0;
    pub(super) const PADDING: u8 = 1;
    pub(super) const LARGEST_SEGMENT: u8 = 2;
}

/// True: the packet opens a connection.
#[inline(always)]
fn is_opening(arrival: &Arrival) -> bool {
    arrival.packet.protocol == protocol::TCP && arrival.transport.event & tcp_flags::SYN != 0
}

/// Where a packet of this service goes that is ready to be sent: to have the segment lowered
/// that it asks for, or on.
#[inline(always)]
pub(super) fn next(arrival: &Arrival, service: &Service, server: &Server) -> Verdict {
    let mut part = Part::Deliver;
    if is_opening(arrival) && service.segment.get() != 0 {
        let limit = limit(arrival, service.segment.get(), server);
        arrival.job.set_segment(limit);
        part = Part::Segment;
    }
    noted(arrival, part)
}

/// On to this part, and before that to where a first fragment is noted.
#[inline(always)]
fn noted(arrival: &Arrival, part: Part) -> Verdict {
    Verdict::Then {
        part: if arrival.fragment.get() == fragment::kind::NOTHING {
            part
        } else {
            Part::FirstFragment
        },
    }
}

/// As [`next`], for a server's packet: `index` is its service.
#[inline(always)]
pub(super) fn next_of<H: Host>(
    host: &H,
    arrival: &Arrival,
    index: u32,
    server: &Server,
) -> Verdict {
    if is_opening(arrival)
        && let Some(service) = host.service(index & 0xffff)
    {
        return next(arrival, service, server);
    }
    noted(arrival, Part::Deliver)
}

/// The largest segment that may be asked for; 0: any.
#[inline(always)]
fn limit(arrival: &Arrival, wanted: u32, server: &Server) -> u32 {
    if wanted != SEGMENT_BY_WAY {
        return wanted;
    }
    let flags = server.flags.get();
    if flags & server_flags::HOP_READY == 0 {
        return 0;
    }
    let mtu = (server.mtu.get() >> (16 * (flags & server_flags::HOP))) & 0xffff;
    mtu.saturating_sub(HEADERS[usize::from(arrival.packet.is_ipv6)])
}

/// Lowers what the packet that is kept asks for.
#[inline(always)]
pub(super) fn process<H: Host>(host: &H, arrival: &Arrival) -> Verdict {
    let limit = arrival.job.segment();
    let at = host.find_segment() as usize & OFFSET_MAX;
    if limit != 0 && at != 0 && !lower(host, arrival, at, limit) {
        return drop(host, Reason::RewriteFailed);
    }
    Verdict::Then {
        part: Part::Deliver,
    }
}

#[inline(always)]
fn lower<H: Host>(host: &H, arrival: &Arrival, at: usize, limit: u32) -> bool {
    let Some(value) = host.window(at, 2) else {
        return false;
    };
    let (before, after) = (value.u16(0), (limit as u16).to_be());
    if u32::from(u16::from_be(before)) <= limit {
        return true;
    }
    let transport = arrival.packet.transport();
    // At an odd place its bytes are the other halves of two words.
    let is_odd = (at ^ transport) & 1 != 0;
    let (word_before, word_after) = if is_odd {
        (before.swap_bytes(), after.swap_bytes())
    } else {
        (before, after)
    };
    let change = ChecksumChange {
        offset: transport + CHECKSUM,
        address: 0,
        ports: checksum::change16(word_before, word_after),
        zero_is_none: false,
    };
    if !host.change_transport_checksum(change) {
        return false;
    }
    let Some(value) = host.window(at, 2) else {
        return false;
    };
    value.set_u16(0, after);
    true
}

/// Where in the frame the largest segment stands that the TCP packet that is kept asks for;
/// 0: nowhere.
#[inline(always)]
pub(super) fn find<H: Host>(host: &H) -> u32 {
    let Some(kept) = host.kept() else {
        return 0;
    };
    let begin = kept.packet.transport();
    let Some(tcp) = host.window(begin, TCP) else {
        return 0;
    };
    let end = begin + usize::from(tcp.u8(12) >> 4) * 4;
    let mut at = begin + TCP;
    for _ in 0..OPTIONS {
        at = host.opaque(at as u32) as usize & OFFSET_MAX;
        if at + 4 > end {
            return 0;
        }
        let Some(head) = host.window(at, 4) else {
            return 0;
        };
        let (kind, length) = (head.u8(0), head.u8(1));
        if kind == option::LARGEST_SEGMENT {
            return if length == 4 { at as u32 + 2 } else { 0 };
        }
        if kind == option::END {
            return 0;
        }
        // Without a branch, of which there would be one for each option.
        let is_padding = usize::from(kind == option::PADDING);
        at += is_padding + (1 - is_padding) * usize::from(length);
    }
    0
}
