//! Why something could not be done with the kernel.

use std::io;
use std::path::PathBuf;

/// What went wrong, on what, and what the operator can do: one line each.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel is older than the oldest supported one.
    #[error("Linux {found} is too old: Evenkeel needs Linux 5.15 or newer")]
    KernelTooOld {
        /// Release as `uname -r` prints it.
        found: String,
    },
    /// A capability is missing.
    #[error("not permitted to {action}: run as root (it takes {needed})")]
    NotPermitted {
        /// What was attempted.
        action: String,
        /// Capabilities that allow it.
        needed: String,
    },
    /// The kernel was built without bpf(2).
    #[error("this kernel has no BPF: it needs CONFIG_BPF_SYSCALL=y")]
    NoBpf,
    /// Programs were loaded but not compiled.
    #[error("the kernel's BPF compiler is off: run `sysctl net.core.bpf_jit_enable=1`")]
    JitOff,
    /// The tables do not fit into memory.
    #[error(
        "no memory for the tables: {wanted_mb} MB asked for \
         ({connections} connections, {servers} servers on {cpus} CPUs), {reason}; \
         lower the capacities in the configuration"
    )]
    NoMemory {
        /// Megabytes of all arrays.
        wanted_mb: u64,
        /// Connection entries among them.
        connections: u64,
        /// Server slots among them.
        servers: u32,
        /// CPUs that each server has counters for.
        cpus: u32,
        /// What is there, or what the kernel said.
        reason: String,
    },
    /// A capacity is out of range.
    #[error("{name} = {value} is out of range: allowed are {least} to {most}")]
    Capacity {
        /// Which one.
        name: &'static str,
        /// What was asked for.
        value: u32,
        /// Smallest.
        least: u32,
        /// Largest.
        most: u32,
    },
    /// The directory for the pins lies on another file system.
    #[error("{path} is not on a BPF file system: mount one with `mount -t bpf bpf {path}`")]
    NotBpffs {
        /// Nearest existing directory.
        path: PathBuf,
    },
    /// Another process has the instance.
    #[error("{path} is in use by another process: stop that daemon first")]
    InUse {
        /// The instance's directory.
        path: PathBuf,
    },
    /// What is pinned was made by a version with another memory layout.
    #[error(
        "{path} has memory layout {found}, this version uses layout {expected}: \
         run the version that made it, or remove it with `evenkeel purge` \
         (its connections are lost)"
    )]
    OtherLayout {
        /// The instance's directory.
        path: PathBuf,
        /// Layout version found.
        found: u32,
        /// Layout version of this program.
        expected: u32,
    },
    /// What is pinned is attached in another network namespace.
    #[error(
        "{path} belongs to another network namespace ({found}, this is {present}): \
         start in that one, use another instance name, or run `evenkeel purge` there"
    )]
    OtherNamespace {
        /// The instance's directory.
        path: PathBuf,
        /// Namespace it was made in.
        found: String,
        /// Namespace of this process.
        present: String,
    },
    /// Something that belongs to the pinned set is missing or of another shape.
    #[error("{path} is damaged ({what}): remove it with `evenkeel purge`")]
    Damaged {
        /// The instance's directory.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The kernel refuses the BPF object.
    #[error("cannot load the BPF program {what}: {reason}")]
    Load {
        /// Program or part of the object.
        what: String,
        /// The verifier's last words.
        reason: String,
    },
    /// Interfaces are kept by index modulo the size of a table.
    #[error(
        "cannot attach to {name}: its index {index} falls into the same slot as index {other}, \
         which is attached; restrict the interfaces with `--interface`"
    )]
    InterfaceSlot {
        /// Name.
        name: String,
        /// Index.
        index: u32,
        /// Index of the other interface.
        other: u32,
    },
    /// The kernel has not this part, and no module of it to load.
    #[error("cannot {what}: this kernel has no module `{module}`")]
    NoModule {
        /// The module.
        module: &'static str,
        /// What was attempted.
        what: String,
    },
    /// A system call failed.
    #[error("cannot {action}: {error}")]
    System {
        /// What was attempted, on what.
        action: String,
        /// What the kernel said.
        error: io::Error,
    },
}

/// The result of talking to the kernel.
pub type Result<T> = std::result::Result<T, Error>;

/// Turns a system error into an [`Error`] that says what was attempted.
pub(crate) trait Attempt<T> {
    /// `action` completes "cannot …".
    fn attempt(self, action: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<io::Error>> Attempt<T> for std::result::Result<T, E> {
    fn attempt(self, action: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| Error::System {
            action: action(),
            error: error.into(),
        })
    }
}

impl Error {
    /// The errno, where the cause is a failed system call.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::System { error, .. } => error.raw_os_error(),
            _ => None,
        }
    }
}
