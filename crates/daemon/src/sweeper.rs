//! The task that expires connections and frees what deleted servers leave.

use std::sync::Arc;
use std::time::Duration;

use evenkeel_api::ReasonCount;
use evenkeel_core::sweep::{STATE_NAMES, Summary, Sweeper};
use evenkeel_datapath::layout::WAYS;
use tokio::time::{MissedTickBehavior, interval};

use crate::shared::Shared;

/// Slices of a second; a slice is swept in one go.
const SLICES: u32 = 20;

/// Connection entries looked at in a second, at most. A larger table takes some
/// seconds; IPVS's shortest timeout that is not for half-open connections is 10 s.
const ENTRIES_PER_SECOND: usize = 4 << 20;

/// Sweeps the whole table about once a second, until the future is dropped.
pub async fn run(shared: Arc<Shared>) {
    let mut sweeper = Sweeper::default();
    let mut pass = Pass::default();
    let mut ticks = interval(Duration::from_secs(1) / SLICES);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut slices = 0u32;
    loop {
        ticks.tick().await;
        if let Err(error) = pass.slice(&shared, &mut sweeper) {
            tracing::warn!("cannot expire connections: {error:#}");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        slices = slices.wrapping_add(1);
        if slices.is_multiple_of(SLICES) {
            let (memory, now_ms) = (shared.dataplane().memory(), shared.now_ms());
            shared.with_director(|director| director.collect(&memory, now_ms));
        }
    }
}

/// One way through the table.
#[derive(Default)]
struct Pass {
    next: usize,
    summary: Summary,
}

impl Pass {
    fn slice(&mut self, shared: &Shared, sweeper: &mut Sweeper) -> anyhow::Result<()> {
        let dataplane = shared.dataplane();
        let memory = dataplane.memory();
        let buckets = memory.connections.len();
        let most = ENTRIES_PER_SECOND / WAYS / SLICES as usize;
        let count = buckets.div_ceil(SLICES as usize).clamp(1, most);
        let now_tick = dataplane.now_tick()?;
        let tps = dataplane.ticks_per_second();
        let part = sweeper.sweep(&memory, self.next, count, now_tick, tps);
        self.summary.add(&part);
        self.next += count;
        if self.next >= buckets {
            self.finish(shared);
        }
        Ok(())
    }

    fn finish(&mut self, shared: &Shared) {
        let summary = std::mem::take(&mut self.summary);
        self.next = 0;
        let states = STATE_NAMES
            .iter()
            .zip(summary.states)
            .filter(|&(_, count)| count > 0);
        let states = states.map(|(name, count)| ReasonCount {
            name: (*name).into(),
            count,
        });
        shared.set_connections(summary.in_use(), states.collect());
        if summary.reclaimed > 0 {
            tracing::info!(
                "freed {} places of unfinished connections",
                summary.reclaimed
            );
        }
    }
}
