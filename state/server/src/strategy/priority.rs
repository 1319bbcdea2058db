//! PriorityClasses: one of them at most is the default, those of the system stay, and pods get their priority from them.

use serde_json::Value;
use setpoint_api::validate::scheduling::SYSTEM_PRIORITIES;
use setpoint_api::{Status, meta};
use tokio::sync::Mutex;

use super::{Removal, Scene, Strategy};
use crate::cache::Cache;
use crate::registry::DeleteOptions;

const GROUP: &str = "scheduling.k8s.io";
const PLURAL: &str = "priorityclasses";
/// The kind in the cache.
const RESOURCE: &str = "scheduling.k8s.io/priorityclasses";
/// The priority of pods without a class, where no class is the default.
const NO_PRIORITY: i64 = 0;

#[derive(Default)]
pub(crate) struct PriorityClasses {
    /// Two classes that become the default at the same moment must see each other.
    exclusive: Mutex<()>,
}

impl Strategy for PriorityClasses {
    fn exclusive(&self) -> Option<&Mutex<()>> {
        Some(&self.exclusive)
    }

    fn create(&self, scene: &Scene<'_>, object: &mut Value, _: &mut Vec<String>) -> Result<(), Status> {
        only_default(scene.cache, object)
    }

    fn update(&self, scene: &Scene<'_>, object: &mut Value, _: &Value, _: &mut Vec<String>) -> Result<(), Status> {
        only_default(scene.cache, object)
    }

    fn delete(&self, _: &Scene<'_>, object: &mut Value, _: &DeleteOptions) -> Result<Removal, Status> {
        let name = meta::name(object);
        if SYSTEM_PRIORITIES.iter().any(|known| known.name == name) {
            let why = "this is a system priority class and cannot be deleted";
            return Err(Status::forbidden(GROUP, PLURAL, name, why));
        }
        Ok(Removal::Now)
    }
}

fn is_default(class: &Value) -> bool {
    class.get("globalDefault") == Some(&Value::Bool(true))
}

fn value_of(class: &Value) -> i64 {
    meta::int_at(class, &["value"]).unwrap_or(NO_PRIORITY)
}

/// Returns the class that pods without one get: of several the one with the lowest value.
fn default_class(cache: &Cache) -> Option<Value> {
    let classes = cache.list(RESOURCE, None);
    let defaults = classes.iter().map(|stored| stored.value()).filter(is_default);
    defaults.min_by_key(value_of)
}

fn only_default(cache: &Cache, object: &Value) -> Result<(), Status> {
    let name = meta::name(object);
    match default_class(cache) {
        Some(other) if is_default(object) && meta::name(&other) != name => {
            let other = meta::name(&other);
            let why = format!("PriorityClass {other} is already marked as default. Only one default can exist");
            Err(Status::forbidden(GROUP, PLURAL, name, &why))
        }
        _ => Ok(()),
    }
}

/// Gives a new pod the priority and the preemption policy of its class.
///
/// # Errors
/// 403 when there is no such class, and when the pod asks for other than its class has.
pub(crate) fn admit_pod(cache: &Cache, pod: &mut Value) -> Result<(), Status> {
    let name = meta::name(pod).to_owned();
    let refuse = |why: String| Err(Status::forbidden("", "pods", &name, &why));
    let spec = meta::map_mut(meta::map_of(pod), "spec");
    let wanted = spec.get("priorityClassName").and_then(Value::as_str).unwrap_or("");
    let class = if wanted.is_empty() {
        default_class(cache)
    } else {
        match cache.get(RESOURCE, "", wanted) {
            Some(stored) => Some(stored.value()),
            None => return refuse(format!("no PriorityClass with name {wanted} was found")),
        }
    };
    let priority = class.as_ref().map_or(NO_PRIORITY, value_of);
    if let Some(asked) = spec.get("priority").and_then(Value::as_i64)
        && asked != priority
    {
        return refuse(format!(
            "the integer value of priority ({asked}) must not be provided in pod spec; priority admission controller computed {priority} from the given PriorityClass name"
        ));
    }
    let policy = class
        .as_ref()
        .map(|class| meta::str_at(class, &["preemptionPolicy"]))
        .filter(|policy| !policy.is_empty())
        .unwrap_or("PreemptLowerPriority");
    if let Some(asked) = spec.get("preemptionPolicy").and_then(Value::as_str)
        && asked != policy
    {
        return refuse(format!(
            "the string value of PreemptionPolicy ({asked}) must not be provided in pod spec; priority admission controller computed {policy} from the given PriorityClass name"
        ));
    }
    let policy = policy.to_owned();
    if let Some(class) = &class {
        spec.insert("priorityClassName".into(), meta::name(class).into());
    }
    spec.insert("priority".into(), priority.into());
    spec.insert("preemptionPolicy".into(), policy.into());
    Ok(())
}

/// Keeps what a pod was given, where a change leaves it out.
pub(crate) fn keep(new: &mut Value, old: &Value) {
    let spec = meta::map_mut(meta::map_of(new), "spec");
    for key in ["priority", "preemptionPolicy"] {
        let missing = spec.get(key).is_none_or(Value::is_null);
        if let Some(value) = meta::at(old, &["spec", key]).filter(|_| missing) {
            spec.insert(key.to_owned(), value.clone());
        }
    }
}
