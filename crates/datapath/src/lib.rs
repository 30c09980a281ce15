//! The way of a packet through a director, from the frame to the verdict, and the
//! memory that the packet path shares with the daemon.
//!
//! The same source is compiled for the kernel (XDP and tc, see `bpf/`) and for the
//! host (tests, fuzzing, a reference). What differs is the [`host::Host`]: packet
//! bytes, maps, clock, routing. There is no allocation, no panic and no loop
//! without a small constant bound, because the BPF verifier accepts none.
#![no_std]

#[cfg(not(target_arch = "bpf"))]
extern crate std;

pub mod hash;
pub mod layout;
#[cfg(not(target_arch = "bpf"))]
pub mod memory;
pub mod state;
pub mod word;
