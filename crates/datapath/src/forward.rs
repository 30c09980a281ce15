//! A packet's whole way: whose it is, which connection, which server, what is
//! rewritten, where it leaves.

use crate::frame::{self, End, Endpoint, Packet, Parsed, protocol};
use crate::hash::{self, Place};
use crate::hop::{self, Way};
use crate::host::{Host, RouteAnswer, Window, count};
use crate::layout::{
    RING_HEADER, Server, Service, endpoint_key, endpoint_kind, server_flags, state_word,
};
use crate::reason::Reason;
use crate::state::{self, Direction, tcp_flags};
use crate::table::{self, By, Found, Opening};
use crate::{count_reason, endpoint, icmp};

/// What becomes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// To the kernel, untouched.
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
}

/// Decides about a frame and rewrites it.
#[inline(always)]
pub fn process<H: Host>(host: &H) -> Verdict {
    match frame::parse(host) {
        Parsed::Other => Verdict::Pass,
        Parsed::Counted(reason) => pass(host, reason),
        Parsed::Ipv4(packet) => match packet.protocol {
            protocol::TCP | protocol::UDP => transport(host, &packet),
            protocol::ICMP => icmp::process(host, &packet),
            _ => Verdict::Pass,
        },
    }
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
fn ports(word: u32) -> (u16, u16) {
    let bytes = word.to_ne_bytes();
    (
        u16::from_ne_bytes([bytes[0], bytes[1]]),
        u16::from_ne_bytes([bytes[2], bytes[3]]),
    )
}

/// [`crate::layout::Entry::client_port`].
#[inline(always)]
pub(crate) fn client_port(port: u16, protocol: u8) -> u32 {
    u32::from(port) | u32::from(protocol) << 16
}

#[inline(always)]
fn transport<H: Host>(host: &H, packet: &Packet<H::Window>) -> Verdict {
    let Some(header) = host.window(packet.transport, 8) else {
        return pass(host, Reason::Malformed);
    };
    let (source_port, destination_port) = ports(header.u32(0));
    let to_service = endpoint_key(
        packet.destination,
        destination_port,
        packet.protocol,
        endpoint_kind::SERVICE,
    );
    if let Some(service) = endpoint::find(host, to_service) {
        let client = Endpoint {
            address: packet.source,
            port: source_port,
        };
        let aim = Endpoint {
            address: packet.destination,
            port: destination_port,
        };
        return checked(host, packet, header, |flags| {
            inbound(host, packet, flags, client, aim, service)
        });
    }
    let from_server = endpoint_key(
        packet.source,
        source_port,
        packet.protocol,
        endpoint_kind::SERVER,
    );
    if endpoint::find(host, from_server).is_some() {
        let client = Endpoint {
            address: packet.destination,
            port: destination_port,
        };
        let server = Endpoint {
            address: packet.source,
            port: source_port,
        };
        return checked(host, packet, header, |flags| {
            outbound(host, packet, flags, client, server)
        });
    }
    Verdict::Pass
}

/// The rest of the checks, for packets that concern us; then `go` with the TCP
/// flags (0 for UDP).
#[inline(always)]
fn checked<H: Host>(
    host: &H,
    packet: &Packet<H::Window>,
    header: H::Window,
    go: impl FnOnce(u8) -> Verdict,
) -> Verdict {
    if !host.is_for_us(packet.head) {
        return pass(host, Reason::OtherHost);
    }
    let (checksum, flags) = if packet.protocol == protocol::UDP {
        let length = u32::from(u16::from_be(header.u16(4)));
        if length < 8 || length > packet.payload() {
            return pass(host, Reason::Malformed);
        }
        (header.u16(6), 0)
    } else {
        let Some(tcp) = host.window(packet.transport, 20) else {
            return pass(host, Reason::Malformed);
        };
        let length = u32::from(tcp.u8(12) >> 4) * 4;
        if length < 20 || length > packet.payload() {
            return pass(host, Reason::Malformed);
        }
        (tcp.u16(16), tcp.u8(13))
    };
    if !host.can_change_checksum(checksum, packet.pseudo_header()) {
        return pass(host, Reason::Deferred);
    }
    go(flags)
}

/// From a client to a service.
#[inline(always)]
fn inbound<H: Host>(
    host: &H,
    packet: &Packet<H::Window>,
    flags: u8,
    client: Endpoint,
    aim: Endpoint,
    service: u32,
) -> Verdict {
    let port = client_port(client.port, packet.protocol);
    let place = hash::connection(client.address, port, host.seed());
    let found = table::find(host, place, client.address, port, By::Service(service));
    let known = found.filter(|&old| !is_reuse(flags, old));
    let fresh = known.is_none();
    let found = match known {
        Some(found) => found,
        None => match schedule(host, packet, flags, client, service, place, found) {
            Ok(found) => found,
            Err(verdict) => return verdict,
        },
    };
    let index = found.entry.server.get();
    let Some(server) = host.server(index) else {
        return drop(host, Reason::ServerGone);
    };
    if server.flags.get() & server_flags::ALIVE == 0 {
        return drop(host, Reason::ServerGone);
    }
    let way = hop::to_server(host, server, packet.source, packet.protocol);
    if fresh && let Some(counters) = host.counters(index) {
        count(&counters.connections, 1);
    }
    if let Err(verdict) = sendable(host, packet, &way) {
        return verdict;
    }
    track(host, packet, flags, found, Direction::Input);
    if let Some(counters) = host.counters(index) {
        count(&counters.in_packets, 1);
        count(
            &counters.in_bytes,
            u64::from(host.length() - frame::ETHERNET as u32),
        );
    }
    let after = Endpoint {
        address: server.address.get(),
        port: server.ports.get() as u16,
    };
    if !frame::translate(host, packet, End::Destination, aim, after) {
        return drop(host, Reason::RewriteFailed);
    }
    leave(host, way)
}

/// From a server to a client.
#[inline(always)]
fn outbound<H: Host>(
    host: &H,
    packet: &Packet<H::Window>,
    flags: u8,
    client: Endpoint,
    from: Endpoint,
) -> Verdict {
    let Some((found, server)) = find_from_server(host, packet.protocol, client, from) else {
        // The server's own business.
        return Verdict::Pass;
    };
    let entry = found.entry;
    let virtual_end = Endpoint {
        address: server.virtual_address.get(),
        port: (server.ports.get() >> 16) as u16,
    };
    let way = hop::to_client(
        host,
        entry,
        virtual_end.address,
        client.address,
        packet.protocol,
    );
    if let Err(verdict) = sendable(host, packet, &way) {
        return verdict;
    }
    track(host, packet, flags, found, Direction::Output);
    if let Some(counters) = host.counters(entry.server.get()) {
        count(&counters.out_packets, 1);
        count(
            &counters.out_bytes,
            u64::from(host.length() - frame::ETHERNET as u32),
        );
    }
    if !frame::translate(host, packet, End::Source, from, virtual_end) {
        return drop(host, Reason::RewriteFailed);
    }
    leave(host, way)
}

/// The connection that a server's packet to `client` belongs to, and the server.
#[inline(always)]
pub(crate) fn find_from_server<H: Host>(
    host: &H,
    protocol: u8,
    client: Endpoint,
    from: Endpoint,
) -> Option<(Found<'_>, &Server)> {
    let port = client_port(client.port, protocol);
    let place = hash::connection(client.address, port, host.seed());
    let by = By::ServerTag(hash::server_tag(from.address, from.port, host.seed()));
    let found = table::find(host, place, client.address, port, by)?;
    let server = host.server(found.entry.server.get())?;
    let same = server.address.get() == from.address && server.ports.get() as u16 == from.port;
    if same { Some((found, server)) } else { None }
}

/// True for a SYN on a connection in `TIME_WAIT`: the client uses its port again, and
/// the connection is scheduled anew (IPVS: `conn_reuse_mode` 1).
#[inline(always)]
fn is_reuse(flags: u8, old: Found<'_>) -> bool {
    flags & (tcp_flags::SYN | tcp_flags::ACK | tcp_flags::RST) == tcp_flags::SYN
        && old.entry.state.get() & state_word::STATE == state::TIME_WAIT
}

/// Opens a connection: the service's scheduler names the server. `before` is the
/// client's former connection from the same port.
#[inline(always)]
fn schedule<'a, H: Host>(
    host: &'a H,
    packet: &Packet<H::Window>,
    flags: u8,
    client: Endpoint,
    service: u32,
    place: Place,
    before: Option<Found<'a>>,
) -> Result<Found<'a>, Verdict> {
    let tcp = packet.protocol == protocol::TCP;
    if tcp && flags & (tcp_flags::SYN | tcp_flags::RST) != tcp_flags::SYN {
        return Err(pass(host, Reason::NoConnection));
    }
    let index = host
        .service(service)
        .and_then(|record| next_in_ring(host, record));
    let Some(index) = index else {
        return Err(drop(host, Reason::NoServer));
    };
    let Some(server) = host.server(index) else {
        return Err(drop(host, Reason::NoServer));
    };
    let new = Opening {
        address: client.address,
        port: client_port(client.port, packet.protocol),
        service,
        server: index,
        server_tag: hash::server_tag(server.address.get(), server.ports.get() as u16, host.seed()),
        state: if tcp { state::SYN_RECV } else { state::UDP },
    };
    if before.is_some() {
        count_reason(host, Reason::Reused);
    }
    table::open(host, place, new, before).ok_or_else(|| drop(host, Reason::TableFull))
}

/// The server at the ring's cursor, which moves on: one step over all CPUs.
#[inline(always)]
fn next_in_ring<H: Host>(host: &H, service: &Service) -> Option<u32> {
    let ring = service.ring.get();
    let (base, length) = ((ring >> 32) as u32, ring as u32);
    if length == 0 {
        return None;
    }
    let step = host.add(host.ring(base)?, 1);
    Some(
        host.ring(base.wrapping_add(RING_HEADER).wrapping_add(step % length))?
            .get(),
    )
}

/// Looks whether the packet can leave by `way`, before anything is changed.
#[inline(always)]
pub(crate) fn sendable<H: Host>(
    host: &H,
    packet: &Packet<H::Window>,
    way: &Way,
) -> Result<(), Verdict> {
    if packet.ttl() <= 1 {
        return Err(drop(host, Reason::TimeToLive));
    }
    match way.answer {
        RouteAnswer::Ready => {
            let mtu = way.hop.mtu;
            if mtu != 0 && packet.length > mtu && !host.is_cut_later() {
                return Err(drop(host, Reason::TooBig));
            }
            Ok(())
        }
        RouteAnswer::Unresolved if H::FINISHES => Ok(()),
        RouteAnswer::Unresolved => Err(pass(host, Reason::Deferred)),
        RouteAnswer::ForwardingOff => Err(drop(host, Reason::ForwardingOff)),
        RouteAnswer::None => Err(drop(host, Reason::NoRoute)),
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

/// Notes the packet in its connection.
#[inline(always)]
fn track<H: Host>(
    host: &H,
    packet: &Packet<H::Window>,
    flags: u8,
    found: Found<'_>,
    direction: Direction,
) {
    let entry = found.entry;
    let now = host.tick();
    if entry.seen.get() != now {
        entry.seen.set(now);
    }
    let present = entry.state.get();
    let next = if packet.protocol == protocol::TCP {
        state::next_tcp(present & state_word::STATE, flags, direction)
    } else {
        state::UDP
    };
    let answered = match direction {
        Direction::Output => state_word::ANSWERED,
        Direction::Input => {
            entry.service.set(entry.service.get().wrapping_add(1 << 16));
            0
        }
    };
    if next != present & state_word::STATE || answered & !present != 0 {
        table::change_state(host, entry, next, answered);
    }
}
