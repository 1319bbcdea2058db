//! The default roles and bindings are brought up to date at every start, as Kubernetes does.
//!
//! What is missing is created; what a role or a binding lacks is added, what somebody added stays. An object that is
//! annotated `rbac.authorization.kubernetes.io/autoupdate: "false"` is left as it is. A binding to another role than the
//! default is made anew, because its role cannot be changed.

use futures::StreamExt;
use serde_json::{Map, Value};
use setpoint_api::{Status, meta};

use super::Rule;
use super::rules::uncovered;
use crate::registry::{self, Registry};

const AUTO_UPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";
const MANAGER: &str = "setpoint";
/// How many objects are looked after at once: writes share the disk's flushes.
const AT_ONCE: usize = 16;

/// What becomes of an object that is there.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    /// It is as it should be, or is left alone.
    Kept,
    /// It is to be this.
    Changed(Value),
    /// It has to be made anew.
    Replaced,
}

/// Creates or completes all of `objects`. The error names the object.
pub(crate) async fn all(registry: &Registry, objects: Vec<Value>) -> Result<(), (String, Status)> {
    let mut work = futures::stream::iter(objects)
        .map(|object| async move {
            let what = format!("{} {}", meta::kind(&object), meta::name(&object));
            one(registry, object).await.map_err(|status| (what, status))
        })
        .buffer_unordered(AT_ONCE);
    while let Some(outcome) = work.next().await {
        outcome?;
    }
    Ok(())
}

async fn one(registry: &Registry, wanted: Value) -> Result<(), Status> {
    if registry.create_if_absent(wanted.clone()).await? {
        return Ok(());
    }
    let mut replace = false;
    registry::revise(registry, &wanted, MANAGER, &mut |old| match outcome(old, &wanted) {
        Outcome::Kept => old.clone(),
        Outcome::Changed(new) => new,
        Outcome::Replaced => {
            replace = true;
            old.clone()
        }
    })
    .await?;
    if replace {
        registry::delete_object(registry, &wanted).await?;
        registry.create_if_absent(wanted).await?;
    }
    Ok(())
}

fn outcome(old: &Value, wanted: &Value) -> Outcome {
    if meta::annotation(old, AUTO_UPDATE) == Some("false") {
        return Outcome::Kept;
    }
    let mut new = old.clone();
    for key in ["annotations", "labels"] {
        let Some(Value::Object(defaults)) = wanted["metadata"].get(key) else {
            continue;
        };
        let mut merged: Map<String, Value> = defaults.clone();
        if let Some(Value::Object(there)) = old["metadata"].get(key) {
            merged.extend(there.clone());
        }
        new["metadata"][key] = merged.into();
    }
    if wanted["roleRef"].is_object() {
        if old["roleRef"] != wanted["roleRef"] {
            return Outcome::Replaced;
        }
        add_missing(&mut new, "subjects", &wanted["subjects"]);
    } else if wanted["aggregationRule"].is_object() {
        // Its rules are what it selects.
        let key = "clusterRoleSelectors";
        if !new["aggregationRule"].is_object() {
            new["aggregationRule"] = Value::Object(Map::new());
        }
        add_missing(&mut new["aggregationRule"], key, &wanted["aggregationRule"][key]);
    } else {
        let (held, needed) = (Rule::read_all(old), Rule::read_all(wanted));
        // Ours are few: there is no product of lists too large to be taken apart.
        let missing: Vec<Value> = match uncovered(&held, &needed) {
            Ok(missing) => missing.iter().map(Rule::to_value).collect(),
            Err(_) => needed.iter().map(Rule::to_value).collect(),
        };
        add_missing(&mut new, "rules", &missing.into());
    }
    if new == *old {
        Outcome::Kept
    } else {
        Outcome::Changed(new)
    }
}

/// Appends to a list of an object what of another list is not in it.
fn add_missing(object: &mut Value, key: &str, wanted: &Value) {
    let there = object.get(key).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let wanted = wanted.as_array().map_or(&[][..], Vec::as_slice);
    let missing: Vec<Value> = wanted.iter().filter(|item| !there.contains(item)).cloned().collect();
    if !missing.is_empty() {
        object[key] = [there, &missing].concat().into();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn role(rules: Value) -> Value {
        json!({
            "kind": "ClusterRole",
            "metadata": {"name": "r", "annotations": {AUTO_UPDATE: "true"}, "labels": {"a": "default"}},
            "rules": rules,
        })
    }

    fn pods(verbs: &[&str]) -> Value {
        json!({"apiGroups": [""], "resources": ["pods"], "verbs": verbs})
    }

    #[test]
    fn what_is_missing_is_added_and_what_is_more_stays() {
        let wanted = role(json!([pods(&["get", "list"])]));
        assert_eq!(outcome(&wanted, &wanted), Outcome::Kept);
        let mut old = role(json!([pods(&["get", "delete"])]));
        old["metadata"]["labels"] = json!({"a": "mine", "b": "mine"});
        let Outcome::Changed(new) = outcome(&old, &wanted) else {
            panic!("it lacks a verb")
        };
        assert_eq!(new["rules"], json!([pods(&["get", "delete"]), pods(&["list"])]));
        assert_eq!(new["metadata"]["labels"], json!({"a": "mine", "b": "mine"}));
        assert_eq!(outcome(&new, &wanted), Outcome::Kept, "once is enough");
    }

    #[test]
    fn an_object_that_is_not_to_be_updated_is_left_alone() {
        let wanted = role(json!([pods(&["get"])]));
        let mut old = role(json!([]));
        old["metadata"]["annotations"][AUTO_UPDATE] = "false".into();
        assert_eq!(outcome(&old, &wanted), Outcome::Kept);
    }

    #[test]
    fn a_binding_gets_its_subjects_back_and_its_role() {
        let subject = |name: &str| json!({"kind": "Group", "name": name});
        let binding = |role: &str, subjects: Value| {
            json!({
                "kind": "ClusterRoleBinding",
                "metadata": {"name": "b"},
                "roleRef": {"kind": "ClusterRole", "name": role},
                "subjects": subjects,
            })
        };
        let wanted = binding("view", json!([subject("x")]));
        let Outcome::Changed(new) = outcome(&binding("view", json!([subject("y")])), &wanted) else {
            panic!("it lacks a subject")
        };
        assert_eq!(new["subjects"], json!([subject("y"), subject("x")]));
        assert_eq!(outcome(&binding("edit", json!([])), &wanted), Outcome::Replaced);
    }

    #[test]
    fn what_is_as_it_was_made_is_not_written_again() {
        for object in super::super::bootstrap_objects() {
            assert_eq!(outcome(&object, &object), Outcome::Kept, "{}", meta::name(&object));
        }
    }
}
