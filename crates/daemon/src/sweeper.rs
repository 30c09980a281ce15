//! The task that expires connections and frees what deleted servers leave.

use std::sync::Arc;
use std::time::Duration;

use evenkeel_api::ReasonCount;
use evenkeel_core::model::Sysctl;
use evenkeel_core::sweep::{self, LocalitySeconds, STATE_NAMES, Summary, Sweeper};
use evenkeel_datapath::layout::WAYS;
use tokio::time::{MissedTickBehavior, interval};

use crate::shared::Shared;

/// Slices of a second; a slice is swept in one go.
const SLICES: u32 = 20;

/// Connection entries looked at in a second, at most. A larger table takes some
/// seconds; IPVS's shortest timeout that is not for half-open connections is 10 s.
const ENTRIES_PER_SECOND: usize = 4 << 20;

/// Sweeps both tables about once a second, until the future is dropped.
pub async fn run(shared: Arc<Shared>) {
    let mut sweeper = Sweeper::default();
    let mut ticks = interval(Duration::from_secs(1) / SLICES);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut slices = 0u32;
    loop {
        ticks.tick().await;
        sweeper.set_udp_quiesced_seconds(shared.udp_quiesced());
        if let Err(error) = slice(&shared, &mut sweeper) {
            tracing::warn!("cannot expire connections: {error:#}");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        slices = slices.wrapping_add(1);
        if slices.is_multiple_of(SLICES) {
            let (memory, now_ms) = (shared.dataplane().memory(), shared.now_ms());
            let settings = shared.with_director(|director| {
                director.collect(&memory, now_ms);
                director.sysctls()
            });
            sweeper.set_locality_seconds(LocalitySeconds {
                lblc: settings.get(Sysctl::LblcExpiration).number(),
                lblcr: settings.get(Sysctl::LblcrExpiration).number(),
            });
        }
    }
}

fn slice(shared: &Shared, sweeper: &mut Sweeper) -> anyhow::Result<()> {
    let dataplane = shared.dataplane();
    let memory = dataplane.memory();
    let most = ENTRIES_PER_SECOND / WAYS / SLICES as usize;
    let count = Sweeper::buckets(&memory).div_ceil(SLICES as usize);
    let (now_tick, tps) = (dataplane.now_tick()?, dataplane.ticks_per_second());
    if let Some(summary) = sweeper.slice(&memory, count.clamp(1, most), now_tick, tps) {
        // The director, which writes trees, is held meanwhile.
        let drops = shared.with_director(|director| {
            sweep::settle(&memory);
            director.defend(&summary.fills(&memory))
        });
        sweeper.set_dropping(drops);
        suspect(shared, sweeper.suspects());
        report(shared, &summary);
    }
    Ok(())
}

/// Has servers checked at once that clients can not reach.
fn suspect(shared: &Shared, servers: &[u32]) {
    if servers.is_empty() {
        return;
    }
    let keys = shared.with_director(|director| director.server_ends(servers));
    let now_ms = shared.now_ms();
    shared.with_monitor(|monitor| {
        for key in &keys {
            monitor.suspect(key, now_ms);
        }
    });
    shared.wake_monitor();
}

/// Tells what a pass has seen.
fn report(shared: &Shared, summary: &Summary) {
    let states = STATE_NAMES
        .iter()
        .zip(summary.states)
        .filter(|&(_, count)| count > 0);
    let states = states.map(|(name, count)| ReasonCount {
        name: (*name).into(),
        count,
    });
    shared.set_connections(summary.in_use(), states.collect());
    shared.count_swept(summary.cut_short, summary.dropped);
    if summary.reclaimed > 0 {
        tracing::info!(
            "freed {} places of unfinished connections",
            summary.reclaimed
        );
    }
}
