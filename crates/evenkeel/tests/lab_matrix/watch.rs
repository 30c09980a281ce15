//! What arrives at the servers and at the client, while it is watched.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use evenkeel_lab::capture::Capture;
use evenkeel_lab::host::Host;
use evenkeel_lab::wait;
use evenkeel_lab::wire::{self, Layer};

use crate::world::{CLIENT_PORT, GUE, LEGS, SERVER_PORTS, World};

/// Longest that connections may take to end.
const END: Duration = Duration::from_secs(10);

/// Frames of TCP and UDP by their headers, and their bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen(BTreeMap<Vec<Layer>, (usize, usize)>);

impl Seen {
    /// The stacks of headers that there were.
    pub(crate) fn shapes(&self) -> Vec<&[Layer]> {
        self.0.keys().map(Vec::as_slice).collect()
    }

    /// Bytes of frames whose innermost protocol is this one.
    pub(crate) fn bytes(&self, protocol: Layer) -> usize {
        let with = self
            .0
            .iter()
            .filter(|(shape, _)| shape.last() == Some(&protocol));
        with.map(|(_, (_, bytes))| bytes).sum()
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (shape, (frames, bytes)) in &self.0 {
            let names: Vec<String> = shape.iter().map(ToString::to_string).collect();
            write!(f, "{}: {frames} frames, {bytes} bytes; ", names.join(" / "))?;
        }
        Ok(())
    }
}

/// What came in since the last time.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// At the servers, from the director.
    pub(crate) servers: Seen,
    /// At the client, from the director.
    pub(crate) director: Seen,
    /// At the client, from the servers.
    pub(crate) legs: Seen,
}

/// Captures at every end of the network.
pub(crate) struct Watch {
    servers: [Capture; 2],
    director: Capture,
    legs: Capture,
}

impl Watch {
    pub(crate) fn start(world: &World) -> Result<Self> {
        let [first, second] = &world.servers;
        Ok(Self {
            servers: [
                Capture::start(first, &[SERVER_PORTS[0]])?,
                Capture::start(second, &[SERVER_PORTS[1]])?,
            ],
            director: Capture::start(&world.client, &[CLIENT_PORT])?,
            legs: Capture::start(&world.client, &LEGS)?,
        })
    }

    /// What has come in, once all connections are at their end. An error where a
    /// checksum is wrong.
    pub(crate) fn report(&self, world: &World) -> Result<Report> {
        settle(world)?;
        let mut report = Report::default();
        for capture in &self.servers {
            look(capture, &mut report.servers).context("at a server")?;
        }
        look(&self.director, &mut report.director).context("at the client")?;
        look(&self.legs, &mut report.legs).context("at the client, from a server")?;
        Ok(report)
    }

    /// Throws away what has come in. The largest frame that came to a server, in bytes.
    pub(crate) fn forget(&self, world: &World) -> Result<usize> {
        settle(world)?;
        let mut largest = 0;
        for capture in &self.servers {
            capture.take(|frame| largest = largest.max(frame.len()))?;
        }
        for capture in [&self.director, &self.legs] {
            capture.take(|_| {})?;
        }
        Ok(largest)
    }
}

fn look(capture: &Capture, seen: &mut Seen) -> Result<()> {
    let mut wrong = Vec::new();
    capture.take(|frame| match wire::check(frame, GUE) {
        Ok(shape) => {
            if matches!(shape.last(), Some(Layer::Tcp | Layer::Udp | Layer::BareUdp)) {
                let (frames, bytes) = seen.0.entry(shape).or_default();
                *frames += 1;
                *bytes += frame.len();
            }
        }
        Err(error) => wrong.push(error),
    })?;
    let count = wrong.len();
    match wrong.into_iter().next() {
        None => Ok(()),
        Some(first) => Err(first.context(format!("{count} frames are wrong, the first one"))),
    }
}

/// Waits until no connection can send anything any more.
fn settle(world: &World) -> Result<()> {
    let [first, second] = &world.servers;
    wait::until(END, "connections to end", || {
        for host in [&world.client, first, second] {
            let open = open_connections(host).map_err(|error| format!("{error:#}"))?;
            if open != 0 {
                return Err(format!("{open} on {}", host.name()));
            }
        }
        Ok(())
    })
}

/// How many of a host's TCP sockets are neither listening nor in `TIME_WAIT`.
fn open_connections(host: &Host) -> Result<usize> {
    const QUIET: [&str; 2] = ["0A", "06"];
    let tables = ["tcp", "tcp6"].map(|name| format!("/proc/thread-self/net/{name}"));
    let text = host.within(|| {
        let mut text = String::new();
        for table in &tables {
            text += &fs::read_to_string(table).with_context(|| format!("cannot read {table}"))?;
        }
        anyhow::Ok(text)
    })??;
    let states = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let number = words.next()?;
        // The header line has no number.
        number.ends_with(':').then(|| words.nth(2)).flatten()
    });
    Ok(states.filter(|state| !QUIET.contains(state)).count())
}

/// Fails where a report has other shapes than these.
pub(crate) fn expect_shapes(seen: &Seen, shapes: &[Vec<Layer>], place: &str) -> Result<()> {
    let mut expected: Vec<&[Layer]> = shapes.iter().map(Vec::as_slice).collect();
    expected.sort_unstable();
    ensure!(
        seen.shapes() == expected,
        "{place}: expected {expected:?}, there were {seen}"
    );
    Ok(())
}
