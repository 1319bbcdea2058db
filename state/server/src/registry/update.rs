//! Changing an object: replacing it, and the steps that every change goes through.

use axum::body::Body;
use serde_json::Value;
use setpoint_api::scheme::SubresourceAction;
use setpoint_api::validate::metadata;
use setpoint_api::{Status, meta};
use setpoint_store::Expect;

use super::answer::{Answer, value_of};
use super::bookkeeping::{self, Target};
use super::call::Call;
use super::create::{self, track};
use super::identity;
use super::owners;
use super::write::{WriteError, Written};
use crate::admission::{self, AdmissionRequest, Operation};
use crate::body;
use crate::strategy::Scene;

/// How often a change is made anew because another one came between.
const TRIES: usize = 32;
/// How often a replacement is begun anew because the object came or went meanwhile.
const CREATE_TRIES: usize = 4;

/// An object as a client wants it.
pub(super) struct Candidate {
    pub(super) object: Value,
    /// Whether its managed fields say already who owns what (server-side apply, and what the server itself changes).
    pub(super) owned: bool,
}

impl Candidate {
    pub(super) fn new(object: Value) -> Candidate {
        Candidate { object, owned: false }
    }

    /// A change of the server's own: who owns which field stays as the object says.
    pub(super) fn owned(object: Value) -> Candidate {
        Candidate { object, owned: true }
    }
}

/// The part of an object that a request on this path writes.
pub(super) fn target(call: &Call<'_>) -> Target {
    match call.row.subresource(&call.info.subresource).map(|sub| &sub.action) {
        Some(SubresourceAction::Status) => Target::Status,
        Some(SubresourceAction::Part(part)) => Target::Part(*part),
        _ => Target::Main,
    }
}

pub(super) async fn put(call: &mut Call<'_>, body: Body) -> Result<Answer, Status> {
    let media = body::media(call.headers)?;
    let bytes = body::read(body).await?;
    let mut object = body::object(&bytes, media, &call.row, call.validation, &mut call.warnings)?;
    owners::drop_duplicates(&mut object, owners::Found::InBody, &mut call.warnings);
    identity::check_name(call, &object)?;
    let target = target(call);
    let creates = target == Target::Main && call.row.writing.create_on_update;
    for _ in 0..CREATE_TRIES {
        if !creates || call.stored().is_ok() {
            let written = change(call, target, &mut |_, _| Ok(Candidate::new(object.clone()))).await;
            match written {
                // Deleted in between: then it is made.
                Err(status) if creates && status.reason == "NotFound" && call.stored().is_err() => {}
                written => return written.map(Answer::Written),
            }
        }
        identity::check_uid(call, &object, None)?;
        match create::insert_absent(call, object.clone(), false).await {
            Err(status) if status.reason == "AlreadyExists" => {}
            written => return written.map(Answer::Written),
        }
    }
    Err(call.modified())
}

/// What is done to the object as it stands, to get it as it is wanted. Called again when another write came between.
pub(super) type Change<'c> = &'c mut (dyn FnMut(&mut Call<'_>, &Value) -> Result<Candidate, Status> + Send);

/// Changes the object that the path names: reads, changes, checks and writes it, until no other write comes between.
pub(super) async fn change(call: &mut Call<'_>, target: Target, change: Change<'_>) -> Result<Written, Status> {
    let inner = call.inner();
    let key = call.log_key();
    let strategy = inner.strategies.of(&call.resource);
    let _exclusive = match strategy.exclusive() {
        Some(lock) if target == Target::Main => Some(lock.lock().await),
        _ => None,
    };
    let _turn = inner.hold(&key).await;
    let warned = call.warnings.len();
    for _ in 0..TRIES {
        call.warnings.truncate(warned);
        let stored = call.stored()?;
        let old = value_of(&call.row, &stored);
        let candidate = change(call, &old)?;
        let (new, remove) = prepare(call, target, candidate, &old)?;
        if call.dry_run || (!remove && bookkeeping::is_unchanged(&new, &old)) {
            // Nothing is written: what is there is what the client wants, or it only wanted to know.
            let value = if call.dry_run { new } else { old };
            return Ok(Written {
                value,
                revision: Some(stored.revision),
                created: false,
            });
        }
        let expect = Expect::Revision(stored.revision);
        let outcome = if remove {
            inner.remove(&key, stored.revision).await
        } else if bookkeeping::is_heartbeat(&call.row, &new, &old) {
            inner.refresh(&call.row, &key, &new, expect).await
        } else {
            inner.put(&call.row, &key, &new, expect).await
        };
        match outcome {
            Ok(revision) => {
                return Ok(Written {
                    value: new,
                    revision: Some(revision),
                    created: false,
                });
            }
            Err(WriteError::Conflict(current)) => inner.catch_up(current).await?,
            Err(WriteError::Failed(status)) => return Err(status),
        }
    }
    Err(call.modified())
}

/// Takes a candidate through every step but the write; says whether the object goes with it.
fn prepare(call: &mut Call<'_>, target: Target, candidate: Candidate, old: &Value) -> Result<(Value, bool), Status> {
    let inner = call.inner();
    let row = call.row.clone();
    let now = inner.now();
    let Candidate { object: mut new, owned } = candidate;
    check_identity(call, &new, old)?;
    let strategy = inner.strategies.of(&call.resource);
    let scene = Scene {
        cache: &inner.cache,
        scheme: &inner.scheme,
        now,
    };
    if matches!(target, Target::Main | Target::Status) {
        row.default(&mut new);
    }
    let subresource = target.subresource();
    let part = matches!(target, Target::Part(_));
    if !owned && !part {
        // Before strategy and admission: what these add is nobody's.
        track(call, Some(old), &mut new, subresource, now);
    }
    if target == Target::Main {
        strategy.update(&scene, &mut new, old, &mut call.warnings)?;
    }
    let mut errors = bookkeeping::update(&row, &mut new, old, target);
    if target == Target::Main {
        strategy.settle(&scene, &mut new);
    }
    if matches!(target, Target::Status | Target::Part(_)) {
        strategy.update_part(&scene, subresource, &mut new, old)?;
    }
    if !owned && part {
        // Only now is known what of the object this path writes.
        track(call, Some(old), &mut new, subresource, now);
    }
    let request = AdmissionRequest {
        operation: Operation::Update,
        resource: &row,
        subresource: (!subresource.is_empty()).then_some(subresource),
        user: call.user,
        old: Some(old),
        dry_run: call.dry_run,
        cache: &inner.cache,
        annotations: &call.annotations,
    };
    admission::run(&inner.admission, &request, &mut new, &mut call.warnings)?;
    owners::drop_duplicates(&mut new, owners::Found::AfterAdmission, &mut call.warnings);
    errors.extend(match target {
        Target::Main => row.validate_update(&new, old),
        Target::Status => row.validate_status(&new, old),
        Target::Part(part) => row.validate_part(&part, &new, old),
        Target::Whole(_) => Vec::new(),
    });
    if !errors.is_empty() {
        return Err(call.invalid(&errors));
    }
    admission::validate(&inner.admission, &request, &new, &mut call.warnings)?;
    call.warnings.extend(metadata::warnings(&row, &new, Some(old)));
    bookkeeping::count_generation(&row, &mut new, old);
    let held = meta::finalizers(&new).next().is_some();
    let grace = meta::deletion_grace_period(old).unwrap_or(0);
    let remove = meta::is_being_deleted(&new) && !held && grace == 0 && strategy.may_go(&new);
    Ok((new, remove))
}

/// The candidate is about this very object, and about the state that its author has seen.
fn check_identity(call: &Call<'_>, new: &Value, old: &Value) -> Result<(), Status> {
    identity::check_name(call, new)?;
    identity::check_uid(call, new, Some(old))?;
    identity::check_revision(call, new, old)
}
