//! The rules of Jobs, and of the templates of Jobs in CronJobs.
//!
//! A Job is validated after the server has given it its selector and the labels that go with it (see
//! [`crate::strategy::job`]).

mod indexes;
mod policy;
mod status;

use serde_json::Value;

use super::field::{FieldError, Path};
use super::workload::spec_of;
use super::{given, immutable, non_negative_all, pod};
use crate::meta::{self, at, int_at, str_at};
use crate::strategy::job::{LABELS, is_selector_given};
use crate::{LabelSelector, names};

pub use status::status;

const MOST_PARALLEL: i64 = 100_000;
const MOST_FAILED_INDEXES: i64 = 100_000;
/// From how many completions on a Job with a backoff limit per index has the narrower limits below.
const MANY_COMPLETIONS: i64 = 100_000;
const MOST_PARALLEL_OF_MANY: i64 = 10_000;
const MOST_FAILED_OF_MANY: i64 = 10_000;
const LONGEST_MANAGED_BY: usize = 63;

/// Returns what is wrong with a new Job.
pub fn create(job: &Value) -> Vec<FieldError> {
    let path = Path::new("spec");
    let mut errors = generated_selector(job);
    errors.extend(spec(&path, spec_of(job)));
    selector(&mut errors, &path, job);
    let completions = int_at(job, &["spec", "completions"]).unwrap_or(0);
    if str_at(job, &["spec", "completionMode"]) == "Indexed" && completions > 0 {
        // The last of its pods has the longest name.
        let last = format!("{}-{}", meta::name(job), completions - 1);
        if !names::dns_label(&last).is_empty() {
            let detail = format!("will not able to create pod with invalid DNS label: {last}");
            errors.push(FieldError::invalid("metadata.name", meta::name(job), detail));
        }
    }
    errors
}

/// Returns what is wrong with the change of a Job.
pub fn update(new: &Value, old: &Value) -> Vec<FieldError> {
    let path = Path::new("spec");
    let mut errors = create(new);
    let (spec, before) = (spec_of(new), spec_of(old));
    completions(&mut errors, &path, spec, before);
    let keep = |errors: &mut Vec<FieldError>, key: &str| {
        immutable(errors, &path.child(key), spec.get(key), before.get(key));
    };
    keep(&mut errors, "selector");
    let template = before
        .get("template")
        .map(|template| with_scheduling(template, spec, old));
    immutable(
        &mut errors,
        &path.child("template"),
        spec.get("template"),
        template.as_ref(),
    );
    for key in [
        "completionMode",
        "podFailurePolicy",
        "backoffLimitPerIndex",
        "managedBy",
        "successPolicy",
    ] {
        keep(&mut errors, key);
    }
    errors
}

/// Returns what is wrong with the template of a CronJob's Jobs.
pub(super) fn template(path: &Path, template: &Value) -> Vec<FieldError> {
    let path = path.child("spec");
    let found = at(template, &["spec"]).unwrap_or(&Value::Null);
    let mut errors = spec(&path, found);
    if let Some(selector) = given(found, "selector") {
        let detail = "`selector` will be auto-generated";
        errors.push(FieldError::invalid(path.child("selector"), selector.clone(), detail));
    }
    if found.get("manualSelector") == Some(&Value::Bool(true)) {
        let supported = ["nil", "false"];
        errors.push(FieldError::not_supported(
            path.child("manualSelector"),
            true,
            &supported,
        ));
    }
    errors
}

/// Refuses a selector and labels other than those that the server gave, unless the Job has its own.
fn generated_selector(job: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let Some(selector) = at(job, &["spec", "selector"]).filter(|selector| selector.is_object()) else {
        return errors;
    };
    if is_selector_given(job) {
        return errors;
    }
    let path = Path::new("spec.template.metadata.labels");
    let labels = at(job, &["spec", "template", "metadata", "labels"]);
    let mut expected = serde_json::Map::new();
    for (key, value) in LABELS.map(|(key, value)| (key, value(job))) {
        let found = labels.and_then(|labels| labels.get(key)).and_then(Value::as_str);
        match found {
            Some(found) if found == value => {}
            Some(_) => {
                let shown = labels.cloned().unwrap_or(Value::Null);
                errors.push(FieldError::invalid(path.key(key), shown, format!("must be '{value}'")));
            }
            None => errors.push(FieldError::required(path.key(key), format!("must be '{value}'"))),
        }
        expected.insert(key.to_owned(), value.into());
    }
    if let Ok(parsed) = LabelSelector::from_value(selector)
        && !parsed.matches(Some(&expected))
    {
        let detail = "`selector` not auto-generated";
        errors.push(FieldError::invalid("spec.selector", selector.clone(), detail));
    }
    errors
}

fn selector(errors: &mut Vec<FieldError>, path: &Path, job: &Value) {
    let selector = at(job, &["spec", "selector"]).filter(|selector| selector.is_object());
    match selector {
        None => errors.push(FieldError::required(path.child("selector"), "")),
        Some(_) => errors.extend(super::metadata::selector(&path.child("selector"), selector)),
    }
    let labels = super::workload::template_labels(job);
    let matches = match selector.map(LabelSelector::from_value) {
        None => false,
        Some(Ok(parsed)) => parsed.matches(labels),
        Some(Err(_)) => true,
    };
    if !matches {
        super::workload::mismatch(errors, path, job);
    }
}

fn spec(path: &Path, spec: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let counts = [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ];
    non_negative_all(&mut errors, path, spec, &counts);
    if given(spec, "maxFailedIndexes").is_some() && given(spec, "backoffLimitPerIndex").is_none() {
        let detail = "when maxFailedIndexes is specified";
        errors.push(FieldError::required(path.child("backoffLimitPerIndex"), detail));
    }
    if given(spec, "managedBy").is_some() {
        let path = path.child("managedBy");
        let manager = str_at(spec, &["managedBy"]);
        super::format::domain_prefixed_path(&mut errors, &path, manager);
        if manager.len() > LONGEST_MANAGED_BY {
            errors.push(FieldError::too_long(path, LONGEST_MANAGED_BY));
        }
    }
    completion_mode(&mut errors, path, spec);
    if let Some(policy) = given(spec, "podFailurePolicy") {
        policy::failure(&mut errors, &path.child("podFailurePolicy"), policy, spec);
    }
    if let Some(policy) = given(spec, "successPolicy") {
        let path = path.child("successPolicy");
        if str_at(spec, &["completionMode"]) == "Indexed" {
            policy::success(&mut errors, &path, policy, spec);
        } else {
            let detail = "requires indexed completion mode";
            errors.push(FieldError::invalid(path, policy.clone(), detail));
        }
    }
    policy::replacement(&mut errors, &path.child("podReplacementPolicy"), spec);
    let template = spec.get("template").unwrap_or(&Value::Null);
    let path = path.child("template");
    errors.extend(pod::any_template(&path, template));
    restart_policy(&mut errors, &path.child("spec").child("restartPolicy"), spec);
    errors
}

fn restart_policy(errors: &mut Vec<FieldError>, path: &Path, spec: &Value) {
    let policy = str_at(spec, &["template", "spec", "restartPolicy"]);
    match policy {
        "" | "Always" => {
            let detail = "valid values: \"OnFailure\", \"Never\"";
            errors.push(FieldError::required(path, detail));
        }
        "OnFailure" if given(spec, "podFailurePolicy").is_some() => {
            let detail = "only \"Never\" is supported when podFailurePolicy is specified";
            errors.push(FieldError::invalid(path, policy, detail));
        }
        "OnFailure" | "Never" => {}
        _ => errors.push(FieldError::not_supported(path, policy, &["Never", "OnFailure"])),
    }
}

fn completion_mode(errors: &mut Vec<FieldError>, path: &Path, spec: &Value) {
    let number = |key: &str| int_at(spec, &[key]);
    let mode = given(spec, "completionMode").map(|_| str_at(spec, &["completionMode"]));
    if let Some(mode) = mode
        && !matches!(mode, "NonIndexed" | "Indexed")
    {
        let path = path.child("completionMode");
        errors.push(FieldError::not_supported(path, mode, &["Indexed", "NonIndexed"]));
    }
    if matches!(mode, None | Some("NonIndexed")) {
        for key in ["backoffLimitPerIndex", "maxFailedIndexes"] {
            if let Some(number) = number(key) {
                let detail = "requires indexed completion mode";
                errors.push(FieldError::invalid(path.child(key), number, detail));
            }
        }
    }
    if mode != Some("Indexed") {
        return;
    }
    let mut at_most = |key: &str, most: i64, detail: String| {
        if let Some(number) = number(key)
            && number > most
        {
            errors.push(FieldError::invalid(path.child(key), number, detail));
        }
    };
    let detail = format!("must be less than or equal to {MOST_PARALLEL} when completion mode is Indexed");
    at_most("parallelism", MOST_PARALLEL, detail);
    if let Some(completions) = number("completions") {
        let detail = "must be less than or equal to completions";
        at_most("maxFailedIndexes", completions, detail.to_owned());
    }
    let detail = format!("must be less than or equal to {MOST_FAILED_INDEXES}");
    at_most("maxFailedIndexes", MOST_FAILED_INDEXES, detail);
    let many = number("completions").is_some_and(|completions| completions > MANY_COMPLETIONS)
        && number("backoffLimitPerIndex").is_some();
    if many {
        for (key, most) in [
            ("parallelism", MOST_PARALLEL_OF_MANY),
            ("maxFailedIndexes", MOST_FAILED_OF_MANY),
        ] {
            let detail = format!(
                "must be less than or equal to {most} when completions are above {MANY_COMPLETIONS} and used with backoff limit per index"
            );
            at_most(key, most, detail);
        }
    }
    if number("completions").is_none() {
        let detail = "when completion mode is Indexed";
        errors.push(FieldError::required(path.child("completions"), detail));
    }
    if many && number("maxFailedIndexes").is_none() {
        let detail = format!("must be specified when completions is above {MANY_COMPLETIONS}");
        errors.push(FieldError::required(path.child("maxFailedIndexes"), detail));
    }
}

/// The completions of an indexed Job may change together with its parallelism.
fn completions(errors: &mut Vec<FieldError>, path: &Path, new: &Value, old: &Value) {
    let (number, before) = (int_at(new, &["completions"]), int_at(old, &["completions"]));
    let indexed = str_at(new, &["completionMode"]) == "Indexed";
    let path = path.child("completions");
    if !indexed {
        immutable(errors, &path, new.get("completions"), old.get("completions"));
    } else if number != before
        && let Some(number) = number
        && int_at(new, &["parallelism"]) != Some(number)
    {
        let detail = "can only be modified in tandem with spec.parallelism";
        errors.push(FieldError::invalid(path, number, detail));
    }
}

/// Returns the old template with what may change of it while the Job is suspended and has not started: where its pods may run, and
/// their labels and annotations.
fn with_scheduling(template: &Value, new: &Value, old: &Value) -> Value {
    let mut out = template.clone();
    let suspended = at(old, &["spec", "suspend"]) == Some(&Value::Bool(true));
    if !suspended || !str_at(old, &["status", "startTime"]).is_empty() {
        return out;
    }
    const FREE: &[(&[&str], &str)] = &[
        (&["metadata"], "annotations"),
        (&["metadata"], "labels"),
        (&["spec"], "nodeSelector"),
        (&["spec"], "tolerations"),
        (&["spec"], "schedulingGates"),
        (&["spec", "affinity"], "nodeAffinity"),
    ];
    let wanted = new.get("template").unwrap_or(&Value::Null);
    for (parents, key) in FREE {
        let value = at(wanted, parents).and_then(|parent| given(parent, key)).cloned();
        let mut map = meta::map_of(&mut out);
        if value.is_none() && at(&Value::Object(map.clone()), parents).is_none() {
            continue;
        }
        for parent in *parents {
            map = meta::map_mut(map, parent);
        }
        match value {
            Some(value) => map.insert((*key).to_owned(), value),
            None => map.remove(*key),
        };
    }
    // An affinity that nothing is left in is none.
    let spec = meta::map_mut(meta::map_of(&mut out), "spec");
    let empty = |value: &Value| value.as_object().is_some_and(serde_json::Map::is_empty);
    if spec.get("affinity").is_some_and(empty) && at(wanted, &["spec", "affinity"]).is_none_or(Value::is_null) {
        spec.remove("affinity");
    }
    out
}
