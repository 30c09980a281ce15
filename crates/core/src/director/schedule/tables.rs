//! What stands in the rings of the schedulers that do not walk them, filled as IPVS
//! fills its own (`ip_vs_sh.c`, `ip_vs_dh.c`, `ip_vs_mh.c`).

use alloc::vec;
use alloc::vec::Vec;
use core::iter::repeat_n;

use evenkeel_datapath::layout::NOBODY;
use evenkeel_datapath::spread::{MAGLEV_SKIP_KEY, MAGLEV_SLOT_KEY, MAGLEV_SLOTS, siphash};
use evenkeel_datapath::tree;

use super::{Candidate, Weights, gcd, scale};

/// Slots of the tables of `sh` and `dh`.
pub(in crate::director) const SLOTS: u32 = 256;

/// Half the bits of a number of Maglev's slots: turns of the heaviest server have no
/// more (`IP_VS_MH_TAB_BITS / 2`).
const TURN_BITS: u32 = 6;

/// Source hashing: in turn each server takes as many slots as its weight says, and
/// without one a single slot.
pub(in crate::director) fn by_source(list: &[Candidate]) -> Vec<u32> {
    let round = list
        .iter()
        .flat_map(|c| repeat_n(c.server, c.weight.clamp(1, SLOTS) as usize));
    round.cycle().take(SLOTS as usize).collect()
}

/// Destination hashing: a slot for each server in turn, whatever its weight.
pub(in crate::director) fn by_destination(list: &[Candidate]) -> Vec<u32> {
    let round = list.iter().map(|c| c.server);
    round.cycle().take(SLOTS as usize).collect()
}

/// Power of two choices: each server as often as its weight says.
pub(in crate::director) fn draws(list: &[Candidate]) -> Vec<u32> {
    let exact: Weights = list.iter().copied().collect();
    if exact.is_exact() {
        return repeated(list, exact.step());
    }
    let scaled = scale(list, &exact);
    let weights: Weights = scaled.iter().copied().collect();
    repeated(&scaled, weights.step())
}

fn repeated(list: &[Candidate], divisor: u32) -> Vec<u32> {
    list.iter()
        .flat_map(|c| repeat_n(c.server, (c.weight / divisor) as usize))
        .collect()
}

/// The schedulers that look at connections: what stands behind a tree's nodes, which
/// are all 0 until they are compared, and the number of servers.
pub(in crate::director) fn tree(list: &[Candidate]) -> (Vec<u32>, u32) {
    let weighted = || list.iter().filter(|c| c.weight > 0);
    let servers = weighted().count() as u32;
    if servers == 0 {
        return (Vec::new(), 0);
    }
    let mut words = vec![0; tree::nodes(servers) as usize];
    words.extend(weighted().flat_map(|c| [c.server, c.weight]));
    (words, servers)
}

/// A server that asks for slots of a Maglev table.
#[derive(Clone, Copy, Debug)]
pub(in crate::director) struct Applicant {
    pub server: u32,
    pub weight: u32,
    /// Its address and port, as they are hashed.
    pub hashed: u32,
}

/// Where an applicant looks for its next slot.
struct Turn {
    server: u32,
    slot: u32,
    skip: u32,
    /// Slots that it takes when it is its turn.
    takes: u32,
}

/// Maglev hashing: in list order each server takes, as often as its weight says, the
/// next slot on its own way through the table that is free. Without weights: nothing.
pub(in crate::director) fn maglev(list: &[Applicant]) -> Vec<u32> {
    let divisor = list.iter().fold(0, |divisor, a| gcd(a.weight, divisor));
    let greatest = list.iter().map(|a| a.weight).max().unwrap_or(0);
    let Some(most) = greatest.checked_div(divisor) else {
        return Vec::new();
    };
    let shift = (u32::BITS - most.leading_zeros()).saturating_sub(TURN_BITS);
    let mut turns: Vec<Turn> = list
        .iter()
        .filter(|applicant| applicant.weight > 0)
        .map(|applicant| Turn {
            server: applicant.server,
            slot: siphash(applicant.hashed, MAGLEV_SLOT_KEY) % MAGLEV_SLOTS,
            skip: siphash(applicant.hashed, MAGLEV_SKIP_KEY) % (MAGLEV_SLOTS - 1) + 1,
            takes: ((applicant.weight / divisor) >> shift).max(1),
        })
        .collect();
    let mut table = vec![NOBODY; MAGLEV_SLOTS as usize];
    let mut free = table.len();
    while free > 0 {
        for turn in &mut turns {
            let takes = free.min(turn.takes as usize);
            for _ in 0..takes {
                turn.take(&mut table);
            }
            free -= takes;
        }
    }
    table
}

impl Turn {
    /// Takes the next free slot. There has to be one: the ways go through all of them,
    /// since their number is a prime.
    fn take(&mut self, table: &mut [u32]) {
        while let Some(slot) = table.get_mut(self.slot as usize) {
            if *slot == NOBODY {
                *slot = self.server;
                return;
            }
            self.slot = (self.slot + self.skip) % MAGLEV_SLOTS;
        }
    }
}
