//! Scripts that are run for news: those of one subject one after the other, so that the
//! last one to run is for the state that the subject has.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use evenkeel_api::delivery::Delivery;
use evenkeel_core::model::Script;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::tally::Tally;
use crate::script::{End, Output, Scripts};

/// Runs that wait for one subject. More tell of states that have long passed.
const WAITING_MAX: usize = 16;

/// Scripts that run at a time: when a rack dies, thousands of servers have news at once.
const RUNNING_MAX: usize = 32;

/// How long a script may take. The subject's other runs wait for it meanwhile.
pub(super) const TIME_LIMIT: Duration = Duration::from_mins(5);

/// The queues of all subjects.
#[derive(Debug)]
pub(super) struct Queues {
    shared: Arc<Shared>,
    tasks: Mutex<JoinSet<()>>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    places: Semaphore,
    tally: Tally,
    idle: Notify,
}

#[derive(Debug)]
struct State {
    /// Subjects with a run that waits or goes on. Each has a task.
    subjects: HashMap<String, Subject>,
    scripts: Arc<Scripts>,
    closed: bool,
}

#[derive(Debug, Default)]
struct Subject {
    waiting: VecDeque<Script>,
    running: bool,
    /// Some were left out, which was logged.
    overrun: bool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs what there is for a subject, and forgets it.
    async fn serve(self: Arc<Self>, name: String) {
        // Never closed.
        while let Ok(_place) = self.places.acquire().await {
            let Some((script, scripts)) = self.next(&name) else {
                return;
            };
            self.run(&name, &script, &scripts).await;
        }
    }

    fn next(&self, name: &str) -> Option<(Script, Arc<Scripts>)> {
        let mut state = self.state();
        let scripts = state.scripts.clone();
        let subject = state.subjects.get_mut(name)?;
        if let Some(script) = subject.waiting.pop_front() {
            subject.running = true;
            return Some((script, scripts));
        }
        state.subjects.remove(name);
        if state.subjects.is_empty() {
            self.idle.notify_waiters();
        }
        None
    }

    async fn run(&self, name: &str, script: &Script, scripts: &Arc<Scripts>) {
        let ended = scripts.run(script, TIME_LIMIT, Output::Discard).await;
        let why = match ended {
            Ok(outcome) if outcome.end == End::Exit(0) => {
                tracing::debug!("{} was run for {name}", script.command.join(" "));
                self.tally.delivered();
                return;
            }
            Ok(outcome) => outcome.end.to_string(),
            Err(error) => error,
        };
        let why = format!("{} for {name}: {why}", script.command.join(" "));
        tracing::warn!("a notify script failed: {why}");
        self.tally.failed(why);
    }
}

impl Queues {
    pub(super) fn new(scripts: Arc<Scripts>) -> Self {
        Self {
            shared: Arc::new(Shared {
                state: Mutex::new(State {
                    subjects: HashMap::new(),
                    scripts,
                    closed: false,
                }),
                places: Semaphore::new(RUNNING_MAX),
                tally: Tally::default(),
                idle: Notify::new(),
            }),
            tasks: Mutex::default(),
        }
    }

    pub(super) fn follow(&self, scripts: Arc<Scripts>) {
        self.shared.state().scripts = scripts;
    }

    pub(super) fn tell(&self, name: String, script: Script) {
        let mut state = self.shared.state();
        if state.closed {
            self.shared.tally.dropped(1, "the daemon ends");
            return;
        }
        if let Some(subject) = state.subjects.get_mut(&name) {
            subject.waiting.push_back(script);
            if subject.waiting.len() > WAITING_MAX {
                subject.waiting.pop_front();
                let why = format!("scripts for {name} take longer than its news take to come");
                if !std::mem::replace(&mut subject.overrun, true) {
                    tracing::warn!("{why}: the oldest that wait are left out");
                }
                self.shared.tally.dropped(1, &why);
            }
            return;
        }
        let subject = Subject {
            waiting: [script].into(),
            ..Subject::default()
        };
        state.subjects.insert(name.clone(), subject);
        drop(state);
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(Arc::clone(&self.shared).serve(name));
    }

    fn waiting(&self) -> usize {
        let state = self.shared.state();
        let of = |subject: &Subject| subject.waiting.len() + usize::from(subject.running);
        state.subjects.values().map(of).sum()
    }

    pub(super) fn view(&self) -> Delivery {
        self.shared.tally.view(self.waiting())
    }

    /// Takes no more, and waits for what there is. What is not done then is killed.
    pub(super) async fn finish(&self, deadline: Instant) {
        let idle = async {
            loop {
                let mut idle = std::pin::pin!(self.shared.idle.notified());
                idle.as_mut().enable();
                if self.shared.state().subjects.is_empty() {
                    return;
                }
                idle.await;
            }
        };
        self.shared.state().closed = true;
        let done = tokio::time::timeout_at(deadline, idle).await;
        let left = self.waiting();
        if done.is_err() && left > 0 {
            tracing::warn!("the daemon ends: {left} runs of notify scripts are left out");
            self.shared.tally.dropped(left, "the daemon ended");
        }
        let mut tasks =
            std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        tasks.shutdown().await;
        self.shared.state().subjects.clear();
    }
}
