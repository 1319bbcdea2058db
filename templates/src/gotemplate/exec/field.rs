//! Fields: map entries, struct fields and methods.

use super::failure::At;
use super::{Done, Exec, Frame};
use crate::gotemplate::node::Operand;
use crate::value::{MapKind, Str, Value};

impl Exec<'_> {
    /// Follows a chain of fields; arguments go to the last.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn fields<'t>(
        &mut self,
        frame: &mut Frame<'t>,
        dot: &Value,
        mut receiver: Value,
        node: &'t Operand,
        fields: &'t [Str],
        args: &'t [Operand],
        last: Option<Value>,
    ) -> Done<Value> {
        let Some((end, path)) = fields.split_last() else {
            return Ok(receiver);
        };
        // What a map of interfaces gave is an interface to Go, whatever it holds.
        let mut of_interface = false;
        for field in path {
            let next = self.field(frame, dot, &receiver, of_interface, field, node, &[], None)?;
            of_interface = matches!(&receiver, Value::Map(map) if matches!(map.kind, MapKind::Any | MapKind::Values));
            receiver = next;
        }
        self.field(frame, dot, &receiver, of_interface, end, node, args, last)
    }

    #[allow(clippy::too_many_arguments)]
    fn field<'t>(
        &mut self,
        frame: &mut Frame<'t>,
        dot: &Value,
        receiver: &Value,
        of_interface: bool,
        name: &Str,
        node: &'t Operand,
        args: &'t [Operand],
        last: Option<Value>,
    ) -> Done<Value> {
        match receiver {
            Value::Invalid => return Ok(Value::Invalid),
            Value::Nil => {
                return Err(frame.fail(&format!("nil pointer evaluating interface {{}}.{}", name.text())));
            }
            _ => {}
        }
        if !matches!(receiver, Value::Map(map) if map.kind == MapKind::Any)
            && let Some(result) = self.method(
                frame,
                dot,
                receiver,
                &name.text(),
                At::Operand(node),
                args,
                last.as_ref(),
            )
        {
            return result;
        }
        let has_args = !args.is_empty() || last.is_some();
        match receiver {
            Value::Map(map) => {
                if has_args {
                    return Err(frame.fail(&format!("{} is not a method but has arguments", name.text())));
                }
                Ok(map.get(name).unwrap_or_else(|| map.zero()))
            }
            Value::Object(object) => match object.member(&name.text()) {
                Some(_) if has_args => Err(frame.fail(&format!(
                    "{} has arguments but cannot be invoked as function",
                    name.text()
                ))),
                Some(value) => Ok(value),
                None => Err(cannot_evaluate(frame, name, receiver, of_interface)),
            },
            _ => Err(cannot_evaluate(frame, name, receiver, of_interface)),
        }
    }
}

fn cannot_evaluate(frame: &Frame<'_>, name: &Str, receiver: &Value, of_interface: bool) -> super::Failure {
    let kind = if of_interface {
        "interface {}"
    } else {
        receiver.static_type_name()
    };
    frame.fail(&format!("can't evaluate field {} in type {kind}", name.text()))
}
