//! The rules of CustomResourceDefinitions, beside those of their schemas.
//!
//! Conversion webhooks are not called by this server: a definition that wants one is refused, not served wrongly.

mod version;

use serde_json::Value;

use super::field::{FieldError, Path};
use super::{all_invalid, immutable, one_of};
use crate::meta::{self, at, list_at, str_at};
use crate::names;

const APPROVED: &str = "api-approved.kubernetes.io";
const APPROVAL: &str = "see https://github.com/kubernetes/enhancements/pull/1111";

/// Returns what is wrong with a new definition.
pub fn create(definition: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let (group, plural) = (
        str_at(definition, &["spec", "group"]),
        str_at(definition, &["spec", "names", "plural"]),
    );
    let wanted = format!("{plural}.{group}");
    if meta::name(definition) != wanted {
        let detail = "must be spec.names.plural+\".\"+spec.group";
        errors.push(FieldError::invalid("metadata.name", meta::name(definition), detail));
    }
    errors.extend(spec(definition));
    errors.extend(approval(definition));
    errors
}

/// Returns what is wrong with the change of a definition.
pub fn update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = spec(new);
    let spec = Path::new("spec");
    let mut fixed = vec![["group"].as_slice(), &["names", "plural"]];
    // What is served already is stored and cached by these.
    if is_established(old) {
        fixed.extend([["scope"].as_slice(), &["names", "kind"]]);
    }
    for keys in fixed {
        let path = keys.iter().fold(spec.clone(), |path, key| path.child(key));
        let place: Vec<&str> = std::iter::once("spec").chain(keys.iter().copied()).collect();
        immutable(&mut errors, &path, at(new, &place), at(old, &place));
    }
    errors.extend(stored_versions(new));
    if str_at(new, &["metadata", "annotations", APPROVED]) != str_at(old, &["metadata", "annotations", APPROVED]) {
        errors.extend(approval(new));
    }
    errors
}

fn is_established(definition: &Value) -> bool {
    list_at(definition, &["status", "conditions"])
        .iter()
        .any(|condition| str_at(condition, &["type"]) == "Established" && str_at(condition, &["status"]) == "True")
}

fn spec(definition: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let spec = Path::new("spec");
    let group = str_at(definition, &["spec", "group"]);
    let wrong = names::dns_subdomain(group);
    if group.is_empty() {
        errors.push(FieldError::required(spec.child("group"), ""));
    } else if !wrong.is_empty() {
        errors.push(FieldError::invalid(spec.child("group"), group, wrong.join(",")));
    } else if !group.contains('.') {
        let detail = "should be a domain with at least one dot";
        errors.push(FieldError::invalid(spec.child("group"), group, detail));
    }
    let scope = str_at(definition, &["spec", "scope"]);
    one_of(
        &mut errors,
        &spec.child("scope"),
        scope,
        &["Cluster", "Namespaced"],
        true,
    );
    version::all(&mut errors, &spec.child("versions"), definition);
    resource_names(&mut errors, &spec.child("names"), definition);
    conversion(&mut errors, &spec.child("conversion"), definition);
    if at(definition, &["spec", "preserveUnknownFields"]) == Some(&Value::Bool(true)) {
        let detail =
            "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead";
        errors.push(FieldError::invalid(spec.child("preserveUnknownFields"), true, detail));
    }
    errors
}

fn conversion(errors: &mut Vec<FieldError>, path: &Path, definition: &Value) {
    let strategy = str_at(definition, &["spec", "conversion", "strategy"]);
    one_of(errors, &path.child("strategy"), strategy, &["None", "Webhook"], false);
    if strategy == "Webhook" {
        let detail = "conversion webhooks are not supported by this server";
        errors.push(FieldError::forbidden(path.child("strategy"), detail));
    } else if at(definition, &["spec", "conversion", "webhook"]).is_some_and(|webhook| !webhook.is_null()) {
        let detail = "should not be set when strategy is not set to Webhook";
        errors.push(FieldError::forbidden(path.child("webhookClientConfig"), detail));
    }
}

/// Groups of the Kubernetes project are for what it has approved.
fn approval(definition: &Value) -> Option<FieldError> {
    let group = str_at(definition, &["spec", "group"]);
    let protected = ["k8s.io", "kubernetes.io"].iter().any(|domain| {
        let rest = group.strip_suffix(domain);
        rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    });
    if !protected {
        return None;
    }
    let path = Path::new("metadata").child("annotations").key(APPROVED);
    let given = str_at(definition, &["metadata", "annotations", APPROVED]);
    let is_url = given
        .split_once("://")
        .is_some_and(|(scheme, host)| !scheme.is_empty() && !host.is_empty());
    if given.is_empty() {
        let detail = format!("protected groups must have approval annotation {APPROVED:?}, {APPROVAL}");
        Some(FieldError::required(path, detail))
    } else if given.starts_with("unapproved") || is_url {
        None
    } else {
        let detail = format!(
            "protected groups must have approval annotation {APPROVED:?} with either a URL or a reason starting with \"unapproved\", {APPROVAL}"
        );
        Some(FieldError::invalid(path, given, detail))
    }
}

fn stored_versions(definition: &Value) -> Vec<FieldError> {
    let path = Path::new("status.storedVersions");
    let stored = list_at(definition, &["status", "storedVersions"]);
    if stored.is_empty() {
        let detail = "must have at least one stored version";
        return vec![FieldError::invalid(&path, Value::Array(Vec::new()), detail)];
    }
    let versions = list_at(definition, &["spec", "versions"]);
    let mut errors = Vec::new();
    for version in versions
        .iter()
        .filter(|version| at(version, &["storage"]) == Some(&Value::Bool(true)))
    {
        let name = str_at(version, &["name"]);
        if !stored.iter().any(|stored| stored == name) {
            let detail = format!("must have the storage version {name}");
            errors.push(FieldError::invalid(&path, Value::Array(stored.to_vec()), detail));
        }
    }
    for (index, name) in stored.iter().filter_map(Value::as_str).enumerate() {
        if !versions.iter().any(|version| str_at(version, &["name"]) == name) {
            let detail = format!(
                "missing from spec.versions; {name} was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in {name} and removes {name} from status.storedVersions"
            );
            errors.push(FieldError::invalid(path.index(index), name, detail));
        }
    }
    errors
}

fn resource_names(errors: &mut Vec<FieldError>, path: &Path, definition: &Value) {
    let name = |key: &str| str_at(definition, &["spec", "names", key]);
    for key in ["plural", "singular", "kind", "listKind"] {
        if name(key).is_empty() {
            errors.push(FieldError::required(path.child(key), ""));
        }
    }
    for key in ["plural", "singular"] {
        let wrong = names::dns1035_label(name(key));
        if !name(key).is_empty() && !wrong.is_empty() {
            errors.push(FieldError::invalid(path.child(key), name(key), wrong.join(",")));
        }
    }
    for key in ["kind", "listKind"] {
        let wrong = names::dns1035_label(&name(key).to_lowercase());
        if !name(key).is_empty() && !wrong.is_empty() {
            let detail = format!("may have mixed case, but should otherwise match: {}", wrong.join(","));
            errors.push(FieldError::invalid(path.child(key), name(key), detail));
        }
    }
    if !name("kind").is_empty() && name("kind") == name("listKind") {
        let detail = "kind and listKind may not be the same";
        errors.push(FieldError::invalid(path.child("listKind"), name("listKind"), detail));
    }
    for key in ["shortNames", "categories"] {
        let list = list_at(definition, &["spec", "names", key]);
        for (index, text) in list.iter().filter_map(Value::as_str).enumerate() {
            all_invalid(errors, &path.child(key).index(index), text, names::dns1035_label(text));
        }
    }
}
