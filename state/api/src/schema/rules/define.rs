//! What is wrong with the rules of a CustomResourceDefinition's schema.
//!
//! Rules are compiled against the types of the schema, and what they can cost at most is estimated: a definition whose
//! rules could hold up the server is refused when it is written, not when its objects are.

use std::sync::Arc;

use serde_json::{Value, json};
use setpoint_cel::{Declaration, Program, declare::REQUEST};

use super::{compile, compile_message, declaration, environment, is_embedded, path, rules_of, text};
use crate::FieldError;
use crate::validate::field::Path;

/// The most that one rule may cost for an object.
const RULE_LIMIT: u64 = 10_000_000;
/// The most that all rules of a schema may cost for an object.
const TOTAL_LIMIT: u64 = 100_000_000;
const REASONS: [&str; 4] = [
    "FieldValueDuplicate",
    "FieldValueForbidden",
    "FieldValueInvalid",
    "FieldValueRequired",
];

/// Returns what is wrong with the rules in a structural schema, with paths below `prefix` (the schema's own path).
pub(crate) fn faults(schema: &Value, prefix: &Path) -> Vec<FieldError> {
    let mut walk = Walk {
        errors: Vec::new(),
        total: 0,
        expensive: Vec::new(),
    };
    let place = Place {
        path: prefix.clone(),
        often: Some(1),
        fixed: None,
    };
    walk.visit(schema, place, true, false);
    if walk.total > TOTAL_LIMIT {
        for (_, path) in &walk.expensive {
            let why = "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema";
            walk.errors.push(FieldError::forbidden(path, why));
        }
        let what = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema";
        walk.errors
            .push(FieldError::forbidden(prefix, too_costly(what, walk.total, TOTAL_LIMIT)));
    }
    walk.errors
}

/// A place of the schema.
#[derive(Clone)]
struct Place {
    path: Path,
    /// How often a value can be there in one object, if that is limited.
    often: Option<u64>,
    /// The place above (or this one) whose parts have no past, if there is one.
    fixed: Option<Path>,
}

struct Walk {
    errors: Vec<FieldError>,
    total: u64,
    /// The rules that cost most, the most expensive first.
    expensive: Vec<(u64, Path)>,
}

impl Walk {
    /// Visits a place and what is below. `nested` says that it is inside of `allOf` and its like, where rules are checked for
    /// their form alone.
    fn visit(&mut self, schema: &Value, place: Place, root: bool, nested: bool) {
        let before = self.errors.len();
        let below = |path: Path, often: Option<u64>, fixed: Option<Path>| Place { path, often, fixed };
        let map = schema.get("additionalProperties").filter(|values| values.is_object());
        if let Some(values) = map {
            let often = times(place.often, limit(schema, "maxProperties"));
            let path = place.path.child("additionalProperties");
            self.visit(values, below(path, often, place.fixed.clone()), false, nested);
        }
        for (name, property) in schema
            .get("properties")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
        {
            let path = place.path.child("properties").key(name);
            let often = if map.is_some() {
                times(place.often, limit(schema, "maxProperties"))
            } else {
                place.often
            };
            self.visit(property, below(path, often, place.fixed.clone()), false, nested);
        }
        if let Some(items) = schema.get("items").filter(|items| items.is_object()) {
            let often = times(place.often, limit(schema, "maxItems"));
            let keyed = text(schema, "x-kubernetes-list-type") == "map";
            let fixed = place.fixed.clone().or_else(|| (!keyed).then(|| place.path.clone()));
            self.visit(items, below(place.path.child("items"), often, fixed), false, nested);
        }
        for key in ["allOf", "oneOf", "anyOf"] {
            for (index, inner) in schema
                .get(key)
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .enumerate()
            {
                let path = place.path.child(key).index(index);
                self.visit(inner, below(path, None, place.fixed.clone()), false, true);
            }
        }
        if let Some(not) = schema.get("not").filter(|not| not.is_object()) {
            self.visit(
                not,
                below(place.path.child("not"), None, place.fixed.clone()),
                false,
                true,
            );
        }
        let rules = rules_of(schema);
        if rules.is_empty() {
            return;
        }
        let at = place.path.child("x-kubernetes-validations");
        for (index, rule) in rules.iter().enumerate() {
            self.form(rule, &at.index(index), schema);
        }
        if nested || self.errors.len() > before {
            return;
        }
        let Some(declaration) = declaration(schema, root || is_embedded(schema)).map(Arc::new) else {
            let why = "internal error: failed to construct type information for x-kubernetes-validations rules: unable to convert structural schema to CEL declarations";
            self.errors.push(FieldError::internal(&at, why));
            return;
        };
        for (index, rule) in rules.iter().enumerate() {
            self.meaning(rule, &at.index(index), &declaration, &place);
        }
    }

    /// Checks what can be seen without compiling.
    fn form(&mut self, rule: &Value, at: &Path, schema: &Value) {
        let trimmed = |key: &str| text(rule, key).trim();
        let broken = |text: &str| text.contains(['\n', '\r']);
        let given = |key: &str| !text(rule, key).is_empty();
        if trimmed("rule").is_empty() {
            self.errors
                .push(FieldError::required(at.child("rule"), "rule is not specified"));
        } else if given("message") && trimmed("message").is_empty() {
            let why = "must be non-empty if specified";
            self.errors
                .push(FieldError::invalid(at.child("message"), text(rule, "message"), why));
        } else if broken(trimmed("message")) {
            let why = "must not contain line breaks";
            self.errors
                .push(FieldError::invalid(at.child("message"), text(rule, "message"), why));
        } else if broken(trimmed("rule")) && trimmed("message").is_empty() {
            let why = "message must be specified if rule contains line breaks";
            self.errors.push(FieldError::required(at.child("message"), why));
        }
        if given("messageExpression") && trimmed("messageExpression").is_empty() {
            let why = "messageExpression must be non-empty if specified";
            self.errors
                .push(FieldError::required(at.child("messageExpression"), why));
        }
        if given("reason") && !REASONS.contains(&text(rule, "reason")) {
            self.errors.push(FieldError::not_supported(
                at.child("reason"),
                text(rule, "reason"),
                &REASONS,
            ));
        }
        if given("fieldPath") {
            let mut refuse = |why: &str| {
                self.errors
                    .push(FieldError::invalid(at.child("fieldPath"), text(rule, "fieldPath"), why));
            };
            if trimmed("fieldPath").is_empty() {
                refuse("must be non-empty if specified");
            }
            if broken(text(rule, "fieldPath")) {
                refuse("must not contain line breaks");
            }
            if path::normalized(text(rule, "fieldPath"), schema).is_none() {
                refuse("must be a valid path");
            }
        }
    }

    /// Compiles a rule and estimates what it costs.
    fn meaning(&mut self, rule: &Value, at: &Path, declaration: &Arc<Declaration>, place: &Place) {
        let optional = rule.get("optionalOldSelf").filter(|flag| !flag.is_null());
        let environment = environment(declaration, optional == Some(&Value::Bool(true)));
        let mut uses_old = false;
        match compile(text(rule, "rule"), &environment) {
            Ok(program) => {
                uses_old = program.uses("oldSelf");
                let often = place.often.unwrap_or(REQUEST / (declaration.least_bytes + 1));
                self.estimate(&program, often, "estimated rule cost", &at.child("rule"));
            }
            Err(why) => self
                .errors
                .push(FieldError::invalid(at.child("rule"), shown(rule), why)),
        }
        if !text(rule, "messageExpression").is_empty() {
            let at = at.child("messageExpression");
            match compile_message(text(rule, "messageExpression"), &environment) {
                Ok(program) => self.estimate(&program, 1, "estimated messageExpression cost", &at),
                Err(why) => self.errors.push(FieldError::invalid(at, shown(rule), why)),
            }
        }
        if uses_old {
            if let Some(fixed) = &place.fixed {
                let why = format!("oldSelf cannot be used on the uncorrelatable portion of the schema within {fixed}");
                self.errors
                    .push(FieldError::invalid(at.child("rule"), text(rule, "rule"), why));
            }
        } else if let Some(optional) = optional {
            let why = "may not be set if oldSelf is not used in rule";
            self.errors
                .push(FieldError::invalid(at.child("optionalOldSelf"), optional.clone(), why));
        }
    }

    fn estimate(&mut self, program: &Program, often: u64, what: &str, at: &Path) {
        let cost = program.worst_cost().saturating_mul(often);
        if cost > RULE_LIMIT {
            self.errors
                .push(FieldError::forbidden(at, too_costly(what, cost, RULE_LIMIT)));
        }
        self.total = self.total.saturating_add(cost);
        if cost >= TOTAL_LIMIT / 100 {
            self.expensive.push((cost, at.clone()));
            self.expensive.sort_by_key(|(cost, _)| std::cmp::Reverse(*cost));
            self.expensive.truncate(4);
        }
    }
}

fn limit(schema: &Value, key: &str) -> Option<u64> {
    schema
        .get(key)
        .and_then(Value::as_i64)
        .map(|limit| u64::try_from(limit).unwrap_or(0))
}

fn times(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    Some(a?.saturating_mul(b?))
}

#[allow(clippy::cast_precision_loss)]
fn too_costly(what: &str, cost: u64, limit: u64) -> String {
    let factor = cost as f64 / limit as f64;
    let factor = if factor > 100.0 {
        "more than 100x".to_owned()
    } else if factor < 1.5 {
        format!("{factor:.6}x")
    } else {
        format!("{factor:.1}x")
    };
    format!(
        "{what} exceeds budget by factor of {factor} (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)"
    )
}

/// Shows a rule as Kubernetes' type has it.
fn shown(rule: &Value) -> Value {
    let get = |key: &str| rule.get(key).cloned().unwrap_or(Value::Null);
    json!({
        "Rule": text(rule, "rule"), "Message": text(rule, "message"), "MessageExpression": text(rule, "messageExpression"),
        "Reason": get("reason"), "FieldPath": text(rule, "fieldPath"), "OptionalOldSelf": get("optionalOldSelf"),
    })
}
