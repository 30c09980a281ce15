//! A host that takes packets out of tunnels without a tunnel device, so that a real
//! server can be reached through any tunnel on a kernel that has none of them: IP in
//! IP, GRE and generic UDP encapsulation (GUE), over IPv4 and IPv6.
//!
//! The kernel hands outer packets to raw sockets. What is in them is put on one end of
//! a virtual cable whose other end is the same host's, whose own IP takes it from there.

use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::Command;
use std::thread;

use anyhow::{Context, Result, ensure};
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType, bind, send, setsockopt, socket, sockopt,
};
use socket2::{Domain, Protocol, Socket, Type};

use crate::host::Host;
use crate::wire;

/// The cable's ends: packets are put on the first and come in at the second.
const ENDS: [&str; 2] = ["tunnel-out", "tunnel"];
/// Room of each raw socket, in bytes as the kernel counts them.
const ROOM: usize = 16 << 20;
/// Protocols of outer packets.
const IPIP: i32 = 4;
const UDP: i32 = 17;
const IPV6: i32 = 41;
const GRE: i32 = 47;
const UDP_HEADER: usize = 8;

/// Has a host take packets out of tunnels, from any sender, as long as the sandbox
/// lasts. GUE comes to `gue_port`, where there has to be a socket, since the kernel
/// refuses it otherwise; its packets are not for that.
///
/// Checksums of outer UDP and GRE are not looked at; see [`wire::check`]. A checksum
/// that the sender has left to hardware is completed, as a real tunnel's device would.
pub fn start(host: &Host, gue_port: u16) -> Result<()> {
    let [out, arrival] = ENDS;
    let line = format!(
        "ip link add {out} mtu 65535 type veth peer name {arrival} mtu 65535 && \
         ip link set {out} up && ip link set {arrival} up && \
         echo 0 >/proc/sys/net/ipv4/conf/{arrival}/rp_filter"
    );
    let output = host.output(Command::new("sh").args(["-c", &line]))?;
    ensure!(
        output.status.success(),
        "cannot make a cable on {}: {}",
        host.name(),
        String::from_utf8_lossy(&output.stderr)
    );
    host.within(|| {
        for domain in [Domain::IPV4, Domain::IPV6] {
            for protocol in [IPIP, IPV6, GRE, UDP] {
                let tunnel = Tunnel {
                    outer: raw_socket(domain, protocol)?,
                    is_ipv4: domain == Domain::IPV4,
                    protocol,
                    gue_port,
                    cable: Cable::open()?,
                };
                thread::spawn(move || tunnel.serve());
            }
        }
        Ok(())
    })?
}

fn raw_socket(domain: Domain, protocol: i32) -> Result<Socket> {
    let socket = Socket::new(domain, Type::RAW, Some(Protocol::from(protocol)))
        .with_context(|| format!("cannot open a raw socket for protocol {protocol}"))?;
    setsockopt(&socket, sockopt::RcvBufForce, &ROOM).context("cannot give a raw socket room")?;
    Ok(socket)
}

/// One kind of outer packet.
struct Tunnel {
    outer: Socket,
    is_ipv4: bool,
    protocol: i32,
    gue_port: u16,
    cable: Cable,
}

impl Tunnel {
    fn serve(mut self) -> Result<()> {
        let mut bytes = vec![0; 1 << 17];
        loop {
            let length = self.outer.read(&mut bytes)?;
            // Raw sockets show the header of IPv4, and not that of IPv6.
            let start = if self.is_ipv4 {
                wire::ipv4_header(&bytes[..length])
            } else {
                0
            };
            let Some(packet) = bytes[..length].get_mut(start..) else {
                continue;
            };
            let Some(behind) = self.header(packet) else {
                continue;
            };
            if let Some(inner) = packet.get_mut(behind..) {
                wire::complete(inner);
                self.cable.put(inner)?;
            }
        }
    }

    /// Length of what stands in front of the inner packet. None: it is no tunnel's.
    fn header(&self, packet: &[u8]) -> Option<usize> {
        match self.protocol {
            UDP => {
                let port = packet.get(2..4)?;
                let is_ours = port == self.gue_port.to_be_bytes();
                is_ours
                    .then(|| UDP_HEADER + wire::behind_gue(&packet[UDP_HEADER.min(packet.len())..]))
            }
            GRE => Some(wire::behind_gre(packet)),
            _ => Some(0),
        }
    }
}

/// The cable's end that packets are put on.
struct Cable {
    socket: OwnedFd,
    /// MAC address of the other end.
    to: [u8; 6],
}

impl Cable {
    fn open() -> Result<Self> {
        let [out, to] = [address(ENDS[0])?, address(ENDS[1])?];
        // Protocol 0: it only sends.
        let socket = socket(
            AddressFamily::Packet,
            SockType::Raw,
            SockFlag::empty(),
            None,
        )
        .context("cannot open a packet socket")?;
        bind(socket.as_raw_fd(), &out).context("cannot bind a packet socket")?;
        let to = to.addr().unwrap_or_default();
        Ok(Self { socket, to })
    }

    fn put(&self, packet: &[u8]) -> Result<()> {
        let kind: u16 = match packet.first().map(|byte| byte >> 4) {
            Some(4) => 0x0800,
            Some(6) => 0x86dd,
            _ => return Ok(()),
        };
        let mut frame = Vec::with_capacity(wire::ETHERNET + packet.len());
        frame.extend(self.to);
        frame.extend([2, 0, 0, 0, 0, 1]);
        frame.extend(kind.to_be_bytes());
        frame.extend(packet);
        send(self.socket.as_raw_fd(), &frame, MsgFlags::empty())
            .context("cannot put a packet on a cable")?;
        Ok(())
    }
}

/// The link's address of an interface of the thread's network.
fn address(interface: &str) -> Result<LinkAddr> {
    let mut all = getifaddrs().context("cannot list interfaces")?;
    all.find_map(|found| {
        let address = *found.address?.as_link_addr()?;
        (found.interface_name == interface).then_some(address)
    })
    .with_context(|| format!("no interface {interface}"))
}
