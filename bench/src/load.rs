//! The time to load many services in one transaction, beside nftables loading the
//! same ones in one.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use evenkeel_api::client::Client;
use evenkeel_api::{EditRequest, EditResponse, paths};
use evenkeel_core::model::{
    Edit, ForwardMethod, Protocol, ServerKey, ServerSettings, ServiceKey, ServiceSettings,
};
use evenkeel_lab::director::Director;
use evenkeel_lab::host::Host;
use evenkeel_lab::topology::{Address, HostSpec, Segment, Topology, Wiring};
use nix::unistd::{SysconfVar, sysconf};

use crate::lab::path::nft;
use crate::machine;
use crate::measure::{Aim, Bound, Measurement, Samples, Unit, float};
use crate::report::Part;

/// Services of the aim, and servers of each.
const SERVICES: u32 = 10_000;
const SERVERS_EACH: u32 = 16;
/// Milliseconds of the aim.
const AIM_MS: f64 = 250.0;
/// Longest that the daemon may take to come up.
const START: Duration = Duration::from_secs(20);
/// The daemon's instance.
const INSTANCE: &str = "load";
/// Where the servers are: behind this router.
const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

/// How much is loaded, and how often.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Options {
    /// Services.
    #[arg(long, default_value_t = SERVICES, value_parser = clap::value_parser!(u32).range(1..=65_000))]
    services: u32,
    /// Servers of each service.
    #[arg(long, default_value_t = SERVERS_EACH, value_parser = clap::value_parser!(u32).range(1..=64))]
    servers: u32,
    /// Rounds.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// One round with 100 services, to see whether everything works.
    #[arg(long)]
    pub(crate) quick: bool,
}

impl Options {
    /// What `all` runs.
    pub(crate) const fn usual(quick: bool) -> Self {
        Self {
            services: SERVICES,
            servers: SERVERS_EACH,
            rounds: 5,
            quick,
        }
    }

    const fn services(self) -> u32 {
        if self.quick { 100 } else { self.services }
    }

    const fn rounds(self) -> u32 {
        if self.quick { 1 } else { self.rounds }
    }
}

/// Measures. `evenkeel` is Evenkeel's program.
pub(crate) fn run(options: Options, evenkeel: &Path) -> Result<Part> {
    let hosts = topology(INSTANCE).build()?;
    let [host, _router] = hosts.as_slice() else {
        bail!("the topology has two hosts");
    };
    let mut director = Director::new(host.clone(), evenkeel, INSTANCE)?;
    director.configure(&configuration(options.services(), options.servers, 0))?;
    let request = request(options.services(), options.servers)?;
    let mut loads = Vec::new();
    for round in 1..=options.rounds() {
        let busy = machine::others_percent()?;
        let loaded = once(&mut director, &options, &request)
            .with_context(|| format!("round {round} of loading services"))?;
        eprintln!(
            "round {round}: {} services loaded in {:.1} ms, {:.0} ms of CPU time (others use \
             {busy:.0} % of the CPUs)",
            options.services(),
            milliseconds(loaded.time),
            loaded.cpu_ms
        );
        loads.push(loaded);
    }
    let busy = machine::others_percent()?;
    let nft_time = nftables(host, &options)?;
    eprintln!(
        "nft: {} services loaded in {:.1} ms (others use {busy:.0} % of the CPUs)",
        options.services(),
        milliseconds(nft_time)
    );
    Ok(part(&options, request.len(), &loads, nft_time))
}

fn part(options: &Options, request: usize, loads: &[Loaded], nft_time: Duration) -> Part {
    let (services, servers) = (options.services(), options.servers);
    let what = format!("load {services} services, {servers} servers each");
    let of = |value: fn(&Loaded) -> f64| loads.iter().map(value).collect::<Samples>();
    let median = |value| of(value).median().unwrap_or(f64::NAN);
    let times = of(|loaded| milliseconds(loaded.time));
    let aim = Aim {
        what: format!("{what}: evenkeel"),
        value: times.median(),
        bound: Bound::AtMost(AIM_MS),
        unit: "ms",
    };
    let share = times.median().map(|median| median / milliseconds(nft_time));
    let mut ours = Measurement::new(&what, "evenkeel", Unit::Milliseconds, times);
    ours.of_nft = share;
    ours.notes = format!(
        "one transaction, {:.0} MB of JSON; {:.0} ms of CPU time; the daemon then has {:.0} MB in \
         memory",
        float(request as u64) / 1e6,
        median(|loaded| loaded.cpu_ms),
        median(|loaded| loaded.resident_mb)
    );
    let nft_times: Samples = [milliseconds(nft_time)].into_iter().collect();
    let mut nft = Measurement::new(&what, "nft", Unit::Milliseconds, nft_times);
    nft.of_nft = Some(1.0);
    nft.notes = "once".into();
    Part {
        measurements: vec![ours, nft],
        // The aim is about its own number of services alone.
        aims: if services == SERVICES && servers == SERVERS_EACH {
            vec![aim]
        } else {
            Vec::new()
        },
        notes: vec![
            "Services are loaded into an empty daemon through its control socket: the time from \
             the request's first byte to the answer's last. nft loads the same services and \
             servers with `nft -f`: kube-proxy's verdict map from service to chain, and in the \
             chain one rule that picks a server from a map (a chain for each server, as kube-proxy \
             makes them, takes nft several times longer)."
                .into(),
        ],
    }
}

pub(crate) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// A director whose servers are behind a router. Names begin with `name`.
pub(crate) fn topology(name: &str) -> Topology {
    let wire = format!("{name}-wire");
    let host = |role: &str, last, gateway| {
        HostSpec::single(
            &format!("{name}-{role}"),
            "eth0",
            &wire,
            Address::new([10, 0, 0, last], 24),
            gateway,
        )
    };
    Topology {
        segments: vec![Segment {
            name: wire.clone(),
            wiring: Wiring::Cable,
        }],
        hosts: vec![host("director", 1, Some(ROUTER)), host("router", 2, None)],
    }
}

/// The number's address in a network, in order.
fn address(network: [u8; 4], number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(Ipv4Addr::from(network).to_bits() + number)
}

pub(crate) fn service_address(service: u32) -> Ipv4Addr {
    address([10, 64, 0, 0], service)
}

pub(crate) fn server_address(server: u32) -> Ipv4Addr {
    address([10, 128, 0, 0], server)
}

/// The service of this number.
pub(crate) fn service_key(number: u32) -> ServiceKey {
    ServiceKey::at(Protocol::Tcp, service_address(number), 80)
}

/// The server of this number.
pub(crate) fn server_key(number: u32) -> ServerKey {
    let address = server_address(number).into();
    ServerKey {
        address,
        port: 8080,
    }
}

/// The whole request for so many services with so many servers each, as it goes over the
/// socket.
pub(crate) fn request(services: u32, servers: u32) -> Result<Vec<u8>> {
    let mut edits = Vec::new();
    for number in 0..services {
        let service = service_key(number);
        edits.push(Edit::AddService {
            service,
            settings: ServiceSettings::scheduled_by("rr"),
        });
        for server in 0..servers {
            edits.push(Edit::AddServer {
                service,
                server: server_key(number * servers + server),
                settings: ServerSettings::new(ForwardMethod::Masq, 1),
            });
        }
    }
    request_of(edits)
}

/// A request for these edits in one transaction.
pub(crate) fn request_of(edits: Vec<Edit>) -> Result<Vec<u8>> {
    let body = serde_json::to_vec(&EditRequest {
        transaction: true,
        edits,
    })
    .context("cannot write the request")?;
    let mut request = format!(
        "POST /v1/edits HTTP/1.1\r\nHost: evenkeel\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    )
    .into_bytes();
    request.extend(body);
    Ok(request)
}

/// A configuration with room for so many services, so many servers of each, and `more`
/// servers.
pub(crate) fn configuration(services: u32, servers_each: u32, more: u32) -> String {
    let servers = services * servers_each + more;
    // A ring takes a word for each server and two more, rounded up to a power of two;
    // while it is changed, twice that.
    let ring_words = services * 2 * (servers_each + 2).next_power_of_two();
    format!(
        "[dataplane]\nservices = {services}\nservers = {servers}\nring_words = {}\n",
        ring_words.max(64)
    )
}

/// What loading took.
#[derive(Clone, Copy, Debug)]
struct Loaded {
    /// From the request's first byte to the answer's last.
    time: Duration,
    /// The daemon's CPU time meanwhile, in steps of some milliseconds.
    cpu_ms: f64,
    /// What the daemon has in memory afterwards.
    resident_mb: f64,
}

/// Loads everything into a new daemon.
fn once(director: &mut Director, options: &Options, request: &[u8]) -> Result<Loaded> {
    director.start_daemon(START)?;
    let pid = Client::new(INSTANCE).status()?.pid;
    let spent = cpu_ticks(pid)?;
    let time = send(INSTANCE, request)?;
    let spent = cpu_ticks(pid)? - spent;
    let status = Client::new(INSTANCE).status()?;
    ensure!(
        (status.services, status.servers)
            == (options.services(), options.services() * options.servers),
        "the daemon has {} services and {} servers",
        status.services,
        status.servers
    );
    let resident_mb = resident_mb(pid)?;
    let output = director.shell("evenkeel stop")?;
    ensure!(
        output.status == 0,
        "evenkeel stop failed: {output}\n{}",
        director.log_tail()
    );
    let cpu_ms = 1e3 * float(spent) / float(ticks_per_second()?);
    Ok(Loaded {
        time,
        cpu_ms,
        resident_mb,
    })
}

/// Sends a request for edits to an instance's daemon, and gives the time from its first
/// byte to the answer's last.
pub(crate) fn send(instance: &str, request: &[u8]) -> Result<Duration> {
    let mut stream =
        UnixStream::connect(paths::socket(instance)).context("cannot connect to the daemon")?;
    let mut answer = Vec::new();
    let start = Instant::now();
    stream
        .write_all(request)
        .and_then(|()| stream.read_to_end(&mut answer))
        .context("cannot exchange request and answer with the daemon")?;
    let time = start.elapsed();
    check_answer(&answer)?;
    Ok(time)
}

fn check_answer(answer: &[u8]) -> Result<()> {
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text
        .split_once("\r\n\r\n")
        .context("the daemon's answer is cut off")?;
    ensure!(
        head.starts_with("HTTP/1.1 200 "),
        "the daemon answered {text}"
    );
    let response: EditResponse = serde_json::from_str(body)
        .with_context(|| format!("the daemon's answer makes no sense: {body}"))?;
    ensure!(
        response.refused.is_empty(),
        "refused: {:?}",
        response.refused.first()
    );
    Ok(())
}

/// CPU time of a process: user and system, the 14th and 15th number of `stat`.
fn cpu_ticks(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/stat");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    // The second one is a name in parentheses, which may have spaces in it.
    let numbers = text.rsplit_once(')').map_or("", |(_, numbers)| numbers);
    let mut times = numbers.split_whitespace().skip(11).map(str::parse::<u64>);
    match (times.next(), times.next()) {
        (Some(Ok(user)), Some(Ok(system))) => Ok(user + system),
        _ => bail!("cannot read {path}: {text:?}"),
    }
}

fn ticks_per_second() -> Result<u64> {
    let ticks = sysconf(SysconfVar::CLK_TCK)?.context("the length of a tick is unknown")?;
    Ok(ticks.unsigned_abs())
}

/// What of a process is in memory: the second number of `statm`, in pages.
fn resident_mb(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/statm");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let pages = text
        .split(' ')
        .nth(1)
        .and_then(|word| word.parse::<u64>().ok());
    let pages = pages.with_context(|| format!("cannot read {path}: {text:?}"))?;
    let page = sysconf(SysconfVar::PAGE_SIZE)?.context("the page size is unknown")?;
    Ok(float(pages * page.unsigned_abs()) / 1e6)
}

/// Has nft load the services.
fn nftables(host: &Host, options: &Options) -> Result<Duration> {
    let script = nft_script(options);
    let start = Instant::now();
    nft(host, &script)?;
    let time = start.elapsed();
    nft(host, "delete table ip proxy\n")?;
    Ok(time)
}

/// The same services in nft's language.
fn nft_script(options: &Options) -> String {
    let mut text = String::from("table ip proxy {\n");
    for service in 0..options.services() {
        let _ = write!(
            text,
            "  chain service{service} {{\n    meta l4proto tcp dnat to numgen random mod {} map {{ ",
            options.servers
        );
        for server in 0..options.servers {
            let comma = if server == 0 { "" } else { ", " };
            let address = server_address(service * options.servers + server);
            let _ = write!(text, "{comma}{server} : {address} . 8080");
        }
        text.push_str(" }\n  }\n");
    }
    text.push_str("  map services {\n    type ipv4_addr . inet_proto . inet_service : verdict\n");
    text.push_str("    elements = {\n");
    for service in 0..options.services() {
        let address = service_address(service);
        let _ = writeln!(text, "      {address} . tcp . 80 : goto service{service},");
    }
    text.push_str(
        "    }
  }
  chain prerouting {
    type nat hook prerouting priority dstnat; policy accept;
    ip daddr . meta l4proto . th dport vmap @services
  }
}
",
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Options = Options {
        services: 300,
        servers: 2,
        rounds: 1,
        quick: false,
    };

    #[test]
    fn addresses_are_all_different_and_count_on() {
        assert_eq!(server_address(0), Ipv4Addr::new(10, 128, 0, 0));
        assert_eq!(server_address(159_999), Ipv4Addr::new(10, 130, 112, 255));
        assert_eq!(service_address(9_999), Ipv4Addr::new(10, 64, 39, 15));
    }

    #[test]
    fn the_request_is_one_transaction_of_all_edits() -> Result<()> {
        let request = request(SMALL.services(), SMALL.servers)?;
        let text = std::str::from_utf8(&request)?;
        let (head, body) = text.split_once("\r\n\r\n").context("no body")?;
        assert!(head.contains(&format!("Content-Length: {}", body.len())));
        let request: EditRequest = serde_json::from_str(body)?;
        assert!(request.transaction);
        assert_eq!(request.edits.len(), 300 * 3);
        Ok(())
    }

    #[test]
    fn nft_gets_the_same_servers() {
        let script = nft_script(&SMALL);
        assert_eq!(script.matches(" . 8080").count(), 600);
        assert_eq!(script.matches("goto service").count(), 300);
        assert!(script.contains("10.128.2.87 . 8080"), "the last server");
    }
}
