//! Calling functions: arguments are checked against the types that the function's Go counterpart declares.

use super::failure::{At, place};
use super::{Done, Exec, Failure, Frame, constant};
use crate::gotemplate::builtin;
use crate::gotemplate::node::{Expr, Operand};
use crate::value::{Entries, IntKind, ListKind, Map, MapKind, Value};

/// The functions that do not go into the depth of what they are given.
const SHALLOW: [&str; 36] = [
    "append", "coalesce", "default", "dict", "dig", "empty", "fail", "first", "get", "hasKey", "include", "index",
    "initial", "keys", "kindIs", "kindOf", "last", "len", "list", "lookup", "not", "omit", "pick", "pluck", "prepend",
    "push", "required", "rest", "set", "ternary", "tpl", "tuple", "typeIs", "typeOf", "unset", "values",
];

/// What a list or a map takes besides what is in it.
const CONTAINER: usize = 96;

/// One row of the table of functions.
pub struct Function {
    /// The name in templates.
    pub name: &'static str,
    /// The parameters: a letter for each as [`Param::of`] reads it, `*` before the last where it repeats.
    pub params: &'static str,
    /// What it does.
    pub call: fn(&mut Exec<'_>, &[Value]) -> Result<Value, Failure>,
}

/// The Go type of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Param {
    /// `interface {}`, or a `reflect.Value`
    Any,
    /// `string`
    Str,
    /// `int`
    Int,
    /// `int64`
    Int64,
    /// `uint32`
    Uint32,
    /// `float64`
    Float,
    /// `bool`
    Bool,
    /// `map[string]interface {}`
    Map,
    /// `[]interface {}`
    List,
    /// `time.Time`
    Time,
    /// `sprig.certificate`
    Certificate,
}

/// The letters of the types.
const PARAMS: [(u8, Param, &str); 11] = [
    (b'a', Param::Any, "interface {}"),
    (b's', Param::Str, "string"),
    (b'i', Param::Int, "int"),
    (b'l', Param::Int64, "int64"),
    (b'u', Param::Uint32, "uint32"),
    (b'f', Param::Float, "float64"),
    (b'b', Param::Bool, "bool"),
    (b'm', Param::Map, "map[string]interface {}"),
    (b'L', Param::List, "[]interface {}"),
    (b't', Param::Time, "time.Time"),
    (b'c', Param::Certificate, "sprig.certificate"),
];

impl Param {
    /// Reads the letter of a table.
    pub fn of(letter: u8) -> Self {
        PARAMS
            .iter()
            .find(|(known, ..)| *known == letter)
            .map_or(Self::Any, |(_, param, _)| *param)
    }

    fn type_name(self) -> &'static str {
        PARAMS
            .iter()
            .find(|(_, param, _)| *param == self)
            .map_or("interface {}", |(.., name)| name)
    }
}

impl Exec<'_> {
    /// Calls a function by its name.
    pub(super) fn function<'t>(
        &mut self,
        frame: &mut Frame<'t>,
        dot: &Value,
        name: &str,
        node: At<'t>,
        args: &'t [Operand],
        last: Option<Value>,
    ) -> Done<Value> {
        if matches!(name, "and" | "or") {
            return self.and_or(frame, dot, name, args, last);
        }
        let Some(function) = crate::functions::find(name) else {
            return Err(frame.fail(&format!("\"{name}\" is not a defined function")));
        };
        let values = self.arguments(frame, dot, name, function.params, args, last)?;
        self.invoke(function, &values).map_err(|cause| {
            frame.at = node;
            cause.within(place(frame.template, &node) + &format!("error calling {name}: "))
        })
    }

    /// Calls a function whose arguments fit; what it goes through and what it gives are counted.
    pub(crate) fn invoke(&mut self, function: &Function, values: &[Value]) -> Done<Value> {
        if !SHALLOW.contains(&function.name) {
            self.weigh(values)?;
        }
        let value = (function.call)(self, values)?;
        match &value {
            Value::Str(text) | Value::Bytes(text) => self.spend(text.len())?,
            Value::List(list) => {
                self.spend(CONTAINER.saturating_add(list.items.len().saturating_mul(size_of::<Value>())))?;
            }
            Value::Map(_) => self.spend(CONTAINER)?,
            _ => {}
        }
        Ok(value)
    }

    fn and_or<'t>(
        &mut self,
        frame: &mut Frame<'t>,
        dot: &Value,
        name: &str,
        args: &'t [Operand],
        last: Option<Value>,
    ) -> Done<Value> {
        if args.is_empty() && last.is_none() {
            return Err(frame.fail(&format!("wrong number of args for {name}: want at least 1 got 0")));
        }
        let mut value = Value::Invalid;
        for arg in args {
            value = self.argument(frame, dot, Some(Param::Any), arg)?;
            if value.truth() == (name == "or") {
                return Ok(value);
            }
        }
        Ok(last.unwrap_or(value))
    }

    /// Evaluates arguments and checks them against the parameters.
    pub(super) fn arguments<'t>(
        &mut self,
        frame: &mut Frame<'t>,
        dot: &Value,
        name: &str,
        params: &str,
        args: &'t [Operand],
        last: Option<Value>,
    ) -> Done<Vec<Value>> {
        let (fixed, variadic) = match params.split_once('*') {
            Some((fixed, repeated)) => (fixed.as_bytes(), repeated.bytes().next()),
            None => (params.as_bytes(), None),
        };
        let count = args.len() + usize::from(last.is_some());
        let wanted = fixed.len();
        if variadic.is_some() && count < wanted {
            return Err(frame.fail(&format!(
                "wrong number of args for {name}: want at least {wanted} got {count}"
            )));
        }
        if variadic.is_none() && count != wanted {
            return Err(frame.fail(&format!("wrong number of args for {name}: want {wanted} got {count}")));
        }
        let param = |index: usize| Param::of(fixed.get(index).copied().or(variadic).unwrap_or(b'a'));
        let mut values = Vec::with_capacity(count);
        for (index, arg) in args.iter().enumerate() {
            values.push(self.argument(frame, dot, Some(param(index)), arg)?.or_nil());
        }
        if let Some(last) = last {
            values.push(validate(frame, last, param(args.len()))?.or_nil());
        }
        Ok(values)
    }

    /// Evaluates one argument; without a parameter any type will do.
    pub(super) fn argument<'t>(
        &mut self,
        frame: &mut Frame<'t>,
        dot: &Value,
        param: Option<Param>,
        arg: &'t Operand,
    ) -> Done<Value> {
        frame.at = At::Operand(arg);
        let value = match &arg.expr {
            Expr::Dot => dot.clone(),
            Expr::Nil => {
                return match param {
                    None | Some(Param::Any) => Ok(Value::Nil),
                    Some(Param::Map) => Ok(Value::Map(Map::new(Entries::new()))),
                    Some(Param::List) => Ok(Value::nil_list()),
                    Some(param) => Err(frame.fail(&format!("cannot assign nil to {}", param.type_name()))),
                };
            }
            Expr::Field(_) | Expr::Variable(..) | Expr::Chain(..) => self.operand(frame, dot, arg, &[], None)?,
            Expr::Pipe(pipe) => self.pipeline(frame, dot, pipe)?,
            Expr::Identifier(name) => self.function(frame, dot, name, At::Operand(arg), &[], None)?,
            Expr::Bool(_) | Expr::Number(_) | Expr::Text(..) => {
                return typed_constant(frame, arg, param.unwrap_or(Param::Any));
            }
        };
        match param {
            Some(param) => validate(frame, value, param),
            None => Ok(value),
        }
    }

    /// Calls a method that the host gives a value, where it has one of that name.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn method<'t>(
        &mut self,
        frame: &mut Frame<'t>,
        dot: &Value,
        receiver: &Value,
        name: &str,
        node: At<'t>,
        args: &'t [Operand],
        last: Option<&Value>,
    ) -> Option<Done<Value>> {
        let (params, call) = builtin::method(receiver, name)?;
        Some(
            self.arguments(frame, dot, name, params, args, last.cloned())
                .and_then(|values| {
                    call(self, receiver, &values).map_err(|cause| {
                        frame.at = node;
                        cause.within(place(frame.template, &node) + &format!("error calling {name}: "))
                    })
                }),
        )
    }
}

fn typed_constant(frame: &Frame<'_>, arg: &Operand, param: Param) -> Done<Value> {
    let expected = |what: &str| Err(frame.fail(&format!("expected {what}; found {arg}")));
    match (param, &arg.expr) {
        (Param::Any, _) => constant(frame, arg),
        (Param::Bool, Expr::Bool(value)) => Ok(Value::Bool(*value)),
        (Param::Bool, _) => expected("bool"),
        (Param::Str, Expr::Text(_, value)) => Ok(Value::Str(value.clone())),
        (Param::Str, _) => expected("string"),
        (Param::Int | Param::Uint32, Expr::Number(number)) if number.int.is_some() => {
            Ok(Value::int(number.int.unwrap_or(0)))
        }
        (Param::Int64, Expr::Number(number)) if number.int.is_some() => Ok(Value::int64(number.int.unwrap_or(0))),
        (Param::Int | Param::Int64, _) => expected("integer"),
        (Param::Uint32, _) => expected("unsigned integer"),
        (Param::Float, Expr::Number(number)) if number.float.is_some() => Ok(Value::Float(number.float.unwrap_or(0.0))),
        (Param::Float, _) => expected("float"),
        (param, _) => Err(frame.fail(&format!("can't handle {arg} for arg of type {}", param.type_name()))),
    }
}

/// Checks a value against the parameter that is to take it.
fn validate(frame: &Frame<'_>, value: Value, param: Param) -> Done<Value> {
    let fits = match (param, &value) {
        (Param::Any, _) => true,
        (Param::Map, Value::Invalid) => return Ok(Value::Map(Map::new(Entries::new()))),
        (Param::List, Value::Invalid) => return Ok(Value::nil_list()),
        (_, Value::Invalid) => {
            return Err(frame.fail(&format!("invalid value; expected {}", param.type_name())));
        }
        (Param::Map, Value::Map(map)) if matches!(map.kind, MapKind::Any | MapKind::Values) => {
            return Ok(Value::Map(map.as_kind(MapKind::Any)));
        }
        (Param::Str, Value::Str(_))
        | (Param::Int, Value::Int(IntKind::Int, _))
        | (Param::Int64, Value::Int(IntKind::Int64, _))
        | (Param::Float, Value::Float(_))
        | (Param::Bool, Value::Bool(_))
        | (Param::Time, Value::Time(_)) => true,
        (Param::List, Value::List(list)) => list.kind == ListKind::Any,
        (Param::Certificate, Value::Object(object)) => object.type_name == "sprig.certificate",
        _ => false,
    };
    if fits {
        return Ok(value);
    }
    Err(frame.fail(&format!(
        "wrong type for value; expected {}; got {}",
        param.type_name(),
        value.static_type_name()
    )))
}
