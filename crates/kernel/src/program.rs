//! The BPF object: its programs, and how it is loaded.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use aya::maps::{MapError, ProgramArray};
use aya::programs::{ProgramError, SchedClassifier, Xdp};
use aya::{Ebpf, EbpfError, EbpfLoader, VerifierLogLevel};
use evenkeel_datapath::general::PARTS;
use nix::libc;

use crate::bpf;
use crate::error::{Attempt, Error, Result};
use crate::pins::Pins;
use crate::sizes::Sizes;

/// The object that this crate was built with.
pub(crate) const OBJECT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/evenkeel.bpf.o"));

/// The object's programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// The accelerator in the driver.
    Xdp,
    /// The packet path.
    Tc,
    /// What translates answers of servers on this machine, where they leave it.
    Egress,
    /// The packet path where packets have no link-layer header.
    Bare,
    /// As [`Program::Egress`], where packets have no link-layer header.
    BareEgress,
    /// Tells the present tick.
    Clock,
    /// A part of the general way in the accelerator: index into `PART_NAMES`.
    XdpPart(usize),
    /// The same at tc.
    TcPart(usize),
}

/// The parts of the general way ([`evenkeel_datapath::general::Part`]), by their numbers:
/// their programs at XDP and at tc.
pub(crate) const PART_NAMES: [[&str; 2]; PARTS as usize] = [
    ["evenkeel_xdp_general", "evenkeel_tc_general"],
    ["evenkeel_xdp_inbound", "evenkeel_tc_inbound"],
    ["evenkeel_xdp_wide_inbound", "evenkeel_tc_wide_inbound"],
    ["evenkeel_xdp_one_packet", "evenkeel_tc_one_packet"],
    ["evenkeel_xdp_outbound", "evenkeel_tc_outbound"],
    ["evenkeel_xdp_wide_outbound", "evenkeel_tc_wide_outbound"],
    ["evenkeel_xdp_choose", "evenkeel_tc_choose"],
    ["evenkeel_xdp_icmp", "evenkeel_tc_icmp"],
    ["evenkeel_xdp_answer", "evenkeel_tc_answer"],
    ["evenkeel_xdp_fragment", "evenkeel_tc_fragment"],
    ["evenkeel_xdp_translated", "evenkeel_tc_translated"],
    ["evenkeel_xdp_translate", "evenkeel_tc_translate"],
    ["evenkeel_xdp_open", "evenkeel_tc_open"],
    ["evenkeel_xdp_wide_open", "evenkeel_tc_wide_open"],
    ["evenkeel_xdp_deliver", "evenkeel_tc_deliver"],
    ["evenkeel_xdp_tunnel_error", "evenkeel_tc_tunnel_error"],
    ["evenkeel_xdp_icmp_deliver", "evenkeel_tc_icmp_deliver"],
    [
        "evenkeel_xdp_translated_icmp",
        "evenkeel_tc_translated_icmp",
    ],
    ["evenkeel_xdp_icmp_open", "evenkeel_tc_icmp_open"],
    ["evenkeel_xdp_nobody", "evenkeel_tc_nobody"],
    ["evenkeel_xdp_segment", "evenkeel_tc_segment"],
    ["evenkeel_xdp_ipv6", "evenkeel_tc_ipv6"],
    ["evenkeel_xdp_reply", "evenkeel_tc_reply"],
    ["evenkeel_xdp_wide_reply", "evenkeel_tc_wide_reply"],
    ["evenkeel_xdp_reply_fragment", "evenkeel_tc_reply_fragment"],
    ["evenkeel_xdp_reply_error", "evenkeel_tc_reply_error"],
    ["evenkeel_xdp_first_fragment", "evenkeel_tc_first_fragment"],
];

/// The arrays by which the parts find each other, at XDP and at tc.
pub(crate) const PART_ARRAYS: [&str; 2] = ["XDP_PARTS", "TC_PARTS"];

/// How many programs there are.
const PROGRAMS: usize = 6 + 2 * PARTS as usize;

impl Program {
    /// All of them.
    pub(crate) const ALL: [Self; PROGRAMS] = {
        let mut all = [Self::Clock; PROGRAMS];
        all[0] = Self::Xdp;
        all[1] = Self::Tc;
        all[3] = Self::Egress;
        all[4] = Self::Bare;
        all[5] = Self::BareEgress;
        let mut part = 0;
        while part < PARTS as usize {
            all[6 + 2 * part] = Self::XdpPart(part);
            all[7 + 2 * part] = Self::TcPart(part);
            part += 1;
        }
        all
    };

    /// Its place in [`Program::ALL`].
    const fn index(self) -> usize {
        match self {
            Self::Xdp => 0,
            Self::Tc => 1,
            Self::Clock => 2,
            Self::Egress => 3,
            Self::Bare => 4,
            Self::BareEgress => 5,
            Self::XdpPart(part) => 6 + 2 * part,
            Self::TcPart(part) => 7 + 2 * part,
        }
    }

    /// Its name in the object and among the pins.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Xdp => "evenkeel_xdp",
            Self::Tc => "evenkeel_tc",
            Self::Egress => "evenkeel_tc_egress",
            Self::Bare => "evenkeel_tc_bare",
            Self::BareEgress => "evenkeel_tc_bare_egress",
            Self::Clock => "evenkeel_clock",
            Self::XdpPart(part) => PART_NAMES[part][0],
            Self::TcPart(part) => PART_NAMES[part][1],
        }
    }
}

/// The loaded programs, in the order of [`Program::ALL`].
#[derive(Debug)]
pub(crate) struct Programs(Vec<OwnedFd>);

impl Programs {
    pub(crate) fn get(&self, program: Program) -> BorrowedFd<'_> {
        self.0[program.index()].as_fd()
    }

    /// Opens the pinned ones; an error if one is missing.
    pub(crate) fn open(pins: &Pins) -> io::Result<Self> {
        let open = |program: Program| bpf::open_pin(&pins.at(program.name()));
        let programs = Program::ALL.into_iter().map(open);
        programs.collect::<io::Result<_>>().map(Self)
    }

    /// Loads them. Arrays that are pinned are used, others are made and pinned.
    pub(crate) fn load(object: &[u8], sizes: &Sizes, seed: u64, pins: &Pins) -> Result<Self> {
        let mut ebpf = open_object(object, sizes, seed, pins)?;
        let load = |program| load_program(&mut ebpf, program);
        let programs = Program::ALL.into_iter().map(load);
        let programs = Self(programs.collect::<Result<_>>()?);
        for part in 0..PARTS as usize {
            for (array, program) in PART_ARRAYS
                .into_iter()
                .zip([Program::XdpPart(part), Program::TcPart(part)])
            {
                enter(&mut ebpf, array, part as u32, program)?;
            }
        }
        let info = bpf::program_info(programs.get(Program::Tc))
            .attempt(|| "look at the loaded BPF program".into())?;
        if info.compiled_length == 0 {
            return Err(Error::JitOff);
        }
        Ok(programs)
    }

    /// Pins them, in the place of those that are pinned.
    pub(crate) fn pin(&self, pins: &Pins) -> Result<()> {
        for program in Program::ALL {
            let path = pins.at(program.name());
            // Made beside and renamed, so that the name is never missing.
            let beside = pins.at(&format!("{}+new", program.name()));
            let _ = std::fs::remove_file(&beside);
            bpf::pin(self.get(program), &beside).attempt(|| format!("pin {}", beside.display()))?;
            std::fs::rename(&beside, &path)
                .attempt(|| format!("rename {} to {}", beside.display(), path.display()))?;
        }
        Ok(())
    }
}

fn open_object(object: &[u8], sizes: &Sizes, seed: u64, pins: &Pins) -> Result<Ebpf> {
    // Its numbers are constants to the verifier, which removes bounds checks by them.
    let bucket_mask = sizes.buckets - 1;
    let endpoint_mask = sizes.endpoint_buckets - 1;
    let wide_bucket_mask = sizes.wide_buckets - 1;
    let wide_endpoint_mask = sizes.wide_endpoint_buckets - 1;
    let mut loader = EbpfLoader::new();
    loader
        .btf(None)
        // What is wrong, without every path that led there: with those, the kernel
        // verifies again and again until the log fits.
        .verifier_log_level(VerifierLogLevel::STATS)
        .override_global("BUCKET_MASK", &bucket_mask, true)
        .override_global("ENDPOINT_MASK", &endpoint_mask, true)
        .override_global("WIDE_BUCKET_MASK", &wide_bucket_mask, true)
        .override_global("WIDE_ENDPOINT_MASK", &wide_endpoint_mask, true)
        .override_global("SERVERS_CAPACITY", &sizes.servers, true)
        .override_global("SEED", &seed, true);
    for array in PART_ARRAYS {
        loader.map_pin_path(array, pins.at(array));
    }
    for array in sizes.arrays() {
        loader.map_max_entries(array.name, array.entries);
        loader.map_pin_path(array.name, pins.at(array.name));
    }
    loader.load(object).map_err(|error| refused(error, sizes))
}

fn load_program(ebpf: &mut Ebpf, program: Program) -> Result<OwnedFd> {
    let name = program.name();
    let missing = || Error::Load {
        what: name.into(),
        reason: "it is not in the object".into(),
    };
    let loaded = ebpf.program_mut(name).ok_or_else(missing)?;
    let descriptor = match program {
        Program::Xdp | Program::XdpPart(_) | Program::Clock => <&mut Xdp>::try_from(loaded)
            .and_then(|program| {
                program.load()?;
                program
                    .fd()?
                    .as_fd()
                    .try_clone_to_owned()
                    .map_err(ProgramError::from)
            }),
        Program::Tc
        | Program::Egress
        | Program::Bare
        | Program::BareEgress
        | Program::TcPart(_) => <&mut SchedClassifier>::try_from(loaded).and_then(|program| {
            program.load()?;
            program
                .fd()?
                .as_fd()
                .try_clone_to_owned()
                .map_err(ProgramError::from)
        }),
    };
    descriptor.map_err(|error| match error {
        ProgramError::LoadError {
            io_error,
            verifier_log,
        } => {
            let log = verifier_log.to_string();
            tracing::debug!("the verifier on {name}: {log}");
            Error::Load {
                what: name.into(),
                reason: format!("{io_error}; {}", last_words(&log)),
            }
        }
        other => Error::Load {
            what: name.into(),
            reason: other.to_string(),
        },
    })
}

/// Puts a loaded program where others find it.
fn enter(ebpf: &mut Ebpf, array: &str, index: u32, program: Program) -> Result<()> {
    let refused = |reason: String| Error::Load {
        what: program.name().into(),
        reason,
    };
    let loaded = ebpf
        .program(program.name())
        .ok_or_else(|| refused("it is not in the object".into()))?;
    let descriptor = loaded
        .fd()
        .map_err(|error| refused(chain(&error)))?
        .try_clone()
        .map_err(|error| refused(error.to_string()))?;
    let map = ebpf
        .map_mut(array)
        .ok_or_else(|| refused(format!("{array} is not in the object")))?;
    ProgramArray::try_from(map)
        .and_then(|mut map| map.set(index, &descriptor, 0))
        .map_err(|error| refused(chain(&error)))
}

/// What the verifier complained about: its log ends with it and some statistics.
fn last_words(log: &str) -> String {
    let is_statistics = |line: &&str| {
        line.is_empty()
            || [
                "processed ",
                "verification time",
                "stack depth",
                "mark_precise",
            ]
            .iter()
            .any(|start| line.starts_with(start))
    };
    let mut lines: Vec<&str> = log
        .lines()
        .rev()
        .map(str::trim)
        .filter(|line| !is_statistics(line))
        .take(3)
        .collect();
    lines.reverse();
    lines.join("; ")
}

fn refused(error: EbpfError, sizes: &Sizes) -> Error {
    let (map, error) = match error {
        EbpfError::MapError(MapError::CreateError { name, io_error }) => (name, io_error),
        other => {
            return Error::Load {
                what: "object".into(),
                reason: chain(&other),
            };
        }
    };
    match error.raw_os_error() {
        Some(libc::ENOMEM | libc::E2BIG) => {
            no_memory(sizes, format!("the kernel has no room for {map}"))
        }
        Some(libc::EPERM) => Error::NotPermitted {
            action: format!("create the BPF map {map}"),
            needed: "CAP_BPF".into(),
        },
        Some(libc::ENOSYS) => Error::NoBpf,
        _ => Error::System {
            action: format!("create the BPF map {map}"),
            error,
        },
    }
}

/// The error for tables that are too large.
pub(crate) fn no_memory(sizes: &Sizes, reason: String) -> Error {
    Error::NoMemory {
        wanted_mb: sizes.bytes().div_ceil(1 << 20),
        connections: sizes.connections(),
        servers: sizes.servers,
        cpus: sizes.cpus,
        reason,
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// Tells objects apart (FNV-1a). Not a protection: the pins are root's alone.
pub(crate) fn object_hash(object: &[u8]) -> u64 {
    object.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_is_fnv() {
        assert_eq!(object_hash(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(object_hash(b"a"), 0xaf63_dc4c_8601_ec8c);
    }

    #[test]
    fn verifiers_complaint_comes_without_statistics() {
        let log = "0: (b7) r0 = 0\n1: (71) r1 = *(u8 *)(r2 +0)\nR2 !read_ok\n\
                   processed 2 insns (limit 1000000) max_states_per_insn 0\n\n";
        assert_eq!(
            last_words(log),
            "0: (b7) r0 = 0; 1: (71) r1 = *(u8 *)(r2 +0); R2 !read_ok"
        );
    }
}
