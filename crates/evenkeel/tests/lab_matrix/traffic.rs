//! What clients do, and what answers them.

use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use evenkeel_lab::host::Host;
use evenkeel_lab::http;
use socket2::{Domain, Socket, Type};

use crate::world::SERVERS;

/// Longest that one answer may take.
const ANSWER: Duration = Duration::from_secs(10);
/// What a client waits for an answer that may never come, before it asks again.
const AGAIN: Duration = Duration::from_millis(500);
/// Bytes of a page, and of what is sent to the sink.
pub(crate) const SIZE: usize = 300_000;
/// Bytes of the datagrams.
const DATAGRAMS: [usize; 3] = [1, 100, 1400];
/// Bytes of those that have to be sent in pieces, both ways.
const IN_PIECES: [usize; 3] = [2000, 3000, 5000];
/// Room for any of them.
const LARGEST: usize = 8192;
/// How often each thing is done in turn; each server has its half of it.
const PAGES: usize = 4;
const TRANSFERS: usize = 2;
const SENDERS: usize = 4;

/// Text without a pattern, the same each time (xorshift).
pub(crate) fn text() -> &'static str {
    static TEXT: OnceLock<String> = OnceLock::new();
    TEXT.get_or_init(|| {
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let letters = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            char::from(b'a' + (state >> 32) as u8 % 26)
        });
        letters.take(SIZE).collect()
    })
}

/// The home page of a server.
pub(crate) fn page(server: u8) -> String {
    format!("{server}{}", text())
}

/// Says which server it is to who connects, then takes in what comes up to its end, and
/// says whether that was the text.
pub(crate) fn serve_sink(host: &Host, address: SocketAddr, server: u8) -> Result<()> {
    let listener = host
        .within(|| TcpListener::bind(address))?
        .with_context(|| format!("{} cannot listen at {address}", host.name()))?;
    thread::spawn(move || -> Result<()> {
        loop {
            let (stream, _) = listener.accept()?;
            thread::spawn(move || take_in(stream, server));
        }
    });
    Ok(())
}

fn take_in(mut stream: TcpStream, server: u8) -> Result<()> {
    stream.write_all(&[server])?;
    let mut bytes = Vec::with_capacity(SIZE);
    stream.read_to_end(&mut bytes)?;
    stream.write_all(&[u8::from(bytes == text().as_bytes())])?;
    Ok(())
}

/// Sends each datagram back, with the server's number in place of its first byte.
pub(crate) fn serve_echo(host: &Host, address: SocketAddr, server: u8) -> Result<()> {
    let socket = host
        .within(|| UdpSocket::bind(address))?
        .with_context(|| format!("{} cannot listen at {address}", host.name()))?;
    thread::spawn(move || -> Result<()> {
        let mut bytes = [0; LARGEST];
        loop {
            let (length, from) = socket.recv_from(&mut bytes)?;
            bytes[0] = server;
            socket.send_to(&bytes[..length], from)?;
        }
    });
    Ok(())
}

/// A port of the client that nobody had before: one that is used again is the same flow
/// to a director, whatever became of the server that it was given.
pub(crate) fn new_port() -> u16 {
    // Below those that the kernel gives out itself.
    static NEXT: AtomicU16 = AtomicU16::new(10_000);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A connection from an address and a port of the client.
fn open(client: &Host, from: SocketAddr, to: SocketAddr) -> Result<TcpStream> {
    let socket = client.within(|| -> Result<Socket> {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
        socket.bind(&from.into())?;
        Ok(socket)
    })??;
    socket
        .connect_timeout(&to.into(), ANSWER)
        .with_context(|| format!("{from} cannot connect to {to}"))?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(ANSWER))?;
    stream.set_write_timeout(Some(ANSWER))?;
    Ok(stream)
}

/// A connection to the sink, and the server that it was given.
pub(crate) fn connect(client: &Host, from: SocketAddr, to: SocketAddr) -> Result<(TcpStream, u8)> {
    let mut stream = open(client, from, to)?;
    let mut server = [0];
    stream
        .read_exact(&mut server)
        .with_context(|| format!("no word from {to}"))?;
    Ok((stream, server[0]))
}

/// A socket of the client for datagrams to one place.
pub(crate) fn sender(client: &Host, from: IpAddr, to: SocketAddr) -> Result<UdpSocket> {
    let socket = client.within(|| UdpSocket::bind((from, new_port())))??;
    socket.connect(to)?;
    socket.set_read_timeout(Some(ANSWER))?;
    Ok(socket)
}

/// Sends a datagram of this many bytes; gives the server that has sent it back.
pub(crate) fn echo(socket: &UdpSocket, length: usize) -> Result<u8> {
    let sent = &text().as_bytes()[..length];
    socket.send(sent)?;
    let mut answer = [0; LARGEST];
    let received = socket
        .recv(&mut answer)
        .with_context(|| format!("no echo of {length} bytes"))?;
    ensure!(
        answer[1..received] == sent[1..],
        "{length} bytes came otherwise"
    );
    Ok(answer[0])
}

/// The server that a page comes from.
pub(crate) fn page_of(client: &Host, from: IpAddr, web: SocketAddr) -> Result<u8> {
    let stream = open(client, SocketAddr::new(from, new_port()), web)?;
    let page = http::get_over(stream, web)?;
    ensure!(page.status == 200, "status {}", page.status);
    Ok(page.body.split_at(1).0.parse()?)
}

/// Loads pages, sends to the sink; each server has to get its half of both.
pub(crate) fn tcp(client: &Host, from: IpAddr, web: SocketAddr, sink: SocketAddr) -> Result<()> {
    let mut by_server = [0; SERVERS.len()];
    for _ in 0..PAGES {
        let stream = open(client, SocketAddr::new(from, new_port()), web)?;
        let page = http::get_over(stream, web)?;
        ensure!(page.status == 200, "status {}", page.status);
        let (server, body) = page.body.split_at(1);
        ensure!(body == text(), "the page is not what was sent");
        count(&mut by_server, server.parse()?)?;
    }
    let halves = [PAGES / 2; 2];
    ensure!(by_server == halves, "pages by server: {by_server:?}");
    let mut by_server = [0; SERVERS.len()];
    for _ in 0..TRANSFERS {
        let (mut stream, server) = connect(client, SocketAddr::new(from, new_port()), sink)?;
        stream
            .write_all(text().as_bytes())
            .context("cannot send to the sink")?;
        stream.shutdown(Shutdown::Write)?;
        let mut right = [0];
        stream
            .read_exact(&mut right)
            .context("no answer of the sink")?;
        ensure!(right == [1], "what came to the sink is not what was sent");
        count(&mut by_server, server)?;
    }
    let halves = [TRANSFERS / 2; 2];
    ensure!(by_server == halves, "transfers by server: {by_server:?}");
    Ok(())
}

/// Sends datagrams of all lengths from several ports; those of a port have to go to one
/// server, and each server has to get half of the ports.
pub(crate) fn udp(client: &Host, from: IpAddr, to: SocketAddr) -> Result<()> {
    datagrams(client, from, to, &DATAGRAMS)
}

/// The same with datagrams in pieces.
pub(crate) fn pieces(client: &Host, from: IpAddr, to: SocketAddr) -> Result<()> {
    learn(client, from, to)?;
    datagrams(client, from, to, &IN_PIECES)
}

/// Sends a datagram in pieces until it is sent back. The first one may have pieces that are
/// too large for a tunnel, there or back; that is answered, and who sends again sends smaller
/// ones.
pub(crate) fn learn(client: &Host, from: IpAddr, to: SocketAddr) -> Result<()> {
    let socket = sender(client, from, to)?;
    socket.set_read_timeout(Some(AGAIN))?;
    let length = IN_PIECES[0];
    let deadline = Instant::now() + ANSWER;
    while let Err(error) = echo(&socket, length) {
        ensure!(Instant::now() < deadline, "{error:#}");
    }
    echo(&socket, length).context("once more").map(drop)
}

fn datagrams(client: &Host, from: IpAddr, to: SocketAddr, lengths: &[usize]) -> Result<()> {
    let mut by_server = [0; SERVERS.len()];
    for _ in 0..SENDERS {
        let socket = sender(client, from, to)?;
        let mut servers = Vec::new();
        for length in lengths {
            servers.push(echo(&socket, *length)?);
        }
        let [first, rest @ ..] = servers.as_slice() else {
            bail!("no datagrams");
        };
        ensure!(
            rest.iter().all(|server| server == first),
            "one port, servers {servers:?}"
        );
        count(&mut by_server, *first)?;
    }
    let halves = [SENDERS / 2; 2];
    ensure!(by_server == halves, "senders by server: {by_server:?}");
    Ok(())
}

fn count(by_server: &mut [usize; 2], server: u8) -> Result<()> {
    let place = by_server.get_mut(usize::from(server));
    *place.with_context(|| format!("server {server}"))? += 1;
    Ok(())
}
