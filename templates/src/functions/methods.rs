//! The methods of what the host hands in: `.Files`, `.Capabilities.APIVersions`, times and versions.

use base64::Engine as _;

use super::arguments::{Outcome, bytes, int, string, text};
use crate::gotemplate::builtin::Method;
use crate::value::{Entries, ListKind, Map, MapKind, Str, Value};

/// Finds the method of a value.
pub(crate) fn find(receiver: &Value, name: &str) -> Option<Method> {
    match receiver {
        Value::Map(map) if map.kind == MapKind::Files => match name {
            "Get" => Some(("s", |_, files, args| {
                Ok(file(files, bytes(args, 0)).map_or_else(|| Value::from(""), Value::Str))
            })),
            "GetBytes" => Some(("s", |_, files, args| {
                Ok(Value::Bytes(
                    file(files, bytes(args, 0)).unwrap_or_else(|| Str::from("")),
                ))
            })),
            "Glob" => Some(("s", |_, files, args| Ok(glob(files, &text(args, 0))))),
            "Lines" => Some(("s", |_, files, args| Ok(lines(files, bytes(args, 0))))),
            "AsConfig" => Some(("", |_, files, _| by_base(files, |data| data.text().into_owned()))),
            "AsSecrets" => Some(("", |_, files, _| {
                by_base(files, |data| base64::engine::general_purpose::STANDARD.encode(&**data))
            })),
            _ => None,
        },
        Value::Map(map) if map.kind == MapKind::Values => match name {
            "AsMap" => Some(("", |_, values, _| match values {
                Value::Map(map) => Ok(Value::Map(map.as_kind(MapKind::Any))),
                other => Ok(other.clone()),
            })),
            "YAML" => Some(("", |_, values, _| string(crate::yaml::write(values)?))),
            _ => None,
        },
        Value::List(list) if list.kind == ListKind::Versions && name == "Has" => Some(("s", |_, versions, args| {
            let Value::List(list) = versions else {
                return Ok(Value::Bool(false));
            };
            let wanted = bytes(args, 0);
            Ok(Value::Bool(
                list.items
                    .iter()
                    .any(|item| matches!(item, Value::Str(text) if &**text == wanted)),
            ))
        })),
        Value::Time(_) => time(name),
        Value::Object(object) if object.type_name == "*semver.Version" => match name {
            "Compare" => Some(("a", |_, version, args| Ok(Value::int(compare(version, &args[0])?)))),
            "GreaterThan" => Some(("a", |_, version, args| Ok(Value::Bool(compare(version, &args[0])? > 0)))),
            "LessThan" => Some(("a", |_, version, args| Ok(Value::Bool(compare(version, &args[0])? < 0)))),
            "Equal" => Some(("a", |_, version, args| {
                Ok(Value::Bool(compare(version, &args[0])? == 0))
            })),
            _ => None,
        },
        _ => None,
    }
}

fn compare(a: &Value, b: &Value) -> Result<i64, crate::gotemplate::exec::Failure> {
    let version = |value: &Value| super::Version::parse(&crate::value::string_value(value).text());
    Ok(version(a)?.partial_cmp(&version(b)?).map_or(0, |order| order as i64))
}

fn time(name: &str) -> Option<Method> {
    fn with(value: &Value, read: impl Fn(&crate::value::DateTime) -> Value) -> Outcome {
        match value {
            Value::Time(time) => Ok(read(time)),
            _ => Ok(Value::Nil),
        }
    }
    Some(match name {
        "Format" => ("s", |_, time, args| {
            with(time, |time| Value::from(time.format(&text(args, 0))))
        }),
        "Unix" => ("", |_, time, _| with(time, |time| Value::int64(time.seconds))),
        "UnixNano" => ("", |_, time, _| {
            with(time, |time| {
                Value::int64(
                    time.seconds
                        .wrapping_mul(1_000_000_000)
                        .wrapping_add(i64::from(time.nanos)),
                )
            })
        }),
        "UnixMilli" => ("", |_, time, _| {
            with(time, |time| {
                Value::int64(
                    time.seconds
                        .wrapping_mul(1000)
                        .wrapping_add(i64::from(time.nanos / 1_000_000)),
                )
            })
        }),
        "Year" => ("", |_, time, _| with(time, |time| Value::int(time.civil().year))),
        "Month" => ("", |_, time, _| {
            with(time, |time| {
                Value::Int(crate::value::IntKind::Month, i64::from(time.civil().month))
            })
        }),
        "Day" => ("", |_, time, _| {
            with(time, |time| Value::int(i64::from(time.civil().day)))
        }),
        "Hour" => ("", |_, time, _| {
            with(time, |time| Value::int(i64::from(time.civil().hour)))
        }),
        "Minute" => ("", |_, time, _| {
            with(time, |time| Value::int(i64::from(time.civil().minute)))
        }),
        "Second" => ("", |_, time, _| {
            with(time, |time| Value::int(i64::from(time.civil().second)))
        }),
        "YearDay" => ("", |_, time, _| {
            with(time, |time| Value::int(i64::from(time.civil().year_day)))
        }),
        "UTC" => ("", |_, time, _| {
            with(time, |time| {
                Value::Time(std::rc::Rc::new(crate::value::DateTime::utc(time.seconds, time.nanos)))
            })
        }),
        "String" => ("", |_, time, _| with(time, |time| Value::from(time.to_string()))),
        "AddDate" => ("iii", |_, time, args| {
            with(time, |time| {
                let civil = time.civil();
                let days = int(args, 2)
                    .saturating_add(int(args, 1).saturating_mul(30))
                    .saturating_add(int(args, 0) * 365);
                let moved = crate::value::DateTime {
                    seconds: time.seconds.saturating_add(days * 86_400),
                    ..time.clone()
                };
                if int(args, 0) == 0 && int(args, 1) == 0 {
                    return Value::Time(std::rc::Rc::new(moved));
                }
                let text = format!(
                    "{:04}-{:02}-01T{:02}:{:02}:{:02}Z",
                    civil.year + int(args, 0) + (i64::from(civil.month) - 1 + int(args, 1)).div_euclid(12),
                    (i64::from(civil.month) - 1 + int(args, 1)).rem_euclid(12) + 1,
                    civil.hour,
                    civil.minute,
                    civil.second
                );
                let first = crate::value::DateTime::parse("2006-01-02T15:04:05Z07:00", &text).unwrap_or(moved);
                let days = i64::from(civil.day) - 1 + int(args, 2);
                Value::Time(std::rc::Rc::new(crate::value::DateTime {
                    seconds: first.seconds - i64::from(time.offset) + days * 86_400,
                    nanos: time.nanos,
                    offset: time.offset,
                    zone: time.zone.clone(),
                }))
            })
        }),
        _ => return None,
    })
}

fn file(files: &Value, name: &[u8]) -> Option<Str> {
    match files {
        Value::Map(map) => match map.get(name) {
            Some(Value::Bytes(data)) => Some(data),
            _ => None,
        },
        _ => None,
    }
}

fn glob(files: &Value, pattern: &str) -> Value {
    let Value::Map(map) = files else { return Value::Nil };
    let pattern = crate::chart::glob_regex(pattern);
    let mut entries = map.entries();
    entries.retain(|name, _| pattern.as_ref().is_none_or(|pattern| pattern.is_match(&name.text())));
    Value::Map(Map::with_kind(MapKind::Files, entries))
}

fn lines(files: &Value, name: &[u8]) -> Value {
    let Some(data) = file(files, name).filter(|data| !data.is_empty()) else {
        return Value::strings(Vec::<Vec<u8>>::new());
    };
    let data = data.strip_suffix(b"\n").unwrap_or(&data);
    Value::strings(data.split(|b| *b == b'\n').map(<[u8]>::to_vec))
}

fn by_base(files: &Value, write: impl Fn(&Str) -> String) -> Outcome {
    let Value::Map(map) = files else { return string("") };
    let mut entries = Entries::new();
    for (name, data) in map.entries() {
        if let Value::Bytes(data) = data {
            entries.insert(Str::from(super::paths::base(&name.text())), Value::from(write(&data)));
        }
    }
    let written = crate::yaml::write(&Value::Map(Map::with_kind(MapKind::Strings, entries)))?;
    string(written.strip_suffix('\n').unwrap_or(&written))
}
