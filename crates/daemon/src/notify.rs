//! News of servers and quorums, told by scripts, pipes and mail. Whoever has news never
//! waits: each way has a queue with a bound, and what is too much is dropped and counted.
//!
//! | module | tells by | when its queue is full |
//! |---|---|---|
//! | `scripts` | scripts, one at a time for a subject | the subject's oldest run is left out |
//! | `pipes` | lines in named pipes | the oldest line is left out |
//! | `mail` | mail | the oldest mail is left out |

mod mail;
mod pipes;
mod queue;
mod scripts;
mod smtp;
mod tally;
#[cfg(test)]
mod tests;

use std::time::Duration;

use evenkeel_api::delivery::Deliveries;
use evenkeel_core::health::news::News;
use evenkeel_core::model::Alerts;
use tokio::time::Instant;

use crate::script::Scripts;

/// Tells news as the configuration says. When this is dropped, what is under way is broken
/// off: scripts are killed, pipes that were made here removed.
#[derive(Debug)]
pub struct Notifier {
    scripts: scripts::Queues,
    pipes: pipes::Pipes,
    mail: mail::Post,
}

impl Notifier {
    /// Begins: opens the pipes and starts their readers. Has to be called in the daemon's
    /// runtime.
    #[must_use]
    pub fn start(alerts: &Alerts) -> Self {
        let scripts = Scripts::new(alerts);
        let notifier = Self {
            scripts: scripts::Queues::new(scripts.clone()),
            pipes: pipes::Pipes::default(),
            mail: mail::Post::start(),
        };
        notifier.mail.follow(alerts);
        notifier.pipes.follow(alerts, &scripts);
        notifier
    }

    /// Goes on with another configuration. What waits is told as that says; a pipe that
    /// stays as it is stays open, with its reader.
    pub fn reload(&self, alerts: &Alerts) {
        let scripts = Scripts::new(alerts);
        self.scripts.follow(scripts.clone());
        self.mail.follow(alerts);
        self.pipes.follow(alerts, &scripts);
    }

    /// Tells this, and returns at once.
    pub fn tell(&self, news: News) {
        if !news.line.is_empty() {
            self.pipes.tell(&news.line);
        }
        if let Some((subject, text)) = news.mail {
            self.mail.tell(subject, text);
        }
        if let Some(script) = news.script {
            self.scripts.tell(news.subject, script);
        }
    }

    /// What became of the news.
    #[must_use]
    pub fn deliveries(&self) -> Deliveries {
        Deliveries {
            scripts: self.scripts.view(),
            pipes: self.pipes.view(),
            mail: self.mail.view(),
        }
    }

    /// Takes no more news, waits until what there is was told, at most for `limit`, and
    /// ends the readers of pipes, which takes three seconds more if they do not obey.
    pub async fn finish(&self, limit: Duration) {
        let deadline = Instant::now() + limit;
        tokio::join!(
            self.scripts.finish(deadline),
            self.mail.finish(deadline),
            self.pipes.finish(deadline),
        );
    }
}
