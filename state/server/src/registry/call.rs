//! One request on its way: what it is about, what its query says, and the warnings it has earned.

use std::sync::Arc;

use http::HeaderMap;
use http::header::USER_AGENT;
use jiff::Timestamp;
use setpoint_api::scheme::Subresource;
use setpoint_api::validate::field::FieldError;
use setpoint_api::{Resource, Status, apply};

use super::write_options::write_options;
use super::{Inner, Registry};
use crate::audit::Annotations;
use crate::body::{Accept, FieldValidation};
use crate::cache::{Stored, object_key};
use crate::request::{RequestInfo, UserInfo};

/// Whether the sender of a request that only changes an object may make it, too, where it is absent.
pub(crate) type MayCreate<'a> = &'a (dyn Fn() -> Result<(), Status> + Sync);

pub(crate) struct Call<'a> {
    pub(crate) registry: &'a Registry,
    pub(crate) info: &'a RequestInfo,
    pub(crate) user: &'a UserInfo,
    pub(crate) headers: &'a HeaderMap,
    /// The row in the version asked for.
    pub(crate) row: Arc<Resource>,
    /// The kind in cache and log: `apps/deployments`.
    pub(crate) resource: String,
    /// The namespace; empty for cluster-scoped kinds and for all namespaces.
    pub(crate) namespace: String,
    /// The name; empty for requests on the collection.
    pub(crate) name: String,
    pub(crate) accept: Accept,
    pub(crate) dry_run: bool,
    pub(crate) validation: FieldValidation,
    pub(crate) warnings: Vec<String>,
    /// What the audit log is to say of the request.
    pub(crate) annotations: Arc<Annotations>,
    /// Asked before an update or an apply makes an object; what the server does on its own may.
    pub(crate) may_create: MayCreate<'a>,
}

/// Whether a request is about this namespace itself.
fn is_namespace(info: &RequestInfo, namespace: &str) -> bool {
    info.group.is_empty() && info.resource == "namespaces" && info.name.as_deref() == Some(namespace)
}

impl<'a> Call<'a> {
    pub(crate) fn new(
        registry: &'a Registry,
        info: &'a RequestInfo,
        user: &'a UserInfo,
        headers: &'a HeaderMap,
    ) -> Result<Call<'a>, Status> {
        let row = registry
            .inner
            .scheme
            .get(&info.group, &info.version, &info.resource)
            .ok_or_else(Status::no_such_resource)?;
        let namespace = match &info.namespace {
            Some(namespace) if row.namespaced => namespace.clone(),
            // `namespaces/x` names x as its own namespace. Any other path to what is cluster-wide below a namespace is none of ours:
            // it was authorized with the rights in that namespace.
            Some(namespace) if !is_namespace(info, namespace) => return Err(Status::no_such_resource()),
            _ => String::new(),
        };
        let name = info.name.clone().unwrap_or_default();
        if row.namespaced && namespace.is_empty() {
            match info.verb.as_str() {
                "list" | "watch" => {}
                // Across namespaces things are read only.
                "create" | "deletecollection" => {
                    return Err(not_supported(&row, info));
                }
                _ => return Err(Status::no_such_resource()),
            }
        }
        let query = &info.query;
        let mut call = Call {
            registry,
            info,
            user,
            headers,
            resource: row.storage_prefix(),
            row,
            namespace,
            name,
            accept: Accept::read(headers, query)?,
            dry_run: false,
            validation: FieldValidation::Warn,
            warnings: Vec::new(),
            annotations: Arc::default(),
            may_create: &|| Ok(()),
        };
        call.warnings.extend(call.row.deprecation.clone());
        if matches!(info.verb.as_str(), "create" | "update" | "patch") {
            (call.dry_run, call.validation) = write_options(query, call.options_kind())?;
        }
        Ok(call)
    }

    /// The kind of the options of this verb, as messages name it.
    pub(crate) fn options_kind(&self) -> &'static str {
        match self.info.verb.as_str() {
            "create" => "CreateOptions",
            "update" => "UpdateOptions",
            "patch" => "PatchOptions",
            "list" | "watch" => "ListOptions",
            _ => "DeleteOptions",
        }
    }

    pub(crate) fn inner(&self) -> &'a Inner {
        &self.registry.inner
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.inner().now()
    }

    /// The manager that owns the fields written by this request.
    pub(crate) fn manager(&self) -> String {
        match self.info.query.non_empty("fieldManager") {
            Some(manager) => manager.to_owned(),
            None => {
                let agent = self
                    .headers
                    .get(USER_AGENT)
                    .and_then(|value| value.to_str().ok())
                    .unwrap_or_default();
                apply::manager_from_user_agent(agent)
            }
        }
    }

    /// The object that the path names.
    pub(crate) fn stored(&self) -> Result<Arc<Stored>, Status> {
        self.inner()
            .cache
            .get(&self.resource, &self.namespace, &self.name)
            .ok_or_else(|| self.not_found())
    }

    /// The log's key of the object that the path names.
    pub(crate) fn log_key(&self) -> String {
        format!("{}/{}", self.resource, object_key(&self.namespace, &self.name))
    }

    /// The subresource that the path names.
    pub(crate) fn sub(&self) -> Result<Subresource, Status> {
        let found = self.row.subresource(&self.info.subresource);
        found.cloned().ok_or_else(Status::no_such_resource)
    }

    pub(crate) fn not_found(&self) -> Status {
        Status::not_found(&self.row.group, &self.row.plural, &self.name)
    }

    pub(crate) fn modified(&self) -> Status {
        Status::modified(&self.row.group, &self.row.plural, &self.name)
    }

    pub(crate) fn conflict(&self, why: &str) -> Status {
        Status::conflict(&self.row.group, &self.row.plural, &self.name, why)
    }

    pub(crate) fn invalid(&self, errors: &[FieldError]) -> Status {
        Status::invalid(&self.row.group, &self.row.kind, &self.name, errors)
    }

    pub(crate) fn not_supported(&self) -> Status {
        not_supported(&self.row, self.info)
    }

    /// Where the one object is that a selection can be of: its namespace, "" for cluster-scoped kinds; `None` where it can be in several.
    pub(crate) fn home(&self) -> Option<&str> {
        if self.row.namespaced { self.scope() } else { Some("") }
    }

    /// The namespace that a list or watch is of; `None` for all.
    pub(crate) fn scope(&self) -> Option<&str> {
        (self.row.namespaced && !self.namespace.is_empty()).then_some(self.namespace.as_str())
    }
}

/// The refusal of a verb: custom resources name it, the routes of built-in ones do not. The route of a list is there when what is listed
/// cannot be watched.
fn not_supported(row: &Resource, info: &RequestInfo) -> Status {
    let listed = info.verb == "watch" && info.subresource.is_empty() && row.allows("list");
    if row.custom || listed {
        Status::method_not_supported(&row.group, &info.resource, &info.verb)
    } else {
        Status::method_not_allowed()
    }
}
