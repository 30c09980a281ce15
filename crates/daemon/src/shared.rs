//! What the daemon's tasks have in common.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use evenkeel_api::{
    ConnectionStatus, EditRequest, EditResponse, InterfaceStatus, ReasonCount, Refusal, Services,
    SettingView, Status,
};
use evenkeel_core::connections::{Filter, visit};
use evenkeel_core::director::{AsOf, Director, Origin};
use evenkeel_core::health::Monitor;
use evenkeel_core::health::view::VirtualView;
use evenkeel_core::model::{ConnectionView, Edit, EditError, ServiceKey, Timeouts};
use evenkeel_core::sweep::{Sweeper, UDP_QUIESCED_SECONDS};
use evenkeel_datapath::Reason;
use evenkeel_datapath::layout::{Bucket, LAYOUT_VERSION, WAYS};
use tokio::sync::{Notify, watch};

use crate::crew::Crew;
use crate::dataplane::Dataplane;
use crate::warnings;

/// How often an edit is tried again when room is about to become free.
const TRIES: usize = 4;

/// How the daemon shall end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// By a signal: the forwarding goes on.
    Signal,
    /// As asked for: the forwarding goes on.
    Detach,
    /// As asked for: everything is removed.
    Remove,
}

/// What the daemon itself counts connections by, beside [`Reason`].
#[derive(Debug)]
pub struct Swept;

impl Swept {
    /// Names and meanings.
    pub const ALL: &[(&str, &str)] = &[
        (
            "half_open_cut_short",
            "A half-open connection ended early because its service has so many.",
        ),
        (
            "dropped_entry",
            "A connection that is not established was dropped, as `drop_entry` says.",
        ),
    ];
}

/// Reads the configuration again and applies it: the warnings about it.
pub type Reload = Box<dyn FnMut(&Shared) -> anyhow::Result<Vec<String>> + Send>;

/// What the daemon's tasks have in common.
pub struct Shared {
    instance: String,
    dataplane: Arc<dyn Dataplane>,
    director: Mutex<Director>,
    monitor: Mutex<Monitor>,
    monitor_woken: Notify,
    /// Seconds that a UDP flow to a server of weight 0 may be silent.
    udp_quiesced: AtomicU32,
    /// Who runs checks and tells news; none: nobody yet.
    crew: Mutex<Option<Arc<Crew>>>,
    /// What reading the configuration again does; none: there is none.
    reload: Mutex<Option<Reload>>,
    started: Instant,
    adopted: bool,
    interfaces: Mutex<Vec<InterfaceStatus>>,
    connections: Mutex<ConnectionStatus>,
    /// Connections that ended early, as [`Swept`] names them.
    swept: [AtomicU64; Swept::ALL.len()],
    /// Warnings that were logged.
    told: Mutex<HashSet<String>>,
    edited: Notify,
    stop: watch::Sender<Option<Stop>>,
}

/// A lock whose former holder panicked is used all the same: the director's changes
/// are made in steps that are whole by themselves.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// Takes over what the dataplane's memory holds. `adopted`: it was found
    /// running.
    #[must_use]
    pub fn new(instance: &str, dataplane: Arc<dyn Dataplane>, adopted: bool) -> Self {
        let started = Instant::now();
        let memory = dataplane.memory();
        let mut director = Director::adopt(&memory, 0);
        director.write_all(&memory);
        if adopted {
            tracing::info!(
                "took over the table: services {}, servers {}",
                director.service_count(),
                director.server_count()
            );
        }
        if director.repairs() > 0 {
            tracing::warn!(
                "finished or removed {} entries that were half made when the last daemon ended",
                director.repairs()
            );
        }
        let connections = ConnectionStatus {
            capacity: (Sweeper::buckets(&memory) * WAYS) as u64,
            bytes_per_entry: (size_of::<Bucket>() / WAYS) as u32,
            ..ConnectionStatus::default()
        };
        Self {
            instance: instance.into(),
            director: Mutex::new(director),
            monitor: Mutex::new(Monitor::new(seed())),
            monitor_woken: Notify::new(),
            udp_quiesced: AtomicU32::new(UDP_QUIESCED_SECONDS),
            crew: Mutex::default(),
            reload: Mutex::default(),
            dataplane,
            started,
            adopted,
            interfaces: Mutex::default(),
            connections: Mutex::new(connections),
            swept: Default::default(),
            told: Mutex::default(),
            edited: Notify::new(),
            stop: watch::Sender::new(None),
        }
    }

    /// The dataplane.
    #[must_use]
    pub fn dataplane(&self) -> &dyn Dataplane {
        &*self.dataplane
    }

    /// True: the dataplane was found running.
    #[must_use]
    pub fn is_adopted(&self) -> bool {
        self.adopted
    }

    /// Milliseconds since the start, as the director counts time.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Does something with the director, and makes the changes that it queues.
    pub fn with_director<T>(&self, action: impl FnOnce(&mut Director) -> T) -> T {
        let mut director = lock(&self.director);
        let result = action(&mut director);
        director.write_all(&self.dataplane.memory());
        result
    }

    /// Does something with the monitor.
    pub fn with_monitor<T>(&self, action: impl FnOnce(&mut Monitor) -> T) -> T {
        action(&mut lock(&self.monitor))
    }

    /// Has the monitor's task look what there is to do.
    pub fn wake_monitor(&self) {
        self.monitor_woken.notify_one();
    }

    /// Returns when [`Shared::wake_monitor`] was called since the last time.
    pub async fn monitor_woken(&self) {
        self.monitor_woken.notified().await;
    }

    /// Says who runs checks and tells news.
    pub fn set_crew(&self, crew: Arc<Crew>) {
        *lock(&self.crew) = Some(crew);
    }

    fn crew(&self) -> Option<Arc<Crew>> {
        lock(&self.crew).clone()
    }

    /// Sets what [`Shared::reload`] does.
    pub fn on_reload(&self, reload: Reload) {
        *lock(&self.reload) = Some(reload);
    }

    /// Reads the configuration again and applies it, as a whole or not at all. Blocks. Gives
    /// the warnings about it, a line each.
    pub fn reload(&self) -> anyhow::Result<Vec<String>> {
        // One at a time.
        let mut reload = lock(&self.reload);
        let Some(reload) = reload.as_mut() else {
            anyhow::bail!("this director has no configuration to read again");
        };
        let result = reload(self);
        match &result {
            Ok(_) => tracing::info!("the configuration was read again"),
            Err(error) => tracing::error!(
                "the configuration was read again and not accepted, all stays as it was: {error:#}"
            ),
        }
        result
    }

    /// How the servers are.
    #[must_use]
    pub fn health(&self) -> Vec<VirtualView> {
        let now_ms = self.now_ms();
        let mut views = self.with_monitor(|monitor| monitor.view(now_ms));
        self.with_director(|director| {
            for view in &mut views {
                let services = view.services.iter().copied();
                let deleted = services.filter(|service| !director.is_configured(service));
                view.deleted = deleted.collect();
            }
        });
        views
    }

    /// Seconds that a UDP flow to a server of weight 0 may be silent.
    #[must_use]
    pub fn udp_quiesced(&self) -> u32 {
        self.udp_quiesced.load(Ordering::Relaxed)
    }

    /// Sets [`Shared::udp_quiesced`].
    pub fn set_udp_quiesced(&self, seconds: u32) {
        self.udp_quiesced.store(seconds, Ordering::Relaxed);
    }

    /// Applies the edits of a request. Blocks, up to some seconds when the memory for them
    /// is about to become free.
    pub fn apply(&self, request: &EditRequest) -> EditResponse {
        let response = self.apply_from(Origin::Request, request);
        self.note_hands(request, &response);
        warnings::after(self, request, &response);
        response
    }

    /// What was done by hand to configured servers is not undone by their health.
    fn note_hands(&self, request: &EditRequest, response: &EditResponse) {
        if request.transaction && !response.refused.is_empty() {
            return;
        }
        let refused: HashSet<usize> = response.refused.iter().map(|it| it.index).collect();
        self.with_monitor(|monitor| {
            for (index, edit) in request.edits.iter().enumerate() {
                if !refused.contains(&index) {
                    monitor.by_hand(edit);
                }
            }
        });
    }

    /// [`Shared::apply`] for another, or for a request.
    pub(crate) fn apply_from(&self, origin: Origin, request: &EditRequest) -> EditResponse {
        let mut refused = self.apply_once(origin, &request.edits, request.transaction);
        for _ in 1..TRIES {
            let Some(first) = refused.iter().position(|(_, error)| is_full(error)) else {
                break;
            };
            let Some(room_at) = self.with_director(|director| director.room_at_ms()) else {
                break;
            };
            let wait = room_at.saturating_sub(self.now_ms()).saturating_add(1);
            std::thread::sleep(Duration::from_millis(wait));
            if request.transaction {
                refused = self.apply_once(origin, &request.edits, true);
            } else {
                // Those behind the first may have been refused because of it.
                let again = refused.split_off(first);
                let edits: Vec<Edit> = again
                    .iter()
                    .map(|&(index, _)| request.edits[index].clone())
                    .collect();
                let still = self.apply_once(origin, &edits, false);
                refused.extend(still.into_iter().map(|(at, error)| (again[at].0, error)));
            }
        }
        self.edited.notify_one();
        let refused = refused
            .into_iter()
            .map(|(index, error)| Refusal { index, error });
        EditResponse {
            refused: refused.collect(),
        }
    }

    fn apply_once(
        &self,
        origin: Origin,
        edits: &[Edit],
        transaction: bool,
    ) -> Vec<(usize, EditError)> {
        let now_ms = self.now_ms();
        let memory = self.dataplane.memory();
        self.with_director(|director| {
            director.apply_from(origin, edits, transaction, &memory, now_ms)
        })
    }

    /// Logs a warning, unless it was logged before.
    pub(crate) fn warn_once(&self, warning: String) {
        let mut told = lock(&self.told);
        if !told.contains(&warning) {
            tracing::warn!("{warning}");
            told.insert(warning);
        }
    }

    /// Returns when servers may have been added, or settings changed, since the last call.
    pub async fn edited(&self) {
        self.edited.notified().await;
    }

    /// The table, or one service of it; nothing if that one is not there.
    #[must_use]
    pub fn services(&self, only: Option<&ServiceKey>, as_of: AsOf) -> Option<Services> {
        let memory = self.dataplane.memory();
        let services = self.with_director(|director| director.list(only, as_of, &memory));
        // IPVS's table has 4,096 buckets by default, and a connection table of the
        // default size 262,144 entries.
        let entries = memory.connections.len() * WAYS;
        Some(Services {
            table_size: (entries / 64) as u32,
            services: services?,
        })
    }

    /// Hands over the connections that the filter wants, of `count` buckets from `first`
    /// on, until `take` breaks off. Gives the bucket to go on with; none when that was
    /// all.
    pub fn connections(
        &self,
        filter: &Filter,
        first: usize,
        count: usize,
        take: &mut dyn FnMut(ConnectionView) -> ControlFlow<()>,
    ) -> anyhow::Result<Option<usize>> {
        let memory = self.dataplane.memory();
        let now_tick = self.dataplane.now_tick()?;
        let ticks_per_second = self.dataplane.ticks_per_second();
        let end = first.saturating_add(count);
        let flow = self.with_director(|director| {
            visit(
                &memory,
                director,
                first..end,
                now_tick,
                ticks_per_second,
                filter,
                take,
            )
        });
        let all = memory.connections.len() + memory.wide_connections.len();
        Ok((flow.is_continue() && end < all).then_some(end))
    }

    /// The settings of `net.ipv4.vs`.
    #[must_use]
    pub fn settings(&self) -> Vec<SettingView> {
        let settings = self.with_director(|director| director.sysctls());
        let views = settings.iter().map(|(setting, value)| SettingView {
            setting,
            value,
            default: setting.default(),
            takes: setting.kind().to_string(),
            meaning: setting.meaning().into(),
            without_effect: setting.without_effect().map(Into::into),
        });
        views.collect()
    }

    /// The timeouts of connections.
    #[must_use]
    pub fn timeouts(&self) -> Timeouts {
        self.with_director(|director| director.timeouts())
    }

    /// What `evenkeel status` shows.
    #[must_use]
    pub fn status(&self) -> Status {
        let (services, servers, without_hop) = self.with_director(|director| {
            (
                director.service_count(),
                director.server_count(),
                director.servers_without_hop(),
            )
        });
        Status {
            version: env!("CARGO_PKG_VERSION").into(),
            instance: self.instance.clone(),
            pid: std::process::id(),
            uptime_s: self.started.elapsed().as_secs(),
            adopted: self.adopted,
            layout_version: LAYOUT_VERSION,
            interfaces: lock(&self.interfaces).clone(),
            connections: lock(&self.connections).clone(),
            services: services as u32,
            servers: servers as u32,
            servers_without_hop: without_hop as u32,
            reasons: self.reasons(),
            virtual_servers: self.health(),
            deliveries: self
                .crew()
                .map(|crew| crew.deliveries())
                .unwrap_or_default(),
        }
    }

    fn reasons(&self) -> Vec<ReasonCount> {
        let memory = self.dataplane.memory();
        let counts = Reason::ALL.iter().map(|&(reason, name, _)| {
            let of = |cpu: &evenkeel_datapath::layout::Reasons| cpu.counts[reason as usize].get();
            ReasonCount {
                name: name.into(),
                count: memory.reasons.iter().map(of).sum(),
            }
        });
        let swept = Swept::ALL.iter().zip(&self.swept);
        let swept = swept.map(|(&(name, _), count)| ReasonCount {
            name: name.into(),
            count: count.load(Ordering::Relaxed),
        });
        let all = counts.chain(swept);
        all.filter(|reason| reason.count > 0).collect()
    }

    /// Counts connections that ended early: half-open ones whose time was cut short, and
    /// those that `drop_entry` has taken.
    pub fn count_swept(&self, cut_short: u64, dropped: u64) {
        for (count, more) in self.swept.iter().zip([cut_short, dropped]) {
            count.fetch_add(more, Ordering::Relaxed);
        }
    }

    /// Notes what the connection table holds.
    pub fn set_connections(&self, in_use: u64, states: Vec<ReasonCount>) {
        let mut connections = lock(&self.connections);
        connections.in_use = in_use;
        connections.states = states;
    }

    /// Changes what is shown about interfaces.
    pub fn with_interfaces(&self, change: impl FnOnce(&mut Vec<InterfaceStatus>)) {
        change(&mut lock(&self.interfaces));
    }

    /// True: the interface is attached to, by a hook that `is`.
    pub(crate) fn is_hooked(&self, interface: u32, is: impl Fn(&str) -> bool) -> bool {
        let interfaces = lock(&self.interfaces);
        let mut here = interfaces.iter().filter(|status| status.index == interface);
        here.any(|status| is(&status.hook))
    }

    /// Ends the daemon.
    pub fn stop(&self, how: Stop) {
        self.stop.send_if_modified(|stop| {
            let first = stop.is_none();
            *stop = stop.or(Some(how));
            first
        });
    }

    /// Returns when the daemon shall end.
    pub async fn stopped(&self) -> Stop {
        let mut stop = self.stop.subscribe();
        let how = stop.wait_for(Option::is_some).await;
        // The sender is in `self`, so that it can not be gone.
        how.ok().and_then(|how| *how).unwrap_or(Stop::Signal)
    }
}

/// A number that nobody can foretell.
fn seed() -> u64 {
    RandomState::new().hash_one(std::process::id())
}

fn is_full(error: &EditError) -> bool {
    matches!(error, EditError::Full(_))
}
