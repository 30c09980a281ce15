//! Kinds of services and schedulers that show by where clients get: persistence, any
//! port, one-packet scheduling, hashing, least connections, ports used again.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use evenkeel_lab::wait;

use crate::traffic::{self, echo, new_port, sender};
use crate::world::{
    ECHO, FAMILIES, Family, MAPPED, SERVERS, SHOW, SINK, SOURCES, VIP, World, source,
};

/// A check of one IP version.
type Check = fn(&World, Family) -> Result<()>;

/// What is tried, and its name in the table.
const CHECKS: [(&str, Check); 9] = [
    ("persistence, masq", persistence),
    ("persistence of networks, ipip", persistence_of_networks),
    ("any port, masq, TCP and UDP", any_port),
    ("one-packet scheduling, direct routing", one_packet),
    ("sh, ipip, UDP", source_hashing),
    ("sh with ports, masq, UDP", source_hashing_with_ports),
    ("mh, direct routing, TCP", maglev),
    ("wlc, masq, connections that stay", least_connections),
    (
        "a port used again, masq and direct routing",
        port_used_again,
    ),
];

/// Tries everything, and prints a table.
pub(crate) fn all(world: &World, hook: &str) -> Result<()> {
    let mut table = format!("\n{hook:44}{:>11}{:>11}\n", "IPv4", "IPv6");
    for (name, check) in CHECKS {
        let _ = write!(table, "{name:44}");
        for family in FAMILIES {
            let start = Instant::now();
            if let Err(error) = check(world, family) {
                println!("{table}{:>11}", "FAILED");
                let reasons = world.reasons()?;
                return Err(error.context(format!("{name}, {family:?}: {reasons:?}")));
            }
            let cell = format!("{} ms", start.elapsed().as_millis());
            let _ = write!(table, "{cell:>11}");
        }
        table.push('\n');
    }
    println!("{table}");
    Ok(())
}

/// One service with both servers, as `ipvsadm -R` takes them.
pub(crate) fn rules(service: &str, settings: &str, servers: [SocketAddr; 2], how: &str) -> String {
    let [first, second] = servers;
    format!(
        "-A {service} {settings}\n-a {service} -r {first} {how}\n-a {service} -r {second} {how}\n"
    )
}

/// Both servers at this port.
pub(crate) fn servers(family: Family, port: u16) -> [SocketAddr; 2] {
    SERVERS
        .each_ref()
        .map(|server| SocketAddr::new(server.of(family), port))
}

pub(crate) fn vip(family: Family, port: u16) -> SocketAddr {
    SocketAddr::new(VIP.of(family), port)
}

/// The client's addresses.
fn sources(family: Family) -> impl Iterator<Item = IpAddr> {
    SOURCES.map(move |last| source(family, last))
}

/// A connection from an address of the client, and the server that it was given.
fn connect(world: &World, from: IpAddr, to: SocketAddr) -> Result<(TcpStream, u8)> {
    traffic::connect(&world.client, SocketAddr::new(from, new_port()), to)
}

/// Asks from one address more than once; all has to come to one server, which this is.
fn sticks(ask: impl Fn() -> Result<u8>) -> Result<u8> {
    let first = ask()?;
    for _ in 0..2 {
        let again = ask()?;
        ensure!(again == first, "server {first}, then server {again}");
    }
    Ok(first)
}

/// How many of the values are for each server.
fn halves(given: &[u8]) -> [usize; 2] {
    let mut halves = [0; 2];
    for server in given {
        halves[usize::from(server % 2)] += 1;
    }
    halves
}

/// True: neither server was left out.
fn ensure_both(given: &[u8]) -> Result<()> {
    let halves = halves(given);
    ensure!(!halves.contains(&0), "by server: {halves:?}");
    Ok(())
}

fn ensure_halves(given: &[u8]) -> Result<()> {
    let halves = halves(given);
    ensure!(halves[0] == halves[1], "by server: {halves:?}");
    Ok(())
}

fn persistence(world: &World, family: Family) -> Result<()> {
    let service = vip(family, SINK);
    let at = servers(family, SINK + MAPPED);
    world.rules(&rules(&format!("-t {service}"), "-s rr -p 300", at, "-m"))?;
    let mut given = Vec::new();
    for from in sources(family).take(8) {
        let ask = || Ok(connect(world, from, service)?.1);
        given.push(sticks(ask).with_context(|| format!("from {from}"))?);
    }
    ensure_halves(&given)
}

fn persistence_of_networks(world: &World, family: Family) -> Result<()> {
    let service = vip(family, SINK);
    let netmask = match family {
        Family::V4 => "255.255.255.0",
        Family::V6 => "64",
    };
    let settings = format!("-s rr -p 300 -M {netmask}");
    let at = servers(family, SINK);
    world.rules(&rules(&format!("-t {service}"), &settings, at, "-i"))?;
    let given: Vec<u8> = sources(family)
        .take(8)
        .map(|from| Ok(connect(world, from, service)?.1))
        .collect::<Result<_>>()?;
    ensure!(
        halves(&given).contains(&0),
        "one network, servers {given:?}"
    );
    Ok(())
}

/// Two ports of the client's choice, of both protocols: each protocol is a service of its
/// own.
fn any_port(world: &World, family: Family) -> Result<()> {
    let any = vip(family, 0);
    let at = servers(family, 0);
    let tcp = rules(&format!("-t {any}"), "-s rr -p 300", at, "-m");
    let udp = rules(&format!("-u {any}"), "-s rr -p 300", at, "-m");
    world.rules(&(tcp + &udp))?;
    for protocol in ["TCP", "UDP"] {
        let mut given = Vec::new();
        for from in sources(family).take(8) {
            let ask = |port| -> Result<u8> {
                if protocol == "TCP" {
                    let to = vip(family, SINK + port);
                    Ok(connect(world, from, to)?.1)
                } else {
                    let to = vip(family, ECHO + port);
                    echo(&sender(&world.client, from, to)?, 100)
                }
            };
            let both = [ask(0)?, ask(MAPPED)?];
            ensure!(
                both[0] == both[1],
                "{protocol} from {from}: servers {both:?}"
            );
            given.push(both[0]);
        }
        ensure_halves(&given).context(protocol)?;
    }
    Ok(())
}

/// Datagrams of one port go to the servers in turn.
fn one_packet(world: &World, family: Family) -> Result<()> {
    let service = vip(family, ECHO);
    let at = servers(family, ECHO);
    world.rules(&rules(&format!("-u {service}"), "-s rr -o", at, "-g"))?;
    let socket = sender(&world.client, source(family, SOURCES.start), service)?;
    let given: Vec<u8> = (0..20).map(|_| echo(&socket, 100)).collect::<Result<_>>()?;
    let alternates = given.windows(2).all(|pair| pair[0] != pair[1]);
    ensure!(alternates, "servers {given:?}");
    Ok(())
}

fn source_hashing(world: &World, family: Family) -> Result<()> {
    let service = vip(family, ECHO);
    let at = servers(family, ECHO);
    world.rules(&rules(&format!("-u {service}"), "-s sh", at, "-i"))?;
    let mut given = Vec::new();
    for from in sources(family) {
        let ask = || echo(&sender(&world.client, from, service)?, 100);
        given.push(sticks(ask).with_context(|| format!("from {from}"))?);
    }
    ensure_both(&given)
}

/// One address, many ports.
fn source_hashing_with_ports(world: &World, family: Family) -> Result<()> {
    let service = vip(family, ECHO);
    let at = servers(family, ECHO + MAPPED);
    world.rules(&rules(
        &format!("-u {service}"),
        "-s sh -b sh-port",
        at,
        "-m",
    ))?;
    let sockets: Vec<UdpSocket> = (0..32)
        .map(|_| sender(&world.client, source(family, SOURCES.start), service))
        .collect::<Result<_>>()?;
    let mut given = Vec::new();
    for socket in &sockets {
        given.push(sticks(|| echo(socket, 100))?);
    }
    ensure_both(&given)
}

fn maglev(world: &World, family: Family) -> Result<()> {
    let service = vip(family, SINK);
    let at = servers(family, SINK);
    world.rules(&rules(&format!("-t {service}"), "-s mh", at, "-g"))?;
    let mut given = Vec::new();
    for from in sources(family) {
        let ask = || Ok(connect(world, from, service)?.1);
        given.push(sticks(ask).with_context(|| format!("from {from}"))?);
    }
    ensure_both(&given)
}

/// Connections that stay are spread by weight; where they have ended, the next ones go.
fn least_connections(world: &World, family: Family) -> Result<()> {
    let service = vip(family, SINK);
    let [heavy, light] = servers(family, SINK);
    world.rules(&format!(
        "-A -t {service} -s wlc\n-a -t {service} -r {heavy} -m -w 2\n\
         -a -t {service} -r {light} -m -w 1\n"
    ))?;
    let open = || connect(world, source(family, SOURCES.start), service);
    let mut held: Vec<(TcpStream, u8)> = (0..6).map(|_| open()).collect::<Result<_>>()?;
    let by_server = halves(&held.iter().map(|held| held.1).collect::<Vec<_>>());
    ensure!(by_server == [4, 2], "by weights of 2 and 1: {by_server:?}");
    held.retain(|(_, server)| *server == 1);
    wait::until(SHOW, "the connections' end", || {
        let (lines, text) = world.director.servers().map_err(|e| format!("{e:#}"))?;
        let line = lines.iter().find(|line| line.address == heavy);
        match line {
            Some(line) if line.active == 0 => Ok(()),
            _ => Err(text),
        }
    })?;
    for _ in 0..2 {
        let (stream, server) = open()?;
        ensure!(server == 0, "to the server with connections");
        held.push((stream, server));
    }
    Ok(())
}

/// A client that has ended a connection begins another one from the same port: that is
/// for the next server, whether the one before is still there or not.
fn port_used_again(world: &World, family: Family) -> Result<()> {
    let service = vip(family, SINK);
    for method in ["-m", "-g"] {
        let from = SocketAddr::new(source(family, SOURCES.start), new_port());
        let open_and_reset = || -> Result<u8> {
            let (stream, server) = traffic::connect(&world.client, from, service)?;
            socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
            Ok(server)
        };
        let at = servers(family, SINK);
        world.rules(&rules(&format!("-t {service}"), "-s rr", at, method))?;
        let given = [open_and_reset()?, open_and_reset()?];
        ensure!(given[0] != given[1], "{method}: servers {given:?} in turn");
        let gone = at[usize::from(given[1])];
        world.admin(&format!("ipvsadm -d -t {service} -r {gone}"))?;
        let after = open_and_reset().with_context(|| format!("{method}: the server is gone"))?;
        ensure!(after == given[0], "{method}: a server that is gone");
    }
    Ok(())
}
