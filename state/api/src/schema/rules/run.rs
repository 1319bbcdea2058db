//! Applies rules to an object.
//!
//! * Rules that look at the past apply only where there is one: not to new objects, and not to items of lists without keys.
//! * What has not changed may break a rule that does not look at the past (ratcheting), so that an object that was stored
//!   under other rules can still be worked on.
//! * All rules of an object share one budget; when it is used up, no more rules are run and the object is refused.

use serde_json::Value;
use setpoint_cel::{CALL_LIMIT, EvaluationError, OBJECT_LIMIT, Value as CelValue};

use super::{Rule, Rules};
use crate::schema::index::Index;
use crate::validate::field::Path;
use crate::{FieldError, FieldErrorKind};

/// How long a message may be that an expression makes, in bytes.
const MESSAGE: usize = 5 * 1024;

/// Returns the rules that an object breaks.
pub(crate) fn validate(rules: &Rules, value: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut run = Run {
        errors: Vec::new(),
        budget: OBJECT_LIMIT,
    };
    let past = Past {
        here: old.map(|old| (value, old)),
        nearest: None,
    };
    // Without budget the walk ends early; the error is there already then.
    run.visit(rules, &Path::new(""), value, old, past);
    run.errors
}

/// What is known of how a value was.
#[derive(Clone, Copy)]
struct Past<'a> {
    /// The value and what it was.
    here: Option<(&'a Value, &'a Value)>,
    /// The same of the nearest place above that has a past.
    nearest: Option<(&'a Value, &'a Value)>,
}

impl<'a> Past<'a> {
    /// Whether the value, or what it is a part of, is what it was.
    fn is_unchanged(&self) -> bool {
        self.here.or(self.nearest).is_some_and(|(new, old)| new == old)
    }

    fn below(self, find: impl FnOnce(&'a Value, &'a Value) -> Option<(&'a Value, &'a Value)>) -> Past<'a> {
        match self.here {
            Some((new, old)) => Past {
                here: find(new, old),
                nearest: self.here,
            },
            None => self,
        }
    }

    fn key(self, key: &str) -> Past<'a> {
        if self.nearest.is_none() && matches!(key, "apiVersion" | "kind") {
            return Past {
                here: None,
                nearest: None,
            };
        }
        self.below(|new, old| Some((new.get(key)?, old.get(key)?)))
    }
}

struct Run {
    errors: Vec<FieldError>,
    /// What the remaining rules may cost.
    budget: u64,
}

impl Run {
    /// Visits a value and what is below; `None` when the budget is used up.
    fn visit(&mut self, rules: &Rules, path: &Path, value: &Value, old: Option<&Value>, past: Past<'_>) -> Option<()> {
        if value.is_null() {
            return Some(());
        }
        let old = old.filter(|old| !old.is_null());
        self.apply(rules, path, value, old, past)?;
        match value {
            Value::Object(map) => {
                for (key, child) in map {
                    let before = old.and_then(|old| old.get(key));
                    if let Some(below) = &rules.values {
                        self.visit(below, &path.key(key), child, before, past.key(key))?;
                    }
                    if let Some((_, below)) = rules.properties.iter().find(|(name, _)| **name == **key) {
                        self.visit(below, &path.child(key), child, before, past.key(key))?;
                    }
                }
            }
            Value::Array(items) => {
                let Some(below) = &rules.items else { return Some(()) };
                let keys = rules.keys.as_deref().map(|keys| keys.iter().map(|key| &**key));
                let index = keys.zip(old).map(|(keys, old)| Index::new(keys, old));
                for (at, item) in items.iter().enumerate() {
                    let before = index.as_ref().and_then(|index| index.find(item));
                    let past = past.below(|_, _| Some((item, before?)));
                    self.visit(below, &path.index(at), item, before, past)?;
                }
            }
            _ => {}
        }
        Some(())
    }

    fn apply(&mut self, rules: &Rules, path: &Path, value: &Value, old: Option<&Value>, past: Past<'_>) -> Option<()> {
        let Some(declaration) = rules.declaration.as_ref().filter(|_| !rules.rules.is_empty()) else {
            return Some(());
        };
        if self.budget == 0 {
            self.refuse(rules, path, OUT_OF_BUDGET.to_owned());
            return None;
        }
        let now = declaration.read(value);
        let uses_old = rules.rules.iter().any(|rule| rule.uses_old);
        let before = old.filter(|_| uses_old).map(|old| declaration.read(old));
        for rule in &rules.rules {
            if rule.uses_old && before.is_none() && !rule.optional_old {
                continue;
            }
            let old_self = if rule.optional_old {
                Some(CelValue::Optional(before.clone().map(Into::into)))
            } else {
                before.clone()
            };
            let variables = [Some(now.clone()), old_self];
            let program = match &rule.program {
                Ok(program) => program,
                Err(why) => {
                    self.refuse(rules, path, format!("rule compile error: {why}"));
                    continue;
                }
            };
            let outcome = program.run(&variables, CALL_LIMIT);
            if outcome.cost > self.budget {
                self.refuse(rules, path, OUT_OF_BUDGET.to_owned());
                return None;
            }
            self.budget -= outcome.cost;
            match outcome.value {
                Ok(CelValue::Bool(true)) => continue,
                Ok(_) => {}
                Err(error) => {
                    let shown = rule.shown();
                    let ends = error == EvaluationError::CostLimit;
                    self.refuse(rules, path, match &error {
                        EvaluationError::CostLimit => {
                            format!("'{error}': no further validation rules will be run due to call cost exceeds limit for rule: {shown}")
                        }
                        EvaluationError::Error(why) if why.starts_with("no such overload") => format!(
                            "'{error}': call arguments did not match a supported operator, function or macro signature for rule: {shown}"
                        ),
                        EvaluationError::Error(_) => format!("{error} evaluating rule: {shown}"),
                    });
                    if ends {
                        return None;
                    }
                    continue;
                }
            }
            // The message sees the old value itself, also where the rule sees it as optional.
            let variables = [Some(now.clone()), before.clone()];
            let detail = match self.message(rule, &variables) {
                Ok(detail) => detail,
                Err(why) => {
                    self.refuse(rules, path, why);
                    return None;
                }
            };
            if rule.uses_old || !past.is_unchanged() {
                let error = broken(rule, &rules.kind, path, value, detail);
                self.errors.push(error);
            }
        }
        Some(())
    }

    /// Reports a fault of a rule itself.
    fn refuse(&mut self, rules: &Rules, path: &Path, detail: String) {
        let mut error = FieldError::invalid(path, &*rules.kind, detail);
        name_root(&mut error);
        self.errors.push(error);
    }

    /// Returns what is said of a broken rule: what its expression makes, or what is written, or the rule.
    fn message(&mut self, rule: &Rule, variables: &[Option<CelValue>]) -> Result<String, String> {
        if let Some(program) = &rule.message_program {
            let outcome = program.run(variables, CALL_LIMIT);
            if outcome.cost > self.budget {
                return Err(
                    "messageExpression evaluation failed due to running out of cost budget, no further validation rules will be run"
                        .to_owned(),
                );
            }
            if matches!(outcome.value, Err(EvaluationError::CostLimit)) {
                return Err(
                    "no further validation rules will be run due to call cost exceeds limit for messageExpression"
                        .to_owned(),
                );
            }
            self.budget -= outcome.cost;
            if let Ok(CelValue::String(made)) = outcome.value {
                let made = made.trim();
                if !made.is_empty() && made.len() <= MESSAGE && !made.contains('\n') {
                    return Ok(made.to_owned());
                }
            }
        }
        if rule.message.is_empty() {
            return Ok(format!("failed rule: {}", rule.text));
        }
        Ok(rule.message.to_string())
    }
}

const OUT_OF_BUDGET: &str =
    "validation failed due to running out of cost budget, no further validation rules will be run";

/// Makes the error of a broken rule.
fn broken(rule: &Rule, kind: &str, path: &Path, value: &Value, detail: String) -> FieldError {
    let place = if rule.field.is_empty() {
        path.clone()
    } else if rule.field.starts_with('[') {
        Path::new(&format!("{path}{}", rule.field))
    } else {
        path.child(&rule.field)
    };
    let mut error = match &*rule.reason {
        "FieldValueForbidden" => FieldError::forbidden(&place, detail),
        "FieldValueRequired" => FieldError::required(&place, detail),
        "FieldValueDuplicate" => FieldError::duplicate(&place, value.clone()),
        _ => FieldError::invalid(&place, value.clone(), detail),
    };
    // Objects and lists are not shown.
    if matches!(kind, "object" | "array") {
        error.value = None;
    }
    name_root(&mut error);
    error
}

/// The object itself has a name of its own in errors.
fn name_root(error: &mut FieldError) {
    if error.field.is_empty() {
        error.field = "<nil>".to_owned();
    }
}

/// The error that says that rules were not looked at, since what they look at is wrong already.
pub(crate) fn skipped(errors: &[FieldError]) -> Option<FieldError> {
    let blocks = |error: &FieldError| {
        matches!(
            error.kind,
            FieldErrorKind::NotSupported
                | FieldErrorKind::Required
                | FieldErrorKind::TooLong
                | FieldErrorKind::TooMany
                | FieldErrorKind::TypeInvalid
        )
    };
    let detail = "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation";
    errors
        .iter()
        .any(blocks)
        .then(|| FieldError::invalid("<nil>", Value::Null, detail))
}
