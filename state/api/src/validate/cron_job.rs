//! The rules of CronJobs.

use serde_json::Value;

use super::field::{FieldError, Path};
use super::workload::spec_of;
use super::{given, job, non_negative_all, one_of};
use crate::cron;
use crate::meta::{self, str_at};

/// A Job's name is its CronJob's with eleven characters for the time.
const LONGEST_NAME: usize = 63 - 11;

/// Returns what is wrong with a new CronJob.
pub fn create(object: &Value) -> Vec<FieldError> {
    let mut errors = spec(object, None);
    if meta::name(object).len() > LONGEST_NAME {
        errors.push(FieldError::invalid(
            "metadata.name",
            meta::name(object),
            format!("must be no more than {LONGEST_NAME} characters"),
        ));
    }
    errors
}

/// Returns what is wrong with the change of a CronJob.
pub fn update(new: &Value, old: &Value) -> Vec<FieldError> {
    spec(new, Some(spec_of(old)))
}

fn spec(object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let (path, spec) = (Path::new("spec"), spec_of(object));
    schedule(&mut errors, &path.child("schedule"), spec, old);
    non_negative_all(&mut errors, &path, spec, &["startingDeadlineSeconds"]);
    if old.is_none_or(|old| given(old, "timeZone") != given(spec, "timeZone")) {
        time_zone(&mut errors, &path.child("timeZone"), given(spec, "timeZone"));
    }
    one_of(
        &mut errors,
        &path.child("concurrencyPolicy"),
        str_at(spec, &["concurrencyPolicy"]),
        &["Allow", "Forbid", "Replace"],
        true,
    );
    let template = spec.get("jobTemplate").unwrap_or(&Value::Null);
    errors.extend(job::template(&path.child("jobTemplate"), template));
    let limits = ["successfulJobsHistoryLimit", "failedJobsHistoryLimit"];
    non_negative_all(&mut errors, &path, spec, &limits);
    errors
}

fn schedule(errors: &mut Vec<FieldError>, path: &Path, spec: &Value, old: Option<&Value>) {
    let schedule = str_at(spec, &["schedule"]);
    if schedule.is_empty() {
        errors.push(FieldError::required(path, ""));
        return;
    }
    if let Err(error) = cron::parse(schedule) {
        errors.push(FieldError::invalid(path, schedule, error.to_string()));
    }
    if !schedule.contains("TZ") {
        return;
    }
    // What an old object has in its schedule it may keep.
    let kept = old.is_some_and(|old| str_at(old, &["schedule"]).contains("TZ"));
    if !kept {
        let detail = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead";
        errors.push(FieldError::invalid(path, schedule, detail));
    } else if given(spec, "timeZone").is_some() {
        let detail = "cannot use both timeZone field and TZ or CRON_TZ in schedule";
        errors.push(FieldError::invalid(path, schedule, detail));
    }
}

fn time_zone(errors: &mut Vec<FieldError>, path: &Path, zone: Option<&Value>) {
    let Some(zone) = zone.and_then(Value::as_str) else {
        return;
    };
    if zone.is_empty() {
        let detail = "timeZone must be nil or non-empty string";
        errors.push(FieldError::invalid(path, zone, detail));
        return;
    }
    let shaped = zone.split('/').all(|part| {
        !matches!(part, "." | "..")
            && !part.starts_with('-')
            && (1..=14).contains(&part.len())
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b".-_+".contains(&byte))
    });
    if !shaped {
        errors.push(FieldError::invalid(path, zone, format!("unknown time zone {zone}")));
        return;
    }
    if zone.eq_ignore_ascii_case("Local") {
        let detail = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
        errors.push(FieldError::invalid(path, zone, detail));
    }
    if !cron::is_time_zone(zone) {
        errors.push(FieldError::invalid(path, zone, format!("unknown time zone {zone}")));
    }
}
