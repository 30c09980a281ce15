//! Checks' dialogues as values: what is said to a server, and what its answers mean. Who
//! runs one has the socket and the clock.
//!
//! | module | speaks | it is well when | kept in memory at most |
//! |---|---|---|---|
//! | [`http`] | `GET` of one page | the other side has closed and status, digest and expression fit | 4 KiB of header; with an expression twice 64 KiB of the answer |
//! | [`smtp`] | `HELO`, `QUIT` | 220, 250, and any line | 511 bytes |
//! | [`dns`] | one query | an answer to it says no error | the query |
//! | [`udp`] | one datagram | what comes back is as expected | nothing |
//! | [`postgres`], [`mysql`] | a session's start, a query | it stands, the query gives a row | 64 KiB of a message |
//! | [`redis`] | `PING`, or a query | `PONG`, or anything but an error or nothing | 4 KiB of a line |
//! | [`ldap`] | a bind, a search | the entry is there | 64 KiB of a message |
//!
//! The first four send what keepalived 2.2.7 sends, and their verdicts are its verdicts;
//! `docs/deviations.md` lists where not. None of them ends an answer that goes on for ever:
//! that is left to the deadline of whoever runs it.

pub mod dns;
pub mod http;
pub mod ldap;
pub mod mysql;
pub mod postgres;
pub mod redis;
mod scram;
pub mod smtp;
#[cfg(test)]
mod tests;
pub mod udp;

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
    /// The other side has closed in an orderly way. Over TLS every end counts as that, as
    /// many servers leave out its goodbye; over TCP a reset does not, and is a failure.
    fn closed(&mut self) -> Verdict;
}
