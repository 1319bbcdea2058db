//! Defaults of Jobs and CronJobs.

use serde_json::{Map, Value, json};

use super::{each, fill, fill_text, inside, pod, spec};
use crate::meta;

/// How often the pods of a Job may fail.
const BACKOFF_LIMIT: i64 = 6;

/// Fills in a Job.
pub fn job(job: &mut Value) {
    labels(job);
    let spec = spec(job);
    let given = |spec: &Map<String, Value>, key: &str| spec.get(key).is_some_and(|value| !value.is_null());
    // A Job that says neither runs one pod; one that says its parallelism alone is a work queue.
    if !given(spec, "completions") && !given(spec, "parallelism") {
        fill(spec, "completions", 1);
    }
    fill(spec, "parallelism", 1);
    let limit = if given(spec, "backoffLimitPerIndex") {
        i64::from(i32::MAX)
    } else {
        BACKOFF_LIMIT
    };
    fill(spec, "backoffLimit", limit);
    fill_text(spec, "completionMode", "NonIndexed");
    fill(spec, "suspend", false);
    fill(spec, "manualSelector", false);
    let replacement = if given(spec, "podFailurePolicy") {
        "Failed"
    } else {
        "TerminatingOrFailed"
    };
    fill_text(spec, "podReplacementPolicy", replacement);
    job_spec(spec);
}

/// A Job without labels takes those of its pods.
fn labels(job: &mut Value) {
    let labels = meta::at(job, &["spec", "template", "metadata", "labels"]).cloned();
    let Some(Value::Object(labels)) = labels else { return };
    if !labels.is_empty() && meta::labels(job).is_none_or(Map::is_empty) {
        meta::metadata_mut(job).insert("labels".into(), Value::Object(labels));
    }
}

fn job_spec(spec: &mut Map<String, Value>) {
    inside(spec, "podFailurePolicy", |policy| {
        each(policy, "rules", |rule| {
            each(rule, "onPodConditions", |pattern| fill_text(pattern, "status", "True"));
        });
    });
    pod::template(spec);
}

/// Fills in a CronJob.
pub fn cron_job(cron_job: &mut Value) {
    let spec = spec(cron_job);
    fill_text(spec, "concurrencyPolicy", "Allow");
    fill(spec, "suspend", false);
    fill(spec, "successfulJobsHistoryLimit", 3);
    fill(spec, "failedJobsHistoryLimit", 1);
    fill(spec, "jobTemplate", json!({}));
    let template = meta::map_mut(spec, "jobTemplate");
    job_spec(meta::map_mut(template, "spec"));
}
