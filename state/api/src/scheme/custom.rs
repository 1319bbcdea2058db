//! Rows made from CustomResourceDefinitions.

use std::sync::Arc;

use serde_json::Value;

use super::builtin::plain;
use super::{Resource, ScalePaths, SelectableField, Writing};
use crate::meta::{self, at, list_at, str_at};
use crate::schema::Schema;
use crate::table::jsonpath::{JsonPath, JsonPathError};
use crate::table::{Column, Row};

/// Why no row can be made from a definition.
#[derive(Debug, thiserror::Error)]
pub enum CrdError {
    /// The definition does not have the version.
    #[error("CustomResourceDefinition {definition:?} has no version {version:?}")]
    NoVersion {
        /// The definition's name.
        definition: String,
        /// The version that was asked for.
        version: String,
    },
    /// A path in the definition cannot be used.
    #[error("CustomResourceDefinition {definition:?} has an unusable path")]
    Path {
        /// The definition's name.
        definition: String,
        /// What is wrong with it.
        #[source]
        source: JsonPathError,
    },
    /// The schema cannot be used.
    #[error("CustomResourceDefinition {definition:?} version {version:?} has an unusable schema: {problem}")]
    Schema {
        /// The definition's name.
        definition: String,
        /// The version.
        version: String,
        /// What is wrong with it.
        problem: String,
    },
}

impl Resource {
    /// Makes the row of one version of a custom resource from its definition.
    ///
    /// The names are those that were accepted, or those of `spec.names` while none are; whether the version is served is for
    /// the caller to look at.
    pub fn from_crd(definition: &Value, version: &str) -> Result<Resource, CrdError> {
        let name = || meta::name(definition).to_owned();
        let no_version = || CrdError::NoVersion {
            definition: name(),
            version: version.to_owned(),
        };
        let path_error = |source| CrdError::Path {
            definition: name(),
            source,
        };
        let versions = list_at(definition, &["spec", "versions"]);
        let found = versions
            .iter()
            .find(|entry| str_at(entry, &["name"]) == version)
            .ok_or_else(no_version)?;
        let stored = versions
            .iter()
            .find(|entry| at(entry, &["storage"]) == Some(&Value::Bool(true)));
        let place = match str_at(definition, &["status", "acceptedNames", "plural"]) {
            "" => ["spec", "names"],
            _ => ["status", "acceptedNames"],
        };
        let names = |key: &str| str_at(definition, &[place[0], place[1], key]);
        let lists = |key: &str| {
            let texts = list_at(definition, &[place[0], place[1], key])
                .iter()
                .filter_map(Value::as_str);
            texts.map(str::to_owned).collect::<Vec<_>>()
        };

        let kind = names("kind");
        let mut row = plain(str_at(definition, &["spec", "group"]), kind, names("plural")).generation();
        row.version = version.to_owned();
        row.storage_version = stored.map_or(version, |entry| str_at(entry, &["name"])).to_owned();
        row.custom = true;
        row.writing = Writing::CUSTOM;
        row.namespaced = str_at(definition, &["spec", "scope"]) == "Namespaced";
        if !names("listKind").is_empty() {
            row.list_kind = names("listKind").to_owned();
        }
        if !names("singular").is_empty() {
            row.singular = names("singular").to_owned();
        }
        (row.short_names, row.categories) = (lists("shortNames"), lists("categories"));
        if at(found, &["subresources", "status"]).is_some_and(|status| !status.is_null()) {
            row = row.status();
        }
        if let Some(scale) = at(found, &["subresources", "scale"]).filter(|scale| !scale.is_null()) {
            row = row.scale_at(scale_paths(scale).map_err(path_error)?);
        }
        (row.columns, row.row) = columns(found).map_err(path_error)?;
        for field in list_at(found, &["selectableFields"]) {
            let path = str_at(field, &["jsonPath"]);
            let fields = fields(path).map_err(path_error)?;
            let name = path.trim_start_matches('.').to_owned();
            row.selectable_fields.push(SelectableField {
                name,
                path: fields,
                absent: "",
            });
        }
        if at(found, &["deprecated"]) == Some(&Value::Bool(true)) {
            row.deprecation = Some(match str_at(found, &["deprecationWarning"]) {
                "" => format!("{} {} is deprecated", row.api_version(), row.kind),
                warning => warning.to_owned(),
            });
        }
        if let Some(schema) = at(found, &["schema", "openAPIV3Schema"]) {
            let schema = Schema::from_openapi(schema).map_err(|error| CrdError::Schema {
                definition: name(),
                version: version.to_owned(),
                problem: error.to_string(),
            })?;
            row.schema = Some(Arc::new(schema));
        }
        Ok(row)
    }
}

/// Parses a path that consists of fields alone.
fn fields(path: &str) -> Result<Vec<String>, JsonPathError> {
    let wrong = || JsonPathError {
        path: path.to_owned(),
        problem: "only fields can be used here",
    };
    JsonPath::parse(path)?
        .fields()
        .filter(|fields| !fields.is_empty())
        .ok_or_else(wrong)
}

fn scale_paths(scale: &Value) -> Result<ScalePaths, JsonPathError> {
    let selector = str_at(scale, &["labelSelectorPath"]);
    Ok(ScalePaths {
        spec_replicas: fields(str_at(scale, &["specReplicasPath"]))?,
        status_replicas: fields(str_at(scale, &["statusReplicasPath"]))?,
        selector: if selector.is_empty() {
            None
        } else {
            Some(fields(selector)?)
        },
    })
}

fn columns(version: &Value) -> Result<(Vec<Column>, Row), JsonPathError> {
    let column = |name: &str, ty: &str, format: &str, description: String, priority| Column {
        name: name.to_owned(),
        ty: ty.to_owned(),
        format: format.to_owned(),
        description,
        priority,
    };
    let mut columns = vec![column(
        "Name",
        "string",
        "name",
        "Name must be unique within a namespace.".into(),
        0,
    )];
    let mut paths = Vec::new();
    for entry in list_at(version, &["additionalPrinterColumns"]) {
        let path = str_at(entry, &["jsonPath"]);
        paths.push(JsonPath::parse(path)?);
        let description = match str_at(entry, &["description"]) {
            "" => format!("Custom resource definition column (in JSONPath format): {path}"),
            text => text.to_owned(),
        };
        let priority = meta::int_at(entry, &["priority"]).unwrap_or(0);
        columns.push(column(
            str_at(entry, &["name"]),
            str_at(entry, &["type"]),
            str_at(entry, &["format"]),
            description,
            priority,
        ));
    }
    if paths.is_empty() {
        columns.push(column(
            "Age",
            "date",
            "",
            "How long ago the object was created.".into(),
            0,
        ));
        paths.push(JsonPath::parse(".metadata.creationTimestamp")?);
    }
    Ok((columns, Row::Paths(paths)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn widget() -> Value {
        json!({
            "metadata": {"name": "widgets.example.com"},
            "spec": {
                "group": "example.com", "scope": "Namespaced",
                "names": {"kind": "Widget", "plural": "widgets", "singular": "widget", "listKind": "WidgetList", "shortNames": ["wi"]},
                "versions": [{
                    "name": "v1", "served": true, "storage": true,
                    "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                        "spec": {"type": "object", "properties": {"size": {"type": "integer"}}},
                        "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}},
                    "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.size", "statusReplicasPath": ".status.size"}},
                    "additionalPrinterColumns": [
                        {"name": "Size", "type": "integer", "jsonPath": ".spec.size"},
                        {"name": "Ready", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Ready\")].status"},
                        {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}],
                    "selectableFields": [{"jsonPath": ".spec.size"}],
                }],
            },
        })
    }

    #[test]
    fn a_definition_makes_a_row_with_its_columns() {
        let row = Resource::from_crd(&widget(), "v1").unwrap();
        assert_eq!(
            (row.api_version().as_str(), row.storage_prefix().as_str()),
            ("example.com/v1", "example.com/widgets")
        );
        assert!(row.has_status && row.has_generation && row.custom);
        assert_eq!(row.scale().unwrap().spec_replicas, ["spec", "size"]);
        let object = json!({"metadata": {"name": "a", "creationTimestamp": "2024-01-01T00:00:00Z"}, "spec": {"size": 3},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]}});
        let now = "2024-01-01T01:00:00Z".parse().unwrap();
        let cells = crate::table::row(&row, &object, crate::table::IncludeObject::None, now)["cells"].clone();
        assert_eq!(cells, json!(["a", 3, "True", "60m"]));
        let selector: crate::FieldSelector = "spec.size=3".parse().unwrap();
        assert!(selector.check(&row).is_ok() && selector.matches(&row, &object));
    }

    #[test]
    fn a_version_that_is_not_there_is_an_error() {
        assert!(matches!(
            Resource::from_crd(&widget(), "v2"),
            Err(CrdError::NoVersion { .. })
        ));
    }

    #[test]
    fn rows_of_definitions_come_and_go() {
        let scheme = crate::Scheme::builtin();
        let before = scheme.generation();
        scheme.set_custom(
            "widgets.example.com",
            vec![Resource::from_crd(&widget(), "v1").unwrap()],
        );
        assert!(scheme.by_kind("example.com", "v1", "Widget").is_some());
        assert!(scheme.generation() > before);
        scheme.remove_custom("widgets.example.com");
        assert!(scheme.get("example.com", "v1", "widgets").is_none());
        assert!(scheme.get("apps", "v1", "deployments").is_some());
    }
}
