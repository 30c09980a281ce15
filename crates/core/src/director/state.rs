//! The table as it is wanted: services, servers, their lists, and the journal that
//! takes steps back. No memory is touched here.

use alloc::boxed::Box;
use alloc::vec::Vec;

use evenkeel_datapath::layout::{SERVICES_MAX, endpoint_kind, features};
use hashbrown::{HashMap, HashSet};

use super::endpoints::{self, Endpoints, Key};
use super::features::Features;
use super::names::{Name, Names};
use super::rings::{Block, Rings};
use super::schedule::Candidate;
use super::server::Server;
use super::service::Service;
use super::slots::Slots;
use super::{GRACE_MS, Stats};
use crate::model::{
    EditError, Family, ServerKey, ServiceKey, Sysctl, SysctlValue, Sysctls, Timeouts,
};

/// No server; ends a list.
pub(super) const NONE: u32 = u32::MAX;

/// How to take back one step, other than a change of a service or a server.
#[derive(Clone, Debug)]
enum Step {
    AddService(u32),
    AddServer(u32),
    Ring(Block),
    Discard,
    Endpoint(endpoints::Undo),
    Zero(u32, Option<Box<Stats>>),
    Sysctl(Sysctl, SysctlValue),
}

/// What was done since the last commit.
#[derive(Debug, Default)]
struct Journal {
    /// Services and servers as they were before their first change in an epoch.
    services: Vec<(u32, Service)>,
    servers: Vec<(u32, Server)>,
    steps: Vec<Step>,
    /// Raised whenever what comes is to be noted anew.
    epoch: u64,
}

/// A point that can be gone back to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Savepoint {
    services: usize,
    servers: usize,
    steps: usize,
    features: Features,
    timeouts: Timeouts,
    next_order: u32,
}

/// The wanted table.
#[derive(Debug)]
pub(super) struct State {
    services: Slots<Service>,
    servers: Slots<Server>,
    /// Live ones and those kept for their connections.
    service_names: Names,
    server_names: Names,
    pub endpoints: Endpoints,
    pub features: Features,
    /// Marks that rules give.
    rule_marks: HashSet<u32>,
    pub rings: Rings,
    /// Blocks staged and then not used.
    pub discarded: Vec<Block>,
    /// What `-Z` subtracts, by server.
    pub zeros: HashMap<u32, Stats>,
    pub timeouts: Timeouts,
    pub sysctls: Sysctls,
    pub next_order: u32,
    journal: Journal,
    /// Indices that may have changed since the last commit.
    pub touched_services: Vec<u32>,
    pub touched_servers: Vec<u32>,
}

impl State {
    pub(super) fn new(services: usize, servers: usize, endpoints: Endpoints, rings: Rings) -> Self {
        Self {
            services: Slots::new(services.min(SERVICES_MAX as usize), "services"),
            servers: Slots::new(servers, "servers"),
            service_names: Names::default(),
            server_names: Names::default(),
            endpoints,
            features: Features::default(),
            rule_marks: HashSet::new(),
            rings,
            discarded: Vec::new(),
            zeros: HashMap::new(),
            timeouts: Timeouts::default(),
            sysctls: Sysctls::default(),
            next_order: 1,
            journal: Journal {
                epoch: 1,
                ..Journal::default()
            },
            touched_services: Vec::new(),
            touched_servers: Vec::new(),
        }
    }

    // Reading.

    pub(super) fn services(&self) -> &Slots<Service> {
        &self.services
    }

    pub(super) fn servers(&self) -> &Slots<Server> {
        &self.servers
    }

    /// The slot of a service, live or deleted.
    pub(super) fn service_named(&self, key: &ServiceKey) -> Option<u32> {
        self.service_names.find(&Name::service(key), |index| {
            self.services.get(index).is_some_and(|s| s.key == *key)
        })
    }

    /// The slot of a service's server, live or deleted.
    pub(super) fn server_named(&self, service: u32, key: &ServerKey) -> Option<u32> {
        self.server_names
            .find(&Name::server(service, key), |index| {
                let server = self.servers.get(index);
                server.is_some_and(|s| s.service == service && s.key == *key)
            })
    }

    /// Servers from `first` on.
    pub(super) fn list(&self, first: u32) -> impl Iterator<Item = (u32, &Server)> {
        core::iter::successors(
            self.servers.get(first).map(|s| (first, s)),
            |(_, server)| self.servers.get(server.next).map(|s| (server.next, s)),
        )
    }

    /// The servers of a service as its scheduler sees them.
    pub(super) fn candidates(&self, service: &Service) -> Vec<Candidate> {
        let list = self.list(service.head);
        list.map(|(server, s)| Candidate {
            server,
            weight: s.settings.weight,
            last_weight: s.last_weight,
        })
        .collect()
    }

    // Going back.

    /// Notes where to go back to.
    pub(super) fn savepoint(&mut self) -> Savepoint {
        self.journal.epoch += 1;
        Savepoint {
            services: self.journal.services.len(),
            servers: self.journal.servers.len(),
            steps: self.journal.steps.len(),
            features: self.features,
            timeouts: self.timeouts,
            next_order: self.next_order,
        }
    }

    pub(super) fn roll_back(&mut self, to: Savepoint) {
        while self.journal.steps.len() > to.steps {
            if let Some(step) = self.journal.steps.pop() {
                self.take_back(step);
            }
        }
        while self.journal.services.len() > to.services {
            if let Some((index, before)) = self.journal.services.pop() {
                self.services.fill(index, before);
            }
        }
        while self.journal.servers.len() > to.servers {
            if let Some((index, before)) = self.journal.servers.pop() {
                self.servers.fill(index, before);
            }
        }
        self.features = to.features;
        self.timeouts = to.timeouts;
        self.next_order = to.next_order;
    }

    fn take_back(&mut self, step: Step) {
        match step {
            Step::AddService(index) => {
                if let Some(service) = self.services.get(index) {
                    self.service_names
                        .remove(&Name::service(&service.key), index);
                }
                self.services.free(index);
            }
            Step::AddServer(index) => {
                if let Some(server) = self.servers.get(index) {
                    let name = Name::server(server.service, &server.key);
                    self.server_names.remove(&name, index);
                }
                self.servers.free(index);
            }
            Step::Ring(block) => self.rings.free(block),
            Step::Discard => {
                self.discarded.pop();
            }
            Step::Endpoint(undo) => self.endpoints.undo(undo),
            Step::Zero(server, Some(zero)) => {
                self.zeros.insert(server, *zero);
            }
            Step::Zero(server, None) => {
                self.zeros.remove(&server);
            }
            Step::Sysctl(sysctl, before) => {
                // It had this value.
                let _ = self.sysctls.set(sysctl, before);
            }
        }
    }

    /// Nothing before this moment can be taken back any more.
    pub(super) fn forget_journal(&mut self) {
        self.journal.services.clear();
        self.journal.servers.clear();
        self.journal.steps.clear();
        self.journal.epoch += 1;
    }

    /// Makes room for this many additions at once.
    pub(super) fn reserve(&mut self, edits: usize) {
        let servers = edits.min(self.servers.available());
        self.server_names.reserve(servers);
        self.servers.reserve(servers);
        self.journal.servers.reserve(servers);
        self.journal.steps.reserve(2 * servers);
        self.touched_servers.reserve(servers);
        self.endpoints.reserve(servers);
    }

    /// What packets have to look for while a service lives.
    pub(super) fn features_of(&self, service: &Service) -> u32 {
        let is_foreign = match service.key {
            ServiceKey::Mark { mark, .. } => !self.rule_marks.contains(&mark),
            ServiceKey::Address { .. } => false,
        };
        service.features()
            | if is_foreign {
                features::FOREIGN_MARKS
            } else {
                0
            }
    }

    /// Sets the marks that rules give.
    pub(super) fn set_rule_marks(&mut self, marks: impl Iterator<Item = u32>) {
        let marks = marks.collect();
        if self.rule_marks == marks {
            return;
        }
        let before = core::mem::replace(&mut self.rule_marks, marks);
        let live = self.services.iter().filter(|(_, service)| service.live);
        for (_, service) in live {
            let ServiceKey::Mark { mark, .. } = service.key else {
                continue;
            };
            match (before.contains(&mark), self.rule_marks.contains(&mark)) {
                (true, false) => self.features.add(features::FOREIGN_MARKS),
                (false, true) => self.features.remove(features::FOREIGN_MARKS),
                _ => {}
            }
        }
    }

    // Changing. Every method notes how to take its change back.

    pub(super) fn change_service(&mut self, index: u32, change: impl FnOnce(&mut Service)) {
        if let Some(service) = self.services.get_mut(index) {
            if service.saved != self.journal.epoch {
                self.journal.services.push((index, *service));
                self.touched_services.push(index);
                service.saved = self.journal.epoch;
            }
            change(service);
        }
    }

    pub(super) fn change_server(&mut self, index: u32, change: impl FnOnce(&mut Server)) {
        if let Some(server) = self.servers.get_mut(index) {
            if server.saved != self.journal.epoch {
                self.journal.servers.push((index, *server));
                self.touched_servers.push(index);
                server.saved = self.journal.epoch;
            }
            change(server);
        }
    }

    pub(super) fn add_service(&mut self, service: Service) -> Result<u32, EditError> {
        let index = self.services.allocate()?;
        self.journal.steps.push(Step::AddService(index));
        self.touched_services.push(index);
        let saved = self.journal.epoch;
        self.services.fill(index, Service { saved, ..service });
        let name = Name::service(&service.key);
        self.service_names.insert(&name, index);
        Ok(index)
    }

    /// Enters a server that is in no list yet.
    pub(super) fn add_server(&mut self, server: Server) -> Result<u32, EditError> {
        let index = self.servers.allocate()?;
        self.journal.steps.push(Step::AddServer(index));
        self.touched_servers.push(index);
        let saved = self.journal.epoch;
        self.servers.fill(index, Server { saved, ..server });
        let name = Name::server(server.service, &server.key);
        self.server_names.insert(&name, index);
        Ok(index)
    }

    /// Reads where the endpoint of a server would be looked for, if it has the usual kind.
    pub(super) fn glance(&self, service: &ServiceKey, server: &ServerKey) -> u32 {
        let ServiceKey::Address { protocol, .. } = service else {
            return 0;
        };
        let kind = match service.family() {
            Family::V4 => endpoint_kind::SERVER,
            Family::V6 => endpoint_kind::WIDE_SERVER,
        };
        let key = Key::at(server.address, server.port, protocol.number(), kind);
        self.endpoints.glance(key)
    }

    pub(super) fn add_endpoint(&mut self, key: Key, value: u32) -> Result<(), EditError> {
        let undo = self.endpoints.add(key, value);
        let undo = undo.ok_or_else(|| EditError::Full("endpoints".into()))?;
        self.journal.steps.push(Step::Endpoint(undo));
        Ok(())
    }

    pub(super) fn remove_endpoint(&mut self, key: Key, now_ms: u64) {
        if let Some(undo) = self.endpoints.remove(key, now_ms) {
            self.journal.steps.push(Step::Endpoint(undo));
        }
    }

    pub(super) fn allocate_ring(&mut self, order: u8) -> Result<Block, EditError> {
        let block = self.rings.allocate(order);
        let block = block.ok_or_else(|| EditError::Full("ring words".into()))?;
        self.journal.steps.push(Step::Ring(block));
        Ok(block)
    }

    pub(super) fn discard_ring(&mut self, block: Block) {
        self.discarded.push(block);
        self.journal.steps.push(Step::Discard);
    }

    pub(super) fn set_zero(&mut self, server: u32, zero: Stats) {
        let before = self.zeros.insert(server, zero);
        self.journal
            .steps
            .push(Step::Zero(server, before.map(Box::new)));
    }

    pub(super) fn set_sysctl(
        &mut self,
        sysctl: Sysctl,
        value: SysctlValue,
    ) -> Result<(), EditError> {
        let before = self.sysctls.get(sysctl);
        self.sysctls.set(sysctl, value)?;
        self.journal.steps.push(Step::Sysctl(sysctl, before));
        Ok(())
    }

    pub(super) fn take_order(&mut self) -> u32 {
        let order = self.next_order;
        self.next_order = order.wrapping_add(1);
        order
    }

    /// Puts a server at the head of its service's list, or of its trash.
    pub(super) fn link(&mut self, index: u32, trash: bool) {
        let Some(service) = self.servers.get(index).map(|s| s.service) else {
            return;
        };
        let Some(owner) = self.services.get(service) else {
            return;
        };
        let first = if trash { owner.trash } else { owner.head };
        self.change_service(service, |s| {
            *(if trash { &mut s.trash } else { &mut s.head }) = index;
        });
        if first != NONE {
            self.change_server(first, |s| s.previous = index);
        }
        self.change_server(index, |s| {
            s.previous = NONE;
            s.next = first;
        });
    }

    /// Takes a server out of the list that it is in.
    pub(super) fn unlink(&mut self, index: u32) {
        let Some(&Server {
            service,
            previous,
            next,
            ..
        }) = self.servers.get(index)
        else {
            return;
        };
        if previous == NONE {
            self.change_service(service, |s| {
                if s.head == index {
                    s.head = next;
                } else if s.trash == index {
                    s.trash = next;
                }
            });
        } else {
            self.change_server(previous, |s| s.next = next);
        }
        if next != NONE {
            self.change_server(next, |s| s.previous = previous);
        }
    }

    // Ends of lives. These are not taken back.

    /// Gives up the slot of a deleted server.
    pub(super) fn free_server(&mut self, index: u32, now_ms: u64) {
        let Some(&server) = self.servers.get(index) else {
            return;
        };
        self.unlink(index);
        let name = Name::server(server.service, &server.key);
        self.server_names.remove(&name, index);
        if let Some(service) = self.services.get(server.service) {
            for key in server.endpoints(service) {
                self.endpoints.remove(key, now_ms);
            }
            self.features.remove(server.features(service));
        }
        self.zeros.remove(&index);
        self.servers.free(index);
        self.forget_journal();
    }

    /// Gives up the slot of a deleted service without servers.
    pub(super) fn free_service(&mut self, index: u32) {
        let Some(service) = self.services.get(index) else {
            return;
        };
        self.service_names
            .remove(&Name::service(&service.key), index);
        self.services.free(index);
        self.forget_journal();
    }

    /// Frees what packets can not be reading any more.
    pub(super) fn release(&mut self, now_ms: u64) {
        if let Some(until) = now_ms.checked_sub(GRACE_MS) {
            self.rings.release(until);
            self.endpoints.release(until);
        }
    }

    // Adoption.

    /// Enters a service that the memory holds.
    pub(super) fn adopt_service(&mut self, index: u32, service: Service) {
        if service.live {
            let features = self.features_of(&service);
            self.features.add(features);
        }
        self.service_names
            .insert(&Name::service(&service.key), index);
        self.services.place(index, service);
    }

    /// Enters a server that the memory holds, at the head of its list.
    pub(super) fn adopt_server(&mut self, index: u32, server: Server) {
        if let Some(service) = self.services.get(server.service) {
            self.features.add(server.features(service));
        }
        let name = Name::server(server.service, &server.key);
        self.server_names.insert(&name, index);
        self.servers.place(index, server);
        self.link(index, !server.live);
    }

    /// To be called when everything is adopted.
    pub(super) fn adopted(&mut self) {
        self.services.count_free();
        self.servers.count_free();
        self.forget_journal();
    }
}
