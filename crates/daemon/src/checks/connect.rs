//! Sockets to servers, made as a check's [`Connect`] says.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::time::Duration;

use evenkeel_core::model::Connect;
use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tokio::io::Interest;
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio::time::timeout;

use super::words;

/// A TCP connection.
///
/// # Errors
/// Why there is none, in words.
pub(super) async fn tcp(connect: &Connect) -> Result<TcpStream, String> {
    let socket = prepared(connect, Type::STREAM, Some(Protocol::TCP))?;
    let socket = TcpSocket::from_std_stream(socket.into());
    within(connect.timeout, "connection", socket.connect(connect.to)).await
}

/// A UDP socket that takes packets from the server alone, and learns of ICMP errors.
///
/// # Errors
/// Why there is none, in words.
pub(super) fn udp(connect: &Connect) -> Result<UdpSocket, String> {
    datagrams(connect, Type::DGRAM, Some(Protocol::UDP))
}

/// A socket for ICMP messages to the server. It is one of datagrams (`icmp(7)`) where the
/// system lets us have one: the kernel sorts the answers, and there can be any number of
/// them. Otherwise it is a raw one, and sees all that the server sends.
///
/// # Errors
/// Why there is none, in words.
pub(super) fn icmp(connect: &Connect) -> Result<(UdpSocket, Icmp), String> {
    let protocol = match connect.to {
        SocketAddr::V4(_) => Protocol::ICMPV4,
        SocketAddr::V6(_) => Protocol::ICMPV6,
    };
    // A raw socket takes what stands in place of a port for the protocol.
    let mut to = connect.clone();
    to.to.set_port(0);
    to.from_port = 0;
    let domain = Domain::for_address(connect.to);
    let kind = match Socket::new(domain, Type::DGRAM, Some(protocol)) {
        Ok(_) => Icmp::Datagrams,
        Err(_) => Icmp::Raw,
    };
    let kind_of_socket = match kind {
        Icmp::Datagrams => Type::DGRAM,
        Icmp::Raw => Type::RAW,
    };
    Ok((datagrams(&to, kind_of_socket, Some(protocol))?, kind))
}

/// Which socket [`icmp`] gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Icmp {
    /// The kernel sets the identifier, and gives what answers to it.
    Datagrams,
    /// With all that there is, IPv4's header included.
    Raw,
}

fn datagrams(
    connect: &Connect,
    kind: Type,
    protocol: Option<Protocol>,
) -> Result<UdpSocket, String> {
    let socket = prepared(connect, kind, protocol)?;
    // ICMP errors that are not the last word are told as well. What can't is left as it is.
    let _ = match connect.to {
        SocketAddr::V4(_) => setsockopt(&socket.as_fd(), sockopt::Ipv4RecvErr, &true),
        SocketAddr::V6(_) => setsockopt(&socket.as_fd(), sockopt::Ipv6RecvErr, &true),
    };
    socket
        .connect(&connect.to.into())
        .map_err(|error| words::error(&error))?;
    UdpSocket::from_std(socket.into()).map_err(|error| words::error(&error))
}

/// A socket with all that is set before it connects.
fn prepared(connect: &Connect, kind: Type, protocol: Option<Protocol>) -> Result<Socket, String> {
    let domain = Domain::for_address(connect.to);
    let socket = Socket::new(domain, kind.nonblocking().cloexec(), protocol)
        .map_err(|error| format!("cannot make a socket: {}", words::error(&error)))?;
    if connect.mark != 0 {
        socket.set_mark(connect.mark).map_err(|error| {
            format!("cannot set mark {}: {}", connect.mark, words::error(&error))
        })?;
    }
    if let Some(interface) = &connect.interface {
        socket
            .bind_device(Some(interface.as_bytes()))
            .map_err(|error| format!("cannot use {interface}: {}", words::error(&error)))?;
    }
    bind(&socket, connect)?;
    Ok(socket)
}

fn bind(socket: &Socket, connect: &Connect) -> Result<(), String> {
    if connect.from.is_none() && connect.from_port == 0 {
        return Ok(());
    }
    let any = match connect.to {
        SocketAddr::V4(_) => IpAddr::from([0; 4]),
        SocketAddr::V6(_) => IpAddr::from([0; 16]),
    };
    let from = SocketAddr::new(connect.from.unwrap_or(any), connect.from_port);
    if connect.from_port == 0 {
        // The port is chosen when it connects, free for this server. Otherwise ports would
        // be used up by connections of the last minute to others. A kernel that cannot do
        // it does without.
        let _ = setsockopt(&socket.as_fd(), sockopt::IpBindAddressNoPort, &true);
    }
    socket
        .set_reuse_address(true)
        .and_then(|()| socket.bind(&SockAddr::from(from)))
        .map_err(|error| format!("cannot bind to {from}: {}", words::error(&error)))
}

/// Waits until a datagram may be there.
///
/// # Errors
/// That of an ICMP message. Nothing wakes those who wait for datagrams alone then.
pub(super) async fn readable(socket: &UdpSocket) -> io::Result<()> {
    let ready = socket.ready(Interest::READABLE | Interest::ERROR).await?;
    if !ready.is_error() {
        return Ok(());
    }
    match socket.take_error()? {
        Some(error) => Err(error),
        None => Err(io::Error::other("an ICMP error")),
    }
}

/// What comes of `work`, at most after `time`.
///
/// # Errors
/// In words; `what` is missing when the time is over.
pub(super) async fn within<T>(
    time: Duration,
    what: &str,
    work: impl Future<Output = io::Result<T>>,
) -> Result<T, String> {
    match timeout(time, work).await {
        Ok(result) => result.map_err(|error| words::error(&error)),
        Err(_) => Err(words::missing(what, time)),
    }
}
