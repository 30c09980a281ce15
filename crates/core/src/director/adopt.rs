//! Taking over a memory: an empty one at the first start, else that of a daemon
//! that is gone, which may have died in the middle of an edit.
//!
//! The records of services and servers are the truth: what was begun with them is
//! finished. Rings and endpoints are made to agree with them.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::net::Ipv4Addr;

use evenkeel_datapath::layout::{self, server_flags, service_flags};
use evenkeel_datapath::memory::Memory;
use evenkeel_datapath::word::Word;
use hashbrown::HashMap;

use super::Director;
use super::endpoints::Endpoints;
use super::plan::{SCHEDULER_NAMES, ring_slot, ring_word, server_record, service_record};
use super::rings::{self, Block, Rings};
use super::schedule::Weights;
use super::state::{Change, NONE, Server, Service, State};
use super::write::{ServerRecord, ServiceRecord, Write};
use crate::model::{ForwardMethod, Protocol, Stats, Timeouts, Tunnel};

impl Director {
    /// The director of this memory. Repairs are queued as writes.
    #[must_use]
    pub fn adopt(memory: &Memory<'_>, now_ms: u64) -> Self {
        let endpoints = Endpoints::new(memory.endpoints.len(), memory.control.seed.get());
        let words = u32::try_from(memory.rings.len()).unwrap_or(u32::MAX);
        let (services, servers) = (memory.services.len(), memory.servers.len());
        let mut director = Self {
            state: State::new(services, servers, endpoints, Rings::new(words)),
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
            repairs: 0,
        };
        director.adopt_settings(memory);
        director.adopt_services(memory, now_ms);
        director.adopt_servers(memory, now_ms);
        director.adopt_rings(memory);
        director.adopt_endpoints(memory);
        director.state.adopted();
        director.commit(now_ms);
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
        self.written_order = control.next_order.get();
        self.state.next_order = self.written_order.max(1);
    }

    fn adopt_services(&mut self, memory: &Memory<'_>, now_ms: u64) {
        for (index, record) in (0..).zip(memory.services) {
            if record.flags.get() & service_flags::USED == 0 {
                continue;
            }
            match service_of(record, now_ms) {
                Some(service) if self.state.service_named(&service.key()).is_none() => {
                    if !service.live {
                        self.deleted_services.push(index);
                    }
                    self.state.adopt_service(index, service);
                }
                // A service that can not be: nobody wrote it, or only in part.
                _ => {
                    self.writes.push_back(Write::Publish {
                        service: index,
                        ring: 0,
                    });
                    let record = ServiceRecord::default();
                    self.writes.push_back(Write::Service { index, record });
                    self.repairs += 1;
                }
            }
        }
    }

    fn adopt_servers(&mut self, memory: &Memory<'_>, now_ms: u64) {
        let mut found = Vec::new();
        for (index, record) in (0..).zip(memory.servers) {
            if record.flags.get() & server_flags::USED == 0 {
                continue;
            }
            let server = server_of(record, now_ms);
            let service = self.state.services().get(server.service);
            // Records are written before what refers to them, so that one without
            // its service was never used.
            let whole = service.is_some_and(|service| {
                let expected = server_record(&server, service);
                expected.ports == record.ports.get()
                    && expected.virtual_address == record.virtual_address.get()
                    && expected.flags == record.flags.get()
            });
            if whole {
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
                server.changed = true;
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
        let services: Vec<u32> = self
            .state
            .services()
            .iter()
            .map(|(index, _)| index)
            .collect();
        let mut stale = Vec::new();
        for index in services {
            let Some(&service) = self.state.services().get(index) else {
                continue;
            };
            let weights: Weights = self.state.candidates(&service).into_iter().collect();
            self.state.change_service(index, |s| s.weights = weights);
            let wanted = if service.live {
                self.ring(&service)
            } else {
                Vec::new()
            };
            let Some(record) = memory.services.get(index as usize) else {
                continue;
            };
            let word = record.ring.get();
            if self.adopt_ring(index, word, &wanted, memory) {
                continue;
            }
            stale.push(index);
        }
        for index in stale {
            self.repairs += 1;
            self.renew_ring(index);
        }
    }

    /// True: the ring in the memory is the right one.
    fn adopt_ring(&mut self, index: u32, word: u64, wanted: &[u32], memory: &Memory<'_>) -> bool {
        let slots = wanted.len() as u32;
        if slots == 0 {
            return word == 0;
        }
        let base = (word >> 32) as u32;
        let same = |(slot, &server): (usize, &u32)| ring_slot(memory, base, slot) == Some(server);
        if word != ring_word(base, slots) || !wanted.iter().enumerate().all(same) {
            return false;
        }
        let Some(service) = self.state.services().get(index) else {
            return false;
        };
        let order = rings::order_for(service.weights.ring_slots(service.scheduler));
        let block = Block { base, order };
        if !self.state.rings.reserve(block) {
            return false;
        }
        self.state.change_service(index, |s| {
            s.ring = Some(block);
            s.ring_slots = slots;
        });
        true
    }

    /// A new ring for a service whose ring does not agree with its servers.
    fn renew_ring(&mut self, index: u32) {
        let Some(service) = self.state.services().get(index) else {
            return;
        };
        let slots = service.weights.ring_slots(service.scheduler);
        let block = match slots {
            0 => None,
            _ => self.state.rings.allocate(rings::order_for(slots)),
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
        for (bucket, record) in memory.endpoints.iter().enumerate() {
            for (slot, record) in record.slots.iter().enumerate() {
                let key = record.key.get();
                if key != 0 {
                    self.state
                        .endpoints
                        .note(bucket, slot, key, record.value.get());
                }
            }
        }
        let services = self.state.services().iter().filter(|(_, s)| s.live);
        let mut wanted: Vec<(u64, u32)> = services
            .map(|(index, service)| (service.endpoint(), index))
            .collect();
        wanted.extend(self.state.servers().iter().filter_map(|(_, server)| {
            let service = self.state.services().get(server.service)?;
            Some((server.endpoint(service), 0))
        }));
        if !self.state.endpoints.settle(&wanted) {
            self.repairs += 1;
        }
        let words = memory.addresses.words.iter().map(Word::get);
        self.state.endpoints.note_addresses(words);
        self.writes.extend(self.state.endpoints.forget_addresses());
    }
}

fn address_of(word: u32) -> Ipv4Addr {
    Ipv4Addr::from(word.to_ne_bytes())
}

fn port_of(word: u32) -> u16 {
    u16::from_be(word as u16)
}

fn service_of(record: &layout::Service, now_ms: u64) -> Option<Service> {
    let port = record.port.get();
    let name = record.scheduler_name.get();
    let flags = record.flags.get();
    let (scheduler, _) = SCHEDULER_NAMES.iter().find(|(_, number)| *number == name)?;
    let service = Service {
        address: address_of(record.address.get()),
        port: port_of(port),
        protocol: Protocol::from_number((port >> 16) as u8)?,
        scheduler: *scheduler,
        live: flags & service_flags::DELETED == 0,
        deleted_ms: now_ms,
        head: NONE,
        trash: NONE,
        weights: Weights::default(),
        mark: record.current_weight.get(),
        ring: None,
        ring_slots: 0,
        staged: None,
        settled: false,
        change: Change::Nothing,
        carry: Stats::default(),
        saved: 0,
    };
    (service_record(&service).scheduler == record.scheduler.get()).then_some(service)
}

fn server_of(record: &layout::Server, now_ms: u64) -> Server {
    let flags = record.flags.get();
    let method = match flags >> server_flags::METHOD_SHIFT & 7 {
        2 => ForwardMethod::Tunnel(Tunnel::Ipip),
        3 => ForwardMethod::Route,
        _ => ForwardMethod::Masq,
    };
    let given_as_zero = flags & server_flags::PORT_GIVEN_AS_ZERO != 0;
    Server {
        address: address_of(record.address.get()),
        port: if given_as_zero {
            0
        } else {
            port_of(record.ports.get())
        },
        service: record.service.get(),
        weight: record.weight.get(),
        method,
        live: flags & server_flags::ALIVE != 0,
        deleted_ms: now_ms,
        order: record.order.get(),
        hop_flags: flags & (server_flags::HOP | server_flags::HOP_READY | server_flags::LOCAL),
        previous: NONE,
        next: NONE,
        hop_written: true,
        changed: false,
        saved: 0,
    }
}
