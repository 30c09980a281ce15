//! What too many half-open connections change: the more a service has, the shorter they
//! live, and with `drop_entry` some are dropped at random (`ip_vs_random_dropentry`).

use alloc::vec;
use alloc::vec::Vec;

use evenkeel_datapath::layout::{SERVICES_MAX, state_word};
use evenkeel_datapath::state;
use evenkeel_datapath::table::Slot;

use super::{Now, age};

/// Of a table's entries a service may have one part in this half-open; they live shorter
/// where it has more.
const FAIR_PARTS: u64 = 16;
/// Seconds that half-open connections live in any case: a client that was not heard asks
/// again after one, and after two more.
const LEAST_SECONDS: u32 = 4;
/// Of half-open connections one in so many is dropped in a pass: as many as IPVS finds in
/// a second.
const DROP_ONE_IN: u32 = 32;
/// Seconds that a flow must be silent before it is dropped.
const DROP_SECONDS: u32 = 60;
/// Most packets that a client may have sent in a flow that is dropped.
const DROP_PACKETS: u32 = 8;

/// Half-open connections of each service, and what they lead to.
#[derive(Debug, Default)]
pub(super) struct Flood {
    /// By service, in the pass that goes on; empty: none were seen.
    counting: Vec<u32>,
    /// By service, in the last pass; empty: none were seen.
    counted: Vec<u32>,
    /// `drop_entry` is at work.
    pub drops: bool,
    random: u32,
    /// Flows that were left alone since one was dropped, by the packets of their clients.
    spared: [u32; DROP_PACKETS as usize + 1],
}

/// What is to become of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It stays.
    Stays,
    /// Its time is over.
    IsOver,
    /// Its time is over earlier than that of its state.
    IsCutShort,
    /// It is one of those that `drop_entry` takes.
    IsDropped,
}

impl Flood {
    /// Looks at a live connection. `capacity`: entries of its table; `limit`: ticks of
    /// silence that its state allows.
    #[inline]
    pub(super) fn connection(
        &mut self,
        now: &Now<'_>,
        entry: &impl Slot,
        word: u32,
        limit: u32,
        capacity: usize,
    ) -> Fate {
        let silent = age(now.tick, entry.seen().get());
        if silent > limit {
            return Fate::IsOver;
        }
        let number = word & state_word::STATE;
        if !state::is_half_open(number) {
            let is_flow = self.drops && number == state::UDP;
            let is_dropped = is_flow && silent > now.ticks(DROP_SECONDS) && self.has_few(entry);
            return if is_dropped {
                Fate::IsDropped
            } else {
                Fate::Stays
            };
        }
        let service = (entry.service().get() & 0xffff) as usize;
        if silent > self.limit(now, service, limit, capacity) {
            return Fate::IsCutShort;
        }
        if self.drops && self.one_in(DROP_ONE_IN) {
            return Fate::IsDropped;
        }
        if self.counting.is_empty() {
            self.counting = vec![0; SERVICES_MAX as usize];
        }
        if let Some(count) = self.counting.get_mut(service) {
            *count = count.saturating_add(1);
        }
        Fate::Stays
    }

    /// True: a template that none of whose connections was established is to be dropped.
    pub(super) fn drops_template(&mut self, now: &Now<'_>, template: &impl Slot) -> bool {
        self.drops
            && template.state().get() & state_word::ASSURED == 0
            && age(now.tick, template.seen().get()) > now.ticks(DROP_SECONDS)
            && self.one_in(DROP_ONE_IN)
    }

    /// Ticks that a half-open connection of a service lives.
    fn limit(&self, now: &Now<'_>, service: usize, usual: u32, capacity: usize) -> u32 {
        let count = self.counted.get(service).copied().unwrap_or(0);
        let fair = (capacity as u64 / FAIR_PARTS).max(1);
        let limit = u64::from(usual) * fair / u64::from(count).max(fair);
        let least = now.ticks(LEAST_SECONDS).min(usual);
        (limit as u32).max(least)
    }

    /// True for a flow of few packets: of one packet always, of two every second time.
    fn has_few(&mut self, flow: &impl Slot) -> bool {
        let packets = flow.service().get() >> 16;
        let Some(spared) = self.spared.get_mut(packets as usize) else {
            return false;
        };
        *spared += 1;
        if packets == 0 || *spared < packets {
            return false;
        }
        *spared = 0;
        true
    }

    /// True once in so many times, at random.
    fn one_in(&mut self, many: u32) -> bool {
        // The constants of a known generator; nothing depends on how good it is.
        self.random = self
            .random
            .wrapping_mul(1_664_525)
            .wrapping_add(1_013_904_223);
        (self.random >> 16).is_multiple_of(many)
    }

    /// After a whole pass.
    pub(super) fn end_pass(&mut self) {
        self.counted = core::mem::take(&mut self.counting);
    }
}
