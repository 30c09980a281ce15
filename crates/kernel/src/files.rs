//! Files that are read on others' behalf.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::Mode;

use crate::error::{Attempt, Error, Result};

/// Reads the file `name` beneath `directory`, which has at most `bytes_max` bytes. Neither
/// `..` nor a symbolic link leads out of the directory; what is no file, such as a named
/// pipe, is not waited for. Blocks for as long as the file system takes.
pub fn read_beneath(directory: &Path, name: &Path, bytes_max: u64) -> Result<Vec<u8>> {
    let attempt = || format!("read {}", directory.join(name).display());
    let refuse = |why: &'static str| Error::System {
        action: attempt(),
        error: io::Error::other(why),
    };
    let place = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let place: OwnedFd = open(directory, place, Mode::empty()).attempt(attempt)?;
    let how = OpenHow::new()
        .flags(OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let file = File::from(openat2(&place, name, how).attempt(attempt)?);
    let found = file.metadata().attempt(attempt)?;
    if !found.is_file() {
        return Err(refuse("it is no file"));
    }
    let mut content = Vec::new();
    // It may grow while it is read.
    file.take(bytes_max + 1)
        .read_to_end(&mut content)
        .attempt(attempt)?;
    if content.len() as u64 > bytes_max {
        return Err(refuse("it is too large"));
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use nix::sys::stat::Mode;

    use super::*;

    #[test]
    fn nothing_outside_is_read() {
        let name = format!("evenkeel-files-{}", std::process::id());
        let outer = std::env::temp_dir().join(name);
        let inner = outer.join("inner");
        fs::create_dir_all(inner.join("sub")).unwrap();
        fs::write(outer.join("secret"), "secret").unwrap();
        fs::write(inner.join("sub/page"), "page").unwrap();
        symlink("sub/page", inner.join("within")).unwrap();
        symlink("../secret", inner.join("out")).unwrap();
        symlink("/etc/passwd", inner.join("absolute")).unwrap();
        nix::unistd::mkfifo(&inner.join("fifo"), Mode::S_IRUSR).unwrap();
        let read = |name: &str| read_beneath(&inner, Path::new(name), 4);
        assert_eq!(read("sub/page").unwrap(), b"page");
        assert_eq!(read("within").unwrap(), b"page");
        for bad in [
            "out",
            "absolute",
            "../secret",
            "/etc/passwd",
            "sub",
            "fifo",
            "none",
            "",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
        fs::write(inner.join("sub/page"), "pages").unwrap();
        let error = read("sub/page").unwrap_err().to_string();
        assert!(error.ends_with("it is too large"), "{error}");
        fs::remove_dir_all(&outer).unwrap();
    }
}
