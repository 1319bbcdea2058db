//! sprig's functions on strings.

use super::arguments::{Outcome, bytes, int, items, string, text};
use crate::gotemplate::exec::{Exec, Function};
use crate::value::{Entries, Map, MapKind, Str, Value, go_quote, print, string_value};

pub(super) const FUNCTIONS: &[Function] = &[
    row!("hello", "", |_, _| string("Hello!")),
    row!("abbrev", "is", |_, a| string(abbreviate(&text(a, 1), 0, int(a, 0)))),
    row!("abbrevboth", "iis", |_, a| string(abbreviate_both(
        &text(a, 2),
        int(a, 0),
        int(a, 1)
    ))),
    row!("trunc", "is", |_, a| string(truncate(bytes(a, 1), int(a, 0)))),
    row!("trim", "s", |_, a| string(text(a, 0).trim())),
    row!("upper", "s", |_, a| string(text(a, 0).to_uppercase())),
    row!("lower", "s", |_, a| string(text(a, 0).to_lowercase())),
    row!("title", "s", |_, a| string(title(&text(a, 0)))),
    row!("untitle", "s", |_, a| string(untitle(&text(a, 0)))),
    row!("substr", "iis", |_, a| substring(bytes(a, 2), int(a, 0), int(a, 1))),
    row!("repeat", "is", repeat),
    row!("trimall", "ss", |_, a| string(trim_set(&text(a, 1), &text(a, 0)))),
    row!("trimAll", "ss", |_, a| string(trim_set(&text(a, 1), &text(a, 0)))),
    row!("trimSuffix", "ss", |_, a| string(
        bytes(a, 1).strip_suffix(bytes(a, 0)).unwrap_or(bytes(a, 1))
    )),
    row!("trimPrefix", "ss", |_, a| string(
        bytes(a, 1).strip_prefix(bytes(a, 0)).unwrap_or(bytes(a, 1))
    )),
    row!("nospace", "s", |_, a| string(
        text(a, 0).chars().filter(|c| !c.is_whitespace()).collect::<String>()
    )),
    row!("initials", "s", |_, a| string(initials(&text(a, 0)))),
    row!("swapcase", "s", |_, a| string(swap_case(&text(a, 0)))),
    row!("snakecase", "s", |_, a| string(joined_case(&text(a, 0), '_'))),
    row!("kebabcase", "s", |_, a| string(joined_case(&text(a, 0), '-'))),
    row!("camelcase", "s", |_, a| string(pascal_case(&text(a, 0)))),
    row!("wrap", "is", |_, a| string(wrap(&text(a, 1), int(a, 0), "\n", false))),
    row!("wrapWith", "iss", |exec, a| {
        let width = usize::try_from(int(a, 0)).unwrap_or(1).max(1);
        let breaks = bytes(a, 2).len() / width + 1;
        exec.spend(breaks.saturating_mul(bytes(a, 1).len()))?;
        string(wrap(&text(a, 2), int(a, 0), &text(a, 1), true))
    }),
    row!("contains", "ss", |_, a| Ok(Value::Bool(
        find(bytes(a, 1), bytes(a, 0)).is_some()
    ))),
    row!("hasPrefix", "ss", |_, a| Ok(Value::Bool(
        bytes(a, 1).starts_with(bytes(a, 0))
    ))),
    row!("hasSuffix", "ss", |_, a| Ok(Value::Bool(
        bytes(a, 1).ends_with(bytes(a, 0))
    ))),
    row!("quote", "*a", |_, a| quoted(a, |value| go_quote(&string_value(value))
        .into_bytes())),
    row!("squote", "*a", |_, a| quoted(a, |value| {
        let mut out = b"'".to_vec();
        print(value, &mut out);
        out.push(b'\'');
        out
    })),
    row!("cat", "*a", |_, a| quoted(a, |value| {
        let mut out = Vec::new();
        print(value, &mut out);
        out
    })),
    row!("indent", "is", |exec, a| indent(exec, a, false)),
    row!("nindent", "is", |exec, a| indent(exec, a, true)),
    row!("replace", "sss", replace),
    row!("plural", "ssi", |_, a| string(bytes(a, usize::from(int(a, 2) != 1)))),
    row!("toString", "a", |_, a| Ok(Value::Str(string_value(&a[0])))),
    row!("toStrings", "a", |_, a| Ok(Value::strings(strings(&a[0])))),
    row!("join", "sa", |exec, a| {
        let parts = strings(&a[1]);
        exec.spend(parts.len().saturating_mul(bytes(a, 0).len()))?;
        string(parts.join(bytes(a, 0)))
    }),
    row!("split", "ss", |exec, a| {
        spend_parts(exec, bytes(a, 1), bytes(a, 0))?;
        Ok(numbered(split(bytes(a, 1), bytes(a, 0), usize::MAX)))
    }),
    row!("splitn", "sis", |exec, a| {
        spend_parts(exec, bytes(a, 2), bytes(a, 0))?;
        let limit = match int(a, 1) {
            0 => return Ok(numbered(Vec::new())),
            limit => usize::try_from(limit).unwrap_or(usize::MAX),
        };
        Ok(numbered(split(bytes(a, 2), bytes(a, 0), limit)))
    }),
    row!("splitList", "ss", |exec, a| {
        spend_parts(exec, bytes(a, 1), bytes(a, 0))?;
        Ok(Value::strings(split(bytes(a, 1), bytes(a, 0), usize::MAX)))
    }),
];

pub(super) fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    memchr::memmem::find(haystack, needle)
}

/// What each part of a split text takes besides its bytes.
const PART: usize = 64;

/// Counts what a text takes once it is split.
fn spend_parts(exec: &mut Exec<'_>, whole: &[u8], separator: &[u8]) -> Result<(), String> {
    let parts = if separator.is_empty() {
        whole.len()
    } else {
        memchr::memmem::find_iter(whole, separator).count()
    };
    exec.spend((parts + 1).saturating_mul(PART))
}

fn split(whole: &[u8], separator: &[u8], limit: usize) -> Vec<Vec<u8>> {
    if separator.is_empty() {
        let text = String::from_utf8_lossy(whole).into_owned();
        let chars: Vec<Vec<u8>> = text.chars().map(|c| c.to_string().into_bytes()).collect();
        if chars.len() > limit {
            let mut head = chars[..limit - 1].to_vec();
            head.push(chars[limit - 1..].concat());
            return head;
        }
        return chars;
    }
    let mut parts = Vec::new();
    let mut rest = whole;
    while parts.len() + 1 < limit {
        let Some(at) = find(rest, separator) else { break };
        parts.push(rest[..at].to_vec());
        rest = &rest[at + separator.len()..];
    }
    parts.push(rest.to_vec());
    parts
}

fn numbered(parts: Vec<Vec<u8>>) -> Value {
    let entries: Entries = parts
        .into_iter()
        .enumerate()
        .map(|(index, part)| (Str::from(format!("_{index}")), Value::from(part)))
        .collect();
    Value::Map(Map::with_kind(MapKind::Strings, entries))
}

/// Gives the elements as text, nil left out; anything else is a list of itself.
pub(super) fn strings(value: &Value) -> Vec<Vec<u8>> {
    match items(value) {
        Some(items) => items
            .iter()
            .filter(|item| !item.is_nil())
            .map(|item| string_value(item).to_vec())
            .collect(),
        None if value.is_nil() => Vec::new(),
        None => vec![string_value(value).to_vec()],
    }
}

fn quoted(args: &[Value], write: impl Fn(&Value) -> Vec<u8>) -> Outcome {
    let parts: Vec<Vec<u8>> = args.iter().filter(|value| !value.is_nil()).map(write).collect();
    string(parts.join(&b' '))
}

fn truncate(text: &[u8], count: i64) -> &[u8] {
    let length = text.len() as i64;
    if count < 0 && length + count > 0 {
        return &text[(length + count) as usize..];
    }
    if count >= 0 && length > count {
        return &text[..count as usize];
    }
    text
}

fn substring(text: &[u8], start: i64, end: i64) -> Outcome {
    let length = text.len() as i64;
    let (start, end) = match () {
        () if start < 0 => (0, end),
        () if end < 0 || end > length => (start, length),
        () => (start, end),
    };
    if start > end || end > length || end < 0 {
        return Err(format!("runtime error: slice bounds out of range [{start}:{end}]").into());
    }
    string(&text[start as usize..end as usize])
}

fn repeat(exec: &mut Exec<'_>, args: &[Value]) -> Outcome {
    let count = usize::try_from(int(args, 0)).map_err(|_| "strings: negative Repeat count")?;
    exec.spend(bytes(args, 1).len().saturating_mul(count))?;
    string(bytes(args, 1).repeat(count))
}

fn replace(exec: &mut Exec<'_>, args: &[Value]) -> Outcome {
    let (old, new, source) = (bytes(args, 0), bytes(args, 1), bytes(args, 2));
    let found = if old.is_empty() {
        source.len() + 1
    } else {
        memchr::memmem::find_iter(source, old).count()
    };
    exec.spend(found.saturating_mul(new.len()))?;
    let out = if old.is_empty() {
        String::from_utf8_lossy(source)
            .replace("", &String::from_utf8_lossy(new))
            .into_bytes()
    } else {
        let mut out = Vec::with_capacity(source.len());
        let mut rest = source;
        while let Some(at) = find(rest, old) {
            out.extend_from_slice(&rest[..at]);
            out.extend_from_slice(new);
            rest = &rest[at + old.len()..];
        }
        out.extend_from_slice(rest);
        out
    };
    string(out)
}

fn indent(exec: &mut Exec<'_>, args: &[Value], newline: bool) -> Outcome {
    let spaces = usize::try_from(int(args, 0)).map_err(|_| "strings: negative Repeat count")?;
    let source = bytes(args, 1);
    let lines = 1 + source.iter().filter(|b| **b == b'\n').count();
    let size = lines.saturating_mul(spaces).saturating_add(source.len() + 1);
    exec.spend(size)?;
    let mut out = Vec::with_capacity(size);
    if newline {
        out.push(b'\n');
    }
    out.extend(std::iter::repeat_n(b' ', spaces));
    for byte in source {
        out.push(*byte);
        if *byte == b'\n' {
            out.extend(std::iter::repeat_n(b' ', spaces));
        }
    }
    string(out)
}

fn trim_set(text: &str, set: &str) -> String {
    text.trim_matches(|c| set.contains(c)).to_owned()
}

fn title(text: &str) -> String {
    let mut out = String::new();
    let mut previous = ' ';
    for c in text.chars() {
        let separates = if previous.is_ascii() {
            !(previous.is_ascii_alphanumeric() || previous == '_')
        } else {
            previous.is_whitespace()
        };
        if separates {
            out.extend(c.to_uppercase());
        } else {
            out.push(c);
        }
        previous = c;
    }
    out
}

fn untitle(text: &str) -> String {
    let mut out = String::new();
    let mut after_space = true;
    for c in text.chars() {
        if after_space && !c.is_whitespace() {
            out.extend(c.to_lowercase());
        } else {
            out.push(c);
        }
        after_space = c.is_whitespace();
    }
    out
}

fn initials(text: &str) -> String {
    text.split_whitespace().filter_map(|word| word.chars().next()).collect()
}

fn swap_case(text: &str) -> String {
    let mut out = String::new();
    let mut after_space = true;
    for c in text.chars() {
        if c.is_uppercase() {
            out.extend(c.to_lowercase());
            after_space = false;
        } else if c.is_lowercase() {
            if after_space {
                out.extend(c.to_uppercase());
                after_space = false;
            } else {
                out.extend(c.to_uppercase());
            }
        } else {
            after_space = c.is_whitespace();
            out.push(c);
        }
    }
    out
}

/// Splits words at case changes and digits, and joins them in lower case.
fn joined_case(text: &str, connector: char) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::new();
    for (index, &c) in chars.iter().enumerate() {
        if matches!(c, '_' | '-' | ' ') || c.is_whitespace() {
            out.push(connector);
            continue;
        }
        let previous = index.checked_sub(1).map(|i| chars[i]);
        let next = chars.get(index + 1).copied();
        let begins = match previous {
            None => false,
            Some(p) if matches!(p, '_' | '-') || p.is_whitespace() => false,
            Some(p) if c.is_uppercase() => {
                p.is_lowercase() || p.is_numeric() || (p.is_uppercase() && next.is_some_and(char::is_lowercase))
            }
            Some(p) => c.is_numeric() && p.is_alphabetic() && next.is_some_and(char::is_uppercase),
        };
        if begins {
            out.push(connector);
        }
        out.extend(c.to_lowercase());
    }
    out
}

fn pascal_case(text: &str) -> String {
    let mut out = String::new();
    let mut upper = true;
    for c in text.chars() {
        if matches!(c, '_' | '-') || c.is_whitespace() {
            upper = true;
        } else if upper {
            out.extend(c.to_uppercase());
            upper = false;
        } else {
            out.extend(c.to_lowercase());
        }
    }
    out
}

fn abbreviate(text: &str, offset: i64, width: i64) -> String {
    let chars: Vec<char> = text.chars().collect();
    let length = chars.len() as i64;
    if width < 4 || length <= width {
        return text.to_owned();
    }
    let mut offset = offset.min(length);
    if length - offset < width - 3 {
        offset = length - (width - 3);
    }
    let piece = |from: i64, to: i64| -> String { chars[from as usize..to as usize].iter().collect() };
    if offset <= 4 {
        return format!("{}...", piece(0, width - 3));
    }
    if offset + width - 3 < length {
        let rest = piece(offset, length);
        return format!("...{}", abbreviate(&rest, 0, width - 3));
    }
    format!("...{}", piece(length - (width - 3), length))
}

fn abbreviate_both(text: &str, left: i64, right: i64) -> String {
    if right < 4 || (left > 0 && right < 7) {
        text.to_owned()
    } else {
        abbreviate(text, left.max(0), right)
    }
}

fn wrap(text: &str, width: i64, newline: &str, break_long: bool) -> String {
    let width = usize::try_from(width).unwrap_or(1).max(1);
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::new();
    let mut at = 0;
    while chars.len() - at > width {
        if chars[at] == ' ' {
            at += 1;
            continue;
        }
        let end = at + width;
        if let Some(space) = (at..=end).rev().find(|i| chars[*i] == ' ') {
            out.extend(&chars[at..space]);
            out.push_str(newline);
            at = space + 1;
        } else if break_long {
            out.extend(&chars[at..end]);
            out.push_str(newline);
            at = end;
        } else if let Some(space) = (end..chars.len()).find(|i| chars[*i] == ' ') {
            out.extend(&chars[at..space]);
            out.push_str(newline);
            at = space + 1;
        } else {
            break;
        }
    }
    out.extend(&chars[at..]);
    out
}
