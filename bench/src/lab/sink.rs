//! A flood's way from the client to the servers, where its frames are counted and
//! dropped.

use std::net::Ipv4Addr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use evenkeel_lab::bench::{CLIENT_PORT, SERVER_PORTS};
use evenkeel_lab::host::Host;
use evenkeel_lab::wait;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use serde_json::Value;

use super::path::{CLIENT_CPU, DataPath, nft, run};
use crate::flood::{Flood, Generator, Port, Sent};

/// Longest that frames may be on their way after a flood.
const SETTLE: Duration = Duration::from_secs(2);

/// What became of a flood.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    /// What was sent.
    pub(crate) sent: Sent,
    /// Frames that came to the servers; one at least.
    pub(crate) arrived: u64,
}

/// Floods from the client for at least `time`.
pub(crate) fn flood(
    path: &DataPath,
    generator: &mut Generator,
    flood: &Flood,
    time: Duration,
) -> Result<Arrival> {
    let network = &path.network;
    let gateway = network.director.within(|| Port::find(CLIENT_PORT))??;
    let sinks = Sinks::open(&network.servers, flood.source)?;
    let sent = network.client.within(|| {
        pin(CLIENT_CPU)?;
        generator.run(flood, CLIENT_PORT, gateway.address, time)
    })??;
    let arrived = sinks.settled_count()?;
    sinks.close()?;
    if arrived == 0 {
        bail!("none of {} frames arrived at the servers", sent.frames);
    }
    Ok(Arrival { sent, arrived })
}

fn pin(cpu: usize) -> Result<()> {
    let mut cpus = CpuSet::new();
    cpus.set(cpu)
        .and_then(|()| sched_setaffinity(Pid::from_raw(0), &cpus))
        .with_context(|| format!("cannot pin the generator to CPU {cpu}"))
}

/// Counts what reaches the servers from an address, and drops it, as early as the
/// servers' kernels can.
#[derive(Debug)]
struct Sinks<'a>(&'a [Host; 2]);

impl<'a> Sinks<'a> {
    fn open(servers: &'a [Host; 2], source: Ipv4Addr) -> Result<Self> {
        for (host, port) in servers.iter().zip(SERVER_PORTS) {
            nft(
                host,
                &format!(
                    "table netdev sink {{
  counter frames {{ }}
  chain in {{
    type filter hook ingress device {port} priority -500; policy accept;
    ip saddr {source} counter name frames drop
  }}
}}
"
                ),
            )?;
        }
        Ok(Self(servers))
    }

    fn count(&self) -> Result<u64> {
        let mut all = 0;
        for host in self.0 {
            let mut nft = Command::new("nft");
            nft.args(["-j", "list", "counter", "netdev", "sink", "frames"]);
            all += parse_counter(&run(host, &mut nft)?).context("cannot read nft's counter")?;
        }
        Ok(all)
    }

    /// The count when no frame is on its way any more.
    fn settled_count(&self) -> Result<u64> {
        let mut before = None;
        wait::until(SETTLE, "the last frames", || {
            let now = self.count().map_err(|error| format!("{error:#}"))?;
            if before.replace(now) == Some(now) {
                Ok(now)
            } else {
                Err(format!("{now} frames"))
            }
        })
    }

    fn close(self) -> Result<()> {
        self.0
            .iter()
            .try_for_each(|host| nft(host, "delete table netdev sink\n"))
    }
}

fn parse_counter(json: &[u8]) -> Option<u64> {
    let answer: Value = serde_json::from_slice(json).ok()?;
    let objects = answer["nftables"].as_array()?;
    objects
        .iter()
        .find_map(|object| object["counter"]["packets"].as_u64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nfts_counter_is_read() {
        let json = br#"{"nftables": [{"metainfo": {}}, {"counter": {"family": "netdev",
            "name": "frames", "packets": 12345, "bytes": 1}}]}"#;
        assert_eq!(parse_counter(json), Some(12_345));
        assert_eq!(parse_counter(b"{}"), None);
    }
}
