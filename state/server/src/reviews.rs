//! Questions about who may do what and who somebody is: the review kinds, answered at once and never stored.

use axum::body::Body;
use http::{Request, Response};
use serde_json::{Value, json};
use setpoint_api::{FieldError, Status, meta};

use crate::authn::Authenticator;
use crate::authz::{Attributes, Authorizer, Rule, node_identity};
use crate::registry::Registry;
use crate::request::{RequestInfo, UserInfo};

const AUTHORIZATION: &str = "authorization.k8s.io";
const AUTHENTICATION: &str = "authentication.k8s.io";

/// Whether the request is about a review.
pub(crate) fn is_review(info: &RequestInfo) -> bool {
    info.is_resource
        && info.subresource.is_empty()
        && matches!(
            (info.group.as_str(), info.resource.as_str()),
            (
                AUTHORIZATION,
                "selfsubjectaccessreviews"
                    | "selfsubjectrulesreviews"
                    | "subjectaccessreviews"
                    | "localsubjectaccessreviews"
            ) | (AUTHENTICATION, "tokenreviews" | "selfsubjectreviews")
        )
}

/// Answers a review.
pub(crate) async fn serve(
    registry: &Registry,
    authorizer: &Authorizer,
    authenticator: &Authenticator,
    info: &RequestInfo,
    user: &UserInfo,
    request: Request<Body>,
) -> Response<Body> {
    let answer = |review: &Value, kind: &str| {
        let spec = &review["spec"];
        match info.resource.as_str() {
            "selfsubjectaccessreviews" => access(authorizer, user, spec, kind),
            "subjectaccessreviews" => access(authorizer, &subject(spec, kind)?, spec, kind),
            "localsubjectaccessreviews" => {
                let namespace = info.namespace.as_deref().unwrap_or_default();
                let asked = meta::str_at(spec, &["resourceAttributes", "namespace"]);
                if asked != namespace {
                    let path = "spec.resourceAttributes.namespace";
                    let error = FieldError::invalid(path, asked, "must match metadata.namespace");
                    return Err(Status::invalid(AUTHORIZATION, kind, "", &[error]));
                }
                access(authorizer, &subject(spec, kind)?, spec, kind)
            }
            "selfsubjectrulesreviews" => rules(authorizer, user, spec, kind),
            "tokenreviews" => token(authenticator, spec, kind),
            _ => Ok(json!({"userInfo": describe(user)})),
        }
    };
    registry.serve_question(info, user, request, answer).await
}

fn access(authorizer: &Authorizer, user: &UserInfo, spec: &Value, kind: &str) -> Result<Value, Status> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let resource = &spec["resourceAttributes"];
    let other = &spec["nonResourceAttributes"];
    let reason = match (resource.is_object(), other.is_object()) {
        (true, false) => authorizer.reason(
            user,
            &Attributes {
                verb: &text(&resource["verb"]),
                group: &text(&resource["group"]),
                resource: &text(&resource["resource"]),
                subresource: &text(&resource["subresource"]),
                namespace: &text(&resource["namespace"]),
                name: &text(&resource["name"]),
                path: None,
                fields: None,
            },
        ),
        (false, true) => authorizer.reason(
            user,
            &Attributes {
                verb: &text(&other["verb"]),
                path: Some(&text(&other["path"])),
                ..Attributes::default()
            },
        ),
        (_, both) => {
            let error = FieldError::invalid(
                "spec.resourceAttributes",
                "",
                if both {
                    "cannot be specified in combination with nonResourceAttributes"
                } else {
                    "exactly one of nonResourceAttributes or resourceAttributes must be specified"
                },
            );
            return Err(Status::invalid(AUTHORIZATION, kind, "", &[error]));
        }
    };
    let mut status = json!({"allowed": reason.is_some()});
    if let Some(reason) = reason.filter(|reason| !reason.is_empty()) {
        status["reason"] = reason.into();
    }
    Ok(status)
}

fn subject(spec: &Value, kind: &str) -> Result<UserInfo, Status> {
    let strings = |value: &Value| -> Vec<String> {
        value
            .as_array()
            .map(|list| {
                list.iter()
                    .filter_map(|item| item.as_str().map(str::to_owned))
                    .collect()
            })
            .unwrap_or_default()
    };
    let user = UserInfo {
        name: spec["user"].as_str().unwrap_or_default().to_owned(),
        uid: spec["uid"].as_str().unwrap_or_default().to_owned(),
        groups: strings(&spec["groups"]),
        extra: spec["extra"]
            .as_object()
            .map(|extra| extra.iter().map(|(key, value)| (key.clone(), strings(value))).collect())
            .unwrap_or_default(),
    };
    if user.name.is_empty() && user.groups.is_empty() {
        let error = FieldError::invalid("spec.user", "", "at least one of user or group must be specified");
        return Err(Status::invalid(AUTHORIZATION, kind, "", &[error]));
    }
    Ok(user)
}

fn rules(authorizer: &Authorizer, user: &UserInfo, spec: &Value, kind: &str) -> Result<Value, Status> {
    let namespace = spec["namespace"].as_str().unwrap_or_default();
    if namespace.is_empty() {
        let error = FieldError::required("spec.namespace", "");
        return Err(Status::invalid(AUTHORIZATION, kind, "", &[error]));
    }
    let everything = || vec!["*".to_owned()];
    let master = [
        Rule {
            verbs: everything(),
            groups: everything(),
            resources: everything(),
            ..Rule::default()
        },
        Rule {
            verbs: everything(),
            paths: everything(),
            ..Rule::default()
        },
    ];
    let index = authorizer.index();
    let held = index.rules(user, namespace);
    let rules = master.iter().take(if user.is_master() { 2 } else { 0 }).chain(held);
    let (mut resources, mut paths): (Vec<Value>, Vec<Value>) = (Vec::new(), Vec::new());
    for rule in rules {
        let list = if rule.paths.is_empty() {
            &mut resources
        } else {
            &mut paths
        };
        let value = rule.to_value();
        if !list.contains(&value) {
            list.push(value);
        }
    }
    let mut answer = json!({"resourceRules": resources, "nonResourceRules": paths, "incomplete": false});
    if node_identity(user).is_some() {
        // What a node may depends on what runs on it.
        answer["incomplete"] = true.into();
        answer["evaluationError"] = "node authorizer does not support user rule resolution".into();
    }
    Ok(answer)
}

fn token(authenticator: &Authenticator, spec: &Value, kind: &str) -> Result<Value, Status> {
    let token = spec["token"].as_str().unwrap_or_default();
    if token.is_empty() {
        let error = FieldError::required("spec.token", "");
        return Err(Status::invalid(AUTHENTICATION, kind, "", &[error]));
    }
    let audiences: Vec<String> = spec["audiences"]
        .as_array()
        .map(|list| {
            list.iter()
                .filter_map(|item| item.as_str().map(str::to_owned))
                .collect()
        })
        .unwrap_or_default();
    Ok(match authenticator.token(token, &audiences) {
        Ok((user, audiences)) => json!({
            "authenticated": true,
            "user": describe(&user),
            "audiences": audiences,
        }),
        // Each way to read a token says why it cannot; the first only ever says this.
        Err(why) if why == "invalid bearer token" => json!({"user": {}, "error": why}),
        Err(why) => json!({"user": {}, "error": format!("[invalid bearer token, {why}]")}),
    })
}

fn describe(user: &UserInfo) -> Value {
    let mut out = json!({"username": user.name, "groups": user.groups});
    if !user.uid.is_empty() {
        out["uid"] = user.uid.as_str().into();
    }
    if !user.extra.is_empty() {
        out["extra"] = json!(user.extra);
    }
    out
}
