//! ICMP errors of our own: a packet that can't be sent on is answered to who sent it.

use super::packet::{Packet, what};
use super::{Arrival, is_own};
use crate::checksum::fold;
use crate::forward::{Verdict, drop, leave};
use crate::frame::{ETHERNET, ETHERTYPE_IPV4, ETHERTYPE_IPV6, protocol};
use crate::hop;
use crate::host::{Header, Host, Room, RouteAnswer, Window};
use crate::layout::Address;
use crate::reason::Reason;

/// What is answered, in [`Arrival::answer`].
pub(crate) mod kind {
    /// Nothing.
    pub(crate) const NOTHING: u32 = 0;
    /// Nobody serves.
    pub(crate) const UNREACHABLE: u32 = 1;
    /// The time to live is used up.
    pub(crate) const TIME_EXCEEDED: u32 = 2;
    /// The packet is larger than its way allows.
    pub(crate) const TOO_BIG: u32 = 3;
    /// Somebody else's error, for the packet at `Arrival::inner`: with type (bits 8 to 15)
    /// and code (bits 0 to 7). It leaves by the job's way.
    pub(crate) const AS_IT_IS: u32 = 1 << 31;
}

const IPV4: usize = 20;
const IPV6: usize = 40;
const ICMP: usize = 8;
/// Where in a frame what is quoted may begin at most.
const OFFSET_MAX: usize = 511;
/// Bytes of a packet that are quoted: as many of these as it has.
const QUOTES: [usize; 2] = [128, 64];
/// All of IPv4's and TCP's headers without options. Where TCP's checksum is still to be
/// completed the kernel cuts no frame in front of it.
const TCP_QUOTE: usize = IPV4 + 20;
/// The least, with ports: behind an IPv4 header without options, behind an IPv6 one.
const LEAST: [usize; 2] = [IPV4 + 8, IPV6 + 8];

/// Type and code for what is answered (RFC 792, RFC 4443).
#[inline(always)]
const fn type_and_code(answer: u32, is_ipv6: bool) -> (u8, u8) {
    if answer & kind::AS_IT_IS != 0 {
        return ((answer >> 8) as u8, answer as u8);
    }
    match (answer, is_ipv6) {
        (kind::UNREACHABLE, false) => (3, 3),
        (kind::UNREACHABLE, true) => (1, 4),
        (kind::TIME_EXCEEDED, false) => (11, 0),
        (kind::TIME_EXCEEDED, true) => (3, 0),
        (_, false) => (3, 4),
        (_, true) => (2, 0),
    }
}

/// True for a packet that may be answered with an error (RFC 1122, 3.2.2).
#[inline(always)]
fn may_be_answered(packet: &Packet) -> bool {
    let source = packet.source;
    let first = source[0].to_ne_bytes()[0];
    let last = source[3].to_ne_bytes()[0];
    packet.what != what::LATER
        && if packet.is_ipv6 {
            first != 0xff && source != [0; 4]
        } else {
            // Neither multicast nor broadcast nor nobody.
            last < 224 && last != 0 && last != 127
        }
}

/// Makes an answer of the packet and sends it back to where it came from.
#[inline(always)]
pub(super) fn process<H: Host>(host: &H, arrival: &Arrival) -> Verdict {
    let packet = &arrival.packet;
    if !may_be_answered(packet) || !host.may_answer() {
        return Verdict::Drop;
    }
    let is_ipv6 = packet.is_ipv6;
    let quote = if packet.length as usize >= QUOTES[0] {
        QUOTES[0]
    } else if packet.length as usize >= QUOTES[1] {
        QUOTES[1]
    } else if !is_ipv6 && packet.length as usize >= TCP_QUOTE {
        TCP_QUOTE
    } else if packet.length as usize >= LEAST[usize::from(is_ipv6)] {
        LEAST[usize::from(is_ipv6)]
    } else {
        return Verdict::Drop;
    };
    let header = if is_ipv6 { IPV6 } else { IPV4 };
    let room = Room {
        bytes: header + ICMP,
        header: Header::Answer,
        is_ipv6,
    };
    // Before the frame is cut, after which nobody knows any more.
    let is_completed = host.is_cut_later();
    let is_relayed = arrival.answer.get() & kind::AS_IT_IS != 0;
    let has_room = if is_relayed {
        to_front(host, arrival, quote) && host.cut((ETHERNET + room.bytes + quote) as u32)
    } else {
        host.cut((ETHERNET + quote) as u32) && host.grow(room)
    };
    if !has_room {
        return drop(host, Reason::RewriteFailed);
    }
    let written = if is_ipv6 {
        ipv6(host, arrival, quote, is_completed)
    } else {
        ipv4(host, arrival, quote, is_completed)
    };
    if !written {
        return drop(host, Reason::RewriteFailed);
    }
    if is_relayed {
        crate::count_reason(host, Reason::Relayed);
        return leave(host, arrival.job.way());
    }
    back(host, packet)
}

/// Moves what is quoted to where the answer has it, from farther behind: there is more in
/// front of it than the answer has. The frame came with the family of the tunnel.
#[inline(always)]
fn to_front<H: Host>(host: &H, arrival: &Arrival, quote: usize) -> bool {
    let from = arrival.inner.get() as usize & OFFSET_MAX;
    let (header, kind) = if arrival.packet.is_ipv6 {
        (IPV6, ETHERTYPE_IPV6)
    } else {
        (IPV4, ETHERTYPE_IPV4)
    };
    let Some(ethertype) = host.window(ETHERNET - 2, 2) else {
        return false;
    };
    ethertype.set_u16(0, kind);
    let to = ETHERNET + header + ICMP;
    if quote == QUOTES[0] {
        copy::<H, { QUOTES[0] }>(host, from, to)
    } else if quote == QUOTES[1] {
        copy::<H, { QUOTES[1] }>(host, from, to)
    } else if quote == TCP_QUOTE {
        copy::<H, TCP_QUOTE>(host, from, to)
    } else if quote == LEAST[0] {
        copy::<H, { LEAST[0] }>(host, from, to)
    } else {
        copy::<H, { LEAST[1] }>(host, from, to)
    }
}

#[inline(always)]
fn copy<H: Host, const LENGTH: usize>(host: &H, from: usize, to: usize) -> bool {
    let (Some(source), Some(target)) = (host.window(from, LENGTH), host.window(to, LENGTH)) else {
        return false;
    };
    for word in 0..LENGTH / 4 {
        target.set_u32(word * 4, source.u32(word * 4));
    }
    true
}

/// Sends the frame back by the interface that it came by. What came out of a tunnel, and so
/// has no addresses of a link, leaves by the way to its receiver, which may be another.
#[inline(always)]
fn back<H: Host>(host: &H, packet: &Packet) -> Verdict {
    let Some(ethernet) = host.window(0, ETHERNET) else {
        return drop(host, Reason::RewriteFailed);
    };
    let (a, b, c) = (ethernet.u32(0), ethernet.u32(4), ethernet.u32(8));
    if H::FINISHES && a | b | c == 0 && !is_own(host) {
        return by_route(host, packet);
    }
    // Destination and source change places; which half of a word is which depends on
    // the byte order.
    let [a0, a1, a2, a3] = a.to_ne_bytes();
    let [b0, b1, b2, b3] = b.to_ne_bytes();
    let [c0, c1, c2, c3] = c.to_ne_bytes();
    ethernet.set_u32(0, u32::from_ne_bytes([b2, b3, c0, c1]));
    ethernet.set_u32(4, u32::from_ne_bytes([c2, c3, a0, a1]));
    ethernet.set_u32(8, u32::from_ne_bytes([a2, a3, b0, b1]));
    crate::count_reason(host, Reason::Answered);
    Verdict::Transmit {
        interface: host.ingress(),
    }
}

/// Sends the answer to a packet by the route to who sent that.
#[inline(always)]
fn by_route<H: Host>(host: &H, packet: &Packet) -> Verdict {
    let icmp = if packet.is_ipv6 {
        protocol::ICMPV6
    } else {
        protocol::ICMP
    };
    let way = hop::route(
        host,
        packet.is_ipv6,
        packet.destination,
        packet.source,
        icmp,
    );
    match way.answer {
        RouteAnswer::Ready | RouteAnswer::Unresolved => {
            crate::count_reason(host, Reason::Answered);
            leave(host, way)
        }
        RouteAnswer::ForwardingOff => drop(host, Reason::ForwardingOff),
        RouteAnswer::None => drop(host, Reason::NoRoute),
    }
}

/// Sum of the quoted bytes.
#[inline(always)]
fn sum<H: Host>(host: &H, offset: usize, quote: usize) -> Option<u64> {
    const WORDS: usize = QUOTES[0] / 4;
    let mut sum = 0;
    if quote == QUOTES[0] {
        let quoted = host.window(offset, QUOTES[0])?;
        for word in 0..WORDS {
            sum += u64::from(quoted.u32(word * 4));
        }
    } else if quote == QUOTES[1] {
        let quoted = host.window(offset, QUOTES[1])?;
        for word in 0..QUOTES[1] / 4 {
            sum += u64::from(quoted.u32(word * 4));
        }
    } else if quote == TCP_QUOTE {
        let quoted = host.window(offset, TCP_QUOTE)?;
        for word in 0..TCP_QUOTE / 4 {
            sum += u64::from(quoted.u32(word * 4));
        }
    } else if quote == LEAST[0] {
        let quoted = host.window(offset, LEAST[0])?;
        for word in 0..LEAST[0] / 4 {
            sum += u64::from(quoted.u32(word * 4));
        }
    } else {
        let quoted = host.window(offset, LEAST[1])?;
        for word in 0..LEAST[1] / 4 {
            sum += u64::from(quoted.u32(word * 4));
        }
    }
    Some(sum)
}

/// Sum of the quoted bytes when the kernel or the network card has completed the transport
/// checksum among them, as of every frame that is to be cut. Till then that checksum is the
/// sum of the pseudo header alone; after it, all words from the transport header on sum up to
/// its complement, and those of an IPv4 header to nothing.
#[inline(always)]
fn completed_sum<H: Host>(host: &H, arrival: &Arrival, moved: usize) -> Option<u64> {
    let packet = &arrival.packet;
    let at = if packet.protocol == protocol::UDP {
        6
    } else {
        16
    };
    let checksum = host.window(packet.transport() + moved + at, 2)?;
    let rest = u64::from(!checksum.u16(0));
    if !packet.is_ipv6 {
        return Some(rest);
    }
    if packet.transport() != ETHERNET + IPV6 {
        return None;
    }
    let head = host.window(ETHERNET + moved, IPV6)?;
    let words = (0..IPV6 / 4).map(|word| u64::from(head.u32(word * 4)));
    Some(rest + words.sum::<u64>())
}

/// Writes the ICMP header. `sum` is that of what it covers besides.
#[inline(always)]
fn icmp<H: Host>(host: &H, arrival: &Arrival, offset: usize, sum: u64) -> bool {
    let Some(header) = host.window(offset, ICMP) else {
        return false;
    };
    let (kind, code) = type_and_code(arrival.answer.get(), arrival.packet.is_ipv6);
    header.set_u8(0, kind);
    header.set_u8(1, code);
    header.set_u16(2, 0);
    let answer = arrival.answer.get();
    let mtu = if answer == kind::TOO_BIG || answer & kind::AS_IT_IS != 0 {
        arrival.mtu.get().to_be()
    } else {
        0
    };
    header.set_u32(4, mtu);
    let sum = sum + u64::from(header.u16(0)) + u64::from(mtu);
    header.set_u16(2, !fold(sum));
    true
}

#[inline(always)]
fn ipv4<H: Host>(host: &H, arrival: &Arrival, quote: usize, is_completed: bool) -> bool {
    let Some(head) = host.window(ETHERNET, IPV4) else {
        return false;
    };
    let packet = &arrival.packet;
    head.set_u8(0, 0x45);
    // Internetwork control (RFC 1812, 4.3.2.5).
    head.set_u8(1, 0xc0);
    head.set_u16(2, ((IPV4 + ICMP + quote) as u16).to_be());
    head.set_u32(4, 0);
    head.set_u8(8, 64);
    head.set_u8(9, protocol::ICMP);
    head.set_u16(10, 0);
    head.set_u32(12, packet.destination[3]);
    head.set_u32(16, packet.source[3]);
    let own: u64 = (0..5).map(|word| u64::from(head.u32(word * 4))).sum();
    head.set_u16(10, !fold(own));
    let sum = if is_completed {
        completed_sum(host, arrival, IPV4 + ICMP)
    } else {
        sum(host, ETHERNET + IPV4 + ICMP, quote)
    };
    let Some(sum) = sum else {
        return false;
    };
    icmp(host, arrival, ETHERNET + IPV4, sum)
}

#[inline(always)]
fn ipv6<H: Host>(host: &H, arrival: &Arrival, quote: usize, is_completed: bool) -> bool {
    let Some(head) = host.window(ETHERNET, IPV6) else {
        return false;
    };
    let packet = &arrival.packet;
    let length = ((ICMP + quote) as u16).to_be();
    head.set_u32(0, 0x6000_0000_u32.to_be());
    head.set_u16(4, length);
    head.set_u8(6, protocol::ICMPV6);
    head.set_u8(7, 64);
    let mut pseudo = u64::from(length) + u64::from(u16::from(protocol::ICMPV6).to_be());
    let (from, to): (Address, Address) = (packet.destination, packet.source);
    for word in 0..4 {
        head.set_u32(8 + 4 * word, from[word]);
        head.set_u32(24 + 4 * word, to[word]);
        pseudo += u64::from(from[word]) + u64::from(to[word]);
    }
    let sum = if is_completed {
        completed_sum(host, arrival, IPV6 + ICMP)
    } else {
        sum(host, ETHERNET + IPV6 + ICMP, quote)
    };
    let Some(sum) = sum else {
        return false;
    };
    icmp(host, arrival, ETHERNET + IPV6, sum + pseudo)
}
