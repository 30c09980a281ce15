//! Where an instance lives on the machine.

use std::path::PathBuf;

/// Environment variable that names the instance.
pub const INSTANCE_VARIABLE: &str = "EVENKEEL_INSTANCE";
/// Instance when none is named.
pub const DEFAULT_INSTANCE: &str = "default";

/// The control socket.
#[must_use]
pub fn socket(instance: &str) -> PathBuf {
    PathBuf::from(format!("/run/evenkeel/{instance}.sock"))
}

/// The directory of the pinned programs, links and maps.
#[must_use]
pub fn pins(instance: &str) -> PathBuf {
    PathBuf::from(format!("/sys/fs/bpf/evenkeel/{instance}"))
}

/// True for names that are safe as a file name, also on a BPF file system, which
/// takes no dots: 1 to 64 letters, digits, `-` or `_`.
#[must_use]
pub fn is_valid_instance(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}
