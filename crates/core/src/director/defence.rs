//! The defences of IPVS against floods (`update_defense_level`): how much room there is
//! decides whether the automatic ones are at work.

use evenkeel_datapath::layout::features;

use super::Director;
use super::sysctls::is_at_work;
use crate::model::{Sysctl, SysctlValue};

/// Bytes of a page, in which `amemthresh` counts.
const PAGE: u64 = 4096;
/// Room is short at the latest when less than one part in this is left of a table.
const PARTS: u64 = 8;

/// Modes of a defence: automatic; automatic, and at work.
const WAITS: u32 = 1;
const WORKS: u32 = 2;

/// How full a table of connections is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fill {
    /// Entries that it has room for.
    pub capacity: u64,
    /// Entries that are taken.
    pub in_use: u64,
    /// Bytes of an entry.
    pub entry_bytes: u64,
}

impl Fill {
    /// How short of room it is: of so many packets that would begin a connection one is
    /// dropped. None: there is enough.
    fn shortage(&self, amemthresh: u32) -> Option<u32> {
        let pages = |entries: u64| entries.saturating_mul(self.entry_bytes) / PAGE;
        let most = (pages(self.capacity) / PARTS).max(1);
        let threshold = u64::from(amemthresh).min(most);
        let available = pages(self.capacity.saturating_sub(self.in_use));
        let missing = threshold.checked_sub(available).filter(|&some| some > 0)?;
        u32::try_from(threshold / missing).ok()
    }
}

impl Director {
    /// Begins the automatic defences while one of the tables is short of room, and ends
    /// them. True: half-open connections are to be dropped (`drop_entry`).
    pub fn defend(&mut self, fills: &[Fill]) -> bool {
        let amemthresh = self.state.sysctls.get(Sysctl::Amemthresh).number();
        let shortages = fills.iter().filter_map(|fill| fill.shortage(amemthresh));
        let shortage = shortages.min();
        self.automatic_rate = shortage.unwrap_or(0);
        for defence in [Sysctl::DropEntry, Sysctl::DropPacket, Sysctl::SecureTcp] {
            let mode = match (self.state.sysctls.get(defence).number(), shortage) {
                (WAITS, Some(_)) => WORKS,
                (WORKS, None) => WAITS,
                _ => continue,
            };
            // Never out of range.
            let _ = self.state.sysctls.set(defence, SysctlValue::Number(mode));
        }
        self.write_settings();
        self.write_features(self.state.features.bits());
        is_at_work(&self.state.sysctls, Sysctl::DropEntry)
    }

    /// [`evenkeel_datapath::layout::Control::drop_rate`].
    pub(super) fn drop_rate(&self) -> u32 {
        match self.state.sysctls.get(Sysctl::DropPacket).number() {
            0 | WAITS => 0,
            WORKS => self.automatic_rate,
            _ => self.state.sysctls.get(Sysctl::AmDroprate).number(),
        }
    }

    /// Counts the packet path's part in the defences as a feature, or not.
    pub(super) fn note_defence(&mut self) {
        let is_secure = is_at_work(&self.state.sysctls, Sysctl::SecureTcp);
        let feature = if is_secure || self.drop_rate() != 0 {
            features::DEFENCE
        } else {
            0
        };
        self.state.features.remove(self.defence_feature);
        self.state.features.add(feature);
        self.defence_feature = feature;
    }
}
