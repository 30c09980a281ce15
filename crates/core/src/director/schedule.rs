//! What the schedulers do, as sequences: the order in which servers take
//! connections is worked out here once for each edit, and the packet path walks
//! it. Positions survive edits by IPVS's rules (`ip_vs_rr.c`, `ip_vs_wrr.c`).
//!
//! Schedulers that look at connections or at addresses have tables: see [`tables`].

pub(super) mod tables;

use alloc::vec::Vec;

use evenkeel_datapath::layout::RING_HEADER;
use evenkeel_datapath::spread::MAGLEV_SLOTS;
use evenkeel_datapath::tree;

use crate::model::{EditError, Scheduler};

/// Most slots of a weighted ring; a block of 64 KiB with its header. Weights whose
/// period is longer are scaled.
pub const RING_SLOTS_MAX: u32 = 16_382;

/// A server of the list, as schedulers see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    /// Its index.
    pub server: u32,
    /// Its weight; 0 gets nothing.
    pub weight: u32,
    /// Its weight, or that which it had before it was 0.
    pub last_weight: u32,
}

/// What a ring is to whoever reads it: see [`evenkeel_datapath::layout::scheduler`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// Servers in the order of their turns, or to draw from.
    Ring,
    /// A tree.
    Tree,
    /// A server for each hash.
    Table,
    /// The same, of Maglev's size, and who was there before.
    Maglev,
}

impl Shape {
    /// That of a scheduler's ring.
    pub(super) const fn of(scheduler: Scheduler) -> Self {
        match scheduler {
            Scheduler::Rr | Scheduler::Wrr | Scheduler::Twos => Self::Ring,
            Scheduler::Sh | Scheduler::Dh => Self::Table,
            Scheduler::Mh => Self::Maglev,
            Scheduler::Lc
            | Scheduler::Wlc
            | Scheduler::Lblc
            | Scheduler::Lblcr
            | Scheduler::Sed
            | Scheduler::Nq
            | Scheduler::Fo
            | Scheduler::Ovf => Self::Tree,
        }
    }
}

/// Sums over the servers of a service, as schedulers need them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Weights {
    /// Servers.
    pub servers: u32,
    /// Servers with a weight above 0.
    pub positive: u32,
    /// Greatest common divisor of the weights; 0 when all are 0.
    pub divisor: u32,
    /// Greatest weight.
    pub greatest: u32,
    /// Sum of the weights.
    pub sum: u64,
}

const fn gcd(mut a: u32, mut b: u32) -> u32 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

impl Weights {
    /// Takes one more server into account.
    pub(super) fn add(&mut self, weight: u32) {
        self.servers += 1;
        if weight > 0 {
            self.positive += 1;
            self.divisor = gcd(weight, self.divisor);
            self.greatest = self.greatest.max(weight);
            self.sum += u64::from(weight);
        }
    }

    /// IPVS's `di`: 1 when no server has a weight.
    fn step(&self) -> u32 {
        self.divisor.max(1)
    }

    /// IPVS's `mw`: the weight that the first pass of a period asks for.
    fn first_pass(&self) -> u32 {
        // The greatest weight is 0 or a multiple of the divisor.
        self.greatest.saturating_sub(self.step() - 1)
    }

    /// Passes of one period.
    fn passes(&self) -> u64 {
        u64::from(self.greatest / self.step())
    }

    /// Slots of an exact period of weighted round robin, in which each server stands
    /// as often as its weight says.
    fn period(&self) -> u64 {
        self.sum / u64::from(self.step())
    }

    /// True: that is not too long.
    fn is_exact(&self) -> bool {
        self.period() <= u64::from(RING_SLOTS_MAX)
    }

    /// Words that the scheduler's ring needs with its header, at most; 0: it needs
    /// none. An error: it can not have so many servers.
    pub(super) fn ring_words(&self, scheduler: Scheduler) -> Result<u32, EditError> {
        let full = || EditError::Full("servers of a service".into());
        let contents = match scheduler {
            Scheduler::Rr => self.positive,
            Scheduler::Wrr | Scheduler::Twos if self.is_exact() => self.period() as u32,
            Scheduler::Wrr | Scheduler::Twos => RING_SLOTS_MAX.max(self.positive),
            Scheduler::Sh | Scheduler::Dh if self.servers > 0 => tables::SLOTS,
            Scheduler::Mh if self.servers > MAGLEV_SLOTS => return Err(full()),
            Scheduler::Mh if self.servers > 0 => 2 * MAGLEV_SLOTS,
            Scheduler::Sh | Scheduler::Dh | Scheduler::Mh => 0,
            _ if self.positive > tree::SERVERS_MAX => return Err(full()),
            _ if self.positive > 0 => tree::words(self.positive) - RING_HEADER,
            _ => 0,
        };
        Ok(if contents == 0 {
            0
        } else {
            contents + RING_HEADER
        })
    }

    /// The present weight after servers were added, edited or removed
    /// (`ip_vs_wrr_dest_changed`): the walk begins again at the list's head.
    pub(super) fn present_weight_after_change(&self, present: u32) -> u32 {
        let first = self.first_pass();
        let step = self.step();
        if present > first || present == 0 {
            first
        } else if step > 1 {
            present / step * step + 1
        } else {
            present
        }
    }

    /// The present weight of a service that gets this scheduler anew
    /// (`ip_vs_wrr_init_svc`).
    pub(super) fn initial_present_weight(&self) -> u32 {
        self.first_pass()
    }
}

impl FromIterator<Candidate> for Weights {
    fn from_iter<I: IntoIterator<Item = Candidate>>(list: I) -> Self {
        let mut weights = Self::default();
        for candidate in list {
            weights.add(candidate.weight);
        }
        weights
    }
}

/// Round robin: the servers with a weight, beginning behind the server that
/// `mark` names (its index + 1; 0: at the head of the list).
pub(super) fn round_robin(list: &[Candidate], mark: u32) -> Vec<u32> {
    let start = match mark.checked_sub(1) {
        Some(used) => list
            .iter()
            .position(|c| c.server == used)
            .map_or(0, |at| at + 1),
        None => 0,
    };
    let (before, behind) = list.split_at(start);
    behind
        .iter()
        .chain(before)
        .filter(|c| c.weight > 0)
        .map(|c| c.server)
        .collect()
}

/// One period of weighted round robin, from the first pass on.
pub(super) struct Period {
    slots: Vec<u32>,
    /// Slot at which each pass begins.
    passes: Vec<u32>,
    exact: Weights,
}

impl Period {
    /// Works it out. Weights are scaled if it would exceed [`RING_SLOTS_MAX`].
    pub(super) fn new(list: &[Candidate]) -> Self {
        let exact: Weights = list.iter().copied().collect();
        if exact.is_exact() {
            let (slots, passes) = walk(list, &exact);
            return Self {
                slots,
                passes,
                exact,
            };
        }
        let scaled = scale(list, &exact);
        let weights: Weights = scaled.iter().copied().collect();
        let (slots, passes) = walk(&scaled, &weights);
        Self {
            slots,
            passes,
            exact,
        }
    }

    /// Pass of this period that asks for the present weight `mark`.
    fn pass_of(&self, mark: u32) -> usize {
        let first = self.exact.first_pass();
        // A present weight outside the range comes from nobody; begin anew then.
        let mark = if mark == 0 || mark > first {
            first
        } else {
            mark
        };
        let pass = u64::from((first - mark) / self.exact.step());
        let scaled =
            u128::from(pass) * self.passes.len() as u128 / u128::from(self.exact.passes().max(1));
        (scaled as usize).min(self.passes.len().saturating_sub(1))
    }

    fn start_of(&self, mark: u32) -> usize {
        self.passes
            .get(self.pass_of(mark))
            .map_or(0, |&slot| slot as usize)
    }

    /// The ring that continues with the pass of present weight `mark`, from the
    /// head of the list.
    pub(super) fn ring(self, mark: u32) -> Vec<u32> {
        let start = self.start_of(mark);
        let mut slots = self.slots;
        slots.rotate_left(start);
        slots
    }

    /// Present weight after slot `slot` of [`Self::ring`] was used last.
    pub(super) fn present_weight(&self, mark: u32, slot: usize) -> u32 {
        if self.slots.is_empty() {
            return mark;
        }
        let slot = (slot + self.start_of(mark)) % self.slots.len();
        let pass = self.passes.partition_point(|&start| start as usize <= slot) - 1;
        let exact = u128::from(self.exact.passes()) * pass as u128 / self.passes.len() as u128;
        self.exact.first_pass() - exact as u32 * self.exact.step()
    }
}

/// Weights in the same proportions, as far as [`RING_SLOTS_MAX`] slots can show
/// them; every server that has a weight keeps at least 1.
fn scale(list: &[Candidate], exact: &Weights) -> Vec<Candidate> {
    let room = u64::from(RING_SLOTS_MAX.saturating_sub(exact.positive));
    let scaled = |weight: u32| match weight {
        0 => 0,
        _ => ((u64::from(weight) * room / exact.sum) as u32).max(1),
    };
    list.iter()
        .map(|c| Candidate {
            weight: scaled(c.weight),
            ..*c
        })
        .collect()
}

/// The slots of one period and where its passes begin: a pass for each present
/// weight from `mw` down by `di`, each naming the servers of at least that weight.
fn walk(list: &[Candidate], weights: &Weights) -> (Vec<u32>, Vec<u32>) {
    let mut slots = Vec::with_capacity(weights.period() as usize);
    let mut passes = Vec::with_capacity(weights.passes() as usize);
    let mut steps: Vec<u32> = list.iter().map(|c| c.weight).filter(|&w| w > 0).collect();
    steps.sort_unstable();
    steps.dedup();
    let mut taking = Vec::new();
    let mut present = weights.first_pass();
    for _ in 0..weights.passes() {
        let before = steps.len();
        while steps.last().is_some_and(|&weight| weight >= present) {
            steps.pop();
        }
        // Only here more servers take part than in the pass before.
        if steps.len() < before {
            taking.clear();
            taking.extend(
                list.iter()
                    .filter(|c| c.weight >= present)
                    .map(|c| c.server),
            );
        }
        passes.push(slots.len() as u32);
        slots.extend_from_slice(&taking);
        present = present.saturating_sub(weights.step());
    }
    (slots, passes)
}
