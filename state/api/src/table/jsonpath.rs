//! The simple JSONPath of `additionalPrinterColumns`, scale paths and selectable fields.
//!
//! Fields (`.a.b`, `['a.b']`, dots escaped by a backslash), indices (`[0]`, `[-1]`), `[*]`, and filters on a field
//! (`[?(@.type=="Ready")]`).

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
    All,
    Filter {
        path: Vec<String>,
        operator: Operator,
        value: Value,
    },
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
            if let Some(after) = rest.strip_prefix('.') {
                if after.starts_with('.') {
                    return Err(wrong("recursive descent is not supported"));
                }
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

    /// Returns everything that the path leads to.
    pub fn find<'a>(&self, value: &'a Value) -> Vec<&'a Value> {
        let mut found = vec![value];
        for step in &self.steps {
            found = found.into_iter().flat_map(|value| step.apply(value)).collect();
        }
        found
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
    if inner == "*" {
        return Ok(Step::All);
    }
    if let Some(name) = quoted(inner) {
        return Ok(Step::Field(name.to_owned()));
    }
    if let Some(filter) = inner.strip_prefix("?(").and_then(|rest| rest.strip_suffix(')')) {
        return filter_step(filter.trim());
    }
    inner
        .parse()
        .map(Step::Index)
        .map_err(|_| "a bracket holds an index, '*', a quoted name or a filter")
}

fn quoted(text: &str) -> Option<&str> {
    ['\'', '"']
        .into_iter()
        .find_map(|quote| text.strip_prefix(quote)?.strip_suffix(quote))
}

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
    let left = left.strip_prefix('@').ok_or("a filter's left side starts with @")?;
    let path = if left.is_empty() {
        Some(Vec::new())
    } else {
        JsonPath::parse(left).ok().and_then(|path| path.fields())
    };
    Ok(Step::Filter {
        path: path.ok_or("a filter looks at fields only")?,
        operator,
        value,
    })
}

impl Step {
    fn apply<'a>(&self, value: &'a Value) -> Vec<&'a Value> {
        match self {
            Step::Field(name) => value.get(name.as_str()).into_iter().collect(),
            Step::Index(index) => {
                let list = value.as_array().map_or(&[][..], Vec::as_slice);
                let length = i64::try_from(list.len()).unwrap_or(i64::MAX);
                let at = if *index < 0 { index + length } else { *index };
                usize::try_from(at)
                    .ok()
                    .and_then(|at| list.get(at))
                    .into_iter()
                    .collect()
            }
            Step::All => match value {
                Value::Array(list) => list.iter().collect(),
                Value::Object(map) => map.values().collect(),
                _ => Vec::new(),
            },
            Step::Filter {
                path,
                operator,
                value: wanted,
            } => {
                let items: Vec<&Value> = match value {
                    Value::Array(list) => list.iter().collect(),
                    Value::Object(map) => map.values().collect(),
                    _ => Vec::new(),
                };
                let selected = |item: &&Value| {
                    let found = path.iter().try_fold(*item, |value, key| value.get(key.as_str()));
                    found.is_some_and(|found| compare(found, *operator, wanted))
                };
                items.into_iter().filter(selected).collect()
            }
        }
    }
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
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths_of_printer_columns_find_their_values() {
        let object = json!({
            "spec": {"replicas": 3, "list": [1, 2, 3]},
            "metadata": {"labels": {"app.kubernetes.io/name": "x"}},
            "status": {"conditions": [{"type": "Synced", "status": "False"}, {"type": "Ready", "status": "True"}]},
        });
        for (path, expected) in [
            (".spec.replicas", json!(3)),
            ("$.spec.replicas", json!(3)),
            (".spec.list[1]", json!(2)),
            (".spec.list[-1]", json!(3)),
            (".spec.list[*]", json!(1)),
            (".spec.list", json!([1, 2, 3])),
            (".metadata.labels.app\\.kubernetes\\.io/name", json!("x")),
            (".metadata.labels['app.kubernetes.io/name']", json!("x")),
            (".status.conditions[?(@.type==\"Ready\")].status", json!("True")),
            (".status.conditions[?(@.type=='Ready')].status", json!("True")),
            (".status.conditions[?(@.type != 'Ready')].status", json!("False")),
        ] {
            assert_eq!(JsonPath::parse(path).unwrap().first(&object), Some(expected), "{path}");
        }
        assert_eq!(JsonPath::parse(".spec.none.more").unwrap().first(&object), None);
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for path in ["..a", ".a[", ".a[x]", ".a[?(b)]", ".a."] {
            assert!(JsonPath::parse(path).is_err(), "{path}");
        }
    }
}
