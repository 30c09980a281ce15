//! Programs for benchmarks: the packet path in a wrapper that makes each test run
//! see a fresh packet, programs to compare it with, and a traffic generator.
//!
//! A test run gives a program the frame as the run before left it, so the wrapper
//! writes the client's side again, and takes away what a tunnel has put in front. What
//! that costs is measured by wrappers around nothing ([`mode::REARM`], [`mode::GROW`]).
//! The wrapper is told what to do by the frame's last six bytes, which no program
//! touches.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch, core_intrinsics, macro_metavar_expr)]
#![allow(
    internal_features,
    reason = "there is no other way to an atomic on this target"
)]

mod generator;
mod maps;
mod packet;
mod parts;
mod routing;
mod store;
mod xdp;

use aya_ebpf::bindings::xdp_action;
use aya_ebpf::helpers::generated::bpf_xdp_adjust_head;
use aya_ebpf::macros::{classifier, map, xdp as xdp_program};
use aya_ebpf::maps::HashMap;
use aya_ebpf::programs::{TcContext, XdpContext};
use evenkeel_datapath::frame::{self, End, Endpoint, Packet, Parsed, protocol};
use evenkeel_datapath::general::Part;
use evenkeel_datapath::host::{Hop, Host, Window, count};
use evenkeel_datapath::layout::{endpoint_key, endpoint_kind, server_flags};
use evenkeel_datapath::state::{self, Direction};
use packet::{Bytes, distance, window};
use parts::all_parts;

/// What the wrapper runs, in the first of the frame's last six bytes.
mod mode {
    /// Nothing: the test run's own cost.
    pub const DROP: u8 = 0;
    /// MAC addresses swapped.
    pub const SWAP: u8 = 1;
    /// A fresh packet, MAC addresses swapped.
    pub const REARM: u8 = 2;
    /// A fresh packet through the packet path.
    pub const EVENKEEL: u8 = 3;
    /// A fresh packet through the same job with the kernel's hash map.
    pub const HASH_MAP: u8 = 4;
    /// The frame as it is through the packet path.
    pub const AS_IT_IS: u8 = 5;
    /// [`HASH_MAP`] with a larger map.
    pub const LARGE_HASH_MAP: u8 = 6;
    /// A server's fresh packet through the packet path.
    pub const REPLY: u8 = 7;
    /// A fresh packet, MAC addresses swapped, and as many bytes in front as a tunnel of
    /// IPv4 takes.
    pub const GROW: u8 = 8;
}

/// Bytes of a frame of IPv4, and of IPv6. None that has grown by a tunnel's headers is
/// as long as the other.
const FRAME: usize = 60;
const FRAME_IPV6: usize = 120;
/// Bytes at its end that tell what to do.
const ORDERS: usize = 6;
/// What a tunnel of IPv4 puts in front.
const IPIP: i32 = 20;

/// Runs what the frame asks for.
#[xdp_program]
pub fn evenkeel_xdp(context: XdpContext) -> u32 {
    let length = distance(context.data(), context.data_end()) as usize;
    let is_ipv6 = length >= FRAME_IPV6;
    let grown = length - if is_ipv6 { FRAME_IPV6 } else { FRAME };
    // SAFETY: plain numbers.
    if grown != 0 && unsafe { bpf_xdp_adjust_head(context.ctx, grown as i32) } != 0 {
        return xdp_action::XDP_ABORTED;
    }
    let wanted = if is_ipv6 {
        wanted::<FRAME_IPV6>(&context)
    } else {
        wanted::<FRAME>(&context)
    };
    match wanted {
        mode::DROP => xdp_action::XDP_DROP,
        mode::SWAP | mode::REARM => swap(&context),
        // SAFETY: plain numbers.
        mode::GROW if unsafe { bpf_xdp_adjust_head(context.ctx, -IPIP) } != 0 => {
            xdp_action::XDP_ABORTED
        }
        mode::GROW => swap(&context),
        // One place, so that the packet path is in the program once.
        mode::EVENKEEL | mode::AS_IT_IS | mode::REPLY => xdp::run(&context),
        mode::HASH_MAP => hash_map(&context, &HASH),
        mode::LARGE_HASH_MAP => hash_map(&context, &LARGE_HASH),
        _ => xdp_action::XDP_ABORTED,
    }
}

/// What the frame asks for, after writing it anew where that belongs to it.
#[inline(always)]
fn wanted<const LENGTH: usize>(context: &XdpContext) -> u8 {
    let Some(frame) = window(context.data(), context.data_end(), 0, LENGTH) else {
        return u8::MAX;
    };
    let wanted = frame.u8(LENGTH - ORDERS);
    if !matches!(wanted, mode::DROP | mode::SWAP | mode::AS_IT_IS) {
        rearm::<LENGTH>(frame, wanted == mode::REPLY);
    }
    wanted
}

macro_rules! parts {
    ($($part:ident: $xdp:ident, $tc:ident;)+) => {
        $(
            /// A part of the general way.
            #[xdp_program]
            pub fn $xdp(context: XdpContext) -> u32 {
                xdp::run_part(&context, Part::$part)
            }

            /// Only here because an instance has one.
            #[classifier]
            pub fn $tc(_context: TcContext) -> i32 {
                -1
            }
        )+
    };
}

all_parts!(parts);

macro_rules! at_tc {
    ($($name:ident)+) => {
        $(
            /// Only here because an instance has one.
            #[classifier]
            pub fn $name(_context: TcContext) -> i32 {
                -1
            }
        )+
    };
}

at_tc!(evenkeel_tc evenkeel_tc_egress evenkeel_tc_bare evenkeel_tc_bare_egress);

/// The present tick.
#[xdp_program]
pub fn evenkeel_clock(_context: XdpContext) -> u32 {
    maps::tick()
}

#[inline(always)]
fn swap(context: &XdpContext) -> u32 {
    let Some(frame) = window(context.data(), context.data_end(), 0, 14) else {
        return xdp_action::XDP_ABORTED;
    };
    let (a, b, c) = (frame.u32(0), frame.u32(4), frame.u32(8));
    frame.set_u32(0, b >> 16 | c << 16);
    frame.set_u32(4, c >> 16 | a << 16);
    frame.set_u32(8, a >> 16 | b << 16);
    xdp_action::XDP_TX
}

/// Bit of the second of the last six bytes: the flows come in another order. Flows that were opened in the
/// order in which they are met lie beside each other in some tables, as they never
/// do outside a benchmark.
const OTHER_ORDER: u8 = 1 << 7;

/// The flow at `position` of 2^`bits`: a permutation without any regular step, by
/// two rounds of what an odd multiplication and a shift do to the bits.
#[inline(always)]
fn flow(position: u32, bits: u32, other_order: bool) -> u32 {
    let mask = (1 << bits) - 1;
    let half = bits / 2 + 1;
    let odd = if other_order {
        0xC2B2_AE35
    } else {
        0x9E37_79B1
    };
    let x = position.wrapping_mul(odd) & mask;
    let x = (x ^ x >> half).wrapping_mul(odd) & mask;
    x ^ x >> half
}

/// Writes addresses, ports and time to live of the next of 2^n flows, in scattered order:
/// to 10.9.0.1:80, or for a reply from 10.2.0.11:8080. IPv6 has fd09::1, fd02::b and
/// clients in fd00::/96. A tunnel has moved the Ethernet header, so that is written, too.
#[inline(always)]
fn rearm<const LENGTH: usize>(frame: Bytes, is_reply: bool) {
    const PORTS: [u32; 2] = [80, 8080];
    let end = LENGTH - 4;
    let count = frame.u32(end);
    frame.set_u32(end, count.wrapping_add(1));
    let order = frame.u8(end - 1);
    let flow = flow(count, u32::from(order & 31), order & OTHER_ORDER != 0);
    let (client, port) = (0x0a00_0000 | flow >> 4, 1024 + (flow & 15));
    let end = PORTS[usize::from(is_reply)];
    let ports = if is_reply {
        end << 16 | port
    } else {
        port << 16 | end
    };
    // Whole words that are read whole: a load that needs the bytes of two stores
    // waits for both, and a packet from the wire has no such stores.
    if LENGTH == FRAME_IPV6 {
        frame.set_u16(12, 0x86dd_u16.to_be());
        let (own, of_client) = if is_reply { (22, 38) } else { (38, 22) };
        let network: u32 = if is_reply { 0xfd02_0000 } else { 0xfd09_0000 };
        write_ipv6(frame, own, network, if is_reply { 11 } else { 1 });
        write_ipv6(frame, of_client, 0xfd00_0000, client);
        frame.set_u8(21, 64);
        frame.set_u32(54, ports.to_be());
        return;
    }
    frame.set_u16(12, 0x0800_u16.to_be());
    let protocol = u16::from(frame.u8(23));
    frame.set_u16(22, (64 << 8 | protocol).to_be());
    let own: u32 = if is_reply { 0x0a02_000b } else { 0x0a09_0001 };
    let (from, to) = if is_reply {
        (own, client)
    } else {
        (client, own)
    };
    frame.set_u32(26, from.to_be());
    frame.set_u32(30, to.to_be());
    frame.set_u32(34, ports.to_be());
}

#[inline(always)]
fn write_ipv6(frame: Bytes, at: usize, network: u32, host: u32) {
    frame.set_u32(at, network.to_be());
    frame.set_u32(at + 4, 0);
    frame.set_u32(at + 8, 0);
    frame.set_u32(at + 12, host.to_be());
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Key {
    source: u32,
    destination: u32,
    ports: u32,
    protocol: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Connection {
    server: u32,
    state: u32,
    seen: u32,
    packets: u32,
}

/// Services by [`endpoint_key`].
#[map]
static SERVICE_HASH: HashMap<u64, u32> = HashMap::with_max_entries(1 << 10, 0);
// As many as the connection tables that they are compared with.
#[map]
static HASH: HashMap<Key, Connection> = HashMap::with_max_entries(1 << 18, 0);
#[map]
static LARGE_HASH: HashMap<Key, Connection> = HashMap::with_max_entries(1 << 21, 0);

/// What the packet path does for a client's TCP packet, with the kernel's hash map in
/// place of both of its tables: the same states, counters and rewriting, and the same
/// checks but for the MTU.
#[inline(always)]
fn hash_map(context: &XdpContext, map: &HashMap<Key, Connection>) -> u32 {
    let host = xdp::Kernel(context);
    let Parsed::Ipv4(packet) = frame::parse(&host) else {
        return xdp_action::XDP_PASS;
    };
    let Some(tcp) = host.window(packet.transport, 20) else {
        return xdp_action::XDP_PASS;
    };
    if packet.protocol != protocol::TCP || u32::from(tcp.u8(12) >> 4) * 4 > packet.payload() {
        return xdp_action::XDP_PASS;
    }
    let ports = tcp.u32(0);
    let port = (ports >> 16) as u16;
    let service = endpoint_key(
        packet.destination,
        port,
        protocol::TCP,
        endpoint_kind::SERVICE,
    );
    if SERVICE_HASH.get_ptr(&service).is_none() {
        // The only service that there is; once.
        let _ = SERVICE_HASH.insert(&service, &0, 0);
    }
    if !host.is_for_us(packet.head)
        || !host.can_change_checksum(tcp.u16(16), packet.pseudo_header())
    {
        return xdp_action::XDP_PASS;
    }
    let key = Key {
        source: packet.source,
        destination: packet.destination,
        ports,
        protocol: u32::from(protocol::TCP),
    };
    let Some(found) = map.get_ptr_mut(&key) else {
        let new = Connection {
            server: (key.source >> 24) % 2,
            state: state::SYN_RECV,
            seen: maps::tick(),
            packets: 0,
        };
        let _ = map.insert(&key, &new, 0);
        return xdp_action::XDP_TX;
    };
    // SAFETY: the kernel gave out a pointer to a value of the map.
    let connection = unsafe { &mut *found };
    connection.seen = maps::tick();
    connection.packets += 1;
    connection.state = state::next_tcp(connection.state, tcp.u8(13), Direction::Input);
    send(&host, &packet, connection.server, port)
}

/// Counts for the server, translates the packet to it and sends it.
#[inline(always)]
fn send(host: &xdp::Kernel<'_>, packet: &Packet<Bytes>, server: u32, port: u16) -> u32 {
    let (Some(record), Some(counters)) = (maps::server(server), maps::counters(server)) else {
        return xdp_action::XDP_DROP;
    };
    if record.flags.get() & server_flags::ALIVE == 0 || packet.ttl() <= 1 {
        return xdp_action::XDP_DROP;
    }
    count(&counters.in_packets, 1);
    count(&counters.in_bytes, u64::from(packet.length));
    let before = Endpoint {
        address: packet.destination,
        port,
    };
    let after = Endpoint {
        address: record.address.get(),
        port: record.ports.get() as u16,
    };
    let hop = &record.hops[(record.flags.get() & server_flags::HOP) as usize];
    let hop = Hop {
        interface: hop.interface.get(),
        macs: [
            hop.destination_low.get(),
            hop.middle.get(),
            hop.source_high.get(),
        ],
        mtu: 0,
    };
    if !frame::translate(host, packet, End::Destination, before, after)
        || !frame::set_macs(host, &hop)
    {
        return xdp_action::XDP_DROP;
    }
    xdp_action::XDP_TX
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 4] = *b"GPL\0";
