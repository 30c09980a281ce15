//! Entry points: XDP, tc, and a clock. What they do with a packet is in
//! `evenkeel-datapath`; here are only the kernel's ways to packet, memory, clock
//! and routing.
#![no_std]
#![no_main]
// The kernel's atomics are intrinsics for the BPF target, and hiding a value from
// the optimiser takes an empty assembler statement.
#![feature(asm_experimental_arch, core_intrinsics)]
#![allow(
    internal_features,
    reason = "there is no other way to an atomic on this target"
)]

mod maps;
mod packet;
mod routing;
mod store;
mod tc;
mod xdp;

use aya_ebpf::macros::{classifier, xdp as xdp_program};
use aya_ebpf::programs::{TcContext, XdpContext};
use evenkeel_datapath::general::Part;

/// The accelerator on interfaces with native XDP.
#[xdp_program]
pub fn evenkeel_xdp(context: XdpContext) -> u32 {
    xdp::run(&context)
}

/// The whole packet path, on every interface.
#[classifier]
pub fn evenkeel_tc(context: TcContext) -> i32 {
    tc::run(&context)
}

macro_rules! parts {
    ($($part:ident: $xdp:ident, $tc:ident;)+) => {
        $(
            /// A part of the general way in the accelerator.
            #[xdp_program]
            pub fn $xdp(context: XdpContext) -> u32 {
                xdp::run_part(&context, Part::$part)
            }

            /// The same at tc.
            #[classifier]
            pub fn $tc(context: TcContext) -> i32 {
                tc::run_part(&context, Part::$part)
            }
        )+
    };
}

parts! {
    General: evenkeel_xdp_general, evenkeel_tc_general;
    Inbound: evenkeel_xdp_inbound, evenkeel_tc_inbound;
    WideInbound: evenkeel_xdp_wide_inbound, evenkeel_tc_wide_inbound;
    OnePacket: evenkeel_xdp_one_packet, evenkeel_tc_one_packet;
    Outbound: evenkeel_xdp_outbound, evenkeel_tc_outbound;
    WideOutbound: evenkeel_xdp_wide_outbound, evenkeel_tc_wide_outbound;
    Choose: evenkeel_xdp_choose, evenkeel_tc_choose;
    Icmp: evenkeel_xdp_icmp, evenkeel_tc_icmp;
    Answer: evenkeel_xdp_answer, evenkeel_tc_answer;
    Fragment: evenkeel_xdp_fragment, evenkeel_tc_fragment;
    Translated: evenkeel_xdp_translated, evenkeel_tc_translated;
    Translate: evenkeel_xdp_translate, evenkeel_tc_translate;
    Open: evenkeel_xdp_open, evenkeel_tc_open;
    WideOpen: evenkeel_xdp_wide_open, evenkeel_tc_wide_open;
    Deliver: evenkeel_xdp_deliver, evenkeel_tc_deliver;
    TunnelError: evenkeel_xdp_tunnel_error, evenkeel_tc_tunnel_error;
    IcmpDeliver: evenkeel_xdp_icmp_deliver, evenkeel_tc_icmp_deliver;
    TranslatedIcmp: evenkeel_xdp_translated_icmp, evenkeel_tc_translated_icmp;
    IcmpOpen: evenkeel_xdp_icmp_open, evenkeel_tc_icmp_open;
    Nobody: evenkeel_xdp_nobody, evenkeel_tc_nobody;
    Segment: evenkeel_xdp_segment, evenkeel_tc_segment;
}

/// The present tick, for a daemon that asks by a test run.
#[xdp_program]
pub fn evenkeel_clock(_context: XdpContext) -> u32 {
    maps::tick()
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // Nothing in the packet path can panic; the compiler wants the function.
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 4] = *b"GPL\0";
