//! The rules of Ingresses and IngressClasses.

use serde_json::Value;

use super::field::{FieldError, Path};
use super::workload::spec_of;
use super::{all_invalid, format, given, immutable};
use crate::meta::{self, at, int_at, list_at, str_at};
use crate::names;

const CLASS: &str = "kubernetes.io/ingress.class";
const LONGEST_CONTROLLER: usize = 250;
const FORBIDDEN_IN_PATHS: &[&str] = &["//", "/./", "/../", "%2f", "%2F"];
const FORBIDDEN_AT_ENDS: &[&str] = &["/..", "/."];

/// Returns what is wrong with a new Ingress.
pub fn create(object: &Value) -> Vec<FieldError> {
    let mut errors = spec(object, true, true);
    let class = given(spec_of(object), "ingressClassName").and_then(Value::as_str);
    if let (Some(annotated), Some(class)) = (meta::annotation(object, CLASS), class)
        && annotated != class
    {
        errors.push(FieldError::invalid(
            Path::new("annotations").child(CLASS),
            annotated,
            "must match `ingressClassName` when both are specified",
        ));
    }
    errors
}

/// Returns what is wrong with the change of an Ingress; what was wrong before may stay.
pub fn update(new: &Value, old: &Value) -> Vec<FieldError> {
    let secrets = list_at(old, &["spec", "tls"])
        .iter()
        .all(|tls| secret_name(str_at(tls, &["secretName"])).is_empty());
    let wildcards = list_at(old, &["spec", "rules"])
        .iter()
        .filter(|rule| str_at(rule, &["host"]).contains('*'))
        .all(|rule| {
            let mut errors = Vec::new();
            rule_value(&mut errors, &Path::new("rules"), rule);
            errors.is_empty()
        });
    spec(new, secrets, wildcards)
}

/// Returns what is wrong with the change of an Ingress' status.
pub fn status(new: &Value, old: &Value) -> Vec<FieldError> {
    let path = Path::new("status.loadBalancer.ingress");
    let ingress = |object: &'_ Value| list_at(object, &["status", "loadBalancer", "ingress"]).to_vec();
    let before = ingress(old);
    let mut errors = Vec::new();
    for (index, entry) in ingress(new).iter().enumerate() {
        let path = path.index(index);
        let (ip, host) = (str_at(entry, &["ip"]), str_at(entry, &["hostname"]));
        let kept = before.iter().any(|entry| str_at(entry, &["ip"]) == ip);
        if !ip.is_empty() && !kept && !format::is_address(ip) {
            all_invalid(&mut errors, &path.child("ip"), ip, format::address(ip));
        }
        if !host.is_empty() {
            let path = path.child("hostname");
            all_invalid(&mut errors, &path, host, names::dns_subdomain(host));
            no_address(&mut errors, &path, host);
        }
    }
    errors
}

fn no_address(errors: &mut Vec<FieldError>, path: &Path, host: &str) {
    if format::is_address(host) {
        let detail = "must be a DNS name, not an IP address";
        errors.push(FieldError::invalid(path, host, detail));
    }
}

fn secret_name(name: &str) -> Vec<String> {
    if name.is_empty() {
        Vec::new()
    } else {
        names::dns_subdomain(name)
    }
}

fn spec(object: &Value, checks_secrets: bool, checks_wildcards: bool) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let (path, spec) = (Path::new("spec"), spec_of(object));
    let rules = list_at(spec, &["rules"]);
    let backend = given(spec, "defaultBackend");
    if rules.is_empty() && backend.is_none() {
        let detail = "either `defaultBackend` or `rules` must be specified";
        let shown = given(spec, "rules").cloned().unwrap_or(Value::Null);
        errors.push(FieldError::invalid(&path, shown, detail));
    }
    if let Some(found) = backend {
        self::backend(&mut errors, &path.child("defaultBackend"), found);
    }
    for (index, rule) in rules.iter().enumerate() {
        let path = path.child("rules").index(index);
        let host = str_at(rule, &["host"]);
        let wildcard = host.contains('*');
        if !host.is_empty() {
            let path = path.child("host");
            no_address(&mut errors, &path, host);
            all_invalid(&mut errors, &path, host, host_errors(host));
        }
        if !wildcard || checks_wildcards {
            rule_value(&mut errors, &path, rule);
        }
    }
    for (index, tls) in list_at(spec, &["tls"]).iter().enumerate() {
        let path = path.child("tls").index(index);
        for (index, host) in list_at(tls, &["hosts"]).iter().filter_map(Value::as_str).enumerate() {
            all_invalid(&mut errors, &path.child("hosts").index(index), host, host_errors(host));
        }
        let secret = str_at(tls, &["secretName"]);
        if checks_secrets {
            all_invalid(&mut errors, &path.child("secretName"), secret, secret_name(secret));
        }
    }
    if let Some(class) = given(spec, "ingressClassName").and_then(Value::as_str) {
        let path = path.child("ingressClassName");
        all_invalid(&mut errors, &path, class, names::dns_subdomain(class));
    }
    errors
}

fn host_errors(host: &str) -> Vec<String> {
    if host.contains('*') {
        format::wildcard_subdomain(host)
    } else {
        names::dns_subdomain(host)
    }
}

fn rule_value(errors: &mut Vec<FieldError>, path: &Path, rule: &Value) {
    let Some(http) = given(rule, "http") else { return };
    let path = path.child("http").child("paths");
    let paths = list_at(http, &["paths"]);
    if paths.is_empty() {
        errors.push(FieldError::required(&path, ""));
    }
    for (index, found) in paths.iter().enumerate() {
        http_path(errors, &path.index(index), found);
    }
}

fn http_path(errors: &mut Vec<FieldError>, path: &Path, found: &Value) {
    if given(found, "pathType").is_none() {
        let detail = "pathType must be specified";
        errors.push(FieldError::required(path.child("pathType"), detail));
        return;
    }
    let (ty, text) = (str_at(found, &["pathType"]), str_at(found, &["path"]));
    let path_of_text = path.child("path");
    let absolute = text.starts_with('/');
    let mut refuse = |detail: String| errors.push(FieldError::invalid(&path_of_text, text, detail));
    match ty {
        "Exact" | "Prefix" => {
            if !absolute {
                refuse("must be an absolute path".to_owned());
            }
            for part in FORBIDDEN_IN_PATHS.iter().filter(|part| text.contains(**part)) {
                refuse(format!("must not contain '{part}'"));
            }
            for end in FORBIDDEN_AT_ENDS.iter().filter(|end| text.ends_with(**end)) {
                refuse(format!("cannot end with '{end}'"));
            }
        }
        "ImplementationSpecific" => {
            if !text.is_empty() && !absolute {
                refuse("must be an absolute path".to_owned());
            }
        }
        _ => {
            let supported = ["Exact", "ImplementationSpecific", "Prefix"];
            errors.push(FieldError::not_supported(path.child("pathType"), ty, &supported));
        }
    }
    let found = found.get("backend").unwrap_or(&Value::Null);
    backend(errors, &path.child("backend"), found);
}

fn backend(errors: &mut Vec<FieldError>, path: &Path, backend: &Value) {
    match (given(backend, "resource"), given(backend, "service")) {
        (Some(_), Some(_)) => {
            let detail = "cannot set both resource and service backends";
            errors.push(FieldError::invalid(path, "", detail));
        }
        (Some(resource), None) => reference(errors, &path.child("resource"), resource),
        (None, Some(service)) => self::service(errors, path, service),
        (None, None) => {
            let detail = "resource or service backend is required";
            errors.push(FieldError::invalid(path, "", detail));
        }
    }
}

fn service(errors: &mut Vec<FieldError>, path: &Path, service: &Value) {
    let name = str_at(service, &["name"]);
    let name_path = path.child("service").child("name");
    if name.is_empty() {
        errors.push(FieldError::required(name_path, ""));
    } else {
        all_invalid(errors, &name_path, name, names::dns1035_label(name));
    }
    let port = path.child("service").child("port");
    let name = str_at(service, &["port", "name"]);
    let number = int_at(service, &["port", "number"]).unwrap_or(0);
    match (!name.is_empty(), number != 0) {
        (true, true) => {
            let detail = "cannot set both port name & port number";
            errors.push(FieldError::invalid(path, "", detail));
        }
        (true, false) => all_invalid(errors, &port.child("name"), name, names::port_name(name)),
        (false, true) => {
            let wrong = names::port_number(number).into_iter();
            errors.extend(wrong.map(|detail| FieldError::invalid(port.child("number"), number, detail)));
        }
        (false, false) => errors.push(FieldError::required(path, "port name or number is required")),
    }
}

/// Refuses a reference whose group, kind or name cannot be one.
fn reference(errors: &mut Vec<FieldError>, path: &Path, reference: &Value) {
    if let Some(group) = given(reference, "apiGroup").and_then(Value::as_str) {
        all_invalid(errors, &path.child("apiGroup"), group, names::dns_subdomain(group));
    }
    for key in ["kind", "name"] {
        super::required_segment(errors, &path.child(key), str_at(reference, &[key]));
    }
}

/// Returns what is wrong with a new IngressClass.
pub fn class(object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let path = Path::new("spec.controller");
    let controller = str_at(object, &["spec", "controller"]);
    if controller.len() > LONGEST_CONTROLLER {
        errors.push(FieldError::too_long(&path, LONGEST_CONTROLLER));
    }
    format::domain_prefixed_path(&mut errors, &path, controller);
    if let Some(parameters) = at(object, &["spec", "parameters"]).filter(|found| found.is_object()) {
        class_parameters(&mut errors, &Path::new("spec.parameters"), parameters);
    }
    errors
}

/// Returns what is wrong with the change of an IngressClass.
pub fn class_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let controller = |object: &'_ Value| at(object, &["spec", "controller"]).cloned();
    immutable(
        &mut errors,
        &Path::new("spec.controller"),
        controller(new).as_ref(),
        controller(old).as_ref(),
    );
    errors.extend(class(new));
    errors
}

fn class_parameters(errors: &mut Vec<FieldError>, path: &Path, parameters: &Value) {
    reference(errors, path, parameters);
    let (scope_path, path) = (path.child("scope"), path.child("namespace"));
    let namespace = given(parameters, "namespace").and_then(Value::as_str);
    let Some(scope) = given(parameters, "scope").and_then(Value::as_str) else {
        errors.push(FieldError::required(scope_path, ""));
        return;
    };
    match (scope, namespace) {
        ("Namespace", None) => {
            let detail = "`parameters.scope` is set to 'Namespace'";
            errors.push(FieldError::required(path, detail));
        }
        ("Namespace", Some(namespace)) => all_invalid(errors, &path, namespace, names::dns_label(namespace)),
        ("Cluster", Some(_)) => {
            let detail = "`parameters.scope` is set to 'Cluster'";
            errors.push(FieldError::forbidden(path, detail));
        }
        ("Cluster", None) => {}
        _ => errors.push(FieldError::not_supported(scope_path, scope, &["Cluster", "Namespace"])),
    }
}
