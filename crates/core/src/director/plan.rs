//! From the changed table to writes, in their order.

use alloc::vec::Vec;
use core::net::IpAddr;

use evenkeel_datapath::layout::{RING_HEADER, scheduler, service_flags};
use evenkeel_datapath::memory::Memory;
use evenkeel_datapath::word::Word;

use super::schedule::{self, Period};
use super::state::{Change, Server, Service, network};
use super::write::{ServerRecord, ServiceRecord, Write};
use super::{Director, Reach};
use crate::model::Scheduler;

/// [`ServiceRecord::scheduler_name`] of each scheduler.
pub(super) const SCHEDULER_NAMES: [(Scheduler, u32); 2] = [(Scheduler::Rr, 1), (Scheduler::Wrr, 2)];

/// How many connections were spread by the ring at `base`.
pub(super) fn cursor(memory: &Memory<'_>, base: u32) -> u64 {
    let word = |i: usize| memory.rings.get(base as usize + i).map_or(0, Word::get);
    loop {
        let (high, low) = (word(1), word(0));
        // The high word changes once in 2^32 connections.
        if word(1) == high {
            return u64::from(high) << 32 | u64::from(low);
        }
    }
}

/// The server in a slot of the ring at `base`.
pub(super) fn ring_slot(memory: &Memory<'_>, base: u32, slot: usize) -> Option<u32> {
    memory
        .rings
        .get(base as usize + RING_HEADER as usize + slot)
        .map(Word::get)
}

/// [`evenkeel_datapath::layout::Service::ring`].
pub(super) fn ring_word(base: u32, slots: u32) -> u64 {
    if slots == 0 {
        0
    } else {
        u64::from(base) << 32 | u64::from(slots)
    }
}

pub(super) fn service_record(service: &Service) -> ServiceRecord {
    let name = SCHEDULER_NAMES
        .iter()
        .find(|(s, _)| *s == service.scheduler);
    let deleted = if service.live {
        0
    } else {
        service_flags::DELETED
    };
    ServiceRecord {
        address: network(service.address),
        port: u32::from(service.port.to_be()) | u32::from(service.protocol.number()) << 16,
        scheduler: scheduler::RING,
        scheduler_name: name.map_or(0, |&(_, number)| number),
        current_weight: service.mark,
        flags: service_flags::USED | deleted,
    }
}

pub(super) fn server_record(server: &Server, service: &Service) -> ServerRecord {
    let port = server.actual_port(service);
    ServerRecord {
        address: network(server.address),
        ports: u32::from(port.to_be()) | u32::from(service.port.to_be()) << 16,
        virtual_address: network(service.address),
        service: server.service,
        flags: server.flags(service),
        weight: server.weight,
        order: server.order,
    }
}

impl Director {
    /// The servers of the service's ring, from where its scheduler stands.
    pub(super) fn ring(&self, service: &Service) -> Vec<u32> {
        let list = self.state.candidates(service);
        match service.scheduler {
            Scheduler::Wrr => Period::new(&list).ring(service.mark),
            _ => schedule::round_robin(&list, service.mark),
        }
    }

    /// Queues the writes for everything that was changed since the last commit.
    pub(super) fn commit(&mut self, now_ms: u64) {
        let services = in_order(core::mem::take(&mut self.state.touched_services));
        let servers = in_order(core::mem::take(&mut self.state.touched_servers));
        self.writes.reserve(2 * servers.len());

        self.write_settings();
        self.write_servers(&servers, true);
        let publications = self.write_rings(&services, now_ms);
        let (there, gone) = self.state.endpoints.take_changes();
        self.write_services(&services, true);
        self.writes.extend(publications.live);
        self.writes.extend(there);
        self.writes.extend(gone);
        self.writes.extend(publications.deleted);
        self.write_services(&services, false);
        self.write_servers(&servers, false);

        self.free_discarded();
        self.mark_written(&services, &servers);
        self.state.forget_journal();
        self.state.touched_services.clear();
        self.state.touched_servers.clear();
    }

    /// Frees the rings that were never published and are not needed to go back.
    pub(super) fn free_discarded(&mut self) {
        for block in core::mem::take(&mut self.state.discarded) {
            self.state.rings.free(block);
        }
    }

    fn write_settings(&mut self) {
        if self.written_timeouts != self.state.timeouts {
            self.written_timeouts = self.state.timeouts;
            self.writes.push_back(Write::Timeouts(self.state.timeouts));
        }
        if self.written_order != self.state.next_order {
            self.written_order = self.state.next_order;
            self.writes
                .push_back(Write::NextOrder(self.state.next_order));
        }
    }

    fn write_servers(&mut self, servers: &[u32], live: bool) {
        for &index in servers {
            let Some(server) = self.state.servers().get(index) else {
                continue;
            };
            let Some(service) = self.state.services().get(server.service) else {
                continue;
            };
            if server.changed && server.live == live {
                if !server.hop_written
                    && let Some(Reach::By(hop)) = self.hops.get(&IpAddr::V4(server.address))
                {
                    self.writes.push_back(hop.write(index, 0));
                }
                let record = server_record(server, service);
                self.writes.push_back(Write::Server { index, record });
            }
        }
    }

    fn write_services(&mut self, services: &[u32], live: bool) {
        for &index in services {
            let Some(service) = self.state.services().get(index) else {
                continue;
            };
            if service.change >= Change::Record && service.live == live {
                let record = service_record(service);
                self.writes.push_back(Write::Service { index, record });
            }
        }
    }

    /// Fills new rings, gives up the old ones, and returns what publishes them.
    fn write_rings(&mut self, services: &[u32], now_ms: u64) -> Publications {
        let mut publications = Publications::default();
        for &index in services {
            let Some(&service) = self.state.services().get(index) else {
                continue;
            };
            if service.change < Change::Ring {
                continue;
            }
            let slots = if service.live {
                self.ring(&service)
            } else {
                Vec::new()
            };
            let block = service.staged.filter(|_| !slots.is_empty());
            let count = slots.len() as u32;
            let ring = block.map_or(0, |block| ring_word(block.base, count));
            if let Some(block) = block {
                let mut words = Vec::with_capacity(RING_HEADER as usize + slots.len());
                words.resize(RING_HEADER as usize, 0);
                words.extend(slots);
                self.writes.push_back(Write::Ring {
                    base: block.base,
                    words,
                });
            } else if let Some(unused) = service.staged {
                self.state.rings.free(unused);
            }
            if service.ring.is_some() || ring != 0 {
                let publish = Write::Publish {
                    service: index,
                    ring,
                };
                if service.live {
                    publications.live.push(publish);
                } else {
                    publications.deleted.push(publish);
                }
            }
            if let Some(former) = service.ring {
                self.state.rings.rest(former, now_ms);
            }
            self.state.change_service(index, |s| {
                s.ring = block;
                s.ring_slots = if block.is_some() { count } else { 0 };
                s.staged = None;
            });
        }
        publications
    }

    fn mark_written(&mut self, services: &[u32], servers: &[u32]) {
        for &index in services {
            self.state.change_service(index, |s| {
                s.change = Change::Nothing;
                s.settled = false;
            });
        }
        for &index in servers {
            self.state.change_server(index, |s| {
                s.changed = false;
                s.hop_written = true;
            });
        }
    }
}

fn in_order(mut indices: Vec<u32>) -> Vec<u32> {
    indices.sort_unstable();
    indices.dedup();
    indices
}

/// Writes that make rings those of their services.
#[derive(Default)]
struct Publications {
    live: Vec<Write>,
    deleted: Vec<Write>,
}
