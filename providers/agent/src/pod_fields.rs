//! Which fields of a pod are honoured on this node. What is not is refused when it would change what the pod does, and warned about when the
//! pod runs as well without it; nothing is dropped in silence. The table names every field that Kubernetes knows: a test walks the schema.

mod table;

use serde_json::Value;

use table::{Rule, rules};

/// What became of a pod's fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Fields that cannot be honoured: their path and why.
    pub refused: Vec<(String, String)>,
    /// Remarks for the client about fields that are not used.
    pub warnings: Vec<String>,
}

/// Checks a pod's `spec`, or that of a pod template. Paths begin with `spec`.
pub fn check(spec: &Value) -> Checked {
    let mut checked = Checked::default();
    object(spec, "PodSpec", "spec", &mut checked);
    checked
}

fn object(value: &Value, kind: &str, path: &str, checked: &mut Checked) {
    let (Some(fields), Some(rows)) = (value.as_object(), rules(kind)) else {
        return;
    };
    for (name, value) in fields.iter().filter(|(_, value)| !is_empty(value)) {
        // Fields that nobody knows are the API's own matter.
        let Some((_, rule)) = rows.iter().find(|(known, _)| known == name) else {
            continue;
        };
        field(value, rule, &format!("{path}.{name}"), checked);
    }
}

fn field(value: &Value, rule: &Rule, path: &str, checked: &mut Checked) {
    let refuse = |checked: &mut Checked, why: &str| checked.refused.push((path.to_owned(), why.to_owned()));
    match rule {
        Rule::Honoured => {}
        Rule::Into(kind) => match value {
            Value::Array(items) => {
                for (at, item) in items.iter().enumerate() {
                    object(item, kind, &format!("{path}[{at}]"), checked);
                }
            }
            value => object(value, kind, path, checked),
        },
        Rule::Refused(why) => refuse(checked, why),
        Rule::NotEmpty(why) => {
            if value.as_object().is_none_or(|fields| !fields.is_empty()) {
                refuse(checked, why);
            }
        }
        Rule::Warned(why) => checked.warnings.push(format!("{path}: {why}")),
        Rule::Only(allowed, why) => {
            if value.as_str().is_some_and(|text| !allowed.contains(&text)) {
                refuse(checked, why);
            }
        }
        Rule::OnlyWarned(word, warning, why) => {
            if value == *word {
                checked.warnings.push(format!("{path}: {warning}"));
            } else {
                refuse(checked, why);
            }
        }
        Rule::WarnedUnless(usual, why) => {
            let shown = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            if shown != *usual {
                checked.warnings.push(format!("{path}: {why}"));
            }
        }
        Rule::RefusedWhenFalse(why) => {
            if value == &Value::Bool(false) {
                refuse(checked, why);
            }
        }
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::String(text) => text.is_empty(),
        Value::Number(number) => number.as_i64() == Some(0),
        Value::Bool(_) | Value::Object(_) => false,
    }
}

#[cfg(test)]
mod tests;
