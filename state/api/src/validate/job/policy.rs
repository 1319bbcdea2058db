//! What a Job says of the failure, the success and the replacement of its pods.

use std::collections::HashSet;

use serde_json::Value;

use super::indexes;
use crate::meta::{int_at, list_at, str_at};
use crate::names;
use crate::validate::field::{FieldError, Path};
use crate::validate::{all_invalid, given, non_negative};

const MOST_RULES: usize = 20;
const MOST_PATTERNS: usize = 20;
const MOST_EXIT_CODES: usize = 255;
const LONGEST_INDEXES: usize = 64 * 1024;
const ACTIONS: &[&str] = &["Count", "FailIndex", "FailJob", "Ignore"];
const STATUSES: &[&str] = &["False", "True", "Unknown"];

/// As Go prints a list of quoted words.
fn valid(values: &[&str]) -> String {
    let quoted: Vec<String> = values.iter().map(|value| format!("\"{value}\"")).collect();
    format!("valid values: [{}]", quoted.join(" "))
}

/// Refuses an absent word, and one that is none of some.
fn word(errors: &mut Vec<FieldError>, path: &Path, value: &str, values: &[&str]) {
    if value.is_empty() {
        errors.push(FieldError::required(path, valid(values)));
    } else if !values.contains(&value) {
        errors.push(FieldError::not_supported(path, value, values));
    }
}

pub(super) fn failure(errors: &mut Vec<FieldError>, path: &Path, policy: &Value, spec: &Value) {
    let path = path.child("rules");
    let rules = list_at(policy, &["rules"]);
    if rules.len() > MOST_RULES {
        errors.push(FieldError::too_many(&path, rules.len(), MOST_RULES));
    }
    for (index, rule) in rules.iter().enumerate() {
        failure_rule(errors, &path.index(index), rule, spec);
    }
}

fn failure_rule(errors: &mut Vec<FieldError>, path: &Path, rule: &Value, spec: &Value) {
    let action = str_at(rule, &["action"]);
    if action == "FailIndex" {
        if given(spec, "backoffLimitPerIndex").is_none() {
            let detail = "requires the backoffLimitPerIndex to be set";
            errors.push(FieldError::invalid(path.child("action"), action, detail));
        }
    } else {
        word(errors, &path.child("action"), action, ACTIONS);
    }
    let codes = given(rule, "onExitCodes");
    if let Some(codes) = codes {
        exit_codes(errors, &path.child("onExitCodes"), codes, spec);
    }
    let patterns = list_at(rule, &["onPodConditions"]);
    if !patterns.is_empty() {
        conditions(errors, &path.child("onPodConditions"), patterns);
    }
    match (codes.is_some(), !patterns.is_empty()) {
        (true, true) => {
            let detail = "specifying both OnExitCodes and OnPodConditions is not supported";
            errors.push(FieldError::invalid_unshown(path, detail));
        }
        (false, false) => {
            let detail = "specifying one of OnExitCodes and OnPodConditions is required";
            errors.push(FieldError::invalid_unshown(path, detail));
        }
        _ => {}
    }
}

fn conditions(errors: &mut Vec<FieldError>, path: &Path, patterns: &[Value]) {
    if patterns.len() > MOST_PATTERNS {
        errors.push(FieldError::too_many(path, patterns.len(), MOST_PATTERNS));
    }
    for (index, pattern) in patterns.iter().enumerate() {
        let path = path.index(index);
        let ty = str_at(pattern, &["type"]);
        all_invalid(errors, &path.child("type"), ty, names::qualified_name(ty));
        word(errors, &path.child("status"), str_at(pattern, &["status"]), STATUSES);
    }
}

fn exit_codes(errors: &mut Vec<FieldError>, path: &Path, codes: &Value, spec: &Value) {
    let operator = str_at(codes, &["operator"]);
    word(errors, &path.child("operator"), operator, &["In", "NotIn"]);
    if given(codes, "containerName").is_some() {
        let name = str_at(codes, &["containerName"]);
        let known = ["containers", "initContainers"].iter().any(|key| {
            list_at(spec, &["template", "spec", key])
                .iter()
                .any(|container| str_at(container, &["name"]) == name)
        });
        if !known {
            let detail = "must be one of the container or initContainer names in the pod template";
            errors.push(FieldError::invalid(path.child("containerName"), name, detail));
        }
    }
    let path = path.child("values");
    let values = list_at(codes, &["values"]);
    if values.is_empty() {
        errors.push(FieldError::invalid(
            &path,
            values.to_vec(),
            "at least one value is required",
        ));
    } else if values.len() > MOST_EXIT_CODES {
        errors.push(FieldError::too_many(&path, values.len(), MOST_EXIT_CODES));
    }
    let numbers: Vec<i64> = values.iter().map(|value| value.as_i64().unwrap_or(0)).collect();
    let mut seen = HashSet::new();
    for (index, number) in numbers.iter().enumerate() {
        if operator == "In" && *number == 0 {
            let detail = "must not be 0 for the In operator";
            errors.push(FieldError::invalid(path.index(index), *number, detail));
        }
        if !seen.insert(number) {
            errors.push(FieldError::duplicate(path.index(index), *number));
        }
    }
    if !numbers.is_sorted() {
        errors.push(FieldError::invalid(&path, values.to_vec(), "must be ordered"));
    }
}

pub(super) fn success(errors: &mut Vec<FieldError>, path: &Path, policy: &Value, spec: &Value) {
    let path = path.child("rules");
    let rules = list_at(policy, &["rules"]);
    if rules.is_empty() {
        let detail = "at least one rules must be specified when the successPolicy is specified";
        errors.push(FieldError::required(&path, detail));
    }
    if rules.len() > MOST_RULES {
        errors.push(FieldError::too_many(&path, rules.len(), MOST_RULES));
    }
    // Without completions an indexed Job is refused anyway.
    let completions = int_at(spec, &["completions"]).unwrap_or(0);
    for (index, rule) in rules.iter().enumerate() {
        success_rule(errors, &path.index(index), rule, completions);
    }
}

fn success_rule(errors: &mut Vec<FieldError>, path: &Path, rule: &Value, completions: i64) {
    let indexes = given(rule, "succeededIndexes").map(|_| str_at(rule, &["succeededIndexes"]));
    let count = int_at(rule, &["succeededCount"]);
    if indexes.is_none() && count.is_none() {
        let detail = "at least one of succeededCount or succeededIndexes must be specified";
        errors.push(FieldError::required(path, detail));
    }
    let mut total = 0;
    if let Some(indexes) = indexes {
        let path = path.child("succeededIndexes");
        if indexes.len() > LONGEST_INDEXES {
            errors.push(FieldError::too_long(&path, LONGEST_INDEXES));
        }
        match indexes::count(indexes, completions) {
            Ok(counted) => total = counted,
            Err(error) => {
                let detail = format!("error parsing succeededIndexes: {error}");
                errors.push(FieldError::invalid(&path, indexes, detail));
            }
        }
    }
    if let Some(count) = count {
        let path = path.child("succeededCount");
        non_negative(errors, &path, Some(&count.into()));
        if count > completions {
            let detail = format!("must be less than or equal to {completions} (the number of specified completions)");
            errors.push(FieldError::invalid(&path, count, detail));
        }
        if indexes.is_some() && count > total {
            let detail = format!(
                "must be less than or equal to {total} (the number of indexes in the specified succeededIndexes field)"
            );
            errors.push(FieldError::invalid(&path, count, detail));
        }
    }
}

pub(super) fn replacement(errors: &mut Vec<FieldError>, path: &Path, spec: &Value) {
    if given(spec, "podReplacementPolicy").is_none() {
        return;
    }
    let policy = str_at(spec, &["podReplacementPolicy"]);
    let supported: &[&str] = match given(spec, "podFailurePolicy") {
        Some(_) => &["Failed"],
        None => &["Failed", "TerminatingOrFailed"],
    };
    if !supported.contains(&policy) {
        errors.push(FieldError::not_supported(path, policy, supported));
    }
}
