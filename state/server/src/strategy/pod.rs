//! Pods: a bound one is given its grace period, and its node says when it is gone.

use serde_json::Value;
use setpoint_api::{Status, default, meta};

use super::{Removal, Scene, Strategy, priority};
use crate::registry::{DeleteOptions, mark};

/// What a pod without a period of its own is given, in seconds.
const DEFAULT_GRACE: i64 = 30;

/// The annotation of a pod that mirrors one that its node runs on its own.
const MIRROR: &str = "kubernetes.io/config.mirror";

pub(crate) struct Pods;

impl Strategy for Pods {
    fn create(&self, scene: &Scene<'_>, object: &mut Value, _: &mut Vec<String>) -> Result<(), Status> {
        // A pod that mirrors one that its node runs on its own has no account.
        let mirror = meta::annotations(object).is_some_and(|all| all.contains_key(MIRROR));
        let spec = meta::map_mut(meta::map_of(object), "spec");
        if !mirror {
            let account = match spec.get("serviceAccountName").and_then(Value::as_str) {
                Some(account) if !account.is_empty() => account.to_owned(),
                _ => "default".to_owned(),
            };
            spec.insert("serviceAccountName".into(), account.as_str().into());
            spec.insert("serviceAccount".into(), account.into());
        }
        priority::admit_pod(scene.cache, object)?;
        default::pod::admit(object);
        Ok(())
    }

    fn update(&self, _: &Scene<'_>, object: &mut Value, old: &Value, _: &mut Vec<String>) -> Result<(), Status> {
        default::pod::admit(object);
        priority::keep(object, old);
        Ok(())
    }

    fn delete(&self, scene: &Scene<'_>, object: &mut Value, options: &DeleteOptions) -> Result<Removal, Status> {
        let own = meta::int_at(object, &["spec", "terminationGracePeriodSeconds"]).unwrap_or(DEFAULT_GRACE);
        let mut grace = options.grace.unwrap_or(own).max(0);
        let bound = !meta::str_at(object, &["spec", "nodeName"]).is_empty();
        let ended = matches!(meta::str_at(object, &["status", "phase"]), "Succeeded" | "Failed");
        if !bound || ended {
            grace = 0;
        }
        if grace == 0 {
            return Ok(Removal::Now);
        }
        match meta::deletion_grace_period(object) {
            // It has been asked to go; only a shorter period is news.
            Some(current) if meta::is_being_deleted(object) => {
                if options.grace.is_some() && grace < current {
                    mark(object, scene.now, grace);
                }
            }
            _ => mark(object, scene.now, grace),
        }
        Ok(Removal::Later)
    }
}
