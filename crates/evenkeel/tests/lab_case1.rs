//! `evenkeel lab case1` as a user runs it: every point holds, and nothing is
//! left behind however it ends.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use evenkeel_lab::wait;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

/// The line after which network, servers and daemon are all there.
const UP: &str = "== The administrator's commands";
/// Longest that the end may take once it was asked for.
const END: Duration = Duration::from_secs(10);

/// Network namespace, mount namespace and processes of a running lab, and what
/// the machine looked like before it.
struct Lab {
    child: Child,
    output: BufReader<ChildStdout>,
    before: Machine,
    processes: BTreeSet<(i32, String)>,
    namespaces: BTreeSet<PathBuf>,
}

/// What a lab must not change outside.
#[derive(Debug, PartialEq, Eq)]
struct Machine {
    mounts: String,
    names: Vec<PathBuf>,
}

fn is_a_tests(path: &Path) -> bool {
    path.file_name()
        .is_some_and(|name| name.to_string_lossy().starts_with("test"))
}

impl Machine {
    fn look() -> Result<Self> {
        let names = [
            "/run/netns",
            "/run/evenkeel",
            "/run/lab",
            "/sys/fs/bpf/evenkeel",
        ]
        .iter()
        .filter_map(|place| fs::read_dir(place).ok())
        .flatten()
        .map(|entry| entry.map(|entry| entry.path()))
        // Of tests that run at the same time.
        .filter(|path| !path.as_ref().is_ok_and(|path| is_a_tests(path)))
        .collect::<Result<_, _>>()?;
        Ok(Self {
            mounts: fs::read_to_string("/proc/self/mountinfo")?,
            names,
        })
    }
}

impl Lab {
    /// Starts one as a terminal would, in a process group of its own, and waits
    /// until all of it runs.
    fn start() -> Result<Self> {
        let before = Machine::look()?;
        let mut child = Command::new(env!("CARGO_BIN_EXE_evenkeel"))
            .args(["lab", "case1"])
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()?;
        let mut output = BufReader::new(child.stdout.take().context("no output")?);
        let mut line = String::new();
        let mut seen = String::new();
        while !line.starts_with(UP) {
            line.clear();
            if output.read_line(&mut line)? == 0 {
                bail!("the lab ended before it was up:\n{seen}");
            }
            seen += &line;
        }
        let own = fs::read_link("/proc/self/ns/net")?;
        let all = descendants(pid(&child).as_raw())?;
        let mut namespaces: BTreeSet<_> = all.iter().filter_map(|(pid, _)| network(*pid)).collect();
        namespaces.remove(&own);
        // Outside and inside; two Apaches and the daemon at least; three hosts and the sandbox.
        assert!(
            all.len() >= 5 && namespaces.len() >= 4,
            "{all:?} {namespaces:?}"
        );
        Ok(Self {
            child,
            output,
            before,
            processes: all,
            namespaces,
        })
    }

    fn end(&mut self) -> Result<ExitStatus> {
        wait::until(END, "the lab's end", || match self.child.try_wait() {
            Ok(Some(status)) => Ok(status),
            other => Err(format!("{other:?}")),
        })
    }

    /// Waits until all of it is gone; the kernel takes it down by itself.
    fn expect_nothing_left(mut self) -> Result<()> {
        self.output.read_to_string(&mut String::new())?;
        wait::until(END, "the lab's processes and namespaces to go", || {
            let now = processes().map_err(|error| error.to_string())?;
            let left: Vec<_> = self.processes.iter().filter(|p| now.contains(p)).collect();
            let used: Vec<_> = now
                .iter()
                .filter_map(|(pid, _)| network(*pid))
                .filter(|n| self.namespaces.contains(n))
                .collect();
            if left.is_empty() && used.is_empty() {
                Ok(())
            } else {
                Err(format!("{left:?} {used:?}"))
            }
        })?;
        assert_eq!(Machine::look()?, self.before);
        Ok(())
    }
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(child.id().cast_signed())
}

fn network(pid: i32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/ns/net")).ok()
}

/// Every process: its number, and when it started, since numbers are used again.
fn processes() -> Result<BTreeSet<(i32, String)>> {
    Ok(stats()?
        .into_iter()
        .map(|(pid, _, start)| (pid, start))
        .collect())
}

fn descendants(of: i32) -> Result<BTreeSet<(i32, String)>> {
    let stats = stats()?;
    let mut family = BTreeSet::from([of]);
    loop {
        let size = family.len();
        family.extend(
            stats
                .iter()
                .filter(|(_, parent, _)| family.contains(parent))
                .map(|(pid, ..)| *pid)
                .collect::<Vec<_>>(),
        );
        if family.len() == size {
            break;
        }
    }
    Ok(stats
        .into_iter()
        .filter(|(pid, ..)| family.contains(pid))
        .map(|(pid, _, start)| (pid, start))
        .collect())
}

/// Number, parent and start time of each process that is not a zombie.
fn stats() -> Result<Vec<(i32, i32, String)>> {
    let mut all = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let path = entry?.path();
        let Some(pid) = path
            .file_name()
            .and_then(|name| name.to_str()?.parse().ok())
        else {
            continue;
        };
        // A process may end while it is looked at.
        let Ok(text) = fs::read_to_string(Path::join(&path, "stat")) else {
            continue;
        };
        let Some((_, rest)) = text.rsplit_once(") ") else {
            continue;
        };
        let words: Vec<&str> = rest.split(' ').collect();
        if let &[state, parent, ..] = words.as_slice()
            && state != "Z"
        {
            all.push((pid, parent.parse()?, words[19].to_string()));
        }
    }
    Ok(all)
}

#[test]
fn every_point_holds() -> Result<()> {
    let before = Machine::look()?;
    let output = Command::new(env!("CARGO_BIN_EXE_evenkeel"))
        .args(["lab", "case1"])
        .output()?;
    let text = String::from_utf8(output.stdout)?;
    println!("{text}");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let passed = text
        .lines()
        .filter(|line| line.starts_with("PASS "))
        .count();
    assert_eq!(
        text.lines().last(),
        Some(format!("{passed} passed, 0 failed").as_str())
    );
    for point in ["PASS 1 ", "PASS 2 ", "PASS 3 "] {
        assert!(text.contains(point), "{point}");
    }
    assert_eq!(Machine::look()?, before);
    Ok(())
}

#[test]
fn ctrl_c_leaves_nothing() -> Result<()> {
    let mut lab = Lab::start()?;
    killpg(pid(&lab.child), Signal::SIGINT)?;
    assert_eq!(lab.end()?.code(), Some(130));
    lab.expect_nothing_left()
}

#[test]
fn kill_9_of_the_command_leaves_nothing() -> Result<()> {
    let mut lab = Lab::start()?;
    kill(pid(&lab.child), Signal::SIGKILL)?;
    assert_eq!(lab.end()?.signal(), Some(9));
    lab.expect_nothing_left()
}

#[test]
fn kill_9_of_the_inside_leaves_nothing() -> Result<()> {
    let mut lab = Lab::start()?;
    let outside = pid(&lab.child).as_raw();
    let stats = stats()?;
    let inside = stats
        .iter()
        .find(|(_, parent, _)| *parent == outside)
        .context("no inside")?
        .0;
    kill(Pid::from_raw(inside), Signal::SIGKILL)?;
    assert_eq!(lab.end()?.code(), Some(137));
    lab.expect_nothing_left()
}

#[test]
fn a_lab_without_its_server_says_what_is_missing() -> Result<()> {
    let output = Command::new("unshare")
        .args([
            "--mount",
            "sh",
            "-c",
            "mount --bind /dev/null /usr/sbin/apache2 && exec \"$0\" lab case1",
        ])
        .arg(env!("CARGO_BIN_EXE_evenkeel"))
        .output()?;
    let text = String::from_utf8(output.stdout)?;
    assert_eq!(output.status.code(), Some(1));
    assert!(text.contains("apache2-bin"), "{text}");
    assert_eq!(text.lines().last(), Some("0 passed, 1 failed"));
    Ok(())
}
