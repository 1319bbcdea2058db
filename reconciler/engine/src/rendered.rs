//! Rendered objects: made ready to be applied, kept as bytes, read back.
//!
//! The bytes are what a rollback applies: they are kept under their digest, and whether a revision is new is decided by it. Where each
//! object was written is kept beside them, so that a moved line is not a new revision.

use std::collections::BTreeSet;

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::{Map, Value, json};
use setpoint_plan::{Desired, IdentityError, ObjectKey, ObjectRef, OrderError, Origin, order};
use setpoint_templates::job::{Failure, Job, Output};

use crate::api::{APP_LABEL, OWNER_ANNOTATION};
use crate::records::digest;
use crate::target::{Target, TargetError};

/// Runs templates. The engine says what is to be rendered; who wires it decides how far from the daemon that happens.
#[async_trait]
pub trait Renderer: Send + Sync + 'static {
    /// Renders under bounds of time and memory.
    async fn render(&self, job: Job) -> Result<Output, Unrendered>;
}

/// Why nothing was rendered.
#[derive(Clone, Debug)]
pub enum Unrendered {
    /// The templates are at fault.
    Failure(Failure),
    /// The machine is, for now.
    Passing(String),
}

/// Objects that are ready to be applied, as bytes.
#[derive(Clone, Debug)]
pub struct Rendered {
    /// The objects, as a JSON list in the order of the sync.
    pub objects: Bytes,
    /// Where they were written, as a JSON list in the same order.
    pub origins: Bytes,
    /// What could not be honoured.
    pub warnings: Vec<String>,
}

/// Objects cannot be made ready.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// One does not say who it is.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// They cannot be put in order.
    #[error(transparent)]
    Order(#[from] OrderError),
    /// The cluster cannot be asked about a kind.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The bytes are not what was written.
    #[error("the rendered objects {digest} cannot be read back")]
    Unreadable {
        /// Of what.
        digest: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// They have become too many or too large to keep.
    #[error("the objects cannot be kept as JSON")]
    Unwritable(#[source] serde_json::Error),
    /// Two objects have the same kind, namespace and name once the app's namespace is filled in.
    #[error("{object} is written twice: in {first} and in {second}; remove one or rename it")]
    Duplicate {
        /// The object.
        object: Box<ObjectRef>,
        /// Where it was written first.
        first: Origin,
        /// Where it was written again.
        second: Origin,
    },
}

impl Rendered {
    /// Says whether there is no object.
    pub fn is_empty(&self) -> bool {
        self.objects.as_ref() == b"[]"
    }

    /// Returns the digest of the objects.
    pub fn digest(&self) -> String {
        digest(&self.objects)
    }

    /// Makes an app's objects ready: a namespace where one is missing, the marks of the app, the order of the sync.
    ///
    /// # Errors
    /// [`PrepareError`], with the file and line of the object that it is about.
    pub async fn prepare(
        target: &Target,
        app_namespace: &str,
        app: &str,
        namespace: &str,
        folder: &str,
        output: Output,
    ) -> Result<Rendered, PrepareError> {
        let mut warnings = output.warnings;
        warnings.extend(hooks(&output.hooks));
        let scopes = Scopes::of(&output.objects);
        let mut desired = Vec::with_capacity(output.objects.len());
        for rendered in output.objects {
            let origin = Origin {
                file: join(folder, &rendered.file),
                line: rendered.line,
            };
            let mut object = rendered.object;
            let reference = ObjectRef::of(&object, &origin)?;
            let namespaced = match scopes.defined(&reference) {
                Some(namespaced) => namespaced,
                // A kind that nobody serves yet may be defined by the time that it is applied; most have a namespace.
                None => target
                    .served(&reference.group, &reference.version, &reference.kind)
                    .await?
                    .is_none_or(|served| served.namespaced),
            };
            mark(&mut object, app_namespace, app, namespaced.then_some(namespace));
            desired.push(Desired { object, origin });
        }
        order::sort(&mut desired)?;
        unique(&desired)?;
        let (objects, origins): (Vec<Value>, Vec<Origin>) = desired
            .into_iter()
            .map(|desired| (desired.object, desired.origin))
            .unzip();
        Ok(Rendered {
            objects: serde_json::to_vec(&objects).map_err(PrepareError::Unwritable)?.into(),
            origins: serde_json::to_vec(&origins).map_err(PrepareError::Unwritable)?.into(),
            warnings,
        })
    }
}

/// Reads objects and where they were written back.
///
/// # Errors
/// [`PrepareError::Unreadable`] when the bytes are damaged.
pub fn read(digest: &str, objects: &[u8], origins: Option<&[u8]>) -> Result<Vec<Desired>, PrepareError> {
    let unreadable = |source| PrepareError::Unreadable {
        digest: digest.to_owned(),
        source,
    };
    let objects: Vec<Value> = serde_json::from_slice(objects).map_err(unreadable)?;
    let origins: Vec<Origin> = match origins {
        Some(origins) => serde_json::from_slice(origins).map_err(unreadable)?,
        None => Vec::new(),
    };
    let mut origins = origins.into_iter();
    Ok(objects
        .into_iter()
        .map(|object| Desired {
            object,
            origin: origins.next().unwrap_or_default(),
        })
        .collect())
}

/// Returns the stage of each object: dense, from 0. All of a stage is healthy before the next begins.
///
/// # Errors
/// When a wave is not a number.
pub fn stages(desired: &[Desired]) -> Result<Vec<usize>, OrderError> {
    let mut keys = Vec::with_capacity(desired.len());
    for object in desired {
        let foundation = match object.object["kind"].as_str() {
            Some("Namespace") => 0,
            Some("CustomResourceDefinition") => 1,
            _ => 2,
        };
        let wave = setpoint_plan::wave(&object.object, &object.origin)?;
        keys.push((foundation, if foundation < 2 { 0 } else { wave }));
    }
    let distinct: BTreeSet<_> = keys.iter().copied().collect();
    let places: Vec<_> = distinct.into_iter().collect();
    Ok(keys
        .into_iter()
        .map(|key| places.binary_search(&key).unwrap_or_default())
        .collect())
}

/// What definitions among the objects say about the scope of their kinds.
struct Scopes(Vec<(String, String, bool)>);

impl Scopes {
    fn of(objects: &[setpoint_templates::job::Object]) -> Scopes {
        let definitions = objects
            .iter()
            .map(|object| &object.object)
            .filter(|object| object["kind"] == "CustomResourceDefinition");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Scopes(
            definitions
                .map(|definition| {
                    let spec = &definition["spec"];
                    (
                        text(&spec["group"]),
                        text(&spec["names"]["kind"]),
                        spec["scope"] != "Cluster",
                    )
                })
                .collect(),
        )
    }

    fn defined(&self, object: &ObjectRef) -> Option<bool> {
        let found = self
            .0
            .iter()
            .find(|(group, kind, _)| *group == object.group && *kind == object.kind);
        found.map(|(_, _, namespaced)| *namespaced)
    }
}

/// Puts the app's marks on an object, and its namespace where it has none.
fn mark(object: &mut Value, app_namespace: &str, app: &str, namespace: Option<&str>) {
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else {
        return;
    };
    match namespace {
        Some(namespace)
            if metadata
                .get("namespace")
                .is_none_or(|given| given.is_null() || *given == json!("")) =>
        {
            metadata.insert("namespace".to_owned(), json!(namespace));
        }
        Some(_) => {}
        None => {
            metadata.remove("namespace");
        }
    }
    // What only the cluster writes must not come from git: it would be a difference for ever.
    for field in [
        "resourceVersion",
        "uid",
        "creationTimestamp",
        "managedFields",
        "generation",
        "selfLink",
    ] {
        metadata.remove(field);
    }
    entry(metadata, "labels").insert(APP_LABEL.to_owned(), json!(app));
    entry(metadata, "annotations").insert(OWNER_ANNOTATION.to_owned(), json!(format!("{app_namespace}/{app}")));
    if let Some(object) = object.as_object_mut() {
        object.remove("status");
    }
}

fn entry<'a>(metadata: &'a mut Map<String, Value>, field: &str) -> &'a mut Map<String, Value> {
    let value = metadata.entry(field).or_insert_with(|| json!({}));
    if !value.is_object() {
        *value = json!({});
    }
    value.as_object_mut().expect("it was just made an object")
}

fn unique(desired: &[Desired]) -> Result<(), PrepareError> {
    let mut seen: std::collections::HashMap<ObjectKey, &Origin> = std::collections::HashMap::new();
    for object in desired {
        let reference = object.reference()?;
        if let Some(first) = seen.insert(reference.key(), &object.origin) {
            return Err(PrepareError::Duplicate {
                object: Box::new(reference),
                first: first.clone(),
                second: object.origin.clone(),
            });
        }
    }
    Ok(())
}

fn hooks(hooks: &[setpoint_templates::job::Hook]) -> Vec<String> {
    // Tests run when somebody asks for them, not at a deployment.
    let named = hooks
        .iter()
        .filter(|hook| !hook.events.iter().all(|event| event.starts_with("test")));
    let list: Vec<String> = named
        .map(|hook| format!("{} ({})", hook.object.file, hook.events.join(", ")))
        .collect();
    match list.is_empty() {
        true => Vec::new(),
        false => vec![format!("chart hooks are not run yet: {}", list.join("; "))],
    }
}

fn join(folder: &str, file: &str) -> String {
    match folder {
        "" | "." => file.to_owned(),
        folder => format!("{}/{file}", folder.trim_end_matches('/')),
    }
}
