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

pub mod checksum;
#[cfg(not(target_arch = "bpf"))]
pub mod copied;
pub mod crc;
pub mod endpoint;
pub mod evict;
pub mod forward;
pub mod frame;
pub mod general;
pub mod hash;
mod hop;
pub mod host;
pub mod layout;
pub mod load;
pub mod locality;
#[cfg(not(target_arch = "bpf"))]
pub mod memory;
mod opening;
mod reason;
pub mod relocate;
pub mod room;
pub mod schedule;
pub mod short;
#[cfg(not(target_arch = "bpf"))]
pub mod simulated;
pub mod spread;
pub mod state;
pub mod table;
pub mod tree;
mod tunnel;
pub mod word;

pub use forward::{Verdict, process};
pub use reason::Reason;

/// Counts `reason` on this CPU.
#[inline(always)]
pub fn count_reason<S: host::Store>(store: &S, reason: Reason) {
    if let Some(reasons) = store.reasons()
        && let Some(counter) = reasons.counts.get(reason as usize)
    {
        host::count(counter, 1);
    }
}
