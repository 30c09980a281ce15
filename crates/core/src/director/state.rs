//! The table as it is wanted: services, servers, their lists, and the journal that
//! takes steps back. No memory is touched here.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr};

use evenkeel_datapath::layout::{SERVICES_MAX, endpoint_key, endpoint_kind, server_flags};
use hashbrown::HashMap;

use super::endpoints::{self, Endpoints};
use super::rings::{Block, Rings};
use super::schedule::{Candidate, Weights};
use super::{GRACE_MS, Stats};
use crate::model::{
    EditError, ForwardMethod, Protocol, Scheduler, ServerKey, ServiceKey, Timeouts,
};

/// No server; ends a list.
pub(super) const NONE: u32 = u32::MAX;

/// What of a service is to be written, each more than the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Change {
    Nothing,
    /// The record.
    Record,
    /// The record, and the ring is to be made anew.
    Ring,
}

/// A service. Its slot in the memory has the same index.
#[derive(Clone, Copy, Debug)]
pub(super) struct Service {
    pub address: Ipv4Addr,
    pub port: u16,
    pub protocol: Protocol,
    pub scheduler: Scheduler,
    /// False: deleted, and kept for the connections of its servers.
    pub live: bool,
    /// When it was deleted (ms).
    pub deleted_ms: u64,
    /// First of its servers, the last added.
    pub head: u32,
    /// First of its deleted servers.
    pub trash: u32,
    /// Over its servers.
    pub weights: Weights,
    /// Where the scheduler stands at the beginning of the ring: round robin: the
    /// server used last, + 1, or 0; weighted: the present weight.
    pub mark: u32,
    /// The ring in the memory, and its servers.
    pub ring: Option<Block>,
    pub ring_slots: u32,
    /// A block for the next ring.
    pub staged: Option<Block>,
    /// True: `mark` holds where the scheduler is now.
    pub settled: bool,
    /// What is to be written.
    pub change: Change,
    /// What is added to the sum of its servers' counters.
    pub carry: Stats,
    /// Epoch of the journal that has it; 0: none.
    pub saved: u64,
}

/// A real server of one service. Its slot has the same index.
#[derive(Clone, Copy, Debug)]
pub(super) struct Server {
    pub address: Ipv4Addr,
    /// As it was given; 0: the virtual port.
    pub port: u16,
    pub service: u32,
    pub weight: u32,
    pub method: ForwardMethod,
    /// False: deleted, and kept for its connections.
    pub live: bool,
    pub deleted_ms: u64,
    /// Rank in the list, descending.
    pub order: u32,
    /// `HOP`, `HOP_READY` and `LOCAL` of [`server_flags`].
    pub hop_flags: u32,
    /// Neighbours in the service's list of servers, or of deleted ones.
    pub previous: u32,
    pub next: u32,
    /// False: the hop that counts is to be written too.
    pub hop_written: bool,
    /// True: the record is to be written.
    pub changed: bool,
    /// Epoch of the journal that has it; 0: none.
    pub saved: u64,
}

impl Service {
    pub(super) fn key(&self) -> ServiceKey {
        ServiceKey::at(self.protocol, self.address, self.port)
    }

    pub(super) fn endpoint(&self) -> u64 {
        endpoint(
            self.address,
            self.port,
            self.protocol,
            endpoint_kind::SERVICE,
        )
    }
}

impl Server {
    pub(super) fn key(&self) -> ServerKey {
        ServerKey {
            address: IpAddr::V4(self.address),
            port: self.port,
        }
    }

    /// The port that it gets packets on.
    pub(super) fn actual_port(&self, service: &Service) -> u16 {
        if self.port == 0 {
            service.port
        } else {
            self.port
        }
    }

    pub(super) fn endpoint(&self, service: &Service) -> u64 {
        let port = self.actual_port(service);
        endpoint(self.address, port, service.protocol, endpoint_kind::SERVER)
    }

    pub(super) fn flags(&self, service: &Service) -> u32 {
        let method = match self.method {
            ForwardMethod::Masq => 0,
            ForwardMethod::Tunnel(_) => 2,
            ForwardMethod::Route => 3,
            ForwardMethod::FullNat => 5,
        };
        let mut flags = server_flags::USED
            | u32::from(service.protocol.number()) << server_flags::PROTOCOL_SHIFT
            | method << server_flags::METHOD_SHIFT
            | self.hop_flags;
        if self.live {
            flags |= server_flags::ALIVE;
        }
        if self.port == 0 {
            flags |= server_flags::PORT_GIVEN_AS_ZERO;
        }
        flags
    }
}

fn endpoint(address: Ipv4Addr, port: u16, protocol: Protocol, kind: u32) -> u64 {
    endpoint_key(network(address), port.to_be(), protocol.number(), kind)
}

/// An address as it stands in packets.
pub(super) fn network(address: Ipv4Addr) -> u32 {
    u32::from_ne_bytes(address.octets())
}

/// Slots of one kind: those in use, and which is the next to be used.
#[derive(Debug)]
pub(super) struct Slots<T> {
    used: Vec<Option<T>>,
    free: Vec<u32>,
    capacity: u32,
    name: &'static str,
}

impl<T: Copy> Slots<T> {
    pub(super) fn new(capacity: usize, name: &'static str) -> Self {
        let capacity = u32::try_from(capacity).unwrap_or(NONE);
        Self {
            used: Vec::new(),
            free: Vec::new(),
            capacity,
            name,
        }
    }

    pub(super) fn get(&self, index: u32) -> Option<&T> {
        self.used.get(index as usize)?.as_ref()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        let slots = self.used.iter().enumerate();
        slots.filter_map(|(index, slot)| Some((index as u32, slot.as_ref()?)))
    }

    /// Slots that an edit could take at once.
    pub(super) fn available(&self) -> usize {
        self.free.len() + self.capacity as usize - self.used.len()
    }

    fn allocate(&mut self) -> Result<u32, EditError> {
        if let Some(index) = self.free.pop() {
            return Ok(index);
        }
        if self.used.len() >= self.capacity as usize {
            return Err(EditError::Full(self.name.into()));
        }
        self.used.push(None);
        Ok(self.used.len() as u32 - 1)
    }

    /// Puts an adopted value where the memory has it.
    pub(super) fn place(&mut self, index: u32, value: T) {
        while self.used.len() <= index as usize {
            self.free.push(self.used.len() as u32);
            self.used.push(None);
        }
        self.used[index as usize] = Some(value);
    }

    /// Forgets the free slots below those in use, and counts them anew.
    pub(super) fn count_free(&mut self) {
        let slots = self.used.iter().enumerate().rev();
        self.free = slots
            .filter(|(_, s)| s.is_none())
            .map(|(i, _)| i as u32)
            .collect();
    }

    /// Gives up a slot that nothing refers to any more.
    pub(super) fn free(&mut self, index: u32) {
        if let Some(slot) = self.used.get_mut(index as usize)
            && slot.take().is_some()
        {
            self.free.push(index);
        }
    }
}

/// How to take back one step, other than a change of a service or a server.
#[derive(Clone, Debug)]
enum Step {
    AddService(u32),
    AddServer(u32),
    Ring(Block),
    Discard,
    Endpoint(endpoints::Undo),
    Zero(u32, Option<Box<Stats>>),
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

/// A service's key as a number.
fn service_name(key: &ServiceKey) -> Option<u64> {
    let &ServiceKey::Address {
        protocol,
        address: IpAddr::V4(address),
        port,
    } = key
    else {
        return None;
    };
    let port = u64::from(port) << 8 | u64::from(protocol.number());
    Some(u64::from(address.to_bits()) << 24 | port)
}

/// A server's key, and its service, as a number.
fn server_name(service: u32, key: &ServerKey) -> Option<u64> {
    let IpAddr::V4(address) = key.address else {
        return None;
    };
    // There are no more services than 16 bits can tell apart.
    debug_assert!(service < SERVICES_MAX);
    let place = u64::from(address.to_bits()) << 16 | u64::from(key.port);
    Some(u64::from(service) << 48 | place)
}

/// A point that can be gone back to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Savepoint {
    services: usize,
    servers: usize,
    steps: usize,
    timeouts: Timeouts,
    next_order: u32,
}

/// The wanted table.
#[derive(Debug)]
pub(super) struct State {
    services: Slots<Service>,
    servers: Slots<Server>,
    /// Live ones and those kept for their connections.
    service_names: HashMap<u64, u32>,
    server_names: HashMap<u64, u32>,
    pub endpoints: Endpoints,
    pub rings: Rings,
    /// Blocks staged and then not used.
    pub discarded: Vec<Block>,
    /// What `-Z` subtracts, by server.
    pub zeros: HashMap<u32, Stats>,
    pub timeouts: Timeouts,
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
            service_names: HashMap::new(),
            server_names: HashMap::new(),
            endpoints,
            rings,
            discarded: Vec::new(),
            zeros: HashMap::new(),
            timeouts: Timeouts::default(),
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
        self.service_names.get(&service_name(key)?).copied()
    }

    /// The slot of a service's server, live or deleted.
    pub(super) fn server_named(&self, service: u32, key: &ServerKey) -> Option<u32> {
        self.server_names.get(&server_name(service, key)?).copied()
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
            weight: s.weight,
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
                self.services.used[index as usize] = Some(before);
            }
        }
        while self.journal.servers.len() > to.servers {
            if let Some((index, before)) = self.journal.servers.pop() {
                self.servers.used[index as usize] = Some(before);
            }
        }
        self.timeouts = to.timeouts;
        self.next_order = to.next_order;
    }

    fn take_back(&mut self, step: Step) {
        match step {
            Step::AddService(index) => {
                let name = self
                    .services
                    .get(index)
                    .and_then(|s| service_name(&s.key()));
                if let Some(name) = name {
                    self.service_names.remove(&name);
                }
                self.services.free(index);
            }
            Step::AddServer(index) => {
                let server = self.servers.get(index);
                let name = server.and_then(|s| server_name(s.service, &s.key()));
                if let Some(name) = name {
                    self.server_names.remove(&name);
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
        self.servers.used.reserve(servers);
        self.journal.servers.reserve(servers);
        self.journal.steps.reserve(2 * servers);
        self.touched_servers.reserve(servers);
        self.endpoints.reserve(servers);
    }

    // Changing. Every method notes how to take its change back.

    pub(super) fn change_service(&mut self, index: u32, change: impl FnOnce(&mut Service)) {
        if let Some(Some(service)) = self.services.used.get_mut(index as usize) {
            if service.saved != self.journal.epoch {
                self.journal.services.push((index, *service));
                self.touched_services.push(index);
                service.saved = self.journal.epoch;
            }
            change(service);
        }
    }

    pub(super) fn change_server(&mut self, index: u32, change: impl FnOnce(&mut Server)) {
        if let Some(Some(server)) = self.servers.used.get_mut(index as usize) {
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
        self.services.used[index as usize] = Some(Service {
            saved: self.journal.epoch,
            ..service
        });
        self.name_service(index, &service);
        Ok(index)
    }

    fn name_service(&mut self, index: u32, service: &Service) {
        if let Some(name) = service_name(&service.key()) {
            self.service_names.insert(name, index);
        }
    }

    /// Enters a server that is in no list yet.
    pub(super) fn add_server(&mut self, server: Server) -> Result<u32, EditError> {
        let index = self.servers.allocate()?;
        self.journal.steps.push(Step::AddServer(index));
        self.touched_servers.push(index);
        self.servers.used[index as usize] = Some(Server {
            saved: self.journal.epoch,
            ..server
        });
        self.name_server(index, &server);
        Ok(index)
    }

    fn name_server(&mut self, index: u32, server: &Server) {
        if let Some(name) = server_name(server.service, &server.key()) {
            self.server_names.insert(name, index);
        }
    }

    pub(super) fn add_endpoint(&mut self, key: u64, value: u32) -> Result<(), EditError> {
        let undo = self.endpoints.add(key, value);
        let undo = undo.ok_or_else(|| EditError::Full("endpoints".into()))?;
        self.journal.steps.push(Step::Endpoint(undo));
        Ok(())
    }

    pub(super) fn remove_endpoint(&mut self, key: u64, now_ms: u64) {
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
        if let Some(name) = server_name(server.service, &server.key()) {
            self.server_names.remove(&name);
        }
        if let Some(service) = self.services.get(server.service) {
            let key = server.endpoint(service);
            self.endpoints.remove(key, now_ms);
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
        if let Some(name) = service_name(&service.key()) {
            self.service_names.remove(&name);
        }
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
        self.services.place(index, service);
        self.name_service(index, &service);
    }

    /// Enters a server that the memory holds, at the head of its list.
    pub(super) fn adopt_server(&mut self, index: u32, server: Server) {
        self.servers.place(index, server);
        self.name_server(index, &server);
        self.link(index, !server.live);
    }

    /// To be called when everything is adopted.
    pub(super) fn adopted(&mut self) {
        self.services.count_free();
        self.servers.count_free();
        self.forget_journal();
    }
}
