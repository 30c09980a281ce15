//! Named pipes that get a line for each change, and the programs that read them.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use evenkeel_api::delivery::Delivery;
use evenkeel_core::model::{Alerts, Pipe, User};
use evenkeel_kernel::fifo::Fifo;
use tokio::net::unix::pipe::Sender;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::queue::{Put, Queue};
use super::tally::Tally;
use crate::script::{Output, Running, Scripts};

/// Lines that wait while a pipe is full. The pipe itself holds some hundreds more.
const WAITING_MAX: usize = 1024;

/// Longest line with its newline, bytes: the kernel writes so many (`PIPE_BUF`) as a whole
/// or not at all.
const LINE_MAX: usize = 4096;

/// How long a reader may take for what it has not read when its pipe closes, before it is
/// asked to end.
const READER_GRACE: Duration = Duration::from_secs(1);

/// All pipes of the configuration.
#[derive(Debug, Default)]
pub(super) struct Pipes {
    open: Mutex<Vec<Open>>,
    tally: Arc<Tally>,
}

/// What a pipe is, and as whom.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Settings {
    pipe: Pipe,
    script_user: Option<User>,
    script_security: bool,
}

/// A pipe. Its task is broken off when this is dropped.
#[derive(Debug)]
struct Open {
    settings: Settings,
    writer: Arc<Writer>,
    task: Option<JoinHandle<()>>,
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

#[derive(Debug)]
struct Writer {
    path: PathBuf,
    lines: Queue<String>,
    /// Lines were lost since the last one that was written, which was logged.
    overrun: AtomicBool,
    /// Its reader has ended by itself.
    unread: AtomicBool,
    /// What waits is not written any more.
    end: Notify,
    tally: Arc<Tally>,
}

impl Pipes {
    fn open(&self) -> MutexGuard<'_, Vec<Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens what is new, closes what is not wanted any more. A pipe whose reader has ended is
    /// opened anew, with another reader.
    pub(super) fn follow(&self, alerts: &Alerts, scripts: &Arc<Scripts>) {
        let wanted = alerts.pipes.iter().map(|pipe| Settings {
            pipe: pipe.clone(),
            script_user: alerts.script_user.clone(),
            script_security: alerts.script_security,
        });
        let wanted: Vec<Settings> = wanted.collect();
        let mut open = self.open();
        let (mut kept, gone): (Vec<Open>, Vec<Open>) = open.drain(..).partition(|open| {
            let unread = open.writer.unread.load(Ordering::Relaxed);
            !unread && wanted.contains(&open.settings)
        });
        // One of the same path can be made only when the one before is gone.
        let mut before: Vec<JoinHandle<()>> = gone.into_iter().filter_map(close).collect();
        for settings in wanted {
            if kept.iter().any(|open| open.settings == settings) {
                continue;
            }
            let writer = Arc::new(Writer {
                path: PathBuf::from(&settings.pipe.path),
                lines: Queue::new(WAITING_MAX),
                overrun: AtomicBool::new(false),
                unread: AtomicBool::new(false),
                end: Notify::new(),
                tally: Arc::clone(&self.tally),
            });
            let task = Arc::clone(&writer).serve(
                settings.pipe.clone(),
                Arc::clone(scripts),
                std::mem::take(&mut before),
            );
            kept.push(Open {
                settings,
                writer,
                task: Some(tokio::spawn(task)),
            });
        }
        *open = kept;
    }

    pub(super) fn tell(&self, line: &str) {
        for open in &*self.open() {
            open.writer.put(line);
        }
    }

    pub(super) fn view(&self) -> Delivery {
        let waiting = self.open().iter().map(|open| open.writer.lines.len()).sum();
        self.tally.view(waiting)
    }

    /// Takes no more lines, waits for those there are, and closes all pipes.
    pub(super) async fn finish(&self, deadline: Instant) {
        let all = std::mem::take(&mut *self.open());
        for open in &all {
            open.writer.lines.close();
        }
        for mut open in all {
            let Some(mut task) = open.task.take() else {
                continue;
            };
            if tokio::time::timeout_at(deadline, &mut task).await.is_err() {
                open.writer.end.notify_one();
                // It has nothing to wait for any more but its reader.
                let _ = task.await;
            }
        }
    }
}

/// Ends a pipe's task, which is to be waited for.
fn close(mut open: Open) -> Option<JoinHandle<()>> {
    open.writer.lines.close();
    open.writer.end.notify_one();
    open.task.take()
}

impl Writer {
    fn put(&self, line: &str) {
        let mut line = line.replace('\n', " ");
        line.push('\n');
        if line.len() > LINE_MAX {
            self.lost("a line is longer than a pipe takes as a whole");
            return;
        }
        match self.lines.put(line) {
            Put::Waits => {}
            Put::Displaced => self.lost("nobody reads it"),
            Put::Refused => self.lost("it is closed"),
        }
    }

    fn lost(&self, why: &str) {
        let why = format!("{}: {why}", self.path.display());
        if !self.overrun.swap(true, Ordering::Relaxed) {
            tracing::warn!("a line is lost for the pipe {why}");
        }
        self.tally.dropped(1, &why);
    }

    /// Opens the pipe when those before it are closed, starts its reader, and writes until
    /// it is ended.
    async fn serve(
        self: Arc<Self>,
        pipe: Pipe,
        scripts: Arc<Scripts>,
        before: Vec<JoinHandle<()>>,
    ) {
        for task in before {
            // Whether it ended well or not, it has ended.
            let _ = task.await;
        }
        let opening = {
            let (pipe, scripts, path) = (pipe.clone(), Arc::clone(&scripts), self.path.clone());
            tokio::task::spawn_blocking(move || open_pipe(&path, &pipe, &scripts))
        };
        let opened = opening.await.unwrap_or_else(|error| Err(error.to_string()));
        let (fifo, sender) = match opened.and_then(|(fifo, descriptor)| {
            let sender = Sender::from_owned_fd(descriptor).map_err(|error| error.to_string())?;
            Ok((fifo, sender))
        }) {
            Ok(opened) => opened,
            Err(error) => {
                tracing::warn!("no news go to the pipe {}: {error}", self.path.display());
                let lost = self.lines.clear();
                self.tally.dropped(lost, &error);
                return;
            }
        };
        let mut reader = self.start_reader(&pipe, &scripts).await;
        let written = async {
            while let Some(line) = self.lines.next().await {
                self.write(&sender, &line).await;
            }
        };
        tokio::select! {
            () = written => {}
            () = self.watch(&mut reader) => {}
            () = self.end.notified() => {}
        }
        let lost = self.lines.clear();
        self.tally
            .dropped(lost, "the pipe was closed before they were written");
        // The file goes first, so that a reader that opens it again and again finds the end.
        drop(fifo);
        drop(sender);
        if let Some(mut reader) = reader
            && tokio::time::timeout(READER_GRACE, reader.ended())
                .await
                .is_err()
        {
            reader.stop().await;
        }
    }

    async fn write(&self, sender: &Sender, line: &str) {
        loop {
            let written = match sender.writable().await {
                Ok(()) => sender.try_write(line.as_bytes()),
                Err(error) => Err(error),
            };
            match written {
                Ok(_) => {
                    self.overrun.store(false, Ordering::Relaxed);
                    self.tally.delivered();
                    return;
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => {
                    self.tally
                        .failed(format!("{}: {error}", self.path.display()));
                    return;
                }
            }
        }
    }

    async fn start_reader(&self, pipe: &Pipe, scripts: &Arc<Scripts>) -> Option<Running> {
        let script = pipe.reader.clone()?;
        let scripts = Arc::clone(scripts);
        let finding = tokio::task::spawn_blocking(move || scripts.find(&script));
        let found = finding.await.unwrap_or_else(|error| Err(error.to_string()));
        let started =
            found.and_then(|found| Running::start(&found, &[pipe.path.as_str()], Output::Discard));
        match started {
            Ok(running) => Some(running),
            Err(error) => {
                tracing::warn!("nobody reads the pipe {}: {error}", self.path.display());
                None
            }
        }
    }

    /// Says when the reader ends by itself, and never returns.
    async fn watch(&self, reader: &mut Option<Running>) {
        if let Some(running) = reader {
            match running.ended().await {
                Ok(end) => tracing::warn!(
                    "the reader of the pipe {} has ended ({end}); a reload starts it again",
                    self.path.display()
                ),
                Err(error) => tracing::warn!("{error}"),
            }
            self.unread.store(true, Ordering::Relaxed);
            *reader = None;
        }
        std::future::pending::<()>().await;
    }
}

fn open_pipe(
    path: &Path,
    pipe: &Pipe,
    scripts: &Scripts,
) -> Result<(Fifo, std::os::fd::OwnedFd), String> {
    let owner = scripts.identity(pipe.user.as_ref())?;
    Fifo::open(path, owner).map_err(|error| error.to_string())
}
