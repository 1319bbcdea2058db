//! The rows of the kinds of certificates.k8s.io/v1.

use jiff::Timestamp;
use serde_json::Value;

use super::{Column, Row, age, columns, human_duration, or_none};
use crate::meta::{self, int_at, list_at, str_at};

/// Returns the columns and the row of CertificateSigningRequests.
pub(crate) fn signing_request() -> (Vec<Column>, Row) {
    let text = "Name|string|0|Name must be unique.
Age|string|0|How long ago the object was created.
SignerName|string|0|Who is to sign.
Requestor|string|0|Who asks.
RequestedDuration|string|0|How long the certificate should be good for.
Condition|string|0|What has become of it.";
    (columns(text), Row::Builtin(signing_request_row))
}

/// Returns the columns and the row of ClusterTrustBundles.
pub(crate) fn trust_bundle() -> (Vec<Column>, Row) {
    let text = "Name|string|0|Name must be unique.
SignerName|string|0|Whose certificates it is for.";
    let row = |object: &Value, _| {
        vec![
            meta::name(object).into(),
            or_none(str_at(object, &["spec", "signerName"])),
        ]
    };
    (columns(text), Row::Builtin(row))
}

/// Returns the columns and the row of PodCertificateRequests.
pub(crate) fn pod_request() -> (Vec<Column>, Row) {
    let text = "Name|string|0|Name must be unique within a namespace.
PodName|string|0|The pod that the certificate is for.
ServiceAccountName|string|0|The account of the pod.
NodeName|string|0|The node of the pod.
SignerName|string|0|Who is to sign.
State|string|0|What has become of it.";
    let row = |object: &Value, _| {
        let outcome = list_at(object, &["status", "conditions"])
            .iter()
            .map(|condition| str_at(condition, &["type"]))
            .find(|ty| matches!(*ty, "Issued" | "Denied" | "Failed"));
        let text = |key: &str| Value::from(str_at(object, &["spec", key]));
        vec![
            meta::name(object).into(),
            text("podName"),
            text("serviceAccountName"),
            text("nodeName"),
            text("signerName"),
            outcome.unwrap_or("Pending").into(),
        ]
    };
    (columns(text), Row::Builtin(row))
}

fn signing_request_row(request: &Value, now: Timestamp) -> Vec<Value> {
    let has = |condition: &str| {
        list_at(request, &["status", "conditions"])
            .iter()
            .any(|found| str_at(found, &["type"]) == condition)
    };
    let mut state = if has("Denied") {
        "Denied"
    } else if has("Approved") {
        "Approved"
    } else {
        "Pending"
    }
    .to_owned();
    if has("Failed") {
        state.push_str(",Failed");
    }
    if !str_at(request, &["status", "certificate"]).is_empty() {
        state.push_str(",Issued");
    }
    let seconds = int_at(request, &["spec", "expirationSeconds"]);
    vec![
        meta::name(request).into(),
        age(request, now),
        or_none(str_at(request, &["spec", "signerName"])),
        str_at(request, &["spec", "username"]).into(),
        or_none(&seconds.map(human_duration).unwrap_or_default()),
        state.into(),
    ]
}
