//! Memory of a connection, from what the kernel itself says about its maps and its
//! own objects.

use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;

use anyhow::{Context, Result, bail};
use aya::EbpfLoader;
use aya::maps::{Map, MapData};
use evenkeel_core::model::Family;
use evenkeel_kernel::attach;
use evenkeel_kernel::dataplane::Dataplane;
use evenkeel_kernel::sizes::Settings;

use crate::flood;
use crate::measure::{Aim, Bound, Measurement, Samples, Unit, float};
use crate::program::instance::Instance;
use crate::program::scenario::Rules;
use crate::report::Part;

/// Bytes that a connection may take.
const AIM: f64 = 64.0;
/// Connections that all live at the same time, and megabytes that they may take: of IPv4
/// and of IPv6.
const LIVE: u32 = 1_000_000;
const LIVE_AIM_MB: [f64; 2] = [40.0, 80.0];
/// As many as show whether it works.
const LIVE_QUICK: u32 = 10_000;
/// Times that a table may be doubled until all find room.
const DOUBLINGS: u32 = 4;
/// Entries of the kernel's hash map that is looked at.
const HASH_ENTRIES: u32 = 1 << 18;
/// Where the kernel tells the sizes of its objects.
const SLABS: &str = "/proc/slabinfo";

/// Looks. `pins` is a directory that does not exist yet, on a BPF file system.
pub(crate) fn run(pins: &Path, quick: bool) -> Result<Part> {
    let ours = evenkeel(&pins.join("usual"))?;
    let aim = Aim {
        what: "memory per connection: evenkeel".into(),
        value: ours.samples.median(),
        bound: Bound::AtMost(AIM),
        unit: "bytes",
    };
    let mut measurements = vec![ours, hash_map()?];
    measurements.extend(conntrack()?);
    let mut aims = vec![aim];
    let wanted = if quick { LIVE_QUICK } else { LIVE };
    for (family, bound) in [Family::V4, Family::V6].into_iter().zip(LIVE_AIM_MB) {
        let line = live(pins, family, wanted)?;
        if wanted == LIVE {
            aims.push(Aim {
                what: format!("{}: {}", line.what, line.subject),
                value: line.samples.median(),
                bound: Bound::AtMost(bound),
                unit: "MB",
            });
        }
        measurements.push(line);
    }
    Ok(Part {
        measurements,
        aims,
        notes: vec![
            "Live connections are opened and established by test runs of the packet path, one \
             after the other, in tables of 2^n entries: the memory is that of the smallest table \
             in which every one of them found room, with its free entries. What became of them \
             in smaller tables stands beside it."
                .into(),
            "Memory of a map is what the kernel charges for it (memlock in /proc/PID/fdinfo), \
             divided by the connections that it has room for. nf_conntrack's is the size of its \
             object alone: its share of the hash table and what NAT adds are not in it."
                .into(),
        ],
    })
}

fn line(subject: &str, bytes: f64, notes: String) -> Measurement {
    let samples: Samples = [bytes].into_iter().collect();
    let mut line = Measurement::new("memory per connection", subject, Unit::Bytes, samples);
    line.notes = notes;
    line
}

/// The connection table of an instance as it is by default.
fn evenkeel(pins: &Path) -> Result<Measurement> {
    let (dataplane, _) = Dataplane::open(pins, &Settings::default())?;
    let capacity = dataplane.sizes().connections();
    let table = MapData::from_pin(pins.join("CONNECTIONS"))
        .with_context(|| format!("cannot open the connection table in {}", pins.display()))?;
    let charged = charged_bytes(table.fd().as_fd())?;
    let whole = float(dataplane.sizes().bytes()) / 1e6;
    let notes = format!(
        "32 and 4 of signature; table of {capacity} entries; an instance with all its tables: \
         {whole:.0} MB"
    );
    Ok(line("evenkeel", float(charged) / float(capacity), notes))
}

/// The table in which so many connections live at once.
fn live(pins: &Path, family: Family, wanted: u32) -> Result<Measurement> {
    let rules = Rules {
        family,
        ..Rules::USUAL
    };
    let (name, table) = match family {
        Family::V4 => ("IPv4", "CONNECTIONS"),
        Family::V6 => ("IPv6", "WIDE_CONNECTIONS"),
    };
    let what = format!("memory of {wanted} live connections");
    let mut notes = Vec::new();
    for doubling in 0..DOUBLINGS {
        let capacity = wanted.next_power_of_two() << doubling;
        let pins = pins.join(format!("live-{name}-{capacity}"));
        let object = flood::object_bytes()?;
        let instance = Instance::new(&pins, &object, (capacity, capacity))?;
        instance.set_up(&rules)?;
        let opened = instance.open_live(&rules, wanted)?;
        let bytes = charged_bytes(MapData::from_pin(pins.join(table))?.fd().as_fd())?;
        drop(instance);
        attach::purge(&pins)?;
        let megabytes = float(bytes) / 1e6;
        let Some(first) = opened.first_lost else {
            notes.insert(0, format!("table of {capacity} entries"));
            let samples = [megabytes].into_iter().collect();
            let subject = format!("evenkeel, {name}");
            let mut line = Measurement::new(&what, &subject, Unit::Megabytes, samples);
            line.notes = notes.join("; ");
            return Ok(line);
        };
        notes.push(format!(
            "{} live in {capacity} entries of {megabytes:.1} MB, the first one lost at {first}",
            opened.live
        ));
    }
    bail!("{what} of {name}: {}", notes.join("; "))
}

/// The kernel's hash map with what the same job keeps in it.
fn hash_map() -> Result<Measurement> {
    let object = flood::object()?;
    let object = EbpfLoader::new()
        .map_max_entries("HASH", HASH_ENTRIES)
        .load_file(&object)
        .with_context(|| format!("cannot load {}", object.display()))?;
    let map = object
        .map("HASH")
        .context("the BPF object has no map HASH")?;
    let Map::HashMap(data) = map else {
        bail!("HASH is no hash map");
    };
    let charged = charged_bytes(data.fd().as_fd())?;
    let notes = format!("16 bytes of key, 16 of value, {HASH_ENTRIES} entries");
    Ok(line(
        "kernel hash map",
        float(charged) / f64::from(HASH_ENTRIES),
        notes,
    ))
}

/// The kernel's own connection, where this kernel has any.
fn conntrack() -> Result<Option<Measurement>> {
    let text = fs::read_to_string(SLABS).with_context(|| format!("cannot read {SLABS}"))?;
    Ok(object_size(&text, "nf_conntrack").map(|bytes| {
        line(
            "nf_conntrack",
            float(bytes),
            format!("object size in {SLABS}"),
        )
    }))
}

/// `name active all objsize …`
fn object_size(slabs: &str, name: &str) -> Option<u64> {
    slabs.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        (words.next()? == name).then(|| words.nth(2)?.parse().ok())?
    })
}

fn charged_bytes(map: BorrowedFd<'_>) -> Result<u64> {
    let path = format!("/proc/self/fdinfo/{}", map.as_raw_fd());
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let bytes = text
        .lines()
        .find_map(|line| line.strip_prefix("memlock:")?.trim().parse().ok());
    bytes.with_context(|| format!("{path} does not tell a map's memory"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_of_objects_are_read() {
        let text = "slabinfo - version: 2.1\n# name <active_objs> <num_objs> <objsize>\n\
                    nf_conntrack_expect 0 0 232 17 1\nnf_conntrack 32 64 256 16 1 : tunables\n";
        assert_eq!(object_size(text, "nf_conntrack"), Some(256));
        assert_eq!(object_size(text, "conntrack"), None);
    }
}
