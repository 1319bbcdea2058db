//! Who asks for certificates, and who may approve, sign and vouch for them.
//!
//! A request carries the name and the groups of who made it, as the server knows them. Beyond RBAC on the request itself, approving needs the
//! verb `approve` on the signer, issuing `sign`, and a bundle of a signer `attest`.

use std::sync::{Arc, OnceLock};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use setpoint_api::{Status, certificate, meta};

use super::{Attributes, Authorizer};
use crate::admission::{Admission, AdmissionRequest, Operation};
use crate::request::{MASTERS, UserInfo};

const GROUP: &str = "certificates.k8s.io";
const CLIENTS: &str = "kubernetes.io/kube-apiserver-client";

/// The admission of what has to do with signers. It takes part in the chain before the authorizer exists; until then only the server itself
/// writes.
#[derive(Default)]
pub(crate) struct Signers {
    authorizer: Arc<OnceLock<Authorizer>>,
}

impl Signers {
    /// A check that asks the authorizer in the cell, once it is there.
    pub(crate) fn new(authorizer: Arc<OnceLock<Authorizer>>) -> Signers {
        Signers { authorizer }
    }

    /// Refuses a user who may not do this with a signer, or with all signers of its domain.
    fn check(&self, request: &AdmissionRequest<'_>, object: &Value, verb: &str, what: &str) -> Result<(), Status> {
        let Some(authorizer) = self.authorizer.get() else {
            return Ok(());
        };
        let signer = meta::str_at(object, &["spec", "signerName"]);
        let domain = format!("{}/*", signer.split('/').next().unwrap_or(signer));
        let allowed = [signer, &domain].into_iter().any(|name| {
            let attributes = Attributes {
                verb,
                group: GROUP,
                resource: "signers",
                name,
                ..Attributes::default()
            };
            authorizer.allows(request.user, &attributes)
        });
        if allowed {
            return Ok(());
        }
        let why = format!("user not permitted to {what} signerName {signer:?}");
        Err(Status::forbidden(
            GROUP,
            &request.resource.plural,
            meta::name(object),
            &why,
        ))
    }
}

impl Admission for Signers {
    fn admit(&self, request: &AdmissionRequest<'_>, object: &mut Value, _: &mut Vec<String>) -> Result<(), Status> {
        if request.resource.group != GROUP {
            return Ok(());
        }
        match (request.resource.plural.as_str(), request.operation, request.subresource) {
            ("certificatesigningrequests", Operation::Create, None) => {
                sign_with_name(object, request.user);
                no_masters(object)
            }
            ("certificatesigningrequests", Operation::Update, Some("approval")) => {
                self.check(request, object, "approve", "approve requests with")
            }
            ("certificatesigningrequests", Operation::Update, Some("status")) if issues(request, object) => {
                self.check(request, object, "sign", "sign requests with")
            }
            ("clustertrustbundles", Operation::Create | Operation::Update, None) => {
                let signer = meta::str_at(object, &["spec", "signerName"]);
                if signer.is_empty() {
                    return Ok(());
                }
                self.check(request, object, "attest", "attest for")
            }
            _ => Ok(()),
        }
    }
}

/// Writes into a request who made it, whatever it says itself.
fn sign_with_name(object: &mut Value, user: &UserInfo) {
    let spec = meta::map_mut(meta::map_of(object), "spec");
    for key in ["username", "uid", "groups", "extra"] {
        spec.remove(key);
    }
    spec.insert("username".into(), user.name.as_str().into());
    if !user.uid.is_empty() {
        spec.insert("uid".into(), user.uid.as_str().into());
    }
    if !user.groups.is_empty() {
        spec.insert("groups".into(), json!(user.groups));
    }
    if !user.extra.is_empty() {
        spec.insert("extra".into(), json!(user.extra));
    }
}

/// Nobody gets a client's certificate for the group that may do everything.
fn no_masters(object: &Value) -> Result<(), Status> {
    if meta::str_at(object, &["spec", "signerName"]) != CLIENTS {
        return Ok(());
    }
    let pem = STANDARD.decode(meta::str_at(object, &["spec", "request"]));
    // What cannot be read is refused by validation.
    let organizations = pem
        .ok()
        .and_then(|pem| certificate::parse_request(&pem).ok())
        .map(|request| request.organizations)
        .unwrap_or_default();
    if organizations.iter().any(|group| group == MASTERS) {
        let why = format!("use of {CLIENTS} signer with {MASTERS} group is not allowed");
        return Err(Status::forbidden(
            GROUP,
            "certificatesigningrequests",
            meta::name(object),
            &why,
        ));
    }
    Ok(())
}

/// Whether a change of the status issues a certificate, or says that it failed.
fn issues(request: &AdmissionRequest<'_>, object: &Value) -> bool {
    let Some(old) = request.old else { return true };
    let failed = |object: &'_ Value| -> Vec<Value> {
        meta::list_at(object, &["status", "conditions"])
            .iter()
            .filter(|condition| meta::str_at(condition, &["type"]) == "Failed")
            .cloned()
            .collect()
    };
    let certificate = |object: &'_ Value| meta::str_at(object, &["status", "certificate"]).to_owned();
    certificate(object) != certificate(old) || failed(object) != failed(old)
}
