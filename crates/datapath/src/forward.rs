//! A packet's whole way: whose it is, which connection, which server, what is
//! rewritten, where it leaves.
//!
//! There are two ways of the same meaning. The short one ([`crate::short`]) is for what
//! nearly all packets are: TCP or UDP over IPv4, to or from a service with an address
//! and a port of its own. Whatever it can't finish it leaves as it is to the general
//! one ([`crate::general`]), which can do everything. In the kernel the two are
//! programs of their own.

use crate::frame::{self, protocol};
use crate::general::{PARTS, Part};
use crate::hop::{self, Way};
use crate::host::{Host, RouteAnswer, Window, count};
use crate::layout::{Counters, Server, server_flags, state_word};
use crate::reason::Reason;
use crate::state::Direction;
use crate::table::{self, Slot};
use crate::{count_reason, general, short};

/// What becomes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// To the kernel.
    Pass,
    /// Nowhere.
    Drop,
    /// Out of this interface, MAC addresses written.
    Transmit {
        /// Its index.
        interface: u32,
    },
    /// Out of this interface, the kernel resolving the neighbour.
    Resolve {
        /// Its index.
        interface: u32,
    },
    /// On with this part of the general way; [`process`] never says so.
    Then {
        /// Which.
        part: Part,
    },
}

impl Verdict {
    /// To the general way, from its beginning.
    pub(crate) const GENERAL: Self = Self::Then {
        part: Part::General,
    };
}

/// Decides about a frame and rewrites it.
#[inline(always)]
pub fn process<H: Host>(host: &H) -> Verdict {
    finish(host, short::process(host))
}

/// Decides about a frame that leaves this machine and rewrites it, if it is a server's on
/// this machine. Frames are never sent by this.
#[inline(always)]
pub fn process_reply<H: Host>(host: &H) -> Verdict {
    finish(host, reply(host))
}

/// The beginning of [`process_reply`], up to the first part of the general way.
#[inline(always)]
pub fn reply<H: Host>(host: &H) -> Verdict {
    general::process_reply(host)
}

/// Decides about a packet that came without a link-layer header and was given an empty one.
#[inline(always)]
pub fn process_bare<H: Host>(host: &H) -> Verdict {
    if general::enter_bare(host) {
        finish(host, Verdict::GENERAL)
    } else {
        Verdict::Pass
    }
}

/// Goes on with the parts of the general way that a verdict names.
#[inline(always)]
fn finish<H: Host>(host: &H, mut verdict: Verdict) -> Verdict {
    // Each part leads to a later one, if to any.
    for _ in 0..PARTS {
        let Verdict::Then { part } = verdict else {
            return verdict;
        };
        verdict = general::part(host, part);
    }
    Verdict::Pass
}

/// Counts, and leaves the frame to the kernel.
#[inline(always)]
pub(crate) fn pass<H: Host>(host: &H, reason: Reason) -> Verdict {
    count_reason(host, reason);
    Verdict::Pass
}

/// Counts, and drops the frame.
#[inline(always)]
pub(crate) fn drop<H: Host>(host: &H, reason: Reason) -> Verdict {
    count_reason(host, reason);
    Verdict::Drop
}

/// Source port and destination port as they stand.
#[inline(always)]
pub(crate) fn ports(word: u32) -> (u16, u16) {
    let bytes = word.to_ne_bytes();
    (
        u16::from_ne_bytes([bytes[0], bytes[1]]),
        u16::from_ne_bytes([bytes[2], bytes[3]]),
    )
}

/// [`crate::layout::Entry::client_port`].
#[inline(always)]
pub(crate) const fn client_port(port: u16, protocol: u8) -> u32 {
    port as u32 | (protocol as u32) << 16
}

/// [`crate::layout::method`] of a server.
#[inline(always)]
pub(crate) fn method_of(flags: u32) -> u32 {
    (flags >> server_flags::METHOD_SHIFT) & server_flags::METHOD
}

/// True: connections may use the server.
#[inline(always)]
pub(crate) fn is_alive(server: &Server) -> bool {
    server.flags.get() & server_flags::ALIVE != 0
}

/// Whether a packet can leave by a way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sendable {
    /// It can.
    Yes,
    /// Not from here: the next stage can.
    Later,
    /// It can't, for this reason.
    No(Reason),
}

/// What of a packet decides whether it can leave.
#[derive(Clone, Copy)]
pub(crate) struct Extent {
    /// Length of the IP packet.
    pub length: u32,
    /// Time to live.
    pub ttl: u8,
    /// Where its transport header begins in the frame.
    pub transport: usize,
    pub protocol: u8,
}

impl Extent {
    /// Length of the largest packet that leaves: itself, or what it is cut into.
    #[inline(always)]
    fn largest<H: Host>(self, host: &H) -> u32 {
        let piece = host.piece();
        if piece == 0 {
            return self.length;
        }
        let before = (self.transport - frame::ETHERNET) as u32;
        if self.protocol != protocol::TCP {
            return before + 8 + piece;
        }
        match host.window(self.transport, 20) {
            Some(tcp) => before + u32::from(tcp.u8(12) >> 4) * 4 + piece,
            None => self.length,
        }
    }
}

/// Looks whether a packet can leave by `way`, before anything is changed.
#[inline(always)]
pub(crate) fn sendable<H: Host>(host: &H, packet: Extent, way: &Way) -> Sendable {
    let Extent { length, ttl, .. } = packet;
    if ttl <= 1 {
        return Sendable::No(Reason::TimeToLive);
    }
    match way.answer {
        RouteAnswer::Unresolved if !H::FINISHES => Sendable::Later,
        // Of a way that is not resolved the MTU may be known.
        RouteAnswer::Ready | RouteAnswer::Unresolved => {
            let mtu = way.hop.mtu;
            if mtu != 0 && length > mtu {
                return too_long(host, packet, mtu);
            }
            Sendable::Yes
        }
        RouteAnswer::ForwardingOff => Sendable::No(Reason::ForwardingOff),
        RouteAnswer::None => Sendable::No(Reason::NoRoute),
    }
}

/// Whether a packet can leave that is longer than the way's MTU: in pieces, or to a client
/// on this machine, by way of the loopback interface, which XDP can't reach.
#[inline(always)]
fn too_long<H: Host>(host: &H, packet: Extent, mtu: u32) -> Sendable {
    if mtu == hop::TO_ITSELF {
        return if H::FINISHES {
            Sendable::Yes
        } else {
            Sendable::Later
        };
    }
    if packet.largest(host) > mtu {
        Sendable::No(Reason::TooBig)
    } else {
        Sendable::Yes
    }
}

/// Sends the rewritten packet, which [`sendable`] has found to have a way.
#[inline(always)]
pub(crate) fn leave<H: Host>(host: &H, way: Way) -> Verdict {
    let interface = way.hop.interface;
    if !matches!(way.answer, RouteAnswer::Ready) {
        count_reason(host, Reason::Resolving);
        return Verdict::Resolve { interface };
    }
    if !frame::set_macs(host, &way.hop) {
        return drop(host, Reason::RewriteFailed);
    }
    Verdict::Transmit { interface }
}

/// Counts a packet of this many bytes for a server.
#[inline(always)]
pub(crate) fn count_packet<H: Host>(host: &H, server: u32, length: u32, direction: Direction) {
    if let Some(counters) = host.counters(server) {
        if matches!(direction, Direction::Output) {
            count(&counters.out_packets, 1);
            count(&counters.out_bytes, u64::from(length));
        } else {
            count_from_client(counters, length);
        }
    }
}

/// Counts a client's packet of this many bytes.
#[inline(always)]
pub(crate) fn count_from_client(counters: &Counters, length: u32) {
    count(&counters.in_packets, 1);
    count(&counters.in_bytes, u64::from(length));
}

/// Counts a new connection for a server.
#[inline(always)]
pub(crate) fn count_connection<H: Host>(host: &H, server: u32) {
    if let Some(counters) = host.counters(server) {
        count(&counters.connections, 1);
    }
}

/// Notes a packet in its connection; `next` is the state after it.
#[inline(always)]
pub(crate) fn track<H: Host, E: Slot>(host: &H, entry: &E, next: u32, direction: Direction) {
    let now = host.tick();
    if entry.seen().get() != now {
        entry.seen().set(now);
    }
    let present = entry.state().get();
    let answered = if matches!(direction, Direction::Output) {
        state_word::ANSWERED
    } else {
        note_from_client(entry);
        0
    };
    if next != present & state_word::STATE || answered & !present != 0 {
        table::change_state(host, entry, next, answered);
    }
}

/// Counts a client's packet in its connection, see [`crate::layout::Entry::service`].
#[inline(always)]
pub(crate) fn note_from_client<E: Slot>(entry: &E) {
    let service = entry.service();
    service.set(service.get().wrapping_add(1 << 16));
}

/// Length of the frame without its Ethernet header: what servers' counters count.
#[inline(always)]
pub(crate) fn counted_length<H: Host>(host: &H) -> u32 {
    host.length().wrapping_sub(frame::ETHERNET as u32)
}
