//! Every way to a real server, with the real binary, real clients and real servers:
//! forwarding methods by IP versions by protocols by hooks, every checksum on the wire
//! looked at; and kinds of services and schedulers that are told by where clients get.
//!
//! Each test runs in a sandbox of its own, which leaves nothing behind.

mod devices;
mod flood;
mod kinds;
mod marks;
mod methods;
mod path_mtu;
mod sctp;
mod traffic;
mod tunnelled;
mod watch;
mod world;
