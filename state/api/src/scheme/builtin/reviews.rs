//! The kinds that are asked and never stored.

use super::{AUTHENTICATION, CREATE, plain};
use crate::scheme::Resource;
use crate::validate::metadata::NameRule;

const AUTHORIZATION: &str = "authorization.k8s.io";

pub(super) fn reviews() -> Vec<Resource> {
    let review = |group, kind: &'static str| {
        let plural = format!("{}s", kind.to_lowercase());
        let mut row = plain(group, kind, &plural).cluster();
        row.verbs = CREATE.to_vec();
        row.name_rule = NameRule::Optional;
        row
    };
    let mut local = review(AUTHORIZATION, "LocalSubjectAccessReview");
    local.namespaced = true;
    vec![
        review(AUTHENTICATION, "SelfSubjectReview"),
        review(AUTHENTICATION, "TokenReview"),
        local,
        review(AUTHORIZATION, "SelfSubjectAccessReview"),
        review(AUTHORIZATION, "SelfSubjectRulesReview"),
        review(AUTHORIZATION, "SubjectAccessReview"),
    ]
}
