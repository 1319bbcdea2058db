//! `time.Time` and durations, formatted by Go's layouts.

use std::fmt::{self, Write as _};

/// An instant in a zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DateTime {
    /// Seconds since 1970 in UTC.
    pub seconds: i64,
    /// Nanoseconds of the second, below 10⁹.
    pub nanos: u32,
    /// Seconds east of UTC.
    pub offset: i32,
    /// The abbreviation of the zone.
    pub zone: String,
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];

/// Names a month by its number from 1.
pub(super) fn month_name(month: i64) -> String {
    usize::try_from(month - 1)
        .ok()
        .and_then(|index| MONTHS.get(index))
        .map_or_else(|| format!("%!Month({month})"), |name| (*name).to_owned())
}

/// The parts of an instant on the calendar.
pub struct Civil {
    /// The year.
    pub year: i64,
    /// The month from 1.
    pub month: u32,
    /// The day from 1.
    pub day: u32,
    /// The hour from 0.
    pub hour: u32,
    /// The minute from 0.
    pub minute: u32,
    /// The second from 0.
    pub second: u32,
    /// The day of the week; Sunday is 0.
    pub weekday: u32,
    /// The day of the year from 1.
    pub year_day: u32,
}

fn days_from_civil(year: i64, month: u32, day: u32) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let shifted = i64::from((month + 9) % 12);
    let day_of_year = (153 * shifted + 2) / 5 + i64::from(day) - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

impl DateTime {
    /// Makes an instant in UTC.
    pub fn utc(seconds: i64, nanos: u32) -> Self {
        Self {
            seconds,
            nanos,
            offset: 0,
            zone: "UTC".to_owned(),
        }
    }

    /// Moves it to a named zone; `None` where there is no such zone.
    pub fn in_zone(&self, name: &str) -> Option<Self> {
        if matches!(name, "" | "UTC" | "Local") {
            return Some(Self::utc(self.seconds, self.nanos));
        }
        let zone = jiff::tz::TimeZoneDatabase::bundled().get(name).ok()?;
        let instant = jiff::Timestamp::from_second(self.seconds).ok()?;
        let info = zone.to_offset_info(instant);
        Some(Self {
            seconds: self.seconds,
            nanos: self.nanos,
            offset: info.offset().seconds(),
            zone: info.abbreviation().to_owned(),
        })
    }

    /// Adds nanoseconds.
    #[must_use]
    pub fn add(&self, nanos: i64) -> Self {
        let total = i128::from(self.seconds) * 1_000_000_000 + i128::from(self.nanos) + i128::from(nanos);
        Self {
            seconds: i64::try_from(total.div_euclid(1_000_000_000)).unwrap_or(i64::MAX),
            nanos: total.rem_euclid(1_000_000_000) as u32,
            ..self.clone()
        }
    }

    /// Gives the parts on the calendar of its zone.
    pub fn civil(&self) -> Civil {
        let local = self.seconds.saturating_add(i64::from(self.offset));
        let days = local.div_euclid(86_400);
        let second_of_day = local.rem_euclid(86_400) as u32;
        let shifted = days + 719_468;
        let era = shifted.div_euclid(146_097);
        let day_of_era = shifted.rem_euclid(146_097);
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_part = (5 * day_of_year + 2) / 153;
        let day = (day_of_year - (153 * month_part + 2) / 5 + 1) as u32;
        let month = if month_part < 10 {
            month_part + 3
        } else {
            month_part - 9
        } as u32;
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        Civil {
            year,
            month,
            day,
            hour: second_of_day / 3600,
            minute: second_of_day / 60 % 60,
            second: second_of_day % 60,
            weekday: (days + 4).rem_euclid(7) as u32,
            year_day: (days - days_from_civil(year, 1, 1) + 1) as u32,
        }
    }

    /// Writes it as RFC 3339 with what fraction there is.
    pub fn rfc3339(&self) -> String {
        self.format("2006-01-02T15:04:05.999999999Z07:00")
    }

    /// Writes it by one of Go's layouts.
    pub fn format(&self, layout: &str) -> String {
        let civil = self.civil();
        let mut out = String::new();
        let mut rest = layout;
        while !rest.is_empty() {
            let (element, length) = next_element(rest);
            match element {
                Some(element) => self.write_element(element, &rest[..length], &civil, &mut out),
                None => out.push_str(&rest[..length]),
            }
            rest = &rest[length..];
        }
        out
    }

    fn write_element(&self, element: Element, text: &str, civil: &Civil, out: &mut String) {
        let hour12 = if civil.hour.is_multiple_of(12) {
            12
        } else {
            civil.hour % 12
        };
        let offset = self.offset.unsigned_abs();
        let sign = if self.offset < 0 { '-' } else { '+' };
        // Writing to a String cannot fail.
        let result = match element {
            Element::LongMonth => out.write_str(MONTHS[civil.month as usize - 1]),
            Element::Month => out.write_str(&MONTHS[civil.month as usize - 1][..3]),
            Element::NumMonth => write!(out, "{}", civil.month),
            Element::ZeroMonth => write!(out, "{:02}", civil.month),
            Element::LongDay => out.write_str(DAYS[civil.weekday as usize]),
            Element::WeekDay => out.write_str(&DAYS[civil.weekday as usize][..3]),
            Element::Day => write!(out, "{}", civil.day),
            Element::UnderDay => write!(out, "{:2}", civil.day),
            Element::ZeroDay => write!(out, "{:02}", civil.day),
            Element::ZeroYearDay => write!(out, "{:03}", civil.year_day),
            Element::UnderYearDay => write!(out, "{:3}", civil.year_day),
            Element::Hour => write!(out, "{:02}", civil.hour),
            Element::Hour12 => write!(out, "{hour12}"),
            Element::ZeroHour12 => write!(out, "{hour12:02}"),
            Element::Minute => write!(out, "{}", civil.minute),
            Element::ZeroMinute => write!(out, "{:02}", civil.minute),
            Element::Second => write!(out, "{}", civil.second),
            Element::ZeroSecond => write!(out, "{:02}", civil.second),
            Element::LongYear => write!(out, "{:04}", civil.year),
            Element::Year => write!(out, "{:02}", civil.year.rem_euclid(100)),
            Element::Pm => out.write_str(if civil.hour >= 12 { "PM" } else { "AM" }),
            Element::LowerPm => out.write_str(if civil.hour >= 12 { "pm" } else { "am" }),
            Element::Zone => out.write_str(&self.zone),
            Element::Offset { .. } if text.starts_with('Z') && self.offset == 0 => out.write_str("Z"),
            Element::Offset {
                colon,
                minutes,
                seconds,
            } => {
                let colon = if colon { ":" } else { "" };
                write!(out, "{sign}{:02}", offset / 3600)
                    .and_then(|()| {
                        if minutes {
                            write!(out, "{colon}{:02}", offset / 60 % 60)
                        } else {
                            Ok(())
                        }
                    })
                    .and_then(|()| {
                        if seconds {
                            write!(out, "{colon}{:02}", offset % 60)
                        } else {
                            Ok(())
                        }
                    })
            }
            Element::Fraction { digits, trim } => {
                let digits_text = format!("{:09}", self.nanos);
                let digits_text = &digits_text[..digits.min(9)];
                let digits_text = if trim {
                    digits_text.trim_end_matches('0')
                } else {
                    digits_text
                };
                if digits_text.is_empty() {
                    Ok(())
                } else {
                    write!(out, "{}{digits_text}", &text[..1])
                }
            }
        };
        debug_assert!(result.is_ok());
    }

    /// Reads a text by one of Go's layouts.
    ///
    /// # Errors
    /// Go's words for what does not fit.
    pub fn parse(layout: &str, text: &str) -> Result<Self, String> {
        let fail = || {
            format!(
                "parsing time {} as {}: cannot parse {} as {}",
                super::go_quote(text.as_bytes()),
                super::go_quote(layout.as_bytes()),
                super::go_quote(text.as_bytes()),
                super::go_quote(layout.as_bytes())
            )
        };
        let (mut year, mut month, mut day, mut hour, mut minute, mut second, mut nanos) =
            (0i64, 1u32, 1u32, 0, 0, 0, 0);
        let (mut pm, mut offset, mut zone) = (None, 0i32, "UTC".to_owned());
        let mut rest = layout;
        let mut input = text;
        while !rest.is_empty() {
            let (element, length) = next_element(rest);
            let piece = &rest[..length];
            rest = &rest[length..];
            let Some(element) = element else {
                input = input.strip_prefix(piece).ok_or_else(fail)?;
                continue;
            };
            match element {
                Element::LongYear => year = i64::from(digits(&mut input, 4, 4).ok_or_else(fail)?),
                Element::Year => {
                    let short = i64::from(digits(&mut input, 2, 2).ok_or_else(fail)?);
                    year = if short >= 69 { short + 1900 } else { short + 2000 };
                }
                Element::NumMonth => month = digits(&mut input, 1, 2).ok_or_else(fail)?,
                Element::ZeroMonth => month = digits(&mut input, 2, 2).ok_or_else(fail)?,
                Element::LongMonth | Element::Month => {
                    let long = matches!(element, Element::LongMonth);
                    let found = MONTHS.iter().position(|name| {
                        let name = if long { name } else { &name[..3] };
                        input
                            .get(..name.len())
                            .is_some_and(|head| head.eq_ignore_ascii_case(name))
                    });
                    let index = found.ok_or_else(fail)?;
                    input = &input[if long { MONTHS[index].len() } else { 3 }..];
                    month = index as u32 + 1;
                }
                Element::LongDay | Element::WeekDay => {
                    let long = matches!(element, Element::LongDay);
                    let found = DAYS.iter().find(|name| {
                        let name = if long { name } else { &name[..3] };
                        input
                            .get(..name.len())
                            .is_some_and(|head| head.eq_ignore_ascii_case(name))
                    });
                    let name = found.ok_or_else(fail)?;
                    input = &input[if long { name.len() } else { 3 }..];
                }
                Element::Day | Element::UnderDay => {
                    input = input.trim_start_matches(' ');
                    day = digits(&mut input, 1, 2).ok_or_else(fail)?;
                }
                Element::ZeroDay => day = digits(&mut input, 2, 2).ok_or_else(fail)?,
                Element::Hour | Element::ZeroHour12 => hour = digits(&mut input, 2, 2).ok_or_else(fail)?,
                Element::Hour12 => hour = digits(&mut input, 1, 2).ok_or_else(fail)?,
                Element::Minute => minute = digits(&mut input, 1, 2).ok_or_else(fail)?,
                Element::ZeroMinute => minute = digits(&mut input, 2, 2).ok_or_else(fail)?,
                Element::Second | Element::ZeroSecond => {
                    second = digits(&mut input, 1, 2).ok_or_else(fail)?;
                    // A fraction may follow even where the layout has none.
                    if input.starts_with('.') && !rest.starts_with(['.', ',']) {
                        nanos = fraction(&mut input).ok_or_else(fail)?;
                    }
                }
                Element::Fraction { .. } => {
                    if input.starts_with(['.', ',']) {
                        nanos = fraction(&mut input).ok_or_else(fail)?;
                    }
                }
                Element::Pm | Element::LowerPm => {
                    let head = input.get(..2).ok_or_else(fail)?;
                    pm = Some(match head.to_ascii_uppercase().as_str() {
                        "PM" => true,
                        "AM" => false,
                        _ => return Err(fail()),
                    });
                    input = &input[2..];
                }
                Element::Zone => {
                    let length = input.bytes().take_while(u8::is_ascii_uppercase).count();
                    if length < 3 {
                        return Err(fail());
                    }
                    input[..length].clone_into(&mut zone);
                    input = &input[length..];
                }
                Element::Offset { colon, minutes, .. } => {
                    if piece.starts_with('Z') && input.starts_with('Z') {
                        input = &input[1..];
                        continue;
                    }
                    let sign = match input.as_bytes().first() {
                        Some(b'+') => 1,
                        Some(b'-') => -1,
                        _ => return Err(fail()),
                    };
                    input = &input[1..];
                    let mut total = digits(&mut input, 2, 2).ok_or_else(fail)? * 3600;
                    if minutes {
                        if colon {
                            input = input.strip_prefix(':').ok_or_else(fail)?;
                        }
                        total += digits(&mut input, 2, 2).ok_or_else(fail)? * 60;
                    }
                    offset = sign * total as i32;
                    zone = if offset == 0 { "UTC".to_owned() } else { String::new() };
                }
                Element::ZeroYearDay | Element::UnderYearDay => return Err(fail()),
            }
        }
        if !input.is_empty() {
            return Err(format!(
                "parsing time {}: extra text: {}",
                super::go_quote(text.as_bytes()),
                super::go_quote(input.as_bytes())
            ));
        }
        match pm {
            Some(true) if hour < 12 => hour += 12,
            Some(false) if hour == 12 => hour = 0,
            _ => {}
        }
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let longest = match month {
            2 => 28 + u32::from(leap),
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        if !(1..=12).contains(&month) || day < 1 || day > longest || hour > 23 || minute > 59 || second > 59 {
            return Err(format!(
                "parsing time {}: value out of range",
                super::go_quote(text.as_bytes())
            ));
        }
        let seconds = days_from_civil(year, month, day) * 86_400 + i64::from(hour * 3600 + minute * 60 + second);
        Ok(Self {
            seconds: seconds - i64::from(offset),
            nanos,
            offset,
            zone,
        })
    }
}

impl fmt::Display for DateTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.format("2006-01-02 15:04:05.999999999 -0700 MST"))
    }
}

fn digits(input: &mut &str, least: usize, most: usize) -> Option<u32> {
    let length = input.bytes().take(most).take_while(u8::is_ascii_digit).count();
    if length < least {
        return None;
    }
    let number = input[..length].parse().ok()?;
    *input = &input[length..];
    Some(number)
}

fn fraction(input: &mut &str) -> Option<u32> {
    let length = input[1..].bytes().take_while(u8::is_ascii_digit).count();
    let text = input.get(1..=length.min(9))?;
    let number = format!("{text:0<9}").parse().ok()?;
    *input = &input[length + 1..];
    Some(number)
}

#[derive(Clone, Copy)]
enum Element {
    LongMonth,
    Month,
    NumMonth,
    ZeroMonth,
    LongDay,
    WeekDay,
    Day,
    UnderDay,
    ZeroDay,
    ZeroYearDay,
    UnderYearDay,
    Hour,
    Hour12,
    ZeroHour12,
    Minute,
    ZeroMinute,
    Second,
    ZeroSecond,
    LongYear,
    Year,
    Pm,
    LowerPm,
    Zone,
    Offset { colon: bool, minutes: bool, seconds: bool },
    Fraction { digits: usize, trim: bool },
}

const fn offset(colon: bool, minutes: bool, seconds: bool) -> Element {
    Element::Offset {
        colon,
        minutes,
        seconds,
    }
}

/// The elements of a layout; longer ones before their prefixes.
const ELEMENTS: [(&str, Element); 36] = [
    ("January", Element::LongMonth),
    ("Jan", Element::Month),
    ("Monday", Element::LongDay),
    ("Mon", Element::WeekDay),
    ("MST", Element::Zone),
    ("002", Element::ZeroYearDay),
    ("01", Element::ZeroMonth),
    ("02", Element::ZeroDay),
    ("03", Element::ZeroHour12),
    ("04", Element::ZeroMinute),
    ("05", Element::ZeroSecond),
    ("06", Element::Year),
    ("15", Element::Hour),
    ("1", Element::NumMonth),
    ("2006", Element::LongYear),
    ("2", Element::Day),
    ("__2", Element::UnderYearDay),
    ("_2006", Element::LongYear),
    ("_2", Element::UnderDay),
    ("3", Element::Hour12),
    ("4", Element::Minute),
    ("5", Element::Second),
    ("PM", Element::Pm),
    ("pm", Element::LowerPm),
    ("-070000", offset(false, true, true)),
    ("-07:00:00", offset(true, true, true)),
    ("-0700", offset(false, true, false)),
    ("-07:00", offset(true, true, false)),
    ("-07", offset(false, false, false)),
    ("Z070000", offset(false, true, true)),
    ("Z07:00:00", offset(true, true, true)),
    ("Z0700", offset(false, true, false)),
    ("Z07:00", offset(true, true, false)),
    ("Z07", offset(false, false, false)),
    (".", Element::Fraction { digits: 0, trim: false }),
    (",", Element::Fraction { digits: 0, trim: false }),
];

/// Splits off the next element of a layout, or one character of plain text.
fn next_element(layout: &str) -> (Option<Element>, usize) {
    for (text, element) in ELEMENTS {
        if !layout.starts_with(text) {
            continue;
        }
        match element {
            Element::Fraction { .. } => {
                let bytes = layout.as_bytes();
                let kind = bytes.get(1).copied();
                if !matches!(kind, Some(b'0' | b'9')) {
                    break;
                }
                let length = bytes[1..].iter().take_while(|b| Some(**b) == kind).count();
                if bytes.get(length + 1).is_some_and(u8::is_ascii_digit) {
                    break;
                }
                return (
                    Some(Element::Fraction {
                        digits: length,
                        trim: kind == Some(b'9'),
                    }),
                    length + 1,
                );
            }
            // "_2006" is an underscore and a year.
            Element::LongYear if text.starts_with('_') => return (None, 1),
            // "Jan" must not begin a longer word such as "Janet".
            Element::Month | Element::WeekDay
                if layout.as_bytes().get(text.len()).is_some_and(u8::is_ascii_lowercase) =>
            {
                break;
            }
            _ => return (Some(element), text.len()),
        }
    }
    (None, layout.chars().next().map_or(1, char::len_utf8))
}

/// Writes nanoseconds as `time.Duration` does.
pub fn format_duration(nanos: i64) -> String {
    if nanos == 0 {
        return "0s".to_owned();
    }
    let sign = if nanos < 0 { "-" } else { "" };
    let size = nanos.unsigned_abs();
    let with_fraction = |unit: u64, name: &str| {
        let text = format!(
            "{}.{:0width$}",
            size / unit,
            size % unit,
            width = unit.ilog10() as usize
        );
        format!("{sign}{}{name}", text.trim_end_matches('0').trim_end_matches('.'))
    };
    if size < 1000 {
        return format!("{sign}{size}ns");
    }
    if size < 1_000_000 {
        return with_fraction(1000, "µs");
    }
    if size < 1_000_000_000 {
        return with_fraction(1_000_000, "ms");
    }
    let seconds = size / 1_000_000_000;
    let fraction = format!("{:09}", size % 1_000_000_000);
    let fraction = fraction.trim_end_matches('0');
    let point = if fraction.is_empty() { "" } else { "." };
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    let mut out = sign.to_owned();
    if hours > 0 {
        out.push_str(&format!("{hours}h"));
    }
    if seconds >= 60 {
        out.push_str(&format!("{minutes}m"));
    }
    out.push_str(&format!("{}{point}{fraction}s", seconds % 60));
    out
}

/// Reads a duration such as `1h30m`, in nanoseconds.
pub fn parse_duration(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Some(0);
    }
    let mut total = 0f64;
    while !rest.is_empty() {
        let length = rest.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
        let number: f64 = rest[..length].parse().ok()?;
        rest = &rest[length..];
        let length = rest
            .find(|c: char| c == '.' || c.is_ascii_digit())
            .unwrap_or(rest.len());
        let unit = match &rest[..length] {
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            _ => return None,
        };
        rest = &rest[length..];
        total += number * unit;
    }
    if text.len() == usize::from(negative || text.starts_with('+')) || total > i64::MAX as f64 {
        return None;
    }
    Some(if negative { -(total as i64) } else { total as i64 })
}
