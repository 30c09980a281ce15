//! Scripts as checks: what their exit status says.

use std::time::Duration;

use evenkeel_core::model::Script;
use evenkeel_core::probe::Verdict;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use super::words;
use crate::script::{End, Outcome, Output, Scripts};

/// The exit status from which on a script says a weight, less this.
const WEIGHT_FROM: u8 = 2;

/// Runs a script when one of `slots` is free. Waiting for it takes of its time.
pub(super) async fn run(
    script: &Script,
    time: Duration,
    is_dynamic: bool,
    scripts: &std::sync::Arc<Scripts>,
    slots: &Semaphore,
) -> Verdict {
    let began = Instant::now();
    let deadline = began + time;
    let Ok(slot) = timeout_at(deadline, slots.acquire()).await else {
        return Verdict::Failed(format!(
            "not started within {}: too many other scripts run",
            words::duration(time)
        ));
    };
    let waited = began.elapsed();
    let outcome = scripts
        .run(script, time.saturating_sub(waited), Output::Keep)
        .await;
    drop(slot);
    match outcome {
        Ok(outcome) => {
            log(script, &outcome);
            verdict(&outcome, time, began.elapsed(), is_dynamic)
        }
        Err(reason) => Verdict::Failed(reason),
    }
}

fn log(script: &Script, outcome: &Outcome) {
    let output = outcome.output.trim_end();
    if !output.is_empty() {
        let name = script.command.first().map_or("", String::as_str);
        tracing::debug!("{name}: {}: {output:?}", outcome.end);
    }
}

fn verdict(outcome: &Outcome, limit: Duration, took: Duration, is_dynamic: bool) -> Verdict {
    let reason = match outcome.end {
        End::Exit(0) => {
            return Verdict::Passed(format!("exit status 0 after {}", words::duration(took)));
        }
        End::Exit(status) if is_dynamic && status >= WEIGHT_FROM => {
            return Verdict::Weight(u32::from(status - WEIGHT_FROM));
        }
        End::Exit(status) => format!("exit status {status}"),
        End::Signal(signal) => format!("ended by signal {signal}"),
        End::Late(_) => format!("killed after {}", words::duration(limit)),
    };
    // The last line says most, as a rule.
    let said = outcome.output.trim_end().lines().next_back();
    Verdict::Failed(match said.map(str::trim) {
        Some(said) if !said.is_empty() => format!("{reason}: {}", printable(said)),
        _ => reason,
    })
}

/// A line without what a terminal would obey.
fn printable(text: &str) -> String {
    const LONGEST: usize = 120;
    text.chars()
        .filter(|character| !character.is_control())
        .take(LONGEST)
        .collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use evenkeel_core::model::{Alerts, User};

    use super::*;

    fn script(text: &str) -> Script {
        Script {
            command: ["/bin/sh", "-c", text].map(str::to_owned).to_vec(),
            user: Some(User {
                name: "root".into(),
                group: None,
            }),
        }
    }

    async fn ran(text: &str, milliseconds: u64, is_dynamic: bool) -> Verdict {
        let scripts = Scripts::new(&Alerts::default());
        let time = Duration::from_millis(milliseconds);
        run(
            &script(text),
            time,
            is_dynamic,
            &scripts,
            &Semaphore::new(1),
        )
        .await
    }

    #[tokio::test]
    async fn statuses_are_verdicts() {
        const LONG: u64 = 30_000;
        assert!(matches!(
            ran("exit 0", LONG, true).await,
            Verdict::Passed(_)
        ));
        let failed = |reason: &str| Verdict::Failed(reason.into());
        assert_eq!(ran("exit 1", LONG, true).await, failed("exit status 1"));
        assert_eq!(ran("exit 2", LONG, true).await, Verdict::Weight(0));
        assert_eq!(ran("exit 255", LONG, true).await, Verdict::Weight(253));
        assert_eq!(
            ran("echo one; echo 'no disk\x1b[1m' >&2; exit 7", LONG, false).await,
            failed("exit status 7: no disk[1m")
        );
        assert_eq!(
            ran("kill -9 $$", LONG, false).await,
            failed("ended by signal 9")
        );
        assert_eq!(
            ran(
                "trap 'exit 0' TERM; echo slow; while :; do :; done",
                300,
                false
            )
            .await,
            failed("killed after 300 ms: slow")
        );
    }

    #[tokio::test]
    async fn only_so_many_run_at_a_time() {
        let scripts = Scripts::new(&Alerts::default());
        let slots = Arc::new(Semaphore::new(1));
        let held = slots.acquire().await.unwrap();
        let time = Duration::from_millis(50);
        let verdict = run(&script("exit 0"), time, false, &scripts, &slots).await;
        let expected = "not started within 50 ms: too many other scripts run";
        assert_eq!(verdict, Verdict::Failed(expected.into()));
        drop(held);
        let time = Duration::from_secs(30);
        assert!(
            run(&script("exit 0"), time, false, &scripts, &slots)
                .await
                .is_good()
        );
    }
}
