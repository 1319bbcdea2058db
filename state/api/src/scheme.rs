//! The scheme: which kinds there are, and everything that is special about each.
//!
//! A [`Resource`] is one row. The built-in rows stand in [`builtin`], the rows of custom resources are made from their
//! CustomResourceDefinition by [`Resource::from_crd`]. Whoever handles a request reads the row and never asks for a
//! kind's name.

pub mod builtin;
pub mod custom;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use serde_json::Value;

use crate::meta;
use crate::schema::Schema;
use crate::table::{Column, Row};
use crate::validate::field::FieldError;
use crate::validate::metadata::NameRule;

/// The verbs of an ordinary kind, in the order of discovery.
pub const ALL_VERBS: &[&str] = &[
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
    "watch",
];

/// What a subresource does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubresourceAction {
    /// Reads and writes the object's `status` (and nothing else of it).
    Status,
    /// Reads and writes the number of replicas as an `autoscaling/v1 Scale`.
    Scale(ScalePaths),
    /// Streams a container's log.
    Log,
    /// Runs a command in a container.
    Exec,
    /// Attaches to a container's main process.
    Attach,
    /// Forwards ports into a pod.
    PortForward,
    /// Passes HTTP requests on.
    Proxy,
    /// Asks for a pod to go, within its disruption budget.
    Eviction,
    /// Binds a pod to a node.
    Binding,
    /// Makes a service account's token.
    Token,
    /// Writes a namespace's `spec.finalizers`.
    Finalize,
    /// Reads and writes a part of the object by rules of its own.
    Part(Part),
    /// Is answered by the program around the server.
    Handled,
}

/// A part of an object that is written through a path of its own, by rules of its own: `pods/resize`.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// The last part of the path; managed fields and admission name the write by it.
    pub name: &'static str,
    /// Takes from the old object what this path may not change (new, old).
    pub prepare: fn(&mut Value, &Value),
    /// Says what is wrong with a change through this path (new, old), beside the metadata.
    pub validate: fn(&Value, &Value) -> Vec<FieldError>,
}

impl PartialEq for Part {
    fn eq(&self, other: &Part) -> bool {
        self.name == other.name
    }
}

impl Eq for Part {}

/// Where the replicas of a kind are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScalePaths {
    /// The wanted number, such as `["spec", "replicas"]`.
    pub spec_replicas: Vec<String>,
    /// The observed number.
    pub status_replicas: Vec<String>,
    /// The label selector: a LabelSelector object (built-in kinds) or its string form (custom resources).
    pub selector: Option<Vec<String>>,
}

/// A path below a resource: `pods/log`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subresource {
    /// The last part of the path.
    pub name: String,
    /// The group of the kind that it takes and gives.
    pub group: String,
    /// The version of that kind.
    pub version: String,
    /// The kind that it takes and gives.
    pub kind: String,
    /// The verbs that it has.
    pub verbs: &'static [&'static str],
    /// What it does.
    pub action: SubresourceAction,
}

/// A field that a field selector can ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelectableField {
    /// The name in the selector: `spec.nodeName`.
    pub name: String,
    /// The map keys that lead to it in the stored form.
    pub path: Vec<String>,
    /// What an absent field reads as.
    pub absent: &'static str,
}

impl SelectableField {
    /// Makes the field whose name is its path.
    pub fn new(name: &str) -> SelectableField {
        let path = name.split('.').map(str::to_owned).collect();
        SelectableField {
            name: name.to_owned(),
            path,
            absent: "",
        }
    }

    /// Returns the name that the field's value is kept under, whatever a row calls it.
    pub fn key(&self) -> String {
        self.path.join(".")
    }

    /// Returns the field's value as a field selector sees it, read from an object in its stored form.
    pub fn read(&self, object: &Value) -> String {
        let found = self.path.iter().try_fold(object, |value, key| value.get(key));
        match found {
            Some(Value::String(text)) if text.is_empty() => self.absent.to_owned(),
            Some(Value::String(text)) => text.clone(),
            Some(value @ (Value::Bool(_) | Value::Number(_))) => value.to_string(),
            _ => self.absent.to_owned(),
        }
    }
}

/// The functions that make a kind special; a kind without needs has [`Rules::NONE`].
#[derive(Clone, Copy)]
pub struct Rules {
    /// Fills in what the client left out.
    pub default: fn(&mut Value),
    /// Says what is wrong with a new object, beside its metadata.
    pub validate_create: fn(&Value) -> Vec<FieldError>,
    /// Says what is wrong with a change (new, old), beside the metadata.
    pub validate_update: fn(&Value, &Value) -> Vec<FieldError>,
    /// Says what is wrong with a change of the status (new, old).
    pub validate_status: fn(&Value, &Value) -> Vec<FieldError>,
    /// Sets what a client may not choose on create, after the general part.
    pub prepare_create: fn(&mut Value),
    /// Sets what a client may not choose on update (new, old), after the general part.
    pub prepare_update: fn(&mut Value, &Value),
}

impl Rules {
    /// No rules beside those of metadata.
    pub const NONE: Rules = Rules {
        default: |_| {},
        validate_create: |_| Vec::new(),
        validate_update: |_, _| Vec::new(),
        validate_status: |_, _| Vec::new(),
        prepare_create: |_| {},
        prepare_update: |_, _| {},
    };
}

/// The way between the form of a row and the form that its objects are stored in. Both functions are pure, leave `apiVersion` alone, and
/// take any JSON: what cannot be carried over is left out. What is stored comes back as it was: the other way may lose what only the
/// stored form can say, unless it is kept in annotations.
#[derive(Clone, Copy)]
pub struct Conversion {
    /// Turns the stored form into the row's.
    pub from_stored: fn(&mut Value),
    /// Turns the row's form into the stored one.
    pub to_stored: fn(&mut Value),
}

impl std::fmt::Debug for Conversion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Conversion")
    }
}

impl std::fmt::Debug for Rules {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Rules")
    }
}

/// What replacements and deletions of a kind's objects do beside the usual.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Writing {
    /// Whether a PUT to a name that is free makes the object.
    pub create_on_update: bool,
    /// Whether a PUT without resourceVersion replaces whatever is there.
    pub unconditional_update: bool,
    /// Whether a deletion is answered with what went; else with a Status.
    pub returns_deleted: bool,
    /// Whether a deletion that does not say what happens to dependents leaves them.
    pub orphans: bool,
}

impl Writing {
    /// As most kinds have it.
    pub const USUAL: Writing = Writing {
        create_on_update: false,
        unconditional_update: true,
        returns_deleted: false,
        orphans: false,
    };
    /// As custom resources have it.
    pub const CUSTOM: Writing = Writing {
        unconditional_update: false,
        ..Writing::USUAL
    };
}

/// Everything that is special about one kind in one version.
#[derive(Clone, Debug)]
pub struct Resource {
    /// The API group, "" for core.
    pub group: String,
    /// The version of this row.
    pub version: String,
    /// The group that objects are stored in: the row's own but for kinds that two groups have.
    pub storage_group: String,
    /// The version that objects are stored in; objects of every version of a kind share their keys.
    pub storage_version: String,
    /// How the form of this version differs from the one that is stored; `None` when it is the same but for its apiVersion.
    pub conversion: Option<Conversion>,
    /// The kind: `Deployment`.
    pub kind: String,
    /// The kind of a list: `DeploymentList`.
    pub list_kind: String,
    /// The resource: `deployments`.
    pub plural: String,
    /// The singular: `deployment`.
    pub singular: String,
    /// Short names: `deploy`.
    pub short_names: Vec<String>,
    /// Groups of resources that it is a part of: `all`.
    pub categories: Vec<String>,
    /// Whether objects live in a namespace.
    pub namespaced: bool,
    /// The verbs that it has; review kinds have `create` alone and are never stored.
    pub verbs: Vec<&'static str>,
    /// What a create does where objects of the kind are not stored: a Binding binds the pod that it names.
    pub creates: Option<SubresourceAction>,
    /// The paths below it.
    pub subresources: Vec<Subresource>,
    /// Whether `status` is written through its subresource only.
    pub has_status: bool,
    /// What a write through `status` may not change beside what is always kept, as the keys that lead to it. Not asked of custom
    /// resources: of these the status alone is taken.
    pub status_resets: &'static [&'static [&'static str]],
    /// Whether a new object may bring its status along: a node's agent registers it so.
    pub status_on_create: bool,
    /// Whether `metadata.generation` counts the changes outside metadata and status.
    pub has_generation: bool,
    /// The fields, as the keys that lead to them, whose change alone only says that somebody is still there. Such a write need not
    /// survive a crash: the next one is on its way.
    pub heartbeat: &'static [&'static [&'static str]],
    /// The columns of its table.
    pub columns: Vec<Column>,
    /// How a row of the table is made.
    pub row: Row,
    /// The fields of field selectors, beside metadata.name and metadata.namespace.
    pub selectable_fields: Vec<SelectableField>,
    /// Which names objects may have.
    pub name_rule: NameRule,
    /// Defaulting and validation.
    pub rules: Rules,
    /// What clients are warned of with every request, because this kind or version will go.
    pub deprecation: Option<String>,
    /// What does not happen to objects of this kind, because nothing in this program attends to them; clients are warned of it when they
    /// create one. `None` for kinds that are attended to.
    pub unattended: Option<String>,
    /// The structure of a custom resource; built-in kinds have theirs in [`crate::schema::builtin`].
    pub schema: Option<Arc<Schema>>,
    /// Whether the row comes from a CustomResourceDefinition.
    pub custom: bool,
    /// What replacements and deletions do.
    pub writing: Writing,
}

impl Resource {
    /// Returns `group/version`, or the version alone in core.
    pub fn api_version(&self) -> String {
        join_group(&self.group, &self.version)
    }

    /// Returns the apiVersion that objects are stored with.
    pub fn storage_api_version(&self) -> String {
        join_group(&self.storage_group, &self.storage_version)
    }

    /// Turns an object of this row into the form that is stored.
    pub fn to_stored(&self, object: &mut Value) {
        let stored = self.storage_api_version();
        if meta::api_version(object) == stored {
            return;
        }
        if let Some(conversion) = &self.conversion {
            (conversion.to_stored)(object);
        }
        meta::map_of(object).insert("apiVersion".into(), stored.into());
    }

    /// Turns an object as it is stored into the form of this row; one that has it already stays as it is.
    pub fn from_stored(&self, object: &mut Value) {
        let own = self.api_version();
        if meta::api_version(object) == own {
            return;
        }
        if let Some(conversion) = &self.conversion {
            (conversion.from_stored)(object);
        }
        meta::map_of(object).insert("apiVersion".into(), own.into());
    }

    /// Returns whether objects of two rows are the same stored objects.
    pub fn shares_objects_with(&self, other: &Resource) -> bool {
        self.storage_group == other.storage_group && self.plural == other.plural
    }

    /// Returns the start of the keys of all its objects, without a slash at the end: `core/pods`.
    pub fn storage_prefix(&self) -> String {
        let group = match self.storage_group.as_str() {
            "" => "core",
            group => group,
        };
        format!("{group}/{}", self.plural)
    }

    /// Returns the key of one object; the namespace of a cluster-scoped one is not looked at.
    pub fn storage_key(&self, namespace: &str, name: &str) -> String {
        let namespace = if self.namespaced { namespace } else { "-" };
        format!("{}/{namespace}/{name}", self.storage_prefix())
    }

    /// Returns the resource as messages name it: `deployments.apps`.
    pub fn qualified(&self) -> String {
        crate::status::qualified(&self.plural, &self.group)
    }

    /// Returns whether the resource has a verb.
    pub fn allows(&self, verb: &str) -> bool {
        self.verbs.contains(&verb)
    }

    /// Returns a subresource by its name.
    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|sub| sub.name == name)
    }

    /// Returns where the replicas are, if it can be scaled.
    pub fn scale(&self) -> Option<&ScalePaths> {
        self.subresources.iter().find_map(|sub| match &sub.action {
            SubresourceAction::Scale(paths) => Some(paths),
            _ => None,
        })
    }

    /// Fills in what the client left out: by the kind's function, and by the schema of a custom resource.
    pub fn default(&self, object: &mut Value) {
        (self.rules.default)(object);
        if let Some(schema) = &self.schema {
            schema.default(object);
        }
    }

    /// Returns everything that is wrong with a new object.
    pub fn validate_create(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = crate::validate::metadata::create(self, object);
        errors.extend((self.rules.validate_create)(object));
        if let Some(schema) = &self.schema {
            errors.extend(schema.validate(object));
        }
        errors
    }

    /// Returns everything that is wrong with the change of an object.
    pub fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = crate::validate::metadata::update(self, new, old);
        errors.extend((self.rules.validate_update)(new, old));
        if let Some(schema) = &self.schema {
            errors.extend(schema.validate_update(new, old));
        }
        errors
    }

    /// Returns everything that is wrong with a change through the status subresource.
    pub fn validate_status(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = crate::validate::metadata::update(self, new, old);
        errors.extend((self.rules.validate_status)(new, old));
        if let Some(schema) = &self.schema {
            errors.extend(schema.validate_update(new, old));
        }
        errors
    }
}

impl Resource {
    /// Returns everything that is wrong with a change through a path of its own.
    pub fn validate_part(&self, part: &Part, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = crate::validate::metadata::update(self, new, old);
        errors.extend((part.validate)(new, old));
        errors
    }
}

fn join_group(group: &str, version: &str) -> String {
    if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    }
}

type Key = (String, String, String);

#[derive(Default)]
struct Rows {
    by_resource: BTreeMap<Key, Arc<Resource>>,
    by_kind: BTreeMap<Key, Arc<Resource>>,
    ordered: Vec<Arc<Resource>>,
    /// Per CustomResourceDefinition's name, the rows that it made.
    custom: BTreeMap<String, Vec<Arc<Resource>>>,
    generation: u64,
}

impl Rows {
    fn index(&mut self, builtin: impl IntoIterator<Item = Arc<Resource>>) {
        let custom = self.custom.values().flatten().cloned();
        self.ordered = builtin.into_iter().chain(custom).collect();
        self.by_resource.clear();
        self.by_kind.clear();
        for row in &self.ordered {
            let key = |last: &str| (row.group.clone(), row.version.clone(), last.to_owned());
            self.by_resource.entry(key(&row.plural)).or_insert_with(|| row.clone());
            self.by_kind.entry(key(&row.kind)).or_insert_with(|| row.clone());
        }
        self.generation += 1;
    }
}

/// All kinds that are served at this moment. Clones share their rows.
#[derive(Clone)]
pub struct Scheme {
    rows: Arc<RwLock<Rows>>,
}

impl std::fmt::Debug for Scheme {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scheme")
            .field("rows", &self.read(|rows| rows.ordered.len()))
            .finish()
    }
}

impl Default for Scheme {
    fn default() -> Scheme {
        Scheme::builtin()
    }
}

impl Scheme {
    /// Makes the scheme of the built-in kinds.
    pub fn builtin() -> Scheme {
        let mut rows = Rows::default();
        rows.index(builtin::rows().into_iter().map(Arc::new));
        Scheme {
            rows: Arc::new(RwLock::new(rows)),
        }
    }

    fn read<T>(&self, with: impl FnOnce(&Rows) -> T) -> T {
        // A panic cannot leave the rows half written: they are indexed from values that are complete.
        with(&self.rows.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns the row of `group/version/resource`.
    pub fn get(&self, group: &str, version: &str, plural: &str) -> Option<Arc<Resource>> {
        let key = (group.to_owned(), version.to_owned(), plural.to_owned());
        self.read(|rows| rows.by_resource.get(&key).cloned())
    }

    /// Returns the row of a kind.
    pub fn by_kind(&self, group: &str, version: &str, kind: &str) -> Option<Arc<Resource>> {
        let key = (group.to_owned(), version.to_owned(), kind.to_owned());
        self.read(|rows| rows.by_kind.get(&key).cloned())
    }

    /// Returns the row of an object's apiVersion and kind.
    pub fn for_object(&self, object: &Value) -> Option<Arc<Resource>> {
        let (group, version) = meta::group_version(meta::api_version(object));
        self.by_kind(group, version, meta::kind(object))
    }

    /// Returns the first row of a resource, whatever its version.
    pub fn any_version(&self, group: &str, plural: &str) -> Option<Arc<Resource>> {
        self.read(|rows| {
            rows.ordered
                .iter()
                .find(|row| row.group == group && row.plural == plural)
                .cloned()
        })
    }

    /// Returns all rows: the built-in ones in their order, then those of definitions by name.
    pub fn resources(&self) -> Vec<Arc<Resource>> {
        self.read(|rows| rows.ordered.clone())
    }

    /// Returns a number that grows with every change of the rows.
    pub fn generation(&self) -> u64 {
        self.read(|rows| rows.generation)
    }

    /// Puts the rows of a CustomResourceDefinition in place of those that it had.
    pub fn set_custom(&self, definition: &str, resources: Vec<Resource>) {
        let new = resources.into_iter().map(Arc::new).collect();
        self.change(|custom| {
            custom.insert(definition.to_owned(), new);
        });
    }

    /// Takes the rows of a CustomResourceDefinition out.
    pub fn remove_custom(&self, definition: &str) {
        self.change(|custom| {
            custom.remove(definition);
        });
    }

    fn change(&self, with: impl FnOnce(&mut BTreeMap<String, Vec<Arc<Resource>>>)) {
        let mut rows = self.rows.write().unwrap_or_else(PoisonError::into_inner);
        with(&mut rows.custom);
        let builtin: Vec<_> = rows.ordered.iter().filter(|row| !row.custom).cloned().collect();
        rows.index(builtin);
    }
}
