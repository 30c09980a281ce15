//! A world of one's own for a lab: processes, mounts, network and host name.
//!
//! The program starts itself again as process 1 of new namespaces, with its own
//! `/run`, `/proc`, `/sys`, BPF file system and `/etc/hosts`. Cleaning up is the
//! kernel's work: when process 1 ends, by whatever means, every process of the
//! world is killed, and network, mounts, pins and sockets go with the last of
//! them. When the program outside dies, the kernel kills process 1.
//!
//! Two ways in: [`enter`] for a command, [`run_test`] for a test.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::symlink;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{self, Command, Stdio};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::{env, thread};

use anyhow::{Context, Result, anyhow, bail};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::{Pid, getpid};

/// Set for the program inside. Counts only where it is process 1 as well, so
/// that a stray variable does not turn a lab loose on the real machine.
const MARK: &str = "EVENKEEL_LAB_SANDBOX";

/// Where the lab keeps its files; on a file system in memory.
pub const DIRECTORY: &str = "/run/lab";
/// The BPF file system, kept here as well since each host mounts its own `/sys`.
pub(crate) const BPF_FILE_SYSTEM: &str = "/run/lab/bpf";

/// Exit status of a test that ran in the sandbox and passed. Not 0: a test
/// runner that finds no test of the given name ends with 0, too.
const TEST_PASSED: u8 = 88;

/// On which side of the sandbox's wall the caller is.
#[derive(Debug)]
pub enum Side {
    /// Inside, furnished, as process 1: go on with the lab.
    Inside,
    /// Outside, and the inside has ended: leave with this exit status, which is
    /// the inside's, or 128 and the number of the signal that ended it.
    Outside(u8),
}

/// Runs the program again in a sandbox, with its own arguments.
///
/// Call it before any other thread was started. SIGINT, SIGTERM, SIGHUP and
/// SIGQUIT end the inside at once and without its doing.
pub fn enter() -> Result<Side> {
    if is_inside() {
        furnish()?;
        return Ok(Side::Inside);
    }
    let status = supervise(env::args_os().skip(1).collect(), true)?;
    Ok(Side::Outside(status))
}

/// Runs a test's body in a sandbox: `#[test] fn name() { sandbox::run_test(|| { … }) }`.
///
/// The test binary is started again inside for this one test; so the body sees
/// nothing of what the test did before. Its name is taken from the closure's
/// type, hence call this from the test function itself.
///
/// # Panics
/// As a failed test does: with the body's error, or when the test did not run.
pub fn run_test<F: FnOnce() -> Result<()>>(body: F) {
    if is_inside() {
        if let Err(error) = furnish().and_then(|()| body()) {
            eprintln!("error: {error:?}");
            process::exit(1);
        }
        process::exit(i32::from(TEST_PASSED));
    }
    let name = test_name(std::any::type_name::<F>());
    let arguments = [
        name,
        "--exact",
        "--include-ignored",
        "--nocapture",
        "--test-threads=1",
    ];
    match supervise(arguments.map(OsString::from).to_vec(), false) {
        Ok(TEST_PASSED) => {}
        Ok(0) => panic!("no test named {name} ran in the sandbox"),
        Ok(status) => panic!("{name} failed in the sandbox (exit status {status})"),
        Err(error) => panic!("{error:?}"),
    }
}

/// `crate::module::test::{{closure}}` is the test runner's `module::test`.
fn test_name(closure: &str) -> &str {
    let path = closure.split_once("::").map_or(closure, |(_, path)| path);
    path.split_once("::{{closure}}")
        .map_or(path, |(path, _)| path)
}

fn is_inside() -> bool {
    getpid() == Pid::from_raw(1) && env::var_os(MARK).is_some()
}

/// Starts the inside and waits for its end.
fn supervise(arguments: Vec<OsString>, with_signals: bool) -> Result<u8> {
    // Before there are new mounts: to these the file of a program in a chroot
    // does not belong.
    let program = env::current_exe().context("cannot find this program's own file")?;
    let inside = Inside::default();
    if with_signals {
        inside.end_on_signals()?;
    }
    // Namespaces are taken by a thread of its own, so that the rest of this
    // program stays where it is.
    let thread = thread::spawn({
        let inside = inside.clone();
        move || inside.run(&program, &arguments)
    });
    thread
        .join()
        .map_err(|_| anyhow!("the sandbox's thread panicked"))?
}

/// The process inside as the outside sees it.
#[derive(Clone, Default)]
struct Inside {
    /// Its process, while it may be signalled.
    pid: Arc<Mutex<Option<Pid>>>,
    /// The signal that the outside ended it for.
    ended_by: Arc<AtomicI32>,
}

impl Inside {
    fn run(&self, program: &Path, arguments: &[OsString]) -> Result<u8> {
        unshare(
            CloneFlags::CLONE_NEWPID
                | CloneFlags::CLONE_NEWNS
                | CloneFlags::CLONE_NEWNET
                | CloneFlags::CLONE_NEWUTS
                | CloneFlags::CLONE_NEWIPC,
        )
        .context("cannot make namespaces for the lab: run it as root")?;
        let mut child = Command::new(program)
            .args(arguments)
            .env(MARK, "1")
            // Held open as long as this process lives; see `die_with_parent`.
            .stdin(Stdio::piped())
            // Ctrl-C goes to the outside alone, which ends everything at once.
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {} in the sandbox", program.display()))?;
        let pid = Pid::from_raw(child.id().cast_signed());
        self.publish(Some(pid));
        if self.ended_by.load(Ordering::SeqCst) != 0 {
            child.kill().context("cannot end the sandbox")?;
        }
        // Dead, but not yet reaped: its number is still its own.
        waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT)
            .context("cannot wait for the sandbox")?;
        self.publish(None);
        let status = child.wait().context("cannot wait for the sandbox")?;
        let signal = match self.ended_by.load(Ordering::SeqCst) {
            0 => status.signal(),
            signal => Some(signal),
        };
        let code = signal.map_or_else(|| status.code().unwrap_or(1), |signal| 128 + signal);
        Ok(u8::try_from(code).unwrap_or(1))
    }

    fn publish(&self, pid: Option<Pid>) {
        *self
            .pid
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner) = pid;
    }

    /// From here on the usual signals to this process end the inside. They are
    /// blocked in every thread and taken by one.
    fn end_on_signals(&self) -> Result<()> {
        let mut signals = SigSet::empty();
        for signal in [
            Signal::SIGINT,
            Signal::SIGTERM,
            Signal::SIGHUP,
            Signal::SIGQUIT,
        ] {
            signals.add(signal);
        }
        signals.thread_block().context("cannot block signals")?;
        let inside = self.clone();
        thread::spawn(move || {
            while let Ok(signal) = signals.wait() {
                inside.ended_by.store(signal as i32, Ordering::SeqCst);
                let pid = inside
                    .pid
                    .lock()
                    .unwrap_or_else(std::sync::PoisonError::into_inner);
                if let Some(pid) = *pid {
                    // Fails only where it has ended already.
                    let _ = kill(pid, Signal::SIGKILL);
                }
            }
        });
        Ok(())
    }
}

/// Makes the inside a place of its own. Only for process 1 of the sandbox.
fn furnish() -> Result<()> {
    die_with_parent()?;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>)
        .context("cannot make the lab's mounts private")?;
    mount_new("proc", "/proc", None)?;
    mount_new("tmpfs", "/run", Some("mode=0755"))?;
    for directory in [DIRECTORY, BPF_FILE_SYSTEM] {
        fs::create_dir_all(directory).with_context(|| format!("cannot make {directory}"))?;
    }
    mount_new("bpf", BPF_FILE_SYSTEM, Some("mode=0700"))?;
    mount_sys()?;
    // Names are resolved from the lab's own files, by nobody outside.
    replace_file("/etc/hosts", "127.0.0.1 localhost\n")?;
    replace_file(
        "/etc/nsswitch.conf",
        "passwd: files\ngroup: files\nhosts: files\nservices: files\n",
    )
}

/// Sets what names the lab's hosts resolve to: lines of `/etc/hosts`.
pub fn set_hosts(lines: &str) -> Result<()> {
    if !is_inside() {
        bail!("/etc/hosts is only written inside the sandbox");
    }
    fs::write("/etc/hosts", format!("127.0.0.1 localhost\n{lines}"))
        .context("cannot write the lab's /etc/hosts")
}

/// Makes `/etc` and `/etc/default` of the sandbox directories that can be written: new ones,
/// in which links lead to what stood there. Before any host is made, which take them over.
pub fn own_etc() -> Result<()> {
    if !is_inside() {
        bail!("/etc is only written inside the sandbox");
    }
    // These stand in front of the machine's own.
    let names = ["hosts", "nsswitch.conf"].map(|name| Path::new("/etc").join(name));
    let own = names.map(|file| (fs::read(&file), file));
    let below = Path::new(DIRECTORY).join("etc");
    fs::create_dir_all(&below).with_context(|| format!("cannot make {}", below.display()))?;
    mount(
        Some("/etc"),
        &below,
        None::<&str>,
        MsFlags::MS_BIND,
        None::<&str>,
    )
    .context("cannot keep the machine's /etc for the lab")?;
    mount_new("tmpfs", "/etc", Some("mode=0755"))?;
    link_all(
        &below,
        Path::new("/etc"),
        &["hosts", "nsswitch.conf", "default"],
    )?;
    let default = Path::new("/etc/default");
    fs::create_dir(default).context("cannot make the lab's /etc/default")?;
    if below.join("default").is_dir() {
        link_all(&below.join("default"), default, &["ipvsadm"])?;
    }
    for (text, file) in own {
        let text = text.with_context(|| format!("cannot read the lab's {}", file.display()))?;
        fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}

/// Makes a directory of programs, such as `/usr/local/bin`, one of the sandbox's own: what is
/// there can be run as ever, and programs can be written there. Before any host is made.
pub fn own_programs(directory: &Path) -> Result<()> {
    if !is_inside() {
        bail!("programs are only written inside the sandbox");
    }
    let place = directory.display();
    let name = directory.to_string_lossy().replace('/', "-");
    let below = Path::new(DIRECTORY).join(format!("below{name}"));
    fs::create_dir_all(&below).with_context(|| format!("cannot make {}", below.display()))?;
    let keep = MsFlags::MS_BIND;
    mount(Some(directory), &below, None::<&str>, keep, None::<&str>)
        .with_context(|| format!("cannot keep the machine's {place} for the lab"))?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    let kind = Some("tmpfs");
    mount(kind, directory, kind, flags, Some("mode=0755"))
        .with_context(|| format!("cannot put a directory of the lab in front of {place}"))?;
    link_all(&below, directory, &[])
}

/// Links from a directory to all that another one has, but for `others`.
fn link_all(there: &Path, here: &Path, others: &[&str]) -> Result<()> {
    let entries =
        fs::read_dir(there).with_context(|| format!("cannot read {}", there.display()))?;
    for entry in entries {
        let name = entry
            .context("cannot read a directory for the lab")?
            .file_name();
        if !others.iter().any(|other| name == *other) {
            let link = here.join(&name);
            symlink(there.join(&name), &link)
                .with_context(|| format!("cannot link {}", link.display()))?;
        }
    }
    Ok(())
}

/// `/sys` of the calling thread's network, with the lab's BPF file system in it.
pub(crate) fn mount_sys() -> Result<()> {
    mount_new("sysfs", "/sys", None)?;
    let bind = MsFlags::MS_BIND;
    mount(
        Some(BPF_FILE_SYSTEM),
        "/sys/fs/bpf",
        None::<&str>,
        bind,
        None::<&str>,
    )
    .context(
        "cannot mount the BPF file system on /sys/fs/bpf: does the kernel have CONFIG_BPF_SYSCALL?",
    )
}

fn mount_new(kind: &str, place: &str, options: Option<&str>) -> Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some(kind), place, Some(kind), flags, options)
        .with_context(|| format!("cannot mount a new {kind} on {place} for the lab"))
}

/// Puts a file with this text in front of `place`, for the sandbox alone.
fn replace_file(place: &str, text: &str) -> Result<()> {
    let name = Path::new(place).file_name().unwrap_or_default();
    let source = Path::new(DIRECTORY).join(name);
    fs::write(&source, text).with_context(|| format!("cannot write {}", source.display()))?;
    mount(
        Some(&source),
        place,
        None::<&str>,
        MsFlags::MS_BIND,
        None::<&str>,
    )
    .with_context(|| format!("cannot put a file of the lab in front of {place}: is it there?"))
}

/// Ends this process, and with it the sandbox, when the program outside ends.
///
/// The kernel's parent-death signal does it; it is not sent for a parent that
/// died before it was asked for, which the closed standard input tells.
fn die_with_parent() -> Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL).context("cannot ask for the parent-death signal")?;
    let (ready, wait) = mpsc::channel();
    thread::spawn(move || {
        let mut byte = [0];
        let _ = ready.send(());
        while !matches!(io::stdin().read(&mut byte), Ok(0) | Err(_)) {}
        process::exit(1);
    });
    wait.recv().context("cannot watch the program outside")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tests_name_comes_from_its_closure() {
        assert_eq!(test_name("lab::netns::pings::{{closure}}"), "netns::pings");
        assert_eq!(test_name("lab_case1::passes::{{closure}}"), "passes");
    }

    #[test]
    fn the_world_inside_is_new() {
        run_test(|| {
            assert_eq!(getpid(), Pid::from_raw(1));
            let links: Vec<_> = fs::read_dir("/sys/class/net")?.collect();
            assert_eq!(links.len(), 1, "only lo: {links:?}");
            assert!(!Path::new("/sys/fs/bpf/evenkeel").exists());
            assert!(!Path::new("/run/netns").exists());
            Ok(())
        });
    }

    #[test]
    #[should_panic(expected = "failed in the sandbox")]
    fn an_error_inside_fails_the_test_outside() {
        run_test(|| bail!("as it should"));
    }
}
