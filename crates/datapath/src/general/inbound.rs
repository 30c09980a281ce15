//! From clients to services.

use super::delivery::Job;
use super::persistence;
use super::rewrite::WideEnd;
use super::width::{Opened, Width};
use super::{
    Arrival, Part, UNASKED, answer, fragment, lease, next_state, opening_of, part_of, segment, sip,
    source_nat,
};
use crate::forward::{
    Sendable, Verdict, count_connection, count_packet, counted_length, drop, is_alive, method_of,
    pass, sendable, track,
};
use crate::frame::protocol;
use crate::hop;
use crate::host::{Host, RouteAnswer};
use crate::layout::{
    NOBODY, Server, Service, features, method, scheduler, server_flags, service_flags, settings,
    state_word,
};
use crate::reason::Reason;
use crate::schedule;
use crate::state::{self, Direction, is_established, tcp_flags};
use crate::table::{self, Found, Slot};

const FTP_DATA: u16 = 20_u16.to_be();

/// A client's packet and the service that it is for.
#[derive(Clone, Copy)]
pub(super) struct Inbound<'a> {
    pub arrival: &'a Arrival,
    pub service: &'a Service,
}

impl core::ops::Deref for Inbound<'_> {
    type Target = Arrival;

    #[inline(always)]
    fn deref(&self) -> &Arrival {
        self.arrival
    }
}

/// What of `net.ipv4.vs` packets heed.
#[inline(always)]
pub(super) fn settings<H: Host>(host: &H) -> u32 {
    host.control()
        .map_or(settings::DEFAULT, |control| control.settings.get())
}

/// A packet of a connection, known or new.
#[inline(always)]
pub(super) fn connection<H: Host, W: Width>(host: &H, arrival: &Arrival) -> Verdict {
    let Some(service) = host.service(arrival.index.get()) else {
        return Verdict::Pass;
    };
    let arrival = &Inbound { arrival, service };
    let wanted = W::of_client(&arrival.packet, arrival.transport, arrival.index.get());
    let place = W::place(host, wanted);
    let found: Option<Found<'_, W>> = table::find(host, place, wanted);
    let Some(known) = found else {
        return without(host, arrival);
    };
    let entry = known.entry;
    match fate(host, arrival, entry) {
        Fate::Goes => {}
        Fate::Dropped => return drop(host, Reason::ServerGone),
        Fate::Ends if may_start(host, arrival) => return Verdict::Then { part: Part::Choose },
        Fate::Ends => {
            table::release(host, known);
            return pass(host, Reason::NoConnection);
        }
    }
    if is_own(host) {
        hop::note_itself(host, entry);
    }
    let index = entry.server().get();
    let Some(server) = host.server(index) else {
        return drop(host, Reason::ServerGone);
    };
    let flags = server.flags.get();
    let present = entry.state().get();
    if is_translated(flags) && !keeps_source::<H, W>(host, arrival, entry, server) {
        // It may be another's by now.
        table::release_from(host, known, present);
        return without(host, arrival);
    }
    let way = hop::to_server_wide(host, server, arrival.packet.source, arrival.packet.protocol);
    if let Err(verdict) = check_inbound(host, arrival.arrival, flags, &way) {
        return verdict;
    }
    let direction = direction_of(method_of(flags));
    let next = next_state(
        host,
        arrival.packet.protocol,
        entry.state().get(),
        arrival.transport.event,
        direction,
    );
    track(host, entry, next, direction);
    count_packet(host, index, counted_length(host), direction);
    let after = W::server_end(entry, server);
    if is_translated(flags) {
        let reference = entry.server_tag().get();
        arrival.reference.set(reference);
        arrival
            .job
            .set_source(source_nat::source_end(host, server, reference));
    }
    send(arrival, index, server, after, way)
}

/// Looks for the translated source of a connection that was opened just now, or that the
/// packet establishes. False: it has given way.
#[inline(always)]
fn keeps_source<H: Host, W: Width>(
    host: &H,
    arrival: &Arrival,
    entry: &W::Entry,
    server: &Server,
) -> bool {
    let (protocol, event) = (arrival.packet.protocol, arrival.transport.event);
    let present = entry.state().get();
    let reference = entry.server_tag().get();
    let is_new = arrival.reference.get() == reference;
    if !is_new && is_established(present) {
        return true;
    }
    let next = next_state(host, protocol, present, event, Direction::Input);
    if !is_new && !is_established(next) {
        return true;
    }
    let port = W::server_end(entry, server).port.into();
    let flags = lease::assured_by(next);
    let ask = || host.hold(entry.server().get(), port, reference, flags) != 0;
    // Another CPU may assure or move it at the same moment; once more is enough.
    ask() || ask()
}

/// True: a program on this machine has sent the packet.
#[inline(always)]
pub(crate) fn is_own<H: Host>(host: &H) -> bool {
    // The loopback interface has no XDP.
    H::FINISHES && host.ingress() == hop::LOOPBACK
}

/// Looks whether a packet can leave by a way; else what becomes of it.
#[inline(always)]
pub(super) fn check<H: Host>(host: &H, arrival: &Arrival, way: &hop::Way) -> Result<(), Verdict> {
    let packet = &arrival.packet;
    match sendable(host, packet.extent(), way) {
        Sendable::Yes => Ok(()),
        Sendable::Later => Err(pass(host, Reason::Deferred)),
        Sendable::No(reason) => Err(refuse(host, arrival, reason, way.hop.mtu)),
    }
}

/// As [`check`], for a client's packet to a server with these flags. One that is too large
/// and may be cut is left to the kernel when it has its new destination: that routes it to
/// the same server, and can make two packets of one. Not so with another method, by which
/// the kernel would take the packet for its own.
#[inline(always)]
pub(super) fn check_inbound<H: Host>(
    host: &H,
    arrival: &Arrival,
    flags: u32,
    way: &hop::Way,
) -> Result<(), Verdict> {
    if flags & server_flags::LOCAL != 0 {
        return Ok(());
    }
    let packet = &arrival.packet;
    match sendable(host, packet.extent(), way) {
        Sendable::Yes => Ok(()),
        Sendable::Later => Err(pass(host, Reason::Deferred)),
        Sendable::No(Reason::TooBig)
            if packet.dont_fragment == 0 && method_of(flags) == method::MASQ =>
        {
            crate::count_reason(host, Reason::LeftToBeCut);
            arrival.job.set_local();
            Ok(())
        }
        Sendable::No(reason) => Err(refuse(host, arrival, reason, way.hop.mtu)),
    }
}

/// Counts a packet that can't be sent on, and has its sender told where there is
/// something to tell.
#[inline(always)]
pub(super) fn refuse<H: Host>(host: &H, arrival: &Arrival, reason: Reason, mtu: u32) -> Verdict {
    crate::count_reason(host, reason);
    let packet = &arrival.packet;
    let answer = match reason {
        Reason::TimeToLive => answer::kind::TIME_EXCEEDED,
        Reason::NoServer | Reason::Unexpected => answer::kind::UNREACHABLE,
        // Where it may be cut, too: its sender can do that, and the packet path can't.
        Reason::TooBig => answer::kind::TOO_BIG,
        _ => return Verdict::Drop,
    };
    if matches!(packet.protocol, protocol::ICMP | protocol::ICMPV6) {
        // An error is not answered with one.
        return Verdict::Drop;
    }
    arrival.answer.set(answer);
    arrival.mtu.set(mtu);
    Verdict::Then { part: Part::Answer }
}

/// What becomes of a known connection.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
enum Fate {
    /// It goes on.
    Goes = 0,
    /// It ends, and the packet is one without a connection.
    Ends = 1,
    /// It stays, but its packets go nowhere.
    Dropped = 2,
}

/// Looks whether a connection's server is there, and whether the client has begun a
/// new connection from the same port (`ip_vs_in_hook`).
#[inline(always)]
fn fate<H: Host, E: Slot>(host: &H, arrival: &Inbound<'_>, entry: &E) -> Fate {
    let settings = settings(host);
    let expire_nodest = settings & settings::EXPIRE_NODEST_CONN != 0;
    let server = host.server(entry.server().get());
    // First: where the client begins anew, it does not matter that the server is gone.
    if is_opening(arrival) {
        let mode = (settings >> settings::CONN_REUSE_MODE_SHIFT) & 3;
        let quiesced = server.is_some_and(|s| s.flags.get() & server_flags::WEIGHTED == 0);
        if (expire_nodest && quiesced) || (mode != 0 && is_over(arrival, entry.state().get(), mode))
        {
            return Fate::Ends;
        }
    }
    if server.is_some_and(is_alive) {
        Fate::Goes
    } else if expire_nodest || arrival.service.flags.get() & service_flags::COMPATIBLE == 0 {
        Fate::Ends
    } else {
        Fate::Dropped
    }
}

/// True: a connection in this state may give way to a new one (`is_new_conn_expected`).
/// With IPVS's ways and one side closed that is so only where the director sees nothing of
/// what the server sends, and so can't know whether it has closed its side.
#[inline(always)]
fn is_over(arrival: &Inbound<'_>, word: u32, mode: u32) -> bool {
    const OVER: u32 = 1 << state::TIME_WAIT | 1 << state::CLOSE | 1 << state::SCTP_CLOSED;
    let state = word & state_word::STATE;
    let also = arrival.service.flags.get() & service_flags::COMPATIBLE == 0
        || (mode & 2 != 0 && word & state_word::ANSWERED == 0);
    (OVER >> state) & 1 != 0 || (also && state == state::FIN_WAIT)
}

/// True for a packet that begins a connection.
#[inline(always)]
fn is_opening(arrival: &Inbound<'_>) -> bool {
    const INIT: u8 = 1;
    const THESE: u8 = tcp_flags::SYN | tcp_flags::ACK | tcp_flags::RST;
    match arrival.packet.protocol {
        protocol::TCP => arrival.transport.event & THESE == tcp_flags::SYN,
        protocol::SCTP => arrival.transport.event == INIT,
        _ => false,
    }
}

/// True for a packet that a connection may begin with, by settings too.
#[inline(always)]
fn may_begin<H: Host>(host: &H, arrival: &Inbound<'_>) -> bool {
    const INIT: u8 = 1;
    let event = arrival.transport.event;
    let settings = settings(host);
    match arrival.packet.protocol {
        protocol::TCP => {
            (event & tcp_flags::SYN != 0 || settings & settings::SLOPPY_TCP != 0)
                && event & tcp_flags::RST == 0
                && arrival.transport.source_port != FTP_DATA
        }
        protocol::SCTP => event == INIT || settings & settings::SLOPPY_SCTP != 0,
        _ => true,
    }
}

/// True for a packet that may open a connection, or be taken into one that another
/// director has opened.
#[inline(always)]
fn may_start<H: Host>(host: &H, arrival: &Inbound<'_>) -> bool {
    may_begin(host, arrival) || may_be_adopted(arrival)
}

/// What becomes of a packet without a connection.
#[inline(always)]
fn without<H: Host>(host: &H, arrival: &Inbound<'_>) -> Verdict {
    if !may_start(host, arrival) {
        return pass(host, Reason::NoConnection);
    }
    if arrival.chosen.get() != UNASKED {
        // It was opened just now, and has given way already.
        return drop(host, Reason::TableFull);
    }
    Verdict::Then { part: Part::Choose }
}

/// Opens a connection to the server that was chosen, and goes back to where it was
/// needed.
#[inline(always)]
pub(super) fn open<H: Host, W: Width>(host: &H, arrival: &Arrival) -> Verdict {
    let index = arrival.chosen.get();
    let (Some(service), Some(server)) = (host.service(arrival.index.get()), host.server(index))
    else {
        return drop(host, Reason::NoServer);
    };
    // The slot may have been given to another service's server since.
    if server.service.get() != arrival.index.get() {
        return drop(host, Reason::NoServer);
    }
    let flags = server.flags.get();
    let method = method_of(flags);
    let reference = arrival.reference.get();
    let is_translated = is_translated(flags);
    if is_translated && reference == UNASKED {
        return Verdict::Then {
            part: Part::Translate,
        };
    }
    let (packet, transport) = (&arrival.packet, &arrival.transport);
    let first = if packet.protocol == protocol::SCTP {
        state::SCTP_NONE
    } else {
        state::NONE
    };
    let direction = direction_of(method);
    let opened = Opened {
        service: arrival.index.get(),
        server: index,
        server_port: server_port(&Inbound { arrival, service }, server),
        state: next_state(host, packet.protocol, first, transport.event, direction),
        reference,
    };
    let wanted = W::of_client(packet, *transport, arrival.index.get());
    let place = W::place(host, wanted);
    let before: Option<Found<'_, W>> = table::find(host, place, wanted);
    if let Some(before) = before {
        let inbound = &Inbound { arrival, service };
        if !matches!(fate(host, inbound, before.entry), Fate::Ends) {
            // Another CPU has opened it meanwhile.
            return opened_in(service, arrival);
        }
        crate::count_reason(host, Reason::Reused);
    }
    let new = W::opening(host, packet, *transport, server, opened);
    let mut is_open = table::open(host, place, new, before).is_some();
    if W::IS_WIDE {
        is_open &= !lease::is_own_lost(arrival);
        lease::settle(host, arrival);
    }
    if !is_open {
        return drop(host, Reason::TableFull);
    }
    count_connection(host, index);
    opened_in(service, arrival)
}

/// True: a server with these flags sees a translated source. To one on this machine, clients
/// come as they are.
#[inline(always)]
pub(super) fn is_translated(flags: u32) -> bool {
    method_of(flags) == method::FULL_NAT && flags & server_flags::LOCAL == 0
}

/// To where the connection that is open now was needed.
#[inline(always)]
fn opened_in(service: &Service, arrival: &Arrival) -> Verdict {
    let part = if arrival.is_quoted.get() != 0 {
        Part::General
    } else {
        part_of(service, &arrival.packet)
    };
    Verdict::Then { part }
}

/// Which packets of a connection are seen with this forwarding method.
#[inline(always)]
fn direction_of(method: u32) -> Direction {
    if matches!(method, method::MASQ | method::FULL_NAT) {
        Direction::Input
    } else {
        Direction::InputOnly
    }
}

/// Finds a source for a connection to the server that was chosen, and goes back to where
/// it was needed.
#[inline(always)]
pub(super) fn translate<H: Host>(host: &H, arrival: &Arrival) -> Verdict {
    let (Some(service), Some(server)) = (
        host.service(arrival.index.get()),
        host.server(arrival.chosen.get()),
    ) else {
        return drop(host, Reason::NoServer);
    };
    let inbound = &Inbound { arrival, service };
    arrival.server_port.set(server_port(inbound, server).into());
    if !source_nat::allocate(host, arrival) {
        return drop(host, Reason::NoPort);
    }
    Verdict::Then {
        part: opening_of(service, &arrival.packet),
    }
}

/// The port of the server that a connection goes to: its own, or where the service has
/// none the packet's.
#[inline(always)]
fn server_port(arrival: &Inbound<'_>, server: &Server) -> u16 {
    let own = server.ports.get() as u16;
    let aim = arrival.transport.destination_port;
    let persistent = arrival.service.flags.get() & service_flags::PERSISTENT != 0;
    let keeps = persistent && aim != arrival.service.port.get() as u16;
    if own == 0 || keeps { aim } else { own }
}

/// Finds the server for a new connection, and goes back to where it was needed.
#[inline(always)]
pub(super) fn choose<H: Host>(host: &H, arrival: &Arrival) -> Verdict {
    let Some(service) = host.service(arrival.index.get()) else {
        return Verdict::Pass;
    };
    let arrival = &Inbound { arrival, service };
    let begins = may_begin(host, arrival);
    if begins && is_its_turn(host) {
        return drop(host, Reason::DroppedPacket);
    }
    let chosen = if !begins {
        crate::count_reason(host, Reason::Adopted);
        schedule::previous_owner(host, service, &arrival.request()).unwrap_or(NOBODY)
    } else if service.flags.get() & service_flags::PERSISTENT != 0 {
        persistence::choose(host, arrival)
    } else {
        schedule::choose(host, service, arrival.index.get(), &arrival.request())
    };
    lease::settle(host, arrival.arrival);
    if chosen == NOBODY {
        return Verdict::Then { part: Part::Nobody };
    }
    arrival.chosen.set(chosen);
    Verdict::Then {
        part: opening_of(service, &arrival.packet),
    }
}

/// True: this is the one of some packets that is dropped while too many come
/// (`ip_vs_todrop`).
#[inline(always)]
fn is_its_turn<H: Host>(host: &H) -> bool {
    let Some(control) = host.control() else {
        return false;
    };
    if control.features.get() & features::DEFENCE == 0 {
        return false;
    }
    let rate = control.drop_rate.get();
    rate != 0 && host.add(&control.drop_turn, 1) % rate == rate - 1
}

/// What becomes of a packet that nobody serves (`ip_vs_leave`).
#[inline(always)]
pub(super) fn nobody<H: Host>(host: &H, arrival: &Arrival) -> Verdict {
    let Some(service) = host.service(arrival.index.get()) else {
        return Verdict::Pass;
    };
    if arrival.is_quoted.get() != 0 {
        // An error is not answered with one.
        return drop(host, Reason::NoServer);
    }
    let [call, _] = &arrival.engine;
    if sip::is_by_call(service, &arrival.packet) && call.get() == 0 {
        return drop(host, Reason::NoCallId);
    }
    if settings(host) & settings::CACHE_BYPASS != 0
        && service.mark.get() != 0
        && leads_elsewhere(host, arrival)
    {
        return pass(host, Reason::Bypassed);
    }
    refuse(host, arrival, Reason::NoServer, 0)
}

/// True: the packet was sent to another machine, which the kernel knows a way to.
#[inline(always)]
fn leads_elsewhere<H: Host>(host: &H, arrival: &Arrival) -> bool {
    let packet = &arrival.packet;
    let (from, to) = (packet.source, packet.destination);
    let way = hop::route(host, packet.is_ipv6, from, to, packet.protocol);
    matches!(way.answer, RouteAnswer::Ready | RouteAnswer::Unresolved)
}

/// True for the packet of a TCP connection that another director may have opened: with
/// hashing its server is known all the same, and a change of servers at the same
/// moment does not hurt.
#[inline(always)]
fn may_be_adopted(arrival: &Inbound<'_>) -> bool {
    arrival.service.flags.get() & service_flags::COMPATIBLE == 0
        && arrival.service.scheduler.get() == scheduler::MH
        && arrival.packet.protocol == protocol::TCP
        && arrival.transport.event & (tcp_flags::RST | tcp_flags::SYN) == 0
}

/// A packet of a service without connections.
#[inline(always)]
pub(super) fn one_packet<H: Host>(host: &H, arrival: &Arrival) -> Verdict {
    let Some(service) = host.service(arrival.index.get()) else {
        return Verdict::Pass;
    };
    let arrival = &Inbound { arrival, service };
    let index = arrival.chosen.get();
    if index == UNASKED {
        return Verdict::Then { part: Part::Choose };
    }
    let Some(server) = host.server(index) else {
        return drop(host, Reason::NoServer);
    };
    let way = hop::to_server_wide(host, server, arrival.packet.source, arrival.packet.protocol);
    if let Err(verdict) = check_inbound(host, arrival.arrival, server.flags.get(), &way) {
        return verdict;
    }
    count_connection(host, index);
    count_packet(host, index, counted_length(host), Direction::Input);
    let end = WideEnd {
        address: table::address_of(&server.wide_address),
        port: server_port(arrival, server),
    };
    send(arrival, index, server, end, way)
}

/// Sends a client's packet to its server.
#[inline(always)]
fn send(
    arrival: &Inbound<'_>,
    index: u32,
    server: &Server,
    after: WideEnd,
    way: hop::Way,
) -> Verdict {
    let job = &arrival.job;
    set_job(job, index, server, after);
    job.set_way(&way);
    fragment::note(arrival.arrival, index, fragment::kind::TO_SERVER);
    segment::next(arrival.arrival, arrival.service, server)
}

/// What is to be done with a client's packet, by its server's forwarding method.
#[inline(always)]
pub(super) fn set_job(job: &Job, index: u32, server: &Server, after: WideEnd) {
    let flags = server.flags.get();
    match method_of(flags) {
        method::MASQ | method::FULL_NAT => job.set_destination(after),
        method::TUNNEL => job.set_tunnel(index),
        _ => {}
    }
    if flags & server_flags::LOCAL != 0 {
        job.set_local();
    }
}
