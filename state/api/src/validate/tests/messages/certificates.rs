//! Requests for certificates.

use serde_json::json;

use super::{put, refused, status_refused};
use crate::validate::certificates;

const REQUEST: &str = include_str!("../request.b64");

#[test]
fn requests_for_certificates() {
    let good = json!({"metadata": {"name": "c"}, "spec": {"request": REQUEST.trim(), "signerName": "example.com/s", "usages": ["client auth"]}});
    refused(
        "certificates.k8s.io",
        "certificatesigningrequests",
        &good,
        &[
            (
                "/spec/request",
                json!("eA=="),
                &["spec.request: Invalid value: \"eA==\": PEM block type must be CERTIFICATE REQUEST"],
            ),
            ("/spec/usages", json!([]), &["spec.usages: Required value"]),
            (
                "/spec/usages",
                json!(["any", "any"]),
                &["spec.usages[1]: Duplicate value: \"any\""],
            ),
            (
                "/spec/signerName",
                json!("kubernetes.io/legacy-unknown"),
                &[
                    "spec.signerName: Invalid value: \"kubernetes.io/legacy-unknown\": the legacy signerName is not allowed via this API version",
                ],
            ),
            (
                "/spec/signerName",
                json!("x"),
                &[
                    "spec.signerName: Invalid value: \"x\": must be a fully qualified domain and path of the form 'example.com/signer-name'",
                ],
            ),
            (
                "/spec/expirationSeconds",
                json!(599),
                &[
                    "spec.expirationSeconds: Invalid value: 599: may not specify a duration less than 600 seconds (10 minutes)",
                ],
            ),
        ],
    );
    let approved = json!({"conditions": [{"type": "Approved", "status": "True"}]});
    status_refused(
        "certificates.k8s.io",
        "certificatesigningrequests",
        &good,
        &[
            (
                "/status",
                approved.clone(),
                &["status.conditions: Forbidden: updates may not add a condition of type \"Approved\""],
            ),
            (
                "/status/certificate",
                json!("eA=="),
                &[
                    "status.certificate: Invalid value: \"<certificate data>\": must contain at least one CERTIFICATE PEM block",
                ],
            ),
        ],
    );
    let approval = certificates::approval;
    let mut new = good.clone();
    new["status"] = approved;
    assert!(approval(&new, &good).is_empty());
    let mut denied = new.clone();
    put(
        &mut denied,
        "/status/conditions/-",
        json!({"type": "Denied", "status": "False"}),
    );
    let found: Vec<String> = approval(&denied, &good).iter().map(ToString::to_string).collect();
    assert_eq!(
        found,
        [
            "status.conditions[1].status: Unsupported value: \"False\": supported values: \"True\"",
            "status.conditions[1].type: Invalid value: \"Denied\": Approved and Denied conditions are mutually exclusive",
        ]
    );
    let found: Vec<String> = approval(&good, &new).iter().map(ToString::to_string).collect();
    assert_eq!(
        found,
        ["status.conditions: Forbidden: updates may not remove a condition of type \"Approved\""]
    );
}
