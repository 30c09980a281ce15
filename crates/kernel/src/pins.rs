//! The instance's directory on the BPF file system.
//!
//! ```text
//! CONNECTIONS … CONTROL        the arrays, by their names in the object
//! evenkeel_xdp …               the programs
//! network                      symbolic link: the network namespace it belongs to
//! links/INDEX-xdp, INDEX-tcx   what keeps a program on an interface
//! links/INDEX-clsact           symbolic link: a filter is there, and whose the qdisc is
//! links/INDEX-tcx-egress, INDEX-clsact-egress   the same where packets leave
//! ```
//!
//! Names can have no dots on this file system; that is why interfaces stand here by
//! index. The set is built in a directory beside and renamed when it is complete, so
//! that there is a whole set or none. Who works on an instance holds a lock on its
//! directory.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::libc;
use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use crate::error::{Attempt, Error, Result};
use crate::system;

/// Where BPF file systems are mounted.
const BPFFS: &str = "/sys/fs/bpf";
/// Added to the name of the directory in which a set is built.
const UNFINISHED: &str = "+new";
/// Which network namespace the set belongs to.
const NETWORK: &str = "network";
/// How long a lock is waited for.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);
/// How often it is tried.
const LOCK_INTERVAL: Duration = Duration::from_millis(20);

/// An instance's directory, locked.
#[derive(Debug)]
pub(crate) struct Pins {
    path: PathBuf,
    /// Held as long as this lives.
    lock: Flock<File>,
}

impl Pins {
    /// The pin of the map, program or other thing called `name`.
    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The directory.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The directory of links.
    pub(crate) fn links(&self) -> PathBuf {
        self.path.join("links")
    }

    /// Opens a finished set; none: there is none.
    pub(crate) fn open(path: &Path) -> Result<Option<Self>> {
        match fs::read_dir(path).map(|mut entries| entries.next().is_some()) {
            Ok(true) => {}
            // An empty directory is what `mkdir` leaves; a set is renamed over it.
            Ok(false) => return Ok(None),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(Error::System {
                    action: format!("read {}", path.display()),
                    error,
                });
            }
        }
        Ok(Some(Self {
            path: path.into(),
            lock: lock(path, path)?,
        }))
    }

    /// Starts a set: what is pinned in it now is not used before [`Pins::finish`].
    pub(crate) fn begin(path: &Path) -> Result<Self> {
        let parent = path.parent().unwrap_or(Path::new("/"));
        make_directory(parent)?;
        let unfinished = unfinished(path)?;
        make_directory(&unfinished)?;
        let lock = lock(&unfinished, path)?;
        // What a process left that was killed while building.
        empty(&unfinished)?;
        let pins = Self {
            path: unfinished,
            lock,
        };
        make_directory(&pins.links())?;
        let namespace = system::network_namespace()?;
        symlink(&namespace, pins.at(NETWORK))
            .attempt(|| format!("note the network namespace in {}", pins.path.display()))?;
        Ok(pins)
    }

    /// Makes the set the instance's: one step, all or nothing.
    pub(crate) fn finish(self, path: &Path) -> Result<Self> {
        fs::rename(&self.path, path)
            .attempt(|| format!("rename {} to {}", self.path.display(), path.display()))?;
        Ok(Self {
            path: path.into(),
            lock: self.lock,
        })
    }

    /// Refuses a set that is attached in another network namespace.
    pub(crate) fn check_namespace(&self) -> Result<()> {
        let found = match fs::read_link(self.at(NETWORK)) {
            Ok(name) => name.to_string_lossy().into_owned(),
            Err(_) => return Err(self.damaged("it does not say its network namespace")),
        };
        let present = system::network_namespace()?;
        if found == present {
            return Ok(());
        }
        Err(Error::OtherNamespace {
            path: self.path.clone(),
            found,
            present,
        })
    }

    /// The error for a set that can't be used.
    pub(crate) fn damaged(&self, what: impl Into<String>) -> Error {
        Error::Damaged {
            path: self.path.clone(),
            what: what.into(),
        }
    }

    /// Removes the directory and everything in it.
    pub(crate) fn remove(self) -> Result<()> {
        remove(&self.path)
    }
}

/// Makes sure that `path` is on a BPF file system, mounting it at its usual place.
pub(crate) fn prepare(path: &Path) -> Result<()> {
    let existing = path
        .ancestors()
        .find(|path| path.exists())
        .unwrap_or(Path::new("/"));
    if is_bpffs(existing)? {
        return Ok(());
    }
    if !path.starts_with(BPFFS) {
        return Err(Error::NotBpffs {
            path: existing.into(),
        });
    }
    mount(
        Some("bpf"),
        BPFFS,
        Some("bpf"),
        MsFlags::empty(),
        Some("mode=0700"),
    )
    .map_err(|errno| match errno {
        Errno::EPERM => Error::NotPermitted {
            action: format!("mount {BPFFS}"),
            needed: "CAP_SYS_ADMIN".into(),
        },
        Errno::ENODEV => Error::NoBpf,
        other => Error::System {
            action: format!("mount {BPFFS}"),
            error: other.into(),
        },
    })?;
    if system::has_own_mounts() {
        tracing::warn!(
            "mounted {BPFFS} for this process alone: the forwarding ends with it, \
             and other commands do not see it"
        );
    } else {
        tracing::info!("mounted {BPFFS}");
    }
    Ok(())
}

fn is_bpffs(path: &Path) -> Result<bool> {
    let found = statfs(path).attempt(|| format!("look at {}", path.display()))?;
    Ok(found.filesystem_type() == BPF_FS_MAGIC)
}

/// Removes what a process left that was killed while building a set.
pub(crate) fn remove_unfinished(path: &Path) -> Result<()> {
    let unfinished = unfinished(path)?;
    if !unfinished.exists() {
        return Ok(());
    }
    let _lock = lock(&unfinished, path)?;
    remove(&unfinished)
}

fn unfinished(path: &Path) -> Result<PathBuf> {
    let Some(name) = path.file_name() else {
        let error = io::Error::from(ErrorKind::InvalidInput);
        return Err(Error::System {
            action: format!("pin into {}", path.display()),
            error,
        });
    };
    let mut name = name.to_os_string();
    name.push(UNFINISHED);
    Ok(path.with_file_name(name))
}

fn lock(directory: &Path, instance: &Path) -> Result<Flock<File>> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_DIRECTORY)
        .open(directory)
        .attempt(|| format!("open {}", directory.display()))?;
    let inode = file
        .metadata()
        .attempt(|| format!("look at {}", directory.display()))?
        .ino();
    let lock = wait_for_lock(file).map_err(|errno| match errno {
        Errno::EWOULDBLOCK => Error::InUse {
            path: instance.into(),
        },
        other => Error::System {
            action: format!("lock {}", directory.display()),
            error: other.into(),
        },
    })?;
    // Removed or renamed between opening and locking: somebody else works on it.
    if fs::metadata(directory).is_ok_and(|data| data.ino() == inode) {
        Ok(lock)
    } else {
        Err(Error::InUse {
            path: instance.into(),
        })
    }
}

/// A daemon that was killed keeps its lock until the kernel has taken its memory
/// apart; its successor may start before that.
fn wait_for_lock(mut file: File) -> std::result::Result<Flock<File>, Errno> {
    let deadline = Instant::now() + LOCK_PATIENCE;
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Err((back, Errno::EWOULDBLOCK)) if Instant::now() < deadline => file = back,
            other => return other.map_err(|(_, errno)| errno),
        }
        std::thread::sleep(LOCK_INTERVAL);
    }
}

fn make_directory(path: &Path) -> Result<()> {
    // Whoever may open a pin may rewrite the tables: root alone.
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .attempt(|| format!("create the directory {}", path.display()))
}

fn empty(directory: &Path) -> Result<()> {
    let entries = fs::read_dir(directory).attempt(|| format!("read {}", directory.display()))?;
    for entry in entries {
        let path = entry
            .attempt(|| format!("read {}", directory.display()))?
            .path();
        remove(&path)?;
    }
    Ok(())
}

fn remove(path: &Path) -> Result<()> {
    let is_directory = fs::symlink_metadata(path).is_ok_and(|data| data.is_dir());
    let removed = if is_directory {
        empty(path)?;
        fs::remove_dir(path)
    } else {
        fs::remove_file(path)
    };
    match removed {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other.attempt(|| format!("remove {}", path.display())),
    }
}
