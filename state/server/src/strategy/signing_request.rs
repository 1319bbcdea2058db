//! CertificateSigningRequests: when each condition was said, and what approval may not touch.

use serde_json::Value;
use setpoint_api::{Status, meta};

use super::{Scene, Strategy};

pub(crate) struct SigningRequests;

impl Strategy for SigningRequests {
    fn update_part(&self, scene: &Scene<'_>, subresource: &str, object: &mut Value, old: &Value) -> Result<(), Status> {
        let now = meta::format_time(scene.now);
        let before = meta::list_at(old, &["status", "conditions"]).to_vec();
        let status = meta::map_mut(meta::map_of(object), "status");
        if subresource == "approval" {
            match meta::at(old, &["status", "certificate"]) {
                Some(certificate) => status.insert("certificate".into(), certificate.clone()),
                None => status.remove("certificate"),
            };
        }
        let Some(Value::Array(conditions)) = status.get_mut("conditions") else {
            return Ok(());
        };
        for condition in conditions {
            let same = |other: &&Value| {
                ["type", "status"]
                    .iter()
                    .all(|key| meta::str_at(other, &[key]) == meta::str_at(condition, &[key]))
            };
            let since = before
                .iter()
                .find(same)
                .map(|other| meta::str_at(other, &["lastTransitionTime"]).to_owned())
                .filter(|time| !time.is_empty())
                .unwrap_or_else(|| now.clone());
            for (key, value) in [("lastUpdateTime", now.clone()), ("lastTransitionTime", since)] {
                if meta::str_at(condition, &[key]).is_empty() {
                    meta::map_of(condition).insert(key.into(), value.into());
                }
            }
        }
        Ok(())
    }
}
