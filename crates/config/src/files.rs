//! Where configurations are read from: the disk, or memory in tests.

use std::collections::BTreeMap;
use std::io;
use std::path::{Component, Path, PathBuf};

/// What a configuration wants to know of the machine.
pub trait Files {
    /// A file's bytes.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
    /// Names in a directory, in any order.
    fn entries(&self, directory: &Path) -> io::Result<Vec<String>>;
    /// What a file is, links followed.
    fn status(&self, path: &Path) -> io::Result<Status>;
    /// The path from the root on.
    fn absolute(&self, path: &Path) -> PathBuf;
    /// True if there is such a user, by name or number.
    fn has_user(&self, user: &str) -> bool;
    /// True if there is such a group, by name or number.
    fn has_group(&self, group: &str) -> bool;
    /// What a variable of the environment says.
    fn variable(&self, name: &str) -> Option<String>;
}

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// A regular file.
    pub is_file: bool,
    /// A directory.
    pub is_directory: bool,
    /// Its nine bits of permission, and sticky.
    pub mode: u32,
    /// Its owner's number.
    pub owner: u32,
}

impl Status {
    /// Somebody may execute it.
    #[must_use]
    pub const fn is_executable(&self) -> bool {
        self.mode & 0o111 != 0
    }

    /// Somebody else than root may change it, or what stands in it.
    #[must_use]
    pub const fn is_open_to_others(&self) -> bool {
        self.owner != 0 || (self.mode & 0o022 != 0 && self.mode & 0o1000 == 0)
    }
}

/// This machine's.
#[derive(Clone, Copy, Debug, Default)]
pub struct Disk;

impl Files for Disk {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        std::fs::read(path)
    }

    fn entries(&self, directory: &Path) -> io::Result<Vec<String>> {
        let entries = std::fs::read_dir(directory)?;
        entries
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect()
    }

    fn status(&self, path: &Path) -> io::Result<Status> {
        use std::os::unix::fs::MetadataExt;
        let found = std::fs::metadata(path)?;
        Ok(Status {
            is_file: found.is_file(),
            is_directory: found.is_dir(),
            mode: found.mode() & 0o1777,
            owner: found.uid(),
        })
    }

    fn absolute(&self, path: &Path) -> PathBuf {
        std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
    }

    fn has_user(&self, user: &str) -> bool {
        is_number(user) || matches!(nix::unistd::User::from_name(user), Ok(Some(_)))
    }

    fn has_group(&self, group: &str) -> bool {
        is_number(group) || matches!(nix::unistd::Group::from_name(group), Ok(Some(_)))
    }

    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }
}

fn is_number(name: &str) -> bool {
    name.parse::<u32>().is_ok()
}

/// Files that are not on any disk. Every user but those named `nobody-of-…` is there.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    files: BTreeMap<PathBuf, (Vec<u8>, Status)>,
}

impl Memory {
    /// Adds a file of root's that all may read, by its whole path.
    pub fn add(&mut self, path: &str, bytes: impl Into<Vec<u8>>) -> &mut Self {
        self.add_with(path, bytes, 0o644, 0)
    }

    /// Adds a file with other permissions.
    pub fn add_with(
        &mut self,
        path: &str,
        bytes: impl Into<Vec<u8>>,
        mode: u32,
        owner: u32,
    ) -> &mut Self {
        let status = Status {
            is_file: true,
            is_directory: false,
            mode,
            owner,
        };
        self.files
            .insert(self.absolute(Path::new(path)), (bytes.into(), status));
        self
    }
}

impl Files for Memory {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let found = self.files.get(&self.absolute(path));
        found
            .map(|(bytes, _)| bytes.clone())
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn entries(&self, directory: &Path) -> io::Result<Vec<String>> {
        let directory = self.absolute(directory);
        let names = self.files.keys().filter_map(|path| {
            let below = path.strip_prefix(&directory).ok()?;
            let name = below.components().next()?;
            Some(name.as_os_str().to_string_lossy().into_owned())
        });
        let mut names: Vec<String> = names.collect();
        names.dedup();
        if names.is_empty() {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(names)
    }

    fn status(&self, path: &Path) -> io::Result<Status> {
        let path = self.absolute(path);
        if let Some((_, status)) = self.files.get(&path) {
            return Ok(*status);
        }
        self.entries(&path)?;
        Ok(Status {
            is_file: false,
            is_directory: true,
            mode: 0o755,
            owner: 0,
        })
    }

    fn absolute(&self, path: &Path) -> PathBuf {
        let mut whole = PathBuf::from("/");
        for part in path.components() {
            match part {
                Component::ParentDir => {
                    whole.pop();
                }
                Component::Normal(name) => whole.push(name),
                _ => {}
            }
        }
        whole
    }

    fn has_user(&self, user: &str) -> bool {
        !user.starts_with("nobody-of-")
    }

    fn has_group(&self, group: &str) -> bool {
        self.has_user(group)
    }

    fn variable(&self, _: &str) -> Option<String> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_like_a_disk() {
        let mut memory = Memory::default();
        memory
            .add("/etc/a.conf", "a")
            .add("/etc/conf.d/b.conf", "b");
        let read = |path: &str| memory.read(Path::new(path)).ok();
        assert_eq!(read("/etc/conf.d/../a.conf"), Some(b"a".to_vec()));
        assert_eq!(read("/etc/b.conf"), None);
        let entries = memory.entries(Path::new("/etc")).unwrap();
        assert_eq!(entries, ["a.conf", "conf.d"]);
        assert!(
            memory
                .status(Path::new("/etc/conf.d"))
                .unwrap()
                .is_directory
        );
        assert!(memory.status(Path::new("/none")).is_err());
    }

    #[test]
    fn the_disk_has_root() {
        assert!(Disk.has_user("root") && Disk.has_user("0") && Disk.has_group("root"));
        assert!(!Disk.has_user("no such user"));
        assert!(Disk.status(Path::new("/")).unwrap().is_directory);
    }
}
