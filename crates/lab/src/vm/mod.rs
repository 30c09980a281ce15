//! A machine with another kernel: a guest of an emulator, with commands run on it
//! and its network cards plugged into the hosts of a lab.
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! # use std::{path::Path, time::Duration};
//! use evenkeel_lab::vm::{Guest, Kit, Vm};
//!
//! let kit = Kit::find(Path::new("target/vm"))?;
//! let mut guest = Guest::new(&kit, "old")?;
//! guest.modules(&["veth"])?;
//! let mut vm = Vm::boot(&guest, Duration::from_mins(1))?;
//! vm.expect("ip link add a type veth peer name b", Duration::from_secs(10))?;
//! # Ok(())
//! # }
//! ```
//!
//! Everything is emulated, so that it is the same with and without hardware that
//! could do better. The guest's file system is in its memory: it holds copies of
//! the few files that were asked for, and nothing that is done there touches the
//! machine's. The sandbox has to be entered before; with it the guest goes, too.

mod archive;
mod guest;
mod kit;

use std::fmt::{self, Write as _};
use std::fs::{self, File};
use std::io::{BufWriter, Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::topology::{Address, ip};
use crate::wait;

use guest::Clock;
pub use guest::{Cable, Guest};
pub use kit::Kit;

/// Memory of a guest, in MiB.
const MEMORY: u32 = 1024;
/// More than one, for what the packet path keeps for each CPU.
const CPUS: u32 = 2;
/// Longest command that fits the guest's buffer for its serial line, in bytes.
const COMMAND_MAX: usize = 4000;
/// Lines of the kernel's messages in an error: those of a panic and what led to it.
const CONSOLE_TAIL: usize = 80;

/// A running guest; it is switched off when dropped.
#[derive(Debug)]
pub struct Vm {
    name: String,
    emulator: Child,
    commands: ChildStdin,
    answers: Receiver<Vec<u8>>,
    console: PathBuf,
    complaints: PathBuf,
    /// How many commands were given.
    count: u32,
}

/// What a command wrote, standard output and errors as they came, and how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Its output.
    pub text: String,
    /// Its exit status.
    pub status: i32,
}

impl Vm {
    /// Starts a guest, plugs its cables in and waits until it takes commands.
    pub fn boot(guest: &Guest, deadline: Duration) -> Result<Self> {
        let directory = guest.workshop()?;
        let files = directory.join("initrd");
        let out =
            File::create(&files).with_context(|| format!("cannot write {}", files.display()))?;
        guest.files.write(BufWriter::new(out))?;
        let console = directory.join("console");
        let complaints = directory.join("complaints");
        let errors = File::create(&complaints)
            .with_context(|| format!("cannot write {}", complaints.display()))?;
        let mut emulator = emulator(guest, &files, &console)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .context("cannot start the emulator: is it installed (scripts/setup vm)?")?;
        let streams = emulator.stdin.take().zip(emulator.stdout.take());
        let (commands, output) = streams.context("the emulator has no input and output")?;
        let mut vm = Self {
            name: guest.name.clone(),
            emulator,
            commands,
            answers: follow(output),
            console,
            complaints,
            count: 0,
        };
        for (number, cable) in guest.cables.iter().enumerate() {
            vm.plug(number, cable, deadline)?;
        }
        vm.answer(deadline)
            .with_context(|| format!("guest {} does not start", guest.name))?;
        if !guest.cables.is_empty() {
            // No one is there who would do it when a card is found.
            let drivers = guest::CARD_DRIVERS.join(" ");
            vm.expect(&format!("modprobe -a {drivers}"), deadline)?;
        }
        Ok(vm)
    }

    /// Runs a shell script in the guest to its end. It reads nothing; what it
    /// leaves running must not write to its output.
    ///
    /// After an error here, other than for the script's length, the guest is of
    /// no more use.
    pub fn run(&mut self, script: &str, deadline: Duration) -> Result<Output> {
        if script.len() > COMMAND_MAX {
            bail!(
                "a command of {} bytes is too long for the guest",
                script.len()
            );
        }
        self.count += 1;
        let script_quoted = script.replace('\'', r"'\''");
        let line = format!(
            "sh -c '{script_quoted}' </dev/null; printf '\\n\\001end %d %d\\n' {} $?\n",
            self.count
        );
        let sent = self.commands.write_all(line.as_bytes());
        let sent = sent.and_then(|()| self.commands.flush());
        sent.context("cannot send a command")
            .and_then(|()| self.answer(deadline))
            .with_context(|| format!("guest {} cannot run: {script}", self.name))
    }

    /// Runs a shell script that has to succeed; its output.
    pub fn expect(&mut self, script: &str, deadline: Duration) -> Result<String> {
        let output = self.run(script, deadline)?;
        if output.status != 0 {
            bail!(
                "guest {}: {script}\n{output}\n{}",
                self.name,
                self.console()
            );
        }
        Ok(output.text)
    }

    /// The last of the guest kernel's messages, indented for an error message.
    #[must_use]
    pub fn console(&self) -> String {
        let mut text = String::new();
        for (what, file) in [("emulator", &self.complaints), ("kernel", &self.console)] {
            let bytes = fs::read(file).unwrap_or_default();
            let all = String::from_utf8_lossy(&bytes);
            let lines: Vec<&str> = all.lines().collect();
            for line in &lines[lines.len().saturating_sub(CONSOLE_TAIL)..] {
                let _ = writeln!(text, "    {what} | {}", line.trim_end());
            }
        }
        text
    }

    /// Waits for the end of the present command's output.
    fn answer(&mut self, deadline: Duration) -> Result<Output> {
        let end = Instant::now() + deadline;
        let mut seen = Vec::new();
        let why = loop {
            if let Some(output) = ended(&seen, self.count) {
                return Ok(output);
            }
            let left = end.saturating_duration_since(Instant::now());
            match self.answers.recv_timeout(left) {
                Ok(bytes) => seen.extend(bytes),
                Err(RecvTimeoutError::Timeout) => break format!("no end within {deadline:?}"),
                Err(RecvTimeoutError::Disconnected) => break "the guest has ended".into(),
            }
        };
        let text = String::from_utf8_lossy(&seen);
        bail!("{why}; output until then:\n{text}\n{}", self.console())
    }

    /// Gives the far end of a card's cable to its host.
    ///
    /// The emulator makes it where it runs itself; it stays the emulator's when it
    /// is moved, and goes with it.
    fn plug(&mut self, number: usize, cable: &Cable, deadline: Duration) -> Result<()> {
        let made = tap(&self.name, number);
        let place = Path::new("/sys/class/net").join(&made);
        let mut ended = None;
        wait::until(deadline, "a cable", || {
            ended = self
                .emulator
                .try_wait()
                .map_err(|error| error.to_string())?;
            let there = ended.is_some() || place.exists();
            there.then_some(()).ok_or_else(|| "none yet".into())
        })?;
        if let Some(status) = ended {
            bail!("the emulator has ended with {status}\n{}", self.console());
        }
        let (host, interface) = (cable.host.name(), &cable.interface);
        ip(
            None,
            &format!("link set {made} netns {host} name {interface}\n"),
        )?;
        let mut commands = String::new();
        for Address {
            address, prefix, ..
        } in &cable.addresses
        {
            let _ = writeln!(
                commands,
                "address add {address}/{prefix} broadcast + dev {interface}"
            );
        }
        let _ = writeln!(commands, "link set {interface} up");
        ip(Some(host), &commands)
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        // Fails only where it has ended already.
        let _ = self.emulator.kill();
        let _ = self.emulator.wait();
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n(exit status {})", self.text.trim_end(), self.status)
    }
}

/// The emulator's command line. The first serial line is the kernel's, the second
/// the commands'.
fn emulator(guest: &Guest, files: &Path, console: &Path) -> Command {
    let mut command = guest.kit.emulator();
    let words = "-machine q35 -nodefaults -no-user-config \
                 -display none -no-reboot -chardev stdio,id=commands,signal=off";
    command.args(words.split_whitespace());
    command.args(["-m", &MEMORY.to_string()]);
    match guest.clock {
        Clock::Machine => command
            .args(["-accel", "tcg,thread=multi", "-cpu", "max"])
            .args(["-smp", &CPUS.to_string()]),
        // Each turn of a repeated instruction counts. A kernel that takes the CPU for one
        // that is fast at bytes copies them one by one, else by words.
        Clock::Instructions => command
            .args(["-accel", "tcg,thread=single", "-smp", "1"])
            .args(["-cpu", "max,erms=off,fsrm=off"])
            .args(["-icount", "shift=0,align=off,sleep=off"]),
    };
    command
        .arg("-serial")
        .arg(format!("file:{}", console.display()))
        .args(["-serial", "chardev:commands"])
        .arg("-kernel")
        .arg(guest.kit.kernel())
        .arg("-initrd")
        .arg(files)
        // A panic ends the guest. Names of network cards stay the kernel's.
        .args(["-append", "console=ttyS0 panic=-1 net.ifnames=0"]);
    for (number, cable) in guest.cables.iter().enumerate() {
        let tap = tap(&guest.name, number);
        let mac = cable.mac.map(|byte| format!("{byte:02x}")).join(":");
        command
            .arg("-netdev")
            .arg(format!(
                "tap,id=n{number},ifname={tap},script=no,downscript=no"
            ))
            .arg("-device")
            .arg(format!(
                "virtio-net-pci,netdev=n{number},mac={mac},romfile="
            ));
    }
    command
}

/// What the end of a cable is called before it is plugged in.
fn tap(guest: &str, number: usize) -> String {
    format!("{guest}{number}")
}

/// Reads in a thread of its own, so that reading can have a deadline.
fn follow(mut output: ChildStdout) -> Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = output.read(&mut buffer) {
            if sender.send(buffer[..count].to_vec()).is_err() {
                break;
            }
        }
    });
    receiver
}

/// What stands before the line that ends command `count`, and the status there.
fn ended(seen: &[u8], count: u32) -> Option<Output> {
    let text = String::from_utf8_lossy(seen);
    let (text, end) = text.split_once(&format!("\n\u{1}end {count} "))?;
    let (status, _) = end.split_once('\n')?;
    Some(Output {
        text: text.into(),
        status: status.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox;

    const LONG: Duration = Duration::from_mins(2);

    #[test]
    fn the_end_of_a_command_is_found() {
        let output = |text: &str, status| {
            let text = text.into();
            Some(Output { text, status })
        };
        assert_eq!(ended(b"a\nb\n\n\x01end 3 0\n", 3), output("a\nb\n", 0));
        assert_eq!(ended(b"\n\x01end 3 127\nmore", 3), output("", 127));
        assert_eq!(ended(b"a\n\x01end 3 12", 3), None);
        assert_eq!(ended(b"a\n\x01end 2 0\n", 3), None);
    }

    /// The kit, or nothing where there is none; then it says why.
    fn kit() -> Option<Kit> {
        let place = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/vm");
        let kit = Kit::find(Path::new(place));
        kit.map_err(|error| println!("skipped: {error:#}")).ok()
    }

    #[test]
    fn a_clock_of_instructions_jumps_where_there_are_none() {
        sandbox::run_test(|| {
            let Some(kit) = kit() else { return Ok(()) };
            let mut guest = Guest::new(&kit, "count")?;
            // The machine's is not taken in place of the kit's.
            assert!(guest.kit_program("sh").is_err());
            guest.count_instructions();
            let mut vm = Vm::boot(&guest, LONG)?;
            vm.expect("sleep 3600", LONG)?;
            Ok(())
        });
    }

    #[test]
    fn commands_end_or_say_why_not() {
        sandbox::run_test(|| {
            let Some(kit) = kit() else { return Ok(()) };
            assert!(Guest::new(&kit, "a-name-too-long").is_err());
            let mut guest = Guest::new(&kit, "vm")?;
            guest.modules(&["dummy"])?;
            let mut vm = Vm::boot(&guest, LONG)?;
            let script = "echo \"it's\" 'a b' >&2\nuname -r\nip link add d0 type dummy";
            let text = vm.expect(script, LONG)?;
            assert_eq!(text, format!("it's a b\n{}\n", kit.release()));
            assert_eq!(vm.run("cat; exit 3", LONG)?.status, 3);
            assert!(vm.run("(", LONG)?.text.contains("Syntax error"));
            assert!(vm.run(&" ".repeat(COMMAND_MAX + 1), LONG).is_err());

            let late = vm.run("echo first; sleep 600", Duration::from_secs(1));
            let late = late.map_err(|error| format!("{error:#}"));
            assert!(
                late.as_ref()
                    .is_err_and(|text| text.contains("no end within")),
                "{late:?}"
            );
            drop(vm);

            let mut vm = Vm::boot(&guest, LONG)?;
            let crash = vm.run("echo c >/proc/sysrq-trigger", LONG);
            let crash = crash.map_err(|error| format!("{error:#}"));
            assert!(
                crash
                    .as_ref()
                    .is_err_and(|text| text.contains("has ended") && text.contains("Kernel panic")),
                "{crash:?}"
            );
            Ok(())
        });
    }
}
