//! Programs on loopback, and checks of them.

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use evenkeel_core::model::{Alerts, Connect, HttpProbe, HttpVersion, Page, Probe, Tls};
use evenkeel_core::probe::Verdict;
use evenkeel_daemon::checks::{self, Context};
use evenkeel_daemon::script::Scripts;
use evenkeel_lab::{sandbox, wait};
use nix::unistd::User;

/// Longest that a program may take to come up.
const START: Duration = Duration::from_mins(1);
/// Time of checks that are answered.
pub(crate) const LONG: Duration = Duration::from_secs(30);
/// Time of checks that are not.
pub(crate) const SHORT: Duration = Duration::from_millis(300);

/// Whom programs run as that refuse to be root.
const NOBODY: &str = "nobody";

/// A sandbox with loopback, and what runs checks there.
pub(crate) struct Bench {
    runtime: tokio::runtime::Runtime,
    context: Context,
}

impl Bench {
    pub(crate) fn new() -> Result<Self> {
        run(Command::new("ip").args(["link", "set", "lo", "up"]), "")?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        Ok(Self {
            runtime,
            context: Context::new(Scripts::new(&Alerts::default()), 1024),
        })
    }

    pub(crate) fn check(&self, probe: &Probe) -> Verdict {
        self.runtime.block_on(checks::run(probe, &self.context))
    }

    /// What is said of a good server, as soon as it is one.
    pub(crate) fn becomes_good(&self, probe: &Probe, peer: &mut Peer) -> Result<String> {
        let good = wait::until(START, "a good server", || match self.check(probe) {
            Verdict::Passed(words) => Ok(words),
            other => match peer.child.try_wait() {
                Ok(Some(status)) => Ok(format!("({} has ended: {status})", peer.name)),
                _ => Err(format!("{other:?}")),
            },
        });
        match good {
            Ok(words) if !words.starts_with('(') => Ok(words),
            other => bail!("{other:?}\n{}", peer.log()),
        }
    }

    /// What is said of a good server that is known to be up.
    pub(crate) fn passes(&self, probe: &Probe) -> Result<String> {
        match self.check(probe) {
            Verdict::Passed(words) => Ok(words),
            other => bail!("{other:?} of {probe:?}"),
        }
    }

    /// What is said of a bad one.
    pub(crate) fn fails(&self, probe: &Probe) -> Result<String> {
        match self.check(probe) {
            Verdict::Failed(reason) => Ok(reason),
            other => bail!("{other:?} of {probe:?}"),
        }
    }
}

/// A program that runs until it is dropped.
pub(crate) struct Peer {
    name: String,
    child: Child,
}

impl Peer {
    pub(crate) fn start(name: &str, command: &mut Command) -> Result<Self> {
        let log = fs::File::create(log(name))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        Ok(Self {
            name: name.into(),
            child,
        })
    }

    fn log(&self) -> String {
        fs::read_to_string(log(&self.name)).unwrap_or_default()
    }

    /// Kills it, and waits for its end.
    pub(crate) fn end(mut self) {
        self.stop();
    }

    fn stop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.stop();
    }
}

fn log(name: &str) -> PathBuf {
    file(&format!("{name}.log"))
}

/// A file of the sandbox.
pub(crate) fn file(name: &str) -> PathBuf {
    Path::new(sandbox::DIRECTORY).join(name)
}

/// Writes a file of the sandbox.
pub(crate) fn write(name: &str, text: &str) -> Result<PathBuf> {
    let path = file(name);
    fs::write(&path, text)?;
    Ok(path)
}

/// A new directory that belongs to nobody, who gets the command as well.
pub(crate) fn given_away(name: &str) -> Result<PathBuf> {
    let path = file(name);
    fs::create_dir(&path)?;
    let nobody = User::from_name(NOBODY)?.context("there is no user nobody")?;
    nix::unistd::chown(&path, Some(nobody.uid), Some(nobody.gid))?;
    Ok(path)
}

/// Lets a command run as nobody.
pub(crate) fn unprivileged(command: &mut Command) -> Result<&mut Command> {
    let nobody = User::from_name(NOBODY)?.context("there is no user nobody")?;
    Ok(command
        .uid(nobody.uid.as_raw())
        .gid(nobody.gid.as_raw())
        .current_dir("/"))
}

/// Runs a program to its end.
pub(crate) fn run(command: &mut Command, input: &str) -> Result<()> {
    let name = command.get_program().to_owned();
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {}", name.display()))?;
    if let Some(mut stdin) = child.stdin.take() {
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output()?;
    ensure!(
        output.status.success(),
        "{}: {}{}",
        name.display(),
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

pub(crate) fn loopback(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

pub(crate) fn connect(port: u16) -> Connect {
    Connect::to(loopback(port), LONG)
}

/// A page whose body matches an expression.
pub(crate) fn page(port: u16, tls: Option<Tls>, host: Option<&str>, regex: &str) -> Probe {
    Probe::Http(HttpProbe {
        connect: connect(port),
        tls,
        version: HttpVersion::V1_0,
        pages: vec![Page {
            path: "/".into(),
            headers: Vec::new(),
            json: Vec::new(),
            host: host.map(str::to_owned),
            statuses: Vec::new(),
            digest: None,
            regex: Some(evenkeel_core::model::PageRegex {
                pattern: regex.into(),
                options: Vec::new(),
                absent: false,
                min_offset: 0,
                max_offset: 0,
            }),
        }],
        fast_recovery: false,
    })
}
