//! The formats of strings, as far as they are checked.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use base64::Engine as _;

/// The formats that are checked; a value of any other format is taken as it is.
pub(crate) const KNOWN: &[&str] = &[
    "byte",
    "cidr",
    "date",
    "date-time",
    "datetime",
    "duration",
    "email",
    "hostname",
    "ipv4",
    "ipv6",
    "mac",
    "uri",
    "uuid",
    "uuid3",
    "uuid4",
    "uuid5",
];

/// Returns whether a text has a format.
pub(crate) fn matches(format: &str, text: &str) -> bool {
    match format {
        "byte" => base64::engine::general_purpose::STANDARD.decode(text).is_ok(),
        "cidr" => text.split_once('/').is_some_and(|(address, bits)| {
            address.parse::<IpAddr>().is_ok_and(|ip| {
                bits.parse::<u8>()
                    .is_ok_and(|bits| bits <= if ip.is_ipv4() { 32 } else { 128 })
            })
        }),
        "date" => text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok(),
        "date-time" | "datetime" => is_date_time(text),
        "duration" => is_duration(text),
        "email" => text
            .split_once('@')
            .is_some_and(|(user, host)| !user.is_empty() && !host.is_empty() && !text.contains(char::is_whitespace)),
        "hostname" => is_hostname(text),
        "ipv4" => text.parse::<Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<Ipv6Addr>().is_ok(),
        "mac" => is_mac(text),
        "uri" => text.starts_with('/') || is_absolute_uri(text),
        "uuid" | "uuid3" | "uuid4" | "uuid5" => is_uuid(format, text),
        _ => true,
    }
}

/// Returns whether a text is a date and time as RFC 3339 writes it.
pub(crate) fn is_date_time(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() >= 20 && matches!(bytes[10], b'T' | b't') && text.parse::<jiff::Timestamp>().is_ok()
}

/// Returns what of a text is no time with six digits of fraction, and what should stand there instead; nothing for one that
/// is.
pub(crate) fn micro_time_fault(text: &str) -> Option<(&str, &'static str)> {
    if !is_date_time(text) {
        return Some((text, "2006"));
    }
    // 2006-01-02T15:04:05 and what follows it.
    let rest = text.get(19..)?;
    let digits = rest
        .strip_prefix('.')
        .map_or(0, |fraction| fraction.bytes().take_while(u8::is_ascii_digit).count());
    match digits {
        6 => None,
        0..6 => Some((rest, ".000000")),
        _ => rest.get(7..).map(|rest| (rest, "Z07:00")),
    }
}

/// Returns the offset of the first byte that makes a text no base64, or nothing.
pub(crate) fn base64_fault(text: &str) -> Option<usize> {
    match base64::engine::general_purpose::STANDARD.decode(text) {
        Ok(_) => None,
        Err(base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _)) => Some(at),
        Err(_) => Some(text.len()),
    }
}

fn is_duration(text: &str) -> bool {
    let rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    if rest == "0" {
        return true;
    }
    let mut rest = rest;
    if rest.is_empty() {
        return false;
    }
    while !rest.is_empty() {
        let number = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        if number == 0 || rest[..number].parse::<f64>().is_err() {
            return false;
        }
        rest = rest[number..].trim_start_matches(' ');
        let unit = rest
            .find(|c: char| c.is_ascii_digit() || c == '.' || c == ' ')
            .unwrap_or(rest.len());
        if !["ns", "us", "µs", "ms", "s", "m", "h", "d", "w"].contains(&&rest[..unit]) {
            return false;
        }
        rest = rest[unit..].trim_start_matches(' ');
    }
    true
}

fn is_hostname(text: &str) -> bool {
    text.len() <= 255
        && text.trim_end_matches('.').split('.').all(|label| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        })
}

fn is_mac(text: &str) -> bool {
    let parts: Vec<&str> = text.split([':', '-']).collect();
    matches!(parts.len(), 6 | 8 | 20)
        && parts
            .iter()
            .all(|part| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit()))
}

fn is_absolute_uri(text: &str) -> bool {
    text.split_once(':').is_some_and(|(scheme, rest)| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
            && !rest.contains(|c: char| c.is_whitespace() || c.is_control())
    })
}

fn is_uuid(format: &str, text: &str) -> bool {
    let hex: String = text.chars().filter(|c| *c != '-').collect();
    let dashes_fit = text.len() == 32
        || (text.len() == 36 && [8, 13, 18, 23].iter().all(|at| text.as_bytes()[*at] == b'-') && hex.len() == 32);
    let version_fits = match format {
        "uuid3" => hex.as_bytes().get(12) == Some(&b'3'),
        "uuid4" => hex.as_bytes().get(12) == Some(&b'4'),
        "uuid5" => hex.as_bytes().get(12) == Some(&b'5'),
        _ => true,
    };
    dashes_fit && hex.len() == 32 && hex.bytes().all(|b| b.is_ascii_hexdigit()) && version_fits
}
