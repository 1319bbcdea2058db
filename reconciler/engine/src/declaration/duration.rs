//! Durations as people write them: `90s`, `2m`, `1h30m`.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serializer};

const UNITS: [(char, u64); 3] = [('h', 3_600), ('m', 60), ('s', 1)];

/// Reads whole hours, minutes and seconds, in this order and each at most once; none for anything else.
pub fn parse(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    let mut seconds: u64 = 0;
    let mut next = 0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|character: char| !character.is_ascii_digit())?;
        let number: u64 = rest.get(..digits)?.parse().ok()?;
        let unit = rest.get(digits..)?.chars().next()?;
        let index = UNITS.iter().position(|(name, _)| *name == unit)?;
        if index < next {
            return None;
        }
        next = index + 1;
        seconds = seconds.checked_add(number.checked_mul(UNITS[index].1)?)?;
        rest = rest.get(digits + unit.len_utf8()..)?;
    }
    Some(Duration::from_secs(seconds))
}

/// Writes a duration so that [`parse`] reads it back; parts of a second are dropped.
pub fn format(duration: Duration) -> String {
    let mut seconds = duration.as_secs();
    let mut text = String::new();
    for (unit, size) in UNITS {
        if seconds >= size {
            text.push_str(&(seconds / size).to_string());
            text.push(unit);
            seconds %= size;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// Writes a duration as text; for serde's `with`.
pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format(*duration))
}

/// Reads a duration from text; for serde's `with`.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse(&text)
        .ok_or_else(|| serde::de::Error::custom(format!("`{text}` is no duration; write one as 90s, 2m or 1h30m")))
}
