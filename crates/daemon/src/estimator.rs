//! The task that samples the counters, by which traffic per second is estimated.

use std::sync::Arc;
use std::time::Duration;

use evenkeel_core::estimate::INTERVAL_MS;
use tokio::time::{MissedTickBehavior, interval};

use crate::shared::Shared;

/// Takes a sample at once and then every two seconds, until the future is dropped.
pub async fn run(shared: Arc<Shared>) {
    let mut ticks = interval(Duration::from_millis(INTERVAL_MS));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let memory = shared.dataplane().memory();
        shared.with_director(|director| director.sample(&memory));
    }
}
