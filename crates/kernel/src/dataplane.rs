//! An instance's programs and memory: made, found again, mapped.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::Path;

use evenkeel_core::model::Timeouts;
use evenkeel_datapath::layout::{
    Addresses, Bucket, CLIENT_HOPS, ClientHop, Control, Counters, EndpointBucket, INTERFACES,
    Interface, LAYOUT_VERSION, Load, MarkRules, POOL_PORTS_DEFAULT, Reasons, Server, Service,
    TICK_SHIFT, WideBucket, WideEndpointBucket, settings,
};
use evenkeel_datapath::memory::Memory;
use evenkeel_datapath::word::Word;
use nix::time::{ClockId, clock_getres};

use crate::bpf;
use crate::error::{Attempt, Error, Result};
use crate::mapping::{Mapping, Shared};
use crate::pins::{self, Pins};
use crate::program::{self, Program, Programs};
use crate::sizes::{ArrayShape, Settings, Sizes};
use crate::system;

/// How an instance came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    /// There was none, or none that was complete.
    Created,
    /// It was found, with its tables and all that is attached.
    Adopted,
}

/// An instance of the dataplane: loaded, pinned and mapped. It goes on without this
/// value; while it lives, no other process can open or purge the instance.
pub struct Dataplane {
    pub(crate) pins: Pins,
    pub(crate) programs: Programs,
    sizes: Sizes,
    arrays: Arrays,
    ticks_per_second: f64,
}

impl std::fmt::Debug for Dataplane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dataplane")
            .field("pins", &self.pins)
            .field("sizes", &self.sizes)
            .finish_non_exhaustive()
    }
}

/// The mapped arrays.
struct Arrays {
    control: Mapping<Control>,
    connections: Mapping<Bucket>,
    wide_connections: Mapping<WideBucket>,
    addresses: Mapping<Addresses>,
    endpoints: Mapping<EndpointBucket>,
    wide_endpoints: Mapping<WideEndpointBucket>,
    services: Mapping<Service>,
    servers: Mapping<Server>,
    rings: Mapping<Word>,
    client_hops: Mapping<ClientHop>,
    loads: Mapping<Load>,
    counters: Mapping<Counters>,
    reasons: Mapping<Reasons>,
    interfaces: Mapping<Interface>,
    mark_rules: Mapping<MarkRules>,
}

impl Dataplane {
    /// Adopts the instance pinned in the directory `pins`, or creates it with these
    /// settings. What is adopted keeps its own sizes, see [`Dataplane::sizes`];
    /// when its programs are another version's with the same memory layout, the new
    /// ones are loaded, and [`Dataplane::attach`] puts them in the place of the old.
    pub fn open(pins: &Path, settings: &Settings) -> Result<(Self, Opened)> {
        Self::open_object(pins, settings, program::OBJECT)
    }

    /// [`Dataplane::open`] with another BPF object than the one built in.
    pub fn open_object(pins: &Path, settings: &Settings, object: &[u8]) -> Result<(Self, Opened)> {
        system::check_machine()?;
        pins::prepare(pins)?;
        match Pins::open(pins)? {
            Some(found) => {
                pins::remove_unfinished(pins)?;
                Ok((Self::adopt(found, object)?, Opened::Adopted))
            }
            None => Ok((Self::create(pins, settings, object)?, Opened::Created)),
        }
    }

    fn create(path: &Path, settings: &Settings, object: &[u8]) -> Result<Self> {
        let cpus = possible_cpus()?;
        let sizes = Sizes::new(settings, cpus)?;
        check_memory(&sizes, system::available_memory())?;
        let pins = Pins::begin(path)?;
        let created = Self::fill(&pins, &sizes, settings.seed, object);
        let (programs, arrays) = match created {
            Ok(created) => created,
            Err(error) => {
                // The first error is the one to tell.
                let _ = pins.remove();
                return Err(error);
            }
        };
        let pins = pins.finish(path)?;
        let ticks_per_second = ticks_per_second()?;
        Ok(Self {
            pins,
            programs,
            sizes,
            arrays,
            ticks_per_second,
        })
    }

    fn fill(
        pins: &Pins,
        sizes: &Sizes,
        seed: Option<u64>,
        object: &[u8],
    ) -> Result<(Programs, Arrays)> {
        let seed = seed.map_or_else(random_seed, Ok)?;
        let programs = Programs::load(object, sizes, seed, pins)?;
        programs.pin(pins)?;
        let arrays = Arrays::open(pins, sizes)?;
        if let Some(control) = arrays.control.slice().first() {
            let timeouts = Timeouts::default();
            control.layout_version.set(LAYOUT_VERSION);
            control.seed.set(seed);
            control.object_hash.set(program::object_hash(object));
            control.timeout_tcp.set(timeouts.tcp);
            control.timeout_tcp_fin.set(timeouts.tcp_fin);
            control.timeout_udp.set(timeouts.udp);
            control.settings.set(settings::DEFAULT);
            control.answers.set(1);
            control.pool_ports.set(POOL_PORTS_DEFAULT);
            sizes.note(control);
        }
        Ok((programs, arrays))
    }

    fn adopt(pins: Pins, object: &[u8]) -> Result<Self> {
        check_layout(&pins)?;
        pins.check_namespace()?;
        let (control, _) = open_array(&pins, "CONTROL")?;
        let control: Mapping<Control> = map(&pins, &control, "CONTROL", 1)?;
        let [noted] = control.slice() else {
            return Err(pins.damaged("CONTROL is empty"));
        };
        let sizes = Sizes::of(noted);
        let arrays = Arrays::open(&pins, &sizes)?;
        let hash = program::object_hash(object);
        let kept = match Programs::open(&pins) {
            Ok(programs) if noted.object_hash.get() == hash => Some(programs),
            _ => None,
        };
        let programs = if let Some(programs) = kept {
            programs
        } else {
            let programs = Programs::load(object, &sizes, noted.seed.get(), &pins)?;
            programs.pin(&pins)?;
            noted.object_hash.set(hash);
            tracing::info!(
                "loaded this version's programs into {}",
                pins.path().display()
            );
            programs
        };
        Ok(Self {
            pins,
            programs,
            sizes,
            arrays,
            ticks_per_second: ticks_per_second()?,
        })
    }

    /// The memory that the packet path and the daemon share.
    #[must_use]
    pub fn memory(&self) -> Memory<'_> {
        let arrays = &self.arrays;
        Memory {
            // Of these, `open` has mapped exactly one.
            control: &arrays.control.slice()[0],
            connections: arrays.connections.slice(),
            wide_connections: arrays.wide_connections.slice(),
            addresses: &arrays.addresses.slice()[0],
            endpoints: arrays.endpoints.slice(),
            wide_endpoints: arrays.wide_endpoints.slice(),
            services: arrays.services.slice(),
            servers: arrays.servers.slice(),
            rings: arrays.rings.slice(),
            client_hops: arrays.client_hops.slice(),
            loads: arrays.loads.slice(),
            counters: arrays.counters.slice(),
            reasons: arrays.reasons.slice(),
            interfaces: arrays.interfaces.slice(),
            mark_rules: &arrays.mark_rules.slice()[0],
        }
    }

    /// What the instance was created with.
    #[must_use]
    pub fn sizes(&self) -> &Sizes {
        &self.sizes
    }

    /// The present tick, as [`evenkeel_datapath::layout::Entry::seen`] has it.
    pub fn now_tick(&self) -> Result<u32> {
        // The shortest that the kernel takes for a frame, and more than it needs.
        let frame = [0; 64];
        bpf::test_run(self.programs.get(Program::Clock), &frame, &[], &mut [], 1)
            .map(|output| output.verdict)
            .attempt(|| "ask the kernel for its clock by a BPF test run".into())
    }

    /// Ticks in a second, 1.56 at HZ 100 to 15.6 at HZ 1000.
    #[must_use]
    pub fn ticks_per_second(&self) -> f64 {
        self.ticks_per_second
    }
}

impl Arrays {
    /// Maps all arrays of a complete set; refuses one that is not.
    fn open(pins: &Pins, sizes: &Sizes) -> Result<Self> {
        for array in sizes.arrays() {
            check_shape(pins, &array)?;
        }
        Ok(Self {
            control: map_pin(pins, "CONTROL", 1)?,
            connections: map_pin(pins, "CONNECTIONS", sizes.buckets)?,
            wide_connections: map_pin(pins, "WIDE_CONNECTIONS", sizes.wide_buckets)?,
            addresses: map_pin(pins, "ADDRESSES", 1)?,
            endpoints: map_pin(pins, "ENDPOINTS", sizes.endpoint_buckets)?,
            wide_endpoints: map_pin(pins, "WIDE_ENDPOINTS", sizes.wide_endpoint_buckets)?,
            services: map_pin(pins, "SERVICES", sizes.services)?,
            servers: map_pin(pins, "SERVERS", sizes.servers)?,
            rings: map_pin(pins, "RINGS", sizes.ring_words)?,
            client_hops: map_pin(pins, "CLIENT_HOPS", CLIENT_HOPS)?,
            loads: map_pin(pins, "LOADS", sizes.servers)?,
            counters: map_pin(pins, "COUNTERS", sizes.counters())?,
            reasons: map_pin(pins, "REASONS", sizes.cpus)?,
            interfaces: map_pin(pins, "INTERFACES", INTERFACES)?,
            mark_rules: map_pin(pins, "MARK_RULES", 1)?,
        })
    }
}

fn open_array(pins: &Pins, name: &str) -> Result<(OwnedFd, bpf::MapInfo)> {
    let map =
        bpf::open_pin(&pins.at(name)).map_err(|error| pins.damaged(format!("{name}: {error}")))?;
    let info = bpf::map_info(&map).attempt(|| format!("look at {}", pins.at(name).display()))?;
    if info.kind != bpf::MAP_TYPE_ARRAY || info.flags & bpf::MAP_MMAPABLE == 0 {
        return Err(pins.damaged(format!("{name} is no array that can be mapped")));
    }
    Ok((map, info))
}

fn check_shape(pins: &Pins, array: &ArrayShape) -> Result<()> {
    let (_, info) = open_array(pins, array.name)?;
    if (info.value_size, info.max_entries) == (array.value_size, array.entries) {
        return Ok(());
    }
    Err(pins.damaged(format!(
        "{} has {} values of {} bytes, expected are {} of {}",
        array.name, info.max_entries, info.value_size, array.entries, array.value_size
    )))
}

/// Refuses a set of another layout version. The version is the first word of
/// CONTROL in every version, whatever else has changed.
fn check_layout(pins: &Pins) -> Result<()> {
    let (control, _) = open_array(pins, "CONTROL")?;
    let first: Mapping<Word> = map(pins, &control, "CONTROL", 1)?;
    let found = first.slice().first().map_or(0, Word::get);
    if found == LAYOUT_VERSION {
        return Ok(());
    }
    Err(Error::OtherLayout {
        path: pins.path().into(),
        found,
        expected: LAYOUT_VERSION,
    })
}

fn map_pin<T: Shared>(pins: &Pins, name: &str, count: u32) -> Result<Mapping<T>> {
    let (descriptor, _) = open_array(pins, name)?;
    map(pins, &descriptor, name, count)
}

fn map<T: Shared>(pins: &Pins, descriptor: &OwnedFd, name: &str, count: u32) -> Result<Mapping<T>> {
    Mapping::new(descriptor, count).attempt(|| format!("map {}", pins.at(name).display()))
}

/// CPUs that the kernel may ever number: counters are kept for each.
fn possible_cpus() -> Result<u32> {
    let count = aya::util::nr_cpus()
        .map_err(|(_, error)| error)
        .attempt(|| "read the number of CPUs".into())?;
    Ok(count as u32)
}

/// Refuses tables larger than the `available` bytes, before the kernel swaps or kills
/// for them.
fn check_memory(sizes: &Sizes, available: Option<u64>) -> Result<()> {
    match available {
        Some(available) if available < sizes.bytes() => Err(program::no_memory(
            sizes,
            format!("{} MB are available", available >> 20),
        )),
        _ => Ok(()),
    }
}

fn random_seed() -> Result<u64> {
    let mut bytes = [0; 8];
    File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .attempt(|| "read /dev/urandom".into())?;
    Ok(u64::from_ne_bytes(bytes))
}

/// A coarse clock's resolution is the length of a jiffy.
fn ticks_per_second() -> Result<f64> {
    let jiffy = clock_getres(ClockId::CLOCK_MONOTONIC_COARSE)
        .attempt(|| "find out the length of a jiffy".into())?;
    let tick = std::time::Duration::from(jiffy) * (1 << TICK_SHIFT);
    Ok(1.0 / tick.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_that_do_not_fit_are_refused_with_their_size() {
        let settings = Settings {
            connections: 1 << 24,
            ..Settings::default()
        };
        let sizes = Sizes::new(&settings, 4).unwrap();
        assert!(check_memory(&sizes, Some(sizes.bytes())).is_ok());
        assert!(check_memory(&sizes, None).is_ok());
        let error = check_memory(&sizes, Some(100 << 20)).unwrap_err();
        let megabytes = sizes.bytes().div_ceil(1 << 20);
        assert_eq!(
            error.to_string(),
            format!(
                "no memory for the tables: {megabytes} MB asked for \
                 (16777216 connections, 16384 servers on 4 CPUs), \
                 100 MB are available; lower the capacities in the configuration"
            )
        );
    }
}
