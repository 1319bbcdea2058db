//! The rows of Jobs and CronJobs.

use jiff::Timestamp;
use serde_json::Value;

use super::workload::{joined_of, selector};
use super::{Column, Row, age, columns, human_duration, or_none, since};
use crate::meta::{self, at, int_at, list_at, str_at};

/// Returns the columns and the row of Jobs.
pub(crate) fn job() -> (Vec<Column>, Row) {
    let text = "Name|string|0|Name must be unique within a namespace.
Status|string|0|Status of the job.
Completions|string|0|The number of pods that came to a good end, of those that are wanted.
Duration|string|0|Time required to complete the job.
Age|string|0|How long ago the object was created.
Containers|string|1|Names of each container in the template.
Images|string|1|Images referenced by each container in the template.
Selector|string|1|Which pods belong to it.";
    (columns(text), Row::Builtin(job_row))
}

/// Returns the columns and the row of CronJobs.
pub(crate) fn cron_job() -> (Vec<Column>, Row) {
    let text = "Name|string|0|Name must be unique within a namespace.
Schedule|string|0|When its jobs are due.
Timezone|string|0|The time zone that the schedule is meant in.
Suspend|boolean|0|Whether no more jobs are started.
Active|integer|0|The number of jobs that run.
Last Schedule|string|0|When a job was started last.
Age|string|0|How long ago the object was created.
Containers|string|1|Names of each container in the template.
Images|string|1|Images referenced by each container in the template.
Selector|string|1|Which pods belong to its jobs.";
    (columns(text), Row::Builtin(cron_job_row))
}

fn job_row(job: &Value, now: Timestamp) -> Vec<Value> {
    let containers = list_at(job, &["spec", "template", "spec", "containers"]);
    vec![
        meta::name(job).into(),
        job_status(job).into(),
        completions(job).into(),
        duration(job, now).into(),
        age(job, now),
        joined_of(containers, "name"),
        joined_of(containers, "image"),
        or_none(&selector(job)),
    ]
}

fn job_status(job: &Value) -> &'static str {
    let is = |condition: &str| {
        list_at(job, &["status", "conditions"])
            .iter()
            .any(|found| str_at(found, &["type"]) == condition && str_at(found, &["status"]) == "True")
    };
    if is("Complete") {
        "Complete"
    } else if is("Failed") {
        "Failed"
    } else if meta::is_being_deleted(job) {
        "Terminating"
    } else if is("Suspended") {
        "Suspended"
    } else if is("FailureTarget") {
        "FailureTarget"
    } else if is("SuccessCriteriaMet") {
        "SuccessCriteriaMet"
    } else {
        "Running"
    }
}

fn completions(job: &Value) -> String {
    let succeeded = int_at(job, &["status", "succeeded"]).unwrap_or(0);
    match (
        int_at(job, &["spec", "completions"]),
        int_at(job, &["spec", "parallelism"]),
    ) {
        (Some(wanted), _) => format!("{succeeded}/{wanted}"),
        (None, Some(parallel)) if parallel > 1 => format!("{succeeded}/1 of {parallel}"),
        (None, _) => format!("{succeeded}/1"),
    }
}

fn duration(job: &Value, now: Timestamp) -> String {
    let time = |key: &str| meta::parse_time(str_at(job, &["status", key]));
    match time("startTime") {
        Some(start) => {
            let end = time("completionTime").unwrap_or(now);
            human_duration(end.duration_since(start).as_secs())
        }
        None => String::new(),
    }
}

fn cron_job_row(cron_job: &Value, now: Timestamp) -> Vec<Value> {
    let text = |key: &str| str_at(cron_job, &["spec", key]);
    let containers = list_at(
        cron_job,
        &["spec", "jobTemplate", "spec", "template", "spec", "containers"],
    );
    let last = meta::parse_time(str_at(cron_job, &["status", "lastScheduleTime"]));
    let suspended = match at(cron_job, &["spec", "suspend"]) {
        Some(Value::Bool(true)) => "True",
        Some(Value::Bool(false)) => "False",
        _ => "<unset>",
    };
    vec![
        meta::name(cron_job).into(),
        text("schedule").into(),
        or_none(text("timeZone")),
        suspended.into(),
        list_at(cron_job, &["status", "active"]).len().into(),
        last.map_or_else(|| "<none>".into(), |last| since(Some(last), now).into()),
        age(cron_job, now),
        joined_of(containers, "name"),
        joined_of(containers, "image"),
        or_none(&at(cron_job, &["spec", "jobTemplate"]).map_or_else(String::new, selector)),
    ]
}
