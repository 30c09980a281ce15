//! Memory of a connection, from what the kernel itself says about its maps and its
//! own objects.

use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;

use anyhow::{Context, Result, bail};
use aya::EbpfLoader;
use aya::maps::{Map, MapData};
use evenkeel_kernel::dataplane::Dataplane;
use evenkeel_kernel::sizes::Settings;

use crate::flood;
use crate::measure::{Aim, Bound, Measurement, Samples, Unit, float};
use crate::report::Part;

/// Bytes that a connection may take.
const AIM: f64 = 64.0;
/// Entries of the kernel's hash map that is looked at.
const HASH_ENTRIES: u32 = 1 << 18;
/// Where the kernel tells the sizes of its objects.
const SLABS: &str = "/proc/slabinfo";

/// Looks. `pins` is a directory that does not exist yet, on a BPF file system.
pub(crate) fn run(pins: &Path) -> Result<Part> {
    let ours = evenkeel(pins)?;
    let aim = Aim {
        what: "memory per connection: evenkeel".into(),
        value: ours.samples.median(),
        bound: Bound::AtMost(AIM),
        unit: "bytes",
    };
    let mut measurements = vec![ours, hash_map()?];
    measurements.extend(conntrack()?);
    Ok(Part {
        measurements,
        aims: vec![aim],
        notes: vec![
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
