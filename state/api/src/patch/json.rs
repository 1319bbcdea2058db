//! JSON patches (RFC 6902), as Kubernetes applies them.
//!
//! Two things differ from the RFC, because clients rely on them: a `test` for null passes where nothing is, and a list's index may
//! be negative, counting from the end.

use serde_json::Value;

use super::PatchError;

/// How many operations one patch may have.
const MAX_OPERATIONS: usize = 10_000;
/// How many bytes all `copy` operations of a patch may add.
const MAX_COPIED: usize = 3 * 1024 * 1024;

/// Applies a list of operations to a document; all or none.
///
/// Errors: an operation that is none, or that does not fit the document.
pub fn apply(document: &Value, patch: &Value) -> Result<Value, PatchError> {
    let Some(operations) = patch.as_array() else {
        return Err(PatchError::malformed(
            "error decoding patch: a JSON patch must be a list of operations",
        ));
    };
    if operations.len() > MAX_OPERATIONS {
        let count = operations.len();
        return Err(PatchError::does_not_apply(format!(
            "The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {count}"
        )));
    }
    let mut out = document.clone();
    let mut copied = 0;
    for operation in operations {
        apply_one(&mut out, operation, &mut copied)?;
    }
    Ok(out)
}

fn apply_one(document: &mut Value, operation: &Value, copied: &mut usize) -> Result<(), PatchError> {
    let member = |name: &str| operation.get(name).and_then(Value::as_str);
    let Some(name) = member("op") else {
        return Err(PatchError::malformed(
            "error decoding patch: an operation has no \"op\"",
        ));
    };
    let Some(path) = member("path") else {
        return Err(PatchError::malformed(format!(
            "error decoding patch: {name} operation has no \"path\""
        )));
    };
    let value = || {
        operation.get("value").cloned().ok_or_else(|| {
            PatchError::malformed(format!(
                "error decoding patch: {name} operation for path {path:?} has no \"value\""
            ))
        })
    };
    let from = || {
        member("from").ok_or_else(|| {
            PatchError::malformed(format!(
                "error decoding patch: {name} operation for path {path:?} has no \"from\""
            ))
        })
    };
    match name {
        "add" => add(document, path, value()?, "add"),
        "remove" => remove(document, path, "remove").map(|_| ()),
        "replace" => {
            let value = value()?;
            if path.is_empty() {
                *document = value;
                return Ok(());
            }
            let Some(target) = find_mut(document, path)? else {
                return Err(missing("replace", "key", path));
            };
            *target = value;
            Ok(())
        }
        "move" => {
            let from = from()?;
            if path.starts_with(from) && path[from.len()..].starts_with('/') {
                return Err(PatchError::does_not_apply(format!(
                    "move operation does not apply: {path:?} is inside {from:?}"
                )));
            }
            let moved = remove(document, from, "move")?;
            add(document, path, moved, "move")
        }
        "copy" => {
            let from = from()?;
            let value = find(document, from)?
                .cloned()
                .ok_or_else(|| missing("copy", "key", from))?;
            *copied += value.to_string().len();
            if *copied > MAX_COPIED {
                return Err(PatchError::does_not_apply(format!(
                    "the copy operations add more than {MAX_COPIED} bytes"
                )));
            }
            add(document, path, value, "copy")
        }
        "test" => {
            let wanted = operation.get("value").cloned().unwrap_or_default();
            let found = find(document, path)?.unwrap_or(&Value::Null);
            if same(found, &wanted) {
                Ok(())
            } else {
                Err(PatchError::does_not_apply(format!(
                    "testing value {path} failed: test failed"
                )))
            }
        }
        other => Err(PatchError::malformed(format!("Unexpected kind: {other}"))),
    }
}

/// Compares as JSON does: 1 and 1.0 are one number.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same(a, b)))
        }
        _ => a == b,
    }
}

fn missing(operation: &str, what: &str, path: &str) -> PatchError {
    PatchError::does_not_apply(format!(
        "{operation} operation does not apply: doc is missing {what}: {path}: missing value"
    ))
}

fn tokens(path: &str) -> Result<Vec<String>, PatchError> {
    if path.is_empty() {
        return Ok(Vec::new());
    }
    let Some(rest) = path.strip_prefix('/') else {
        return Err(PatchError::malformed(format!(
            "error decoding patch: path {path:?} must start with \"/\""
        )));
    };
    Ok(rest
        .split('/')
        .map(|token| token.replace("~1", "/").replace("~0", "~"))
        .collect())
}

/// Reads a list's index; negative ones count from the end.
fn index(token: &str, length: usize) -> Option<usize> {
    let plain = token.strip_prefix('-').unwrap_or(token);
    if plain.is_empty()
        || !plain.bytes().all(|byte| byte.is_ascii_digit())
        || (plain.len() > 1 && plain.starts_with('0'))
    {
        return None;
    }
    let number: usize = plain.parse().ok()?;
    if token.starts_with('-') {
        length.checked_sub(number)
    } else {
        Some(number)
    }
}

fn find<'a>(document: &'a Value, path: &str) -> Result<Option<&'a Value>, PatchError> {
    let tokens = tokens(path)?;
    Ok(tokens.iter().try_fold(document, |value, token| match value {
        Value::Object(map) => map.get(token),
        Value::Array(items) => index(token, items.len()).and_then(|at| items.get(at)),
        _ => None,
    }))
}

fn find_mut<'a>(document: &'a mut Value, path: &str) -> Result<Option<&'a mut Value>, PatchError> {
    let tokens = tokens(path)?;
    Ok(tokens.iter().try_fold(document, |value, token| match value {
        Value::Object(map) => map.get_mut(token),
        Value::Array(items) => index(token, items.len()).and_then(|at| items.get_mut(at)),
        _ => None,
    }))
}

/// Splits off the last part of a path.
fn split(path: &str) -> (&str, String) {
    let (parent, last) = path.rsplit_once('/').unwrap_or(("", path));
    (parent, last.replace("~1", "/").replace("~0", "~"))
}

fn add(document: &mut Value, path: &str, value: Value, operation: &str) -> Result<(), PatchError> {
    tokens(path)?;
    if path.is_empty() {
        *document = value;
        return Ok(());
    }
    let (parent, last) = split(path);
    match find_mut(document, parent)? {
        Some(Value::Object(map)) => {
            map.insert(last, value);
            Ok(())
        }
        Some(Value::Array(items)) => {
            let at = if last == "-" {
                Some(items.len())
            } else {
                index(&last, items.len())
            };
            match at.filter(|at| *at <= items.len()) {
                Some(at) => {
                    items.insert(at, value);
                    Ok(())
                }
                None => Err(PatchError::does_not_apply(format!(
                    "{operation} operation does not apply: unable to access invalid index: {last}: invalid index referenced"
                ))),
            }
        }
        _ => Err(PatchError::does_not_apply(format!(
            "{operation} operation does not apply: doc is missing path: \"{path}\": missing value"
        ))),
    }
}

fn remove(document: &mut Value, path: &str, operation: &str) -> Result<Value, PatchError> {
    tokens(path)?;
    let (parent, last) = split(path);
    if path.is_empty() {
        return Err(missing(operation, "path", path));
    }
    match find_mut(document, parent)? {
        Some(Value::Object(map)) => map.remove(&last).ok_or_else(|| missing(operation, "key", path)),
        Some(Value::Array(items)) => match index(&last, items.len()).filter(|at| *at < items.len()) {
            Some(at) => Ok(items.remove(at)),
            None => Err(PatchError::does_not_apply(format!(
                "{operation} operation does not apply: unable to access invalid index: {last}: invalid index referenced"
            ))),
        },
        _ => Err(missing(operation, "path", path)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn applied(document: Value, patch: Value) -> Result<Value, String> {
        apply(&document, &patch).map_err(|error| error.to_string())
    }

    #[test]
    fn every_operation_does_its_work() {
        let document = json!({"a": {"b": [1, 2]}, "x/y": 1, "m~n": 2});
        let patch = json!([
            {"op": "test", "path": "/a/b/0", "value": 1.0},
            {"op": "add", "path": "/a/b/-", "value": 3},
            {"op": "add", "path": "/a/b/0", "value": 0},
            {"op": "replace", "path": "/x~1y", "value": 7},
            {"op": "remove", "path": "/m~0n"},
            {"op": "copy", "from": "/a/b/0", "path": "/c"},
            {"op": "move", "from": "/a/b/-1", "path": "/d"},
        ]);
        assert_eq!(
            applied(document, patch).expect("it applies"),
            json!({"a": {"b": [0, 1, 2]}, "x/y": 7, "c": 0, "d": 3})
        );
    }

    #[test]
    fn a_test_for_null_passes_where_nothing_is() {
        let patch = json!([{"op": "test", "path": "/metadata/finalizers", "value": null}]);
        assert!(applied(json!({"metadata": {}}), patch.clone()).is_ok());
        assert!(applied(json!({}), patch.clone()).is_ok());
        assert!(applied(json!({"metadata": {"finalizers": ["x"]}}), patch).is_err());
    }

    #[test]
    fn what_does_not_fit_is_refused_in_words() {
        let refused = |patch: Value| applied(json!({"a": [1]}), json!([patch])).expect_err("it does not apply");
        insta::assert_snapshot!(refused(json!({"op": "remove", "path": "/b"})), @"remove operation does not apply: doc is missing key: /b: missing value");
        insta::assert_snapshot!(refused(json!({"op": "replace", "path": "/b/c", "value": 1})), @"replace operation does not apply: doc is missing key: /b/c: missing value");
        insta::assert_snapshot!(refused(json!({"op": "add", "path": "/b/c", "value": 1})), @r#"add operation does not apply: doc is missing path: "/b/c": missing value"#);
        insta::assert_snapshot!(refused(json!({"op": "add", "path": "/a/9", "value": 1})), @"add operation does not apply: unable to access invalid index: 9: invalid index referenced");
        insta::assert_snapshot!(refused(json!({"op": "test", "path": "/a/0", "value": 2})), @"testing value /a/0 failed: test failed");
        insta::assert_snapshot!(refused(json!({"op": "hop", "path": "/a"})), @"Unexpected kind: hop");
        assert!(apply(&json!({}), &json!({})).is_err());
    }

    #[test]
    fn a_failing_patch_changes_nothing() {
        let document = json!({"a": 1});
        let patch = json!([{"op": "add", "path": "/b", "value": 1}, {"op": "test", "path": "/a", "value": 2}]);
        assert!(apply(&document, &patch).is_err());
        assert_eq!(document, json!({"a": 1}));
    }
}
