//! Expiry: what the daemon does with the connection table while packets use it.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use evenkeel_datapath::layout::{Bucket, Entry, Load, WAYS, state_word};
use evenkeel_datapath::memory::Memory;
use evenkeel_datapath::{state, table};

/// Seconds after which a place that was taken, but never became a connection, or
/// was given up only in part, is free again.
const UNFINISHED_SECONDS: u32 = 2;

/// Names of the states by number, as `ipvsadm -Lc` has them.
pub const STATE_NAMES: [&str; 32] = [
    "",
    "NONE",
    "ESTABLISHED",
    "SYN_SENT",
    "SYN_RECV",
    "FIN_WAIT",
    "TIME_WAIT",
    "CLOSE",
    "CLOSE_WAIT",
    "LAST_ACK",
    "LISTEN",
    "SYNACK",
    "UDP",
    "TEMPLATE",
    "TRANSLATED",
    "FRAGMENT",
    "NONE",
    "INIT1",
    "INIT",
    "C-SENT",
    "C-REPLIED",
    "C-WAIT",
    "COOKIE",
    "C-ECHOED",
    "ESTABLISHED",
    "S-SENT",
    "S-RECEIVED",
    "S-ACK-SENT",
    "REJECTED",
    "CLOSED",
    "LOCALITY",
    "",
];

/// What a sweep has seen and done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Live connections that stay, by state.
    pub states: [u64; 32],
    /// Connections that were expired.
    pub expired: u64,
    /// Unfinished places that were freed.
    pub reclaimed: u64,
}

impl Summary {
    /// Live connections that stay.
    #[must_use]
    pub fn in_use(&self) -> u64 {
        self.states.iter().sum()
    }

    /// Adds what was seen in another part of the table.
    pub fn add(&mut self, other: &Self) {
        for (sum, part) in self.states.iter_mut().zip(other.states) {
            *sum += part;
        }
        self.expired += other.expired;
        self.reclaimed += other.reclaimed;
    }
}

/// A place that is taken and not live, as it was seen first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Unfinished {
    signature: u32,
    state: u32,
    since_tick: u32,
}

/// Expires connections. Parts of the table can be swept in any order.
#[derive(Debug, Default)]
pub struct Sweeper {
    unfinished: BTreeMap<(usize, usize), Unfinished>,
}

/// Silence in ticks after which a connection expires, by state: IPVS's
/// `tcp_timeouts` and those that can be set.
fn limits(memory: &Memory<'_>, ticks_per_second: f64) -> [u32; 32] {
    let control = memory.control;
    let mut seconds = [61; 32];
    for (state, value) in [
        (state::NONE, 2),
        (state::ESTABLISHED, control.timeout_tcp.get()),
        (state::SYN_SENT, 120),
        (state::SYN_RECV, 60),
        (state::FIN_WAIT, control.timeout_tcp_fin.get()),
        (state::TIME_WAIT, 120),
        (state::CLOSE, 10),
        (state::CLOSE_WAIT, 60),
        (state::LAST_ACK, 30),
        (state::LISTEN, 120),
        (state::SYNACK, 120),
        (state::UDP, control.timeout_udp.get()),
        (state::SCTP_NONE, 2),
        (state::SCTP_INIT1, 4),
        (state::SCTP_ESTABLISHED, 900),
        (state::SCTP_REJECTED, 4),
    ] {
        seconds[state as usize] = value;
    }
    seconds.map(|seconds| in_ticks(seconds, ticks_per_second))
}

#[allow(
    clippy::cast_sign_loss,
    reason = "both factors are positive, and the cast saturates"
)]
fn in_ticks(seconds: u32, ticks_per_second: f64) -> u32 {
    (f64::from(seconds) * ticks_per_second) as u32
}

/// Ticks since `then`; 0 for one that another CPU has just set to the next.
const fn age(now: u32, then: u32) -> u32 {
    let age = now.wrapping_sub(then);
    if age > i32::MAX as u32 { 0 } else { age }
}

impl Sweeper {
    /// Looks at `count` buckets from `first` on, at most to the end of the table.
    pub fn sweep(
        &mut self,
        memory: &Memory<'_>,
        first: usize,
        count: usize,
        now_tick: u32,
        ticks_per_second: f64,
    ) -> Summary {
        let limits = limits(memory, ticks_per_second);
        let patience = in_ticks(UNFINISHED_SECONDS, ticks_per_second).max(1);
        let mut summary = Summary::default();
        for (index, bucket) in memory
            .connections
            .iter()
            .enumerate()
            .skip(first)
            .take(count)
        {
            for way in 0..WAYS {
                let signature = bucket.signatures[way].get() & !table::OVERFLOWED;
                if signature == 0 {
                    continue;
                }
                let entry = &bucket.entries[way];
                let word = entry.state.get();
                let number = (word & state_word::STATE) as usize;
                if number == 0 {
                    let seen = Unfinished {
                        signature,
                        state: word,
                        since_tick: now_tick,
                    };
                    if self.is_over(index, way, seen, patience) && reclaim(bucket, way, seen) {
                        summary.reclaimed += 1;
                    }
                } else if age(now_tick, entry.seen.get()) <= limits[number] {
                    summary.states[number] += 1;
                } else if expire(memory.loads, bucket, way, word) {
                    summary.expired += 1;
                }
            }
        }
        let range = (first, 0)..(first.saturating_add(count), 0);
        // What was seen now was entered now, or is what it was.
        let gone: Vec<_> = self
            .unfinished
            .range(range)
            .filter(|((index, way), seen)| !seen.is_there(memory, *index, *way))
            .map(|(&place, _)| place)
            .collect();
        for place in gone {
            self.unfinished.remove(&place);
        }
        summary
    }

    /// True: this very place was unfinished long enough.
    fn is_over(&mut self, index: usize, way: usize, seen: Unfinished, patience: u32) -> bool {
        let first = self.unfinished.entry((index, way)).or_insert(seen);
        if (first.signature, first.state) != (seen.signature, seen.state) {
            *first = seen;
        }
        age(seen.since_tick, first.since_tick) > patience
    }
}

impl Unfinished {
    fn is_there(&self, memory: &Memory<'_>, index: usize, way: usize) -> bool {
        memory.connections.get(index).is_some_and(|bucket| {
            let signature = bucket.signatures[way].get() & !table::OVERFLOWED;
            signature == self.signature && bucket.entries[way].state.get() == self.state
        })
    }
}

/// Gives up a connection as the packet path does: who changes the state owns the
/// rest.
fn expire(loads: &[Load], bucket: &Bucket, way: usize, word: u32) -> bool {
    let entry: &Entry = &bucket.entries[way];
    let server = entry.server.get() as usize;
    let dead = (word & !0xffff).wrapping_add(state_word::GENERATION);
    if !entry.state.compare_and_swap(word, dead) {
        return false;
    }
    if let Some(load) = loads.get(server) {
        let counter = if state::is_active(word) {
            &load.active
        } else {
            &load.inactive
        };
        counter.subtract(1);
    }
    table::free_signature(&bucket.signatures[way]);
    true
}

/// Frees a place whose owner is gone.
fn reclaim(bucket: &Bucket, way: usize, seen: Unfinished) -> bool {
    let word = &bucket.signatures[way];
    let present = word.get();
    present & !table::OVERFLOWED == seen.signature
        && word.compare_and_swap(present, present & table::OVERFLOWED)
}

#[cfg(test)]
mod tests {
    use super::*;
    use evenkeel_datapath::simulated::{Sizes, Tables};

    const TPS: f64 = 4.0;

    fn put(memory: &Memory<'_>, bucket: usize, way: usize, state: u32, seen: u32) {
        let place = &memory.connections[bucket];
        place.signatures[way].set(0x77 | place.signatures[way].get());
        place.entries[way].seen.set(seen);
        place.entries[way].server.set(3);
        place.entries[way]
            .state
            .set(5 << 16 | state_word::ANSWERED | state);
        let load = &memory.loads[3];
        if state::is_active(state) {
            load.active.add(1)
        } else {
            load.inactive.add(1)
        };
    }

    fn loads(memory: &Memory<'_>) -> (u32, u32) {
        (memory.loads[3].active.get(), memory.loads[3].inactive.get())
    }

    #[test]
    fn silence_ends_connections_by_their_state() {
        let tables = Tables::new(&Sizes::default());
        let memory = tables.memory();
        memory.connections[7].signatures[0].set(table::OVERFLOWED);
        // Ticks wrap while the connections are silent.
        let start = u32::MAX - 10;
        put(&memory, 7, 0, state::ESTABLISHED, start);
        put(&memory, 7, 5, state::UDP, start);
        put(&memory, 9, 15, state::TIME_WAIT, start);
        put(&memory, 9, 2, state::NONE, start.wrapping_add(1));
        assert_eq!(loads(&memory), (1, 3));
        let mut sweeper = Sweeper::default();
        let mut at = |seconds: u32| {
            sweeper.sweep(&memory, 0, usize::MAX, start.wrapping_add(seconds * 4), TPS)
        };
        assert_eq!(at(0).in_use(), 4);
        let summary = at(120);
        assert_eq!((summary.expired, summary.in_use()), (1, 3));
        let summary = at(121);
        assert_eq!(
            (summary.expired, summary.states[state::TIME_WAIT as usize]),
            (1, 0)
        );
        assert_eq!(loads(&memory), (1, 1));
        assert_eq!(at(301).expired, 1);
        assert_eq!(at(900).in_use(), 1);
        assert_eq!(at(901).expired, 1);
        assert_eq!(loads(&memory), (0, 0));
        // The mark of the bucket stays, the generation has moved on.
        assert_eq!(memory.connections[7].signatures[0].get(), table::OVERFLOWED);
        assert_eq!(memory.connections[7].entries[0].state.get(), 6 << 16);
    }

    #[test]
    fn timeouts_are_those_that_were_set() {
        let tables = Tables::new(&Sizes::default());
        let memory = tables.memory();
        memory.control.timeout_udp.set(5);
        put(&memory, 0, 0, state::UDP, 100);
        let mut sweeper = Sweeper::default();
        assert_eq!(sweeper.sweep(&memory, 0, 64, 120, TPS).expired, 0);
        assert_eq!(sweeper.sweep(&memory, 0, 64, 121, TPS).expired, 1);
    }

    #[test]
    fn what_was_never_finished_is_freed() {
        let tables = Tables::new(&Sizes::default());
        let memory = tables.memory();
        let word = &memory.connections[1].signatures[1];
        word.set(0x55);
        let mut sweeper = Sweeper::default();
        assert_eq!(sweeper.sweep(&memory, 0, 64, 1000, TPS).reclaimed, 0);
        // Given up and claimed by another meanwhile: its time begins anew.
        memory.connections[1].entries[1].state.set(1 << 16);
        assert_eq!(sweeper.sweep(&memory, 0, 64, 1100, TPS).reclaimed, 0);
        assert_eq!(sweeper.sweep(&memory, 0, 64, 1108, TPS).reclaimed, 0);
        assert_eq!(sweeper.sweep(&memory, 0, 64, 1109, TPS).reclaimed, 1);
        assert_eq!(word.get(), 0);
        assert_eq!(sweeper.sweep(&memory, 0, 64, 1110, TPS), Summary::default());
        assert!(sweeper.unfinished.is_empty());
    }

    #[test]
    fn parts_make_the_whole() {
        let tables = Tables::new(&Sizes::default());
        let memory = tables.memory();
        for bucket in 0..64 {
            put(&memory, bucket, bucket % 16, state::ESTABLISHED, 0);
        }
        let mut sweeper = Sweeper::default();
        let mut sum = Summary::default();
        for first in (0..64).step_by(10) {
            sum.add(&sweeper.sweep(&memory, first, 10, 1, TPS));
        }
        assert_eq!(sum.in_use(), 64);
    }
}
