//! Scripts of the configuration: programs that run without a shell, as a user of their own,
//! for a limited time, and end with everything that they have started.

mod locate;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use evenkeel_core::model::{Alerts, Script, User};
use evenkeel_kernel::process::{self, Ending, Identity};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use tokio::process::{Child, Command};

/// Whose scripts run as this user that name no other, where there is such a user.
const DEFAULT_USER: &str = "keepalived_script";

/// How long a script that was asked to end may take before it is killed.
const GRACE: Duration = Duration::from_secs(2);

/// How much of what a script writes is kept, bytes.
const OUTPUT_MAX: usize = 1024;

/// How scripts are run: as whom, and which ones not.
#[derive(Debug)]
pub struct Scripts {
    user: Option<User>,
    secure: bool,
    // Users are looked up once for a configuration: it may take other machines to answer.
    known: Mutex<HashMap<Option<User>, Result<Identity, String>>>,
}

/// How a script ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// In which way.
    pub end: End,
    /// The first of what it wrote to its standard output and error output, where that was
    /// asked for.
    pub output: String,
}

/// In which way a script ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With this status, 0 to 255.
    Exit(u8),
    /// By this signal of another's.
    Signal(i32),
    /// It was not done within this time, and was killed.
    Late(Duration),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exit(status) => write!(f, "exit status {status}"),
            Self::Signal(signal) => write!(f, "ended by signal {signal}"),
            Self::Late(limit) => write!(f, "killed: not done within {} s", limit.as_secs_f64()),
        }
    }
}

/// What to do about a run's output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// It goes nowhere. What the script leaves running writes nowhere as well.
    Discard,
    /// The first of it is kept.
    Keep,
}

/// A script that was found, with whom it runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The file that is run.
    pub file: PathBuf,
    /// Its name as the configuration has it, and its arguments.
    command: Vec<String>,
    /// Whom it runs as.
    pub identity: Identity,
    /// How others than root can change what is run here as root; none: they can't, or it is
    /// not run as root.
    pub unsafe_because: Option<String>,
}

impl Scripts {
    /// As the configuration says.
    #[must_use]
    pub fn new(alerts: &Alerts) -> Arc<Self> {
        Arc::new(Self {
            user: alerts.script_user.clone(),
            secure: alerts.script_security,
            known: Mutex::default(),
        })
    }

    /// Runs a script until it ends, at most for `limit`. It starts in `/`, without input,
    /// with the daemon's environment. When its time is over its process group is asked to
    /// end, and killed two seconds later; when the future is dropped, it is killed at once.
    /// What it leaves running when it ends by itself goes on.
    ///
    /// The error says why it could not be run, and what the operator can do.
    pub async fn run(
        self: &Arc<Self>,
        script: &Script,
        limit: Duration,
        output: Output,
    ) -> Result<Outcome, String> {
        let deadline = tokio::time::Instant::now() + limit;
        let (scripts, script) = (Arc::clone(self), script.clone());
        // Files may lie on a server that does not answer.
        let finding = tokio::task::spawn_blocking(move || scripts.find(&script));
        let found = match tokio::time::timeout_at(deadline, finding).await {
            Ok(Ok(found)) => found?,
            Ok(Err(error)) => return Err(format!("cannot look for the script: {error}")),
            Err(_) => {
                return Err(format!(
                    "the script was not found within {} s: its file system does not answer",
                    limit.as_secs_f64()
                ));
            }
        };
        let mut running = Running::start(&found, &[], output)?;
        let end = if let Ok(end) = tokio::time::timeout_at(deadline, running.ended()).await {
            end?
        } else {
            running.stop().await;
            End::Late(limit)
        };
        Ok(Outcome {
            end,
            output: running.written(),
        })
    }

    /// Finds the script's file and user, and refuses what must not be run. Blocks for as
    /// long as file systems and user databases take.
    pub fn find(&self, script: &Script) -> Result<Found, String> {
        let Some(name) = script.command.first() else {
            return Err("the script has no name".into());
        };
        let identity = self.identity(script.user.as_ref())?;
        let (written, file) = locate::program(name, identity)?;
        let unsafe_because = locate::rival(&written, &file, identity);
        if let (true, Some(why)) = (self.secure, &unsafe_because) {
            return Err(format!(
                "{name} is not run as root: {why}; change that, let it run as another user, \
                 or take `enable_script_security` away"
            ));
        }
        Ok(Found {
            file,
            command: script.command.clone(),
            identity,
            unsafe_because,
        })
    }

    /// Whom a script runs as that names this user. May block, the first time.
    pub fn identity(&self, user: Option<&User>) -> Result<Identity, String> {
        let key = user.or(self.user.as_ref()).cloned();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = known.get(&key) {
            return found.clone();
        }
        let found = match &key {
            Some(user) => named(user),
            None => self.nobody_in_particular(),
        };
        known.insert(key, found.clone());
        found
    }

    fn nobody_in_particular(&self) -> Result<Identity, String> {
        match process::user(DEFAULT_USER).map_err(|error| error.to_string())? {
            Some(found) => Ok(found),
            None if self.secure => Err(format!(
                "there is no user {DEFAULT_USER}: make one, or say `script_user root`"
            )),
            None => Ok(Identity::own()),
        }
    }
}

fn named(user: &User) -> Result<Identity, String> {
    let error = |error: evenkeel_kernel::Error| error.to_string();
    let found = process::user(&user.name).map_err(error)?;
    let Some(mut identity) = found else {
        return Err(format!("there is no user {}", user.name));
    };
    if let Some(group) = &user.group {
        identity.gid = process::group(group)
            .map_err(error)?
            .ok_or_else(|| format!("there is no group {group}"))?;
    }
    Ok(identity)
}

fn end_of(status: ExitStatus) -> End {
    match status.signal() {
        Some(signal) => End::Signal(signal),
        // It has a status of 8 bits, then.
        None => End::Exit(
            status
                .code()
                .map_or(u8::MAX, |code| code.cast_unsigned() as u8),
        ),
    }
}

/// A script that runs. Its process group is killed when this is dropped before it has ended.
#[derive(Debug)]
pub struct Running {
    child: Child,
    /// The process group, until it has ended.
    group: Option<u32>,
    output: Option<Receiver>,
    kept: Vec<u8>,
}

impl Running {
    /// Starts it, with these further arguments. Has to be called by a thread that lives as
    /// long as the daemon, as those of its runtime do.
    pub fn start(found: &Found, arguments: &[&str], output: Output) -> Result<Self, String> {
        let attempt = |error| format!("cannot run {}: {error}", found.file.display());
        let mut command = std::process::Command::new(&found.file);
        if let Some((name, words)) = found.command.split_first() {
            command.arg0(name).args(words);
        }
        command
            .args(arguments)
            .current_dir("/")
            .stdin(Stdio::null());
        let output = match output {
            Output::Discard => {
                command.stdout(Stdio::null()).stderr(Stdio::null());
                None
            }
            Output::Keep => Some(joined_output(&mut command).map_err(attempt)?),
        };
        process::isolate(&mut command, found.identity);
        // Our ends of what it writes to are closed with the command, when this returns.
        let child = Command::from(command)
            .kill_on_drop(true)
            .spawn()
            .map_err(attempt)?;
        Ok(Self {
            group: child.id(),
            child,
            output,
            kept: Vec::new(),
        })
    }

    /// Waits for its end and reads what it writes. May be called again when it was dropped.
    pub async fn ended(&mut self) -> Result<End, String> {
        let status = loop {
            tokio::select! {
                status = self.child.wait() => {
                    break status.map_err(|error| format!("cannot wait for a script: {error}"))?;
                }
                more = read_some(&mut self.output, &mut self.kept) => {
                    if !more {
                        self.output = None;
                    }
                }
            }
        };
        self.group = None;
        self.read_rest();
        Ok(end_of(status))
    }

    /// Asks its process group to end, and kills it when it does not within two seconds.
    pub async fn stop(&mut self) {
        let Some(group) = self.group else {
            return;
        };
        send(group, Ending::Asked);
        // Whether it obeyed or not, what it has started must not go on.
        let _ = tokio::time::timeout(GRACE, self.ended()).await;
        send(group, Ending::Forced);
        let _ = self.ended().await;
    }

    /// The first of what it wrote, as far as it was kept.
    #[must_use]
    pub fn written(&self) -> String {
        String::from_utf8_lossy(&self.kept).into_owned()
    }

    /// What it wrote right before its end is there by now; what it left running may write
    /// for ever.
    fn read_rest(&mut self) {
        let Some(output) = self.output.take() else {
            return;
        };
        let mut bytes = [0; OUTPUT_MAX];
        while self.kept.len() < OUTPUT_MAX {
            match output.try_read(&mut bytes) {
                Ok(count) if count > 0 => keep(&mut self.kept, &bytes[..count]),
                _ => return,
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(group) = self.group {
            send(group, Ending::Forced);
        }
    }
}

fn send(group: u32, ending: Ending) {
    if let Err(error) = process::end_group(group, ending) {
        tracing::warn!("a script goes on: {error}");
    }
}

/// Gives a command one pipe for all that it writes.
fn joined_output(command: &mut std::process::Command) -> io::Result<Receiver> {
    let (reader, writer) = io::pipe()?;
    command.stdout(writer.try_clone()?).stderr(writer);
    Receiver::from_owned_fd(reader.into())
}

/// Reads once; false: there is nothing more to come. Never ends without an output.
async fn read_some(output: &mut Option<Receiver>, kept: &mut Vec<u8>) -> bool {
    let Some(output) = output else {
        return std::future::pending().await;
    };
    // What is beyond the limit is read as well, or the script would wait for us.
    let mut bytes = [0; OUTPUT_MAX];
    match output.read(&mut bytes).await {
        Ok(count) if count > 0 => {
            keep(kept, &bytes[..count]);
            true
        }
        _ => false,
    }
}

fn keep(kept: &mut Vec<u8>, bytes: &[u8]) {
    let room = OUTPUT_MAX.saturating_sub(kept.len());
    kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
}
