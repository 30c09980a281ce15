//! Traffic per second, as IPVS estimates it (`net/netfilter/ipvs/ip_vs_est.c`): a
//! sample every two seconds, a moving average in which the newest counts a quarter, in
//! whole numbers. What listings show of counters is the last sample too.

use alloc::vec::Vec;

use evenkeel_datapath::memory::Memory;

use crate::model::{Rates, Stats};

/// Time between samples, in milliseconds.
pub const INTERVAL_MS: u64 = 2000;

/// Connections and packets are kept as 1,024ths by second: what two seconds brought is
/// shifted by one less.
const COUNT_SHIFT: u32 = 10;
/// Bytes as 32nds.
const BYTE_SHIFT: u32 = 5;

/// The counters and rates of a server or a service as of the last sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Estimate {
    counted: Stats,
    /// Scaled.
    rates: Rates,
}

/// An average with a new sample.
fn averaged(average: u64, before: u64, now: u64, shift: u32) -> u64 {
    let rate = now.wrapping_sub(before) << (shift - 1);
    let step = (rate.cast_signed().wrapping_sub(average.cast_signed())) >> 2;
    average.wrapping_add_signed(step)
}

/// An average as it is shown, by second.
const fn shown(average: u64, shift: u32) -> u64 {
    average.wrapping_add((1 << (shift - 1)) - 1) >> shift
}

impl Estimate {
    /// One that begins with this much counted, and no traffic.
    #[must_use]
    pub fn at(counted: Stats) -> Self {
        Self {
            counted,
            rates: Rates::default(),
        }
    }

    /// Takes a sample, two seconds after the last. Counters may have wrapped.
    pub fn sample(&mut self, now: Stats) {
        let (before, rates) = (self.counted, self.rates);
        let count = |average, before, now| averaged(average, before, now, COUNT_SHIFT);
        let bytes = |average, before, now| averaged(average, before, now, BYTE_SHIFT);
        self.rates = Rates {
            connections: count(rates.connections, before.connections, now.connections),
            in_packets: count(rates.in_packets, before.in_packets, now.in_packets),
            out_packets: count(rates.out_packets, before.out_packets, now.out_packets),
            in_bytes: bytes(rates.in_bytes, before.in_bytes, now.in_bytes),
            out_bytes: bytes(rates.out_bytes, before.out_bytes, now.out_bytes),
        };
        self.counted = now;
    }

    /// What was counted at the last sample.
    #[must_use]
    pub fn counted(&self) -> Stats {
        self.counted
    }

    /// Traffic by second.
    #[must_use]
    pub fn rates(&self) -> Rates {
        let Rates {
            connections,
            in_packets,
            out_packets,
            in_bytes,
            out_bytes,
        } = self.rates;
        Rates {
            connections: shown(connections, COUNT_SHIFT),
            in_packets: shown(in_packets, COUNT_SHIFT),
            out_packets: shown(out_packets, COUNT_SHIFT),
            in_bytes: shown(in_bytes, BYTE_SHIFT),
            out_bytes: shown(out_bytes, BYTE_SHIFT),
        }
    }
}

/// What the packet path has counted for each of the first `servers` slots, on all
/// CPUs, into `sums`. A CPU's counters are read one after the other as they lie in
/// memory: there are many of them.
pub fn count_all(memory: &Memory<'_>, servers: usize, sums: &mut Vec<Stats>) {
    sums.clear();
    sums.resize(servers.min(memory.servers.len()), Stats::default());
    for row in memory.counters.chunks_exact(memory.servers.len().max(1)) {
        for (sum, counters) in sums.iter_mut().zip(row) {
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
    fn counters_may_wrap_and_be_begun_anew() {
        let before = u64::MAX - 5;
        let mut estimate = Estimate::at(stats([before; 5]));
        estimate.sample(stats([before.wrapping_add(1 << 13); 5]));
        assert_eq!(rates(&estimate), [1024; 5]);
        let mut estimate = Estimate::at(stats([7; 5]));
        estimate.sample(stats([7; 5]));
        assert_eq!(rates(&estimate), [0; 5]);
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
        let mut sums = alloc::vec![stats([9; 5]); 9];
        count_all(&memory, 3, &mut sums);
        let bytes: Vec<u64> = sums.iter().map(|sum| sum.in_bytes).collect();
        assert_eq!(bytes, [0x1_0001_0001, 0x10_0010_0010, 0x100_0100_0100]);
        count_all(&memory, 100, &mut sums);
        assert_eq!(sums.len(), 4);
    }
}
