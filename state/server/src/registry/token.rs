//! `serviceaccounts/token`: a TokenRequest.

use std::sync::Arc;

use axum::body::Body;
use http::StatusCode;
use jiff::SignedDuration;
use serde_json::{Value, json};
use setpoint_api::validate::field::FieldError;
use setpoint_api::{Status, meta};

use super::TokenRequest;
use super::answer::Answer;
use super::call::Call;
use crate::admission::{self, AdmissionRequest, Operation};
use crate::body;
use crate::cache::Stored;
use crate::tokens::Named;

const DEFAULT_SECONDS: i64 = 3600;
const SHORTEST_SECONDS: i64 = 600;
const LONGEST_SECONDS: i64 = 1 << 32;

pub(super) async fn create(call: &mut Call<'_>, body: Body) -> Result<Answer, Status> {
    let media = body::media(call.headers)?;
    let bytes = body::read(body).await?;
    let mut request = if bytes.is_empty() {
        json!({})
    } else {
        let sub = call.sub()?;
        body::subresource(&bytes, media, &sub, call.validation, &mut call.warnings)?
    };
    check_identity(call, &request)?;
    let account = call.stored()?;
    let Some(signer) = call.inner().tokens.clone() else {
        return Err(Status::not_implemented(
            "this server has no key to sign service account tokens with",
        ));
    };
    let mut audiences: Vec<String> = meta::list_at(&request, &["spec", "audiences"])
        .iter()
        .filter_map(|audience| audience.as_str().map(str::to_owned))
        .collect();
    if audiences.is_empty() {
        audiences.push(signer.own_audience().to_owned());
    }
    let seconds = meta::int_at(&request, &["spec", "expirationSeconds"]).unwrap_or(DEFAULT_SECONDS);
    let now = call.now();
    {
        let answer = meta::map_of(&mut request);
        answer.insert("kind".into(), "TokenRequest".into());
        answer.insert("apiVersion".into(), "authentication.k8s.io/v1".into());
        answer.insert(
            "metadata".into(),
            json!({"name": call.name, "namespace": call.namespace, "creationTimestamp": meta::format_time(now)}),
        );
        let spec = meta::map_mut(answer, "spec");
        spec.insert("audiences".into(), audiences.as_slice().into());
        spec.insert("expirationSeconds".into(), seconds.into());
        answer.remove("status");
    }
    let wrong = match seconds {
        ..SHORTEST_SECONDS => Some("may not specify a duration less than 10 minutes"),
        SHORTEST_SECONDS..=LONGEST_SECONDS => None,
        _ => Some("may not specify a duration larger than 2^32 seconds"),
    };
    if let Some(detail) = wrong {
        return Err(invalid(
            "",
            FieldError::invalid("spec.expirationSeconds", seconds, detail),
        ));
    }
    let admitted = AdmissionRequest {
        operation: Operation::Create,
        resource: &call.row,
        subresource: Some("token"),
        user: call.user,
        old: None,
        dry_run: call.dry_run,
        cache: &call.inner().cache,
        annotations: &call.annotations,
    };
    admission::run(&call.inner().admission, &admitted, &mut request, &mut call.warnings)?;
    admission::validate(&call.inner().admission, &admitted, &request, &mut call.warnings)?;
    let bound = match meta::at(&request, &["spec", "boundObjectRef"]).filter(|bound| !bound.is_null()) {
        Some(reference) => bind(call, reference)?,
        None => Bound::default(),
    };
    let expires = now
        .checked_add(SignedDuration::from_secs(seconds))
        .unwrap_or(jiff::Timestamp::MAX);
    let token = signer.sign(&TokenRequest {
        namespace: &call.namespace,
        account: &named(&account),
        audiences: &audiences,
        expires,
        pod: bound.pod.as_ref(),
        secret: bound.secret.as_ref(),
        node: bound.node.as_ref(),
    })?;
    meta::map_of(&mut request).insert(
        "status".into(),
        json!({"token": token, "expirationTimestamp": meta::format_time(expires)}),
    );
    Ok(Answer::Other(StatusCode::CREATED, request))
}

/// Refuses a request whose body names another account than its path.
fn check_identity(call: &Call<'_>, request: &Value) -> Result<(), Status> {
    let fields = [
        ("metadata.name", meta::name(request), call.name.as_str(), "name"),
        (
            "metadata.namespace",
            meta::namespace(request),
            call.namespace.as_str(),
            "namespace",
        ),
    ];
    for (field, found, wanted, what) in fields {
        if !found.is_empty() && found != wanted {
            let detail = format!("must match the service account {what} if specified");
            return Err(invalid(&call.name, FieldError::invalid(field, found, detail)));
        }
    }
    Ok(())
}

fn invalid(name: &str, error: FieldError) -> Status {
    Status::invalid("authentication.k8s.io", "TokenRequest", name, &[error])
}

/// What a token shall not outlive.
#[derive(Default)]
struct Bound {
    pod: Option<Named>,
    secret: Option<Named>,
    node: Option<Named>,
}

/// Finds the object that a token shall not outlive.
fn bind(call: &Call<'_>, reference: &Value) -> Result<Bound, Status> {
    let (version, kind) = (meta::api_version(reference), meta::kind(reference));
    let name = meta::str_at(reference, &["name"]);
    // Of the core group in any version, as Kubernetes reads the reference.
    let core = !version.contains('/');
    let (plural, namespace) = match kind {
        "Pod" if core => ("pods", call.namespace.as_str()),
        "Secret" if core => ("secrets", call.namespace.as_str()),
        "Node" if core => ("nodes", ""),
        _ => {
            return Err(Status::bad_request(format!(
                "cannot bind token to object of type {}, Kind={kind}",
                if core {
                    format!("/{version}")
                } else {
                    version.to_owned()
                }
            )));
        }
    };
    let cache = &call.inner().cache;
    let found = cache
        .get(&format!("core/{plural}"), namespace, name)
        .ok_or_else(|| Status::not_found("", plural, name))?;
    let mut bound = Bound::default();
    match kind {
        "Pod" => {
            let pod = found.value();
            if meta::str_at(&pod, &["spec", "serviceAccountName"]) != call.name {
                return Err(Status::bad_request(format!(
                    "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.",
                    call.name
                )));
            }
            let node = meta::str_at(&pod, &["spec", "nodeName"]);
            if !node.is_empty() {
                // A node that is not there any more is named all the same: whoever looks into the token sees where the pod was.
                let known = cache.get("core/nodes", "", node);
                bound.node = Some(known.map_or_else(
                    || Named {
                        name: node.to_owned(),
                        uid: String::new(),
                    },
                    |node| named(&node),
                ));
            }
            bound.pod = Some(named(&found));
        }
        "Secret" => bound.secret = Some(named(&found)),
        _ => bound.node = Some(named(&found)),
    }
    let wanted = meta::str_at(reference, &["uid"]);
    if !wanted.is_empty() && *wanted != *found.uid {
        let why = format!(
            "the UID in the bound object reference ({wanted}) does not match the UID in record ({}). The object might have been deleted and then recreated",
            found.uid
        );
        return Err(Status::conflict("", kind, name, &why));
    }
    Ok(bound)
}

fn named(stored: &Arc<Stored>) -> Named {
    Named {
        name: stored.name.to_string(),
        uid: stored.uid.to_string(),
    }
}
