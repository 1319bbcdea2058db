//! The kinds of apps/v1.

use super::plain;
use crate::scheme::Resource;
use crate::{default, table, validate};

pub(super) fn apps() -> Vec<Resource> {
    vec![
        plain("apps", "Deployment", "deployments")
            .short(&["deploy"])
            .all()
            .status()
            .generation()
            .scaled()
            .table(table::deployment())
            .defaulted(default::workload::deployment)
            .validated(validate::workload::deployment, validate::workload::deployment_update),
        plain("apps", "ReplicaSet", "replicasets")
            .short(&["rs"])
            .all()
            .status()
            .generation()
            .scaled()
            .table(table::replica_set())
            .selectable_at("status.replicas", "status.replicas", "0")
            .defaulted(default::workload::replica_set)
            .validated(validate::workload::replica_set, validate::workload::replica_set_update),
    ]
}
