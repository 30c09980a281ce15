//! The command `genhash`.

pub mod tls;
