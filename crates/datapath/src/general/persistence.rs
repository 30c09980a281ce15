//! Persistence: a template says which server a client, or a network of clients, stays
//! with (`ip_vs_sched_persist`).

use super::inbound::Inbound;
use super::{Arrival, lease, sip};
use crate::forward::is_alive;
use crate::host::{Host, Store};
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
fn is_valid<S: Store>(store: &S, service: &Service, server: u32) -> bool {
    let Some(server) = store.server(server) else {
        return false;
    };
    let ignores_quiesced = service.flags.get() & service_flags::COMPATIBLE == 0
        || store.control().is_some_and(|control| {
            control.settings.get() & settings::EXPIRE_QUIESCENT_TEMPLATE != 0
        });
    is_alive(server) && (!ignores_quiesced || server.flags.get() & server_flags::WEIGHTED != 0)
}

/// The server that the client stays with; a new client gets one by the scheduler.
/// [`NOBODY`]: none.
#[inline(always)]
pub(super) fn choose<H: Host>(host: &H, arrival: &Inbound<'_>) -> u32 {
    if sip::is_by_call(arrival.service, &arrival.packet) {
        let call = host.call_id();
        if call == 0 {
            return NOBODY;
        }
        arrival.engine[0].set(call as u32);
        arrival.engine[1].set((call >> 32) as u32);
    }
    let known = host.template();
    if known != NOBODY {
        return known;
    }
    let index = arrival.index.get();
    let server = schedule::choose(host, arrival.service, index, &arrival.request());
    if server == NOBODY {
        return NOBODY;
    }
    lease::settle(host, arrival.arrival);
    host.note_template(server)
}

/// What finds the template of a client.
#[inline(always)]
fn wanted(service: &Service, arrival: &Arrival) -> WantedWide {
    let packet = &arrival.packet;
    let protocol = if service.mark.get() == 0 {
        packet.protocol
    } else {
        0
    };
    let (port, by) = match call(service, arrival) {
        Some(call) => (call.port, By::ServerTag(call.tag)),
        None => (0, By::Service(arrival.index.get())),
    };
    WantedWide {
        address: masked(packet.source, service.netmask.get()),
        port: port | u32::from(protocol) << 16 | state::TEMPLATE << 24,
        aim: Aim::any(by),
    }
}

/// What finds the template of a call beside its client: 48 bits of a hash in place of the
/// client's port and the server's tag, which templates have no use for.
struct Call {
    port: u32,
    tag: u32,
}

#[inline(always)]
fn call(service: &Service, arrival: &Arrival) -> Option<Call> {
    if !sip::is_by_call(service, &arrival.packet) {
        return None;
    }
    let [low, high] = &arrival.engine;
    Some(Call {
        port: high.get() & 0xffff,
        tag: low.get() ^ arrival.index.get().wrapping_mul(0x9E37_79B1),
    })
}

/// The server that the client of the packet that is kept stays with by its template;
/// [`NOBODY`]: there is none that may be used.
#[inline(always)]
pub(super) fn known<S: Store>(store: &S) -> Option<u32> {
    let arrival = store.kept()?;
    let service = store.service(arrival.index.get())?;
    let wanted = wanted(service, arrival);
    let found: Found<'_, WideBucket> = table::find(store, wanted.place(store), wanted)?;
    let server = found.entry.server.get();
    if is_valid(store, service, server) {
        found.entry.seen.set(store.tick());
        return Some(server);
    }
    table::release(store, found);
    None
}

/// Makes a template with this server for the client of the packet that is kept; the
/// server that it stays with in the end.
#[inline(always)]
pub(super) fn enter<S: Store>(store: &S, server: u32) -> Option<u32> {
    let arrival = store.kept()?;
    let index = arrival.index.get();
    let service = store.service(index)?;
    let wanted = wanted(service, arrival);
    let port = service.port.get() as u16;
    let server_port = match store.server(server) {
        Some(record) if port != 0 && port != FTP => record.ports.get() as u16,
        _ => 0,
    };
    let new = WideOpening {
        address: wanted.address,
        port: wanted.port,
        virtual_address: shown_address(service, service.mark.get()),
        ports: u32::from(if port == FTP { 0 } else { port }) | u32::from(server_port) << 16,
        service: index,
        server,
        server_tag: call(service, arrival).map_or(0, |call| call.tag),
        state: state::TEMPLATE,
        hop: 0,
    };
    // Two CPUs may have made one at once; both go where the first one does.
    let opened: Found<'_, WideBucket> = table::open(store, wanted.place(store), new, None)?;
    Some(opened.entry.server.get())
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
