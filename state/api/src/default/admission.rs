//! Defaults of admission webhooks and policies, and of APIServices.

use serde_json::{Map, Value, json};

use super::{each, fill, fill_number, fill_text, inside, spec};
use crate::meta;

const HTTPS: i64 = 443;

/// Fills in a ValidatingWebhookConfiguration.
pub fn validating_webhooks(configuration: &mut Value) {
    each(meta::map_of(configuration), "webhooks", webhook);
}

/// Fills in a MutatingWebhookConfiguration.
pub fn mutating_webhooks(configuration: &mut Value) {
    each(meta::map_of(configuration), "webhooks", |hook| {
        webhook(hook);
        fill_text(hook, "reinvocationPolicy", "Never");
    });
}

fn webhook(hook: &mut Map<String, Value>) {
    fill_text(hook, "failurePolicy", "Fail");
    fill_text(hook, "matchPolicy", "Equivalent");
    fill(hook, "namespaceSelector", json!({}));
    fill(hook, "objectSelector", json!({}));
    fill(hook, "timeoutSeconds", 10);
    each(hook, "rules", |rule| fill_text(rule, "scope", "*"));
    inside(hook, "clientConfig", |config| {
        inside(config, "service", |service| fill_number(service, "port", HTTPS));
    });
}

/// Fills in a ValidatingAdmissionPolicy.
pub fn validating_policy(policy: &mut Value) {
    let spec = spec(policy);
    fill_text(spec, "failurePolicy", "Fail");
    inside(spec, "matchConstraints", match_resources);
}

/// Fills in a MutatingAdmissionPolicy.
pub fn mutating_policy(policy: &mut Value) {
    let spec = spec(policy);
    fill_text(spec, "failurePolicy", "Fail");
    fill_text(spec, "reinvocationPolicy", "Never");
    inside(spec, "matchConstraints", match_resources);
}

/// Fills in a binding of a policy.
pub fn binding(binding: &mut Value) {
    inside(spec(binding), "matchResources", match_resources);
}

fn match_resources(resources: &mut Map<String, Value>) {
    fill_text(resources, "matchPolicy", "Equivalent");
    fill(resources, "namespaceSelector", json!({}));
    fill(resources, "objectSelector", json!({}));
    for key in ["resourceRules", "excludeResourceRules"] {
        each(resources, key, |rule| fill_text(rule, "scope", "*"));
    }
}

/// Fills in an APIService.
pub fn api_service(service: &mut Value) {
    inside(spec(service), "service", |service| fill(service, "port", HTTPS));
}
