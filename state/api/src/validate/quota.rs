//! The rules of ResourceQuotas and LimitRanges.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use serde_json::Value;

use super::field::{FieldError, Path};
use super::{all_invalid, immutable};
use crate::meta::{at, list_at, str_at};
use crate::names;
use crate::quantity::Quantity;

const SCOPES: &[&str] = &[
    "Terminating",
    "NotTerminating",
    "BestEffort",
    "NotBestEffort",
    "PriorityClass",
    "CrossNamespacePodAffinity",
    "VolumeAttributesClass",
];
/// Scopes that nothing can be in both of.
const OPPOSITES: &[[&str; 2]] = &[["BestEffort", "NotBestEffort"], ["Terminating", "NotTerminating"]];
/// What a quota can be set for without a prefix or suffix of its own.
const QUOTA_RESOURCES: &[&str] = &[
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.storage",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "persistentvolumeclaims",
    "configmaps",
    "services.nodeports",
    "services.loadbalancers",
];
/// What is counted in whole numbers.
const COUNTED: &[&str] = &[
    "pods",
    "services",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "services.nodeports",
    "services.loadbalancers",
];
/// What a quota of pods can be about.
const OF_PODS: &[&str] = &[
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
];

/// Returns what is wrong with a ResourceQuota.
pub fn quota(object: &Value) -> Vec<FieldError> {
    let path = Path::new("spec");
    let mut errors = amounts(&path.child("hard"), at(object, &["spec", "hard"]));
    let hard: Vec<&str> = at(object, &["spec", "hard"])
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .map(|(name, _)| name.as_str())
        .collect();
    scopes(
        &mut errors,
        &path.child("scopes"),
        at(object, &["spec", "scopes"]),
        &hard,
    );
    selector(
        &mut errors,
        &path.child("scopeSelector"),
        at(object, &["spec", "scopeSelector"]),
        &hard,
    );
    errors
}

/// Returns what is wrong with the change of a ResourceQuota.
pub fn quota_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = quota(new);
    let scopes = |object: &Value| -> BTreeSet<String> {
        let texts = list_at(object, &["spec", "scopes"]).iter().filter_map(Value::as_str);
        texts.map(str::to_owned).collect()
    };
    if scopes(new) != scopes(old) {
        let value = at(new, &["spec", "scopes"]).cloned().unwrap_or(Value::Null);
        immutable(
            &mut errors,
            &Path::new("spec.scopes"),
            Some(&value),
            at(old, &["spec", "scopes"]),
        );
    }
    errors
}

/// Returns what is wrong with a ResourceQuota's status.
pub fn quota_status(object: &Value) -> Vec<FieldError> {
    let path = Path::new("status");
    let mut errors = Vec::new();
    for key in ["hard", "used"] {
        errors.extend(amounts(&path.child(key), at(object, &["status", key])));
    }
    errors
}

fn amounts(path: &Path, amounts: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (name, amount) in amounts.and_then(Value::as_object).into_iter().flatten() {
        let path = path.key(name);
        let wrong = names::qualified_name(name);
        let standard = QUOTA_RESOURCES.contains(&name.as_str())
            || name.starts_with("hugepages-")
            || name.starts_with("requests.hugepages-");
        if wrong.is_empty() && !name.contains('/') && !standard {
            let detail = "must be a standard resource for quota";
            errors.push(FieldError::invalid(&path, name.as_str(), detail));
        }
        all_invalid(&mut errors, &path, name, wrong);
        match Quantity::from_value(amount) {
            Ok(quantity) if quantity.is_negative() => {
                let detail = "must be greater than or equal to 0";
                errors.push(FieldError::invalid(&path, amount.clone(), detail));
            }
            Ok(quantity) if quantity.is_fractional() && is_counted(name) => {
                errors.push(FieldError::invalid(&path, amount.clone(), "must be an integer"));
            }
            Ok(_) => {}
            Err(error) => errors.push(FieldError::invalid(&path, amount.clone(), error.to_string())),
        }
    }
    errors
}

/// Whether there are only whole numbers of something: objects, and what extends a node.
fn is_counted(name: &str) -> bool {
    let extended = name.contains('/') && !name.contains("kubernetes.io/") && !name.starts_with("requests.");
    COUNTED.contains(&name) || extended
}

fn fits(scope: &str, resource: &str) -> bool {
    match scope {
        "BestEffort" => resource == "pods",
        "VolumeAttributesClass" => resource == "persistentvolumeclaims" || resource == "requests.storage",
        _ => OF_PODS.contains(&resource),
    }
}

fn scopes(errors: &mut Vec<FieldError>, path: &Path, scopes: Option<&Value>, hard: &[&str]) {
    let listed: Vec<&str> = scopes
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let value = || scopes.cloned().unwrap_or(Value::Null);
    for scope in &listed {
        if !SCOPES.contains(scope) {
            errors.push(FieldError::invalid(path, value(), "unsupported scope"));
        }
        for resource in hard.iter().filter(|name| QUOTA_RESOURCES.contains(name)) {
            if !fits(scope, resource) {
                let detail = "unsupported scope applied to resource";
                errors.push(FieldError::invalid(path, value(), detail));
            }
        }
    }
    if OPPOSITES
        .iter()
        .any(|pair| pair.iter().all(|scope| listed.contains(scope)))
    {
        errors.push(FieldError::invalid(path, value(), "conflicting scopes"));
    }
}

fn selector(errors: &mut Vec<FieldError>, path: &Path, selector: Option<&Value>, hard: &[&str]) {
    let Some(selector) = selector.filter(|selector| selector.is_object()) else {
        return;
    };
    let path = path.child("matchExpressions");
    let mut existing = Vec::new();
    for expression in list_at(selector, &["matchExpressions"]) {
        let text = |key: &str| str_at(expression, &[key]);
        let (scope, operator) = (text("scopeName"), text("operator"));
        if !SCOPES.contains(&scope) {
            errors.push(FieldError::invalid(path.child("scopeName"), scope, "unsupported scope"));
        }
        for resource in hard.iter().filter(|name| QUOTA_RESOURCES.contains(name)) {
            if !fits(scope, resource) {
                let detail = "unsupported scope applied to resource";
                errors.push(FieldError::invalid(&path, selector.clone(), detail));
            }
        }
        let plain = !matches!(scope, "PriorityClass" | "VolumeAttributesClass") && SCOPES.contains(&scope);
        if plain && operator != "Exists" {
            let detail = "must be 'Exist' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity";
            errors.push(FieldError::invalid(path.child("operator"), operator, detail));
        }
        let values = list_at(expression, &["values"]);
        match operator {
            "In" | "NotIn" if values.is_empty() => {
                let detail = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector";
                errors.push(FieldError::required(path.child("values"), detail));
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                let detail = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector";
                errors.push(FieldError::invalid(
                    path.child("values"),
                    Value::from(values.to_vec()),
                    detail,
                ));
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => {
                let detail = "not a valid selector operator";
                errors.push(FieldError::invalid(path.child("operator"), other, detail));
            }
        }
        existing.push(scope);
    }
    if OPPOSITES
        .iter()
        .any(|pair| pair.iter().all(|scope| existing.contains(scope)))
    {
        errors.push(FieldError::invalid(&path, selector.clone(), "conflicting scopes"));
    }
}

/// The bounds that a LimitRange can set for one resource.
#[derive(Default)]
struct Bounds {
    min: Option<Quantity>,
    max: Option<Quantity>,
    default: Option<Quantity>,
    request: Option<Quantity>,
    ratio: Option<Quantity>,
}

/// Returns what is wrong with a LimitRange.
pub fn limit_range(object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut seen = HashSet::new();
    for (index, limit) in list_at(object, &["spec", "limits"]).iter().enumerate() {
        let path = Path::new("spec.limits").index(index);
        let kind = str_at(limit, &["type"]);
        let wrong = names::qualified_name(kind);
        let standard = matches!(kind, "Pod" | "Container" | "PersistentVolumeClaim");
        if wrong.is_empty() && !kind.contains('/') && !standard {
            let detail = "must be a standard limit type or fully qualified";
            errors.push(FieldError::invalid(path.child("type"), kind, detail));
        }
        all_invalid(&mut errors, &path.child("type"), kind, wrong);
        if !seen.insert(kind) {
            errors.push(FieldError::duplicate(path.child("type"), kind));
        }
        limit_item(&mut errors, &path, limit, kind);
    }
    errors
}

fn limit_item(errors: &mut Vec<FieldError>, path: &Path, limit: &Value, kind: &str) {
    let mut all: BTreeMap<&str, Bounds> = BTreeMap::new();
    for key in ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"] {
        let amounts = at(limit, &[key]).and_then(Value::as_object);
        let path = path.child(key);
        if kind == "Pod" && key.starts_with("default") {
            if amounts.is_some_and(|amounts| !amounts.is_empty()) {
                errors.push(FieldError::forbidden(
                    &path,
                    "may not be specified when `type` is 'Pod'",
                ));
            }
            continue;
        }
        for (name, amount) in amounts.into_iter().flatten() {
            let path = path.key(name);
            all_invalid(errors, &path, name, names::qualified_name(name));
            let quantity = match Quantity::from_value(amount) {
                Ok(quantity) => quantity,
                Err(error) => {
                    errors.push(FieldError::invalid(&path, amount.clone(), error.to_string()));
                    continue;
                }
            };
            let bounds = all.entry(name).or_default();
            let slot = match key {
                "max" => &mut bounds.max,
                "min" => &mut bounds.min,
                "default" => &mut bounds.default,
                "defaultRequest" => &mut bounds.request,
                _ => &mut bounds.ratio,
            };
            *slot = Some(quantity);
        }
    }
    if kind == "PersistentVolumeClaim"
        && all
            .get("storage")
            .is_none_or(|bounds| bounds.min.is_none() && bounds.max.is_none())
    {
        let detail = "either minimum or maximum storage value is required, but neither was provided";
        errors.push(FieldError::required(path.child("limits"), detail));
    }
    for (name, bounds) in all {
        bounds.check(errors, path, name);
    }
}

impl Bounds {
    fn check(&self, errors: &mut Vec<FieldError>, path: &Path, name: &str) {
        let mut ordered =
            |key: &str, less: Option<Quantity>, more: Option<Quantity>, shown: Option<Quantity>, says: [&str; 2]| {
                if let (Some(less), Some(more), Some(shown)) = (less, more, shown)
                    && less > more
                {
                    let detail = format!("{} {less} is greater than {} {more}", says[0], says[1]);
                    errors.push(FieldError::invalid(
                        path.child(key).key(name),
                        shown.to_string(),
                        detail,
                    ));
                }
            };
        let Bounds {
            min,
            max,
            default,
            request,
            ratio,
        } = self;
        ordered("min", *min, *max, *min, ["min value", "max value"]);
        ordered(
            "defaultRequest",
            *min,
            *request,
            *request,
            ["min value", "default request value"],
        );
        ordered(
            "defaultRequest",
            *request,
            *max,
            *request,
            ["default request value", "max value"],
        );
        ordered(
            "defaultRequest",
            *request,
            *default,
            *request,
            ["default request value", "default limit value"],
        );
        ordered("default", *min, *default, *min, ["min value", "default value"]);
        ordered("default", *default, *max, *max, ["default value", "max value"]);
        let path = path.child("maxLimitRequestRatio").key(name);
        if let Some(ratio) = ratio {
            if *ratio < Quantity::from_units(1) {
                let detail = format!("ratio {ratio} is less than 1");
                errors.push(FieldError::invalid(&path, ratio.to_string(), detail));
            }
            if let (Some(min), Some(max)) = (min, max)
                && !min.is_zero()
                && ratio.as_f64() > max.as_f64() / min.as_f64()
            {
                let detail = format!(
                    "ratio {ratio} is greater than max/min = {:.6}",
                    max.as_f64() / min.as_f64()
                );
                errors.push(FieldError::invalid(&path, ratio.to_string(), detail));
            }
        }
    }
}
