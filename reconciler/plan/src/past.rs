//! One write of the past: what it changed in an object, and who made it.

use serde_json::Value;
use setpoint_api::meta;

use crate::diff::{self, FieldChange};

/// The manager that older entries are gathered under; nobody.
const ANCIENT: &str = "ancient-changes";

/// Returns the fields that a write changed, in the order of their paths: those of the status too, but not the revision, the generation and
/// who owns what.
pub fn changes(before: &Value, after: &Value) -> Vec<FieldChange> {
    diff::written(before, after)
}

/// Returns whether all that changed is the status.
pub fn is_status_only(changes: &[FieldChange]) -> bool {
    !changes.is_empty()
        && changes.iter().all(|change| {
            let rest = change.path.strip_prefix("status");
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        })
}

/// Returns who made a write, as the owners of the fields tell it: `kubectl-edit`, or `agent (status)` for a subresource. Empty where they do
/// not tell, as of a deletion.
///
/// `status_only` says that the write changed nothing but the status; `since` is the earliest time, as in managed fields
/// (`2026-01-31T12:00:00Z`), that an owner of this write can have been given.
pub fn writers(before: Option<&Value>, after: Option<&Value>, status_only: bool, since: &str) -> Vec<String> {
    let Some(after) = after else { return Vec::new() };
    let (old, new) = (before.map(entries).unwrap_or_default(), entries(after));
    let deletion = |object: &Value| meta::is_being_deleted(object);
    let mut writers: Vec<String> = new
        .iter()
        .filter(|entry| text(entry, "manager") != ANCIENT)
        .filter(|entry| !old.contains(entry) && is_gain(entry, old))
        .map(name)
        .collect();
    // Who asks for a deletion, or only takes fields away, is not noted.
    if writers.is_empty() && deletion(after) == before.is_some_and(deletion) {
        // Times are kept to the second: of two writes by one manager within one, the second leaves the entries as they are. Then it is whoever
        // wrote last, where that is one, and was just now.
        let last = new
            .iter()
            .map(|entry| text(entry, "time"))
            .max()
            .filter(|last| *last >= since);
        writers = new
            .iter()
            .filter(|entry| Some(text(entry, "time")) == last && text(entry, "manager") != ANCIENT)
            .filter(|entry| (text(entry, "subresource") == "status") == status_only)
            .map(name)
            .collect();
        if writers.len() > 1 {
            writers.clear();
        }
    }
    writers.sort();
    writers.dedup();
    writers
}

/// Whether an entry is new or of a later time: one that only lost fields to another manager keeps its time.
fn is_gain(entry: &Value, old: &[Value]) -> bool {
    let same = |key: &str, other: &Value| entry.get(key) == other.get(key);
    let previous = old.iter().find(|other| {
        ["manager", "operation", "subresource", "apiVersion"]
            .into_iter()
            .all(|key| same(key, other))
    });
    previous.is_none_or(|previous| !same("time", previous))
}

fn entries(object: &Value) -> &[Value] {
    meta::list_at(object, &["metadata", "managedFields"])
}

fn text<'a>(entry: &'a Value, key: &str) -> &'a str {
    entry.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn name(entry: &Value) -> String {
    let manager = match text(entry, "manager") {
        "" => "unknown",
        manager => manager,
    };
    match text(entry, "subresource") {
        "" => manager.to_owned(),
        subresource => format!("{manager} ({subresource})"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn deployment(replicas: u32, ready: u32, managers: &Value) -> Value {
        json!({"apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "web", "resourceVersion": format!("{}", replicas * 10 + ready), "generation": replicas, "managedFields": managers},
            "spec": {"replicas": replicas, "template": {"spec": {"containers": [{"name": "a", "image": "a:1"}]}}},
            "status": {"readyReplicas": ready, "conditions": [{"type": "Available", "status": "True"}]}})
    }

    fn entry(manager: &str, subresource: &str, time: &str) -> Value {
        json!({"manager": manager, "operation": "Update", "apiVersion": "apps/v1", "time": time, "fieldsV1": {}, "subresource": subresource})
    }

    #[test]
    fn a_write_shows_every_field_but_the_bookkeeping() {
        let managers = json!([]);
        let before = deployment(2, 1, &managers);
        let mut after = deployment(3, 2, &managers);
        after["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        after["spec"]["template"]["spec"]["containers"] = json!([{"name": "b", "image": "b:1"}]);
        let paths: Vec<String> = changes(&before, &after).into_iter().map(|change| change.path).collect();
        assert_eq!(
            paths,
            [
                "metadata.deletionTimestamp",
                "spec.replicas",
                "spec.template.spec.containers[name=a]",
                "spec.template.spec.containers[name=b]",
                "status.readyReplicas"
            ]
        );
        assert_eq!(changes(&after, &after), []);
    }

    #[test]
    fn fields_of_a_kind_of_unknown_structure_are_shown_too() {
        let object = |size: u32, phase: &str| json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w", "labels": {"a": "b"}}, "spec": {"size": size}, "status": {"phase": phase}});
        let shown: Vec<String> = changes(&object(1, "old"), &object(2, "new"))
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(shown, ["spec.size: 1 → 2", "status.phase: \"old\" → \"new\""]);
    }

    #[test]
    fn only_a_change_of_nothing_but_the_status_is_one_of_the_status() {
        let managers = json!([]);
        let (a, b, c) = (
            deployment(1, 1, &managers),
            deployment(1, 2, &managers),
            deployment(2, 2, &managers),
        );
        assert!(is_status_only(&changes(&a, &b)));
        assert!(!is_status_only(&changes(&a, &c)));
        assert!(!is_status_only(&[]));
    }

    #[test]
    fn whoever_gained_fields_wrote() {
        let before = deployment(
            1,
            1,
            &json!([entry("git", "", "1"), entry("controller", "status", "2")]),
        );
        let edited = deployment(
            2,
            1,
            &json!([
                entry("git", "", "1"),
                entry("controller", "status", "2"),
                entry("kubectl-edit", "", "3")
            ]),
        );
        assert_eq!(writers(Some(&before), Some(&edited), false, "1"), ["kubectl-edit"]);
        let mut robbed = edited.clone();
        robbed["metadata"]["managedFields"][0]["fieldsV1"] = json!({"f:spec": {}});
        assert_eq!(
            writers(Some(&before), Some(&robbed), false, "1"),
            ["kubectl-edit"],
            "losing fields is no write"
        );
        let counted = deployment(
            1,
            2,
            &json!([entry("git", "", "1"), entry("controller", "status", "3")]),
        );
        assert_eq!(
            writers(Some(&before), Some(&counted), true, "1"),
            ["controller (status)"]
        );
        assert_eq!(writers(None, Some(&before), false, "1"), ["controller (status)", "git"]);
    }

    #[test]
    fn two_writes_within_a_second_are_by_the_last_writer_where_that_is_one() {
        let managers = json!([
            entry("git", "", "1"),
            entry("kubectl", "", "2"),
            entry("controller", "status", "2")
        ]);
        let (before, after) = (deployment(1, 1, &managers), deployment(2, 1, &managers));
        assert_eq!(writers(Some(&before), Some(&after), false, "1"), ["kubectl"]);
        assert_eq!(writers(Some(&before), Some(&after), true, "1"), ["controller (status)"]);
        assert_eq!(
            writers(Some(&before), Some(&after), false, "3"),
            Vec::<String>::new(),
            "who wrote long ago is not who took a field away now"
        );
        let mut going = after.clone();
        going["metadata"]["deletionTimestamp"] = "2".into();
        assert_eq!(writers(Some(&before), Some(&going), false, "1"), Vec::<String>::new());
        let unclear = json!([entry("git", "", "2"), entry("kubectl", "", "2")]);
        let (before, after) = (deployment(1, 1, &unclear), deployment(2, 1, &unclear));
        assert_eq!(writers(Some(&before), Some(&after), false, "1"), Vec::<String>::new());
    }

    #[test]
    fn nobody_is_told_of_a_deletion_or_where_owners_are_not_known() {
        let managers = json!([entry("git", "", "1")]);
        assert_eq!(
            writers(Some(&deployment(1, 1, &managers)), None, false, "1"),
            Vec::<String>::new()
        );
        let bare = deployment(1, 1, &json!([]));
        assert_eq!(writers(Some(&bare), Some(&bare), false, "1"), Vec::<String>::new());
    }
}
