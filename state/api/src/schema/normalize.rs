//! Writes an object of a built-in kind as Kubernetes would after it went through the Go types.
//!
//! * Quantities are canonical, those of a list of resources rounded up to thousandths; numbers become texts.
//! * Times are in UTC, in whole seconds or with six digits of fraction.
//! * Zero and empty values that the types leave out (`omitempty`) are gone.
//!
//! So an object that says the same in other words is the same object: nothing is counted as a change, and no owner moves.
//! Invariant: what is normalized is its own normal form. Structs that Go holds by value stay as they came, present or absent.

use serde_json::Value;

use super::{Format, Map, Schema, Type};
use crate::{Quantity, meta};

/// Normalizes a value whose types were checked.
pub(super) fn normalize(schema: &Schema, value: &mut Value) {
    match (&schema.kind, value) {
        (Type::Object(object), Value::Object(map)) => map.retain(|key, child| {
            let Some(field) = object.field(key) else { return true };
            let below = field.schema.get();
            normalize(below, child);
            let left_out = match &below.kind {
                // An empty list of managers asks to forget them.
                Type::List(_) if key == "managedFields" => false,
                Type::Map(_) | Type::List(_) => !field.required,
                _ => field.omits_zero,
            };
            !(left_out && is_zero(below, child))
        }),
        (Type::Map(Map { values, .. }), Value::Object(map)) => {
            let values = values.get();
            let amounts = matches!(values.kind, Type::Quantity);
            for child in map.values_mut() {
                if amounts {
                    rewrite_quantity(child, Quantity::rounded_up_to_milli);
                } else {
                    normalize(values, child);
                }
            }
        }
        (Type::List(list), Value::Array(items)) => {
            for item in items {
                normalize(list.items.get(), item);
            }
        }
        (Type::Quantity, found) => rewrite_quantity(found, |quantity| quantity),
        (Type::String(format @ (Format::DateTime | Format::MicroTime)), Value::String(text)) => {
            if let Some(time) = meta::parse_time(text) {
                *text = match format {
                    Format::MicroTime => meta::format_micro_time(time),
                    _ => meta::format_time(time),
                };
            }
        }
        _ => {}
    }
}

fn rewrite_quantity(value: &mut Value, change: impl FnOnce(Quantity) -> Quantity) {
    // What is none was refused by the check of types.
    if let Ok(quantity) = Quantity::from_value(value) {
        *value = change(quantity).to_string().into();
    }
}

/// Whether a value is what its Go type begins as.
fn is_zero(schema: &Schema, value: &Value) -> bool {
    match (&schema.kind, value) {
        (Type::String(_), Value::String(text)) => text.is_empty(),
        (Type::Integer(_) | Type::Number, Value::Number(number)) => number.as_f64() == Some(0.0),
        (Type::Boolean, Value::Bool(set)) => !set,
        (Type::List(_), Value::Array(items)) => items.is_empty(),
        (Type::Map(_), Value::Object(map)) => map.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::builtin;
    use super::*;

    fn normalized(group: &str, kind: &str, mut object: Value) -> Value {
        let schema = builtin(group, "v1", kind).expect("a built-in kind");
        schema.check_types(&object).expect("the types fit");
        schema.normalize(&mut object);
        let once = object.clone();
        schema.normalize(&mut object);
        assert_eq!(object, once, "what is normal stays as it is");
        object
    }

    #[test]
    fn quantities_have_one_form_and_lists_of_resources_are_rounded_up() {
        let pod = normalized(
            "",
            "Pod",
            json!({"spec": {
                "containers": [{"name": "a", "resources": {"limits": {"cpu": 1, "memory": "1024Mi"}, "requests": {"cpu": "0.0005"}}}],
                "volumes": [{"name": "v", "emptyDir": {"sizeLimit": "1000m"}}],
                "overhead": {"cpu": "4000m"},
            }}),
        );
        assert_eq!(
            pod["spec"]["containers"][0]["resources"],
            json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1m"}})
        );
        assert_eq!(pod["spec"]["volumes"][0]["emptyDir"], json!({"sizeLimit": "1"}));
        assert_eq!(pod["spec"]["overhead"], json!({"cpu": "4"}));
    }

    #[test]
    fn times_are_in_utc_and_as_fine_as_their_type() {
        let lease = normalized(
            "coordination.k8s.io",
            "Lease",
            json!({"metadata": {"creationTimestamp": "2024-01-01T01:00:00.7+01:00"}, "spec": {"renewTime": "2024-01-01T02:00:00.000007+02:00"}}),
        );
        assert_eq!(
            lease,
            json!({"metadata": {"creationTimestamp": "2024-01-01T00:00:00Z"}, "spec": {"renewTime": "2024-01-01T00:00:00.000007Z"}})
        );
        let schema = builtin("coordination.k8s.io", "v1", "Lease").expect("a built-in kind");
        let fault = |time: &str| {
            let lease = json!({"kind": "Lease", "apiVersion": "coordination.k8s.io/v1", "spec": {"renewTime": time}});
            schema.check_types(&lease).expect_err("no such time")
        };
        insta::assert_snapshot!(fault("2024-01-01T00:00:00Z"), @r#"Lease in version "v1" cannot be handled as a Lease: parsing time "2024-01-01T00:00:00Z" as "2006-01-02T15:04:05.000000Z07:00": cannot parse "Z" as ".000000""#);
        insta::assert_snapshot!(fault("2024-01-01T00:00:00.0000001Z"), @r#"Lease in version "v1" cannot be handled as a Lease: parsing time "2024-01-01T00:00:00.0000001Z" as "2006-01-02T15:04:05.000000Z07:00": cannot parse "1Z" as "Z07:00""#);
    }

    #[test]
    fn what_go_leaves_out_goes_and_what_means_something_stays() {
        let pod = normalized(
            "",
            "Pod",
            json!({"metadata": {"name": "a", "labels": {}, "finalizers": [], "managedFields": []}, "spec": {
                "nodeSelector": {}, "hostNetwork": false, "enableServiceLinks": false, "securityContext": {}, "priority": 0, "nodeName": "",
                "containers": [{"name": "a", "env": [], "args": [], "stdin": false, "securityContext": {"privileged": false}, "resources": {},
                    "ports": [{"containerPort": 0, "hostPort": 0}], "envFrom": [{"prefix": "", "configMapRef": {"name": ""}}]}],
                "volumes": [{"name": "v", "emptyDir": {"medium": ""}}],
            }}),
        );
        assert_eq!(
            pod,
            json!({"metadata": {"name": "a", "managedFields": []}, "spec": {
                "enableServiceLinks": false, "securityContext": {}, "priority": 0,
                "containers": [{"name": "a", "securityContext": {"privileged": false}, "resources": {},
                    "ports": [{"containerPort": 0}], "envFrom": [{"configMapRef": {}}]}],
                "volumes": [{"name": "v", "emptyDir": {}}],
            }})
        );
        let role = normalized(
            "rbac.authorization.k8s.io",
            "Role",
            json!({"rules": [{"verbs": [], "apiGroups": []}]}),
        );
        assert_eq!(role, json!({"rules": [{"verbs": []}]}));
    }
}
