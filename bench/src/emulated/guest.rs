//! What runs in the emulated machine, where a nanosecond is an instruction: a flood of
//! a fixed number of frames through each way, and a line for each.

use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum as _};
use evenkeel_lab::wait;

use crate::flood::{self, Flood, Generator};
use crate::lab::metric::{FLOODER, FLOWS};
use crate::lab::path::{DataPath, IPERF, Kind, WEB};
use crate::lab::sink::{self, Arrival};
use crate::measure::float;

/// The ways.
pub(super) const KINDS: [Kind; 5] = [
    Kind::Forward,
    Kind::XdpLimit,
    Kind::Ipvs,
    Kind::Evenkeel,
    Kind::EvenkeelXdp,
];
/// Rounds that are enough where nothing but the kernel's own work disturbs.
pub(super) const ROUNDS: u8 = 3;
/// What a line with a sample starts with.
const MARK: &str = "sample";
/// Longest until frames pass.
const READY: Duration = Duration::from_secs(5);
/// Share of the frames that may be lost; what they took until then counts all the same.
const LOST: f64 = 0.01;

/// How often.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Rounds {
    /// Rounds.
    #[arg(long, default_value_t = ROUNDS, value_parser = clap::value_parser!(u8).range(1..=200))]
    rounds: u8,
}

/// What the frames are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Load {
    /// UDP datagrams of flows that the director knows, in scattered order.
    Established,
    /// First segments of TCP connections, each of a new one.
    New,
}

impl Load {
    /// Both.
    pub(super) const ALL: [Self; 2] = [Self::Established, Self::New];

    /// Its name in the table.
    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::Established => "32,768 UDP flows",
            Self::New => "a new TCP connection each",
        }
    }

    /// Its name in a sample's line.
    const fn word(self) -> &'static str {
        match self {
            Self::Established => "established",
            Self::New => "new",
        }
    }

    /// What is sent in a round.
    fn flood(self, kind: Kind, round: u8) -> Flood {
        let [a, b, c, first] = FLOODER.octets();
        let (source, port, kind_of_frame) = match self {
            Self::Established => (FLOODER, IPERF, flood::Kind::Udp),
            // As many ports as frames, from an address of its own each round.
            Self::New => {
                let source = Ipv4Addr::new(a, b, c, first + round);
                (source, WEB, flood::Kind::Syn)
            }
        };
        Flood {
            source,
            destination: kind.target(),
            port,
            kind: kind_of_frame,
            flows: FLOWS,
        }
    }
}

/// What one flood gave.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Sample {
    /// Of what.
    pub(super) load: Load,
    /// By which way.
    pub(super) kind: Kind,
    /// Instructions for each frame that arrived.
    pub(super) instructions: f64,
}

/// Floods, and writes the samples to standard output. `evenkeel` is Evenkeel's program.
pub(crate) fn run(rounds: Rounds, evenkeel: &Path) -> Result<()> {
    let mut generator = Generator::load()?;
    let mut paths = Vec::new();
    for kind in KINDS {
        let mut path = DataPath::without_servers(kind, evenkeel)
            .with_context(|| format!("cannot set up {}", kind.name()))?;
        let what = format!("a flood to pass {}", kind.name());
        // Until neighbours have found each other, and directors know every flow.
        wait::until(READY, &what, || {
            once(&path, &mut generator, Load::Established, 0).map_err(|error| format!("{error:#}"))
        })?;
        path.end_daemon()?;
        paths.push(path);
    }
    for round in 1..=rounds.rounds {
        for load in Load::ALL {
            for path in &paths {
                let instructions = once(path, &mut generator, load, round)?;
                println!(
                    "{MARK} {} {} {instructions:.1}",
                    load.word(),
                    path.kind.name()
                );
            }
        }
    }
    Ok(())
}

/// Floods once; nanoseconds that its thread ran for each frame that arrived.
fn once(path: &DataPath, generator: &mut Generator, load: Load, round: u8) -> Result<f64> {
    let flood = load.flood(path.kind, round);
    // The least time: a batch of frames, one for each port.
    let Arrival { sent, arrived } = sink::flood(path, generator, &flood, Duration::ZERO)?;
    let arrived = float(arrived);
    if arrived < (1.0 - LOST) * float(sent.frames) {
        bail!(
            "{}: of {} frames {arrived} arrived",
            path.kind.name(),
            sent.frames
        );
    }
    Ok(sent.running.as_secs_f64() * 1e9 / arrived)
}

/// The samples in what [`run`] has written.
pub(super) fn read(text: &str) -> Option<Vec<Sample>> {
    let lines = text.lines().filter_map(|line| line.strip_prefix(MARK));
    let sample = |line: &str| {
        let mut words = line.split_whitespace();
        let (load, kind, number) = (words.next()?, words.next()?, words.next()?);
        Some(Sample {
            load: Load::ALL.into_iter().find(|one| one.word() == load)?,
            kind: Kind::from_str(kind, false).ok()?,
            instructions: number.parse().ok()?,
        })
    };
    lines.map(sample).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_read() {
        let sample = |load, kind, instructions| Sample {
            load,
            kind,
            instructions,
        };
        let text = "ipvs is up\nsample established xdp-limit 1200.5\nsample new ipvs 9\n";
        let samples = [
            sample(Load::Established, Kind::XdpLimit, 1200.5),
            sample(Load::New, Kind::Ipvs, 9.0),
        ];
        assert_eq!(read(text), Some(samples.into()));
        assert_eq!(read("sample new ways 9\n"), None);
        assert_eq!(read("sample new\n"), None);
    }

    #[test]
    fn a_round_is_one_frame_for_each_port() {
        assert_eq!(flood::ROUND, FLOWS);
        let source = |round| Load::New.flood(Kind::Ipvs, round).source;
        assert_ne!(source(1), source(2));
        assert_ne!(source(1), FLOODER);
    }
}
