//! The first field case: two Apaches behind a director, set up by hand with
//! `ipvsadm`, round robin by NAT. The files in `examples/case1` run as they are.

use std::fs;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

use crate::apache::Apache;
use crate::director::{Director, ServerLine};
use crate::draw::draw;
use crate::host::Host;
use crate::report::Report;
use crate::topology::{Address, HostSpec, Interface, Segment, Topology, Wiring};
use crate::{http, ifupdown, sandbox, wait};

const COMMANDS: &str = include_str!("../../../examples/case1/commands");
const DIRECTOR_INTERFACES: &str = include_str!("../../../examples/case1/director-interfaces");
const DEFAULTS: &str = include_str!("../../../examples/case1/default-ipvsadm");
const EXPECTED_NAMES: &str = include_str!("../../../examples/case1/expected-L");
const EXPECTED_NUMBERS: &str = include_str!("../../../examples/case1/expected-Ln");

/// The address the clients ask, which is also their gateway.
const VIP: Ipv4Addr = Ipv4Addr::new(192, 16, 193, 30);
const SERVER_GATEWAY: Ipv4Addr = Ipv4Addr::new(172, 16, 193, 254);
/// Name, last bytes of the address, and what the home page says.
const SERVERS: [(&str, [u8; 4], &str); 2] = [
    ("srvweb1", [172, 16, 193, 10], "It works srvweb1 !"),
    ("srvweb2", [172, 16, 193, 40], "It works! srvweb2"),
];
const CLIENTS: [(&str, [u8; 4]); 2] = [("A", [192, 16, 193, 10]), ("B", [192, 16, 193, 11])];
/// How often both clients load the page.
const ROUNDS: usize = 4;

/// Longest that a program may take to come up, on an emulated machine as well.
const START: Duration = Duration::from_mins(1);
/// Longest that a counter may take to show what happened.
const SHOW: Duration = Duration::from_secs(30);

/// Runs the case inside the sandbox with `program` as `evenkeel` and `ipvsadm`.
/// True where every point holds.
pub fn run(program: &Path, out: impl Write) -> Result<bool> {
    let start = Instant::now();
    let mut report = Report::new(out);
    let outcome = Case::start(program, &mut report).and_then(|mut case| {
        case.points(&mut report)
            .map_err(|error| anyhow!("{error:#}\n{}", case.network.director.log_tail()))
    });
    if let Err(error) = outcome {
        report.fail("the case runs to its end", &format!("{error:#}"))?;
    }
    report.text(&format!("took {:.1} s", start.elapsed().as_secs_f32()))?;
    Ok(report.finish()?)
}

/// The network of the case, as its documents give it.
fn topology() -> Result<Topology> {
    let segment = |name: &str| Segment {
        name: name.into(),
        wiring: Wiring::Switch,
    };
    let addresses = ifupdown::parse(DIRECTOR_INTERFACES).context("director-interfaces")?;
    let interfaces = addresses.into_iter().map(|(name, addresses)| Interface {
        segment: if addresses.iter().any(|a| a.address == VIP) {
            "clients"
        } else {
            "servers"
        }
        .into(),
        name,
        addresses,
    });
    let director = HostSpec {
        name: "director".into(),
        hostname: "Load-Balancer".into(),
        interfaces: interfaces.collect(),
        gateway: None,
    };
    let clients = CLIENTS.map(|(name, address)| {
        HostSpec::single(
            name,
            "ens192",
            "clients",
            Address::new(address, 24),
            Some(VIP),
        )
    });
    let servers = SERVERS.map(|(name, address, _)| {
        HostSpec::single(
            name,
            "ens192",
            "servers",
            Address::new(address, 16),
            Some(SERVER_GATEWAY),
        )
    });
    Ok(Topology {
        segments: vec![segment("clients"), segment("servers")],
        hosts: [director]
            .into_iter()
            .chain(clients)
            .chain(servers)
            .collect(),
    })
}

/// The network of the case with its servers running, and no daemon yet.
#[derive(Debug)]
pub struct Network {
    /// The director.
    pub director: Director,
    /// Clients A and B.
    pub clients: [Host; 2],
    /// Running as long as the network is there.
    _apaches: Vec<Apache>,
}

impl Network {
    /// Builds it in the sandbox, with `program` as `evenkeel` and `ipvsadm`.
    pub fn build(program: &Path) -> Result<Self> {
        sandbox::own_etc()?;
        sandbox::set_hosts(&format!("{VIP} Load-Balancer\n"))?;
        let hosts = topology()?.build()?;
        let [director, a, b, servers @ ..] = hosts.as_slice() else {
            bail!("the topology has no director and two clients");
        };
        let mut apaches = Vec::new();
        for (host, (_, address, page)) in servers.iter().zip(SERVERS) {
            apaches.push(Apache::start(
                host,
                &[SocketAddr::from((address, 80))],
                page,
            )?);
        }
        for (apache, host) in apaches.iter_mut().zip(servers) {
            apache.wait_ready(host, START)?;
        }
        let director = Director::new(director.clone(), program, "default")?;
        Ok(Self {
            director,
            clients: [a.clone(), b.clone()],
            _apaches: apaches,
        })
    }
}

/// The case while it runs: its network, and the daemon on the director.
struct Case {
    network: Network,
}

impl Case {
    fn start(program: &Path, report: &mut Report<impl Write>) -> Result<Self> {
        report.step("The network: clients, the director, two Apache servers")?;
        report.text(&draw(&topology()?, "clients", "director", "servers"))?;
        let mut network = Network::build(program)?;
        network.director.start_daemon(START)?;
        Ok(Self { network })
    }

    fn points(&mut self, report: &mut Report<impl Write>) -> Result<()> {
        self.commands(report)?;
        self.rounds(report)?;
        self.counters(report)?;
        self.without_daemon(report)?;
        self.boot(report)
    }

    /// Point 4: the saved rules are loaded at boot, by Debian's own file.
    fn boot(&mut self, report: &mut Report<impl Write>) -> Result<()> {
        report.step("The rules are saved, everything is removed, and the director boots")?;
        fs::write("/etc/default/ipvsadm", DEFAULTS).context("cannot write the lab's defaults")?;
        let lines = ["ipvsadm-save -n >/etc/ipvsadm.rules", "evenkeel purge"];
        for line in lines {
            if line == lines[1] {
                self.network.director.kill_daemon()?;
            }
            let output = self.network.director.shell(line)?;
            report.text(&format!("# {line}\n{output}"))?;
            if output.status != 0 {
                bail!("{line}: {output}");
            }
        }
        self.network.director.start_daemon(START)?;
        let listing = self.network.director.shell("ipvsadm -Ln")?.stdout;
        report.text(&format!("# ipvsadm -Ln\n{listing}"))?;
        let point = "4 AUTO=\"true\" in /etc/default/ipvsadm loads /etc/ipvsadm.rules at the start";
        report.check(point, &EXPECTED_NUMBERS, &listing.as_str())?;
        let pages = [self.page(0)?, self.page(1)?];
        let is_spread = pages[0] != pages[1];
        report.check(
            "4 and the clients are served by both servers",
            &true,
            &is_spread,
        )?;
        Ok(())
    }

    /// Point 1: the commands, line by line, and the two listings.
    fn commands(&self, report: &mut Report<impl Write>) -> Result<()> {
        report.step("The administrator's commands on the director, as published")?;
        let mut refused = Vec::new();
        let mut listings = Vec::new();
        for line in COMMANDS.lines() {
            let output = self.network.director.shell(line)?;
            report.text(&format!("# {line}\n{output}"))?;
            if output.status != 0 || !output.stderr.is_empty() {
                refused.push(format!("{line}: {output}"));
            }
            listings.push((line, output.stdout));
        }
        if refused.is_empty() {
            report.pass("1 every line of `commands` runs unchanged")?;
        } else {
            report.fail(
                "1 every line of `commands` runs unchanged",
                &refused.concat(),
            )?;
        }
        for (command, expected) in [
            ("ipvsadm -L", EXPECTED_NAMES),
            ("ipvsadm -Ln", EXPECTED_NUMBERS),
        ] {
            let seen = listings.iter().find(|(line, _)| *line == command);
            let seen = seen.map_or("", |(_, listing)| listing.as_str());
            let file = command.trim_start_matches("ipvsadm ");
            report.check(
                &format!("1 `{command}` prints expected{file}"),
                &expected,
                &seen,
            )?;
        }
        Ok(())
    }

    /// Point 2: the clients load the page in turn.
    fn rounds(&self, report: &mut Report<impl Write>) -> Result<()> {
        report.step("Clients A and B load the page in turn, four rounds")?;
        let mut rounds = Vec::new();
        for round in 1..=ROUNDS {
            let [a, b] = [self.page(0)?, self.page(1)?];
            report.text(&format!("round {round}: A sees \"{a}\", B sees \"{b}\""))?;
            rounds.push([a, b]);
        }
        let pages = SERVERS.map(|(_, _, page)| page.to_string());
        let is_page = |page| pages.contains(page);
        let fair = rounds
            .iter()
            .all(|[a, b]| a != b && is_page(a) && is_page(b));
        let point = "2 whenever A gets one server, B gets the other";
        if fair {
            report.pass(point)?;
        } else {
            report.fail(
                point,
                "expected both pages in each round, seen what stands above",
            )?;
        }
        Ok(())
    }

    /// Point 3: open and closed connections are counted.
    fn counters(&self, report: &mut Report<impl Write>) -> Result<()> {
        report
            .step("`ipvsadm -ln` while A and B hold a connection open, and after they closed it")?;
        let (before, _) = self.network.director.servers()?;
        let mut open = Vec::new();
        for client in &self.network.clients {
            let mut connection = http::Connection::open(client, vip())?;
            connection.get()?;
            open.push(connection);
        }
        let held = "3 each server has ActiveConn 1 while A and B hold a connection";
        self.expect_counters(report, held, |now| {
            now.iter().all(|server| server.active == 1)
        })?;
        drop(open);
        let closed = "3 after closing they count as InActConn, one more for each server";
        self.expect_counters(report, closed, |now| {
            now.len() == before.len()
                && now
                    .iter()
                    .zip(&before)
                    .all(|(now, before)| now.active == 0 && now.inactive == before.inactive + 1)
        })
    }

    /// The forwarding goes on without the daemon, which then takes it over.
    fn without_daemon(&mut self, report: &mut Report<impl Write>) -> Result<()> {
        report.step("kill -9 of the daemon while A holds a connection")?;
        let mut held = http::Connection::open(&self.network.clients[0], vip())?;
        let server = held.get()?.body;
        self.network.director.kill_daemon()?;
        let goes_on = held.get()?.body;
        let new = [self.page(0)?, self.page(1)?];
        report.text(&format!(
            "no daemon: A's open connection still sees \"{goes_on}\"; new ones see \"{}\" and \"{}\"",
            new[0], new[1]
        ))?;
        report.check(
            "+ without the daemon an open connection goes on",
            &server,
            &goes_on,
        )?;
        let pages = SERVERS.map(|(_, _, page)| page);
        if new[0] != new[1] && new.iter().all(|page| pages.contains(&page.as_str())) {
            report.pass("+ without the daemon new connections are spread")?;
        } else {
            report.fail(
                "+ without the daemon new connections are spread",
                "expected both pages",
            )?;
        }
        self.network.director.start_daemon(START)?;
        let again = held.get()?.body;
        let point = "+ the daemon comes back to the same services and connections";
        if again != server {
            return Ok(report.fail(point, &format!("expected {server:?}, seen {again:?}"))?);
        }
        self.expect_counters(report, point, |now| {
            now.len() == SERVERS.len() && now.iter().map(|server| server.active).sum::<u32>() == 1
        })
    }

    /// Waits until the listing's servers are as they should be, and shows it.
    fn expect_counters(
        &self,
        report: &mut Report<impl Write>,
        point: &str,
        holds: impl Fn(&[ServerLine]) -> bool,
    ) -> Result<()> {
        let mut last = String::new();
        let waited = wait::until(SHOW, "the counters", || {
            let (servers, listing) = self
                .network
                .director
                .servers()
                .map_err(|error| format!("{error:#}"))?;
            last = listing;
            if !servers.is_empty() && holds(&servers) {
                Ok(())
            } else {
                Err("other numbers".into())
            }
        });
        report.text(&last)?;
        verdict(report, point, &waited)?;
        Ok(())
    }

    /// The page that a client sees over a new connection.
    fn page(&self, client: usize) -> Result<String> {
        Ok(http::get(&self.network.clients[client], vip())?.body)
    }
}

fn vip() -> SocketAddr {
    SocketAddr::from((VIP, 80))
}

fn verdict(report: &mut Report<impl Write>, point: &str, result: &Result<()>) -> io::Result<()> {
    match result {
        Ok(()) => report.pass(point),
        Err(error) => report.fail(point, &format!("{error:#}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directors_addresses_come_from_its_file() -> Result<()> {
        let topology = topology()?;
        let director = &topology.hosts[0];
        let ports: Vec<_> = director
            .interfaces
            .iter()
            .map(|port| {
                (
                    port.name.as_str(),
                    port.segment.as_str(),
                    port.addresses.len(),
                )
            })
            .collect();
        assert_eq!(ports, [("ens192", "servers", 1), ("ens224", "clients", 2)]);
        assert_eq!(
            director.interfaces[1].addresses[1].label.as_deref(),
            Some("ens224:30")
        );
        Ok(())
    }
}
