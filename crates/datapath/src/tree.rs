//! Trees of servers, for the schedulers that look at how many connections each has.
//!
//! IPVS compares all servers for every connection. Here each comparison's winner
//! is kept, as in a knock-out tournament: the winner of all is read, and when a
//! server's connections change, only the comparisons on its way to the top are
//! made again.
//!
//! Behind the ring's header stand `nodes(n)` words, and behind these for each of the
//! `n` servers, in list order, two: the server and its weight, which is above 0.
//! Node `i` compares what the nodes `2i` and `2i + 1` hold; node 1 is the top, node 0
//! not used, and from `nodes(n)` on they are the servers themselves. A node holds
//! the place of its winner among the servers, or [`NOBODY`].
//!
//! Where two are equal the first in list order wins, as in IPVS, because it is on the
//! left. Where a server neither has been nor is the winner, nothing changes further up.
//!
//! Several CPUs may do this at once. Each counts, in the ring's header, after it has
//! changed a server's connections and before it compares; and when it is done and finds that
//! another has counted meanwhile, it makes all its comparisons again. So the last one has
//! seen everything, and whoever came before it has had the time to put right what it wrote
//! too late.

use core::sync::atomic::{Ordering, compiler_fence};

use crate::host::Ledger;
use crate::layout::{Load, NOBODY, RING_HEADER, Service, scheduler};
use crate::word::Word;

/// Most servers of a tree.
pub const SERVERS_MAX: u32 = 1024;
/// Levels of the largest tree.
const LEVELS: u32 = 10;
/// How often comparisons are made while others change connections, too.
const TURNS: u32 = 4;

/// Words for the comparisons among `servers`.
#[inline(always)]
#[must_use]
pub const fn nodes(servers: u32) -> u32 {
    servers.next_power_of_two()
}

/// Words of a tree of `servers` and its ring's header.
#[must_use]
pub const fn words(servers: u32) -> u32 {
    RING_HEADER + nodes(servers) + 2 * servers
}

/// A tree in the rings.
#[derive(Clone, Copy)]
pub struct Tree {
    /// [`scheduler`].
    scheduler: u32,
    /// Index of node 0.
    base: u32,
    servers: u32,
    nodes: u32,
}

/// A server in a comparison.
#[derive(Clone, Copy)]
struct Candidate {
    /// What is compared: the smaller `cost` / `weight` is better.
    cost: u64,
    weight: u64,
}

/// Who has won so far, on the way from a server to the top.
#[derive(Clone, Copy)]
struct Winner {
    /// Its place among the servers.
    place: u32,
    candidate: Candidate,
}

/// Never chosen.
const WORST: Candidate = Candidate { cost: 1, weight: 0 };

impl Candidate {
    /// Strictly better, so that of equals the other stays.
    #[cfg(not(target_arch = "bpf"))]
    #[inline(always)]
    const fn is_better_than(self, other: Self) -> bool {
        self.cost * other.weight < other.cost * self.weight
    }

    /// All bits: `other` is better, or it is equal and `is_right` is 1: then it stands on the
    /// left. Else 0. Reckoned without a branch, which no processor could foretell.
    #[inline(always)]
    const fn beaten_by(self, other: Self, is_right: u32) -> u64 {
        let theirs = other.cost.wrapping_mul(self.weight);
        let ours = self
            .cost
            .wrapping_mul(other.weight)
            .wrapping_add(is_right as u64);
        // The borrow of `theirs - ours`.
        let borrow = (!theirs & ours) | ((!theirs | ours) & theirs.wrapping_sub(ours));
        (borrow >> 63).wrapping_neg()
    }
}

/// `second` where `mask` has all bits, `first` where it has none.
#[inline(always)]
const fn chosen(first: u64, second: u64, mask: u64) -> u64 {
    first ^ ((first ^ second) & mask)
}

/// True for schedulers that have a tree.
#[inline(always)]
#[must_use]
pub const fn has_tree(number: u32) -> bool {
    const THESE: u32 = 1 << scheduler::LC
        | 1 << scheduler::WLC
        | 1 << scheduler::SED
        | 1 << scheduler::NQ
        | 1 << scheduler::FO
        | 1 << scheduler::OVF
        | 1 << scheduler::LBLC
        | 1 << scheduler::LBLCR;
    number < 32 && (THESE >> number) & 1 == 1
}

/// A server in the eyes of its scheduler.
#[inline(always)]
fn candidate(number: u32, load: &Load, weight: u32) -> Candidate {
    if load.overloaded.get() != 0 {
        return WORST;
    }
    let active = u64::from(load.active.get());
    let inactive = u64::from(load.inactive.get());
    let weight = u64::from(weight);
    match number {
        scheduler::LC => Candidate {
            cost: (active << 8) + inactive,
            weight: 1,
        },
        // An idle server at once, whatever its weight.
        scheduler::NQ if active == 0 => Candidate { cost: 0, weight: 1 },
        scheduler::SED | scheduler::NQ => Candidate {
            cost: active + 1,
            weight,
        },
        scheduler::OVF if active > weight => WORST,
        scheduler::FO | scheduler::OVF => Candidate { cost: 1, weight },
        _ => Candidate {
            cost: (active << 8) + inactive,
            weight,
        },
    }
}

/// What a server of this load and weight is compared by: the smaller first number divided
/// by the second is better. Nothing where it is not to be chosen. For who wants to know.
#[cfg(not(target_arch = "bpf"))]
#[must_use]
pub fn compared(number: u32, load: &Load, weight: u32) -> Option<(u64, u64)> {
    let it = candidate(number, load, weight);
    (it.weight != 0).then_some((it.cost, it.weight))
}

impl Tree {
    /// The tree of a service.
    #[inline(always)]
    #[must_use]
    pub fn of(number: u32, ring: u64) -> Self {
        let servers = ring as u32;
        Self {
            scheduler: number,
            base: ((ring >> 32) as u32).wrapping_add(RING_HEADER),
            servers,
            nodes: nodes_of(servers),
        }
    }

    /// The server at a place, and its weight.
    #[inline(always)]
    fn server_at<T: Ledger>(self, ledger: &T, place: u32) -> Option<(u32, u32)> {
        if place >= self.servers {
            return None;
        }
        let at = self
            .base
            .wrapping_add(self.nodes)
            .wrapping_add(place.wrapping_mul(2));
        Some((
            ledger.ring(at)?.get(),
            ledger.ring(at.wrapping_add(1))?.get(),
        ))
    }

    /// Who stands at node `node`.
    #[inline(always)]
    fn at<T: Ledger>(self, ledger: &T, node: u32) -> u32 {
        if node >= self.nodes {
            return node.wrapping_sub(self.nodes);
        }
        let word = ledger.ring(self.base.wrapping_add(node));
        word.map_or(NOBODY, Word::get)
    }

    #[cfg(not(target_arch = "bpf"))]
    #[inline(always)]
    fn candidate_at<T: Ledger>(self, ledger: &T, place: u32) -> Candidate {
        let Some((server, weight)) = self.server_at(ledger, place) else {
            return WORST;
        };
        match ledger.load(server) {
            Some(load) => candidate(self.scheduler, load, weight),
            None => WORST,
        }
    }

    /// Makes the comparison of a node.
    #[cfg(not(target_arch = "bpf"))]
    #[inline(always)]
    fn compare<T: Ledger>(self, ledger: &T, node: u32) -> u32 {
        let (left, right) = (self.at(ledger, node * 2), self.at(ledger, node * 2 + 1));
        if right >= self.servers {
            return left;
        }
        let is_right = self
            .candidate_at(ledger, right)
            .is_better_than(self.candidate_at(ledger, left));
        if is_right { right } else { left }
    }

    /// How often connections of its servers have changed.
    #[inline(always)]
    fn changes<T: Ledger>(self, ledger: &T) -> Option<&Word> {
        ledger.ring(self.base.wrapping_sub(1))
    }

    /// Makes the comparison of a node and notes it.
    #[cfg(not(target_arch = "bpf"))]
    fn settle<T: Ledger>(self, ledger: &T, node: u32) {
        let winner = self.compare(ledger, node);
        let Some(word) = ledger.ring(self.base.wrapping_add(node)) else {
            return;
        };
        if word.get() != winner {
            word.set(winner);
        }
    }

    /// The best server, unless none takes connections.
    #[inline(always)]
    #[must_use]
    pub fn best<T: Ledger>(self, ledger: &T) -> Option<u32> {
        let place = self.at(ledger, 1);
        let (server, weight) = self.server_at(ledger, place)?;
        let best = candidate(self.scheduler, ledger.load(server)?, weight);
        (best.weight != 0).then_some(server)
    }

    /// Makes all comparisons, from the leaves up: for the daemon.
    #[cfg(not(target_arch = "bpf"))]
    pub fn settle_all<T: Ledger>(self, ledger: &T) {
        let Some(changes) = self.changes(ledger) else {
            return;
        };
        let mut before = ledger.add(changes, 1).wrapping_add(1);
        for _ in 0..TURNS {
            for node in (1..self.nodes).rev() {
                self.settle(ledger, node);
            }
            let now = ledger.add(changes, 0);
            if now == before {
                return;
            }
            before = now;
        }
    }
}

/// The next power of two, for up to [`SERVERS_MAX`]: without `leading_zeros`, for which
/// the target has no instruction.
#[inline(always)]
pub(crate) const fn nodes_of(number: u32) -> u32 {
    let x = number.wrapping_sub(1);
    let x = x | x >> 1;
    let x = x | x >> 2;
    let x = x | x >> 4;
    let x = x | x >> 8;
    (x | x >> 16).wrapping_add(1)
}

/// The connections of server `index` have changed: makes the comparisons again that it
/// takes part in.
#[inline(always)]
pub fn changed<T: Ledger>(ledger: &T, index: u32) {
    let Some(server) = ledger.server(index) else {
        return;
    };
    let Some(service) = ledger.service(server.service.get()) else {
        return;
    };
    let number = service.scheduler.get();
    if !has_tree(number) {
        return;
    }
    let ring = service.ring.get();
    let tree = Tree::of(number, ring);
    let leaf = server.leaf.get();
    if leaf >= tree.servers {
        return;
    }
    let Some(changes) = tree.changes(ledger) else {
        return;
    };
    let mut before = ledger.add(changes, 1).wrapping_add(1);
    for turn in 0..TURNS {
        tree.climb(ledger, service, leaf, turn == 0);
        // Adding nothing reads, and is a barrier as well.
        let now = ledger.add(changes, 0);
        if now == before {
            return;
        }
        before = now;
    }
}

impl Tree {
    /// As [`Tree::candidate_at`], for a tree of two servers at least: there a server and its
    /// weight are a pair. The scheduler is read anew each time, so that the verifier does not
    /// follow all that comes after once for every scheduler.
    #[inline(always)]
    fn rival_at<T: Ledger>(self, ledger: &T, service: &Service, place: u32) -> Candidate {
        let at = self
            .base
            .wrapping_add(self.nodes)
            .wrapping_add(place.wrapping_mul(2));
        let Some([server, weight]) = ledger.ring_pair(at) else {
            return WORST;
        };
        match ledger.load(server.get()) {
            Some(load) => candidate(service.scheduler.get(), load, weight.get()),
            None => WORST,
        }
    }

    /// Compares the winner at `node` with who stands beside it.
    #[inline(always)]
    fn meet<T: Ledger>(
        self,
        ledger: &T,
        service: &Service,
        winner: Winner,
        node: u32,
        rival: u32,
    ) -> Winner {
        if rival >= self.servers {
            return winner;
        }
        let other = self.rival_at(ledger, service, rival);
        let mask = winner.candidate.beaten_by(other, node & 1);
        Winner {
            place: chosen(winner.place.into(), rival.into(), mask) as u32,
            candidate: Candidate {
                cost: chosen(winner.candidate.cost, other.cost, mask),
                weight: chosen(winner.candidate.weight, other.weight, mask),
            },
        }
    }

    /// Makes the comparisons from a server to the top: at each level that of who has come so
    /// far with who has won beside it, and notes its winner.
    #[inline(always)]
    fn climb<T: Ledger>(self, ledger: &T, service: &Service, leaf: u32, may_stop: bool) {
        let mut node = self.nodes.wrapping_add(leaf);
        let mut rival = leaf ^ 1;
        let mut winner = Winner {
            place: leaf,
            candidate: self.rival_at(ledger, service, leaf),
        };
        for _ in 0..LEVELS {
            if node < 2 {
                return;
            }
            winner = self.meet(ledger, service, winner, node, rival);
            node /= 2;
            // The node, and the one that it is compared with next.
            let Some(pair) = ledger.ring_pair(self.base.wrapping_add(node)) else {
                return;
            };
            let which = (node & 1) as usize;
            if pair[which].get() != winner.place {
                pair[which].set(winner.place);
            } else if may_stop && winner.place != leaf {
                return;
            }
            // Not before: of two CPUs that meet here one sees what the other has written.
            compiler_fence(Ordering::SeqCst);
            rival = pair[which ^ 1].get();
        }
    }
}
