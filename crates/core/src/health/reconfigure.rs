//! From one configuration to the next: what stays the same keeps its state.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::IpAddr;

use hashbrown::{HashMap, HashSet};

use super::by_hand::ByHand;
use super::check::Running;
use super::news::News;
use super::quorum::quorum_news;
use super::{Action, Monitor, Server, Virtual, judge, server_subject, words};
use crate::model::{
    Check, ConfiguredService, Ends, Family, Probe, ServerKey, ServiceKey, Sorry, Timing,
    VirtualServer,
};

/// What the director finds around it.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// Ports of the built-in sorry servers, by their directories.
    pub builtin: Vec<(Option<String>, u16)>,
    /// Addresses of this machine.
    pub addresses: Vec<IpAddr>,
    /// Servers that live when they are configured first are told as well.
    pub tell_at_start: bool,
    /// Mail about a server comes when it lives or dies only.
    pub servers_only: bool,
}

impl Surroundings {
    pub(super) fn builtin_port(&self, directory: Option<&str>) -> Option<u16> {
        let mut known = self.builtin.iter();
        known
            .find(|(other, _)| other.as_deref() == directory)
            .map(|(_, port)| *port)
    }

    /// An address of this machine that others reach.
    pub(super) fn own_address(&self, family: Family) -> Option<IpAddr> {
        let mut own = self.addresses.iter().copied();
        own.find(|address| Family::of(address) == family && !address.is_loopback())
    }
}

/// Where the states of a former configuration are found.
struct Former<'a> {
    monitor: &'a Monitor,
    by_check: HashMap<&'a Check, u64>,
    /// Those that may have been the same with other times.
    by_probe: HashMap<&'a Probe, u64>,
    by_key: HashMap<ServiceKey, &'a Virtual>,
}

impl<'a> Former<'a> {
    fn of(monitor: &'a Monitor) -> Self {
        let checks = || monitor.checks.iter();
        let virtuals = monitor.virtuals.iter();
        Self {
            monitor,
            by_check: checks().map(|(id, it)| (&*it.check, *id)).collect(),
            by_probe: checks().map(|(id, it)| (&it.check.probe, *id)).collect(),
            by_key: virtuals
                .flat_map(|owner| owner.keys.iter().map(move |key| (*key, owner)))
                .collect(),
        }
    }

    /// The virtual server that had the name or, without a group, the service.
    fn virtual_server(&self, config: &VirtualServer, keys: &[ServiceKey]) -> Option<&'a Virtual> {
        if config.group.is_some() {
            let mut all = self.monitor.virtuals.iter();
            return all.find(|owner| owner.config.group == config.group);
        }
        let owner = *self.by_key.get(keys.first()?)?;
        owner.config.group.is_none().then_some(owner)
    }
}

impl Monitor {
    /// The monitor of another configuration. What is in both keeps its state: checks that are
    /// the same go on, those that differ in their times alone keep what they know. `found`
    /// says whether the table has a server that this monitor did not know before; one that
    /// is not there starts as dead, and is checked at once.
    ///
    /// Nothing is done yet: [`Monitor::services`] is to be brought to the table, and when
    /// that is accepted [`Monitor::begin`] told.
    #[must_use]
    pub fn reconfigured(
        &self,
        config: Vec<Arc<VirtualServer>>,
        surroundings: Surroundings,
        found: impl Fn(&ServiceKey, &ServerKey) -> bool,
        now_ms: u64,
    ) -> Self {
        let former = Former::of(self);
        let mut next = Self {
            virtuals: Vec::with_capacity(config.len()),
            checks: HashMap::new(),
            users: HashMap::new(),
            due: alloc::collections::BinaryHeap::new(),
            next_id: self.next_id,
            epoch: self.epoch + 1,
            by_hand: ByHand::default(),
            keys: config.iter().flat_map(|config| config.keys()).collect(),
            surroundings,
            actions: alloc::collections::VecDeque::new(),
            random: self.random,
        };
        let mut ids = HashMap::new();
        for config in config {
            next.add(config, &former, &mut ids, &found, now_ms);
        }
        next.rest();
        let due = next.checks.values().filter(|check| !check.under_way);
        next.due = due
            .map(|check| core::cmp::Reverse((check.at_ms, check.id)))
            .collect();
        next
    }

    fn add(
        &mut self,
        config: Arc<VirtualServer>,
        former: &Former<'_>,
        ids: &mut HashMap<Arc<Check>, u64>,
        found: &impl Fn(&ServiceKey, &ServerKey) -> bool,
        now_ms: u64,
    ) {
        let number = self.virtuals.len();
        let keys: Vec<ServiceKey> = config.keys().collect();
        let before = former.virtual_server(&config, &keys);
        let protocol = words::protocol_of(&config);
        let mut servers = Vec::with_capacity(config.servers.len());
        for (index, real) in config.servers.iter().enumerate() {
            let known = before.and_then(|before| state_of(before, &real.key));
            let is_there = || {
                let mut keys = keys.iter();
                keys.any(|service| found(service, &real.key_in(service)))
            };
            let down = known.is_none() && !real.checks.is_empty() && !is_there();
            let checks: Vec<u64> = real
                .checks
                .iter()
                .map(|check| self.check(check, former, ids, down, now_ms))
                .collect();
            for id in &checks {
                self.users.entry(*id).or_default().push((number, index));
            }
            let running = checks.iter().filter_map(|id| self.checks.get(id));
            let (alive, weight) = judge(real, running);
            let since_ms = match known {
                Some(known) if known.alive == alive => known.since_ms,
                _ => now_ms,
            };
            servers.push(Server {
                name: words::real_server(&real.key, protocol),
                checks,
                alive,
                since_ms,
                weight,
            });
        }
        self.virtuals.push(Virtual {
            name: words::virtual_server(&config),
            protocol,
            keys,
            servers,
            quorum_up: before.is_some_and(|before| before.quorum_up),
            quorum_since_ms: before.map_or(now_ms, |before| before.quorum_since_ms),
            sorry: before.is_some_and(|before| before.sorry && config.sorry.is_some()),
            resting: false,
            config,
        });
        // The table gets its first state as a whole, the sorry server in its place.
        self.begin_quorum(number);
    }

    /// The sorry server is where it belongs, before anything is told.
    fn begin_quorum(&mut self, number: usize) {
        let Some(owner) = self.virtuals.get_mut(number) else {
            return;
        };
        let sum = owner.living_weight();
        let enough = i64::try_from(sum).unwrap_or(i64::MAX) >= owner.threshold();
        let up = enough && (sum > 0 || !owner.quorum_up);
        owner.sorry = owner.config.sorry.is_some() && !up;
    }

    /// The number of a check, which is made where there is none like it.
    fn check(
        &mut self,
        check: &Check,
        former: &Former<'_>,
        ids: &mut HashMap<Arc<Check>, u64>,
        down: bool,
        now_ms: u64,
    ) -> u64 {
        if let Some(id) = ids.get(check) {
            return *id;
        }
        let same = former.by_check.get(check);
        if let Some(running) = same.and_then(|id| former.monitor.checks.get(id)) {
            let running = running.clone();
            let id = running.id;
            ids.insert(Arc::clone(&running.check), id);
            self.checks.insert(id, running);
            return id;
        }
        let id = self.next_id;
        self.next_id += 1;
        let check = Arc::new(check.clone());
        let wait_ms = if down { 0 } else { self.wait_ms(&check.timing) };
        let mut running = Running::new(id, Arc::clone(&check), down, now_ms, wait_ms);
        let similar = former.by_probe.get(&check.probe);
        if let Some(known) = similar.and_then(|id| former.monitor.checks.get(id)) {
            running.continue_from(known);
        }
        ids.insert(check, id);
        self.checks.insert(id, running);
        id
    }

    /// A random part of the time before a first run.
    fn wait_ms(&mut self, timing: &Timing) -> u64 {
        let warmup = u64::try_from(timing.warmup.as_millis()).unwrap_or(u64::MAX);
        let share = self.random() >> 48;
        (u128::from(warmup) * u128::from(share) / 65_536) as u64
    }

    /// What the table is to have: every service with the servers that are to be there now.
    #[must_use]
    pub fn services(&self) -> Vec<ConfiguredService> {
        let mut services = Vec::new();
        for (number, owner) in self.virtuals.iter().enumerate() {
            let first = services.len();
            services.extend(owner.keys.iter().map(|key| ConfiguredService {
                key: *key,
                settings: owner.config.settings_in(key),
                servers: Vec::new(),
            }));
            let places: HashMap<ServiceKey, usize> = owner
                .keys
                .iter()
                .enumerate()
                .map(|(at, key)| (*key, first + at))
                .collect();
            let servers = self.wants(number, 0..owner.servers.len());
            let sorry = self.sorry_wants(number);
            let sorry = sorry
                .into_iter()
                .filter(|(service, key, _)| !self.is_server(number, service, key));
            for (service, server, place) in servers.into_iter().chain(sorry) {
                let service = places.get(&service).and_then(|at| services.get_mut(*at));
                if let (Some(service), Some(settings)) = (service, place) {
                    service.servers.push((server, settings));
                }
            }
        }
        services
    }

    /// The table has what [`Monitor::services`] says: checks begin, those of `former` that are
    /// no more end, and what has changed is told.
    pub fn begin(&mut self, former: &Self, now_ms: u64) {
        let mut stopped: Vec<u64> = former.checks.keys().copied().collect();
        stopped.retain(|id| !self.checks.contains_key(id));
        stopped.sort_unstable();
        self.actions.extend(stopped.into_iter().map(Action::Stop));
        for news in self.news_of_the_removed(former) {
            self.tell(news);
        }
        for number in 0..self.virtuals.len() {
            self.tell_of_the_changed(number, former);
            // The sorry server has its place already, which is not told yet.
            let place = self.virtuals.get(number).is_some_and(|owner| owner.sorry);
            let before = self.was(number, former);
            let was_sorry = before.is_some_and(|before| before.sorry);
            if let Some(owner) = self.virtuals.get_mut(number) {
                owner.sorry = was_sorry && owner.config.sorry.is_some();
            }
            self.weigh_quorum(number, true, now_ms);
            if let Some(owner) = self.virtuals.get_mut(number) {
                owner.sorry = place;
            }
        }
    }

    fn was<'a>(&self, number: usize, former: &'a Self) -> Option<&'a Virtual> {
        let owner = self.virtuals.get(number)?;
        let mut all = former.virtuals.iter();
        all.find(|before| before.name == owner.name && before.config.group == owner.config.group)
    }

    fn tell_of_the_changed(&mut self, number: usize, former: &Self) {
        let count = self
            .virtuals
            .get(number)
            .map_or(0, |owner| owner.servers.len());
        let before = self.was(number, former);
        for server in 0..count {
            let Some(owner) = self.virtuals.get(number) else {
                return;
            };
            let (Some(state), Some(real)) = (owner.servers.get(server), owner.real(server)) else {
                continue;
            };
            let known = before.and_then(|before| state_of(before, &real.key));
            let is_news = match known {
                Some(known) => known.alive != state.alive,
                None => state.alive && self.surroundings.tell_at_start,
            };
            if is_news {
                self.tell_server(number, server, None);
            }
        }
    }

    /// Servers and virtual servers that live, and stand in the configuration no more, go down.
    fn news_of_the_removed(&self, former: &Self) -> Vec<News> {
        let present: HashSet<(&str, ServerKey)> = self
            .virtuals
            .iter()
            .flat_map(|owner| {
                let servers = owner.config.servers.iter();
                servers.map(|real| (owner.name.as_str(), real.key))
            })
            .collect();
        let names: HashSet<&str> = self.virtuals.iter().map(|it| it.name.as_str()).collect();
        let mut news = Vec::new();
        for owner in &former.virtuals {
            let stays = names.contains(owner.name.as_str());
            if !stays && !owner.config.omega {
                continue;
            }
            let gone = owner.config.servers.iter().enumerate();
            for (server, _) in
                gone.filter(|(_, real)| !present.contains(&(owner.name.as_str(), real.key)))
            {
                news.extend(farewell(owner, server, "=> Removing <="));
            }
            if !stays && owner.quorum_up {
                let mut owner = owner.clone();
                owner.quorum_up = false;
                news.push(quorum_news(&owner, "=> Removing <=".into()));
            }
        }
        news
    }

    /// The director ends: what is told of that.
    #[must_use]
    pub fn farewell(&self) -> Vec<News> {
        let owners = self.virtuals.iter().filter(|owner| owner.config.omega);
        let mut news = Vec::new();
        for owner in owners {
            for server in 0..owner.servers.len() {
                news.extend(farewell(owner, server, "=> Shutting down <="));
            }
            let mut owner = owner.clone();
            owner.quorum_up = false;
            news.push(quorum_news(&owner, "=> Shutting down <=".into()));
        }
        news
    }

    /// The machine's addresses, as far as they are of interest.
    #[must_use]
    pub fn addresses(&self) -> &[IpAddr] {
        &self.surroundings.addresses
    }

    /// Addresses of which it matters whether this machine has them, and servers on the way to
    /// which its own address does.
    #[must_use]
    pub fn addresses_of_interest(&self) -> (Vec<IpAddr>, Vec<IpAddr>) {
        let (mut own, mut others) = (Vec::new(), Vec::new());
        for owner in &self.virtuals {
            if owner.config.ha_suspend {
                let addresses = owner.keys.iter().filter_map(|key| match key {
                    ServiceKey::Address { address, .. } => Some(*address),
                    ServiceKey::Mark { .. } => None,
                });
                own.extend(addresses);
            }
            let is_builtin = matches!(owner.config.sorry, Some(Sorry::Builtin { .. }));
            let has_mark = || {
                owner
                    .config
                    .ends
                    .iter()
                    .any(|it| matches!(it, Ends::Mark { .. }))
            };
            if is_builtin && has_mark() {
                others.extend(owner.config.servers.iter().map(|real| real.key.address));
            }
        }
        for list in [&mut own, &mut others] {
            list.sort_unstable();
            list.dedup();
        }
        (own, others)
    }

    /// These are the machine's addresses now.
    pub fn set_addresses(&mut self, addresses: Vec<IpAddr>) {
        self.surroundings.addresses = addresses;
        self.rest();
        for number in 0..self.virtuals.len() {
            let is_active = self.virtuals.get(number).is_some_and(|owner| {
                owner.sorry && matches!(owner.config.sorry, Some(Sorry::Builtin { .. }))
            });
            if is_active {
                let wants = self.sorry_wants(number);
                self.actions.push_back(Action::Set(wants));
            }
        }
    }

    /// Lets checks rest where all virtual servers that have them want that.
    fn rest(&mut self) {
        let own: HashSet<IpAddr> = self.surroundings.addresses.iter().copied().collect();
        let mut lines = Vec::new();
        for owner in &mut self.virtuals {
            let resting = owner.config.ha_suspend && !carries(&owner.config, &own);
            if resting != owner.resting {
                owner.resting = resting;
                let deed = if resting { "Suspending" } else { "Activating" };
                lines.push(format!("{deed} healthcheckers for VS {}", owner.name));
            }
        }
        for (id, users) in &self.users {
            let resting = users
                .iter()
                .all(|(number, _)| self.virtuals.get(*number).is_some_and(|it| it.resting));
            if let Some(check) = self.checks.get_mut(id) {
                check.resting = resting;
            }
        }
        self.actions.extend(lines.into_iter().map(Action::Log));
    }
}

fn carries(config: &VirtualServer, own: &HashSet<IpAddr>) -> bool {
    let mut ends = config.ends.iter();
    ends.any(|ends| match ends {
        Ends::Addresses { first, last, .. } => own.iter().any(|address| {
            Family::of(address) == Family::of(first) && (first..=last).contains(&address)
        }),
        Ends::Mark { .. } => true,
    })
}

fn state_of<'a>(owner: &'a Virtual, server: &ServerKey) -> Option<&'a Server> {
    let mut servers = owner.config.servers.iter();
    let index = servers.position(|real| real.key == *server)?;
    owner.servers.get(index)
}

/// A server that lives leaves.
fn farewell(owner: &Virtual, server: usize, text: &str) -> Option<News> {
    let (state, real) = (owner.servers.get(server)?, owner.real(server)?);
    if !state.alive {
        return None;
    }
    let mut state = state.clone();
    state.alive = false;
    Some(News {
        subject: format!("{} {}", owner.name, state.name),
        script: real.notify.down.clone(),
        line: format!("RS {} {} DOWN", state.name, owner.name),
        mail: real
            .mail
            .then(|| (server_subject(owner, &state), text.into())),
    })
}
