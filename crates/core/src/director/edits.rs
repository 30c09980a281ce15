//! What each edit does, with IPVS's order of checks and its errors
//! (`net/netfilter/ipvs/ip_vs_ctl.c`).

mod servers;

use alloc::vec::Vec;

use evenkeel_datapath::memory::Memory;

use super::schedule::{Period, Weights};
use super::service::{Change, Service, Settings, check_key};
use super::{AsOf, Director, Origin, rings};
use crate::model::{
    Edit, EditError, Scheduler, ServerKey, ServiceKey, ServiceSettings, Stats, Timeouts,
};

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
                let mut checked = Settings::check(service, settings)?;
                if let (None, Some(before)) = (settings.mss_clamp, self.state.services().get(index))
                {
                    checked.mss_clamp = before.settings.mss_clamp;
                }
                self.edit_service(index, checked, settings.compatible)
            }
            Edit::DeleteService { service } => {
                let index = self.live_service(service).ok_or(EditError::NoSuchService)?;
                self.delete_service(index, now_ms);
                Ok(())
            }
            Edit::Flush => {
                for index in self.live_services() {
                    self.delete_service(index, now_ms);
                }
                Ok(())
            }
            Edit::AddServer {
                service,
                server,
                settings,
            } => {
                let service = self.defined(service)?;
                self.add_server(service, server, settings, memory, now_ms)
            }
            Edit::EditServer {
                service,
                server,
                settings,
            } => {
                let service = self.defined(service)?;
                self.edit_server(service, server, settings, memory, now_ms)
            }
            Edit::DeleteServer { service, server } => {
                let service = self.defined(service)?;
                self.delete_server(service, server, memory, now_ms)
            }
            Edit::Zero { service: Some(key) } => {
                let index = self.live_service(key).ok_or(EditError::NoSuchService)?;
                self.zero(index, memory);
                Ok(())
            }
            Edit::Zero { service: None } => {
                for index in self.live_services() {
                    self.zero(index, memory);
                }
                Ok(())
            }
            Edit::SetTimeouts(timeouts) => self.set_timeouts(timeouts),
            Edit::Set { setting, value } => self.state.set_sysctl(*setting, *value),
        }
    }

    pub(super) fn live_service(&self, key: &ServiceKey) -> Option<u32> {
        let index = self.state.service_named(key)?;
        let service = self.state.services().get(index)?;
        service.live.then_some(index)
    }

    /// The service that an edit of a server is about.
    fn defined(&self, key: &ServiceKey) -> Result<u32, EditError> {
        self.live_service(key).ok_or(EditError::ServiceNotDefined)
    }

    fn live_services(&self) -> Vec<u32> {
        let live = self.state.services().iter().filter(|(_, s)| s.live);
        live.map(|(index, _)| index).collect()
    }

    pub(super) fn live_server(&self, service: u32, key: &ServerKey) -> Option<u32> {
        let index = self.state.server_named(service, key)?;
        let server = self.state.servers().get(index)?;
        server.live.then_some(index)
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
        let compatible = settings.compatible.unwrap_or(self.compatible);
        let settings = Settings::check(key, settings)?;
        check_key(key)?;
        let fresh = Service {
            configured: self.origin == Origin::Configuration,
            ..Service::new(*key, settings, compatible)
        };
        let index = match known {
            Some(index) => {
                // The same service again while its former servers still have
                // connections: it goes on in its slot, with counters from 0.
                let former = self.sum_of_servers(index, AsOf::LastSample, memory);
                self.estimates.forget_service(index);
                self.state.change_service(index, |s| {
                    s.live = true;
                    s.settings = settings;
                    s.compatible = fresh.compatible;
                    s.configured = fresh.configured;
                    s.weights = Weights::default();
                    s.carry = Stats::default().less(&former);
                });
                index
            }
            None => self.state.add_service(fresh)?,
        };
        self.state.change_service(index, |s| {
            s.position = 0;
            s.settled = true;
            s.change = s.change.max(Change::Record);
        });
        let features = self.state.features_of(&fresh);
        self.state.features.add(features);
        self.state.add_endpoint(fresh.endpoint(), index)
    }

    /// All settings anew. The scheduler goes on where it stands if it is the same.
    fn edit_service(
        &mut self,
        index: u32,
        settings: Settings,
        compatible: Option<bool>,
    ) -> Result<(), EditError> {
        let Some(&before) = self.state.services().get(index) else {
            return Ok(());
        };
        let after = Service {
            settings,
            compatible: compatible.unwrap_or(before.compatible),
            configured: before.configured || self.origin == Origin::Configuration,
            ..before
        };
        let [former, present] = [&before, &after].map(|s| self.state.features_of(s));
        self.state.features.remove(former);
        self.state.features.add(present);
        self.state.change_service(index, |s| {
            s.settings = settings;
            s.compatible = after.compatible;
            s.configured = after.configured;
            s.change = s.change.max(Change::Record);
        });
        let scheduler = settings.scheduler;
        if before.settings.scheduler != scheduler {
            let weights: Weights = self.state.candidates(&before).into_iter().collect();
            self.state.change_service(index, |s| {
                s.weights = weights;
                s.position = match scheduler {
                    Scheduler::Wrr => weights.initial_present_weight(),
                    _ => 0,
                };
                s.settled = true;
            });
            return self.stage_ring(index);
        }
        if scheduler == Scheduler::Mh && before.compatible != after.compatible {
            return self.stage_ring(index);
        }
        Ok(())
    }

    fn delete_service(&mut self, index: u32, now_ms: u64) {
        let Some(&service) = self.state.services().get(index) else {
            return;
        };
        let servers: Vec<u32> = self.state.list(service.head).map(|(i, _)| i).collect();
        for server in servers {
            self.trash_server(server, now_ms);
        }
        let features = self.state.features_of(&service);
        self.state.features.remove(features);
        self.state.remove_endpoint(service.endpoint(), now_ms);
        if let Some(block) = service.staged {
            self.state.discard_ring(block);
        }
        self.state.change_service(index, |s| {
            s.live = false;
            s.deleted_ms = now_ms;
            s.weights = Weights::default();
            s.position = 0;
            s.staged = None;
            s.settled = true;
            s.change = Change::Ring;
        });
        self.deleted_services.push(index);
    }

    /// Sums the weights anew, and lets weighted round robin follow.
    fn weigh_again(&mut self, service: u32) {
        let Some(owner) = self.state.services().get(service) else {
            return;
        };
        let weights: Weights = self.state.candidates(owner).into_iter().collect();
        self.state.change_service(service, |s| {
            s.weights = weights;
            if s.settings.scheduler == Scheduler::Wrr {
                s.position = weights.present_weight_after_change(s.position);
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
        let position = self.present_position(service, memory);
        self.state.change_service(index, |s| {
            s.position = position;
            s.settled = true;
        });
    }

    fn present_position(&self, service: &Service, memory: &Memory<'_>) -> u32 {
        let scheduler = service.settings.scheduler;
        if !matches!(scheduler, Scheduler::Rr | Scheduler::Wrr) {
            return 0;
        }
        let Some(ring) = service.ring else {
            return service.position;
        };
        let base = ring.block.base;
        let Some(used) = super::plan::cursor(memory, base).checked_sub(1) else {
            return service.position;
        };
        let slot = (used % u64::from(ring.length)) as usize;
        if scheduler == Scheduler::Wrr {
            let period = Period::new(&self.state.candidates(service));
            return period.present_weight(service.position, slot);
        }
        let server = super::plan::contents(memory, base).get(slot);
        server.map_or(0, |server| server.get().wrapping_add(1))
    }

    /// Finds room for the ring that the service needs now. It is filled at the
    /// commit, once for all edits.
    fn stage_ring(&mut self, index: u32) -> Result<(), EditError> {
        let Some(service) = self.state.services().get(index) else {
            return Ok(());
        };
        let words = service.weights.ring_words(service.settings.scheduler)?;
        let order = (words > 0).then(|| rings::order_for(words));
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
        let sum = self.sum_of_servers(index, AsOf::LastSample, memory);
        self.state
            .change_service(index, |s| s.carry = Stats::default().less(&sum));
        let Some(service) = self.state.services().get(index) else {
            return;
        };
        let servers: Vec<u32> = self.state.list(service.head).map(|(i, _)| i).collect();
        for server in servers {
            self.state
                .set_zero(server, self.estimates.counted(memory, server));
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
