//! The trees of the built-in kinds, made from the generated types when first asked for.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use schemars::JsonSchema;
use schemars::generate::{SchemaGenerator, SchemaSettings};
use serde_json::Value;

use super::extensions::{Facts, Table, short_name};
use super::{Field, Format, Link, List, ListKey, ListMerge, Map, Object, Patch, Schema, Type};
use crate::protobuf;

/// A built-in kind whose structure is known.
pub(crate) struct Kind {
    pub group: &'static str,
    pub version: &'static str,
    pub kind: &'static str,
    /// Adds the definition and all that it needs to a generator.
    pub generate: fn(&mut SchemaGenerator),
    /// The definition's name: `io.k8s.api.core.v1.Pod`.
    pub definition: fn() -> String,
}

macro_rules! kinds {
    ($($group:literal $version:literal $path:path { $($kind:ident),* $(,)? })*) => {
        &[$($(Kind {
            group: $group,
            version: $version,
            kind: stringify!($kind),
            generate: |generator| {
                use $path as types;
                generator.subschema_for::<types::$kind>();
            },
            definition: || {
                use $path as types;
                types::$kind::schema_name().into_owned()
            },
        },)*)*]
    };
}

static KINDS: &[Kind] = kinds! {
    "" "v1" k8s_openapi::api::core::v1 {
        Binding, ComponentStatus, ConfigMap, Endpoints, Event, LimitRange, Namespace, Node, PersistentVolume,
        PersistentVolumeClaim, Pod, PodTemplate, ReplicationController, ResourceQuota, Secret, Service, ServiceAccount,
    }
    "" "v1" k8s_openapi::apimachinery::pkg::apis::meta::v1 { DeleteOptions, Status }
    "admissionregistration.k8s.io" "v1" k8s_openapi::api::admissionregistration::v1 {
        MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding, MutatingWebhookConfiguration, ValidatingAdmissionPolicy,
        ValidatingAdmissionPolicyBinding, ValidatingWebhookConfiguration,
    }
    "apiextensions.k8s.io" "v1" k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1 { CustomResourceDefinition }
    "apiregistration.k8s.io" "v1" k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1 { APIService }
    "apps" "v1" k8s_openapi::api::apps::v1 { ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet }
    "authentication.k8s.io" "v1" k8s_openapi::api::authentication::v1 { SelfSubjectReview, TokenRequest, TokenReview }
    "authorization.k8s.io" "v1" k8s_openapi::api::authorization::v1 {
        LocalSubjectAccessReview, SelfSubjectAccessReview, SelfSubjectRulesReview, SubjectAccessReview,
    }
    "autoscaling" "v1" k8s_openapi::api::autoscaling::v1 { HorizontalPodAutoscaler, Scale }
    "autoscaling" "v2" k8s_openapi::api::autoscaling::v2 { HorizontalPodAutoscaler }
    "batch" "v1" k8s_openapi::api::batch::v1 { CronJob, Job }
    "certificates.k8s.io" "v1" k8s_openapi::api::certificates::v1 { CertificateSigningRequest, ClusterTrustBundle, PodCertificateRequest }
    "coordination.k8s.io" "v1" k8s_openapi::api::coordination::v1 { Lease }
    "discovery.k8s.io" "v1" k8s_openapi::api::discovery::v1 { EndpointSlice }
    "events.k8s.io" "v1" k8s_openapi::api::events::v1 { Event }
    "flowcontrol.apiserver.k8s.io" "v1" k8s_openapi::api::flowcontrol::v1 { FlowSchema, PriorityLevelConfiguration }
    "metrics.k8s.io" "v1beta1" crate::metrics { NodeMetrics, PodMetrics }
    "networking.k8s.io" "v1" k8s_openapi::api::networking::v1 { Ingress, IngressClass, IPAddress, NetworkPolicy, ServiceCIDR }
    "node.k8s.io" "v1" k8s_openapi::api::node::v1 { RuntimeClass }
    "policy" "v1" k8s_openapi::api::policy::v1 { Eviction, PodDisruptionBudget }
    "rbac.authorization.k8s.io" "v1" k8s_openapi::api::rbac::v1 { ClusterRole, ClusterRoleBinding, Role, RoleBinding }
    "scheduling.k8s.io" "v1" k8s_openapi::api::scheduling::v1 { PriorityClass }
    "storage.k8s.io" "v1" k8s_openapi::api::storage::v1 {
        CSIDriver, CSINode, CSIStorageCapacity, StorageClass, VolumeAttachment, VolumeAttributesClass,
    }
};

/// The built-in kinds whose structure is known.
pub(crate) fn kinds() -> &'static [Kind] {
    KINDS
}

/// Makes the JSON schemas of some kinds and of all definitions that they use, by definition name.
pub(crate) fn generate<'a>(kinds: impl IntoIterator<Item = &'a Kind>) -> serde_json::Map<String, Value> {
    let mut generator = SchemaSettings::openapi3().into_generator();
    for kind in kinds {
        (kind.generate)(&mut generator);
    }
    generator.take_definitions(true)
}

type Cell = Arc<OnceLock<Arc<Schema>>>;

/// The definitions that were reduced so far; what is in here was used by some kind, and stays.
static DEFINITIONS: OnceLock<RwLock<HashMap<Box<str>, Cell>>> = OnceLock::new();

/// Returns the structure of a built-in kind.
pub fn builtin(group: &str, version: &str, kind: &str) -> Option<Arc<Schema>> {
    let found = KINDS
        .iter()
        .find(|row| row.group == group && row.version == version && row.kind == kind)?;
    let name = (found.definition)();
    let cells = DEFINITIONS.get_or_init(RwLock::default);
    {
        let cells = cells.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(schema) = cells.get(&*name).and_then(|cell| cell.get()) {
            return Some(schema.clone());
        }
    }
    let definitions = generate([found]);
    // Cells are added before they are filled, so the map is never wrong, whatever happens in between.
    let mut cells = cells.write().unwrap_or_else(PoisonError::into_inner);
    let mut reducer = Reducer {
        table: Table::read(),
        cells: &mut cells,
    };
    for (name, definition) in &definitions {
        let cell = reducer.cell(name);
        if cell.get().is_none() {
            let schema = Arc::new(reducer.definition(name, definition));
            // Another thread cannot have filled it: this one holds the lock. An equal tree would do no harm either.
            cell.get_or_init(|| schema);
        }
    }
    cells.get(&*name).and_then(|cell| cell.get()).cloned()
}

/// Returns the structure of `metadata`.
pub(super) fn object_meta() -> Link {
    let pod = builtin("", "v1", "ConfigMap");
    let metadata = pod
        .as_ref()
        .and_then(|schema| schema.below("metadata").and_then(|below| below.field.cloned()));
    metadata.map_or_else(|| Link::new(Schema::any().clone()), |field| field.schema)
}

struct Reducer<'a> {
    table: Table,
    cells: &'a mut HashMap<Box<str>, Cell>,
}

impl Reducer<'_> {
    fn cell(&mut self, name: &str) -> Cell {
        if let Some(cell) = self.cells.get(name) {
            return cell.clone();
        }
        let cell = Cell::default();
        self.cells.insert(name.into(), cell.clone());
        cell
    }

    fn definition(&mut self, name: &str, schema: &Value) -> Schema {
        let short = short_name(name);
        match short {
            "api.resource.Quantity" => return Schema::of(Type::Quantity),
            "util.intstr.IntOrString" => return Schema::of(Type::IntOrString),
            "meta.v1.Time" => return Schema::of(Type::String(Format::DateTime)),
            "meta.v1.MicroTime" => return Schema::of(Type::String(Format::MicroTime)),
            "runtime.RawExtension"
            | "apiextensions.v1.JSON"
            | "apiextensions.v1.JSONSchemaPropsOrArray"
            | "apiextensions.v1.JSONSchemaPropsOrBool"
            | "apiextensions.v1.JSONSchemaPropsOrStringArray"
            | "meta.v1.Patch" => return anything(),
            "meta.v1.FieldsV1" => {
                return Schema {
                    nullable: false,
                    ..super::OPAQUE.clone()
                };
            }
            _ => {}
        }
        if schema.get("properties").is_none() && schema.get("type").is_some_and(|kind| kind == "object") {
            // A struct without fields, not an object with any.
            return Schema::of(Type::Object(Object {
                name: go_name(name),
                ..Object::default()
            }));
        }
        let mut out = self.reduce(name, schema, Facts::default());
        if let Type::Object(object) = &mut out.kind {
            object.name = go_name(name);
            object.atomic = self.table.facts(name, "-").map_type == "atomic";
        }
        out
    }

    fn link(&mut self, owner: &str, schema: &Value, facts: Facts) -> Link {
        let reference =
            schema.get("$ref").or_else(
                || match schema.get("allOf").and_then(Value::as_array).map(Vec::as_slice) {
                    Some([only]) => only.get("$ref"),
                    _ => None,
                },
            );
        if let Some(name) = reference
            .and_then(Value::as_str)
            .and_then(|path| path.rsplit('/').next())
        {
            return Link::Named(self.cell(name));
        }
        Link::new(self.reduce(owner, schema, facts))
    }

    fn reduce(&mut self, owner: &str, schema: &Value, facts: Facts) -> Schema {
        if schema.get("x-kubernetes-int-or-string").is_some() {
            return Schema::of(Type::IntOrString);
        }
        let format = schema.get("format").and_then(Value::as_str).unwrap_or_default();
        let kind = match schema.get("type").and_then(Value::as_str).unwrap_or_default() {
            "string" => Type::String(match format {
                "byte" => Format::Byte,
                "date-time" => Format::DateTime,
                _ => Format::Text,
            }),
            "integer" => Type::Integer(if format == "int32" { 32 } else { 64 }),
            "number" => Type::Number,
            "boolean" => Type::Boolean,
            "array" => {
                let items = schema.get("items").unwrap_or(&Value::Null);
                let merge = match facts.list_type {
                    "set" => ListMerge::Set,
                    "map" => ListMerge::Keys(facts.list_keys.split(',').map(list_key).collect()),
                    _ => ListMerge::Atomic,
                };
                Type::List(List {
                    items: self.link(owner, items, Facts::default()),
                    merge,
                })
            }
            "object" => match (
                schema.get("properties").and_then(Value::as_object),
                schema.get("additionalProperties"),
            ) {
                (Some(properties), _) => Type::Object(self.object(owner, properties, schema.get("required"))),
                (None, Some(values)) => Type::Map(Map {
                    values: self.link(owner, values, Facts::default()),
                    atomic: facts.map_type == "atomic",
                }),
                (None, None) => return anything(),
            },
            _ => return anything(),
        };
        Schema::of(kind)
    }

    fn object(&mut self, owner: &str, properties: &serde_json::Map<String, Value>, required: Option<&Value>) -> Object {
        let required: Vec<&str> = required
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let messages = protobuf::Table::get();
        let message = message_of(owner);
        let described = messages.contains(&message);
        let mut fields: Vec<Field> = Vec::with_capacity(properties.len());
        for (name, schema) in properties {
            let facts = self.table.facts(owner, name);
            let wire = messages.field_named(&message, name);
            let strategies: Vec<&str> = facts.patch_strategy.split(',').collect();
            fields.push(Field {
                name: name.as_str().into(),
                schema: self.link(owner, schema, facts),
                required: required.contains(&name.as_str()),
                patch: Patch {
                    merge: strategies.contains(&"merge"),
                    replace: strategies.contains(&"replace"),
                    retain_keys: strategies.contains(&"retainKeys"),
                    merge_key: (!facts.patch_key.is_empty()).then(|| facts.patch_key.into()),
                },
                atomic: (!facts.map_type.is_empty()).then_some(facts.map_type == "atomic"),
                by_value: match wire {
                    Some(wire) => wire.is_struct_by_value(),
                    None => !described && BY_VALUE.contains(&name.as_str()),
                },
                omits_zero: wire.is_some_and(|wire| !wire.keep),
            });
        }
        fields.sort_by(|a, b| a.name.cmp(&b.name));
        Object {
            name: Box::default(),
            fields: fields.into(),
            atomic: false,
            untyped: false,
        }
    }
}

/// Anything, of which a null says as much as its absence.
fn anything() -> Schema {
    Schema {
        nullable: false,
        ..Schema::any().clone()
    }
}

/// Fields whose structs Go holds by value, in types that the table of messages does not have. Their being there says nothing,
/// so nobody comes to own it.
const BY_VALUE: &[&str] = &[
    "metadata",
    "spec",
    "status",
    "template",
    "strategy",
    "updateStrategy",
    "resources",
    "jobTemplate",
    "involvedObject",
    "roleRef",
];

/// The message of a definition: `core.PodSpec` of `io.k8s.api.core.v1.PodSpec`.
fn message_of(definition: &str) -> String {
    let short = short_name(definition);
    match (short.split_once('.'), short.rsplit_once('.')) {
        (Some((group, _)), Some((_, kind))) => format!("{group}.{kind}"),
        _ => short.to_owned(),
    }
}

fn list_key(name: &str) -> ListKey {
    // The one key with a default in all built-in types.
    let default = (name == "protocol").then(|| Value::from("TCP"));
    ListKey {
        name: name.into(),
        default,
    }
}

/// `io.k8s.api.core.v1.PodSpec` as Go prints it: `v1.PodSpec`.
fn go_name(definition: &str) -> Box<str> {
    let mut parts = definition.rsplit('.');
    let (kind, version) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    format!("{version}.{kind}").into()
}
