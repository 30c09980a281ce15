//! The director's table: services and their real servers, the edits that
//! `ipvsadm` and the API make with IPVS's semantics, and what they mean for the
//! memory that the packet path reads.
//!
//! A [`Director`] does not touch the memory for an edit before all are accepted. Then it
//! queues [`Write`]s, and makes the first ones where there are many, in an order in which a packet sees the table before or after, and which leaves a
//! repairable table when the daemon dies in between: a server's record before the
//! ring that names it, the ring before the word that publishes it, a service's
//! endpoint last; at a deletion the other way round. What packets may still be
//! reading is used again only after [`GRACE_MS`].
//!
//! Services and servers have the same index here and in the memory, from 0 on.

mod adopt;
mod configured;
mod cursors;
mod defence;
mod edits;
mod endpoints;
mod estimates;
mod features;
mod hops;
mod listing;
mod marks;
mod names;
mod plan;
pub(crate) mod records;
mod rings;
mod schedule;
mod server;
mod service;
mod slots;
mod source_nat;
mod state;
mod sysctls;
#[cfg(test)]
mod tests;
mod trash;
pub mod write;

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::net::IpAddr;

use evenkeel_datapath::layout::KEPT;
use evenkeel_datapath::memory::Memory;
use hashbrown::HashMap;

pub use configured::Step;
pub use defence::Fill;
pub use hops::{Hop, Reach};
pub use listing::AsOf;
pub use marks::MarkRecord;
pub use schedule::RING_SLOTS_MAX;
pub use source_nat::{Pool, source_nat};
pub use write::Write;

use crate::model::{Edit, EditError, Stats, Timeouts};
use estimates::Estimates;
use state::State;

/// How long something that was unpublished stays untouched, in milliseconds. A
/// packet takes microseconds; this is for the CPU that was held up in one.
pub const GRACE_MS: u64 = 1000;

/// How long a deleted server keeps its counters when it has no connections, in
/// milliseconds: IPVS's `IP_VS_DEST_TRASH_PERIOD`.
pub const TRASH_MS: u64 = 120_000;

/// Edits of which the memory that they need is fetched together.
const AHEAD: usize = 64;

/// Who asks for edits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Somebody, while the director runs.
    Request,
    /// The configuration: services that are added or edited stand in it.
    Configuration,
}

/// The director's table. See the module.
#[derive(Debug)]
pub struct Director {
    state: State,
    estimates: Estimates,
    writes: VecDeque<Write>,
    /// How to reach servers, by address. Nothing: not reachable now.
    hops: HashMap<IpAddr, Reach>,
    /// Deleted servers and services, to be looked at now and then; some may have
    /// come back.
    deleted_servers: Vec<u32>,
    deleted_services: Vec<u32>,
    written_timeouts: Timeouts,
    written_order: u32,
    written_features: u32,
    written_settings: u32,
    written_kept: [u32; KEPT],
    written_drop_rate: u32,
    /// The drop rate of the automatic mode; 0: there is room.
    automatic_rate: u32,
    /// The feature of a defence, if one is at work.
    defence_feature: u32,
    /// See [`Director::set_compatible`].
    compatible: bool,
    /// Who asks for the present edits.
    origin: Origin,
    /// The feature of rules that mark packets, if there are some.
    rules_feature: u32,
    repairs: u32,
}

impl Director {
    /// [`Director::apply_from`] a request.
    pub fn apply(
        &mut self,
        edits: &[Edit],
        transaction: bool,
        memory: &Memory<'_>,
        now_ms: u64,
    ) -> Vec<(usize, EditError)> {
        self.apply_from(Origin::Request, edits, transaction, memory, now_ms)
    }

    /// Applies edits in order and gives the refusals by index. As a transaction the
    /// first refusal ends it and nothing is changed; otherwise each edit is for
    /// itself, as with `ipvsadm -R`. Writes still queued are made first, since
    /// schedulers' positions are read from the memory.
    pub fn apply_from(
        &mut self,
        origin: Origin,
        edits: &[Edit],
        transaction: bool,
        memory: &Memory<'_>,
        now_ms: u64,
    ) -> Vec<(usize, EditError)> {
        self.origin = origin;
        self.write_all(memory);
        self.state.release(now_ms);
        self.make_room(edits.len(), memory, now_ms);
        self.state.reserve(edits.len());
        let mut savepoint = self.state.savepoint();
        let mut refused = Vec::new();
        for (index, edit) in edits.iter().enumerate() {
            if index.is_multiple_of(AHEAD) {
                self.look_ahead(edits.iter().skip(index).take(AHEAD));
            }
            if let Err(error) = self.edit(edit, memory, now_ms) {
                self.state.roll_back(savepoint);
                refused.push((index, error));
                if transaction {
                    break;
                }
            }
            if !transaction {
                self.state.forget_journal();
                self.free_discarded();
                savepoint = self.state.savepoint();
            }
        }
        self.commit(memory, now_ms);
        let nothing_is_done = transaction && !refused.is_empty();
        self.calm(edits, |index| {
            nothing_is_done || refused.iter().any(|(other, _)| *other == index)
        });
        refused
    }

    /// Reads what the next edits will look for: each of them would wait for it, and all
    /// together wait hardly longer than one.
    fn look_ahead<'a>(&self, edits: impl Iterator<Item = &'a Edit>) {
        let seen = edits.fold(0, |seen: u32, edit| match edit {
            Edit::AddServer {
                service, server, ..
            } => seen.wrapping_add(self.state.glance(service, server)),
            _ => seen,
        });
        core::hint::black_box(seen);
    }

    /// The next change of the memory, to be made by [`write::apply`].
    pub fn poll_write(&mut self) -> Option<Write> {
        self.writes.pop_front()
    }

    /// Makes all queued changes.
    pub fn write_all(&mut self, memory: &Memory<'_>) {
        while let Some(write) = self.poll_write() {
            write::apply(memory, &write);
        }
    }

    /// When all that is not usable now becomes usable, if there is such: an edit
    /// refused with [`EditError::Full`] may be worth another try then. Not when the
    /// first of it does: what needs much room would be refused for want of the rest.
    #[must_use]
    pub fn room_at_ms(&self) -> Option<u64> {
        let rests = [
            self.state.rings.newest_rest(),
            self.state.endpoints.newest_rest(),
        ];
        rests
            .into_iter()
            .flatten()
            .max()
            .map(|since| since + GRACE_MS)
    }

    /// Whether services that are added from now on, by edits that do not say it, have
    /// IPVS's ways where Evenkeel has better ones; at first they have.
    pub fn set_compatible(&mut self, compatible: bool) {
        self.compatible = compatible;
    }

    /// How many half-made or impossible entries [`Director::adopt`] has put right.
    #[must_use]
    pub fn repairs(&self) -> u32 {
        self.repairs
    }
}
