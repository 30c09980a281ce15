//! What each edit does, with IPVS's order of checks and its errors
//! (`net/netfilter/ipvs/ip_vs_ctl.c`).

use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr};

use evenkeel_datapath::memory::Memory;

use super::schedule::{Period, Weights};
use super::state::{Change, NONE, Server, Service};
use super::{Director, Reach, rings};
use crate::model::{
    Edit, EditError, ForwardMethod, Protocol, Scheduler, ServerKey, ServerSettings, ServiceKey,
    ServiceSettings, Stats, Timeouts,
};

/// Greatest weight: IPVS keeps it in a signed integer.
const WEIGHT_MAX: u32 = i32::MAX as u32;

/// Longest timeout in seconds: 31 days.
const TIMEOUT_MAX: u32 = 2_678_400;

impl Director {
    /// Applies one edit to the wanted table. After an error the caller goes back to
    /// where it was before.
    pub(super) fn edit(
        &mut self,
        edit: &Edit,
        memory: &Memory<'_>,
        now_ms: u64,
    ) -> Result<(), EditError> {
        match edit {
            Edit::AddService { service, settings } => self.add_service(service, settings, memory),
            Edit::EditService { service, settings } => {
                let index = self.live_service(service).ok_or(EditError::NoSuchService)?;
                self.edit_service(index, scheduler_of(settings)?)
            }
            Edit::DeleteService { service } => {
                let index = self.live_service(service).ok_or(EditError::NoSuchService)?;
                self.delete_service(index, now_ms);
                Ok(())
            }
            Edit::Flush => {
                let live = self.state.services().iter().filter(|(_, s)| s.live);
                let live: Vec<u32> = live.map(|(index, _)| index).collect();
                for index in live {
                    self.delete_service(index, now_ms);
                }
                Ok(())
            }
            Edit::AddServer {
                service,
                server,
                settings,
            } => {
                let service = self
                    .live_service(service)
                    .ok_or(EditError::ServiceNotDefined)?;
                self.add_server(service, server, settings, memory)
            }
            Edit::EditServer {
                service,
                server,
                settings,
            } => {
                let service = self
                    .live_service(service)
                    .ok_or(EditError::ServiceNotDefined)?;
                self.edit_server(service, server, settings, memory)
            }
            Edit::DeleteServer { service, server } => {
                let service = self
                    .live_service(service)
                    .ok_or(EditError::ServiceNotDefined)?;
                let server = self
                    .live_server(service, server)
                    .ok_or(EditError::NoSuchServer)?;
                self.delete_server(service, server, memory, now_ms)
            }
            Edit::Zero { service: Some(key) } => {
                let index = self.live_service(key).ok_or(EditError::NoSuchService)?;
                self.zero(index, memory);
                Ok(())
            }
            Edit::Zero { service: None } => {
                let live = self.state.services().iter().filter(|(_, s)| s.live);
                let live: Vec<u32> = live.map(|(index, _)| index).collect();
                for index in live {
                    self.zero(index, memory);
                }
                Ok(())
            }
            Edit::SetTimeouts(timeouts) => self.set_timeouts(timeouts),
        }
    }

    pub(super) fn live_service(&self, key: &ServiceKey) -> Option<u32> {
        let index = self.state.service_named(key)?;
        self.state
            .services()
            .get(index)
            .filter(|s| s.live)
            .map(|_| index)
    }

    fn live_server(&self, service: u32, key: &ServerKey) -> Option<u32> {
        let index = self.state.server_named(service, key)?;
        self.state
            .servers()
            .get(index)
            .filter(|s| s.live)
            .map(|_| index)
    }

    fn add_service(
        &mut self,
        key: &ServiceKey,
        settings: &ServiceSettings,
        memory: &Memory<'_>,
    ) -> Result<(), EditError> {
        let known = self.state.service_named(key);
        if known.is_some_and(|index| self.state.services().get(index).is_some_and(|s| s.live)) {
            return Err(EditError::ServiceExists);
        }
        let scheduler = scheduler_of(settings)?;
        let (protocol, address, port) = service_address(key)?;
        let index = match known {
            Some(index) => {
                // The same service again while its former servers still have
                // connections: it goes on in its slot, with counters from 0.
                let former = self.sum_of_servers(index, memory);
                self.state.change_service(index, |s| {
                    s.live = true;
                    s.scheduler = scheduler;
                    s.weights = Weights::default();
                    s.carry = Stats::default().less(&former);
                });
                index
            }
            None => self.state.add_service(Service {
                address,
                port,
                protocol,
                scheduler,
                live: true,
                deleted_ms: 0,
                head: NONE,
                trash: NONE,
                weights: Weights::default(),
                mark: 0,
                ring: None,
                ring_slots: 0,
                staged: None,
                settled: true,
                change: Change::Record,
                carry: Stats::default(),
                saved: 0,
            })?,
        };
        self.state.change_service(index, |s| {
            s.mark = 0;
            s.settled = true;
            s.change = s.change.max(Change::Record);
        });
        let endpoint = self.state.services().get(index).map(Service::endpoint);
        endpoint.map_or(Ok(()), |endpoint| self.state.add_endpoint(endpoint, index))
    }

    fn edit_service(&mut self, index: u32, scheduler: Scheduler) -> Result<(), EditError> {
        let Some(service) = self.state.services().get(index) else {
            return Ok(());
        };
        if service.scheduler == scheduler {
            return Ok(());
        }
        let weights: Weights = self.state.candidates(service).into_iter().collect();
        self.state.change_service(index, |s| {
            s.scheduler = scheduler;
            s.weights = weights;
            s.mark = match scheduler {
                Scheduler::Wrr => weights.initial_present_weight(),
                _ => 0,
            };
            s.settled = true;
            s.change = s.change.max(Change::Record);
        });
        self.stage_ring(index)
    }

    fn delete_service(&mut self, index: u32, now_ms: u64) {
        let Some(&service) = self.state.services().get(index) else {
            return;
        };
        let servers: Vec<u32> = self.state.list(service.head).map(|(i, _)| i).collect();
        for server in servers {
            self.trash_server(server, now_ms);
        }
        self.state.remove_endpoint(service.endpoint(), now_ms);
        if let Some(block) = service.staged {
            self.state.discard_ring(block);
        }
        self.state.change_service(index, |s| {
            s.live = false;
            s.deleted_ms = now_ms;
            s.weights = Weights::default();
            s.mark = 0;
            s.staged = None;
            s.settled = true;
            s.change = Change::Ring;
        });
        self.deleted_services.push(index);
    }

    fn add_server(
        &mut self,
        service: u32,
        key: &ServerKey,
        settings: &ServerSettings,
        memory: &Memory<'_>,
    ) -> Result<(), EditError> {
        let &ServerSettings { method, weight, .. } = settings;
        check_weight(weight)?;
        check_thresholds(settings)?;
        let known = self.state.server_named(service, key);
        if known.is_some_and(|index| self.state.servers().get(index).is_some_and(|s| s.live)) {
            return Err(EditError::ServerExists);
        }
        let address = server_address(key, method)?;
        check_method(method)?;
        self.settle(service, memory);
        let index = match known {
            Some(index) => {
                self.state.unlink(index);
                index
            }
            None => self.new_server(service, address, key.port, method)?,
        };
        let order = self.state.take_order();
        self.state.change_server(index, |s| {
            s.live = true;
            s.weight = weight;
            s.method = method;
            s.order = order;
            s.changed = true;
        });
        self.state.link(index, false);
        self.state.change_service(service, |s| {
            s.weights.add(weight);
            if s.scheduler == Scheduler::Wrr {
                s.mark = s.weights.present_weight_after_change(s.mark);
            }
        });
        self.stage_ring(service)
    }

    fn new_server(
        &mut self,
        service: u32,
        address: Ipv4Addr,
        port: u16,
        method: ForwardMethod,
    ) -> Result<u32, EditError> {
        // Another service may have a server there already.
        let reach = self.hops.get(&IpAddr::V4(address));
        let hop_flags = reach.map_or(0, |reach| reach.flags(0));
        let server = Server {
            address,
            port,
            service,
            weight: 0,
            method,
            live: true,
            deleted_ms: 0,
            order: 0,
            hop_flags,
            previous: NONE,
            next: NONE,
            hop_written: !matches!(reach, Some(Reach::By(_))),
            changed: true,
            saved: 0,
        };
        let index = self.state.add_server(server)?;
        if let Some(service) = self.state.services().get(service) {
            self.state.add_endpoint(server.endpoint(service), 0)?;
        }
        Ok(index)
    }

    fn edit_server(
        &mut self,
        service: u32,
        key: &ServerKey,
        settings: &ServerSettings,
        memory: &Memory<'_>,
    ) -> Result<(), EditError> {
        let &ServerSettings { method, weight, .. } = settings;
        check_weight(weight)?;
        check_thresholds(settings)?;
        let index = self
            .live_server(service, key)
            .ok_or(EditError::NoSuchServer)?;
        check_method(method)?;
        self.settle(service, memory);
        self.state.change_server(index, |s| {
            s.weight = weight;
            s.method = method;
            s.changed = true;
        });
        self.weigh_again(service);
        self.stage_ring(service)
    }

    fn delete_server(
        &mut self,
        service: u32,
        index: u32,
        memory: &Memory<'_>,
        now_ms: u64,
    ) -> Result<(), EditError> {
        self.settle(service, memory);
        // Round robin that stood at this server stands at the one before it now.
        let previous = self.state.servers().get(index).map_or(NONE, |s| s.previous);
        self.state.change_service(service, |s| {
            if s.scheduler == Scheduler::Rr && s.mark == index + 1 {
                s.mark = if previous == NONE { 0 } else { previous + 1 };
            }
        });
        self.trash_server(index, now_ms);
        self.weigh_again(service);
        self.stage_ring(service)
    }

    /// Moves a server to its service's deleted ones.
    fn trash_server(&mut self, index: u32, now_ms: u64) {
        self.state.unlink(index);
        self.state.change_server(index, |s| {
            s.live = false;
            s.deleted_ms = now_ms;
            s.changed = true;
        });
        self.state.link(index, true);
        self.deleted_servers.push(index);
    }

    /// Sums the weights anew, and lets weighted round robin follow.
    fn weigh_again(&mut self, service: u32) {
        let Some(owner) = self.state.services().get(service) else {
            return;
        };
        let weights: Weights = self.state.candidates(owner).into_iter().collect();
        self.state.change_service(service, |s| {
            s.weights = weights;
            if s.scheduler == Scheduler::Wrr {
                s.mark = weights.present_weight_after_change(s.mark);
            }
        });
    }

    /// Reads where the scheduler stands, before the first change of a service since
    /// the last commit.
    fn settle(&mut self, index: u32, memory: &Memory<'_>) {
        let Some(service) = self.state.services().get(index) else {
            return;
        };
        if service.settled {
            return;
        }
        let mark = self.present_mark(service, memory);
        self.state.change_service(index, |s| {
            s.mark = mark;
            s.settled = true;
        });
    }

    fn present_mark(&self, service: &Service, memory: &Memory<'_>) -> u32 {
        let Some(ring) = service.ring.filter(|_| service.ring_slots > 0) else {
            return service.mark;
        };
        let Some(used) = super::plan::cursor(memory, ring.base).checked_sub(1) else {
            return service.mark;
        };
        let slot = (used % u64::from(service.ring_slots)) as usize;
        match service.scheduler {
            Scheduler::Wrr => {
                let period = Period::new(&self.state.candidates(service));
                period.present_weight(service.mark, slot)
            }
            _ => super::plan::ring_slot(memory, ring.base, slot).map_or(0, |s| s + 1),
        }
    }

    /// Finds room for the ring that the service needs now. It is filled at the
    /// commit, once for all edits.
    fn stage_ring(&mut self, index: u32) -> Result<(), EditError> {
        let Some(service) = self.state.services().get(index) else {
            return Ok(());
        };
        let slots = service.weights.ring_slots(service.scheduler);
        let order = (slots > 0).then(|| rings::order_for(slots));
        let staged = service.staged;
        if staged.map(|block| block.order) != order {
            if let Some(block) = staged {
                self.state.discard_ring(block);
            }
            let block = order
                .map(|order| self.state.allocate_ring(order))
                .transpose()?;
            self.state.change_service(index, |s| s.staged = block);
        }
        self.state
            .change_service(index, |s| s.change = Change::Ring);
        Ok(())
    }

    /// `-Z`: what was counted so far is subtracted from now on.
    fn zero(&mut self, index: u32, memory: &Memory<'_>) {
        let sum = self.sum_of_servers(index, memory);
        self.state
            .change_service(index, |s| s.carry = Stats::default().less(&sum));
        let Some(service) = self.state.services().get(index) else {
            return;
        };
        let servers: Vec<u32> = self.state.list(service.head).map(|(i, _)| i).collect();
        for server in servers {
            self.state
                .set_zero(server, super::listing::counted(memory, server));
        }
    }

    /// `--set`; 0 leaves a value as it is.
    fn set_timeouts(&mut self, wanted: &Timeouts) -> Result<(), EditError> {
        if [wanted.tcp, wanted.tcp_fin, wanted.udp]
            .iter()
            .any(|&t| t > TIMEOUT_MAX)
        {
            return Err(EditError::Invalid);
        }
        let present = self.state.timeouts;
        let choose = |wanted: u32, present: u32| if wanted == 0 { present } else { wanted };
        self.state.timeouts = Timeouts {
            tcp: choose(wanted.tcp, present.tcp),
            tcp_fin: choose(wanted.tcp_fin, present.tcp_fin),
            udp: choose(wanted.udp, present.udp),
        };
        Ok(())
    }
}

fn check_weight(weight: u32) -> Result<(), EditError> {
    if weight > WEIGHT_MAX {
        Err(EditError::OutOfRange)
    } else {
        Ok(())
    }
}

fn check_method(method: ForwardMethod) -> Result<(), EditError> {
    match method {
        ForwardMethod::Masq => Ok(()),
        ForwardMethod::Route => Err(EditError::NotSupported("gatewaying".into())),
        ForwardMethod::Tunnel(_) => Err(EditError::NotSupported("ipip".into())),
        ForwardMethod::FullNat => Err(EditError::NotSupported("full NAT".into())),
    }
}

fn check_thresholds(settings: &ServerSettings) -> Result<(), EditError> {
    if settings.lower_threshold > settings.upper_threshold {
        return Err(EditError::OutOfRange);
    }
    if settings.upper_threshold > 0 {
        return Err(EditError::NotSupported("thresholds".into()));
    }
    Ok(())
}

/// The scheduler, when there is nothing beside it.
fn scheduler_of(settings: &ServiceSettings) -> Result<Scheduler, EditError> {
    let scheduler: Scheduler = settings.scheduler.parse()?;
    if !matches!(scheduler, Scheduler::Rr | Scheduler::Wrr) {
        return Err(EditError::NotSupported(scheduler.name().into()));
    }
    if settings.persistence.is_some() {
        return Err(EditError::NotSupported("persistence".into()));
    }
    if settings.one_packet {
        return Err(EditError::NotSupported("one-packet scheduling".into()));
    }
    Ok(scheduler)
}

fn service_address(key: &ServiceKey) -> Result<(Protocol, Ipv4Addr, u16), EditError> {
    let &ServiceKey::Address {
        protocol,
        address,
        port,
    } = key
    else {
        return Err(EditError::NotSupported("firewall marks".into()));
    };
    if protocol == Protocol::Sctp {
        return Err(EditError::NotSupported("sctp".into()));
    }
    match address {
        // Any port is for persistent services.
        IpAddr::V4(_) if port == 0 => Err(EditError::Invalid),
        IpAddr::V4(address) => Ok((protocol, address, port)),
        IpAddr::V6(_) => Err(EditError::NotSupported("IPv6".into())),
    }
}

/// The address of a new server: unicast, as `inet_addr_type` sees it, and of the
/// service's family except through a tunnel.
fn server_address(key: &ServerKey, method: ForwardMethod) -> Result<Ipv4Addr, EditError> {
    match key.address {
        IpAddr::V4(address) => {
            let zero_net = address.octets()[0] == 0;
            if zero_net || address.is_multicast() || address.is_broadcast() {
                return Err(EditError::Invalid);
            }
            Ok(address)
        }
        IpAddr::V6(_) if matches!(method, ForwardMethod::Tunnel(_)) => {
            Err(EditError::NotSupported("ipip".into()))
        }
        IpAddr::V6(_) => Err(EditError::Invalid),
    }
}
