//! ICMP errors about a translated connection, in both directions (as IPVS's
//! `ip_vs_in_icmp` and `ip_vs_out_icmp`): the quoted packet is translated back, so
//! that the receiver knows it as its own.

use crate::checksum;
use crate::forward::{Verdict, client_port, drop, find_from_server, leave, pass, sendable};
use crate::frame::{self, ETHERNET, End, Endpoint, IPV4, Packet, protocol};
use crate::host::{Host, Window, count};
use crate::layout::{endpoint_key, endpoint_kind, server_flags};
use crate::reason::Reason;
use crate::table::By;
use crate::{endpoint, hash, hop, table};

const UNREACHABLE: u8 = 3;
const SOURCE_QUENCH: u8 = 4;
const TIME_EXCEEDED: u8 = 11;
const HEADER: usize = 8;

/// The packet that an ICMP error quotes.
struct Quoted {
    /// Where its IPv4 header begins in the frame.
    offset: usize,
    /// Where its transport header begins.
    transport: usize,
    protocol: u8,
    source: Endpoint,
    destination: Endpoint,
}

/// Decides about an ICMP packet.
#[inline(always)]
pub(crate) fn process<H: Host>(host: &H, packet: &Packet<H::Window>) -> Verdict {
    let Some(header) = host.window(packet.transport, HEADER) else {
        return pass(host, Reason::Malformed);
    };
    if !matches!(header.u8(0), UNREACHABLE | SOURCE_QUENCH | TIME_EXCEEDED) {
        return Verdict::Pass;
    }
    let Some(quoted) = quoted(host, packet) else {
        return Verdict::Pass;
    };
    let about_request = endpoint_key(
        quoted.destination.address,
        quoted.destination.port,
        quoted.protocol,
        endpoint_kind::SERVER,
    );
    if endpoint::find(host, about_request).is_some() {
        return to_client(host, packet, &quoted);
    }
    let about_reply = endpoint_key(
        quoted.source.address,
        quoted.source.port,
        quoted.protocol,
        endpoint_kind::SERVICE,
    );
    match endpoint::find(host, about_reply) {
        Some(service) => to_server(host, packet, &quoted, service),
        None => Verdict::Pass,
    }
}

/// Takes the quoted packet apart: IPv4, TCP or UDP, not a later fragment.
#[inline(always)]
fn quoted<H: Host>(host: &H, packet: &Packet<H::Window>) -> Option<Quoted> {
    let offset = packet.transport + HEADER;
    let inner = host.window(offset, IPV4)?;
    let version = inner.u8(0);
    let length = ((version & 0xf) as usize) * 4;
    let kind = inner.u8(9);
    if version >> 4 != 4
        || length < IPV4
        || inner.u16(6) & 0x1fff_u16.to_be() != 0
        || !matches!(kind, protocol::TCP | protocol::UDP)
        || packet.payload() < (HEADER + length + 8) as u32
    {
        return None;
    }
    let transport = offset + length;
    let ports = host.window(transport, 8)?;
    Some(Quoted {
        offset,
        transport,
        protocol: kind,
        source: Endpoint {
            address: inner.u32(12),
            port: ports.u16(0),
        },
        destination: Endpoint {
            address: inner.u32(16),
            port: ports.u16(2),
        },
    })
}

/// About a client's packet that went to a server: the client knows only the VIP.
#[inline(always)]
fn to_client<H: Host>(host: &H, packet: &Packet<H::Window>, quoted: &Quoted) -> Verdict {
    let Some((found, server)) =
        find_from_server(host, quoted.protocol, quoted.source, quoted.destination)
    else {
        return Verdict::Pass;
    };
    if !host.is_for_us(packet.head) {
        return pass(host, Reason::OtherHost);
    }
    let virtual_end = Endpoint {
        address: server.virtual_address.get(),
        port: (server.ports.get() >> 16) as u16,
    };
    let way = hop::to_client(
        host,
        found.entry,
        virtual_end.address,
        packet.destination,
        packet.protocol,
    );
    if let Err(verdict) = sendable(host, packet, &way) {
        return verdict;
    }
    if let Some(counters) = host.counters(found.entry.server.get()) {
        count(&counters.out_packets, 1);
        count(&counters.out_bytes, u64::from(packet.length));
    }
    if !rewrite(
        host,
        packet,
        quoted,
        End::Source,
        quoted.destination,
        virtual_end,
    ) {
        return drop(host, Reason::RewriteFailed);
    }
    leave(host, way)
}

/// About a server's reply: the server knows only its own address.
#[inline(always)]
fn to_server<H: Host>(
    host: &H,
    packet: &Packet<H::Window>,
    quoted: &Quoted,
    service: u32,
) -> Verdict {
    let client = quoted.destination;
    let port = client_port(client.port, quoted.protocol);
    let place = hash::connection(client.address, port, host.seed());
    let found = table::find(host, place, client.address, port, By::Service(service));
    let Some(found) = found else {
        return Verdict::Pass;
    };
    if !host.is_for_us(packet.head) {
        return pass(host, Reason::OtherHost);
    }
    let index = found.entry.server.get();
    let Some(server) = host.server(index) else {
        return drop(host, Reason::ServerGone);
    };
    if server.flags.get() & server_flags::ALIVE == 0 {
        return drop(host, Reason::ServerGone);
    }
    let way = hop::to_server(host, server, packet.source, packet.protocol);
    if let Err(verdict) = sendable(host, packet, &way) {
        return verdict;
    }
    if let Some(counters) = host.counters(index) {
        count(&counters.in_packets, 1);
        count(&counters.in_bytes, u64::from(packet.length));
    }
    let real = Endpoint {
        address: server.address.get(),
        port: server.ports.get() as u16,
    };
    if !rewrite(host, packet, quoted, End::Destination, quoted.source, real) {
        return drop(host, Reason::RewriteFailed);
    }
    leave(host, way)
}

/// Rewrites the outer `end` to `after`'s address and the opposite end of the quoted
/// packet to `after`. The quoted IPv4 header keeps a right checksum, so of its
/// changes only the port's touches the ICMP checksum.
#[inline(always)]
fn rewrite<H: Host>(
    host: &H,
    packet: &Packet<H::Window>,
    quoted: &Quoted,
    end: End,
    before: Endpoint,
    after: Endpoint,
) -> bool {
    let (Some(head), Some(icmp), Some(inner), Some(ports)) = (
        host.window(0, ETHERNET + IPV4),
        host.window(packet.transport, HEADER),
        host.window(quoted.offset, IPV4),
        host.window(quoted.transport, 8),
    ) else {
        return false;
    };
    let outer = if end == End::Source {
        packet.source
    } else {
        packet.destination
    };
    frame::set_address(head, end, outer, after.address);
    let (address_at, port_at) = if end == End::Source { (16, 2) } else { (12, 0) };
    let address = u64::from(checksum::difference32(before.address, after.address));
    inner.set_u16(10, checksum::update(inner.u16(10), address));
    inner.set_u32(address_at, after.address);
    ports.set_u16(port_at, after.port);
    let port = u64::from(checksum::difference16(before.port, after.port));
    icmp.set_u16(2, checksum::update(icmp.u16(2), port));
    true
}
