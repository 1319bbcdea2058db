//! Kubernetes' library of semantic versions.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use super::{Meter, Outcome, Row, no_overload};
use crate::value::Value;

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "semver",
        signatures: &["(string) -> semver", "(string, bool) -> semver"],
        run: semver,
    },
    Row {
        name: "isSemver",
        signatures: &["(string) -> bool", "(string, bool) -> bool"],
        run: is_semver,
    },
    Row {
        name: "major",
        signatures: &["semver.() -> int"],
        run: |args, _| number(args, |version| version.numbers[0]),
    },
    Row {
        name: "minor",
        signatures: &["semver.() -> int"],
        run: |args, _| number(args, |version| version.numbers[1]),
    },
    Row {
        name: "patch",
        signatures: &["semver.() -> int"],
        run: |args, _| number(args, |version| version.numbers[2]),
    },
];

/// A semantic version (semver.org, 2.0.0).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Semver {
    /// Major, minor, patch.
    numbers: [u64; 3],
    /// The identifiers behind `-`.
    pre: Vec<Pre>,
    /// What stands behind `+`.
    build: String,
}

/// An identifier of a pre-release: numbers come before words.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Pre {
    Number(u64),
    Word(String),
}

impl Semver {
    /// Reads a version.
    ///
    /// Errors: what is wrong with it, as Kubernetes' library words it.
    fn parse(text: &str) -> Result<Semver, String> {
        if text.is_empty() {
            return Err("Version string empty".to_owned());
        }
        let parts: Vec<&str> = text.splitn(3, '.').collect();
        let [major, minor, rest] = parts[..] else {
            return Err("No Major.Minor.Patch elements found".to_owned());
        };
        let (rest, build) = rest
            .split_once('+')
            .map_or((rest, None), |(rest, build)| (rest, Some(build)));
        let (patch, pre) = rest
            .split_once('-')
            .map_or((rest, None), |(patch, pre)| (patch, Some(pre)));
        let number = |name: &str, text: &str| {
            if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
                return Err(format!("Invalid character(s) found in {name} number {text:?}"));
            }
            if text.len() > 1 && text.starts_with('0') {
                return Err(format!("{name} number must not contain leading zeroes {text:?}"));
            }
            text.parse::<u64>()
                .map_err(|_| format!("{name} number {text:?} is out of range"))
        };
        let numbers = [
            number("major", major)?,
            number("minor", minor)?,
            number("patch", patch)?,
        ];
        let valid = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        let mut identifiers = Vec::new();
        for part in pre.into_iter().flat_map(|pre| pre.split('.')) {
            if !valid(part) {
                return Err(format!("Invalid character(s) found in prerelease {part:?}"));
            }
            identifiers.push(if part.bytes().all(|b| b.is_ascii_digit()) {
                Pre::Number(number("prerelease", part)?)
            } else {
                Pre::Word(part.to_owned())
            });
        }
        if let Some(part) = build
            .into_iter()
            .flat_map(|build| build.split('.'))
            .find(|part| !valid(part))
        {
            return Err(format!("Invalid character(s) found in build meta data {part:?}"));
        }
        Ok(Semver {
            numbers,
            pre: identifiers,
            build: build.unwrap_or_default().to_owned(),
        })
    }

    /// Reads what people write: with a `v`, without minor and patch, with leading zeros.
    fn parse_normalized(text: &str) -> Result<Semver, String> {
        let text = text.strip_prefix('v').unwrap_or(text);
        let mut parts: Vec<String> = text.splitn(3, '.').map(str::to_owned).collect();
        for part in &mut parts {
            if part.len() > 1 {
                let trimmed = part.trim_start_matches('0');
                let zero = if trimmed.starts_with(|c: char| c.is_ascii_digit()) {
                    ""
                } else {
                    "0"
                };
                *part = format!("{zero}{trimmed}");
            }
        }
        if parts.len() < 3 {
            if parts.last().is_some_and(|last| last.contains(['+', '-'])) {
                return Err("short version cannot contain PreRelease/Build meta data".to_owned());
            }
            parts.resize(3, "0".to_owned());
        }
        Semver::parse(&parts.join("."))
    }

    /// Compares as semver.org orders: what is built differently is the same version.
    pub(crate) fn precedence(&self, other: &Semver) -> Ordering {
        let released = self.pre.is_empty().cmp(&other.pre.is_empty());
        self.numbers
            .cmp(&other.numbers)
            .then(released)
            .then_with(|| self.pre.cmp(&other.pre))
    }
}

impl fmt::Display for Semver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [major, minor, patch] = self.numbers;
        write!(f, "{major}.{minor}.{patch}")?;
        for (index, part) in self.pre.iter().enumerate() {
            f.write_str(if index == 0 { "-" } else { "." })?;
            match part {
                Pre::Number(number) => write!(f, "{number}")?,
                Pre::Word(word) => f.write_str(word)?,
            }
        }
        if !self.build.is_empty() {
            write!(f, "+{}", self.build)?;
        }
        Ok(())
    }
}

fn parse(args: &[Value]) -> Option<Result<Semver, String>> {
    match args {
        [Value::String(text)] | [Value::String(text), Value::Bool(false)] => Some(Semver::parse(text)),
        [Value::String(text), Value::Bool(true)] => Some(Semver::parse_normalized(text)),
        _ => None,
    }
}

fn semver(args: &[Value], _: &mut Meter) -> Outcome {
    match parse(args) {
        Some(parsed) => Ok(Value::Semver(Arc::new(parsed?))),
        None => no_overload(),
    }
}

fn is_semver(args: &[Value], _: &mut Meter) -> Outcome {
    match parse(args) {
        Some(parsed) => Ok(Value::Bool(parsed.is_ok())),
        None => no_overload(),
    }
}

fn number(args: &[Value], pick: fn(&Semver) -> u64) -> Outcome {
    match args {
        [Value::Semver(version)] => Ok(Value::Int(i64::try_from(pick(version)).unwrap_or(i64::MAX))),
        _ => no_overload(),
    }
}
