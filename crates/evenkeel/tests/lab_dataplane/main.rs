//! The real binary in networks of namespaces: what the packet path does to
//! traffic while the daemon, the servers and the network change.
//!
//! Each test runs in a sandbox of its own, which leaves nothing behind.

mod bytes;
mod configuration;
mod flood;
mod health;
mod icmp;
mod itself;
mod lifecycle;
mod local;
mod network;
mod privileges;
mod scheduling;
mod trace;
mod tunnelled;
mod web;
mod world;
