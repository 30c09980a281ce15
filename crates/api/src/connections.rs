//! `GET /v1/connections`: which are asked for, and how one is written.
//!
//! The answer has a line for each connection, a JSON array that is short because there
//! may be millions:
//!
//! `[6,"ESTABLISHED",899,"10.0.0.2:43986","10.0.0.10:80","192.168.1.1:8080","masq",""]`
//!
//! Its elements: protocol by number (0: a template of all of a client's protocols),
//! state, seconds to live, client, virtual address, server, forwarding method, and
//! letters for what is true of it: `t` it is a template, `d` its server was deleted,
//! `q` its server has weight 0, `l` its server is the director itself. Behind these, if
//! there are such: firewall mark (0: none), persistence engine, the engine's data.

mod query;
mod row;

pub use evenkeel_core::connections::{End, Filter, Templates};
pub use query::{END_FORMS, Query, end, end_text, protocol, protocol_text};
pub use row::{decode, encode};
