//! The rules of CertificateSigningRequests, ClusterTrustBundles and PodCertificateRequests.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::collections::HashSet;

use serde_json::Value;

use super::field::{FieldError, Path};
use super::{all_invalid, format, given, immutable};
use crate::meta::{self, at, int_at, list_at, str_at};
use crate::{certificate, names};

const SHORTEST_SECONDS: i64 = 600;
const LEGACY_SIGNER: &str = "kubernetes.io/legacy-unknown";
const USAGES: &[&str] = &[
    "signing",
    "digital signature",
    "content commitment",
    "key encipherment",
    "key agreement",
    "data encipherment",
    "cert sign",
    "crl sign",
    "encipher only",
    "decipher only",
    "any",
    "server auth",
    "client auth",
    "code signing",
    "email protection",
    "s/mime",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "timestamping",
    "ocsp signing",
    "microsoft sgc",
    "netscape sgc",
];
/// The conditions that are said through `approval` only.
const APPROVAL: &[&str] = &["Approved", "Denied"];
/// The conditions that stay, and are true when they are there.
const LASTING: &[&str] = &["Approved", "Denied", "Failed"];
const LARGEST_BUNDLE: usize = 1 << 20;

/// Returns what is wrong with a new CertificateSigningRequest.
pub fn create(object: &Value) -> Vec<FieldError> {
    request(object, None)
}

/// Returns what is wrong with the change of a CertificateSigningRequest.
pub fn update(new: &Value, old: &Value) -> Vec<FieldError> {
    changed(new, old, false, false)
}

/// Returns what is wrong with the change of its status: the certificate is issued here.
pub fn status(new: &Value, old: &Value) -> Vec<FieldError> {
    changed(new, old, false, true)
}

/// Returns what is wrong with a change through `approval`: it is approved or denied here.
pub fn approval(new: &Value, old: &Value) -> Vec<FieldError> {
    changed(new, old, true, false)
}

fn conditions(object: &Value) -> &[Value] {
    list_at(object, &["status", "conditions"])
}

fn of_type<'a>(object: &'a Value, ty: &str) -> Vec<&'a Value> {
    conditions(object)
        .iter()
        .filter(|condition| str_at(condition, &["type"]) == ty)
        .collect()
}

fn changed(new: &Value, old: &Value, may_approve: bool, may_issue: bool) -> Vec<FieldError> {
    let mut errors = request(new, Some(old));
    let path = Path::new("status.conditions");
    for ty in LASTING {
        if of_type(new, ty).len() < of_type(old, ty).len() {
            let detail = format!("updates may not remove a condition of type \"{ty}\"");
            errors.push(FieldError::forbidden(&path, detail));
        }
    }
    for ty in APPROVAL.iter().filter(|_| !may_approve) {
        let (after, before) = (of_type(new, ty), of_type(old, ty));
        let word = match after.len().cmp(&before.len()) {
            std::cmp::Ordering::Less => continue,
            std::cmp::Ordering::Greater => "add",
            std::cmp::Ordering::Equal if after == before => continue,
            std::cmp::Ordering::Equal => "modify",
        };
        let detail = format!("updates may not {word} a condition of type \"{ty}\"");
        errors.push(FieldError::forbidden(&path, detail));
    }
    let certificate = |object: &'_ Value| str_at(object, &["status", "certificate"]).to_owned();
    if certificate(new) != certificate(old) {
        let path = Path::new("status.certificate");
        if !may_issue {
            let detail = "updates may not set certificate content";
            errors.push(FieldError::forbidden(path, detail));
        } else if !certificate(old).is_empty() {
            let detail = "updates may not modify existing certificate content";
            errors.push(FieldError::forbidden(path, detail));
        }
    }
    errors
}

/// Judges a request; what was wrong with the old one may stay.
fn request(object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let path = Path::new("spec");
    let text = |key: &str| str_at(object, &["spec", key]);
    let pem = STANDARD.decode(text("request")).unwrap_or_default();
    if let Err(error) = certificate::parse_request(&pem) {
        errors.push(FieldError::invalid(path.child("request"), text("request"), error));
    }
    usages(&mut errors, &path.child("usages"), object, old);
    let signer = text("signerName");
    let had_legacy = old.is_some_and(|old| str_at(old, &["spec", "signerName"]) == LEGACY_SIGNER);
    if signer == LEGACY_SIGNER && !had_legacy {
        let detail = "the legacy signerName is not allowed via this API version";
        errors.push(FieldError::invalid(path.child("signerName"), signer, detail));
    } else {
        format::signer_name(&mut errors, &path.child("signerName"), signer);
    }
    if let Some(seconds) = int_at(object, &["spec", "expirationSeconds"])
        && seconds < SHORTEST_SECONDS
    {
        let detail = "may not specify a duration less than 600 seconds (10 minutes)";
        errors.push(FieldError::invalid(path.child("expirationSeconds"), seconds, detail));
    }
    condition_list(&mut errors, &Path::new("status.conditions"), object, old);
    let issued = str_at(object, &["status", "certificate"]);
    let kept = old.is_some_and(|old| str_at(old, &["status", "certificate"]) == issued);
    if !issued.is_empty() && !kept {
        let checked = STANDARD
            .decode(issued)
            .map_err(|error| error.to_string())
            .and_then(|pem| certificate::check_certificates(&pem));
        if let Err(error) = checked {
            errors.push(FieldError::invalid("status.certificate", "<certificate data>", error));
        }
    }
    errors
}

fn usages(errors: &mut Vec<FieldError>, path: &Path, object: &Value, old: Option<&Value>) {
    let read = |object: &'_ Value| -> Vec<String> {
        let usages = list_at(object, &["spec", "usages"]).iter();
        usages.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let usages = read(object);
    if usages.is_empty() {
        errors.push(FieldError::required(path, ""));
    }
    if old.is_some_and(|old| read(old) == usages) {
        return;
    }
    let mut seen = HashSet::new();
    for (index, usage) in usages.iter().enumerate() {
        let path = path.index(index);
        if !USAGES.contains(&usage.as_str()) {
            errors.push(FieldError::not_supported(&path, usage.as_str(), USAGES));
        }
        if !seen.insert(usage) {
            errors.push(FieldError::duplicate(&path, usage.as_str()));
        }
    }
}

fn condition_list(errors: &mut Vec<FieldError>, path: &Path, object: &Value, old: Option<&Value>) {
    let both = |object: &Value| APPROVAL.iter().all(|ty| !of_type(object, ty).is_empty());
    let had_both = old.is_some_and(both);
    let mut seen: HashSet<&str> = HashSet::new();
    for (index, condition) in conditions(object).iter().enumerate() {
        let path = path.index(index);
        let (ty, status) = (str_at(condition, &["type"]), str_at(condition, &["status"]));
        if ty.is_empty() {
            errors.push(FieldError::required(path.child("type"), ""));
        }
        let allowed: &[&str] = if LASTING.contains(&ty) {
            &["True"]
        } else {
            &["False", "True", "Unknown"]
        };
        super::one_of(errors, &path.child("status"), status, allowed, true);
        let opposite = APPROVAL.iter().find(|other| **other != ty);
        if APPROVAL.contains(&ty) && !had_both && opposite.is_some_and(|other| seen.contains(other)) {
            let detail = "Approved and Denied conditions are mutually exclusive";
            errors.push(FieldError::invalid(path.child("type"), ty, detail));
        }
        if !seen.insert(ty) {
            errors.push(FieldError::duplicate(path.child("type"), ty));
        }
    }
}

/// Returns what is wrong with a new ClusterTrustBundle.
pub fn bundle(object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let (name, signer) = (meta::name(object), str_at(object, &["spec", "signerName"]));
    let name_path = Path::new("metadata.name");
    let prefix = format!("{}:", signer.replace('/', ":"));
    if signer.is_empty() {
        if name.contains(':') {
            let detail = "ClusterTrustBundle without signer name must not have \":\" in its name";
            errors.push(FieldError::invalid(&name_path, name, detail));
        } else {
            all_invalid(&mut errors, &name_path, name, names::dns_subdomain(name));
        }
    } else {
        match name.strip_prefix(&prefix) {
            Some(rest) => all_invalid(&mut errors, &name_path, name, names::dns_subdomain(rest)),
            None => {
                let detail = format!("ClusterTrustBundle for signerName {signer} must be named with prefix {prefix}");
                errors.push(FieldError::invalid(&name_path, name, detail));
            }
        }
        format::signer_name(&mut errors, &Path::new("spec.signerName"), signer);
    }
    let path = Path::new("spec.trustBundle");
    let text = str_at(object, &["spec", "trustBundle"]);
    if text.len() > LARGEST_BUNDLE {
        errors.push(FieldError::too_long(path, LARGEST_BUNDLE));
    } else if let Err(error) = certificate::check_certificates(text.as_bytes()) {
        errors.push(FieldError::invalid(path, "<value omitted>", error));
    }
    errors
}

/// Returns what is wrong with the change of a ClusterTrustBundle.
pub fn bundle_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = bundle(new);
    let signer = |object: &'_ Value| at(object, &["spec", "signerName"]).cloned();
    immutable(
        &mut errors,
        &Path::new("spec.signerName"),
        signer(new).as_ref(),
        signer(old).as_ref(),
    );
    errors
}

/// The least and the most seconds that the certificate of a pod may be asked for: an hour and 91 days.
const POD_CERTIFICATE_SECONDS: std::ops::RangeInclusive<i64> = 3600..=7_862_400;

/// Returns what is wrong with a new PodCertificateRequest.
pub fn pod_request(object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let path = Path::new("spec");
    let text = |key: &str| str_at(object, &["spec", key]);
    format::signer_name(&mut errors, &path.child("signerName"), text("signerName"));
    for key in ["podName", "serviceAccountName", "nodeName"] {
        let value = text(key);
        all_invalid(&mut errors, &path.child(key), value, names::dns_subdomain(value));
    }
    for key in ["podUID", "serviceAccountUID", "nodeUID"] {
        if text(key).is_empty() {
            errors.push(FieldError::required(path.child(key), "must not be empty"));
        }
    }
    let path_of_seconds = path.child("maxExpirationSeconds");
    match int_at(object, &["spec", "maxExpirationSeconds"]) {
        None => errors.push(FieldError::required(path_of_seconds, "must be set")),
        Some(seconds) if !POD_CERTIFICATE_SECONDS.contains(&seconds) => {
            let detail = format!(
                "must be in the range [{}, {}]",
                POD_CERTIFICATE_SECONDS.start(),
                POD_CERTIFICATE_SECONDS.end()
            );
            errors.push(FieldError::invalid(path_of_seconds, seconds, detail));
        }
        Some(_) => {}
    }
    errors
}

/// Returns what is wrong with the change of a PodCertificateRequest: nothing of its spec may change.
pub fn pod_request_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    immutable(&mut errors, &Path::new("spec"), given(new, "spec"), given(old, "spec"));
    errors
}

/// Returns what is wrong with the change of a PodCertificateRequest's status: one of three things has become of it.
pub fn pod_request_status(new: &Value, old: &Value) -> Vec<FieldError> {
    const OUTCOMES: &[&str] = &["Denied", "Failed", "Issued"];
    let mut errors = Vec::new();
    let path = Path::new("status.conditions");
    let mut outcome = None;
    for (index, condition) in conditions(new).iter().enumerate() {
        let path = path.index(index);
        let ty = str_at(condition, &["type"]);
        if !OUTCOMES.contains(&ty) {
            errors.push(FieldError::not_supported(path.child("type"), ty, OUTCOMES));
        } else if outcome.is_some() {
            let detail = "There may be at most one condition with type \"Issued\", \"Denied\", or \"Failed\"";
            errors.push(FieldError::invalid(path.child("type"), ty, detail));
        }
        outcome = Some(ty);
        super::one_of(
            &mut errors,
            &path.child("status"),
            str_at(condition, &["status"]),
            &["True"],
            true,
        );
    }
    if !conditions(old).is_empty() {
        // What has become of it stays.
        let status = |object: &'_ Value| given(object, "status").cloned();
        immutable(
            &mut errors,
            &Path::new("status"),
            status(new).as_ref(),
            status(old).as_ref(),
        );
        return errors;
    }
    let chain = str_at(new, &["status", "certificateChain"]);
    if outcome == Some("Issued") {
        if let Err(error) = certificate::check_certificates(chain.as_bytes()) {
            errors.push(FieldError::invalid("status.certificateChain", chain, error));
        }
    } else if !chain.is_empty() {
        let detail = "may only be set when the certificate is issued";
        errors.push(FieldError::forbidden("status.certificateChain", detail));
    }
    errors
}
