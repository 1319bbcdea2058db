//! What is a schedule, and in which words it is told what is none.

use proptest::prelude::*;

use super::duration::parse_duration;
use super::*;

fn error(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

#[test]
fn schedules_that_kubernetes_takes_are_taken() {
    for good in [
        "* * * * *",
        "*/5 * * * *",
        "0 0 1 1 *",
        "0 12 * * MON-FRI",
        "0,30 8-18/2 ? JAN,dec 0",
        "5/15 * * * *",
        "@daily",
        "@every 1h30m",
        "TZ=Europe/Berlin 0 0 * * *",
        "  0 0 * * 6 ",
    ] {
        assert!(parse(good).is_ok(), "{good}: {:?}", parse(good));
    }
    let Schedule::Fields {
        minutes,
        hours,
        any_day,
        any_weekday,
        weekdays,
        ..
    } = parse("5/20 0 * * 1-5").unwrap()
    else {
        panic!("no fields");
    };
    assert_eq!((minutes, hours, weekdays), (1 << 5 | 1 << 25 | 1 << 45, 1, 0b11_1110));
    assert!(any_day && !any_weekday);
    assert_eq!(parse("@every 90s"), Ok(Schedule::Every { seconds: 90 }));
    assert_eq!(parse("@every 1ms"), Ok(Schedule::Every { seconds: 1 }));
    assert_eq!(parse("@weekly"), parse("0 0 * * 0"));
}

#[test]
fn what_is_no_schedule_is_refused_in_kubernetes_words() {
    for (text, expected) in [
        ("", "empty spec string"),
        ("error", "expected exactly 5 fields, found 1: [error]"),
        ("* * * *", "expected exactly 5 fields, found 4: [* * * *]"),
        ("60 * * * *", "end of range (60) above maximum (59): 60"),
        ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
        ("5-3 * * * *", "beginning of range (5) beyond end of range (3): 5-3"),
        ("*/0 * * * *", "step of range should be a positive number: */0"),
        ("1-2-3 * * * *", "too many hyphens: 1-2-3"),
        ("1/2/3 * * * *", "too many slashes: 1/2/3"),
        (
            "a * * * *",
            "failed to parse int from a: strconv.Atoi: parsing \"a\": invalid syntax",
        ),
        ("*/-1 * * * *", "negative number (-1) not allowed: -1"),
        (
            "99999999999999999999 * * * *",
            "failed to parse int from 99999999999999999999: strconv.Atoi: parsing \"99999999999999999999\": value out of range",
        ),
        ("@never", "unrecognized descriptor: @never"),
        (
            "@every x",
            "failed to parse duration @every x: time: invalid duration \"x\"",
        ),
        (
            "TZ=No/Where * * * * *",
            "provided bad location No/Where: unknown time zone No/Where",
        ),
    ] {
        assert_eq!(error(text), expected, "{text}");
    }
}

#[test]
fn durations_are_read_as_go_reads_them() {
    for (text, nanoseconds) in [
        ("0", 0),
        ("1s", 1_000_000_000),
        ("1h2m3.5s", 3_723_500_000_000),
        ("-1.5ms", -1_500_000),
        (".5s", 500_000_000),
        ("3µs", 3_000),
    ] {
        assert_eq!(parse_duration(text), Ok(Duration { nanoseconds }), "{text}");
    }
    assert_eq!(parse_duration("5").unwrap_err(), "time: missing unit in duration \"5\"");
    assert_eq!(
        parse_duration("5d").unwrap_err(),
        "time: unknown unit \"d\" in duration \"5d\""
    );
    assert!(parse_duration("9999999h").is_err());
}

#[test]
fn time_zones_are_those_of_the_database_in_their_own_case() {
    for zone in ["UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires", "Etc/GMT+5"] {
        assert!(is_time_zone(zone), "{zone}");
    }
    for zone in ["europe/berlin", "Nowhere", "Europe/"] {
        assert!(!is_time_zone(zone), "{zone}");
    }
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC{0,40}", fields in "[0-9*?,/@a-zA-Z -]{0,40}") {
        drop(parse(&text));
        drop(parse(&fields));
        drop(parse(&format!("@every {text}")));
    }
}
