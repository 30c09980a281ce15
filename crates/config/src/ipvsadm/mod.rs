//! The command line of `ipvsadm` 1.31, as pure functions: words in, an edit or
//! what to list out, and listings, saved rules and messages as text.
//!
//! The steps, each a module: words (popt's rules), options and the
//! table of what goes with what, and the grammar that makes a [`Command`] of them.
//! Names are looked up through [`Names`], so nothing here does IO.

mod address;
mod boot;
mod command;
mod connections;
mod draft;
mod ends;
mod flags;
mod grammar;
mod listing;
mod messages;
mod options;
mod order;
mod restore;
mod rules;
mod save;
mod table;
mod whole;
mod words;

// Part of the signature of `Names`.
pub use evenkeel_core::model::Protocol;

pub use address::{Names, NoNames};
pub use boot::{DEFAULTS_FILE, Defaults, RULES_FILE, Remark, Rules, defaults, rules};
pub use command::{Columns, Command, Layout, List, Listed, SyncDaemon, SyncRole, Usage};
pub use connections::{connection, connections_title, decimal, ipv4_end};
pub(crate) use flags::parse as scheduler_flags;
pub use grammar::parse;
pub use listing::{listing, timeouts};
pub use messages::{Refused, refused};
pub use restore::{parse_line, words_of_line};
pub use save::{SAVE_USAGE, save, save_all};
pub use table::{configuration, is_rules};

/// What `-h` prints.
pub const HELP: &str = include_str!("help.txt");

/// What `-v` prints.
pub const VERSION: &str = "ipvsadm v1.31 2019/12/24 (compiled with popt and IPVS v1.2.1)\n";
