//! The daemon's own control socket and API, over a dataplane in ordinary memory.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use evenkeel_daemon::dataplane::InMemory;
use evenkeel_daemon::router::router;
use evenkeel_daemon::shared::Shared;
use evenkeel_daemon::socket::ControlSocket;
use evenkeel_datapath::simulated::Sizes;
use tokio::sync::oneshot;

/// Runs until dropped.
pub(crate) struct Daemon {
    path: PathBuf,
    shared: Arc<Shared>,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Daemon {
    /// Listens on the socket with an empty table, whose header shows the size
    /// that IPVS usually has.
    pub(crate) fn start(path: &Path) -> Self {
        let sizes = Sizes {
            buckets: 4096,
            endpoint_buckets: 4096,
            services: 1024,
            servers: 8192,
            ring_words: 1 << 20,
            ..Sizes::default()
        };
        Self::over(path, Arc::new(InMemory::sized(&sizes)))
    }

    /// Listens on the socket, over this memory.
    pub(crate) fn over(path: &Path, dataplane: Arc<InMemory>) -> Self {
        let shared = Arc::new(Shared::new("test", dataplane, false));
        let served = Arc::clone(&shared);
        let socket = ControlSocket::bind(path).expect("the socket's directory is the test's own");
        let (end, ended) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            let served =
                runtime
                    .expect("a runtime")
                    .block_on(socket.serve(router(served), async {
                        let _ = ended.await;
                    }));
            served.expect("the socket works");
        });
        Self {
            path: path.into(),
            shared,
            end: Some(end),
            thread: Some(thread),
        }
    }

    /// What its tasks have in common.
    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Where it listens.
    pub(crate) fn socket(&self) -> &Path {
        &self.path
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(end) = self.end.take() {
            let _ = end.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
