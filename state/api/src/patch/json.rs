//! JSON patches (RFC 6902), as Kubernetes applies them.
//!
//! Some things differ from the RFC, because clients rely on them:
//! * a `test` for null passes where a map has no such key, a `copy` from there adds null, and a `replace` sets it;
//! * what has no value adds, sets or is tested for null;
//! * a list's index may be negative, counting from the end: -1 adds behind the last item;
//! * the whole document cannot be replaced.

use serde_json::{Map, Value};

use super::PatchError;
use crate::meta::nests_deeper;

/// How many operations one patch may have.
const MAX_OPERATIONS: usize = 10_000;
/// How many bytes all `copy` operations of a patch may add.
const MAX_COPIED: usize = 3 * 1024 * 1024;
/// How many levels of maps and lists a patch may make: each copy of a place into itself would double them.
const MAX_LEVELS: usize = 100;
/// What an operation may say.
const MEMBERS: &[&str] = &["op", "path", "from", "value"];

/// Applies a list of operations to a document; all or none.
///
/// Errors: a patch that is no list of objects, one that is too long, an operation that does not fit the document.
pub fn apply(document: &Value, patch: &Value) -> Result<Value, PatchError> {
    let operations = operations(patch)?;
    if operations.len() > MAX_OPERATIONS {
        let count = operations.len();
        return Err(PatchError::TooLarge(format!(
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

fn operations(patch: &Value) -> Result<Vec<&Map<String, Value>>, PatchError> {
    const WHERE: &str = "error decoding patch: json: cannot unmarshal";
    let sort = |value: &Value| match value {
        Value::Null | Value::Object(_) => "object",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
    };
    let Value::Array(items) = patch else {
        let found = sort(patch);
        return Err(PatchError::malformed(format!(
            "{WHERE} {found} into Go value of type []handlers.jsonPatchOp"
        )));
    };
    let each = items.iter().map(|item| match item {
        Value::Object(operation) => Ok(operation),
        other => Err(PatchError::malformed(format!(
            "{WHERE} {} into Go value of type handlers.jsonPatchOp",
            sort(other)
        ))),
    });
    each.collect()
}

/// Returns what the operations of a patch say that no operation says, as `unknown field "[0].foo"`.
pub fn unknown_members(patch: &Value) -> Vec<String> {
    let operations = patch.as_array().map(Vec::as_slice).unwrap_or_default();
    let members = operations.iter().enumerate().flat_map(|(index, operation)| {
        let keys = operation.as_object().into_iter().flat_map(Map::keys);
        keys.filter(|key| !MEMBERS.contains(&key.as_str()))
            .map(move |key| format!("unknown field \"[{index}].{key}\""))
    });
    members.collect()
}

fn apply_one(document: &mut Value, operation: &Map<String, Value>, copied: &mut usize) -> Result<(), PatchError> {
    let member = |name: &str| operation.get(name).and_then(Value::as_str);
    let name = member("op").unwrap_or("unknown");
    if !matches!(name, "add" | "remove" | "replace" | "move" | "copy" | "test") {
        return Err(PatchError::does_not_apply(format!("Unexpected kind: {name}")));
    }
    let lacks =
        |what: &str| PatchError::does_not_apply(format!("{name} operation failed to decode {what}: missing value"));
    let path = member("path").ok_or_else(|| lacks("path"))?;
    let from = || member("from").ok_or_else(|| lacks("from"));
    let value = || operation.get("value").cloned().unwrap_or_default();
    match name {
        "add" => add(document, path, value(), name),
        "remove" => remove(document, path, name).map(|_| ()),
        "replace" => {
            let value = value();
            check_levels(path, &value, name)?;
            match find_place(document, path) {
                Some(Place::Member(map, key)) => {
                    map.insert(key, value);
                    Ok(())
                }
                Some(Place::Item(items, token)) => {
                    let at = index(&token, items.len()).filter(|at| *at < items.len());
                    let found = at.and_then(|at| items.get_mut(at));
                    *found.ok_or_else(|| missing(name, "key", path))? = value;
                    Ok(())
                }
                None => Err(missing(name, "path", path)),
            }
        }
        "move" => {
            let from = from()?;
            let moved = remove(document, from, name)?;
            add(document, path, moved, name)
        }
        "copy" => {
            let from = from()?;
            let value = read(document, from, name)?.cloned().unwrap_or_default();
            *copied += value.to_string().len();
            if *copied > MAX_COPIED {
                return Err(PatchError::does_not_apply(format!(
                    "the copy operations add more than {MAX_COPIED} bytes"
                )));
            }
            add(document, path, value, name)
        }
        _ => {
            let found = read(document, path, name)?.unwrap_or(&Value::Null);
            if same(found, operation.get("value").unwrap_or(&Value::Null)) {
                Ok(())
            } else {
                Err(PatchError::does_not_apply(format!(
                    "testing value {path} failed: test failed"
                )))
            }
        }
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

/// The steps of a path; what stands before its first slash is not looked at. Nothing for a path without a slash.
fn tokens(path: &str) -> Option<Vec<String>> {
    let (_, rest) = path.split_once('/')?;
    let steps = rest.split('/').map(|token| token.replace("~1", "/").replace("~0", "~"));
    Some(steps.collect())
}

/// Reads a list's index; negative ones count from the end.
fn index(token: &str, length: usize) -> Option<usize> {
    let digits = token.strip_prefix(['-', '+']).unwrap_or(token);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: usize = digits.parse().ok()?;
    if token.starts_with('-') {
        length.checked_sub(number)
    } else {
        Some(number)
    }
}

/// The last step of a path, in what it is a step of.
enum Place<'a> {
    Member(&'a mut Map<String, Value>, String),
    Item(&'a mut Vec<Value>, String),
}

fn step<'a>(value: &'a Value, token: &str) -> Option<&'a Value> {
    match value {
        Value::Object(map) => map.get(token),
        Value::Array(items) => items.get(index(token, items.len())?),
        _ => None,
    }
}

fn find_place<'a>(document: &'a mut Value, path: &str) -> Option<Place<'a>> {
    let mut tokens = tokens(path)?;
    let last = tokens.pop()?;
    let parent = tokens.iter().try_fold(document, |value, token| match value {
        Value::Object(map) => map.get_mut(token),
        Value::Array(items) => {
            let at = index(token, items.len())?;
            items.get_mut(at)
        }
        _ => None,
    })?;
    match parent {
        Value::Object(map) => Some(Place::Member(map, last)),
        Value::Array(items) => Some(Place::Item(items, last)),
        _ => None,
    }
}

/// Reads what a path leads to; nothing where a map lacks the last key.
fn read<'a>(document: &'a Value, path: &str, operation: &str) -> Result<Option<&'a Value>, PatchError> {
    let lost = || missing(operation, "path", path);
    let mut tokens = tokens(path).ok_or_else(lost)?;
    let last = tokens.pop().ok_or_else(lost)?;
    let parent = tokens
        .iter()
        .try_fold(document, |value, token| step(value, token))
        .ok_or_else(lost)?;
    match parent {
        Value::Object(map) => Ok(map.get(&last)),
        Value::Array(_) => step(parent, &last)
            .map(Some)
            .ok_or_else(|| invalid_index(operation, &last)),
        _ => Err(lost()),
    }
}

fn invalid_index(operation: &str, token: &str) -> PatchError {
    PatchError::does_not_apply(format!(
        "{operation} operation does not apply: unable to access invalid index: {token}: invalid index referenced"
    ))
}

/// Refuses to put a value where the document would nest too deep.
fn check_levels(path: &str, value: &Value, operation: &str) -> Result<(), PatchError> {
    // Each slash is a step, into one level.
    let left = MAX_LEVELS.checked_sub(path.matches('/').count());
    if left.is_some_and(|left| !nests_deeper(value, left)) {
        return Ok(());
    }
    Err(PatchError::does_not_apply(format!(
        "{operation} operation does not apply: the document would nest deeper than {MAX_LEVELS} levels: {path}"
    )))
}

fn add(document: &mut Value, path: &str, value: Value, operation: &str) -> Result<(), PatchError> {
    check_levels(path, &value, operation)?;
    match find_place(document, path) {
        Some(Place::Member(map, key)) => {
            map.insert(key, value);
            Ok(())
        }
        Some(Place::Item(items, token)) => {
            // -1 is where the list will end.
            let at = match token.as_str() {
                "-" => Some(items.len()),
                token => index(token, items.len() + 1),
            };
            let at = at.filter(|at| *at <= items.len());
            items.insert(at.ok_or_else(|| invalid_index(operation, &token))?, value);
            Ok(())
        }
        None => Err(PatchError::does_not_apply(format!(
            "{operation} operation does not apply: doc is missing path: \"{path}\": missing value"
        ))),
    }
}

fn remove(document: &mut Value, path: &str, operation: &str) -> Result<Value, PatchError> {
    match find_place(document, path) {
        Some(Place::Member(map, key)) => map.remove(&key).ok_or_else(|| missing(operation, "key", path)),
        Some(Place::Item(items, token)) => match index(&token, items.len()).filter(|at| *at < items.len()) {
            Some(at) => Ok(items.remove(at)),
            None => Err(invalid_index(operation, &token)),
        },
        None => Err(missing(operation, "path", path)),
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
        assert!(
            applied(json!({}), patch.clone()).is_err(),
            "there is nothing to look in"
        );
        assert!(applied(json!({"metadata": {"finalizers": ["x"]}}), patch).is_err());
    }

    #[test]
    fn no_operation_makes_a_document_too_deep() {
        let nested = |levels: usize| (1..levels).fold(json!({}), |inner, _| json!({"a": inner}));
        let steps = |count: usize| "/a".repeat(count);
        // Each copy goes to the deepest place and doubles the levels.
        let copies = (0..17).map(|times| json!({"op": "copy", "from": "/a", "path": steps((1 << times) + 1)}));
        let move_down =
            json!([{"op": "add", "path": "/b", "value": nested(60)}, {"op": "move", "from": "/b", "path": steps(50)}]);
        for (levels, patch) in [
            (2, copies.collect()),
            (50, move_down),
            (2, json!([{"op": "add", "path": "/b", "value": nested(100)}])),
            (2, json!([{"op": "replace", "path": "/a", "value": nested(100)}])),
        ] {
            let error = applied(nested(levels), patch).expect_err("it is too deep");
            assert!(error.contains("would nest deeper than 100 levels"), "{error}");
        }
        let most = json!([{"op": "replace", "path": "/a", "value": nested(99)}]);
        assert_eq!(applied(nested(2), most), Ok(nested(100)));
        assert!(!nests_deeper(&nested(100), 100) && nests_deeper(&nested(100), 99));
    }

    #[test]
    fn what_does_not_fit_is_refused_in_words() {
        let refused = |patch: Value| applied(json!({"a": [1]}), json!([patch])).expect_err("it does not apply");
        insta::assert_snapshot!(refused(json!({"op": "remove", "path": "/b"})), @"remove operation does not apply: doc is missing key: /b: missing value");
        insta::assert_snapshot!(refused(json!({"op": "replace", "path": "/b/c", "value": 1})), @"replace operation does not apply: doc is missing path: /b/c: missing value");
        insta::assert_snapshot!(refused(json!({"op": "add", "path": "/b/c", "value": 1})), @r#"add operation does not apply: doc is missing path: "/b/c": missing value"#);
        insta::assert_snapshot!(refused(json!({"op": "add", "path": "/a/9", "value": 1})), @"add operation does not apply: unable to access invalid index: 9: invalid index referenced");
        insta::assert_snapshot!(refused(json!({"op": "test", "path": "/a/0", "value": 2})), @"testing value /a/0 failed: test failed");
        insta::assert_snapshot!(refused(json!({"op": "hop", "path": "/a"})), @"Unexpected kind: hop");
        insta::assert_snapshot!(refused(json!({"path": "/a"})), @"Unexpected kind: unknown");
        insta::assert_snapshot!(refused(json!({"op": "add", "value": 1})), @"add operation failed to decode path: missing value");
        insta::assert_snapshot!(refused(json!({"op": "move", "path": "/a"})), @"move operation failed to decode from: missing value");
        insta::assert_snapshot!(refused(json!({"op": "replace", "path": "", "value": {}})), @"replace operation does not apply: doc is missing path: : missing value");
    }

    #[test]
    fn the_answer_says_whose_fault_it_is_and_not_more() {
        let status = |patch: Value| apply(&json!({}), &patch).expect_err("refused").status().to_value();
        assert_eq!(status(json!({}))["code"], 400);
        assert_eq!(status(json!([1]))["code"], 400);
        let refused = status(json!([{"op": "remove", "path": "/a"}]));
        assert_eq!(
            (
                &refused["code"],
                &refused["reason"],
                &refused["message"],
                &refused["details"]
            ),
            (
                &json!(422),
                &json!("Invalid"),
                &json!("the server rejected our request due to an error in our request"),
                &json!({})
            )
        );
        let long = status(vec![json!({"op": "add", "path": "/a"}); MAX_OPERATIONS + 1].into());
        assert_eq!(
            (&long["code"], &long["reason"], &long["message"]),
            (
                &json!(413),
                &json!("RequestEntityTooLarge"),
                &json!("Request entity too large: The allowed maximum operations in a JSON patch is 10000, got 10001")
            )
        );
    }

    #[test]
    fn keys_that_are_not_there_can_be_replaced_and_copied() {
        let patch = json!([
            {"op": "replace", "path": "/a", "value": 1},
            {"op": "copy", "from": "/nothing", "path": "/b"},
            {"op": "add", "path": "/c"},
            {"op": "add", "path": "/list/-1", "value": 3},
            {"op": "add", "path": "/list/-2", "value": 2},
        ]);
        assert_eq!(
            applied(json!({"list": [1]}), patch).expect("it applies"),
            json!({"a": 1, "b": null, "c": null, "list": [1, 2, 3]})
        );
    }

    #[test]
    fn what_no_operation_says_is_named() {
        let patch = json!([{"op": "test", "path": "/a"}, {"op": "add", "path": "/a", "value": 1, "foo": 2}]);
        assert_eq!(unknown_members(&patch), ["unknown field \"[1].foo\""]);
    }

    #[test]
    fn a_failing_patch_changes_nothing() {
        let document = json!({"a": 1});
        let patch = json!([{"op": "add", "path": "/b", "value": 1}, {"op": "test", "path": "/a", "value": 2}]);
        assert!(apply(&document, &patch).is_err());
        assert_eq!(document, json!({"a": 1}));
    }
}
