//! Entry points: XDP, tc, and a clock. What they do with a packet is in
//! `evenkeel-datapath`; here are only the kernel's ways to packet, memory, clock
//! and routing.
#![no_std]
#![no_main]
// The kernel's atomics are intrinsics for the BPF target, and hiding a value from
// the optimiser takes an empty assembler statement.
#![feature(asm_experimental_arch, core_intrinsics, macro_metavar_expr)]
#![allow(
    internal_features,
    reason = "there is no other way to an atomic on this target"
)]

mod maps;
mod packet;
mod parts;
mod routing;
mod store;
mod tc;
mod xdp;

use aya_ebpf::macros::{classifier, xdp as xdp_program};
use aya_ebpf::programs::{TcContext, XdpContext};
use evenkeel_datapath::general::Part;
use parts::all_parts;

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

/// Answers of servers on this machine, where they leave it.
#[classifier]
pub fn evenkeel_tc_egress(context: TcContext) -> i32 {
    tc::run_egress(&context)
}

/// The packet path on interfaces whose packets have no link-layer header.
#[classifier]
pub fn evenkeel_tc_bare(context: TcContext) -> i32 {
    tc::run_bare(&context)
}

/// Answers of servers on this machine, where they leave it without a link-layer header.
#[classifier]
pub fn evenkeel_tc_bare_egress(context: TcContext) -> i32 {
    tc::run_bare_egress(&context)
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

all_parts!(parts);

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
