//! The machine and this process: kernel version, privileges, ownership of files.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::OnceLock;

use caps::{CapSet, Capability, CapsHashSet};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{Gid, Group, User};

use crate::error::{Attempt, Error, Result};

/// Oldest supported kernel.
pub const OLDEST_KERNEL: (u32, u32) = (5, 15);

static OPEN_FILES_BEFORE: OnceLock<(u64, u64)> = OnceLock::new();

/// What a dataplane takes: BPF, attaching and netlink, and mapping and pinning.
const DATAPLANE: [Capability; 3] = [
    Capability::CAP_BPF,
    Capability::CAP_NET_ADMIN,
    Capability::CAP_PERFMON,
];

/// What is kept for scripts once the daemon runs. `CAP_SYS_ADMIN` is not among it.
const SCRIPTS: [Capability; 4] = [
    // A pipe is given to the user whose scripts read it.
    Capability::CAP_CHOWN,
    // A script that runs as another user is ended when its time is over.
    Capability::CAP_KILL,
    // Scripts run as the users that the configuration names.
    Capability::CAP_SETGID,
    Capability::CAP_SETUID,
];

/// What is kept for checks. They mark packets and choose interfaces with what the dataplane
/// takes.
const CHECKS: [Capability; 2] = [
    // One may be bound to a port below 1024.
    Capability::CAP_NET_BIND_SERVICE,
    // Echo requests, where the system lets nobody have sockets for nothing but these.
    Capability::CAP_NET_RAW,
];

/// Release of the running kernel, as `uname -r`.
pub fn kernel_release() -> Result<String> {
    let name = nix::sys::utsname::uname().attempt(|| "read the kernel's version".into())?;
    Ok(name.release().to_string_lossy().into_owned())
}

/// Major and minor number of a release such as `6.1.0-18-amd64`.
pub(crate) fn version_of(release: &str) -> Option<(u32, u32)> {
    let (major, rest) = release.split_once('.')?;
    let minor = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// True: the process runs as root, be it a container's.
#[must_use]
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// True: the process may do what a director needs.
pub(crate) fn is_permitted(capability: Capability) -> bool {
    // CAP_SYS_ADMIN stands for CAP_BPF and CAP_PERFMON.
    let has = |capability| caps::has_cap(None, CapSet::Effective, capability).unwrap_or(false);
    has(capability)
        || (matches!(capability, Capability::CAP_BPF | Capability::CAP_PERFMON)
            && has(Capability::CAP_SYS_ADMIN))
}

/// Gives up, for the calling thread and the threads and processes it starts, every
/// capability that a running daemon does without. What is left is enough to attach,
/// follow the network, check servers, run scripts and purge; not to mount, or to open others' files.
pub fn drop_capabilities() -> Result<()> {
    reduce_capabilities()
        .map_err(io::Error::other)
        .attempt(|| "give up capabilities".into())
}

fn reduce_capabilities() -> std::result::Result<(), caps::errors::CapsError> {
    let kept: CapsHashSet = caps::read(None, CapSet::Permitted)?
        .into_iter()
        .filter(|capability| {
            let lists: [&[Capability]; 3] = [&DATAPLANE, &SCRIPTS, &CHECKS];
            lists.iter().any(|list| list.contains(capability))
        })
        .collect();
    // Otherwise a child gets all of it back, because it is root. It takes CAP_SETPCAP,
    // which a container's root may not have.
    if caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP)? {
        for capability in caps::read(None, CapSet::Bounding)? {
            if !kept.contains(&capability) {
                caps::drop(None, CapSet::Bounding, capability)?;
            }
        }
    }
    caps::set(None, CapSet::Inheritable, &CapsHashSet::new())?;
    caps::set(None, CapSet::Effective, &kept)?;
    caps::set(None, CapSet::Permitted, &kept)
}

/// Lets this process open as many files as it may be allowed to; how many that are.
pub fn raise_open_files() -> usize {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return 1024;
    };
    // The first to come knows what it was.
    let _ = OPEN_FILES_BEFORE.set((soft, hard));
    let raised = setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok();
    let limit = if raised { hard } else { soft };
    usize::try_from(limit).unwrap_or(usize::MAX)
}

/// The limits of open files, soft and hard, that this process was started with, where they
/// have been raised since.
pub(crate) fn open_files_before() -> Option<(u64, u64)> {
    OPEN_FILES_BEFORE.get().copied()
}

/// The group's number; none: there is no such group.
pub fn group_id(name: &str) -> Result<Option<u32>> {
    let group = Group::from_name(name).attempt(|| format!("look up the group {name}"))?;
    Ok(group.map(|group| group.gid.as_raw()))
}

/// This machine's name, as `uname -n`; none: it has none that can be read.
#[must_use]
pub fn host_name() -> Option<String> {
    let name = nix::sys::utsname::uname().ok()?;
    let name = name.nodename().to_str()?.to_owned();
    Some(name).filter(|name| !name.is_empty())
}

/// Name of the user that this process runs as; none: its number has none. May block, as
/// user databases do.
#[must_use]
pub fn user_name() -> Option<String> {
    let user = User::from_uid(nix::unistd::getuid()).ok()??;
    Some(user.name)
}

/// Sets a file's mode, and its group where one is given.
pub fn set_ownership(path: &Path, mode: u32, group: Option<u32>) -> Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .attempt(|| format!("set the mode of {}", path.display()))?;
    if let Some(group) = group {
        nix::unistd::chown(path, None, Some(Gid::from_raw(group)))
            .attempt(|| format!("give {} to group {group}", path.display()))?;
    }
    Ok(())
}

/// True: this host forwards IPv4 packets. Without it, the packets that the
/// dataplane leaves to the kernel, such as the first to a server whose MAC address
/// is not known yet, go nowhere.
pub fn forwards_ipv4() -> Result<bool> {
    // Shows the network namespace of the process that reads it.
    let path = "/proc/sys/net/ipv4/ip_forward";
    let value = fs::read_to_string(path).attempt(|| format!("read {path}"))?;
    Ok(value.trim() != "0")
}

/// Names this process's network namespace, for comparison.
pub fn network_namespace() -> Result<String> {
    namespace("/proc/thread-self/ns/net")
}

/// True: this process has mounts of its own, so that a file system it mounts is not
/// there for others and ends with it.
pub(crate) fn has_own_mounts() -> bool {
    match (
        namespace("/proc/thread-self/ns/mnt"),
        namespace("/proc/1/ns/mnt"),
    ) {
        (Ok(own), Ok(first)) => own != first,
        _ => false,
    }
}

fn namespace(path: &str) -> Result<String> {
    let name = fs::read_link(path).attempt(|| format!("read {path}"))?;
    Ok(name.to_string_lossy().into_owned())
}

/// Memory that can be had without swapping, in bytes; none: not known.
pub(crate) fn available_memory() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim()
        .strip_suffix("kB")?
        .trim()
        .parse::<u64>()
        .ok()
        .map(|kilobytes| kilobytes << 10)
}

/// Refuses kernels and privileges that a dataplane can't be made with.
pub(crate) fn check_machine() -> Result<()> {
    let release = kernel_release()?;
    // A release of another shape is a kernel of someone who knows what he does.
    if version_of(&release).is_some_and(|version| version < OLDEST_KERNEL) {
        return Err(Error::KernelTooOld { found: release });
    }
    for capability in DATAPLANE {
        if !is_permitted(capability) {
            return Err(Error::NotPermitted {
                action: "use BPF and set up interfaces".into(),
                needed: "CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON, \
                         and CAP_SYS_ADMIN to mount /sys/fs/bpf"
                    .into(),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases() {
        assert_eq!(version_of("6.1.0-18-amd64"), Some((6, 1)));
        assert_eq!(
            version_of("5.15.167.4-microsoft-standard-WSL2"),
            Some((5, 15))
        );
        assert_eq!(version_of("6.18-rc1"), Some((6, 18)));
        assert_eq!(version_of("unknown"), None);
        assert!((5, 4) < OLDEST_KERNEL && (6, 0) > OLDEST_KERNEL);
    }

    #[test]
    fn groups() {
        assert_eq!(group_id("root").unwrap(), Some(0));
        assert_eq!(group_id("no-such-group-here").unwrap(), None);
    }

    #[test]
    fn memory_is_known() {
        assert!(available_memory().unwrap() > 1 << 20);
    }
}
