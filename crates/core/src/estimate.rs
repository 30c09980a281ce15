//! Traffic per second, as IPVS estimates it (`net/netfilter/ipvs/ip_vs_est.c`): a
//! sample every two seconds, a moving average in which the newest counts a quarter, in
//! whole numbers. What listings show of counters is the last sample too.

use evenkeel_datapath::memory::Memory;

use crate::model::{Rates, Stats};

/// Time between samples, in milliseconds.
pub const INTERVAL_MS: u64 = 2000;

/// Connections and packets are kept as 1,024ths by second: what two seconds brought is
/// shifted by one less.
const COUNT_SHIFT: u32 = 10;
/// Bytes as 32nds.
const BYTE_SHIFT: u32 = 5;

/// A moving average of traffic, in parts of one by second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Average(Rates);

/// The counters of a server as of the last sample, and its traffic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Estimate {
    counted: Stats,
    rates: Average,
}

/// An average with what two seconds brought.
fn averaged(average: u64, brought: u64, shift: u32) -> u64 {
    let rate = brought << (shift - 1);
    let step = (rate.cast_signed().wrapping_sub(average.cast_signed())) >> 2;
    average.wrapping_add_signed(step)
}

/// An average as it is shown, by second.
const fn shown(average: u64, shift: u32) -> u64 {
    average.wrapping_add((1 << (shift - 1)) - 1) >> shift
}

impl Average {
    /// Takes in what two seconds brought.
    pub fn bring(&mut self, brought: &Stats) {
        let count = |average, brought| averaged(average, brought, COUNT_SHIFT);
        let bytes = |average, brought| averaged(average, brought, BYTE_SHIFT);
        let rates = self.0;
        self.0 = Rates {
            connections: count(rates.connections, brought.connections),
            in_packets: count(rates.in_packets, brought.in_packets),
            out_packets: count(rates.out_packets, brought.out_packets),
            in_bytes: bytes(rates.in_bytes, brought.in_bytes),
            out_bytes: bytes(rates.out_bytes, brought.out_bytes),
        };
    }

    /// By second.
    #[must_use]
    pub fn shown(&self) -> Rates {
        let Rates {
            connections,
            in_packets,
            out_packets,
            in_bytes,
            out_bytes,
        } = self.0;
        Rates {
            connections: shown(connections, COUNT_SHIFT),
            in_packets: shown(in_packets, COUNT_SHIFT),
            out_packets: shown(out_packets, COUNT_SHIFT),
            in_bytes: shown(in_bytes, BYTE_SHIFT),
            out_bytes: shown(out_bytes, BYTE_SHIFT),
        }
    }
}

impl Estimate {
    /// One that begins with this much counted, and no traffic.
    #[must_use]
    pub fn at(counted: Stats) -> Self {
        Self {
            counted,
            rates: Average::default(),
        }
    }

    /// Takes a sample, two seconds after the last, and gives what has come since. A
    /// counter that is less than it was has begun anew.
    pub fn sample(&mut self, now: Stats) -> Stats {
        let since = |now: u64, before: u64| now.checked_sub(before).unwrap_or(now);
        let before = self.counted;
        let brought = Stats {
            connections: since(now.connections, before.connections),
            in_packets: since(now.in_packets, before.in_packets),
            out_packets: since(now.out_packets, before.out_packets),
            in_bytes: since(now.in_bytes, before.in_bytes),
            out_bytes: since(now.out_bytes, before.out_bytes),
        };
        self.counted = now;
        self.rates.bring(&brought);
        brought
    }

    /// Forgets the traffic, not what was counted.
    pub fn calm(&mut self) {
        self.rates = Average::default();
    }

    /// What was counted at the last sample.
    #[must_use]
    pub fn counted(&self) -> Stats {
        self.counted
    }

    /// Traffic by second.
    #[must_use]
    pub fn rates(&self) -> Rates {
        self.rates.shown()
    }
}

/// Adds up what the packet path has counted for the servers from slot `first` on, on
/// all CPUs. A CPU's counters are read one after the other as they lie in memory.
pub fn count(memory: &Memory<'_>, first: usize, sums: &mut [Stats]) {
    sums.fill(Stats::default());
    for row in memory.counters.chunks_exact(memory.servers.len().max(1)) {
        for (sum, counters) in sums.iter_mut().zip(row.iter().skip(first)) {
            let connections = counters.connections.get();
            let (in_packets, out_packets) = (counters.in_packets.get(), counters.out_packets.get());
            sum.connections = sum.connections.wrapping_add(connections);
            sum.in_packets = sum.in_packets.wrapping_add(in_packets);
            sum.out_packets = sum.out_packets.wrapping_add(out_packets);
            sum.in_bytes = sum.in_bytes.wrapping_add(counters.in_bytes.get());
            sum.out_bytes = sum.out_bytes.wrapping_add(counters.out_bytes.get());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use evenkeel_datapath::simulated::{Sizes, Tables};

    const fn stats(parts: [u64; 5]) -> Stats {
        let [connections, in_packets, out_packets, in_bytes, out_bytes] = parts;
        Stats {
            connections,
            in_packets,
            out_packets,
            in_bytes,
            out_bytes,
        }
    }

    fn rates(estimate: &Estimate) -> [u64; 5] {
        let rates = estimate.rates();
        [
            rates.connections,
            rates.in_packets,
            rates.out_packets,
            rates.in_bytes,
            rates.out_bytes,
        ]
    }

    /// Three connections at once, as the kernel's estimator was seen to take them: the
    /// second sample after them and the fourth.
    #[test]
    fn traffic_dies_away_as_in_the_kernel() {
        let now = stats([3, 21, 15, 1332, 1452]);
        let mut estimate = Estimate::default();
        assert_eq!(estimate.counted(), Stats::default());
        estimate.sample(now);
        assert_eq!(estimate.counted(), now);
        estimate.sample(now);
        assert_eq!(rates(&estimate), [0, 2, 1, 125, 136]);
        estimate.sample(now);
        estimate.sample(now);
        assert_eq!(rates(&estimate), [0, 1, 1, 70, 77]);
        for _ in 0..100 {
            estimate.sample(now);
        }
        assert_eq!(rates(&estimate), [0; 5]);
    }

    #[test]
    fn steady_traffic_is_shown_as_it_is() {
        let mut counted = stats([0; 5]);
        let mut estimate = Estimate::default();
        for _ in 0..100 {
            counted.connections += 2000;
            counted.in_packets += 20_000_000;
            counted.in_bytes += 25_000_000_000;
            estimate.sample(counted);
        }
        assert_eq!(rates(&estimate), [1000, 10_000_000, 0, 12_500_000_000, 0]);
    }

    #[test]
    fn what_was_there_before_is_no_traffic() {
        let mut estimate = Estimate::at(stats([7; 5]));
        assert_eq!(estimate.sample(stats([7; 5])), stats([0; 5]));
        assert_eq!(rates(&estimate), [0; 5]);
        // A counter that begins anew, and one that is told to be calm.
        assert_eq!(estimate.sample(stats([5; 5])), stats([5; 5]));
        assert_eq!(estimate.sample(stats([8197; 5])), stats([8192; 5]));
        assert_eq!(rates(&estimate)[..3], [1024; 3]);
        estimate.calm();
        assert_eq!(
            (rates(&estimate), estimate.counted()),
            ([0; 5], stats([8197; 5]))
        );
    }

    #[test]
    fn all_cpus_count() {
        let tables = Tables::new(&Sizes {
            servers: 4,
            cpus: 3,
            ..Sizes::default()
        });
        let memory = tables.memory();
        for (place, counters) in memory.counters.iter().enumerate() {
            counters.in_bytes.set(1 << (4 * place));
        }
        let mut sums = [stats([9; 5]); 4];
        count(&memory, 1, &mut sums);
        let bytes = sums.map(|sum| sum.in_bytes);
        assert_eq!(
            bytes,
            [0x10_0010_0010, 0x100_0100_0100, 0x1000_1000_1000, 0]
        );
    }
}
