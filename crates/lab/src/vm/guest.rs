//! A guest as it is to be: its files, its modules, its network cards.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::archive::Archive;
use super::kit::Kit;
use crate::host::Host;
use crate::sandbox;
use crate::topology::Address;

/// A name and the number of a card have to fit an interface's name.
const NAME_MAX: usize = 12;
/// What every guest has; the first process needs some of it.
const PROGRAMS: [&str; 14] = [
    "sh", "cat", "env", "grep", "ip", "ln", "ls", "mkdir", "mount", "rm", "sleep", "stty", "tc",
    "uname",
];
/// The names that the loader of modules is called by.
const LOADER_NAMES: [&str; 3] = ["modprobe", "lsmod", "rmmod"];
/// What makes the emulator's network cards work.
pub(super) const CARD_DRIVERS: [&str; 2] = ["virtio_pci", "virtio_net"];
const USERS: &str = "root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33:www-data:/:/bin/false\n";
const GROUPS: &str = "root:x:0:\nwww-data:x:33:\n";
const NAMES: &str = "passwd: files\ngroup: files\nhosts: files\nservices: files\n";

/// A guest that can be started, with [`Vm::boot`](super::Vm::boot).
#[derive(Debug)]
pub struct Guest {
    pub(super) kit: Kit,
    pub(super) name: String,
    pub(super) files: Archive,
    pub(super) cables: Vec<Cable>,
    pub(super) clock: Clock,
}

/// What a guest's time goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Clock {
    /// The machine's time.
    Machine,
    /// Instructions, one a nanosecond.
    Instructions,
}

/// A network card of a guest, and the interface of a host that its cable leads to.
#[derive(Clone, Debug)]
pub struct Cable {
    /// The card's address in the guest.
    pub mac: [u8; 6],
    /// Where the cable ends.
    pub host: Host,
    /// The name that its end gets there; 15 bytes at most.
    pub interface: String,
    /// The addresses that its end gets.
    pub addresses: Vec<Address>,
}

impl Guest {
    /// A guest with the usual small programs. Its name tells it from others of
    /// the sandbox; it has 12 bytes at most.
    pub fn new(kit: &Kit, name: &str) -> Result<Self> {
        if name.is_empty() || name.len() > NAME_MAX {
            bail!("a guest's name has 1 to {NAME_MAX} bytes, {name:?} has not");
        }
        let mut guest = Self {
            kit: kit.clone(),
            name: name.into(),
            files: Archive::new(),
            cables: Vec::new(),
            clock: Clock::Machine,
        };
        for program in PROGRAMS {
            guest.program(program)?;
        }
        guest.add(kit.loader())?;
        let loader = kit.place(kit.loader());
        for name in LOADER_NAMES {
            let place = Path::new("/usr/sbin").join(name);
            guest.files.link(&place, &loader);
        }
        for file in ["/etc/services", "/etc/protocols"] {
            guest.add(Path::new(file))?;
        }
        let hosts = format!("127.0.0.1 localhost\n127.0.1.1 {name}\n");
        for (place, text) in [
            ("/etc/passwd", USERS),
            ("/etc/group", GROUPS),
            ("/etc/nsswitch.conf", NAMES),
            ("/etc/hosts", hosts.as_str()),
        ] {
            guest.files.text(Path::new(place), text, 0o644);
        }
        let init = include_str!("init.sh");
        guest.files.text(Path::new("/init"), init, 0o755);
        Ok(guest)
    }

    /// Adds a program of the machine, by its path or as the shell finds it, with
    /// the libraries it is linked to.
    pub fn program(&mut self, name: &str) -> Result<&mut Self> {
        let places = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];
        // Joined to a directory, a path stays what it is.
        let mut files = places.iter().map(|place| Path::new(place).join(name));
        let file = files
            .find(|file| file.is_file())
            .with_context(|| format!("a guest needs the program {name}, which is not there"))?;
        self.add(&file)?;
        Ok(self)
    }

    /// Adds a program that is unpacked in the kit, never the machine's of that name,
    /// with the libraries it is linked to.
    pub fn kit_program(&mut self, name: &str) -> Result<&mut Self> {
        let file = self.kit.own_program(name)?;
        self.add(&file)?;
        Ok(self)
    }

    /// Adds all files in a directory of the machine, with the libraries that
    /// programs and modules of programs there are linked to.
    pub fn directory(&mut self, directory: &Path) -> Result<&mut Self> {
        let entries = fs::read_dir(directory)
            .with_context(|| format!("cannot read {}", directory.display()))?;
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() {
                self.directory(&path)?;
            } else {
                self.add(&path)?;
            }
        }
        Ok(self)
    }

    /// Adds a program that was built here, at another place and without what is
    /// for debuggers alone: that is the most of it.
    pub fn built(&mut self, program: &Path, place: &str) -> Result<&mut Self> {
        let directory = self.workshop()?;
        let stripped = directory.join(place.replace('/', "-"));
        let output = Command::new("strip")
            .arg("-o")
            .args([&stripped, program])
            .output()
            .context("cannot run strip: install binutils")?;
        if !output.status.success() {
            bail!(
                "cannot strip {}: {}",
                program.display(),
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        self.files.copy(&stripped, Path::new(place), 0o755);
        self.libraries(program)?;
        Ok(self)
    }

    /// Adds a copy of a file of the machine, and nothing that it needs.
    pub fn file(&mut self, file: &Path, place: &str) -> &mut Self {
        self.files.copy(file, Path::new(place), 0o644);
        self
    }

    /// Adds kernel modules and those they depend on. The guest's kernel loads
    /// most of them by itself as they are needed; there is `modprobe` for others.
    pub fn modules(&mut self, names: &[&str]) -> Result<&mut Self> {
        for file in self.kit.modules(names)? {
            let place = self.kit.place(&file);
            self.files.copy(&file, &place, 0o644);
        }
        Ok(self)
    }

    /// Adds a network card. The first is eth0 in the guest, the next eth1 and so
    /// on; they are down and have no addresses.
    pub fn cable(&mut self, cable: Cable) -> Result<&mut Self> {
        self.modules(&CARD_DRIVERS)?;
        self.cables.push(cable);
        Ok(self)
    }

    /// Has the guest's clock go on by a nanosecond for each instruction, of the kernel or
    /// of programs, and jump to the next event where there is nothing to do. So times that
    /// are taken in the guest are numbers of instructions, whatever else the machine does.
    ///
    /// The guest has one CPU then: with more, one of them would wait for another by
    /// instructions, too.
    pub fn count_instructions(&mut self) -> &mut Self {
        self.clock = Clock::Instructions;
        self
    }

    /// Where the guest's own files on the machine are; gone with the sandbox.
    pub(super) fn workshop(&self) -> Result<PathBuf> {
        let directory = Path::new(sandbox::DIRECTORY).join(format!("vm-{}", self.name));
        fs::create_dir_all(&directory)
            .with_context(|| format!("cannot make {}", directory.display()))?;
        Ok(directory)
    }

    /// Adds a file at its own place, with the libraries it is linked to.
    fn add(&mut self, file: &Path) -> Result<()> {
        let place = self.kit.place(file);
        self.files.copy(file, &place, 0o755);
        self.libraries(file)
    }

    fn libraries(&mut self, file: &Path) -> Result<()> {
        if !is_elf(file)? {
            return Ok(());
        }
        for library in self.kit.libraries(file)? {
            let place = self.kit.place(&library);
            self.files.copy(&library, &place, 0o755);
        }
        Ok(())
    }
}

/// True for what the linker has made: a program or a library.
fn is_elf(file: &Path) -> Result<bool> {
    let mut start = Vec::new();
    File::open(file)
        .and_then(|open| open.take(4).read_to_end(&mut start))
        .with_context(|| format!("cannot read {}", file.display()))?;
    Ok(start == b"\x7fELF")
}
