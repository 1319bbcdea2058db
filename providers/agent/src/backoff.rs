//! How long to wait after the n-th failure in a row. Pure.

use std::time::Duration;

/// The first delay of a repeated failure.
const FIRST: Duration = Duration::from_secs(10);
/// The longest delay.
const LONGEST: Duration = Duration::from_secs(300);
/// A container that ran so long is taken to have recovered: the next crash is again a first one.
pub const RECOVERED_AFTER: Duration = Duration::from_secs(600);

/// Returns the pause before a container is started again after `crashes` exits in a row: none after the first, then 10 s, doubling up
/// to five minutes.
pub fn restart_delay(crashes: u32) -> Duration {
    match crashes {
        0 | 1 => Duration::ZERO,
        n => doubled(FIRST, n - 2, LONGEST),
    }
}

/// Returns the pause before something that failed `failures` times in a row for a cause outside (an image, an API object) is tried again.
pub fn retry_delay(failures: u32) -> Duration {
    doubled(FIRST, failures.saturating_sub(1), LONGEST)
}

/// Returns the pause before an internal step (a sandbox, a volume, a request) that failed `failures` times in a row is tried again: 250 ms, doubling
/// up to a minute.
pub fn internal_delay(failures: u32) -> Duration {
    doubled(
        Duration::from_millis(250),
        failures.saturating_sub(1),
        Duration::from_secs(60),
    )
}

fn doubled(first: Duration, times: u32, longest: Duration) -> Duration {
    first
        .checked_mul(1u32.checked_shl(times).unwrap_or(u32::MAX))
        .unwrap_or(longest)
        .min(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_crash_waits_for_nothing_and_later_ones_double_to_five_minutes() {
        let seconds: Vec<u64> = (0..10).map(|n| restart_delay(n).as_secs()).collect();
        assert_eq!(seconds, [0, 0, 10, 20, 40, 80, 160, 300, 300, 300]);
        assert_eq!(restart_delay(u32::MAX), LONGEST);
    }

    #[test]
    fn internal_steps_are_retried_quickly_at_first() {
        assert_eq!(internal_delay(1), Duration::from_millis(250));
        assert_eq!(internal_delay(40), Duration::from_secs(60));
    }
}
