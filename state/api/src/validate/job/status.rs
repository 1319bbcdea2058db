//! The rules of a Job's status: what has come to an end stays so, and the parts agree with each other.
//!
//! A rule about how parts agree is applied only when one of them changes: what is stored may break it.

use std::collections::HashSet;

use serde_json::Value;

use super::indexes;
use crate::meta::{self, at, int_at, list_at, str_at};
use crate::validate::field::{FieldError, Path};
use crate::validate::{given, non_negative_all};

/// A Job as its status is judged.
struct Job<'a> {
    spec: &'a Value,
    status: &'a Value,
}

impl<'a> Job<'a> {
    fn of(job: &'a Value) -> Job<'a> {
        Job {
            spec: at(job, &["spec"]).unwrap_or(&Value::Null),
            status: at(job, &["status"]).unwrap_or(&Value::Null),
        }
    }

    fn is(&self, condition: &str) -> bool {
        list_at(self.status, &["conditions"])
            .iter()
            .any(|found| str_at(found, &["type"]) == condition && str_at(found, &["status"]) == "True")
    }

    fn is_finished(&self) -> bool {
        self.is("Complete") || self.is("Failed")
    }

    fn number(&self, key: &str) -> i64 {
        int_at(self.status, &[key]).unwrap_or(0)
    }

    fn text(&self, key: &str) -> &'a str {
        str_at(self.status, &[key])
    }

    fn is_indexed(&self) -> bool {
        str_at(self.spec, &["completionMode"]) == "Indexed"
    }
}

/// Returns what is wrong with the change of a Job's status.
pub fn status(new: &Value, old: &Value) -> Vec<FieldError> {
    let (new, old) = (Job::of(new), Job::of(old));
    let path = Path::new("status");
    let mut errors = Vec::new();
    let counts = ["active", "succeeded", "failed", "ready", "terminating"];
    non_negative_all(&mut errors, &path, new.status, &counts);
    uncounted(&mut errors, &path.child("uncountedTerminatedPods"), new.status);
    conditions(&mut errors, &path.child("conditions"), &new, &old);
    times(&mut errors, &path, &new, &old);
    finished(&mut errors, &path, &new, &old);
    index_sets(&mut errors, &path, &new, &old);
    transitions(&mut errors, &path, &new, &old);
    errors
}

fn uncounted(errors: &mut Vec<FieldError>, path: &Path, status: &Value) {
    let mut seen = HashSet::new();
    for key in ["succeeded", "failed"] {
        let uids = list_at(status, &["uncountedTerminatedPods", key]);
        for (index, uid) in uids.iter().filter_map(Value::as_str).enumerate() {
            let path = path.child(key).index(index);
            if uid.is_empty() {
                errors.push(FieldError::invalid(path, uid, "must not be empty"));
            } else if !seen.insert(uid) {
                errors.push(FieldError::duplicate(path, uid));
            }
        }
    }
}

fn conditions(errors: &mut Vec<FieldError>, path: &Path, new: &Job<'_>, old: &Job<'_>) {
    let changed = |conditions: &[&str]| conditions.iter().any(|name| new.is(name) != old.is(name));
    let mut refuse = |detail: &str| errors.push(FieldError::invalid_unshown(path, detail));
    if changed(&["Complete", "Failed"]) && new.is("Complete") && new.is("Failed") {
        refuse("cannot set Complete=True and Failed=true conditions");
    }
    if changed(&["Complete", "FailureTarget"]) && new.is("Complete") && new.is("FailureTarget") {
        refuse("cannot set Complete=True and FailureTarget=true conditions");
    }
    let failing = changed(&["Failed"]) || new.text("failedIndexes") != old.text("failedIndexes");
    if failing && new.is("Failed") && !new.is("FailureTarget") {
        refuse("cannot set Failed=True condition without the FailureTarget=true condition");
    }
    if changed(&["Complete", "SuccessCriteriaMet"]) && new.is("Complete") && !new.is("SuccessCriteriaMet") {
        refuse("cannot set Complete=True condition without the SuccessCriteriaMet=true condition");
    }
    if new.is("SuccessCriteriaMet") && new.is("Failed") {
        refuse("cannot set SuccessCriteriaMet=True and Failed=true conditions");
    }
    if new.is("SuccessCriteriaMet") && new.is("FailureTarget") {
        refuse("cannot set SuccessCriteriaMet=True and FailureTarget=true conditions");
    }
    if given(new.spec, "successPolicy").is_some() && !new.is("SuccessCriteriaMet") && new.is("Complete") {
        refuse("cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True");
    }
}

fn times(errors: &mut Vec<FieldError>, path: &Path, new: &Job<'_>, old: &Job<'_>) {
    let changed = |key: &str| new.text(key) != old.text(key);
    let (start, end) = (new.text("startTime"), new.text("completionTime"));
    let path = path.child("completionTime");
    if new.is("Complete") != old.is("Complete") || changed("completionTime") {
        if !end.is_empty() && !new.is("Complete") {
            let detail = "cannot set completionTime when there is no Complete=True condition";
            errors.push(FieldError::invalid(&path, end, detail));
        }
        if end.is_empty() && new.is("Complete") {
            let detail = "completionTime is required for Complete jobs";
            errors.push(FieldError::required(&path, detail));
        }
    }
    if (changed("startTime") || changed("completionTime"))
        && let (Some(start), Some(ended)) = (meta::parse_time(start), meta::parse_time(end))
        && ended < start
    {
        let detail = "completionTime cannot be set before startTime";
        errors.push(FieldError::invalid(&path, end, detail));
    }
}

/// A finished Job has started, and has no pods left.
fn finished(errors: &mut Vec<FieldError>, path: &Path, new: &Job<'_>, old: &Job<'_>) {
    let finishes = new.is_finished() != old.is_finished();
    let changed = |key: &str| finishes || new.status.get(key) != old.status.get(key);
    if new.is_finished() {
        if changed("active") && new.number("active") > 0 {
            let detail = "active>0 is invalid for finished job";
            errors.push(FieldError::invalid(path.child("active"), new.number("active"), detail));
        }
        let idle = new.spec.get("suspend") == Some(&Value::Bool(true)) && int_at(new.spec, &["completions"]) == Some(0);
        if changed("startTime") && !idle && new.text("startTime").is_empty() {
            let detail = "startTime is required for finished job";
            errors.push(FieldError::required(path.child("startTime"), detail));
        }
        let left = |key: &str| !list_at(new.status, &["uncountedTerminatedPods", key]).is_empty();
        if changed("uncountedTerminatedPods") && (left("failed") || left("succeeded")) {
            let shown = new
                .status
                .get("uncountedTerminatedPods")
                .cloned()
                .unwrap_or(Value::Null);
            let detail = "uncountedTerminatedPods needs to be empty for finished job";
            errors.push(FieldError::invalid(
                path.child("uncountedTerminatedPods"),
                shown,
                detail,
            ));
        }
        if changed("terminating") && new.number("terminating") > 0 {
            let path = path.child("terminating");
            let detail = "terminating>0 is invalid for finished job";
            errors.push(FieldError::invalid(path, new.number("terminating"), detail));
        }
    }
    let differs = |key: &str| new.status.get(key) != old.status.get(key);
    if (differs("ready") || differs("active")) && new.number("ready") > new.number("active") {
        let detail = "cannot set more ready pods than active";
        errors.push(FieldError::invalid(path.child("ready"), new.number("ready"), detail));
    }
}

fn index_sets(errors: &mut Vec<FieldError>, path: &Path, new: &Job<'_>, old: &Job<'_>) {
    let completions = int_at(new.spec, &["completions"]);
    let per_index = given(new.spec, "backoffLimitPerIndex").is_some();
    let (completed, failed) = (new.text("completedIndexes"), new.text("failedIndexes"));
    let has_failed = given(new.status, "failedIndexes").is_some();
    let completed_changed = completed != old.text("completedIndexes");
    let failed_changed = given(new.status, "failedIndexes") != given(old.status, "failedIndexes");
    let (completed_path, failed_path) = (path.child("completedIndexes"), path.child("failedIndexes"));
    if completed_changed {
        if let Some(Err(error)) = completions.map(|completions| indexes::count(completed, completions)) {
            let detail = format!("error parsing completedIndexes: {error}");
            errors.push(FieldError::invalid(&completed_path, completed, detail));
        }
        if !completed.is_empty() && !new.is_indexed() {
            let detail = "cannot set non-empty completedIndexes when non-indexed completion mode";
            errors.push(FieldError::invalid(&completed_path, completed, detail));
        }
    }
    if failed_changed && has_failed {
        if per_index && let Some(Err(error)) = completions.map(|completions| indexes::count(failed, completions)) {
            let detail = format!("error parsing failedIndexes: {error}");
            errors.push(FieldError::invalid(&failed_path, failed, detail));
        }
        if !per_index {
            let detail = "cannot set non-null failedIndexes when backoffLimitPerIndex is null";
            errors.push(FieldError::invalid(&failed_path, failed, detail));
        }
    }
    if (completed_changed || failed_changed)
        && let Some(completions) = completions
        && let Some(index) = indexes::overlap(completed, failed, completions)
    {
        let detail = format!("failedIndexes and completedIndexes overlap at index: {index}");
        errors.push(FieldError::invalid(&failed_path, failed, detail));
    }
}

fn transitions(errors: &mut Vec<FieldError>, path: &Path, new: &Job<'_>, old: &Job<'_>) {
    let conditions = path.child("conditions");
    for condition in ["Failed", "Complete", "FailureTarget"] {
        if old.is(condition) && !new.is(condition) {
            let detail = format!("cannot disable the terminal {condition}=True condition");
            errors.push(FieldError::invalid_unshown(&conditions, detail));
        }
    }
    // Such a Job may be scaled down.
    let scalable = new.is_indexed() && int_at(new.spec, &["completions"]) == int_at(new.spec, &["parallelism"]);
    for (key, counts) in [("failed", true), ("succeeded", !scalable)] {
        if counts && new.number(key) < old.number(key) {
            let detail = format!("cannot decrease the {key} counter");
            errors.push(FieldError::invalid(path.child(key), new.number(key), detail));
        }
    }
    let (end, ended) = (new.text("completionTime"), old.text("completionTime"));
    if !end.is_empty() && !ended.is_empty() && end != ended {
        let detail = "completionTime cannot be mutated";
        errors.push(FieldError::invalid(path.child("completionTime"), end, detail));
    }
    let started = old.text("startTime");
    let suspended = new.spec.get("suspend") == Some(&Value::Bool(true));
    if !started.is_empty() && started != new.text("startTime") && !suspended {
        let detail = "startTime cannot be removed for unsuspended job";
        errors.push(FieldError::required(path.child("startTime"), detail));
    }
    if old.is("SuccessCriteriaMet") && !new.is("SuccessCriteriaMet") {
        let detail = "cannot disable the SuccessCriteriaMet=True condition";
        errors.push(FieldError::invalid_unshown(&conditions, detail));
    }
    if old.is("Complete") && !old.is("SuccessCriteriaMet") && new.is("SuccessCriteriaMet") {
        let detail = "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions";
        errors.push(FieldError::invalid_unshown(&conditions, detail));
    }
}
