//! Mail for news: sent one after the other by a task, and again when the server can't take
//! it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dns_lookup::{AddrInfoHints, getaddrinfo};
use evenkeel_api::delivery::Delivery;
use evenkeel_core::model::{Alerts, Mail};
use evenkeel_kernel::system;
use jiff::Zoned;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::queue::{Put, Queue};
use super::smtp::{self, Failure, Letter, Sender};
use super::tally::Tally;

/// Mails that wait.
const WAITING_MAX: usize = 1000;

/// From the first attempt to the next, and at most so long from one to the next.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_mins(1);

/// How long a mail is tried for. Afterwards, nobody wants to be woken for it.
const LIFETIME: Duration = Duration::from_hours(1);

/// `getaddrinfo` is to give the host's full name (netdb.h).
const AI_CANONNAME: i32 = 2;

/// The mails, and the task that sends them.
#[derive(Debug)]
pub(super) struct Post {
    shared: Arc<Shared>,
    task: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    letters: Queue<(Letter, Instant)>,
    settings: watch::Sender<Settings>,
    tally: Tally,
}

#[derive(Clone, Debug, Default)]
struct Settings {
    mail: Option<Arc<Mail>>,
    router: Option<String>,
    /// No more attempts than one.
    ending: bool,
}

impl Drop for Post {
    fn drop(&mut self) {
        if let Some(task) = self.task().take() {
            task.abort();
        }
    }
}

impl Post {
    pub(super) fn start() -> Self {
        let shared = Arc::new(Shared {
            letters: Queue::new(WAITING_MAX),
            settings: watch::Sender::default(),
            tally: Tally::default(),
        });
        Self {
            task: Mutex::new(Some(tokio::spawn(Arc::clone(&shared).serve()))),
            shared,
        }
    }

    fn task(&self) -> MutexGuard<'_, Option<JoinHandle<()>>> {
        self.task.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn follow(&self, alerts: &Alerts) {
        self.shared.settings.send_modify(|settings| {
            settings.mail = alerts.mail.clone().map(Arc::new);
            settings.router.clone_from(&alerts.router_id);
        });
    }

    /// Nothing happens where no mail is configured.
    pub(super) fn tell(&self, subject: String, text: String) {
        if self.shared.settings.borrow().mail.is_none() {
            return;
        }
        let letter = Letter {
            subject,
            text,
            date: Zoned::now(),
        };
        match self.shared.letters.put((letter, Instant::now())) {
            Put::Waits => {}
            Put::Displaced => self.shared.tally.dropped(1, "too many mails wait"),
            Put::Refused => self.shared.tally.dropped(1, "the daemon ends"),
        }
    }

    pub(super) fn view(&self) -> Delivery {
        self.shared.tally.view(self.shared.letters.len())
    }

    /// Takes no more, and tries once to send those there are.
    pub(super) async fn finish(&self, deadline: Instant) {
        self.shared.letters.close();
        self.shared
            .settings
            .send_modify(|settings| settings.ending = true);
        let Some(mut task) = self.task().take() else {
            return;
        };
        if tokio::time::timeout_at(deadline, &mut task).await.is_err() {
            task.abort();
            let left = self.shared.letters.clear();
            tracing::warn!("the daemon ends: {left} mails are not sent");
            self.shared.tally.dropped(left, "the daemon ended");
        }
    }
}

impl Shared {
    async fn serve(self: Arc<Self>) {
        let mut machine = None;
        while let Some((letter, since)) = self.letters.next().await {
            // The name of a machine may take a name server to answer.
            if machine.is_none() {
                machine = tokio::task::spawn_blocking(Machine::this).await.ok();
            }
            let this = machine.clone().unwrap_or_default();
            self.deliver(&letter, since, &this).await;
        }
    }

    /// Tries until the server has it or it is not worth while any more.
    async fn deliver(&self, letter: &Letter, since: Instant, machine: &Machine) {
        let mut settings = self.settings.subscribe();
        let mut pause = PAUSE;
        loop {
            let present = settings.borrow_and_update().clone();
            let Some(mail) = &present.mail else {
                self.tally
                    .dropped(1, "mail was taken out of the configuration");
                return;
            };
            let sender = machine.sender(mail, present.router.as_deref());
            let failure = match smtp::send(mail, &sender, letter).await {
                Ok(refused) => {
                    if !refused.is_empty() {
                        warn(
                            mail,
                            letter,
                            &format!("not for all: {}", refused.join("; ")),
                        );
                    }
                    self.tally.delivered();
                    return;
                }
                Err(failure) => failure,
            };
            let over = present.ending || since.elapsed() + pause > LIFETIME;
            if over || matches!(failure, Failure::Final(_)) {
                warn(mail, letter, failure.reason());
                self.tally
                    .failed(format!("{}: {}", mail.server, failure.reason()));
                return;
            }
            if pause == PAUSE {
                let why = format!("{}; it is tried again", failure.reason());
                warn(mail, letter, &why);
            }
            // Another server may do better, and the end can't wait.
            let _ = tokio::time::timeout(pause, settings.changed()).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }
}

fn warn(mail: &Mail, letter: &Letter, why: &str) {
    if !mail.quiet {
        tracing::warn!(
            "mail `{}` was not taken by {}, port {}: {why}",
            letter.subject,
            mail.server,
            mail.port
        );
    }
}

/// What mails say of this machine where the configuration does not.
#[derive(Clone, Debug)]
struct Machine {
    name: String,
    user: String,
}

impl Default for Machine {
    fn default() -> Self {
        Self {
            name: "localhost".into(),
            user: "root".into(),
        }
    }
}

impl Machine {
    /// Blocks for as long as name servers take.
    fn this() -> Self {
        let default = Self::default();
        let name = system::host_name().unwrap_or(default.name);
        let hints = AddrInfoHints {
            flags: AI_CANONNAME,
            ..AddrInfoHints::default()
        };
        let full = getaddrinfo(Some(&name), None, Some(hints))
            .ok()
            .and_then(|mut found| found.next()?.ok()?.canonname);
        Self {
            name: full.unwrap_or(name),
            user: system::user_name().unwrap_or(default.user),
        }
    }

    fn sender(&self, mail: &Mail, router: Option<&str>) -> Sender {
        let from = mail.from.clone();
        Sender {
            router: router.unwrap_or(&self.name).into(),
            helo: mail.helo.clone().unwrap_or_else(|| self.name.clone()),
            from: from.unwrap_or_else(|| format!("{}@{}", self.user, self.name)),
        }
    }
}
