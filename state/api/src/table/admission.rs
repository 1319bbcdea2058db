//! The rows of the kinds of admissionregistration.k8s.io/v1 and of APIServices.

use jiff::Timestamp;
use serde_json::Value;

use super::{Column, Row, age, columns};
use crate::LabelSelector;
use crate::meta::{self, at, list_at, str_at};

/// Returns the columns and the row of webhook configurations.
pub(crate) fn webhooks() -> (Vec<Column>, Row) {
    let text = "Name|string|0|Name must be unique.
Webhooks|integer|0|Webhooks indicates the number of webhooks registered in this configuration
Age|string|0|How long ago the object was created.";
    let row = |object: &Value, now| {
        vec![
            meta::name(object).into(),
            list_at(object, &["webhooks"]).len().into(),
            age(object, now),
        ]
    };
    (columns(text), Row::Builtin(row))
}

/// Returns the columns and the row of ValidatingAdmissionPolicies.
pub(crate) fn validating_policy() -> (Vec<Column>, Row) {
    let text = "Name|string|0|Name must be unique.
Validations|integer|0|Validations indicates the number of validation rules defined in this configuration
ParamKind|string|0|ParamKind specifies the kind of resources used to parameterize this policy
Age|string|0|How long ago the object was created.";
    let row = |object: &Value, now| policy_row(object, "validations", now);
    (columns(text), Row::Builtin(row))
}

/// Returns the columns and the row of MutatingAdmissionPolicies.
pub(crate) fn mutating_policy() -> (Vec<Column>, Row) {
    let text = "Name|string|0|Name must be unique.
Mutations|integer|0|Mutation indicates the number of mutations rules defined in this configuration
ParamKind|string|0|ParamKind specifies the kind of resources used to parameterize this policy
Age|string|0|How long ago the object was created.";
    let row = |object: &Value, now| policy_row(object, "mutations", now);
    (columns(text), Row::Builtin(row))
}

fn policy_row(policy: &Value, rules: &str, now: Timestamp) -> Vec<Value> {
    let kind = at(policy, &["spec", "paramKind"]).filter(|kind| kind.is_object());
    let kind = kind.map(|kind| format!("{}/{}", str_at(kind, &["apiVersion"]), str_at(kind, &["kind"])));
    vec![
        meta::name(policy).into(),
        list_at(policy, &["spec", rules]).len().into(),
        kind.unwrap_or_else(|| "<unset>".to_owned()).into(),
        age(policy, now),
    ]
}

/// Returns the columns and the row of bindings of policies.
pub(crate) fn policy_binding() -> (Vec<Column>, Row) {
    let text = "Name|string|0|Name must be unique.
PolicyName|string|0|PolicyName indicates the policy definition which the policy binding binded to
ParamRef|string|0|ParamRef indicates the param resource which sets the configration param
Age|string|0|How long ago the object was created.";
    (columns(text), Row::Builtin(binding_row))
}

fn binding_row(binding: &Value, now: Timestamp) -> Vec<Value> {
    let text = |key: &str| str_at(binding, &["spec", "paramRef", key]);
    let selector = at(binding, &["spec", "paramRef", "selector"]).filter(|selector| selector.is_object());
    let parameter = match (text("namespace"), text("name"), selector) {
        (_, "", None) => "<unset>".to_owned(),
        (_, "", Some(selector)) => LabelSelector::from_value(selector).map_or_else(|error| error.0, |s| s.to_string()),
        // Whether the parameter lives in a namespace is not known here.
        ("", name, _) => format!("*/{name}"),
        (namespace, name, _) => format!("{namespace}/{name}"),
    };
    vec![
        meta::name(binding).into(),
        str_at(binding, &["spec", "policyName"]).into(),
        parameter.into(),
        age(binding, now),
    ]
}

/// Returns the columns and the row of APIServices.
pub(crate) fn api_service() -> (Vec<Column>, Row) {
    let text = "Name|string|0|Name must be unique.
Service|string|0|The reference to the service that hosts this API endpoint.
Available|string|0|Whether this service is available.
Age|string|0|How long ago the object was created.";
    (columns(text), Row::Builtin(api_service_row))
}

fn api_service_row(object: &Value, now: Timestamp) -> Vec<Value> {
    let service = at(object, &["spec", "service"]).filter(|service| service.is_object());
    let service = service.map_or_else(
        || "Local".to_owned(),
        |service| format!("{}/{}", str_at(service, &["namespace"]), str_at(service, &["name"])),
    );
    let available = list_at(object, &["status", "conditions"])
        .iter()
        .find(|condition| str_at(condition, &["type"]) == "Available");
    let available = available.map_or_else(
        || "Unknown".to_owned(),
        |condition| {
            let (status, reason) = (str_at(condition, &["status"]), str_at(condition, &["reason"]));
            if status == "True" || reason.is_empty() {
                status.to_owned()
            } else {
                format!("{status} ({reason})")
            }
        },
    );
    vec![
        meta::name(object).into(),
        service.into(),
        available.into(),
        age(object, now),
    ]
}
