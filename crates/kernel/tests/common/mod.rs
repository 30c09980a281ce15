//! A network namespace and a BPF file system for one test.
//!
//! Both belong to the thread that runs the test and are gone with it, however it
//! ends.
#![allow(dead_code, reason = "each test binary uses its part of this")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use evenkeel_kernel::Result;
use evenkeel_kernel::dataplane::{Dataplane, Opened};
use evenkeel_kernel::network::{Link, links};
use evenkeel_kernel::sizes::Settings;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

/// How long a condition is waited for, on an emulated machine as well.
pub(crate) const DEADLINE: Duration = Duration::from_mins(1);

/// Runs `test` on a thread with namespaces of its own, or says why it can't. The
/// directory is where an instance may be pinned.
pub(crate) fn isolated(test: impl FnOnce(&Path) + Send + 'static) {
    if !evenkeel_kernel::system::is_root() {
        println!("skipped: namespaces and BPF take root");
        return;
    }
    let thread = std::thread::spawn(move || test(&enter()));
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn enter() -> PathBuf {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).unwrap();
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
    // Over something that is there in every root file system.
    mount(Some("bpf"), "/mnt", Some("bpf"), MsFlags::empty(), none).unwrap();
    PathBuf::from("/mnt/evenkeel/test")
}

/// Capacities that make a few hundred kilobytes.
pub(crate) const SMALL: Settings = Settings {
    connections: 4096,
    wide_connections: 4096,
    services: 8,
    servers: 32,
    ring_words: 128,
    seed: None,
};

/// The BPF object, as the build finds it.
pub(crate) fn object() -> Vec<u8> {
    let path = std::env::var("EVENKEEL_BPF_OBJECT").unwrap_or_else(|_| {
        concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../target/bpf/evenkeel.bpf.o"
        )
        .into()
    });
    std::fs::read(path).unwrap()
}

/// Opens an instance with [`SMALL`] capacities.
pub(crate) fn try_open(pins: &Path) -> Result<(Dataplane, Opened)> {
    Dataplane::open_object(pins, &SMALL, &object())
}

/// [`try_open`], where nothing can go wrong.
pub(crate) fn open(pins: &Path) -> Dataplane {
    try_open(pins).unwrap().0
}

/// Runs `ip`, in this thread's network namespace.
pub(crate) fn ip(arguments: &str) {
    run("ip", arguments);
}

/// Runs a command; its output.
pub(crate) fn run(program: &str, arguments: &str) -> String {
    let output = Command::new(program)
        .args(arguments.split_whitespace())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{program} {arguments}: {error}");
    text
}

/// The link of this name.
pub(crate) fn link(name: &str) -> Link {
    links()
        .unwrap()
        .into_iter()
        .find(|link| link.name == name)
        .unwrap()
}

/// Waits until `condition` holds.
pub(crate) fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::yield_now();
    }
}
