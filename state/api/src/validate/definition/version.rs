//! The versions of a CustomResourceDefinition: schema, subresources, columns, selectable fields, deprecation.

use std::collections::HashSet;

use serde_json::Value;

use crate::meta::{at, list_at, str_at};
use crate::names;
use crate::schema::Schema;
use crate::table::jsonpath::JsonPath;
use crate::validate::field::{FieldError, Path};

const COLUMN_TYPES: &[&str] = &["boolean", "date", "integer", "number", "string"];
const COLUMN_FORMATS: &[&str] = &[
    "byte",
    "date",
    "date-time",
    "double",
    "float",
    "int32",
    "int64",
    "password",
];
/// How many fields of a kind can be selected by.
const SELECTABLE: usize = 8;
/// How long the warning of a deprecated version may be, in bytes.
const WARNING: usize = 256;
/// What may stand at a schema's root beside the structure, where the status is a subresource.
const AT_ROOT: &[&str] = &[
    "description",
    "type",
    "format",
    "title",
    "maximum",
    "exclusiveMaximum",
    "minimum",
    "exclusiveMinimum",
    "maxLength",
    "minLength",
    "pattern",
    "maxItems",
    "minItems",
    "uniqueItems",
    "multipleOf",
    "required",
    "items",
    "properties",
    "externalDocs",
    "example",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-validations",
];

/// Checks all versions.
pub(super) fn all(errors: &mut Vec<FieldError>, path: &Path, definition: &Value) {
    let versions = list_at(definition, &["spec", "versions"]);
    let mut names_seen = HashSet::new();
    let mut unique = true;
    for (index, version) in versions.iter().enumerate() {
        let path = path.index(index);
        let name = str_at(version, &["name"]);
        let wrong = names::dns1035_label(name);
        if !wrong.is_empty() {
            errors.push(FieldError::invalid(path.child("name"), name, wrong.join(",")));
        }
        unique &= names_seen.insert(name);
        deprecation(errors, &path.child("deprecationWarning"), version);
        schema(errors, &path.child("schema").child("openAPIV3Schema"), version);
        if let Some(scale) = at(version, &["subresources", "scale"]).filter(|scale| scale.is_object()) {
            scale_paths(errors, &path.child("subresources"), scale);
        }
        for (index, column) in list_at(version, &["additionalPrinterColumns"]).iter().enumerate() {
            column_of(errors, &path.child("additionalPrinterColumns").index(index), column);
        }
        selectable(errors, &path.child("selectableFields"), version);
    }
    if !unique {
        let detail = "must contain unique version names";
        errors.push(FieldError::invalid(path, Value::Array(versions.to_vec()), detail));
    }
    let stored = versions
        .iter()
        .filter(|version| at(version, &["storage"]) == Some(&Value::Bool(true)));
    if stored.count() != 1 {
        let detail = "must have exactly one version marked as storage version";
        errors.push(FieldError::invalid(path, Value::Array(versions.to_vec()), detail));
    }
}

fn deprecation(errors: &mut Vec<FieldError>, path: &Path, version: &Value) {
    let Some(warning) = at(version, &["deprecationWarning"]).and_then(Value::as_str) else {
        return;
    };
    let mut refuse = |detail: String| errors.push(FieldError::invalid(path, warning, detail));
    if at(version, &["deprecated"]) != Some(&Value::Bool(true)) {
        return refuse("can only be set for deprecated versions".to_owned());
    }
    if warning.len() > WARNING {
        refuse(format!("must be <= {WARNING} characters long"));
    }
    if warning.is_empty() {
        refuse("must not be an empty string".to_owned());
    }
    if let Some((index, _)) = warning
        .char_indices()
        .find(|(_, c)| c.is_control() || (c.is_whitespace() && *c != ' '))
    {
        refuse(format!(
            "must only contain printable UTF-8 characters; non-printable character found at index {index}"
        ));
    }
}

fn schema(errors: &mut Vec<FieldError>, path: &Path, version: &Value) {
    let Some(schema) = at(version, &["schema", "openAPIV3Schema"]).filter(|schema| schema.is_object()) else {
        errors.push(FieldError::required(path, "schemas are required"));
        return;
    };
    let status = at(version, &["subresources", "status"]).is_some_and(|status| !status.is_null());
    let mut keys = schema
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(_, value)| !value.is_null());
    if status && keys.any(|(key, _)| !AT_ROOT.contains(&key.as_str())) {
        let detail = format!(
            "only [{}] fields are allowed at the root of the schema if the status subresource is enabled",
            AT_ROOT.join(" ")
        );
        errors.push(FieldError::invalid(path, schema.clone(), detail));
    }
    if schema.get("nullable") == Some(&Value::Bool(true)) {
        errors.push(FieldError::forbidden(
            path.child("nullable"),
            "nullable cannot be true at the root",
        ));
    }
    let faults = Schema::structural_faults(schema, path);
    // What is not structural has no types for rules.
    let fit = faults.is_empty();
    errors.extend(faults);
    if fit {
        errors.extend(Schema::rule_faults(schema, path));
    }
}

fn column_of(errors: &mut Vec<FieldError>, path: &Path, column: &Value) {
    if str_at(column, &["name"]).is_empty() {
        errors.push(FieldError::required(path.child("name"), ""));
    }
    let (kind, format) = (str_at(column, &["type"]), str_at(column, &["format"]));
    let detail = format!("must be one of {}", COLUMN_TYPES.join(","));
    if kind.is_empty() {
        errors.push(FieldError::required(path.child("type"), detail));
    } else if !COLUMN_TYPES.contains(&kind) {
        errors.push(FieldError::invalid(path.child("type"), kind, detail));
    }
    if !format.is_empty() && !COLUMN_FORMATS.contains(&format) {
        let detail = format!("must be one of {}", COLUMN_FORMATS.join(","));
        errors.push(FieldError::invalid(path.child("format"), format, detail));
    }
    // Kubernetes' internal type writes it so.
    json_path(errors, &path.child("JSONPath"), str_at(column, &["jsonPath"]));
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
    let rows: [(&str, &[&str], &str, bool); 3] = [
        ("specReplicasPath", &[".spec."], ".spec", true),
        ("statusReplicasPath", &[".status."], ".status", true),
        (
            "labelSelectorPath",
            &[".spec.", ".status."],
            "either .spec or .status",
            false,
        ),
    ];
    for (key, starts, shown, required) in rows {
        let text = str_at(scale, &[key]);
        let path = path.child("scale").child(key);
        if text.is_empty() {
            if required {
                errors.push(FieldError::required(path, ""));
            }
        } else if !text.starts_with('.') {
            errors.push(FieldError::invalid(
                path,
                text,
                "must be a simple json path starting with .",
            ));
        } else if !starts.iter().any(|start| text.starts_with(start))
            || JsonPath::parse(text).ok().and_then(|path| path.fields()).is_none()
        {
            let detail = format!("should be a json path under {shown}");
            errors.push(FieldError::invalid(path, text, detail));
        }
    }
}

fn selectable(errors: &mut Vec<FieldError>, path: &Path, version: &Value) {
    let fields = list_at(version, &["selectableFields"]);
    let Some(schema) = at(version, &["schema", "openAPIV3Schema"]) else {
        return;
    };
    let mut seen: HashSet<&str> = HashSet::new();
    for (index, field) in fields.iter().enumerate() {
        let path = path.index(index).child("jsonPath");
        let text = str_at(field, &["jsonPath"]);
        if text.is_empty() {
            errors.push(FieldError::required(path, ""));
            continue;
        }
        let found = match leads_to(text, schema) {
            Ok(found) => found,
            Err(why) => {
                errors.push(FieldError::invalid(path, text, format!("is an invalid path: {why}")));
                continue;
            }
        };
        if text.starts_with(".metadata.") || text == ".metadata" {
            errors.push(FieldError::invalid(&path, text, "must not point to fields in metadata"));
        }
        if !matches!(str_at(found, &["type"]), "string" | "boolean" | "integer") {
            let detail = "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.";
            errors.push(FieldError::invalid(&path, text, detail));
        }
        if !seen.insert(text) {
            errors.push(FieldError::duplicate(&path, text));
        }
    }
    if seen.len() > SELECTABLE {
        errors.push(FieldError::too_many(path, seen.len(), SELECTABLE));
    }
}

/// Follows a path of fields through a schema.
fn leads_to<'a>(path: &str, schema: &'a Value) -> Result<&'a Value, String> {
    let mut schema = schema;
    if path.contains('[') {
        return Err("array notation is not allowed".to_owned());
    }
    let fields = path
        .strip_prefix('.')
        .ok_or_else(|| format!("expected [ or . but got: {path}"))?;
    for field in fields.split('.') {
        if field.is_empty() {
            return Err("unexpected end of JSON path".to_owned());
        }
        let below = at(schema, &["properties", field]).or_else(|| at(schema, &["additionalProperties"]));
        schema = below
            .filter(|below| below.is_object())
            .ok_or("does not refer to a valid field")?;
    }
    Ok(schema)
}
