//! Paths and addresses.

use super::arguments::{Outcome, map, string, text};
use crate::gotemplate::exec::Function;
use crate::value::{Entries, Str, Value};

pub(super) const FUNCTIONS: &[Function] = &[
    row!("base", "s", |_, a| string(base(&text(a, 0)))),
    row!("dir", "s", |_, a| string(dir(&text(a, 0)))),
    row!("clean", "s", |_, a| string(clean(&text(a, 0)))),
    row!("ext", "s", |_, a| string(ext(&text(a, 0)))),
    row!("isAbs", "s", |_, a| Ok(Value::Bool(text(a, 0).starts_with('/')))),
    row!("osBase", "s", |_, a| string(base(&text(a, 0)))),
    row!("osDir", "s", |_, a| string(dir(&text(a, 0)))),
    row!("osClean", "s", |_, a| string(clean(&text(a, 0)))),
    row!("osExt", "s", |_, a| string(ext(&text(a, 0)))),
    row!("osIsAbs", "s", |_, a| Ok(Value::Bool(text(a, 0).starts_with('/')))),
    row!("urlParse", "s", |_, a| url_parse(&text(a, 0))),
    row!("urlJoin", "m", |_, a| url_join(a)),
    row!("getHostByName", "s", |_, _| string("")),
];

/// Gives the last element of a path.
pub(crate) fn base(path: &str) -> String {
    if path.is_empty() {
        return ".".to_owned();
    }
    let trimmed = path.trim_end_matches('/');
    match trimmed.rsplit('/').next() {
        Some("") | None => "/".to_owned(),
        Some(last) => last.to_owned(),
    }
}

fn dir(path: &str) -> String {
    clean(&path[..path.rfind('/').map_or(0, |at| at + 1)])
}

fn ext(path: &str) -> String {
    let last = path.rsplit('/').next().unwrap_or(path);
    last.rfind('.').map_or(String::new(), |at| last[at..].to_owned())
}

/// Gives the shortest path that means the same.
pub(crate) fn clean(path: &str) -> String {
    let absolute = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if absolute => {}
            part => parts.push(part),
        }
    }
    match (absolute, parts.is_empty()) {
        (true, _) => format!("/{}", parts.join("/")),
        (false, true) => ".".to_owned(),
        (false, false) => parts.join("/"),
    }
}

fn url_parse(source: &str) -> Outcome {
    let (rest, fragment) = source.split_once('#').unwrap_or((source, ""));
    let scheme_length = rest
        .find(':')
        .filter(|at| {
            *at > 0
                && rest.starts_with(|c: char| c.is_ascii_alphabetic())
                && rest[..*at]
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
        })
        .unwrap_or(0);
    if rest.starts_with(':') {
        return Err(format!(
            "unable to parse url: parse {}: missing protocol scheme",
            crate::value::go_quote(source.as_bytes())
        )
        .into());
    }
    let scheme = rest[..scheme_length].to_ascii_lowercase();
    let rest = if scheme_length > 0 {
        &rest[scheme_length + 1..]
    } else {
        rest
    };
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (mut host, mut user, mut path, mut opaque) = ("", "", rest, "");
    if !scheme.is_empty() && !rest.starts_with('/') {
        (path, opaque) = ("", rest);
    } else if let Some(after) = rest.strip_prefix("//") {
        let end = after.find('/').unwrap_or(after.len());
        let authority = &after[..end];
        path = &after[end..];
        (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    }
    let hostname = match host.strip_prefix('[') {
        Some(inner) => inner.split(']').next().unwrap_or(inner),
        None => host.split(':').next().unwrap_or(host),
    };
    let entries: Entries = [
        ("scheme", scheme.as_str()),
        ("host", host),
        ("hostname", hostname),
        ("path", &unescape(path)),
        ("query", query),
        ("opaque", opaque),
        ("fragment", &unescape(fragment)),
        ("userinfo", user),
    ]
    .into_iter()
    .map(|(key, value)| (Str::from(key), Value::from(value)))
    .collect();
    Ok(Value::map(entries))
}

fn unescape(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::new();
    let mut i = 0;
    while i < bytes.len() {
        let code = (bytes[i] == b'%').then(|| text.get(i + 1..i + 3)).flatten();
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                i += 3;
            }
            None => {
                out.push(bytes[i]);
                i += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn escape_path(path: &str) -> String {
    let mut out = String::new();
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@!'()*".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

fn url_join(args: &[Value]) -> Outcome {
    let parts = map(args, 0);
    let part = |key: &str| -> Result<String, String> {
        match parts.get(key.as_bytes()) {
            None => Ok(String::new()),
            Some(Value::Str(text)) => Ok(text.text().into_owned()),
            Some(other) => Err(format!(
                "unable to parse {key} key, must be of type string, but {} found",
                other.kind()
            )),
        }
    };
    let (scheme, host, path, query) = (part("scheme")?, part("host")?, part("path")?, part("query")?);
    let (opaque, fragment, user) = (part("opaque")?, part("fragment")?, part("userinfo")?);
    let mut out = String::new();
    if !scheme.is_empty() {
        out.push_str(&format!("{scheme}:"));
    }
    if opaque.is_empty() {
        if !scheme.is_empty() || !host.is_empty() || !user.is_empty() {
            if !host.is_empty() || !path.is_empty() || !user.is_empty() {
                out.push_str("//");
            }
            if !user.is_empty() {
                out.push_str(&format!("{user}@"));
            }
            out.push_str(&host);
        }
        if !path.is_empty() && !path.starts_with('/') && !host.is_empty() {
            out.push('/');
        }
        out.push_str(&escape_path(&path));
    } else {
        out.push_str(&opaque);
    }
    if !query.is_empty() {
        out.push_str(&format!("?{query}"));
    }
    if !fragment.is_empty() {
        out.push_str(&format!("#{}", escape_path(&fragment)));
    }
    string(out)
}
