//! Jobs and CronJobs.

use serde_json::Value;
use setpoint_api::meta;

use super::conditions::{Condition, condition};
use super::{Health, count, number};
use crate::text::plural;

pub(super) fn job(object: &Value) -> Health {
    for name in ["Failed", "FailureTarget"] {
        if let Some(failed) = condition(object, name).filter(Condition::is_true) {
            return Health::degraded(format!("the job failed: {}", failed.why("its pods failed")));
        }
    }
    if condition(object, "Complete").is_some_and(|complete| complete.is_true()) {
        return Health::healthy("the job is done");
    }
    if meta::at(object, &["spec", "suspend"]) == Some(&Value::Bool(true)) {
        return Health::suspended("the job is suspended");
    }
    let all = number(object, &["spec", "completions"]).unwrap_or(1);
    let (done, active, failed) = (
        count(object, "succeeded"),
        count(object, "active"),
        count(object, "failed"),
    );
    if active == 0 && done == 0 && failed == 0 {
        return Health::progressing("the job has not started yet");
    }
    let mut reason = format!("{done} of {all} {} done", plural(all, "run is", "runs are"));
    if failed > 0 {
        reason.push_str(&format!(", {failed} failed"));
    }
    Health::progressing(reason)
}

pub(super) fn cron_job(object: &Value) -> Health {
    if meta::at(object, &["spec", "suspend"]) == Some(&Value::Bool(true)) {
        return Health::suspended("its schedule is suspended");
    }
    let active = meta::list_at(object, &["status", "active"]).len();
    match active {
        0 => Health::healthy("it waits for its next run"),
        _ => Health::healthy("it is running now"),
    }
}
