//! Clients whose packets come out of the kernel's own tunnels that end on the director, and
//! the setting by which these are left alone.

use std::fmt::Write as _;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use evenkeel_api::InterfaceStatus;
use evenkeel_lab::sandbox;

use crate::devices;
use crate::methods::{Case, METHODS, Offloads};
use crate::traffic;
use crate::world::{
    Decapsulation, ECHO, Family, MAPPED, Pair, SERVERS, SINK, SOURCES, VIP, WEB, World,
    director_at_client, director_of, run, source,
};

/// Longest that a refusal may take.
const ANSWER: Duration = Duration::from_secs(10);
/// The client's address inside the tunnels.
const INSIDE: Pair = Pair::new([10, 77, 0], 2);
/// What has no servers: the packet path itself answers.
const NOBODY: u16 = 11;
/// What is served by the director itself, at another port.
const HERE: u16 = 4007;
/// Bytes of datagrams to it: whole, and in pieces.
const LENGTHS: [usize; 3] = [1, 1400, 5000];

/// A tunnel from the client to the director.
struct Tunnel {
    /// As `ip link add … type` has it.
    kind: &'static str,
    outer: Family,
    /// The versions that it carries.
    inner: &'static [Family],
    /// The director's end takes packets from anybody, and answers do not go back by it.
    is_open: bool,
}

const BOTH: &[Family] = &[Family::V4, Family::V6];

const TUNNELS: [Tunnel; 6] = [
    Tunnel::new("ipip", Family::V4, &[Family::V4]),
    Tunnel::new("sit mode any", Family::V4, BOTH),
    Tunnel::new("gre", Family::V4, BOTH),
    Tunnel {
        is_open: true,
        ..Tunnel::new("gre", Family::V4, BOTH)
    },
    Tunnel::new("ip6tnl mode any", Family::V6, BOTH),
    Tunnel::new("ip6gre", Family::V6, BOTH),
];

impl Tunnel {
    const fn new(kind: &'static str, outer: Family, inner: &'static [Family]) -> Self {
        Self {
            kind,
            outer,
            inner,
            is_open: false,
        }
    }

    fn name(&self) -> String {
        let end = if self.is_open { ", open to all" } else { "" };
        format!("{}{end}", self.kind)
    }

    /// The address that the client sends from.
    fn client(&self, family: Family) -> IpAddr {
        if self.is_open {
            source(family, SOURCES.start)
        } else {
            INSIDE.of(family)
        }
    }

    /// Makes both ends, and leads the client to the services by it.
    fn build(&self, world: &World) -> Result<()> {
        let (here, there) = (
            director_at_client(self.outer),
            source(self.outer, SOURCES.start),
        );
        let remote = |address: IpAddr| format!("remote {address}");
        let own = if self.is_open {
            String::new()
        } else {
            remote(there)
        };
        let add = format!("ip link add tunnel0 type {}", self.kind);
        let mut director = format!("{add} local {here} {own} && ip link set tunnel0 up");
        let mut client = format!(
            "{add} local {there} {} && ip link set tunnel0 up",
            remote(here)
        );
        for &family in self.inner {
            let (address, vip) = (self.client(family), VIP.of(family));
            if !self.is_open {
                let _ = write!(director, " && ip route add {address} dev tunnel0");
                let nodad = if address.is_ipv6() { "nodad" } else { "" };
                let _ = write!(client, " && ip address add {address} dev tunnel0 {nodad}");
            }
            let _ = write!(
                client,
                " && ip route add {vip} dev tunnel0 src {address} metric 1"
            );
        }
        run(world.director.host(), &director)?;
        run(&world.client, &client).map(drop)
    }

    fn remove(world: &World) -> Result<()> {
        for host in [&world.client, world.director.host()] {
            run(host, "ip link del tunnel0")?;
        }
        Ok(())
    }

    /// Everything is served that comes by it.
    fn serves(&self, world: &World) -> Result<()> {
        for &family in self.inner {
            let from = self.client(family);
            let at = |port| SocketAddr::new(VIP.of(family), port);
            traffic::tcp(&world.client, from, at(WEB), at(SINK))?;
            traffic::udp(&world.client, from, at(ECHO))?;
            for _ in &SERVERS {
                // Each of them is told what room the tunnel has.
                traffic::learn(&world.client, from, at(ECHO)).context("in pieces")?;
            }
            traffic::pieces(&world.client, from, at(ECHO)).context("in pieces")?;
            let nobody = traffic::sender(&world.client, from, at(NOBODY))?;
            nobody.send(b"?")?;
            let heard = nobody.recv(&mut [0]).map_err(|error| error.kind());
            ensure!(
                heard == Err(ErrorKind::ConnectionRefused),
                "{family:?}: no answer that nobody serves: {heard:?}"
            );
            let here = traffic::sender(&world.client, from, at(HERE))?;
            for length in LENGTHS {
                let server = traffic::echo(&here, length).context("the director's")?;
                ensure!(usize::from(server) == SERVERS.len());
            }
        }
        Ok(())
    }

    /// Nothing is served: the director's own stack refuses what comes by it.
    fn is_left_alone(&self, world: &World) -> Result<()> {
        for &family in self.inner {
            let to = SocketAddr::new(VIP.of(family), WEB);
            let connected = world
                .client
                .within(|| TcpStream::connect_timeout(&to, ANSWER))?;
            let refusal = connected.map(drop).map_err(|error| error.kind());
            ensure!(
                refusal == Err(ErrorKind::ConnectionRefused),
                "{family:?}: {refusal:?}"
            );
        }
        Ok(())
    }

    /// Tries it with the setting off, on and off again.
    fn try_out(&self, world: &World) -> Result<()> {
        self.build(world)?;
        wait_for_end(world, |end| end.hook.starts_with("tc ("))?;
        self.serves(world).context("by default")?;
        ignore(world, 1)?;
        wait_for_end(world, |end| {
            end.hook == "none" && end.why.contains("ignore_tunneled")
        })?;
        self.is_left_alone(world).context("ignored")?;
        ignore(world, 0)?;
        wait_for_end(world, |end| end.hook.starts_with("tc ("))?;
        self.serves(world).context("not ignored any more")?;
        Self::remove(world)
    }
}

/// Waits until the director's end of the tunnel is as it `is` to be.
fn wait_for_end(world: &World, is: impl Fn(&InterfaceStatus) -> bool) -> Result<()> {
    world.wait_for_status("the tunnel's end", |status| {
        let mut interfaces = status.interfaces.iter();
        interfaces.any(|known| known.name == "tunnel0" && is(known))
    })
}

fn ignore(world: &World, value: u32) -> Result<()> {
    let output = world
        .director
        .shell(&format!("evenkeel settings ignore_tunneled={value}"))?;
    ensure!(output.status == 0, "{output}");
    Ok(())
}

/// The server on the director.
fn own(family: Family) -> SocketAddr {
    SocketAddr::new(director_of(0, family), HERE + MAPPED)
}

fn rules() -> String {
    let mut rules = String::new();
    for &family in BOTH {
        let case = Case {
            method: &METHODS[0],
            family,
        };
        rules += &case.rules();
        let nobody = SocketAddr::new(VIP.of(family), NOBODY);
        let _ = writeln!(rules, "-A -u {nobody} -s rr");
        let (here, own) = (SocketAddr::new(VIP.of(family), HERE), own(family));
        let _ = writeln!(rules, "-A -u {here} -s rr\n-a -u {here} -r {own} -m");
    }
    rules
}

/// What not every kernel has.
#[test]
fn what_comes_out_of_devices_is_scheduled() {
    sandbox::run_test(|| {
        let lacks = devices::lacks()?;
        if !lacks.is_empty() {
            println!("skipped: this kernel lacks devices of tunnels: {lacks}");
            return Ok(());
        }
        let mut world = World::start("xdp", Decapsulation::ByDevices)?;
        // So XDP has whole frames, and meets clients behind tunnels as servers answer them.
        Offloads::Off.set(&world)?;
        world.rules(&rules())?;
        for &family in BOTH {
            let line = format!("ip address add {} dev lo", VIP.of(family));
            run(world.director.host(), &line)?;
            let host = world.director.host();
            traffic::serve_echo(host, own(family), SERVERS.len() as u8)?;
        }
        for tunnel in &TUNNELS {
            let start = Instant::now();
            tunnel.try_out(&world).with_context(|| {
                let name = tunnel.name();
                format!("{name}: {:?}", world.reasons())
            })?;
            println!("{:28}{:>8} ms", tunnel.name(), start.elapsed().as_millis());
        }
        // Where all of it is tc's, and what was there before is taken over.
        world.change_hook("tc")?;
        Offloads::On.set(&world)?;
        for tunnel in &TUNNELS[2..4] {
            tunnel.build(&world)?;
            wait_for_end(&world, |end| end.hook.starts_with("tc ("))?;
            tunnel.serves(&world).with_context(|| tunnel.name())?;
            Tunnel::remove(&world)?;
        }
        Ok(())
    });
}
