//! Who an object is, and where it was written.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use setpoint_api::meta;

/// Names an object in a version of its kind.
///
/// Displayed as people say it: `Deployment shop/web`, `Namespace shop`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectRef {
    /// The API group; "" for the core.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// The version of the group.
    pub version: String,
    /// The kind.
    pub kind: String,
    /// The namespace; nothing where the object has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The name.
    pub name: String,
}

/// Names an object in whatever version it is spoken of.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectKey {
    /// The API group; "" for the core.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// The kind.
    pub kind: String,
    /// The namespace; nothing where the object has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The name.
    pub name: String,
}

/// Where an object was written.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Origin {
    /// The file, relative to the repository's root.
    pub file: String,
    /// The line, from 1, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
}

/// An object as git wants it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Desired {
    /// The object as rendered.
    pub object: Value,
    /// Where it was written.
    pub origin: Origin,
}

/// An object does not say who it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// It is not a map.
    #[error("{origin}: this is {found}, not an object; a manifest is a map with apiVersion, kind and metadata.name")]
    NotAnObject {
        /// Where it was written.
        origin: Origin,
        /// What it is instead.
        found: &'static str,
    },
    /// A field that every object has is not there, or is no text.
    #[error("{origin}: {object} has no {field}; every object needs apiVersion, kind and metadata.name")]
    Missing {
        /// Where it was written.
        origin: Origin,
        /// What is known of it: its kind, or "the object".
        object: String,
        /// The field.
        field: &'static str,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}", self.file),
            None => f.write_str(&self.file),
        }
    }
}

fn display(f: &mut fmt::Formatter<'_>, kind: &str, namespace: Option<&str>, name: &str) -> fmt::Result {
    match namespace {
        Some(namespace) => write!(f, "{kind} {namespace}/{name}"),
        None => write!(f, "{kind} {name}"),
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        display(f, &self.kind, self.namespace.as_deref(), &self.name)
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        display(f, &self.kind, self.namespace.as_deref(), &self.name)
    }
}

impl ObjectRef {
    /// Reads who an object is.
    ///
    /// Errors: it is no map, or lacks apiVersion, kind or name; the message says where it was written.
    pub fn of(object: &Value, origin: &Origin) -> Result<ObjectRef, IdentityError> {
        let found = match object {
            Value::Object(_) => None,
            Value::Null => Some("nothing"),
            Value::Array(_) => Some("a list"),
            Value::String(_) => Some("a text"),
            Value::Number(_) => Some("a number"),
            Value::Bool(_) => Some("true or false"),
        };
        if let Some(found) = found {
            let origin = origin.clone();
            return Err(IdentityError::NotAnObject { origin, found });
        }
        let kind = meta::kind(object);
        let missing = |field| IdentityError::Missing {
            origin: origin.clone(),
            object: if kind.is_empty() {
                "the object".to_owned()
            } else {
                format!("the {kind}")
            },
            field,
        };
        let api_version = meta::api_version(object);
        if api_version.is_empty() {
            return Err(missing("apiVersion"));
        }
        if kind.is_empty() {
            return Err(missing("kind"));
        }
        let name = meta::name(object);
        if name.is_empty() {
            return Err(missing("metadata.name"));
        }
        let (group, version) = meta::group_version(api_version);
        let namespace = meta::namespace(object);
        Ok(ObjectRef {
            group: group.to_owned(),
            version: version.to_owned(),
            kind: kind.to_owned(),
            namespace: (!namespace.is_empty()).then(|| namespace.to_owned()),
            name: name.to_owned(),
        })
    }

    /// Returns the same without the version.
    pub fn key(&self) -> ObjectKey {
        ObjectKey {
            group: self.group.clone(),
            kind: self.kind.clone(),
            namespace: self.namespace.clone(),
            name: self.name.clone(),
        }
    }

    /// Returns group and version as objects write them: `apps/v1`, `v1`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.clone()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }
}

impl Desired {
    /// Reads who the object is; see [`ObjectRef::of`].
    pub fn reference(&self) -> Result<ObjectRef, IdentityError> {
        ObjectRef::of(&self.object, &self.origin)
    }
}
