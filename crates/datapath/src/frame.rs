//! A frame taken apart for the short way: Ethernet, IPv4, ports. What can't be taken
//! apart is the kernel's business.

use crate::checksum;
use crate::host::{ChecksumChange, Hop, Host, Window};

/// Length of an Ethernet header.
pub const ETHERNET: usize = 14;
/// Least length of an IPv4 header.
pub const IPV4: usize = 20;
/// Type of a frame that holds IPv4.
pub const ETHERTYPE_IPV4: u16 = 0x0800_u16.to_be();
/// Type of a frame that holds IPv6.
pub const ETHERTYPE_IPV6: u16 = 0x86dd_u16.to_be();

/// Protocol numbers.
pub mod protocol {
    /// ICMP.
    pub const ICMP: u8 = 1;
    /// IPv4 in IP.
    pub const IPV4: u8 = 4;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// IPv6 in IP.
    pub const IPV6: u8 = 41;
    /// GRE.
    pub const GRE: u8 = 47;
    /// ICMP for IPv6.
    pub const ICMPV6: u8 = 58;
    /// SCTP.
    pub const SCTP: u8 = 132;
}

/// Offsets in the frame.
mod at {
    pub(super) const ETHERTYPE: usize = 12;
    pub(super) const VERSION: usize = 14;
    pub(super) const TOTAL_LENGTH: usize = 16;
    pub(super) const FRAGMENT: usize = 20;
    pub(super) const TTL: usize = 22;
    pub(super) const PROTOCOL: usize = 23;
    pub(super) const CHECKSUM: usize = 24;
    pub(super) const SOURCE: usize = 26;
    pub(super) const DESTINATION: usize = 30;
}

/// The parts of an IPv4 packet that decide its way. Addresses as they stand.
#[derive(Clone, Copy)]
pub struct Packet<W> {
    /// Ethernet and IPv4 header without options.
    pub head: W,
    /// Where the transport header begins.
    pub transport: usize,
    /// Protocol.
    pub protocol: u8,
    /// Source address.
    pub source: u32,
    /// Destination address.
    pub destination: u32,
    /// Total length of the IPv4 packet.
    pub length: u32,
}

/// What a frame is.
pub enum Parsed<W> {
    /// A whole IPv4 packet.
    Ipv4(Packet<W>),
    /// IPv6, not looked into.
    Ipv6,
    /// A fragment of an IPv4 packet.
    Fragment,
    /// Cut off, or in contradiction to itself.
    Malformed,
    /// Not IP, or tagged.
    Other,
}

/// True: an IPv4 packet without options that carries TCP or UDP. `frame` is 24 bytes
/// at least.
#[inline(always)]
pub fn is_plain_transport<W: Window>(frame: W) -> bool {
    frame.u16(at::ETHERTYPE) == ETHERTYPE_IPV4
        && frame.u8(at::VERSION) == 0x45
        && matches!(frame.u8(at::PROTOCOL), protocol::TCP | protocol::UDP)
}

/// Takes the frame apart up to the IPv4 header.
#[inline(always)]
pub fn parse<H: Host>(host: &H) -> Parsed<H::Window> {
    let Some(head) = host.window(0, ETHERNET + IPV4) else {
        return Parsed::Other;
    };
    let kind = head.u16(at::ETHERTYPE);
    if kind != ETHERTYPE_IPV4 || host.is_tagged() {
        return if kind == ETHERTYPE_IPV6 && !host.is_tagged() {
            Parsed::Ipv6
        } else {
            Parsed::Other
        };
    }
    let version = head.u8(at::VERSION);
    let header = ((version & 0xf) as usize) * 4;
    if version >> 4 != 4 || header < IPV4 {
        return Parsed::Malformed;
    }
    let length = u32::from(u16::from_be(head.u16(at::TOTAL_LENGTH)));
    if (length as usize) < header || length > host.length().saturating_sub(ETHERNET as u32) {
        return Parsed::Malformed;
    }
    // More fragments, or an offset: 0x3fff of the flags word.
    if head.u16(at::FRAGMENT) & 0x3fff_u16.to_be() != 0 {
        return Parsed::Fragment;
    }
    Parsed::Ipv4(Packet {
        head,
        transport: ETHERNET + header,
        protocol: head.u8(at::PROTOCOL),
        source: head.u32(at::SOURCE),
        destination: head.u32(at::DESTINATION),
        length,
    })
}

impl<W: Window> Packet<W> {
    /// Length of what follows the IPv4 header.
    #[inline(always)]
    pub fn payload(&self) -> u32 {
        self.length - (self.transport - ETHERNET) as u32
    }

    /// Time to live.
    #[inline(always)]
    pub fn ttl(&self) -> u8 {
        self.head.u8(at::TTL)
    }

    /// True: it may not be cut in fragments.
    #[inline(always)]
    pub fn dont_fragment(&self) -> bool {
        self.head.u16(at::FRAGMENT) & 0x4000_u16.to_be() != 0
    }

    /// Sum of the pseudo header of TCP and UDP (RFC 9293, 3.1), not folded.
    #[inline(always)]
    pub fn pseudo_header(&self) -> u64 {
        u64::from(self.source)
            + u64::from(self.destination)
            + u64::from((self.payload() as u16).to_be())
            + u64::from(u16::from(self.protocol).to_be())
    }
}

/// The end of a packet that is rewritten.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Source address and port.
    Source,
    /// Destination address and port.
    Destination,
}

/// An address and a port as they stand in the packet.
#[derive(Clone, Copy)]
pub struct Endpoint {
    /// Address.
    pub address: u32,
    /// Port.
    pub port: u16,
}

/// Rewrites one end of a TCP or UDP packet, takes one from its time to live, and
/// keeps both checksums right. False: the host could not.
#[inline(always)]
pub fn translate<H: Host>(
    host: &H,
    packet: &Packet<H::Window>,
    end: End,
    before: Endpoint,
    after: Endpoint,
) -> bool {
    let addresses = checksum::difference32(before.address, after.address);
    let ports = checksum::change16(before.port, after.port);
    if !change_checksum(host, packet, addresses, ports) {
        return false;
    }
    let (Some(head), Some(transport)) = (
        host.window(0, ETHERNET + IPV4),
        host.window(packet.transport, 8),
    ) else {
        return false;
    };
    transport.set_u16(if end == End::Source { 0 } else { 2 }, after.port);
    set_address(head, end, before.address, after.address);
    true
}

/// Keeps the checksum of a TCP or UDP packet right.
#[inline(always)]
fn change_checksum<H: Host>(
    host: &H,
    packet: &Packet<H::Window>,
    address: u32,
    ports: u32,
) -> bool {
    let udp = packet.protocol == protocol::UDP;
    host.change_transport_checksum(ChecksumChange {
        offset: packet.transport + if udp { 6 } else { 16 },
        address,
        ports,
        zero_is_none: udp,
    })
}

/// As [`translate`], both ends: the source and the destination.
#[inline(always)]
pub fn translate_both<H: Host>(
    host: &H,
    packet: &Packet<H::Window>,
    ports: (u16, u16),
    after: (Endpoint, Endpoint),
) -> bool {
    let (source, destination) = after;
    let addresses = checksum::both(
        checksum::difference32(packet.source, source.address),
        checksum::difference32(packet.destination, destination.address),
    );
    let ports = checksum::both(
        checksum::change16(ports.0, source.port),
        checksum::change16(ports.1, destination.port),
    );
    if !change_checksum(host, packet, addresses, ports) {
        return false;
    }
    let (Some(head), Some(transport)) = (
        host.window(0, ETHERNET + IPV4),
        host.window(packet.transport, 8),
    ) else {
        return false;
    };
    transport.set_u16(0, source.port);
    transport.set_u16(2, destination.port);
    head.set_u32(at::SOURCE, source.address);
    head.set_u32(at::DESTINATION, destination.address);
    take_from_ttl(head, addresses);
    true
}

/// Rewrites an address of the IPv4 header, takes one from its time to live, and
/// keeps its checksum right.
#[inline(always)]
pub fn set_address<W: Window>(head: W, end: End, before: u32, after: u32) {
    take_from_ttl(head, checksum::difference32(before, after));
    let offset = if end == End::Source {
        at::SOURCE
    } else {
        at::DESTINATION
    };
    head.set_u32(offset, after);
}

/// Takes one from the time to live of an IPv4 packet, and keeps its checksum right.
#[inline(always)]
pub fn pass_on<W: Window>(head: W) {
    take_from_ttl(head, 0);
}

/// As [`pass_on`], where addresses have changed as well, by this difference.
#[inline(always)]
fn take_from_ttl<W: Window>(head: W, addresses: u32) {
    let before = head.u16(at::TTL);
    head.set_u8(at::TTL, head.u8(at::TTL).wrapping_sub(1));
    let difference =
        u64::from(addresses) + u64::from(checksum::difference16(before, head.u16(at::TTL)));
    head.set_u16(
        at::CHECKSUM,
        checksum::update(head.u16(at::CHECKSUM), difference),
    );
}

/// Writes the frame's MAC addresses.
#[inline(always)]
pub fn set_macs<H: Host>(host: &H, hop: &Hop) -> bool {
    let Some(head) = host.window(0, ETHERNET) else {
        return false;
    };
    head.set_u32(0, hop.macs[0]);
    head.set_u32(4, hop.macs[1]);
    head.set_u32(8, hop.macs[2]);
    true
}
