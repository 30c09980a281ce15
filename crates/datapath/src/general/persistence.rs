//! Persistence: a template says which server a client, or a network of clients, stays
//! with (`ip_vs_sched_persist`).

use super::inbound::Inbound;
use crate::forward::is_alive;
use crate::host::Host;
use crate::layout::{
    Address, MAPPED, NOBODY, Service, WideBucket, server_flags, service_flags, settings,
};
use crate::schedule;
use crate::state;
use crate::table::{self, Aim, By, Found, WantedWide, WideOpening, address_of};

const FTP: u16 = 21_u16.to_be();

/// The client as its template knows it: what the netmask leaves of its address. See
/// [`Service::netmask`].
#[inline(always)]
#[must_use]
pub fn masked(address: Address, netmask: u32) -> Address {
    let [a, b, c, d] = address;
    if a == 0 && b == 0 && c == MAPPED {
        return [a, b, c, d & netmask];
    }
    let mut masked = address;
    for (word, part) in masked.iter_mut().enumerate() {
        let bits = netmask.saturating_sub(32 * word as u32);
        let mask = if bits >= 32 {
            u32::MAX
        } else {
            // The upper bits of a number in network order.
            (!(u32::MAX >> bits)).to_be()
        };
        *part &= mask;
    }
    masked
}

/// True: a template may send its clients to this server.
#[inline(always)]
fn is_valid<H: Host>(host: &H, service: &Service, server: u32) -> bool {
    let Some(server) = host.server(server) else {
        return false;
    };
    let ignores_quiesced = service.flags.get() & service_flags::COMPATIBLE == 0
        || host.control().is_some_and(|control| {
            control.settings.get() & settings::EXPIRE_QUIESCENT_TEMPLATE != 0
        });
    is_alive(server) && (!ignores_quiesced || server.flags.get() & server_flags::WEIGHTED != 0)
}

/// The server that the client stays with; a new client gets one by the scheduler.
/// [`NOBODY`]: none.
#[inline(always)]
pub(super) fn choose<H: Host>(host: &H, arrival: &Inbound<'_>) -> u32 {
    by_template(host, arrival).unwrap_or(NOBODY)
}

#[inline(always)]
fn by_template<H: Host>(host: &H, arrival: &Inbound<'_>) -> Option<u32> {
    let (packet, index, service) = (&arrival.packet, arrival.index.get(), arrival.service);
    let mark = service.mark.get();
    let protocol = if mark == 0 { packet.protocol } else { 0 };
    let wanted = WantedWide {
        address: masked(packet.source, service.netmask.get()),
        port: u32::from(protocol) << 16 | state::TEMPLATE << 24,
        aim: Aim::any(By::Service(index)),
    };
    let place = wanted.place(host);
    let template: Option<Found<'_, WideBucket>> = table::find(host, place, wanted);
    if let Some(found) = template {
        let server = found.entry.server.get();
        if is_valid(host, service, server) {
            found.entry.seen.set(host.tick());
            return Some(server);
        }
        table::release(host, found);
    }
    let server = schedule::choose(host, service, index, &arrival.request());
    if server == NOBODY {
        return None;
    }
    let port = service.port.get() as u16;
    let server_port = match host.server(server) {
        Some(record) if port != 0 && port != FTP => record.ports.get() as u16,
        _ => 0,
    };
    let new = WideOpening {
        address: wanted.address,
        port: wanted.port,
        virtual_address: shown_address(service, mark),
        ports: u32::from(if port == FTP { 0 } else { port }) | u32::from(server_port) << 16,
        service: index,
        server,
        server_tag: 0,
        state: state::TEMPLATE,
    };
    let opened: Option<Found<'_, WideBucket>> = table::open(host, place, new, None);
    // Two CPUs may have opened one at once; both go where the first one did.
    Some(opened.map_or(server, |found| found.entry.server.get()))
}

/// The address that a template is listed with: a firewall mark in its place.
#[inline(always)]
fn shown_address(service: &Service, mark: u32) -> Address {
    if mark == 0 {
        return address_of(&service.wide_address);
    }
    if service.flags.get() & service_flags::IPV6 != 0 {
        [mark.to_be(), 0, 0, 0]
    } else {
        crate::layout::mapped(mark.to_be())
    }
}
