//! Defaults, conditions and types.

use super::arguments::{Outcome, flag, text};
use crate::gotemplate::exec::Function;
use crate::value::Value;

pub(super) const FUNCTIONS: &[Function] = &[
    row!("default", "a*a", |_, a| Ok(match a.get(1) {
        Some(given) if given.truth() => given.clone(),
        _ => a[0].clone(),
    })),
    row!("empty", "a", |_, a| Ok(Value::Bool(!a[0].truth()))),
    row!("coalesce", "*a", |_, a| Ok(a
        .iter()
        .find(|value| value.truth())
        .cloned()
        .unwrap_or(Value::Nil))),
    row!("all", "*a", |_, a| Ok(Value::Bool(a.iter().all(Value::truth)))),
    row!("any", "*a", |_, a| Ok(Value::Bool(a.iter().any(Value::truth)))),
    row!("ternary", "aab", |_, a| Ok(if flag(a, 2) {
        a[0].clone()
    } else {
        a[1].clone()
    })),
    row!("deepCopy", "a", |_, a| deep_copy(&a[0])),
    row!("mustDeepCopy", "a", |_, a| deep_copy(&a[0])),
    row!("typeOf", "a", |_, a| Ok(Value::from(a[0].type_name()))),
    row!("typeIs", "sa", |_, a| Ok(Value::Bool(text(a, 0) == a[1].type_name()))),
    row!("typeIsLike", "sa", |_, a| {
        let name = a[1].type_name();
        Ok(Value::Bool(text(a, 0) == name || format!("*{}", text(a, 0)) == name))
    }),
    row!("kindOf", "a", |_, a| Ok(Value::from(a[0].kind()))),
    row!("kindIs", "sa", |_, a| Ok(Value::Bool(text(a, 0) == a[1].kind()))),
    row!("deepEqual", "aa", |_, a| Ok(Value::Bool(a[0].deep_equal(&a[1])))),
];

fn deep_copy(value: &Value) -> Outcome {
    Ok(value.deep_copy())
}
