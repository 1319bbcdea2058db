//! The simple JSONPath of `additionalPrinterColumns`, scale paths and selectable fields.
//!
//! Fields (`.a.b`, `['a.b']`, dots escaped by a backslash), indices (`[0]`, `[-1]`), parts of lists (`[-1:]`, `[0:6:2]`,
//! `[*]`), everything (`.*`), several of these at once (`['a','b']`, `[0,2]`), all that is below (`..a`), and filters on a
//! field (`[?(@.type=="Ready")]`). They lead where those of Kubernetes do (`client-go/util/jsonpath`): a list without the place
//! that is asked for makes the whole path lead nowhere, a field that is absent does not.

use serde_json::Value;

/// A parsed path.
#[derive(Clone, Debug, PartialEq)]
pub struct JsonPath {
    steps: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Field(String),
    Index(i64),
    Slice(Slice),
    All,
    Descend,
    Union(Vec<Step>),
    Filter {
        path: Vec<String>,
        operator: Operator,
        value: Value,
    },
}

/// A part of a list; negative places count from its end.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Slice {
    start: Option<i64>,
    end: Option<i64>,
    step: Option<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Exists,
}

/// How many values one search may look at: unions and descents come to the same ones again and again.
const VISITS: usize = 65_536;

/// A path cannot be parsed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path:?} is no JSON path that can be used here: {problem}")]
pub struct JsonPathError {
    /// The path.
    pub path: String,
    /// What is wrong.
    pub problem: &'static str,
}

impl JsonPath {
    /// Parses a path such as `.spec.replicas`.
    pub fn parse(text: &str) -> Result<JsonPath, JsonPathError> {
        let wrong = |problem| JsonPathError {
            path: text.to_owned(),
            problem,
        };
        let mut rest = text.strip_prefix('$').unwrap_or(text);
        let mut steps = Vec::new();
        while !rest.is_empty() {
            if let Some(after) = rest.strip_prefix("..") {
                if steps.last() == Some(&Step::Descend) {
                    return Err(wrong("a recursive descent follows another"));
                }
                steps.push(Step::Descend);
                rest = after;
                if rest.starts_with(|c: char| c == '_' || c.is_alphanumeric()) {
                    let (name, tail) = field(rest);
                    steps.push(Step::Field(name));
                    rest = tail;
                }
            } else if let Some(after) = rest.strip_prefix('.') {
                if after.is_empty() && steps.is_empty() {
                    break;
                }
                if after.starts_with('[') {
                    rest = after;
                    continue;
                }
                let (name, tail) = field(after);
                match name.as_str() {
                    "" => return Err(wrong("a field's name is missing")),
                    "*" => steps.push(Step::All),
                    _ => steps.push(Step::Field(name)),
                }
                rest = tail;
            } else if let Some(after) = rest.strip_prefix('[') {
                let end = bracket_end(after).ok_or_else(|| wrong("a bracket is not closed"))?;
                steps.push(bracket(after[..end].trim()).map_err(wrong)?);
                rest = &after[end + 1..];
            } else if steps.is_empty() {
                // kubectl's templates let the first dot be left out.
                let (name, tail) = field(rest);
                steps.push(Step::Field(name));
                rest = tail;
            } else {
                return Err(wrong("a dot or bracket is expected"));
            }
        }
        Ok(JsonPath { steps })
    }

    /// Returns the field names if the path consists of fields alone.
    pub fn fields(&self) -> Option<Vec<String>> {
        let name = |step: &Step| match step {
            Step::Field(name) => Some(name.clone()),
            _ => None,
        };
        self.steps.iter().map(name).collect()
    }

    /// Returns everything that the path leads to: nothing if that takes more than 65,536 looks.
    pub fn find<'a>(&self, value: &'a Value) -> Vec<&'a Value> {
        let mut room = VISITS;
        let mut steps = self.steps.iter();
        let found = steps.try_fold(vec![value], |found, step| step.apply(&found, &mut room));
        found.unwrap_or_default()
    }

    /// Returns the first thing that the path leads to.
    pub fn first(&self, value: &Value) -> Option<Value> {
        self.find(value).first().map(|value| (*value).clone())
    }
}

fn field(text: &str) -> (String, &str) {
    let (mut name, mut escaped) = (String::new(), false);
    for (index, character) in text.char_indices() {
        match character {
            _ if escaped => {
                name.push(character);
                escaped = false;
            }
            '\\' => escaped = true,
            '.' | '[' => return (name, &text[index..]),
            other => name.push(other),
        }
    }
    (name, "")
}

/// Returns where the bracket that is open at the start ends; quotes and inner brackets are skipped.
fn bracket_end(text: &str) -> Option<usize> {
    let (mut depth, mut quote) = (0, None);
    for (index, character) in text.char_indices() {
        match (quote, character) {
            (Some(open), _) if open == character => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(character),
            (None, '[') => depth += 1,
            (None, ']') if depth == 0 => return Some(index),
            (None, ']') => depth -= 1,
            (None, _) => {}
        }
    }
    None
}

fn bracket(inner: &str) -> Result<Step, &'static str> {
    if let Some(name) = quoted(inner) {
        return Ok(Step::Field(name.replace('\\', "")));
    }
    if let Some(filter) = inner.strip_prefix("?(").and_then(|rest| rest.strip_suffix(')')) {
        return filter_step(filter.trim());
    }
    if inner.contains(',') {
        let members = inner.split(',').map(|member| bracket(member.trim()));
        return Ok(Step::Union(members.collect::<Result<_, _>>()?));
    }
    match inner {
        "*" => return Ok(Step::Slice(Slice::default())),
        "" => return Ok(Step::Index(0)),
        _ => {}
    }
    let number = |text: &str| {
        let parsed = text.parse::<i64>();
        parsed.map_err(|_| "a bracket holds indices, slices, '*', quoted names or a filter")
    };
    let Some((start, rest)) = inner.split_once(':') else {
        return number(inner).map(Step::Index);
    };
    let (end, step) = rest.split_once(':').unwrap_or((rest, ""));
    let bound = |text: &str| (!text.is_empty()).then(|| number(text)).transpose();
    Ok(Step::Slice(Slice {
        start: bound(start)?,
        end: bound(end)?,
        step: bound(step)?,
    }))
}

fn quoted(text: &str) -> Option<&str> {
    let inside = |quote| {
        text.strip_prefix(quote)?
            .strip_suffix(quote)
            .filter(|inner| !inner.contains(quote))
    };
    ['\'', '"'].into_iter().find_map(inside)
}

const FIELDS_ONLY: &str = "a filter looks at fields only";

fn filter_step(filter: &str) -> Result<Step, &'static str> {
    const OPERATORS: [(&str, Operator); 6] = [
        ("==", Operator::Equal),
        ("!=", Operator::NotEqual),
        ("<=", Operator::LessOrEqual),
        (">=", Operator::GreaterOrEqual),
        ("<", Operator::Less),
        (">", Operator::Greater),
    ];
    let position = |(text, operator)| filter.find(text).map(|at| (at, text, operator));
    let split = OPERATORS.into_iter().filter_map(position).min_by_key(|(at, ..)| *at);
    let (left, operator, value) = match split {
        Some((at, text, operator)) => {
            let right = filter[at + text.len()..].trim();
            let value = match quoted(right) {
                Some(text) => Value::from(text),
                None => serde_json::from_str(right)
                    .map_err(|_| "a filter compares with a quoted text, a number or a bool")?,
            };
            (filter[..at].trim(), operator, value)
        }
        None => (filter, Operator::Exists, Value::Null),
    };
    // The item is meant where nothing is named.
    let left = left.strip_prefix('@').or_else(|| left.starts_with('.').then_some(left));
    let left = left.ok_or("a filter's left side starts with @ or .")?;
    if left.contains("?(") {
        return Err(FIELDS_ONLY);
    }
    let path = if left.is_empty() {
        Some(Vec::new())
    } else {
        JsonPath::parse(left).ok().and_then(|path| path.fields())
    };
    Ok(Step::Filter {
        path: path.ok_or(FIELDS_ONLY)?,
        operator,
        value,
    })
}

impl Slice {
    /// Returns the part of a list, or nothing if the list does not reach that far.
    fn of<'a>(&self, list: &'a [Value]) -> Option<&'a [Value]> {
        let start = place(self.start.unwrap_or(0), list);
        let end = self.end.map_or(list.len() as i64, |end| place(end, list));
        if start == end {
            return Some(&[]);
        }
        list.get(usize::try_from(start).ok()?..usize::try_from(end).ok()?)
    }
}

/// Counts a place from the start of a list; it may be in front of it.
fn place(bound: i64, list: &[Value]) -> i64 {
    if bound < 0 { bound + list.len() as i64 } else { bound }
}

/// Takes looks from those that are left.
fn spend(room: &mut usize, looks: usize) -> Option<()> {
    *room = room.checked_sub(looks)?;
    Some(())
}

impl Step {
    /// Goes on from what was found so far; `None` is where Kubernetes fails and a cell stays empty.
    fn apply<'a>(&self, found: &[&'a Value], room: &mut usize) -> Option<Vec<&'a Value>> {
        let mut out = Vec::new();
        if let Step::Union(members) = self {
            for member in members {
                out.extend(member.apply(found, room)?);
            }
            return Some(out);
        }
        for value in found.iter().copied() {
            spend(room, 1)?;
            match (self, value) {
                (Step::Field(name), value) => out.extend(value.get(name.as_str())),
                (Step::Descend, value) => descend(value, &mut out, room)?,
                (Step::Index(_) | Step::Slice(_), Value::Null) => {}
                (Step::Index(index), Value::Array(list)) => {
                    out.push(list.get(usize::try_from(place(*index, list)).ok()?)?);
                }
                (Step::Slice(slice), Value::Array(list)) => {
                    let part = slice.of(list)?;
                    if part.is_empty() {
                        // Kubernetes looks at no further list then.
                        return Some(out);
                    }
                    spend(room, part.len())?;
                    let step = slice.step.map_or(Some(1), |step| usize::try_from(step).ok());
                    out.extend(part.iter().step_by(step.filter(|step| *step > 0)?));
                }
                (Step::All, Value::Array(list)) => {
                    spend(room, list.len())?;
                    out.extend(list);
                }
                (Step::All, Value::Object(map)) => {
                    spend(room, map.len())?;
                    out.extend(map.values());
                }
                (Step::All, _) => {}
                (
                    Step::Filter {
                        path,
                        operator,
                        value: wanted,
                    },
                    Value::Array(list),
                ) => {
                    spend(room, list.len())?;
                    let selected = |item: &&Value| {
                        let found = path.iter().try_fold(*item, |value, key| value.get(key.as_str()));
                        found.is_some_and(|found| compare(found, *operator, wanted))
                    };
                    out.extend(list.iter().filter(selected));
                }
                // Only lists have places and can be filtered.
                _ => return None,
            }
        }
        Some(out)
    }
}

/// Finds a value and all that is below it, except for numbers, bools and what is empty.
fn descend<'a>(value: &'a Value, out: &mut Vec<&'a Value>, room: &mut usize) -> Option<()> {
    let mut waiting = vec![value];
    while let Some(value) = waiting.pop() {
        match value {
            Value::Array(list) if !list.is_empty() => {
                spend(room, list.len())?;
                waiting.extend(list.iter().rev());
            }
            Value::Object(map) if !map.is_empty() => {
                spend(room, map.len())?;
                waiting.extend(map.values().rev());
            }
            Value::String(text) if !text.is_empty() => {}
            _ => continue,
        }
        out.push(value);
    }
    Some(())
}

fn compare(found: &Value, operator: Operator, wanted: &Value) -> bool {
    let order = match (found, wanted) {
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        (Value::Number(a), Value::Number(b)) => a.as_f64().zip(b.as_f64()).and_then(|(a, b)| a.partial_cmp(&b)),
        (a, b) if a == b => Some(std::cmp::Ordering::Equal),
        _ => None,
    };
    match operator {
        Operator::Exists => true,
        Operator::Equal => order.is_some_and(std::cmp::Ordering::is_eq),
        Operator::NotEqual => !order.is_some_and(std::cmp::Ordering::is_eq),
        Operator::Less => order.is_some_and(std::cmp::Ordering::is_lt),
        Operator::LessOrEqual => order.is_some_and(std::cmp::Ordering::is_le),
        Operator::Greater => order.is_some_and(std::cmp::Ordering::is_gt),
        Operator::GreaterOrEqual => order.is_some_and(std::cmp::Ordering::is_ge),
    }
}

#[cfg(test)]
mod tests;
