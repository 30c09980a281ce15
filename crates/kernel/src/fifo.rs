//! Named pipes that the daemon writes to.

use std::ffi::CStr;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open};
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::unistd::{Gid, Uid, fchown, fchownat, mkfifo};

use crate::error::{Attempt, Error, Result};
use crate::process::Identity;

/// Its owner reads and writes, nobody else.
const MODE: Mode = Mode::S_IRUSR.union(Mode::S_IWUSR);

/// Open for writing, and for reading as well: so writing works, and what is written stays,
/// while nobody else reads.
const ACCESS: OFlag = OFlag::O_RDWR
    .union(OFlag::O_NONBLOCK)
    .union(OFlag::O_CLOEXEC);

/// A named pipe. When this is dropped its file goes, if it was made here.
#[derive(Debug)]
pub struct Fifo {
    path: PathBuf,
    made: bool,
}

impl Fifo {
    /// Opens the pipe at `path`, and makes it, for this owner alone, where there is none.
    /// The descriptor never blocks.
    pub fn open(path: &Path, owner: Identity) -> Result<(Self, OwnedFd)> {
        let attempt = || format!("make the named pipe {}", path.display());
        let made = match mkfifo(path, MODE) {
            Ok(()) => true,
            Err(Errno::EEXIST) => false,
            Err(error) => return Err(error).attempt(attempt),
        };
        let fifo = Self {
            path: path.into(),
            made,
        };
        let descriptor = fifo.descriptor()?;
        if made && owner != Identity::own() {
            // Given away when it is open: afterwards only its owner may open it.
            give(&descriptor, owner).attempt(|| {
                format!(
                    "give the named pipe {} to user {}, group {}",
                    path.display(),
                    owner.uid,
                    owner.gid
                )
            })?;
        }
        Ok((fifo, descriptor))
    }

    fn descriptor(&self) -> Result<OwnedFd> {
        let attempt = || format!("open the named pipe {}", self.path.display());
        let place = OFlag::O_PATH | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        let place = open(&self.path, place, Mode::empty()).attempt(attempt)?;
        let found = fstat(&place).attempt(attempt)?;
        if SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT != SFlag::S_IFIFO {
            return Err(Error::System {
                action: attempt(),
                error: io::Error::other("it is there and is no named pipe: remove it"),
            });
        }
        // The very file that was looked at, whatever its path leads to by now.
        let same = format!("/proc/self/fd/{}", place.as_raw_fd());
        match open(&*same, ACCESS, Mode::empty()) {
            // One of a daemon before us that belongs to somebody else. With few rights it
            // takes to be the owner.
            Err(Errno::EACCES) => {
                let owner = Identity {
                    uid: found.st_uid,
                    gid: found.st_gid,
                };
                give_place(&place, Identity::own()).attempt(attempt)?;
                let opened = open(&*same, ACCESS, Mode::empty());
                give_place(&place, owner).attempt(attempt)?;
                opened.attempt(attempt)
            }
            opened => opened.attempt(attempt),
        }
    }
}

fn give(descriptor: &OwnedFd, to: Identity) -> nix::Result<()> {
    fchown(
        descriptor,
        Some(Uid::from_raw(to.uid)),
        Some(Gid::from_raw(to.gid)),
    )
}

fn give_place(place: &OwnedFd, to: Identity) -> nix::Result<()> {
    const ITSELF: &CStr = c"";
    fchownat(
        place.as_fd(),
        ITSELF,
        Some(Uid::from_raw(to.uid)),
        Some(Gid::from_raw(to.gid)),
        AtFlags::AT_EMPTY_PATH,
    )
}

impl Drop for Fifo {
    fn drop(&mut self) {
        if self.made {
            // Nobody is left to tell.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Write};
    use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};

    use super::*;

    fn directory() -> PathBuf {
        let name = format!("evenkeel-fifo-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    #[test]
    fn a_pipe_is_made_used_and_removed() {
        let directory = directory();
        let path = directory.join("news");
        let nobody = crate::process::user("nobody").unwrap().unwrap();
        let (fifo, descriptor) = Fifo::open(&path, nobody).unwrap();
        let found = fs::symlink_metadata(&path).unwrap();
        assert!(found.file_type().is_fifo());
        assert_eq!(found.mode() & 0o7777, 0o600);
        assert_eq!((found.uid(), found.gid()), (nobody.uid, nobody.gid));
        let mut pipe = File::from(descriptor);
        pipe.write_all(b"line\n").unwrap();
        let mut bytes = [0; 5];
        pipe.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"line\n");
        // It can't be read any more, and does not wait.
        let error = pipe.read(&mut bytes).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        // Who finds it there leaves it there.
        drop(Fifo::open(&path, Identity::own()).unwrap());
        assert_eq!(fs::symlink_metadata(&path).unwrap().uid(), nobody.uid);
        drop(fifo);
        assert!(!path.exists());
        // No other file is taken for it, nor is a link followed.
        fs::write(&path, "").unwrap();
        let error = Fifo::open(&path, Identity::own()).unwrap_err().to_string();
        assert!(error.contains("no named pipe"), "{error}");
        symlink("/dev/null", directory.join("link")).unwrap();
        assert!(Fifo::open(&directory.join("link"), Identity::own()).is_err());
        fs::remove_dir_all(&directory).unwrap();
    }
}
