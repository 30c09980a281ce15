//! Health: which servers live, whether they are enough, and what the table is to have for it.
//!
//! A [`Monitor`] knows the virtual servers of the configuration. It says which checks are to
//! be run and when, is told what became of them, and says in turn what of the table
//! changes and who is told of it. It has no clock and runs nothing: times are milliseconds
//! that its caller counts.
//!
//! The rules are keepalived's: a server lives while none of its checks has failed; the sum
//! of living weights makes the quorum, with hysteresis; without quorum the sorry server takes
//! the place of all others. Beside that, checks that are equal are run once for all servers
//! that have them, and what somebody has done to a server by hand stays until the
//! configuration is read again.

mod by_hand;
mod check;
pub mod news;
mod quorum;
mod reconfigure;
#[cfg(test)]
mod tests;
pub mod view;
mod words;

use alloc::collections::{BinaryHeap, VecDeque};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cmp::Reverse;

use hashbrown::{HashMap, HashSet};

use crate::model::{
    Check, Protocol, RealServer, ServerKey, ServerSettings, ServiceKey, VirtualServer,
};
use crate::probe::Verdict;
use by_hand::ByHand;
use check::{Changed, Running, Weighing};
use news::News;
pub use reconfigure::Surroundings;

/// Greatest weight of a server.
const WEIGHT_MAX: i64 = i32::MAX as i64;

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// This check is run; [`Monitor::finished`] is told of its end.
    Start(u64, Arc<Check>),
    /// This check is no more: its run, if there is one, is ended, and nobody is told.
    Stop(u64),
    /// These servers of these services get these settings, or are removed.
    Set(Vec<Want>),
    /// Somebody is told.
    Tell(News),
    /// A line for the log.
    Log(String),
}

/// A server of a service, and the settings that it is to have; none: it is not to be there.
pub type Want = (ServiceKey, ServerKey, Option<ServerSettings>);

/// A virtual server with its state.
#[derive(Clone, Debug)]
struct Virtual {
    config: Arc<VirtualServer>,
    name: String,
    protocol: Option<Protocol>,
    keys: Vec<ServiceKey>,
    servers: Vec<Server>,
    quorum_up: bool,
    quorum_since_ms: u64,
    /// The sorry server has the place of all others.
    sorry: bool,
    /// Its checks rest.
    resting: bool,
}

/// A real server with its state.
#[derive(Clone, Debug)]
struct Server {
    name: String,
    /// Its checks, in their order.
    checks: Vec<u64>,
    alive: bool,
    since_ms: u64,
    /// What its checks make of the configured weight.
    weight: u32,
}

impl Virtual {
    fn real(&self, server: usize) -> Option<&RealServer> {
        self.config.servers.get(server)
    }

    /// The settings that the table is to have for a server; none: it is not to be there.
    fn place(&self, server: usize) -> Option<ServerSettings> {
        let (state, real) = (self.servers.get(server)?, self.real(server)?);
        let weight = match (state.alive && !self.sorry, real.inhibit) {
            (true, _) => state.weight,
            (false, true) => 0,
            (false, false) => return None,
        };
        Some(ServerSettings {
            weight,
            ..real.settings
        })
    }
}

/// The machine. See the module.
#[derive(Clone, Debug)]
pub struct Monitor {
    virtuals: Vec<Virtual>,
    checks: HashMap<u64, Running>,
    /// The servers of each check.
    users: HashMap<u64, Vec<(usize, usize)>>,
    /// When checks are due; entries that are out of date are passed over.
    due: BinaryHeap<Reverse<(u64, u64)>>,
    next_id: u64,
    /// How many configurations there were before.
    epoch: u64,
    by_hand: ByHand,
    /// Its services.
    keys: HashSet<ServiceKey>,
    surroundings: Surroundings,
    actions: VecDeque<Action>,
    random: u64,
}

impl Monitor {
    /// One that watches over nothing. `seed` makes its random numbers.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            virtuals: Vec::new(),
            checks: HashMap::new(),
            users: HashMap::new(),
            due: BinaryHeap::new(),
            next_id: 1,
            epoch: 0,
            by_hand: ByHand::default(),
            keys: HashSet::new(),
            surroundings: Surroundings::default(),
            actions: VecDeque::new(),
            random: seed | 1,
        }
    }

    /// What is to be done next.
    pub fn poll(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Another number after each configuration.
    #[must_use]
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// When [`Monitor::start_due`] has something to do; none: only after other news.
    #[must_use]
    pub fn deadline_ms(&mut self) -> Option<u64> {
        while let Some(&Reverse((at, id))) = self.due.peek() {
            if self.is_due(at, id) {
                return Some(at);
            }
            self.due.pop();
        }
        None
    }

    fn is_due(&self, at: u64, id: u64) -> bool {
        let running = self.checks.get(&id);
        running.is_some_and(|check| !check.under_way && check.at_ms == at)
    }

    /// Starts the checks whose time has come.
    pub fn start_due(&mut self, now_ms: u64) {
        while let Some(at) = self.deadline_ms() {
            if at > now_ms {
                break;
            }
            let Some(Reverse((_, id))) = self.due.pop() else {
                break;
            };
            let Some(check) = self.checks.get_mut(&id) else {
                continue;
            };
            if check.resting {
                check.at_ms = now_ms.saturating_add(check.interval_ms());
                self.due.push(Reverse((check.at_ms, id)));
                continue;
            }
            // A check that was held up does not make up for it.
            check.at_ms = now_ms;
            check.under_way = true;
            let start = Action::Start(id, Arc::clone(&check.check));
            self.actions.push_back(start);
        }
    }

    /// A check has come to an end.
    pub fn finished(&mut self, id: u64, verdict: &Verdict, now_ms: u64) {
        let share = (self.random() >> 48) as u16;
        let Some(check) = self.checks.get_mut(&id) else {
            return;
        };
        let changed = check.finish(verdict, now_ms, share);
        self.due.push(Reverse((check.at_ms, id)));
        let users = self.users.get(&id).cloned().unwrap_or_default();
        self.log_result(id, verdict, changed, &users, now_ms);
        if !(changed.state || changed.weight || changed.first) {
            return;
        }
        for (number, server) in users {
            self.follow(number, server, id, changed, now_ms);
        }
    }

    /// A server follows its check.
    fn follow(&mut self, number: usize, server: usize, id: u64, changed: Changed, now_ms: u64) {
        let Some((alive, weight)) = self.judge(number, server) else {
            return;
        };
        let Some(state) = self.server_mut(number, server) else {
            return;
        };
        let (was_alive, was_weight) = (state.alive, state.weight);
        state.alive = alive;
        state.weight = weight;
        if alive != was_alive {
            state.since_ms = now_ms;
            self.log_server(number, server);
        } else if weight != was_weight {
            self.log_weight(number, server, was_weight);
        }
        let is_new = alive != was_alive || changed.first && !changed.state && !alive;
        let mail = self.mail_about(number, server, id, changed, alive != was_alive);
        if is_new {
            self.tell_server(number, server, mail);
        } else if mail.is_some() {
            self.tell(News {
                subject: String::new(),
                script: None,
                line: String::new(),
                mail,
            });
        }
        if alive != was_alive || weight != was_weight {
            self.set(number, [server]);
            self.weigh_quorum(number, false, now_ms);
        }
    }

    /// Whether a server lives, and its weight, as its checks have it.
    fn judge(&self, number: usize, server: usize) -> Option<(bool, u32)> {
        let owner = self.virtuals.get(number)?;
        let (state, real) = (owner.servers.get(server)?, owner.real(server)?);
        let checks = state.checks.iter().filter_map(|id| self.checks.get(id));
        Some(judge(real, checks))
    }

    fn server_mut(&mut self, number: usize, server: usize) -> Option<&mut Server> {
        self.virtuals.get_mut(number)?.servers.get_mut(server)
    }

    /// Connections to this server fail: its checks are run at once.
    pub fn suspect(&mut self, server: &ServerKey, now_ms: u64) {
        let mut ids: Vec<u64> = Vec::new();
        for owner in &self.virtuals {
            let states = owner.servers.iter().zip(&owner.config.servers);
            let those = states.filter(|(state, real)| {
                state.alive && keys_meet(owner, real, server) && !state.checks.is_empty()
            });
            ids.extend(those.flat_map(|(state, _)| &state.checks));
        }
        for id in ids {
            let Some(check) = self.checks.get_mut(&id) else {
                continue;
            };
            if check.suspect(now_ms) {
                self.due.push(Reverse((check.at_ms, id)));
            }
        }
    }

    /// Queues what the table is to have for servers of a virtual server.
    fn set(&mut self, number: usize, servers: impl IntoIterator<Item = usize>) {
        let wants = self.wants(number, servers);
        if !wants.is_empty() {
            self.actions.push_back(Action::Set(wants));
        }
    }

    fn wants(&self, number: usize, servers: impl IntoIterator<Item = usize>) -> Vec<Want> {
        let mut wants = Vec::new();
        let Some(owner) = self.virtuals.get(number) else {
            return wants;
        };
        for server in servers {
            let Some(real) = owner.real(server) else {
                continue;
            };
            for service in &owner.keys {
                let key = real.key_in(service);
                let sorry = self.sorry_of(owner, service);
                let place = match sorry {
                    // One server is both.
                    Some((sorry, Some(settings))) if sorry == key => Some(settings),
                    _ => self.by_hand.over(service, &key, owner.place(server)),
                };
                wants.push((*service, key, place));
            }
        }
        wants
    }

    fn tell(&mut self, news: News) {
        self.actions.push_back(Action::Tell(news));
    }

    fn log(&mut self, line: String) {
        self.actions.push_back(Action::Log(line));
    }

    fn tell_server(&mut self, number: usize, server: usize, mail: Option<(String, String)>) {
        let Some(owner) = self.virtuals.get(number) else {
            return;
        };
        let (Some(state), Some(real)) = (owner.servers.get(server), owner.real(server)) else {
            return;
        };
        let (script, word) = if state.alive {
            (&real.notify.up, "UP")
        } else {
            (&real.notify.down, "DOWN")
        };
        let news = News {
            subject: format!("{} {}", owner.name, state.name),
            script: script.clone(),
            line: format!("RS {} {} {word}", state.name, owner.name),
            mail,
        };
        self.tell(news);
    }

    fn mail_about(
        &self,
        number: usize,
        server: usize,
        id: u64,
        changed: Changed,
        is_new: bool,
    ) -> Option<(String, String)> {
        let owner = self.virtuals.get(number)?;
        let (state, real) = (owner.servers.get(server)?, owner.real(server)?);
        if !real.mail || !changed.state || (self.surroundings.servers_only && !is_new) {
            return None;
        }
        let check = self.checks.get(&id)?;
        let why = check.last.as_ref().map_or("", |last| last.words.as_str());
        let text = words::mail(&check.check.probe, check.up, why);
        Some((server_subject(owner, state), text))
    }

    fn log_server(&mut self, number: usize, server: usize) {
        let Some(owner) = self.virtuals.get(number) else {
            return;
        };
        let (Some(state), Some(real)) = (owner.servers.get(server), owner.real(server)) else {
            return;
        };
        let (deed, word) = match (state.alive, real.inhibit) {
            (true, true) => ("Enabling", "of"),
            (true, false) => ("Adding", "to"),
            (false, true) => ("Disabling", "of"),
            (false, false) => ("Removing", "from"),
        };
        let line = format!("{deed} service {} {word} VS {}", state.name, owner.name);
        self.log(line);
    }

    fn log_weight(&mut self, number: usize, server: usize, before: u32) {
        let Some(owner) = self.virtuals.get(number) else {
            return;
        };
        let Some(state) = owner.servers.get(server) else {
            return;
        };
        let line = format!(
            "Changing weight from {before} to {} for {}active service {} of VS {}",
            state.weight,
            if state.alive { "" } else { "in" },
            state.name,
            owner.name
        );
        self.log(line);
    }

    /// Says what a result means, once for all servers of the check.
    fn log_result(
        &mut self,
        id: u64,
        verdict: &Verdict,
        changed: Changed,
        users: &[(usize, usize)],
        now_ms: u64,
    ) {
        let Some(check) = self.checks.get(&id) else {
            return;
        };
        let retries = check.check.timing.retries;
        let is_told = match changed.tolerated {
            Some(failure) => failure == 1 || check.check.log_all_failures,
            None => {
                changed.state || changed.first || {
                    !verdict.is_good() && check.check.log_all_failures
                }
            }
        };
        if !is_told {
            return;
        }
        let (kind, target) = words::check(&check.check.probe);
        let (number, server) = users.first().copied().unwrap_or_default();
        let name = self
            .virtuals
            .get(number)
            .and_then(|owner| owner.servers.get(server));
        let name = name.map_or("", |server| server.name.as_str());
        let more = match users.len() {
            0 | 1 => String::new(),
            count => format!(" and {} more", count - 1),
        };
        let words = check.last.as_ref().map_or("", |last| last.words.as_str());
        let tenths = check.at_ms.saturating_sub(now_ms) / 100;
        let wait = format!("{}.{}", tenths / 10, tenths % 10);
        let line = match (verdict.is_good(), changed.tolerated) {
            (true, _) => format!("{kind} {target} for {name}{more} succeeded: {words}"),
            (false, Some(failure)) => format!(
                "{kind} {target} for {name}{more} failed ({failure} of {retries} that are \
                 tolerated): {words}; next try in {wait} s"
            ),
            (false, None) if retries > 0 && !changed.first => {
                format!("{kind} {target} for {name}{more} failed after {retries} retries: {words}")
            }
            (false, None) => format!("{kind} {target} for {name}{more} failed: {words}"),
        };
        self.log(line);
    }

    /// The next random number (xorshift64*).
    fn random(&mut self) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        self.random.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

/// Subject of a mail about a server.
fn server_subject(owner: &Virtual, state: &Server) -> String {
    let word = if state.alive { "UP" } else { "DOWN" };
    format!(
        "Realserver {} of virtual server {} - {word}",
        state.name, owner.name
    )
}

fn keys_meet(owner: &Virtual, real: &RealServer, server: &ServerKey) -> bool {
    let mut keys = owner.keys.iter();
    real.key.address == server.address
        && keys.any(|service| real.key_in(service).port == server.port)
}

fn judge<'a>(real: &RealServer, checks: impl Iterator<Item = &'a Running>) -> (bool, u32) {
    let (mut alive, mut weight, mut change) = (true, None, 0i64);
    for check in checks {
        alive &= !check.is_fatal();
        match check.weighing {
            Weighing::None => {}
            // The lightest word counts where several checks have one.
            Weighing::Is(said) => weight = Some(weight.map_or(said, |other: u32| other.min(said))),
            Weighing::Changes(by) => change = change.saturating_add(by),
        }
    }
    let base = i64::from(weight.unwrap_or(real.settings.weight));
    let weight = base.saturating_add(change).clamp(0, WEIGHT_MAX);
    (alive, weight.unsigned_abs() as u32)
}
