//! Networks of namespaces with hosts, servers and clients in them: for
//! `evenkeel lab`, for tests and for benchmarks.
//!
//! - [`sandbox`]: a world of one's own (processes, mounts, network) that is gone
//!   when the lab ends, however it ends;
//! - [`topology`]: hosts and links as values, and building them;
//! - [`host`]: running things on a host of it;
//! - [`process`], [`http`], [`apache`], [`mail`], [`director`], [`decapsulate`]: what runs
//!   there;
//! - [`capture`], [`wire`]: frames as they arrive, and every checksum in them;
//! - [`vm`]: a machine with another kernel, emulated, on the lab's network;
//! - [`wait`]: waiting for a condition with a deadline;
//! - [`session`]: commands in documentation, run and compared;
//! - [`case1`], [`case3`]: field cases; [`mod@bench`]: the network of the benchmarks.
//!
//! Everything here needs root, and the programs that `scripts/setup lab` installs;
//! [`vm`] takes what `scripts/setup vm` unpacks.

pub mod apache;
pub mod bench;
pub mod capture;
pub mod case1;
pub mod case3;
pub mod decapsulate;
pub mod director;
pub mod draw;
pub mod host;
pub mod http;
pub mod ifupdown;
pub mod keepalived;
pub mod mail;
pub mod process;
pub mod report;
pub mod sandbox;
pub mod session;
pub mod topology;
pub mod vm;
pub mod wait;
pub mod wire;
