//! Fragments: the first one has ports, and says where the others go. Which way it went
//! is kept like a connection, for as long as a receiver would wait for the rest.

use super::Arrival;
use super::inbound::check;
use super::packet::{Packet, what};
use super::rewrite::{self, WideEnd};
use crate::forward::{
    Verdict, count_packet, counted_length, drop, is_alive, leave, method_of, pass,
};
use crate::frame::End;
use crate::hop;
use crate::host::Host;
use crate::layout::{Address, WideBucket, method, server_flags};
use crate::reason::Reason;
use crate::state::{self, Direction};
use crate::table::{self, Aim, By, Found, WantedWide, WideOpening, address_of};
use crate::{hash, tunnel};

/// Direction of the packet, in the entry's ports.
const FROM_SERVER: u32 = 1;

/// What finds the fragments of a packet: its source, its identification, its protocol
/// and, as a tag, its destination.
#[inline(always)]
fn wanted<H: Host>(host: &H, packet: &Packet) -> WantedWide {
    let upper = (packet.id >> 16) as u16;
    let tag = hash::wide_server_tag(packet.destination, upper, host.seed());
    WantedWide {
        address: packet.source,
        port: packet.id & 0xffff | u32::from(packet.protocol) << 16 | state::FRAGMENT << 24,
        aim: Aim::any(By::ServerTag(tag)),
    }
}

/// Notes where the first fragment of a packet goes: to or from which server, with which
/// address in place of its own.
#[inline(always)]
pub(super) fn note<H: Host>(
    host: &H,
    packet: &Packet,
    server: u32,
    direction: Direction,
    address: Address,
) {
    if packet.what != what::FIRST {
        return;
    }
    let wanted = wanted(host, packet);
    let By::ServerTag(server_tag) = wanted.aim.by else {
        return;
    };
    let place = wanted.place(host);
    let known: Option<Found<'_, WideBucket>> = table::find(host, place, wanted);
    if let Some(known) = known {
        table::release(host, known);
    }
    let new = WideOpening {
        address: wanted.address,
        port: wanted.port,
        virtual_address: address,
        ports: if matches!(direction, Direction::Output) {
            FROM_SERVER
        } else {
            0
        },
        service: 0,
        server,
        server_tag,
        state: state::FRAGMENT,
    };
    table::enter::<H, WideBucket>(host, place, new);
}

/// A later fragment follows the first one.
#[inline(always)]
pub(super) fn process<H: Host>(host: &H, arrival: &Arrival) -> Verdict {
    let packet = &arrival.packet;
    let wanted = wanted(host, packet);
    let found: Option<Found<'_, WideBucket>> = table::find(host, wanted.place(host), wanted);
    let Some(found) = found else {
        return pass(host, Reason::Fragment);
    };
    let entry = found.entry;
    let index = entry.server.get();
    let Some(server) = host.server(index).filter(|server| is_alive(server)) else {
        return drop(host, Reason::ServerGone);
    };
    let from_server = entry.ports.get() == FROM_SERVER;
    let address = address_of(&entry.virtual_address);
    let flags = server.flags.get();
    let method = method_of(flags);
    let is_local = !from_server && flags & server_flags::LOCAL != 0;
    let way = if from_server {
        hop::remembered(host, entry, || {
            hop::route(
                host,
                packet.is_ipv6,
                address,
                packet.destination,
                packet.protocol,
            )
        })
    } else {
        hop::to_server_wide(host, server, packet.source, packet.protocol)
    };
    if !is_local && let Err(verdict) = check(host, arrival, &way) {
        return verdict;
    }
    let (direction, end, before) = if from_server {
        (Direction::Output, End::Source, packet.source)
    } else {
        (Direction::Input, End::Destination, packet.destination)
    };
    count_packet(host, index, counted_length(host), direction);
    let sent = if from_server || method == method::MASQ {
        let end_at = |address| WideEnd { address, port: 0 };
        rewrite::translate(host, packet, end, end_at(before), end_at(address))
    } else {
        is_local
            || (rewrite::pass_on(host, packet)
                && (method != method::TUNNEL || tunnel::enter(host, server)))
    };
    if !sent {
        return drop(host, Reason::RewriteFailed);
    }
    if is_local {
        return Verdict::Pass;
    }
    leave(host, way)
}
