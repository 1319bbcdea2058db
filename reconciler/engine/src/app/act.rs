//! What is done to the cluster: begin, apply, put back, prune, and the end of a sync.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _, stream};
use serde_json::Value;
use setpoint_plan::{Baseline, Change, Desired, HealthStatus, ObjectKey, ObjectRef, Plan, Step};

use super::view::{READS, Seen};
use super::{AppError, AppMemory, Healed, Kept, save};
use crate::api::OWNER_ANNOTATION;
use crate::engine::{Name, Shared};
use crate::notice::NoticeKind;
use crate::records::digest;
use crate::repository::{Declared, owner};
use crate::state::{Cause, Entry, Millis, Outcome, Revision, View, short};
use crate::target::{Class, TargetError};

/// How often an object is put back within a minute before it is only put back now and then.
const HEALS: u32 = 10;
/// The time over which that is counted, and after which such an object is put back again.
const HEAL_WINDOW: Millis = 60_000;

/// Begins a sync: asks the cluster whether it would take everything, then remembers that it is under way.
pub(super) async fn begin(
    shared: &Arc<Shared>,
    kept: &Kept,
    memory: &mut AppMemory,
    view: &View,
    revision: Revision,
    cause: Cause,
) -> Result<(), AppError> {
    let Some(goal) = memory.goal.clone().filter(|goal| goal.is(&revision)) else {
        // The view was of something else: the next look is at this.
        memory.goal = None;
        return Ok(());
    };
    shared.target.ensure_namespace(&kept.namespace).await?;
    // There is nothing better than what was healthy once: going back is not asked about.
    if cause != Cause::Rollback {
        let desired = goal.desired()?;
        if let Err(refused) = validate(shared, kept, &desired, view).await? {
            if let Some(object) = &refused.owned {
                shared.live.await_release(object, &kept.name.to_string());
            }
            let now = memory.now(shared);
            let known = memory.state.failed_so(&revision.digest, &refused.reason);
            let entry = memory
                .state
                .refuse(&revision, cause, &refused.reason, refused.passing, now);
            return match known {
                // The same again: a retry every few minutes must not push everything else out of the history.
                true => save(shared, &kept.name, memory, Vec::new(), Vec::new()).await,
                false => record(shared, kept, memory, entry).await,
            };
        }
    }
    let now = memory.now(shared);
    memory.baselines = baselines(shared, memory);
    memory.unwell = memory.unwell_now();
    memory.ready_since = None;
    let objects: Vec<ObjectRef> = goal.references.iter().cloned().collect();
    let superseded = memory.state.begin(revision.clone(), cause, objects, &kept.policy, now);
    memory.counted = memory.state.sync.as_ref().map(|sync| sync.number);
    let text = match cause {
        Cause::Deploy => format!("deploying {}", named(&revision)),
        Cause::Rollback => format!("going back to {}", named(&revision)),
        Cause::Request => format!("going to {} as asked", named(&revision)),
    };
    match superseded {
        Some(entry) => record(shared, kept, memory, entry).await?,
        None => save(shared, &kept.name, memory, Vec::new(), Vec::new()).await?,
    }
    shared.notice(&kept.name.name, NoticeKind::Begun, text);
    Ok(())
}

pub(super) fn baselines(shared: &Shared, memory: &AppMemory) -> std::collections::HashMap<String, Baseline> {
    let uids = memory.seen.values().map(|seen| &seen.uid).filter(|uid| !uid.is_empty());
    uids.map(|uid| (uid.clone(), Baseline::of(&shared.live.all_pods(uid))))
        .collect()
}

/// An object as it was read, if it is there.
type Read = Result<(ObjectKey, Option<Value>), TargetError>;

struct Refused {
    reason: String,
    passing: bool,
    /// What another app has.
    owned: Option<ObjectKey>,
}

/// Asks the cluster whether it would take each object that changes, without changing anything.
async fn validate(
    shared: &Arc<Shared>,
    kept: &Kept,
    desired: &[Desired],
    view: &View,
) -> Result<Result<(), Refused>, AppError> {
    let mut live = BTreeMap::new();
    let changing: Vec<usize> = view
        .objects
        .iter()
        .enumerate()
        .filter(|(_, object)| !object.in_sync)
        .map(|(place, _)| place)
        .collect();
    let mut reads: Vec<BoxFuture<'_, Read>> = Vec::new();
    for place in &changing {
        let object = &view.objects[*place].object;
        reads.push(async move { Ok((object.key(), shared.target.get(object).await?)) }.boxed());
    }
    let read: Vec<_> = stream::iter(reads).buffer_unordered(READS).collect().await;
    for object in read {
        if let (key, Some(mut object)) = object? {
            inherit(shared, kept, &mut object);
            live.insert(key, object);
        }
    }
    let subset: Vec<Desired> = changing
        .iter()
        .filter_map(|place| desired.get(*place).cloned())
        .collect();
    let plan = match setpoint_plan::plan(&subset, &live, &[], &kept.plan) {
        Ok(plan) => plan,
        Err(error) => {
            return Ok(Err(unplanned(&error)));
        }
    };
    let missing = Missing::of(shared, kept, desired).await?;
    let mut asked: Vec<BoxFuture<'_, Result<Result<(), Refused>, AppError>>> = Vec::with_capacity(plan.steps.len());
    for step in &plan.steps {
        asked.push(ask(shared, step, &missing).boxed());
    }
    let answers: Vec<_> = stream::iter(asked).buffered(READS).collect().await;
    // What is refused for good says more than what could not be asked about for now.
    let mut unasked = None;
    for answer in answers {
        match answer {
            Ok(Ok(())) => {}
            Ok(Err(refused)) => return Ok(Err(refused)),
            Err(error) => {
                unasked.get_or_insert(error);
            }
        }
    }
    unasked.map_or(Ok(Ok(())), Err)
}

/// Asks about one object; not when it cannot be asked about yet, since what it needs is made by the same sync.
async fn ask(shared: &Shared, step: &Step, missing: &Missing) -> Result<Result<(), Refused>, AppError> {
    if let Some(refused) = keeps_data(step) {
        return Ok(Err(refused));
    }
    let Some(body) = &step.body else { return Ok(Ok(())) };
    if missing.concerns(&step.object) {
        return Ok(Ok(()));
    }
    if matches!(step.change, Change::Replace { .. }) {
        return match replaceable(shared, step).await {
            Ok(()) => Ok(Ok(())),
            Err(Stopped::Refused(refused)) => Ok(Err(refused)),
            Err(Stopped::Failed(error)) => Err(error),
        };
    }
    match shared.target.apply(&step.object, body, true).await {
        Ok(_) => Ok(Ok(())),
        // A cluster that does not answer has not refused anything.
        Err(error) if error.class() == Class::Transient => Err(error.into()),
        Err(error) => Ok(Err(refusal(&step.object, step.origin.as_ref(), &error))),
    }
}

/// Kinds of which there may be two of different names: no name, port or host that only one can have.
const TWICE: [(&str, &str); 9] = [
    ("", "ConfigMap"),
    ("", "Secret"),
    ("apps", "DaemonSet"),
    ("apps", "Deployment"),
    ("apps", "ReplicaSet"),
    ("apps", "StatefulSet"),
    ("batch", "Job"),
    ("rbac.authorization.k8s.io", "ClusterRoleBinding"),
    ("rbac.authorization.k8s.io", "RoleBinding"),
];

/// Asks whether what takes an object's place would be taken, before the old one is deleted for it: under another name, since the old one
/// is still there.
async fn replaceable(shared: &Shared, step: &Step) -> Result<(), Stopped> {
    let (Some(body), Some(trial)) = (&step.body, trial(&step.object)) else {
        return Ok(());
    };
    let mut body = body.clone();
    body["metadata"]["name"] = Value::String(trial.name.clone());
    match shared.target.would_make(&trial, &body).await {
        Ok(()) => Ok(()),
        Err(error) if error.class() == Class::Transient => Err(Stopped::Failed(error.into())),
        Err(error) => {
            let mut refused = refusal(&step.object, step.origin.as_ref(), &error);
            refused.reason = refused.reason.replace(&trial.name, &step.object.name);
            Err(Stopped::Refused(refused))
        }
    }
}

/// Names what is asked about in an object's place; `None` for a kind whose name is bound elsewhere.
fn trial(object: &ObjectRef) -> Option<ObjectRef> {
    TWICE
        .contains(&(object.group.as_str(), object.kind.as_str()))
        .then(|| ObjectRef {
            // Short enough for every kind, and nobody else's.
            name: format!("setpoint-trial-{}", &digest(object.name.as_bytes())[..16]),
            ..object.clone()
        })
}

/// Takes its owner's name off an object as it was read, where this app may have it: the repository of both has that one no more.
///
/// The other one keeps the object until it carries the new name.
pub(crate) fn inherit(shared: &Shared, kept: &Kept, live: &mut Value) {
    let Some(annotations) = live["metadata"]["annotations"].as_object_mut() else {
        return;
    };
    let theirs = annotations
        .get(OWNER_ANNOTATION)
        .and_then(Value::as_str)
        .and_then(Name::parse);
    if theirs.is_some_and(|theirs| theirs != kept.name && is_heir(shared, kept, &theirs)) {
        annotations.remove(OWNER_ANNOTATION);
    }
}

fn is_heir(shared: &Shared, kept: &Kept, of: &Name) -> bool {
    let Some(repository) = &kept.spec.repository else {
        return false;
    };
    let declared = shared.declared_by(&Name::new(&kept.name.namespace, repository));
    let handed = declared.is_some_and(|declared| hands_over(&declared, &kept.name.name, &of.name));
    let app = shared.app(of);
    handed && of.namespace == kept.name.namespace && app.is_some_and(|app| owner(&app) == Some(repository))
}

/// Says whether a repository has one app and has the other no more.
fn hands_over(declared: &Declared, to: &str, from: &str) -> bool {
    declared.apps.contains_key(to) && !declared.apps.contains_key(from)
}

/// Says what keeps a plan from being made.
fn unplanned(error: &setpoint_plan::PlanError) -> Refused {
    Refused {
        reason: super::chain(error),
        // An object that moves from one app to another is free once the other has let it go.
        passing: matches!(error, setpoint_plan::PlanError::Owned { .. }),
        owned: match error {
            setpoint_plan::PlanError::Owned { object, .. } => Some(object.key()),
            _ => None,
        },
    }
}

/// Refuses to replace what holds data.
fn keeps_data(step: &Step) -> Option<Refused> {
    let Change::Replace { because, .. } = &step.change else {
        return None;
    };
    (step.object.kind == "PersistentVolumeClaim").then(|| Refused {
        reason: format!(
            "{}: {because}; its data would be lost: delete it by hand to have it made anew",
            step.object
        ),
        passing: false,
        owned: None,
    })
}

fn refusal(object: &ObjectRef, origin: Option<&setpoint_plan::Origin>, error: &TargetError) -> Refused {
    let place = origin
        .filter(|origin| !origin.file.is_empty())
        .map(|origin| format!("{origin}: "))
        .unwrap_or_default();
    let said = match (object.kind.as_str(), error.code()) {
        // A refusal quotes what it refuses, and this is shown to whoever may see the app.
        ("Secret", Some(code)) => format!(
            "the cluster refuses {object} ({code}); what it says is not shown since it may quote the secret: `setpoint render` and `kubectl apply --dry-run=server` show it"
        ),
        _ => super::chain(error),
    };
    Refused {
        reason: format!("{place}{said}"),
        // A kind that is not served, a namespace that is not there: another app may be about to make it.
        passing: error.class() == Class::Transient
            || error.is_not_found()
            || matches!(error, TargetError::NoSuchKind { .. }),
        owned: None,
    }
}

/// What a sync makes itself, so that the cluster cannot be asked about what needs it.
struct Missing {
    namespaces: Vec<String>,
    kinds: Vec<(String, String)>,
}

impl Missing {
    async fn of(shared: &Shared, kept: &Kept, desired: &[Desired]) -> Result<Missing, AppError> {
        let mut missing = Missing {
            namespaces: Vec::new(),
            kinds: Vec::new(),
        };
        for object in desired {
            let value = &object.object;
            match value["kind"].as_str() {
                Some("Namespace") => {
                    let reference = object.reference().map_err(crate::rendered::PrepareError::from)?;
                    if reference.name != kept.namespace && shared.target.get(&reference).await?.is_none() {
                        missing.namespaces.push(reference.name);
                    }
                }
                Some("CustomResourceDefinition") => {
                    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                    missing
                        .kinds
                        .push((text(&value["spec"]["group"]), text(&value["spec"]["names"]["kind"])));
                }
                _ => {}
            }
        }
        Ok(missing)
    }

    fn concerns(&self, object: &ObjectRef) -> bool {
        let namespace = object.namespace.as_ref();
        namespace.is_some_and(|namespace| self.namespaces.contains(namespace))
            || self
                .kinds
                .iter()
                .any(|(group, kind)| *group == object.group && *kind == object.kind)
    }
}

/// Applies objects of the goal; `false` when some are left for later, because somebody changes them again and again.
pub(super) async fn apply(
    shared: &Arc<Shared>,
    kept: &Kept,
    memory: &mut AppMemory,
    view: &View,
    places: &[usize],
    heal: bool,
) -> Result<bool, AppError> {
    let Some(goal) = memory.goal.clone() else {
        return Ok(true);
    };
    let desired = goal.desired()?;
    let missing = |place: &usize| {
        let object = view.objects.get(*place);
        object.is_some_and(|object| object.health.status == HealthStatus::Missing)
    };
    if places.iter().any(missing) {
        // Somebody may have deleted the namespace, and everything with it.
        shared.target.ensure_namespace(&kept.namespace).await?;
    }
    let now = memory.now(shared);
    let mut later = false;
    let mut wanted: Vec<(&ObjectRef, &Desired)> = Vec::with_capacity(places.len());
    for place in places {
        let (Some(observed), Some(object)) = (view.objects.get(*place), desired.get(*place)) else {
            continue;
        };
        if heal && !may_heal(memory, &observed.object.key(), now) {
            later = true;
            memory.stuck = Some(format!(
                "{} is changed by somebody again and again; it is put back once a minute: find who writes it (kubectl get --show-managed-fields), or ignore the field",
                observed.object
            ));
            continue;
        }
        wanted.push((&observed.object, object));
    }
    let mut work: Vec<BoxFuture<'_, (ObjectKey, Result<Applied, Stopped>)>> = Vec::with_capacity(wanted.len());
    for (reference, desired) in wanted {
        work.push(async move { (reference.key(), one(shared, kept, reference, desired).await) }.boxed());
    }
    let done: Vec<_> = stream::iter(work).buffered(READS).collect().await;
    let mut refused = None;
    let mut failure = None;
    for (key, outcome) in done {
        match outcome {
            Ok(applied) => {
                if applied.changed {
                    if heal {
                        let healed = memory
                            .healed
                            .entry(key.clone())
                            .or_insert(Healed { since: now, count: 0 });
                        healed.count += 1;
                    }
                    let cause = if heal { "heal" } else { "sync" };
                    shared.metrics.objects.with_label_values(&[cause]).inc();
                }
                if let Some(told) = applied.told.filter(|_| heal) {
                    shared.notice(&kept.name.name, NoticeKind::Healed, format!("put back {told}"));
                }
                match applied.seen {
                    Some(seen) => memory.seen.insert(key, seen),
                    None => memory.seen.remove(&key),
                };
            }
            Err(Stopped::Refused(reason)) => {
                memory.seen.remove(&key);
                refused.get_or_insert(reason);
            }
            Err(Stopped::Failed(error)) => {
                memory.seen.remove(&key);
                failure.get_or_insert(error);
            }
        }
    }
    if let Some(refused) = refused {
        if heal {
            memory.stuck = Some(format!("cannot put back what git says: {}", refused.reason));
            return Ok(false);
        }
        let now = memory.now(shared);
        let entry = memory.state.fail(&refused.reason, refused.passing, now);
        ended(shared, kept, memory, entry).await?;
        return Ok(true);
    }
    match failure {
        Some(error) => Err(error),
        None => Ok(!later),
    }
}

struct Applied {
    seen: Option<Seen>,
    changed: bool,
    told: Option<String>,
}

enum Stopped {
    Refused(Refused),
    Failed(AppError),
}

/// Brings one object to what it should be.
async fn one(shared: &Shared, kept: &Kept, reference: &ObjectRef, desired: &Desired) -> Result<Applied, Stopped> {
    let failed = |error: TargetError| match error.class() {
        Class::Transient => Stopped::Failed(error.into()),
        Class::Terminal => Stopped::Refused(refusal(reference, Some(&desired.origin), &error)),
    };
    let heard = shared.live.heard(&reference.key()).change;
    let before = shared.target.get(reference).await.map_err(failed)?;
    let mut live: BTreeMap<ObjectKey, Value> = before.iter().map(|live| (reference.key(), live.clone())).collect();
    live.values_mut().for_each(|live| inherit(shared, kept, live));
    let plan: Plan = setpoint_plan::plan(std::slice::from_ref(desired), &live, &[], &kept.plan)
        .map_err(|error| Stopped::Refused(unplanned(&error)))?;
    let Some(step) = plan.steps.first() else {
        return Ok(Applied {
            seen: None,
            changed: false,
            told: None,
        });
    };
    if let Some(refused) = keeps_data(step) {
        return Err(Stopped::Refused(refused));
    }
    match (&step.change, &step.body) {
        (Change::Replace { .. }, _) => {
            let going = before
                .as_ref()
                .is_some_and(|live| !live["metadata"]["deletionTimestamp"].is_null());
            if !going {
                replaceable(shared, step).await?;
            }
            let uid = before
                .as_ref()
                .and_then(|live| live["metadata"]["uid"].as_str())
                .unwrap_or_default();
            shared.target.delete(reference, uid).await.map_err(failed)?;
            // It is made anew as soon as it is gone.
            Ok(Applied {
                seen: None,
                changed: true,
                told: Some(told(&plan)),
            })
        }
        (_, Some(body)) => {
            let after = shared.target.apply(reference, body, false).await.map_err(failed)?;
            if reference.kind == "CustomResourceDefinition" {
                shared.target.forget_kinds();
            }
            let changed = before
                .as_ref()
                .is_none_or(|before| before["metadata"]["resourceVersion"] != after["metadata"]["resourceVersion"]);
            let mut seen = Seen::of(&desired.object, Some(&after), heard, kept);
            // What still differs after an apply, the cluster itself makes so: applying again would change nothing.
            seen.in_sync = true;
            Ok(Applied {
                seen: Some(seen),
                changed,
                told: changed.then(|| told(&plan)),
            })
        }
        _ => Ok(Applied {
            seen: Some(Seen::of(&desired.object, before.as_ref(), heard, kept)),
            changed: false,
            told: None,
        }),
    }
}

/// Says what was changed, on one line.
fn told(plan: &Plan) -> String {
    let Some(step) = plan.steps.first() else {
        return String::new();
    };
    let changes = match &step.change {
        Change::Update { changes } | Change::Replace { changes, .. } => {
            setpoint_plan::mask::changes(&step.object, changes)
        }
        _ => Vec::new(),
    };
    let fields: Vec<&str> = changes.iter().map(|change| change.path.as_str()).take(3).collect();
    match (&step.change, fields.is_empty()) {
        (Change::Create, _) => format!("{}, which was gone", step.object),
        (_, true) => step.object.to_string(),
        _ => format!(
            "{} ({}{})",
            step.object,
            fields.join(", "),
            if changes.len() > 3 { ", …" } else { "" }
        ),
    }
}

fn may_heal(memory: &mut AppMemory, key: &ObjectKey, now: Millis) -> bool {
    memory.healed.retain(|_, healed| now - healed.since < HEAL_WINDOW);
    memory.healed.get(key).is_none_or(|healed| healed.count < HEALS)
}

/// Returns when objects that are changed again and again are put back next.
pub(super) fn heal_again(memory: &mut AppMemory, now: Millis) -> Option<Millis> {
    memory.healed.retain(|_, healed| now - healed.since < HEAL_WINDOW);
    let due = memory.healed.values().filter(|healed| healed.count >= HEALS);
    due.map(|healed| (healed.since + HEAL_WINDOW).max(now)).min()
}

/// Takes note that names of images mean something else than when a revision was healthy; the next look applies it with their digests.
pub(super) async fn fix(
    shared: &Arc<Shared>,
    kept: &Kept,
    memory: &mut AppMemory,
    digest: &str,
    images: &BTreeSet<String>,
) -> Result<(), AppError> {
    memory.state.fix(digest, images);
    save(shared, &kept.name, memory, Vec::new(), Vec::new()).await?;
    for image in images {
        let text = format!("{image} means another image now: going back to the one that was healthy, by its digest");
        shared.notice(&kept.name.name, NoticeKind::Begun, text);
    }
    Ok(())
}

/// Deletes objects that git no longer names.
pub(super) async fn prune(
    shared: &Arc<Shared>,
    kept: &Kept,
    memory: &mut AppMemory,
    objects: &[ObjectRef],
) -> Result<(), AppError> {
    for object in objects {
        let Some(live) = shared.target.get(object).await? else {
            continue;
        };
        let uid = live["metadata"]["uid"].as_str().unwrap_or_default();
        if shared.target.delete(object, uid).await? {
            shared.metrics.objects.with_label_values(&["prune"]).inc();
            shared.notice(&kept.name.name, NoticeKind::Pruned, format!("deleted {object}"));
        }
    }
    memory.stuck = None;
    Ok(())
}

/// Takes note that a sync has ended.
pub(super) async fn ended(
    shared: &Arc<Shared>,
    kept: &Kept,
    memory: &mut AppMemory,
    entry: Option<Entry>,
) -> Result<(), AppError> {
    let Some(entry) = entry else { return Ok(()) };
    memory.stuck = None;
    record(shared, kept, memory, entry).await
}

async fn record(shared: &Arc<Shared>, kept: &Kept, memory: &mut AppMemory, entry: Entry) -> Result<(), AppError> {
    let bytes = serde_json::to_vec(&entry).map_err(AppError::Encode)?;
    save(shared, &kept.name, memory, Vec::new(), vec![Bytes::from(bytes)]).await?;
    let took = Duration::from_millis(u64::try_from(entry.finished - entry.started).unwrap_or_default());
    let outcome = match entry.outcome {
        Outcome::Healthy => "healthy",
        Outcome::Failed => "failed",
        Outcome::Superseded => "superseded",
    };
    shared.metrics.syncs.with_label_values(&[outcome]).inc();
    let name = &kept.name.name;
    match entry.outcome {
        Outcome::Healthy => {
            shared.metrics.healthy_after.observe(took.as_secs_f64());
            let text = format!(
                "{} is healthy after {:.1} s",
                named(&entry.revision),
                took.as_secs_f64()
            );
            shared.notice(name, NoticeKind::Healthy, text);
        }
        Outcome::Failed => {
            let text = format!("{} failed: {}", named(&entry.revision), entry.reason);
            shared.notice(name, NoticeKind::Failed, text);
        }
        Outcome::Superseded => {}
    }
    Ok(())
}

fn named(revision: &Revision) -> String {
    match revision.subject.as_str() {
        "" => short(&revision.source),
        subject => format!("{} ({subject})", short(&revision.source)),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use setpoint_plan::ObjectRef;

    use super::{Declared, hands_over, trial};
    use crate::api::AppSpec;

    #[test]
    fn what_takes_a_place_is_asked_about_under_a_name_of_its_own_where_it_may_have_one() {
        let object = |group: &str, kind: &str| ObjectRef {
            group: group.to_owned(),
            version: "v1".to_owned(),
            kind: kind.to_owned(),
            namespace: Some("shop".to_owned()),
            name: "w".repeat(63),
        };
        let deployment = object("apps", "Deployment");
        let asked = trial(&deployment).unwrap();
        assert!(asked.name.len() <= 63 && asked.name != deployment.name);
        assert_eq!(asked.namespace, deployment.namespace);
        assert_eq!(trial(&object("", "Service")), None, "its ports are its own");
        assert_eq!(trial(&object("apiextensions.k8s.io", "CustomResourceDefinition")), None);
    }

    #[test]
    fn an_app_has_what_another_had_only_when_their_repository_has_that_one_no_more() {
        let declared = Declared {
            apps: BTreeMap::from(["new", "old"].map(|name| (name.to_owned(), AppSpec::default()))),
            ..Declared::default()
        };
        assert!(!hands_over(&declared, "new", "old"));
        assert!(hands_over(&declared, "new", "former"));
        assert!(!hands_over(&declared, "foreign", "former"));
    }
}
