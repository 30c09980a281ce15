//! What the tests of the ipvsadm command share.

#![allow(dead_code, reason = "each test program uses a part of it")]

pub(crate) mod daemon;
pub(crate) mod network;
pub(crate) mod page;
pub(crate) mod recording;
pub(crate) mod replay;
