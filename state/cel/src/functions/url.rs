//! Kubernetes' library of URLs, which reads them as Go's `net/url` does.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::{Meter, Outcome, Row, no_overload};
use crate::value::{Key, Value};

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "url",
        signatures: &["(string) -> url"],
        run: url,
    },
    Row {
        name: "isURL",
        signatures: &["(string) -> bool"],
        run: is_url,
    },
    Row {
        name: "getScheme",
        signatures: &["url.() -> string"],
        run: |args, meter| part(args, meter, |url| url.scheme.clone()),
    },
    Row {
        name: "getHost",
        signatures: &["url.() -> string"],
        run: |args, meter| part(args, meter, |url| url.host.clone()),
    },
    Row {
        name: "getHostname",
        signatures: &["url.() -> string"],
        run: |args, meter| part(args, meter, |url| url.host_and_port().0.to_owned()),
    },
    Row {
        name: "getPort",
        signatures: &["url.() -> string"],
        run: |args, meter| part(args, meter, |url| url.host_and_port().1.to_owned()),
    },
    Row {
        name: "getEscapedPath",
        signatures: &["url.() -> string"],
        run: |args, meter| part(args, meter, |url| escape_path(&url.path)),
    },
    Row {
        name: "getQuery",
        signatures: &["url.() -> map(string, list(string))"],
        run: query,
    },
];

/// A URL, or an absolute path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    source: String,
    scheme: String,
    host: String,
    path: String,
    query: String,
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

impl Url {
    /// Reads an absolute URL or path.
    ///
    /// Errors: what is wrong with it, as Go says it.
    pub(crate) fn parse(source: &str) -> Result<Url, String> {
        let failed = |why: String| format!("parse {source:?}: {why}");
        if source.is_empty() {
            return Err(failed("empty url".to_owned()));
        }
        if source.bytes().any(|b| b < 0x20 || b == 0x7f) {
            return Err(failed("net/url: invalid control character in URL".to_owned()));
        }
        let (scheme, rest) = split_scheme(source).map_err(|why| failed(why.to_owned()))?;
        let (rest, _fragment) = rest
            .split_once('#')
            .map_or((rest, ""), |(rest, fragment)| (rest, fragment));
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let mut url = Url {
            source: source.to_owned(),
            scheme: scheme.to_ascii_lowercase(),
            host: String::new(),
            path: String::new(),
            query: query.to_owned(),
        };
        if !rest.starts_with('/') {
            return if scheme.is_empty() {
                Err(failed("invalid URI for request".to_owned()))
            } else {
                Ok(url)
            };
        }
        let mut path = rest;
        if let Some(after) = rest.strip_prefix("//").filter(|_| !scheme.is_empty()) {
            let end = after.find('/').unwrap_or(after.len());
            path = &after[end..];
            let authority = &after[..end];
            let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
            url.host = check_host(host).map_err(failed)?;
        }
        check_escapes(path).map_err(failed)?;
        path.clone_into(&mut url.path);
        Ok(url)
    }

    fn host_and_port(&self) -> (&str, &str) {
        let (host, port) = match self.host.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !host.is_empty() => (host, port),
            _ => (&*self.host, ""),
        };
        (
            host.strip_prefix('[')
                .and_then(|host| host.strip_suffix(']'))
                .unwrap_or(host),
            port,
        )
    }
}

fn split_scheme(source: &str) -> Result<(&str, &str), &'static str> {
    for (at, c) in source.char_indices() {
        match c {
            'a'..='z' | 'A'..='Z' => {}
            '0'..='9' | '+' | '-' | '.' if at > 0 => {}
            ':' if at == 0 => return Err("missing protocol scheme"),
            ':' => return Ok((&source[..at], &source[at + 1..])),
            _ => break,
        }
    }
    Ok(("", source))
}

fn check_host(host: &str) -> Result<String, String> {
    let (name, port) = if host.starts_with('[') {
        let end = host.rfind(']').ok_or("missing ']' in host")?;
        (&host[..=end], &host[end + 1..])
    } else {
        host.rfind(':').map_or((host, ""), |at| host.split_at(at))
    };
    let digits = port.strip_prefix(':').unwrap_or(port);
    if (!port.is_empty() && !port.starts_with(':')) || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(format!("invalid port {port:?} after host"));
    }
    let wrong = |c: char| matches!(c, ' ' | '"' | '<' | '>' | '\\' | '^' | '`' | '{' | '|' | '}');
    if let Some(c) = name.chars().find(|c| wrong(*c)) {
        return Err(format!("invalid character {:?} in host name", c.to_string()));
    }
    check_escapes(name)?;
    Ok(host.to_owned())
}

fn check_escapes(text: &str) -> Result<(), String> {
    let bytes = text.as_bytes();
    for (at, _) in text.match_indices('%') {
        let fits = bytes
            .get(at + 1..at + 3)
            .is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        if !fits {
            let shown: String = text[at..].chars().take(3).collect();
            return Err(format!("invalid URL escape {shown:?}"));
        }
    }
    Ok(())
}

/// Escapes what may not stand in a path; escapes that are there stay.
fn escape_path(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        let plain = byte.is_ascii_alphanumeric() || b"-_.~!$&'()*+,;=:@/%[]".contains(&byte);
        if plain {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

fn decode(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let (mut out, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'+' => out.push(b' '),
            b'%' => {
                let digits = bytes
                    .get(at + 1..at + 3)
                    .and_then(|digits| std::str::from_utf8(digits).ok())?;
                out.push(u8::from_str_radix(digits, 16).ok()?);
                at += 2;
            }
            other => out.push(*other),
        }
        at += 1;
    }
    Some(String::from_utf8_lossy(&out).into_owned())
}

fn url(args: &[Value], meter: &mut Meter) -> Outcome {
    match args {
        [Value::String(text)] => {
            meter.work(text.len())?;
            let parsed = Url::parse(text);
            let failed = |why| format!("URL parse error during conversion from string: {why}");
            Ok(Value::Url(Arc::new(parsed.map_err(failed)?)))
        }
        _ => no_overload(),
    }
}

fn is_url(args: &[Value], _: &mut Meter) -> Outcome {
    match args {
        [Value::String(text)] => Ok(Value::Bool(Url::parse(text).is_ok())),
        _ => no_overload(),
    }
}

fn part(args: &[Value], meter: &mut Meter, pick: fn(&Url) -> String) -> Outcome {
    let [Value::Url(url)] = args else { return no_overload() };
    meter.work(url.scheme.len() + url.host.len() + url.path.len())?;
    Ok(Value::from(pick(url)))
}

fn query(args: &[Value], meter: &mut Meter) -> Outcome {
    let [Value::Url(url)] = args else { return no_overload() };
    meter.work(url.query.len().saturating_mul(2))?;
    let mut found: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for pair in url
        .query
        .split('&')
        .filter(|pair| !pair.is_empty() && !pair.contains(';'))
    {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if let (Some(key), Some(value)) = (decode(key), decode(value)) {
            found.entry(key).or_default().push(Value::from(value));
        }
    }
    let entries = found
        .into_iter()
        .map(|(key, values)| (Key::String(key.into()), Value::list(values)));
    Ok(Value::map(entries.collect()))
}
