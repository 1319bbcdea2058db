//! Helpers: the functions of Go templates, called the way of handlebars.

use std::rc::Rc;

use super::Error;

use super::render::{Renderer, error};
use super::scope::{Scopes, field, unknown};
use super::tree::{At, Call, Expr, ExprKind};
use crate::gotemplate::exec::Param;
use crate::value::{ListKind, MapKind, Str, Value};

/// What compares numbers, whatever their types.
const COMPARING: [&str; 6] = ["eq", "ne", "lt", "le", "gt", "ge"];

impl Renderer<'_> {
    /// Evaluates an expression.
    pub(super) fn evaluate(&mut self, file: &Rc<str>, scopes: &Scopes, expr: &Expr) -> Result<Value, Error> {
        match &expr.kind {
            ExprKind::Literal(value) => Ok(value.clone()),
            ExprKind::Call(call) => self.call(file, scopes, call),
            ExprKind::Path(path) => scopes.resolve(path).or_else(|missing| {
                // A name alone may be a helper without arguments.
                let call = match path.names.as_slice() {
                    [name] if path.up == 0 && !path.is_data && !path.is_this => crate::functions::find(name)
                        .filter(|function| function.params.is_empty())
                        .map(|_| Call {
                            at: expr.at,
                            name: name.clone(),
                            params: Vec::new(),
                        }),
                    _ => None,
                };
                match call {
                    Some(call) => self.call(file, scopes, &call),
                    None => Err(error(file, expr.at, missing.words())),
                }
            }),
        }
    }

    /// Evaluates an argument that may be missing.
    fn maybe(&mut self, file: &Rc<str>, scopes: &Scopes, expr: &Expr) -> Result<Value, Error> {
        match &expr.kind {
            ExprKind::Path(path) => Ok(scopes.resolve(path).unwrap_or(Value::Nil)),
            _ => self.evaluate(file, scopes, expr),
        }
    }

    fn call(&mut self, file: &Rc<str>, scopes: &Scopes, call: &Call) -> Result<Value, Error> {
        self.tick(file, call.at)?;
        let name = call.name.as_str();
        let counted = |least: usize, most: usize| {
            let count = call.params.len();
            if (least..=most).contains(&count) {
                return Ok(());
            }
            Err(error(
                file,
                call.at,
                format!("{name} is given {count} arguments; it takes {}", wanted(least, most)),
            ))
        };
        match name {
            "and" | "or" => {
                counted(1, usize::MAX)?;
                let mut value = Value::Nil;
                for param in &call.params {
                    value = self.evaluate(file, scopes, param)?;
                    if value.truth() == (name == "or") {
                        break;
                    }
                }
                Ok(value)
            }
            "exists" => {
                counted(1, 1)?;
                Ok(Value::Bool(!self.maybe(file, scopes, &call.params[0])?.is_nil()))
            }
            "lookup" => {
                counted(2, 2)?;
                let value = self.evaluate(file, scopes, &call.params[0])?;
                let key = self.evaluate(file, scopes, &call.params[1])?;
                let key = text(&key).map_err(|words| error(file, call.params[1].at, words))?;
                field(&value, &key).ok_or_else(|| error(file, call.at, unknown(&value, &call.params[0].text, &key)))
            }
            "include" | "tpl" => {
                let words = format!("{name} belongs to Go templates; write {{{{> name}}}} for a partial `_name.hbs`");
                Err(error(file, call.at, words))
            }
            _ => {
                let Some(function) = crate::functions::find(name) else {
                    return Err(error(file, call.at, format!("there is no helper {name}")));
                };
                let (fixed, repeated) = match function.params.split_once('*') {
                    Some((fixed, repeated)) => (fixed.as_bytes(), repeated.bytes().next()),
                    None => (function.params.as_bytes(), None),
                };
                counted(fixed.len(), if repeated.is_some() { usize::MAX } else { fixed.len() })?;
                let lenient = matches!(name, "default" | "coalesce");
                let mut values = Vec::with_capacity(call.params.len());
                for (index, param) in call.params.iter().enumerate() {
                    let value = if lenient {
                        self.maybe(file, scopes, param)?
                    } else {
                        self.evaluate(file, scopes, param)?
                    };
                    let letter = fixed.get(index).copied().or(repeated).unwrap_or(b'a');
                    let value = fitting(value, Param::of(letter))
                        .map_err(|words| error(file, param.at, format!("argument {} of {name} {words}", index + 1)))?;
                    values.push(value);
                }
                if COMPARING.contains(&name) {
                    as_floats(&mut values);
                }
                self.function(function, &values)
                    .map_err(|words| error(file, call.at, format!("{name}: {words}")))
            }
        }
    }

    pub(super) fn tick(&mut self, file: &Rc<str>, at: At) -> Result<(), Error> {
        self.exec.tick().map_err(|words| error(file, at, words))
    }
}

fn wanted(least: usize, most: usize) -> String {
    match most {
        usize::MAX => format!("{least} or more"),
        most if most == least => least.to_string(),
        most => format!("{least} to {most}"),
    }
}

/// Compares integers with fractions as fractions.
fn as_floats(values: &mut [Value]) {
    if !values.iter().any(|value| matches!(value, Value::Float(_))) {
        return;
    }
    for value in values {
        if let Value::Int(_, number) = value {
            *value = Value::Float(*number as f64);
        }
    }
}

/// Makes a value fit a parameter: numbers are of one kind here, and scalars are text where text is wanted.
fn fitting(value: Value, param: Param) -> Result<Value, String> {
    let whole = |value: &Value| match value {
        Value::Int(_, number) => Some(*number),
        Value::Float(number) if number.fract() == 0.0 && number.abs() < 9e15 => Some(*number as i64),
        _ => None,
    };
    let must = |what: &str, value: &Value| Err(format!("must be {what} and is {}", shown(value)));
    match param {
        Param::Any => Ok(value),
        Param::Str => match text(&value) {
            Ok(text) => Ok(match value {
                Value::Str(_) => value,
                _ => Value::Str(Str::from(text)),
            }),
            Err(_) => must("text", &value),
        },
        Param::Int | Param::Uint32 => whole(&value).map_or_else(|| must("an integer", &value), |n| Ok(Value::int(n))),
        Param::Int64 => whole(&value).map_or_else(|| must("an integer", &value), |n| Ok(Value::int64(n))),
        Param::Float => match value {
            Value::Int(_, number) => Ok(Value::Float(number as f64)),
            Value::Float(_) => Ok(value),
            other => must("a number", &other),
        },
        Param::Bool => match value {
            Value::Bool(_) => Ok(value),
            other => must("true or false", &other),
        },
        Param::Map => match value {
            Value::Map(map) => Ok(Value::Map(map.as_kind(MapKind::Any))),
            other => must("a map", &other),
        },
        Param::List => match value {
            Value::List(list) => Ok(Value::typed_list(ListKind::Any, list.items.to_vec())),
            other => must("a list", &other),
        },
        Param::Time => match value {
            Value::Time(_) => Ok(value),
            other => must("a time", &other),
        },
        Param::Certificate => must("a certificate", &value),
    }
}

/// Names what a value is.
pub(super) fn shown(value: &Value) -> &'static str {
    match value {
        Value::Nil | Value::Invalid => "null",
        Value::Bool(_) => "true or false",
        Value::Int(..) | Value::Float(_) => "a number",
        Value::Str(_) | Value::Bytes(_) => "text",
        Value::List(_) => "a list",
        Value::Time(_) => "a time",
        Value::Map(_) | Value::Object(_) => "a map",
    }
}

/// Gives a scalar as text.
///
/// # Errors
/// Words for what is none.
pub(super) fn text(value: &Value) -> Result<String, String> {
    match value {
        Value::Str(text) | Value::Bytes(text) => Ok(text.text().into_owned()),
        Value::Bool(value) => Ok(value.to_string()),
        Value::Int(_, number) => Ok(number.to_string()),
        Value::Float(number) => {
            Ok(crate::yaml::node::number(*number).map_or_else(|| number.to_string(), |n| n.to_string()))
        }
        Value::Time(time) => Ok(time.rfc3339()),
        other => Err(format!("{} cannot be text", shown(other))),
    }
}
