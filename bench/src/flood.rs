//! A flood of small frames: a BPF program that the kernel runs over and over makes
//! each of them and sends it out of an interface, at the cost of one CPU.

use std::env;
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use aya::maps::Array;
use aya::programs::xdp::XdpMode;
use aya::programs::{TestRun as _, Xdp};
use aya::{Ebpf, EbpfLoader, TestRunAttrs, TestRunOptions};
use nix::ifaddrs::getifaddrs;
use nix::time::{ClockId, clock_gettime};

/// Where the build puts the programs that benchmarks need.
const OBJECT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/bpf/bench.bpf.o");
/// The environment variable that names their file where it lies elsewhere.
pub(crate) const OBJECT_VARIABLE: &str = "EVENKEEL_BENCH_OBJECT";
/// Bytes of a frame: the least an Ethernet carries, without its checksum.
const FRAME: usize = 60;
/// Frames between two looks at the clock.
pub(crate) const ROUND: u32 = 1 << 15;
/// Frames that the kernel hands on at once.
const BATCH: u32 = 64;

/// The file with the programs that benchmarks need.
pub(crate) fn object() -> Result<PathBuf> {
    let path = env::var_os(OBJECT_VARIABLE).map_or_else(|| OBJECT.into(), PathBuf::from);
    if !path.exists() {
        bail!("there is no {}: build it with `make bpf`", path.display());
    }
    Ok(path)
}

/// What stands in that file.
pub(crate) fn object_bytes() -> Result<Vec<u8>> {
    let file = object()?;
    fs::read(&file).with_context(|| format!("cannot read {}", file.display()))
}

/// The programs that benchmarks need, opened and not yet loaded.
pub(crate) fn open_object() -> Result<Ebpf> {
    let object = object()?;
    // Its maps are made whether they are needed or not.
    EbpfLoader::new()
        .map_max_entries("HASH", 1)
        .map_max_entries("LARGE_HASH", 1)
        .load_file(&object)
        .with_context(|| format!("cannot load {}", object.display()))
}

/// What is sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flood {
    /// From the client, as its neighbour sees it.
    pub(crate) source: Ipv4Addr,
    /// To whom.
    pub(crate) destination: Ipv4Addr,
    /// And to which port.
    pub(crate) port: u16,
    /// UDP datagrams or the first segments of TCP connections.
    pub(crate) kind: Kind,
    /// Source ports in use, a power of two, 32,768 at most.
    pub(crate) flows: u32,
}

/// What the frames carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// UDP.
    Udp,
    /// TCP with SYN set.
    Syn,
}

/// Frames that were sent, and how long it took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    /// Frames.
    pub(crate) frames: u64,
    /// The time.
    pub(crate) time: Duration,
    /// What of it the sending thread ran. What the kernel does on the thread's time is in
    /// it; waiting for the kernel to swap programs before and after a run is not.
    pub(crate) running: Duration,
}

/// The program, loaded.
#[derive(Debug)]
pub(crate) struct Generator {
    ebpf: Ebpf,
}

impl Generator {
    /// Loads it.
    pub(crate) fn load() -> Result<Self> {
        let mut ebpf = open_object()?;
        xdp(&mut ebpf, "generator")?
            .load()
            .context("cannot load the BPF program generator")?;
        Ok(Self { ebpf })
    }

    /// Floods by the calling thread's interface `port` for at least `time`, on the
    /// CPU that the thread runs on. `gateway` is the neighbour's address there.
    pub(crate) fn run(
        &mut self,
        flood: &Flood,
        port: &str,
        gateway: [u8; 6],
        time: Duration,
    ) -> Result<Sent> {
        let port = Port::find(port)?;
        let map = self
            .ebpf
            .map_mut("GENERATOR")
            .context("the BPF object has no map GENERATOR")?;
        Array::<_, [u8; 36]>::try_from(map)
            .and_then(|mut map| map.set(0, flood.settings(port, gateway), 0))
            .context("cannot set what the generator sends")?;
        let program = xdp(&mut self.ebpf, "generator")?;
        let start = Instant::now();
        let start_running = running()?;
        let mut frames = 0;
        loop {
            let run = TestRunOptions {
                data_in: Some(&[0; FRAME]),
                repeat: ROUND,
                attrs: TestRunAttrs::new().xdp_live_frames(BATCH),
                ..TestRunOptions::new()
            };
            program
                .test_run(run)
                .context("cannot run the generator: it needs Linux 5.18 or newer")?;
            frames += u64::from(ROUND);
            let time_taken = start.elapsed();
            if time_taken >= time {
                return Ok(Sent {
                    frames,
                    time: time_taken,
                    running: running()?.saturating_sub(start_running),
                });
            }
        }
    }
}

/// How long the calling thread has run.
fn running() -> Result<Duration> {
    let clock = ClockId::CLOCK_THREAD_CPUTIME_ID;
    let time = clock_gettime(clock).context("cannot read the thread's clock")?;
    Ok(time.into())
}

/// A program on an interface that sends the flood's frames on with other MAC
/// addresses, and does nothing else.
#[derive(Debug)]
pub(crate) struct Limit(#[expect(dead_code, reason = "the program leaves with it")] Ebpf);

impl Limit {
    /// Attaches it to the calling thread's interface `from`; frames leave by `to` for
    /// the neighbour `server`.
    pub(crate) fn attach(from: &str, to: &str, server: [u8; 6]) -> Result<Self> {
        let mut ebpf = open_object()?;
        let flood = Flood {
            source: Ipv4Addr::UNSPECIFIED,
            destination: Ipv4Addr::UNSPECIFIED,
            port: 0,
            kind: Kind::Udp,
            flows: 1,
        };
        let map = ebpf
            .map_mut("LIMIT")
            .context("the BPF object has no map LIMIT")?;
        let settings = flood.settings(Port::find(to)?, server);
        Array::<_, [u8; 36]>::try_from(map)
            .and_then(|mut map| map.set(0, settings, 0))
            .context("cannot set where frames go")?;
        let program = xdp(&mut ebpf, "limit")?;
        program
            .load()
            .context("cannot load the BPF program limit")?;
        program
            .attach(from, XdpMode::Driver)
            .with_context(|| format!("cannot attach to {from}"))?;
        Ok(Self(ebpf))
    }
}

/// An XDP program of the object.
pub(crate) fn xdp<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp> {
    ebpf.program_mut(name)
        .with_context(|| format!("the BPF object has no program {name}"))?
        .try_into()
        .with_context(|| format!("{name} is no XDP program"))
}

impl Flood {
    /// As the program's map has it; addresses as they stand in a packet.
    fn settings(&self, port: Port, gateway: [u8; 6]) -> [u8; 36] {
        let protocol: u16 = match self.kind {
            Kind::Udp => 17,
            Kind::Syn => 6,
        };
        let mut bytes = [0; 36];
        let mut fields = bytes.as_mut_slice();
        let mut put = |field: &[u8]| {
            let (head, tail) = std::mem::take(&mut fields).split_at_mut(field.len());
            head.copy_from_slice(field);
            fields = tail;
        };
        put(&port.index.to_ne_bytes());
        put(&self.source.octets());
        put(&self.destination.octets());
        put(&self.flows.to_ne_bytes());
        put(&self.port.to_ne_bytes());
        put(&protocol.to_ne_bytes());
        put(&gateway);
        put(&port.address);
        put(&u32::from(self.kind == Kind::Syn).to_ne_bytes());
        bytes
    }
}

/// An interface of the calling thread's network.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Port {
    /// Its number.
    pub(crate) index: u32,
    /// Its Ethernet address.
    pub(crate) address: [u8; 6],
}

impl Port {
    /// The one of this name.
    pub(crate) fn find(name: &str) -> Result<Self> {
        let found = getifaddrs()
            .context("cannot list the interfaces")?
            .filter(|interface| interface.interface_name == name)
            .find_map(|interface| {
                let address = interface.address?;
                let link = address.as_link_addr()?;
                Some(Self {
                    index: link.ifindex() as u32,
                    address: link.addr()?,
                })
            });
        found
            .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
            .with_context(|| format!("cannot find the interface {name}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_stand_as_the_program_reads_them() {
        let flood = Flood {
            source: Ipv4Addr::new(10, 10, 0, 2),
            destination: Ipv4Addr::new(10, 99, 0, 1),
            port: 80,
            kind: Kind::Syn,
            flows: 32_768,
        };
        let bytes = flood.settings(
            Port {
                index: 7,
                address: [2; 6],
            },
            [1; 6],
        );
        assert_eq!(bytes[..4], 7u32.to_ne_bytes());
        assert_eq!(bytes[4..12], [10, 10, 0, 2, 10, 99, 0, 1]);
        assert_eq!(bytes[12..16], 32_768u32.to_ne_bytes());
        assert_eq!(bytes[16..18], 80u16.to_ne_bytes());
        assert_eq!(bytes[18..20], 6u16.to_ne_bytes());
        assert_eq!(bytes[20..32], [1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2]);
        assert_eq!(bytes[32..], 1u32.to_ne_bytes());
    }
}
