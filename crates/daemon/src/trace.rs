//! What would become of a packet: the packet path is run on a copy of the memory, with
//! the kernel's answers about ways asked for by netlink. Nothing is changed or sent.

mod frame;
mod network;
#[cfg(test)]
mod tests;
mod view;

use std::cell::RefCell;
use std::net::{IpAddr, Ipv6Addr};

use anyhow::{Context, bail};
use evenkeel_api::keys;
use evenkeel_api::trace::{
    Candidate, Connection, Counted, FoundBy, Outcome, Query, Schedule, Server, Service, Stage,
    Template, Trace, Way,
};
use evenkeel_core::director::Director;
use evenkeel_core::model::{ForwardMethod, Scheduler, ServerView, Tunnel};
use evenkeel_core::sweep::STATE_NAMES;
use evenkeel_datapath::general::trial::{self, By, Trial};
use evenkeel_datapath::host::{Route, RouteAnswer};
use evenkeel_datapath::layout::{Address, INTERFACES, RING_HEADER, interface_flags, server_flags};
use evenkeel_datapath::memory::Memory;
use evenkeel_datapath::simulated::Circumstances;
use evenkeel_datapath::{Reason, Verdict, tree};

use crate::shared::Shared;

pub use network::{Network, NoNetwork};

/// Names of the interfaces that XDP looks at begin their hook like this.
const XDP: &str = "xdp";
/// The hook of an interface that could not be attached to.
const NOT_ATTACHED: &str = "none";
/// A MAC address, of no interface in particular.
const SOMEBODY: [u8; 6] = [2, 0, 0, 0, 0, 0];

/// Finds out what would become of a packet.
pub(crate) fn answer(shared: &Shared, query: &Query) -> anyhow::Result<Trace> {
    let mut network = shared.dataplane().network()?;
    let ingress = match &query.interface {
        Some(name) => {
            let index = network.index(name);
            Some(index.with_context(|| format!("there is no interface {name}"))?)
        }
        None => network.towards(query.source.ip())?,
    };
    let tick = shared.dataplane().now_tick()?;
    let is_hooked = |is: &dyn Fn(&str) -> bool| {
        let known = ingress.map(|index| shared.is_hooked(index, is));
        known.unwrap_or_default()
    };
    let memory = shared.dataplane().memory();
    let packet = Question {
        query,
        ingress: ingress.unwrap_or(0),
        tick,
        attached: is_hooked(&|hook| hook != NOT_ATTACHED),
        begins_at_xdp: is_hooked(&|hook| hook.starts_with(XDP)),
        network: RefCell::new(network),
    };
    // Under the lock no server or service gets the place of another one.
    shared.with_director(|director| packet.trace(&memory, director))
}

/// The packet, and when and where it comes.
struct Question<'a> {
    query: &'a Query,
    /// Index of the interface; 0: none.
    ingress: u32,
    tick: u32,
    attached: bool,
    begins_at_xdp: bool,
    network: RefCell<Box<dyn Network>>,
}

impl Question<'_> {
    fn trace(&self, memory: &Memory<'_>, director: &Director) -> anyhow::Result<Trace> {
        let mac = own_mac(memory, self.ingress);
        let frame = frame::made(self.query, mac);
        let (stage, trial) = self.try_out(memory, &frame)?;
        let name = |index: u32| self.network.borrow().name(index);
        let names = Names { memory, director };
        let before = view::packet(&frame).context("the packet is not one")?;
        let after = match trial.verdict {
            Verdict::Drop => None,
            _ => view::packet(&trial.frame).filter(|after| *after != before),
        };
        let server = server_of(&trial);
        Ok(Trace {
            before,
            mark: self.query.mark,
            interface: (self.ingress != 0).then(|| name(self.ingress)),
            attached: self.attached,
            stage,
            service: trial.service.and_then(|service| names.service(service)),
            from_server: trial.is_from_server,
            known: trial.known.map(|known| names.connection(known)),
            connection: trial.connection.map(|after| names.connection(after)),
            template: trial.template.map(|template| names.template(template)),
            schedule: names.schedule(&trial),
            server: server.and_then(|server| names.server(server)),
            outcome: outcome(&trial, after.is_some()),
            way: way(&trial, name),
            after,
            counted: trial
                .reasons
                .iter()
                .map(|reason| counted(*reason))
                .collect(),
        })
    }

    /// Runs the packet path as the packet would meet it: what XDP passes, tc sees too.
    fn try_out(&self, memory: &Memory<'_>, frame: &[u8]) -> anyhow::Result<(Stage, Trial)> {
        let refused = RefCell::new(None);
        let ask = |from: IpAddr, to: IpAddr, protocol: u8| {
            let way = self
                .network
                .borrow_mut()
                .way(from, to, protocol, self.ingress);
            way.unwrap_or_else(|error| {
                *refused.borrow_mut() = Some(error);
                Route::without_hop(RouteAnswer::None)
            })
        };
        let narrow = |from: u32, to: u32, protocol: u8| {
            let address = |word: u32| IpAddr::from(word.to_ne_bytes());
            ask(address(from), address(to), protocol)
        };
        let wide = |from: Address, to: Address, protocol: u8| {
            ask(wide_address(from), wide_address(to), protocol)
        };
        let around = Circumstances {
            interface: self.ingress,
            tick: self.tick,
            cpu: 0,
            routes: &narrow,
            wide_routes: &wide,
            mark: self.query.mark,
            tagged: false,
            for_us: true,
        };
        let at_xdp = self
            .begins_at_xdp
            .then(|| trial::run::<false>(memory, frame, around))
            .filter(|trial| trial.verdict != Verdict::Pass);
        let (stage, trial) = match at_xdp {
            Some(trial) => (Stage::Xdp, trial),
            None => (Stage::Tc, trial::run::<true>(memory, frame, around)),
        };
        match refused.into_inner() {
            Some(error) => Err(error),
            None if matches!(trial.verdict, Verdict::Then { .. }) => {
                bail!("the packet path did not come to an end")
            }
            None => Ok((stage, trial)),
        }
    }
}

/// The MAC address of an interface, as XDP compares frames with it; zeroes where packets
/// have none.
fn own_mac(memory: &Memory<'_>, interface: u32) -> [u8; 6] {
    if interface == 0 {
        // Not known; most have one.
        return SOMEBODY;
    }
    let record = &memory.interfaces[(interface & (INTERFACES - 1)) as usize];
    if record.index.get() != interface {
        return [0; 6];
    }
    let high = record.mac_high.get() & !interface_flags::PARTIAL_CHECKSUMS;
    let mut mac = [0; 6];
    mac[..4].copy_from_slice(&record.mac_low.get().to_ne_bytes());
    mac[4..].copy_from_slice(&(high as u16).to_ne_bytes());
    mac
}

/// An address as the memory has it.
fn wide_address(words: Address) -> IpAddr {
    let mut bytes = [0; 16];
    for (part, word) in bytes.chunks_exact_mut(4).zip(words) {
        part.copy_from_slice(&word.to_ne_bytes());
    }
    Ipv6Addr::from(bytes).to_canonical()
}

fn counted(reason: Reason) -> Counted {
    let known = Reason::ALL.iter().find(|known| known.0 == reason);
    let (name, meaning) = known.map_or(("", ""), |known| (known.1, known.2));
    Counted {
        name: name.into(),
        meaning: meaning.trim().into(),
    }
}

fn outcome(trial: &Trial, is_changed: bool) -> Outcome {
    match trial.verdict {
        Verdict::Transmit { .. } | Verdict::Resolve { .. }
            if trial.reasons.contains(&Reason::Answered) =>
        {
            Outcome::Answered
        }
        Verdict::Transmit { .. } => Outcome::Sent,
        Verdict::Resolve { .. } => Outcome::Resolved,
        Verdict::Drop => Outcome::Dropped,
        _ if is_changed => Outcome::Delivered,
        _ => Outcome::Passed,
    }
}

/// Where it leaves. What is answered goes back by the interface that it came by, which may
/// not be known; by the way to its receiver where it came out of a tunnel.
fn way(trial: &Trial, name: impl Fn(u32) -> String) -> Option<Way> {
    let to = trial.frame.get(..6).map(|mac| {
        let bytes: Vec<String> = mac.iter().map(|byte| format!("{byte:02x}")).collect();
        bytes.join(":")
    });
    match trial.verdict {
        Verdict::Transmit { interface } if interface != 0 => Some(Way {
            interface: name(interface),
            to,
        }),
        Verdict::Resolve { interface } => Some(Way {
            interface: name(interface),
            to: None,
        }),
        _ => None,
    }
}

/// The server that the packet goes to or comes from.
fn server_of(trial: &Trial) -> Option<u32> {
    let by_connection = trial.connection.or(trial.known).map(|it| it.server);
    by_connection.or(trial.chosen)
}

/// Names of what the memory has by number.
struct Names<'a> {
    memory: &'a Memory<'a>,
    director: &'a Director,
}

impl Names<'_> {
    fn service(&self, (index, by): (u32, By)) -> Option<Service> {
        let (key, settings) = self.director.service_at(index)?;
        Some(Service {
            name: keys::service_text(&key),
            by: match by {
                By::Mark => FoundBy::Mark,
                By::Port => FoundBy::Port,
                By::FtpData => FoundBy::FtpData,
                By::AnyPort => FoundBy::AnyPort,
            },
            persistent_s: settings
                .persistence
                .map(|persistence| persistence.timeout_s),
            one_packet: settings.one_packet,
        })
    }

    /// Address and port of a server.
    fn server_name(&self, index: u32) -> String {
        let found = self.director.server_at(index, self.memory);
        found.map_or_else(String::new, |(server, _)| text_of(&server))
    }

    fn server(&self, index: u32) -> Option<Server> {
        let (server, is_deleted) = self.director.server_at(index, self.memory)?;
        let record = self.memory.servers.get(index as usize)?;
        Some(Server {
            name: text_of(&server),
            method: method_text(server.settings.method),
            weight: server.settings.weight,
            active: server.active,
            inactive: server.inactive,
            is_local: record.flags.get() & server_flags::LOCAL != 0,
            is_deleted,
        })
    }

    fn connection(&self, connection: trial::Connection) -> Connection {
        let state = STATE_NAMES.get(connection.state as usize);
        Connection {
            state: state.copied().unwrap_or_default().into(),
            server: self.server_name(connection.server),
        }
    }

    fn template(&self, template: trial::Template) -> Template {
        let (server, is_new) = match template {
            trial::Template::Used(server) => (server, false),
            trial::Template::Made(server) => (server, true),
        };
        Template {
            server: self.server_name(server),
            is_new,
        }
    }

    fn schedule(&self, trial: &Trial) -> Option<Schedule> {
        let (scheduled, (index, _)) = trial.scheduled.as_ref().zip(trial.service)?;
        let (_, settings) = self.director.service_at(index)?;
        let record = self.memory.services.get(index as usize)?;
        let table = Table {
            number: record.scheduler.get(),
            ring: record.ring.get(),
        };
        let found = scheduled.slots.iter().rev();
        let mut found = found.filter(|(_, server)| server.is_some() && *server == scheduled.server);
        let passed = scheduled
            .slots
            .iter()
            .filter(|(_, server)| server.is_none());
        let servers = self.director.servers_of(index, self.memory);
        let candidates = servers
            .iter()
            .map(|(slot, view)| table.candidate(self.memory, *slot, view));
        Some(Schedule {
            hashes_port: settings.flags.port && is_hash(&settings.scheduler),
            scheduler: settings.scheduler,
            server: scheduled.server.map(|server| self.server_name(server)),
            slot: found.next().map(|(slot, _)| *slot),
            slots: table.slots(),
            passed_over: passed.map(|(slot, _)| *slot).collect(),
            candidates: candidates.collect(),
        })
    }
}

/// What a scheduler has in the rings.
struct Table {
    /// [`evenkeel_datapath::layout::scheduler`].
    number: u32,
    /// [`evenkeel_datapath::layout::Service::ring`].
    ring: u64,
}

impl Table {
    /// How many slots there are, where servers stand in slots.
    fn slots(&self) -> Option<u32> {
        (!tree::has_tree(self.number)).then_some(self.ring as u32)
    }

    /// A server as the scheduler sees it.
    fn candidate(&self, memory: &Memory<'_>, slot: u32, view: &ServerView) -> Candidate {
        let load = memory.loads.get(slot as usize);
        let weight = view.settings.weight;
        let compared = load
            .filter(|_| tree::has_tree(self.number) && weight != 0)
            .and_then(|load| tree::compared(self.number, load, weight));
        Candidate {
            name: text_of(view),
            weight,
            active: view.active,
            inactive: view.inactive,
            is_full: load.is_some_and(|load| load.overloaded.get() != 0),
            slots: self.slots().map(|slots| self.count(memory, slots, slot)),
            compared,
        }
    }

    /// How many of the slots are a server's.
    fn count(&self, memory: &Memory<'_>, slots: u32, server: u32) -> u32 {
        let first = (self.ring >> 32) as usize + RING_HEADER as usize;
        let words = memory.rings.iter().skip(first).take(slots as usize);
        words.filter(|word| word.get() == server).count() as u32
    }
}

fn is_hash(scheduler: &str) -> bool {
    matches!(scheduler.parse(), Ok(Scheduler::Sh | Scheduler::Mh))
}

fn text_of(server: &ServerView) -> String {
    std::net::SocketAddr::new(server.key.address, server.key.port).to_string()
}

fn method_text(method: ForwardMethod) -> String {
    match method {
        ForwardMethod::Masq => "masq".into(),
        ForwardMethod::Route => "route".into(),
        ForwardMethod::FullNat => "full-nat".into(),
        ForwardMethod::Tunnel(Tunnel::Ipip) => "tunnel ipip".into(),
        ForwardMethod::Tunnel(Tunnel::Gue { port, .. }) => format!("tunnel gue:{port}"),
        ForwardMethod::Tunnel(Tunnel::Gre { .. }) => "tunnel gre".into(),
    }
}
