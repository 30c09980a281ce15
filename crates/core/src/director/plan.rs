//! From the changed table to writes, in their order.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

use evenkeel_datapath::layout::{RING_HEADER, scheduler};
use evenkeel_datapath::memory::Memory;
use evenkeel_datapath::spread::{self, MAGLEV_SLOTS};
use evenkeel_datapath::word::Word;

use super::records::{scheduler_number, server_record, service_record, words};
use super::schedule::tables::{self, Applicant};
use super::schedule::{self, Period, Shape};
use super::service::{Change, Ring, Service};
use super::write::{self, Write};
use super::{Director, Reach, server, sysctls};
use crate::model::Scheduler;

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

/// What stands behind the header of the ring at `base`, to the end of the memory.
pub(super) fn contents<'a>(memory: &Memory<'a>, base: u32) -> &'a [Word] {
    let first = base as usize + RING_HEADER as usize;
    memory.rings.get(first..).unwrap_or_default()
}

/// What a ring is to hold.
pub(super) struct Wanted {
    /// Behind the header.
    pub words: Vec<u32>,
    /// See [`evenkeel_datapath::layout::scheduler`]; 0: nobody can serve.
    pub length: u32,
}

impl From<Vec<u32>> for Wanted {
    fn from(words: Vec<u32>) -> Self {
        let length = words.len() as u32;
        Self { words, length }
    }
}

impl Director {
    /// The ring of a service, from where its scheduler stands. Of a Maglev table the
    /// former owners are not there yet.
    pub(super) fn ring(&self, service: &Service) -> Wanted {
        if !service.live {
            return Vec::new().into();
        }
        let list = self.state.candidates(service);
        match service.settings.scheduler {
            Scheduler::Rr => schedule::round_robin(&list, service.position).into(),
            Scheduler::Wrr => Period::new(&list).ring(service.position).into(),
            Scheduler::Twos => tables::draws(&list).into(),
            Scheduler::Sh => tables::by_source(&list).into(),
            Scheduler::Dh => tables::by_destination(&list).into(),
            Scheduler::Mh => tables::maglev(&self.applicants(service)).into(),
            _ => {
                let (words, length) = tables::tree(&list);
                Wanted { words, length }
            }
        }
    }

    /// The servers of a service that ask for slots of its Maglev table. With IPVS's
    /// ways one without a weight keeps those that it had.
    fn applicants(&self, service: &Service) -> Vec<Applicant> {
        let list = self.state.list(service.head);
        list.map(|(server, s)| Applicant {
            server,
            weight: if service.compatible {
                s.last_weight
            } else {
                s.settings.weight
            },
            hashed: spread::fold(words(s.key.address)).wrapping_add(u32::from(s.key.port)),
        })
        .collect()
    }

    /// Who had each slot of a Maglev table before the change that leads to `table`;
    /// whoever has it now where that was none of the service's servers.
    fn former_owners(&self, index: u32, table: &[u32], memory: &Memory<'_>) -> Vec<u32> {
        let record = memory.services.get(index as usize);
        let Some(record) = record.filter(|r| r.scheduler.get() == scheduler::MH) else {
            return table.to_vec();
        };
        let ring = record.ring.get();
        let both = contents(memory, (ring >> 32) as u32);
        let slots = table.len();
        if ring as u32 != MAGLEV_SLOTS || both.len() < 2 * slots {
            return table.to_vec();
        }
        let (present, former) = both.split_at(slots);
        let is_same = present
            .iter()
            .zip(table)
            .all(|(word, &now)| word.get() == now);
        let owners = if is_same { former } else { present };
        let owners = owners.iter().zip(table).map(|(word, &now)| {
            let owner = word.get();
            if self.is_server_of(owner, index) {
                owner
            } else {
                now
            }
        });
        owners.collect()
    }

    pub(super) fn is_server_of(&self, server: u32, service: u32) -> bool {
        let server = self.state.servers().get(server);
        server.is_some_and(|server| server.service == service)
    }

    /// Queues the writes for everything that was changed since the last commit. Of many, the
    /// first ones are made.
    pub(super) fn commit(&mut self, memory: &Memory<'_>, now_ms: u64) {
        let services = in_order(core::mem::take(&mut self.state.touched_services));
        let servers = in_order(core::mem::take(&mut self.state.touched_servers));
        self.write_settings();
        // Packets look for what is there before it is, and until it is not.
        self.write_features(self.written_features | self.state.features.bits());
        self.write_servers(&servers, true, memory);
        let publications = self.write_rings(&services, memory, now_ms);
        self.writes.extend(publications.withdrawn);
        self.write_services(&services, true, memory);
        self.writes.extend(publications.live);
        let writes = &mut self.writes;
        self.state.endpoints.take_changes(|write| {
            writes.push_back(write);
            make_many(writes, memory);
        });
        self.writes.extend(publications.deleted);
        self.write_services(&services, false, memory);
        self.write_servers(&servers, false, memory);
        self.write_features(self.state.features.bits());

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

    pub(super) fn write_settings(&mut self) {
        self.note_defence();
        if self.written_timeouts != self.state.timeouts {
            self.written_timeouts = self.state.timeouts;
            self.writes.push_back(Write::Timeouts(self.state.timeouts));
        }
        let settings = sysctls::word(&self.state.sysctls);
        if self.written_settings != settings {
            self.written_settings = settings;
            self.writes.push_back(Write::Settings(settings));
        }
        let kept = sysctls::kept(&self.state.sysctls);
        if self.written_kept != kept {
            self.written_kept = kept;
            self.writes.push_back(Write::Kept(Box::new(kept)));
        }
        let rate = self.drop_rate();
        if self.written_drop_rate != rate {
            self.written_drop_rate = rate;
            self.writes.push_back(Write::DropRate(rate));
        }
        if self.written_order != self.state.next_order {
            self.written_order = self.state.next_order;
            self.writes
                .push_back(Write::NextOrder(self.state.next_order));
        }
    }

    pub(super) fn write_features(&mut self, features: u32) {
        if self.written_features != features {
            self.written_features = features;
            self.writes.push_back(Write::Features(features));
        }
    }

    fn write_servers(&mut self, servers: &[u32], live: bool, memory: &Memory<'_>) {
        for &index in servers {
            make_many(&mut self.writes, memory);
            let Some(server) = self.state.servers().get(index) else {
                continue;
            };
            let Some(service) = self.state.services().get(server.service) else {
                continue;
            };
            if server.change == server::Change::Nothing || server.live != live {
                continue;
            }
            if !server.hop_written
                && let Some(Reach::By(hop)) = self.hops.get(&server.key.address)
            {
                self.writes.push_back(hop.write(index, server));
            }
            let record = server_record(server, service);
            self.writes.push_back(Write::Server { index, record });
            if server.change == server::Change::Relief {
                self.writes.push_back(Write::Relieve { server: index });
            }
        }
    }

    fn write_services(&mut self, services: &[u32], live: bool, memory: &Memory<'_>) {
        for &index in services {
            make_many(&mut self.writes, memory);
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
    fn write_rings(&mut self, services: &[u32], memory: &Memory<'_>, now_ms: u64) -> Publications {
        let mut publications = Publications::default();
        for &index in services {
            let Some(&service) = self.state.services().get(index) else {
                continue;
            };
            if service.change < Change::Ring {
                continue;
            }
            let ring = self.write_ring(index, &service, memory);
            make_many(&mut self.writes, memory);
            publications.add(index, &service, ring);
            if let Some(former) = service.ring {
                self.state.rings.rest(former.block, now_ms);
            }
            self.state.change_service(index, |s| {
                s.ring = ring;
                s.staged = None;
            });
        }
        publications
    }

    /// Fills the block that was staged for a service.
    fn write_ring(&mut self, index: u32, service: &Service, memory: &Memory<'_>) -> Option<Ring> {
        let block = service.staged?;
        let shape = Shape::of(service.settings.scheduler);
        let Wanted { words, length } = self.ring(service);
        if length == 0 {
            self.state.rings.free(block);
            return None;
        }
        let ring = Ring {
            block,
            length,
            shape,
        };
        let mut all = Vec::with_capacity(RING_HEADER as usize + words.len());
        all.resize(RING_HEADER as usize, 0);
        all.extend_from_slice(&words);
        if shape == Shape::Maglev {
            all.extend(self.former_owners(index, &words, memory));
        }
        self.writes.push_back(Write::Ring {
            base: block.base,
            words: all,
        });
        if shape == Shape::Tree {
            self.writes.push_back(compare(service, ring.word()));
        }
        Some(ring)
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
                s.change = server::Change::Nothing;
                s.hop_written = true;
            });
        }
    }
}

/// Writes that are queued before they are made: the memory for so many is used again and
/// again, where a large change would take as much as all of its records.
const PORTION: usize = 1024;

/// Makes the writes of the queue, in their order, if they are many.
fn make_many(writes: &mut VecDeque<Write>, memory: &Memory<'_>) {
    if writes.len() < PORTION {
        return;
    }
    for write in writes.drain(..) {
        write::apply(memory, &write);
    }
}

/// The write that makes a tree's comparisons.
pub(super) fn compare(service: &Service, ring: u64) -> Write {
    Write::Compare {
        scheduler: scheduler_number(service.settings.scheduler),
        ring,
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
    /// Before the services' records: of rings that they would misread.
    withdrawn: Vec<Write>,
    live: Vec<Write>,
    deleted: Vec<Write>,
}

impl Publications {
    fn add(&mut self, index: u32, service: &Service, ring: Option<Ring>) {
        let word = ring.map_or(0, |ring| ring.word());
        let publish = |ring| Write::Publish {
            service: index,
            ring,
        };
        if service.ring.is_none() && word == 0 {
            return;
        }
        if !service.live {
            self.deleted.push(publish(word));
            return;
        }
        let shape = Shape::of(service.settings.scheduler);
        if service.ring.is_some_and(|former| former.shape != shape) {
            self.withdrawn.push(publish(0));
        }
        self.live.push(publish(word));
        if shape == Shape::Tree && word != 0 {
            self.live.push(Write::Leaves { ring: word });
            // Once more, with what has changed meanwhile.
            self.live.push(compare(service, word));
        }
    }
}
