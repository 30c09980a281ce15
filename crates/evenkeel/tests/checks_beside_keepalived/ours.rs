//! Our checks, as the daemon runs them.

use evenkeel_core::model::{Alerts, Probe};
use evenkeel_core::probe::Verdict;
use evenkeel_daemon::checks::{self, Context};
use evenkeel_daemon::script::Scripts;

/// Descriptors that the test may use for checks.
const OPEN_FILES: usize = 1024;

/// The verdict of one run, within its deadlines.
pub(crate) fn verdict(probe: &Probe) -> Verdict {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return Verdict::Failed(format!("no runtime: {error}")),
    };
    let context = Context::new(Scripts::new(&Alerts::default()), OPEN_FILES);
    runtime.block_on(checks::run(probe, &context))
}
