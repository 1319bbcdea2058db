//! Maps.

use super::arguments::{Outcome, bytes, map, text};
use crate::gotemplate::exec::{Exec, Function};
use crate::value::{Entries, Map, MapKind, Value, string_value};

pub(super) const FUNCTIONS: &[Function] = &[
    row!("dict", "*a", dict),
    row!("get", "ms", |_, a| Ok(map(a, 0)
        .get(bytes(a, 1))
        .unwrap_or_else(|| Value::from("")))),
    row!("set", "msa", |_, a| {
        let map = map(a, 0);
        map.insert(string_value(&a[1]), a[2].clone());
        Ok(Value::Map(map))
    }),
    row!("unset", "ms", |_, a| {
        let map = map(a, 0);
        map.remove(bytes(a, 1));
        Ok(Value::Map(map))
    }),
    row!("hasKey", "ms", |_, a| Ok(Value::Bool(map(a, 0).contains(bytes(a, 1))))),
    row!("pluck", "s*m", |_, a| {
        Ok(Value::list(
            (1..a.len())
                .filter_map(|index| map(a, index).get(bytes(a, 0)))
                .collect(),
        ))
    }),
    row!("keys", "*m", |exec, a| {
        let count: u64 = (0..a.len()).map(|index| map(a, index).len() as u64).sum();
        exec.charge(count)?;
        Ok(Value::strings(
            (0..a.len()).flat_map(|index| map(a, index).entries().into_keys()),
        ))
    }),
    row!("values", "m", |exec, a| {
        exec.charge(map(a, 0).len() as u64)?;
        Ok(Value::list(map(a, 0).entries().into_values().collect()))
    }),
    row!("pick", "m*s", |exec, a| {
        let map = map(a, 0);
        exec.charge((map.len() as u64).saturating_mul(a.len() as u64))?;
        let mut entries = map.entries();
        entries.retain(|key, _| (1..a.len()).any(|index| bytes(a, index) == &**key));
        Ok(Value::map(entries))
    }),
    row!("omit", "m*s", |exec, a| {
        let map = map(a, 0);
        exec.charge((map.len() as u64).saturating_mul(a.len() as u64))?;
        let mut entries = map.entries();
        entries.retain(|key, _| !(1..a.len()).any(|index| bytes(a, index) == &**key));
        Ok(Value::map(entries))
    }),
    row!("merge", "m*m", |_, a| merge(a, false)),
    row!("mustMerge", "m*m", |_, a| merge(a, false)),
    row!("mergeOverwrite", "m*m", |_, a| merge(a, true)),
    row!("mustMergeOverwrite", "m*m", |_, a| merge(a, true)),
    row!("dig", "*a", dig),
];

fn dict(_: &mut Exec<'_>, args: &[Value]) -> Outcome {
    let entries: Entries = args
        .chunks(2)
        .map(|pair| {
            (
                string_value(&pair[0]),
                pair.get(1).cloned().unwrap_or_else(|| Value::from("")),
            )
        })
        .collect();
    Ok(Value::map(entries))
}

fn merge(args: &[Value], overwrite: bool) -> Outcome {
    let target = map(args, 0);
    for index in 1..args.len() {
        merge_into(&target, &map(args, index), overwrite, 0);
    }
    Ok(Value::Map(target))
}

/// Merges as mergo does: maps are merged, what is missing or empty is filled, and the rest is only replaced where
/// overwriting is asked for, then by empty values too.
fn merge_into(target: &Map, source: &Map, overwrite: bool, depth: usize) {
    if depth > 500 || target.same(source) {
        return;
    }
    for (key, value) in source.entries() {
        let old = target.get(&key);
        if value.is_nil() {
            if overwrite {
                target.insert(key, value);
            }
            continue;
        }
        if let (Some(Value::Map(inner)), Value::Map(from)) = (&old, &value)
            && inner.kind != MapKind::Strings
        {
            merge_into(inner, from, overwrite, depth + 1);
            if !inner.is_empty() {
                continue;
            }
        }
        if overwrite || old.is_none_or(|old| !old.truth()) {
            target.insert(key, value);
        }
    }
}

fn dig(_: &mut Exec<'_>, args: &[Value]) -> Outcome {
    if args.len() < 3 {
        return Err("dig needs at least three arguments".into());
    }
    let (path, default) = (&args[..args.len() - 2], &args[args.len() - 2]);
    let mut current = args[args.len() - 1].clone();
    for (index, key) in path.iter().enumerate() {
        let Value::Map(map) = &current else {
            return Err(format!(
                "interface conversion: interface {{}} is {}, not map[string]interface {{}}",
                if current.is_nil() { "nil" } else { current.type_name() }
            )
            .into());
        };
        if map.kind != MapKind::Any {
            return Err(format!(
                "interface conversion: interface {{}} is {}, not map[string]interface {{}}",
                current.type_name()
            )
            .into());
        }
        if !matches!(key, Value::Str(_)) {
            return Err(format!(
                "interface conversion: interface {{}} is {}, not string",
                key.type_name()
            )
            .into());
        }
        match map.get(text(path, index).as_bytes()) {
            None => return Ok(default.clone()),
            Some(next) => current = next,
        }
    }
    Ok(current)
}
