//! What is measured of a way, and with what.

use std::net::Ipv4Addr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use aya::Ebpf;
use aya::programs::xdp::XdpMode;
use clap::ValueEnum;
use evenkeel_lab::bench::Offloads;
use evenkeel_lab::host::Host;
use serde_json::Value;

use super::path::{CLIENT_CPU, DataPath, IPERF, Kind as Path, WEB, run};
use super::sink::{self, Arrival};
use crate::flood::{self, Flood, Generator, Kind};
use crate::measure::{Unit, float};

/// Connections that requests are sent over at a time.
const CONNECTIONS: u32 = 64;
/// Bytes of a datagram in a frame of 64 bytes with its checksum.
const SMALL: u32 = 22;
/// Whom a flood's frames come from: not the client, whose connections would meet what
/// the flood has left in the director's tables.
pub(crate) const FLOODER: Ipv4Addr = Ipv4Addr::new(10, 10, 0, 3);
/// Flows of a flood.
pub(crate) const FLOWS: u32 = 32_768;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Metric {
    /// One TCP stream, segments left whole over the cables.
    Throughput,
    /// One TCP stream, every packet fits the link and has its checksum.
    Plain,
    /// Datagrams in frames of 64 bytes, as fast as a sender can.
    Udp,
    /// Requests, each over a connection of its own.
    Short,
    /// Requests over connections that stay.
    Keep,
    /// 60-byte frames of 32,768 UDP flows, as fast as one CPU can make them.
    FloodUdp,
    /// The same with the first segments of TCP connections from 32,768 ports.
    FloodSyn,
}

/// What one look gave.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Sample {
    /// The value, in the metric's unit.
    pub(crate) value: f64,
    /// Half of the requests were answered within this time, in milliseconds.
    pub(crate) p50_ms: Option<f64>,
    /// 99 % of the requests were.
    pub(crate) p99_ms: Option<f64>,
    /// Requests that failed.
    pub(crate) errors: u64,
    /// Share of what was sent that did not arrive, where that is counted.
    pub(crate) lost: Option<f64>,
}

impl Metric {
    /// Its name in the table.
    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Throughput => "TCP, 1 stream, GSO",
            Self::Plain => "TCP, 1 stream, no offloads",
            Self::Udp => "UDP, 64-byte frames",
            Self::Short => "HTTP, short connections",
            Self::Keep => "HTTP, keep-alive",
            Self::FloodUdp => "flood, 32,768 UDP flows",
            Self::FloodSyn => "flood, new TCP, 32,768 ports",
        }
    }

    /// What its values count.
    pub(crate) const fn unit(self) -> Unit {
        match self {
            Self::Throughput | Self::Plain => Unit::GbitPerSecond,
            Self::Udp | Self::FloodUdp | Self::FloodSyn => Unit::Packets,
            Self::Short | Self::Keep => Unit::Requests,
        }
    }

    /// Looks once, for about `time`.
    pub(crate) fn sample(
        self,
        path: &DataPath,
        generator: &mut Generator,
        time: Duration,
    ) -> Result<Sample> {
        match self {
            Self::Throughput => tcp(path, time),
            Self::Plain => without_offloads(path, time),
            Self::Udp => udp(path, time),
            Self::Short => requests(path, time, "close"),
            Self::Keep => requests(path, time, "keep-alive"),
            Self::FloodUdp => flood(path, generator, time, Kind::Udp, IPERF),
            Self::FloodSyn => flood(path, generator, time, Kind::Syn, WEB),
        }
    }
}

/// Whole seconds, at least one: the tools count in them.
fn seconds(time: Duration) -> String {
    time.as_secs().max(1).to_string()
}

fn iperf(path: &DataPath, arguments: &[&str]) -> Result<Value> {
    let mut iperf = Command::new("iperf3");
    iperf.args(["--json", "-p", &IPERF.to_string(), "-c"]);
    iperf.arg(path.kind.target().to_string()).args(arguments);
    let output = path.network.client.on_cpu(CLIENT_CPU).output(&mut iperf)?;
    let answer: Value = serde_json::from_slice(&output.stdout).with_context(|| {
        format!(
            "iperf3 wrote no JSON: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )
    })?;
    if let Some(error) = answer["error"].as_str() {
        bail!("iperf3: {error}");
    }
    Ok(answer)
}

fn number(value: &Value, what: &str) -> Result<f64> {
    value
        .as_f64()
        .with_context(|| format!("iperf3 did not tell {what}"))
}

fn tcp(path: &DataPath, time: Duration) -> Result<Sample> {
    let seconds = seconds(time);
    let mut arguments = vec!["-t", &seconds];
    if time > Duration::from_secs(1) {
        // The first second shows how the stream finds its pace.
        arguments.extend(["-O", "1"]);
    }
    let answer = iperf(path, &arguments)?;
    let bits = number(
        &answer["end"]["sum_received"]["bits_per_second"],
        "bits a second",
    )?;
    Ok(Sample {
        value: bits / 1e9,
        ..Sample::default()
    })
}

fn without_offloads(path: &DataPath, time: Duration) -> Result<Sample> {
    path.network.set_offloads(Offloads::Off)?;
    let sample = takers(path).and_then(|_takers| tcp(path, time));
    path.network.set_offloads(Offloads::On)?;
    sample
}

/// What the ends of the cables need for this path while GRO is off.
fn takers(path: &DataPath) -> Result<Vec<Taker>> {
    if path.kind != Path::EvenkeelXdp {
        return Ok(Vec::new());
    }
    let ends = path.network.ends();
    ends.into_iter()
        .map(|(host, port)| Taker::attach(host, port))
        .collect()
}

/// Has an end of a cable take frames from the other end's XDP: without GRO it does
/// so only as long as it has a program of its own.
#[derive(Debug)]
struct Taker(#[expect(dead_code, reason = "the program leaves with it")] Ebpf);

impl Taker {
    fn attach(host: &Host, port: &str) -> Result<Self> {
        let mut object = flood::open_object()?;
        let program = flood::xdp(&mut object, "pass")?;
        program.load().context("cannot load the BPF program pass")?;
        host.within(|| program.attach(port, XdpMode::Driver))?
            .with_context(|| format!("cannot attach to {port} of {}", host.name()))?;
        Ok(Self(object))
    }
}

fn udp(path: &DataPath, time: Duration) -> Result<Sample> {
    let (seconds, length) = (seconds(time), SMALL.to_string());
    let answer = iperf(path, &["-u", "-b", "0", "-l", &length, "-t", &seconds])?;
    let sum = &answer["end"]["sum"];
    let packets = number(&sum["packets"], "packets")?;
    let lost = number(&sum["lost_packets"], "lost packets")?;
    let time = number(&sum["seconds"], "seconds")?;
    Ok(Sample {
        value: (packets - lost) / time,
        lost: Some(lost / packets),
        ..Sample::default()
    })
}

fn requests(path: &DataPath, time: Duration, connection: &str) -> Result<Sample> {
    let mut wrk = Command::new("wrk");
    wrk.args(["-t1", &format!("-c{CONNECTIONS}"), "--latency"])
        .arg(format!("-d{}s", seconds(time)))
        .args(["-H", &format!("Connection: {connection}")])
        .arg(format!("http://{}/", path.kind.target()));
    let output = run(&path.network.client.on_cpu(CLIENT_CPU), &mut wrk)?;
    let text = String::from_utf8_lossy(&output);
    parse_wrk(&text).with_context(|| format!("cannot read what wrk wrote:\n{text}"))
}

fn parse_wrk(text: &str) -> Option<Sample> {
    let mut sample = Sample {
        value: f64::NAN,
        ..Sample::default()
    };
    for line in text.lines() {
        let line = line.trim();
        if let Some(rate) = line.strip_prefix("Requests/sec:") {
            sample.value = rate.trim().parse().ok()?;
        } else if let Some(time) = line.strip_prefix("50%") {
            sample.p50_ms = Some(milliseconds(time.trim())?);
        } else if let Some(time) = line.strip_prefix("99%") {
            sample.p99_ms = Some(milliseconds(time.trim())?);
        } else if let Some(errors) = line.strip_prefix("Socket errors:") {
            // connect 0, read 1, write 0, timeout 2
            let counts = errors.split(|c: char| !c.is_ascii_digit());
            sample.errors += counts
                .filter_map(|word| word.parse::<u64>().ok())
                .sum::<u64>();
        } else if let Some(count) = line.strip_prefix("Non-2xx or 3xx responses:") {
            sample.errors += count.trim().parse::<u64>().ok()?;
        }
    }
    sample.value.is_finite().then_some(sample)
}

/// wrk's times: `850.00us`, `1.31ms`, `2.00s`.
fn milliseconds(text: &str) -> Option<f64> {
    let units = [("us", 1e-3), ("ms", 1.0), ("s", 1e3)];
    let (digits, factor) = units
        .into_iter()
        .find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, factor)))?;
    Some(digits.parse::<f64>().ok()? * factor)
}

fn flood(
    path: &DataPath,
    generator: &mut Generator,
    time: Duration,
    kind: Kind,
    port: u16,
) -> Result<Sample> {
    let flood = Flood {
        source: FLOODER,
        destination: path.kind.target(),
        port,
        kind,
        flows: FLOWS,
    };
    let Arrival { sent, arrived } = sink::flood(path, generator, &flood, time)?;
    let (sent_frames, arrived) = (float(sent.frames), float(arrived));
    Ok(Sample {
        value: arrived / sent.time.as_secs_f64(),
        lost: Some(1.0 - arrived / sent_frames),
        ..Sample::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrks_report_is_read() {
        let text = "Running 2s test @ http://10.99.0.1/
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.50ms    1.20ms  20.00ms   90.00%
  Latency Distribution
     50%    1.31ms
     75%    2.00ms
     90%    3.00ms
     99%  850.00us
  28400 requests in 2.00s, 4.20MB read
  Socket errors: connect 1, read 2, write 0, timeout 3
  Non-2xx or 3xx responses: 4
Requests/sec:  14200.50
Transfer/sec:      2.10MB
";
        let sample = Sample {
            value: 14_200.5,
            p50_ms: Some(1.31),
            p99_ms: Some(0.85),
            errors: 10,
            lost: None,
        };
        assert_eq!(parse_wrk(text), Some(sample));
        assert_eq!(parse_wrk("unable to connect"), None);
    }
}
