//! Which values a custom kind's schema allows, and what is said about the others.
//!
//! The messages are those of Kubernetes. A changed object is checked where it changed only (ratcheting), so that an object that
//! was stored under a laxer schema can still be worked on.

use std::sync::OnceLock;

use regex::Regex;
use serde_json::Value;

use super::index::Index;
use super::{ListMerge, Schema, Type, format};
use crate::validate::field::Path;
use crate::{FieldError, FieldErrorKind};

/// The constraints on one value.
#[derive(Clone, Debug, Default)]
pub(crate) struct Checks {
    pub enumeration: Vec<Value>,
    pub minimum: Option<f64>,
    pub exclusive_minimum: bool,
    pub maximum: Option<f64>,
    pub exclusive_maximum: bool,
    pub multiple_of: Option<f64>,
    pub min_length: Option<usize>,
    pub max_length: Option<usize>,
    pub pattern: Option<Pattern>,
    pub format: Option<Box<str>>,
    pub min_items: Option<usize>,
    pub max_items: Option<usize>,
    pub min_properties: Option<usize>,
    pub max_properties: Option<usize>,
    pub required: Vec<Box<str>>,
    pub all_of: Vec<Nested>,
    pub any_of: Vec<Nested>,
    pub one_of: Vec<Nested>,
    pub not: Option<Box<Nested>>,
}

/// A schema inside `allOf`, `anyOf`, `oneOf` or `not`: constraints along the structure that stands outside.
#[derive(Clone, Debug, Default)]
pub(crate) struct Nested {
    /// The JSON type asked for, in the integer-or-string idiom.
    pub kind: Option<&'static str>,
    pub checks: Checks,
    pub properties: Vec<(Box<str>, Nested)>,
    pub items: Option<Box<Nested>>,
}

impl Nested {
    pub fn of_type(kind: &'static str) -> Nested {
        Nested {
            kind: Some(kind),
            ..Nested::default()
        }
    }
}

/// A regular expression, compiled when first used.
#[derive(Clone, Debug)]
pub(crate) struct Pattern {
    pub source: Box<str>,
    compiled: OnceLock<Option<Regex>>,
}

impl Pattern {
    pub fn new(source: &str) -> Pattern {
        Pattern {
            source: source.into(),
            compiled: OnceLock::new(),
        }
    }

    /// Returns what is wrong with the expression.
    pub fn fault(source: &str) -> Option<String> {
        setpoint_cel::pattern_fault(source)
    }

    fn matches(&self, text: &str) -> bool {
        // What does not compile was refused with the definition; a stored one of that kind binds nobody.
        let compiled = self
            .compiled
            .get_or_init(|| setpoint_cel::compile_pattern(&self.source).ok());
        compiled.as_ref().is_none_or(|regex| regex.is_match(text))
    }
}

/// Returns what is wrong with an object of a custom kind; nothing for other schemas.
pub(super) fn validate(schema: &Schema, value: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if !schema.custom {
        return errors;
    }
    if let Some(checks) = &schema.checks {
        constraints(checks, value, &Path::new(""), &mut errors);
    }
    let (Type::Object(object), Value::Object(map)) = (&schema.kind, value) else {
        return errors;
    };
    for field in &object.fields {
        // These are checked for every kind alike.
        if matches!(&*field.name, "apiVersion" | "kind" | "metadata") {
            continue;
        }
        if let Some(child) = map.get(&*field.name) {
            let old = old.and_then(|old| old.get(&*field.name));
            visit(field.schema.get(), child, old, &Path::new(&field.name), &mut errors);
        }
    }
    errors
}

fn visit(schema: &Schema, value: &Value, old: Option<&Value>, path: &Path, errors: &mut Vec<FieldError>) {
    if old.is_some_and(|old| old == value) || (value.is_null() && schema.nullable) {
        return;
    }
    if !type_fits(&schema.kind, value) {
        errors.push(wrong_type(path, value, type_name(&schema.kind)));
        return;
    }
    if let Some(checks) = &schema.checks {
        constraints(checks, value, path, errors);
    }
    match (&schema.kind, value) {
        (Type::Object(object), Value::Object(map)) => {
            for field in &object.fields {
                if let Some(child) = map.get(&*field.name) {
                    let old = old.and_then(|old| old.get(&*field.name));
                    visit(field.schema.get(), child, old, &path.child(&field.name), errors);
                }
            }
            if schema.embedded {
                embedded(value, path, errors);
            }
        }
        (Type::Map(inner), Value::Object(map)) => {
            for (key, child) in map {
                let old = old.and_then(|old| old.get(key));
                visit(inner.values.get(), child, old, &path.child(key), errors);
            }
        }
        (Type::List(list), Value::Array(items)) => {
            duplicates(&list.merge, items, path, errors);
            // Items of atomic lists and sets have no past.
            let before = match (&list.merge, old) {
                (ListMerge::Keys(keys), Some(old)) => Some(Index::new(keys.iter().map(|key| &*key.name), old)),
                _ => None,
            };
            for (index, item) in items.iter().enumerate() {
                let old = before.as_ref().and_then(|before| before.find(item));
                visit(list.items.get(), item, old, &path.index(index), errors);
            }
        }
        _ => {}
    }
}

fn embedded(value: &Value, path: &Path, errors: &mut Vec<FieldError>) {
    for key in ["apiVersion", "kind"] {
        if value.get(key).and_then(Value::as_str).unwrap_or_default().is_empty() {
            errors.push(FieldError::required(path.child(key), "must not be empty"));
        }
    }
}

fn duplicates(merge: &ListMerge, items: &[Value], path: &Path, errors: &mut Vec<FieldError>) {
    let key_of = |item: &Value| match merge {
        ListMerge::Atomic => None,
        ListMerge::Set => Some(item.clone()),
        ListMerge::Keys(keys) => {
            let entries = keys.iter().filter_map(|key| {
                let value = item.get(&*key.name).cloned().or_else(|| key.default.clone())?;
                Some((key.name.to_string(), value))
            });
            Some(Value::Object(entries.collect()))
        }
    };
    let mut seen = std::collections::HashSet::new();
    for (index, item) in items.iter().enumerate() {
        if let Some(key) = key_of(item)
            && !seen.insert(key.to_string())
        {
            errors.push(FieldError::duplicate(path.index(index), key));
        }
    }
}

fn type_fits(kind: &Type, value: &Value) -> bool {
    match kind {
        Type::Object(object) => object.untyped || value.is_object(),
        Type::Map(_) => value.is_object(),
        Type::List(_) => value.is_array(),
        Type::String(_) => value.is_string(),
        Type::Integer(_) => is_integer(value),
        Type::Number => value.is_number(),
        Type::Boolean => value.is_boolean(),
        Type::IntOrString => value.is_string() || is_integer(value),
        Type::Quantity => value.is_string() || value.is_number(),
        Type::Any | Type::Opaque => true,
    }
}

fn is_integer(value: &Value) -> bool {
    value.as_i64().is_some() || value.as_u64().is_some() || value.as_f64().is_some_and(|number| number.fract() == 0.0)
}

fn type_name(kind: &Type) -> &'static str {
    match kind {
        Type::Object(_) | Type::Map(_) => "object",
        Type::List(_) => "array",
        Type::String(_) => "string",
        Type::Integer(_) => "integer",
        Type::Number => "number",
        Type::Boolean => "boolean",
        Type::IntOrString | Type::Quantity => "integer,string",
        Type::Any | Type::Opaque => "any",
    }
}

fn found_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) if is_integer(value) => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn wrong_type(path: &Path, value: &Value, wanted: &str) -> FieldError {
    let found = found_name(value);
    FieldError::type_invalid(
        path,
        found,
        format!("{path} in body must be of type {wanted}: \"{found}\""),
    )
}

fn invalid(path: &Path, value: &Value, what: &str) -> FieldError {
    FieldError::invalid(path, value.clone(), format!("{path} in body {what}"))
}

fn constraints(checks: &Checks, value: &Value, path: &Path, errors: &mut Vec<FieldError>) {
    if !checks.enumeration.is_empty() && !checks.enumeration.contains(value) {
        let mut error = FieldError::not_supported(path, value.clone(), &[] as &[&str]);
        let supported: Vec<String> = checks.enumeration.iter().map(Value::to_string).collect();
        error.detail = format!("supported values: {}", supported.join(", "));
        errors.push(error);
    }
    match value {
        Value::Number(number) => numbers(checks, value, number.as_f64().unwrap_or_default(), path, errors),
        Value::String(text) => strings(checks, value, text, path, errors),
        Value::Array(items) => {
            if let Some(limit) = checks.min_items.filter(|limit| items.len() < *limit) {
                errors.push(invalid(
                    path,
                    &items.len().into(),
                    &format!("should have at least {limit} items"),
                ));
            }
            if let Some(limit) = checks.max_items.filter(|limit| items.len() > *limit) {
                errors.push(FieldError::too_many(path, items.len(), limit));
            }
        }
        Value::Object(map) => {
            for name in &checks.required {
                if !map.contains_key(&**name) {
                    errors.push(FieldError::required(path.child(name), ""));
                }
            }
            if let Some(limit) = checks.min_properties.filter(|limit| map.len() < *limit) {
                errors.push(invalid(
                    path,
                    &map.len().into(),
                    &format!("should have at least {limit} properties"),
                ));
            }
            if let Some(limit) = checks.max_properties.filter(|limit| map.len() > *limit) {
                errors.push(FieldError::too_many(path, map.len(), limit));
            }
        }
        Value::Null | Value::Bool(_) => {}
    }
    combinations(checks, value, path, errors);
}

fn numbers(checks: &Checks, value: &Value, number: f64, path: &Path, errors: &mut Vec<FieldError>) {
    if let Some(limit) = checks.minimum {
        if checks.exclusive_minimum && number <= limit {
            errors.push(invalid(path, value, &format!("should be greater than {limit}")));
        } else if number < limit {
            errors.push(invalid(
                path,
                value,
                &format!("should be greater than or equal to {limit}"),
            ));
        }
    }
    if let Some(limit) = checks.maximum {
        if checks.exclusive_maximum && number >= limit {
            errors.push(invalid(path, value, &format!("should be less than {limit}")));
        } else if number > limit {
            errors.push(invalid(
                path,
                value,
                &format!("should be less than or equal to {limit}"),
            ));
        }
    }
    if let Some(unit) = checks.multiple_of.filter(|unit| *unit > 0.0) {
        let ratio = number / unit;
        if (ratio - ratio.round()).abs() > 1e-9 {
            errors.push(invalid(path, value, &format!("should be a multiple of {unit}")));
        }
    }
}

fn strings(checks: &Checks, value: &Value, text: &str, path: &Path, errors: &mut Vec<FieldError>) {
    let length = text.chars().count();
    if let Some(limit) = checks.max_length.filter(|limit| length > *limit) {
        errors.push(FieldError::too_long(path, limit));
    }
    if let Some(limit) = checks.min_length.filter(|limit| length < *limit) {
        errors.push(invalid(path, value, &format!("should be at least {limit} chars long")));
    }
    if let Some(pattern) = checks.pattern.as_ref().filter(|pattern| !pattern.matches(text)) {
        errors.push(invalid(path, value, &format!("should match '{}'", pattern.source)));
    }
    if let Some(wanted) = checks.format.as_ref().filter(|wanted| !format::matches(wanted, text)) {
        errors.push(invalid(path, value, &format!("must be of type {wanted}: {value}")));
    }
}

fn combinations(checks: &Checks, value: &Value, path: &Path, errors: &mut Vec<FieldError>) {
    let whole = |what: &str| {
        let mut error = FieldError::invalid(path, "", format!("\"{path}\" {what}"));
        if path.as_str().is_empty() {
            error.field = "<nil>".to_owned();
        }
        error
    };
    let faults_of = |nested: &Nested| {
        let mut faults = Vec::new();
        nested_constraints(nested, value, path, &mut faults);
        faults
    };
    for nested in &checks.all_of {
        let faults = faults_of(nested);
        if !faults.is_empty() {
            errors.push(whole("must validate all the schemas (allOf)"));
            errors.extend(faults);
        }
    }
    if !checks.any_of.is_empty() {
        let mut best: Option<Vec<FieldError>> = None;
        for nested in &checks.any_of {
            let faults = faults_of(nested);
            if best.as_ref().is_none_or(|best| faults.len() < best.len()) {
                best = Some(faults);
            }
        }
        if let Some(faults) = best.filter(|faults| !faults.is_empty()) {
            errors.push(whole("must validate at least one schema (anyOf)"));
            errors.extend(faults);
        }
    }
    if !checks.one_of.is_empty() {
        let mut faults: Vec<_> = checks.one_of.iter().map(faults_of).collect();
        match faults.iter().filter(|faults| faults.is_empty()).count() {
            1 => {}
            0 => {
                errors.push(whole("must validate one and only one schema (oneOf). Found none valid"));
                if let [only] = &mut faults[..] {
                    errors.append(only);
                }
            }
            count => errors.push(whole(&format!(
                "must validate one and only one schema (oneOf). Found {count} valid alternatives"
            ))),
        }
    }
    if checks.not.as_ref().is_some_and(|nested| faults_of(nested).is_empty()) {
        errors.push(whole("must not validate the schema (not)"));
    }
}

fn nested_constraints(nested: &Nested, value: &Value, path: &Path, errors: &mut Vec<FieldError>) {
    if let Some(kind) = nested.kind {
        let fits = if kind == "integer" {
            is_integer(value)
        } else {
            value.is_string()
        };
        if !fits {
            errors.push(wrong_type(path, value, kind));
            return;
        }
    }
    constraints(&nested.checks, value, path, errors);
    match value {
        Value::Object(map) => {
            for (name, inner) in &nested.properties {
                if let Some(child) = map.get(&**name) {
                    nested_constraints(inner, child, &path.child(name), errors);
                }
            }
        }
        Value::Array(items) => {
            if let Some(inner) = &nested.items {
                for (index, item) in items.iter().enumerate() {
                    nested_constraints(inner, item, &path.index(index), errors);
                }
            }
        }
        _ => {}
    }
}

/// Returns whether errors are of values, not of a schema: used to tell a default that does not fit.
pub(super) fn default_faults(schema: &Schema, default: &Value) -> Vec<String> {
    let mut errors = Vec::new();
    visit(schema, default, None, &Path::new("default"), &mut errors);
    errors
        .iter()
        .filter(|error| error.kind != FieldErrorKind::Internal)
        .map(ToString::to_string)
        .collect()
}
