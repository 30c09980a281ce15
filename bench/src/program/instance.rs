//! An instance that test runs go through.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use evenkeel_core::director::{Director, Hop, Reach};
use evenkeel_core::model::{Family, Protocol, SourceNat};
use evenkeel_datapath::layout::CLIENT_HOPS;
use evenkeel_datapath::memory::Memory;
use evenkeel_kernel::Program;
use evenkeel_kernel::dataplane::Dataplane;
use evenkeel_kernel::sizes::Settings;
use evenkeel_kernel::test_run::{TestRun, TestRunResult};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

use super::scenario::{Rules, Traffic};

const SYN: u8 = 0x02;
const ACK: u8 = 0x10;
/// Added to a number of flows: they come in another order (`bpf/src/bench.rs`).
pub(crate) const OTHER_ORDER: u8 = 1 << 7;
const DROP: u32 = 1;
const PASS: u32 = 2;
const TX: u32 = 3;
const REDIRECT: u32 = 4;
/// The loopback interface, by which test runs say that packets come in.
const LOOPBACK: u32 = 1;
const MTU: u32 = 1500;

/// What the wrapper in the BPF object runs (`bpf/src/bench.rs`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Drop = 0,
    Swap = 1,
    Rearm = 2,
    Evenkeel = 3,
    HashMap = 4,
    AsItIs = 5,
    LargeHashMap = 6,
    Reply = 7,
    Grow = 8,
}

/// Packets of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Packets {
    pub family: Family,
    pub protocol: Protocol,
    /// TCP's.
    pub flags: u8,
    /// As a power of two.
    pub flows_log2: u8,
    /// The place among the flows of the first packet's.
    pub first: u32,
    pub count: u32,
}

impl Packets {
    /// `count` of one flow of TCP over IPv4, in the middle of its connection.
    pub(crate) const fn usual(count: u32) -> Self {
        Self {
            family: Family::V4,
            protocol: Protocol::Tcp,
            flags: ACK,
            flows_log2: 0,
            first: 0,
            count,
        }
    }

    /// `count` of 2^`flows_log2` flows to the service of `rules`.
    pub(crate) const fn to(rules: &Rules, traffic: Traffic, flows_log2: u8, count: u32) -> Self {
        Self {
            family: rules.family,
            protocol: rules.protocol,
            flags: match traffic {
                Traffic::New => SYN,
                Traffic::Client | Traffic::Reply => ACK,
            },
            flows_log2,
            first: 0,
            count,
        }
    }

    /// The frame, whose last six bytes tell the wrapper what to do.
    fn frame(self, mode: Mode) -> Vec<u8> {
        let mut frame = match self.family {
            Family::V4 => vec![0; 60],
            Family::V6 => vec![0; 120],
        };
        let length = frame.len();
        frame[6..12].copy_from_slice(&[2, 9, 9, 9, 9, 9]);
        let protocol = match self.protocol {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Sctp => 132,
        };
        let transport = match self.family {
            Family::V4 => {
                frame[12..14].copy_from_slice(&[8, 0]);
                frame[14] = 0x45;
                frame[17] = (length - 14) as u8;
                frame[22..24].copy_from_slice(&[64, protocol]);
                // Nobody's: neither a service nor a server.
                frame[26..34].copy_from_slice(&[10, 7, 7, 7, 10, 8, 8, 8]);
                34
            }
            Family::V6 => {
                frame[12..14].copy_from_slice(&[0x86, 0xdd]);
                frame[14] = 0x60;
                frame[19] = (length - 54) as u8;
                frame[20..22].copy_from_slice(&[protocol, 64]);
                54
            }
        };
        frame[transport..transport + 4].copy_from_slice(&[0x30, 0x39, 0, 80]);
        if self.protocol == Protocol::Udp {
            frame[transport + 5] = (length - transport) as u8;
        } else {
            frame[transport + 12] = 0x50;
            frame[transport + 13] = self.flags;
        }
        frame[length - 6] = mode as u8;
        frame[length - 5] = self.flows_log2;
        frame[length - 4..].copy_from_slice(&self.first.to_ne_bytes());
        frame
    }
}

/// An instance.
pub(crate) struct Instance {
    dataplane: Dataplane,
}

impl Instance {
    /// Makes one with this object's programs and room for so many connections, and wide ones.
    /// `pins` is a directory that does not exist yet, of a BPF file system.
    pub(crate) fn new(pins: &Path, object: &[u8], connections: (u32, u32)) -> Result<Self> {
        let (connections, wide_connections) = connections;
        let settings = Settings {
            connections,
            wide_connections,
            services: 64,
            servers: 1024,
            ring_words: 1 << 18,
            seed: None,
        };
        let (dataplane, _) = Dataplane::open_object(pins, &settings, object)?;
        let memory = dataplane.memory();
        let mut director = Director::adopt(&memory, 0);
        let pool = SourceNat {
            addresses: (1..=24)
                .map(|last| IpAddr::from([10, 3, 0, last]))
                .collect(),
            ports: 1024..=65_000,
        };
        director
            .set_source_nat(&pool, &memory)
            .map_err(|error| anyhow::anyhow!("set the addresses of source NAT: {error:?}"))?;
        director.write_all(&memory);
        Ok(Self { dataplane })
    }

    /// Makes the service of `rules` and no other that gets packets, without any
    /// connection.
    pub(crate) fn set_up(&self, rules: &Rules) -> Result<()> {
        let memory = self.dataplane.memory();
        let mut director = Director::adopt(&memory, 0);
        let refused = director.apply(&rules.edits(), true, &memory, 0);
        ensure!(refused.is_empty(), "set up {rules:?}: {refused:?}");
        director.write_all(&memory);
        self.hops(rules, LOOPBACK);
        self.clear();
        Ok(())
    }

    /// Lets packets to the servers leave by the interface with this index.
    pub(crate) fn hops(&self, rules: &Rules, interface: u32) {
        let memory = self.dataplane.memory();
        let mut director = Director::adopt(&memory, 0);
        let source = match rules.family {
            Family::V4 => IpAddr::from([10, 2, 0, 1]),
            Family::V6 => IpAddr::from([0xfd02, 0, 0, 0, 0, 0, 0, 1]),
        };
        let hop = Hop {
            interface,
            destination_mac: [2, 0, 10, 2, 0, 11],
            source_mac: [2, 0, 10, 2, 0, 1],
            mtu: MTU,
            source: Some(source),
        };
        director.set_hops(
            rules
                .servers()
                .map(|address| (address, Some(Reach::By(hop)))),
        );
        director.write_all(&memory);
    }

    /// Takes every connection out of the tables.
    pub(crate) fn clear(&self) {
        let memory: Memory<'_> = self.dataplane.memory();
        for bucket in memory.connections {
            for (signature, entry) in bucket.signatures.iter().zip(&bucket.entries) {
                signature.set(0);
                entry.state.set(0);
            }
        }
        for bucket in memory.wide_connections {
            for (signature, entry) in bucket.signatures.iter().zip(&bucket.entries) {
                signature.set(0);
                entry.state.set(0);
            }
        }
        for load in memory.loads {
            load.active.set(0);
            load.inactive.set(0);
            load.persistent.set(0);
        }
    }

    /// Opens the flows and establishes them, in another order than that of the packets
    /// measured, by `mode`.
    pub(crate) fn fill(&self, mode: Mode, rules: &Rules, flows_log2: u8) -> Result<()> {
        let order = flows_log2 | OTHER_ORDER;
        for traffic in [Traffic::New, Traffic::Client] {
            self.measure(mode, Packets::to(rules, traffic, order, 1 << flows_log2))?;
        }
        Ok(())
    }

    /// Answers each flow once, which is noted in its connection, and has all of them know the
    /// way to their client.
    pub(crate) fn answer_all(&self, rules: &Rules, flows_log2: u8) -> Result<()> {
        self.know_clients();
        let order = flows_log2 | OTHER_ORDER;
        let packets = Packets::to(rules, Traffic::Reply, order, 1 << flows_log2);
        self.measure(Mode::Reply, packets)?;
        Ok(())
    }

    fn know_clients(&self) {
        const PLACE: u32 = 5;
        let memory = self.dataplane.memory();
        let generation = memory.control.route_generation.get() & 0xffff;
        let index = (generation & 1) * (CLIENT_HOPS / 2) + PLACE;
        let Some(hop) = memory.client_hops.get(index as usize) else {
            return;
        };
        hop.mtu.set(MTU);
        hop.hop.interface.set(LOOPBACK);
        hop.hop.destination_low.set(2);
        hop.tag.set(2);
        let known = generation << 16 | index;
        for bucket in memory.connections {
            bucket.entries.iter().for_each(|entry| entry.hop.set(known));
        }
        for bucket in memory.wide_connections {
            bucket.entries.iter().for_each(|entry| entry.hop.set(known));
        }
    }

    /// Nanoseconds of system time a run.
    pub(crate) fn measure(&self, mode: Mode, packets: Packets) -> Result<f64> {
        let before = system_time_us()?;
        let result = self.run(mode, packets)?;
        let spent = system_time_us()? - before;
        let expected: &[u32] = match mode {
            Mode::Drop => &[DROP],
            Mode::AsItIs => &[PASS],
            _ => &[TX, REDIRECT],
        };
        ensure!(
            expected.contains(&result.verdict),
            "the program gave {} instead of {expected:?} in a run of {mode:?} on {packets:?}; \
             counted: {:?}",
            result.verdict,
            self.reasons()
        );
        #[allow(clippy::cast_precision_loss, reason = "microseconds of seconds")]
        let spent = spent as f64;
        Ok(spent * 1000.0 / f64::from(packets.count))
    }
}

impl Instance {
    /// Runs the packets, whatever becomes of them.
    pub(crate) fn run(&self, mode: Mode, packets: Packets) -> Result<TestRunResult> {
        let frame = packets.frame(mode);
        let run = TestRun {
            repeat: packets.count,
            ..TestRun::new(&frame)
        };
        Ok(self.dataplane.test_run(Program::Xdp, &run)?)
    }

    /// The instance's memory.
    pub(crate) fn memory(&self) -> Memory<'_> {
        self.dataplane.memory()
    }

    /// How often packets went no common way, by the number of the reason.
    pub(crate) fn reasons(&self) -> BTreeMap<usize, u64> {
        let mut counts = BTreeMap::new();
        for of_cpu in self.dataplane.memory().reasons {
            for (reason, count) in of_cpu.counts.iter().enumerate() {
                *counts.entry(reason).or_default() += count.get();
            }
        }
        counts.retain(|_, count| *count != 0);
        counts
    }
}

fn system_time_us() -> Result<i64> {
    let usage = getrusage(UsageWho::RUSAGE_THREAD).context("read the thread's system time")?;
    Ok(usage.system_time().num_microseconds())
}
