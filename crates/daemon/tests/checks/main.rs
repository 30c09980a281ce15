//! Checks against the programs that they are for, each started on loopback in a sandbox.

mod databases;
mod network;
mod peer;
mod tls;
