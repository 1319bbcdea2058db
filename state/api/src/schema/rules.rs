//! The CEL rules of custom kinds: `x-kubernetes-validations`.
//!
//! * [`declare`] says what expressions see of the data: the types of a schema, its limits.
//! * [`Rules`] is the tree of a schema's rules, compiled once and shared by all requests; [`run`] applies it to an object.
//! * [`define`] says what is wrong with the rules of a CustomResourceDefinition, and refuses those that could cost too much.
//!
//! A rule sees the value that it stands at as `self`; what the value was before, where that can be told, as `oldSelf`.

mod declare;
mod define;
mod path;
mod run;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use serde_json::Value;
use setpoint_cel::{Declaration, Environment, Program, Type};

pub(crate) use declare::{declaration, is_embedded};
pub(crate) use define::faults;
pub(crate) use run::{skipped, validate};

/// The rules at a place of a schema and below it.
#[derive(Debug)]
pub(crate) struct Rules {
    rules: Vec<Rule>,
    /// The type's name in the schema, which errors about the rules themselves show as the value.
    kind: Box<str>,
    declaration: Option<Arc<Declaration>>,
    properties: Vec<(Box<str>, Rules)>,
    values: Option<Box<Rules>>,
    items: Option<Box<Rules>>,
    /// The names that make a list's items the same items; without them, items have no past.
    keys: Option<Vec<Box<str>>>,
}

/// One rule.
#[derive(Debug)]
pub(crate) struct Rule {
    /// The rule as it is written, without the space around.
    text: Box<str>,
    message: Box<str>,
    reason: Box<str>,
    /// Below the place of the rule; "" is the place itself.
    field: Box<str>,
    program: Result<Program, String>,
    message_program: Option<Program>,
    uses_old: bool,
    optional_old: bool,
}

fn text<'a>(source: &'a Value, key: &str) -> &'a str {
    source.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn rules_of(schema: &Value) -> &[Value] {
    let rules = schema.get("x-kubernetes-validations").and_then(Value::as_array);
    rules.map(Vec::as_slice).unwrap_or_default()
}

/// Makes what the expressions of a rule may refer to.
fn environment(declaration: &Arc<Declaration>, optional_old: bool) -> Environment {
    let environment = Environment::default().declare("self", declaration);
    if optional_old {
        environment.declare_optional("oldSelf", declaration)
    } else {
        environment.declare("oldSelf", declaration)
    }
}

/// Compiles a rule.
///
/// Errors: what is wrong with it, as Kubernetes says it.
fn compile(text: &str, environment: &Environment) -> Result<Program, String> {
    let program = Program::compile(text, environment).map_err(|issues| format!("compilation failed: {issues}"))?;
    if *program.result_type() == Type::Bool {
        Ok(program)
    } else {
        Err("cel expression must evaluate to a bool".to_owned())
    }
}

/// Compiles the expression of a rule's message; the errors are as those of [`compile`].
fn compile_message(text: &str, environment: &Environment) -> Result<Program, String> {
    let program = Program::compile(text, environment)
        .map_err(|issues| format!("messageExpression compilation failed: {issues}"))?;
    if *program.result_type() == Type::String {
        Ok(program)
    } else {
        Err("messageExpression must evaluate to a string".to_owned())
    }
}

impl Rule {
    fn new(source: &Value, schema: &Value, declaration: &Arc<Declaration>) -> Rule {
        let optional_old = source.get("optionalOldSelf").and_then(Value::as_bool).unwrap_or(false);
        let environment = environment(declaration, optional_old);
        let program = compile(text(source, "rule"), &environment);
        let message = text(source, "messageExpression");
        let field = text(source, "fieldPath");
        Rule {
            text: text(source, "rule").trim().into(),
            message: text(source, "message").trim().into(),
            reason: text(source, "reason").into(),
            field: path::normalized(field, schema).unwrap_or_default().into(),
            uses_old: program.as_ref().is_ok_and(|program| program.uses("oldSelf")),
            // One that cannot be compiled was refused with the definition.
            message_program: (!message.is_empty())
                .then(|| compile_message(message, &environment).ok())
                .flatten(),
            program,
            optional_old,
        }
    }

    /// Returns how errors call the rule.
    fn shown(&self) -> &str {
        if self.message.is_empty() {
            &self.text
        } else {
            &self.message
        }
    }
}

impl Rules {
    /// Makes the tree of a schema that is structural, or nothing if there are no rules.
    pub fn new(schema: &Value) -> Option<Rules> {
        Rules::at(schema, declaration(schema, true).map(Arc::new))
    }

    fn at(schema: &Value, declaration: Option<Arc<Declaration>>) -> Option<Rules> {
        let own = match &declaration {
            Some(declaration) => {
                let written = rules_of(schema)
                    .iter()
                    .filter(|rule| !text(rule, "rule").trim().is_empty());
                written.map(|rule| Rule::new(rule, schema, declaration)).collect()
            }
            // What no expression can see has no rules.
            None => Vec::new(),
        };
        let mut properties = Vec::new();
        for (name, below) in schema
            .get("properties")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
        {
            if let Some(found) = Rules::below(below) {
                properties.push((name.as_str().into(), found));
            }
        }
        let below = |key: &str| {
            let below = schema.get(key).filter(|below| below.is_object())?;
            Rules::below(below).map(Box::new)
        };
        let found = Rules {
            rules: own,
            kind: text(schema, "type").into(),
            values: below("additionalProperties"),
            items: below("items"),
            keys: keys(schema),
            declaration,
            properties,
        };
        let any =
            !found.rules.is_empty() || !found.properties.is_empty() || found.values.is_some() || found.items.is_some();
        any.then_some(found)
    }

    fn below(schema: &Value) -> Option<Rules> {
        // Declaring a large schema takes a while: where no rule is below, it is not done.
        if !mentions_rules(schema) {
            return None;
        }
        Rules::at(schema, declaration(schema, is_embedded(schema)).map(Arc::new))
    }
}

fn mentions_rules(schema: &Value) -> bool {
    if !rules_of(schema).is_empty() {
        return true;
    }
    let one = |key: &str| schema.get(key).is_some_and(mentions_rules);
    let properties = schema.get("properties").and_then(Value::as_object);
    properties.into_iter().flatten().any(|(_, below)| mentions_rules(below))
        || one("items")
        || one("additionalProperties")
}

/// Returns the keys of a list's items, if it is a list whose items have keys.
fn keys(schema: &Value) -> Option<Vec<Box<str>>> {
    if text(schema, "x-kubernetes-list-type") != "map" {
        return None;
    }
    let keys = schema.get("x-kubernetes-list-map-keys")?.as_array()?;
    Some(keys.iter().filter_map(Value::as_str).map(Into::into).collect())
}
