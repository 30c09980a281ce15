//! Evenkeel beside the kernel's own IPVS, which most machines' kernels lack: in an
//! emulated machine with Debian's kernel, whose clock counts instructions. What a frame
//! takes there is the same on every machine and however busy it is.

mod guest;

use std::env;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use evenkeel_lab::vm::{Guest, Kit, Vm};
use evenkeel_lab::wait;

use crate::flood;
use crate::lab::path::Kind;
use crate::measure::{Aim, Bound, Measurement, Samples, Unit};
use crate::report::Part;
use guest::{Load, Sample};
pub(crate) use guest::{Rounds, run as guest};

/// Where `scripts/setup vm` puts what the machine is made with.
const KIT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/vm");
/// Longest that the machine may take to start.
const START: Duration = Duration::from_mins(5);
/// Longest that all floods may take; the instructions are the same, their time is not.
const RUN: Duration = Duration::from_mins(20);
/// What the ways, the counting of frames and Evenkeel's attachment need of the kernel.
const MODULES: [&str; 7] = [
    "veth",
    "sch_ingress",
    "cls_bpf",
    "nf_tables",
    "nft_objref",
    "ip_vs",
    "ip_vs_rr",
];
/// Where the programs lie in the machine.
const BENCH: &str = "/usr/bin/evenkeel-bench";
const EVENKEEL: &str = "/usr/sbin/evenkeel";
const OBJECT: &str = "/bench.bpf.o";
/// IPVS's hash table at its largest, which has about as many entries as Evenkeel's by
/// default. At its own default of 4,096 chains it would be slow for want of them.
const IPVS: &str = "modprobe ip_vs conn_tab_bits=20";
/// The share of IPVS's instructions that is aimed at.
const AIM: f64 = 0.5;

/// What is run.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// One round, to see whether everything works.
    #[arg(long)]
    quick: bool,
    /// Where kernel, emulator and ipvsadm are unpacked.
    #[arg(long, value_name = "DIRECTORY", default_value = KIT)]
    kit: PathBuf,
}

impl Options {
    /// What `all` runs.
    pub(crate) fn usual(quick: bool) -> Self {
        Self {
            quick,
            kit: KIT.into(),
        }
    }
}

/// Measures, or says in a remark that there is nothing to do it with.
pub(crate) fn run_if_possible(options: &Options, evenkeel: &Path) -> Result<Part> {
    match machine(options, evenkeel) {
        Ok(machine) => count(&machine, options),
        Err(error) => Ok(Part {
            notes: vec![format!("Not measured beside the kernel's IPVS: {error:#}.")],
            ..Part::default()
        }),
    }
}

/// Measures. `evenkeel` is Evenkeel's program.
pub(crate) fn run(options: &Options, evenkeel: &Path) -> Result<Part> {
    count(&machine(options, evenkeel)?, options)
}

/// The machine, and its kernel's release.
fn machine(options: &Options, evenkeel: &Path) -> Result<(Guest, String)> {
    let kit = Kit::find(&options.kit)?;
    let mut guest = Guest::new(&kit, "count")?;
    let bench = env::current_exe().context("cannot find this program's own file")?;
    guest
        .count_instructions()
        .modules(&MODULES)?
        .kit_program("ipvsadm")?
        .program("nft")?
        .program("ethtool")?
        .built(&bench, BENCH)?
        .built(evenkeel, EVENKEEL)?
        .file(&flood::object()?, OBJECT);
    Ok((guest, kit.release().into()))
}

fn count((guest, release): &(Guest, String), options: &Options) -> Result<Part> {
    eprintln!("counting instructions on Linux {release}, emulated");
    let mut vm = Vm::boot(guest, START)?;
    vm.expect(IPVS, START)?;
    let rounds = if options.quick { 1 } else { guest::ROUNDS };
    // Deadlines there count instructions, too, and a verifier's are many.
    let text = vm.expect(
        &format!(
            "{}=6 {}={OBJECT} {BENCH} --evenkeel {EVENKEEL} guest --rounds {rounds}",
            wait::PATIENCE,
            flood::OBJECT_VARIABLE
        ),
        RUN,
    )?;
    let samples = guest::read(&text)
        .with_context(|| format!("cannot read what the machine wrote:\n{text}"))?;
    Ok(part(&samples, release))
}

fn median(samples: &[Sample], load: Load, kind: Kind) -> Option<f64> {
    values(samples, load, kind).median()
}

fn values(samples: &[Sample], load: Load, kind: Kind) -> Samples {
    samples
        .iter()
        .filter(|sample| (sample.load, sample.kind) == (load, kind))
        .map(|sample| sample.instructions)
        .collect()
}

/// What a director takes above the least, as a share of what IPVS takes.
fn share_of_ipvs(samples: &[Sample], load: Load, kind: Kind) -> Option<f64> {
    let of = |kind| median(samples, load, kind);
    let least = of(Kind::XdpLimit)?;
    Some((of(kind)? - least) / (of(Kind::Ipvs)? - least))
}

fn part(samples: &[Sample], release: &str) -> Part {
    let line = |load: Load, kind: Kind| {
        let values = values(samples, load, kind);
        let mut line = Measurement::new(&title(load), kind.name(), Unit::Instructions, values);
        line.of_forwarding = median(samples, load, kind)
            .zip(median(samples, load, Kind::Forward))
            .map(|(ours, theirs)| ours / theirs);
        let share = share_of_ipvs(samples, load, kind);
        if let Some(share) = share.filter(|_| !matches!(kind, Kind::XdpLimit | Kind::Ipvs)) {
            line.notes = format!("{share:.2} of ipvs, above xdp-limit");
        }
        line
    };
    let aim = |load: Load, kind: Kind| Aim {
        what: format!(
            "{}: instructions of {} above xdp-limit, share of ipvs",
            title(load),
            kind.name()
        ),
        value: share_of_ipvs(samples, load, kind),
        bound: Bound::AtMost(AIM),
        unit: "",
    };
    let all = |kinds: &'static [Kind]| {
        let of = move |load| kinds.iter().map(move |&kind| (load, kind));
        Load::ALL.into_iter().flat_map(of)
    };
    Part {
        measurements: all(&guest::KINDS)
            .map(|(load, kind)| line(load, kind))
            .collect(),
        aims: all(&[Kind::EvenkeelXdp, Kind::Evenkeel])
            .map(|(load, kind)| aim(load, kind))
            .collect(),
        notes: vec![format!(
            "Emulated: instructions that Linux {release} takes for a frame, from the program that \
             makes it to the rule that counts it, on an emulated machine with one CPU whose clock \
             counts them: copying counts by words of eight bytes, a cache miss not at all. What making and counting take is in xdp-limit, and \
             subtracted for a share. ipvs is the kernel's own, by Debian's ipvsadm, with the same \
             services, masquerading as Evenkeel does, and a hash table of 1,048,576 chains."
        )],
    }
}

fn title(load: Load) -> String {
    format!("emulated, {}", load.title())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_above_the_least() {
        let sample = |kind, instructions| Sample {
            load: Load::Established,
            kind,
            instructions,
        };
        let samples = [
            sample(Kind::XdpLimit, 1000.0),
            sample(Kind::Ipvs, 4800.0),
            sample(Kind::Ipvs, 5000.0),
            sample(Kind::Ipvs, 9000.0),
            sample(Kind::EvenkeelXdp, 2000.0),
        ];
        let part = part(&samples, "6.1.0");
        let values: Vec<_> = part.aims.iter().map(|aim| aim.value).collect();
        assert_eq!(values, [Some(0.25), None, None, None]);
        let line = part
            .measurements
            .iter()
            .find(|line| line.subject == "evenkeel-xdp");
        assert_eq!(
            line.map(|line| line.notes.as_str()),
            Some("0.25 of ipvs, above xdp-limit")
        );
    }
}
