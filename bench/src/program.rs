//! Nanoseconds a packet, by test runs of the packet path in the kernel, beside
//! programs that do nothing, the least, and the same job with the kernel's own
//! hash map.
//!
//! The time is the thread's system time, so that other work on the machine does not
//! count, divided by the number of runs. What the wrapper needs to make each packet
//! fresh is measured by itself and subtracted.

use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use evenkeel_core::director::{Director, Hop, Reach};
use evenkeel_core::model::{
    Edit, ForwardMethod, Protocol, ServerKey, ServerSettings, ServiceKey, ServiceSettings,
};
use evenkeel_datapath::memory::Memory;
use evenkeel_kernel::Program;
use evenkeel_kernel::dataplane::Dataplane;
use evenkeel_kernel::sizes::Settings;
use evenkeel_kernel::test_run::TestRun;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

use crate::measure::{Aim, Bound, Measurement, Samples, Unit};
use crate::report::Part;

/// Connections that the tables have room for: the default of the configuration, and
/// twice the flows of the largest run.
const CONNECTIONS: u32 = 1 << 18;
const MANY_CONNECTIONS: u32 = 1 << 21;
/// Most flows that are measured in a table of the default size, as a power of two.
const USUAL_LOG2: u8 = 16;
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;
/// Added to a number of flows: they come in another order (`bpf/src/bench.rs`).
const OTHER_ORDER: u8 = 1 << 7;
const TX: u32 = 3;
const REDIRECT: u32 = 4;

/// What the wrapper in the BPF object runs (`bpf/src/bench.rs`).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Drop = 0,
    Swap = 1,
    Rearm = 2,
    Evenkeel = 3,
    HashMap = 4,
    AsItIs = 5,
    LargeHashMap = 6,
}

impl Mode {
    /// True: the wrapper writes the packet anew.
    const fn rearms(self) -> bool {
        matches!(self, Self::Evenkeel | Self::HashMap | Self::LargeHashMap)
    }

    /// The mode of a run over so many flows.
    const fn hash_map(flows_log2: u8) -> Self {
        if flows_log2 > USUAL_LOG2 {
            Self::LargeHashMap
        } else {
            Self::HashMap
        }
    }
}

/// One line of the table: nanoseconds a packet in each round.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    /// What was run.
    pub name: &'static str,
    /// Nanoseconds above bare XDP drop, a value a round.
    pub above_drop: Vec<f64>,
    /// The aim for the median, if there is one.
    pub aim: Option<f64>,
}

impl Line {
    /// The median of the rounds.
    pub(crate) fn median(&self) -> f64 {
        let mut sorted = self.above_drop.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
    }
}

/// The lines as a part of the report.
pub(crate) fn part(lines: &[Line]) -> Part {
    let median = |name: &str| {
        lines
            .iter()
            .find(|line| line.name == name)
            .map(Line::median)
    };
    let what = "ns per packet above bare XDP drop";
    let measurement = |line: &Line| {
        let samples: Samples = line.above_drop.iter().copied().collect();
        Measurement::new(what, line.name, Unit::Nanoseconds, samples)
    };
    let aim = |line: &Line| {
        Some(Aim {
            what: format!("{what}: {}", line.name),
            value: Some(line.median()),
            bound: Bound::AtMost(line.aim?),
            unit: "ns",
        })
    };
    let mut aims: Vec<Aim> = lines.iter().filter_map(aim).collect();
    let beside = median("kernel hash map, 65,536 flows").zip(median("evenkeel, 65,536 flows"));
    aims.push(Aim {
        what: "times as fast as the kernel's hash map, 65,536 flows".into(),
        value: beside.map(|(hash_map, evenkeel)| hash_map / evenkeel),
        bound: Bound::AtLeast(3.0),
        unit: "",
    });
    let note = "Nanoseconds are the thread's system time in BPF_PROG_TEST_RUN, divided by the \
                number of runs; what a bare XDP_DROP takes and what it takes to write each packet \
                anew are measured in the same round and subtracted.";
    Part {
        measurements: lines.iter().map(measurement).collect(),
        aims,
        notes: vec![note.into()],
    }
}

/// A run: what, over how many flows (as a power of two), and how often.
#[derive(Clone, Copy)]
struct Case {
    name: &'static str,
    mode: Mode,
    flows_log2: u8,
    repeat: u32,
    aim: Option<f64>,
}

/// Flows of the largest runs, as a power of two.
const fn many_log2(scale: u32) -> u8 {
    if scale == 1 { 20 } else { USUAL_LOG2 + 1 }
}

fn cases(scale: u32) -> Vec<Case> {
    let case = |name, mode, flows_log2, repeat: u32, aim| Case {
        name,
        mode,
        flows_log2,
        repeat: repeat / scale,
        aim,
    };
    let (short, long) = (2_000_000, 1 << 20);
    vec![
        case("MAC swap and transmit", Mode::Swap, 0, short, None),
        case(
            "evenkeel, nobody's packet",
            Mode::AsItIs,
            0,
            short,
            Some(30.0),
        ),
        case("evenkeel, 1 flow", Mode::Evenkeel, 0, short, Some(30.0)),
        case(
            "evenkeel, 65,536 flows",
            Mode::Evenkeel,
            USUAL_LOG2,
            long,
            Some(80.0),
        ),
        case(
            "evenkeel, 1,048,576 flows",
            Mode::Evenkeel,
            many_log2(scale),
            long,
            Some(250.0),
        ),
        case("kernel hash map, 1 flow", Mode::HashMap, 0, short, None),
        case(
            "kernel hash map, 65,536 flows",
            Mode::HashMap,
            USUAL_LOG2,
            long,
            None,
        ),
        case(
            "kernel hash map, 1,048,576 flows",
            Mode::LargeHashMap,
            many_log2(scale),
            long,
            None,
        ),
    ]
}

/// Measures everything, `rounds` times in turn, each run `scale` times shorter than
/// in earnest. `object` is the benchmarks' BPF object; `pins` a directory of a BPF
/// file system.
pub(crate) fn run(pins: &Path, object: &[u8], rounds: usize, scale: u32) -> Result<Vec<Line>> {
    let bench = Bench::new(&pins.join("usual"), object, CONNECTIONS, &[0, USUAL_LOG2])?;
    let large = Bench::new(
        &pins.join("large"),
        object,
        MANY_CONNECTIONS,
        &[many_log2(scale)],
    )?;
    let cases = cases(scale);
    let line = |name, aim| Line {
        name,
        above_drop: Vec::new(),
        aim,
    };
    let mut lines: Vec<Line> = cases.iter().map(|case| line(case.name, case.aim)).collect();
    let mut opened = line("evenkeel, a new connection each", Some(350.0));
    let mut crossing = line("evenkeel, 1 flow, to another interface", None);
    for _ in 0..rounds {
        let short = 2_000_000 / scale;
        let drop = bench.measure(Mode::Drop, 0, ACK, short)?;
        let rearm = bench.measure(Mode::Rearm, 0, ACK, short)?;
        let swap = bench.measure(Mode::Swap, 0, ACK, short)?;
        // The wrapper around nothing also swaps MAC addresses.
        let wrapper = rearm - swap;
        large.clear();
        let many = many_log2(scale);
        let new = large.measure(Mode::Evenkeel, many, SYN, (1 << 20) / scale)?;
        opened.above_drop.push(new - wrapper - drop);
        for bench in [&bench, &large] {
            bench.clear();
            bench.fill()?;
        }
        for (case, line) in cases.iter().zip(&mut lines) {
            let bench = if case.flows_log2 > USUAL_LOG2 {
                &large
            } else {
                &bench
            };
            let whole = bench.measure(case.mode, case.flows_log2, ACK, case.repeat)?;
            line.above_drop
                .push(whole - drop - if case.mode.rearms() { wrapper } else { 0.0 });
        }
        bench.hops(2);
        let whole = bench.measure(Mode::Evenkeel, 0, ACK, short)?;
        crossing.above_drop.push(whole - wrapper - drop);
        bench.hops(1);
    }
    lines.push(crossing);
    lines.push(opened);
    Ok(lines)
}

/// An instance, and the flows it is measured with.
struct Bench {
    dataplane: Dataplane,
    /// Powers of two.
    flows_log2: Vec<u8>,
}

impl Bench {
    fn new(pins: &Path, object: &[u8], connections: u32, flows_log2: &[u8]) -> Result<Self> {
        let settings = Settings {
            connections,
            wide_connections: connections,
            services: 16,
            servers: 64,
            ring_words: 1024,
        };
        let (dataplane, _) = Dataplane::open_object(pins, &settings, object)?;
        let bench = Self {
            dataplane,
            flows_log2: flows_log2.to_vec(),
        };
        bench.set_up()?;
        Ok(bench)
    }

    fn set_up(&self) -> Result<()> {
        let memory = self.dataplane.memory();
        let mut director = Director::adopt(&memory, 0);
        let service = ServiceKey::at(Protocol::Tcp, [10, 9, 0, 1], 80);
        let mut edits = vec![Edit::AddService {
            service,
            settings: ServiceSettings::scheduled_by("rr"),
        }];
        for host in [11, 12] {
            edits.push(Edit::AddServer {
                service,
                server: ServerKey {
                    address: IpAddr::from([10, 2, 0, host]),
                    port: 8080,
                },
                settings: ServerSettings::new(ForwardMethod::Masq, 1),
            });
        }
        let refused = director.apply(&edits, true, &memory, 0);
        ensure!(refused.is_empty(), "set up the service: {refused:?}");
        director.write_all(&memory);
        self.hops(1);
        Ok(())
    }

    /// Lets packets leave by the interface with this index. The loopback interface,
    /// 1, is where test runs say they come in by.
    fn hops(&self, interface: u32) {
        let memory = self.dataplane.memory();
        let mut director = Director::adopt(&memory, 0);
        for host in [11, 12] {
            let hop = Hop {
                interface,
                destination_mac: [2, 0, 10, 2, 0, host],
                source_mac: [2, 0, 10, 2, 0, 1],
                mtu: 1500,
                source: Some(IpAddr::from([10, 2, 0, 1])),
            };
            director.set_hop(IpAddr::from([10, 2, 0, host]), Some(Reach::By(hop)));
        }
        director.write_all(&memory);
    }

    /// Takes every connection out of the table.
    fn clear(&self) {
        let memory: Memory<'_> = self.dataplane.memory();
        for bucket in memory.connections {
            for (signature, entry) in bucket.signatures.iter().zip(&bucket.entries) {
                signature.set(0);
                entry.state.set(0);
            }
        }
        for load in memory.loads {
            load.active.set(0);
            load.inactive.set(0);
        }
    }

    /// Opens all flows that are measured, in table and hash map, and establishes
    /// them, in another order than that of the packets measured.
    fn fill(&self) -> Result<()> {
        for &log2 in &self.flows_log2 {
            for mode in [Mode::Evenkeel, Mode::hash_map(log2)] {
                self.measure(mode, log2 | OTHER_ORDER, SYN, 1 << log2)?;
                self.measure(mode, log2 | OTHER_ORDER, ACK, 1 << log2)?;
            }
        }
        Ok(())
    }

    /// Nanoseconds of system time a run.
    fn measure(&self, mode: Mode, flows_log2: u8, flags: u8, repeat: u32) -> Result<f64> {
        let mut frame = frame(mode, flags);
        frame[55] = flows_log2;
        let run = TestRun {
            repeat,
            ..TestRun::new(&frame)
        };
        let before = system_time_us()?;
        let result = self.dataplane.test_run(Program::Xdp, &run)?;
        let spent = system_time_us()? - before;
        let expected: &[u32] = match mode {
            Mode::Drop => &[1],
            Mode::AsItIs => &[2],
            _ => &[TX, REDIRECT],
        };
        ensure!(
            expected.contains(&result.verdict),
            "the program gave {} instead of {expected:?} in a run of mode {}",
            result.verdict,
            mode as u8
        );
        #[allow(clippy::cast_precision_loss, reason = "microseconds of seconds")]
        let spent = spent as f64;
        Ok(spent * 1000.0 / f64::from(repeat))
    }
}

fn system_time_us() -> Result<i64> {
    let usage = getrusage(UsageWho::RUSAGE_THREAD).context("read the thread's system time")?;
    Ok(usage.system_time().num_microseconds())
}

/// A TCP segment of 60 bytes, whose last six tell the wrapper what to do.
fn frame(mode: Mode, flags: u8) -> Vec<u8> {
    let mut frame = vec![0; 60];
    frame[6..12].copy_from_slice(&[2, 9, 9, 9, 9, 9]);
    frame[12..14].copy_from_slice(&[8, 0]);
    frame[14] = 0x45;
    frame[17] = 46;
    frame[22] = 64;
    frame[23] = 6;
    // Nobody's: neither a service nor a server.
    frame[26..30].copy_from_slice(&[10, 7, 7, 7]);
    frame[30..34].copy_from_slice(&[10, 8, 8, 8]);
    frame[34..38].copy_from_slice(&[0x30, 0x39, 0, 80]);
    frame[46] = 0x50;
    frame[47] = flags;
    frame[54] = mode as u8;
    frame
}
