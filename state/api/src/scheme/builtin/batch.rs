//! The kinds of batch/v1.

use super::plain;
use crate::scheme::Resource;
use crate::strategy::job;
use crate::{default, table, validate};

pub(super) fn batch() -> Vec<Resource> {
    vec![
        plain("batch", "CronJob", "cronjobs")
            .short(&["cj"])
            .all()
            .status()
            .generation()
            .unattended("cronjobs are stored, but no controller starts their jobs yet")
            .table(table::cron_job())
            .defaulted(default::batch::cron_job)
            .validated(validate::cron_job::create, validate::cron_job::update),
        plain("batch", "Job", "jobs")
            .all()
            .status()
            .generation()
            .unattended("jobs are stored, but no controller runs their pods yet")
            .table(table::job())
            .selectable_at("status.successful", "status.succeeded", "0")
            .defaulted(default::batch::job)
            .prepared(job::drop_disabled, |_, _| {})
            .validated(validate::job::create, validate::job::update)
            .status_validated(validate::job::status),
    ]
}
