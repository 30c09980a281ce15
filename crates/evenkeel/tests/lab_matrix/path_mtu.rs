//! A router between director and server takes smaller packets than the client sends.
//!
//! ```text
//!      ┌────────┐ ec ┌──────────┐ er ┌────────┐ es ┌────────┐
//!      │ client ├────┤ director ├────┤ router ├────┤ server │
//!      └───┬────┘    └──────────┘    └────────┘    └───┬────┘
//!          └──────────────────── l1 ───────────────────┘
//! ```
//!
//! The last cable takes packets of [`NARROW`] bytes. Through tunnels the
//! server answers by the cable that leads straight to the client.

use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};

use anyhow::{Context, Result, bail, ensure};
use evenkeel_api::client::Client;
use evenkeel_api::paths;
use evenkeel_lab::director::Director;
use evenkeel_lab::host::Host;
use evenkeel_lab::topology::{Address, HostSpec, Interface, Segment, Topology, Wiring};
use evenkeel_lab::{decapsulate, sandbox, wait};
use nix::sys::socket::{getsockopt, sockopt::TcpMaxSeg};

use crate::traffic;
use crate::world::{
    FAMILIES, Family, GUE, LOOSE, Pair, SHOW, SINK, START, VIP, hold, program, run,
};

/// Bytes of the largest packet that the server's cable takes; IPv6 in the largest tunnel
/// still has the 1,280 that it wants.
const NARROW: u32 = 1360;
const CLIENT: Pair = Pair::new([10, 10, 0], 2);
const SERVER: Pair = Pair::new([10, 50, 0], 2);
/// Networks of the cables: name, network, and the last bytes of the ends' addresses.
const CABLES: [(&str, [u8; 3]); 4] = [
    ("ec", [10, 10, 0]),
    ("er", [10, 40, 0]),
    ("es", [10, 50, 0]),
    ("l1", [10, 30, 1]),
];

struct World {
    client: Host,
    server: Host,
    director: Director,
    api: Client,
    _gue: Vec<std::net::UdpSocket>,
}

/// A host with the ends of these cables that have these last bytes.
fn host(name: &str, ends: &[(&str, u8)]) -> HostSpec {
    let net_of = |cable: &str| CABLES.iter().find(|known| known.0 == cable).map(|k| k.1);
    let interfaces = ends.iter().filter_map(|&(cable, last)| {
        let [a, b, c] = net_of(cable)?;
        Some(Interface {
            name: cable.into(),
            segment: cable.into(),
            addresses: vec![Address::new([a, b, c, last], 24)],
        })
    });
    HostSpec {
        name: name.into(),
        hostname: name.into(),
        interfaces: interfaces.collect(),
        gateway: None,
    }
}

/// A host, its ends of cables, and where it sends what (network, gateway).
type Place = (
    &'static str,
    &'static [(&'static str, u8)],
    &'static [([u8; 3], [u8; 3], u8)],
);

const PLACES: [Place; 4] = [
    (
        "client",
        &[("ec", 2), ("l1", 1)],
        &[([10, 99, 0], [10, 10, 0], 1), ([10, 50, 0], [10, 10, 0], 1)],
    ),
    (
        "director",
        &[("ec", 1), ("er", 1)],
        &[([10, 50, 0], [10, 40, 0], 2)],
    ),
    (
        "router",
        &[("er", 2), ("es", 1)],
        &[([10, 10, 0], [10, 40, 0], 1), ([10, 99, 0], [10, 40, 0], 1)],
    ),
    (
        "server",
        &[("es", 2), ("l1", 2)],
        &[([10, 10, 0], [10, 50, 0], 1), ([10, 40, 0], [10, 50, 0], 1)],
    ),
];

/// The commands that give a host what a topology does not say.
fn commands(ends: &[(&str, u8)], ways: &[([u8; 3], [u8; 3], u8)]) -> String {
    let mut lines = vec![
        LOOSE.to_owned(),
        "echo 1 >/proc/sys/net/ipv4/ip_forward".into(),
        "echo 1 >/proc/sys/net/ipv6/conf/all/forwarding".into(),
        "echo 0 >/proc/sys/net/ipv4/icmp_ratelimit".into(),
        "echo 0 >/proc/sys/net/ipv6/icmp/ratelimit".into(),
    ];
    for &(cable, last) in ends {
        if let Some(&(_, net)) = CABLES.iter().find(|known| known.0 == cable) {
            let address = Pair::new(net, last).of(Family::V6);
            lines.push(format!("ip address add {address}/64 dev {cable} nodad"));
        }
    }
    for &(net, by, last) in ways {
        for family in FAMILIES {
            let (to, by) = (Pair::new(net, 0).of(family), Pair::new(by, last).of(family));
            let length = if family == Family::V4 { 24 } else { 64 };
            lines.push(format!("ip route add {to}/{length} via {by}"));
        }
    }
    lines.join(" && ")
}

impl World {
    /// Builds the network, and starts the daemon with these services.
    fn start(hook: &str, services: &str) -> Result<Self> {
        let topology = Topology {
            segments: CABLES
                .map(|(name, _)| Segment {
                    name: name.into(),
                    wiring: Wiring::Cable,
                })
                .into(),
            hosts: PLACES.map(|(name, ends, _)| host(name, ends)).into(),
        };
        let hosts = topology.build()?;
        for (host, (_, ends, ways)) in hosts.iter().zip(PLACES) {
            run(host, &commands(ends, ways))?;
            // What XDP sends into a virtual cable arrives only with GRO on at its end.
            for (cable, _) in ends {
                run(host, &format!("ethtool -K {cable} gro on"))?;
            }
        }
        let [client, director, router, server] = hosts.as_slice() else {
            bail!("the topology has four hosts");
        };
        for host in [router, server] {
            run(host, &format!("ip link set es mtu {NARROW}"))?;
        }
        let program = program();
        let (four, six) = (VIP.of(Family::V4), VIP.of(Family::V6));
        run(
            server,
            &format!("{} realserver up {four} {six}", program.display()),
        )?;
        // Its answers come by the cable that takes whole packets, and tell so.
        for (family, vip) in [(4, four), (6, six)] {
            let version = if family == 4 { Family::V4 } else { Family::V6 };
            let client = Pair::new([10, 30, 1], 1).of(version);
            run(
                server,
                &format!(
                    "ip -{family} rule add from {vip} lookup 100 && \
                     ip -{family} route add default via {client} table 100"
                ),
            )?;
        }
        decapsulate::start(server, GUE)?;
        let mut gue = Vec::new();
        for any in ["0.0.0.0", "::"] {
            gue.push(hold(server, any, GUE)?);
        }
        for family in FAMILIES {
            for address in [VIP.of(family), SERVER.of(family)] {
                traffic::serve_sink(server, SocketAddr::new(address, SINK), 0)?;
            }
        }
        let mut director = Director::new(director.clone(), &program, paths::DEFAULT_INSTANCE)?;
        director.configure(&format!("[dataplane]\nhook = \"{hook}\"\n{services}"))?;
        director.start_daemon(START)?;
        Ok(Self {
            client: client.clone(),
            server: server.clone(),
            director,
            api: Client::new(paths::DEFAULT_INSTANCE),
            _gue: gue,
        })
    }

    fn rules(&self, rules: &str) -> Result<()> {
        let line = format!("ipvsadm -C && ipvsadm -R <<'END'\n{rules}END");
        let output = self.director.shell(&line)?;
        ensure!(output.status == 0, "{rules}{output}");
        self.wait_for_hop()
    }

    fn wait_for_hop(&self) -> Result<()> {
        wait::until(SHOW, "the server's next hop", || match self.api.status() {
            Ok(status) if status.servers_without_hop == 0 => Ok(()),
            Ok(status) => Err(format!("{status:?}")),
            Err(error) => Err(format!("{error:#}")),
        })
    }

    /// How often errors about tunnels were told to clients.
    fn relayed(&self) -> Result<u64> {
        let reasons = self.api.status()?.reasons;
        let found = reasons
            .iter()
            .find(|reason| reason.name == "tunnel_error_relayed");
        Ok(found.map_or(0, |reason| reason.count))
    }

    /// What the client takes for the MTU of its way to the service.
    fn mtu(&self, to: IpAddr) -> Result<Option<u32>> {
        let line = run(&self.client, &format!("ip route get {to}"))?;
        let mut words = line.split_whitespace();
        words.find(|&word| word == "mtu");
        Ok(words.next().and_then(|word| word.parse().ok()))
    }

    fn forget(&self) -> Result<()> {
        run(
            &self.client,
            "ip route flush cache && ip -6 route flush cache",
        )
        .map(drop)
    }

    /// Sends the text to the sink, and looks whether all of it came.
    fn transfer(&self, family: Family) -> Result<()> {
        let from = SocketAddr::new(CLIENT.of(family), traffic::new_port());
        let to = SocketAddr::new(VIP.of(family), SINK);
        let (mut stream, _) = traffic::connect(&self.client, from, to)?;
        stream
            .write_all(traffic::text().as_bytes())
            .context("cannot send")?;
        stream.shutdown(Shutdown::Write)?;
        let mut right = [0];
        stream.read_exact(&mut right).context("no answer")?;
        ensure!(right == [1], "what came is not what was sent");
        Ok(())
    }
}

/// Options of `ipvsadm -a`, which addresses of the server are used, and the bytes around a
/// packet.
const METHODS: [(&str, Family, u32); 6] = [
    ("-i", Family::V4, 20),
    ("-i", Family::V6, 40),
    ("-i --tun-type gre", Family::V4, 24),
    ("-i --tun-type gre --tun-csum", Family::V6, 48),
    ("-i --tun-type gue --tun-port 6080", Family::V4, 32),
    (
        "-i --tun-type gue --tun-port 6080 --tun-csum",
        Family::V6,
        52,
    ),
];

fn large_transfers_find_their_size(hook: &str, offloads: &str) -> Result<()> {
    let world = World::start(hook, "")?;
    for end in ["ec", "er"] {
        let line = format!("ethtool -K {end} tso {offloads} gso {offloads} gro {offloads}");
        run(world.director.host(), &line)?;
    }
    run(
        &world.client,
        &format!("ethtool -K ec tso {offloads} gso {offloads} tx {offloads}"),
    )?;
    for (options, outer, around) in METHODS {
        for family in FAMILIES {
            let what = format!("{options}, {outer:?} around {family:?}");
            let service = SocketAddr::new(VIP.of(family), SINK);
            let server = SocketAddr::new(SERVER.of(outer), SINK);
            world.forget()?;
            world.rules(&format!(
                "-A -t {service} -s rr\n-a -t {service} -r {server} {options}\n"
            ))?;
            let before = world.relayed()?;
            world.transfer(family).with_context(|| {
                let reasons = world.api.status().map(|status| status.reasons);
                format!("{what}: {reasons:?}")
            })?;
            let mtu = world.mtu(service.ip())?;
            // What is cut later has no checksum of GRE.
            let room = NARROW - around..=NARROW - around + 4;
            ensure!(
                mtu.is_some_and(|mtu| room.contains(&mtu)),
                "{what}: {mtu:?}"
            );
            let relayed = world.relayed()? - before;
            ensure!(relayed > 0, "{what}: the director was not asked");
            println!("{hook}, offloads {offloads}, {what}: MTU {mtu:?}, told {relayed} times");
        }
    }
    Ok(())
}

#[test]
fn large_transfers_find_their_size_at_tc() {
    sandbox::run_test(|| large_transfers_find_their_size("tc", "off"));
}

#[test]
fn large_transfers_find_their_size_at_tc_with_offloads() {
    sandbox::run_test(|| large_transfers_find_their_size("tc", "on"));
}

#[test]
fn large_transfers_find_their_size_at_xdp() {
    sandbox::run_test(|| large_transfers_find_their_size("xdp", "off"));
}

/// Two services as the manual has them: a tunnel with as much as the way has room for, and
/// a number.
const CLAMPED: &str = r#"
[[service]]
address = "10.99.0.1"
port = 443
mss_clamp = true
server = [{ address = "10.50.0.2", method = "ipip" }]

[[service]]
address = "10.99.0.1"
port = 80
mss_clamp = 1200
server = [{ address = "10.50.0.2" }]
"#;
/// What TCP puts into each segment beside its data: time stamps.
const STAMPS: u32 = 12;

/// The largest segments that the client and the server send.
fn segments(world: &World, listen: IpAddr, port: u16) -> Result<[u32; 2]> {
    let listener = world
        .server
        .within(|| TcpListener::bind((listen, port)))??;
    let to = SocketAddr::new(VIP.of(Family::V4), port);
    let client = world
        .client
        .within(|| TcpStream::connect_timeout(&to, SHOW))??;
    let (server, _) = listener.accept()?;
    Ok([
        getsockopt(&client, TcpMaxSeg)?,
        getsockopt(&server, TcpMaxSeg)?,
    ])
}

fn segments_are_as_it_is_configured(hook: &str) -> Result<()> {
    let world = World::start(hook, CLAMPED)?;
    world.wait_for_hop()?;
    let found = segments(&world, VIP.of(Family::V4), 443)?;
    // The server's answer goes past the director.
    ensure!(
        found == [1460 - STAMPS, 1500 - 20 - 40 - STAMPS],
        "through a tunnel: {found:?}"
    );
    let found = segments(&world, SERVER.of(Family::V4), 80)?;
    ensure!(found == [1200 - STAMPS; 2], "by NAT: {found:?}");
    Ok(())
}

#[test]
fn segments_are_as_it_is_configured_at_tc() {
    sandbox::run_test(|| segments_are_as_it_is_configured("tc"));
}

#[test]
fn segments_are_as_it_is_configured_at_xdp() {
    sandbox::run_test(|| segments_are_as_it_is_configured("xdp"));
}
