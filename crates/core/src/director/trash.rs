//! The ends of deleted servers and services. As in IPVS a deleted server is kept
//! as long as it has connections: they are dropped, but go on if it is added again.

use alloc::vec::Vec;

use evenkeel_datapath::memory::Memory;

use super::schedule::Shape;
use super::state::NONE;
use super::write::{ServerRecord, ServiceRecord, Write};
use super::{Director, GRACE_MS, TRASH_MS, cursors, listing};

impl Director {
    /// Frees what nothing refers to any more, and keeps cursors from running over. To
    /// be called about once a second.
    pub fn collect(&mut self, memory: &Memory<'_>, now_ms: u64) {
        self.state.release(now_ms);
        self.empty_trash(memory, now_ms, TRASH_MS);
        cursors::turn_back(memory);
        self.commit(memory, now_ms);
        self.writes.extend(self.state.endpoints.forget_addresses());
    }

    /// Before edits that could take more slots than are free: servers that IPVS
    /// would keep a while for their counters alone give way.
    pub(super) fn make_room(&mut self, edits: usize, memory: &Memory<'_>, now_ms: u64) {
        let state = &self.state;
        if state.servers().available() < edits || state.services().available() < edits {
            self.empty_trash(memory, now_ms, GRACE_MS);
        }
    }

    fn empty_trash(&mut self, memory: &Memory<'_>, now_ms: u64, keep_ms: u64) {
        let candidates = core::mem::take(&mut self.deleted_servers);
        let before = candidates.len();
        self.deleted_servers = self.filter_servers(candidates, memory, now_ms, keep_ms);
        if self.deleted_servers.len() < before {
            self.forget_hops();
        }
        let candidates = core::mem::take(&mut self.deleted_services);
        self.deleted_services = self.filter_services(candidates, now_ms);
    }

    /// Frees those that can be freed and gives back the others.
    fn filter_servers(
        &mut self,
        mut candidates: Vec<u32>,
        memory: &Memory<'_>,
        now_ms: u64,
        keep_ms: u64,
    ) -> Vec<u32> {
        candidates.sort_unstable();
        candidates.dedup();
        candidates.retain(|&index| {
            let Some(&server) = self.state.servers().get(index).filter(|s| !s.live) else {
                return false;
            };
            if listing::load(memory, index).is_used()
                || now_ms.saturating_sub(server.deleted_ms) < keep_ms
            {
                return true;
            }
            let counted = listing::counted(memory, index);
            self.state
                .change_service(server.service, |s| s.carry = s.carry.plus(&counted));
            self.forget_owner(server.service, index);
            self.state.free_server(index, now_ms);
            self.estimates.forget_server(index);
            self.writes
                .push_back(Write::ClearCounters { server: index });
            self.writes.push_back(Write::Server {
                index,
                record: ServerRecord::default(),
            });
            false
        });
        candidates
    }

    /// Before another service gets a server's slot: its own may know it as the former
    /// owner of its clients.
    fn forget_owner(&mut self, service: u32, server: u32) {
        let service = self.state.services().get(service);
        let ring = service.and_then(|s| s.ring);
        if let Some(ring) = ring.filter(|ring| ring.shape == Shape::Maglev) {
            self.writes.push_back(Write::Forget {
                ring: ring.word(),
                server,
            });
        }
    }

    fn filter_services(&mut self, mut candidates: Vec<u32>, now_ms: u64) -> Vec<u32> {
        candidates.sort_unstable();
        candidates.dedup();
        candidates.retain(|&index| {
            let Some(service) = self.state.services().get(index).filter(|s| !s.live) else {
                return false;
            };
            if service.trash != NONE || now_ms.saturating_sub(service.deleted_ms) < GRACE_MS {
                return true;
            }
            self.state.free_service(index);
            self.estimates.forget_service(index);
            self.writes.push_back(Write::Service {
                index,
                record: ServiceRecord::default(),
            });
            false
        });
        candidates
    }
}
