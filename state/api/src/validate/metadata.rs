//! The rules of metadata, which are those of every kind.

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
    errors.extend(common(object));
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
    errors.extend(common(new));
    if meta::is_being_deleted(old) {
        let before: Vec<&str> = meta::finalizers(old).collect();
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

fn common(object: &Value) -> Vec<FieldError> {
    let path = Path::new("metadata");
    let mut errors = Vec::new();
    errors.extend(labels(&path.child("labels"), at(object, &["metadata", "labels"])));
    errors.extend(annotations(
        &path.child("annotations"),
        at(object, &["metadata", "annotations"]),
    ));
    for (index, finalizer) in meta::finalizers(object).enumerate() {
        let path = path.child("finalizers").index(index);
        all_invalid(&mut errors, &path, finalizer, names::qualified_name(finalizer));
        let standard = matches!(
            finalizer,
            "orphan" | "foregroundDeletion" | "kubernetes" | "customresourcecleanup.apiextensions.k8s.io"
        );
        if !finalizer.contains('/') && !standard {
            errors.push(FieldError::invalid(
                &path,
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

fn owners(path: &Path, object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut controllers = 0;
    for (index, owner) in list_at(object, &["metadata", "ownerReferences"]).iter().enumerate() {
        let path = path.index(index);
        let (_, version) = meta::group_version(str_at(owner, &["apiVersion"]));
        if version.is_empty() {
            errors.push(FieldError::invalid(
                path.child("apiVersion"),
                str_at(owner, &["apiVersion"]),
                "version must not be empty",
            ));
        }
        for key in ["kind", "name", "uid"] {
            if str_at(owner, &[key]).is_empty() {
                errors.push(FieldError::invalid(
                    path.child(key),
                    "",
                    format!("{key} must not be empty"),
                ));
            }
        }
        controllers += usize::from(at(owner, &["controller"]) == Some(&Value::Bool(true)));
    }
    if controllers > 1 {
        let value = at(object, &["metadata", "ownerReferences"])
            .cloned()
            .unwrap_or(Value::Null);
        let detail = "Only one reference can have Controller set to true. Found \"true\" in references";
        errors.push(FieldError::invalid(path, value, detail));
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
