//! Where addresses are, by the kernel's own routing and neighbour tables.

use aya_ebpf::cty::c_void;
use aya_ebpf::helpers::generated::bpf_fib_lookup;
use evenkeel_datapath::host::{Hop, Route, RouteAnswer};
use evenkeel_datapath::layout::Address;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
/// Return values of the helper, `linux/bpf.h`: `BPF_FIB_LKUP_RET_*`.
mod answer {
    pub(super) const SUCCESS: i64 = 0;
    pub(super) const FORWARDING_DISABLED: i64 = 5;
    pub(super) const NO_NEIGHBOUR: i64 = 7;
}

/// `struct bpf_fib_lookup`.
#[repr(C)]
struct Query {
    family: u8,
    protocol: u8,
    ports: [u16; 2],
    /// In: the packet's length. Out: the way's MTU.
    length_or_mtu: u16,
    /// In: the interface it came by. Out: the one it leaves by.
    interface: u32,
    tos: u32,
    source: [u32; 4],
    destination: [u32; 4],
    vlan: u32,
    /// Source, then destination.
    macs: [u32; 3],
}

const _: () = assert!(size_of::<Query>() == 64);

/// Asks the kernel as if an IPv4 packet were to be forwarded.
#[inline(always)]
pub fn lookup(
    context: *mut c_void,
    interface: u32,
    source: u32,
    destination: u32,
    protocol: u8,
) -> Route {
    ask(
        context,
        interface,
        AF_INET,
        [source, 0, 0, 0],
        [destination, 0, 0, 0],
        protocol,
    )
}

/// Asks the kernel as if an IPv6 packet were to be forwarded.
#[inline(always)]
pub fn wide_lookup(
    context: *mut c_void,
    interface: u32,
    source: Address,
    destination: Address,
    protocol: u8,
) -> Route {
    ask(context, interface, AF_INET6, source, destination, protocol)
}

#[inline(always)]
fn ask(
    context: *mut c_void,
    interface: u32,
    family: u8,
    source: Address,
    destination: Address,
    protocol: u8,
) -> Route {
    let mut query = Query {
        family,
        protocol,
        ports: [0; 2],
        // Not 0: the kernel then tells the MTU and leaves its check to us.
        length_or_mtu: 1,
        interface,
        tos: 0,
        source,
        destination,
        vlan: 0,
        macs: [0; 3],
    };
    let size = size_of::<Query>() as i32;
    // SAFETY: context and structure are what the helper takes; the size is right.
    let result = unsafe { bpf_fib_lookup(context, (&raw mut query).cast(), size, 0) };
    match result {
        answer::SUCCESS => {
            // In a frame it is the other way round: destination, then source.
            let [a, b, c] = query.macs;
            let (from, to) = ([a, b & 0xffff], [b >> 16 | c << 16, c >> 16]);
            // Who has no address, or the interface's own, is the other end of a tunnel or the
            // like. Packets have no Ethernet header there; the kernel knows how to take it off.
            if to == [0; 2] || to == from {
                return unresolved(query.interface, query.length_or_mtu.into());
            }
            let hop = Hop {
                interface: query.interface,
                macs: [to[0], to[1] | a << 16, a >> 16 | b << 16],
                mtu: u32::from(query.length_or_mtu),
            };
            Route {
                answer: RouteAnswer::Ready,
                hop,
            }
        }
        answer::NO_NEIGHBOUR => unresolved(query.interface, 0),
        answer::FORWARDING_DISABLED => Route::without_hop(RouteAnswer::ForwardingOff),
        _ => Route::without_hop(RouteAnswer::None),
    }
}

#[inline(always)]
const fn unresolved(interface: u32, mtu: u32) -> Route {
    Route {
        answer: RouteAnswer::Unresolved,
        hop: Hop {
            interface,
            macs: [0; 3],
            mtu,
        },
    }
}
