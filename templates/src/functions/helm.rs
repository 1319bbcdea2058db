//! Helm's own functions.

use std::rc::Rc;

use super::arguments::{Outcome, bytes, string, text};
use crate::gotemplate::exec::{Exec, Failure, Function, Set};
use crate::gotemplate::parse::parse;
use crate::value::{Entries, Map, Str, Value, from_json, go_quote, to_json, to_json_pretty, to_json_raw};
use crate::yaml;

/// How often a name may be included within itself.
const INCLUDE_LIMIT: usize = 1000;

pub(super) const FUNCTIONS: &[Function] = &[
    row!("include", "sa", include),
    row!("tpl", "sa", tpl),
    row!("required", "sa", |_, a| match &a[1] {
        Value::Nil | Value::Invalid => Err(wrapped(&text(a, 0))),
        Value::Str(value) if value.is_empty() => Err(wrapped(&text(a, 0))),
        value => Ok(value.clone()),
    }),
    row!("fail", "s", |_, a| Err(wrapped(&text(a, 0)))),
    row!("lookup", "ssss", lookup),
    row!("toYaml", "a", |exec, a| {
        let written = yaml::write(&a[0]).unwrap_or_default();
        exec.spend(written.len())?;
        string(written.strip_suffix('\n').unwrap_or(&written))
    }),
    row!("mustToYaml", "a", |exec, a| {
        let written = yaml::write(&a[0])?;
        exec.spend(written.len())?;
        string(written.strip_suffix('\n').unwrap_or(&written))
    }),
    row!("toYamlPretty", "a", |exec, a| {
        let written = yaml::write_pretty(&a[0]).unwrap_or_default();
        exec.spend(written.len())?;
        string(written.strip_suffix('\n').unwrap_or(&written))
    }),
    row!("fromYaml", "s", |exec, a| made(
        exec,
        match yaml::read_map(&text(a, 0)) {
            Ok(entries) => from_json(&serde_json::Value::Object(entries)),
            Err(words) => error_map(&words),
        }
    )),
    row!("fromYamlArray", "s", |exec, a| made(
        exec,
        match yaml::read(&text(a, 0)) {
            Ok(serde_json::Value::Array(items)) => from_json(&serde_json::Value::Array(items)),
            Ok(serde_json::Value::Null) => Value::nil_list(),
            Ok(other) => Value::list(vec![Value::from(format!(
                "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal {} into Go value of type []interface {{}}",
                json_kind(&other)
            ))]),
            Err(words) => Value::list(vec![Value::from(words)]),
        }
    )),
    row!("toJson", "a", |_, a| string(to_json(&a[0]).unwrap_or_default())),
    row!("mustToJson", "a", |_, a| string(to_json(&a[0])?)),
    row!("toPrettyJson", "a", |_, a| string(
        to_json_pretty(&a[0]).unwrap_or_default()
    )),
    row!("mustToPrettyJson", "a", |_, a| string(to_json_pretty(&a[0])?)),
    row!("toRawJson", "a", |_, a| string(to_json_raw(&a[0])?)),
    row!("mustToRawJson", "a", |_, a| string(to_json_raw(&a[0])?)),
    row!("fromJson", "s", |exec, a| made(
        exec,
        match read_json(bytes(a, 0)) {
            Ok(value @ Value::Map(_)) => value,
            Ok(Value::Nil) => Value::map(Entries::new()),
            Ok(other) => error_map(&format!(
                "json: cannot unmarshal {} into Go value of type map[string]interface {{}}",
                kind_of(&other)
            )),
            Err(words) => error_map(&words),
        }
    )),
    row!("fromJsonArray", "s", |exec, a| made(
        exec,
        match read_json(bytes(a, 0)) {
            Ok(value @ Value::List(_)) => value,
            Ok(Value::Nil) => Value::nil_list(),
            Ok(other) => Value::list(vec![Value::from(format!(
                "json: cannot unmarshal {} into Go value of type []interface {{}}",
                kind_of(&other)
            ))]),
            Err(words) => Value::list(vec![Value::from(words)]),
        }
    )),
    row!("mustFromJson", "s", |exec, a| made(exec, read_json(bytes(a, 0))?)),
];

/// Counts a value that was read from a text: what is in it may be many times the text, by way of aliases.
fn made(exec: &mut Exec<'_>, value: Value) -> Outcome {
    exec.weigh(std::slice::from_ref(&value))?;
    Ok(value)
}

fn wrapped(words: &str) -> Failure {
    Failure::new(format!("HELM_ERR_START{words}HELM_ERR_END"))
}

fn error_map(words: &str) -> Value {
    Value::map(Entries::from([(Str::from("Error"), Value::from(words))]))
}

fn json_kind(value: &serde_json::Value) -> &'static str {
    match value {
        serde_json::Value::Object(_) => "object",
        serde_json::Value::Array(_) => "array",
        serde_json::Value::String(_) => "string",
        serde_json::Value::Number(_) => "number",
        serde_json::Value::Bool(_) => "bool",
        serde_json::Value::Null => "null",
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Map(_) => "object",
        Value::List(_) => "array",
        Value::Str(_) => "string",
        Value::Bool(_) => "bool",
        _ => "number",
    }
}

/// Reads JSON; every number becomes a `float64`.
fn read_json(source: &[u8]) -> Result<Value, String> {
    let mut json: serde_json::Value = serde_json::from_slice(source).map_err(|error| {
        if source.iter().all(u8::is_ascii_whitespace) || error.is_eof() {
            return "unexpected end of JSON input".to_owned();
        }
        let at = source
            .split(|b| *b == b'\n')
            .take(error.line().saturating_sub(1))
            .map(|line| line.len() + 1)
            .sum::<usize>()
            + error.column().saturating_sub(1);
        let c = source.get(at).map_or(' ', |b| char::from(*b));
        format!("invalid character '{c}' looking for beginning of value")
    })?;
    floats(&mut json);
    Ok(from_json(&json))
}

/// Turns every number into a float, as Go reads JSON.
pub(crate) fn floats(json: &mut serde_json::Value) {
    match json {
        serde_json::Value::Number(number) => {
            if let Some(float) = number.as_f64().and_then(serde_json::Number::from_f64) {
                *number = float;
            }
        }
        serde_json::Value::Array(items) => items.iter_mut().for_each(floats),
        serde_json::Value::Object(entries) => entries.values_mut().for_each(floats),
        _ => {}
    }
}

fn include(exec: &mut Exec<'_>, args: &[Value]) -> Outcome {
    let name = text(args, 0).into_owned();
    let key = Str::from(name.as_str());
    let count = exec.including.entry(key.clone()).or_insert(0);
    if *count > INCLUDE_LIMIT {
        return Err(Failure::new("unable to execute template")
            .within(format!("rendering template has a nested reference name: {name}: ")));
    }
    *count += 1;
    let result = exec.execute(&name, args[1].clone());
    if let Some(count) = exec.including.get_mut(&key) {
        *count -= 1;
    }
    string(result?)
}

fn tpl(exec: &mut Exec<'_>, args: &[Value]) -> Outcome {
    let source = Str::from(bytes(args, 0));
    if super::strings::find(&source, b"{{").is_none() {
        // Text without an action is its own result.
        let out = source.text().replace("<no value>", "");
        exec.spend(out.len())?;
        return string(out);
    }
    // Parsing it takes time even where it writes nothing.
    exec.weigh(&args[..1])?;
    let text = source.text();
    let templates = parse("gotpl", &text, &|name| super::find(name).is_some())
        .map_err(|words| Failure::new(words).within(format!("cannot parse template {}: ", go_quote(&source))))?;
    let before = Rc::clone(&exec.set);
    let mut layer = Set::over(Rc::clone(&before));
    layer.add_all(templates);
    exec.set = Rc::new(layer);
    let result = exec.execute("gotpl", args[1].clone());
    exec.set = before;
    let out = result.map_err(|cause| {
        cause.within(format!(
            "error during tpl function execution for {}: ",
            go_quote(&source)
        ))
    })?;
    string(String::from_utf8_lossy(&out).replace("<no value>", ""))
}

fn lookup(exec: &mut Exec<'_>, args: &[Value]) -> Outcome {
    match exec.host.lookup {
        None => Ok(Value::Map(Map::new(Entries::new()))),
        Some(lookup) => {
            let found = lookup(&text(args, 0), &text(args, 1), &text(args, 2), &text(args, 3))?;
            Ok(match from_json(&found) {
                map @ Value::Map(_) => map,
                _ => Value::map(Entries::new()),
            })
        }
    }
}
