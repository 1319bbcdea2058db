//! Pods: a bound one is given its grace period, and its node says when it is gone.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use setpoint_api::{Status, default, meta};

use super::{Removal, Scene, Strategy, account, priority, runtime_class};
use crate::registry::{DeleteOptions, mark};

/// What a pod without a period of its own is given, in seconds.
const DEFAULT_GRACE: i64 = 30;

/// The annotation of a pod that mirrors one that its node runs on its own.
pub(super) const MIRROR: &str = "kubernetes.io/config.mirror";

pub(crate) struct Pods;

impl Strategy for Pods {
    fn create(&self, scene: &Scene<'_>, object: &mut Value, _: &mut Vec<String>) -> Result<(), Status> {
        account::admit_pod(scene.cache, object)?;
        priority::admit_pod(scene.cache, object)?;
        runtime_class::admit_pod(scene.cache, object)?;
        default::pod::admit(object);
        Ok(())
    }

    fn update_part(&self, scene: &Scene<'_>, subresource: &str, object: &mut Value, _: &Value) -> Result<(), Status> {
        match subresource {
            "ephemeralcontainers" => account::admit_ephemeral(scene.cache, object),
            _ => Ok(()),
        }
    }

    fn update(&self, _: &Scene<'_>, object: &mut Value, old: &Value, _: &mut Vec<String>) -> Result<(), Status> {
        default::pod::admit(object);
        priority::keep(object, old);
        Ok(())
    }

    fn delete(&self, scene: &Scene<'_>, object: &mut Value, options: &DeleteOptions) -> Result<Removal, Status> {
        if meta::is_being_deleted(object) {
            return Ok(hurry(object, scene.now, options.grace));
        }
        let own = meta::int_at(object, &["spec", "terminationGracePeriodSeconds"]).unwrap_or(DEFAULT_GRACE);
        let mut grace = options.grace.unwrap_or(own);
        let bound = !meta::str_at(object, &["spec", "nodeName"]).is_empty();
        let ended = matches!(meta::str_at(object, &["status", "phase"]), "Succeeded" | "Failed");
        if !bound || ended {
            grace = 0;
        }
        if grace == 0 {
            return Ok(Removal::Now);
        }
        // A pod whose own period makes no sense is given the shortest.
        mark(object, scene.now, grace.max(1));
        Ok(Removal::Later)
    }
}

/// Asks a pod again that was asked to go: its time can only become shorter, and counts from when it was asked first.
fn hurry(pod: &mut Value, now: Timestamp, wanted: Option<i64>) -> Removal {
    let given = match meta::deletion_grace_period(pod) {
        None | Some(0) => return Removal::Now,
        Some(given) => given.max(1),
    };
    let Some(wanted) = wanted.filter(|wanted| *wanted < given) else {
        return Removal::Pending;
    };
    let shorter = SignedDuration::from_secs(given - wanted);
    let until = meta::deletion_timestamp(pod).and_then(|until| until.checked_sub(shorter).ok());
    match until.filter(|until| *until >= now) {
        Some(until) => meta::set(pod, "deletionTimestamp", meta::format_time(until)),
        None => meta::set(pod, "deletionTimestamp", meta::format_time(now)),
    }
    let left = if until.is_some_and(|until| until >= now) {
        wanted
    } else {
        // The period has passed; whoever runs the pod still is the one to end it.
        wanted.min(1)
    };
    meta::set(pod, "deletionGracePeriodSeconds", left);
    if wanted == 0 { Removal::Now } else { Removal::Later }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pod_that_goes_can_only_be_hurried() {
        let now: Timestamp = "2024-01-01T00:00:20Z".parse().expect("a time");
        let (asked, over) = ("2024-01-01T00:00:30Z", "2024-01-01T00:00:20Z");
        // It was asked at 00:00:00 and given 30 seconds; 20 of them are over.
        for (given, wanted, removal, until, left) in [
            (Some(30), None, Removal::Pending, asked, Some(30)),
            (Some(30), Some(30), Removal::Pending, asked, Some(30)),
            (Some(30), Some(60), Removal::Pending, asked, Some(30)),
            (Some(30), Some(25), Removal::Later, "2024-01-01T00:00:25Z", Some(25)),
            (Some(30), Some(20), Removal::Later, over, Some(20)),
            (Some(30), Some(10), Removal::Later, over, Some(1)),
            (Some(30), Some(0), Removal::Now, over, Some(0)),
            (Some(0), Some(5), Removal::Now, asked, Some(0)),
            (None, None, Removal::Now, asked, None),
        ] {
            let mut pod = json!({"metadata": {"deletionTimestamp": asked}});
            if let Some(given) = given {
                meta::set(&mut pod, "deletionGracePeriodSeconds", given);
            }
            let found = hurry(&mut pod, now, wanted);
            let case = format!("{given:?} → {wanted:?}");
            assert_eq!(found, removal, "{case}");
            assert_eq!(pod["metadata"]["deletionTimestamp"], until, "{case}");
            assert_eq!(meta::deletion_grace_period(&pod), left, "{case}");
        }
    }
}
