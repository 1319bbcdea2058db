//! The rules of ValidatingAdmissionPolicies, MutatingAdmissionPolicies and their bindings.

use std::collections::HashSet;

use serde_json::Value;

use super::{match_conditions, rule, supported, texts};
use crate::meta::{self, list_at, str_at};
use crate::names;
use crate::validate::field::{FieldError, Path};
use crate::validate::workload::spec_of;
use crate::validate::{all_invalid, given, metadata};

const MOST_ANNOTATIONS: usize = 20;
const LONGEST_ANNOTATION: usize = 5 * 1024;

/// Returns what is wrong with a ValidatingAdmissionPolicy.
pub fn validating_policy(object: &Value) -> Vec<FieldError> {
    let (path, spec) = (Path::new("spec"), spec_of(object));
    let mut errors = Vec::new();
    common(&mut errors, &path, spec);
    let (validations, annotations) = (list_at(spec, &["validations"]), list_at(spec, &["auditAnnotations"]));
    if validations.is_empty() && annotations.is_empty() {
        for key in ["validations", "auditAnnotations"] {
            let detail = "validations or auditAnnotations must contain at least one item";
            errors.push(FieldError::required(path.child(key), detail));
        }
    }
    for (index, found) in validations.iter().enumerate() {
        validation(&mut errors, &path.child("validations").index(index), found);
    }
    audit_annotations(
        &mut errors,
        &path.child("auditAnnotations"),
        annotations,
        meta::name(object),
    );
    errors
}

/// Returns what is wrong with the change of a ValidatingAdmissionPolicy's status.
pub fn validating_policy_status(new: &Value, _: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let path = Path::new("status.typeChecking.expressionWarnings");
    let warnings = list_at(new, &["status", "typeChecking", "expressionWarnings"]);
    for (index, warning) in warnings.iter().enumerate() {
        for key in ["warning", "fieldRef"] {
            if str_at(warning, &[key]).trim().is_empty() {
                errors.push(FieldError::required(path.index(index).child(key), ""));
            }
        }
    }
    errors
}

/// Returns what is wrong with a MutatingAdmissionPolicy.
pub fn mutating_policy(object: &Value) -> Vec<FieldError> {
    let (path, spec) = (Path::new("spec"), spec_of(object));
    let mut errors = Vec::new();
    common(&mut errors, &path, spec);
    let mutations = list_at(spec, &["mutations"]);
    let path_of_mutations = path.child("mutations");
    if mutations.is_empty() {
        let detail = "mutations must contain at least one item";
        errors.push(FieldError::required(&path_of_mutations, detail));
    }
    for (index, mutation) in mutations.iter().enumerate() {
        self::mutation(&mut errors, &path_of_mutations.index(index), mutation);
    }
    let policy = str_at(spec, &["reinvocationPolicy"]);
    crate::validate::one_of(
        &mut errors,
        &path.child("reinvocationPolicy"),
        policy,
        &["IfNeeded", "Never"],
        true,
    );
    errors
}

/// What both sorts of policies have.
fn common(errors: &mut Vec<FieldError>, path: &Path, spec: &Value) {
    if given(spec, "failurePolicy").is_none() {
        errors.push(FieldError::required(path.child("failurePolicy"), ""));
    }
    supported(errors, path, spec, "failurePolicy", &["Fail", "Ignore"]);
    if let Some(kind) = given(spec, "paramKind") {
        param_kind(errors, &path.child("paramKind"), kind);
    }
    let constraints = path.child("matchConstraints");
    match given(spec, "matchConstraints") {
        None => errors.push(FieldError::required(constraints, "")),
        Some(found) => {
            match_resources(errors, &constraints, found);
            if list_at(found, &["resourceRules"]).is_empty() {
                errors.push(FieldError::required(constraints.child("resourceRules"), ""));
            }
        }
    }
    let conditions = list_at(spec, &["matchConditions"]);
    match_conditions(errors, &path.child("matchConditions"), conditions);
    for (index, variable) in list_at(spec, &["variables"]).iter().enumerate() {
        self::variable(errors, &path.child("variables").index(index), variable);
    }
}

fn param_kind(errors: &mut Vec<FieldError>, path: &Path, kind: &Value) {
    let (version, name) = (str_at(kind, &["apiVersion"]), str_at(kind, &["kind"]));
    let at_version = path.child("apiVersion");
    if version.is_empty() {
        errors.push(FieldError::required(&at_version, ""));
    } else if version.matches('/').count() > 1 {
        let detail = format!("unexpected GroupVersion string: {version}");
        errors.push(FieldError::invalid(&at_version, version, detail));
    } else {
        let (group, short) = meta::group_version(version);
        let mut joined = |value: &str, wrong: Vec<String>| {
            if !wrong.is_empty() {
                errors.push(FieldError::invalid(&at_version, value, wrong.join(",")));
            }
        };
        if !group.is_empty() {
            joined(group, names::dns_subdomain(group));
        }
        if short.is_empty() {
            joined(version, vec!["version must be specified".to_owned()]);
        } else {
            joined(short, names::dns1035_label(short));
        }
    }
    let path = path.child("kind");
    if name.is_empty() {
        errors.push(FieldError::required(path, ""));
        return;
    }
    let wrong = names::dns1035_label(&name.to_lowercase());
    if !wrong.is_empty() {
        let detail = format!("may have mixed case, but should otherwise match: {}", wrong.join(","));
        errors.push(FieldError::invalid(path, name, detail));
    }
}

fn match_resources(errors: &mut Vec<FieldError>, path: &Path, resources: &Value) {
    if given(resources, "matchPolicy").is_none() {
        errors.push(FieldError::required(path.child("matchPolicy"), ""));
    }
    supported(errors, path, resources, "matchPolicy", &["Equivalent", "Exact"]);
    for key in ["namespaceSelector", "objectSelector"] {
        match given(resources, key) {
            None => errors.push(FieldError::required(path.child(key), "")),
            Some(selector) => errors.extend(metadata::selector(&path.child(key), Some(selector))),
        }
    }
    for key in ["resourceRules", "excludeResourceRules"] {
        for (index, found) in list_at(resources, &[key]).iter().enumerate() {
            let path = path.child(key).index(index);
            let names_found = texts(found, "resourceNames");
            let mut seen = HashSet::new();
            for (index, name) in names_found.iter().enumerate() {
                let path = path.child("resourceNames").index(index);
                all_invalid(errors, &path, name, names::path_segment(name));
                if !seen.insert(name) {
                    errors.push(FieldError::duplicate(path, *name));
                }
            }
            rule(errors, &path, found);
        }
    }
}

fn variable(errors: &mut Vec<FieldError>, path: &Path, variable: &Value) {
    let name = str_at(variable, &["name"]);
    if name.trim().is_empty() {
        errors.push(FieldError::required(path.child("name"), "name is not specified"));
    } else {
        let identifier = !name.starts_with(|c: char| c.is_ascii_digit())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if !identifier || setpoint_cel::is_word(name) {
            let detail = "name is not a valid CEL identifier";
            errors.push(FieldError::invalid(path.child("name"), name, detail));
        }
    }
    expression(errors, path, variable);
}

fn expression(errors: &mut Vec<FieldError>, path: &Path, holder: &Value) {
    if str_at(holder, &["expression"]).trim().is_empty() {
        let detail = "expression is not specified";
        errors.push(FieldError::required(path.child("expression"), detail));
    }
}

fn validation(errors: &mut Vec<FieldError>, path: &Path, validation: &Value) {
    let text = |key: &str| str_at(validation, &[key]);
    expression(errors, path, validation);
    let blank = |key: &str| !text(key).is_empty() && text(key).trim().is_empty();
    if blank("messageExpression") {
        let detail = "must be non-empty if specified";
        let path = path.child("messageExpression");
        errors.push(FieldError::invalid(path, text("messageExpression"), detail));
    }
    let message = text("message");
    if blank("message") {
        let detail = "message must be non-empty if specified";
        errors.push(FieldError::invalid(path.child("message"), message, detail));
    } else if message.trim().contains(['\n', '\r']) {
        let detail = "message must not contain line breaks";
        errors.push(FieldError::invalid(path.child("message"), message, detail));
    }
    let reasons = ["Forbidden", "Invalid", "RequestEntityTooLarge", "Unauthorized"];
    supported(errors, path, validation, "reason", &reasons);
}

fn audit_annotations(errors: &mut Vec<FieldError>, path: &Path, annotations: &[Value], policy: &str) {
    if annotations.len() > MOST_ANNOTATIONS {
        let detail = format!("must not have more than {MOST_ANNOTATIONS} auditAnnotations");
        errors.push(FieldError::invalid(path, annotations.to_vec(), detail));
    }
    let mut seen = HashSet::new();
    for (index, annotation) in annotations.iter().enumerate() {
        let path = path.index(index);
        let key = str_at(annotation, &["key"]);
        let qualified = format!("{policy}/{key}");
        all_invalid(
            errors,
            &path.child("key"),
            &qualified,
            names::qualified_name(&qualified),
        );
        let value = str_at(annotation, &["valueExpression"]).trim();
        let at_value = path.child("valueExpression");
        if value.is_empty() {
            errors.push(FieldError::required(at_value, "valueExpression is not specified"));
        } else if value.len() > LONGEST_ANNOTATION {
            let detail = format!("must not exceed {LONGEST_ANNOTATION} bytes in length");
            errors.push(FieldError::required(at_value, detail));
        }
        if !seen.insert(key) {
            errors.push(FieldError::duplicate(path.child("key"), key));
        }
    }
}

fn mutation(errors: &mut Vec<FieldError>, path: &Path, mutation: &Value) {
    const SORTS: [(&str, &str); 2] = [("ApplyConfiguration", "applyConfiguration"), ("JSONPatch", "jsonPatch")];
    let ty = str_at(mutation, &["patchType"]);
    let allowed = SORTS.map(|(name, _)| name);
    crate::validate::one_of(errors, &path.child("patchType"), ty, &allowed, true);
    for (name, key) in SORTS {
        match (ty == name, given(mutation, key)) {
            (true, None) => {
                let detail = format!("must be specified when patchType is {name}");
                errors.push(FieldError::required(path.child(key), detail));
            }
            (true, Some(found)) => expression(errors, &path.child(key), found),
            (false, Some(found)) if allowed.contains(&ty) => {
                let detail = format!("must not be specified when patchType is {ty}");
                errors.push(FieldError::invalid(path.child(key), found.clone(), detail));
            }
            (false, _) => {}
        }
    }
}

/// Returns what is wrong with a ValidatingAdmissionPolicyBinding.
pub fn validating_binding(object: &Value) -> Vec<FieldError> {
    const ACTIONS: &[&str] = &["Audit", "Deny", "Warn"];
    let mut errors = binding(object);
    let spec = spec_of(object);
    let path = Path::new("spec.validationActions");
    let actions = texts(spec, "validationActions");
    let mut seen = HashSet::new();
    for (index, action) in actions.iter().enumerate() {
        let path = path.index(index);
        if !ACTIONS.contains(action) {
            errors.push(FieldError::not_supported(&path, *action, ACTIONS));
        }
        if !seen.insert(action) {
            errors.push(FieldError::duplicate(&path, *action));
        }
    }
    if actions.contains(&"Deny") && actions.contains(&"Warn") {
        let detail = "must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)";
        errors.push(FieldError::invalid(&path, actions.clone(), detail));
    }
    if actions.is_empty() {
        let detail = "at least one validation action is required";
        errors.push(FieldError::required(&path, detail));
    }
    errors
}

/// Returns what is wrong with a MutatingAdmissionPolicyBinding.
pub fn mutating_binding(object: &Value) -> Vec<FieldError> {
    binding(object)
}

fn binding(object: &Value) -> Vec<FieldError> {
    let (path, spec) = (Path::new("spec"), spec_of(object));
    let mut errors = Vec::new();
    let name = str_at(spec, &["policyName"]);
    let path_of_name = path.child("policyName");
    if name.is_empty() {
        errors.push(FieldError::required(path_of_name, ""));
    } else {
        all_invalid(&mut errors, &path_of_name, name, names::dns_subdomain(name));
    }
    if let Some(reference) = given(spec, "paramRef") {
        param_ref(&mut errors, &path.child("paramRef"), reference);
    }
    if let Some(resources) = given(spec, "matchResources") {
        // The path is spelt as Kubernetes spells it.
        match_resources(&mut errors, &path.child("matchResouces"), resources);
    }
    errors
}

fn param_ref(errors: &mut Vec<FieldError>, path: &Path, reference: &Value) {
    const EXCLUSIVE: &str = "name and selector are mutually exclusive";
    let (name, selector) = (str_at(reference, &["name"]), given(reference, "selector"));
    if !name.is_empty() {
        all_invalid(errors, &path.child("name"), name, names::path_segment(name));
        if selector.is_some() {
            errors.push(FieldError::forbidden(path.child("name"), EXCLUSIVE));
        }
    }
    if selector.is_some() {
        errors.extend(metadata::selector(&path.child("selector"), selector));
        if !name.is_empty() {
            errors.push(FieldError::forbidden(path.child("selector"), EXCLUSIVE));
        }
    }
    if name.is_empty() && selector.is_none() {
        let detail = "one of name or selector must be specified";
        errors.push(FieldError::required(path, detail));
    }
    let action = str_at(reference, &["parameterNotFoundAction"]);
    let path = path.child("parameterNotFoundAction");
    crate::validate::one_of(errors, &path, action, &["Allow", "Deny"], true);
}
