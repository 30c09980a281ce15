//! Work that blocks its thread: files, on file systems that may not answer.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use super::words;

/// Threads that may be blocked at a time: what hangs for ever must not use up those of the
/// whole daemon.
const THREADS: usize = 32;

/// Threads for work that blocks.
#[derive(Debug)]
pub(super) struct Blocking {
    slots: Arc<Semaphore>,
}

impl Blocking {
    pub(super) fn new() -> Self {
        Self {
            slots: Arc::new(Semaphore::new(THREADS)),
        }
    }

    /// What comes of `work`, at most after `time`. Later than that it goes on for nobody.
    ///
    /// # Errors
    /// In words, when it takes longer.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        time: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, String> {
        let deadline = Instant::now() + time;
        let late = |_| {
            format!(
                "files were not read within {}: their file system does not answer",
                words::duration(time)
            )
        };
        let slot = timeout_at(deadline, Arc::clone(&self.slots).acquire_owned());
        let slot = slot.await.map_err(late)?;
        let working = tokio::task::spawn_blocking(move || {
            // Free again when the work is done, whoever still waits for it.
            let _slot = slot;
            work()
        });
        match timeout_at(deadline, working).await {
            Ok(result) => result.map_err(|_| "the daemon is about to end".to_owned()),
            Err(elapsed) => Err(late(elapsed)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn what_hangs_is_left_behind() {
        let blocking = Blocking::new();
        let (wake, woken) = mpsc::channel::<()>();
        let short = Duration::from_millis(20);
        let hung = blocking.run(short, move || woken.recv()).await;
        let expected = "files were not read within 20 ms: their file system does not answer";
        assert_eq!(hung.unwrap_err(), expected);
        assert_eq!(blocking.slots.available_permits(), THREADS - 1);
        assert_eq!(blocking.run(Duration::from_secs(30), || 7).await, Ok(7));
        drop(wake);
        // The one that hung gives its slot back.
        let all = blocking.slots.acquire_many(THREADS as u32);
        assert!(
            tokio::time::timeout(Duration::from_secs(30), all)
                .await
                .is_ok()
        );
    }
}
