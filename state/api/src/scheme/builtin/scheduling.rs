//! The kinds of scheduling.k8s.io/v1 and node.k8s.io/v1.

use super::plain;
use crate::scheme::Resource;
use crate::validate::scheduling;
use crate::{default, table};

pub(super) fn scheduling() -> Vec<Resource> {
    vec![
        plain("scheduling.k8s.io", "PriorityClass", "priorityclasses")
            .short(&["pc"])
            .cluster()
            .generation()
            .table(table::priority_class())
            .defaulted(default::scheduling::priority_class)
            .validated(scheduling::priority_class, scheduling::priority_class_update),
        plain("node.k8s.io", "RuntimeClass", "runtimeclasses")
            .cluster()
            .table(table::runtime_class())
            .defaulted(default::scheduling::runtime_class)
            .validated(scheduling::runtime_class, scheduling::runtime_class_update),
    ]
}
