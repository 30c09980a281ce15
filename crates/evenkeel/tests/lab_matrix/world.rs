//! A client, a director with the daemon on it, and two servers.
//!
//! ```text
//!            ec ┌──────────┐ e1        e1
//!        ┌──────┤ director ├──────────────┐
//!        │      └────┬─────┘ e2           │
//!   ec ┌─┴──────┐    └─────────┐ e2  ┌────┴────┐
//!      │ client │         ┌────┴────┐│ server1 │
//!      └─┬────┬─┘         │ server2 ││         │
//!        │    │ l2     l2 └───┬─────┘└────┬────┘ l1
//!        │    └───────────────┘           │
//!     l1 └────────────────────────────────┘
//! ```
//!
//! Clients reach the service's addresses by the director. The servers answer from their
//! own addresses by the director, too, and from the service's by the cables that lead
//! straight to the client.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use evenkeel_api::client::Client;
use evenkeel_api::{Status, paths};
use evenkeel_lab::apache::Apache;
use evenkeel_lab::director::Director;
use evenkeel_lab::host::Host;
use evenkeel_lab::topology::{Address, HostSpec, Interface, Segment, Topology, Wiring};
use evenkeel_lab::{decapsulate, wait};

use crate::traffic;

/// Longest that a program may take to come up, on an emulated machine as well.
pub(crate) const START: Duration = Duration::from_mins(3);
/// Longest that a change may take to show.
pub(crate) const SHOW: Duration = Duration::from_secs(30);

/// An IP version, as a place in pairs of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V4 = 0,
    V6 = 1,
}

pub(crate) const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

/// An address of each version.
pub(crate) struct Pair(Ipv4Addr, Ipv6Addr);

impl Pair {
    /// In network `net`, with this last byte.
    pub(crate) const fn new(net: [u8; 3], last: u8) -> Self {
        let [a, b, c] = net;
        let group = (b as u16) << 8 | c as u16;
        Self(
            Ipv4Addr::new(a, b, c, last),
            Ipv6Addr::new(0x2001, 0xdb8, group, 0, 0, 0, 0, last as u16),
        )
    }

    pub(crate) fn of(&self, family: Family) -> IpAddr {
        match family {
            Family::V4 => self.0.into(),
            Family::V6 => self.1.into(),
        }
    }
}

/// The services' addresses.
pub(crate) const VIP: Pair = Pair::new([10, 99, 0], 1);
/// The client's address on the director's cable, the first of [`SOURCES`].
const CLIENT_NET: [u8; 3] = [10, 10, 0];
const SERVER_NETS: [[u8; 3]; 2] = [[10, 20, 1], [10, 20, 2]];
const LEG_NETS: [[u8; 3]; 2] = [[10, 30, 1], [10, 30, 2]];
/// The servers' own addresses.
pub(crate) const SERVERS: [Pair; 2] = [Pair::new(SERVER_NETS[0], 2), Pair::new(SERVER_NETS[1], 2)];
/// The last bytes of the client's addresses: it stands for many.
pub(crate) const SOURCES: std::ops::Range<u8> = 2..34;

/// An address of the client.
pub(crate) fn source(family: Family, last: u8) -> IpAddr {
    Pair::new(CLIENT_NET, last).of(family)
}

/// The director's address on the cable to the client.
pub(crate) fn director_at_client(family: Family) -> IpAddr {
    Pair::new(CLIENT_NET, 1).of(family)
}

/// The director's address on the cable to a server.
pub(crate) fn director_of(server: usize, family: Family) -> IpAddr {
    Pair::new(SERVER_NETS[server], 1).of(family)
}

/// The client's interface to the director.
pub(crate) const CLIENT_PORT: &str = "ec";
/// The servers' interfaces to the director.
pub(crate) const SERVER_PORTS: [&str; 2] = ["e1", "e2"];
/// The client's interfaces to the servers.
pub(crate) const LEGS: [&str; 2] = ["l1", "l2"];

/// Ports of the services: a web server, a server that takes in what it is sent, and one
/// that sends datagrams back.
pub(crate) const WEB: u16 = 80;
pub(crate) const SINK: u16 = 9;
pub(crate) const ECHO: u16 = 7;
/// What is added to these where a server has another port than the service.
pub(crate) const MAPPED: u16 = 8000;
/// Where servers take generic UDP encapsulation.
pub(crate) const GUE: u16 = 6080;
/// Largest segment that servers ask for by the cables to the client, so that the tunnel
/// with the largest header has room around it.
const SEGMENT: u16 = 1340;

/// Who takes packets out of tunnels.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decapsulation {
    /// [`decapsulate`], which needs nothing of the kernel.
    ByTest,
    /// Devices that the test is to make.
    ByDevices,
}

/// The network with all that runs on it.
pub(crate) struct World {
    pub(crate) client: Host,
    pub(crate) director: Director,
    pub(crate) servers: [Host; 2],
    api: Client,
    _apaches: Vec<Apache>,
    _gue: Vec<UdpSocket>,
}

impl World {
    /// Builds the network, starts the servers and the daemon.
    pub(crate) fn start(hook: &str, decapsulation: Decapsulation) -> Result<Self> {
        Self::start_with(&format!("[dataplane]\nhook = \"{hook}\"\n"), decapsulation)
    }

    /// The same with this configuration.
    pub(crate) fn start_with(text: &str, decapsulation: Decapsulation) -> Result<Self> {
        let hosts = topology().build()?;
        let [client, director, first, second] = hosts.as_slice() else {
            bail!("the topology has four hosts");
        };
        let servers = [first.clone(), second.clone()];
        for host in &hosts {
            run(host, LOOSE)?;
        }
        addresses(client, director, &servers)?;
        let mut apaches = Vec::new();
        let mut gue = Vec::new();
        for (index, server) in servers.iter().enumerate() {
            run(
                server,
                &format!("{} realserver up {} {}", program().display(), VIP.0, VIP.1),
            )?;
            if decapsulation == Decapsulation::ByTest {
                decapsulate::start(server, GUE)?;
                for any in ["0.0.0.0", "::"] {
                    gue.push(hold(server, any, GUE)?);
                }
            }
            apaches.push(serve(server, index)?);
        }
        let mut director = Director::new(director.clone(), &program(), paths::DEFAULT_INSTANCE)?;
        director.configure(text)?;
        director.start_daemon(START)?;
        for (apache, server) in apaches.iter_mut().zip(&servers) {
            apache.wait_ready(server, START)?;
        }
        Ok(Self {
            client: client.clone(),
            director,
            servers,
            api: Client::new(paths::DEFAULT_INSTANCE),
            _apaches: apaches,
            _gue: gue,
        })
    }

    /// Has the daemon start anew, and sit on interfaces in another way.
    pub(crate) fn change_hook(&mut self, hook: &str) -> Result<()> {
        self.director.kill_daemon()?;
        self.director.run_with(&["--hook", hook]);
        self.director.start_daemon(START)?;
        let is_as_wanted = |status: &Status| {
            let mut interfaces = status.interfaces.iter();
            interfaces.all(|known| known.hook.starts_with("xdp") == (hook == "xdp"))
        };
        self.wait_for_status(&format!("the hooks of {hook}"), is_as_wanted)
    }

    /// Has the daemon start anew, with this configuration.
    pub(crate) fn configure(&mut self, text: &str) -> Result<()> {
        self.director.kill_daemon()?;
        self.director.configure(text)?;
        self.director.run_with(&[]);
        self.director.start_daemon(START)
    }

    /// Clears the table and gives it these rules, lines as `ipvsadm -R` takes them.
    pub(crate) fn rules(&self, rules: &str) -> Result<()> {
        let line = format!("ipvsadm -C && ipvsadm -R <<'END'\n{rules}END");
        let output = self.director.shell(&line)?;
        ensure!(
            output.status == 0 && output.stdout.is_empty() && output.stderr.is_empty(),
            "{rules}{output}"
        );
        self.wait_for_status("the servers' next hops", |s| s.servers_without_hop == 0)
    }

    /// Runs the administrator's command, which has to work and say nothing.
    pub(crate) fn admin(&self, command: &str) -> Result<()> {
        let output = self.director.shell(command)?;
        ensure!(
            output.status == 0 && output.stdout.is_empty() && output.stderr.is_empty(),
            "{command}: {output}"
        );
        Ok(())
    }

    /// Waits until `condition` holds for the status.
    pub(crate) fn wait_for_status(
        &self,
        what: &str,
        condition: impl Fn(&Status) -> bool,
    ) -> Result<()> {
        wait::until(SHOW, what, || match self.api.status() {
            Ok(status) if condition(&status) => Ok(()),
            Ok(status) => Err(format!("{status:?}")),
            Err(error) => Err(format!("{error:#}")),
        })
    }

    /// How often something was counted for each reason, in words.
    pub(crate) fn reasons(&self) -> Result<Vec<(String, u64)>> {
        let reasons = self.api.status().context("no status")?.reasons;
        Ok(reasons.into_iter().map(|r| (r.name, r.count)).collect())
    }

    /// How many connections there are in each state, in words.
    pub(crate) fn states(&self) -> Result<Vec<(String, u64)>> {
        let states = self.api.status().context("no status")?.connections.states;
        Ok(states.into_iter().map(|s| (s.name, s.count)).collect())
    }

    /// How often something was counted for this reason.
    pub(crate) fn reason(&self, name: &str) -> Result<u64> {
        let reasons = self.reasons()?;
        let found = reasons.into_iter().find(|(known, _)| known == name);
        Ok(found.map_or(0, |(_, count)| count))
    }
}

/// The daemon's program; in a guest it is not where it was built.
pub(crate) fn program() -> PathBuf {
    std::env::var_os("EVENKEEL_PROGRAM")
        .unwrap_or_else(|| env!("CARGO_BIN_EXE_evenkeel").into())
        .into()
}

/// Answers come by other interfaces than what they answer left by.
pub(crate) const LOOSE: &str =
    "for file in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 0 >$file; done";

fn topology() -> Topology {
    let cables = [CLIENT_PORT]
        .into_iter()
        .chain(SERVER_PORTS)
        .chain(LEGS)
        .map(|name| Segment {
            name: name.into(),
            wiring: Wiring::Cable,
        });
    let end = |cable: &str, net: [u8; 3], last: u8| {
        let [a, b, c] = net;
        Interface {
            name: cable.into(),
            segment: cable.into(),
            addresses: vec![Address::new([a, b, c, last], 24)],
        }
    };
    let host = |name: &str, interfaces: Vec<Interface>, gateway: Option<[u8; 3]>| HostSpec {
        name: name.into(),
        hostname: name.into(),
        interfaces,
        gateway: gateway.map(|[a, b, c]| [a, b, c, 1].into()),
    };
    let server = |index: usize| {
        let interfaces = vec![
            end(SERVER_PORTS[index], SERVER_NETS[index], 2),
            end(LEGS[index], LEG_NETS[index], 2),
        ];
        let name = format!("server{}", index + 1);
        host(&name, interfaces, Some(SERVER_NETS[index]))
    };
    let mut of_client: Vec<Interface> = LEGS
        .iter()
        .zip(LEG_NETS)
        .map(|(leg, net)| end(leg, net, 1))
        .collect();
    of_client.push(end(CLIENT_PORT, CLIENT_NET, SOURCES.start));
    let mut of_director: Vec<Interface> = SERVER_PORTS
        .iter()
        .zip(SERVER_NETS)
        .map(|(port, net)| end(port, net, 1))
        .collect();
    of_director.push(end(CLIENT_PORT, CLIENT_NET, 1));
    Topology {
        segments: cables.collect(),
        hosts: vec![
            host("client", of_client, Some(CLIENT_NET)),
            host("director", of_director, None),
            server(0),
            server(1),
        ],
    }
}

/// What a topology does not say: addresses of IPv6, the client's many, ways back.
fn addresses(client: &Host, director: &Host, servers: &[Host; 2]) -> Result<()> {
    let six = |net: [u8; 3], last: u8| Pair::new(net, last).1;
    let add = |host: &Host, net: [u8; 3], last: u8, port: &str| {
        let address = six(net, last);
        run(
            host,
            &format!("ip address add {address}/64 dev {port} nodad"),
        )
    };
    add(client, CLIENT_NET, SOURCES.start, CLIENT_PORT)?;
    add(director, CLIENT_NET, 1, CLIENT_PORT)?;
    for index in 0..servers.len() {
        let (net, port) = (SERVER_NETS[index], SERVER_PORTS[index]);
        add(director, net, 1, port)?;
        add(&servers[index], net, 2, port)?;
        let (net, leg) = (LEG_NETS[index], LEGS[index]);
        add(client, net, 1, leg)?;
        add(&servers[index], net, 2, leg)?;
        let gateway = six(SERVER_NETS[index], 1);
        run(
            &servers[index],
            &format!("ip -6 route add default via {gateway}"),
        )?;
        for (family, vip) in [(4, VIP.0.into()), (6, IpAddr::from(VIP.1))] {
            let family_of = if family == 4 { Family::V4 } else { Family::V6 };
            let gateway = Pair::new(net, 1).of(family_of);
            let line = format!(
                "ip -{family} rule add from {vip} lookup 100 && \
                 ip -{family} route add default via {gateway} advmss {SEGMENT} table 100"
            );
            run(&servers[index], &line)?;
        }
    }
    run(
        client,
        &format!("ip -6 route add default via {}", six(CLIENT_NET, 1)),
    )?;
    run(
        director,
        "echo 1 >/proc/sys/net/ipv4/ip_forward && echo 1 >/proc/sys/net/ipv6/conf/all/forwarding",
    )?;
    let more: Vec<String> = SOURCES
        .skip(1)
        .map(|last| {
            let Pair(four, six) = Pair::new(CLIENT_NET, last);
            format!(
                "ip address add {four}/24 dev {CLIENT_PORT} && \
                 ip address add {six}/64 dev {CLIENT_PORT} nodad"
            )
        })
        .collect();
    run(client, &more.join(" && ")).map(drop)
}

/// Starts the servers of a host, at its own addresses and at the services'.
fn serve(host: &Host, index: usize) -> Result<Apache> {
    let addresses: Vec<IpAddr> = [&VIP, &SERVERS[index]]
        .iter()
        .flat_map(|pair| FAMILIES.map(|family| pair.of(family)))
        .collect();
    let mut web = Vec::new();
    for address in addresses {
        for more in [0, MAPPED] {
            web.push(SocketAddr::new(address, WEB + more));
            traffic::serve_sink(host, SocketAddr::new(address, SINK + more), index as u8)?;
            traffic::serve_echo(host, SocketAddr::new(address, ECHO + more), index as u8)?;
        }
    }
    Apache::start(host, &web, &traffic::page(index as u8))
}

/// A socket that nobody reads from.
pub(crate) fn hold(host: &Host, address: &str, port: u16) -> Result<UdpSocket> {
    let address = SocketAddr::new(address.parse()?, port);
    // The one for IPv6 must not want IPv4 as well.
    host.within(|| {
        let domain = socket2::Domain::for_address(address);
        let socket = socket2::Socket::new(domain, socket2::Type::DGRAM, None)?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.bind(&address.into())?;
        Ok(socket.into())
    })?
}

/// Runs a command on a host, which has to work; gives what it wrote.
pub(crate) fn run(host: &Host, line: &str) -> Result<String> {
    let output = host.output(Command::new("sh").args(["-c", line]))?;
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        bail!("{}# {line}: {}", host.name(), error.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
