//! A flood of TCP SYNs from random sources, in a table that it fills many times over:
//! connections go on and new ones begin, of the flooded service as of others.
//!
//! How much comes is what the machine can send; nothing that is looked for depends on it.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use evenkeel_lab::host::Host;
use evenkeel_lab::{sandbox, wait};
use socket2::{Domain, Protocol, Socket, Type};

use crate::kinds::{rules, servers, vip};
use crate::world::{Decapsulation, Family, SERVERS, SHOW, SOURCES, World, run, source};

/// How long it lasts.
const TIME: Duration = Duration::from_secs(10);
/// Packets sent between two looks at the clock.
const ROUND: u32 = 500;
/// Connections that there are before.
const ESTABLISHED: usize = 100;
/// What goes to and fro.
const WORD: &[u8; 8] = b"evenkeel";
/// Longest that an answer may take.
const ANSWER: Duration = Duration::from_secs(10);
/// Time between two new connections.
const PACE: Duration = Duration::from_millis(4);
/// Ports of the service that is flooded, and of another one.
const PORTS: [u16; 2] = [7001, 7002];
/// Room for connections: a hundred thousand a second fill it in a sixth of one.
const ROOM: u32 = 16_384;

/// Sends back what comes, for each connection until its end.
fn serve(host: &Host, address: SocketAddr) -> Result<()> {
    let listener = host
        .within(|| TcpListener::bind(address))?
        .with_context(|| format!("{} cannot listen at {address}", host.name()))?;
    thread::spawn(move || -> Result<()> {
        loop {
            let (stream, _) = listener.accept()?;
            thread::spawn(move || send_back(stream));
        }
    });
    Ok(())
}

fn send_back(mut stream: TcpStream) -> Result<()> {
    let mut word = *WORD;
    while stream.read_exact(&mut word).is_ok() {
        stream.write_all(&word)?;
    }
    Ok(())
}

/// Sends a word and gets it back.
fn exchange(stream: &mut TcpStream) -> Result<()> {
    let mut word = [0; WORD.len()];
    stream.write_all(WORD).context("cannot send")?;
    stream.read_exact(&mut word).context("nothing came back")?;
    ensure!(word == *WORD, "something else came back");
    Ok(())
}

/// A connection from one of the client's addresses on which a word went to and fro.
fn connect(client: &Host, number: usize, port: u16) -> Result<TcpStream> {
    let last = SOURCES.start + (number % SOURCES.len()) as u8;
    let from = SocketAddr::new(source(Family::V4, last), 0);
    let to = vip(Family::V4, port);
    let socket = client.within(|| -> Result<Socket> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind(&from.into())?;
        Ok(socket)
    })??;
    socket.connect_timeout(&to.into(), ANSWER)?;
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(ANSWER))?;
    stream.set_write_timeout(Some(ANSWER))?;
    stream.set_nodelay(true)?;
    exchange(&mut stream)?;
    Ok(stream)
}

/// Adds 16-bit words in network order.
fn sum(bytes: &[u8], start: u32) -> u32 {
    let words = bytes.chunks_exact(2);
    words.fold(start, |sum, word| {
        sum + u32::from(u16::from_be_bytes([word[0], word[1]]))
    })
}

fn checksum(mut sum: u32) -> [u8; 2] {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!(sum as u16)).to_be_bytes()
}

/// A SYN from somewhere in 10.64.0.0/10.
fn syn(random: u64, to: SocketAddrV4) -> [u8; 40] {
    let mut packet = [0; 40];
    packet[..4].copy_from_slice(&[0x45, 0, 0, 40]);
    packet[8..10].copy_from_slice(&[64, 6]);
    let from = Ipv4Addr::from(10 << 24 | 64 << 16 | random as u32 & 0x3f_ffff);
    packet[12..16].copy_from_slice(&from.octets());
    packet[16..20].copy_from_slice(&to.ip().octets());
    let port = 1024 + (random >> 32) as u16 % 60_000;
    packet[20..22].copy_from_slice(&port.to_be_bytes());
    packet[22..24].copy_from_slice(&to.port().to_be_bytes());
    packet[24..28].copy_from_slice(&((random >> 16) as u32).to_be_bytes());
    packet[32..36].copy_from_slice(&[0x50, 2, 0x72, 0x10]);
    let pseudo = sum(&packet[12..20], 6 + 20);
    let of_tcp = checksum(sum(&packet[20..], pseudo));
    packet[36..38].copy_from_slice(&of_tcp);
    packet
}

/// Sends SYNs for [`TIME`]; how many.
fn flood(socket: &Socket, to: SocketAddrV4) -> u64 {
    let mut random = 0x9E37_79B9_7F4A_7C15_u64;
    let mut sent = 0;
    let start = Instant::now();
    while start.elapsed() < TIME {
        for _ in 0..ROUND {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            // What finds no room in a queue is not sent.
            sent += u64::from(socket.send_to(&syn(random, to), &to.into()).is_ok());
        }
    }
    sent
}

/// Has all connections exchange words until the flood is over, and once more; how often
/// each did.
fn keep_moving(streams: &mut [TcpStream], is_over: &AtomicBool) -> Result<u32> {
    let mut rounds = 0;
    loop {
        let was_over = is_over.load(Ordering::Relaxed);
        for (number, stream) in streams.iter_mut().enumerate() {
            exchange(stream).with_context(|| format!("connection {number}, round {rounds}"))?;
        }
        rounds += 1;
        if was_over {
            return Ok(rounds);
        }
    }
}

/// New connections of a service, one after the other.
struct Newcomers {
    tried: u32,
    failed: u32,
    why: Option<anyhow::Error>,
}

fn begin_new(client: &Host, port: u16, is_over: &AtomicBool) -> Newcomers {
    let mut newcomers = Newcomers {
        tried: 0,
        failed: 0,
        why: None,
    };
    while !is_over.load(Ordering::Relaxed) {
        let next = Instant::now() + PACE;
        newcomers.tried += 1;
        if let Err(error) = connect(client, newcomers.tried as usize, port) {
            newcomers.failed += 1;
            newcomers.why.get_or_insert(error);
        }
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    newcomers
}

fn counts(world: &World) -> Result<String> {
    Ok(format!("{:?}", world.reasons()?))
}

fn withstand(world: &World) -> Result<()> {
    let mut streams = Vec::new();
    for number in 0..ESTABLISHED {
        streams.push(connect(&world.client, number, PORTS[number % 2])?);
    }
    let IpAddr::V4(address) = vip(Family::V4, PORTS[0]).ip() else {
        unreachable!("it is one of IPv4");
    };
    let to = SocketAddrV4::new(address, PORTS[0]);
    let socket = world.client.within(|| {
        let raw = Protocol::from(255);
        Socket::new(Domain::IPV4, Type::RAW, Some(raw))
    })??;
    let is_over = AtomicBool::new(false);
    let (sent, rounds, newcomers) = thread::scope(|scope| {
        let moving = scope.spawn(|| keep_moving(&mut streams, &is_over));
        let [flooded, other] = PORTS.map(|port| {
            scope.spawn({
                let is_over = &is_over;
                move || begin_new(&world.client, port, is_over)
            })
        });
        let sent = flood(&socket, to);
        is_over.store(true, Ordering::Relaxed);
        let joined = "no thread panics";
        let newcomers = [flooded, other].map(|thread| thread.join().expect(joined));
        (sent, moving.join().expect(joined), newcomers)
    });
    let counts = counts(world)?;
    println!("{} SYNs a second; {counts}", sent / TIME.as_secs());
    let rounds = rounds.context(counts.clone())?;
    println!("{ESTABLISHED} connections, {rounds} words on each");
    for (port, new) in PORTS.iter().zip(newcomers) {
        let Newcomers { tried, failed, why } = new;
        println!("port {port}: {tried} new connections, {failed} failed");
        ensure!(
            failed * 100 <= tried,
            "{failed} of {tried} failed, the first: {why:?}; {counts}"
        );
    }
    let evicted = world.reason("evicted_half_open")?;
    ensure!(
        evicted > u64::from(ROOM),
        "the table was not filled: {counts}"
    );
    // Whoever is established has not been counted out.
    let streams = streams.len() as u64;
    wait::until(SHOW, "the connections in the status", || {
        let states = world.states().map_err(|error| error.to_string())?;
        let established = states.iter().find(|(name, _)| name == "ESTABLISHED");
        match established {
            Some((_, count)) if *count >= streams => Ok(()),
            _ => Err(format!("{states:?}")),
        }
    })
}

#[test]
fn a_flood_of_syns() {
    sandbox::run_test(|| {
        // By tc, since a veth takes what XDP sends only if there is XDP on its other end.
        let small = format!("[dataplane]\nhook = \"tc\"\nconnections = {ROOM}\n");
        let world = World::start_with(&small, Decapsulation::ByTest)?;
        let gateway = source(Family::V4, SOURCES.start);
        run(
            world.director.host(),
            &format!("ip route add 10.64.0.0/10 via {gateway}"),
        )?;
        let mut all = String::new();
        for port in PORTS {
            for (server, host) in SERVERS.iter().zip(&world.servers) {
                serve(host, SocketAddr::new(server.of(Family::V4), port))?;
            }
            let service = format!("-t {}", vip(Family::V4, port));
            let at = servers(Family::V4, port);
            all.push_str(&rules(&service, "-s rr", at, "-m"));
        }
        world.rules(&all)?;
        withstand(&world).with_context(|| world.director.log_tail())
    });
}
