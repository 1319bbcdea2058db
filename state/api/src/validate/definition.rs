//! The rules of CustomResourceDefinitions, beside those of their schemas.

use serde_json::Value;

use super::field::{FieldError, Path};
use super::{all_invalid, immutable, one_of};
use crate::meta::{self, at, list_at, str_at};
use crate::names;
use crate::schema::Schema;
use crate::table::jsonpath::JsonPath;

const COLUMN_TYPES: &[&str] = &["integer", "number", "string", "boolean", "date"];

/// Returns what is wrong with a new definition.
pub fn create(definition: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let spec = Path::new("spec");
    let (group, plural) = (
        str_at(definition, &["spec", "group"]),
        str_at(definition, &["spec", "names", "plural"]),
    );
    let wanted = format!("{plural}.{group}");
    if meta::name(definition) != wanted {
        let detail = "must be spec.names.plural+\".\"+spec.group";
        errors.push(FieldError::invalid("metadata.name", meta::name(definition), detail));
    }
    if group.is_empty() {
        errors.push(FieldError::required(spec.child("group"), ""));
    } else if !group.contains('.') {
        errors.push(FieldError::invalid(
            spec.child("group"),
            group,
            "should be a domain with at least one dot",
        ));
    } else {
        all_invalid(&mut errors, &spec.child("group"), group, names::dns_subdomain(group));
    }
    let scope = str_at(definition, &["spec", "scope"]);
    one_of(
        &mut errors,
        &spec.child("scope"),
        scope,
        &["Cluster", "Namespaced"],
        true,
    );
    resource_names(&mut errors, &spec.child("names"), definition);
    versions(&mut errors, &spec.child("versions"), definition);
    if str_at(definition, &["spec", "conversion", "strategy"]) == "Webhook" {
        let detail = "conversion webhooks are not supported by this server";
        errors.push(FieldError::forbidden(
            spec.child("conversion").child("strategy"),
            detail,
        ));
    }
    if at(definition, &["spec", "preserveUnknownFields"]) == Some(&Value::Bool(true)) {
        let detail = "must be false";
        errors.push(FieldError::invalid(spec.child("preserveUnknownFields"), true, detail));
    }
    errors
}

/// Returns what is wrong with the change of a definition.
pub fn update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = create(new);
    let spec = Path::new("spec");
    for key in ["group", "scope"] {
        immutable(
            &mut errors,
            &spec.child(key),
            at(new, &["spec", key]),
            at(old, &["spec", key]),
        );
    }
    for key in ["plural", "kind"] {
        let path = spec.child("names").child(key);
        immutable(
            &mut errors,
            &path,
            at(new, &["spec", "names", key]),
            at(old, &["spec", "names", key]),
        );
    }
    let versions: Vec<&str> = list_at(new, &["spec", "versions"])
        .iter()
        .map(|version| str_at(version, &["name"]))
        .collect();
    for (index, stored) in list_at(new, &["status", "storedVersions"])
        .iter()
        .filter_map(Value::as_str)
        .enumerate()
    {
        if !versions.contains(&stored) {
            let detail = "missing from spec.versions; it may still hold objects";
            errors.push(FieldError::invalid(
                Path::new("status.storedVersions").index(index),
                stored,
                detail,
            ));
        }
    }
    errors
}

fn resource_names(errors: &mut Vec<FieldError>, path: &Path, definition: &Value) {
    let name = |key: &str| str_at(definition, &["spec", "names", key]);
    for key in ["plural", "singular", "kind", "listKind"] {
        let path = path.child(key);
        if name(key).is_empty() {
            errors.push(FieldError::required(path, ""));
        } else {
            // Kinds are written in camel case; their lower-case form has to be a label.
            let label = if key.ends_with("ind") {
                name(key).to_lowercase()
            } else {
                name(key).to_owned()
            };
            all_invalid(errors, &path, name(key), names::dns1035_label(&label));
        }
    }
    if !name("kind").is_empty() && name("kind") == name("listKind") {
        errors.push(FieldError::invalid(
            path.child("listKind"),
            name("listKind"),
            "kind and listKind may not be the same",
        ));
    }
    for key in ["shortNames", "categories"] {
        let list = list_at(definition, &["spec", "names", key]);
        for (index, text) in list.iter().filter_map(Value::as_str).enumerate() {
            all_invalid(errors, &path.child(key).index(index), text, names::dns1035_label(text));
        }
    }
}

fn versions(errors: &mut Vec<FieldError>, path: &Path, definition: &Value) {
    let versions = list_at(definition, &["spec", "versions"]);
    if versions.is_empty() {
        errors.push(FieldError::required(path, "must have at least one version"));
        return;
    }
    let mut seen = Vec::new();
    for (index, version) in versions.iter().enumerate() {
        let path = path.index(index);
        let name = str_at(version, &["name"]);
        all_invalid(errors, &path.child("name"), name, names::dns1035_label(name));
        if seen.contains(&name) {
            errors.push(FieldError::invalid(
                path.child("name"),
                name,
                "must contain unique version names",
            ));
        }
        seen.push(name);
        schema(errors, &path.child("schema").child("openAPIV3Schema"), version);
        columns(errors, &path.child("additionalPrinterColumns"), version);
        if let Some(scale) = at(version, &["subresources", "scale"]).filter(|scale| scale.is_object()) {
            scale_paths(errors, &path.child("subresources").child("scale"), scale);
        }
    }
    let stored = versions
        .iter()
        .filter(|version| at(version, &["storage"]) == Some(&Value::Bool(true)))
        .count();
    if stored != 1 {
        let value = Value::Array(versions.to_vec());
        errors.push(FieldError::invalid(
            path,
            value,
            "must have exactly one version marked as storage version",
        ));
    }
}

fn schema(errors: &mut Vec<FieldError>, path: &Path, version: &Value) {
    let Some(schema) = at(version, &["schema", "openAPIV3Schema"]).filter(|schema| schema.is_object()) else {
        errors.push(FieldError::required(path, "schemas are required"));
        return;
    };
    if let Err(found) = Schema::from_openapi(schema) {
        let below = |mut error: FieldError| {
            error.field = if error.field.is_empty() {
                path.to_string()
            } else {
                format!("{path}.{}", error.field)
            };
            error
        };
        errors.extend(found.errors.into_iter().map(below));
        // What is not structural has no types for rules.
        return;
    }
    errors.extend(Schema::rule_faults(schema, path));
}

fn columns(errors: &mut Vec<FieldError>, path: &Path, version: &Value) {
    for (index, column) in list_at(version, &["additionalPrinterColumns"]).iter().enumerate() {
        let path = path.index(index);
        if str_at(column, &["name"]).is_empty() {
            errors.push(FieldError::required(path.child("name"), ""));
        }
        one_of(
            errors,
            &path.child("type"),
            str_at(column, &["type"]),
            COLUMN_TYPES,
            true,
        );
        json_path(errors, &path.child("jsonPath"), str_at(column, &["jsonPath"]));
    }
}

fn json_path(errors: &mut Vec<FieldError>, path: &Path, text: &str) {
    if text.is_empty() {
        errors.push(FieldError::required(path, ""));
    } else if !text.starts_with('.') {
        errors.push(FieldError::invalid(
            path,
            text,
            "must be a simple json path starting with .",
        ));
    } else if let Err(error) = JsonPath::parse(text) {
        errors.push(FieldError::invalid(path, text, error.problem));
    }
}

fn scale_paths(errors: &mut Vec<FieldError>, path: &Path, scale: &Value) {
    for (key, start, required) in [
        ("specReplicasPath", ".spec.", true),
        ("statusReplicasPath", ".status.", true),
        ("labelSelectorPath", ".", false),
    ] {
        let text = str_at(scale, &[key]);
        if text.is_empty() {
            if required {
                errors.push(FieldError::required(path.child(key), ""));
            }
            continue;
        }
        let fields = JsonPath::parse(text).ok().and_then(|path| path.fields());
        if !text.starts_with(start) || fields.is_none() {
            let detail = format!("should be a json path under {start}");
            errors.push(FieldError::invalid(path.child(key), text, detail));
        }
    }
}
