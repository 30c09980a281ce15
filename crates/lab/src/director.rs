//! A host that runs Evenkeel, and its administrator's commands.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use evenkeel_api::paths;

use crate::host::Host;
use crate::process::Process;
use crate::{sandbox, wait};

/// Longest a question to the daemon may take.
const ANSWER: Duration = Duration::from_secs(10);

/// A director: a host with the daemon on it, and `ipvsadm` on its PATH.
#[derive(Debug)]
pub struct Director {
    host: Host,
    program: PathBuf,
    instance: String,
    search_path: String,
    configuration: Option<PathBuf>,
    arguments: Vec<String>,
    daemon: Option<Process>,
}

/// What a command wrote, and how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// Exit status; 128 and the signal where one ended it.
    pub status: i32,
}

/// A server's line in the listing of `ipvsadm -ln`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerLine {
    /// The real server.
    pub address: SocketAddr,
    /// Its weight.
    pub weight: u32,
    /// Connections in state established.
    pub active: u32,
    /// Connections in every other state.
    pub inactive: u32,
}

impl Director {
    /// A director on `host` whose daemon is `program`; nothing is started yet.
    pub fn new(host: Host, program: &Path, instance: &str) -> Result<Self> {
        let bin = Path::new(sandbox::DIRECTORY).join(format!("bin-{}", host.name()));
        fs::create_dir_all(&bin).with_context(|| format!("cannot make {}", bin.display()))?;
        let names = [
            "evenkeel",
            "ipvsadm",
            "ipvsadm-save",
            "ipvsadm-restore",
            "genhash",
        ];
        for name in names {
            symlink(program, bin.join(name)).with_context(|| format!("cannot link {name}"))?;
        }
        let rest = env::var("PATH").unwrap_or_default();
        let search_path = format!("{}:{rest}:/usr/sbin:/usr/bin:/sbin:/bin", bin.display());
        let (program, instance) = (program.into(), instance.into());
        Ok(Self {
            host,
            program,
            instance,
            search_path,
            configuration: None,
            arguments: Vec::new(),
            daemon: None,
        })
    }

    /// Gives the daemon a configuration file with this text when it is started.
    pub fn configure(&mut self, text: &str) -> Result<()> {
        let file = Path::new(sandbox::DIRECTORY).join(format!("{}.toml", self.host.name()));
        fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
        self.configuration = Some(file);
        Ok(())
    }

    /// Gives `evenkeel run` these arguments from its next start on.
    pub fn run_with(&mut self, arguments: &[&str]) {
        self.arguments = arguments.iter().map(|&word| word.into()).collect();
    }

    /// Its host.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Starts `evenkeel run` and waits until its socket answers.
    pub fn start_daemon(&mut self, deadline: Duration) -> Result<()> {
        let mut command = Command::new(&self.program);
        command
            .arg("run")
            .args(&self.arguments)
            .env(paths::INSTANCE_VARIABLE, &self.instance);
        if let Some(file) = &self.configuration {
            command.arg("--config").arg(file);
        }
        let log = format!("evenkeel-{}", self.host.name());
        let daemon = self
            .daemon
            .insert(Process::start(&self.host, &log, &mut command)?);
        let socket = paths::socket(&self.instance);
        let mut ended = None;
        wait::until(deadline, "the daemon to answer", || {
            if ended.is_none() {
                ended = daemon.ended().map_err(|error| error.to_string())?;
            }
            match ended {
                // Not an answer, but no reason to wait on either.
                Some(status) => Ok(Err(format!("the daemon ended with {status}"))),
                None => ask(&socket).map(Ok).map_err(|error| error.to_string()),
            }
        })
        .and_then(|answer| answer.map_err(anyhow::Error::msg))
        .with_context(|| format!("evenkeel run does not work\n{}", daemon.log_tail(15)))
    }

    /// The end of the daemon's log, for an error message.
    #[must_use]
    pub fn log_tail(&self) -> String {
        self.daemon
            .as_ref()
            .map_or_else(String::new, |daemon| daemon.log_tail(15))
    }

    /// `kill -9` of the daemon.
    pub fn kill_daemon(&mut self) -> Result<()> {
        match &mut self.daemon {
            Some(daemon) => daemon.kill_hard(),
            None => bail!("no daemon was started on {}", self.host.name()),
        }
    }

    /// Runs a line as the administrator's shell does.
    pub fn shell(&self, line: &str) -> Result<Output> {
        let mut command = Command::new("sh");
        command
            .args(["-c", line])
            .env("PATH", &self.search_path)
            .env(paths::INSTANCE_VARIABLE, &self.instance);
        let output = self.host.output(&mut command)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let status = output.status.code().unwrap_or_else(|| {
            128 + std::os::unix::process::ExitStatusExt::signal(&output.status).unwrap_or(0)
        });
        Ok(Output {
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
            status,
        })
    }

    /// The servers as `ipvsadm -ln` lists them, and the whole listing.
    pub fn servers(&self) -> Result<(Vec<ServerLine>, String)> {
        let output = self.shell("ipvsadm -ln")?;
        if output.status != 0 || !output.stderr.is_empty() {
            bail!("ipvsadm -ln failed: {output}");
        }
        Ok((server_lines(&output.stdout)?, output.stdout))
    }
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.stdout)?;
        f.write_str(&self.stderr)?;
        if self.status != 0 {
            writeln!(f, "(exit status {})", self.status)?;
        }
        Ok(())
    }
}

/// The lines `  -> ADDRESS  FORWARD WEIGHT ACTIVE INACTIVE`.
fn server_lines(listing: &str) -> Result<Vec<ServerLine>> {
    // The three lines above are the header; its third begins with the arrow, too.
    let lines = listing.lines().skip(3);
    lines
        .filter_map(|line| line.strip_prefix("  -> "))
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let &[address, _, weight, active, inactive] = words.as_slice() else {
                bail!("not a server's line: {line:?}");
            };
            Ok(ServerLine {
                address: address
                    .parse()
                    .with_context(|| format!("not an address: {line:?}"))?,
                weight: weight
                    .parse()
                    .with_context(|| format!("no weight: {line:?}"))?,
                active: active
                    .parse()
                    .with_context(|| format!("no ActiveConn: {line:?}"))?,
                inactive: inactive
                    .parse()
                    .with_context(|| format!("no InActConn: {line:?}"))?,
            })
        })
        .collect()
}

/// Asks the daemon behind `socket` how it is.
fn ask(socket: &Path) -> Result<()> {
    let mut stream = UnixStream::connect(socket)
        .with_context(|| format!("cannot connect to {}", socket.display()))?;
    stream.set_read_timeout(Some(ANSWER))?;
    let mut request = String::new();
    let _ = write!(
        request,
        "GET /v1/status HTTP/1.1\r\nHost: evenkeel\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes())?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    match line.split(' ').nth(1) {
        Some("200") => Ok(()),
        _ => bail!("it answers {:?}", line.trim()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_listing_is_read_back() -> Result<()> {
        let listing = "IP Virtual Server version 1.2.1 (size=4096)\n\
            Prot LocalAddress:Port Scheduler Flags\n  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn\n\
            TCP  192.16.193.30:80 rr\n  -> 172.16.193.10:80             Masq    1      2          3         \n";
        let line = ServerLine {
            address: ([172, 16, 193, 10], 80).into(),
            weight: 1,
            active: 2,
            inactive: 3,
        };
        assert_eq!(server_lines(listing)?, vec![line]);
        assert!(server_lines(&listing.replace("Masq    1", "Masq")).is_err());
        Ok(())
    }
}
