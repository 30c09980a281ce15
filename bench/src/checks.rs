//! Checks of many servers, as the daemon runs them: what they cost, and how punctual they
//! are.

mod keepalived;

use std::collections::HashMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use evenkeel_config::native::{self, Config, PlacedService};
use evenkeel_core::health::news::News;
use evenkeel_core::model::{
    Alerts, Check, Connect, Ends, ForwardMethod, HttpProbe, HttpVersion, Page, Probe, Protocol,
    RealServer, ServerKey, ServerSettings, ServiceKey, Timing,
};
use evenkeel_core::probe::Verdict;
use evenkeel_daemon::checks::{self, Context};
use evenkeel_daemon::configure;
use evenkeel_daemon::dataplane::InMemory;
use evenkeel_daemon::monitor::{self, Hands, Run};
use evenkeel_daemon::script::Scripts;
use evenkeel_daemon::shared::Shared;
use evenkeel_datapath::simulated::Sizes;
use evenkeel_kernel::system;
use evenkeel_lab::host::Host;
use evenkeel_lab::process::Process;
use evenkeel_lab::sandbox;
use evenkeel_lab::topology::{HostSpec, Topology};
use evenkeel_lab::wait;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use nix::unistd::Pid;

use crate::machine;
use crate::measure::{Aim, Bound, Measurement, Samples, Unit, float};
use crate::report::Part;

/// Servers of the aim.
const SERVERS: u32 = 10_000;
/// Servers of one service.
const SERVERS_EACH: u32 = 100;
/// How often each is checked.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long a check may take.
const TIMEOUT: Duration = Duration::from_secs(3);
/// Time until all checks have their places in the interval.
const SETTLE: Duration = Duration::from_secs(4);
/// Longest that the web server may take to come up.
const START: Duration = Duration::from_secs(20);
/// Milliseconds of the aim: all but one of a hundred begin so punctually.
const AIM_LATE_MS: f64 = 100.0;
/// CPU of the checks, and of the servers.
const CPUS: [usize; 2] = [0, 1];

/// How much is checked, and for how long.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Options {
    /// Servers, each of which is checked once a second.
    #[arg(long, default_value_t = SERVERS, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    servers: u32,
    /// Seconds that are measured.
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// 200 servers for two seconds, to see whether everything works.
    #[arg(long)]
    quick: bool,
}

impl Options {
    /// What `all` runs.
    pub(crate) const fn usual(quick: bool) -> Self {
        Self {
            servers: SERVERS,
            seconds: 15,
            quick,
        }
    }

    const fn servers(self) -> u32 {
        if self.quick { 200 } else { self.servers }
    }

    const fn seconds(self) -> u64 {
        if self.quick { 2 } else { self.seconds }
    }
}

/// Which checks.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Tcp,
    Http,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Http => "HTTP",
        }
    }

    fn probe(self, to: SocketAddr) -> Probe {
        let connect = Connect::to(to, TIMEOUT);
        match self {
            Self::Tcp => Probe::Tcp(connect),
            Self::Http => Probe::Http(HttpProbe {
                connect,
                tls: None,
                version: HttpVersion::V1_0,
                pages: vec![Page {
                    path: "/".into(),
                    headers: Vec::new(),
                    json: Vec::new(),
                    host: None,
                    statuses: Vec::new(),
                    digest: None,
                    regex: None,
                }],
                fast_recovery: false,
            }),
        }
    }
}

/// Measures.
pub(crate) fn run(options: Options) -> Result<Part> {
    let hosts = topology().build()?;
    let [host] = hosts.as_slice() else {
        bail!("the topology has one host");
    };
    let _servers = web_server(host)?;
    let mut part = Part::default();
    for kind in [Kind::Tcp, Kind::Http] {
        let busy = machine::others_percent()?;
        let seen = host.within(|| measure(kind, options))??;
        eprintln!(
            "{} {} checks in {} s: {:.0} % of a CPU, late by {:.1} ms (median) and {:.1} ms \
             (99 %), {} failures (others use {busy:.0} % of the CPUs)",
            seen.late_ms.len(),
            kind.name(),
            options.seconds(),
            seen.cpu_percent,
            seen.late(50),
            seen.late(99),
            seen.failures,
        );
        report(&mut part, kind, options, &seen);
        let peer = keepalived::measure(host, kind, options)?;
        eprintln!(
            "keepalived: {:.0} checks a second, {:.0} % of a CPU",
            peer.checks, peer.cpu_percent
        );
        report_peer(&mut part, kind, options, &peer);
    }
    part.notes.push(
        "Checks are run by the daemon's own monitor, in a thread on one CPU; nginx on the other \
         CPU is all the servers, at addresses of 127.0.0.0/8. What the kernel does for both ends \
         of a connection on loopback is mostly on the checks' time. keepalived runs the same checks \
         afterwards, on the same CPU; its process and its checker are counted."
            .into(),
    );
    Ok(part)
}

fn report(part: &mut Part, kind: Kind, options: Options, seen: &Seen) {
    let what = format!("{} {} checks a second", options.servers(), kind.name());
    let one = |value: f64| [value].into_iter().collect::<Samples>();
    let mut line = |subject: &str, unit, value| {
        let line = Measurement::new(&what, subject, unit, one(value));
        part.measurements.push(line);
    };
    line("CPU", Unit::Percent, seen.cpu_percent);
    line("late, median", Unit::Milliseconds, seen.late(50));
    line("late, 99 %", Unit::Milliseconds, seen.late(99));
    line("memory", Unit::Megabytes, seen.memory_mb);
    if options.servers() != SERVERS {
        return;
    }
    let aims = [
        ("CPU", seen.cpu_percent, 100.0, "%"),
        ("late, 99 %", seen.late(99), AIM_LATE_MS, "ms"),
        ("failures", float(seen.failures), 0.0, ""),
    ];
    part.aims.extend(aims.map(|(name, value, bound, unit)| Aim {
        what: format!("{what}: {name}"),
        value: Some(value),
        bound: Bound::AtMost(bound),
        unit,
    }));
}

fn report_peer(part: &mut Part, kind: Kind, options: Options, seen: &keepalived::Seen) {
    let what = format!("{} {} checks a second", options.servers(), kind.name());
    let mut line = |subject: &str, unit, value: f64| {
        let samples = [value].into_iter().collect::<Samples>();
        let line = Measurement::new(&what, subject, unit, samples);
        part.measurements.push(line);
    };
    line("keepalived: CPU", Unit::Percent, seen.cpu_percent);
    line("keepalived: checks done", Unit::Requests, seen.checks);
    line("keepalived: memory", Unit::Megabytes, seen.memory_mb);
}

/// A host that has nothing but itself.
fn topology() -> Topology {
    Topology {
        segments: Vec::new(),
        hosts: vec![HostSpec {
            name: "checks-director".into(),
            hostname: "director".into(),
            interfaces: Vec::new(),
            gateway: None,
        }],
    }
}

const NGINX: &str = "
daemon off; worker_processes 1; user root; pid /run/lab/checks-nginx.pid;
error_log stderr; worker_rlimit_nofile 65536;
events { worker_connections 32768; }
http {
  access_log off;
  server { listen 0.0.0.0:80 backlog=4096; location / { return 200 \"well\"; } }
}
";

/// Starts what answers at every address of 127.0.0.0/8.
fn web_server(host: &Host) -> Result<Process> {
    let configuration = Path::new(sandbox::DIRECTORY).join("checks-nginx.conf");
    fs::write(&configuration, NGINX)?;
    let mut command = Command::new("nginx");
    command.arg("-c").arg(configuration);
    // Those of other namespaces are not there; its own are up for sure.
    let up = host.output(Command::new("ip").args(["link", "set", "lo", "up"]))?;
    ensure!(up.status.success(), "cannot set loopback up");
    let process = Process::start(&host.on_cpu(CPUS[1]), "checks-nginx", &mut command)?;
    wait::until(START, "the web server", || {
        let connected = host.within(|| std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, 80)));
        match connected {
            Ok(Ok(_)) => Ok(()),
            other => Err(format!("{other:?}\n{}", process.log_tail(5))),
        }
    })?;
    Ok(process)
}

/// What came of it.
struct Seen {
    cpu_percent: f64,
    /// By how much each check began too late, ascending.
    late_ms: Vec<f64>,
    failures: u64,
    memory_mb: f64,
}

impl Seen {
    /// So many of a hundred checks were late by no more than this, milliseconds.
    fn late(&self, percent: usize) -> f64 {
        let last = self.late_ms.len().saturating_sub(1);
        let at = self.late_ms.get(last * percent / 100);
        at.copied().unwrap_or(f64::NAN)
    }
}

/// Runs the checks in the network of the calling thread.
fn measure(kind: Kind, options: Options) -> Result<Seen> {
    let mut cpus = CpuSet::new();
    cpus.set(CPUS[0])
        .and_then(|()| sched_setaffinity(Pid::from_raw(0), &cpus))
        .context("cannot pin the checks to a CPU")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let services = options.servers().div_ceil(SERVERS_EACH);
    let shared = Arc::new(Shared::new("checks", Arc::new(memory(services)), false));
    let before = resident_mb()?;
    configure::apply(&shared, &configuration(kind, options)?, false, Vec::new())?;
    let counting = Arc::new(Counting::new());
    runtime.block_on(async {
        let hands = Arc::clone(&counting);
        let monitor = tokio::spawn(monitor::run(shared, hands));
        tokio::time::sleep(SETTLE).await;
        counting.begin();
        let (cpu, began) = (cpu_time()?, Instant::now());
        tokio::time::sleep(Duration::from_secs(options.seconds())).await;
        let (cpu, took) = (cpu_time()?.saturating_sub(cpu), began.elapsed());
        let memory_mb = resident_mb()? - before;
        monitor.abort();
        let mut tally = counting.lock();
        let mut late_ms = std::mem::take(&mut tally.late_ms);
        late_ms.sort_by(f64::total_cmp);
        let expected = u64::from(options.servers()) * options.seconds();
        ensure!(
            late_ms.len() as u64 > expected / 2,
            "{} checks of {expected} were run",
            late_ms.len()
        );
        Ok(Seen {
            cpu_percent: cpu.as_secs_f64() / took.as_secs_f64() * 100.0,
            late_ms,
            failures: tally.failures,
            memory_mb,
        })
    })
}

/// Room for so many services.
fn memory(services: u32) -> InMemory {
    InMemory::sized(&Sizes {
        buckets: 1 << 10,
        endpoint_buckets: (2 * services * SERVERS_EACH).next_power_of_two(),
        services: (2 * services).next_power_of_two(),
        servers: (2 * services * SERVERS_EACH).next_power_of_two(),
        ring_words: 1 << 22,
        cpus: 1,
        ..Sizes::default()
    })
}

fn configuration(kind: Kind, options: Options) -> Result<Config> {
    let text = "[[service]]\naddress = \"10.0.0.1\"\nport = 80\nscheduler = \"rr\"\n";
    let mut config =
        native::parse(text, "checks").map_err(|_| anyhow::anyhow!("the example is not read"))?;
    let [first] = config.services.as_slice() else {
        bail!("the example has one service");
    };
    let numbers: Vec<u32> = (0..options.servers()).collect();
    let services = numbers.chunks(SERVERS_EACH as usize);
    config.services = services
        .enumerate()
        .map(|(index, servers)| {
            let mut placed: PlacedService = first.clone();
            let key = ServiceKey::at(
                Protocol::Tcp,
                (0x0a00_0001 + index as u32).to_be_bytes(),
                80,
            );
            placed.service.ends = vec![Ends::of(key)];
            placed.servers = vec![placed.place.clone(); servers.len()];
            placed.service.servers = servers.iter().map(|&number| real(kind, number)).collect();
            placed
        })
        .collect();
    Ok(config)
}

fn real(kind: Kind, number: u32) -> RealServer {
    let address: IpAddr = Ipv4Addr::from_bits(0x7f01_0001 + number).into();
    let key = ServerKey { address, port: 80 };
    RealServer {
        checks: vec![Check {
            probe: kind.probe((address, 80).into()),
            timing: Timing {
                interval: INTERVAL,
                warmup: INTERVAL,
                retries: 1,
                retry_interval: INTERVAL,
            },
            starts_down: false,
            log_all_failures: false,
            weight: None,
        }],
        ..RealServer::unwatched(key, ServerSettings::new(ForwardMethod::Masq, 1))
    }
}

/// Runs checks as the daemon does, and counts.
struct Counting {
    context: Arc<Context>,
    tally: Arc<Mutex<Tally>>,
}

#[derive(Default)]
struct Tally {
    /// When each was started last.
    started: HashMap<IpAddr, Instant>,
    late_ms: Vec<f64>,
    failures: u64,
}

impl Counting {
    fn new() -> Self {
        let open_files = system::raise_open_files();
        Self {
            context: Arc::new(Context::new(Scripts::new(&Alerts::default()), open_files)),
            tally: Arc::default(),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was before does not count.
    fn begin(&self) {
        let mut tally = self.lock();
        tally.late_ms.clear();
        tally.failures = 0;
    }
}

impl Hands for Counting {
    fn run(&self, check: Arc<Check>) -> Run {
        let (Probe::Tcp(connect) | Probe::Http(HttpProbe { connect, .. })) = &check.probe else {
            return Box::pin(async { Verdict::Failed("no such check is configured".into()) });
        };
        let now = Instant::now();
        let mut tally = self.lock();
        if let Some(last) = tally.started.insert(connect.to.ip(), now) {
            let late = (now - last).saturating_sub(INTERVAL);
            tally.late_ms.push(late.as_secs_f64() * 1000.0);
        }
        drop(tally);
        let (context, tally) = (Arc::clone(&self.context), Arc::clone(&self.tally));
        Box::pin(async move {
            let verdict = checks::run(&check.probe, &context).await;
            if !verdict.is_good() {
                let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
                tally.failures += 1;
            }
            verdict
        })
    }

    fn tell(&self, _news: News) {}
}

/// CPU time of this thread.
fn cpu_time() -> Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_THREAD).context("cannot read this thread's times")?;
    let microseconds =
        usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Ok(Duration::from_micros(microseconds.cast_unsigned()))
}

/// Memory of this process that is there, MB.
fn resident_mb() -> Result<f64> {
    Ok(float(resident_kb("/proc/self/status")?) / 1000.0)
}

/// Memory of a process that is there, kB, by its status file.
fn resident_kb(path: &str) -> Result<u64> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
    text.lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.trim().strip_suffix("kB"))
        .and_then(|number| number.trim().parse::<u64>().ok())
        .with_context(|| format!("{path} tells no size"))
}
