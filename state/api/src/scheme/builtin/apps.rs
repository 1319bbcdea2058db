//! The kinds of apps/v1.

use super::plain;
use crate::scheme::Resource;
use crate::strategy::daemon_set;
use crate::validate::metadata::NameRule;
use crate::{default, table, validate};

pub(super) fn apps() -> Vec<Resource> {
    vec![
        plain("apps", "ControllerRevision", "controllerrevisions")
            .table(table::controller_revision())
            .validated(
                validate::stateful_set::revision,
                validate::stateful_set::revision_update,
            ),
        plain("apps", "DaemonSet", "daemonsets")
            .short(&["ds"])
            .all()
            .status()
            .generation()
            .unattended("daemonsets are stored, but no controller runs their pods yet")
            .table(table::daemon_set())
            .defaulted(default::workload::daemon_set)
            .prepared(daemon_set::create, daemon_set::update)
            .validated(validate::daemon_set::create, validate::daemon_set::update)
            .status_validated(validate::daemon_set::status),
        plain("apps", "Deployment", "deployments")
            .short(&["deploy"])
            .all()
            .status()
            .status_resets(&[&["spec"], &["metadata", "labels"]])
            .generation()
            .scaled()
            .table(table::deployment())
            .defaulted(default::workload::deployment)
            .validated(validate::workload::deployment, validate::workload::deployment_update)
            .status_validated(validate::workload::deployment_status),
        plain("apps", "ReplicaSet", "replicasets")
            .short(&["rs"])
            .all()
            .status()
            .generation()
            .scaled()
            .table(table::replica_set())
            .selectable_at("status.replicas", "status.replicas", "0")
            .defaulted(default::workload::replica_set)
            .validated(validate::workload::replica_set, validate::workload::replica_set_update)
            .status_validated(validate::workload::replica_set_status),
        plain("apps", "StatefulSet", "statefulsets")
            .short(&["sts"])
            .all()
            .names(NameRule::Label)
            .status()
            .generation()
            .scaled()
            .unattended("statefulsets are stored, but no controller runs their pods yet")
            .table(table::stateful_set())
            .defaulted(default::workload::stateful_set)
            .validated(validate::stateful_set::create, validate::stateful_set::update)
            .status_validated(validate::stateful_set::status),
    ]
}
