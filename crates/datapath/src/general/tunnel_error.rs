//! ICMP errors about packets that went into a tunnel: a router on the way to the server
//! tells the director, whose address the outer header has, and it is the client that has to
//! know. So the client gets the error for the packet inside (as IPVS's `ip_vs_in_icmp` does;
//! RFC 2003, 4; RFC 2473, 8; RFC 4213, 3.4).

use super::answer::kind;
use super::packet::{NOTHING, Packet, Transport, what};
use super::width::Width;
use super::{Arrival, Part};
use crate::forward::{Extent, Sendable, Verdict, client_port, drop, method_of, pass, sendable};
use crate::frame::{ETHERNET, ETHERTYPE_IPV4, ETHERTYPE_IPV6, protocol};
use crate::hash;
use crate::hop;
use crate::host::{Host, RouteAnswer, Window};
use crate::layout::{Bucket, Server, WideBucket, features, mapped, method, tunnel};
use crate::reason::Reason;
use crate::table::{self, Aim, By, Found, Slot, WantedNarrow, WantedWide};

/// Bytes of an ICMP header.
const ICMP: usize = 8;
const IPV4: usize = 20;
const IPV6: usize = 40;
/// Where in a frame the packet inside may begin at most.
const OFFSET_MAX: usize = 511;
/// Told in place of no MTU at all, as routers of before RFC 1191 do: what every host takes.
const MTU_UNTOLD: u32 = 576;
/// What a way has at least (RFC 791, RFC 8200, 5).
const LEAST_MTU: [u32; 2] = [68, 1280];

/// What [`parse`] comes to.
mod parsed {
    /// It is no tunnel's packet.
    pub(super) const OTHER: u32 = 0;
    /// It is kept.
    pub(super) const KEPT: u32 = 1;
    /// It is a tunnel's, and too little of it is quoted.
    pub(super) const SHORT: u32 = 2;
}

/// True for what tunnels look like from outside, beside UDP.
#[inline(always)]
pub(super) const fn is_tunnel(protocol: u8) -> bool {
    const THESE: u64 = 1 << protocol::IPV4 | 1 << protocol::IPV6 | 1 << protocol::GRE;
    protocol < 64 && (THESE >> protocol) & 1 != 0
}

/// True: there are servers behind tunnels.
#[inline(always)]
pub(super) fn may_be<H: Host>(host: &H) -> bool {
    host.control()
        .is_some_and(|control| control.features.get() & features::TUNNELS != 0)
}

/// Tells the client, if the error that is kept is about a tunnel's packet.
#[inline(always)]
pub(super) fn process<H: Host>(host: &H) -> Verdict {
    match host.parse_tunnelled() {
        parsed::KEPT => {}
        parsed::SHORT => return pass(host, Reason::QuoteTooShort),
        _ => return Verdict::Pass,
    }
    let Some(arrival) = host.kept() else {
        return Verdict::Pass;
    };
    let (packet, transport) = (&arrival.packet, &arrival.transport);
    let address = arrival.quoted.destination;
    let port = client_port(transport.source_port, packet.protocol);
    if !packet.is_ipv6 {
        // An IPv6 server's connections have the tag of no address.
        let address = if arrival.quoted.is_ipv6 {
            0
        } else {
            address[3]
        };
        let tag = hash::server_tag(address, transport.destination_port, host.seed());
        let wanted = WantedNarrow {
            address: packet.source[3],
            port,
            by: By::ServerTag(tag),
        };
        let found: Option<Found<'_, Bucket>> = table::find(host, wanted.place(host), wanted);
        if let Some(found) = found {
            return relay::<H, Bucket>(host, arrival, found.entry);
        }
    }
    let tag = hash::wide_server_tag(address, transport.destination_port, host.seed());
    let wanted = WantedWide {
        address: packet.source,
        port,
        aim: Aim::any(By::ServerTag(tag)),
    };
    let found: Option<Found<'_, WideBucket>> = table::find(host, wanted.place(host), wanted);
    match found {
        Some(found) => relay::<H, WideBucket>(host, arrival, found.entry),
        None => Verdict::Pass,
    }
}

/// True: the director has put the quoted packet into the tunnel to this server.
#[inline(always)]
fn is_of(arrival: &Arrival, server: &Server) -> bool {
    let outer = &arrival.quoted;
    let word = server.tunnel.get();
    let is_udp = outer.protocol == protocol::UDP;
    let port = arrival.server_port.get();
    method_of(server.flags.get()) == method::TUNNEL
        && table::is_address(&server.wide_address, outer.destination)
        && table::is_address(&server.source, outer.source)
        && (word & tunnel::KIND == tunnel::GUE) == is_udp
        && (!is_udp || word >> tunnel::PORT_SHIFT == port)
}

/// Sends the error that is kept to the client of this connection.
#[inline(always)]
fn relay<H: Host, W: Width>(host: &H, arrival: &Arrival, entry: &W::Entry) -> Verdict {
    let packet = &arrival.packet;
    let is_ours = host
        .server(entry.server().get())
        .is_some_and(|server| is_of(arrival, server));
    if !is_ours {
        return Verdict::Pass;
    }
    let way = hop::remembered(host, entry, || {
        let (from, to) = (packet.destination, packet.source);
        hop::route(host, packet.is_ipv6, from, to, packet.protocol)
    });
    // The error is small, and new.
    let error = Extent {
        length: 0,
        ttl: u8::MAX,
        ..packet.extent()
    };
    match sendable(host, error, &way) {
        Sendable::Yes => {}
        Sendable::Later => return pass(host, Reason::Deferred),
        Sendable::No(reason) => return drop(host, reason),
    }
    // The kernel looks for the neighbour by the family that the frame came with.
    if packet.is_ipv6 != arrival.quoted.is_ipv6 && !matches!(way.answer, RouteAnswer::Ready) {
        return drop(host, Reason::NoRoute);
    }
    arrival.job.set_way(&way);
    Verdict::Then { part: Part::Answer }
}

/// Takes apart the packet inside the tunnel's packet that the error that is kept quotes, and
/// keeps it as the one that is answered: [`parsed`].
#[inline(always)]
pub(super) fn parse<H: Host>(host: &H) -> u32 {
    let Some(kept) = host.kept() else {
        return parsed::OTHER;
    };
    let (error, outer) = (kept.packet, kept.quoted);
    let begin = outer.transport();
    let Some(head) = host.window(begin, ICMP) else {
        return parsed::SHORT;
    };
    let udp_port = u32::from(head.u16(2));
    let (length, next) = match outer.protocol {
        protocol::IPV4 | protocol::IPV6 => (0, outer.protocol),
        protocol::GRE => gre(head),
        _ => match host.window(begin + ICMP, 4) {
            Some(gue) => (12, if gue.u8(0) == 0 { gue.u8(1) } else { 0 }),
            None => return parsed::SHORT,
        },
    };
    if next != protocol::IPV4 && next != protocol::IPV6 {
        return parsed::OTHER;
    }
    let offset = host.opaque((begin + length) as u32) as usize & OFFSET_MAX;
    let end = error.length as usize + ETHERNET;
    let inner = if next == protocol::IPV6 {
        inside_ipv6(host, offset)
    } else {
        inside_ipv4(host, offset)
    };
    let Some(inner) = inner else {
        return parsed::SHORT;
    };
    // What looks like a header may be whatever stands behind the packet.
    if inner.transport() + 8 > end {
        return parsed::SHORT;
    }
    let Some(ports) = host.window(inner.transport(), 4) else {
        return parsed::SHORT;
    };
    let available = (end - offset) as u32;
    let transport = Transport {
        source_port: ports.u16(0),
        destination_port: ports.u16(2),
        ..kept.transport
    };
    let answer = told(host, &error, &inner);
    let mtu = mtu(
        host,
        &error,
        &inner,
        (offset - error.transport() - ICMP) as u32,
    );
    host.keep(Arrival {
        packet: Packet {
            length: if inner.length < available {
                inner.length
            } else {
                available
            },
            ..inner
        },
        quoted: outer,
        transport,
        ..Arrival::empty()
    });
    let Some(arrival) = host.kept() else {
        return parsed::OTHER;
    };
    arrival.server_port.set(udp_port);
    arrival.inner.set(offset as u32);
    arrival.answer.set(answer);
    arrival.mtu.set(mtu);
    if answer == kind::NOTHING {
        parsed::OTHER
    } else {
        parsed::KEPT
    }
}

/// Length of a GRE header, and the protocol that follows it.
#[inline(always)]
fn gre<W: Window>(head: W) -> (usize, u8) {
    const CHECKSUM: u16 = 0x8000_u16.to_be();
    let flags = head.u16(0);
    let next = match head.u16(2) {
        ETHERTYPE_IPV4 => protocol::IPV4,
        ETHERTYPE_IPV6 => protocol::IPV6,
        _ => 0,
    };
    if flags & !CHECKSUM != 0 {
        return (0, 0);
    }
    (if flags == 0 { 4 } else { 8 }, next)
}

#[inline(always)]
fn inside_ipv4<H: Host>(host: &H, offset: usize) -> Option<Packet> {
    let head = host.window(offset, IPV4)?;
    let version = head.u8(0);
    let header = ((version & 0xf) as usize) * 4;
    let fragment = u16::from_be(head.u16(6));
    if version >> 4 != 4 || header < IPV4 || fragment & 0x1fff != 0 {
        return None;
    }
    Some(Packet {
        what: what::WHOLE,
        protocol: head.u8(9),
        transport: offset + header,
        length: u32::from(u16::from_be(head.u16(2))),
        dont_fragment: u32::from(fragment >> 14) & 1,
        source: mapped(head.u32(12)),
        destination: mapped(head.u32(16)),
        ..NOTHING
    })
}

/// Without extension headers.
#[inline(always)]
fn inside_ipv6<H: Host>(host: &H, offset: usize) -> Option<Packet> {
    let head = host.window(offset, IPV6)?;
    if head.u8(0) >> 4 != 6 {
        return None;
    }
    Some(Packet {
        what: what::WHOLE,
        is_ipv6: true,
        protocol: head.u8(6),
        transport: offset + IPV6,
        length: u32::from(u16::from_be(head.u16(4))) + IPV6 as u32,
        source: [head.u32(8), head.u32(12), head.u32(16), head.u32(20)],
        destination: [head.u32(24), head.u32(28), head.u32(32), head.u32(36)],
        ..NOTHING
    })
}

/// What ICMP and `ICMPv6` have for the same.
mod error {
    pub(super) const UNREACHABLE: (u8, u8) = (3, 1);
    pub(super) const UNREACHABLE_6: (u8, u8) = (1, 3);
    pub(super) const TOO_BIG: (u8, u8) = (3, 4);
    pub(super) const TOO_BIG_6: (u8, u8) = (2, 0);
    pub(super) const TIME_EXCEEDED: (u8, u8) = (11, 0);
    pub(super) const TIME_EXCEEDED_6: (u8, u8) = (3, 0);
}

/// Type and code of the error.
#[inline(always)]
fn type_and_code<H: Host>(host: &H, error: &Packet) -> (u8, u8) {
    match host.window(error.transport(), ICMP) {
        Some(icmp) => (icmp.u8(0), icmp.u8(1)),
        None => (0, 0),
    }
}

/// What the client is told, see [`kind::AS_IT_IS`].
#[inline(always)]
fn told<H: Host>(host: &H, error: &Packet, inner: &Packet) -> u32 {
    let (number, code) = type_and_code(host, error);
    let is_too_big = (number, code) == error::TOO_BIG;
    if !error.is_ipv6 && !inner.is_ipv6 && is_too_big && inner.dont_fragment == 0 {
        // It does not look for the way's MTU.
        return kind::NOTHING;
    }
    let (number, code) = match (error.is_ipv6, inner.is_ipv6) {
        (false, true) => match number {
            3 if is_too_big => error::TOO_BIG_6,
            3 => error::UNREACHABLE_6,
            11 => error::TIME_EXCEEDED_6,
            _ => return kind::NOTHING,
        },
        (true, false) => match number {
            1 => error::UNREACHABLE,
            2 => error::TOO_BIG,
            3 => error::TIME_EXCEEDED,
            _ => return kind::NOTHING,
        },
        _ => (number, code),
    };
    kind::AS_IT_IS | u32::from(number) << 8 | u32::from(code)
}

/// The MTU that the client is told: less by what the tunnel puts around a packet. 0: the
/// error is about something else.
#[inline(always)]
fn mtu<H: Host>(host: &H, error: &Packet, inner: &Packet, around: u32) -> u32 {
    let Some(icmp) = host.window(error.transport(), ICMP) else {
        return 0;
    };
    let end = (icmp.u8(0), icmp.u8(1));
    let mtu = match (error.is_ipv6, end) {
        (false, error::TOO_BIG) => u32::from(u16::from_be(icmp.u16(6))),
        (true, (2, _)) => u32::from_be(icmp.u32(4)),
        _ => return 0,
    };
    let mtu = if mtu == 0 { MTU_UNTOLD } else { mtu };
    let least = LEAST_MTU[usize::from(inner.is_ipv6)];
    let inside = mtu.saturating_sub(around);
    if inside < least { least } else { inside }
}
