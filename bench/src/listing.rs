//! The time to list many connections, by the commands that administrators use.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use evenkeel_api::paths;
use evenkeel_lab::director::Director;
use evenkeel_lab::topology::{HostSpec, Topology};

use crate::flood;
use crate::load::milliseconds;
use crate::machine;
use crate::measure::{Aim, Bound, Measurement, Samples, Unit};
use crate::program::instance::Instance;
use crate::program::scenario::Rules;
use crate::report::Part;

/// Connections of the aim.
const CONNECTIONS: u32 = 1_000_000;
/// Milliseconds of the aim.
const AIM_MS: f64 = 1000.0;
/// Servers that they are spread over.
const SERVERS: u8 = 100;
/// Longest that the daemon may take to come up.
const START: Duration = Duration::from_secs(20);
/// The daemon's instance.
const INSTANCE: &str = "listing";
/// What is run, and whether it lists all connections.
const COMMANDS: [(&str, bool); 4] = [
    ("evenkeel conns", true),
    ("evenkeel conns --json", true),
    ("evenkeel conns --client 10.0.7.0/24", false),
    ("ipvsadm -L -c -n", true),
];

/// How much is listed, and how often.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Options {
    /// Connections.
    #[arg(long, default_value_t = CONNECTIONS, value_parser = clap::value_parser!(u32).range(1000..=8_000_000))]
    connections: u32,
    /// Rounds.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// One round with 10,000 connections, to see whether everything works.
    #[arg(long)]
    quick: bool,
}

impl Options {
    /// What `all` runs.
    pub(crate) const fn usual(quick: bool) -> Self {
        Self {
            connections: CONNECTIONS,
            rounds: 5,
            quick,
        }
    }

    const fn connections(self) -> u32 {
        if self.quick { 10_000 } else { self.connections }
    }

    const fn rounds(self) -> u32 {
        if self.quick { 1 } else { self.rounds }
    }
}

/// Measures. `evenkeel` is Evenkeel's program.
pub(crate) fn run(options: Options, evenkeel: &Path) -> Result<Part> {
    let hosts = topology().build()?;
    let [host] = hosts.as_slice() else {
        bail!("the topology has one host");
    };
    let live = host.within(|| fill(options.connections()))??;
    let mut director = Director::new(host.clone(), evenkeel, INSTANCE)?;
    // It adopts the instance with all that is in it.
    director.start_daemon(START)?;
    let mut times = vec![Samples::default(); COMMANDS.len()];
    for round in 1..=options.rounds() {
        for ((command, is_whole), times) in COMMANDS.into_iter().zip(&mut times) {
            let busy = machine::others_percent()?;
            let time = once(&director, command)?;
            eprintln!(
                "round {round}: {command}: {:.0} ms (others use {busy:.0} % of the CPUs)",
                milliseconds(time)
            );
            times.push(milliseconds(time));
            if round == 1 {
                check(&director, command, is_whole, live)?;
            }
        }
    }
    let output = director.shell("evenkeel stop")?;
    ensure!(output.status == 0, "evenkeel stop failed: {output}");
    Ok(part(&options, times))
}

fn part(options: &Options, times: Vec<Samples>) -> Part {
    let what = format!("list {} live connections", options.connections());
    let mut part = Part::default();
    for ((command, is_whole), times) in COMMANDS.into_iter().zip(times) {
        // The aim is about its own number of connections alone.
        if options.connections() == CONNECTIONS {
            part.aims.push(Aim {
                what: format!("{what}: {command}"),
                value: times.median(),
                bound: Bound::AtMost(AIM_MS),
                unit: "ms",
            });
        }
        let mut line = Measurement::new(&what, command, Unit::Milliseconds, times);
        if !is_whole {
            line.notes = "few of them are shown".into();
        }
        part.measurements.push(line);
    }
    part.notes.push(
        "Connections are listed by a command that a shell starts, through the daemon that has \
         adopted a table full of them: the time from the shell's start to its end. The lines go \
         to /dev/null; once they are counted."
            .into(),
    );
    part
}

/// A host that has nothing but itself.
fn topology() -> Topology {
    Topology {
        segments: Vec::new(),
        hosts: vec![HostSpec {
            name: "listing-director".into(),
            hostname: "director".into(),
            interfaces: Vec::new(),
            gateway: None,
        }],
    }
}

/// Leaves an instance behind that has so many connections, in the network of the calling
/// thread. Gives how many it has: a few may have found their buckets full.
fn fill(connections: u32) -> Result<u32> {
    let object = flood::object_bytes()?;
    let room = 2 * connections.next_power_of_two();
    let instance = Instance::new(&paths::pins(INSTANCE), &object, (room, room))?;
    let rules = Rules {
        servers: SERVERS,
        ..Rules::USUAL
    };
    instance.set_up(&rules)?;
    let opened = instance.open_live(&rules, connections)?;
    ensure!(
        opened.live >= connections - connections / 1000,
        "{} of {connections} connections are live",
        opened.live
    );
    Ok(opened.live)
}

fn once(director: &Director, command: &str) -> Result<Duration> {
    let start = Instant::now();
    let output = director.shell(&format!("{command} > /dev/null"))?;
    let time = start.elapsed();
    ensure!(
        output.status == 0 && output.stderr.is_empty(),
        "{command} failed: {output}"
    );
    Ok(time)
}

/// The command lists what it should.
fn check(director: &Director, command: &str, is_whole: bool, connections: u32) -> Result<()> {
    let output = director.shell(&format!("{command} | grep -c ESTABLISHED"))?;
    let lines: u32 = output
        .stdout
        .trim()
        .parse()
        .with_context(|| format!("{command}: {output}"))?;
    let is_right = if is_whole {
        lines == connections
    } else {
        (1..connections / 2).contains(&lines)
    };
    ensure!(
        is_right,
        "{command} lists {lines} of {connections} connections"
    );
    Ok(())
}
