//! Deleting: at once, after a grace period, or when the last finalizer goes.

use axum::body::Body;
use jiff::Timestamp;
use serde_json::Value;
use setpoint_api::validate::field::FieldError;
use setpoint_api::{Status, meta};
use setpoint_store::Expect;

use super::answer::{Answer, value_of};
use super::bookkeeping::is_unchanged;
use super::call::Call;
use super::write::{WriteError, Written};
use crate::admission::{self, AdmissionRequest, Operation};
use crate::body;
use crate::strategy::{Removal, Scene};

const TRIES: usize = 32;
const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";

/// What happens to the objects that a deleted one owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Propagation {
    Background,
    Foreground,
    Orphan,
}

/// How an object is to be deleted.
#[derive(Clone, Debug, Default)]
pub(crate) struct DeleteOptions {
    pub(crate) grace: Option<i64>,
    pub(crate) uid: Option<String>,
    pub(crate) resource_version: Option<String>,
    pub(crate) propagation: Option<Propagation>,
    pub(crate) dry_run: bool,
}

impl DeleteOptions {
    /// Reads the options of a request: the body's, else the query's.
    pub(super) async fn read(call: &mut Call<'_>, body: Body) -> Result<DeleteOptions, Status> {
        let bytes = body::read(body).await?;
        let mut options = if bytes.is_empty() {
            DeleteOptions::default()
        } else {
            let media = body::media(call.headers)?;
            DeleteOptions::parse(&body::parse(&bytes, media)?)?
        };
        let query = &call.info.query;
        if options.grace.is_none() {
            options.grace =
                match query.non_empty("gracePeriodSeconds") {
                    None => None,
                    Some(text) => Some(text.parse().map_err(|_| {
                        Status::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax"))
                    })?),
                };
        }
        if options.propagation.is_none() {
            options.propagation = match (query.non_empty("propagationPolicy"), query.get("orphanDependents")) {
                (Some(policy), _) => Some(propagation(policy)?),
                (None, Some("true")) => Some(Propagation::Orphan),
                (None, _) => None,
            };
        }
        options.dry_run |= call.dry_run;
        call.dry_run = options.dry_run;
        if options.grace.is_some_and(|grace| grace < 0) {
            // As Kubernetes has it: less than nothing means as soon as possible, but in order.
            options.grace = Some(1);
        }
        Ok(options)
    }

    /// Reads a `meta/v1 DeleteOptions`.
    pub(super) fn parse(value: &Value) -> Result<DeleteOptions, Status> {
        let precondition = |key: &str| {
            let text = meta::str_at(value, &["preconditions", key]);
            (!text.is_empty()).then(|| text.to_owned())
        };
        let dry_run = meta::list_at(value, &["dryRun"]);
        if let Some(other) = dry_run.iter().find(|entry| entry.as_str() != Some("All")) {
            let error = FieldError::not_supported("dryRun", other.clone(), &["All"]);
            return Err(Status::invalid("meta.k8s.io", "DeleteOptions", "", &[error]));
        }
        let policy = match meta::str_at(value, &["propagationPolicy"]) {
            "" if value.get("orphanDependents") == Some(&Value::Bool(true)) => Some(Propagation::Orphan),
            "" => None,
            policy => Some(propagation(policy)?),
        };
        Ok(DeleteOptions {
            grace: meta::int_at(value, &["gracePeriodSeconds"]),
            uid: precondition("uid"),
            resource_version: precondition("resourceVersion"),
            propagation: policy,
            dry_run: !dry_run.is_empty(),
        })
    }
}

fn propagation(policy: &str) -> Result<Propagation, Status> {
    match policy {
        "Background" => Ok(Propagation::Background),
        "Foreground" => Ok(Propagation::Foreground),
        "Orphan" => Ok(Propagation::Orphan),
        other => {
            let error = FieldError::not_supported("propagationPolicy", other, &["Background", "Foreground", "Orphan"]);
            Err(Status::invalid("meta.k8s.io", "DeleteOptions", "", &[error]))
        }
    }
}

/// How a deletion went.
pub(super) enum Deleted {
    /// The object is gone; this is what it was last.
    Gone(Value),
    /// It stays for a while, like this.
    Going(Written),
}

pub(super) async fn delete(call: &mut Call<'_>, body: Body) -> Result<Answer, Status> {
    let options = DeleteOptions::read(call, body).await?;
    match run(call, &options).await? {
        Deleted::Gone(last) => {
            let row = &call.row;
            Ok(Answer::Status(Status::deleted(
                &row.group,
                &row.plural,
                meta::name(&last),
                meta::uid(&last),
            )))
        }
        Deleted::Going(written) => Ok(Answer::Written(written)),
    }
}

/// Deletes the object that the path names, or begins to.
pub(super) async fn run(call: &mut Call<'_>, options: &DeleteOptions) -> Result<Deleted, Status> {
    let inner = call.inner();
    let key = call.log_key();
    let _turn = inner.hold(&key).await;
    for _ in 0..TRIES {
        let stored = call.stored()?;
        let old = value_of(&call.row, &stored);
        check_preconditions(call, options, &old)?;
        let (new, removal) = prepare(call, options, &old)?;
        let gone = removal == Removal::Now && meta::finalizers(&new).next().is_none();
        let outcome = if options.dry_run {
            Ok(stored.revision)
        } else if gone {
            inner.remove(&key, stored.revision).await
        } else if is_unchanged(&new, &old) {
            Ok(stored.revision)
        } else {
            inner
                .put(&call.row, &key, &new, Expect::Revision(stored.revision))
                .await
        };
        match outcome {
            Ok(_) if gone => return Ok(Deleted::Gone(old)),
            Ok(revision) => {
                return Ok(Deleted::Going(Written {
                    value: new,
                    revision: Some(revision),
                    created: false,
                }));
            }
            Err(WriteError::Conflict(current)) => inner.catch_up(current).await?,
            Err(WriteError::Failed(status)) => return Err(status),
        }
    }
    Err(call.modified())
}

fn check_preconditions(call: &Call<'_>, options: &DeleteOptions, old: &Value) -> Result<(), Status> {
    let checks = [
        ("UID", &options.uid, meta::uid(old)),
        (
            "ResourceVersion",
            &options.resource_version,
            meta::resource_version(old),
        ),
    ];
    for (what, wanted, found) in checks {
        if let Some(wanted) = wanted.as_deref().filter(|wanted| *wanted != found) {
            return Err(call.conflict(&format!(
                "Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {found}"
            )));
        }
    }
    Ok(())
}

/// The object as it is once it was asked to go, and whether it may go now.
fn prepare(call: &mut Call<'_>, options: &DeleteOptions, old: &Value) -> Result<(Value, Removal), Status> {
    let inner = call.inner();
    let row = call.row.clone();
    let now = inner.now();
    let mut new = old.clone();
    let request = AdmissionRequest {
        operation: Operation::Delete,
        resource: &row,
        subresource: None,
        user: call.user,
        old: Some(old),
        dry_run: options.dry_run,
        cache: &inner.cache,
        annotations: &call.annotations,
    };
    let mut seen = old.clone();
    admission::run(&inner.admission, &request, &mut seen, &mut call.warnings)?;
    let scene = Scene {
        cache: &inner.cache,
        scheme: &inner.scheme,
        now,
    };
    let removal = inner.strategies.of(&call.resource).delete(&scene, &mut new, options)?;
    propagate(&mut new, options.propagation);
    let held = meta::finalizers(&new).next().is_some();
    if (held || removal == Removal::Later) && !meta::is_being_deleted(&new) {
        mark(&mut new, now, 0);
    }
    if removal == Removal::Now && held && meta::deletion_grace_period(&new).unwrap_or(0) > 0 {
        meta::set(&mut new, "deletionGracePeriodSeconds", 0);
    }
    if row.has_generation && meta::is_being_deleted(&new) && !meta::is_being_deleted(old) {
        meta::set(&mut new, "generation", meta::generation(old) + 1);
    }
    Ok((new, removal))
}

/// Notes that an object was asked to go, and how long it has.
pub(crate) fn mark(object: &mut Value, now: Timestamp, grace: i64) {
    let until = now.checked_add(jiff::SignedDuration::from_secs(grace)).unwrap_or(now);
    meta::set(object, "deletionTimestamp", meta::format_time(until));
    meta::set(object, "deletionGracePeriodSeconds", grace);
}

/// Sets the finalizers by which the garbage collector is asked to see to the dependents.
fn propagate(object: &mut Value, propagation: Option<Propagation>) {
    let Some(propagation) = propagation else { return };
    let mut finalizers: Vec<Value> = meta::finalizers(object)
        .filter(|finalizer| !matches!(*finalizer, FOREGROUND | ORPHAN))
        .map(Into::into)
        .collect();
    match propagation {
        Propagation::Background => {}
        Propagation::Foreground => finalizers.push(FOREGROUND.into()),
        Propagation::Orphan => finalizers.push(ORPHAN.into()),
    }
    meta::set(
        object,
        "finalizers",
        if finalizers.is_empty() {
            Value::Null
        } else {
            finalizers.into()
        },
    );
}
