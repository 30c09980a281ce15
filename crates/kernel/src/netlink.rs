//! Netlink sockets: requests and their answers, and notifications.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkBuffer, NetlinkDeserializable,
    NetlinkHeader, NetlinkMessage, NetlinkPayload, NetlinkSerializable,
};
use netlink_packet_route::RouteNetlinkMessage;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, connect,
    recvfrom, send, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The kernel's messages are at most 32 KiB.
const BUFFER: usize = 64 << 10;
/// What may wait in the kernel for a reader of notifications: some 30,000 messages.
const NOTIFICATIONS: usize = 8 << 20;
/// A dump during which the table changed is repeated this often; after that it is
/// good enough, since the change has also been notified.
const DUMP_ATTEMPTS: usize = 4;
/// How long an answer may take. The kernel answers before `send` returns; this is
/// so that nothing hangs on a kernel that does not.
const PATIENCE_S: i64 = 5;

/// Message types that `netlink-packet-route` does not know.
const RTM_NEWNEXTHOP: u16 = 104;
const RTM_DELNEXTHOP: u16 = 105;

/// One message of a datagram.
#[derive(Debug)]
pub(crate) enum Message {
    /// Of a kind that is known.
    Route(NetlinkMessage<RouteNetlinkMessage>),
    /// A next hop object has changed; which one does not matter.
    NextHops,
}

/// What can be asked and answered.
pub(crate) trait Content: NetlinkSerializable + NetlinkDeserializable {}

impl<T: NetlinkSerializable + NetlinkDeserializable> Content for T {}

/// A socket of the network namespace that the opening thread is in.
pub(crate) struct Socket {
    socket: OwnedFd,
    sequence: u32,
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl Socket {
    /// A routing socket for requests.
    pub(crate) fn new() -> io::Result<Self> {
        Self::for_requests(SockProtocol::NetlinkRoute)
    }

    /// A socket for requests to generic families.
    pub(crate) fn generic() -> io::Result<Self> {
        Self::for_requests(SockProtocol::NetlinkGeneric)
    }

    fn for_requests(protocol: SockProtocol) -> io::Result<Self> {
        let socket = open(protocol, SockFlag::SOCK_CLOEXEC)?;
        setsockopt(
            &socket,
            sockopt::ReceiveTimeout,
            &TimeVal::new(PATIENCE_S, 0),
        )?;
        connect(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        Ok(Self {
            socket,
            sequence: 0,
        })
    }

    /// A routing socket that never blocks, for notifications of `groups`, numbered as
    /// RTNLGRP numbers them, 1 to 32.
    pub(crate) fn for_notifications(groups: &[u32]) -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = open(SockProtocol::NetlinkRoute, flags)?;
        // Beyond the limit of net.core.rmem_max; without CAP_NET_ADMIN that counts.
        if setsockopt(&socket, sockopt::RcvBufForce, &NOTIFICATIONS).is_err() {
            setsockopt(&socket, sockopt::RcvBuf, &NOTIFICATIONS)?;
        }
        let mask = groups.iter().fold(0, |mask, group| mask | 1 << (group - 1));
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, mask))?;
        Ok(Self {
            socket,
            sequence: 0,
        })
    }

    /// For waiting in a tokio runtime.
    pub(crate) fn into_async(self) -> io::Result<AsyncFd<Self>> {
        // SAFETY: the descriptor is owned by `self` and neither closed nor replaced
        // before `self` is dropped.
        Ok(unsafe { AsyncFd::register_with_interest(self, Interest::READABLE) }?)
    }

    /// Asks for, or does, one thing. Gives the answers before the acknowledgement.
    pub(crate) fn request<T: Content>(&mut self, content: T, flags: u16) -> io::Result<Vec<T>> {
        self.exchange(content, NLM_F_REQUEST | NLM_F_ACK | flags)
            .map(|(answers, _)| answers)
    }

    /// Asks for a whole table.
    pub(crate) fn dump<T: Content + Clone>(&mut self, content: &T) -> io::Result<Vec<T>> {
        let mut answers = Vec::new();
        for _ in 0..DUMP_ATTEMPTS {
            let (found, changed) = self.exchange(content.clone(), NLM_F_REQUEST | NLM_F_DUMP)?;
            answers = found;
            if !changed {
                break;
            }
        }
        Ok(answers)
    }

    /// Sends and reads up to the end. The flag: the table changed meanwhile.
    fn exchange<T: Content>(&mut self, content: T, flags: u16) -> io::Result<(Vec<T>, bool)> {
        self.sequence = self.sequence.wrapping_add(1);
        let payload = NetlinkPayload::InnerMessage(content);
        let mut request = NetlinkMessage::new(NetlinkHeader::default(), payload);
        request.header.flags = flags;
        request.header.sequence_number = self.sequence;
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        send(self.socket.as_raw_fd(), &bytes, MsgFlags::empty())?;

        let mut answers = Vec::new();
        let mut changed = false;
        loop {
            let datagram = self.datagram()?;
            for message in parts(&datagram).filter_map(|part| read::<T>(&part)) {
                // Of an exchange that has ended in an error before its end.
                if message.header.sequence_number != self.sequence {
                    continue;
                }
                changed |= message.header.flags & NLM_F_DUMP_INTR != 0;
                match message.payload {
                    NetlinkPayload::InnerMessage(answer) => answers.push(answer),
                    NetlinkPayload::Error(error) => {
                        return match error.code {
                            Some(code) => Err(io::Error::from_raw_os_error(-code.get())),
                            None => Ok((answers, changed)),
                        };
                    }
                    NetlinkPayload::Done(done) if done.code < 0 => {
                        return Err(io::Error::from_raw_os_error(-done.code));
                    }
                    NetlinkPayload::Done(_) => return Ok((answers, changed)),
                    _ => {}
                }
            }
        }
    }

    /// The notifications of the next datagram. ENOBUFS: some have been lost.
    pub(crate) fn receive(&self) -> io::Result<Vec<Message>> {
        Ok(decode(&self.datagram()?))
    }

    /// The next datagram; empty where it is not the kernel's.
    fn datagram(&self) -> io::Result<Vec<u8>> {
        let mut buffer = vec![0; BUFFER];
        let (length, sender) = loop {
            match recvfrom::<NetlinkAddr>(self.socket.as_raw_fd(), &mut buffer) {
                Err(Errno::EINTR) => {}
                other => break other?,
            }
        };
        // Other processes can send here too.
        let is_kernels = sender.is_none_or(|sender| sender.pid() == 0);
        buffer.truncate(if is_kernels { length } else { 0 });
        Ok(buffer)
    }
}

fn open(protocol: SockProtocol, flags: SockFlag) -> io::Result<OwnedFd> {
    Ok(socket(
        AddressFamily::Netlink,
        SockType::Raw,
        flags,
        protocol,
    )?)
}

/// A message in a datagram.
struct Part<'a> {
    kind: u16,
    /// From its header on, and what follows it.
    bytes: &'a [u8],
}

/// Takes a datagram apart.
fn parts(mut datagram: &[u8]) -> impl Iterator<Item = Part<'_>> {
    std::iter::from_fn(move || {
        let header = NetlinkBuffer::new_checked(datagram).ok()?;
        let (length, kind) = (header.length() as usize, header.message_type());
        let part = Part {
            kind,
            bytes: datagram,
        };
        datagram = datagram
            .get(length.next_multiple_of(4)..)
            .unwrap_or_default();
        Some(part)
    })
}

/// Reads a message. What can't be understood is left out: a newer kernel's new
/// attribute must not make its neighbours disappear.
fn read<T: NetlinkDeserializable>(part: &Part<'_>) -> Option<NetlinkMessage<T>> {
    NetlinkMessage::deserialize(part.bytes)
        .inspect_err(|error| tracing::debug!("a netlink message of type {}: {error}", part.kind))
        .ok()
}

/// The notifications in a datagram.
fn decode(datagram: &[u8]) -> Vec<Message> {
    parts(datagram)
        .filter_map(|part| match part.kind {
            RTM_NEWNEXTHOP | RTM_DELNEXTHOP => Some(Message::NextHops),
            _ => read(&part).map(Message::Route),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use netlink_packet_route::link::LinkMessage;

    #[test]
    fn dumps_links() {
        let mut socket = Socket::new().unwrap();
        let request = RouteNetlinkMessage::GetLink(LinkMessage::default());
        let links = socket.dump(&request).unwrap();
        assert!(links.iter().any(|link| matches!(
            link,
            RouteNetlinkMessage::NewLink(link) if link.header.index == 1
        )));
    }

    #[test]
    fn refusals_come_with_their_number() {
        let mut socket = Socket::new().unwrap();
        let mut link = LinkMessage::default();
        link.header.index = 0x7fff_0000;
        let error = socket
            .request(RouteNetlinkMessage::GetLink(link), 0)
            .unwrap_err();
        assert_eq!(error.raw_os_error(), Some(nix::libc::ENODEV));
    }

    #[test]
    fn what_is_not_understood_is_left_out() {
        let next_hop = [
            20u8, 0, 0, 0, 104, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        ];
        let unknown = [16u8, 0, 0, 0, 250, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let datagram = [&unknown[..], &next_hop, &[99, 0, 0, 0]].concat();
        assert!(matches!(decode(&datagram)[..], [Message::NextHops]));
        // A length that ends before the header does.
        assert!(decode(&[3; 16]).is_empty());
    }
}
