//! Edits of servers.

use evenkeel_datapath::layout::server_flags::{HOP, HOP_READY};
use evenkeel_datapath::memory::Memory;

use crate::director::server::{Change, Server, check_address, check_family, check_settings};
use crate::director::state::NONE;
use crate::director::{Director, Origin, Reach};
use crate::model::{EditError, ForwardMethod, Scheduler, ServerKey, ServerSettings};

impl Director {
    pub(super) fn add_server(
        &mut self,
        service: u32,
        key: &ServerKey,
        settings: &ServerSettings,
        memory: &Memory<'_>,
        now_ms: u64,
    ) -> Result<(), EditError> {
        let settings = self.check(service, key, settings)?;
        let known = self.state.server_named(service, key);
        if known.is_some_and(|index| self.state.servers().get(index).is_some_and(|s| s.live)) {
            return Err(EditError::ServerExists);
        }
        check_address(key.address)?;
        self.settle(service, memory);
        let index = match known {
            Some(index) => {
                self.state.unlink(index);
                index
            }
            None => self.new_server(service, key, settings)?,
        };
        let order = self.state.take_order();
        let requested = self.origin == Origin::Request;
        self.state.change_server(index, |s| {
            s.live = true;
            s.requested = requested;
            s.order = order;
            s.last_weight = settings.weight;
        });
        self.set_settings(index, settings, now_ms)?;
        self.state.link(index, false);
        self.state.change_service(service, |s| {
            s.weights.add(settings.weight);
            if s.settings.scheduler == Scheduler::Wrr {
                s.position = s.weights.present_weight_after_change(s.position);
            }
        });
        self.stage_ring(service)
    }

    /// A server without endpoints yet, in no list.
    fn new_server(
        &mut self,
        service: u32,
        key: &ServerKey,
        settings: ServerSettings,
    ) -> Result<u32, EditError> {
        // Another service may have a server there already.
        let reach = self.hops.get(&key.address);
        let server = Server {
            hop_flags: reach.map_or(0, |reach| reach.flags(0)),
            hop_written: !matches!(reach, Some(Reach::By(_))),
            ..Server::new(*key, service, settings)
        };
        let index = self.state.add_server(server)?;
        if let Some(service) = self.state.services().get(service) {
            let (features, endpoints) = (server.features(service), server.endpoints(service));
            self.state.features.add(features);
            for key in endpoints {
                self.state.add_endpoint(key, 0)?;
            }
        }
        Ok(index)
    }

    pub(super) fn edit_server(
        &mut self,
        service: u32,
        key: &ServerKey,
        settings: &ServerSettings,
        memory: &Memory<'_>,
        now_ms: u64,
    ) -> Result<(), EditError> {
        let settings = self.check(service, key, settings)?;
        let index = self
            .live_server(service, key)
            .ok_or(EditError::NoSuchServer)?;
        self.settle(service, memory);
        if self.origin == Origin::Configuration {
            self.state.change_server(index, |s| s.requested = false);
        }
        self.set_settings(index, settings, now_ms)?;
        self.weigh_again(service);
        self.stage_ring(service)
    }

    fn check(
        &self,
        service: u32,
        key: &ServerKey,
        settings: &ServerSettings,
    ) -> Result<ServerSettings, EditError> {
        if let Some(service) = self.state.services().get(service) {
            check_family(service.key.family(), key, settings.method)?;
        }
        check_settings(settings)
    }

    /// All settings anew (`__ip_vs_update_dest`).
    fn set_settings(
        &mut self,
        index: u32,
        settings: ServerSettings,
        now_ms: u64,
    ) -> Result<(), EditError> {
        let Some(&before) = self.state.servers().get(index) else {
            return Ok(());
        };
        let upper = settings.upper_threshold;
        self.state.change_server(index, |s| {
            let is_relieved = upper == 0 || upper > s.settings.upper_threshold;
            s.change = s.change.max(if is_relieved {
                Change::Relief
            } else {
                Change::Record
            });
            s.settings = settings;
            if settings.weight > 0 {
                s.last_weight = settings.weight;
            }
        });
        if before.settings.method == settings.method {
            return Ok(());
        }
        self.renew_hop(index, &before);
        self.renew_endpoints(index, &before, now_ms)
    }

    /// After a change of the method: the room on the way may be another.
    fn renew_hop(&mut self, index: u32, before: &Server) {
        let tunnel = |method| matches!(method, ForwardMethod::Tunnel(_));
        let after = self.state.servers().get(index).map(|s| s.settings.method);
        if !tunnel(before.settings.method) && !after.is_some_and(tunnel) {
            return;
        }
        let is_known = matches!(self.hops.get(&before.key.address), Some(Reach::By(_)));
        self.state.change_server(index, |s| {
            if !is_known {
                s.hop_flags &= !HOP_READY;
            } else if s.hop_written {
                // The other one, since packets are using this one.
                s.hop_flags ^= HOP;
                s.hop_written = false;
            }
        });
    }

    /// After a change of the method: what packets from the server are found by.
    fn renew_endpoints(
        &mut self,
        index: u32,
        before: &Server,
        now_ms: u64,
    ) -> Result<(), EditError> {
        let Some(&after) = self.state.servers().get(index) else {
            return Ok(());
        };
        let Some(service) = self.state.services().get(before.service) else {
            return Ok(());
        };
        let (gone, there) = (before.endpoints(service), after.endpoints(service));
        let (former, present) = (before.features(service), after.features(service));
        self.state.features.remove(former);
        self.state.features.add(present);
        // In this order none is given up that stays.
        for key in there {
            self.state.add_endpoint(key, 0)?;
        }
        for key in gone {
            self.state.remove_endpoint(key, now_ms);
        }
        Ok(())
    }

    pub(super) fn delete_server(
        &mut self,
        service: u32,
        key: &ServerKey,
        memory: &Memory<'_>,
        now_ms: u64,
    ) -> Result<(), EditError> {
        let index = self
            .live_server(service, key)
            .ok_or(EditError::NoSuchServer)?;
        self.settle(service, memory);
        // Round robin that stood at this server stands at the one before it now.
        let previous = self.state.servers().get(index).map_or(NONE, |s| s.previous);
        self.state.change_service(service, |s| {
            if s.settings.scheduler == Scheduler::Rr && s.position == index + 1 {
                s.position = if previous == NONE { 0 } else { previous + 1 };
            }
        });
        self.trash_server(index, now_ms);
        self.weigh_again(service);
        self.stage_ring(service)
    }

    /// Moves a server to its service's deleted ones.
    pub(super) fn trash_server(&mut self, index: u32, now_ms: u64) {
        self.state.unlink(index);
        self.state.change_server(index, |s| {
            s.live = false;
            s.deleted_ms = now_ms;
            s.change = s.change.max(Change::Record);
        });
        self.state.link(index, true);
        self.deleted_servers.push(index);
    }
}
