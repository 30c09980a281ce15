//! The machine that is measured on, and how busy others keep it.

use std::fmt;
use std::fs;
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::measure::float;

/// How long is looked whether others use the CPUs.
const LOOK: Duration = Duration::from_millis(200);
/// How often, as long as they do.
const LOOKS: usize = 3;
/// Share of all CPUs that others may use, in percent, for a quiet machine.
pub(crate) const QUIET: f64 = 10.0;

/// What a reader has to know about the machine.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    /// When, in UTC.
    pub(crate) date: String,
    facts: Vec<(&'static str, String)>,
}

impl Machine {
    /// This one, now.
    pub(crate) fn look() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let cpu_info = read("/proc/cpuinfo");
        let cpus = cpu_info
            .lines()
            .filter(|line| line.starts_with("processor"))
            .count();
        let memory_kb = field(&read("/proc/meminfo"), "MemTotal")
            .and_then(|text| text.trim_end_matches(" kB").parse::<u64>().ok())
            .unwrap_or(0);
        let kernel = read("/proc/sys/kernel/osrelease").trim().to_owned();
        let system = read("/etc/os-release");
        let system = system
            .lines()
            .find_map(|line| line.strip_prefix("PRETTY_NAME="))
            .unwrap_or("unknown");
        let evenkeel = format!(
            "{} (commit {})",
            env!("CARGO_PKG_VERSION"),
            first_line("git", &["rev-parse", "--short=12", "HEAD"])
        );
        Self {
            date: first_line("date", &["-u", "+%Y-%m-%d %H:%M UTC"]),
            facts: vec![
                ("Evenkeel", evenkeel),
                (
                    "CPU",
                    format!(
                        "{cpus} x {}",
                        field(&cpu_info, "model name").unwrap_or("unknown")
                    ),
                ),
                ("Memory", format!("{} MB", memory_kb / 1024)),
                ("Kernel", kernel),
                ("Mitigations", mitigations()),
                ("System", system.trim_matches('"').into()),
                ("nftables", first_line("nft", &["--version"])),
                ("HAProxy", first_line("haproxy", &["-v"])),
                ("nginx", first_line("nginx", &["-v"])),
                ("iperf3", first_line("iperf3", &["--version"])),
                ("wrk", first_line("wrk", &["--version"])),
            ],
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| machine | |\n| --- | --- |")?;
        for (name, value) in &self.facts {
            writeln!(f, "| {name} | {value} |")?;
        }
        Ok(())
    }
}

/// The value behind a name and a colon.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim())
    })
}

/// Against what the CPU is protected: it makes calls and returns dearer.
fn mitigations() -> String {
    let Ok(files) = fs::read_dir("/sys/devices/system/cpu/vulnerabilities") else {
        return "unknown".into();
    };
    let mut active: Vec<String> = files
        .filter_map(|file| {
            let path = file.ok()?.path();
            let state = fs::read_to_string(&path).ok()?;
            let what = state.trim().strip_prefix("Mitigation: ")?;
            let name = path.file_name()?.to_string_lossy().into_owned();
            Some(format!("{name}: {what}"))
        })
        .collect();
    active.sort();
    if active.is_empty() {
        "none".into()
    } else {
        active.join("; ")
    }
}

/// What a program writes first, to standard output or else to standard error.
fn first_line(program: &str, arguments: &[&str]) -> String {
    let Ok(output) = Command::new(program).args(arguments).output() else {
        return "not installed".into();
    };
    let text = if output.stdout.is_empty() {
        output.stderr
    } else {
        output.stdout
    };
    let text = String::from_utf8_lossy(&text);
    text.lines().next().unwrap_or("unknown").trim().into()
}

/// Time that all CPUs have spent, in ticks of the kernel.
#[derive(Clone, Copy, Debug)]
struct CpuTime {
    busy: u64,
    all: u64,
}

impl CpuTime {
    fn now() -> Result<Self> {
        let text = fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
        Self::parse(&text).context("/proc/stat has no line for all CPUs")
    }

    /// The first line: user, nice, system, idle, iowait, irq, softirq, steal.
    fn parse(text: &str) -> Option<Self> {
        let line = text.lines().next()?.strip_prefix("cpu ")?;
        let times: Vec<u64> = line
            .split_whitespace()
            .filter_map(|word| word.parse().ok())
            .collect();
        let idle = times.get(3)? + times.get(4)?;
        // What guests took is part of user's.
        let all: u64 = times.iter().take(8).sum();
        Some(Self {
            busy: all - idle,
            all,
        })
    }

    fn busy_percent_since(self, before: Self) -> f64 {
        let (busy, all) = (self.busy - before.busy, self.all - before.all);
        if all == 0 {
            0.0
        } else {
            100.0 * float(busy) / float(all)
        }
    }
}

/// How much of all CPUs others use, in percent. Looks again, some times, as long as
/// it is much.
pub(crate) fn others_percent() -> Result<f64> {
    let mut percent = 100.0;
    for _ in 0..LOOKS {
        let before = CpuTime::now()?;
        thread::sleep(LOOK);
        percent = CpuTime::now()?.busy_percent_since(before);
        if percent <= QUIET {
            break;
        }
    }
    Ok(percent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_is_all_but_idle_and_waiting() {
        let before = CpuTime::parse("cpu  10 0 10 70 10 0 0 0 0 0\ncpu0 1\n");
        let after = CpuTime::parse("cpu  20 0 20 130 20 5 5 0 9 9\n");
        let percent = after
            .zip(before)
            .map(|(after, before)| after.busy_percent_since(before));
        assert_eq!(percent, Some(30.0));
        assert!(CpuTime::parse("intr 0").is_none());
    }

    #[test]
    fn fields_are_found_by_name() {
        assert_eq!(field("a\t: b c\nd: e", "a"), Some("b c"));
        assert_eq!(field("a: b", "b"), None);
    }
}
