//! Moments: the years 1 to 9999, in nanoseconds.
//!
//! jiff's own timestamps end a day before the year 9999 does, and people write the last second of it for "never".

use std::fmt;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

/// A moment, in nanoseconds since 1970 in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(i128);

const FIRST: i128 = -62_135_596_800_000_000_000;
const END: i128 = 253_402_300_800_000_000_000;
const SECOND: i128 = 1_000_000_000;

fn epoch() -> DateTime {
    DateTime::constant(1970, 1, 1, 0, 0, 0, 0)
}

impl Moment {
    /// The first moment that there is.
    pub(crate) const ZERO: Moment = Moment(FIRST);

    /// Makes a moment, if it is in range.
    pub(crate) fn new(nanos: i128) -> Option<Moment> {
        (FIRST..END).contains(&nanos).then_some(Moment(nanos))
    }

    /// Makes a moment of whole seconds, if it is in range.
    pub(crate) fn from_seconds(seconds: i64) -> Option<Moment> {
        Moment::new(i128::from(seconds) * SECOND)
    }

    /// Returns whole seconds, rounded down.
    pub(crate) fn seconds(self) -> i64 {
        // In range: see `new`.
        i64::try_from(self.0.div_euclid(SECOND)).unwrap_or(i64::MAX)
    }

    /// Returns the moment so many nanoseconds later, if it is in range.
    pub(crate) fn plus(self, nanos: i64) -> Option<Moment> {
        Moment::new(self.0 + i128::from(nanos))
    }

    /// Returns how many nanoseconds it is after another.
    pub(crate) fn since(self, other: Moment) -> i128 {
        self.0 - other.0
    }

    /// Reads an RFC 3339 moment.
    pub(crate) fn parse(text: &str) -> Option<Moment> {
        let bytes = text.as_bytes();
        let digits =
            |range: std::ops::Range<usize>| bytes.get(range).is_some_and(|part| part.iter().all(u8::is_ascii_digit));
        let shaped = bytes.len() >= 20
            && text.is_ascii()
            && digits(0..4)
            && bytes[4] == b'-'
            && bytes[7] == b'-'
            && matches!(bytes[10], b'T' | b't')
            && bytes[13] == b':'
            && bytes[16] == b':';
        if !shaped {
            return None;
        }
        let end = 19 + text[19..].find(['Z', 'z', '+', '-'])?;
        let (local, zone) = text.split_at(end);
        let local: DateTime = local.parse().ok()?;
        let offset = if zone.eq_ignore_ascii_case("z") {
            0
        } else {
            read_offset(zone)?
        };
        let nanos = local.duration_since(epoch()).as_nanos() - i128::from(offset) * SECOND;
        Moment::new(nanos)
    }

    /// Returns the date and time that clocks with an offset of so many seconds show.
    pub(crate) fn civil(self, offset: i32) -> Option<DateTime> {
        let nanos = self.0 + i128::from(offset) * SECOND;
        let seconds = i64::try_from(nanos.div_euclid(SECOND)).ok()?;
        let rest = i32::try_from(nanos.rem_euclid(SECOND)).ok()?;
        epoch().checked_add(SignedDuration::new(seconds, rest)).ok()
    }

    /// Returns the offset of a zone's clocks at the moment, in seconds.
    pub(crate) fn offset_in(self, zone: &TimeZone) -> i32 {
        // At the very end of the last year a zone's clocks are as they were a day before.
        let at = Timestamp::from_second(self.seconds()).unwrap_or(Timestamp::MAX);
        zone.to_offset(at).seconds()
    }
}

/// Reads `+01:00`; the result is in seconds.
fn read_offset(text: &str) -> Option<i32> {
    let bytes = text.as_bytes();
    if bytes.len() != 6 || bytes[3] != b':' {
        return None;
    }
    let number = |range: std::ops::Range<usize>| text.get(range)?.parse::<i32>().ok();
    let (hours, minutes) = (number(1..3)?, number(4..6)?);
    let plain = bytes[1].is_ascii_digit() && bytes[4].is_ascii_digit();
    if !plain || hours > 23 || minutes > 59 {
        return None;
    }
    let seconds = (hours * 60 + minutes) * 60;
    Some(if bytes[0] == b'-' { -seconds } else { seconds })
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.civil(0) {
            // A year has four digits.
            Some(at) => write!(f, "{at}Z"),
            None => write!(f, "{}s since 1970", self.seconds()),
        }
    }
}
