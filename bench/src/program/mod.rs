//! Nanoseconds a packet, by test runs of the packet path in the kernel, beside
//! programs that do nothing, the least, and the same job with the kernel's own
//! hash map.
//!
//! The time is the thread's system time, so that other work on the machine does not
//! count, divided by the number of runs. What the wrapper needs to make each packet
//! fresh is measured by itself and subtracted.

pub(crate) mod instance;
mod live;
pub(crate) mod scenario;

use std::path::Path;

use anyhow::{Context, Result};
use evenkeel_core::model::{Family, ForwardMethod};

use crate::measure::{Aim, Bound, Measurement, Samples, Unit};
use crate::report::Part;
use instance::{Instance, Mode, Packets};
use scenario::{Scenario, Traffic, USUAL_LOG2};

/// Connections, and wide ones, that the tables have room for: the default of the configuration, and
/// twice the flows of the largest run.
const CONNECTIONS: (u32, u32) = (1 << 18, 1 << 17);
const MANY_CONNECTIONS: (u32, u32) = (1 << 21, 1 << 21);

/// One line of the table: nanoseconds a packet in each round.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    /// What was run.
    pub name: String,
    /// Nanoseconds above bare XDP drop, a value a round.
    pub above_drop: Vec<f64>,
    /// The aim for the median, if there is one.
    pub aim: Option<f64>,
}

impl Line {
    fn new(name: &str, aim: Option<f64>) -> Self {
        Self {
            name: name.into(),
            above_drop: Vec::new(),
            aim,
        }
    }

    fn samples(&self) -> Samples {
        self.above_drop.iter().copied().collect()
    }
}

/// The lines as a part of the report.
pub(crate) fn part(lines: &[Line]) -> Part {
    let median = |name: &str| {
        let line = lines.iter().find(|line| line.name == name);
        line.and_then(|line| line.samples().median())
    };
    let what = "ns per packet above bare XDP drop";
    let measurement =
        |line: &Line| Measurement::new(what, &line.name, Unit::Nanoseconds, line.samples());
    let aim = |line: &Line| {
        Some(Aim {
            what: format!("{what}: {}", line.name),
            value: line.samples().median(),
            bound: Bound::AtMost(line.aim?),
            unit: "ns",
        })
    };
    let mut aims: Vec<Aim> = lines.iter().filter_map(aim).collect();
    let beside = median("kernel hash map, 65,536 flows").zip(median("NAT, 65,536 flows"));
    aims.push(Aim {
        what: "times as fast as the kernel's hash map, 65,536 flows".into(),
        value: beside.map(|(hash_map, evenkeel)| hash_map / evenkeel),
        bound: Bound::AtLeast(3.0),
        unit: "",
    });
    let note = "Nanoseconds are the thread's system time in BPF_PROG_TEST_RUN, divided by the \
                number of runs; what a bare XDP_DROP takes and what it takes to write each packet \
                anew are measured in the same round and subtracted. Beside the service that gets \
                the packets there are services of all ports, of FTP, of source NAT, of both \
                families and with persistence. New connections are spread over 100 servers.";
    Part {
        measurements: lines.iter().map(measurement).collect(),
        aims,
        notes: vec![note.into()],
    }
}

/// What each run takes beside the packet path, nanoseconds.
#[derive(Clone, Copy, Debug)]
struct Beside {
    drop: f64,
    /// Writing the packet anew.
    rearm: f64,
    /// Taking away a tunnel's headers.
    shrink: f64,
}

/// The two instances that are measured.
struct Bench {
    usual: Instance,
    large: Instance,
    /// Flows of the largest runs, as a power of two.
    many_log2: u8,
    /// How many times shorter than in earnest runs are.
    scale: u32,
}

/// Measures everything whose name has `only` in it, `rounds` times in turn, each run
/// `scale` times shorter than in earnest. `object` is the benchmarks' BPF object; `pins` a
/// directory of a BPF file system.
pub(crate) fn run(
    pins: &Path,
    object: &[u8],
    rounds: usize,
    scale: u32,
    only: &str,
) -> Result<Vec<Line>> {
    let bench = Bench {
        usual: Instance::new(&pins.join("usual"), object, CONNECTIONS)?,
        large: Instance::new(&pins.join("large"), object, MANY_CONNECTIONS)?,
        many_log2: if scale == 1 { 20 } else { USUAL_LOG2 + 1 },
        scale,
    };
    let scenarios = scenario::all(bench.many_log2);
    let mut lines = Vec::new();
    for round in 0..rounds {
        let mut place = 0;
        let mut add = |name: &str, aim, value| {
            if round == 0 {
                lines.push(Line::new(name, aim));
            }
            lines[place].above_drop.push(value);
            place += 1;
        };
        bench.references(&mut add, &scenarios[0], only)?;
        for scenario in scenarios.iter().filter(|s| s.name.contains(only)) {
            let value = bench
                .scenario(scenario)
                .with_context(|| scenario.name.clone())?;
            add(&scenario.name, scenario.aim, value);
        }
    }
    Ok(lines)
}

impl Bench {
    const fn short(&self) -> u32 {
        2_000_000 / self.scale
    }

    fn instance(&self, flows_log2: u8) -> &Instance {
        if flows_log2 > USUAL_LOG2 {
            &self.large
        } else {
            &self.usual
        }
    }

    /// How long the run of so many flows is.
    const fn count(&self, flows_log2: u8) -> u32 {
        match flows_log2 {
            0 => self.short(),
            _ => (1 << 20) / self.scale,
        }
    }

    fn beside(&self, family: Family) -> Result<Beside> {
        let packets = Packets {
            family,
            ..Packets::usual(self.short())
        };
        let of = |mode| self.usual.measure(mode, packets);
        let (drop, swap, rearm) = (of(Mode::Drop)?, of(Mode::Swap)?, of(Mode::Rearm)?);
        // The wrapper around nothing also swaps MAC addresses. One that grows the packet
        // takes as long for that as for shrinking it again.
        Ok(Beside {
            drop,
            rearm: rearm - swap,
            shrink: (of(Mode::Grow)? - rearm) / 2.0,
        })
    }

    /// The least, and the same job with the kernel's hash map.
    fn references(
        &self,
        add: &mut impl FnMut(&str, Option<f64>, f64),
        base: &Scenario,
        only: &str,
    ) -> Result<()> {
        let rules = &base.rules;
        let beside = self.beside(Family::V4)?;
        self.usual.set_up(rules)?;
        let of = |mode| {
            let packets = Packets::usual(self.short());
            Ok::<_, anyhow::Error>(self.usual.measure(mode, packets)? - beside.drop)
        };
        add("MAC swap and transmit", None, of(Mode::Swap)?);
        add("nobody's packet", Some(30.0), of(Mode::AsItIs)?);
        for (name, flows_log2, mode) in [
            ("kernel hash map, 1 flow", 0, Mode::HashMap),
            ("kernel hash map, 65,536 flows", USUAL_LOG2, Mode::HashMap),
            (
                "kernel hash map, 1,048,576 flows",
                self.many_log2,
                Mode::LargeHashMap,
            ),
        ] {
            if !name.contains(only) {
                continue;
            }
            let instance = self.instance(flows_log2);
            instance.set_up(rules)?;
            instance.fill(mode, rules, flows_log2)?;
            let count = self.count(flows_log2);
            let packets = Packets::to(rules, Traffic::Client, flows_log2, count);
            add(
                name,
                None,
                instance.measure(mode, packets)? - beside.drop - beside.rearm,
            );
        }
        self.usual.set_up(rules)?;
        self.usual.fill(Mode::Evenkeel, rules, 0)?;
        self.usual.hops(rules, 2);
        let crossing = of(Mode::Evenkeel)? - beside.rearm;
        add("NAT, 1 flow, to another interface", None, crossing);
        Ok(())
    }

    /// Nanoseconds above a bare drop.
    fn scenario(&self, scenario: &Scenario) -> Result<f64> {
        let Scenario {
            rules,
            traffic,
            flows_log2,
            ..
        } = *scenario;
        let beside = self.beside(rules.family)?;
        let instance = self.instance(flows_log2);
        instance.set_up(&rules)?;
        let mode = match traffic {
            Traffic::New => Mode::Evenkeel,
            Traffic::Client => {
                instance.fill(Mode::Evenkeel, &rules, flows_log2)?;
                Mode::Evenkeel
            }
            Traffic::Reply => {
                instance.fill(Mode::Evenkeel, &rules, flows_log2)?;
                instance.answer_all(&rules, flows_log2)?;
                Mode::Reply
            }
        };
        let packets = Packets::to(&rules, traffic, flows_log2, self.count(flows_log2));
        let mut taken = instance.measure(mode, packets)? - beside.drop - beside.rearm;
        if matches!(rules.method, ForwardMethod::Tunnel(_)) {
            taken -= beside.shrink;
        }
        Ok(taken)
    }
}
