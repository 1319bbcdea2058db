//! Regular expressions with Go's syntax.

use super::arguments::{bytes, int, string};
use crate::gotemplate::exec::{Exec, Failure, Function};
use crate::value::{List, ListKind, Str, Value};
use regex::bytes::{Regex, RegexBuilder};
use std::collections::HashMap;
use std::rc::Rc;

pub(super) const FUNCTIONS: &[Function] = &[
    row!("regexMatch", "ss", |exec, a| Ok(Value::Bool(
        compiled(exec, bytes(a, 0))?.is_some_and(|r| r.is_match(bytes(a, 1)))
    ))),
    row!("mustRegexMatch", "ss", |exec, a| Ok(Value::Bool(
        compile(exec, a)?.is_match(bytes(a, 1))
    ))),
    row!("regexFind", "ss", |exec, a| {
        let regex = must(exec, a)?;
        find(&regex, a)
    }),
    row!("mustRegexFind", "ss", |exec, a| {
        let regex = compile(exec, a)?;
        find(&regex, a)
    }),
    row!("regexFindAll", "ssi", |exec, a| {
        let regex = must(exec, a)?;
        find_all(exec, &regex, a)
    }),
    row!("mustRegexFindAll", "ssi", |exec, a| {
        let regex = compile(exec, a)?;
        find_all(exec, &regex, a)
    }),
    row!("regexReplaceAll", "sss", |exec, a| {
        let regex = must(exec, a)?;
        replace(exec, &regex, a, true)
    }),
    row!("mustRegexReplaceAll", "sss", |exec, a| {
        let regex = compile(exec, a)?;
        replace(exec, &regex, a, true)
    }),
    row!("regexReplaceAllLiteral", "sss", |exec, a| {
        let regex = must(exec, a)?;
        replace(exec, &regex, a, false)
    }),
    row!("mustRegexReplaceAllLiteral", "sss", |exec, a| {
        let regex = compile(exec, a)?;
        replace(exec, &regex, a, false)
    }),
    row!("regexSplit", "ssi", |exec, a| {
        let regex = must(exec, a)?;
        spend_parts(exec, &regex, a)?;
        Ok(split(&regex, bytes(a, 1), int(a, 2)))
    }),
    row!("mustRegexSplit", "ssi", |exec, a| {
        let regex = compile(exec, a)?;
        spend_parts(exec, &regex, a)?;
        Ok(split(&regex, bytes(a, 1), int(a, 2)))
    }),
    row!("regexQuoteMeta", "s", |_, a| {
        let mut out = Vec::new();
        for byte in bytes(a, 0) {
            if br"\.+*?()|[]{}^$".contains(byte) {
                out.push(b'\\');
            }
            out.push(*byte);
        }
        string(out)
    }),
];

fn must(exec: &mut Exec<'_>, args: &[Value]) -> Result<Rc<Regex>, Failure> {
    compiled(exec, bytes(args, 0))?.ok_or_else(|| {
        let pattern = quote_pattern(&String::from_utf8_lossy(bytes(args, 0)));
        format!("regexp: Compile({pattern}): {}", refusal(args)).into()
    })
}

fn compile(exec: &mut Exec<'_>, args: &[Value]) -> Result<Rc<Regex>, Failure> {
    compiled(exec, bytes(args, 0))?.ok_or_else(|| refusal(args).into())
}

fn refusal(args: &[Value]) -> String {
    let pattern = quote_pattern(&String::from_utf8_lossy(bytes(args, 0)));
    format!("error parsing regexp: invalid or unsupported Perl syntax: {pattern}")
}

fn quote_pattern(pattern: &str) -> String {
    if pattern.contains('`') {
        crate::value::go_quote(pattern.as_bytes())
    } else {
        format!("`{pattern}`")
    }
}

/// Rewrites what Go's syntax has and ours has not: `\z` is the same, `\C` and `\Q…\E` are not, and inside of a class an
/// opening bracket and doubled operators are plain characters.
fn translate(pattern: &str) -> String {
    let chars: Vec<char> = pattern.chars().collect();
    let mut out = String::new();
    let mut class = false;
    let mut class_start = 0;
    let mut i = 0;
    while i < chars.len() {
        let c = chars[i];
        if c == '\\' && i + 1 < chars.len() {
            if chars[i + 1] == 'Q' {
                i += 2;
                while i < chars.len() && !(chars[i] == '\\' && chars.get(i + 1) == Some(&'E')) {
                    out.push_str(&regex::escape(&chars[i].to_string()));
                    i += 1;
                }
                i += 2;
                continue;
            }
            // The perl classes are of ASCII in Go.
            match chars[i + 1] {
                'd' | 'D' | 's' | 'S' | 'w' | 'W' | 'b' | 'B' if !class => {
                    out.push_str(&format!("(?-u:\\{})", chars[i + 1]));
                }
                'd' | 'w' | 's' => {
                    out.push_str(match chars[i + 1] {
                        'd' => "0-9",
                        'w' => "0-9A-Za-z_",
                        _ => "\\t\\n\\f\\r ",
                    });
                    // A hyphen after a class is no range.
                    if chars.get(i + 2) == Some(&'-') && chars.get(i + 3) != Some(&']') {
                        out.push_str("\\-");
                        i += 1;
                    }
                }
                other => {
                    out.push('\\');
                    out.push(other);
                }
            }
            i += 2;
            continue;
        }
        if class {
            match c {
                ']' if i > class_start => class = false,
                ']' => {
                    out.push_str("\\]");
                    i += 1;
                    continue;
                }
                '[' if chars.get(i + 1) != Some(&':') => out.push('\\'),
                '&' | '~' => out.push('\\'),
                '[' => {
                    // A named class such as [:alpha:] is copied whole.
                    while i < chars.len() && !(chars[i] == ':' && chars.get(i + 1) == Some(&']') && i > class_start + 1)
                    {
                        out.push(chars[i]);
                        i += 1;
                        if chars.get(i) == Some(&':') && chars.get(i + 1) == Some(&']') {
                            break;
                        }
                    }
                    out.push_str(":]");
                    i += 2;
                    continue;
                }
                '-' if chars.get(i + 1) == Some(&'-') => out.push('\\'),
                _ => {}
            }
        } else if c == '[' {
            class = true;
            out.push(c);
            i += 1;
            if chars.get(i) == Some(&'^') {
                out.push('^');
                i += 1;
            }
            class_start = i;
            continue;
        } else if c == '{' && !repetition(&chars[i..]) {
            // Go takes a brace that is no repetition for itself.
            out.push('\\');
        } else if c == '}' && !out.ends_with(|c: char| c.is_ascii_digit() || c == ',') {
            out.push('\\');
        }
        out.push(c);
        i += 1;
    }
    out
}

fn repetition(chars: &[char]) -> bool {
    // The longest that there is: `{1000,1000}`.
    let chars = &chars[..chars.len().min(12)];
    let inner: String = chars[1..].iter().take_while(|c| **c != '}').collect();
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    chars.contains(&'}')
        && match inner.split_once(',') {
            None => digits(&inner),
            Some((least, "")) => digits(least),
            Some((least, most)) => digits(least) && digits(most),
        }
}

/// How large a compiled pattern may be, and what the time is worth that compiling one of that size takes.
const SIZES: [(usize, u64); 3] = [(64 << 10, 500), (1 << 20, 20_000), (10 << 20, 200_000)];

/// Patterns that are compiled already.
#[derive(Default)]
pub(crate) struct Patterns {
    known: HashMap<Str, Rc<Regex>>,
    /// What they have cost.
    cost: u64,
}

/// What the patterns that are kept may have cost: a hundred megabytes of the largest.
const KEPT: u64 = 2_000_000;

/// Gives what a pattern compiles to; `None` where it is wrong or too large.
fn compiled(exec: &mut Exec<'_>, pattern: &[u8]) -> Result<Option<Rc<Regex>>, Failure> {
    if let Some(known) = exec.patterns.known.get(pattern) {
        return Ok(Some(Rc::clone(known)));
    }
    let translated = translate(&String::from_utf8_lossy(pattern));
    for (size, cost) in SIZES {
        exec.charge(cost)?;
        match RegexBuilder::new(&translated).size_limit(size).build() {
            Ok(regex) => {
                let regex = Rc::new(regex);
                let patterns = &mut exec.patterns;
                patterns.cost += cost;
                if patterns.cost > KEPT {
                    patterns.known.clear();
                    patterns.cost = cost;
                }
                patterns.known.insert(Str::from(pattern), Rc::clone(&regex));
                return Ok(Some(regex));
            }
            Err(regex::Error::CompiledTooBig(_)) => {}
            Err(_) => return Ok(None),
        }
    }
    Ok(None)
}

fn find(regex: &Regex, args: &[Value]) -> Result<Value, Failure> {
    string(regex.find(bytes(args, 1)).map_or(&b""[..], |found| found.as_bytes()))
}

/// What each part of a text takes besides its bytes.
const PART: usize = 64;

/// How many bytes of a text that a search may have to look at count as one value.
const LOOKED_AT: u64 = 512;

/// Counts the matches. Each may have looked at the whole rest of the text.
fn count(exec: &mut Exec<'_>, regex: &Regex, text: &[u8]) -> Result<usize, Failure> {
    let (mut matches, mut looked_at) = (0, 0u64);
    for found in regex.find_iter(text) {
        matches += 1;
        looked_at += (text.len() - found.start()) as u64;
        if looked_at > LOOKED_AT << 10 {
            exec.charge(looked_at / LOOKED_AT)?;
            looked_at = 0;
        }
    }
    Ok(matches)
}

/// Counts what a text takes once it is taken apart.
fn spend_parts(exec: &mut Exec<'_>, regex: &Regex, args: &[Value]) -> Result<(), Failure> {
    let parts = count(exec, regex, bytes(args, 1))? + 1;
    Ok(exec.spend(parts.saturating_mul(PART))?)
}

fn find_all(exec: &mut Exec<'_>, regex: &Regex, args: &[Value]) -> Result<Value, Failure> {
    spend_parts(exec, regex, args)?;
    let limit = usize::try_from(int(args, 2)).unwrap_or(usize::MAX);
    let found: Vec<Value> = regex
        .find_iter(bytes(args, 1))
        .take(limit)
        .map(|found| Value::from(found.as_bytes().to_vec()))
        .collect();
    let nil = found.is_empty();
    Ok(Value::List(List {
        kind: ListKind::Strings,
        items: Rc::new(found.into()),
        nil,
    }))
}

fn replace(exec: &mut Exec<'_>, regex: &Regex, args: &[Value], expand: bool) -> Result<Value, Failure> {
    let (source, replacement) = (bytes(args, 1), bytes(args, 2));
    // Every group that is named may be as long as its match.
    let groups = if expand {
        replacement.iter().filter(|b| **b == b'$').count()
    } else {
        0
    };
    let literal = count(exec, regex, source)?.saturating_mul(replacement.len());
    exec.spend(literal.saturating_add(groups.saturating_mul(source.len())))?;
    string(if expand {
        regex.replace_all(source, go_template(replacement)).into_owned()
    } else {
        let replacement = regex::bytes::NoExpand(replacement);
        regex.replace_all(source, replacement).into_owned()
    })
}

/// `$1x` names the group `1x` in Go as here; a `$` that names nothing stays in Go and must be doubled here.
fn go_template(replacement: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut i = 0;
    while i < replacement.len() {
        out.push(replacement[i]);
        if replacement[i] == b'$' {
            match replacement.get(i + 1) {
                Some(b'$') => {
                    out.push(b'$');
                    i += 1;
                }
                Some(b'{') => {}
                Some(b) if b.is_ascii_alphanumeric() || *b == b'_' => {}
                _ => out.push(b'$'),
            }
        }
        i += 1;
    }
    out
}

fn split(regex: &Regex, source: &[u8], limit: i64) -> Value {
    let mut parts: Vec<Vec<u8>> = Vec::new();
    if limit == 0 {
        return Value::strings(parts);
    }
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut begin = 0;
    let mut end = 0;
    if !source.is_empty() || regex.as_str().is_empty() {
        for found in regex.find_iter(source) {
            if parts.len() + 1 >= limit {
                break;
            }
            end = found.start();
            if found.end() != 0 {
                parts.push(source[begin..end].to_vec());
            }
            begin = found.end();
        }
        if end != source.len() {
            parts.push(source[begin..].to_vec());
        }
    } else {
        parts.push(Vec::new());
    }
    Value::strings(parts)
}
