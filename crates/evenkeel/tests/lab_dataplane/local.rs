//! Real servers on the director itself, at another end than the virtual one.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::thread;

use anyhow::{Context, Result, ensure};
use evenkeel_api::paths;
use evenkeel_datapath::crc;
use evenkeel_lab::bench::{CLIENT_PORT, VIP};
use evenkeel_lab::host::Host;
use evenkeel_lab::{sandbox, wait};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::world::{ANSWER, SHOW, START, WEB, World, answer_as, ask, connect, listen, run};

/// The director's own address towards the first server.
const OWN: Ipv4Addr = Ipv4Addr::new(10, 20, 1, 1);
const OWN6: Ipv6Addr = Ipv6Addr::new(0xfd20, 0, 0, 0, 0, 0, 0, 1);
const VIP6: Ipv6Addr = Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, 1);
/// The ends of the client's cable.
const CLIENT6: [&str; 2] = ["fd10::1", "fd10::2"];
/// The server on the director, beside 1 and 2.
const LOCAL: u8 = 3;

fn local(method: &str) -> String {
    format!("ipvsadm -a -t {WEB} -r {OWN}:8080 {method}")
}

/// A world whose only server is on the director.
fn world(configuration: &str, method: &str, persistence: &str) -> Result<World> {
    let world = World::start(configuration)?;
    answer_as(world.director.host(), OWN, 8080, LOCAL)?;
    let service = format!("ipvsadm -A -t {WEB} -s rr {persistence}");
    world.admin(&[service.trim_end(), &local(method)])?;
    wait_for_egress(&world, true)?;
    Ok(world)
}

/// Names of what keeps programs on interfaces.
fn keepers(world: &World) -> Result<String> {
    let pins = paths::pins(paths::DEFAULT_INSTANCE);
    let shown = world
        .director
        .shell(&format!("ls {}/links 2>&1 || true", pins.display()))?;
    Ok(shown.stdout)
}

/// Waits until what leaves is looked at, or not any more.
pub(crate) fn wait_for_egress(world: &World, wanted: bool) -> Result<()> {
    wait::until(SHOW, "the program at egress", || match keepers(world) {
        Ok(names) if names.contains("-egress") == wanted => Ok(()),
        other => Err(format!("{other:?}")),
    })
}

fn serves(configuration: &str, method: &str, persistence: &str) -> Result<()> {
    let world = world(configuration, method, persistence)?;
    let mut held = connect(&world.client, WEB)?;
    for _ in 0..3 {
        ensure!(ask(&mut held)? == LOCAL, "somebody else's answer");
        ensure!(ask(&mut connect(&world.client, WEB)?)? == LOCAL);
    }
    let stats = world.service(80)?.stats;
    ensure!(
        stats.connections == 4 && stats.in_packets >= 12 && stats.out_packets >= 8,
        "not counted: {stats:?}"
    );
    let listed = world.director.shell("ipvsadm -Lnc")?.stdout;
    ensure!(listed.contains("ESTABLISHED"), "{listed}");
    Ok(())
}

#[test]
fn a_server_on_the_director_answers_at_tc() {
    sandbox::run_test(|| serves("[dataplane]\nhook = \"tc\"\n", "-m", ""));
}

#[test]
fn a_server_on_the_director_answers_at_xdp() {
    sandbox::run_test(|| serves("[dataplane]\nhook = \"xdp\"\n", "-m", ""));
}

#[test]
fn a_server_on_the_director_answers_with_persistence() {
    sandbox::run_test(|| serves("", "-m", "-p 300"));
}

#[test]
fn a_server_on_the_director_needs_no_translated_source() {
    sandbox::run_test(|| serves("", "--full-nat", ""));
}

#[test]
fn a_server_on_the_director_takes_turns_with_others() {
    sandbox::run_test(|| {
        let mut world = World::start("")?;
        world.serve_identities()?;
        ensure!(!keepers(&world)?.contains("-egress"), "nobody needs it");
        answer_as(world.director.host(), OWN, 8080, LOCAL)?;
        world.admin(&[&local("-m")])?;
        wait_for_egress(&world, true)?;
        let client = &world.client;
        let answers = || -> Result<Vec<u8>> {
            let one = |_| ask(&mut connect(client, WEB)?);
            let mut seen = (0..6).map(one).collect::<Result<Vec<u8>>>()?;
            seen.sort_unstable();
            Ok(seen)
        };
        ensure!(answers()? == [1, 1, 2, 2, 3, 3]);
        let mut held = Vec::new();
        for _ in 0..3 {
            held.push(connect(client, WEB)?);
        }
        // Its answers go on without the daemon, and with the next one.
        world.director.kill_daemon()?;
        for connection in &mut held {
            ask(connection).context("without a daemon")?;
        }
        world.director.start_daemon(START)?;
        for connection in &mut held {
            ask(connection).context("with the next daemon")?;
        }
        let output = world.director.shell("evenkeel stop")?;
        ensure!(output.status == 0, "{output}");
        ensure!(!keepers(&world)?.contains("egress"), "something is left");
        Ok(())
    });
}

#[test]
fn what_leaves_is_looked_at_no_longer_than_it_takes() {
    sandbox::run_test(|| {
        let world = world("", "-m", "")?;
        let host = world.director.host();
        run(host, &format!("ip address del {OWN}/24 dev e1"))?;
        wait_for_egress(&world, false)?;
        run(host, &format!("ip address add {OWN}/24 dev e1"))?;
        wait_for_egress(&world, true)?;
        world.admin(&[&format!("ipvsadm -d -t {WEB} -r {OWN}:8080")])?;
        wait_for_egress(&world, false)
    });
}

#[test]
fn a_server_on_the_director_sends_much_at_once() {
    sandbox::run_test(|| {
        const LENGTH: usize = 4 << 20;
        let world = World::start("")?;
        let listener = listen(world.director.host(), OWN, 8080)?;
        world.admin(&[&format!("ipvsadm -A -t {WEB} -s rr"), &local("-m")])?;
        wait_for_egress(&world, true)?;
        let byte = |at: usize| (at % 251) as u8;
        thread::spawn(move || -> Result<()> {
            let (mut stream, _) = listener.accept()?;
            let all: Vec<u8> = (0..LENGTH).map(byte).collect();
            Ok(stream.write_all(&all)?)
        });
        let mut stream = connect(&world.client, WEB)?;
        let mut all = Vec::new();
        stream.read_to_end(&mut all)?;
        ensure!(all.len() == LENGTH, "{} bytes came", all.len());
        ensure!(all.iter().enumerate().all(|(at, &it)| it == byte(at)));
        Ok(())
    });
}

/// Sends back each datagram that comes, the bytes in reverse.
pub(crate) fn echo(host: &Host, to: IpAddr, port: u16) -> Result<()> {
    let socket = host.within(|| UdpSocket::bind((to, port)))??;
    thread::spawn(move || -> Result<()> {
        let mut buffer = vec![0; 1 << 16];
        loop {
            let (length, from) = socket.recv_from(&mut buffer)?;
            buffer[..length].reverse();
            socket.send_to(&buffer[..length], from)?;
        }
    });
    Ok(())
}

/// Datagrams small and large are answered by the service's end.
pub(crate) fn answers_datagrams(client: &Host, to: SocketAddr) -> Result<()> {
    let any: IpAddr = if to.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    let socket = client.within(|| UdpSocket::bind((any, 0)))??;
    socket.set_read_timeout(Some(ANSWER))?;
    // None else is heard.
    socket.connect(to)?;
    let mut buffer = vec![0; 1 << 16];
    for length in [1_usize, 100, 1400, 5000] {
        let sent: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
        socket.send(&sent)?;
        let heard = socket.recv(&mut buffer);
        let heard = heard.with_context(|| format!("{length} bytes are not answered"))?;
        ensure!(buffer[..heard].iter().rev().eq(&sent));
    }
    Ok(())
}

#[test]
fn a_server_on_the_director_answers_datagrams_in_pieces_too() {
    sandbox::run_test(|| {
        let world = World::start("")?;
        echo(world.director.host(), OWN.into(), 5353)?;
        world.admin(&[
            &format!("ipvsadm -A -u {VIP}:53 -s rr"),
            &format!("ipvsadm -a -u {VIP}:53 -r {OWN}:5353 -m"),
        ])?;
        wait_for_egress(&world, true)?;
        answers_datagrams(&world.client, SocketAddr::from((VIP, 53)))?;
        world.admin(&[
            &format!("ipvsadm -A -u {VIP}:54 -s rr"),
            &format!("ipvsadm -a -u {VIP}:54 -r {OWN}:5454 -m"),
        ])?;
        world.wait_for_hops()?;
        is_refused(&world.client, SocketAddr::from((VIP, 54)))
    });
}

/// Nobody listens at the service's server: the sender is told, in words that it knows.
pub(crate) fn is_refused(client: &Host, to: SocketAddr) -> Result<()> {
    let any: IpAddr = if to.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    let socket = client.within(|| UdpSocket::bind((any, 0)))??;
    socket.set_read_timeout(Some(ANSWER))?;
    socket.connect(to)?;
    socket.send(b"?")?;
    let heard = socket.recv(&mut [0]).map_err(|error| error.kind());
    ensure!(heard == Err(ErrorKind::ConnectionRefused), "{heard:?}");
    Ok(())
}

#[test]
fn a_server_on_the_director_answers_by_ipv6() {
    sandbox::run_test(|| {
        let world = World::start("")?;
        let (client, director) = (&world.client, world.director.host());
        for (host, address) in [director, client].into_iter().zip(CLIENT6) {
            run(
                host,
                &format!("ip -6 address add {address}/64 dev {CLIENT_PORT} nodad"),
            )?;
        }
        run(
            client,
            &format!("ip -6 route add default via {}", CLIENT6[0]),
        )?;
        run(
            director,
            &format!("ip -6 address add {OWN6}/64 dev e1 nodad"),
        )?;
        answer_as(director, OWN6, 8080, LOCAL)?;
        echo(director, OWN6.into(), 5353)?;
        world.admin(&[
            &format!("ipvsadm -A -t [{VIP6}]:80 -s rr"),
            &format!("ipvsadm -a -t [{VIP6}]:80 -r [{OWN6}]:8080 -m"),
            &format!("ipvsadm -A -u [{VIP6}]:53 -s rr"),
            &format!("ipvsadm -a -u [{VIP6}]:53 -r [{OWN6}]:5353 -m"),
            &format!("ipvsadm -A -u [{VIP6}]:54 -s rr"),
            &format!("ipvsadm -a -u [{VIP6}]:54 -r [{OWN6}]:5454 -m"),
        ])?;
        wait_for_egress(&world, true)?;
        let to = SocketAddr::from((VIP6, 80));
        ensure!(ask(&mut connect(client, to)?)? == LOCAL);
        answers_datagrams(client, SocketAddr::from((VIP6, 53)))?;
        is_refused(client, SocketAddr::from((VIP6, 54)))
    });
}

/// The server's address too may be one that only the director has.
fn serves_the_director(own: Ipv4Addr) -> Result<()> {
    let world = World::start("")?;
    let host = world.director.host();
    run(host, &format!("ip address add {VIP}/32 dev lo"))?;
    answer_as(host, own, 8080, LOCAL)?;
    world.admin(&[
        &format!("ipvsadm -A -t {WEB} -s rr"),
        &format!("ipvsadm -a -t {WEB} -r {own}:8080 -m"),
    ])?;
    wait_for_egress(&world, true)?;
    for _ in 0..3 {
        ensure!(ask(&mut connect(host, WEB)?)? == LOCAL);
    }
    Ok(())
}

#[test]
fn a_server_on_the_director_answers_its_clients_there() {
    sandbox::run_test(|| serves_the_director(OWN));
}

#[test]
fn a_server_at_the_loopback_address_answers_the_directors_clients() {
    sandbox::run_test(|| serves_the_director(Ipv4Addr::LOCALHOST));
}

/// A packet of SCTP with one chunk; its checksum is right.
fn sctp(from: u16, to: u16, chunk: u8) -> Vec<u8> {
    let mut packet = [&from.to_be_bytes()[..], &to.to_be_bytes(), &[0; 8]].concat();
    packet.extend([chunk, 0, 0, 8, 1, 2, 3, 4]);
    let sum = crc::whole(&packet);
    packet[8..12].copy_from_slice(&sum.to_le_bytes());
    packet
}

/// A socket that hears and says packets of SCTP as they are, without an association.
fn sctp_socket(host: &Host) -> Result<Socket> {
    host.within(|| Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::SCTP)))?
        .context("cannot open a raw socket")
}

/// What the socket hears next that begins with these ports: who sent it, and the packet.
fn hear(socket: &Socket, ports: [u8; 4]) -> Result<(Ipv4Addr, Vec<u8>)> {
    let mut buffer = [0; 256];
    loop {
        // It reads bytes, as any reader.
        let length = (&*socket).read(&mut buffer)?;
        let header = usize::from(buffer[0] & 0xf) * 4;
        if buffer[header..length].starts_with(&ports) {
            let from = [buffer[12], buffer[13], buffer[14], buffer[15]];
            return Ok((from.into(), buffer[header..length].to_vec()));
        }
    }
}

const SIGNAL: u16 = 2905;
const INIT: u8 = 1;
const INIT_ACK: u8 = 2;

/// Answers to SCTP as the kernel sends them: with their checksum, and without where the
/// interface is to find it.
#[test]
fn a_server_on_the_director_answers_sctp() {
    sandbox::run_test(|| {
        let world = World::start("")?;
        world.admin(&[
            &format!("ipvsadm -A --sctp-service {VIP}:{SIGNAL} -s rr"),
            &format!("ipvsadm -a --sctp-service {VIP}:{SIGNAL} -r {OWN}:8080 -m"),
        ])?;
        wait_for_egress(&world, true)?;
        let server = sctp_socket(world.director.host())?;
        server.bind(&SockAddr::from(SocketAddr::from((OWN, 0))))?;
        let client = sctp_socket(&world.client)?;
        for socket in [&server, &client] {
            socket.set_read_timeout(Some(ANSWER))?;
        }
        let ports = |from: u16, to: u16| {
            let [[a, b], [c, d]] = [from, to].map(u16::to_be_bytes);
            [a, b, c, d]
        };
        for (port, is_finished) in [(4000, true), (4001, false)] {
            let vip = SockAddr::from(SocketAddr::from((VIP, 0)));
            client.send_to(&sctp(port, SIGNAL, INIT), &vip)?;
            let (from, heard) = hear(&server, ports(port, 8080)).context("at the server")?;
            ensure!(heard == sctp(port, 8080, INIT), "{heard:02x?}");
            let mut answer = sctp(8080, port, INIT_ACK);
            let mut expected = sctp(SIGNAL, port, INIT_ACK);
            if !is_finished {
                answer[8..12].fill(0);
                expected[8..12].fill(0);
            }
            server.send_to(&answer, &SockAddr::from(SocketAddr::from((from, 0))))?;
            let (from, heard) = hear(&client, ports(SIGNAL, port)).context("at the client")?;
            ensure!((from, &heard) == (VIP, &expected), "{from}: {heard:02x?}");
        }
        Ok(())
    });
}
