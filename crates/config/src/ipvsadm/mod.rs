//! The command line of `ipvsadm` 1.31, as pure functions: words in, an edit or
//! a request for a listing out, and listings, saved rules and messages as text.
//!
//! The steps, each a module: words (popt's rules), options and the
//! table of what goes with what, the grammar that makes a [`Command`] of them,
//! and the [`Request`] that a command is for the director. Names are
//! looked up through [`Names`], so nothing here does IO.

mod address;
mod command;
mod draft;
mod flags;
mod grammar;
mod listing;
mod messages;
mod options;
mod order;
mod request;
mod restore;
mod rules;
mod save;
mod whole;
mod words;

// Part of the signature of `Names`.
pub use evenkeel_core::model::Protocol;

pub use address::{Names, NoNames};
pub use command::{
    Command, List, Listed, Netmask, Server, Service, SyncDaemon, SyncRole, Tunnel, TunnelChecksum,
    Usage, VirtualService,
};
pub use grammar::parse;
pub use listing::{Layout, listing, timeouts};
pub use messages::{Refused, refused};
pub use request::{NotSupported, Request, request};
pub use restore::{line_usage, words_of_line};
pub use save::{SAVE_USAGE, save};

/// What `-h` prints.
pub const HELP: &str = include_str!("help.txt");

/// What `-v` prints.
pub const VERSION: &str = "ipvsadm v1.31 2019/12/24 (compiled with popt and IPVS v1.2.1)\n";
