//! The rules of metadata, which are those of every kind.

use std::collections::HashSet;

use serde_json::Value;

use super::field::{FieldError, Path};
use super::{all_invalid, non_negative};
use crate::meta::{self, at, list_at, str_at};
use crate::{Resource, names};

/// The most bytes in all annotations of an object.
const ANNOTATIONS_SIZE: usize = 256 * 1024;

/// Which names objects of a kind may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameRule {
    /// A DNS subdomain: most kinds.
    Subdomain,
    /// A DNS label: namespaces.
    Label,
    /// A DNS label that starts with a letter: services.
    Label1035,
    /// One segment of a path: RBAC.
    PathSegment,
    /// None at all is fine: reviews.
    Optional,
}

impl NameRule {
    fn check(self, name: &str) -> Vec<String> {
        match self {
            NameRule::Subdomain => names::dns_subdomain(name),
            NameRule::Label => names::dns_label(name),
            NameRule::Label1035 => names::dns1035_label(name),
            NameRule::PathSegment => names::path_segment(name),
            NameRule::Optional => Vec::new(),
        }
    }
}

/// Returns what is wrong with a new object's metadata.
pub fn create(resource: &Resource, object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let path = Path::new("metadata");
    let (name, prefix) = (meta::name(object), meta::generate_name(object));
    if !prefix.is_empty() && resource.name_rule != NameRule::Optional {
        // What is appended makes a good end of a bad one: a trailing hyphen is fine.
        let sample = format!("{}a", prefix.trim_end_matches('-'));
        all_invalid(
            &mut errors,
            &path.child("generateName"),
            prefix,
            resource.name_rule.check(&sample),
        );
    }
    if name.is_empty() {
        if resource.name_rule != NameRule::Optional {
            errors.push(FieldError::required(
                path.child("name"),
                "name or generateName is required",
            ));
        }
    } else {
        all_invalid(&mut errors, &path.child("name"), name, resource.name_rule.check(name));
    }
    let namespace = meta::namespace(object);
    if resource.namespaced {
        if namespace.is_empty() {
            errors.push(FieldError::required(path.child("namespace"), ""));
        } else {
            all_invalid(
                &mut errors,
                &path.child("namespace"),
                namespace,
                names::dns_label(namespace),
            );
        }
    } else if !namespace.is_empty() {
        errors.push(FieldError::forbidden(
            path.child("namespace"),
            "not allowed on this type",
        ));
    }
    non_negative(
        &mut errors,
        &path.child("generation"),
        at(object, &["metadata", "generation"]),
    );
    errors.extend(common(resource, object));
    errors
}

/// Returns what is wrong with a change of an object's metadata.
pub fn update(resource: &Resource, new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let path = Path::new("metadata");
    for key in ["name", "namespace", "uid", "creationTimestamp"] {
        let (new_value, old_value) = (meta::text(new, key), meta::text(old, key));
        if new_value != old_value && (resource.namespaced || key != "namespace") {
            errors.push(FieldError::immutable(path.child(key), new_value));
        }
    }
    errors.extend(common(resource, new));
    if meta::is_being_deleted(old) {
        let before: HashSet<&str> = meta::finalizers(old).collect();
        let added: Vec<&str> = meta::finalizers(new)
            .filter(|finalizer| !before.contains(finalizer))
            .collect();
        if !added.is_empty() {
            let list = added
                .iter()
                .map(|text| super::field::quote(text))
                .collect::<Vec<_>>()
                .join(", ");
            let detail = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{list}}}"
            );
            errors.push(FieldError::forbidden(path.child("finalizers"), detail));
        }
    }
    errors
}

fn common(resource: &Resource, object: &Value) -> Vec<FieldError> {
    let path = Path::new("metadata");
    let mut errors = Vec::new();
    errors.extend(labels(&path.child("labels"), at(object, &["metadata", "labels"])));
    errors.extend(annotations(
        &path.child("annotations"),
        at(object, &["metadata", "annotations"]),
    ));
    for (index, finalizer) in meta::finalizers(object).enumerate() {
        let path = path.child("finalizers");
        all_invalid(&mut errors, &path, finalizer, names::qualified_name(finalizer));
        // Those of custom resources are warned of instead.
        if !resource.custom && !is_well_named(finalizer) {
            errors.push(FieldError::invalid(
                path.index(index),
                finalizer,
                "name is neither a standard finalizer name nor is it fully qualified",
            ));
        }
    }
    let listed: Vec<&str> = meta::finalizers(object).collect();
    if listed.contains(&"orphan") && listed.contains(&"foregroundDeletion") {
        let detail = "finalizer orphan and foregroundDeletion cannot be both set";
        errors.push(FieldError::invalid(
            path.child("finalizers"),
            Value::from(listed),
            detail,
        ));
    }
    errors.extend(owners(&path.child("ownerReferences"), object));
    errors
}

/// Whether a finalizer says whose it is, or is one of Kubernetes' own.
fn is_well_named(finalizer: &str) -> bool {
    const STANDARD: &[&str] = &[
        "orphan",
        "foregroundDeletion",
        "kubernetes",
        "customresourcecleanup.apiextensions.k8s.io",
    ];
    finalizer.contains('/') || STANDARD.contains(&finalizer)
}

/// Returns what a client is warned of in the metadata of a custom resource: new finalizers that may meet others of their name.
pub fn warnings(resource: &Resource, new: &Value, old: Option<&Value>) -> Vec<String> {
    if !resource.custom {
        return Vec::new();
    }
    let before: HashSet<&str> = old.into_iter().flat_map(meta::finalizers).collect();
    let mut added: Vec<&str> = meta::finalizers(new)
        .filter(|finalizer| !before.contains(finalizer) && !is_well_named(finalizer))
        .collect();
    added.sort_unstable();
    added.dedup();
    let warning = |finalizer: &&str| {
        let path = if finalizer.contains('.') {
            " including a path (/)"
        } else {
            ""
        };
        format!(
            "metadata.finalizers: {}: prefer a domain-qualified finalizer name{path} to avoid accidental conflicts with other finalizer writers",
            super::field::quote(finalizer)
        )
    };
    added.iter().map(warning).collect()
}

/// Says whether something is no version, or no group and version.
fn is_no_version(api_version: &str) -> bool {
    match api_version.split_once('/') {
        None => false,
        Some((_, version)) => version.is_empty() || version.contains('/'),
    }
}

fn owners(path: &Path, object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut first_controller: Option<String> = None;
    let all = list_at(object, &["metadata", "ownerReferences"]);
    for (index, owner) in all.iter().enumerate() {
        let whole = path;
        let path = path.index(index);
        let text = |key| str_at(owner, &[key]);
        let api_version = text("apiVersion");
        for key in ["apiVersion", "kind", "name", "uid"] {
            if text(key).is_empty() {
                errors.push(FieldError::required(path.child(key), "must not be empty"));
            } else if key == "apiVersion" && is_no_version(api_version) {
                let detail = "must be <group>/<version> or <version>";
                errors.push(FieldError::invalid(path.child(key), api_version, detail));
            }
        }
        // Events come and go in crowds: nothing hangs on one.
        if (api_version, text("kind")) == ("v1", "Event") {
            let detail = "/v1, Kind=Event is disallowed from being an owner";
            errors.push(FieldError::invalid(path, owner.clone(), detail));
        }
        if at(owner, &["controller"]) == Some(&Value::Bool(true)) {
            let this = format!("{}/{}", text("kind"), text("name"));
            match &first_controller {
                None => first_controller = Some(this),
                Some(first) => {
                    let detail = format!(
                        "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {this}"
                    );
                    errors.push(FieldError::invalid(whole, all.to_vec(), detail));
                }
            }
        }
    }
    errors
}

/// Returns what is wrong with a map of labels.
pub fn labels(path: &Path, labels: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (key, value) in labels.and_then(Value::as_object).into_iter().flatten() {
        all_invalid(&mut errors, path, key, names::qualified_name(key));
        let value = value.as_str().unwrap_or("");
        all_invalid(&mut errors, path, value, names::label_value(value));
    }
    errors
}

/// Returns what is wrong with a map of annotations.
pub fn annotations(path: &Path, annotations: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut size = 0;
    for (key, value) in annotations.and_then(Value::as_object).into_iter().flatten() {
        // Keys of annotations may be written in upper case.
        all_invalid(&mut errors, path, key, names::qualified_name(&key.to_lowercase()));
        size += key.len() + value.as_str().map_or(0, str::len);
    }
    if size > ANNOTATIONS_SIZE {
        errors.push(FieldError::too_long(path, ANNOTATIONS_SIZE));
    }
    errors
}

/// Returns what is wrong with a LabelSelector object.
pub fn selector(path: &Path, selector: Option<&Value>) -> Vec<FieldError> {
    let Some(selector) = selector.filter(|selector| selector.is_object()) else {
        return Vec::new();
    };
    let mut errors = labels(&path.child("matchLabels"), at(selector, &["matchLabels"]));
    for (index, expression) in list_at(selector, &["matchExpressions"]).iter().enumerate() {
        let path = path.child("matchExpressions").index(index);
        let empty = list_at(expression, &["values"]).is_empty();
        match str_at(expression, &["operator"]) {
            "In" | "NotIn" if empty => {
                let detail = "must be specified when `operator` is 'In' or 'NotIn'";
                errors.push(FieldError::required(path.child("values"), detail));
            }
            "Exists" | "DoesNotExist" if !empty => {
                let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                errors.push(FieldError::forbidden(path.child("values"), detail));
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => errors.push(FieldError::invalid(
                path.child("operator"),
                other,
                "not a valid selector operator",
            )),
        }
        let key = str_at(expression, &["key"]);
        all_invalid(&mut errors, &path.child("key"), key, names::qualified_name(key));
        for (index, value) in list_at(expression, &["values"])
            .iter()
            .filter_map(Value::as_str)
            .enumerate()
        {
            all_invalid(
                &mut errors,
                &path.child("values").index(index),
                value,
                names::label_value(value),
            );
        }
    }
    errors
}
