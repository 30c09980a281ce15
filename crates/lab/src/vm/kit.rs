//! What a guest is made with: an emulator, and a kernel with its modules. They
//! lie unpacked in a directory (`scripts/setup vm`) or are the machine's own.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Where libraries lie in a package of this architecture.
const LIBRARIES: [&str; 2] = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"];
/// Where programs lie in a package.
const PROGRAMS: [&str; 4] = ["usr/bin", "usr/sbin", "bin", "sbin"];
const EMULATOR: &str = "qemu-system-x86_64";

/// An emulator, and a kernel for it.
#[derive(Clone, Debug)]
pub struct Kit {
    root: PathBuf,
    emulator: PathBuf,
    loader: PathBuf,
    kernel: PathBuf,
    release: String,
}

impl Kit {
    /// The kit in `root`, where packages are unpacked. What of the programs is
    /// not there is taken from the machine.
    ///
    /// An error says what is missing; there is nothing to test with, then.
    pub fn find(root: &Path) -> Result<Self> {
        let (kernel, release) = kernel(root)?;
        Ok(Self {
            emulator: program(root, EMULATOR)?,
            loader: program(root, "kmod")?,
            root: root.to_owned(),
            kernel,
            release,
        })
    }

    /// The kernel's release, as `uname -r` gives it.
    #[must_use]
    pub fn release(&self) -> &str {
        &self.release
    }

    pub(super) fn kernel(&self) -> &Path {
        &self.kernel
    }

    /// Loads modules, in a guest.
    pub(super) fn loader(&self) -> &Path {
        &self.loader
    }

    /// Calls the emulator.
    pub(super) fn emulator(&self) -> Command {
        let mut command = Command::new(&self.emulator);
        command.env("LD_LIBRARY_PATH", self.library_path());
        command
    }

    /// A program that is unpacked here.
    pub(super) fn own_program(&self, name: &str) -> Result<PathBuf> {
        own(&self.root, name).next().with_context(|| {
            let root = self.root.display();
            format!("there is no {name} in {root}: run scripts/setup vm")
        })
    }

    /// The libraries that a program is linked to.
    pub(super) fn libraries(&self, program: &Path) -> Result<Vec<PathBuf>> {
        let output = Command::new("ldd")
            .arg(program)
            .env("LD_LIBRARY_PATH", self.library_path())
            .output()
            .context("cannot run ldd")?;
        let text = String::from_utf8_lossy(&output.stdout);
        libraries(&text).with_context(|| format!("{} needs a library", program.display()))
    }

    /// Where a file of the machine or of the kit lies in a guest.
    pub(super) fn place(&self, file: &Path) -> PathBuf {
        let rest = file.strip_prefix(&self.root);
        rest.map_or_else(|_| file.to_owned(), |rest| Path::new("/").join(rest))
    }

    /// The files of these modules and of all that they depend on, and what the
    /// loader finds them by.
    pub(super) fn modules(&self, names: &[&str]) -> Result<Vec<PathBuf>> {
        let directory = self.root.join("lib/modules").join(&self.release);
        let list = directory.join("modules.dep");
        let text =
            fs::read_to_string(&list).with_context(|| format!("cannot read {}", list.display()))?;
        let mut files: Vec<_> = module_files(&text, names)?
            .into_iter()
            .map(|file| directory.join(file))
            .collect();
        let entries = fs::read_dir(&directory)
            .with_context(|| format!("cannot read {}", directory.display()))?;
        for entry in entries {
            let path = entry?.path();
            if path.is_file() {
                files.push(path);
            }
        }
        Ok(files)
    }

    fn library_path(&self) -> OsString {
        let mut path = OsString::new();
        for place in LIBRARIES {
            path.push(self.root.join(place));
            path.push(":");
        }
        path.push(env::var_os("LD_LIBRARY_PATH").unwrap_or_default());
        path
    }
}

/// The one kernel in `root`, and its release.
fn kernel(root: &Path) -> Result<(PathBuf, String)> {
    let boot = root.join("boot");
    let missing = || {
        format!(
            "there is no kernel in {}: run scripts/setup vm",
            boot.display()
        )
    };
    for entry in fs::read_dir(&boot).with_context(missing)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        if let Some(release) = name.and_then(|name| name.strip_prefix("vmlinuz-")) {
            let release = release.to_owned();
            return Ok((path, release));
        }
    }
    bail!(missing())
}

/// A program of the kit, or of the machine.
fn program(root: &Path, name: &str) -> Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let in_path = env::split_paths(&path).map(|place| place.join(name));
    own(root, name)
        .chain(in_path.filter(|file| file.is_file()))
        // An unprivileged user's path may lack some of these.
        .chain(own(Path::new("/"), name))
        .next()
        .with_context(|| format!("there is no {name}: run scripts/setup vm"))
}

/// The programs of this name below `root`.
fn own(root: &Path, name: &str) -> impl Iterator<Item = PathBuf> {
    let files = PROGRAMS.map(|place| root.join(place).join(name));
    files.into_iter().filter(|file| file.is_file())
}

/// The files in what `ldd` prints: `NAME => FILE (ADDRESS)` or `FILE (ADDRESS)`.
fn libraries(text: &str) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for line in text.lines() {
        let (name, file) = line.split_once("=>").unwrap_or((line, line));
        if file.contains("not found") {
            bail!("{} is not there", name.trim());
        }
        let file = file.split(" (").next().unwrap_or_default().trim();
        if file.starts_with('/') {
            files.push(file.into());
        }
    }
    Ok(files)
}

/// Of `modules.dep` (`FILE: FILE...`) the files of `names` and what they depend on.
fn module_files(list: &str, names: &[&str]) -> Result<BTreeSet<PathBuf>> {
    let modules: BTreeMap<String, (&str, &str)> = list
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(file, needs)| (module_name(file), (file, needs)))
        .collect();
    let mut files = BTreeSet::new();
    for name in names {
        let (file, needs) = modules
            .get(&module_name(name))
            .with_context(|| format!("the kernel has no module {name}"))?;
        files.insert(PathBuf::from(file));
        files.extend(needs.split_whitespace().map(PathBuf::from));
    }
    Ok(files)
}

/// A module's name: of the file without what follows the first dot, and with
/// underscores for dashes, which count as the same.
fn module_name(file: &str) -> String {
    let name = file.rsplit('/').next().unwrap_or(file);
    name.split('.').next().unwrap_or(name).replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_come_with_what_they_need() -> Result<()> {
        let list = "kernel/net/llc/llc.ko:\n\
                    kernel/net/bridge/bridge.ko: kernel/net/802/stp.ko kernel/net/llc/llc.ko\n\
                    kernel/crypto/crc32c-x.ko.xz:\n";
        let files = module_files(list, &["bridge", "crc32c_x"])?;
        let names = [
            "kernel/crypto/crc32c-x.ko.xz",
            "kernel/net/802/stp.ko",
            "kernel/net/bridge/bridge.ko",
            "kernel/net/llc/llc.ko",
        ];
        assert_eq!(files, names.map(PathBuf::from).into());
        let error = module_files(list, &["veth"]).map_err(|error| error.to_string());
        assert_eq!(error, Err("the kernel has no module veth".into()));
        Ok(())
    }

    #[test]
    fn libraries_are_read_from_ldd() -> Result<()> {
        let text = "\tlinux-vdso.so.1 (0x00007ffd)\n\
                    \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        let files = libraries(text)?;
        assert_eq!(
            files,
            [
                "/lib/x86_64-linux-gnu/libc.so.6",
                "/lib64/ld-linux-x86-64.so.2"
            ]
            .map(PathBuf::from)
        );
        assert_eq!(
            libraries("\tstatically linked\n")?,
            [""; 0].map(PathBuf::from)
        );
        let error = libraries("\tlibx.so => not found\n").map_err(|error| error.to_string());
        assert_eq!(error, Err("libx.so is not there".into()));
        Ok(())
    }

    #[test]
    fn what_is_missing_is_said() {
        let error = Kit::find(Path::new("/nowhere")).map_err(|error| format!("{error:#}"));
        assert!(error.is_err_and(|text| text.starts_with("there is no kernel in /nowhere/boot")));
    }
}
