//! Taking over a memory: an empty one at the first start, else that of a daemon
//! that is gone, which may have died in the middle of an edit.
//!
//! The records of services and servers are the truth: what was begun with them is
//! finished. Rings and endpoints are made to agree with them.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use evenkeel_datapath::layout::{NOBODY, server_flags, service_flags};
use evenkeel_datapath::memory::Memory;
use evenkeel_datapath::{tree, word::Word};
use hashbrown::HashMap;

use super::endpoints::{Endpoints, Key};
use super::estimates::Estimates;
use super::plan::{self, Wanted};
use super::records::{
    is_of, read_server, read_service, server_of, server_record, service_of, service_record,
};
use super::rings::{self, Block, Rings};
use super::schedule::{Shape, Weights};
use super::service::{Change, Ring, Service};
use super::state::State;
use super::write::{ServerRecord, ServiceRecord, Write};
use super::{Director, Origin, server, sysctls};
use crate::model::Timeouts;

impl Director {
    /// The director of this memory. Repairs are queued as writes.
    #[must_use]
    pub fn adopt(memory: &Memory<'_>, now_ms: u64) -> Self {
        let endpoints = Endpoints::new(memory);
        let words = u32::try_from(memory.rings.len()).unwrap_or(u32::MAX);
        let (services, servers) = (memory.services.len(), memory.servers.len());
        let mut director = Self {
            state: State::new(services, servers, endpoints, Rings::new(words)),
            estimates: Estimates::default(),
            writes: VecDeque::new(),
            hops: HashMap::new(),
            deleted_servers: Vec::new(),
            deleted_services: Vec::new(),
            written_timeouts: Timeouts {
                tcp: 0,
                tcp_fin: 0,
                udp: 0,
            },
            written_order: 0,
            written_features: memory.control.features.get(),
            written_settings: memory.control.settings.get(),
            written_kept: core::array::from_fn(|place| memory.control.kept[place].get()),
            written_drop_rate: memory.control.drop_rate.get(),
            // Until it is known how much room there is.
            automatic_rate: memory.control.drop_rate.get(),
            defence_feature: 0,
            compatible: true,
            origin: Origin::Request,
            rules_feature: 0,
            repairs: 0,
        };
        director.adopt_settings(memory);
        director.adopt_services(memory, now_ms);
        director.adopt_servers(memory, now_ms);
        director.adopt_rings(memory);
        director.adopt_endpoints(memory);
        director.adopt_mark_rules(memory);
        director.state.adopted();
        director.commit(memory, now_ms);
        director
    }

    fn adopt_settings(&mut self, memory: &Memory<'_>) {
        let control = memory.control;
        let or = |value: u32, default: u32| if value == 0 { default } else { value };
        let default = Timeouts::default();
        self.written_timeouts = Timeouts {
            tcp: control.timeout_tcp.get(),
            tcp_fin: control.timeout_tcp_fin.get(),
            udp: control.timeout_udp.get(),
        };
        self.state.timeouts = Timeouts {
            tcp: or(self.written_timeouts.tcp, default.tcp),
            tcp_fin: or(self.written_timeouts.tcp_fin, default.tcp_fin),
            udp: or(self.written_timeouts.udp, default.udp),
        };
        self.state.sysctls = sysctls::adopt(self.written_settings, &self.written_kept);
        self.written_order = control.next_order.get();
        self.state.next_order = self.written_order.max(1);
    }

    fn adopt_services(&mut self, memory: &Memory<'_>, now_ms: u64) {
        for (index, record) in (0..).zip(memory.services) {
            if record.flags.get() & service_flags::USED == 0 {
                continue;
            }
            let record = read_service(record);
            let known = |s: &Service| self.state.service_named(&s.key).is_some();
            let Some(mut service) = service_of(&record, now_ms).filter(|s| !known(s)) else {
                // A service that can not be: nobody wrote it, or only in part.
                self.writes.push_back(Write::Publish {
                    service: index,
                    ring: 0,
                });
                let record = ServiceRecord::default();
                self.writes.push_back(Write::Service { index, record });
                self.repairs += 1;
                continue;
            };
            if !service.live {
                self.deleted_services.push(index);
            }
            if service_record(&service) != record {
                service.change = Change::Record;
                self.repairs += 1;
            }
            self.state.adopt_service(index, service);
        }
    }

    fn adopt_servers(&mut self, memory: &Memory<'_>, now_ms: u64) {
        let mut found = Vec::new();
        for (index, record) in (0..).zip(memory.servers) {
            if record.flags.get() & server_flags::USED == 0 {
                continue;
            }
            let record = read_server(record);
            let service = self.state.services().get(record.service);
            let server = service.and_then(|service| {
                let server = server_of(&record, now_ms)?;
                is_of(&record, &server, service).then_some((server, service))
            });
            if let Some((mut server, service)) = server {
                if server_record(&server, service) != record {
                    server.change = server::Change::Record;
                    self.repairs += 1;
                }
                found.push((index, server));
            } else {
                self.writes
                    .push_back(Write::ClearCounters { server: index });
                self.writes.push_back(Write::Server {
                    index,
                    record: ServerRecord::default(),
                });
                self.repairs += 1;
            }
        }
        // Ascending, since each goes to the head of its list.
        found.sort_by_key(|(_, server)| server.order);
        for (index, mut server) in found {
            let owner = self.state.services().get(server.service);
            if server.live && owner.is_some_and(|service| !service.live) {
                // Its service was being deleted.
                server.live = false;
                server.change = server::Change::Record;
                self.repairs += 1;
            }
            if !server.live {
                self.deleted_servers.push(index);
            }
            self.state.next_order = self.state.next_order.max(server.order.wrapping_add(1));
            self.state.adopt_server(index, server);
        }
    }

    fn adopt_rings(&mut self, memory: &Memory<'_>) {
        let services = self.state.services().iter();
        let services: Vec<u32> = services.map(|(index, _)| index).collect();
        let mut stale = Vec::new();
        for index in services {
            let Some(&service) = self.state.services().get(index) else {
                continue;
            };
            let weights: Weights = self.state.candidates(&service).into_iter().collect();
            self.state.change_service(index, |s| s.weights = weights);
            let wanted = self.ring(&service);
            let Some(record) = memory.services.get(index as usize) else {
                continue;
            };
            if !self.adopt_ring(index, record.ring.get(), &wanted, memory) {
                stale.push(index);
            }
        }
        for index in stale {
            self.repairs += 1;
            self.renew_ring(index);
        }
    }

    /// True: the ring in the memory is the right one.
    fn adopt_ring(&mut self, index: u32, word: u64, wanted: &Wanted, memory: &Memory<'_>) -> bool {
        if wanted.length == 0 {
            return word == 0;
        }
        let Some(&service) = self.state.services().get(index) else {
            return false;
        };
        let (base, length) = ((word >> 32) as u32, word as u32);
        let scheduler = service.settings.scheduler;
        let Ok(words) = service.weights.ring_words(scheduler) else {
            return false;
        };
        let ring = Ring {
            block: Block {
                base,
                order: rings::order_for(words),
            },
            length,
            shape: Shape::of(scheduler),
        };
        if length != wanted.length
            || !self.holds(index, &ring, wanted, plan::contents(memory, base))
            || !self.state.rings.reserve(ring.block)
        {
            return false;
        }
        self.state.change_service(index, |s| s.ring = Some(ring));
        if ring.shape == Shape::Tree {
            // What the last daemon did not come to.
            self.writes.push_back(Write::Leaves { ring: word });
            self.writes.push_back(plan::compare(&service, word));
        }
        true
    }

    /// True: what is behind a ring's header is what is wanted there.
    fn holds(&self, service: u32, ring: &Ring, wanted: &Wanted, present: &[Word]) -> bool {
        // The comparisons of a tree change all the time.
        let skipped = match ring.shape {
            Shape::Tree => tree::nodes(ring.length) as usize,
            _ => 0,
        };
        let words = wanted.words.len();
        let Some(same) = present.get(..words) else {
            return false;
        };
        let mut pairs = same.iter().zip(&wanted.words).skip(skipped);
        if !pairs.all(|(word, &wanted)| word.get() == wanted) {
            return false;
        }
        let is_owner = |word: &Word| {
            let owner = word.get();
            owner == NOBODY || self.is_server_of(owner, service)
        };
        ring.shape != Shape::Maglev
            || present
                .get(words..2 * words)
                .is_some_and(|former| former.iter().all(is_owner))
    }

    /// A new ring for a service whose ring does not agree with its servers.
    fn renew_ring(&mut self, index: u32) {
        let Some(service) = self.state.services().get(index) else {
            return;
        };
        let block = match service.weights.ring_words(service.settings.scheduler) {
            Ok(words @ 1..) if service.live => self.state.rings.allocate(rings::order_for(words)),
            _ => None,
        };
        // Publishes 0 too, where there is none.
        self.writes.push_back(Write::Publish {
            service: index,
            ring: 0,
        });
        self.state.change_service(index, |s| {
            s.staged = block;
            s.change = Change::Ring;
        });
    }

    fn adopt_endpoints(&mut self, memory: &Memory<'_>) {
        let services = self.state.services().iter().filter(|(_, s)| s.live);
        let mut wanted: Vec<(Key, u32)> = services
            .map(|(index, service)| (service.endpoint(), index))
            .collect();
        for (_, server) in self.state.servers().iter() {
            if let Some(service) = self.state.services().get(server.service) {
                wanted.extend(server.endpoints(service).map(|key| (key, 0)));
            }
        }
        if !self.state.endpoints.adopt(memory, &wanted) {
            self.repairs += 1;
        }
        self.writes.extend(self.state.endpoints.forget_addresses());
    }
}
