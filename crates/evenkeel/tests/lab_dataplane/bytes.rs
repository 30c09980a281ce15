//! What is sent arrives, byte for byte, whatever the interfaces leave to hardware
//! and wherever the packet path sits.

use std::io::{IoSlice, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, SocketAddrV4, TcpListener, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use evenkeel_lab::bench::{CLIENT, CLIENT_PORT, SERVER_PORTS, SERVERS, VIP};
use evenkeel_lab::host::Host;
use evenkeel_lab::sandbox;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, bind, recv, sendmsg,
    setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;

use crate::world::{ANSWER, WEB, World, connect, listen, run};

/// Bytes of a transfer.
const SIZE: usize = 20 << 20;
/// Largest datagram.
const DATAGRAM: usize = 1400;
/// What `ethtool` can switch of an interface here.
const FEATURES: [&str; 6] = [
    "tx-checksumming",
    "rx-checksumming",
    "scatter-gather",
    "tcp-segmentation-offload",
    "generic-segmentation-offload",
    "generic-receive-offload",
];

/// What is on: at the ends of the cables, and on the director.
struct Combination {
    name: &'static str,
    ends: [bool; 6],
    director: [bool; 6],
}

const ALL: [bool; 6] = [true; 6];
const NONE: [bool; 6] = [false; 6];
/// Packets fit the link, but the sender leaves their checksums.
const CHECKSUMS: [bool; 6] = [true, true, true, false, false, false];
/// An XDP program's frames arrive at a virtual cable's end only with this.
const ONLY_GRO: [bool; 6] = [false, false, false, false, false, true];
const CHECKSUMS_AND_GRO: [bool; 6] = [true, true, true, false, false, true];

const fn combination(name: &'static str, ends: [bool; 6], director: [bool; 6]) -> Combination {
    Combination {
        name,
        ends,
        director,
    }
}

const AT_TC: [Combination; 5] = [
    combination("everything on", ALL, ALL),
    combination("everything off", NONE, NONE),
    combination("checksums only", CHECKSUMS, CHECKSUMS),
    combination("on, but off at the director", ALL, NONE),
    combination("off, but on at the director", NONE, ALL),
];
const AT_XDP: [Combination; 4] = [
    combination("everything on", ALL, ALL),
    combination("only GRO", ONLY_GRO, ONLY_GRO),
    combination("checksums and GRO", CHECKSUMS_AND_GRO, NONE),
    combination("GRO at the ends, off at the director", ONLY_GRO, NONE),
];

fn switch(host: &Host, port: &str, features: [bool; 6]) -> Result<()> {
    let words: Vec<&str> = FEATURES
        .iter()
        .zip(features)
        .flat_map(|(feature, on)| [*feature, if on { "on" } else { "off" }])
        .collect();
    run(host, &format!("ethtool -K {port} {}", words.join(" "))).map(drop)
}

impl Combination {
    fn set(&self, world: &World) -> Result<()> {
        let [first, second] = &world.servers;
        let ends = [&world.client, first, second];
        let ports = [CLIENT_PORT, SERVER_PORTS[0], SERVER_PORTS[1]];
        for (host, port) in ends.into_iter().zip(ports) {
            switch(host, port, self.ends)?;
            switch(world.director.host(), port, self.director)?;
        }
        Ok(())
    }
}

/// Bytes without a pattern, the same each time (xorshift).
fn payload() -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut bytes = Vec::with_capacity(SIZE);
    while bytes.len() < SIZE {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes
}

/// Sends the payload to who asks with `D`, and says to who sends it with `U`
/// whether it is right.
fn serve_transfers(listener: TcpListener, payload: Arc<Vec<u8>>) {
    thread::spawn(move || -> Result<()> {
        loop {
            let (mut stream, _) = listener.accept()?;
            stream.set_read_timeout(Some(ANSWER))?;
            let mut wish = [0];
            stream.read_exact(&mut wish)?;
            if wish == *b"D" {
                stream.write_all(&payload)?;
            } else {
                let mut bytes = vec![0; SIZE];
                let whole = stream.read_exact(&mut bytes).is_ok();
                stream.write_all(&[u8::from(whole && bytes == *payload)])?;
            }
            stream.shutdown(Shutdown::Write)?;
        }
    });
}

fn transfers(world: &World, payload: &[u8]) -> Result<()> {
    // Round robin: each server has each of them.
    for _ in SERVERS {
        let mut stream = connect(&world.client, WEB)?;
        stream.write_all(b"D")?;
        let mut bytes = Vec::with_capacity(SIZE);
        stream.read_to_end(&mut bytes).context("download")?;
        ensure!(bytes == payload, "the download is not what was sent");
    }
    for _ in SERVERS {
        let mut stream = connect(&world.client, WEB)?;
        stream.write_all(b"U")?;
        stream.write_all(payload).context("upload")?;
        let mut right = [0];
        stream.read_exact(&mut right).context("upload's answer")?;
        ensure!(right == [1], "the upload is not what was sent");
    }
    Ok(())
}

/// The echo service with checksums, and the one without.
const ECHO: (SocketAddr, u16) = (SocketAddr::new(std::net::IpAddr::V4(VIP), 53), 5300);
const BARE_ECHO: (SocketAddrV4, u16) = (SocketAddrV4::new(VIP, 54), 5400);
/// The client's port for the one without.
const BARE_PORT: u16 = 5454;

/// One on each server: the socket for bare datagrams sees all that come to its host,
/// and must not run over.
fn serve_echo(servers: &[Host; 2]) -> Result<()> {
    let echo = servers[0].within(|| UdpSocket::bind((SERVERS[0], ECHO.1)))??;
    thread::spawn(move || -> Result<()> {
        let mut bytes = [0; 2048];
        loop {
            let (length, from) = echo.recv_from(&mut bytes)?;
            echo.send_to(&bytes[..length], from)?;
        }
    });
    let bare = Bare::open(&servers[1], SERVERS[1], BARE_ECHO.1, None)?;
    thread::spawn(move || -> Result<()> {
        loop {
            let datagram = bare.receive()?;
            // Where it has a checksum, silence tells.
            if datagram.checksum == 0 {
                bare.send(datagram.from, &datagram.bytes)?;
            }
        }
    });
    Ok(())
}

fn echoes(world: &World, payload: &[u8]) -> Result<()> {
    let client = world.client.within(|| UdpSocket::bind((CLIENT, 0)))??;
    client.connect(ECHO.0)?;
    client.set_read_timeout(Some(ANSWER))?;
    let mut answer = [0; 2048];
    for length in 1..=DATAGRAM {
        let bytes = &payload[length..2 * length];
        client.send(bytes)?;
        let received = client
            .recv(&mut answer)
            .with_context(|| format!("no echo of {length} bytes"))?;
        ensure!(
            answer[..received] == *bytes,
            "{length} bytes came otherwise"
        );
    }
    let client = Bare::open(&world.client, CLIENT, BARE_PORT, Some(()))?;
    for length in [1, 2, 3, 8, 512, 1399, DATAGRAM] {
        let bytes = &payload[length..2 * length];
        client.send(BARE_ECHO.0, bytes)?;
        let answer = client
            .receive()
            .with_context(|| format!("no echo of {length} bytes without checksum"))?;
        ensure!(
            answer.from == BARE_ECHO.0 && answer.checksum == 0 && answer.bytes == *bytes,
            "{length} bytes came otherwise"
        );
    }
    Ok(())
}

/// A socket for datagrams without a checksum.
struct Bare {
    raw: OwnedFd,
    port: u16,
    /// Holds the port, so that the kernel does not refuse what comes.
    _port: UdpSocket,
}

struct Datagram {
    from: SocketAddrV4,
    checksum: u16,
    bytes: Vec<u8>,
}

impl Bare {
    fn open(host: &Host, address: Ipv4Addr, port: u16, deadline: Option<()>) -> Result<Self> {
        host.within(|| {
            let raw = socket(
                AddressFamily::Inet,
                SockType::Raw,
                SockFlag::empty(),
                SockProtocol::Udp,
            )?;
            let at = SocketAddrV4::new(address, 0);
            bind(raw.as_raw_fd(), &SockaddrIn::from(at))?;
            if deadline.is_some() {
                let wait = TimeVal::new(ANSWER.as_secs().cast_signed(), 0);
                setsockopt(&raw, sockopt::ReceiveTimeout, &wait)?;
            }
            let held = UdpSocket::bind((address, port))?;
            Ok(Self {
                raw,
                port,
                _port: held,
            })
        })?
    }

    fn send(&self, to: SocketAddrV4, bytes: &[u8]) -> Result<()> {
        let length = (8 + bytes.len()) as u16;
        let header: Vec<u8> = [self.port, to.port(), length, 0]
            .iter()
            .flat_map(|word| word.to_be_bytes())
            .collect();
        sendmsg(
            self.raw.as_raw_fd(),
            &[IoSlice::new(&header), IoSlice::new(bytes)],
            &[],
            MsgFlags::empty(),
            Some(&SockaddrIn::from(SocketAddrV4::new(*to.ip(), 0))),
        )?;
        Ok(())
    }

    /// The next datagram to the port.
    fn receive(&self) -> Result<Datagram> {
        let mut packet = [0; 2048];
        loop {
            let length = recv(self.raw.as_raw_fd(), &mut packet, MsgFlags::empty())?;
            let (ip, udp) = packet[..length].split_at(usize::from(packet[0] & 0xf) * 4);
            let word = |at: usize| u16::from_be_bytes([udp[at], udp[at + 1]]);
            if word(2) != self.port {
                continue;
            }
            return Ok(Datagram {
                from: SocketAddrV4::new([ip[12], ip[13], ip[14], ip[15]].into(), word(0)),
                checksum: word(6),
                bytes: udp[8..].to_vec(),
            });
        }
    }
}

fn all(hook: &str, combinations: &[Combination]) -> Result<()> {
    let world = World::start(&format!("[dataplane]\nhook = \"{hook}\"\n"))?;
    let payload = Arc::new(payload());
    for (server, address) in world.servers.iter().zip(SERVERS) {
        serve_transfers(listen(server, address, 8080)?, Arc::clone(&payload));
    }
    serve_echo(&world.servers)?;
    world.serve_web(8080)?;
    let services = [(ECHO.0, ECHO.1), (BARE_ECHO.0.into(), BARE_ECHO.1)];
    for ((service, port), server) in services.into_iter().zip(SERVERS) {
        world.admin(&[
            &format!("ipvsadm -A -u {service} -s rr"),
            &format!("ipvsadm -a -u {service} -r {server}:{port} -m"),
        ])?;
    }
    world.wait_for_hops()?;
    for combination in combinations {
        let start = Instant::now();
        combination.set(&world)?;
        let deferred = world.reason("deferred_to_tc")?;
        transfers(&world, &payload)
            .and_then(|()| echoes(&world, &payload))
            .with_context(|| format!("hook {hook}, offloads: {}", combination.name))
            .with_context(|| format!("{:?}", world.status().map(|s| s.reasons)))?;
        let deferred = world.reason("deferred_to_tc")? - deferred;
        // With their checksums there, XDP finishes frames by itself.
        let whole = !combination.ends[0];
        ensure!(
            !whole || deferred < 100,
            "{}: {deferred} deferred",
            combination.name
        );
        println!(
            "{hook}, {}: {:?}, {deferred} deferred",
            combination.name,
            start.elapsed()
        );
    }
    Ok(())
}

#[test]
fn bytes_are_right_at_tc() {
    sandbox::run_test(|| all("tc", &AT_TC));
}

#[test]
fn bytes_are_right_at_xdp() {
    sandbox::run_test(|| all("xdp", &AT_XDP));
}
