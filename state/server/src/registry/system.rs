//! Writes that the server makes on its own.

use std::sync::Arc;

use serde_json::Value;
use setpoint_api::{Resource, Status, meta};

use super::Registry;
use super::bookkeeping::Target;
use super::call::Call;
use super::delete::{self, DeleteOptions};
use super::update::{self, Candidate};
use crate::request::{RequestInfo, UserInfo};

/// A request of the server to itself.
pub(super) fn info(row: &Resource, verb: &str, namespace: &str, name: &str) -> RequestInfo {
    RequestInfo {
        verb: verb.to_owned(),
        group: row.group.clone(),
        version: row.version.clone(),
        resource: row.plural.clone(),
        namespace: (!namespace.is_empty()).then(|| namespace.to_owned()),
        name: (!name.is_empty()).then(|| name.to_owned()),
        is_resource: true,
        ..RequestInfo::default()
    }
}

/// What the server's own writes are managed by.
const SERVER: &str = "setpoint";

/// The headers of the server's own requests.
pub(super) fn headers() -> http::HeaderMap {
    headers_of(SERVER)
}

fn headers_of(manager: &'static str) -> http::HeaderMap {
    let mut headers = http::HeaderMap::new();
    headers.insert(http::header::USER_AGENT, http::HeaderValue::from_static(manager));
    headers
}

pub(super) fn row_of(registry: &Registry, object: &Value) -> Result<Arc<Resource>, Status> {
    registry.inner.scheme.for_object(object).ok_or_else(|| {
        Status::bad_request(format!(
            "no kind {} in {} is served",
            meta::kind(object),
            meta::api_version(object)
        ))
    })
}

/// Creates an object unless it is there.
pub(super) async fn create_if_absent(registry: &Registry, object: Value) -> Result<bool, Status> {
    let row = row_of(registry, &object)?;
    let namespace = if row.namespaced { meta::namespace(&object) } else { "" };
    if registry
        .inner
        .cache
        .get(&row.storage_prefix(), namespace, meta::name(&object))
        .is_some()
    {
        return Ok(false);
    }
    let (info, user, headers) = (
        info(&row, "create", namespace, ""),
        UserInfo::system("apiserver"),
        headers(),
    );
    let mut call = Call::new(registry, &info, &user, &headers)?;
    match super::create::insert(&mut call, object, false).await {
        Ok(_) => Ok(true),
        Err(status) if status.reason == "AlreadyExists" => Ok(false),
        Err(status) => Err(status),
    }
}

/// Makes an object that exists say what this one says outside its metadata.
pub(crate) async fn correct(registry: &Registry, wanted: &Value) -> Result<(), Status> {
    let row = row_of(registry, wanted)?;
    let namespace = if row.namespaced { meta::namespace(wanted) } else { "" };
    let (info, user, headers) = (
        info(&row, "update", namespace, meta::name(wanted)),
        UserInfo::system("apiserver"),
        headers(),
    );
    let mut call = Call::new(registry, &info, &user, &headers)?;
    update::change(&mut call, Target::Main, &mut |_, old| {
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
    let row = row_of(registry, object)?;
    let namespace = if row.namespaced { meta::namespace(object) } else { "" };
    let (info, user, headers) = (
        info(&row, "update", namespace, meta::name(object)),
        UserInfo::system("apiserver"),
        headers_of(manager),
    );
    let mut call = Call::new(registry, &info, &user, &headers)?;
    update::change(&mut call, Target::Main, &mut |_, old| Ok(Candidate::new(change(old))))
        .await
        .map(|_| ())
}

/// Deletes an object in the background; one that is gone is fine.
pub(crate) async fn delete_object(registry: &Registry, object: &Value) -> Result<(), Status> {
    let row = row_of(registry, object)?;
    let namespace = if row.namespaced { meta::namespace(object) } else { "" };
    delete_as_system(registry, &row, namespace, meta::name(object)).await
}

/// Changes the status of an object by its name. `change` is given the object as it is, and called again when another write came between.
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
    let (mut info, user, headers) = (
        info(&row, "update", namespace, name),
        UserInfo::system("apiserver"),
        headers(),
    );
    "status".clone_into(&mut info.subresource);
    let mut call = Call::new(registry, &info, &user, &headers)?;
    call.dry_run = dry_run;
    update::change(&mut call, Target::Status, &mut |_, old| {
        change_object(old).map(Candidate::new)
    })
    .await
    .map(|_| ())
}

/// Deletes an object in the background; one that is gone is fine.
pub(crate) async fn delete_as_system(
    registry: &Registry,
    row: &Resource,
    namespace: &str,
    name: &str,
) -> Result<(), Status> {
    let (info, user, headers) = (
        info(row, "delete", namespace, name),
        UserInfo::system("apiserver"),
        headers(),
    );
    let mut call = Call::new(registry, &info, &user, &headers)?;
    match delete::run(&mut call, &DeleteOptions::default()).await {
        Err(status) if status.reason == "NotFound" => Ok(()),
        outcome => outcome.map(|_| ()),
    }
}

/// Takes a finalizer off an object; with the last one an object that was asked to go goes.
pub(crate) async fn release(registry: &Registry, object: &Value, finalizer: &str) -> Result<(), Status> {
    let row = row_of(registry, object)?;
    let namespace = if row.namespaced { meta::namespace(object) } else { "" };
    let (info, user, headers) = (
        info(&row, "update", namespace, meta::name(object)),
        UserInfo::system("apiserver"),
        headers(),
    );
    let mut call = Call::new(registry, &info, &user, &headers)?;
    let outcome = update::change(&mut call, Target::Whole("finalize"), &mut |_, old| {
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
    match outcome {
        Err(status) if status.reason == "NotFound" => Ok(()),
        outcome => outcome.map(|_| ()),
    }
}
