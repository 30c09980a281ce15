//! Errors by ICMP about translated connections: each side is told about its own.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};

use anyhow::{Context, Result, bail, ensure};
use evenkeel_lab::bench::{CLIENT, SERVERS, VIP};
use evenkeel_lab::host::Host;
use evenkeel_lab::sandbox;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, recv, sendto,
    setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;

use crate::world::{ANSWER, World, run};

/// The service.
const DNS: SocketAddr = SocketAddr::new(IpAddr::V4(VIP), 53);
/// The servers' port.
const PORT: u16 = 5300;
/// A server behind another router.
const FAR: Ipv4Addr = Ipv4Addr::new(10, 30, 0, 2);

/// Errors by ICMP that arrive at a host.
struct Listener(OwnedFd);

/// One of them.
#[derive(Debug, PartialEq, Eq)]
struct Report {
    source: Ipv4Addr,
    kind: u8,
    code: u8,
    quoted: [(Ipv4Addr, u16); 2],
}

/// The Internet checksum of a header that has its own in it: 0 where that is right.
fn checksum(header: &[u8]) -> u16 {
    let sum: u32 = header
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0)))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) + (folded >> 16)) as u16
}

/// Sends an echo request and waits for its reply.
pub(crate) fn ping(host: &Host, to: Ipv4Addr) -> Result<()> {
    let listener = Listener::open(host)?;
    let mut message = [8, 0, 0, 0, 0, 7, 0, 1];
    let sum = checksum(&message).to_be_bytes();
    message[2..4].copy_from_slice(&sum);
    let to = SockaddrIn::from(SocketAddrV4::new(to, 0));
    sendto(listener.0.as_raw_fd(), &message, &to, MsgFlags::empty())?;
    let mut packet = [0; 2048];
    let length = recv(listener.0.as_raw_fd(), &mut packet, MsgFlags::empty())
        .context("no answer to a ping")?;
    ensure!(
        packet[20] == 0 && packet[24..length] == message[4..],
        "not an answer: {packet:?}"
    );
    Ok(())
}

impl Listener {
    fn open(host: &Host) -> Result<Self> {
        host.within(|| {
            let raw = socket(
                AddressFamily::Inet,
                SockType::Raw,
                SockFlag::empty(),
                SockProtocol::Icmp,
            )?;
            let wait = TimeVal::new(ANSWER.as_secs().cast_signed(), 0);
            setsockopt(&raw, sockopt::ReceiveTimeout, &wait)?;
            Ok(Self(raw))
        })?
    }

    /// The next one, its checksums right.
    fn next(&self) -> Result<Report> {
        let mut packet = [0; 2048];
        let length = recv(self.0.as_raw_fd(), &mut packet, MsgFlags::empty())
            .context("no ICMP message came")?;
        let (ip, icmp) = packet[..length].split_at(20);
        let (header, quoted) = icmp.split_at(8);
        ensure!(checksum(icmp) == 0, "ICMP checksum: {icmp:?}");
        ensure!(checksum(&quoted[..20]) == 0, "quoted header: {quoted:?}");
        let address = |from: &[u8], at: usize| -> Ipv4Addr {
            [from[at], from[at + 1], from[at + 2], from[at + 3]].into()
        };
        let port = |at: usize| u16::from_be_bytes([quoted[at], quoted[at + 1]]);
        Ok(Report {
            source: address(ip, 12),
            kind: header[0],
            code: header[1],
            quoted: [
                (address(quoted, 12), port(20)),
                (address(quoted, 16), port(22)),
            ],
        })
    }
}

fn client_socket(world: &World) -> Result<(UdpSocket, u16)> {
    let socket = world.client.within(|| UdpSocket::bind((CLIENT, 0)))??;
    socket.connect(DNS)?;
    socket.set_read_timeout(Some(ANSWER))?;
    let port = socket.local_addr()?.port();
    Ok((socket, port))
}

/// Waits for the socket's refusal.
fn expect_refusal(socket: &UdpSocket) -> Result<()> {
    match socket.recv(&mut [0; 16]) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(()),
        other => bail!("not refused: {other:?}"),
    }
}

fn errors_reach_both_sides(hook: &str) -> Result<()> {
    let world = World::start(&format!("[dataplane]\nhook = \"{hook}\"\n"))?;
    let server = SERVERS[0];
    world.admin(&[
        &format!("ipvsadm -A -u {DNS} -s rr"),
        &format!("ipvsadm -a -u {DNS} -r {server}:{PORT} -m"),
    ])?;
    world.wait_for_hops()?;
    let reports = Listener::open(&world.client)?;

    // Nobody listens on the server.
    let (client, port) = client_socket(&world)?;
    client.send(b"anybody?")?;
    expect_refusal(&client).context("no listener on the server")?;
    let report = reports.next().context("no listener on the server")?;
    let about_request = Report {
        source: VIP,
        kind: 3,
        code: 3,
        quoted: [(CLIENT, port), (VIP, 53)],
    };
    ensure!(report == about_request, "{report:?}");

    // The client is gone when the reply comes.
    let listener = world.servers[0].within(|| UdpSocket::bind((server, PORT)))??;
    listener.set_read_timeout(Some(ANSWER))?;
    let (client, port) = client_socket(&world)?;
    client.send(b"hello")?;
    let (_, from) = listener.recv_from(&mut [0; 16])?;
    ensure!(from == SocketAddr::from((CLIENT, port)), "{from}");
    drop(client);
    let reports_to_server = Listener::open(&world.servers[0])?;
    listener.connect(from)?;
    listener.send(b"too late")?;
    expect_refusal(&listener).context("the client is gone")?;
    let report = reports_to_server.next().context("the client is gone")?;
    let about_reply = Report {
        source: CLIENT,
        kind: 3,
        code: 3,
        quoted: [(server, PORT), (CLIENT, port)],
    };
    ensure!(report == about_reply, "{report:?}");
    from_a_router(&world, &reports)
}

/// A router on the way to a server tells that the time to live is used up.
fn from_a_router(world: &World, reports: &Listener) -> Result<()> {
    let (near, director) = (SERVERS[0], world.director.host());
    run(director, &format!("ip route add {FAR}/32 via {near}"))?;
    run(
        &world.servers[0],
        "echo 1 > /proc/sys/net/ipv4/ip_forward && echo 0 > /proc/sys/net/ipv4/icmp_ratelimit",
    )?;
    world.admin(&[
        &format!("ipvsadm -a -u {DNS} -r {FAR}:{PORT} -m"),
        &format!("ipvsadm -d -u {DNS} -r {near}:{PORT}"),
    ])?;
    world.wait_for_hops()?;
    let (client, port) = client_socket(world)?;
    // One for the director, and the other used up at the router.
    client.set_ttl(2)?;
    client.send(b"far away")?;
    let report = reports.next().context("the router")?;
    let expected = Report {
        source: VIP,
        kind: 11,
        code: 0,
        quoted: [(CLIENT, port), (VIP, 53)],
    };
    ensure!(report == expected, "{report:?}");
    Ok(())
}

#[test]
fn errors_reach_both_sides_at_tc() {
    sandbox::run_test(|| errors_reach_both_sides("tc"));
}

#[test]
fn errors_reach_both_sides_at_xdp() {
    sandbox::run_test(|| errors_reach_both_sides("xdp"));
}
