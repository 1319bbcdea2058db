//! `pods/eviction`: a deletion that asks the pod's disruption budget first.
//!
//! A pod that runs and that one budget selects goes only when the budget allows a disruption, which is then taken from it: the budget's
//! status is written before the pod is deleted, so that two evictions never share one disruption. What a budget allows is for its
//! controller to say; one that nobody has looked at yet allows nothing.

use axum::body::Body;
use serde_json::{Value, json};
use setpoint_api::status::Cause;
use setpoint_api::{LabelSelector, Status, meta};

use super::answer::{Answer, value_of};
use super::bookkeeping::Target;
use super::call::Call;
use super::delete::{DeleteOptions, run};
use super::system;
use super::update::{Candidate, change};
use crate::admission::{self, AdmissionRequest, Operation};
use crate::body;

/// How many evictions may be under way of which a budget's controller has not heard, as in Kubernetes.
const MOST_DISRUPTED: usize = 2000;
const WOULD_VIOLATE: &str = "Cannot evict pod as it would violate the pod's disruption budget.";
/// How often an eviction is made anew because another write of the pod came between.
const TRIES: usize = 8;

pub(super) async fn create(call: &mut Call<'_>, body: Body) -> Result<Answer, Status> {
    let media = body::media(call.headers)?;
    let eviction = body::parse(&body::read(body).await?, media)?;
    if !matches!(meta::kind(&eviction), "Eviction" | "") {
        return Err(Status::bad_request(format!(
            "expected policy/v1, Kind=Eviction, got Kind={}",
            meta::kind(&eviction)
        )));
    }
    let name = meta::name(&eviction);
    if !name.is_empty() && name != call.name {
        return Err(Status::bad_request(
            "name in URL does not match name in Eviction object",
        ));
    }
    let mut options = match eviction.get("deleteOptions") {
        Some(options) if !options.is_null() => DeleteOptions::parse(options)?,
        _ => DeleteOptions::default(),
    };
    options.dry_run |= call.dry_run;
    call.dry_run = options.dry_run;
    evict(call, options).await?;
    Ok(Answer::Status(Status::success()))
}

/// Asks whether this eviction may be, before a budget pays for it.
fn admit(call: &mut Call<'_>) -> Result<(), Status> {
    let mut pod = value_of(&call.row, &*call.stored()?);
    let inner = call.inner();
    let request = AdmissionRequest {
        operation: Operation::Create,
        resource: &call.row,
        subresource: Some("eviction"),
        user: call.user,
        old: None,
        dry_run: call.dry_run,
        cache: &inner.cache,
        annotations: &call.annotations,
    };
    admission::run(&inner.admission, &request, &mut pod, &mut call.warnings)?;
    admission::validate(&inner.admission, &request, &pod, &mut call.warnings)
}

async fn evict(call: &mut Call<'_>, options: DeleteOptions) -> Result<(), Status> {
    admit(call)?;
    let asked = options.resource_version.is_some();
    let mut tries = 0;
    // A pod that ended, has not begun or is going disrupts nobody; if it begins to run meanwhile, its budget has a say.
    while let Some((pod, pinned)) = ignored(call)? {
        let mut options = options.clone();
        if pinned && !asked {
            options.resource_version = Some(meta::resource_version(&pod).to_owned());
        }
        match run(call, &options).await {
            Err(status) if status.reason == "Conflict" && !asked && tries < TRIES => tries += 1,
            outcome => return outcome.map(|_| ()),
        }
    }
    let pod = value_of(&call.row, &*call.stored()?);
    let Some(budget) = budget_of(call, &pod)? else {
        return go(call, options, None).await;
    };
    let name = meta::name(&budget).to_owned();
    if !is_ready(&pod) && lets_unready_go(&budget) {
        // It counts for nothing, as long as it stays as it is.
        let seen = meta::resource_version(&pod).to_owned();
        return match go(call, options, Some(seen)).await {
            Err(status) if status.reason == "Conflict" && !asked => Err(not_ready_to_say(&name)),
            outcome => outcome,
        };
    }
    take(call, &name, meta::name(&pod)).await?;
    go(call, options, None).await
}

/// The pod, if its budget need not be asked, and whether that holds only as long as nothing changes.
fn ignored(call: &Call<'_>) -> Result<Option<(Value, bool)>, Status> {
    let pod = value_of(&call.row, &*call.stored()?);
    let phase = meta::str_at(&pod, &["status", "phase"]);
    let over = matches!(phase, "Succeeded" | "Failed") || meta::is_being_deleted(&pod);
    let waits = phase == "Pending";
    Ok((over || waits).then_some((pod, !over)))
}

fn is_ready(pod: &Value) -> bool {
    let conditions = meta::list_at(pod, &["status", "conditions"]);
    let ready = conditions
        .iter()
        .find(|condition| meta::str_at(condition, &["type"]) == "Ready");
    ready.is_some_and(|condition| meta::str_at(condition, &["status"]) == "True")
}

/// Whether a pod that is not ready may go without asking.
fn lets_unready_go(budget: &Value) -> bool {
    let number = |key: &str| meta::int_at(budget, &["status", key]).unwrap_or(0);
    let always = meta::str_at(budget, &["spec", "unhealthyPodEvictionPolicy"]) == "AlwaysAllow";
    always || (number("desiredHealthy") > 0 && number("currentHealthy") >= number("desiredHealthy"))
}

/// The budget that selects a pod; more than one is an error.
fn budget_of(call: &Call<'_>, pod: &Value) -> Result<Option<Value>, Status> {
    let labels = meta::labels(pod);
    let selects = |budget: &Value| {
        let selector = meta::at(budget, &["spec", "selector"]).unwrap_or(&Value::Null);
        // One without a selector, or with one that cannot be read, is about no pod; an empty one is about all.
        LabelSelector::from_value(selector).is_ok_and(|selector| selector.matches(labels))
    };
    let stored = call
        .inner()
        .cache
        .list("policy/poddisruptionbudgets", Some(&call.namespace));
    let mut budgets = stored.iter().map(|stored| stored.value()).filter(selects);
    let first = budgets.next();
    if budgets.next().is_some() {
        let text = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
        return Err(Status::new(500, "", text));
    }
    Ok(first)
}

/// Takes a disruption from a budget.
async fn take(call: &Call<'_>, budget: &str, pod: &str) -> Result<(), Status> {
    let now = meta::format_time(call.now());
    let name = budget.to_owned();
    let pod = pod.to_owned();
    system::change_status(
        call.registry,
        ("policy", "v1", "poddisruptionbudgets"),
        (&call.namespace, budget),
        call.dry_run,
        &mut move |old| {
            let number = |key: &str| meta::int_at(old, &["status", key]).unwrap_or(0);
            if number("observedGeneration") < meta::generation(old) {
                return Err(not_ready_to_say(&name));
            }
            let refuse = |why: &str| Err(Status::forbidden("policy", "poddisruptionbudget", &name, why));
            let allowed = number("disruptionsAllowed");
            if allowed < 0 {
                return refuse("pdb disruptions allowed is negative");
            }
            let disrupted = meta::at(old, &["status", "disruptedPods"]).and_then(Value::as_object);
            if disrupted.is_some_and(|pods| pods.len() > MOST_DISRUPTED) {
                return refuse("DisruptedPods map too big - too many evictions not confirmed by PDB controller");
            }
            if allowed == 0 {
                let (needed, found) = (number("desiredHealthy"), number("currentHealthy"));
                let text =
                    format!("The disruption budget {name} needs {needed} healthy pods and has {found} currently");
                return Err(Status::new(429, "TooManyRequests", WOULD_VIOLATE).with_causes(vec![cause(text)]));
            }
            let mut new = old.clone();
            let status = meta::map_mut(meta::map_of(&mut new), "status");
            status.insert("disruptionsAllowed".into(), (allowed - 1).into());
            meta::map_mut(status, "disruptedPods").insert(pod.clone(), now.as_str().into());
            if allowed == 1 {
                exhausted(&mut new, &now);
            }
            Ok(new)
        },
    )
    .await
}

/// Notes in a budget that it allows no further disruption.
fn exhausted(budget: &mut Value, now: &str) {
    let observed = meta::int_at(budget, &["status", "observedGeneration"]).unwrap_or(0);
    let status = meta::map_mut(meta::map_of(budget), "status");
    let condition = json!({"type": "DisruptionAllowed", "status": "False", "reason": "InsufficientPods", "message": "",
        "observedGeneration": observed, "lastTransitionTime": now});
    set_condition(status, condition);
}

fn set_condition(status: &mut serde_json::Map<String, Value>, condition: Value) {
    let kind = meta::str_at(&condition, &["type"]).to_owned();
    match status.get_mut("conditions").and_then(Value::as_array_mut) {
        Some(conditions) => {
            conditions.retain(|other| meta::str_at(other, &["type"]) != kind);
            conditions.push(condition);
        }
        None => {
            status.insert("conditions".into(), json!([condition]));
        }
    }
}

fn cause(message: String) -> Cause {
    Cause {
        reason: "DisruptionBudget".into(),
        message,
        field: String::new(),
    }
}

/// The budget's controller has to look at it first.
fn not_ready_to_say(budget: &str) -> Status {
    let text = format!("The disruption budget {budget} is still being processed by the server.");
    Status::too_many_requests(WOULD_VIOLATE, 10).with_causes(vec![cause(text)])
}

/// Notes in the pod why it goes, and deletes it; `seen` is the revision that it has to have.
async fn go(call: &mut Call<'_>, mut options: DeleteOptions, seen: Option<String>) -> Result<(), Status> {
    let seen = options.resource_version.take().or(seen);
    let now = meta::format_time(call.now());
    let uid = options.uid.clone();
    let noted = change(call, Target::Whole("status"), &mut |call, old| {
        if let Some(uid) = uid.as_deref().filter(|uid| *uid != meta::uid(old)) {
            return Err(call.conflict(&format!(
                "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
                meta::uid(old)
            )));
        }
        if let Some(seen) = seen.as_deref().filter(|seen| *seen != meta::resource_version(old)) {
            return Err(call.conflict(&format!(
                "Precondition failed: ResourceVersion in precondition: {seen}, ResourceVersion in object meta: {}",
                meta::resource_version(old)
            )));
        }
        let mut new = old.clone();
        let condition = json!({"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
            "message": "Eviction API: evicting", "lastProbeTime": null, "lastTransitionTime": now});
        set_condition(meta::map_mut(meta::map_of(&mut new), "status"), condition);
        Ok(Candidate::new(new))
    })
    .await?;
    if seen.is_some() && !call.dry_run {
        options.resource_version = noted.revision.map(|revision| revision.to_string());
    }
    run(call, &options).await.map(|_| ())
}
