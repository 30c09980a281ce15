//! Running things on a host of a lab.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::thread;

use anyhow::{Context, Result, anyhow};
use nix::sched::{CloneFlags, CpuSet, sched_setaffinity, setns, unshare};
use nix::sys::signal::SigSet;
use nix::unistd::Pid;

use crate::sandbox;

/// A host: a network namespace and a name. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Host {
    name: String,
    hostname: String,
    network: Arc<File>,
    cpu: Option<usize>,
}

impl Host {
    /// A host in the namespace that `ip netns add` made under this name.
    pub(crate) fn open(name: &str, hostname: &str) -> Result<Self> {
        let path = Path::new("/run/netns").join(name);
        let network =
            File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
        Ok(Self {
            name: name.into(),
            hostname: hostname.into(),
            network: network.into(),
            cpu: None,
        })
    }

    /// Its name in the topology.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The same host, but what is started through this value runs on one CPU.
    #[must_use]
    pub fn on_cpu(&self, cpu: usize) -> Self {
        Self {
            cpu: Some(cpu),
            ..self.clone()
        }
    }

    /// Calls `work` in the host's network, in a thread of its own. Sockets made
    /// there stay in that network.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        thread::scope(|scope| {
            let thread = scope.spawn(|| -> Result<T> {
                self.enter_network()?;
                Ok(work())
            });
            thread
                .join()
                .map_err(|_| anyhow!("a thread on host {} panicked", self.name))?
        })
    }

    /// Starts a program on the host, with the host's own `/sys` and name.
    /// Standard input is empty unless `command` says otherwise.
    pub fn spawn(&self, command: &mut Command) -> Result<Child> {
        self.start(command, Command::spawn)
    }

    /// Runs a program on the host to its end, and gives what it wrote.
    pub fn output(&self, command: &mut Command) -> Result<Output> {
        self.start(command, |command| command.stdin(Stdio::null()).output())
    }

    fn start<T: Send>(
        &self,
        command: &mut Command,
        start: impl FnOnce(&mut Command) -> std::io::Result<T> + Send,
    ) -> Result<T> {
        let program = command.get_program().to_owned();
        self.within(|| {
            self.enter_machine()?;
            start(command)
                .with_context(|| format!("cannot run {} on host {}", program.display(), self.name))
        })?
    }

    fn enter_network(&self) -> Result<()> {
        setns(&self.network, CloneFlags::CLONE_NEWNET)
            .with_context(|| format!("cannot enter the network of host {}", self.name))
    }

    /// What else tells a host from another. `/sys` shows the network of whoever
    /// mounted it, hence one for each.
    fn enter_machine(&self) -> Result<()> {
        // The sandbox's own program leaves signals to the one outside; what runs on a host
        // has to be ended by them.
        SigSet::empty()
            .thread_set_mask()
            .context("cannot unblock signals")?;
        unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS)
            .with_context(|| format!("cannot make namespaces for host {}", self.name))?;
        sandbox::mount_sys()?;
        fs::write("/proc/sys/kernel/hostname", &self.hostname)
            .with_context(|| format!("cannot name host {}", self.name))?;
        let Some(cpu) = self.cpu else { return Ok(()) };
        let mut cpus = CpuSet::new();
        cpus.set(cpu)
            .and_then(|()| sched_setaffinity(Pid::from_raw(0), &cpus))
            .with_context(|| format!("cannot pin a program to CPU {cpu}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::{HostSpec, Topology};

    #[test]
    fn a_program_sees_its_own_host() {
        sandbox::run_test(|| {
            let spec = HostSpec {
                name: "alone".into(),
                hostname: "Load-Balancer".into(),
                interfaces: Vec::new(),
                gateway: None,
            };
            let hosts = Topology {
                segments: Vec::new(),
                hosts: vec![spec],
            }
            .build()?;
            let script = "hostname; ls /sys/class/net; cat /proc/sys/net/ipv4/ip_forward; \
                          echo 1 > /proc/sys/net/ipv4/ip_forward; mkdir /sys/fs/bpf/pin; \
                          grep Cpus_allowed_list /proc/self/status";
            let output = hosts[0]
                .on_cpu(0)
                .output(Command::new("sh").args(["-c", script]))?;
            assert_eq!(
                String::from_utf8_lossy(&output.stdout),
                "Load-Balancer\nlo\n0\nCpus_allowed_list:\t0\n",
                "{}",
                String::from_utf8_lossy(&output.stderr)
            );
            assert_eq!(fs::read_to_string("/proc/sys/net/ipv4/ip_forward")?, "0\n");
            assert_eq!(
                hosts[0].within(|| fs::read_to_string("/proc/sys/net/ipv4/ip_forward"))??,
                "1\n"
            );
            assert!(
                Path::new("/sys/fs/bpf/pin").exists(),
                "one BPF file system for all hosts"
            );
            Ok(())
        });
    }
}
