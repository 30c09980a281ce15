//! The commands of the binary, as a library so that tests can run them in their
//! own process.

pub mod genhash;
pub mod ipvsadm;
