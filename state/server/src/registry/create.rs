//! Making an object.

use axum::body::Body;
use jiff::Timestamp;
use rand::Rng;
use serde_json::Value;
use setpoint_api::status::Cause;
use setpoint_api::validate::metadata;
use setpoint_api::{Status, apply, meta, names, strategy};
use setpoint_store::Expect;

use super::answer::Answer;
use super::bookkeeping;
use super::call::Call;
use super::identity;
use super::owners as references;
use super::versions::ServedVersions;
use super::write::{WriteError, Written};
use crate::admission::{self, AdmissionRequest, Operation};
use crate::body;
use crate::strategy::Scene;

/// How often a generated name that is taken is generated anew.
const TRIES: usize = 8;

pub(super) async fn create(call: &mut Call<'_>, body: Body) -> Result<Answer, Status> {
    let media = body::media(call.headers)?;
    let bytes = body::read(body).await?;
    let mut object = body::object(&bytes, media, &call.row, call.validation, &mut call.warnings)?;
    references::drop_duplicates(&mut object, references::Found::InBody, &mut call.warnings);
    if !matches!(meta::resource_version(&object), "" | "0") {
        return Err(Status::bad_request(
            "resourceVersion should not be set on objects to be created",
        ));
    }
    let written = insert(call, object, false).await?;
    Ok(Answer::Written(written))
}

/// As [`insert`], for a request that was allowed to change the object: its sender must be allowed to make it, too.
pub(super) async fn insert_absent(call: &mut Call<'_>, object: Value, owned: bool) -> Result<Written, Status> {
    (call.may_create)()?;
    insert(call, object, owned).await
}

/// Writes a new object. With `owned` its managed fields say already who owns what (server-side apply); else all belongs to the
/// manager.
pub(super) async fn insert(call: &mut Call<'_>, object: Value, owned: bool) -> Result<Written, Status> {
    if let Some(what) = &call.row.unattended {
        call.warnings.push(what.clone());
    }
    let generate = meta::name(&object).is_empty() && !meta::generate_name(&object).is_empty();
    let mut tries = 0;
    loop {
        let name = if generate {
            generated(meta::generate_name(&object))
        } else {
            meta::name(&object).to_owned()
        };
        match attempt(call, object.clone(), &name, owned).await {
            Err(status) if generate && status.reason == "AlreadyExists" && tries < TRIES => tries += 1,
            outcome => return outcome,
        }
    }
}

/// Returns a name that begins with `base` and that nothing else is likely to have.
pub(crate) fn generated(base: &str) -> String {
    let mut random = rand::rng();
    names::generate(base, |below| random.random_range(0..below))
}

async fn attempt(call: &mut Call<'_>, mut object: Value, name: &str, owned: bool) -> Result<Written, Status> {
    let inner = call.inner();
    let row = call.row.clone();
    let now = inner.now();
    check_namespace(call, &object)?;
    name.clone_into(&mut call.name);
    if call.info.verb == "create" {
        call.annotations.creates(name);
    }
    let special = inner.strategies.of(&call.resource);
    let scene = Scene {
        cache: &inner.cache,
        scheme: &inner.scheme,
        now,
    };
    // What is given out once (addresses, ports) is given out under one lock, which lasts until the cache shows it.
    let _exclusive = match special.exclusive() {
        Some(lock) => Some(lock.lock().await),
        None => None,
    };
    let uid = uuid::Uuid::new_v4().to_string();
    row.default(&mut object);
    if !owned {
        // Before strategy and admission: what these add is nobody's.
        track(call, None, &mut object, "", now);
    }
    let given = bookkeeping::NewObject {
        namespace: &call.namespace,
        name,
        uid: &uid,
        now,
        keep_status: special.takes_status_on_create(),
    };
    bookkeeping::create(&row, &mut object, &given);
    special.create(&scene, &mut object, &mut call.warnings)?;
    let request = AdmissionRequest {
        operation: Operation::Create,
        resource: &row,
        subresource: None,
        user: call.user,
        old: None,
        dry_run: call.dry_run,
        cache: &inner.cache,
        annotations: &call.annotations,
    };
    admission::run(&inner.admission, &request, &mut object, &mut call.warnings)?;
    references::drop_duplicates(&mut object, references::Found::AfterAdmission, &mut call.warnings);
    let errors = row.validate_create(&object);
    if !errors.is_empty() {
        return Err(call.invalid(&errors));
    }
    admission::validate(&inner.admission, &request, &object, &mut call.warnings)?;
    call.warnings.extend(metadata::warnings(&row, &object, None));
    if call.dry_run {
        if inner.cache.get(&call.resource, &call.namespace, name).is_some() {
            return Err(Status::already_exists(&row.group, &row.plural, name));
        }
        return Ok(Written {
            value: object,
            revision: None,
            created: true,
        });
    }
    match inner.put(&row, &call.log_key(), &object, Expect::Absent).await {
        Ok(revision) => Ok(Written {
            value: object,
            revision: Some(revision),
            created: true,
        }),
        Err(WriteError::Conflict(_)) => Err(Status::already_exists(&row.group, &row.plural, name)),
        Err(WriteError::Failed(status)) => Err(status),
    }
}

/// Notes in managed fields who wrote what.
pub(super) fn track(call: &Call<'_>, old: Option<&Value>, new: &mut Value, subresource: &str, now: Timestamp) {
    let Some(schema) = body::structure(&call.row) else {
        return;
    };
    let manager = call.manager();
    let version = call.row.api_version();
    let writer = apply::Writer {
        manager: &manager,
        api_version: &version,
        subresource,
        now,
        scope: strategy::scope(&call.row, subresource),
    };
    let versions = ServedVersions::of(call.inner(), &call.row);
    apply::track_update_among(&schema, old, new, &writer, &versions);
}

/// The namespace of the path exists and is not going; the object's own, if it says one, is the same.
pub(super) fn check_namespace(call: &Call<'_>, object: &Value) -> Result<(), Status> {
    if !call.row.namespaced {
        return Ok(());
    }
    identity::check_namespace(call, object)?;
    let Some(namespace) = call.inner().cache.get("core/namespaces", "", &call.namespace) else {
        return Err(Status::not_found("", "namespaces", &call.namespace));
    };
    if namespace.deleting {
        let why = format!(
            "unable to create new content in namespace {} because it is being terminated",
            call.namespace
        );
        let cause = Cause {
            reason: "NamespaceTerminating".into(),
            message: format!("namespace {} is being terminated", call.namespace),
            field: "metadata.namespace".to_owned(),
        };
        let status = Status::forbidden(&call.row.group, &call.row.plural, meta::name(object), &why);
        return Err(status.with_causes(vec![cause]));
    }
    Ok(())
}
