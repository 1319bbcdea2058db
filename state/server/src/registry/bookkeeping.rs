//! The metadata that the server alone decides on, and what each path may change of an object.

use jiff::Timestamp;
use serde_json::{Map, Value};
use setpoint_api::scheme::Part;
use setpoint_api::{FieldError, Resource, meta, strategy};

/// Metadata that is set once, by the server.
const FIXED: &[&str] = &[
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
];

/// Which part of an object a write is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// Everything but the status, where the kind keeps that apart.
    Main,
    /// The status alone.
    Status,
    /// What a path of its own writes, by its own rules.
    Part(Part),
    /// What the server itself changes, through the subresource of this name.
    Whole(&'static str),
}

impl Target {
    /// The name in managed fields and admission.
    pub(crate) fn subresource(self) -> &'static str {
        match self {
            Target::Main => "",
            Target::Status => "status",
            Target::Part(part) => part.name,
            Target::Whole(name) => name,
        }
    }
}

/// Makes a new object ready; `name` is final by now. A status that the object brings stays only with `keep_status`.
pub(crate) fn create(row: &Resource, object: &mut Value, new: &NewObject<'_>) {
    let status = if new.keep_status {
        object.get("status").cloned()
    } else {
        None
    };
    strategy::prepare_for_create(row, object);
    if let Some(status) = status {
        meta::map_of(object).insert("status".into(), status);
    }
    let metadata = meta::metadata_mut(object);
    drop_empty(metadata);
    metadata.insert("name".into(), new.name.into());
    if row.namespaced {
        metadata.insert("namespace".into(), new.namespace.into());
    }
    metadata.insert("uid".into(), new.uid.into());
    metadata.insert("creationTimestamp".into(), meta::format_time(new.now).into());
}

/// What the server gives a new object.
pub(crate) struct NewObject<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
    pub(crate) uid: &'a str,
    pub(crate) now: Timestamp,
    pub(crate) keep_status: bool,
}

/// Takes from the old object what the target may not change; says what is refused instead.
pub(crate) fn update(row: &Resource, new: &mut Value, old: &Value, target: Target) -> Vec<FieldError> {
    let errors = match target {
        Target::Status if row.custom => Vec::new(),
        Target::Main | Target::Status => immutable(new, old),
        Target::Part(_) | Target::Whole(_) => Vec::new(),
    };
    match target {
        Target::Main => strategy::prepare_for_update(row, new, old),
        Target::Status => strategy::prepare_for_status(row, new, old),
        Target::Part(part) => (part.prepare)(new, old),
        Target::Whole(_) => {}
    }
    keep_fixed(new, old);
    errors
}

/// What a client may not ask for: an object goes by DELETE alone. What it leaves out, and another creationTimestamp or generation,
/// is put right without a word.
fn immutable(new: &Value, old: &Value) -> Vec<FieldError> {
    let field = |object: &Value, key: &str| {
        let found = meta::metadata(object).and_then(|metadata| metadata.get(key));
        found.filter(|value| !value.is_null()).cloned()
    };
    let refused =
        |key: &str, wanted: Value| FieldError::invalid(format!("metadata.{key}"), wanted, "field is immutable");
    let mut errors = Vec::new();
    // A deletion that has begun cannot be called off or moved: of that nothing is said.
    if let (Some(wanted), None) = (field(new, "deletionTimestamp"), field(old, "deletionTimestamp")) {
        errors.push(refused("deletionTimestamp", wanted));
    }
    let grace = "deletionGracePeriodSeconds";
    if let Some(wanted) = field(new, grace).filter(|wanted| Some(wanted) != field(old, grace).as_ref()) {
        errors.push(refused(grace, wanted));
    }
    errors
}

/// Drops the maps and lists of metadata that nothing is left in: Kubernetes does not write them.
fn drop_empty(metadata: &mut Map<String, Value>) {
    for key in ["labels", "annotations", "finalizers", "ownerReferences"] {
        let empty = match metadata.get(key) {
            Some(Value::Object(map)) => map.is_empty(),
            Some(Value::Array(list)) => list.is_empty(),
            _ => false,
        };
        if empty {
            metadata.remove(key);
        }
    }
}

/// Metadata that no update changes.
fn keep_fixed(new: &mut Value, old: &Value) {
    let empty = Map::new();
    let before = meta::metadata(old).unwrap_or(&empty);
    let metadata = meta::metadata_mut(new);
    drop_empty(metadata);
    metadata.remove("selfLink");
    for field in FIXED.iter().chain(&["name", "namespace"]) {
        match before.get(*field) {
            Some(value) => metadata.insert((*field).to_owned(), value.clone()),
            None => metadata.remove(*field),
        };
    }
}

/// Counts a change outside metadata, and outside a status that is written apart.
pub(crate) fn count_generation(row: &Resource, new: &mut Value, old: &Value) {
    let but: &[&str] = if row.has_status {
        &["metadata", "status"]
    } else {
        &["metadata"]
    };
    if row.has_generation && !same_but(new, old, but) {
        meta::set(new, "generation", meta::generation(old) + 1);
    }
}

/// Whether two maps agree in everything but some keys.
fn same_but(a: &Value, b: &Value, but: &[&str]) -> bool {
    let (Some(a), Some(b)) = (a.as_object(), b.as_object()) else {
        return a == b;
    };
    let relevant = |map: &Map<String, Value>| map.keys().filter(|key| !but.contains(&key.as_str())).count();
    relevant(a) == relevant(b)
        && a.iter()
            .all(|(key, value)| but.contains(&key.as_str()) || b.get(key) == Some(value))
}

/// Whether a write would change nothing: equal but for the revision and the times of managed fields.
pub(crate) fn is_unchanged(new: &Value, old: &Value) -> bool {
    if !same_but(new, old, &["metadata"]) {
        return false;
    }
    let (Some(new), Some(old)) = (new.get("metadata"), old.get("metadata")) else {
        return false;
    };
    if !same_but(new, old, &["managedFields", "resourceVersion"]) {
        return false;
    }
    let (new, old) = (
        meta::list_at(new, &["managedFields"]),
        meta::list_at(old, &["managedFields"]),
    );
    new.len() == old.len() && new.iter().zip(old).all(|(new, old)| same_but(new, old, &["time"]))
}

/// Whether a write only says that somebody is still there: nothing differs but the kind's heartbeat, and who owns fields.
pub(crate) fn is_heartbeat(row: &Resource, new: &Value, old: &Value) -> bool {
    const BESIDE: &[&[&str]] = &[&["metadata", "managedFields"], &["metadata", "resourceVersion"]];
    let paths: Vec<&[&str]> = row.heartbeat.iter().chain(BESIDE).copied().collect();
    !row.heartbeat.is_empty() && same_beside(Some(new), Some(old), &paths)
}

/// Whether two values agree in everything but what is at these paths, none of which is empty.
fn same_beside(a: Option<&Value>, b: Option<&Value>, paths: &[&[&str]]) -> bool {
    let (Some(Value::Object(a)), Some(Value::Object(b))) = (a, b) else {
        return a == b;
    };
    if paths.is_empty() {
        return a == b;
    }
    a.keys().chain(b.keys().filter(|key| !a.contains_key(*key))).all(|key| {
        let below: Vec<&[&str]> = paths
            .iter()
            .filter_map(|path| path.split_first())
            .filter(|(first, _)| *first == key)
            .map(|(_, rest)| rest)
            .collect();
        below.iter().any(|rest| rest.is_empty()) || same_beside(a.get(key), b.get(key), &below)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_times_of_managers_alone_are_no_change() {
        let old = json!({"metadata": {"name": "a", "resourceVersion": "4", "managedFields": [{"manager": "m", "time": "1"}]}, "data": {}});
        let mut new = json!({"metadata": {"name": "a", "managedFields": [{"manager": "m", "time": "2"}]}, "data": {}});
        assert!(is_unchanged(&new, &old));
        new["data"]["x"] = "y".into();
        assert!(!is_unchanged(&new, &old));
    }

    #[test]
    fn nobody_asks_an_object_to_go_by_writing_it() {
        let refused = |new: Value, old: Value| {
            let errors = immutable(&json!({"metadata": new}), &json!({"metadata": old}));
            errors.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(
            refused(json!({"deletionTimestamp": "2024-01-01T00:00:00Z"}), json!({})),
            ["metadata.deletionTimestamp: Invalid value: \"2024-01-01T00:00:00Z\": field is immutable"]
        );
        assert_eq!(
            refused(
                json!({"deletionGracePeriodSeconds": 1}),
                json!({"deletionGracePeriodSeconds": 30})
            ),
            ["metadata.deletionGracePeriodSeconds: Invalid value: 1: field is immutable"]
        );
        let going = json!({"deletionTimestamp": "2024-01-01T00:00:00Z", "deletionGracePeriodSeconds": 30});
        assert!(refused(json!({}), going.clone()).is_empty());
        assert!(refused(going.clone(), going).is_empty());
    }

    #[test]
    fn only_a_kind_with_a_heartbeat_has_one_and_only_when_nothing_else_changed() {
        let lease = |renewed: &str, holder: &str, manager: &str| json!({"metadata": {"name": "a", "managedFields": [{"manager": manager}]}, "spec": {"renewTime": renewed, "holderIdentity": holder}});
        let scheme = setpoint_api::Scheme::builtin();
        let row = scheme.any_version("coordination.k8s.io", "leases").expect("leases");
        let old = lease("1", "me", "m");
        assert!(is_heartbeat(&row, &lease("2", "me", "m"), &old));
        assert!(is_heartbeat(&row, &lease("2", "me", "other"), &old));
        assert!(!is_heartbeat(&row, &lease("2", "you", "m"), &old));
        let mut labelled = lease("2", "me", "m");
        labelled["metadata"]["labels"] = json!({"a": "b"});
        assert!(!is_heartbeat(&row, &labelled, &old) && !is_heartbeat(&row, &old, &labelled));
        let mut bare = lease("2", "me", "m");
        bare["spec"] = Value::Null;
        assert!(!is_heartbeat(&row, &bare, &old));
        let maps = scheme.any_version("", "configmaps").expect("config maps");
        assert!(!is_heartbeat(&maps, &lease("2", "me", "m"), &old));
    }
}
