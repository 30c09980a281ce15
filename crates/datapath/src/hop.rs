//! Next hops. A server's stands in its record, kept fresh by the daemon. A
//! client's is asked of the kernel once a connection, and remembered.

use crate::forward::method_of;
use crate::host::{Hop, Host, Route, RouteAnswer};
use crate::layout::{Address, CLIENT_HOPS, ClientHop, HopWords, Server, method, server_flags};
use crate::reason::Reason;
use crate::table::{Slot, address_of};

/// How a packet leaves. As [`Route`], flat for the verifier's sake.
pub type Way = Route;

#[inline(always)]
fn read(words: &HopWords, mtu: u32) -> Hop {
    Hop {
        interface: words.interface.get(),
        macs: [
            words.destination_low.get(),
            words.middle.get(),
            words.source_high.get(),
        ],
        mtu,
    }
}

#[inline(always)]
const fn ready(hop: Hop) -> Way {
    Way {
        answer: RouteAnswer::Ready,
        hop,
    }
}

/// The way to a server. Where the daemon has not resolved it, the kernel is asked; but not
/// for a tunnel, whose outer source address the daemon alone knows.
#[inline(always)]
pub fn to_server<H: Host>(host: &H, server: &Server, source: u32, protocol: u8) -> Way {
    let flags = server.flags.get();
    if flags & server_flags::HOP_READY != 0 {
        let which = (flags & server_flags::HOP) as usize;
        let mtu = (server.mtu.get() >> (16 * which)) & 0xffff;
        return ready(read(&server.hops[which], mtu));
    }
    if method_of(flags) == method::TUNNEL {
        return Way::without_hop(RouteAnswer::None);
    }
    crate::count_reason(host, Reason::RouteLookup);
    host.route(source, server.address.get(), protocol)
}

/// As [`to_server`], to a server of either family. With source NAT it is the packet's own
/// source that the daemon alone knows.
#[inline(always)]
pub fn to_server_wide<H: Host>(host: &H, server: &Server, source: Address, protocol: u8) -> Way {
    let flags = server.flags.get();
    if flags & server_flags::HOP_READY != 0 {
        let which = (flags & server_flags::HOP) as usize;
        let mtu = (server.mtu.get() >> (16 * which)) & 0xffff;
        return ready(read(&server.hops[which], mtu));
    }
    if matches!(method_of(flags), method::TUNNEL | method::FULL_NAT) {
        return Way::without_hop(RouteAnswer::None);
    }
    crate::count_reason(host, Reason::RouteLookup);
    let is_ipv6 = flags & server_flags::IPV6 != 0;
    let address = address_of(&server.wide_address);
    route(host, is_ipv6, source, address, protocol)
}

/// Asks the kernel for the way from one address to another.
#[inline(always)]
pub fn route<H: Host>(
    host: &H,
    is_ipv6: bool,
    source: Address,
    destination: Address,
    protocol: u8,
) -> Way {
    if is_ipv6 {
        host.wide_route(source, destination, protocol)
    } else {
        host.route(source[3], destination[3], protocol)
    }
}

/// The way to a client.
#[inline(always)]
pub fn to_client<H: Host, E: Slot>(
    host: &H,
    entry: &E,
    source: u32,
    client: u32,
    protocol: u8,
) -> Way {
    remembered(host, entry, || host.route(source, client, protocol))
}

/// The way that the entry remembers, or that the kernel names.
#[inline(always)]
pub fn remembered<H: Host, E: Slot>(host: &H, entry: &E, ask: impl FnOnce() -> Way) -> Way {
    let Some(control) = host.control() else {
        return Way::without_hop(RouteAnswer::None);
    };
    let generation = control.route_generation.get() & 0xffff;
    if let Some(way) = in_generation(host, entry, generation) {
        return way;
    }
    crate::count_reason(host, Reason::RouteLookup);
    let way = ask();
    if matches!(way.answer, RouteAnswer::Ready)
        && let Some(index) = remember(host, &way.hop, generation)
    {
        entry.hop().set(generation << 16 | index);
    }
    way
}

/// The way that the entry remembers.
#[inline(always)]
pub fn known<H: Host, E: Slot>(host: &H, entry: &E) -> Option<Way> {
    let generation = host.control()?.route_generation.get() & 0xffff;
    in_generation(host, entry, generation)
}

#[inline(always)]
fn in_generation<H: Host, E: Slot>(host: &H, entry: &E, generation: u32) -> Option<Way> {
    let known = entry.hop().get();
    let index = known & 0xffff;
    if index == 0 || known >> 16 != generation {
        return None;
    }
    let slot = host.client_hop(index)?;
    Some(ready(read(&slot.hop, slot.mtu.get())))
}

/// The loopback interface, in every network namespace.
pub const LOOPBACK: u32 = 1;
/// MTU of the way to a client on this machine itself, which no packet fits: so the ways of
/// other packets need not be looked at for it.
pub const TO_ITSELF: u32 = 1;

/// Remembers that the client is on this machine: what its server sends goes by the
/// loopback interface, whose frames have no MAC addresses.
#[inline(always)]
pub fn note_itself<H: Host, E: Slot>(host: &H, entry: &E) {
    const WAY: Hop = Hop {
        interface: LOOPBACK,
        macs: [0; 3],
        mtu: TO_ITSELF,
    };
    let Some(control) = host.control() else {
        return;
    };
    let generation = control.route_generation.get() & 0xffff;
    let known = entry.hop().get();
    if known & 0xffff != 0 && known >> 16 == generation {
        return;
    }
    if let Some(index) = remember(host, &WAY, generation) {
        entry.hop().set(generation << 16 | index);
    }
}

const HALF: u32 = CLIENT_HOPS / 2;
const BEING_WRITTEN: u32 = 1;
const PROBES: u32 = 4;

/// Index of the slot that holds `hop`, after writing it into a free one if need be.
/// None: no room; the kernel is then asked for each packet.
#[inline(always)]
fn remember<H: Host>(host: &H, hop: &Hop, generation: u32) -> Option<u32> {
    let hash = (hop.macs[0] ^ hop.macs[1].rotate_left(7) ^ hop.macs[2].rotate_left(13))
        .wrapping_add(hop.interface)
        .wrapping_mul(0x9E37_79B1);
    let tag = hash | 2;
    let half = (generation & 1) * HALF;
    for probe in 0..PROBES {
        let place = (hash >> 16).wrapping_add(probe) & (HALF - 1);
        if place == 0 {
            continue; // index 0 means "not known"
        }
        let index = half + place;
        let slot = host.client_hop(index)?;
        let present = slot.tag.get();
        if present == tag && read(&slot.hop, slot.mtu.get()) == *hop {
            return Some(index);
        }
        if present == 0 && host.compare_and_swap(&slot.tag, 0, BEING_WRITTEN) {
            write(slot, hop);
            host.compare_and_swap(&slot.tag, BEING_WRITTEN, tag);
            return Some(index);
        }
    }
    None
}

#[inline(always)]
fn write(slot: &ClientHop, hop: &Hop) {
    slot.mtu.set(hop.mtu);
    slot.hop.interface.set(hop.interface);
    slot.hop.destination_low.set(hop.macs[0]);
    slot.hop.middle.set(hop.macs[1]);
    slot.hop.source_high.set(hop.macs[2]);
}
