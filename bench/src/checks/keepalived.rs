//! The same checks by keepalived.

use std::fmt::Write as _;
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use evenkeel_lab::host::Host;
use evenkeel_lab::{keepalived, sandbox, wait};

use super::{CPUS, Kind, Options, SERVERS_EACH, START};
use crate::measure::float;

/// Longest that keepalived may take to read its file, which is long, and to begin.
const READING: Duration = Duration::from_mins(3);

/// What keepalived takes.
pub(super) struct Seen {
    pub(super) cpu_percent: f64,
    pub(super) memory_mb: f64,
    /// Connections a second: how many checks it gets done.
    pub(super) checks: f64,
}

/// Runs the checks by keepalived, on the CPU of the checks.
pub(super) fn measure(host: &Host, kind: Kind, options: Options) -> Result<Seen> {
    let file = Path::new(sandbox::DIRECTORY).join("checks-keepalived.conf");
    fs::write(&file, configuration(kind, options))?;
    let name = format!("checks-keepalived-{}", kind.name());
    let mut process = keepalived::start(&host.on_cpu(CPUS[0]), &name, &file)?;
    let wanted = u64::from(options.servers());
    // All have been checked once, and some more than once.
    let before = connections(host)?;
    wait::until(READING, "keepalived's checks", || match connections(host) {
        Ok(now) if now > before + 2 * wanted => Ok(()),
        other => Err(format!("{before}, then {other:?}")),
    })
    .with_context(|| process.log_tail(5))?;
    let (cpu, opened, began) = (cpu_ticks(process.id())?, connections(host)?, Instant::now());
    sleep(Duration::from_secs(options.seconds()));
    let took = began.elapsed().as_secs_f64();
    let cpu = float(cpu_ticks(process.id())?.saturating_sub(cpu)) / ticks_per_second()?;
    let checks = float(connections(host)?.saturating_sub(opened)) / took;
    let memory_mb = float(memory_kb(process.id())?) / 1000.0;
    process.terminate(START)?;
    Ok(Seen {
        cpu_percent: cpu / took * 100.0,
        memory_mb,
        checks,
    })
}

fn configuration(kind: Kind, options: Options) -> String {
    let check = match kind {
        Kind::Tcp => "TCP_CHECK {\n connect_timeout 3\n }",
        Kind::Http => "HTTP_GET {\n url {\n path /\n }\n connect_timeout 3\n }",
    };
    let mut text = String::new();
    for (service, first) in (0..options.servers())
        .step_by(SERVERS_EACH as usize)
        .enumerate()
    {
        let address = Ipv4Addr::from_bits(0x0a00_0001 + service as u32);
        // Writing to a string does not fail.
        let _ = write!(
            text,
            "virtual_server {address} 80 {{\n delay_loop 1\n lb_algo rr\n lb_kind NAT\n \
             protocol TCP\n"
        );
        for number in first..(first + SERVERS_EACH).min(options.servers()) {
            let address = Ipv4Addr::from_bits(0x7f01_0001 + number);
            let _ = write!(text, " real_server {address} 80 {{\n {check}\n }}\n");
        }
        text.push_str("}\n");
    }
    text
}

/// Connections that were opened in the host's network.
fn connections(host: &Host) -> Result<u64> {
    let text = host
        .within(|| fs::read_to_string("/proc/thread-self/net/snmp"))?
        .context("cannot read counters of TCP")?;
    let mut lines = text.lines().filter(|line| line.starts_with("Tcp:"));
    let (names, values) = (lines.next(), lines.next());
    let mut pairs = names
        .unwrap_or_default()
        .split(' ')
        .zip(values.unwrap_or_default().split(' '));
    let value = pairs.find(|(name, _)| *name == "ActiveOpens");
    value
        .and_then(|(_, value)| value.parse().ok())
        .context("TCP counts no connections")
}

/// A process and its children.
fn family(process: u32) -> Result<Vec<u32>> {
    let path = format!("/proc/{process}/task/{process}/children");
    let children = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let children = children.split_whitespace().filter_map(|id| id.parse().ok());
    Ok(std::iter::once(process).chain(children).collect())
}

fn ticks_per_second() -> Result<f64> {
    let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)?;
    let ticks = ticks.and_then(|ticks| u64::try_from(ticks).ok());
    ticks.map(float).context("the system's tick is not known")
}

/// CPU time of a process and its children, in the system's ticks.
fn cpu_ticks(process: u32) -> Result<u64> {
    let mut sum = 0;
    for id in family(process)? {
        let path = format!("/proc/{id}/stat");
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        // The name, which may hold anything, is in parentheses.
        let rest = text.rsplit_once(") ").map_or("", |(_, rest)| rest);
        let fields: Vec<&str> = rest.split(' ').collect();
        ensure!(fields.len() > 13, "{path} is too short");
        for field in &fields[11..13] {
            sum += field.parse::<u64>()?;
        }
    }
    Ok(sum)
}

/// Memory of a process and its children, kB.
fn memory_kb(process: u32) -> Result<u64> {
    let mut sum = 0;
    for id in family(process)? {
        sum += super::resident_kb(&format!("/proc/{id}/status"))?;
    }
    Ok(sum)
}
