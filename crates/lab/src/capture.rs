//! What comes in at a host's interfaces, frame by frame.

use std::os::fd::{AsRawFd, OwnedFd};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{
    AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, recvfrom, setsockopt, socket,
    sockopt,
};

use crate::host::Host;

/// Room for what has come and was not looked at yet, in bytes as the kernel counts
/// them.
const ROOM: usize = 256 << 20;
/// `PACKET_OUTGOING`: the host's own (packet(7)).
const OUTGOING: u8 = 4;

/// A socket that sees all frames.
///
/// The kernel shows a frame there before the host's own protocols have it: who has an
/// answer knows that all which led to it is in the capture.
#[derive(Debug)]
pub struct Capture {
    socket: OwnedFd,
    interfaces: Vec<usize>,
}

impl Capture {
    /// Begins at these interfaces of a host.
    pub fn start(host: &Host, interfaces: &[&str]) -> Result<Self> {
        host.within(|| {
            let socket = socket(
                AddressFamily::Packet,
                SockType::Raw,
                SockFlag::SOCK_NONBLOCK,
                SockProtocol::EthAll,
            )
            .context("cannot open a packet socket")?;
            setsockopt(&socket, sockopt::RcvBufForce, &ROOM)
                .context("cannot give a packet socket room")?;
            let interfaces = interfaces
                .iter()
                .map(|&name| {
                    if_nametoindex(name)
                        .map(|index| index as usize)
                        .with_context(|| format!("no interface {name} on {}", host.name()))
                })
                .collect::<Result<_>>()?;
            Ok(Self { socket, interfaces })
        })?
    }

    /// Hands over each frame that came in since the last time, the oldest first.
    pub fn take(&self, mut each: impl FnMut(&[u8])) -> Result<()> {
        let mut frame = vec![0; 1 << 17];
        loop {
            match recvfrom::<LinkAddr>(self.socket.as_raw_fd(), &mut frame) {
                Ok((length, Some(from))) => {
                    if from.pkttype() != OUTGOING && self.interfaces.contains(&from.ifindex()) {
                        each(&frame[..length]);
                    }
                }
                Ok((_, None)) => {}
                Err(Errno::EAGAIN) => return Ok(()),
                Err(error) => return Err(error).context("cannot read from a packet socket"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::process::Command;

    use super::*;
    use crate::sandbox;
    use crate::topology::{Address, HostSpec, Segment, Topology, Wiring};
    use crate::wire::{self, Layer};

    #[test]
    fn shows_what_comes_in_and_not_what_leaves() {
        sandbox::run_test(|| {
            let host = |name: &str, last| {
                let address = Address::new([10, 0, 0, last], 24);
                HostSpec::single(name, "cable", "wire", address, None)
            };
            let hosts = Topology {
                segments: vec![Segment {
                    name: "wire".into(),
                    wiring: Wiring::Cable,
                }],
                hosts: vec![host("a", 1), host("b", 2)],
            }
            .build()?;
            for host in &hosts {
                let mut ethtool = Command::new("ethtool");
                host.output(ethtool.args(["-K", "cable", "tx", "off"]))?;
            }
            let captures = [
                Capture::start(&hosts[0], &["cable"])?,
                Capture::start(&hosts[1], &["cable"])?,
            ];
            let receiver = hosts[1].within(|| UdpSocket::bind("10.0.0.2:53"))??;
            let sender = hosts[0].within(|| UdpSocket::bind("10.0.0.1:53"))??;
            sender.send_to(b"hello", "10.0.0.2:53")?;
            receiver.recv(&mut [0; 8])?;
            let mut datagrams = [0, 0];
            for (count, capture) in datagrams.iter_mut().zip(captures) {
                capture.take(|frame| match wire::check(frame, 0).as_deref() {
                    Ok([Layer::Ipv4, Layer::Udp]) => *count += 1,
                    Ok(_) => {}
                    Err(error) => panic!("{error:#}"),
                })?;
            }
            assert_eq!(datagrams, [0, 1]);
            Ok(())
        });
    }
}
