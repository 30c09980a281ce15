//! A traffic generator: run as a live-frame test, it writes each frame anew and
//! sends it out of an interface.

use crate::packet::{Bytes, window};
use aya_ebpf::bindings::xdp_action;
use aya_ebpf::helpers::generated::bpf_redirect;
use aya_ebpf::macros::{map, xdp};
use aya_ebpf::maps::Array;
use aya_ebpf::programs::XdpContext;
use evenkeel_datapath::checksum::fold;
use evenkeel_datapath::host::Window;

/// What is sent. Addresses as they stand in a packet.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Traffic {
    /// Interface to send on.
    pub interface: u32,
    /// Source address.
    pub source: u32,
    /// Destination address.
    pub destination: u32,
    /// Number of source ports, a power of two, 32,768 at most.
    pub flows: u32,
    /// Destination port, host order.
    pub port: u16,
    /// 6 or 17.
    pub protocol: u16,
    /// Destination MAC address.
    pub destination_mac: [u8; 6],
    /// Source MAC address.
    pub source_mac: [u8; 6],
    /// TCP: 1 for SYN, 0 for ACK.
    pub syn: u32,
}

#[map]
static GENERATOR: Array<Traffic> = Array::with_max_entries(1, 0);
#[map]
static COUNT: Array<u64> = Array::with_max_entries(1, 0);

const FRAME: usize = 60;
const LENGTH: u16 = 46;

/// Writes the next frame and sends it.
#[xdp]
pub fn generator(context: XdpContext) -> u32 {
    let (Some(traffic), Some(count)) = (GENERATOR.get(0), COUNT.get_ptr_mut(0)) else {
        return xdp_action::XDP_DROP;
    };
    let Some(frame) = window(context.data(), context.data_end(), 0, FRAME) else {
        return xdp_action::XDP_DROP;
    };
    // SAFETY: the kernel gave out a pointer to the value; one CPU generates.
    let number = unsafe {
        *count += 1;
        *count as u32
    };
    let flow = number.wrapping_mul(0x9E37_79B1) & traffic.flows.wrapping_sub(1);
    write(frame, traffic, 1024 + (flow & 0x7fff) as u16);
    // SAFETY: plain numbers.
    unsafe { bpf_redirect(traffic.interface, 0) as u32 }
}

/// Where [`limit`] sends.
#[map]
static LIMIT: Array<Traffic> = Array::with_max_entries(1, 0);

/// Sends every frame of the flood on with other MAC addresses: the least that a
/// director at XDP does.
#[xdp]
pub fn limit(context: XdpContext) -> u32 {
    let Some(traffic) = LIMIT.get(0) else {
        return xdp_action::XDP_PASS;
    };
    let Some(frame) = window(context.data(), context.data_end(), 0, FRAME) else {
        return xdp_action::XDP_PASS;
    };
    // Stacks make other frames than this; they have timestamps.
    if context.data_end() - context.data() != FRAME {
        return xdp_action::XDP_PASS;
    }
    set_macs(frame, traffic);
    // SAFETY: plain numbers.
    unsafe { bpf_redirect(traffic.interface, 0) as u32 }
}

/// Takes every frame. A virtual interface that has a program takes frames which the
/// other end's XDP sends, and does not gather them first as with GRO.
#[xdp]
pub fn pass(_context: XdpContext) -> u32 {
    xdp_action::XDP_PASS
}

#[inline(always)]
fn set_macs(frame: Bytes, traffic: &Traffic) {
    for at in 0..6 {
        frame.set_u8(at, traffic.destination_mac[at]);
        frame.set_u8(6 + at, traffic.source_mac[at]);
    }
}

#[inline(always)]
fn write(frame: Bytes, traffic: &Traffic, port: u16) {
    set_macs(frame, traffic);
    frame.set_u16(12, 0x0800_u16.to_be());
    frame.set_u16(14, 0x4500_u16.to_be());
    frame.set_u16(16, LENGTH.to_be());
    frame.set_u32(18, 0);
    frame.set_u16(22, (64 << 8 | traffic.protocol).to_be());
    frame.set_u32(26, traffic.source);
    frame.set_u32(30, traffic.destination);
    let addresses = u64::from(traffic.source) + u64::from(traffic.destination);
    let fixed = 0x4500_u16.to_be() as u64 + LENGTH.to_be() as u64 + frame.u16(22) as u64;
    frame.set_u16(24, !fold(addresses + fixed));
    frame.set_u16(34, port.to_be());
    frame.set_u16(36, traffic.port.to_be());
    if traffic.protocol == 17 {
        frame.set_u16(38, 26_u16.to_be());
        frame.set_u16(40, 0);
        return;
    }
    let flags: u16 = if traffic.syn != 0 { 0x5002 } else { 0x5010 };
    frame.set_u32(38, 1_u32.to_be());
    frame.set_u32(42, 0);
    frame.set_u16(46, flags.to_be());
    frame.set_u16(48, 0xffff);
    frame.set_u32(50, 0);
    frame.set_u32(54, 0);
    frame.set_u16(58, 0);
    let pseudo = addresses + u64::from(6_u16.to_be()) + u64::from(26_u16.to_be());
    let header = u64::from(port.to_be())
        + u64::from(traffic.port.to_be())
        + u64::from(1_u32.to_be())
        + u64::from(flags.to_be())
        + 0xffff;
    frame.set_u16(50, !fold(pseudo + header));
}
