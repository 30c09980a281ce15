//! Every forwarding method, from end to end.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use evenkeel_lab::host::Host;
use evenkeel_lab::sandbox;
use evenkeel_lab::wire::Layer;

use crate::kinds;
use crate::traffic;
use crate::watch::{self, Report, Watch};
use crate::world::{
    CLIENT_PORT, Decapsulation, ECHO, FAMILIES, Family, GUE, LEGS, MAPPED, SERVER_PORTS, SERVERS,
    SINK, SOURCES, VIP, WEB, World, run, source,
};

/// A forwarding method.
pub(crate) struct Method {
    name: &'static str,
    /// As `ipvsadm -a` has it.
    pub(crate) options: &'static str,
    /// Of a tunnel: which addresses of the servers are used. None: those of the service's
    /// version.
    pub(crate) outer: Option<Family>,
    /// What is added to the ports of the service.
    ports: u16,
    /// Headers in front of the packet, behind the outer IP header.
    headers: &'static [Layer],
}

impl Method {
    const fn new(name: &'static str, options: &'static str) -> Self {
        Self {
            name,
            options,
            outer: None,
            ports: 0,
            headers: &[],
        }
    }

    const fn tunnel(
        name: &'static str,
        options: &'static str,
        outer: Family,
        headers: &'static [Layer],
    ) -> Self {
        Self {
            name,
            options,
            outer: Some(outer),
            ports: 0,
            headers,
        }
    }

    /// True: servers answer by way of the director.
    fn is_nat(&self) -> bool {
        matches!(self.options, "-m" | "--full-nat")
    }
}

const IPIP: &str = "-i";
const GRE: &str = "-i --tun-type gre";
const GRE_SUM: &str = "-i --tun-type gre --tun-csum";
const GUE_BARE: &str = "-i --tun-type gue --tun-port 6080";
const GUE_SUM: &str = "-i --tun-type gue --tun-port 6080 --tun-csum";
const GUE_REMOTE: &str = "-i --tun-type gue --tun-port 6080 --tun-remcsum";
const BARE: &[Layer] = &[Layer::BareUdp, Layer::Gue];
const SUM: &[Layer] = &[Layer::Udp, Layer::Gue];

pub(crate) const METHODS: [Method; 17] = [
    Method::new("masq", "-m"),
    Method {
        ports: MAPPED,
        ..Method::new("masq, other ports", "-m")
    },
    Method::new("full NAT", "--full-nat"),
    Method {
        ports: MAPPED,
        ..Method::new("full NAT, other ports", "--full-nat")
    },
    Method::new("direct routing", "-g"),
    Method::tunnel("ipip", IPIP, Family::V4, &[]),
    Method::tunnel("ipip", IPIP, Family::V6, &[]),
    Method::tunnel("gre", GRE, Family::V4, &[Layer::BareGre]),
    Method::tunnel("gre", GRE, Family::V6, &[Layer::BareGre]),
    Method::tunnel("gre, checksum", GRE_SUM, Family::V4, &[Layer::Gre]),
    Method::tunnel("gre, checksum", GRE_SUM, Family::V6, &[Layer::Gre]),
    Method::tunnel("gue", GUE_BARE, Family::V4, BARE),
    Method::tunnel("gue", GUE_BARE, Family::V6, BARE),
    Method::tunnel("gue, checksum", GUE_SUM, Family::V4, SUM),
    Method::tunnel("gue, checksum", GUE_SUM, Family::V6, SUM),
    Method::tunnel("gue, remote checksum", GUE_REMOTE, Family::V4, SUM),
    Method::tunnel("gue, remote checksum", GUE_REMOTE, Family::V6, SUM),
];
const _: () = assert!(GUE == 6080);

/// What the virtual cables do as good network cards would.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Offloads {
    /// Nothing: each frame is as it was sent, its checksums in it.
    Off,
    /// Checksums are left out, and packets larger than a frame are cut and put together.
    On,
}

impl Offloads {
    pub(crate) fn set(self, world: &World) -> Result<()> {
        let [first, second] = &world.servers;
        let director = world.director.host();
        switch(self, &world.client, &[CLIENT_PORT, LEGS[0], LEGS[1]])?;
        switch(
            self,
            director,
            &[CLIENT_PORT, SERVER_PORTS[0], SERVER_PORTS[1]],
        )?;
        switch(self, first, &[SERVER_PORTS[0], LEGS[0]])?;
        switch(self, second, &[SERVER_PORTS[1], LEGS[1]])
    }
}

/// What XDP sends into a virtual cable arrives only with GRO on at its end; a largest
/// size keeps it from putting anything together.
fn switch(offloads: Offloads, host: &Host, ports: &[&str]) -> Result<()> {
    let (value, size) = match offloads {
        Offloads::Off => ("off", 1),
        Offloads::On => ("on", 65536),
    };
    let mut lines = String::from("true");
    for port in ports {
        let _ = write!(
            lines,
            " && ethtool -K {port} tx {value} sg {value} tso {value} gso {value} gro on \
             && ip link set {port} gro_max_size {size}"
        );
    }
    run(host, &lines).map(drop)
}

/// A service of one protocol by one method.
pub(crate) struct Case<'a> {
    pub(crate) method: &'a Method,
    pub(crate) family: Family,
}

impl Case<'_> {
    pub(crate) fn rules(&self) -> String {
        let Method {
            options,
            outer,
            ports,
            ..
        } = *self.method;
        let vip = VIP.of(self.family);
        let mut rules = String::new();
        for (protocol, port) in [("-t", WEB), ("-t", SINK), ("-u", ECHO)] {
            let service = SocketAddr::new(vip, port);
            let _ = writeln!(rules, "-A {protocol} {service} -s rr");
            for server in &SERVERS {
                let server = server.of(outer.unwrap_or(self.family));
                let server = SocketAddr::new(server, port + ports);
                let _ = writeln!(rules, "-a {protocol} {service} -r {server} {options}");
            }
        }
        rules
    }

    pub(crate) fn tcp(&self, world: &World) -> Result<()> {
        let from = source(self.family, SOURCES.start);
        let at = |port| SocketAddr::new(VIP.of(self.family), port);
        traffic::tcp(&world.client, from, at(WEB), at(SINK))
    }

    pub(crate) fn udp(&self, world: &World) -> Result<()> {
        let from = source(self.family, SOURCES.start);
        let to = SocketAddr::new(VIP.of(self.family), ECHO);
        traffic::udp(&world.client, from, to)
    }

    fn pieces(&self, world: &World) -> Result<()> {
        let from = source(self.family, SOURCES.start);
        let to = SocketAddr::new(VIP.of(self.family), ECHO);
        traffic::pieces(&world.client, from, to)
    }

    /// Looks at what arrived of one protocol.
    fn check(&self, report: &Report, protocol: Layer) -> Result<()> {
        let ip = |family| match family {
            Family::V4 => Layer::Ipv4,
            Family::V6 => Layer::Ipv6,
        };
        let plain = vec![ip(self.family), protocol];
        let mut outer: Vec<Layer> = self.method.outer.map(ip).into_iter().collect();
        outer.extend(self.method.headers);
        outer.extend(&plain);
        watch::expect_shapes(&report.servers, &[outer], "at the servers")?;
        let (answers, none) = if self.method.is_nat() {
            (&report.director, &report.legs)
        } else {
            (&report.legs, &report.director)
        };
        watch::expect_shapes(answers, &[plain], "answers")?;
        watch::expect_shapes(none, &[], "answers by the other way")?;
        if protocol == Layer::Tcp {
            // No capture has missed much: all bytes were in it.
            let (in_bytes, out_bytes) = (report.servers.bytes(protocol), answers.bytes(protocol));
            ensure!(
                in_bytes > 2 * traffic::SIZE && out_bytes > 4 * traffic::SIZE,
                "captured: {in_bytes} bytes at the servers, {out_bytes} at the client"
            );
        }
        Ok(())
    }

    /// One protocol. What arrives is looked at as far as it is on the wire as it was sent.
    fn protocol(&self, round: &Round, protocol: Layer) -> Result<()> {
        let Round { world, watch, .. } = round;
        match protocol {
            Layer::Tcp => self.tcp(world)?,
            _ => self.udp(world)?,
        }
        if round.offloads == Offloads::Off {
            return self.check(&watch.report(world)?, protocol);
        }
        if protocol == Layer::Udp {
            self.pieces(world).context("in pieces")?;
        }
        let largest = watch.forget(world)?;
        // XDP gets no frames that are cut later.
        ensure!(
            protocol != Layer::Tcp || round.hook == "xdp" || largest > LARGE,
            "no frame was left to be cut later, the largest had {largest} bytes"
        );
        Ok(())
    }

    pub(crate) fn name(&self) -> String {
        match self.method.outer {
            None => self.method.name.into(),
            Some(Family::V4) => format!("{} over IPv4", self.method.name),
            Some(Family::V6) => format!("{} over IPv6", self.method.name),
        }
    }
}

/// More than the MTU allows, and any tunnel's header.
const LARGE: usize = 2000;

/// All methods, once.
struct Round<'a> {
    world: &'a World,
    hook: &'a str,
    watch: &'a Watch,
    offloads: Offloads,
}

/// Most failures after which the rest is still tried.
const FAILURES: usize = 4;

/// Results, a line a method.
struct Table {
    text: String,
    failures: Vec<anyhow::Error>,
}

impl Table {
    /// Tries all methods.
    fn fill(round: &Round) -> Result<Self> {
        let what = match round.offloads {
            Offloads::Off => "every checksum captured",
            Offloads::On => "offloads on, end to end",
        };
        let hook = round.hook;
        let mut table = Self {
            text: format!(
                "\n{:44}{:>11}{:>11}{:>11}{:>11}\n",
                format!("{hook}, {what}"),
                "IPv4 TCP",
                "IPv4 UDP",
                "IPv6 TCP",
                "IPv6 UDP"
            ),
            failures: Vec::new(),
        };
        for method in &METHODS {
            table.line(round, method)?;
            if table.failures.len() >= FAILURES {
                break;
            }
        }
        println!("{}", table.text);
        Ok(table)
    }

    fn line(&mut self, round: &Round, method: &Method) -> Result<()> {
        let world = round.world;
        for family in FAMILIES {
            let case = Case { method, family };
            if family == FAMILIES[0] {
                let _ = write!(self.text, "{:44}", case.name());
            }
            world.rules(&case.rules())?;
            round.watch.forget(world)?;
            for protocol in [Layer::Tcp, Layer::Udp] {
                let start = Instant::now();
                let outcome = case.protocol(round, protocol);
                let cell = match &outcome {
                    Ok(()) => format!("{} ms", start.elapsed().as_millis()),
                    Err(_) => "FAILED".into(),
                };
                let _ = write!(self.text, "{cell:>11}");
                if let Err(error) = outcome {
                    let reasons = world.reasons()?;
                    let what = format!("{}, {family:?}, {protocol}: {reasons:?}", case.name());
                    self.failures.push(error.context(what));
                }
            }
        }
        self.text.push('\n');
        Ok(())
    }

    fn end(self) -> Result<()> {
        if self.failures.is_empty() {
            return Ok(());
        }
        let all: Vec<String> = self.failures.iter().map(|e| format!("{e:?}")).collect();
        bail!("{}", all.join("\n\n"))
    }
}

fn everything(hook: &str) -> Result<()> {
    let start = Instant::now();
    let world = World::start(hook, Decapsulation::ByTest)?;
    println!("{hook}: the network is up after {:?}", start.elapsed());
    let watch = Watch::start(&world)?;
    let mut round = Round {
        world: &world,
        hook,
        watch: &watch,
        offloads: Offloads::Off,
    };
    round.offloads.set(&world)?;
    let deferred = world.reason("deferred_to_tc")?;
    Table::fill(&round)?.end()?;
    // With their checksums there, XDP finishes frames by itself.
    let deferred = world.reason("deferred_to_tc")? - deferred;
    ensure!(deferred < 100, "{deferred} frames deferred");
    kinds::all(&world, hook).context("kinds of services")?;
    round.offloads = Offloads::On;
    round.offloads.set(&world)?;
    Table::fill(&round)?.end()?;
    println!("{hook}: {:?} in all", start.elapsed());
    Ok(())
}

#[test]
fn every_method_at_tc() {
    sandbox::run_test(|| everything("tc"));
}

#[test]
fn every_method_at_xdp() {
    sandbox::run_test(|| everything("xdp"));
}
