//! Writing, byte for byte as Go's yaml.v2 emitter does (`toYaml`) and as yaml.v3 does (`toYamlPretty`).

use super::scalar::{Scalar, is_base60, resolve};
use crate::value::{Value, float_general, string_value};

/// The column after which a long scalar is folded.
const WIDTH: usize = 80;
const DEPTH_LIMIT: usize = 1000;

#[derive(Clone, Copy, PartialEq)]
enum Dialect {
    /// Lists stand at their key's column, long lines are folded.
    V2,
    /// Lists are indented, lines are not folded.
    V3,
}

struct Emitter {
    out: String,
    column: usize,
    dialect: Dialect,
}

/// Writes the value as `sigs.k8s.io/yaml` does, with a newline at the end.
///
/// # Errors
/// What JSON cannot hold: NaN, infinities, cycles.
pub fn write(value: &Value) -> Result<String, String> {
    emit(value, Dialect::V2)
}

/// Writes the value as yaml.v3 does with an indentation of two, with a newline at the end.
///
/// # Errors
/// Cycles.
pub fn write_pretty(value: &Value) -> Result<String, String> {
    emit(value, Dialect::V3)
}

fn emit(value: &Value, dialect: Dialect) -> Result<String, String> {
    let mut emitter = Emitter {
        out: String::new(),
        column: 0,
        dialect,
    };
    match value {
        Value::Map(_) | Value::List(_) | Value::Object(_) if !is_empty(value) => emitter.block(value, 0, 0)?,
        _ => {
            emitter.scalar(value, 2, false)?;
        }
    }
    if !emitter.out.ends_with('\n') {
        emitter.out.push('\n');
    }
    Ok(emitter.out)
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Map(map) => map.is_empty(),
        Value::List(list) => list.items.is_empty(),
        Value::Object(object) => object.fields.iter().all(|(_, json, _)| json.is_empty()),
        _ => true,
    }
}

impl Emitter {
    fn put(&mut self, text: &str) {
        self.out.push_str(text);
        self.column += text.chars().count();
    }

    fn line(&mut self, indent: usize) {
        if !self.out.is_empty() && !self.out.ends_with('\n') {
            self.out.push('\n');
        }
        self.out.extend(std::iter::repeat_n(' ', indent));
        self.column = indent;
    }

    /// Writes a collection whose first entry goes where the cursor stands and whose others begin at `indent`.
    fn block(&mut self, value: &Value, indent: usize, depth: usize) -> Result<(), String> {
        if depth > DEPTH_LIMIT {
            return Err("json: unsupported value: encountered a cycle".to_owned());
        }
        match value {
            Value::List(list) => {
                for (index, item) in list.items.iter().enumerate() {
                    if index > 0 {
                        self.line(indent);
                    }
                    self.put("-");
                    match item {
                        Value::Map(_) | Value::List(_) | Value::Object(_) if !is_empty(item) => {
                            self.put(" ");
                            self.block(item, indent + 2, depth + 1)?;
                        }
                        _ => {
                            self.put(" ");
                            self.scalar(item, indent + 2, false)?;
                        }
                    }
                }
            }
            Value::Map(map) => {
                for (index, (key, item)) in sorted(map.entries()).into_iter().enumerate() {
                    self.entry(index, &key.text(), &item, indent, depth)?;
                }
            }
            Value::Object(object) => {
                let mut fields: Vec<_> = object.fields.iter().filter(|(_, json, _)| !json.is_empty()).collect();
                fields.sort_by_key(|(_, json, _)| *json);
                for (index, (_, key, item)) in fields.into_iter().enumerate() {
                    self.entry(index, key, item, indent, depth)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn entry(&mut self, index: usize, key: &str, item: &Value, indent: usize, depth: usize) -> Result<(), String> {
        if index > 0 {
            self.line(indent);
        }
        let complex = key.len() > 128 || key.contains('\n');
        if complex {
            self.put("? ");
            self.text(key, indent + 2, false);
            self.line(indent);
        } else {
            self.text(key, indent + 2, true);
        }
        self.put(":");
        match item {
            Value::List(_) if !is_empty(item) => {
                // Under a complex key the list begins on the line of its colon.
                let inner = if self.dialect == Dialect::V2 && !complex {
                    indent
                } else {
                    indent + 2
                };
                if complex {
                    self.put(" ");
                } else {
                    self.line(inner);
                }
                self.block(item, inner, depth + 1)
            }
            Value::Map(_) | Value::Object(_) if !is_empty(item) => {
                if complex {
                    self.put(" ");
                } else {
                    self.line(indent + 2);
                }
                self.block(item, indent + 2, depth + 1)
            }
            _ => {
                self.put(" ");
                self.scalar(item, indent + 2, false)
            }
        }
    }

    fn scalar(&mut self, value: &Value, indent: usize, key: bool) -> Result<(), String> {
        match value {
            Value::Invalid | Value::Nil => self.put("null"),
            Value::Bool(value) => self.put(if *value { "true" } else { "false" }),
            Value::Int(_, value) => self.put(&value.to_string()),
            Value::Float(value) if !value.is_finite() => {
                if self.dialect == Dialect::V2 {
                    return Err(format!("json: unsupported value: {}", float_general(*value)));
                }
                self.put(match () {
                    () if value.is_nan() => ".nan",
                    () if *value > 0.0 => ".inf",
                    () => "-.inf",
                });
            }
            Value::Float(value) => {
                let text = match self.dialect {
                    Dialect::V2 => json_number(*value),
                    Dialect::V3 => float_general(*value),
                };
                self.put(&text);
            }
            Value::List(list) if list.nil && self.dialect == Dialect::V2 => self.put("null"),
            Value::List(_) => self.put("[]"),
            Value::Map(_) | Value::Object(_) => self.put("{}"),
            Value::Bytes(bytes) => {
                use base64::Engine as _;
                self.text(&base64::engine::general_purpose::STANDARD.encode(&**bytes), indent, key);
            }
            Value::Time(time) => self.text(&time.rfc3339(), indent, key),
            Value::Str(_) => self.text(&string_value(value).text(), indent, key),
        }
        Ok(())
    }

    /// Writes a string in the first style that can hold it; `indent` is where further lines begin.
    fn text(&mut self, text: &str, indent: usize, key: bool) {
        let analysis = Analysis::of(text, self.dialect);
        let kind = resolve(text);
        let plain_means_text = kind == Scalar::Text && !is_base60(text);
        if text.contains('\n') && !key {
            if analysis.block_allowed {
                return self.literal(text, indent);
            }
            return self.double_quoted(text, indent, true);
        }
        if !plain_means_text {
            return self.double_quoted(text, indent, !key);
        }
        if analysis.plain_allowed {
            return self.plain(text, indent, !key);
        }
        if analysis.single_quoted_allowed && !text.contains('\n') {
            return self.single_quoted(text, indent, !key);
        }
        self.double_quoted(text, indent, !key);
    }

    fn folds(&self) -> bool {
        self.dialect == Dialect::V2 && self.column > WIDTH
    }

    fn plain(&mut self, text: &str, indent: usize, breaks: bool) {
        let mut spaces = false;
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            if c == ' ' {
                if breaks && !spaces && self.folds() && chars.peek() != Some(&' ') {
                    self.line(indent);
                } else {
                    self.put(" ");
                }
                spaces = true;
            } else {
                self.push(c);
                spaces = false;
            }
        }
    }

    fn push(&mut self, c: char) {
        self.out.push(c);
        self.column += 1;
    }

    fn single_quoted(&mut self, text: &str, indent: usize, breaks: bool) {
        self.put("'");
        let mut spaces = false;
        let chars: Vec<char> = text.chars().collect();
        for (index, &c) in chars.iter().enumerate() {
            if c == ' ' {
                if breaks && !spaces && self.folds() && index > 0 && index < chars.len() - 1 && chars[index + 1] != ' '
                {
                    self.line(indent);
                } else {
                    self.put(" ");
                }
                spaces = true;
            } else {
                if c == '\'' {
                    self.put("'");
                }
                self.push(c);
                spaces = false;
            }
        }
        self.put("'");
    }

    fn double_quoted(&mut self, text: &str, indent: usize, breaks: bool) {
        self.put("\"");
        let mut spaces = false;
        let chars: Vec<char> = text.chars().collect();
        for (index, &c) in chars.iter().enumerate() {
            if c == ' ' {
                if breaks && !spaces && self.folds() && index > 0 && index < chars.len() - 1 {
                    self.line(indent);
                    if chars[index + 1] == ' ' {
                        self.put("\\");
                    }
                } else {
                    self.put(" ");
                }
                spaces = true;
                continue;
            }
            spaces = false;
            if printable(c, self.dialect) && !is_break(c) && c != '"' && c != '\\' && c != '\u{feff}' {
                self.push(c);
                continue;
            }
            let escape = match c {
                '\0' => "\\0".to_owned(),
                '\u{7}' => "\\a".to_owned(),
                '\u{8}' => "\\b".to_owned(),
                '\t' => "\\t".to_owned(),
                '\n' => "\\n".to_owned(),
                '\u{b}' => "\\v".to_owned(),
                '\u{c}' => "\\f".to_owned(),
                '\r' => "\\r".to_owned(),
                '\u{1b}' => "\\e".to_owned(),
                '"' => "\\\"".to_owned(),
                '\\' => "\\\\".to_owned(),
                '\u{85}' => "\\N".to_owned(),
                '\u{a0}' => "\\_".to_owned(),
                '\u{2028}' => "\\L".to_owned(),
                '\u{2029}' => "\\P".to_owned(),
                c if (c as u32) <= 0xff => format!("\\x{:02X}", c as u32),
                c if (c as u32) <= 0xffff => format!("\\u{:04X}", c as u32),
                c => format!("\\U{:08X}", c as u32),
            };
            self.put(&escape);
        }
        self.put("\"");
    }

    fn literal(&mut self, text: &str, indent: usize) {
        self.put("|");
        if text.starts_with(' ') || text.chars().next().is_some_and(is_break) {
            self.put("2");
        }
        let mut last = text.chars().rev();
        match last.next() {
            Some(c) if is_break(c) => {
                if last.next().is_none_or(is_break) {
                    self.put("+");
                }
            }
            _ => self.put("-"),
        }
        self.out.push('\n');
        self.column = 0;
        let mut at_start = true;
        for c in text.chars() {
            if is_break(c) {
                self.out.push(c);
                self.column = 0;
                at_start = true;
            } else {
                if at_start {
                    self.out.extend(std::iter::repeat_n(' ', indent));
                    self.column = indent;
                    at_start = false;
                }
                self.push(c);
            }
        }
    }
}

/// Orders the entries as both of Go's emitters do.
fn sorted(entries: crate::value::Entries) -> Vec<(crate::value::Str, Value)> {
    let mut entries: Vec<_> = entries.into_iter().collect();
    entries.sort_by(|(a, _), (b, _)| natural(&a.text(), &b.text()));
    entries
}

/// Orders keys as Go's YAML does: letters after other characters, runs of digits by their value.
fn natural(a: &str, b: &str) -> std::cmp::Ordering {
    use std::cmp::Ordering;
    let (ar, br): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut digits = false;
    for i in 0..ar.len().min(br.len()) {
        if ar[i] == br[i] {
            digits = ar[i].is_numeric();
            continue;
        }
        let (al, bl) = (ar[i].is_alphabetic(), br[i].is_alphabetic());
        if al && bl {
            return ar[i].cmp(&br[i]);
        }
        if al || bl {
            return if digits == al {
                Ordering::Less
            } else {
                Ordering::Greater
            };
        }
        let mut start = 0i64;
        if ar[i] == '0' || br[i] == '0' {
            for j in (0..i).rev() {
                if !ar[j].is_numeric() {
                    break;
                }
                if ar[j] != '0' {
                    start = 1;
                    break;
                }
            }
        }
        let run = |chars: &[char]| -> (usize, i64) {
            let count = chars[i..].iter().take_while(|c| c.is_numeric()).count();
            let number = chars[i..i + count].iter().fold(start, |sum, c| {
                sum.wrapping_mul(10).wrapping_add(i64::from(*c as u32) - 48)
            });
            (count, number)
        };
        let ((ac, an), (bc, bn)) = (run(&ar), run(&br));
        if an != bn {
            return an.cmp(&bn);
        }
        if ac != bc {
            return ac.cmp(&bc);
        }
        return ar[i].cmp(&br[i]);
    }
    ar.len().cmp(&br.len())
}

/// Writes a number as JSON does and YAML then reads it: whole numbers that fit stay whole.
fn json_number(value: f64) -> String {
    let text = crate::value::float_json(value);
    if text.bytes().all(|b| b.is_ascii_digit() || b == b'-')
        && (text.parse::<i64>().is_ok() || text.parse::<u64>().is_ok())
    {
        return if text == "-0" { "0".to_owned() } else { text };
    }
    float_general(value)
}

fn is_break(c: char) -> bool {
    matches!(c, '\n' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

fn printable(c: char, dialect: Dialect) -> bool {
    match c as u32 {
        0x0a | 0x20..=0x7e | 0xa0..=0xd7ff => true,
        0xe000..=0xfffd => c != '\u{feff}',
        0x10000.. => dialect == Dialect::V3,
        _ => false,
    }
}

/// What the styles can hold.
struct Analysis {
    plain_allowed: bool,
    single_quoted_allowed: bool,
    block_allowed: bool,
}

impl Analysis {
    fn of(text: &str, dialect: Dialect) -> Self {
        let chars: Vec<char> = text.chars().collect();
        let mut indicators = text.starts_with("---") || text.starts_with("...");
        let (mut breaks, mut special) = (false, false);
        let (mut leading, mut trailing_space, mut trailing_break) = (false, false, false);
        let (mut break_space, mut space_break) = (false, false);
        let (mut previous_space, mut previous_break) = (false, false);
        let mut preceded = true;
        for (index, &c) in chars.iter().enumerate() {
            let next = chars.get(index + 1).copied();
            let followed = next.is_none_or(|c| c == ' ' || c == '\t' || c == '\0' || is_break(c));
            if index == 0 {
                indicators |= match c {
                    '#' | ',' | '[' | ']' | '{' | '}' | '&' | '*' | '!' | '|' | '>' | '\'' | '"' | '%' | '@' | '`' => {
                        true
                    }
                    '?' | ':' | '-' => followed,
                    _ => false,
                };
            } else {
                indicators |= match c {
                    ':' => followed,
                    '#' => preceded,
                    _ => false,
                };
            }
            special |= !printable(c, dialect);
            if c == ' ' {
                leading |= index == 0;
                trailing_space |= next.is_none();
                break_space |= previous_break;
                (previous_space, previous_break) = (true, false);
            } else if is_break(c) {
                breaks = true;
                leading |= index == 0;
                trailing_break |= next.is_none();
                space_break |= previous_space;
                (previous_space, previous_break) = (false, true);
            } else {
                (previous_space, previous_break) = (false, false);
            }
            preceded = c == ' ' || c == '\t' || is_break(c);
        }
        let fatal = space_break || special;
        Self {
            plain_allowed: !(leading
                || trailing_space
                || trailing_break
                || break_space
                || fatal
                || breaks
                || indicators),
            single_quoted_allowed: !(break_space || fatal),
            block_allowed: !(trailing_space || fatal || chars.is_empty()),
        }
    }
}
