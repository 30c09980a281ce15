//! What a monitor knows, to be shown.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::check::{Running, Weighing};
use super::{Monitor, Server, Virtual, words};
use crate::model::{RealServer, ServerKey, ServiceKey};

/// A virtual server and how it is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct VirtualView {
    /// Its name in logs, mail and pipes.
    pub name: String,
    /// Its services.
    pub services: Vec<ServiceKey>,
    /// Those that somebody has deleted from the table by hand.
    #[cfg_attr(feature = "serde", serde(default))]
    pub deleted: Vec<ServiceKey>,
    /// Enough weight lives.
    pub quorum_up: bool,
    /// Since when, as a length of time in milliseconds.
    pub quorum_for_ms: u64,
    /// The sum of the weights that it takes.
    pub quorum: u32,
    /// How far the sum may go in one direction before it counts.
    pub hysteresis: u32,
    /// The sum of the weights of servers that live.
    pub living: u64,
    /// The sorry server; none: there is none.
    pub sorry: Option<String>,
    /// It has the place of all others.
    pub sorry_active: bool,
    /// Its checks rest, because this machine does not have its address.
    pub resting: bool,
    /// Its servers.
    pub servers: Vec<ServerView>,
}

/// A real server and how it is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ServerView {
    /// Where it listens.
    pub server: ServerKey,
    /// It lives.
    pub alive: bool,
    /// Since when, as a length of time in milliseconds.
    pub for_ms: u64,
    /// The weight that the table has; none: the server is not in the table.
    pub weight: Option<u32>,
    /// The configured weight.
    pub configured: u32,
    /// Why the weight is as it is, in words; empty: it is as configured.
    pub why: String,
    /// Its checks.
    pub checks: Vec<CheckView>,
}

/// A check and how it is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct CheckView {
    /// Its keyword.
    pub kind: String,
    /// What it looks at.
    pub target: String,
    /// It passes, as the server sees it.
    pub up: bool,
    /// The last result in words; none: there was none yet.
    pub last: Option<String>,
    /// The last result was good.
    pub last_good: bool,
    /// How long ago that was, in milliseconds.
    pub ago_ms: u64,
    /// Failures in a row that did not count yet.
    pub failures: u32,
    /// How many are tolerated.
    pub retries: u32,
    /// It is being run.
    pub running: bool,
    /// When it is run next, in milliseconds from now.
    pub next_ms: u64,
    /// How many servers share it.
    pub shared: usize,
}

impl Monitor {
    /// All virtual servers, in the configuration's order.
    #[must_use]
    pub fn view(&self, now_ms: u64) -> Vec<VirtualView> {
        let owners = self.virtuals.iter();
        owners
            .map(|owner| self.virtual_view(owner, now_ms))
            .collect()
    }

    fn virtual_view(&self, owner: &Virtual, now_ms: u64) -> VirtualView {
        let servers = owner.servers.iter().zip(&owner.config.servers);
        let sorry = owner.keys.first().and_then(|key| self.sorry_of(owner, key));
        VirtualView {
            name: owner.name.clone(),
            services: owner.keys.clone(),
            deleted: Vec::new(),
            quorum_up: owner.quorum_up,
            quorum_for_ms: now_ms.saturating_sub(owner.quorum_since_ms),
            quorum: owner.config.quorum.weight,
            hysteresis: owner.config.quorum.hysteresis,
            living: owner.living_weight(),
            sorry: sorry.map(|(key, _)| words::real_server(&key, owner.protocol)),
            sorry_active: owner.sorry,
            resting: owner.resting,
            servers: servers
                .enumerate()
                .map(|(index, (state, real))| self.server_view(owner, index, state, real, now_ms))
                .collect(),
        }
    }

    fn server_view(
        &self,
        owner: &Virtual,
        index: usize,
        state: &Server,
        real: &RealServer,
        now_ms: u64,
    ) -> ServerView {
        let place = owner.place(index);
        let (mut weight, mut why) = (place.map(|it| it.weight), self.why(owner, state, real));
        // Most of the time there are none, and of servers and services there may be many.
        let services: &[ServiceKey] = if self.by_hand.is_empty() {
            &[]
        } else {
            &owner.keys
        };
        let mut hands = services.iter().filter_map(|service| {
            let key = real.key_in(service);
            Some((service, key, self.by_hand.of(service, &key)?))
        });
        if let Some((service, key, wanted)) = hands.next() {
            weight = self.by_hand.over(service, &key, place).map(|it| it.weight);
            let deed = match wanted {
                None => "deleted by hand".to_string(),
                Some(wanted) => format!("weight {} set by hand", wanted.weight),
            };
            why = if why.is_empty() {
                deed
            } else {
                format!("{deed}; {why}")
            };
        }
        let checks = state.checks.iter().filter_map(|id| self.checks.get(id));
        ServerView {
            server: real.key,
            alive: state.alive,
            for_ms: now_ms.saturating_sub(state.since_ms),
            weight,
            configured: real.settings.weight,
            why,
            checks: checks.map(|check| self.check_view(check, now_ms)).collect(),
        }
    }

    fn why(&self, owner: &Virtual, state: &Server, real: &RealServer) -> String {
        let mut reasons: Vec<String> = Vec::new();
        let checks = state.checks.iter().filter_map(|id| self.checks.get(id));
        for check in checks {
            let (kind, target) = words::check(&check.check.probe);
            let last = check.last.as_ref();
            if check.is_fatal() {
                let words = last.map_or("no result yet", |last| last.words.as_str());
                reasons.push(format!("{kind} {target}: {words}"));
            }
            match check.weighing {
                Weighing::None => {}
                Weighing::Is(weight) => {
                    reasons.push(format!("{kind} {target} asks for weight {weight}"));
                }
                Weighing::Changes(by) => {
                    reasons.push(format!("{kind} {target} changes the weight by {by:+}"));
                }
            }
        }
        if state.alive && owner.sorry {
            reasons.push("there is no quorum, and the sorry server answers".into());
        }
        if !state.alive && real.inhibit {
            reasons.push("inhibit_on_failure keeps it with weight 0".into());
        }
        reasons.join("; ")
    }

    fn check_view(&self, check: &Running, now_ms: u64) -> CheckView {
        let (kind, target) = words::check(&check.check.probe);
        let last = check.last.as_ref();
        CheckView {
            kind: kind.into(),
            target,
            up: check.up,
            last: last.map(|last| last.words.clone()),
            last_good: last.is_some_and(|last| last.good),
            ago_ms: last.map_or(0, |last| now_ms.saturating_sub(last.at_ms)),
            failures: if check.has_run() { check.failures } else { 0 },
            retries: check.check.timing.retries,
            running: check.under_way,
            next_ms: check.at_ms.saturating_sub(now_ms),
            shared: self.users.get(&check.id).map_or(0, Vec::len),
        }
    }
}
