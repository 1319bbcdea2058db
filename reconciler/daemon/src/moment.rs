//! Moments as people write them: `10 minutes ago`, `14:30`, `yesterday 14:30`, a date, RFC 3339, or a revision as `@1234`.
//!
//! Pure: the present and the time zone are handed in.

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, ToSpan as _, Zoned};

/// What a text names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// A revision of the cluster's log.
    Revision(u64),
    /// A time.
    Time(Timestamp),
}

/// A text names no moment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no time: write \"10 minutes ago\", \"2h ago\", \"14:30\", \"yesterday 14:30\", \"2026-11-21\", \"2026-11-21 14:30\", \
     \"2026-11-21T14:30:00Z\", or a revision as in @1234"
)]
pub struct Unreadable(String);

/// Reads a moment, as somebody says it at `now` and where `now` is.
///
/// A time of day is the last one that was; a date or `yesterday` alone is the day's first moment.
pub fn parse(text: &str, now: &Zoned) -> Result<Moment, Unreadable> {
    let trimmed = text.trim();
    let found = match trimmed.strip_prefix('@') {
        Some(revision) => revision.parse().ok().map(Moment::Revision),
        None => time(trimmed, now).map(Moment::Time),
    };
    found.ok_or_else(|| Unreadable(text.to_owned()))
}

fn time(text: &str, now: &Zoned) -> Option<Timestamp> {
    let lower = text.to_ascii_lowercase();
    let (first, rest) = match lower.split_once(char::is_whitespace) {
        Some((first, rest)) => (first, rest.trim_start()),
        None => (lower.as_str(), ""),
    };
    match first {
        "now" if rest.is_empty() => return Some(now.timestamp()),
        "today" => return on(now.date(), rest, now),
        "yesterday" => return on(now.date().yesterday().ok()?, rest, now),
        _ => {}
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some(time);
    }
    if let Ok(date) = text.parse::<Zoned>() {
        return Some(date.timestamp());
    }
    if let Some(time) = clock(text) {
        let today = at(now.date().to_datetime(time), now.time_zone())?;
        return match today > now.timestamp() {
            true => at(now.date().yesterday().ok()?.to_datetime(time), now.time_zone()),
            false => Some(today),
        };
    }
    if let Some(date) = civil(text) {
        return at(date, now.time_zone());
    }
    let span: Span = lower.parse().ok()?;
    now.checked_sub(span.abs()).ok().map(|then| then.timestamp())
}

/// A time of a day; nothing is the start of the day.
fn on(date: Date, text: &str, now: &Zoned) -> Option<Timestamp> {
    let time = if text.is_empty() {
        Time::midnight()
    } else {
        clock(text)?
    };
    at(date.to_datetime(time), now.time_zone())
}

/// A time of day: `14:30`, `14:30:05`.
fn clock(text: &str) -> Option<Time> {
    let is_one = text.contains(':') && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b':');
    is_one.then(|| text.parse().ok()).flatten()
}

/// A date, with or without a time of the day.
fn civil(text: &str) -> Option<DateTime> {
    let dated = text.as_bytes().get(4) == Some(&b'-');
    dated.then(|| text.parse().ok()).flatten()
}

/// Of a time that the clocks show twice it is the first, of one that they leave out the one as long after.
fn at(date: DateTime, zone: &TimeZone) -> Option<Timestamp> {
    zone.to_ambiguous_timestamp(date).compatible().ok()
}

/// Writes a time for people: to the second, in a time zone.
pub fn shown(time: Timestamp, zone: &TimeZone) -> String {
    time.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// Returns an hour before `now`.
pub fn an_hour_before(now: &Zoned) -> Moment {
    // An hour before the first moment that can be written there is none; then it is that.
    Moment::Time(
        now.checked_sub(1.hour())
            .map_or(Timestamp::MIN, |then| then.timestamp()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A Saturday, half past two in the afternoon, two hours east of Greenwich.
    fn now() -> Zoned {
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        "2026-11-21T12:30:15Z"
            .parse::<Timestamp>()
            .expect("a time")
            .to_zoned(zone)
    }

    fn read(text: &str) -> String {
        match parse(text, &now()) {
            Ok(Moment::Time(time)) => time.to_string(),
            Ok(Moment::Revision(revision)) => format!("@{revision}"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_span_counts_back_from_now() {
        for (text, wanted) in [
            ("10 minutes ago", "2026-11-21T12:20:15Z"),
            ("1 minute ago", "2026-11-21T12:29:15Z"),
            ("2h ago", "2026-11-21T10:30:15Z"),
            ("2h", "2026-11-21T10:30:15Z"),
            ("1h 30m ago", "2026-11-21T11:00:15Z"),
            ("90s", "2026-11-21T12:28:45Z"),
            ("1 day ago", "2026-11-20T12:30:15Z"),
            ("  5 Minutes Ago ", "2026-11-21T12:25:15Z"),
            ("now", "2026-11-21T12:30:15Z"),
        ] {
            assert_eq!(read(text), wanted, "{text}");
        }
    }

    #[test]
    fn a_time_of_day_is_the_last_one_that_was() {
        assert_eq!(read("14:00"), "2026-11-21T12:00:00Z");
        assert_eq!(read("14:30:15"), "2026-11-21T12:30:15Z");
        assert_eq!(read("14:31"), "2026-11-20T12:31:00Z");
        assert_eq!(read("today 14:31"), "2026-11-21T12:31:00Z");
        assert_eq!(read("yesterday 14:00"), "2026-11-20T12:00:00Z");
        assert_eq!(read("Yesterday"), "2026-11-19T22:00:00Z");
    }

    #[test]
    fn dates_are_of_the_time_zone_and_what_names_its_own_keeps_it() {
        assert_eq!(read("2026-11-20"), "2026-11-19T22:00:00Z");
        assert_eq!(read("2026-11-20 08:15"), "2026-11-20T06:15:00Z");
        assert_eq!(read("2026-11-20T08:15:30"), "2026-11-20T06:15:30Z");
        assert_eq!(read("2026-11-20T08:15:30Z"), "2026-11-20T08:15:30Z");
        assert_eq!(read("2026-11-20T08:15:30-05:00"), "2026-11-20T13:15:30Z");
    }

    #[test]
    fn a_revision_is_marked() {
        assert_eq!(read("@1234"), "@1234");
        assert!(read("@12x").contains("is no time"));
    }

    #[test]
    fn what_cannot_be_read_says_what_can() {
        for text in [
            "",
            "soon",
            "1234",
            "25:00",
            "2026-13-01",
            "yesterday noon",
            "10 minutes hence",
            "99999999999 years ago",
            "@",
            "@-1",
        ] {
            let error = read(text);
            assert!(
                error.contains("10 minutes ago") && error.contains("@1234"),
                "{text}: {error}"
            );
        }
    }

    #[test]
    fn an_hour_that_the_clocks_show_twice_is_the_first() {
        let Ok(zone) = TimeZone::get("Europe/Berlin") else {
            panic!("the time zones are installed");
        };
        let now = "2026-10-25T12:00:00Z"
            .parse::<Timestamp>()
            .expect("a time")
            .to_zoned(zone);
        assert_eq!(
            parse("2:30", &now).map_err(|error| error.to_string()),
            Err(Unreadable("2:30".to_owned()).to_string())
        );
        assert_eq!(
            parse("02:30", &now),
            Ok(Moment::Time("2026-10-25T00:30:00Z".parse().expect("a time")))
        );
    }
}
