//! The kinds of autoscaling: one in two versions.

use super::plain;
use crate::convert::autoscaling::{HORIZONTAL_POD_AUTOSCALER, keep_status};
use crate::scheme::Resource;
use crate::{default, table, validate};

pub(super) fn autoscaling() -> Vec<Resource> {
    let autoscaler = |version: &str| {
        let mut row = plain("autoscaling", "HorizontalPodAutoscaler", "horizontalpodautoscalers")
            .short(&["hpa"])
            .all();
        version.clone_into(&mut row.version);
        version.clone_into(&mut row.storage_version);
        row.status().generation().unattended(
            "no controller scales by HorizontalPodAutoscalers yet: the number of replicas stays as it is set",
        )
    };
    vec![
        autoscaler("v2")
            .table(table::horizontal_pod_autoscaler())
            .defaulted(default::autoscaling::v2)
            .validated(validate::autoscaling::create, validate::autoscaling::update)
            .status_validated(validate::autoscaling::status),
        autoscaler("v1")
            .stored_as("autoscaling", "v2", HORIZONTAL_POD_AUTOSCALER)
            .table(table::horizontal_pod_autoscaler_v1())
            .defaulted(default::autoscaling::v1)
            .prepared(|_| {}, keep_status)
            .validated(validate::autoscaling::create_v1, validate::autoscaling::update_v1)
            .status_validated(validate::autoscaling::status),
    ]
}
