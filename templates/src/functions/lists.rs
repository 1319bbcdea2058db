//! Lists.

use std::collections::HashSet;

use super::arguments::{Outcome, int, items};
use super::strings::strings;
use crate::gotemplate::exec::{Exec, Function};
use crate::value::{List, ListKind, Str, Value, to_int64};

pub(super) const FUNCTIONS: &[Function] = &[
    row!("list", "*a", |_, a| Ok(Value::list(a.to_vec()))),
    row!("tuple", "*a", |_, a| Ok(Value::list(a.to_vec()))),
    row!("append", "aa", push),
    row!("push", "aa", push),
    row!("mustAppend", "aa", push),
    row!("mustPush", "aa", push),
    row!("prepend", "aa", prepend),
    row!("mustPrepend", "aa", prepend),
    row!("first", "a", first),
    row!("mustFirst", "a", first),
    row!("last", "a", last),
    row!("mustLast", "a", last),
    row!("rest", "a", rest),
    row!("mustRest", "a", rest),
    row!("initial", "a", initial),
    row!("mustInitial", "a", initial),
    row!("reverse", "a", reverse),
    row!("mustReverse", "a", reverse),
    row!("compact", "a", compact),
    row!("mustCompact", "a", compact),
    row!("uniq", "a", uniq),
    row!("mustUniq", "a", uniq),
    row!("without", "a*a", without),
    row!("mustWithout", "a*a", without),
    row!("has", "aa", has),
    row!("mustHas", "aa", has),
    row!("slice", "a*a", slice),
    row!("mustSlice", "a*a", slice),
    row!("concat", "*a", concat),
    row!("chunk", "ia", chunk),
    row!("mustChunk", "ia", chunk),
    row!("sortAlpha", "a", |_, a| {
        let mut sorted = strings(&a[0]);
        sorted.sort();
        Ok(Value::strings(sorted))
    }),
];

/// Reads a list, or words the complaint that the function has about other types.
fn list_of(value: &Value, complaint: &str) -> Result<Vec<Value>, crate::gotemplate::exec::Failure> {
    match items(value) {
        Some(items) => Ok(items),
        // Go asks a nil type for its kind.
        None if value.is_nil() => Err("runtime error: invalid memory address or nil pointer dereference".into()),
        None => Err(format!("{complaint} {}", value.kind()).into()),
    }
}

fn push(exec: &mut Exec<'_>, args: &[Value]) -> Outcome {
    let mut list = list_of(&args[0], "Cannot push on type")?;
    exec.spend(list.len())?;
    list.push(args[1].clone());
    Ok(Value::list(list))
}

fn prepend(exec: &mut Exec<'_>, args: &[Value]) -> Outcome {
    let mut list = list_of(&args[0], "Cannot prepend on type")?;
    exec.spend(list.len())?;
    list.insert(0, args[1].clone());
    Ok(Value::list(list))
}

fn first(_: &mut Exec<'_>, args: &[Value]) -> Outcome {
    if let Value::List(list) = &args[0] {
        return Ok(list.items.first().cloned().unwrap_or(Value::Nil));
    }
    Ok(list_of(&args[0], "Cannot find first on type")?
        .first()
        .cloned()
        .unwrap_or(Value::Nil))
}

fn last(_: &mut Exec<'_>, args: &[Value]) -> Outcome {
    if let Value::List(list) = &args[0] {
        return Ok(list.items.last().cloned().unwrap_or(Value::Nil));
    }
    Ok(list_of(&args[0], "Cannot find last on type")?
        .last()
        .cloned()
        .unwrap_or(Value::Nil))
}

fn rest(_: &mut Exec<'_>, args: &[Value]) -> Outcome {
    let list = list_of(&args[0], "Cannot find rest on type")?;
    Ok(if list.is_empty() {
        Value::nil_list()
    } else {
        Value::list(list[1..].to_vec())
    })
}

fn initial(_: &mut Exec<'_>, args: &[Value]) -> Outcome {
    let list = list_of(&args[0], "Cannot find initial on type")?;
    Ok(if list.is_empty() {
        Value::nil_list()
    } else {
        Value::list(list[..list.len() - 1].to_vec())
    })
}

fn reverse(_: &mut Exec<'_>, args: &[Value]) -> Outcome {
    let mut list = list_of(&args[0], "Cannot find reverse on type")?;
    list.reverse();
    Ok(Value::list(list))
}

fn compact(_: &mut Exec<'_>, args: &[Value]) -> Outcome {
    let mut list = list_of(&args[0], "Cannot compact on type")?;
    list.retain(Value::truth);
    Ok(Value::list(list))
}

fn uniq(exec: &mut Exec<'_>, args: &[Value]) -> Outcome {
    let mut found: Vec<Value> = Vec::new();
    let mut texts: HashSet<Str> = HashSet::new();
    for item in list_of(&args[0], "Cannot find uniq on type")? {
        let is_new = match &item {
            Value::Str(text) => texts.insert(text.clone()),
            item => {
                exec.charge(found.len() as u64)?;
                !found.iter().any(|known| known.deep_equal(item))
            }
        };
        if is_new {
            found.push(item);
        }
    }
    Ok(Value::list(found))
}

fn without(exec: &mut Exec<'_>, args: &[Value]) -> Outcome {
    let mut list = list_of(&args[0], "Cannot find without on type")?;
    exec.charge((list.len() as u64).saturating_mul(args.len() as u64) / 8)?;
    list.retain(|item| !args[1..].iter().any(|omitted| omitted.deep_equal(item)));
    Ok(Value::list(list))
}

fn has(_: &mut Exec<'_>, args: &[Value]) -> Outcome {
    if args[1].is_nil() {
        return Ok(Value::Bool(false));
    }
    let list = list_of(&args[1], "Cannot find has on type")?;
    Ok(Value::Bool(list.iter().any(|item| item.deep_equal(&args[0]))))
}

fn slice(_: &mut Exec<'_>, args: &[Value]) -> Outcome {
    let list = list_of(&args[0], "list should be type of slice or array but")?;
    if list.is_empty() {
        return Ok(Value::Nil);
    }
    let start = args.get(1).map_or(0, to_int64);
    let end = args.get(2).map_or(list.len() as i64, to_int64);
    match (usize::try_from(start), usize::try_from(end)) {
        (Ok(start), Ok(end)) if start <= end && end <= list.len() => {
            let kind = match &args[0] {
                Value::List(List { kind, .. }) => *kind,
                _ => ListKind::Any,
            };
            Ok(Value::typed_list(kind, list[start..end].to_vec()))
        }
        _ => Err("reflect.Value.Slice: slice index out of bounds".into()),
    }
}

fn concat(exec: &mut Exec<'_>, args: &[Value]) -> Outcome {
    let mut all = Vec::new();
    for list in args {
        match items(list) {
            Some(mut items) => all.append(&mut items),
            None if list.is_nil() => {
                return Err("runtime error: invalid memory address or nil pointer dereference".into());
            }
            None => return Err(format!("Cannot concat type {} as list", list.kind()).into()),
        }
    }
    exec.spend(all.len())?;
    Ok(if all.is_empty() {
        Value::nil_list()
    } else {
        Value::list(all)
    })
}

fn chunk(_: &mut Exec<'_>, args: &[Value]) -> Outcome {
    let size = usize::try_from(int(args, 0))
        .ok()
        .filter(|size| *size > 0)
        .ok_or("runtime error: makeslice: len out of range")?;
    let list = list_of(&args[1], "Cannot chunk type")?;
    Ok(Value::typed_list(
        ListKind::Lists,
        list.chunks(size).map(|chunk| Value::list(chunk.to_vec())).collect(),
    ))
}
