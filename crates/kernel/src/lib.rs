//! The only crate that talks to Linux: BPF, links to interfaces, netlink, the
//! process's own privileges. What to do with all that is decided elsewhere.
//!
//! - [`dataplane`]: an instance's programs and memory, made or found again
//! - [`attach`]: puts the programs on interfaces
//! - [`fifo`], [`files`]: named pipes, and files read on others' behalf
//! - [`network`]: links, neighbours and routes, and what changes among them
//! - [`process`]: programs that the daemon starts
//! - [`realserver`]: addresses, tunnels and settings of a real server
//! - [`system`]: the machine and this process
//! - [`test_run`]: runs a program on a packet of ours
//!
//! Calls block for as long as the kernel takes, some microseconds; only
//! [`dataplane::Dataplane::open`] and dumps may take more.
pub mod attach;
#[allow(unsafe_code, reason = "bpf(2) takes addresses and gives descriptors")]
mod bpf;
pub mod dataplane;
pub mod error;
pub mod fifo;
pub mod files;
#[allow(unsafe_code, reason = "mapped memory is shared with the kernel")]
mod mapping;
#[allow(
    unsafe_code,
    reason = "tokio wants a promise about a descriptor's owner"
)]
mod netlink;
pub mod network;
mod pins;
#[allow(
    unsafe_code,
    reason = "between fork and exec a child becomes another user"
)]
pub mod process;
mod program;
pub mod realserver;
pub mod sizes;
pub mod system;
pub mod test_run;

pub use error::{Error, Result};
pub use program::Program;
