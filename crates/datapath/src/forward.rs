//! A packet's whole way: whose it is, which connection, which server, what is
//! rewritten, where it leaves.
//!
//! There are two ways of the same meaning. The short one ([`crate::short`]) is for what
//! nearly all packets are: TCP or UDP over IPv4, to or from a service with an address
//! and a port of its own. Whatever it can't finish it leaves as it is to the general
//! one ([`crate::general`]), which can do everything. In the kernel the two are
//! programs of their own.

use crate::frame;
use crate::general::{PARTS, Part};
use crate::hop::Way;
use crate::host::{Host, RouteAnswer, count};
use crate::layout::{Server, server_flags, state_word};
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

    /// As a number: what a function of its own gives back in the kernel, where there is
    /// one register for it.
    #[inline(always)]
    pub(crate) const fn packed(self) -> u64 {
        match self {
            Self::Pass => 0,
            Self::Drop => 1 << 32,
            Self::Then { part } => 4 << 32 | part as u64,
            Self::Transmit { interface } => 2 << 32 | interface as u64,
            Self::Resolve { interface } => 3 << 32 | interface as u64,
        }
    }

    /// From what [`Verdict::packed`] made of it.
    #[inline(always)]
    pub(crate) const fn unpacked(packed: u64) -> Self {
        let interface = packed as u32;
        match packed >> 32 {
            0 => Self::Pass,
            2 => Self::Transmit { interface },
            3 => Self::Resolve { interface },
            4 => match Part::of(interface) {
                Some(part) => Self::Then { part },
                None => Self::Drop,
            },
            _ => Self::Drop,
        }
    }
}

/// Decides about a frame and rewrites it.
#[inline(always)]
pub fn process<H: Host>(host: &H) -> Verdict {
    let mut verdict = short::process(host);
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

/// Looks whether a packet of this length and time to live can leave by `way`, before
/// anything is changed.
#[inline(always)]
pub(crate) fn sendable<H: Host>(host: &H, length: u32, ttl: u8, way: &Way) -> Sendable {
    if ttl <= 1 {
        return Sendable::No(Reason::TimeToLive);
    }
    match way.answer {
        RouteAnswer::Ready => {
            let mtu = way.hop.mtu;
            if mtu != 0 && length > mtu && !host.is_cut_later() {
                return Sendable::No(Reason::TooBig);
            }
            Sendable::Yes
        }
        RouteAnswer::Unresolved if H::FINISHES => Sendable::Yes,
        RouteAnswer::Unresolved => Sendable::Later,
        RouteAnswer::ForwardingOff => Sendable::No(Reason::ForwardingOff),
        RouteAnswer::None => Sendable::No(Reason::NoRoute),
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
            count(&counters.in_packets, 1);
            count(&counters.in_bytes, u64::from(length));
        }
    }
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
        let service = entry.service();
        service.set(service.get().wrapping_add(1 << 16));
        0
    };
    if next != present & state_word::STATE || answered & !present != 0 {
        table::change_state(host, entry, next, answered);
    }
}

/// Length of the frame without its Ethernet header: what servers' counters count.
#[inline(always)]
pub(crate) fn counted_length<H: Host>(host: &H) -> u32 {
    host.length().wrapping_sub(frame::ETHERNET as u32)
}
