//! Writes that the server makes on its own.

use std::sync::Arc;

use http::header::USER_AGENT;
use http::{HeaderMap, HeaderValue};
use serde_json::Value;
use setpoint_api::{Resource, Status, meta};

use super::Registry;
use super::bookkeeping::Target;
use super::call::Call;
use super::delete::{self, DeleteOptions};
use super::update::{self, Candidate};
use crate::request::{RequestInfo, UserInfo};

/// What the server's own writes are managed by, unless they are another's.
const SERVER: &str = "setpoint";

/// A request of the server to itself.
struct Own {
    info: RequestInfo,
    user: UserInfo,
    headers: HeaderMap,
}

impl Own {
    fn new(row: &Resource, verb: &str, namespace: &str, name: &str) -> Own {
        Own {
            info: RequestInfo {
                verb: verb.to_owned(),
                group: row.group.clone(),
                version: row.version.clone(),
                resource: row.plural.clone(),
                namespace: (!namespace.is_empty()).then(|| namespace.to_owned()),
                name: (!name.is_empty()).then(|| name.to_owned()),
                is_resource: true,
                ..RequestInfo::default()
            },
            user: UserInfo::system("apiserver"),
            headers: HeaderMap::from_iter([(USER_AGENT, HeaderValue::from_static(SERVER))]),
        }
    }

    /// A request about an object that is there.
    fn about(registry: &Registry, verb: &str, object: &Value) -> Result<Own, Status> {
        let row = row_of(registry, object)?;
        let namespace = if row.namespaced { meta::namespace(object) } else { "" };
        Ok(Own::new(&row, verb, namespace, meta::name(object)))
    }

    fn call<'a>(&'a self, registry: &'a Registry) -> Result<Call<'a>, Status> {
        Call::new(registry, &self.info, &self.user, &self.headers)
    }
}

fn row_of(registry: &Registry, object: &Value) -> Result<Arc<Resource>, Status> {
    registry.inner.scheme.for_object(object).ok_or_else(|| {
        Status::bad_request(format!(
            "no kind {} in {} is served",
            meta::kind(object),
            meta::api_version(object)
        ))
    })
}

/// What is gone needs no more of the server.
fn unless_gone<T>(outcome: Result<T, Status>) -> Result<(), Status> {
    match outcome {
        Err(status) if status.reason == "NotFound" => Ok(()),
        outcome => outcome.map(|_| ()),
    }
}

/// Creates an object unless it is there.
pub(super) async fn create_if_absent(registry: &Registry, object: Value) -> Result<bool, Status> {
    let row = row_of(registry, &object)?;
    let namespace = if row.namespaced { meta::namespace(&object) } else { "" };
    let there = registry
        .inner
        .cache
        .get(&row.storage_prefix(), namespace, meta::name(&object));
    if there.is_some() {
        return Ok(false);
    }
    let own = Own::new(&row, "create", namespace, "");
    match super::create::insert(&mut own.call(registry)?, object, false).await {
        Ok(_) => Ok(true),
        Err(status) if status.reason == "AlreadyExists" => Ok(false),
        Err(status) => Err(status),
    }
}

/// Makes an object that exists say what this one says outside its metadata.
pub(crate) async fn correct(registry: &Registry, wanted: &Value) -> Result<(), Status> {
    let own = Own::about(registry, "update", wanted)?;
    update::change(&mut own.call(registry)?, Target::Main, &mut |_, old| {
        let mut new = wanted.clone();
        if let Some(metadata) = old.get("metadata") {
            meta::map_of(&mut new).insert("metadata".into(), metadata.clone());
        }
        Ok(Candidate::owned(new))
    })
    .await
    .map(|_| ())
}

/// Changes an object that exists, as `manager`; `change` gets it as it is, and may be asked again.
pub(crate) async fn revise(
    registry: &Registry,
    object: &Value,
    manager: &'static str,
    change: &mut (dyn FnMut(&Value) -> Value + Send),
) -> Result<(), Status> {
    let mut own = Own::about(registry, "update", object)?;
    own.headers.insert(USER_AGENT, HeaderValue::from_static(manager));
    update::change(&mut own.call(registry)?, Target::Main, &mut |_, old| {
        Ok(Candidate::new(change(old)))
    })
    .await
    .map(|_| ())
}

/// Changes an object that is there, as it is by then; one of its name that is another by then, or none, is left alone.
pub(crate) async fn amend(
    registry: &Registry,
    object: &Value,
    with: impl Fn(&mut Value) + Send + Sync,
) -> Result<(), Status> {
    let own = Own::about(registry, "update", object)?;
    let changed = update::change(&mut own.call(registry)?, Target::Main, &mut |call, old| {
        if meta::uid(old) != meta::uid(object) {
            return Err(call.not_found());
        }
        let mut new = old.clone();
        with(&mut new);
        Ok(Candidate::new(new))
    })
    .await;
    unless_gone(changed)
}

/// Deletes an object in the background; one that is gone is fine.
pub(crate) async fn delete_object(registry: &Registry, object: &Value) -> Result<(), Status> {
    let own = Own::about(registry, "delete", object)?;
    unless_gone(delete::run(&mut own.call(registry)?, &DeleteOptions::default()).await)
}

/// Deletes an object by its name, in the background; one that is gone is fine.
pub(crate) async fn delete_as_system(
    registry: &Registry,
    row: &Resource,
    namespace: &str,
    name: &str,
) -> Result<(), Status> {
    let own = Own::new(row, "delete", namespace, name);
    unless_gone(delete::run(&mut own.call(registry)?, &DeleteOptions::default()).await)
}

/// Changes the status of an object by its name. `change` is given the object as it is, and called again when another write came
/// between.
pub(super) async fn change_status(
    registry: &Registry,
    (group, version, plural): (&str, &str, &str),
    (namespace, name): (&str, &str),
    dry_run: bool,
    change_object: &mut (dyn FnMut(&Value) -> Result<Value, Status> + Send),
) -> Result<(), Status> {
    let row = registry
        .inner
        .scheme
        .get(group, version, plural)
        .ok_or_else(Status::no_such_resource)?;
    let mut own = Own::new(&row, "update", namespace, name);
    "status".clone_into(&mut own.info.subresource);
    let mut call = own.call(registry)?;
    call.dry_run = dry_run;
    update::change(&mut call, Target::Status, &mut |_, old| {
        change_object(old).map(Candidate::new)
    })
    .await
    .map(|_| ())
}

/// Takes a finalizer off an object; with the last one an object that was asked to go goes.
pub(crate) async fn release(registry: &Registry, object: &Value, finalizer: &str) -> Result<(), Status> {
    let own = Own::about(registry, "update", object)?;
    let released = update::change(&mut own.call(registry)?, Target::Whole("finalize"), &mut |_, old| {
        let mut new = old.clone();
        let rest: Vec<Value> = meta::finalizers(old)
            .filter(|held| *held != finalizer)
            .map(Into::into)
            .collect();
        meta::set(
            &mut new,
            "finalizers",
            if rest.is_empty() { Value::Null } else { rest.into() },
        );
        Ok(Candidate::owned(new))
    })
    .await;
    unless_gone(released)
}
