//! The control socket: one for an instance, for root and the group `evenkeel`.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use axum::Router;
use evenkeel_kernel::system;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Connections at a time; others wait in the socket's queue.
const CONNECTIONS_MAX: usize = 64;

/// Longest that a request's head may take, and that a connection may be idle.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest that answers under way may take when the daemon ends.
const END_TIMEOUT: Duration = Duration::from_secs(1);

/// Longest head of a request, bytes.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// The group whose members may use the socket.
const GROUP: &str = "evenkeel";

/// A control socket. Its file is removed when this is dropped.
#[derive(Debug)]
pub struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl ControlSocket {
    /// Makes the socket. What a daemon left that is gone is replaced; beside one
    /// that answers, this is refused.
    pub fn bind(path: &Path) -> anyhow::Result<Self> {
        let attempt = || format!("cannot make the control socket {}", path.display());
        if let Some(directory) = path.parent() {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(directory)
                .with_context(|| format!("cannot make the directory {}", directory.display()))?;
        }
        remove_stale(path)?;
        let listener = UnixListener::bind(path).with_context(attempt)?;
        let socket = Self {
            listener,
            path: path.into(),
        };
        let group = system::group_id(GROUP)?;
        system::set_ownership(path, 0o660, group)?;
        Ok(socket)
    }

    /// Serves the API until `end`, and then for as long as it takes to finish the
    /// answers under way, up to a second.
    pub async fn serve(&self, router: Router, end: impl Future<Output = ()>) -> anyhow::Result<()> {
        let listener = self
            .listener
            .try_clone()
            .context("cannot use the control socket")?;
        listener
            .set_nonblocking(true)
            .context("cannot use the control socket")?;
        let listener = tokio::net::UnixListener::from_std(listener)
            .context("cannot use the control socket")?;
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let mut connections = JoinSet::new();
        let mut end = std::pin::pin!(end);
        loop {
            let next = async {
                let place = Arc::clone(&places).acquire_owned().await;
                (place, listener.accept().await)
            };
            let (place, accepted) = tokio::select! {
                next = next => next,
                () = &mut end => break,
            };
            match accepted {
                Ok((stream, _)) => {
                    let router = router.clone();
                    connections.spawn(async move {
                        serve_connection(stream, router).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    // Out of descriptors or memory: others may end meanwhile.
                    tracing::warn!("cannot take a connection to the control socket: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
            while connections.try_join_next().is_some() {}
        }
        let finished = async { while connections.join_next().await.is_some() {} };
        // Who is slower than this gets no answer.
        let _ = tokio::time::timeout(END_TIMEOUT, finished).await;
        Ok(())
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        // Nobody is left to tell.
        let _ = fs::remove_file(&self.path);
    }
}

async fn serve_connection(stream: tokio::net::UnixStream, router: Router) {
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .await;
    if let Err(error) = served {
        tracing::debug!("a connection to the control socket ended: {error}");
    }
}

/// Refuses to go on beside a daemon that answers on this socket.
pub fn refuse_second_daemon(path: &Path) -> anyhow::Result<()> {
    if UnixStream::connect(path).is_ok() {
        bail!(
            "a daemon of this instance is running and answers at {}: \
             stop it with `evenkeel stop`, or choose another --instance",
            path.display()
        );
    }
    Ok(())
}

/// Removes the socket of a daemon that is gone.
fn remove_stale(path: &Path) -> anyhow::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => {
            return Err(error).with_context(|| format!("cannot look at {}", path.display()));
        }
        Ok(found) if !found.file_type().is_socket() => {
            bail!("{} is there and is no socket: remove it", path.display());
        }
        Ok(_) => {}
    }
    refuse_second_daemon(path)?;
    remove(path).with_context(|| format!("cannot remove the stale socket {}", path.display()))
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
