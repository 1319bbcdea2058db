//! Defaults of HorizontalPodAutoscalers.

use serde_json::{Map, Value, json};

use super::{fill, inside, spec};
use crate::convert::autoscaling::{DEFAULT_UTILIZATION, HORIZONTAL_POD_AUTOSCALER};
use crate::meta;

/// Fills in an `autoscaling/v2 HorizontalPodAutoscaler`.
pub fn v2(object: &mut Value) {
    let spec = spec(object);
    fill(spec, "minReplicas", 1);
    if spec.get("metrics").and_then(Value::as_array).is_none_or(Vec::is_empty) {
        let target = json!({"type": "Utilization", "averageUtilization": DEFAULT_UTILIZATION});
        spec.insert(
            "metrics".into(),
            json!([{"type": "Resource", "resource": {"name": "cpu", "target": target}}]),
        );
    }
    // A behavior that says something of one direction is completed in both.
    inside(spec, "behavior", |behavior| {
        let up = meta::map_mut(behavior, "scaleUp");
        fill(up, "stabilizationWindowSeconds", 0);
        rules(
            up,
            json!([
                {"type": "Pods", "value": 4, "periodSeconds": 15},
                {"type": "Percent", "value": 100, "periodSeconds": 15},
            ]),
        );
        rules(
            meta::map_mut(behavior, "scaleDown"),
            json!([{"type": "Percent", "value": 100, "periodSeconds": 15}]),
        );
    });
}

fn rules(rules: &mut Map<String, Value>, policies: Value) {
    fill(rules, "selectPolicy", "Max");
    fill(rules, "policies", policies);
}

/// Fills in an `autoscaling/v1 HorizontalPodAutoscaler`: as v2, and what comes of it is seen in v1.
pub fn v1(object: &mut Value) {
    spec(object);
    (HORIZONTAL_POD_AUTOSCALER.to_stored)(object);
    v2(object);
    (HORIZONTAL_POD_AUTOSCALER.from_stored)(object);
}
