//! A machine is made a real server, serves, and is as it was before.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use evenkeel_api::paths::DEFAULT_INSTANCE;
use evenkeel_lab::director::{Director, Output};
use evenkeel_lab::host::Host;
use evenkeel_lab::topology::{Address, HostSpec, Segment, Topology, Wiring};
use evenkeel_lab::{sandbox, session, wait};

/// Longest that a change may take to show, on an emulated machine as well.
const SHOW: Duration = Duration::from_secs(30);
/// Longest that one answer is waited for.
const ANSWER: Duration = Duration::from_millis(200);
const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/realserver.md");
const PORT: u16 = 9000;
/// Addresses of the director, which is the client as well, and of the server.
const DIRECTOR: [&str; 2] = ["10.9.0.1", "2001:db8:9::1"];
const SERVER: [&str; 2] = ["10.9.0.2", "2001:db8:9::2"];
const VIPS: [&str; 2] = ["10.0.0.100", "2001:db8::100"];

/// A way to send packets to real servers.
struct Way {
    /// As `--tunnel` has it.
    tunnel: &'static str,
    /// Place in the pairs of addresses.
    family: usize,
    /// The sending device, for `ip link add`, between its name and its addresses.
    device: &'static str,
    options: &'static str,
}

const WAYS: [Way; 6] = [
    Way {
        tunnel: "ipip",
        family: 0,
        device: "ipip",
        options: "",
    },
    Way {
        tunnel: "ipip",
        family: 1,
        device: "ip6tnl mode ip6ip6",
        options: "",
    },
    Way {
        tunnel: "gre",
        family: 0,
        device: "gre",
        options: "",
    },
    Way {
        tunnel: "gre",
        family: 1,
        device: "ip6gre",
        options: "",
    },
    Way {
        tunnel: "gue",
        family: 0,
        device: "ipip",
        options: "encap gue encap-sport auto encap-dport 6080",
    },
    Way {
        tunnel: "gue:7777",
        family: 1,
        device: "ip6tnl mode ip6ip6",
        options: "encaplimit none encap gue encap-sport auto encap-dport 7777",
    },
];

/// The director and the real server, on one cable.
struct World {
    director: Host,
    /// It runs no daemon.
    server: Director,
}

impl World {
    fn build() -> Result<Self> {
        let host = |name: &str, address: &str| -> Result<HostSpec> {
            let address = Address::new(address.parse::<Ipv4Addr>()?, 24);
            Ok(HostSpec::single(name, "cable", "wire", address, None))
        };
        let topology = Topology {
            segments: vec![Segment {
                name: "wire".into(),
                wiring: Wiring::Cable,
            }],
            hosts: vec![host("director", DIRECTOR[0])?, host("server", SERVER[0])?],
        };
        let hosts = topology.build()?;
        let [director, server] = hosts.as_slice() else {
            bail!("the topology has two hosts");
        };
        for (host, address) in [director, server].into_iter().zip([DIRECTOR[1], SERVER[1]]) {
            run(
                host,
                &format!("ip address add {address}/64 dev cable nodad"),
            )?;
            // Answers come by another interface than what they answer left by.
            for device in ["all", "default", "cable"] {
                run(
                    host,
                    &format!("echo 0 >/proc/sys/net/ipv4/conf/{device}/rp_filter"),
                )?;
            }
        }
        // In a guest, the program is not where it was built.
        let program = std::env::var_os("EVENKEEL_PROGRAM");
        let program = program.unwrap_or_else(|| env!("CARGO_BIN_EXE_evenkeel").into());
        let server = Director::new(server.clone(), Path::new(&program), DEFAULT_INSTANCE)?;
        Ok(Self {
            director: director.clone(),
            server,
        })
    }

    fn evenkeel(&self, arguments: &str) -> Result<Output> {
        self.server
            .shell(&format!("evenkeel realserver {arguments}"))
    }

    /// Runs it; it has to work and print these lines.
    fn expect(&self, arguments: &str, lines: &[&str]) -> Result<()> {
        let output = self.evenkeel(arguments)?;
        let printed: Vec<&str> = output.stdout.lines().collect();
        ensure!(
            output.status == 0 && printed == lines && output.stderr.is_empty(),
            "{arguments}: status {}\n{output}",
            output.status
        );
        Ok(())
    }

    /// All of the server that a set-up could leave changed, but for what the kernel gives
    /// an interface as it comes up.
    fn traces(&self) -> Result<BTreeSet<String>> {
        let script = "ip -o address show | grep -v 'scope link'; ip fou show 2>/dev/null; ls /run/evenkeel 2>/dev/null; \
                      cd /proc/sys/net/ipv4/conf && grep -H . all/arp_* all/rp_filter \
                      lo/arp_* lo/rp_filter cable/arp_* cable/rp_filter";
        Ok(run(self.server.host(), script)?
            .lines()
            .map(Into::into)
            .collect())
    }

    /// Sockets of the director and of the server, which has the address.
    fn sockets(&self, vip: IpAddr) -> Result<Sockets> {
        let any: IpAddr = match vip {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let to = SocketAddr::new(vip, PORT);
        let asking = self.director.within(|| UdpSocket::bind((any, 0)))??;
        let answering = self
            .server
            .host()
            .within(|| UdpSocket::bind(to))?
            .with_context(|| format!("cannot listen at {to}"))?;
        asking.set_read_timeout(Some(ANSWER))?;
        answering.set_read_timeout(Some(ANSWER))?;
        Ok(Sockets {
            asking,
            answering,
            to,
        })
    }
}

/// Both ends of a conversation.
struct Sockets {
    asking: UdpSocket,
    answering: UdpSocket,
    to: SocketAddr,
}

impl Sockets {
    /// One datagram there and back.
    fn exchange(&self) -> io::Result<()> {
        let mut byte = [0];
        self.asking.send_to(b"?", self.to)?;
        let (_, from) = self.answering.recv_from(&mut byte)?;
        self.answering.send_to(b"!", from)?;
        match self.asking.recv_from(&mut byte)? {
            (1, from) if from == self.to => Ok(()),
            (_, other) => Err(io::Error::other(format!("an answer from {other}"))),
        }
    }

    fn wait_until_served(&self) -> Result<()> {
        wait::until(SHOW, &format!("an answer from {}", self.to), || {
            self.exchange().map_err(|error| error.to_string())
        })
    }
}

fn run(host: &Host, line: &str) -> Result<String> {
    let output = host.output(Command::new("sh").args(["-c", line]))?;
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        bail!("{}# {line}: {}", host.name(), error.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn direct_routing() {
    sandbox::run_test(|| {
        let world = World::build()?;
        let untouched = world.traces()?;
        let [vip, vip6] = VIPS;

        let output = world.evenkeel(&format!("check {vip}"))?;
        ensure!(
            output.status == 1 && output.stdout.contains("arp_ignore on all is 0"),
            "{}",
            output.stdout
        );
        ensure!(
            world.traces()? == untouched,
            "a check has changed something"
        );

        let up = format!("up {vip} {vip6}");
        world.expect(
            &up,
            &[
                "arp_ignore on all: 0 -> 1",
                "arp_announce on all: 0 -> 2",
                "10.0.0.100 on lo: added",
                "2001:db8::100 on lo: added",
            ],
        )?;
        world.expect(&format!("check {vip} {vip6}"), &[])?;
        world.expect(&up, &[])?;
        world.expect("up 10.0.0.101", &["10.0.0.101 on lo: added"])?;

        for vip in VIPS {
            let address: IpAddr = vip.parse()?;
            let sockets = world.sockets(address)?;
            // The server keeps silent about its having the address …
            run(&world.director, &format!("ip route add {vip} dev cable"))?;
            let version = if address.is_ipv4() { "ipv4" } else { "ipv6" };
            let sooner = format!("echo 50 >/proc/sys/net/{version}/neigh/cable/retrans_time_ms");
            run(&world.director, &sooner)?;
            wait::until(SHOW, "the neighbour to fail", || {
                let _ = sockets.exchange();
                match run(&world.director, &format!("ip neigh show {vip}")) {
                    Ok(text) if text.contains("FAILED") => Ok(()),
                    other => Err(format!("{other:?}")),
                }
            })?;
            // … and serves whoever knows its MAC address, as a director does.
            let mac = run(world.server.host(), "cat /sys/class/net/cable/address")?;
            let mac = mac.trim();
            let learn = format!("ip neigh replace {vip} dev cable lladdr {mac} nud permanent");
            run(&world.director, &learn)?;
            sockets.wait_until_served()?;
        }

        world.expect(
            &format!("down {vip} {vip6}"),
            &[
                "10.0.0.100 on lo: removed",
                "2001:db8::100 on lo: removed",
                "arp_ignore on all: kept for 10.0.0.101 on lo",
                "arp_announce on all: kept for 10.0.0.101 on lo",
            ],
        )?;
        world.expect(
            "down 10.0.0.101",
            &[
                "10.0.0.101 on lo: removed",
                "arp_ignore on all: 1 -> 0",
                "arp_announce on all: 2 -> 0",
            ],
        )?;
        world.expect(&format!("down {vip}"), &[])?;
        ensure!(world.traces()? == untouched, "{:#?}", world.traces()?);
        Ok(())
    });
}

#[test]
fn the_page_prints_what_is_written() {
    sandbox::run_test(|| {
        let text = fs::read_to_string(PAGE).context("docs/realserver.md")?;
        let steps = session::parse(&text)?;
        assert!(!steps.is_empty(), "the page has no session");
        let world = World::build()?;
        session::run(&steps, |_, command| {
            let output = world.server.shell(command)?;
            Ok(output.stdout + &output.stderr)
        })
    });
}

#[test]
fn reports_are_json() {
    sandbox::run_test(|| {
        let world = World::build()?;
        let vip = VIPS[0];
        let report = |arguments: &str| -> Result<(i32, serde_json::Value)> {
            let output = world.evenkeel(arguments)?;
            let value = serde_json::from_str(&output.stdout);
            let value = value.with_context(|| format!("{}{}", output.stdout, output.stderr))?;
            Ok((output.status, value))
        };
        let (status, check) = report(&format!("check --json {vip}"))?;
        assert_eq!(status, 1);
        let remedy = &check["problems"][0]["remedy"];
        assert_eq!(remedy, "sysctl -w net.ipv4.conf.all.arp_ignore=1");
        let (status, up) = report(&format!("up --json {vip}"))?;
        assert_eq!(status, 0);
        let first = serde_json::json!({
            "change": "set", "name": "arp_ignore", "device": "all", "before": 0, "after": 1,
        });
        assert_eq!(up["changed"][0], first);
        let last = serde_json::json!({
            "change": "add-address", "address": vip, "device": "lo",
        });
        assert_eq!(up["changed"][2], last);
        let (status, down) = report(&format!("down --json {vip}"))?;
        assert_eq!(
            (status, down["changed"].as_array().map(Vec::len)),
            (0, Some(3))
        );
        Ok(())
    });
}

#[test]
fn an_address_in_the_wrong_place_is_told() {
    sandbox::run_test(|| {
        let world = World::build()?;
        for command in ["up", "check"] {
            let output = world.evenkeel(&format!("{command} {}", SERVER[0]))?;
            let remedy = "ip address del 10.9.0.2/24 dev cable";
            ensure!(
                output.status == 1 && output.stdout.contains(remedy),
                "{command}: {}",
                output.stdout
            );
        }
        Ok(())
    });
}

#[test]
fn tunnels() {
    sandbox::run_test(|| {
        let world = World::build()?;
        for way in &WAYS {
            through(&world, way).with_context(|| format!("{} {}", way.tunnel, VIPS[way.family]))?;
        }
        Ok(())
    });
}

fn through(world: &World, way: &Way) -> Result<()> {
    let Way {
        tunnel,
        family,
        device,
        options,
    } = *way;
    let vip = VIPS[family];
    let all = "/proc/sys/net/ipv4/conf/all/rp_filter";
    run(world.server.host(), &format!("echo 1 >{all}"))?;
    let untouched = world.traces()?;
    let output = world.evenkeel(&format!("up --tunnel {tunnel} {vip}"))?;
    if output.status != 0 && output.stderr.contains("no module") {
        println!("skipped: --tunnel {tunnel} {vip}: {}", output.stderr.trim());
        ensure!(world.traces()? == untouched, "something was changed");
        return Ok(());
    }
    println!("--tunnel {tunnel} {vip}\n{}", output.stdout);
    ensure!(output.status == 0, "{}", output.stderr);
    world.expect(&format!("check --tunnel {tunnel} {vip}"), &[])?;
    world.expect(&format!("up --tunnel {tunnel} {vip}"), &[])?;

    let sockets = world.sockets(vip.parse()?)?;
    let (from, to) = (DIRECTOR[family], SERVER[family]);
    if family == 1 && options.contains("gue") {
        // The sender's part is a module that nothing asks for by itself.
        run(&world.director, "modprobe fou6")?;
    }
    for line in [
        format!("ip link add name out type {device} local {from} remote {to} {options}"),
        "ip link set out up".into(),
        format!("ip route add {vip} dev out src {from}"),
    ] {
        run(&world.director, &line)?;
    }
    sockets.wait_until_served()?;
    run(&world.director, "ip link del out")?;

    let output = world.evenkeel(&format!("down {vip}"))?;
    ensure!(output.status == 0, "{}", output.stderr);
    println!("{}", output.stdout);
    ensure!(world.traces()? == untouched, "{:#?}", world.traces()?);
    Ok(())
}
