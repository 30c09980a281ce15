//! Waiting for a condition, never for a time.

use std::env;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Pause between two looks at a condition.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// The environment variable with the factor that every deadline is multiplied by, a whole
/// number: for machines that are slow, as emulated ones are.
pub const PATIENCE: &str = "EVENKEEL_PATIENCE";

/// How much longer than usual to wait.
fn patience() -> u32 {
    let factor = env::var(PATIENCE).ok();
    factor.and_then(|text| text.parse().ok()).unwrap_or(1)
}

/// Looks at a condition until it gives a value, at most for `deadline`, or several times
/// that ([`PATIENCE`]).
///
/// `condition` says in its `Err` what it saw instead; the last one stands in the
/// error, beside `what` was waited for.
pub fn until<T>(
    deadline: Duration,
    what: &str,
    mut condition: impl FnMut() -> Result<T, String>,
) -> Result<T> {
    let deadline = deadline * patience();
    let end = Instant::now() + deadline;
    loop {
        let seen = match condition() {
            Ok(value) => return Ok(value),
            Err(seen) => seen,
        };
        if Instant::now() >= end {
            bail!("waited {deadline:?} for {what}; last seen: {seen}");
        }
        thread::sleep(LOOK_AGAIN);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_the_value_as_soon_as_it_is_there() {
        let mut looks = 0;
        let value = until(Duration::from_secs(5), "three looks", || {
            looks += 1;
            if looks == 3 {
                Ok(looks)
            } else {
                Err(format!("{looks} looks"))
            }
        });
        assert_eq!(value.ok(), Some(3));
    }

    #[test]
    fn says_what_it_saw_last() {
        let error = until::<()>(Duration::ZERO, "the moon", || Err("clouds".into()))
            .map_err(|error| error.to_string());
        assert_eq!(
            error,
            Err("waited 0ns for the moon; last seen: clouds".into())
        );
    }
}
