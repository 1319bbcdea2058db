//! Deleting: at once, after a grace period, or when the last finalizer goes.

use axum::body::Body;
use jiff::Timestamp;
use serde_json::Value;
use setpoint_api::{Resource, Status, meta};
use setpoint_store::Expect;

use super::answer::{Answer, value_of};
use super::bookkeeping::is_unchanged;
use super::call::Call;
pub(crate) use super::delete_options::{DeleteOptions, Propagation};
use super::write::{WriteError, Written};
use crate::admission::{self, AdmissionRequest, Operation};
use crate::strategy::{Removal, Scene};

const TRIES: usize = 32;
const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";

/// How a deletion went.
pub(super) enum Deleted {
    /// The object is gone; this is what it was last, at the revision of its deletion.
    Gone(Written),
    /// It stays for a while, like this.
    Going(Written),
}

pub(super) async fn delete(call: &mut Call<'_>, body: Body) -> Result<Answer, Status> {
    let options = DeleteOptions::read(call, body).await?;
    let row = call.row.clone();
    Ok(match run(call, &options).await? {
        // Of a damaged object there is nothing to show.
        Deleted::Gone(last) if row.writing.returns_deleted && !meta::kind(&last.value).is_empty() => {
            Answer::Written(last)
        }
        Deleted::Gone(last) => {
            let (name, uid) = (meta::name(&last.value), meta::uid(&last.value));
            Answer::Status(Status::deleted(&row.group, &row.plural, name, uid))
        }
        Deleted::Going(written) if options.cascades => Answer::Accepted(written),
        Deleted::Going(written) => Answer::Written(written),
    })
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
            Ok(revision) => {
                let written = |value| Written {
                    value,
                    revision: Some(revision),
                    created: false,
                };
                return Ok(if gone {
                    Deleted::Gone(written(old))
                } else {
                    Deleted::Going(written(new))
                });
            }
            Err(WriteError::Conflict(current)) => inner.catch_up(current).await?,
            Err(WriteError::Failed(status)) => return Err(status),
        }
    }
    Err(call.modified())
}

fn check_preconditions(call: &Call<'_>, options: &DeleteOptions, old: &Value) -> Result<(), Status> {
    let checks = [
        (
            "UID",
            &options.uid,
            meta::uid(old),
            "The object might have been deleted and then recreated",
        ),
        (
            "ResourceVersion",
            &options.resource_version,
            meta::resource_version(old),
            "The object might have been modified",
        ),
    ];
    for (what, wanted, found, perhaps) in checks {
        if let Some(wanted) = wanted.as_deref().filter(|wanted| *wanted != found) {
            let why = format!(
                "the {what} in the precondition ({wanted}) does not match the {what} in record ({found}). {perhaps}"
            );
            // Kubernetes names the kind here, not the resource.
            return Err(Status::conflict(&call.row.group, &call.row.kind, &call.name, &why));
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
    admission::validate(&inner.admission, &request, old, &mut call.warnings)?;
    let scene = Scene {
        cache: &inner.cache,
        scheme: &inner.scheme,
        now,
    };
    let removal = inner.strategies.of(&call.resource).delete(&scene, &mut new, options)?;
    if removal == Removal::Pending {
        return Ok((old.clone(), Removal::Later));
    }
    propagate(&mut new, options.propagation.or_else(|| by_default(&row, old)));
    let held = meta::finalizers(&new).next().is_some();
    match removal {
        // Its time is over, but finalizers hold it: a time that is still to come ends now.
        Removal::Now if held => match meta::deletion_timestamp(&new) {
            Some(until) if until <= now => meta::set(&mut new, "deletionGracePeriodSeconds", 0),
            _ => mark(&mut new, now, 0),
        },
        Removal::Later if !meta::is_being_deleted(&new) => mark(&mut new, now, 0),
        _ => {}
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

/// What happens to dependents where a deletion does not say: what the object says, else what its kind does.
fn by_default(row: &Resource, object: &Value) -> Option<Propagation> {
    let said = meta::finalizers(object).any(|finalizer| matches!(finalizer, FOREGROUND | ORPHAN));
    (row.writing.orphans && !said).then_some(Propagation::Orphan)
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_kind_that_leaves_its_dependents_does_so_unless_something_else_is_said() {
        let scheme = setpoint_api::Scheme::builtin();
        let usual = scheme.any_version("", "configmaps").expect("config maps");
        let mut leaves = (*usual).clone();
        leaves.writing.orphans = true;
        let object = |finalizers: &[&str]| json!({"metadata": {"finalizers": finalizers}});
        assert_eq!(by_default(&usual, &object(&[])), None);
        assert_eq!(by_default(&leaves, &object(&["a/b"])), Some(Propagation::Orphan));
        assert_eq!(by_default(&leaves, &object(&[FOREGROUND])), None);
    }
}
