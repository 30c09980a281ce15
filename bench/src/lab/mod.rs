//! Evenkeel and its alternatives in networks of namespaces, in turn: every round
//! looks at every metric, and for each at every way, so that what changes on the
//! machine meanwhile changes for all.

pub(crate) mod metric;
pub(crate) mod path;
pub(crate) mod sink;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use clap::ValueEnum as _;

use crate::flood::Generator;
use crate::machine;
use crate::measure::{Aim, Bound, Measurement, Samples};
use crate::report::Part;
use metric::{Metric, Sample};
use path::{DataPath, Kind};

/// Many short rounds rather than few long ones: the machine changes less within one.
const ROUNDS: u32 = 9;
/// See [`ROUNDS`].
const SECONDS: f64 = 1.0;

/// What is run, and for how long.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// Rounds.
    #[arg(long, default_value_t = ROUNDS, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Seconds that each sample takes; 1 at least where iperf3 or wrk measures.
    #[arg(long, default_value_t = SECONDS)]
    seconds: f64,
    /// One round of half a second, to see whether everything works.
    #[arg(long)]
    pub(crate) quick: bool,
    /// These ways alone.
    #[arg(long, value_delimiter = ',')]
    paths: Vec<Kind>,
    /// These metrics alone.
    #[arg(long, value_delimiter = ',')]
    metrics: Vec<Metric>,
}

impl Options {
    /// What `all` runs.
    pub(crate) const fn usual(quick: bool) -> Self {
        Self {
            rounds: ROUNDS,
            seconds: SECONDS,
            quick,
            paths: Vec::new(),
            metrics: Vec::new(),
        }
    }

    fn rounds(&self) -> u32 {
        if self.quick { 1 } else { self.rounds }
    }

    fn time(&self) -> Result<Duration> {
        let seconds = if self.quick { 0.5 } else { self.seconds };
        Duration::try_from_secs_f64(seconds)
            .ok()
            .filter(|time| !time.is_zero())
            .with_context(|| format!("{seconds} is no time to measure for"))
    }

    fn paths(&self) -> Vec<Kind> {
        if self.paths.is_empty() {
            let all = Kind::value_variants().iter().copied();
            all.filter(|kind| kind.is_usual()).collect()
        } else {
            self.paths.clone()
        }
    }

    fn metrics(&self) -> Vec<Metric> {
        if self.metrics.is_empty() {
            Metric::value_variants().into()
        } else {
            self.metrics.clone()
        }
    }
}

/// What was seen of one metric on one way, a sample a round where it did not fail.
#[derive(Debug)]
struct Series {
    metric: Metric,
    kind: Kind,
    rounds: Vec<Option<Sample>>,
}

/// Measures. `evenkeel` is Evenkeel's program.
pub(crate) fn run(options: &Options, evenkeel: &Path) -> Result<Part> {
    let time = options.time()?;
    let mut generator = Generator::load()?;
    eprintln!("setting up {}", names(&options.paths()));
    let paths = options
        .paths()
        .into_iter()
        .map(|kind| {
            DataPath::start(kind, evenkeel)
                .with_context(|| format!("cannot set up {}", kind.name()))
        })
        .collect::<Result<Vec<_>>>()?;
    let mut series = empty_series(options);
    let mut others = Samples::default();
    for round in 1..=options.rounds() {
        for metric in options.metrics() {
            let measured = paths.iter().filter(|path| path.kind.takes(metric));
            let mut measured: Vec<_> = measured.collect();
            // Nobody is always first.
            let first = round as usize % measured.len().max(1);
            measured.rotate_left(first);
            for path in measured {
                let busy = machine::others_percent()?;
                others.push(busy);
                let sample = metric.sample(path, &mut generator, time);
                tell(round, metric, path.kind, busy, &sample);
                note(&mut series, metric, path.kind, sample);
            }
        }
    }
    if series.iter().any(|one| one.samples().next().is_none()) {
        bail!("some measurements have no sample, see above");
    }
    Ok(part(&series, &others))
}

fn names(kinds: &[Kind]) -> String {
    kinds
        .iter()
        .map(|kind| kind.name())
        .collect::<Vec<_>>()
        .join(", ")
}

fn empty_series(options: &Options) -> Vec<Series> {
    let of = |metric: Metric| {
        let kinds = options
            .paths()
            .into_iter()
            .filter(move |kind| kind.takes(metric));
        kinds.map(move |kind| Series {
            metric,
            kind,
            rounds: Vec::new(),
        })
    };
    options.metrics().into_iter().flat_map(of).collect()
}

/// Shows what is going on.
fn tell(round: u32, metric: Metric, kind: Kind, busy: f64, sample: &Result<Sample>) {
    let unit = metric.unit();
    let seen = match sample {
        Ok(sample) => format!("{} {}", unit.write(sample.value), unit.name()),
        Err(error) => format!("failed: {error:#}"),
    };
    eprintln!(
        "round {round}: {}, {}: {seen} (others use {busy:.0} % of the CPUs)",
        metric.title(),
        kind.name()
    );
}

fn note(series: &mut [Series], metric: Metric, kind: Kind, sample: Result<Sample>) {
    let of = series
        .iter_mut()
        .find(|one| one.metric == metric && one.kind == kind);
    if let Some(one) = of {
        one.rounds.push(sample.ok());
    }
}

impl Series {
    fn samples(&self) -> impl Iterator<Item = &Sample> {
        self.rounds.iter().flatten()
    }

    fn values(&self) -> Samples {
        self.samples().map(|sample| sample.value).collect()
    }

    fn measurement(&self, all: &[Self]) -> Measurement {
        let mut line = Measurement::new(
            self.metric.title(),
            self.kind.name(),
            self.metric.unit(),
            self.values(),
        );
        line.of_forwarding = self.share_of(Kind::Forward, all);
        line.of_nft = self.share_of(Kind::Nft, all);
        line.notes = self.notes();
        line
    }

    /// The share of another way's value in the same round: the median of all rounds.
    fn share_of(&self, kind: Kind, all: &[Self]) -> Option<f64> {
        let other = all
            .iter()
            .find(|one| one.metric == self.metric && one.kind == kind)?;
        let pairs = self.rounds.iter().zip(&other.rounds);
        let shares =
            pairs.filter_map(|(ours, theirs)| Some(ours.as_ref()?.value / theirs.as_ref()?.value));
        shares.collect::<Samples>().median()
    }

    fn notes(&self) -> String {
        let median = |of: fn(&Sample) -> Option<f64>| {
            self.samples().filter_map(of).collect::<Samples>().median()
        };
        let mut notes = Vec::new();
        if let Some((p50, p99)) = median(|sample| sample.p50_ms).zip(median(|sample| sample.p99_ms))
        {
            notes.push(format!("p50 {p50:.2} ms, p99 {p99:.2} ms"));
            let errors: u64 = self.samples().map(|sample| sample.errors).sum();
            notes.push(format!("{errors} errors"));
        }
        if let Some(lost) = median(|sample| sample.lost) {
            notes.push(format!("{:.1} % lost", lost * 100.0));
        }
        let failures = self.rounds.iter().filter(|round| round.is_none()).count();
        if failures > 0 {
            notes.push(format!("{failures} samples failed"));
        }
        notes.join(", ")
    }
}

/// What is aimed at: the share of which other way, and how much at least.
const AIMS: [(Metric, Kind, Kind, f64); 9] = [
    (Metric::FloodUdp, Kind::EvenkeelXdp, Kind::Forward, 1.25),
    (Metric::FloodSyn, Kind::EvenkeelXdp, Kind::Forward, 1.25),
    (Metric::FloodUdp, Kind::EvenkeelXdp, Kind::Nft, 1.9),
    (Metric::FloodSyn, Kind::EvenkeelXdp, Kind::Nft, 1.9),
    (Metric::Short, Kind::Evenkeel, Kind::Forward, 1.0),
    (Metric::Keep, Kind::Evenkeel, Kind::Forward, 1.0),
    (Metric::Throughput, Kind::Evenkeel, Kind::Forward, 0.95),
    (Metric::Plain, Kind::Evenkeel, Kind::Forward, 1.0),
    (Metric::Plain, Kind::EvenkeelXdp, Kind::Forward, 1.0),
];

fn part(series: &[Series], others: &Samples) -> Part {
    let aim = |(metric, kind, beside, bound): (Metric, Kind, Kind, f64)| {
        let of = series
            .iter()
            .find(|one| one.metric == metric && one.kind == kind);
        Aim {
            what: format!(
                "{}: {}, share of {}",
                metric.title(),
                kind.name(),
                beside.name()
            ),
            value: of.and_then(|one| one.share_of(beside, series)),
            bound: Bound::AtLeast(bound),
            unit: "",
        }
    };
    Part {
        measurements: series.iter().map(|one| one.measurement(series)).collect(),
        aims: AIMS.into_iter().map(aim).collect(),
        notes: vec![
            "Client, director and servers are namespaces of one machine, the client on the first \
             CPU and the servers on the second, so that the director shares their time. A flood is \
             made, directed and counted on one CPU: what the director costs is the difference \
             between two floods. In a flood everything lost is lost for want of time."
                .into(),
            "evenkeel is at tc, as it chooses on virtual interfaces; evenkeel-xdp is at XDP, as it \
             chooses on physical ones. At XDP, a packet from a local sender with an unfinished \
             checksum is left to tc, so that only traffic with whole checksums measures it. \
             xdp-limit sends every frame of the flood on with other MAC addresses and looks at \
             nothing: on this machine no director at XDP can do more."
                .into(),
            "No offloads: TSO, GSO, GRO and checksums are off at both ends of every cable, so that \
             every packet fits the link and is whole, as on the wire."
                .into(),
            load_note(others),
        ],
    }
}

/// Whether the figures can be trusted.
fn load_note(others: &Samples) -> String {
    let (Some(median), Some((_, most))) = (others.median(), others.spread()) else {
        return "Nothing was measured.".into();
    };
    let verdict = if median > machine::QUIET {
        "**The machine was busy: these figures are not to be relied on.**"
    } else if most > machine::QUIET {
        "The machine was mostly quiet."
    } else {
        "The machine was quiet."
    };
    format!(
        "{verdict} Before each sample other programs used {median:.0} % of the CPUs (median; \
         at most {most:.0} %)."
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(kind: Kind, values: &[f64]) -> Series {
        let sample = |value: &f64| {
            Some(Sample {
                value: *value,
                p50_ms: Some(1.0),
                p99_ms: Some(2.0),
                errors: 1,
                lost: None,
            })
        };
        Series {
            metric: Metric::Short,
            kind,
            rounds: values.iter().map(sample).collect(),
        }
    }

    #[test]
    fn ratios_are_between_samples_of_a_round() {
        let mut all = [
            series(Kind::Forward, &[100.0, 200.0, 400.0, 100.0]),
            series(Kind::Evenkeel, &[110.0, 240.0, 520.0]),
        ];
        all[1].rounds.push(None);
        let part = part(&all, &[50.0].into_iter().collect());
        assert_eq!(part.measurements[0].of_forwarding, Some(1.0));
        assert_eq!(part.measurements[1].of_forwarding, Some(1.2));
        assert_eq!(part.measurements[1].of_nft, None);
        assert_eq!(
            part.measurements[1].notes,
            "p50 1.00 ms, p99 2.00 ms, 3 errors, 1 samples failed"
        );
        let met: Vec<_> = part.aims.iter().filter_map(Aim::is_met).collect();
        assert_eq!(met, [true]);
        assert!(part.notes.iter().any(|note| note.contains("busy")));
    }
}
