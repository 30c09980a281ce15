//! Evenkeel's logic, without IO, clock or threads: what is wanted (the model),
//! what may be asked (edits), and what that means for the dataplane's memory
//! (the planner). `no_std` so that the compiler holds it to that.
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod client_hops;
pub mod connections;
pub mod director;
pub mod estimate;
pub mod health;
pub mod model;
pub mod probe;
pub mod sweep;
