//! The task that follows the network: interfaces come and go, next hops change.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use evenkeel_api::InterfaceStatus;
use evenkeel_core::client_hops;
use evenkeel_core::director::{Hop, Reach};
use evenkeel_core::model::{MarkRule, Sysctl};
use evenkeel_kernel::attach::{Hook, Wanted};
use evenkeel_kernel::dataplane::Dataplane;
use evenkeel_kernel::network::{Event, Link, LinkLayer, Network, NextHop};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::shared::Shared;
use crate::warnings;

/// Changes within this time are handled together.
const QUIET: Duration = Duration::from_millis(20);

/// Least time between two route generations, see [`client_hops::next_generation`].
const GENERATION_INTERVAL: Duration = Duration::from_secs(1);

/// How often the kernel is asked for the MAC address of a next hop that has none.
const UNRESOLVED_INTERVAL: Duration = Duration::from_secs(1);

/// How often the kernel is made to see whether a next hop is still there: it takes
/// an answer to be good for 30 s.
const CONFIRM_INTERVAL: Duration = Duration::from_secs(25);

/// The resolving of all servers takes at most a part in this of the time.
const PACE: u32 = 4;

/// How often what was refused for a passing reason is tried again.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);

/// Which interfaces the packet path is attached to, and what else depends on them.
#[derive(Clone, Debug, Default)]
pub struct Attaching {
    /// By which hook.
    pub hook: Hook,
    /// Names; empty: every interface that packets come by.
    pub only: Vec<String>,
    /// Rules that mark packets.
    pub marks: Vec<MarkRule>,
    /// Addresses of source NAT, which are to be addresses of this machine.
    pub source_addresses: Vec<IpAddr>,
}

impl Attaching {
    fn takes(&self, link: &Link) -> bool {
        if link.layer == LinkLayer::Other {
            return false;
        }
        self.only.is_empty() || self.only.contains(&link.name)
    }
}

/// A next hop: the server itself, or a router.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Neighbour {
    interface: u32,
    address: IpAddr,
}

/// Which servers are resolved.
#[derive(Clone, Copy, Debug)]
enum Which {
    All,
    /// Those that the kernel was not asked about yet.
    New,
}

/// The task.
pub struct Follower {
    shared: Arc<Shared>,
    dataplane: Arc<Dataplane>,
    attaching: Attaching,
    /// What another configuration wants.
    wanted: watch::Receiver<Attaching>,
    network: Network,
    /// When something is to be done, soonest first by reading all.
    resolve_at: Option<Instant>,
    generation_at: Option<Instant>,
    last_generation: Instant,
    attach_at: Option<Instant>,
    /// When servers that may be new are resolved.
    new_at: Option<Instant>,
    /// When servers were resolved last, and how long it took.
    resolved_at: Instant,
    resolving_took: Duration,
    /// Addresses that the kernel was asked about.
    asked: HashSet<IpAddr>,
    /// True: what leaves is looked at for answers of servers on this machine.
    replies: bool,
    /// True: the ends of tunnels of IPIP and GRE are left alone.
    ignores_tunnels: bool,
    /// Neighbours that were probed: whether they were known, and when.
    probed: HashMap<Neighbour, (bool, Instant)>,
}

impl Follower {
    /// Attaches to all interfaces there are, and resolves all servers. Must be
    /// called in a tokio runtime.
    pub fn start(
        shared: Arc<Shared>,
        dataplane: Arc<Dataplane>,
        mut wanted: watch::Receiver<Attaching>,
    ) -> anyhow::Result<Self> {
        let network = Network::open()?;
        let attaching = wanted.borrow_and_update().clone();
        let now = Instant::now();
        let mut follower = Self {
            shared,
            dataplane,
            attaching,
            wanted,
            network,
            resolve_at: None,
            generation_at: None,
            last_generation: now,
            attach_at: None,
            new_at: None,
            resolved_at: now,
            resolving_took: Duration::ZERO,
            asked: HashSet::new(),
            replies: false,
            ignores_tunnels: false,
            probed: HashMap::new(),
        };
        // As far as it is known from before: what is adopted is not to be without it.
        follower.replies = follower.has_replies();
        follower.ignores_tunnels = follower.shall_ignore_tunnels();
        follower.attach_all()?;
        follower.resolve(Which::All);
        Ok(follower)
    }

    /// Follows the network until the future is dropped or the kernel says no more.
    pub async fn run(mut self) -> anyhow::Result<()> {
        loop {
            let due = self.due();
            let shared = Arc::clone(&self.shared);
            tokio::select! {
                event = self.network.next_event() => self.note(event?),
                () = shared.edited() => {
                    self.follow_settings();
                    let at = self.pace();
                    sooner(&mut self.new_at, at);
                }
                Ok(()) = self.wanted.changed() => {
                    self.attaching = self.wanted.borrow_and_update().clone();
                    let now = Instant::now();
                    sooner(&mut self.attach_at, now);
                    sooner(&mut self.resolve_at, now);
                }
                () = sleep_until(due) => self.act()?,
            }
        }
    }

    /// When something is to be done next.
    fn due(&self) -> Instant {
        let far = Instant::now() + CONFIRM_INTERVAL;
        [
            self.resolve_at,
            self.new_at,
            self.generation_at,
            self.attach_at,
        ]
        .into_iter()
        .flatten()
        .fold(far, Instant::min)
    }

    fn note(&mut self, event: Event) {
        let soon = Instant::now() + QUIET;
        match event {
            Event::LinkChanged { .. } | Event::LinkGone { .. } | Event::Resync => {
                sooner(&mut self.attach_at, soon);
            }
            Event::NeighbourChanged { .. } | Event::RoutesChanged => {}
        }
        let resolve_at = soon.max(self.pace());
        sooner(&mut self.resolve_at, resolve_at);
        sooner(
            &mut self.generation_at,
            soon.max(self.last_generation + GENERATION_INTERVAL),
        );
    }

    fn act(&mut self) -> anyhow::Result<()> {
        let now = Instant::now();
        let is_due = |at: &mut Option<Instant>| at.take_if(|at| *at <= now).is_some();
        if is_due(&mut self.attach_at) {
            self.attach_all()?;
        }
        if is_due(&mut self.generation_at) {
            client_hops::next_generation(&self.dataplane.memory());
            self.last_generation = now;
        }
        if is_due(&mut self.resolve_at) {
            self.resolve(Which::All);
        }
        if is_due(&mut self.new_at) {
            self.resolve(Which::New);
        }
        Ok(())
    }

    // Interfaces.

    /// Attaches where it is wanted and detaches where it is not.
    fn attach_all(&mut self) -> anyhow::Result<()> {
        let links: Vec<Link> = self.network.links().cloned().collect();
        for interface in self.dataplane.attached()? {
            let wanted = links
                .iter()
                .any(|link| link.index == interface && self.attaching.takes(link));
            if !wanted && let Err(error) = self.dataplane.detach(interface) {
                tracing::warn!("{error}");
            }
        }
        let mut statuses = Vec::new();
        for link in &links {
            // What no packets of interest come by is not worth a line.
            if self.attaching.takes(link) {
                statuses.push(self.attach(link));
            }
        }
        self.say_what_changed(&statuses);
        self.shared.with_interfaces(|present| *present = statuses);
        self.set_mark_rules(&links)
    }

    /// Tells the packet path by which interfaces packets come that are to be marked. A
    /// rule of an interface that is not there marks nothing.
    fn set_mark_rules(&self, links: &[Link]) -> anyhow::Result<()> {
        let rules = self.attaching.marks.iter().filter_map(|rule| {
            let Some(name) = &rule.interface else {
                return Some((rule, 0));
            };
            let link = links.iter().find(|link| link.name == *name);
            if link.is_none() {
                self.shared.warn_once(format!(
                    "{name}: there is no such interface now; [[mark]] waits for it"
                ));
            }
            Some((rule, link?.index))
        });
        let memory = self.dataplane.memory();
        self.shared
            .with_director(|director| director.set_mark_rules(rules, &memory))
            .context("[[mark]]")
    }

    fn attach(&mut self, link: &Link) -> InterfaceStatus {
        let master = link.master.and_then(|master| self.network.link(master));
        let wanted = Wanted {
            hook: self.attaching.hook,
            ignores_tunnels: self.ignores_tunnels,
        };
        let (hook, why) = match self.dataplane.attach(link, master, wanted) {
            Ok(attachment) => {
                if attachment.hook != "none" {
                    self.set_egress(link);
                }
                (attachment.hook, attachment.why)
            }
            Err(error) => {
                // It may be on its way out; if it is not, it is tried again.
                sooner(&mut self.attach_at, Instant::now() + RETRY_INTERVAL);
                ("none".into(), error.to_string())
            }
        };
        InterfaceStatus {
            name: link.name.clone(),
            index: link.index,
            hook,
            why,
        }
    }

    fn has_replies(&self) -> bool {
        self.shared
            .with_director(|director| director.has_replies_to_translate(&self.dataplane.memory()))
    }

    /// Has what leaves looked at, or not any more, if that has changed.
    fn follow_replies(&mut self) {
        let replies = self.has_replies();
        if replies != self.replies {
            self.replies = replies;
            sooner(&mut self.attach_at, Instant::now());
        }
    }

    fn shall_ignore_tunnels(&self) -> bool {
        self.shared
            .with_director(|director| director.sysctls().is_set(Sysctl::IgnoreTunneled))
    }

    /// Attaches to the ends of tunnels, or detaches, if that has changed.
    fn follow_settings(&mut self) {
        let ignores = self.shall_ignore_tunnels();
        if ignores != self.ignores_tunnels {
            self.ignores_tunnels = ignores;
            sooner(&mut self.attach_at, Instant::now());
        }
    }

    /// Sets what becomes of packets that leave by an interface. Answers to clients on this
    /// machine come in by the loopback interface, and are translated there.
    fn set_egress(&mut self, link: &Link) {
        let wanted = self.replies && !link.is_loopback();
        if let Err(error) = self.dataplane.set_egress(link, wanted) {
            self.shared.warn_once(format!("{}: {error}", link.name));
            sooner(&mut self.attach_at, Instant::now() + RETRY_INTERVAL);
        }
    }

    fn say_what_changed(&self, statuses: &[InterfaceStatus]) {
        self.shared.with_interfaces(|before| {
            for status in statuses {
                let same = |other: &InterfaceStatus| {
                    (other.index, &other.hook, &other.why)
                        == (status.index, &status.hook, &status.why)
                };
                if !before.iter().any(same) {
                    tracing::info!("{}: {} ({})", status.name, status.hook, status.why);
                }
            }
            for gone in before.iter() {
                if !statuses.iter().any(|status| status.index == gone.index) {
                    tracing::info!("{}: gone", gone.name);
                }
            }
            for name in &self.attaching.only {
                let is_there = statuses.iter().any(|status| status.name == *name);
                let was_there = before.iter().any(|status| status.name == *name);
                if !is_there && (was_there || before.is_empty()) {
                    tracing::warn!("{name}: there is no such interface now; waiting for it");
                }
            }
        });
    }

    // Next hops.

    /// When servers may be resolved again: most of the time is for other work, how
    /// many of them there are and how often something changes.
    fn pace(&self) -> Instant {
        self.resolved_at + PACE * self.resolving_took
    }

    /// Finds out how servers are reached, and tells the director.
    fn resolve(&mut self, which: Which) {
        let now = Instant::now();
        let mut addresses = self
            .shared
            .with_director(|director| director.server_addresses());
        match which {
            Which::All => self.asked = addresses.iter().copied().collect(),
            Which::New => addresses.retain(|&address| self.asked.insert(address)),
        }
        let mut again = CONFIRM_INTERVAL;
        let mut hops = Vec::with_capacity(addresses.len());
        for address in addresses {
            let (reach, neighbour) = self.reach(address);
            if let Some(neighbour) = neighbour {
                if reach.is_none() {
                    again = UNRESOLVED_INTERVAL;
                }
                self.probe(neighbour, reach.is_some(), now);
            }
            hops.push((address, reach));
        }
        self.look_for_source_addresses();
        self.look_for_own_addresses();
        self.shared
            .with_director(|director| director.set_hops(hops));
        self.follow_replies();
        // Neighbours that nobody needs any more are forgotten.
        self.probed
            .retain(|_, (_, at)| *at + 2 * CONFIRM_INTERVAL > now);
        self.resolved_at = Instant::now();
        self.resolving_took = self.resolved_at - now;
        let next = self.pace().max(now + again);
        sooner(&mut self.resolve_at, next);
    }

    /// Warns of addresses of source NAT that are not this machine's.
    fn look_for_source_addresses(&mut self) {
        for &address in &self.attaching.source_addresses {
            let next = self.network.next_hop(address);
            if !matches!(next, Ok(NextHop::Local)) {
                self.shared.warn_once(warnings::not_local(address));
            }
        }
    }

    /// Tells the monitor which addresses this machine has, of those that matter.
    fn look_for_own_addresses(&mut self) {
        let (own, others) = self
            .shared
            .with_monitor(|monitor| monitor.addresses_of_interest());
        let mut addresses = own;
        addresses.retain(|&address| matches!(self.network.next_hop(address), Ok(NextHop::Local)));
        for address in others {
            if let Ok(NextHop::Ready { source, .. }) = self.network.next_hop(address) {
                addresses.extend(source);
            }
        }
        addresses.sort_unstable();
        addresses.dedup();
        let is_new = self.shared.with_monitor(|monitor| {
            let is_new = monitor.addresses() != addresses;
            if is_new {
                monitor.set_addresses(addresses);
            }
            is_new
        });
        if is_new {
            self.shared.wake_monitor();
        }
    }

    /// Where a server is, and the neighbour that is asked about it.
    fn reach(&mut self, address: IpAddr) -> (Option<Reach>, Option<Neighbour>) {
        let neighbour = |interface, address| Some(Neighbour { interface, address });
        match self.network.next_hop(address) {
            Ok(NextHop::Ready {
                interface,
                gateway,
                destination_mac,
                source_mac,
                mtu,
                source,
            }) => {
                let hop = Hop {
                    interface,
                    destination_mac,
                    source_mac,
                    mtu,
                    source,
                };
                (Some(Reach::By(hop)), neighbour(interface, gateway))
            }
            Ok(NextHop::Unresolved { interface, gateway }) => (None, neighbour(interface, gateway)),
            Ok(NextHop::Local) => (Some(Reach::Local), None),
            Ok(NextHop::Unreachable) => (None, None),
            Err(error) => {
                tracing::warn!("{error}");
                (None, None)
            }
        }
    }

    /// Makes the kernel ask for a neighbour, or see that it is still there.
    fn probe(&mut self, neighbour: Neighbour, ready: bool, now: Instant) {
        let interval = if ready {
            CONFIRM_INTERVAL
        } else {
            UNRESOLVED_INTERVAL
        };
        let last = self.probed.get(&neighbour);
        if last.is_some_and(|&(was, at)| was == ready && at + interval > now) {
            return;
        }
        self.probed.insert(neighbour, (ready, now));
        if let Err(error) = self.network.probe(neighbour.interface, neighbour.address) {
            tracing::debug!("{error}");
        }
    }
}

fn sooner(at: &mut Option<Instant>, other: Instant) {
    *at = Some(at.map_or(other, |present| present.min(other)));
}
