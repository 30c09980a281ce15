//! Servers that clients can not reach, as their connections show: requests that stay without
//! answer, and connections that were reset.

use alloc::vec::Vec;

use evenkeel_datapath::layout::state_word;
use evenkeel_datapath::state;

/// Silence of a half-open connection that speaks against its server, in seconds.
pub(super) const SILENT_SECONDS: u32 = 1;

/// Failed connections by server.
#[derive(Debug, Default)]
pub(super) struct Suspects {
    /// In the pass that goes on.
    counting: Vec<u32>,
    /// In the last pass.
    counted: Vec<u32>,
}

impl Suspects {
    /// Looks at a live connection. `silent`, `patience`: in ticks.
    #[inline]
    pub(super) fn connection(&mut self, server: u32, word: u32, silent: u32, patience: u32) {
        let number = word & state_word::STATE;
        // Where answers take another way, none is ever seen here.
        let is_unheard =
            state::is_half_open(number) && silent >= patience && word & state_word::ANSWERED == 0;
        if is_unheard || number == state::CLOSE {
            self.count(server as usize);
        }
    }

    fn count(&mut self, server: usize) {
        // A word that makes no sense takes no memory.
        if server >= self.counting.len() {
            if server >= 1 << 20 {
                return;
            }
            self.counting.resize(server + 1, 0);
        }
        if let Some(count) = self.counting.get_mut(server) {
            *count = count.saturating_add(1);
        }
    }

    /// The pass is over: servers with more failed connections than in the last one.
    pub(super) fn end_pass(&mut self) -> Vec<u32> {
        let before = |server: usize| self.counted.get(server).copied().unwrap_or(0);
        let counts = self.counting.iter().enumerate();
        let more = counts.filter(|(server, count)| **count > before(*server));
        let more = more.map(|(server, _)| server as u32).collect();
        core::mem::swap(&mut self.counting, &mut self.counted);
        self.counting.clear();
        more
    }
}
