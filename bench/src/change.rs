//! The time to change one server among many, and what becomes of packets of other
//! services meanwhile.

mod traffic;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use evenkeel_api::client::Client;
use evenkeel_core::model::{Edit, ForwardMethod, ServerSettings};
use evenkeel_lab::director::Director;
use evenkeel_lab::wait;

use crate::load::{self, milliseconds, server_key, service_key};
use crate::machine;
use crate::measure::{Aim, Bound, Measurement, Samples, Unit};
use crate::report::Part;
use traffic::{Seen, Traffic};

/// Services of the aim, and servers of each.
const SERVICES: u32 = 10_000;
const SERVERS_EACH: u32 = 16;
/// Milliseconds of the aim.
const AIM_MS: f64 = 1.0;
/// Longest that the daemon may take to come up, and to know the way to all servers.
const START: Duration = Duration::from_secs(20);
/// The daemon's instance.
const INSTANCE: &str = "change";

/// What is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Weight,
    Added,
    Removed,
}

impl Kind {
    const ALL: [(Self, &'static str); 3] = [
        (Self::Weight, "a server's weight"),
        (Self::Added, "a server added"),
        (Self::Removed, "a server removed"),
    ];
}

/// How much there is, and how often it is changed.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Options {
    /// Changes of each kind.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=4000))]
    changes: u32,
    /// A few changes among 100 services, to see whether everything works.
    #[arg(long)]
    quick: bool,
}

impl Options {
    /// What `all` runs.
    pub(crate) const fn usual(quick: bool) -> Self {
        Self {
            changes: 100,
            quick,
        }
    }

    const fn services(self) -> u32 {
        if self.quick { 100 } else { SERVICES }
    }

    const fn changes(self) -> u32 {
        if self.quick { 5 } else { self.changes }
    }
}

/// Measures. `evenkeel` is Evenkeel's program.
pub(crate) fn run(options: Options, evenkeel: &Path) -> Result<Part> {
    let hosts = load::topology(INSTANCE).build()?;
    let [host, _router] = hosts.as_slice() else {
        bail!("the topology has two hosts");
    };
    let mut director = Director::new(host.clone(), evenkeel, INSTANCE)?;
    let services = options.services();
    director.configure(&load::configuration(services, SERVERS_EACH, services))?;
    director.start_daemon(START)?;
    load::send(INSTANCE, &load::request(services, SERVERS_EACH)?)?;
    every_server_is_reached()?;
    let quiet = series(options, "without traffic")?;
    // The upper half of the services is not touched, and has the traffic.
    let (busy, seen) = Traffic::to(services / 2..services)
        .during(host, INSTANCE, || series(options, "with traffic"))?;
    let output = director.shell("evenkeel stop")?;
    ensure!(
        output.status == 0,
        "evenkeel stop failed: {output}\n{}",
        director.log_tail()
    );
    Ok(part(options, &quiet, &busy, seen))
}

/// Waits until no server's next hop is missing.
fn every_server_is_reached() -> Result<()> {
    wait::until(START, "the next hops of all servers", || {
        let status = Client::new(INSTANCE)
            .status()
            .map_err(|error| error.to_string())?;
        match status.servers_without_hop {
            0 => Ok(()),
            missing => Err(format!("{missing} are missing")),
        }
    })
}

/// Changes one service after the other, and gives the milliseconds of each kind of change.
fn series(options: Options, how: &str) -> Result<[Samples; 3]> {
    let busy = machine::others_percent()?;
    let mut all = [const { Vec::new() }; 3];
    let touched = options.services() / 2;
    for number in 0..options.changes() {
        for ((kind, _), times) in Kind::ALL.into_iter().zip(&mut all) {
            let request = load::request_of(vec![edit(options, kind, number % touched, number)])?;
            let time = load::send(INSTANCE, &request)
                .with_context(|| format!("change {number} {how}: {kind:?}"))?;
            times.push(milliseconds(time));
        }
    }
    let all = all.map(|times| times.into_iter().collect::<Samples>());
    for ((_, name), times) in Kind::ALL.into_iter().zip(&all) {
        eprintln!(
            "{how}: {name}: {:.2} ms (others use {busy:.0} % of the CPUs)",
            times.median().unwrap_or(f64::NAN)
        );
    }
    Ok(all)
}

/// The edit of this kind of the service of this number; the first server of a service gets
/// another weight, and what is added is removed again.
fn edit(options: Options, kind: Kind, service: u32, round: u32) -> Edit {
    let key = service_key(service);
    let added = server_key(options.services() * SERVERS_EACH + service);
    match kind {
        Kind::Weight => Edit::EditServer {
            service: key,
            server: server_key(service * SERVERS_EACH),
            settings: ServerSettings::new(ForwardMethod::Masq, 2 + round % 2),
        },
        Kind::Added => Edit::AddServer {
            service: key,
            server: added,
            settings: ServerSettings::new(ForwardMethod::Masq, 1),
        },
        Kind::Removed => Edit::DeleteServer {
            service: key,
            server: added,
        },
    }
}

fn part(options: Options, quiet: &[Samples; 3], busy: &[Samples; 3], seen: Seen) -> Part {
    let services = options.services();
    let what = format!("change one of {services} services, {SERVERS_EACH} servers each");
    let mut part = Part::default();
    for (times, how) in [(quiet, ""), (busy, ", with traffic")] {
        for ((_, name), times) in Kind::ALL.into_iter().zip(times) {
            let subject = format!("evenkeel, {name}{how}");
            if how.is_empty() && services == SERVICES {
                part.aims.push(Aim {
                    what: format!("{what}: {name}"),
                    value: times.median(),
                    bound: Bound::AtMost(AIM_MS),
                    unit: "ms",
                });
            }
            let line = Measurement::new(&what, &subject, Unit::Milliseconds, times.clone());
            part.measurements.push(line);
        }
    }
    let other = "packets of untouched services meanwhile";
    for (name, count) in [("lost", seen.lost), ("to another server", seen.moved)] {
        let samples = [crate::measure::float(count)].into_iter().collect();
        let mut line = Measurement::new(other, name, Unit::Count, samples);
        line.notes = format!("of {} packets of {} connections", seen.packets, seen.flows);
        part.measurements.push(line);
        part.aims.push(Aim {
            what: format!("{other}: {name}"),
            value: Some(crate::measure::float(count)),
            bound: Bound::AtMost(0.0),
            unit: "",
        });
    }
    part.notes.push(
        "A server is changed by one request over the control socket, from the request's first \
         byte to the answer's last. With traffic a CPU of the machine runs the pinned packet path \
         over and over on packets of connections to services that are not changed, and looks at \
         each that comes out."
            .into(),
    );
    part
}
