//! Connections that all live at the same time.

use anyhow::{Result, ensure};
use evenkeel_core::model::Family;
use evenkeel_datapath::Reason;
use evenkeel_datapath::layout::state_word;
use evenkeel_datapath::state;
use evenkeel_datapath::table::{Buckets, Slot};

use super::instance::{Instance, Mode, OTHER_ORDER, Packets};
use super::scenario::{Rules, Traffic};

/// Handfuls in which connections are opened and then established: each takes the kernel
/// some milliseconds, and the larger one is, the more of its own half-open connections give
/// way in full buckets.
const HANDFULS: u32 = 64;
/// Of so many flows one at most is left to tc, because its checksum may be a partial one.
const TO_TC: u32 = 1000;
/// Why a connection does not come to be, or does not stay.
const LOST: [Reason; 4] = [
    Reason::TableFull,
    Reason::EvictedClosed,
    Reason::EvictedHalfOpen,
    Reason::EvictedIdle,
];

/// What came of opening connections.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opened {
    /// Those that are established now.
    pub(crate) live: u32,
    /// How many there were, to a 64th of all, when the first of them was refused
    /// or gave way; nothing if none did.
    pub(crate) first_lost: Option<u32>,
}

impl Instance {
    /// Opens connections to the service of `rules` until `wanted` are established; or as
    /// many as are by so many tries, where one was refused or gave way.
    pub(crate) fn open_live(&self, rules: &Rules, wanted: u32) -> Result<Opened> {
        let (before, lost_before) = (self.live(rules.family), self.lost());
        let handful = wanted.div_ceil(HANDFULS);
        let (mut tried, mut goal) = (0, wanted);
        let mut first_lost = None;
        loop {
            while tried < goal {
                let count = handful.min(goal - tried);
                self.establish(rules, wanted, tried, count)?;
                tried += count;
                if first_lost.is_none() && self.lost() != lost_before {
                    first_lost = Some(tried);
                }
            }
            let live = self.live(rules.family) - before;
            if live >= wanted || first_lost.is_some() {
                return Ok(Opened { live, first_lost });
            }
            let missing = wanted - live;
            ensure!(
                missing <= wanted.div_ceil(TO_TC) && tried < wanted + wanted / TO_TC + handful,
                "{live} of {tried} connections came to be; counted: {:?}",
                self.reasons()
            );
            goal = tried + missing;
        }
    }

    /// Opens and establishes `count` of at least twice `wanted` flows.
    fn establish(&self, rules: &Rules, wanted: u32, first: u32, count: u32) -> Result<()> {
        let flows_log2 = (2 * wanted).next_power_of_two().ilog2() as u8;
        for traffic in [Traffic::New, Traffic::Client] {
            let packets = Packets {
                first,
                ..Packets::to(rules, traffic, flows_log2 | OTHER_ORDER, count)
            };
            self.run(Mode::Evenkeel, packets)?;
        }
        Ok(())
    }

    /// Established connections in the table of the family.
    fn live(&self, family: Family) -> u32 {
        let memory = self.memory();
        match family {
            Family::V4 => established(memory.connections),
            Family::V6 => established(memory.wide_connections),
        }
    }

    /// Connections that were refused or gave way.
    fn lost(&self) -> u64 {
        let reasons = self.reasons();
        let count = |reason: &Reason| reasons.get(&(*reason as usize)).copied();
        LOST.iter().filter_map(count).sum()
    }
}

fn established<B: Buckets>(table: &[B]) -> u32 {
    let entries = table.iter().flat_map(Buckets::entries);
    let live =
        entries.filter(|entry| entry.state().get() & state_word::STATE == state::ESTABLISHED);
    live.count() as u32
}
