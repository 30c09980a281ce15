//! The general way: every packet that is Evenkeel's, of both families, whatever service
//! it belongs to. What the short way does, it does too.

mod answer;
mod bare;
mod delivery;
mod fragment;
mod icmp;
mod inbound;
mod ipv6;
mod lease;
mod marks;
mod outbound;
mod packet;
mod persistence;
mod reply;
mod rewrite;
mod segment;
mod sip;
mod source_nat;
#[cfg(not(target_arch = "bpf"))]
pub mod trial;
mod tunnel_error;
mod width;

pub(crate) use bare::enter as enter_bare;
pub use bare::{HEAD, may_be_reply, may_concern, write_header};
pub(crate) use inbound::is_own;
pub(crate) use lease::lose;
pub use persistence::masked;
pub(crate) use reply::process as process_reply;

use core::cell::Cell;

use crate::forward::{Verdict, pass};
use crate::frame::{self, protocol};
use crate::host::{Host, Store, Window};
use crate::layout::{
    Address, Bucket, NOBODY, Server, Service, WideBucket, endpoint_key, endpoint_kind, features,
    service_flags,
};
use crate::reason::Reason;
use crate::schedule::Request;
use crate::state::Direction;
use crate::{count_reason, endpoint};
use delivery::Job;
use lease::Lost;
use packet::{Packet, Transport, what};

/// A packet taken apart, and the service that it is for, if it is a client's.
#[repr(C)]
pub struct Arrival {
    pub(crate) packet: Packet,
    pub(crate) transport: Transport,
    /// Of an ICMP error: the packet that it quotes, whose ports are in `transport`.
    pub(crate) quoted: Packet,
    /// Index of the service.
    pub(crate) index: Cell<u32>,
    /// The server that a new connection goes to; [`UNASKED`].
    pub(crate) chosen: Cell<u32>,
    /// Port of the server that a new connection goes to.
    pub(crate) server_port: Cell<u32>,
    /// The translated source of a new connection ([`source_nat`]); [`UNASKED`].
    pub(crate) reference: Cell<u32>,
    /// A translated source that gave way to something that goes with the packet.
    pub(crate) lost: Lost,
    /// What is noted of a first fragment ([`fragment::kind`]).
    pub(crate) fragment: Cell<u32>,
    /// What is to be done with the packet at last.
    pub(crate) job: Job,
    /// What is answered ([`answer::kind`]), and the MTU to tell.
    pub(crate) answer: Cell<u32>,
    pub(crate) mtu: Cell<u32>,
    /// Of a tunnel's packet that an ICMP error quotes: where the packet in it begins in the
    /// frame.
    pub(crate) inner: Cell<u32>,
    /// What the persistence engine has found ([`sip::call_id`]), the lower half first; 0: nothing.
    pub(crate) engine: [Cell<u32>; 2],
    /// 1: the packet is one that an ICMP error quotes, and the frame is taken apart again
    /// when its connection is open.
    pub(crate) is_quoted: Cell<u32>,
}

/// In [`Arrival::chosen`]: the scheduler has not been asked.
pub(crate) const UNASKED: u32 = NOBODY - 1;

impl Arrival {
    /// Nothing.
    #[must_use]
    pub const fn empty() -> Self {
        Self {
            packet: packet::NOTHING,
            transport: packet::NO_TRANSPORT,
            quoted: packet::NOTHING,
            index: Cell::new(0),
            chosen: Cell::new(UNASKED),
            server_port: Cell::new(0),
            reference: Cell::new(UNASKED),
            lost: Lost::nothing(),
            fragment: Cell::new(fragment::kind::NOTHING),
            job: Job::empty(),
            answer: Cell::new(answer::kind::NOTHING),
            mtu: Cell::new(0),
            inner: Cell::new(0),
            engine: [const { Cell::new(0) }; 2],
            is_quoted: Cell::new(0),
        }
    }

    /// The protocol of the packet, or of the one that it quotes.
    #[inline(always)]
    fn protocol(&self) -> u8 {
        let is_error = matches!(self.packet.protocol, protocol::ICMP | protocol::ICMPV6);
        let packet = if is_error { &self.quoted } else { &self.packet };
        packet.protocol
    }

    /// What the scheduler knows of it.
    #[inline(always)]
    fn request(&self) -> Request {
        Request {
            client: self.packet.source,
            client_port: self.transport.source_port.into(),
            destination: self.packet.destination,
        }
    }
}

/// The parts of the general way. In the kernel each is a program of its own, because
/// each must be small enough for the verifier and for the stack. All but the first and the last
/// work on what [`Store::kept`] holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Part {
    /// Takes the frame apart and finds out whose it is.
    General = 0,
    /// From a client, to a service with connections of IPv4.
    Inbound = 1,
    /// From a client, to any other service.
    WideInbound = 2,
    /// From a client, to a service without connections.
    OnePacket = 3,
    /// From a server, in a connection of IPv4.
    Outbound = 4,
    /// From a server, in any other connection.
    WideOutbound = 5,
    /// Finds a server for a client's new connection.
    Choose = 6,
    /// An ICMP error about a connection.
    Icmp = 7,
    /// Answers a packet that can't be sent on.
    Answer = 8,
    /// A later fragment of a packet.
    Fragment = 9,
    /// From a server, to a translated source.
    Translated = 10,
    /// Finds a source for a client's new connection.
    Translate = 11,
    /// Opens a client's new connection of IPv4.
    Open = 12,
    /// Opens any other new connection.
    WideOpen = 13,
    /// Rewrites the packet and sends it.
    Deliver = 14,
    /// An ICMP error about a tunnel's packet.
    TunnelError = 15,
    /// Translates an ICMP error and sends it.
    IcmpDeliver = 16,
    /// An ICMP error about a packet with a translated source.
    TranslatedIcmp = 17,
    /// Begins a connection with what an ICMP error quotes.
    IcmpOpen = 18,
    /// Nobody serves a client's new connection.
    Nobody = 19,
    /// Lowers the segment that a packet asks for.
    Segment = 20,
    /// IPv6, in a connection that is established.
    Ipv6 = 21,
    /// From a server on this machine, in a connection of IPv4; at tc alone, as the next three.
    Reply = 22,
    /// From a server on this machine, in any other connection.
    WideReply = 23,
    /// A later fragment from a server on this machine.
    ReplyFragment = 24,
    /// An ICMP error from this machine about a packet to a server on it.
    ReplyError = 25,
    /// Notes where the first fragment of a packet goes.
    FirstFragment = 26,
}

/// How many parts there are.
pub const PARTS: u32 = 27;

/// Carries out a part.
#[inline(always)]
pub fn part<H: Host>(host: &H, part: Part) -> Verdict {
    match part {
        Part::General => return process(host),
        Part::Ipv6 => return ipv6::process(host),
        // Nothing leaves by XDP.
        Part::Reply | Part::WideReply | Part::ReplyFragment | Part::ReplyError if !H::FINISHES => {
            return Verdict::Pass;
        }
        _ => {}
    }
    let Some(arrival) = host.kept() else {
        return Verdict::Drop;
    };
    match part {
        Part::General | Part::Ipv6 => Verdict::Drop,
        Part::Inbound => inbound::connection::<H, Bucket>(host, arrival),
        Part::WideInbound => inbound::connection::<H, WideBucket>(host, arrival),
        Part::OnePacket => inbound::one_packet(host, arrival),
        Part::Outbound => match outbound::process::<H, Bucket>(host, arrival) {
            Verdict::Pass => Verdict::Then {
                part: Part::WideOutbound,
            },
            verdict => verdict,
        },
        Part::WideOutbound => match outbound::process::<H, WideBucket>(host, arrival) {
            Verdict::Pass => outbound::unexpected(host, arrival),
            verdict => verdict,
        },
        Part::Choose => inbound::choose(host, arrival),
        Part::Icmp => icmp::process(host, arrival),
        Part::Answer => answer::process(host, arrival),
        Part::Fragment => fragment::process(host, arrival),
        Part::Translated => match source_nat::process(host, arrival) {
            Verdict::Pass => Verdict::Then {
                part: outbound_of(&arrival.packet),
            },
            verdict => verdict,
        },
        Part::Translate => inbound::translate(host, arrival),
        Part::Open => inbound::open::<H, Bucket>(host, arrival),
        Part::WideOpen => inbound::open::<H, WideBucket>(host, arrival),
        Part::Deliver => delivery::process(host, arrival),
        Part::TunnelError => tunnel_error::process(host),
        Part::IcmpDeliver => icmp::deliver(host, arrival),
        Part::TranslatedIcmp => source_nat::error(host, arrival),
        Part::IcmpOpen => icmp::open(host, arrival),
        Part::Nobody => inbound::nobody(host, arrival),
        Part::Segment => segment::process(host, arrival),
        Part::Reply => match reply::connection::<H, Bucket>(host, arrival) {
            Verdict::Pass => Verdict::Then {
                part: Part::WideReply,
            },
            verdict => verdict,
        },
        Part::WideReply => reply::connection::<H, WideBucket>(host, arrival),
        Part::ReplyFragment => fragment::reply(host, arrival),
        Part::ReplyError => reply::error(host, arrival),
        Part::FirstFragment => fragment::first(host, arrival),
    }
}

#[inline(always)]
fn has_source_nat<H: Host>(host: &H) -> bool {
    host.control()
        .is_some_and(|control| control.features.get() & features::FULL_NAT != 0)
}

/// Decides about a frame, up to the part that rewrites it.
#[inline(always)]
fn process<H: Host>(host: &H) -> Verdict {
    match packet::parse(host) {
        packet::parsed::KEPT => {}
        packet::parsed::MALFORMED => return pass(host, Reason::Malformed),
        _ => return Verdict::Pass,
    }
    let Some(parsed) = host.kept() else {
        return Verdict::Pass;
    };
    let icmp = if parsed.packet.is_ipv6 {
        protocol::ICMPV6
    } else {
        protocol::ICMP
    };
    let is_later = parsed.packet.what == what::LATER;
    let is_icmp = parsed.packet.protocol == icmp && !is_later;
    let is_read = if is_icmp {
        host.parse_quoted()
    } else {
        host.parse_transport()
    };
    let Some(arrival) = host.kept() else {
        return Verdict::Pass;
    };
    if is_read == 0 {
        return Verdict::Pass;
    }
    if !is_icmp && !is_later {
        return transport(host, arrival);
    }
    if !arrival.transport.is_for_us {
        return pass(host, Reason::OtherHost);
    }
    let part = if is_icmp { Part::Icmp } else { Part::Fragment };
    Verdict::Then { part }
}

/// The part that goes on with the first packet of a connection, whose server is chosen but
/// whose source is to be translated; keeps what the parts need.
#[inline(always)]
pub(crate) fn with_server<H: Host>(
    host: &H,
    packet: &frame::Packet<H::Window>,
    event: u8,
    service: u32,
    server: u32,
) -> Verdict {
    let Some(header) = host.window(packet.transport, 4) else {
        return Verdict::GENERAL;
    };
    host.keep(Arrival {
        packet: Packet::of_ipv4(packet),
        transport: Transport {
            source_port: header.u16(0),
            destination_port: header.u16(2),
            event,
            is_partial: false,
            is_for_us: true,
        },
        index: Cell::new(service),
        chosen: Cell::new(server),
        ..Arrival::empty()
    });
    Verdict::Then { part: Part::Open }
}

/// Rewrites the two ends of a client's packet that the short way has taken apart, for a
/// server that sees a translated source ([`crate::layout::Entry::server_tag`]).
#[inline(always)]
pub(crate) fn to_server_translated<H: Host>(
    host: &H,
    packet: &frame::Packet<H::Window>,
    ports: (u16, u16),
    server: &Server,
    reference: u32,
) -> bool {
    let source = source_nat::source_end(host, server, reference);
    let after = (
        frame::Endpoint {
            address: source.address[3],
            port: source.port,
        },
        frame::Endpoint {
            address: server.address.get(),
            port: server.ports.get() as u16,
        },
    );
    frame::translate_both(host, packet, ports, after)
}

/// Reserves a translated source, see `source_nat`: 1, or 0 where it is taken.
#[inline(always)]
pub fn reserve<S: Store>(store: &S, reference: u32) -> u32 {
    source_nat::reserve(store, reference)
}

/// Holds the translated source of the packet that is kept, see `lease`: 1, or 0 where it is
/// not there any more.
#[inline(always)]
pub fn hold<S: Store>(store: &S, server: u32, port: u32, reference: u32, flags: u32) -> u32 {
    lease::hold(store, server, port, reference, flags)
}

/// Ends the connection of a translated source that gave way, see `lease`: 1 + its server, or
/// 0 where it has none.
#[inline(always)]
pub fn disconnect<S: Store>(store: &S) -> u32 {
    lease::disconnect(store)
}

/// The mark that rules give the packet that is kept, which came by `interface`; 0: none.
#[inline(always)]
pub fn marked<S: Store>(store: &S, interface: u32) -> u32 {
    marks::marked(store, interface)
}

/// The mark of a rule, by its place, if the packet that is kept fits it; else 0.
#[inline(always)]
pub fn fits<S: Store>(store: &S, place: u32, interface: u32) -> u32 {
    marks::fits(store, place, interface)
}

/// The server that the client of the packet that is kept stays with; [`NOBODY`]: none yet.
#[inline(always)]
pub fn template<S: Store>(store: &S) -> u32 {
    persistence::known(store).unwrap_or(NOBODY)
}

/// Notes the server that the client of the packet that is kept stays with, and says which
/// it is in the end.
#[inline(always)]
pub fn note_template<S: Store>(store: &S, server: u32) -> u32 {
    persistence::enter(store, server).unwrap_or(server)
}

/// Steps over an extension header of IPv6: the next one's kind and place as a number,
/// or 0 where there is none.
#[inline(always)]
pub fn step<H: Host>(host: &H, next: u32, offset: u32) -> u64 {
    packet::step(host, next, offset)
}

/// Takes an IPv4 packet apart and keeps it: `packet::parsed`.
#[inline(always)]
pub fn parse_ipv4<H: Host>(host: &H) -> u32 {
    packet::ipv4(host)
}

/// Takes an IPv6 packet apart and keeps it: `packet::parsed`.
#[inline(always)]
pub fn parse_ipv6<H: Host>(host: &H) -> u32 {
    packet::ipv6(host)
}

/// Steps over the extension headers of an IPv6 packet, of which `next` is the first.
#[inline(always)]
pub fn extensions<H: Host>(host: &H, next: u32) -> u64 {
    packet::extensions(host, next)
}

/// Takes the transport header of the packet that is kept apart, and keeps that too; 0: to
/// be passed.
#[inline(always)]
pub fn parse_transport<H: Host>(host: &H) -> u32 {
    let packed = host.read_transport();
    let Some(kept) = host.kept() else {
        return 0;
    };
    if packed == 0 {
        return 0;
    }
    host.keep(Arrival {
        packet: kept.packet,
        transport: Transport::unpacked(packed),
        ..Arrival::empty()
    });
    1
}

/// Reads the transport header of the packet that is kept: `Transport` as a number; 0: to
/// be passed.
#[inline(always)]
pub fn read_transport<H: Host>(host: &H) -> u64 {
    let Some(kept) = host.kept() else {
        return 0;
    };
    let packet = &kept.packet;
    if packet.what == what::LATER {
        return packet::later(host).packed();
    }
    if !matches!(
        packet.protocol,
        protocol::TCP | protocol::UDP | protocol::SCTP
    ) {
        return 0;
    }
    if let Some(transport) = packet::transport(host, packet) {
        transport.packed()
    } else {
        count_reason(host, Reason::Malformed);
        0
    }
}

/// Takes apart what the ICMP error that is kept quotes, and keeps that too; 0: to be
/// passed.
#[inline(always)]
pub fn parse_quoted<H: Host>(host: &H) -> u32 {
    let Some(kept) = host.kept() else {
        return 0;
    };
    let Some((quoted, transport)) = packet::quoted(host, &kept.packet) else {
        return 0;
    };
    host.keep(Arrival {
        packet: kept.packet,
        quoted,
        transport,
        ..Arrival::empty()
    });
    1
}

/// Takes apart the packet in a tunnel's packet that the ICMP error that is kept quotes, and
/// keeps that too: 1; 0: there is none; 2: too little of it.
#[inline(always)]
pub fn parse_tunnelled<H: Host>(host: &H) -> u32 {
    tunnel_error::parse(host)
}

/// Where in the frame the value of SIP's Call-ID stands, if the message at `begin` has one; 0.
#[inline(always)]
pub fn call_name<H: Host>(host: &H, begin: u32) -> u32 {
    sip::name(host, begin)
}

/// A hash of SIP's Call-ID in the datagram that is kept; 0: it has none.
#[inline(always)]
pub fn call_id<H: Host>(host: &H) -> u64 {
    sip::call_id(host)
}

/// Where in the frame the largest segment stands that the TCP packet that is kept asks for;
/// 0: nowhere.
#[inline(always)]
pub fn find_segment<H: Host>(host: &H) -> u32 {
    segment::find(host)
}

#[inline(always)]
fn transport<H: Host>(host: &H, arrival: &Arrival) -> Verdict {
    let features = host.control().map_or(0, |control| control.features.get());
    let mark = if features & features::MARKS == 0 {
        0
    } else {
        marks::of(host, features)
    };
    if !H::FINISHES && mark == 0 && features & features::FOREIGN_MARKS != 0 {
        // It may carry a mark that the next stage sees.
        return pass(host, Reason::Deferred);
    }
    let service = service_of(host, arrival, features, mark);
    if service == NOBODY && !outbound::is_from_server(host, arrival) {
        return Verdict::Pass;
    }
    if !arrival.transport.is_for_us {
        return pass(host, Reason::OtherHost);
    }
    if arrival.transport.is_partial {
        return pass(host, Reason::Deferred);
    }
    if service == NOBODY {
        // What goes to another source than a translated one, the short ways know.
        let part = if features & features::FULL_NAT != 0 {
            Part::Translated
        } else {
            outbound_of(&arrival.packet)
        };
        return Verdict::Then { part };
    }
    arrival.index.set(service);
    match host.service(service) {
        Some(record) => Verdict::Then {
            part: part_of(record, &arrival.packet),
        },
        None => Verdict::Pass,
    }
}

/// The part that takes a server's packet to a client's own address.
#[inline(always)]
fn outbound_of(packet: &Packet) -> Part {
    if packet.is_ipv6 {
        Part::WideOutbound
    } else {
        Part::Outbound
    }
}

/// The part that opens a connection to a service.
#[inline(always)]
fn opening_of(service: &Service, packet: &Packet) -> Part {
    match part_of(service, packet) {
        Part::Inbound => Part::Open,
        Part::WideInbound => Part::WideOpen,
        other => other,
    }
}

/// The part that a client's packet to a service takes.
#[inline(always)]
fn part_of(service: &Service, packet: &Packet) -> Part {
    let flags = service.flags.get();
    if flags & service_flags::ONE_PACKET != 0 && packet.protocol == protocol::UDP {
        Part::OnePacket
    } else if flags & service_flags::WIDE != 0 {
        Part::WideInbound
    } else {
        Part::Inbound
    }
}

/// The state after a packet.
#[inline(always)]
fn next_state<H: Host>(
    host: &H,
    protocol: u8,
    present: u32,
    event: u8,
    direction: Direction,
) -> u32 {
    host.next_state(protocol.into(), present, event.into(), direction as u32)
}

/// An end of a packet, as [`seek`] takes it.
pub(crate) mod end {
    pub(crate) const SOURCE: u32 = 0;
    pub(crate) const DESTINATION: u32 = 1;
    pub(crate) const QUOTED_SOURCE: u32 = 2;
    pub(crate) const QUOTED_DESTINATION: u32 = 3;
}

/// True: there is an endpoint, see [`seek`].
#[inline(always)]
fn seek_at<S: Store>(store: &S, end: u32, port: u32, kind: u32) -> bool {
    store.seek(end, port, kind) != NOBODY
}

/// The packet whose end it is, and that end's address.
#[inline(always)]
fn at_end(arrival: &Arrival, end: u32) -> (&Packet, Address) {
    let packet = match end {
        end::SOURCE | end::DESTINATION => &arrival.packet,
        _ => &arrival.quoted,
    };
    let address = match end {
        end::SOURCE | end::QUOTED_SOURCE => packet.source,
        _ => packet.destination,
    };
    (packet, address)
}

/// Value of the endpoint at an end of the packet that is kept, with this port and of
/// this kind; [`NOBODY`]: there is none.
#[inline(always)]
pub fn seek<S: Store>(store: &S, end: u32, port: u32, kind: u32) -> u32 {
    let Some(arrival) = store.kept() else {
        return NOBODY;
    };
    let (packet, address) = at_end(arrival, end);
    let port = port as u16;
    let found = if packet.is_ipv6 {
        endpoint::find_wide(store, end, address, port, packet.protocol, kind)
    } else {
        endpoint::find_stepwise(store, endpoint_key(address[3], port, packet.protocol, kind))
    };
    found.unwrap_or(NOBODY)
}

/// Looks into a bucket of the IPv6 endpoints for the address at an end of the packet that
/// is kept, see [`endpoint::probe`](mod@endpoint::probe).
#[inline(always)]
pub fn probe_wide<S: Store>(store: &S, bucket: u32, end: u32, key: u32) -> u64 {
    let Some(arrival) = store.kept() else {
        return 0;
    };
    let (_, address) = at_end(arrival, end);
    endpoint::probe_wide(store, bucket, address, key)
}

const FTP: u16 = 21_u16.to_be();
const FTP_DATA: u16 = 20_u16.to_be();
/// Ports from which on clients may open what FTP has told them.
const FREE_PORTS: u16 = 1024;

/// The service that a packet is for: by its mark (0: it has none), by address and port, as data of FTP,
/// by address alone (`ip_vs_service_find`). [`NOBODY`]: none.
#[inline(always)]
fn service_of<H: Host>(host: &H, arrival: &Arrival, features: u32, mark: u32) -> u32 {
    let packet = &arrival.packet;
    if mark != 0 {
        let family = if packet.is_ipv6 { 6 } else { 4 };
        let key = endpoint_key(mark, family, u8::MAX, endpoint_kind::MARK);
        if let Some(service) = endpoint::find_stepwise(host, key) {
            return service;
        }
    }
    let port = arrival.transport.destination_port;
    let to = |port: u16| host.seek(end::DESTINATION, port.into(), endpoint_kind::SERVICE);
    let exact = to(port);
    if exact != NOBODY {
        return exact;
    }
    if features & features::FTP != 0
        && packet.protocol == protocol::TCP
        && (port == FTP_DATA || u16::from_be(port) >= FREE_PORTS)
    {
        let service = to(FTP);
        if service != NOBODY {
            return service;
        }
    }
    if features & features::ANY_PORT != 0 {
        return to(0);
    }
    NOBODY
}
