//! Versions and constraints as `Masterminds/semver` reads them.

use std::cmp::Ordering;
use std::fmt;
use std::rc::Rc;

use super::arguments::text;
use crate::gotemplate::exec::{Failure, Function};
use crate::value::{Object, Value};

pub(super) const FUNCTIONS: &[Function] = &[
    row!("semver", "s", |_, a| Ok(object(&Version::parse(&text(a, 0))?))),
    row!("semverCompare", "ss", |_, a| {
        let constraint = Constraint::parse(&text(a, 0))?;
        Ok(Value::Bool(constraint.check(&Version::parse(&text(a, 1))?)))
    }),
];

/// A semantic version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// The first three numbers.
    pub numbers: [u64; 3],
    /// What follows `-`.
    pub pre: String,
    /// What follows `+`.
    pub metadata: String,
    original: String,
}

fn identifiers_fit(text: &str) -> bool {
    text.split('.')
        .all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'))
}

impl Version {
    /// Reads a version; minor and patch may be left out.
    ///
    /// # Errors
    /// Go's words for what is no version.
    pub fn parse(original: &str) -> Result<Self, Failure> {
        let invalid = || Failure::new("invalid semantic version");
        let rest = original.strip_prefix('v').unwrap_or(original);
        let (rest, metadata) = rest
            .split_once('+')
            .map_or((rest, ""), |(rest, metadata)| (rest, metadata));
        let (core, pre) = rest.split_once('-').map_or((rest, ""), |(core, pre)| (core, pre));
        if (!metadata.is_empty() && !identifiers_fit(metadata)) || (!pre.is_empty() && !identifiers_fit(pre)) {
            return Err(invalid());
        }
        if original.ends_with('+') || rest.ends_with('-') {
            return Err(invalid());
        }
        let parts: Vec<&str> = core.split('.').collect();
        if parts.len() > 3 {
            return Err(invalid());
        }
        let mut numbers = [0; 3];
        for (index, part) in parts.iter().enumerate() {
            if part.is_empty() || !part.bytes().all(|b| b.is_ascii_digit()) {
                return Err(invalid());
            }
            numbers[index] = part.parse().map_err(|_| invalid())?;
        }
        Ok(Self {
            numbers,
            pre: pre.to_owned(),
            metadata: metadata.to_owned(),
            original: original.to_owned(),
        })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [major, minor, patch] = self.numbers;
        write!(f, "{major}.{minor}.{patch}")?;
        if !self.pre.is_empty() {
            write!(f, "-{}", self.pre)?;
        }
        if !self.metadata.is_empty() {
            write!(f, "+{}", self.metadata)?;
        }
        Ok(())
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(
            self.numbers
                .cmp(&other.numbers)
                .then_with(|| compare_pre(&self.pre, &other.pre)),
        )
    }
}

fn compare_pre(a: &str, b: &str) -> Ordering {
    match (a.is_empty(), b.is_empty()) {
        (true, true) => return Ordering::Equal,
        (true, false) => return Ordering::Greater,
        (false, true) => return Ordering::Less,
        (false, false) => {}
    }
    let (mut a, mut b) = (a.split('.'), b.split('.'));
    loop {
        let order = match (a.next(), b.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some(a), Some(b)) => match (a.parse::<u64>(), b.parse::<u64>()) {
                (Ok(a), Ok(b)) => a.cmp(&b),
                (Ok(_), Err(_)) => Ordering::Less,
                (Err(_), Ok(_)) => Ordering::Greater,
                (Err(_), Err(_)) => a.cmp(b),
            },
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}

/// Makes the struct that templates see.
fn object(version: &Version) -> Value {
    let [major, minor, patch] = version.numbers;
    let number = |value: u64| Value::int(i64::try_from(value).unwrap_or(i64::MAX));
    Value::Object(Rc::new(Object {
        type_name: "*semver.Version",
        fields: Vec::new(),
        methods: vec![
            ("Major", number(major)),
            ("Minor", number(minor)),
            ("Patch", number(patch)),
            ("Prerelease", Value::from(version.pre.as_str())),
            ("Metadata", Value::from(version.metadata.as_str())),
            ("Original", Value::from(version.original.as_str())),
            ("String", Value::from(version.to_string())),
        ],
        text: Some(version.to_string()),
    }))
}

#[derive(Clone, Debug)]
struct Comparison {
    operator: String,
    version: Version,
    minor_dirty: bool,
    patch_dirty: bool,
    dirty: bool,
}

/// A constraint such as `>=1.2 <2 || ^3`.
#[derive(Clone, Debug)]
pub struct Constraint {
    alternatives: Vec<Vec<Comparison>>,
}

impl Constraint {
    /// Reads a constraint.
    ///
    /// # Errors
    /// Go's words for what is no constraint.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let text = rewrite_ranges(text);
        let mut alternatives = Vec::new();
        for alternative in text.split("||") {
            let improper = || Failure::new(format!("improper constraint: {}", alternative));
            let mut comparisons = Vec::new();
            let mut rest = alternative.trim();
            if rest.is_empty() {
                return Err(improper());
            }
            while !rest.is_empty() {
                rest = rest.trim_start_matches([' ', ',']);
                if rest.is_empty() {
                    break;
                }
                let length = rest.find(|c| !"=!<>~^".contains(c)).unwrap_or(rest.len());
                let operator = &rest[..length];
                if !matches!(
                    operator,
                    "" | "=" | "!=" | ">" | "<" | ">=" | "=>" | "<=" | "=<" | "~" | "~>" | "^"
                ) {
                    return Err(improper());
                }
                rest = rest[length..].trim_start();
                let end = rest.find([' ', ',']).unwrap_or(rest.len());
                comparisons.push(Comparison::parse(operator, &rest[..end]).ok_or_else(improper)?);
                rest = &rest[end..];
            }
            alternatives.push(comparisons);
        }
        Ok(Self { alternatives })
    }

    /// Says whether the version satisfies it.
    pub fn check(&self, version: &Version) -> bool {
        self.alternatives.iter().any(|comparisons| {
            let pre_allowed = comparisons.iter().any(|c| !c.version.pre.is_empty());
            comparisons
                .iter()
                .all(|comparison| comparison.check(version, pre_allowed))
        })
    }
}

/// Rewrites `1.2 - 3.4` as `>=1.2 <=3.4`.
fn rewrite_ranges(text: &str) -> String {
    text.split("||")
        .map(|part| match part.split_once(" - ") {
            Some((low, high)) => format!(">={} <={}", low.trim(), high.trim()),
            None => part.to_owned(),
        })
        .collect::<Vec<_>>()
        .join("||")
}

impl Comparison {
    fn parse(operator: &str, text: &str) -> Option<Self> {
        let plain = text.strip_prefix('v').unwrap_or(text);
        let (core, suffix) = match plain.find(['-', '+']) {
            Some(at) => plain.split_at(at),
            None => (plain, ""),
        };
        let parts: Vec<&str> = core.split('.').collect();
        let wild = |part: Option<&&str>| part.is_none_or(|part| matches!(*part, "x" | "X" | "*"));
        let (mut minor_dirty, mut patch_dirty, mut dirty) = (false, false, false);
        let version = if wild(parts.first()) {
            dirty = true;
            minor_dirty = true;
            "0.0.0".to_owned()
        } else if wild(parts.get(1)) {
            minor_dirty = true;
            dirty = true;
            format!("{}.0.0{suffix}", parts[0])
        } else if wild(parts.get(2)) {
            patch_dirty = true;
            dirty = true;
            format!("{}.{}.0{suffix}", parts[0], parts[1])
        } else {
            plain.to_owned()
        };
        Some(Self {
            operator: operator.to_owned(),
            version: Version::parse(&version).ok()?,
            minor_dirty,
            patch_dirty,
            dirty,
        })
    }

    fn check(&self, version: &Version, pre_allowed: bool) -> bool {
        // A pre-release only fits where the constraint names one.
        if !version.pre.is_empty() && self.version.pre.is_empty() && !pre_allowed {
            return false;
        }
        let order = version.partial_cmp(&self.version).unwrap_or(Ordering::Equal);
        let [major, minor, _] = version.numbers;
        let [own_major, own_minor, own_patch] = self.version.numbers;
        match self.operator.as_str() {
            "" | "=" if self.dirty => self.tilde(version, order),
            "" | "=" => order == Ordering::Equal,
            "!=" if self.dirty => {
                if own_major != major {
                    return true;
                }
                if own_minor != minor && !self.minor_dirty {
                    return true;
                }
                if self.minor_dirty {
                    return false;
                }
                version.numbers[2] != own_patch && !self.patch_dirty
            }
            "!=" => order != Ordering::Equal,
            ">" if !self.dirty => order == Ordering::Greater,
            ">" if major != own_major => major > own_major,
            ">" if self.minor_dirty => false,
            ">" => minor > own_minor,
            "<" => order == Ordering::Less,
            ">=" | "=>" => order != Ordering::Less,
            "<=" | "=<" if !self.dirty => order != Ordering::Greater,
            "<=" | "=<" => major < own_major || major == own_major && (self.minor_dirty || minor <= own_minor),
            "~" | "~>" => self.tilde(version, order),
            _ => {
                if order == Ordering::Less {
                    return false;
                }
                if own_major > 0 || self.minor_dirty {
                    return major == own_major;
                }
                if major != 0 {
                    return false;
                }
                if own_minor > 0 || self.patch_dirty {
                    return minor == own_minor;
                }
                minor == 0 && version.numbers[2] == own_patch
            }
        }
    }

    fn tilde(&self, version: &Version, order: Ordering) -> bool {
        if order == Ordering::Less {
            return false;
        }
        let [own_major, own_minor, own_patch] = self.version.numbers;
        if [own_major, own_minor, own_patch] == [0, 0, 0] && !self.minor_dirty && !self.patch_dirty {
            return true;
        }
        if [own_major, own_minor, own_patch] == [0, 0, 0] && self.minor_dirty && !self.patch_dirty && self.dirty {
            // "*" and "0" look alike here; both accept what is not less where the major fits or is wild.
            return true;
        }
        version.numbers[0] == own_major && (self.minor_dirty || version.numbers[1] == own_minor)
    }
}
