//! The short way of IPv6: TCP and UDP in connections that are established already, to and
//! from services with an address and a port. As for IPv4 ([`crate::short`]), what it can't
//! finish it leaves untouched to the general way, of which it is a part: nothing is kept,
//! and the packet goes through one program.

use super::inbound::is_own;
use super::packet::{Packet, Transport, what};
use super::rewrite::{self, WideEnd};
use super::source_nat;
use super::width::Width;
use crate::forward::{
    Sendable, Verdict, count_packet, counted_length, drop, is_alive, leave, method_of, pass, ports,
    sendable, track,
};
use crate::frame::{ETHERNET, End, protocol};
use crate::hop::{self, Way};
use crate::host::{Host, Window};
use crate::layout::{Server, WideBucket, WideEntry, endpoint_kind, features, method, server_flags};
use crate::reason::Reason;
use crate::state::{self, Direction, tcp_flags};
use crate::table::{self, Found, Slot};
use crate::{endpoint, short, tunnel};

const IPV6: usize = 40;
/// Where the transport header begins.
const TRANSPORT: usize = ETHERNET + IPV6;

/// Decides about a frame of IPv6, or says that the general way has to.
#[inline(always)]
pub(super) fn process<H: Host>(host: &H) -> Verdict {
    let (Some(head), Some(header)) = (host.window(0, TRANSPORT), host.window(TRANSPORT, 8)) else {
        return Verdict::GENERAL;
    };
    let protocol = head.u8(20);
    let length = u32::from(u16::from_be(head.u16(18))) + IPV6 as u32;
    let is_whole = head.u8(14) >> 4 == 6 && length + ETHERNET as u32 <= host.length();
    if !is_whole
        || !matches!(protocol, protocol::TCP | protocol::UDP)
        || short::has(host, features::MARKS)
    {
        return Verdict::GENERAL;
    }
    let packet = Packet {
        what: what::WHOLE,
        is_ipv6: true,
        protocol,
        ttl: head.u8(21),
        transport: TRANSPORT,
        length,
        id: 0,
        dont_fragment: 1,
        source: [head.u32(22), head.u32(26), head.u32(30), head.u32(34)],
        destination: [head.u32(38), head.u32(42), head.u32(46), head.u32(50)],
    };
    let (source_port, destination_port) = ports(header.u32(0));
    let is_target = endpoint::is_known_wide(host, packet.destination);
    if is_target
        && let Some(service) = endpoint::find_wide_here(
            host,
            packet.destination,
            destination_port,
            protocol,
            endpoint_kind::SERVICE,
        )
    {
        return match transport(host, &packet, head, header) {
            Ok(transport) => inbound(host, &packet, transport, service),
            Err(verdict) => verdict,
        };
    }
    let is_sender = endpoint::is_known_wide(host, packet.source);
    if is_sender
        && endpoint::find_wide_here(
            host,
            packet.source,
            source_port,
            protocol,
            endpoint_kind::WIDE_SERVER,
        )
        .is_some()
    {
        return match transport(host, &packet, head, header) {
            Ok(transport) => outbound(host, &packet, transport),
            Err(verdict) => verdict,
        };
    }
    if is_target || is_sender {
        Verdict::GENERAL
    } else {
        Verdict::Pass
    }
}

/// The rest of the checks, for packets that concern us.
#[inline(always)]
fn transport<H: Host>(
    host: &H,
    packet: &Packet,
    head: H::Window,
    header: H::Window,
) -> Result<Transport, Verdict> {
    if !host.is_for_us(head) {
        return Err(pass(host, Reason::OtherHost));
    }
    let payload = packet.payload();
    let (checksum, event) = if packet.protocol == protocol::UDP {
        let length = u32::from(u16::from_be(header.u16(4)));
        if length < 8 || length > payload {
            return Err(pass(host, Reason::Malformed));
        }
        (header.u16(6), 0)
    } else {
        let Some(tcp) = host.window(TRANSPORT, 20) else {
            return Err(pass(host, Reason::Malformed));
        };
        let length = u32::from(tcp.u8(12) >> 4) * 4;
        if length < 20 || length > payload {
            return Err(pass(host, Reason::Malformed));
        }
        (tcp.u16(16), tcp.u8(13))
    };
    if !host.can_change_checksum(checksum, packet.pseudo_header()) {
        return Err(pass(host, Reason::Deferred));
    }
    if event & tcp_flags::SYN != 0 {
        return Err(Verdict::GENERAL);
    }
    let (source_port, destination_port) = ports(header.u32(0));
    Ok(Transport {
        source_port,
        destination_port,
        event,
        is_partial: false,
        is_for_us: true,
    })
}

/// From a client to a service.
#[inline(always)]
fn inbound<H: Host>(host: &H, packet: &Packet, transport: Transport, service: u32) -> Verdict {
    if is_own(host) {
        return Verdict::GENERAL;
    }
    let wanted = WideBucket::of_client(packet, transport, service);
    let found: Option<Found<'_, WideBucket>> = table::find_here(host, wanted.place(host), wanted);
    let Some(found) = found else {
        return Verdict::GENERAL;
    };
    let entry = found.entry;
    let index = entry.server().get();
    let Some(server) = host.server(index) else {
        return Verdict::GENERAL;
    };
    let flags = server.flags.get();
    if !is_alive(server) || flags & server_flags::LOCAL != 0 || flags & server_flags::HOP_READY == 0
    {
        return Verdict::GENERAL;
    }
    let way = hop::to_server_wide(host, server, packet.source, packet.protocol);
    if !matches!(sendable(host, packet.extent(), &way), Sendable::Yes) {
        return Verdict::GENERAL;
    }
    let method = method_of(flags);
    let direction = if matches!(method, method::MASQ | method::FULL_NAT) {
        Direction::Input
    } else {
        Direction::InputOnly
    };
    let present = entry.state().get();
    let event = short::Event {
        flags: transport.event,
        direction,
        is_translated: method == method::FULL_NAT,
    };
    let next = short::next_state(host, packet.protocol, present, event);
    if next == state::FREE {
        return Verdict::GENERAL;
    }
    track(host, entry, next, direction);
    count_packet(host, index, counted_length(host), direction);
    if !to_server(host, packet, transport, entry, server, method) {
        return drop(host, Reason::RewriteFailed);
    }
    leave(host, way)
}

/// Rewrites a client's packet for its server.
#[inline(always)]
fn to_server<H: Host>(
    host: &H,
    packet: &Packet,
    transport: Transport,
    entry: &WideEntry,
    server: &Server,
    method: u32,
) -> bool {
    let source = WideEnd {
        address: packet.source,
        port: transport.source_port,
    };
    let destination = WideEnd {
        address: packet.destination,
        port: transport.destination_port,
    };
    let after = WideBucket::server_end(entry, server);
    if method == method::FULL_NAT {
        let reference = entry.server_tag().get();
        return source_nat::to_server(
            host,
            packet,
            [source, destination],
            after,
            server,
            reference,
        );
    }
    if method == method::MASQ
        && !rewrite::set_end(host, packet, End::Destination, destination, after)
    {
        return false;
    }
    rewrite::pass_on(host, packet) && (method != method::TUNNEL || tunnel::enter(host, server))
}

/// From a server to a client.
#[inline(always)]
fn outbound<H: Host>(host: &H, packet: &Packet, transport: Transport) -> Verdict {
    let wanted = WideBucket::of_server(host, packet, transport);
    let found: Option<Found<'_, WideBucket>> = table::find_here(host, wanted.place(host), wanted);
    let Some(entry) = found.map(|found| found.entry) else {
        return Verdict::GENERAL;
    };
    let index = entry.server().get();
    let Some(server) = host.server(index) else {
        return Verdict::GENERAL;
    };
    let sender = WideBucket::server_end(entry, server);
    let is_it = sender.address == packet.source
        && sender.port == transport.source_port
        && method_of(server.flags.get()) == method::MASQ;
    let Some(way) = hop::known(host, entry).filter(|_| is_it) else {
        return Verdict::GENERAL;
    };
    send_back(host, packet, transport, entry, &way)
}

#[inline(always)]
fn send_back<H: Host>(
    host: &H,
    packet: &Packet,
    transport: Transport,
    entry: &WideEntry,
    way: &Way,
) -> Verdict {
    if !matches!(sendable(host, packet.extent(), way), Sendable::Yes) {
        return Verdict::GENERAL;
    }
    let direction = Direction::Output;
    let present = entry.state().get();
    let event = short::Event {
        flags: transport.event,
        direction,
        is_translated: false,
    };
    let next = short::next_state(host, packet.protocol, present, event);
    if next == state::FREE {
        return Verdict::GENERAL;
    }
    track(host, entry, next, direction);
    count_packet(host, entry.server().get(), counted_length(host), direction);
    let before = WideEnd {
        address: packet.source,
        port: transport.source_port,
    };
    let after = WideEnd {
        address: table::address_of(&entry.virtual_address),
        port: entry.ports.get() as u16,
    };
    if !rewrite::set_end(host, packet, End::Source, before, after)
        || !rewrite::pass_on(host, packet)
    {
        return drop(host, Reason::RewriteFailed);
    }
    leave(host, *way)
}
