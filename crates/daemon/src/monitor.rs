//! The task that carries out what the monitor says: it runs checks, brings what has changed
//! to the table, and has it told.

#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use evenkeel_api::EditRequest;
use evenkeel_core::director::Origin;
use evenkeel_core::health::news::News;
use evenkeel_core::health::{Action, Want};
use evenkeel_core::model::Check;
use evenkeel_core::probe::Verdict;
use tokio::task::{AbortHandle, JoinSet};

use crate::shared::Shared;

/// Longest sleep; without checks there is nothing to wake up for.
const IDLE: Duration = Duration::from_hours(1);

/// A run of a check.
pub type Run = Pin<Box<dyn Future<Output = Verdict> + Send>>;

/// What the task does its work with.
pub trait Hands: Send + Sync + 'static {
    /// Runs a check to its verdict, within its own times. Dropped, it ends at once.
    fn run(&self, check: Arc<Check>) -> Run;
    /// Tells the world; never waits.
    fn tell(&self, news: News);
}

/// The task's own state.
struct Task<H> {
    shared: Arc<Shared>,
    hands: Arc<H>,
    runs: JoinSet<(u64, Verdict)>,
    handles: HashMap<u64, AbortHandle>,
}

/// Watches over the servers until the future is dropped.
pub async fn run<H: Hands>(shared: Arc<Shared>, hands: Arc<H>) {
    let mut task = Task {
        shared,
        hands,
        runs: JoinSet::new(),
        handles: HashMap::new(),
    };
    loop {
        let wait = task.start_due();
        task.act().await;
        let shared = Arc::clone(&task.shared);
        tokio::select! {
            Some(ended) = task.runs.join_next() => {
                task.note(ended);
                // Those that have ended together are taken together.
                while let Some(ended) = task.runs.try_join_next() {
                    task.note(ended);
                }
            }
            () = shared.monitor_woken() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}

impl<H: Hands> Task<H> {
    /// Has the monitor start what is due; how long to sleep afterwards.
    fn start_due(&mut self) -> Duration {
        let now_ms = self.shared.now_ms();
        let deadline_ms = self.shared.with_monitor(|monitor| {
            monitor.start_due(now_ms);
            monitor.deadline_ms()
        });
        deadline_ms.map_or(IDLE, |at_ms| {
            Duration::from_millis(at_ms.saturating_sub(now_ms)).min(IDLE)
        })
    }

    /// Does all that the monitor has queued. Changes of the table come before the news of
    /// them.
    async fn act(&mut self) {
        let mut wants: Vec<Want> = Vec::new();
        let mut news = Vec::new();
        let (epoch, actions) = self.shared.with_monitor(|monitor| {
            let actions: Vec<Action> = std::iter::from_fn(|| monitor.poll()).collect();
            (monitor.epoch(), actions)
        });
        for action in actions {
            match action {
                Action::Start(id, check) => self.start(id, check),
                Action::Stop(id) => {
                    if let Some(handle) = self.handles.remove(&id) {
                        handle.abort();
                    }
                }
                Action::Set(more) => wants.extend(more),
                Action::Tell(it) => news.push(it),
                Action::Log(line) => tracing::info!("{line}"),
            }
        }
        if !wants.is_empty() {
            set(&self.shared, epoch, last_words(wants)).await;
        }
        for it in news {
            self.hands.tell(it);
        }
    }

    fn start(&mut self, id: u64, check: Arc<Check>) {
        let run = self.hands.run(check);
        let handle = self.runs.spawn(async move { (id, run.await) });
        self.handles.insert(id, handle);
    }

    fn note(&mut self, ended: Result<(u64, Verdict), tokio::task::JoinError>) {
        let (id, verdict) = match ended {
            Ok(ended) => ended,
            Err(error) if error.is_cancelled() => return,
            Err(error) => {
                tracing::error!("a check came to no end: {error}");
                let lost = self.handles.iter().find(|(_, it)| it.id() == error.id());
                let Some((&id, _)) = lost else {
                    return;
                };
                (id, Verdict::Failed("the check itself failed".into()))
            }
        };
        self.handles.remove(&id);
        let now_ms = self.shared.now_ms();
        self.shared
            .with_monitor(|monitor| monitor.finished(id, &verdict, now_ms));
    }
}

/// Of several wants for one server the last one.
fn last_words(wants: Vec<Want>) -> Vec<Want> {
    let mut seen = HashSet::with_capacity(wants.len());
    let backwards = wants.into_iter().rev();
    let mut last: Vec<Want> = backwards
        .filter(|(service, server, _)| seen.insert((*service, *server)))
        .collect();
    last.reverse();
    last
}

/// Brings servers to what is wanted of them. Wants of a configuration that is no more are
/// forgotten: the table is as the present one has it.
async fn set(shared: &Arc<Shared>, epoch: u64, wants: Vec<Want>) {
    let shared = Arc::clone(shared);
    let set = tokio::task::spawn_blocking(move || {
        shared.with_monitor(|monitor| {
            if monitor.epoch() == epoch {
                bring(&shared, &wants);
            }
        });
    });
    if let Err(error) = set.await {
        tracing::error!("a change of servers was not made: {error}");
    }
}

fn bring(shared: &Shared, wants: &[Want]) {
    let edits = shared.with_director(|director| director.edits_to(wants));
    if edits.is_empty() {
        return;
    }
    let request = EditRequest {
        transaction: false,
        edits,
    };
    let response = shared.apply_from(Origin::Configuration, &request);
    for refusal in response.refused {
        let edit = request.edits.get(refusal.index);
        tracing::error!("the table did not take {edit:?}: {}", refusal.error);
    }
}
