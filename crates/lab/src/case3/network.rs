//! The network of the third case: clients behind a router, the director and its servers on
//! one segment.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::apache::{self, Apache};
use crate::director::Director;
use crate::host::Host;
use crate::mail::MailServer;
use crate::topology::{Address, HostSpec, Interface, Segment, Topology, Wiring};
use crate::{sandbox, topology};

/// What the administrator types on each real server.
const REAL_SERVER: &str = include_str!("../../../../examples/case3/real-server");

/// Longest that a program may take to come up or to end.
pub(super) const START: Duration = Duration::from_mins(1);

/// The address that clients ask.
pub(super) const VIP: Ipv4Addr = lan(9);
const DIRECTOR: Ipv4Addr = lan(1);
const GATEWAY: Ipv4Addr = lan(254);
/// The mail server, `relayhost.example.com` of the configuration.
const RELAY: Ipv4Addr = lan(25);
const CLIENTS_GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 168, 20, 1);
/// The clients' addresses.
pub(super) const CLIENTS: [Ipv4Addr; 2] = [
    Ipv4Addr::new(192, 168, 20, 2),
    Ipv4Addr::new(192, 168, 20, 3),
];
/// Last bytes of the addresses of those that can stand behind the virtual address: two real
/// servers, the sorry server, and one that is added by hand.
pub(super) const WEBS: [u8; 4] = [98, 85, 55, 75];
/// The page that is checked.
pub(super) const PAGE: &str = "test_vie.php";
/// Where the configuration's scripts are.
const PROGRAMS: &str = "/usr/local/bin";

/// An address on the servers' segment.
pub(super) const fn lan(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 168, 10, last)
}

/// The hosts and what runs on them, but for the daemon.
#[derive(Debug)]
pub(super) struct Network {
    pub(super) director: Director,
    pub(super) clients: [Host; 2],
    pub(super) mail: MailServer,
    webs: Vec<Web>,
}

/// A web server, which may be stopped.
#[derive(Debug)]
struct Web {
    last: u8,
    host: Host,
    apache: Option<Apache>,
}

fn topology() -> Topology {
    let segment = |name: &str| Segment {
        name: name.into(),
        wiring: Wiring::Switch,
    };
    let interface = |name: &str, segment: &str, address: Ipv4Addr| Interface {
        name: name.into(),
        segment: segment.into(),
        addresses: vec![Address::new(address, 24)],
    };
    let router = HostSpec {
        name: "router".into(),
        hostname: "router".into(),
        interfaces: vec![
            interface("eth0", "clients", CLIENTS_GATEWAY),
            interface("eth1", "servers", GATEWAY),
        ],
        gateway: None,
    };
    let single = |name: &str, segment: &str, address: Ipv4Addr, gateway: Ipv4Addr| {
        let address = Address::new(address, 24);
        HostSpec::single(name, "eth0", segment, address, Some(gateway))
    };
    let mut hosts = vec![
        router,
        single("director", "servers", DIRECTOR, GATEWAY),
        single("clientA", "clients", CLIENTS[0], CLIENTS_GATEWAY),
        single("clientB", "clients", CLIENTS[1], CLIENTS_GATEWAY),
        single("relay", "servers", RELAY, GATEWAY),
    ];
    hosts.extend(WEBS.map(|last| single(&format!("web{last}"), "servers", lan(last), GATEWAY)));
    Topology {
        segments: vec![segment("clients"), segment("servers")],
        hosts,
    }
}

impl Network {
    /// Builds it in the sandbox, with `program` as `evenkeel`, `ipvsadm` and `genhash`, and
    /// starts what is no director.
    pub(super) fn build(program: &Path) -> Result<Self> {
        sandbox::set_hosts(&format!("{RELAY} relayhost.example.com\n"))?;
        sandbox::own_programs(Path::new(PROGRAMS))?;
        let hosts = topology().build()?;
        let [router, director, a, b, relay, webs @ ..] = hosts.as_slice() else {
            bail!("the topology has other hosts");
        };
        run(router, "sysctl net.ipv4.ip_forward=1")?;
        // What VRRP does in the other half of the case.
        let address = format!("address add {VIP}/32 dev eth0\n");
        topology::ip(Some(director.name()), &address)?;
        let mail = MailServer::start(relay, (RELAY, 25).into(), START)?;
        let webs = webs.iter().zip(WEBS).map(|(host, last)| Web {
            last,
            host: host.clone(),
            apache: None,
        });
        let mut network = Self {
            director: Director::new(director.clone(), program, "default")?,
            clients: [a.clone(), b.clone()],
            mail,
            webs: webs.collect(),
        };
        for last in WEBS {
            let host = network.web(last)?.host.clone();
            for line in REAL_SERVER.lines() {
                run(&host, line)?;
            }
            network.set_home(last)?;
            network.set_page(last, "alive\n")?;
            network.start(last)?;
        }
        Ok(network)
    }

    fn web(&mut self, last: u8) -> Result<&mut Web> {
        let web = self.webs.iter_mut().find(|web| web.last == last);
        web.with_context(|| format!("there is no web server {last}"))
    }

    /// The home page says whose it is.
    fn set_home(&mut self, last: u8) -> Result<()> {
        apache::set_page(&self.web(last)?.host, "index.html", &format!("web{last}\n"))
    }

    /// Sets the page that is checked.
    pub(super) fn set_page(&mut self, last: u8, text: &str) -> Result<()> {
        apache::set_page(&self.web(last)?.host, PAGE, text)
    }

    /// Starts a web server and waits until it answers.
    pub(super) fn start(&mut self, last: u8) -> Result<()> {
        let web = self.web(last)?;
        // It answers at its own address to checks, and at the virtual one to clients.
        let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 80));
        let tls = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 443));
        let apache = Apache::start_site(&web.host, &[any], Some(tls))?;
        let own = SocketAddr::from((lan(last), 80));
        apache.wait_ready_at(&web.host, own, START)?;
        web.apache = Some(apache);
        Ok(())
    }

    /// Stops a web server; the machine goes on.
    pub(super) fn stop(&mut self, last: u8) -> Result<()> {
        match self.web(last)?.apache.take() {
            Some(apache) => apache.stop(START),
            None => bail!("web server {last} does not run"),
        }
    }

    /// The clients that have loaded a web server's home page.
    pub(super) fn visitors(&mut self, last: u8) -> Result<Vec<String>> {
        let requests = apache::requests(&self.web(last)?.host)?;
        let of_home = requests.iter().filter_map(|line| {
            let (client, request) = line.split_once(' ')?;
            request.starts_with("GET / ").then(|| client.to_owned())
        });
        Ok(of_home.collect())
    }
}

/// Runs a line on a host, which must not fail.
fn run(host: &Host, line: &str) -> Result<()> {
    let output = host.output(Command::new("sh").args(["-c", line]))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{line} on {} failed: {}", host.name(), said.trim());
    }
    Ok(())
}

/// Makes one of the configuration's scripts.
pub(super) fn script(name: &str, text: &str) -> Result<()> {
    let file = PathBuf::from(PROGRAMS).join(name);
    let attempt = || format!("cannot make {}", file.display());
    fs::write(&file, format!("#!/bin/sh\n{text}\n")).with_context(attempt)?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).with_context(attempt)
}
