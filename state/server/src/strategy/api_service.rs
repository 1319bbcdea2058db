//! APIServices: a version that this server serves itself is available; one that another server would have to answer is not.

use serde_json::{Value, json};
use setpoint_api::{Status, meta};

use super::{Scene, Strategy};

pub(crate) struct ApiServices;

impl Strategy for ApiServices {
    fn create(&self, scene: &Scene<'_>, object: &mut Value, warnings: &mut Vec<String>) -> Result<(), Status> {
        let remote = meta::at(object, &["spec", "service"]).is_some_and(Value::is_object);
        let (status, reason, message) = if remote {
            let message = "requests are not passed on to other API servers by this version";
            warnings.push(format!("apiservices with a service are stored, but {message}"));
            ("False", "NotProxied", message)
        } else {
            ("True", "Local", "Local APIServices are always available")
        };
        let condition = json!({
            "type": "Available",
            "status": status,
            "lastTransitionTime": meta::format_time(scene.now),
            "reason": reason,
            "message": message,
        });
        meta::map_of(object).insert("status".into(), json!({"conditions": [condition]}));
        Ok(())
    }
}
