//! One check's state: what its results make of it, and when it is run next.

use alloc::string::String;
use alloc::sync::Arc;
use core::time::Duration;

use crate::model::Check;
use crate::probe::Verdict;

/// A suspicion is not followed sooner than this after a result.
const SUSPECT_MS: u64 = 500;
/// After this long without one, former suspicions count no more.
const FORGET_MS: u64 = 60_000;

/// What a check does to the weight of its servers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Weighing {
    /// Nothing.
    #[default]
    None,
    /// It is this, whatever the configuration says.
    Is(u32),
    /// The configuration's changes by this.
    Changes(i64),
}

/// A check that is run for one or more servers.
#[derive(Clone, Debug)]
pub(super) struct Running {
    pub id: u64,
    pub check: Arc<Check>,
    /// As its servers see it.
    pub up: bool,
    /// Failures in a row that did not count yet.
    pub failures: u32,
    pub weighing: Weighing,
    /// When it took its present state.
    pub since_ms: u64,
    /// When its next run begins; while it is under way, when that began.
    pub at_ms: u64,
    pub under_way: bool,
    /// All its servers rest.
    pub resting: bool,
    /// When a suspicion has last brought a run forward, and how often that was for nothing.
    pub suspected_ms: u64,
    pub false_alarms: u32,
    pub last: Option<Last>,
}

/// The last result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Last {
    pub at_ms: u64,
    pub good: bool,
    pub words: String,
}

/// What a result has changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Changed {
    /// It is up, or down, and was not before.
    pub state: bool,
    /// Its weighing.
    pub weight: bool,
    /// It is its first result.
    pub first: bool,
    /// It failed, and that does not count yet: this is failure so many.
    pub tolerated: Option<u32>,
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Running {
    /// A check before its first run. `down`: it counts as failed until it has a result.
    pub(super) fn new(id: u64, check: Arc<Check>, down: bool, now_ms: u64, wait_ms: u64) -> Self {
        Self {
            id,
            up: !(down || check.starts_down),
            // One failure is enough at first.
            failures: check.timing.retries,
            weighing: Weighing::None,
            since_ms: now_ms,
            at_ms: now_ms.saturating_add(wait_ms),
            under_way: false,
            resting: false,
            suspected_ms: 0,
            false_alarms: 0,
            last: None,
            check,
        }
    }

    /// The state of a check that differs in its times only.
    pub(super) fn continue_from(&mut self, former: &Self) {
        self.up = former.up;
        // As many failures as were tolerated, but never more than now are: the next one
        // counts then.
        self.failures = if former.has_run() {
            former.failures.min(self.check.timing.retries)
        } else {
            self.check.timing.retries
        };
        self.weighing = former.weighing;
        self.since_ms = former.since_ms;
        self.last.clone_from(&former.last);
    }

    /// It has had a result.
    pub(super) fn has_run(&self) -> bool {
        self.last.is_some()
    }

    /// True: while it fails its servers are dead, not only lighter.
    pub(super) fn is_vital(&self) -> bool {
        self.check.weight.is_none()
    }

    /// True: it takes its servers out.
    pub(super) fn is_fatal(&self) -> bool {
        !self.up && self.is_vital()
    }

    pub(super) fn interval_ms(&self) -> u64 {
        // Nothing is run in a circle without a pause.
        milliseconds(self.check.timing.interval).max(10)
    }

    /// Connections to its servers fail. True: its next run comes sooner for it, but the more
    /// often that was for nothing, the longer it takes until the next time.
    pub(super) fn suspect(&mut self, now_ms: u64) -> bool {
        let last_ms = self.last.as_ref().map_or(0, |last| last.at_ms);
        let since_ms = now_ms.saturating_sub(self.suspected_ms);
        if since_ms > FORGET_MS {
            self.false_alarms = 0;
        }
        let pause_ms = (SUSPECT_MS << self.false_alarms.min(20)).min(FORGET_MS / 2);
        if self.under_way || self.resting || self.false_alarms > 0 && since_ms < pause_ms {
            return false;
        }
        let at_ms = now_ms.max(last_ms.saturating_add(SUSPECT_MS));
        if at_ms >= self.at_ms {
            return false;
        }
        self.at_ms = at_ms;
        self.suspected_ms = now_ms;
        self.false_alarms += 1;
        true
    }

    /// A run has ended. `share`: a random number of 65,536ths.
    pub(super) fn finish(&mut self, verdict: &Verdict, now_ms: u64, share: u16) -> Changed {
        let began_ms = self.at_ms;
        self.under_way = false;
        let mut changed = Changed {
            first: !self.has_run(),
            ..Changed::default()
        };
        let weighing = match verdict {
            Verdict::Weight(weight) => Weighing::Is(*weight),
            Verdict::Change(change) => Weighing::Changes(*change),
            Verdict::Passed(_) => Weighing::None,
            Verdict::Failed(_) => match self.check.weight {
                Some(change) => Weighing::Changes(change.into()),
                None => self.weighing,
            },
        };
        let good = verdict.is_good();
        let mut next_ms = began_ms.saturating_add(self.interval_ms());
        if !self.has_run() {
            // Those that begin together are spread over the interval from now on.
            let part = u64::from(share) * self.interval_ms() / 65_536;
            next_ms = began_ms.saturating_add(part);
        }
        if good {
            self.failures = 0;
            changed.state = !self.up;
            self.up = true;
        } else if self.up && self.failures < self.check.timing.retries {
            self.failures += 1;
            changed.tolerated = Some(self.failures);
            next_ms = now_ms.saturating_add(milliseconds(self.check.timing.retry_interval));
        } else {
            changed.state = self.up;
            self.up = false;
            self.failures = 0;
        }
        if changed.tolerated.is_none() && self.weighing != weighing {
            self.weighing = weighing;
            changed.weight = true;
        }
        if changed.state {
            self.since_ms = now_ms;
            self.false_alarms = 0;
        }
        self.at_ms = next_ms.max(now_ms);
        self.last = Some(Last {
            at_ms: now_ms,
            good,
            words: words(verdict),
        });
        changed
    }
}

fn words(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Passed(words) | Verdict::Failed(words) => words.clone(),
        Verdict::Weight(weight) => alloc::format!("asks for weight {weight}"),
        Verdict::Change(change) => alloc::format!("changes the weight by {change:+}"),
    }
}
