//! Checks' dialogues as values: what is said to a server, and what its answers mean. Who
//! runs one has the socket and the clock.
//!
//! | module | speaks |
//! |---|---|
//! | [`ldap`] | LDAP: a bind and a search |
//! | [`mysql`] | `MySQL` and `MariaDB`: a session and a query |
//! | [`postgres`] | `PostgreSQL`: a session and a query |
//! | [`redis`] | Redis: `PING` or a query |

pub mod ldap;
pub mod mysql;
pub mod postgres;
pub mod redis;
mod scram;

use alloc::string::String;
use alloc::vec::Vec;

/// What became of a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The server is well, with what was seen, in words.
    Passed(String),
    /// It is not, and why, in words.
    Failed(String),
    /// It is well, and says which weight it wants to have.
    Weight(u32),
    /// It is well, and changes the weight that the configuration gives by this.
    Change(i64),
}

impl Verdict {
    /// True unless it failed.
    #[must_use]
    pub const fn is_good(&self) -> bool {
        !matches!(self, Self::Failed(_))
    }
}

/// What comes next in a dialogue over a stream of bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// These bytes are sent, then more is read.
    Send(Vec<u8>),
    /// More is read.
    Read,
    /// These bytes are sent, then TLS begins on the connection; once it stands, the dialogue
    /// goes on with [`Dialogue::connected`].
    Secure(Vec<u8>),
    /// These bytes are sent, and it is over when the other side closes or after its time;
    /// the verdict stands.
    Bye(Vec<u8>, Verdict),
    /// It is over.
    Done(Verdict),
}

/// A dialogue over a stream of bytes, be it TCP or TLS.
pub trait Dialogue {
    /// The connection is there, or TLS that was asked for on it ([`Next::Secure`]).
    fn connected(&mut self) -> Next;
    /// Bytes have come; not empty.
    fn received(&mut self, bytes: &[u8]) -> Next;
    /// The other side has closed in an orderly way.
    fn closed(&mut self) -> Verdict;
}
