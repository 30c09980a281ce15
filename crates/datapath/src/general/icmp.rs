//! ICMP errors about connections, in both directions and families (as IPVS's
//! `ip_vs_in_icmp` and `ip_vs_out_icmp`): the quoted packet is translated back, so that
//! the receiver knows it as its own.

use super::delivery::{self, task};
use super::inbound::{check, set_job, settings};
use super::outbound;
use super::packet::{Packet, Transport};
use super::rewrite::{self, WideEnd, difference};
use super::width::Width;
use super::{Arrival, Part, end, has_source_nat, seek_at, source_nat, tunnel_error};
use crate::checksum;
use crate::forward::{Verdict, count_packet, drop, is_alive, leave, method_of};
use crate::frame::{ETHERNET, End, protocol};
use crate::hop;
use crate::host::{Host, Window};
use crate::layout::{
    Bucket, NOBODY, Service, WideBucket, endpoint_kind, method, server_flags, service_flags,
    settings,
};
use crate::reason::Reason;
use crate::state::{Direction, tcp_flags};
use crate::table::{self, Found, Slot};

/// Bytes of an ICMP header.
const HEADER: usize = 8;

/// Decides about an ICMP error. What is kept has the quoted packet's addresses in
/// `quoted` and its ports in `transport`.
#[inline(always)]
pub(super) fn process<H: Host>(host: &H, arrival: &Arrival) -> Verdict {
    let transport = &arrival.transport;
    let protocol = arrival.quoted.protocol;
    if tunnel_error::is_tunnel(protocol) {
        return about_a_tunnel(host);
    }
    let to = u32::from(transport.destination_port);
    let about_request = (!arrival.packet.is_ipv6
        && seek_at(host, end::QUOTED_DESTINATION, to, endpoint_kind::SERVER))
        || seek_at(
            host,
            end::QUOTED_DESTINATION,
            to,
            endpoint_kind::WIDE_SERVER,
        )
        || seek_at(host, end::QUOTED_DESTINATION, 0, endpoint_kind::WIDE_SERVER);
    if about_request {
        return about_a_request(host, arrival);
    }
    let from = u32::from(transport.source_port);
    let mut service = host.seek(end::QUOTED_SOURCE, from, endpoint_kind::SERVICE);
    if service == NOBODY {
        service = host.seek(end::QUOTED_SOURCE, 0, endpoint_kind::SERVICE);
    }
    if service != NOBODY {
        arrival.index.set(service);
        return about_a_reply(host, arrival, service);
    }
    if protocol == protocol::UDP {
        return about_a_tunnel(host);
    }
    Verdict::Pass
}

#[inline(always)]
fn about_a_tunnel<H: Host>(host: &H) -> Verdict {
    if tunnel_error::may_be(host) {
        return Verdict::Then {
            part: Part::TunnelError,
        };
    }
    Verdict::Pass
}

/// The quoted packet turned round: as the one would look that answers it.
#[inline(always)]
pub(super) fn turned(arrival: &Arrival) -> (Packet, Transport) {
    let quoted = &arrival.quoted;
    let packet = Packet {
        source: quoted.destination,
        destination: quoted.source,
        ..*quoted
    };
    let transport = Transport {
        source_port: arrival.transport.destination_port,
        destination_port: arrival.transport.source_port,
        ..arrival.transport
    };
    (packet, transport)
}

/// About a client's packet that went to a server: the client knows only the service.
#[inline(always)]
fn about_a_request<H: Host>(host: &H, arrival: &Arrival) -> Verdict {
    let (packet, transport) = turned(arrival);
    if !packet.is_ipv6 {
        let verdict = about_a_request_in::<H, Bucket>(host, arrival, &packet, transport);
        if verdict != Verdict::Pass {
            return verdict;
        }
    }
    let verdict = about_a_request_in::<H, WideBucket>(host, arrival, &packet, transport);
    if verdict != Verdict::Pass {
        return verdict;
    }
    if has_source_nat(host) {
        return Verdict::Then {
            part: Part::TranslatedIcmp,
        };
    }
    Verdict::Pass
}

/// The same about a connection in this table, translated for the client; `answer` is the
/// quoted packet turned round.
#[inline(always)]
fn about_a_request_in<H: Host, W: Width>(
    host: &H,
    arrival: &Arrival,
    answer: &Packet,
    transport: Transport,
) -> Verdict {
    let is_routed = outbound::is_routed;
    outbound::of_connection::<H, W>(host, answer, &transport, is_routed, |entry, server| {
        let packet = &arrival.packet;
        let after = W::virtual_end(entry, server);
        let way = hop::remembered(host, entry, || {
            outbound::route(host, packet, after.address, packet.destination)
        });
        if let Err(verdict) = check(host, arrival, &way) {
            return verdict;
        }
        count_packet(host, entry.server().get(), packet.length, Direction::Output);
        arrival.job.set_source(after);
        arrival.job.set_way(&way);
        DELIVER
    })
}

/// On to where the job is carried out.
pub(super) const DELIVER: Verdict = Verdict::Then {
    part: Part::IcmpDeliver,
};

/// About a server's reply: the server knows only its own address.
#[inline(always)]
fn about_a_reply<H: Host>(host: &H, arrival: &Arrival, index: u32) -> Verdict {
    let (packet, transport) = turned(arrival);
    let Some(service) = host.service(index) else {
        return Verdict::Pass;
    };
    if service.flags.get() & service_flags::WIDE == 0 {
        let wanted = Bucket::of_client(&packet, transport, index);
        let found: Option<Found<'_, Bucket>> = table::find(host, wanted.place(host), wanted);
        return match found {
            Some(found) => to_server::<H, Bucket>(host, arrival, found.entry),
            None => unknown(host, service),
        };
    }
    let wanted = WideBucket::of_client(&packet, transport, index);
    let found: Option<Found<'_, WideBucket>> = table::find(host, wanted.place(host), wanted);
    match found {
        Some(found) => to_server::<H, WideBucket>(host, arrival, found.entry),
        None => unknown(host, service),
    }
}

/// About a packet that belongs to no connection: another director's, it may be.
#[inline(always)]
fn unknown<H: Host>(host: &H, service: &Service) -> Verdict {
    if settings(host) & settings::SCHEDULE_ICMP == 0
        || service.flags.get() & service_flags::ONE_PACKET != 0
    {
        return Verdict::Pass;
    }
    Verdict::Then {
        part: Part::IcmpOpen,
    }
}

/// Begins a connection to the service with the packet that is quoted, turned round: a server
/// gets the error that would have got the client's packets (`ip_vs_try_to_schedule`). Then
/// the error is looked at again.
#[inline(always)]
pub(super) fn open<H: Host>(host: &H, arrival: &Arrival) -> Verdict {
    const INIT: u8 = 1;
    let index = arrival.index.get();
    let (packet, transport) = turned(arrival);
    let event = match packet.protocol {
        protocol::TCP => tcp_flags::SYN,
        protocol::SCTP => INIT,
        _ => 0,
    };
    host.keep(Arrival {
        packet,
        transport: Transport { event, ..transport },
        ..Arrival::empty()
    });
    let Some(arrival) = host.kept() else {
        return Verdict::Pass;
    };
    arrival.index.set(index);
    arrival.is_quoted.set(1);
    Verdict::Then { part: Part::Choose }
}

/// Translates for the server, from whom the quoted packet came; or, where it has the
/// service's address itself, sends it on as it is.
#[inline(always)]
fn to_server<H: Host, W: Width>(host: &H, arrival: &Arrival, entry: &W::Entry) -> Verdict {
    let index = entry.server().get();
    let Some(server) = host.server(index).filter(|server| is_alive(server)) else {
        return drop(host, Reason::ServerGone);
    };
    let packet = &arrival.packet;
    let flags = server.flags.get();
    let method = method_of(flags);
    let is_local = flags & server_flags::LOCAL != 0;
    let way = hop::to_server_wide(host, server, packet.source, packet.protocol);
    if !is_local && let Err(verdict) = check(host, arrival, &way) {
        return verdict;
    }
    count_packet(host, index, packet.length, Direction::Input);
    let job = &arrival.job;
    set_job(job, index, server, W::server_end(entry, server));
    if method == method::FULL_NAT && !is_local {
        let reference = entry.server_tag().get();
        job.set_source(source_nat::source_end(host, server, reference));
    }
    job.set_way(&way);
    DELIVER
}

/// Carries out the job of the ICMP error that is kept.
#[inline(always)]
pub(super) fn deliver<H: Host>(host: &H, arrival: &Arrival) -> Verdict {
    let job = &arrival.job;
    if !rewrite(host, arrival) {
        return drop(host, Reason::RewriteFailed);
    }
    if job.what() & task::LOCAL != 0 {
        return Verdict::Pass;
    }
    if !rewrite::pass_on(host, &arrival.packet) || !delivery::enter(host, job) {
        return drop(host, Reason::RewriteFailed);
    }
    leave(host, job.way())
}

/// Gives the error its new ends, and the quoted packet the same the other way round.
#[inline(always)]
fn rewrite<H: Host>(host: &H, arrival: &Arrival) -> bool {
    let (quoted, transport, job) = (&arrival.quoted, &arrival.transport, &arrival.job);
    let what = job.what();
    if what & task::SOURCE != 0 {
        let before = WideEnd {
            address: quoted.destination,
            port: transport.destination_port,
        };
        if !translate(host, arrival, End::Source, before, job.source()) {
            return false;
        }
    }
    if what & task::DESTINATION != 0 {
        let before = WideEnd {
            address: quoted.source,
            port: transport.source_port,
        };
        return translate(host, arrival, End::Destination, before, job.destination());
    }
    true
}

/// Rewrites the outer `end` to `after`'s address and the opposite end of the quoted
/// packet, which is `before`, to `after`. The quoted IPv4 header keeps a right
/// checksum, so of its changes only the port's touches the ICMP checksum; `ICMPv6`'s
/// covers all addresses.
#[inline(always)]
fn translate<H: Host>(
    host: &H,
    arrival: &Arrival,
    end: End,
    before: WideEnd,
    after: WideEnd,
) -> bool {
    let packet = &arrival.packet;
    let outer = if end == End::Source {
        packet.source
    } else {
        packet.destination
    };
    let mut change = u64::from(checksum::difference16(before.port, after.port));
    if packet.is_ipv6 {
        change += u64::from(difference(outer, after.address))
            + u64::from(difference(before.address, after.address));
    }
    let (Some(icmp), Some(ports)) = (
        host.window(packet.transport(), HEADER),
        host.window(arrival.quoted.transport(), 4),
    ) else {
        return false;
    };
    icmp.set_u16(2, checksum::update(icmp.u16(2), change));
    ports.set_u16(if end == End::Source { 2 } else { 0 }, after.port);
    let offset = packet.transport() + HEADER;
    let quoted_end = if end == End::Source {
        End::Destination
    } else {
        End::Source
    };
    rewrite::set_address_at(
        host,
        offset,
        packet.is_ipv6,
        quoted_end,
        before.address,
        after.address,
    ) && rewrite::set_address_at(host, ETHERNET, packet.is_ipv6, end, outer, after.address)
}
