//! Durations as Go's `time.ParseDuration` reads them: `1h30m`, `1.5s`, `-2ms`.

use crate::validate::field::quote;

/// A length of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Duration {
    pub nanoseconds: i64,
}

const UNITS: &[(&str, u64)] = &[
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Reads a duration; the error is what Go says.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let invalid = || format!("time: invalid duration {}", quote(text));
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(Duration { nanoseconds: 0 });
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let (whole, after) = digits(rest);
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => digits(after),
            None => ("", after),
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(invalid());
        }
        let end = after
            .find(|character: char| character == '.' || character.is_ascii_digit())
            .unwrap_or(after.len());
        let (unit, next) = after.split_at(end);
        if unit.is_empty() {
            return Err(format!("time: missing unit in duration {}", quote(text)));
        }
        let Some((_, size)) = UNITS.iter().find(|(name, _)| *name == unit) else {
            return Err(format!(
                "time: unknown unit {} in duration {}",
                quote(unit),
                quote(text)
            ));
        };
        total = part(whole, fraction, *size)
            .and_then(|part| total.checked_add(part))
            .filter(|total| *total <= i64::MAX.unsigned_abs())
            .ok_or_else(invalid)?;
        rest = next;
    }
    let nanoseconds = i64::try_from(total).map_err(|_| invalid())?;
    Ok(Duration {
        nanoseconds: if negative { -nanoseconds } else { nanoseconds },
    })
}

fn digits(text: &str) -> (&str, &str) {
    let end = text
        .find(|character: char| !character.is_ascii_digit())
        .unwrap_or(text.len());
    text.split_at(end)
}

/// One number with its unit, in nanoseconds.
fn part(whole: &str, fraction: &str, size: u64) -> Option<u64> {
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    // More digits than these are below a nanosecond for every unit.
    let kept = &fraction[..fraction.len().min(18)];
    let below = if kept.is_empty() {
        0
    } else {
        let numerator: u128 = kept.parse().ok()?;
        let denominator = 10_u128.pow(u32::try_from(kept.len()).ok()?);
        u64::try_from(numerator * u128::from(size) / denominator).ok()?
    };
    whole.checked_mul(size)?.checked_add(below)
}
