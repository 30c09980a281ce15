//! The short way: TCP and UDP over IPv4, to and from services with an address and a
//! port. What it can't finish it leaves untouched to the general way.

use crate::forward::{
    Extent, Sendable, Verdict, client_port, count_from_client, count_packet, counted_length,
    is_alive, leave, method_of, note_from_client, pass, ports, sendable, track,
};
use crate::frame::{self, End, Endpoint, Packet, Parsed, protocol};
use crate::general::{self, Part};
use crate::hash::{self, Place};
use crate::hop::{self, Way};
use crate::host::{Host, Window, count};
use crate::layout::{
    Bucket, Counters, Entry, NOBODY, Server, endpoint_key, endpoint_kind, features, mapped, method,
    scheduler, server_flags, service_flags, settings, state_word,
};
use crate::reason::Reason;
use crate::schedule::Request;
use crate::state::{self, Direction, tcp_flags};
use crate::table::{self, Buckets, By, Found, Opening, WantedNarrow};
use crate::{endpoint, load, schedule, tree, tunnel};

/// Decides about a frame, or says that the general way has to.
#[inline(always)]
pub fn process<H: Host>(host: &H) -> Verdict {
    match frame::parse(host) {
        Parsed::Other => Verdict::Pass,
        Parsed::Ipv6 if !has(host, features::IPV6) => Verdict::Pass,
        Parsed::Ipv6 => Verdict::Then { part: Part::Ipv6 },
        Parsed::Fragment => Verdict::GENERAL,
        Parsed::Malformed => pass(host, Reason::Malformed),
        Parsed::Ipv4(packet) => match packet.protocol {
            protocol::TCP | protocol::UDP => transport(host, &packet),
            protocol::ICMP | protocol::SCTP => Verdict::GENERAL,
            _ => Verdict::Pass,
        },
    }
}

/// True: the tables hold something of this kind ([`features`]).
#[inline(always)]
pub(crate) fn has<H: Host>(host: &H, these: u32) -> bool {
    host.control()
        .is_some_and(|control| control.features.get() & these != 0)
}

#[inline(always)]
fn transport<H: Host>(host: &H, packet: &Packet<H::Window>) -> Verdict {
    let Some(header) = host.window(packet.transport, 8) else {
        return pass(host, Reason::Malformed);
    };
    let features = host.control().map_or(0, |control| control.features.get());
    // They come before all other services.
    if features & features::MARKS != 0 {
        return Verdict::GENERAL;
    }
    let (source_port, destination_port) = ports(header.u32(0));
    let to_service = endpoint_key(
        packet.destination,
        destination_port,
        packet.protocol,
        endpoint_kind::SERVICE,
    );
    if let Some(service) = endpoint::find(host, to_service) {
        let to = ToService {
            client: Endpoint {
                address: packet.source,
                port: source_port,
            },
            aim: Endpoint {
                address: packet.destination,
                port: destination_port,
            },
            protocol: packet.protocol,
            service,
            features,
        };
        return checked(host, packet, header, |flags| {
            inbound(host, packet, flags, &to)
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
    let is_ours = || {
        endpoint::is_known_narrow(host, packet.destination)
            || endpoint::is_known_narrow(host, packet.source)
    };
    if features & (features::ANY_PORT | features::WIDE_SERVERS | features::FTP) != 0 && is_ours() {
        return Verdict::GENERAL;
    }
    Verdict::Pass
}

/// A client's packet to a service.
struct ToService {
    client: Endpoint,
    /// The address and port that it is sent to.
    aim: Endpoint,
    protocol: u8,
    /// Index of the service.
    service: u32,
    /// What the tables hold ([`features`]).
    features: u32,
}

impl ToService {
    /// What finds its connection.
    #[inline(always)]
    fn wanted(&self) -> WantedNarrow {
        WantedNarrow {
            address: self.client.address,
            port: client_port(self.client.port, self.protocol),
            by: By::Service(self.service),
        }
    }
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
fn inbound<H: Host>(host: &H, packet: &Packet<H::Window>, flags: u8, to: &ToService) -> Verdict {
    if general::is_own(host) {
        return Verdict::GENERAL;
    }
    let wanted = to.wanted();
    let place = wanted.place(host);
    let Some(home) = Bucket::of(host, place.bucket) else {
        return Verdict::GENERAL;
    };
    let connection = match table::find_from(host, home, place, wanted) {
        Some(found) if may_begin_anew(host, flags, found) => return Verdict::GENERAL,
        Some(found) => of(host, found.entry),
        None => open(host, packet, flags, to, home, place),
    };
    let Connection {
        entry,
        server,
        counters,
        is_new,
    } = match connection {
        Ok(connection) => connection,
        Err(verdict) => return verdict,
    };
    let server_flags = server.flags.get();
    if !is_alive(server) || server_flags & (server_flags::LOCAL | server_flags::IPV6) != 0 {
        return Verdict::GENERAL;
    }
    let method = method_of(server_flags);
    if method == method::FULL_NAT && server_flags & server_flags::HOP_READY == 0 {
        return Verdict::GENERAL;
    }
    let way = hop::to_server(host, server, packet.source, packet.protocol);
    match sendable(host, extent(packet), &way) {
        Sendable::Yes => {}
        Sendable::Later => return pass(host, Reason::Deferred),
        Sendable::No(_) => return Verdict::GENERAL,
    }
    let direction = if matches!(method, method::MASQ | method::FULL_NAT) {
        Direction::Input
    } else {
        Direction::InputOnly
    };
    if is_new {
        note_from_client(entry);
    } else {
        let present = entry.state.get();
        let event = Event {
            flags,
            direction,
            is_translated: method == method::FULL_NAT,
        };
        let next = next_state(host, packet.protocol, present, event);
        if next == state::FREE {
            return Verdict::GENERAL;
        }
        track(host, entry, next, direction);
    }
    count_from_client(counters, counted_length(host));
    if method != method::FULL_NAT {
        return send(host, packet, server, method, to.aim, way);
    }
    let reference = entry.server_tag.get();
    let ports = (to.client.port, to.aim.port);
    if !general::to_server_translated(host, packet, ports, server, reference) {
        return crate::forward::drop(host, Reason::RewriteFailed);
    }
    leave(host, way)
}

/// A client's connection and what belongs to it.
struct Connection<'a> {
    entry: &'a Entry,
    server: &'a Server,
    /// This CPU's of the server.
    counters: &'a Counters,
    /// This packet has opened it, and its state is the one after it.
    is_new: bool,
}

/// What belongs to a connection.
#[inline(always)]
fn of<'a, H: Host>(host: &'a H, entry: &'a Entry) -> Result<Connection<'a>, Verdict> {
    let index = entry.server.get();
    let (Some(server), Some(counters)) = (host.server(index), host.counters(index)) else {
        return Err(Verdict::GENERAL);
    };
    Ok(Connection {
        entry,
        server,
        counters,
        is_new: false,
    })
}

#[inline(always)]
fn extent<W: Window>(packet: &Packet<W>) -> Extent {
    Extent {
        length: packet.length,
        ttl: packet.ttl(),
        transport: packet.transport,
        protocol: packet.protocol,
    }
}

/// What a packet does to its connection.
#[derive(Clone, Copy)]
pub(crate) struct Event {
    /// TCP's.
    pub flags: u8,
    pub direction: Direction,
    /// The server sees a translated source.
    pub is_translated: bool,
}

/// The state after a packet of TCP or UDP; [`state::FREE`]: that is the general way's, such
/// as what establishes a connection with a translated source.
#[inline(always)]
pub(crate) fn next_state<H: Host>(host: &H, protocol: u8, present: u32, event: Event) -> u32 {
    let present = present & state_word::STATE;
    let flags = event.flags;
    if protocol != protocol::TCP {
        state::UDP
    } else if state::is_steady(present, flags) {
        state::ESTABLISHED
    } else if has(host, features::DEFENCE) {
        state::FREE
    } else {
        let next = state::next_tcp(present, flags, event.direction);
        if event.is_translated && next == state::ESTABLISHED {
            return state::FREE;
        }
        next
    }
}

/// Sends a client's packet to its server.
#[inline(always)]
fn send<H: Host>(
    host: &H,
    packet: &Packet<H::Window>,
    server: &Server,
    method: u32,
    aim: Endpoint,
    way: Way,
) -> Verdict {
    if method == method::MASQ {
        let after = Endpoint {
            address: server.address.get(),
            port: server.ports.get() as u16,
        };
        if !frame::translate(host, packet, End::Destination, aim, after) {
            return crate::forward::drop(host, Reason::RewriteFailed);
        }
        return leave(host, way);
    }
    frame::pass_on(packet.head);
    if method == method::TUNNEL && !tunnel::enter(host, server) {
        return crate::forward::drop(host, Reason::RewriteFailed);
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
    if flags & tcp_flags::SYN != 0 && has(host, features::SEGMENTS) {
        return Verdict::GENERAL;
    }
    let Some((found, server)) = find_from_server(host, packet.protocol, client, from) else {
        // The server's own business, as far as can be seen from here.
        return if has(host, features::WIDE_SERVERS) || is_set(host, settings::NAT_ICMP_SEND) {
            Verdict::GENERAL
        } else {
            Verdict::Pass
        };
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
    match sendable(host, extent(packet), &way) {
        Sendable::Yes => {}
        Sendable::Later => return pass(host, Reason::Deferred),
        Sendable::No(_) => return Verdict::GENERAL,
    }
    let direction = Direction::Output;
    let event = Event {
        flags,
        direction,
        is_translated: false,
    };
    let next = next_state(host, packet.protocol, entry.state.get(), event);
    if next == state::FREE {
        return Verdict::GENERAL;
    }
    track(host, entry, next, direction);
    count_packet(host, entry.server.get(), counted_length(host), direction);
    if !frame::translate(host, packet, End::Source, from, virtual_end) {
        return crate::forward::drop(host, Reason::RewriteFailed);
    }
    leave(host, way)
}

/// The connection that a server's packet to `client` belongs to, and the server.
#[inline(always)]
fn find_from_server<H: Host>(
    host: &H,
    protocol: u8,
    client: Endpoint,
    from: Endpoint,
) -> Option<(Found<'_, Bucket>, &Server)> {
    let wanted = WantedNarrow {
        address: client.address,
        port: client_port(client.port, protocol),
        by: By::ServerTag(hash::server_tag(from.address, from.port, host.seed())),
    };
    let found: Found<'_, Bucket> = table::find_here(host, wanted.place(host), wanted)?;
    let server = host.server(found.entry.server.get())?;
    let same = server.address.get() == from.address && server.ports.get() as u16 == from.port;
    if same { Some((found, server)) } else { None }
}

/// True for a SYN alone.
#[inline(always)]
fn is_opening(flags: u8) -> bool {
    flags & (tcp_flags::SYN | tcp_flags::ACK | tcp_flags::RST) == tcp_flags::SYN
}

/// True for a SYN on a connection that is over or nearly so, or that its server's weight
/// may end: the client uses its port again. And for one that asks for a segment where that
/// is lowered.
#[inline(always)]
fn may_begin_anew<H: Host>(host: &H, flags: u8, old: Found<'_, Bucket>) -> bool {
    const THESE: u32 = 1 << state::TIME_WAIT | 1 << state::FIN_WAIT | 1 << state::CLOSE;
    is_opening(flags)
        && ((THESE >> (old.entry.state.get() & state_word::STATE)) & 1 != 0
            || is_set(host, settings::EXPIRE_NODEST_CONN)
            || has(host, features::SEGMENTS))
}

/// True: the setting ([`settings`]) is on.
#[inline(always)]
fn is_set<H: Host>(host: &H, setting: u32) -> bool {
    host.control()
        .is_some_and(|control| control.settings.get() & setting != 0)
}

/// Opens a connection. All that goes with persistence and with destinations that stay with
/// their server is the general way's.
#[inline(always)]
fn open<'a, H: Host>(
    host: &'a H,
    packet: &Packet<H::Window>,
    flags: u8,
    to: &ToService,
    home: &'a Bucket,
    place: Place,
) -> Result<Connection<'a>, Verdict> {
    const NOT_HERE: u32 =
        service_flags::PERSISTENT | service_flags::ONE_PACKET | service_flags::WIDE;
    const FTP_DATA: u32 = client_port(20_u16.to_be(), protocol::TCP);
    let Some(service) = host.service(to.service) else {
        return Err(Verdict::GENERAL);
    };
    let wanted = to.wanted();
    let tcp = wanted.port >> 16 == u32::from(protocol::TCP);
    let number = service.scheduler.get();
    if tcp && flags & (tcp_flags::SYN | tcp_flags::RST) != tcp_flags::SYN {
        let is_sloppy = number == scheduler::MH || is_set(host, settings::SLOPPY_TCP);
        // Such as FTP's: they are not among those that were looked at here.
        let is_wide = service.flags.get() & service_flags::WIDE != 0;
        return Err(if is_sloppy || is_wide {
            Verdict::GENERAL
        } else {
            pass(host, Reason::NoConnection)
        });
    }
    // Before a server's turn is taken, which the general way would take again.
    if matches!(number, scheduler::LBLC | scheduler::LBLCR)
        || service.flags.get() & NOT_HERE != 0
        || service.segment.get() != 0
        || wanted.port == FTP_DATA
        || to.features & features::DEFENCE != 0
    {
        return Err(Verdict::GENERAL);
    }
    let chosen = if number == scheduler::RING {
        schedule::next_in_ring(host, service)
    } else {
        let request = Request {
            client: mapped(wanted.address),
            client_port: wanted.port & 0xffff,
            destination: mapped(to.aim.address),
        };
        Some(host.decide(to.service, &request)).filter(|&server| server != NOBODY)
    };
    let Some((chosen, server, load, counters)) = chosen.and_then(|chosen| {
        Some((
            chosen,
            host.server(chosen)?,
            host.load(chosen)?,
            host.counters(chosen)?,
        ))
    }) else {
        return Err(Verdict::GENERAL);
    };
    if number == scheduler::RING && load.overloaded.get() != 0 {
        return Err(Verdict::GENERAL);
    }
    if method_of(server.flags.get()) == method::FULL_NAT {
        return Err(general::with_server(
            host, packet, flags, to.service, chosen,
        ));
    }
    let state = if tcp { state::SYN_RECV } else { state::UDP };
    let new = Opening {
        address: wanted.address,
        port: wanted.port,
        service: to.service,
        server: chosen,
        server_tag: hash::server_tag(server.address.get(), server.ports.get() as u16, host.seed()),
        state,
    };
    let opened = table::open_anew(host, home, place, new, || {
        load::begin_connection(host, load, server, state);
        if tree::has_tree(number) {
            host.rank(chosen);
        }
    });
    let Some(opened) = opened else {
        return Err(crate::forward::drop(host, Reason::TableFull));
    };
    count(&counters.connections, 1);
    if !opened.is_new {
        return of(host, opened.found.entry);
    }
    Ok(Connection {
        entry: opened.found.entry,
        server,
        counters,
        is_new: true,
    })
}
