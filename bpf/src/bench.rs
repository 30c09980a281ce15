//! Programs for benchmarks: the packet path in a wrapper that makes each test run
//! see a fresh packet, programs to compare it with, and a traffic generator.
//!
//! A test run gives a program the frame as the run before left it, so the wrapper
//! writes the client's side again. What that costs is measured by a wrapper around
//! nothing ([`mode::REARM`]). The wrapper is told what to do by the frame's last
//! six bytes, which no program touches.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch, core_intrinsics)]
#![allow(
    internal_features,
    reason = "there is no other way to an atomic on this target"
)]

mod generator;
mod maps;
mod packet;
mod routing;
mod xdp;

use aya_ebpf::bindings::xdp_action;
use aya_ebpf::macros::{classifier, map, xdp as xdp_program};
use aya_ebpf::maps::HashMap;
use aya_ebpf::programs::{TcContext, XdpContext};
use evenkeel_datapath::checksum;
use evenkeel_datapath::host::Window;
use packet::{Bytes, window};

/// What the wrapper runs, in byte 54 of the frame.
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
}

const FRAME: usize = 60;

/// Runs what the frame asks for.
#[xdp_program]
pub fn evenkeel_xdp(context: XdpContext) -> u32 {
    let Some(frame) = window(context.data(), context.data_end(), 0, FRAME) else {
        return xdp_action::XDP_ABORTED;
    };
    let wanted = frame.u8(54);
    if !matches!(wanted, mode::DROP | mode::SWAP | mode::AS_IT_IS) {
        rearm(frame);
    }
    match wanted {
        mode::DROP => xdp_action::XDP_DROP,
        mode::SWAP | mode::REARM => swap(frame),
        // One place, so that the packet path is in the program once.
        mode::EVENKEEL | mode::AS_IT_IS => xdp::run(&context),
        mode::HASH_MAP => hash_map(frame),
        _ => xdp_action::XDP_ABORTED,
    }
}

/// Only here because an instance has one.
#[classifier]
pub fn evenkeel_tc(_context: TcContext) -> i32 {
    -1
}

/// The present tick.
#[xdp_program]
pub fn evenkeel_clock(_context: XdpContext) -> u32 {
    maps::tick()
}

#[inline(always)]
fn swap(frame: Bytes) -> u32 {
    let (a, b, c) = (frame.u32(0), frame.u32(4), frame.u32(8));
    frame.set_u32(0, b >> 16 | c << 16);
    frame.set_u32(4, c >> 16 | a << 16);
    frame.set_u32(8, a >> 16 | b << 16);
    xdp_action::XDP_TX
}

/// Writes addresses, ports and time to live of the next of 2^(byte 55) flows, in
/// scattered order, to 10.9.0.1:80.
#[inline(always)]
fn rearm(frame: Bytes) {
    let count = frame.u32(56);
    frame.set_u32(56, count.wrapping_add(1));
    let flows = 1_u32 << (frame.u8(55) & 31);
    let flow = count.wrapping_mul(0x9E37_79B1) & (flows - 1);
    frame.set_u8(22, 64);
    frame.set_u32(26, (0x0a00_0000 | flow >> 4).to_be());
    frame.set_u16(34, (1024 + (flow & 15) as u16).to_be());
    frame.set_u32(30, 0x0a09_0001_u32.to_be());
    frame.set_u16(36, 80_u16.to_be());
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
    address: u32,
    port: u32,
    macs: [u32; 3],
    tick: u32,
    packets: u64,
    bytes: u64,
}

#[map]
static HASH: HashMap<Key, Connection> = HashMap::with_max_entries(1 << 21, 0);

/// Looks the connection up in the kernel's hash map, opens it if it is not there,
/// and translates and sends as the packet path does: next hop in the entry, jiffies
/// for a clock, checksums by hand.
#[inline(never)]
fn hash_map(frame: Bytes) -> u32 {
    if frame.u16(12) != 0x0800_u16.to_be() || frame.u8(14) != 0x45 || frame.u8(23) != 6 {
        return xdp_action::XDP_PASS;
    }
    let key = Key {
        source: frame.u32(26),
        destination: frame.u32(30),
        ports: frame.u32(34),
        protocol: 6,
    };
    let Some(found) = HASH.get_ptr_mut(&key) else {
        let server = 0x0a02_0000 | 11 + (key.source >> 24) % 2;
        let new = Connection {
            address: server.to_be(),
            port: u32::from(8080_u16.to_be()),
            macs: [0x0002_0002, 0x0002_0300, 0x0203_0405],
            tick: maps::tick(),
            packets: 0,
            bytes: 0,
        };
        let _ = HASH.insert(&key, &new, 0);
        return xdp_action::XDP_TX;
    };
    // SAFETY: the kernel gave out a pointer to a value of the map.
    let connection = unsafe { &mut *found };
    connection.tick = maps::tick();
    connection.packets += 1;
    connection.bytes += 46;
    let address = checksum::difference32(key.destination, connection.address);
    let port = connection.port as u16;
    let ports = checksum::difference16(frame.u16(36), port);
    let ttl = frame.u16(22);
    frame.set_u8(22, frame.u8(22).wrapping_sub(1));
    let ttl = checksum::difference16(ttl, frame.u16(22));
    frame.set_u16(
        24,
        checksum::update(frame.u16(24), u64::from(address) + u64::from(ttl)),
    );
    frame.set_u16(
        50,
        checksum::update(frame.u16(50), u64::from(address) + u64::from(ports)),
    );
    frame.set_u32(30, connection.address);
    frame.set_u16(36, port);
    frame.set_u32(0, connection.macs[0]);
    frame.set_u32(4, connection.macs[1]);
    frame.set_u32(8, connection.macs[2]);
    xdp_action::XDP_TX
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 4] = *b"GPL\0";
