//! The kinds of admissionregistration.k8s.io/v1 and apiregistration.k8s.io/v1: what others bring into the API.

use super::plain;
use crate::scheme::Resource;
use crate::validate::metadata::NameRule;
use crate::validate::{admission, aggregation};
use crate::{default, table};

const ADMISSION: &str = "admissionregistration.k8s.io";
const EXTENSIONS: &str = "api-extensions";

/// A kind that is stored; what it registers does not take part in requests.
fn registered(kind: &str, plural: &str, what: &str) -> Resource {
    plain(ADMISSION, kind, plural)
        .cluster()
        .category(EXTENSIONS)
        .generation()
        .unattended(&format!(
            "{plural} are stored, but {what} by this version: requests are neither changed nor refused by them"
        ))
}

pub(super) fn admission() -> Vec<Resource> {
    const NOT_CALLED: &str = "webhooks are not called";
    const NOT_RUN: &str = "policies are not evaluated";
    vec![
        registered("MutatingAdmissionPolicy", "mutatingadmissionpolicies", NOT_RUN)
            .table(table::mutating_policy())
            .defaulted(default::admission::mutating_policy)
            .validated(admission::mutating_policy, |new, _| admission::mutating_policy(new)),
        registered(
            "MutatingAdmissionPolicyBinding",
            "mutatingadmissionpolicybindings",
            NOT_RUN,
        )
        .table(table::policy_binding())
        .defaulted(default::admission::binding)
        .validated(admission::mutating_binding, |new, _| admission::mutating_binding(new)),
        registered(
            "MutatingWebhookConfiguration",
            "mutatingwebhookconfigurations",
            NOT_CALLED,
        )
        .table(table::webhooks())
        .defaulted(default::admission::mutating_webhooks)
        .validated(admission::mutating_create, admission::mutating_update),
        registered("ValidatingAdmissionPolicy", "validatingadmissionpolicies", NOT_RUN)
            .status()
            .table(table::validating_policy())
            .defaulted(default::admission::validating_policy)
            .validated(admission::validating_policy, |new, _| admission::validating_policy(new))
            .status_validated(admission::validating_policy_status),
        registered(
            "ValidatingAdmissionPolicyBinding",
            "validatingadmissionpolicybindings",
            NOT_RUN,
        )
        .table(table::policy_binding())
        .defaulted(default::admission::binding)
        .validated(admission::validating_binding, |new, _| {
            admission::validating_binding(new)
        }),
        registered(
            "ValidatingWebhookConfiguration",
            "validatingwebhookconfigurations",
            NOT_CALLED,
        )
        .table(table::webhooks())
        .defaulted(default::admission::validating_webhooks)
        .validated(admission::validating_create, admission::validating_update),
        plain("apiregistration.k8s.io", "APIService", "apiservices")
            .cluster()
            .category(EXTENSIONS)
            .names(NameRule::PathSegment)
            .status()
            .table(table::api_service())
            .defaulted(default::admission::api_service)
            .validated(aggregation::create, |new, _| aggregation::create(new))
            .status_validated(aggregation::status),
    ]
}
