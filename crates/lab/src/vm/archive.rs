//! The file system of a guest, in the format that the kernel unpacks into memory
//! when it starts (cpio, "newc").

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Mode bits that say what an entry is.
const DIRECTORY: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_000;

/// What a guest's file system holds; paths are absolute.
#[derive(Debug)]
pub(super) struct Archive {
    /// In the order of their names, which puts a directory before its content.
    entries: BTreeMap<PathBuf, Entry>,
}

#[derive(Debug)]
enum Entry {
    Directory,
    Link(PathBuf),
    /// Copied when the archive is written.
    Copy {
        source: PathBuf,
        mode: u32,
    },
    Text {
        text: String,
        mode: u32,
    },
}

impl Archive {
    /// The directories that every system has, and nothing in them.
    pub(super) fn new() -> Self {
        let mut archive = Self {
            entries: BTreeMap::new(),
        };
        for name in ["bin", "sbin", "lib", "lib64"] {
            let target = Path::new("usr").join(name);
            archive.directory(&Path::new("/").join(&target));
            let link = Path::new("/").join(name);
            archive.entries.insert(link, Entry::Link(target));
        }
        for place in [
            "dev", "etc", "mnt", "proc", "root", "run", "sys", "tmp", "var",
        ] {
            archive.directory(&Path::new("/").join(place));
        }
        archive
    }

    /// A directory, and those above it.
    pub(super) fn directory(&mut self, place: &Path) {
        for place in place.ancestors() {
            if place.parent().is_some() {
                let entry = self.entries.entry(place.to_owned());
                entry.or_insert(Entry::Directory);
            }
        }
    }

    /// A copy of the file at `source`, or of the one it links to.
    pub(super) fn copy(&mut self, source: &Path, place: &Path, mode: u32) {
        let source = source.to_owned();
        self.insert(place, Entry::Copy { source, mode });
    }

    /// A file with this text.
    pub(super) fn text(&mut self, place: &Path, text: &str, mode: u32) {
        let text = text.to_owned();
        self.insert(place, Entry::Text { text, mode });
    }

    /// A symbolic link.
    pub(super) fn link(&mut self, place: &Path, target: &Path) {
        self.insert(place, Entry::Link(target.to_owned()));
    }

    fn insert(&mut self, place: &Path, entry: Entry) {
        let place = merged(place);
        if let Some(parent) = place.parent() {
            self.directory(parent);
        }
        self.entries.insert(place, entry);
    }

    /// Writes all of it.
    pub(super) fn write(&self, mut out: impl Write) -> Result<()> {
        for (number, (place, entry)) in (1..).zip(&self.entries) {
            let (mode, content) = match entry {
                Entry::Directory => (DIRECTORY | 0o755, Vec::new()),
                Entry::Link(target) => {
                    let target = target.as_os_str().as_encoded_bytes();
                    (LINK | 0o777, target.to_vec())
                }
                Entry::Copy { source, mode } => {
                    let content = fs::read(source)
                        .with_context(|| format!("cannot read {}", source.display()))?;
                    (FILE | mode, content)
                }
                Entry::Text { text, mode } => (FILE | mode, text.clone().into_bytes()),
            };
            let name = place.strip_prefix("/").unwrap_or(place);
            let name = name.as_os_str().as_encoded_bytes();
            record(&mut out, number, mode, name, &content)
                .context("cannot write a guest's files")?;
        }
        record(&mut out, 0, 0, b"TRAILER!!!", &[])
            .and_then(|()| out.flush())
            .context("cannot write a guest's files")
    }
}

/// The place with `/bin`, `/sbin`, `/lib` and `/lib64` where they link to.
fn merged(place: &Path) -> PathBuf {
    let split = ["bin", "sbin", "lib", "lib64"];
    let rest = place.strip_prefix("/").unwrap_or(place);
    if split.iter().any(|name| rest.starts_with(name)) {
        return Path::new("/usr").join(rest);
    }
    Path::new("/").join(rest)
}

/// A header of fourteen words, the name and the content, each of the latter two
/// filled up to four bytes.
fn record(
    out: &mut impl Write,
    number: u32,
    mode: u32,
    name: &[u8],
    content: &[u8],
) -> io::Result<()> {
    let too_long = |_| io::Error::new(io::ErrorKind::FileTooLarge, "a file of 4 GiB");
    let size = u32::try_from(content.len()).map_err(too_long)?;
    let name_size = u32::try_from(name.len() + 1).map_err(too_long)?;
    // Owner, group, links, time; device numbers; no checksum.
    let words = [number, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_size, 0];
    out.write_all(b"070701")?;
    for word in words {
        write!(out, "{word:08x}")?;
    }
    out.write_all(name)?;
    // The name ends in a zero at least; the header has 110 bytes.
    fill(out, 110 + name.len(), 1)?;
    out.write_all(content)?;
    fill(out, content.len(), 0)
}

/// Zeros after `length` bytes: `least` of them, and up to a multiple of four.
fn fill(out: &mut impl Write, length: usize, least: usize) -> io::Result<()> {
    let count = (length + least).next_multiple_of(4) - length;
    out.write_all(&[0; 4][..count])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_stand_before_their_children() {
        let mut archive = Archive::new();
        archive.text(Path::new("/bin/x/y"), "text", 0o644);
        let names: Vec<_> = archive.entries.keys().collect();
        let at = |name: &str| names.iter().position(|n| *n == Path::new(name));
        assert!(at("/usr/bin/x/y").is_some());
        assert!(at("/usr") < at("/usr/bin/x") && at("/usr/bin/x") < at("/usr/bin/x/y"));
        assert_eq!(at("/bin/x"), None);
    }

    #[test]
    fn records_are_filled_up() -> io::Result<()> {
        let mut out = Vec::new();
        record(&mut out, 1, FILE | 0o644, b"ab", b"12345")?;
        assert_eq!(out.len(), 110 + 2 + 4 + 8);
        assert_eq!(&out[..6], b"070701");
        // Size of the content, and of the name with its end.
        assert_eq!(&out[54..62], b"00000005");
        assert_eq!(&out[94..102], b"00000003");
        assert_eq!(&out[110..], b"ab\0\0\0\x0012345\0\0\0");
        Ok(())
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let mut archive = Archive::new();
        archive.copy(Path::new("/nowhere/x"), Path::new("/x"), 0o644);
        let error = archive.write(Vec::new()).map_err(|error| error.to_string());
        assert_eq!(error, Err("cannot read /nowhere/x".into()));
    }
}
