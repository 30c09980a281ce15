//! Tunnels to real servers: an outer header is put in front of the packet (IP in IP,
//! RFC 2003, RFC 2473 and RFC 4213; GRE, RFC 2784; generic UDP encapsulation,
//! draft-ietf-intarea-gue).

use crate::checksum::fold;
use crate::frame::{ETHERNET, ETHERTYPE_IPV4, ETHERTYPE_IPV6, protocol};
use crate::host::{Header, Host, Room, Window};
use crate::layout::{Server, server_flags, settings, tunnel};

const IPV4: usize = 20;
const IPV6: usize = 40;
const GUE: usize = 12;
const GRE: usize = 4;
const GRE_CHECKSUM: usize = 8;
/// The flag of an IPv4 header, as it stands in the packet.
const DONT_FRAGMENT: u16 = 0x4000_u16.to_be();
/// What every way takes (RFC 8200, 5).
const IPV6_LEAST_MTU: u32 = 1280;

/// What of a packet shows in its outer header.
#[derive(Clone, Copy)]
struct Inner {
    is_ipv6: bool,
    /// Type of service, or traffic class.
    tos: u8,
    /// Time to live, or hop limit.
    ttl: u8,
    length: u32,
    /// Identification for an outer header of IPv4, and the flag that forbids fragments.
    id: u16,
    dont_fragment: u16,
    /// As `id`, for an inner header that needs none and so may have none.
    own_id: u16,
    /// Tells flows apart.
    hash: u32,
    /// Sum of the whole packet, as far as it can be told without reading it.
    sum: Option<u64>,
}

/// Puts the packet into the tunnel to `server`. False: the host could not.
#[inline(never)]
pub fn enter<H: Host>(host: &H, server: &Server) -> bool {
    let Some(inner) = look(host) else {
        return false;
    };
    let is_ipv6 = server.flags.get() & server_flags::IPV6 != 0;
    let word = server.tunnel.get();
    // Remote checksum offload is for packets whose checksum is incomplete, and here it is
    // completed on the way; the outer checksum is there all the same, as with IPVS.
    let has_sum = word & (tunnel::CHECKSUM | tunnel::REMOTE_CHECKSUM) != 0;
    // A checksum over what is cut later would be right for no part of it.
    let wants_sum = has_sum && !host.is_cut_later();
    let sum = if wants_sum { inner.sum } else { None };
    let (header, next, extra) = match word & tunnel::KIND {
        tunnel::GUE => (Header::Udp, protocol::UDP, GUE),
        tunnel::GRE if sum.is_some() => (Header::Gre, protocol::GRE, GRE_CHECKSUM),
        tunnel::GRE => (Header::Gre, protocol::GRE, GRE),
        _ if inner.is_ipv6 => (Header::Ip, protocol::IPV6, 0),
        _ => (Header::Ip, protocol::IPV4, 0),
    };
    let outer = if is_ipv6 { IPV6 } else { IPV4 };
    let room = Room {
        bytes: outer + extra,
        header,
        is_ipv6,
    };
    if !host.grow(room) {
        return false;
    }
    let length = inner.length + extra as u32;
    let written = if is_ipv6 {
        outer_ipv6(host, server, &inner, next, length)
    } else {
        outer_ipv4(host, server, &inner, next, length)
    };
    written
        && match header {
            Header::Udp => gue(host, server, &inner, ETHERNET + outer, sum),
            Header::Gre => gre(host, &inner, ETHERNET + outer, sum),
            _ => true,
        }
}

/// Reads what has to be known of the packet.
#[inline(always)]
fn look<H: Host>(host: &H) -> Option<Inner> {
    let head = host.window(ETHERNET, IPV4)?;
    if head.u8(0) >> 4 == 4 {
        return Some(look_ipv4(host, head));
    }
    let head = host.window(ETHERNET, IPV6)?;
    let tos = head.u8(0) << 4 | head.u8(1) >> 4;
    let length = u32::from(u16::from_be(head.u16(4))) + IPV6 as u32;
    let addresses: u64 = (2..10).map(|word| u64::from(head.u32(word * 4))).sum();
    let next = head.u8(6);
    let sum = transport_sum(host, next, ETHERNET + IPV6, length - IPV6 as u32, addresses);
    // The header itself, whose addresses and length the pseudo header has too.
    let fixed = u64::from(head.u32(0)) + u64::from(head.u16(4)) + u64::from(head.u16(6));
    let (ports, own_id) = told_apart(host, ETHERNET + IPV6);
    Some(
        Inner {
            is_ipv6: true,
            tos,
            ttl: head.u8(7),
            length,
            id: own_id,
            // What every way has to take is let through, cut if need be (RFC 4213, 3.2.2).
            dont_fragment: if length > IPV6_LEAST_MTU {
                DONT_FRAGMENT
            } else {
                0
            },
            own_id,
            hash: fold(addresses).into(),
            sum: sum.map(|sum| sum + fixed + addresses),
        }
        .with_ports(ports),
    )
}

#[inline(always)]
fn look_ipv4<H: Host>(host: &H, head: H::Window) -> Inner {
    let header = usize::from(head.u8(0) & 0xf) * 4;
    let length = u32::from(u16::from_be(head.u16(2)));
    let addresses = u64::from(head.u32(12)) + u64::from(head.u32(16));
    let is_whole = head.u16(6) & 0x3fff_u16.to_be() == 0;
    let payload = length.wrapping_sub(header as u32);
    let sum = if is_whole && header == IPV4 {
        transport_sum(host, head.u8(9), ETHERNET + IPV4, payload, addresses)
    } else {
        None
    };
    let (ports, own_id) = if is_whole {
        told_apart(host, ETHERNET + IPV4)
    } else {
        (0, 0)
    };
    Inner {
        is_ipv6: false,
        tos: head.u8(1),
        ttl: head.u8(8),
        length,
        id: head.u16(4),
        dont_fragment: head.u16(6) & DONT_FRAGMENT,
        own_id,
        hash: fold(addresses).into(),
        // A header with a right checksum sums up to nothing.
        sum,
    }
    .with_ports(ports)
}

/// Ports, by which flows are told apart; and what tells a flow's packets apart, as TCP's
/// sequence number or UDP's checksum do: an identification that does not come again soon.
#[inline(always)]
fn told_apart<H: Host>(host: &H, transport: usize) -> (u32, u16) {
    match host.window(transport, 8) {
        Some(head) => (
            head.u32(0),
            fold(u64::from(head.u32(0)) + u64::from(head.u32(4))),
        ),
        None => (0, 0),
    }
}

impl Inner {
    /// For a packet that may be cut.
    #[inline(always)]
    fn identification(&self) -> u16 {
        if self.dont_fragment == 0 {
            self.id
        } else {
            self.own_id
        }
    }

    #[inline(always)]
    fn with_ports(mut self, ports: u32) -> Self {
        let mixed = (self.hash ^ ports).wrapping_mul(0x9E37_79B1);
        self.hash = mixed ^ mixed >> 16;
        self
    }
}

/// Sum of a transport header and what it carries, which with the pseudo header is
/// nothing if its checksum is right, or will be. None: it has no such checksum.
#[inline(always)]
fn transport_sum<H: Host>(
    host: &H,
    next: u8,
    offset: usize,
    length: u32,
    addresses: u64,
) -> Option<u64> {
    match next {
        protocol::TCP => {}
        protocol::UDP if host.window(offset, 8)?.u16(6) != 0 => {}
        _ => return None,
    }
    let pseudo =
        addresses + u64::from((length as u16).to_be()) + u64::from(u16::from(next).to_be());
    Some(u64::from(!fold(pseudo)))
}

/// The outer header's type of service (RFC 3168, 9.1.1).
#[inline(always)]
const fn outer_tos(inner: u8) -> u8 {
    if inner & 3 == 3 {
        inner & !3 | 2
    } else {
        inner
    }
}

/// True: senders who forbid fragments are to be told of ways that are too small.
#[inline(always)]
fn discovers_mtu<H: Host>(host: &H) -> bool {
    host.control()
        .is_none_or(|control| control.settings.get() & settings::PMTU_DISC != 0)
}

#[inline(always)]
fn outer_ipv4<H: Host>(host: &H, server: &Server, inner: &Inner, next: u8, length: u32) -> bool {
    let Some(head) = host.window(0, ETHERNET + IPV4) else {
        return false;
    };
    head.set_u16(12, ETHERTYPE_IPV4);
    head.set_u8(14, 0x45);
    head.set_u8(15, outer_tos(inner.tos));
    head.set_u16(16, ((length + IPV4 as u32) as u16).to_be());
    // Without it (`pmtu_disc` is 0) routers cut the packet, and need an identification.
    let may_be_cut = inner.dont_fragment == 0 || !discovers_mtu(host);
    head.set_u16(
        18,
        if may_be_cut {
            inner.identification()
        } else {
            inner.id
        },
    );
    head.set_u16(20, if may_be_cut { 0 } else { DONT_FRAGMENT });
    head.set_u8(22, inner.ttl);
    head.set_u8(23, next);
    head.set_u16(24, 0);
    head.set_u32(26, server.source[3].get());
    head.set_u32(30, server.wide_address[3].get());
    let sum: u64 = (7..17).map(|word| u64::from(head.u16(word * 2))).sum();
    head.set_u16(24, !fold(sum));
    true
}

#[inline(always)]
fn outer_ipv6<H: Host>(host: &H, server: &Server, inner: &Inner, next: u8, length: u32) -> bool {
    let Some(head) = host.window(0, ETHERNET + IPV6) else {
        return false;
    };
    let tos = outer_tos(inner.tos);
    head.set_u16(12, ETHERTYPE_IPV6);
    head.set_u8(14, 0x60 | tos >> 4);
    head.set_u8(15, tos << 4);
    head.set_u16(16, 0);
    head.set_u16(18, (length as u16).to_be());
    head.set_u8(20, next);
    head.set_u8(21, inner.ttl);
    for word in 0..4 {
        head.set_u32(22 + 4 * word, server.source[word].get());
        head.set_u32(38 + 4 * word, server.wide_address[word].get());
    }
    true
}

/// Writes the headers of UDP and of GUE.
#[inline(always)]
fn gue<H: Host>(host: &H, server: &Server, inner: &Inner, offset: usize, sum: Option<u64>) -> bool {
    let Some(header) = host.window(offset, GUE) else {
        return false;
    };
    let length = ((inner.length + GUE as u32) as u16).to_be();
    // From the range that the kernel draws from for flows.
    header.set_u16(0, (0xc000 | inner.hash as u16 & 0x3fff).to_be());
    header.set_u16(2, (server.tunnel.get() >> tunnel::PORT_SHIFT) as u16);
    header.set_u16(4, length);
    header.set_u16(6, 0);
    header.set_u8(8, 0);
    let kind = if inner.is_ipv6 {
        protocol::IPV6
    } else {
        protocol::IPV4
    };
    header.set_u8(9, kind);
    header.set_u16(10, 0);
    if let Some(sum) = sum {
        let mut sum = sum + u64::from(length) + u64::from(u16::from(protocol::UDP).to_be());
        for word in 0..4 {
            sum += u64::from(server.source[word].get());
            sum += u64::from(server.wide_address[word].get());
        }
        // A mapped IPv4 address has words that are in no packet.
        if server.flags.get() & server_flags::IPV6 == 0 {
            let mapped =
                u64::from(server.source[2].get()) + u64::from(server.wide_address[2].get());
            sum -= mapped;
        }
        sum += (0..6)
            .map(|word| u64::from(header.u16(word * 2)))
            .sum::<u64>();
        let checksum = !fold(sum);
        header.set_u16(6, if checksum == 0 { 0xffff } else { checksum });
    }
    true
}

/// Writes the header of GRE.
#[inline(always)]
fn gre<H: Host>(host: &H, inner: &Inner, offset: usize, sum: Option<u64>) -> bool {
    let length = if sum.is_some() { GRE_CHECKSUM } else { GRE };
    let Some(header) = host.window(offset, length) else {
        return false;
    };
    let kind = if inner.is_ipv6 {
        ETHERTYPE_IPV6
    } else {
        ETHERTYPE_IPV4
    };
    header.set_u16(2, kind);
    let Some(sum) = sum else {
        header.set_u16(0, 0);
        return true;
    };
    let flags = 0x8000_u16.to_be();
    header.set_u16(0, flags);
    header.set_u16(4, !fold(sum + u64::from(flags) + u64::from(kind)));
    header.set_u16(6, 0);
    true
}
