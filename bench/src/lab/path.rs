//! What is measured: ways from the client to the servers, each with a network, a
//! director and servers of its own, all there at the same time.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use evenkeel_api::client::Client;
use evenkeel_lab::bench::{Bench, CLIENT_PORT, Offloads, SERVER_PORTS, SERVERS, VIP};
use evenkeel_lab::director::Director;
use evenkeel_lab::host::Host;
use evenkeel_lab::process::Process;
use evenkeel_lab::{http, sandbox, wait};

use super::metric::Metric;
use crate::flood::{Limit, Port};

/// Ports of the servers: web pages, and iperf3.
pub(crate) const WEB: u16 = 80;
/// See [`WEB`].
pub(crate) const IPERF: u16 = 5201;
/// The client's CPU.
pub(crate) const CLIENT_CPU: usize = 0;
/// The servers' CPU.
const SERVER_CPU: usize = 1;
/// Longest that a program may take to come up.
const START: Duration = Duration::from_secs(10);
/// Where Debian puts nginx's module for TCP and UDP.
const NGINX_STREAM: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

/// A way through the director.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// The kernel's plain forwarding, to one server, without load balancing.
    Forward,
    /// A program at XDP that rewrites MAC addresses and sends: the least that can be
    /// done there.
    XdpLimit,
    /// nftables: DNAT to the servers in turn.
    Nft,
    /// The kernel's own IPVS, with Debian's `ipvsadm`.
    Ipvs,
    /// Evenkeel at tc, as it chooses on virtual interfaces.
    Evenkeel,
    /// Evenkeel at XDP, as it chooses on physical interfaces.
    EvenkeelXdp,
    /// HAProxy in TCP mode.
    Haproxy,
    /// nginx as a stream proxy.
    Nginx,
}

impl Kind {
    /// Its name in the table and on the command line.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::XdpLimit => "xdp-limit",
            Self::Nft => "nft",
            Self::Ipvs => "ipvs",
            Self::Evenkeel => "evenkeel",
            Self::EvenkeelXdp => "evenkeel-xdp",
            Self::Haproxy => "haproxy",
            Self::Nginx => "nginx",
        }
    }

    /// Whether a metric says something about it. XDP on virtual interfaces leaves
    /// packets with unfinished checksums to tc, so that it is measured where
    /// there are none. HAProxy has no UDP, and a proxy answers a flood itself.
    pub(crate) const fn takes(self, metric: Metric) -> bool {
        match self {
            Self::Forward | Self::Nft | Self::Ipvs | Self::Evenkeel => true,
            Self::EvenkeelXdp => {
                matches!(metric, Metric::Plain | Metric::FloodUdp | Metric::FloodSyn)
            }
            Self::XdpLimit => matches!(metric, Metric::FloodUdp | Metric::FloodSyn),
            Self::Haproxy => !matches!(metric, Metric::Udp | Metric::FloodUdp | Metric::FloodSyn),
            Self::Nginx => !matches!(metric, Metric::FloodUdp | Metric::FloodSyn),
        }
    }

    /// Whether it is measured without being asked for. IPVS is not: many kernels have
    /// none, and the `ipvsadm` of the machine may be ours.
    pub(crate) const fn is_usual(self) -> bool {
        !matches!(self, Self::Ipvs)
    }

    /// The address that the client asks.
    pub(crate) const fn target(self) -> Ipv4Addr {
        match self {
            Self::Forward | Self::XdpLimit => SERVERS[0],
            _ => VIP,
        }
    }

    /// How many servers answer there.
    const fn servers(self) -> usize {
        match self {
            Self::Forward | Self::XdpLimit => 1,
            _ => SERVERS.len(),
        }
    }
}

/// A way that is up. What runs for it ends when it is dropped.
#[derive(Debug)]
pub(crate) struct DataPath {
    /// Which.
    pub(crate) kind: Kind,
    /// Its network.
    pub(crate) network: Bench,
    servers: Vec<Process>,
    director: Running,
}

/// What runs on a director.
#[derive(Debug)]
enum Running {
    /// Nothing but the kernel.
    Kernel,
    /// A program at XDP.
    Limit(#[expect(dead_code, reason = "held for its end")] Limit),
    /// A proxy.
    Proxy(#[expect(dead_code, reason = "held for its end")] Process),
    /// Evenkeel.
    Evenkeel(Box<Director>),
}

impl DataPath {
    /// Sets it up, with `evenkeel` as Evenkeel's program, and waits until the
    /// client gets pages of every server it should.
    pub(crate) fn start(kind: Kind, evenkeel: &Path) -> Result<Self> {
        let mut path = Self::without_servers(kind, evenkeel)?;
        for host in &path.network.servers {
            path.servers.push(web_server(host)?);
            let mut iperf = Command::new("iperf3");
            iperf.args(["-s", "-p", &IPERF.to_string()]);
            let log = format!("iperf3-{}", host.name());
            let iperf = Process::start(&host.on_cpu(SERVER_CPU), &log, &mut iperf)?;
            path.servers.push(iperf);
        }
        path.wait_ready()?;
        Ok(path)
    }

    /// Sets up the network and the director alone: floods need no one who answers.
    pub(crate) fn without_servers(kind: Kind, evenkeel: &Path) -> Result<Self> {
        let network = Bench::build(kind.name())?;
        // A new veth has no GRO, and takes no frames from another's XDP without it.
        network.set_offloads(Offloads::On)?;
        let director = &network.director;
        let running = match kind {
            Kind::Forward => Running::Kernel,
            Kind::XdpLimit => Running::Limit(xdp_limit(&network)?),
            Kind::Nft => nft(director, NFT).map(|()| Running::Kernel)?,
            Kind::Ipvs => ipvs_on(director).map(|()| Running::Kernel)?,
            Kind::Evenkeel => evenkeel_on(director, evenkeel, "tc")?,
            Kind::EvenkeelXdp => evenkeel_on(director, evenkeel, "xdp")?,
            Kind::Haproxy => {
                own_service_address(director)?;
                let file = write_file("haproxy.cfg", HAPROXY)?;
                let mut haproxy = Command::new("haproxy");
                haproxy.args(["-db", "-q", "-f"]).arg(file);
                Running::Proxy(Process::start(director, "haproxy", &mut haproxy)?)
            }
            Kind::Nginx => {
                own_service_address(director)?;
                let file = write_file("nginx-stream.conf", &nginx_stream())?;
                Running::Proxy(Process::start(director, "nginx-stream", &mut nginx(&file))?)
            }
        };
        Ok(Self {
            kind,
            network,
            servers: Vec::new(),
            director: running,
        })
    }

    /// Ends Evenkeel's daemon, where there is one: forwarding needs none, and what it does
    /// goes by the time, not by packets.
    pub(crate) fn end_daemon(&mut self) -> Result<()> {
        match &mut self.director {
            Running::Evenkeel(director) => director.kill_daemon(),
            Running::Kernel | Running::Limit(_) | Running::Proxy(_) => Ok(()),
        }
    }

    /// Waits until the client's requests reach every server in turn.
    fn wait_ready(&self) -> Result<()> {
        let to = SocketAddr::from((self.kind.target(), WEB));
        let what = format!("pages over {}", self.kind.name());
        let expected = self.kind.servers();
        wait::until(START, &what, || {
            let mut pages = Vec::new();
            for _ in SERVERS {
                let page = http::get(&self.network.client, to).map_err(|e| format!("{e:#}"))?;
                if page.status == 200 && !pages.contains(&page.body) {
                    pages.push(page.body);
                }
            }
            if pages.len() == expected {
                Ok(())
            } else {
                Err(format!("pages {pages:?}"))
            }
        })
    }
}

fn write_file(name: &str, text: &str) -> Result<PathBuf> {
    let path = Path::new(sandbox::DIRECTORY).join(name);
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

/// Runs a program on a host; an error where it fails.
pub(crate) fn run(host: &Host, command: &mut Command) -> Result<Vec<u8>> {
    let output = host.output(command)?;
    if !output.status.success() {
        let name = command.get_program().display().to_string();
        let error = String::from_utf8_lossy(&output.stderr);
        bail!(
            "{name} failed on {} ({}): {}",
            host.name(),
            output.status,
            error.trim()
        );
    }
    Ok(output.stdout)
}

/// Has nft do a script on a host.
pub(crate) fn nft(host: &Host, script: &str) -> Result<()> {
    let file = write_file(&format!("{}.nft", host.name()), script)?;
    run(
        host,
        Command::new("nft")
            .arg("-f")
            .arg(file)
            .stderr(Stdio::piped()),
    )
    .map(drop)
}

/// A proxy ends connections, so the address has to be the director's own; so it has
/// for IPVS.
fn own_service_address(director: &Host) -> Result<()> {
    let address = format!("{VIP}/32");
    run(
        director,
        Command::new("ip").args(["address", "add", &address, "dev", "lo"]),
    )
    .map(drop)
}

/// A web server on its CPU that serves its own name from memory.
fn web_server(host: &Host) -> Result<Process> {
    let name = host.name();
    let root = Path::new(sandbox::DIRECTORY).join(format!("web-{name}"));
    fs::create_dir_all(&root).with_context(|| format!("cannot make {}", root.display()))?;
    let directory = root.display();
    let paths: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|what| format!("  {what}_temp_path {directory};\n"))
        .concat();
    let text = format!(
        "daemon off; master_process off; worker_processes 1;
pid {directory}/pid; error_log stderr;
events {{ worker_connections 8192; multi_accept on; }}
http {{
  access_log off; keepalive_requests 100000000; keepalive_timeout 60s;
{paths}  server {{
    listen {WEB} reuseport backlog=65535;
    location / {{ return 200 \"{name}\\n\"; }}
  }}
}}
"
    );
    let file = write_file(&format!("web-{name}.conf"), &text)?;
    Process::start(
        &host.on_cpu(SERVER_CPU),
        &format!("web-{name}"),
        &mut nginx(&file),
    )
}

fn nginx(file: &Path) -> Command {
    let mut nginx = Command::new("nginx");
    // Until it has read its file, nginx logs to where the package says.
    nginx.args(["-e", "stderr", "-c"]).arg(file);
    nginx
}

/// The services, as `ipvsadm` takes them.
fn rules() -> [String; 7] {
    let [first, second] = SERVERS;
    [
        format!("-A -t {VIP}:{WEB} -s rr"),
        format!("-a -t {VIP}:{WEB} -r {first}:{WEB} -m"),
        format!("-a -t {VIP}:{WEB} -r {second}:{WEB} -m"),
        format!("-A -t {VIP}:{IPERF} -s rr"),
        format!("-a -t {VIP}:{IPERF} -r {first}:{IPERF} -m"),
        format!("-A -u {VIP}:{IPERF} -s rr"),
        format!("-a -u {VIP}:{IPERF} -r {first}:{IPERF} -m"),
    ]
}

/// Adds the services to the kernel's IPVS. Debian's program loads it where it is not
/// there yet.
fn ipvs_on(host: &Host) -> Result<()> {
    // It sees what is for the host itself alone.
    own_service_address(host)?;
    rules().iter().try_for_each(|rule| {
        let mut ipvsadm = Command::new("ipvsadm");
        run(host, ipvsadm.args(rule.split(' ')))
            .with_context(|| format!("cannot add `{rule}` to the kernel's IPVS"))
            .map(drop)
    })
}

/// Starts Evenkeel on a host with a hook, and adds the services.
fn evenkeel_on(host: &Host, program: &Path, hook: &str) -> Result<Running> {
    let instance = host.name();
    let configuration = format!("[dataplane]\nhook = \"{hook}\"\n");
    let mut director = Director::new(host.clone(), program, instance)?;
    director.configure(&configuration)?;
    director.start_daemon(START)?;
    for rule in rules() {
        let line = format!("ipvsadm {rule}");
        let output = director.shell(&line)?;
        if output.status != 0 {
            bail!("`{line}` failed: {output}");
        }
    }
    let client = Client::new(instance);
    wait::until(START, "the next hops of the servers", || {
        let status = client.status().map_err(|error| error.to_string())?;
        match status.servers_without_hop {
            0 => Ok(()),
            left => Err(format!("{left} are not known")),
        }
    })?;
    Ok(Running::Evenkeel(Box::new(director)))
}

/// Frames from the client go to the first server.
fn xdp_limit(network: &Bench) -> Result<Limit> {
    let [port, _] = SERVER_PORTS;
    let server = network.servers[0].within(|| Port::find(port))??;
    network
        .director
        .within(|| Limit::attach(CLIENT_PORT, port, server.address))?
}

/// Services as nftables does them best: one rule each, servers in turn.
const NFT: &str = "table ip lb {
  chain pre {
    type nat hook prerouting priority dstnat; policy accept;
    ip daddr 10.99.0.1 tcp dport 80 dnat to numgen inc mod 2 map { 0 : 10.20.1.2, 1 : 10.20.2.2 }
    ip daddr 10.99.0.1 meta l4proto { tcp, udp } th dport 5201 dnat to 10.20.1.2
  }
}
";

const HAPROXY: &str = "global
  maxconn 8000
  nbthread 2
defaults
  mode tcp
  timeout connect 3s
  timeout client 30s
  timeout server 30s
listen web
  bind 10.99.0.1:80
  balance roundrobin
  server a 10.20.1.2:80
  server b 10.20.2.2:80
listen iperf
  bind 10.99.0.1:5201
  server a 10.20.1.2:5201
";

fn nginx_stream() -> String {
    // The module is part of the program in some builds.
    let module = if Path::new(NGINX_STREAM).exists() {
        format!("load_module {NGINX_STREAM};\n")
    } else {
        String::new()
    };
    let directory = sandbox::DIRECTORY;
    format!(
        "{module}daemon off; worker_processes 2; pid {directory}/nginx-stream.pid; error_log stderr crit;
events {{ worker_connections 16384; multi_accept on; }}
stream {{
  upstream web {{ server 10.20.1.2:80; server 10.20.2.2:80; }}
  upstream iperf {{ server 10.20.1.2:5201; }}
  server {{ listen 10.99.0.1:80 reuseport backlog=65535; proxy_pass web; }}
  server {{ listen 10.99.0.1:5201 reuseport; proxy_pass iperf; }}
  server {{ listen 10.99.0.1:5201 udp reuseport; proxy_pass iperf; proxy_timeout 20s; }}
}}
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configurations_name_the_networks_addresses() {
        let [first, second] = SERVERS;
        for text in [NFT, HAPROXY, &nginx_stream()] {
            for address in [VIP, first, second] {
                assert!(
                    text.contains(&address.to_string()),
                    "{address} is missing in {text}"
                );
            }
        }
        let known = [VIP, first, second];
        let words = |text: &'static str| text.split(|c: char| !c.is_ascii_digit() && c != '.');
        for text in [NFT, HAPROXY] {
            for address in words(text).filter_map(|word| word.parse::<Ipv4Addr>().ok()) {
                assert!(known.contains(&address), "{address} is nobody's");
            }
        }
    }
}
