//! A packet taken apart: both families, extension headers, fragments.

use super::Arrival;
use super::tunnel_error::is_tunnel;
use crate::forward::Extent;
use crate::frame::{self, ETHERNET, ETHERTYPE_IPV4, ETHERTYPE_IPV6, protocol};
use crate::host::{Host, Window};
use crate::layout::{Address, mapped};

const IPV4: usize = 20;
const IPV6: usize = 40;

/// Extension headers of IPv6 that are stepped over (RFC 8200, 4).
mod extension {
    pub(super) const HOP_BY_HOP: u8 = 0;
    pub(super) const ROUTING: u8 = 43;
    pub(super) const FRAGMENT: u8 = 44;
    pub(super) const AUTHENTICATION: u8 = 51;
    pub(super) const DESTINATION: u8 = 60;
}

/// Most extension headers of a packet that is looked into.
const EXTENSIONS: usize = 6;
/// Farthest that a transport header begins in a frame.
const TRANSPORT_MAX: usize = 511;

/// What a frame is: numbers and no enum, so that the verifier can be made to forget
/// which.
pub(crate) mod what {
    /// A whole packet.
    pub(crate) const WHOLE: u32 = 0;
    /// The first fragment of one.
    pub(crate) const FIRST: u32 = 1;
    /// A later fragment, without ports.
    pub(crate) const LATER: u32 = 2;
    /// Cut off, or in contradiction to itself.
    pub(crate) const MALFORMED: u32 = 3;
    /// Not IP, tagged, or with more headers than are looked into.
    pub(crate) const OTHER: u32 = 4;
}

/// The parts of a packet that decide its way.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Packet {
    /// See [`what`].
    pub what: u32,
    pub is_ipv6: bool,
    pub protocol: u8,
    /// Time to live, or hop limit.
    pub ttl: u8,
    /// Where the transport header begins in the frame.
    pub transport: usize,
    /// Length of the IP packet.
    pub length: u32,
    /// Identification of a packet in fragments.
    pub id: u32,
    /// 1: it may not be cut in fragments.
    pub dont_fragment: u32,
    pub source: Address,
    pub destination: Address,
}

pub(crate) const NOTHING: Packet = Packet {
    what: what::OTHER,
    is_ipv6: false,
    protocol: 0,
    ttl: 0,
    transport: 0,
    length: 0,
    id: 0,
    dont_fragment: 1,
    source: [0; 4],
    destination: [0; 4],
};

/// What taking a frame apart comes to.
pub(crate) mod parsed {
    /// It is kept.
    pub(crate) const KEPT: u32 = 1;
    /// It is cut off, or in contradiction to itself.
    pub(crate) const MALFORMED: u32 = 2;
    /// It is not IP, or tagged, or has more headers than are looked into.
    pub(crate) const OTHER: u32 = 0;
}

/// Takes a frame apart up to the transport header, and keeps it: [`parsed`].
///
/// What can be is told without a branch, and what has many is a function of its own:
/// older verifiers follow all that comes once for each way that leads there.
#[inline(always)]
pub(crate) fn parse<H: Host>(host: &H) -> u32 {
    let Some(ethernet) = host.window(0, ETHERNET) else {
        return parsed::OTHER;
    };
    if host.is_tagged() {
        return parsed::OTHER;
    }
    match ethernet.u16(12) {
        ETHERTYPE_IPV4 => host.parse_ipv4(),
        ETHERTYPE_IPV6 => host.parse_ipv6(),
        _ => parsed::OTHER,
    }
}

/// 1 if the bits are not all 0, else 0.
#[inline(always)]
const fn any(bits: u32) -> u32 {
    (bits | bits.wrapping_neg()) >> 31
}

/// Takes an IPv4 packet apart and keeps it: [`parsed`].
#[inline(always)]
pub(crate) fn ipv4<H: Host>(host: &H) -> u32 {
    let Some(head) = host.window(ETHERNET, IPV4) else {
        return parsed::OTHER;
    };
    let version = head.u8(0);
    let header = ((version & 0xf) as usize) * 4;
    let length = u32::from(u16::from_be(head.u16(2)));
    if version >> 4 != 4
        || header < IPV4
        || (length as usize) < header
        || length + ETHERNET as u32 > host.length()
    {
        return parsed::MALFORMED;
    }
    let fragment = u32::from(u16::from_be(head.u16(6)));
    let later = any(fragment & 0x1fff);
    let first = (fragment >> 13) & 1 & !later;
    host.keep(Arrival {
        packet: Packet {
            what: (later * what::LATER) | (first * what::FIRST),
            is_ipv6: false,
            protocol: head.u8(9),
            ttl: head.u8(8),
            transport: ETHERNET + header,
            length,
            id: u32::from(head.u16(4)),
            dont_fragment: (fragment >> 14) & 1,
            source: mapped(head.u32(12)),
            destination: mapped(head.u32(16)),
        },
        ..Arrival::empty()
    });
    parsed::KEPT
}

/// Takes an IPv6 packet apart and keeps it: [`parsed`].
#[inline(always)]
pub(crate) fn ipv6<H: Host>(host: &H) -> u32 {
    let Some(head) = host.window(ETHERNET, IPV6) else {
        return parsed::OTHER;
    };
    let length = u32::from(u16::from_be(head.u16(4))) + IPV6 as u32;
    if head.u8(0) >> 4 != 6 || length + ETHERNET as u32 > host.length() {
        return parsed::MALFORMED;
    }
    let packed = host.extensions(head.u8(6).into());
    let step = Step::unpacked(packed);
    if packed == 0 || step.what == what::OTHER {
        return if packed == 0 {
            parsed::MALFORMED
        } else {
            parsed::OTHER
        };
    }
    if step.offset > length + ETHERNET as u32 || step.what == what::MALFORMED {
        return parsed::MALFORMED;
    }
    // The function may have moved the packet.
    let Some(head) = host.window(ETHERNET, IPV6) else {
        return parsed::OTHER;
    };
    host.keep(Arrival {
        packet: Packet {
            what: step.what,
            is_ipv6: true,
            protocol: step.protocol,
            ttl: head.u8(7),
            transport: step.offset as usize,
            length,
            id: step.id,
            dont_fragment: 1,
            source: [head.u32(8), head.u32(12), head.u32(16), head.u32(20)],
            destination: [head.u32(24), head.u32(28), head.u32(32), head.u32(36)],
        },
        ..Arrival::empty()
    });
    parsed::KEPT
}

/// A step over an extension header: where the next one begins, and what it is.
#[derive(Clone, Copy)]
struct Step {
    offset: u32,
    protocol: u8,
    what: u32,
    id: u32,
}

impl Step {
    /// As a number, for a function of its own. 0: there is no next one.
    const fn packed(self) -> u64 {
        (self.id as u64) << 32
            | ((self.what & 0xff) as u64) << 24
            | (self.protocol as u64) << 16
            | (self.offset & 0xffff) as u64
    }

    const fn unpacked(packed: u64) -> Self {
        Self {
            offset: packed as u32 & 0xffff,
            protocol: (packed >> 16) as u8,
            what: (packed >> 24) as u32 & 0xff,
            id: (packed >> 32) as u32,
        }
    }
}

/// True for the headers that are stepped over. By one comparison: the verifier would
/// follow each of several on its own, and that at each step.
#[inline(always)]
pub(super) const fn is_extension(next: u8) -> bool {
    const THESE: u64 = 1 << extension::HOP_BY_HOP
        | 1 << extension::ROUTING
        | 1 << extension::FRAGMENT
        | 1 << extension::AUTHENTICATION
        | 1 << extension::DESTINATION;
    next < 64 && (THESE >> next) & 1 != 0
}

/// The same packet, of which the verifier knows nothing: it would follow all that comes
/// once for each way in which a packet can be taken apart.
#[inline(always)]
fn forgotten<H: Host>(host: &H, packet: Packet) -> Packet {
    Packet {
        is_ipv6: host.opaque(packet.is_ipv6.into()) & 1 != 0,
        protocol: host.opaque(packet.protocol.into()) as u8,
        transport: host.opaque(packet.transport as u32) as usize & TRANSPORT_MAX,
        ..packet
    }
}

/// Steps over the extension header of kind `next` at `offset`; 0: it is cut off.
#[inline(always)]
pub(crate) fn step<H: Host>(host: &H, next: u32, offset: u32) -> u64 {
    let offset = offset as usize & TRANSPORT_MAX;
    let next = next as u8;
    let Some(header) = host.window(offset, 8) else {
        return 0;
    };
    let units = usize::from(header.u8(1));
    let length = match next {
        extension::FRAGMENT => 8,
        extension::AUTHENTICATION => (units + 2) * 4,
        _ => (units + 1) * 8,
    };
    let fragment = u16::from_be(header.u16(2));
    let what = if next != extension::FRAGMENT {
        what::WHOLE
    } else if fragment & 0xfff8 != 0 {
        what::LATER
    } else {
        u32::from(fragment & 1) * what::FIRST
    };
    Step {
        offset: (offset + length) as u32,
        protocol: header.u8(0),
        what,
        id: if next == extension::FRAGMENT {
            header.u32(4)
        } else {
            0
        },
    }
    .packed()
}

/// Steps over all extension headers, of which `next` is the first: a [`Step`] as a number;
/// 0: one is cut off.
#[inline(always)]
pub(crate) fn extensions<H: Host>(host: &H, next: u32) -> u64 {
    let mut here = Step {
        offset: (ETHERNET + IPV6) as u32,
        protocol: next as u8,
        what: what::WHOLE,
        id: 0,
    };
    for _ in 0..EXTENSIONS {
        if !is_extension(here.protocol) {
            break;
        }
        let packed = host.step(here.protocol.into(), here.offset);
        if packed == 0 {
            return 0;
        }
        let step = Step::unpacked(packed);
        here = Step {
            // A packet has one fragment header.
            what: here.what | step.what,
            id: here.id | step.id,
            ..step
        };
        if here.offset > TRANSPORT_MAX as u32 {
            here.what = what::OTHER;
        }
        if step.what == what::LATER || here.what == what::OTHER {
            break;
        }
    }
    here.packed()
}

impl Packet {
    /// A whole packet that the short way has taken apart.
    #[inline(always)]
    pub(super) fn of_ipv4<W: Window>(packet: &frame::Packet<W>) -> Self {
        Self {
            what: what::WHOLE,
            is_ipv6: false,
            protocol: packet.protocol,
            ttl: packet.ttl(),
            transport: packet.transport,
            length: packet.length,
            id: 0,
            dont_fragment: u32::from(packet.dont_fragment()),
            source: mapped(packet.source),
            destination: mapped(packet.destination),
        }
    }

    /// Where the transport header begins. Bounded, for the verifier, which does not know
    /// what is kept.
    #[inline(always)]
    pub(crate) fn transport(&self) -> usize {
        self.transport & TRANSPORT_MAX
    }

    /// What decides whether it can leave.
    #[inline(always)]
    pub(crate) fn extent(&self) -> Extent {
        Extent {
            length: self.length,
            ttl: self.ttl,
            transport: self.transport(),
            protocol: self.protocol,
        }
    }

    /// Length of what follows the IP headers.
    #[inline(always)]
    pub(crate) fn payload(&self) -> u32 {
        self.length
            .wrapping_add(ETHERNET as u32)
            .wrapping_sub(self.transport as u32)
    }

    /// Sum of the pseudo header of TCP and UDP (RFC 9293, 3.1; RFC 8200, 8.1), not
    /// folded.
    #[inline(always)]
    pub(crate) fn pseudo_header(&self) -> u64 {
        let mut sum = u64::from((self.payload() as u16).to_be())
            + u64::from(u16::from(self.protocol).to_be());
        if self.is_ipv6 {
            for word in 0..4 {
                sum += u64::from(self.source[word]) + u64::from(self.destination[word]);
            }
        } else {
            sum += u64::from(self.source[3]) + u64::from(self.destination[3]);
        }
        sum
    }
}

pub(crate) const NO_TRANSPORT: Transport = Transport {
    source_port: 0,
    destination_port: 0,
    event: 0,
    is_partial: false,
    is_for_us: false,
};

/// What a transport header says: ports, checksum, and what moves a connection's state.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Transport {
    pub source_port: u16,
    pub destination_port: u16,
    /// TCP: the flags. SCTP: type of the first chunk. UDP: 0.
    pub event: u8,
    /// True: the next stage has to take the packet, because its checksum may be
    /// incomplete.
    pub is_partial: bool,
    /// The frame is addressed to this host.
    pub is_for_us: bool,
}

impl Transport {
    /// As a number that is not 0.
    #[inline(always)]
    pub(crate) fn packed(self) -> u64 {
        1 << 63
            | u64::from(self.is_for_us) << 41
            | u64::from(self.is_partial) << 40
            | u64::from(self.event) << 32
            | u64::from(self.destination_port) << 16
            | u64::from(self.source_port)
    }

    /// From what [`Transport::packed`] made of it.
    #[inline(always)]
    pub(crate) fn unpacked(packed: u64) -> Self {
        Self {
            source_port: packed as u16,
            destination_port: (packed >> 16) as u16,
            event: (packed >> 32) as u8,
            is_partial: (packed >> 40) & 1 != 0,
            is_for_us: (packed >> 41) & 1 != 0,
        }
    }
}

/// What can be told of a later fragment.
#[inline(always)]
pub(crate) fn later<H: Host>(host: &H) -> Transport {
    Transport {
        is_for_us: is_for_us(host),
        ..NO_TRANSPORT
    }
}

/// True: the frame is addressed to this host.
#[inline(always)]
fn is_for_us<H: Host>(host: &H) -> bool {
    host.window(0, ETHERNET)
        .is_some_and(|frame| host.is_for_us(frame))
}

/// Reads the transport header. None: malformed.
#[inline(always)]
pub(crate) fn transport<H: Host>(host: &H, packet: &Packet) -> Option<Transport> {
    let header = host.window(packet.transport(), 8)?;
    let is_whole = packet.what == what::WHOLE;
    let payload = packet.payload();
    let (checksum, event) = match packet.protocol {
        protocol::UDP => {
            let length = u32::from(u16::from_be(header.u16(4)));
            if length < 8 || (is_whole && length > payload) {
                return None;
            }
            (header.u16(6), 0)
        }
        protocol::TCP => {
            let tcp = host.window(packet.transport(), 20)?;
            let length = u32::from(tcp.u8(12) >> 4) * 4;
            if length < 20 || length > payload {
                return None;
            }
            (tcp.u16(16), tcp.u8(13))
        }
        _ => {
            // A common header and a chunk's (RFC 9260, 3).
            let sctp = host.window(packet.transport(), 16)?;
            if payload < 16 {
                return None;
            }
            // An incomplete checksum can't be told from a whole one.
            (
                crate::checksum::fold(packet.pseudo_header()),
                sctp_event(host, packet, sctp),
            )
        }
    };
    Some(Transport {
        source_port: header.u16(0),
        destination_port: header.u16(2),
        event,
        is_for_us: is_for_us(host),
        is_partial: is_whole && !host.can_change_checksum(checksum, packet.pseudo_header()),
    })
}

/// Chunk types of SCTP.
mod chunk {
    pub(super) const ABORT: u8 = 6;
    pub(super) const COOKIE_ECHO: u8 = 10;
    pub(super) const COOKIE_ACK: u8 = 11;
}

/// The chunk that counts: the first one, or an ABORT that follows a cookie.
#[inline(always)]
fn sctp_event<H: Host>(host: &H, packet: &Packet, sctp: H::Window) -> u8 {
    let kind = sctp.u8(12);
    if !matches!(kind, chunk::COOKIE_ECHO | chunk::COOKIE_ACK) {
        return kind;
    }
    let length = u16::from_be(sctp.u16(14)) as usize;
    let next = packet.transport() + 12 + ((length + 3) & !3 & 0xfff);
    match host.window(next, 4) {
        Some(behind) if length >= 4 && behind.u8(0) == chunk::ABORT => chunk::ABORT,
        _ => kind,
    }
}

/// The packet that an ICMP error quotes, and its ports; its length and the like are not
/// told. None: not an error, or about nothing with ports and no
/// tunnel either.
#[inline(always)]
pub(crate) fn quoted<H: Host>(host: &H, packet: &Packet) -> Option<(Packet, Transport)> {
    const HEADER: usize = 8;
    let kind = host.window(packet.transport(), HEADER)?.u8(0);
    // Unreachable, source quench, time exceeded; for IPv6: unreachable, too big, time
    // exceeded, parameter problem.
    let is_error = if packet.is_ipv6 {
        (1..=4).contains(&kind)
    } else {
        matches!(kind, 3 | 4 | 11)
    };
    if !is_error || packet.what != what::WHOLE {
        return None;
    }
    let offset = packet.transport() + HEADER;
    let quoted = if packet.is_ipv6 {
        quoted_ipv6(host, offset)?
    } else {
        quoted_ipv4(host, offset)?
    };
    let is_known = matches!(
        quoted.protocol,
        protocol::TCP | protocol::UDP | protocol::SCTP
    ) || is_tunnel(quoted.protocol);
    if !is_known || quoted.transport + 8 > packet.length as usize + ETHERNET {
        return None;
    }
    let quoted = forgotten(host, quoted);
    let ports = host.window(quoted.transport, 8)?;
    let transport = Transport {
        source_port: ports.u16(0),
        destination_port: ports.u16(2),
        event: 0,
        is_partial: false,
        is_for_us: is_for_us(host),
    };
    Some((quoted, transport))
}

#[inline(always)]
fn quoted_ipv4<H: Host>(host: &H, offset: usize) -> Option<Packet> {
    let inner = host.window(offset, IPV4)?;
    let version = inner.u8(0);
    let header = ((version & 0xf) as usize) * 4;
    let is_later = inner.u16(6) & 0x1fff_u16.to_be() != 0;
    if version >> 4 != 4 || header < IPV4 || is_later {
        return None;
    }
    Some(Packet {
        what: what::WHOLE,
        protocol: inner.u8(9),
        transport: offset + header,
        source: mapped(inner.u32(12)),
        destination: mapped(inner.u32(16)),
        ..NOTHING
    })
}

/// Without extension headers.
#[inline(always)]
fn quoted_ipv6<H: Host>(host: &H, offset: usize) -> Option<Packet> {
    let inner = host.window(offset, IPV6)?;
    if inner.u8(0) >> 4 != 6 {
        return None;
    }
    Some(Packet {
        what: what::WHOLE,
        is_ipv6: true,
        protocol: inner.u8(6),
        transport: offset + IPV6,
        source: [inner.u32(8), inner.u32(12), inner.u32(16), inner.u32(20)],
        destination: [inner.u32(24), inner.u32(28), inner.u32(32), inner.u32(36)],
        ..NOTHING
    })
}
