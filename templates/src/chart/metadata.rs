//! `Chart.yaml`.

use serde_json::{Map, Value};

/// A person who keeps a chart.
#[derive(Clone, Debug, Default)]
pub struct Maintainer {
    /// Their name.
    pub name: String,
    /// Their address for mail.
    pub email: String,
    /// Their page.
    pub url: String,
}

/// A chart that another needs.
#[derive(Clone, Debug, Default)]
pub struct Dependency {
    /// Its name, or the alias once dependencies are processed.
    pub name: String,
    /// The constraint on its version.
    pub version: String,
    /// Where it comes from.
    pub repository: String,
    /// Paths of values that switch it, separated by commas.
    pub condition: String,
    /// Tags that switch it.
    pub tags: Vec<String>,
    /// Whether it is switched on.
    pub enabled: bool,
    /// Values that the parent takes over.
    pub import_values: Vec<Value>,
    /// The name that it has in the parent.
    pub alias: String,
}

/// What a chart says about itself.
#[derive(Clone, Debug, Default)]
pub struct Metadata {
    /// The name.
    pub name: String,
    /// Where it lives.
    pub home: String,
    /// Where its source lives.
    pub sources: Vec<String>,
    /// Its version.
    pub version: String,
    /// What it is.
    pub description: String,
    /// Words to find it by.
    pub keywords: Vec<String>,
    /// Who keeps it.
    pub maintainers: Vec<Maintainer>,
    /// The address of its picture.
    pub icon: String,
    /// The version of the format: `v1` or `v2`.
    pub api_version: String,
    /// Whether it is wanted, by a value.
    pub condition: String,
    /// Whether it is wanted, by tags.
    pub tags: String,
    /// The version of what it installs.
    pub app_version: String,
    /// Whether it should no longer be used.
    pub deprecated: bool,
    /// Free annotations.
    pub annotations: Map<String, Value>,
    /// The constraint on the cluster's version.
    pub kube_version: String,
    /// What it needs.
    pub dependencies: Vec<Dependency>,
    /// Whether it lists what it needs, be it nothing.
    pub lists_dependencies: bool,
    /// `application`, `library` or nothing.
    pub kind: String,
}

/// Reads a field that must be text; numbers and truths become text, as `sigs.k8s.io/yaml` does where a struct wants it.
pub(super) fn scalar_text(value: &Value) -> Option<String> {
    match value {
        Value::Null => Some(String::new()),
        Value::String(text) => Some(text.clone()),
        Value::Bool(value) => Some(value.to_string()),
        Value::Number(number) => {
            let value = number.as_f64().unwrap_or(0.0);
            let whole = value.fract() == 0.0 && value.abs() < 1e15;
            Some(if whole {
                format!("{value:.0}")
            } else {
                crate::value::float_general(value)
            })
        }
        Value::Array(_) | Value::Object(_) => None,
    }
}

fn text(map: &Map<String, Value>, key: &str) -> Result<String, String> {
    let Some(value) = map.get(key) else {
        return Ok(String::new());
    };
    scalar_text(value).ok_or_else(|| {
        let kind = if value.is_array() { "array" } else { "object" };
        format!(
            "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal {kind} into Go struct field Metadata.{key} of type string"
        )
    })
}

fn texts(map: &Map<String, Value>, key: &str) -> Vec<String> {
    match map.get(key) {
        Some(Value::Array(items)) => items
            .iter()
            .filter_map(|item| item.as_str().map(str::to_owned))
            .collect(),
        _ => Vec::new(),
    }
}

impl Metadata {
    /// Takes over what a `Chart.yaml` or `requirements.yaml` says.
    pub(super) fn read(&mut self, map: &Map<String, Value>) -> Result<(), String> {
        let set = |slot: &mut String, key: &str| -> Result<(), String> {
            if map.contains_key(key) {
                *slot = text(map, key)?;
            }
            Ok(())
        };
        set(&mut self.name, "name")?;
        set(&mut self.home, "home")?;
        set(&mut self.version, "version")?;
        set(&mut self.description, "description")?;
        set(&mut self.icon, "icon")?;
        set(&mut self.api_version, "apiVersion")?;
        set(&mut self.condition, "condition")?;
        set(&mut self.tags, "tags")?;
        set(&mut self.app_version, "appVersion")?;
        set(&mut self.kube_version, "kubeVersion")?;
        set(&mut self.kind, "type")?;
        if map.contains_key("sources") {
            self.sources = texts(map, "sources");
        }
        if map.contains_key("keywords") {
            self.keywords = texts(map, "keywords");
        }
        if let Some(Value::Bool(deprecated)) = map.get("deprecated") {
            self.deprecated = *deprecated;
        }
        if let Some(Value::Object(annotations)) = map.get("annotations") {
            self.annotations = annotations.clone();
        }
        if let Some(Value::Array(items)) = map.get("maintainers") {
            self.maintainers = items
                .iter()
                .filter_map(Value::as_object)
                .map(|item| {
                    Ok(Maintainer {
                        name: text(item, "name")?,
                        email: text(item, "email")?,
                        url: text(item, "url")?,
                    })
                })
                .collect::<Result<_, String>>()?;
        }
        if let Some(Value::Array(items)) = map.get("dependencies") {
            self.lists_dependencies = true;
            self.dependencies = items
                .iter()
                .filter_map(Value::as_object)
                .map(|item| {
                    Ok(Dependency {
                        name: text(item, "name")?,
                        version: text(item, "version")?,
                        repository: text(item, "repository")?,
                        condition: text(item, "condition")?,
                        tags: texts(item, "tags"),
                        enabled: item.get("enabled") == Some(&Value::Bool(true)),
                        import_values: item
                            .get("import-values")
                            .and_then(Value::as_array)
                            .cloned()
                            .unwrap_or_default(),
                        alias: text(item, "alias")?,
                    })
                })
                .collect::<Result<_, String>>()?;
        }
        Ok(())
    }
}
