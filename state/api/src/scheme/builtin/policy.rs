//! The kinds of policy/v1.

use super::plain;
use crate::scheme::Resource;
use crate::{table, validate};

pub(super) fn policy() -> Vec<Resource> {
    vec![
        plain("policy", "PodDisruptionBudget", "poddisruptionbudgets")
            .short(&["pdb"])
            .status()
            .generation()
            .table(table::pod_disruption_budget())
            .unattended("no controller counts the pods of PodDisruptionBudgets yet: it allows no evictions until its status says otherwise")
            .validated(validate::policy::budget, |new, _| validate::policy::budget(new))
            .status_validated(|new, _| validate::policy::status(new)),
    ]
}
