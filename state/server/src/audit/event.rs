//! An event as it is written.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use setpoint_api::{Status, meta, protobuf};

use super::policy::{AuditLevel, Stage};
use super::standard::is_sealed;
use crate::request::{RequestInfo, UserInfo};

/// A body as it was sent.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    pub(super) bytes: Bytes,
    /// The media type, without parameters.
    pub(super) media: String,
}

/// What stays the same for all events of a request.
#[derive(Debug)]
pub(super) struct About {
    pub(super) id: String,
    pub(super) info: RequestInfo,
    /// Path and query as they came.
    pub(super) uri: String,
    pub(super) agent: String,
    pub(super) address: Option<String>,
    pub(super) received: Timestamp,
}

/// One event, yet to be encoded.
#[derive(Debug)]
pub(super) struct Event {
    pub(super) about: Arc<About>,
    pub(super) level: AuditLevel,
    pub(super) stage: Stage,
    pub(super) at: Timestamp,
    pub(super) user: UserInfo,
    pub(super) impersonated: Option<UserInfo>,
    pub(super) code: Option<u16>,
    pub(super) status: Option<Status>,
    pub(super) request: Option<Sent>,
    pub(super) response: Option<Sent>,
    pub(super) omit_managed_fields: bool,
    pub(super) annotations: BTreeMap<String, String>,
    /// The name of what is created.
    pub(super) created: Option<String>,
}

impl Event {
    /// About how much memory it takes, in bytes.
    pub(super) fn weight(&self) -> usize {
        let bodies = [&self.request, &self.response].into_iter().flatten();
        2048 + bodies.map(|sent| sent.bytes.len()).sum::<usize>()
    }

    /// The event as one line.
    pub(super) fn encode(&self) -> Vec<u8> {
        let about = &self.about;
        let request = self.request.as_ref().and_then(|sent| self.object(sent));
        let response = self.response.as_ref().and_then(|sent| self.object(sent));
        let mut out = Map::new();
        let mut put = |key: &str, value: Value| {
            if !value.is_null() {
                out.insert(key.to_owned(), value);
            }
        };
        put("kind", "Event".into());
        put("apiVersion", "audit.k8s.io/v1".into());
        put("level", self.level.as_str().into());
        put("auditID", about.id.as_str().into());
        put("stage", self.stage.as_str().into());
        put("requestURI", about.uri.as_str().into());
        put("verb", about.info.verb.as_str().into());
        put("user", user(&self.user));
        put("impersonatedUser", self.impersonated.as_ref().map_or(Value::Null, user));
        put(
            "sourceIPs",
            about.address.as_ref().map_or(Value::Null, |address| json!([address])),
        );
        put("userAgent", text(&about.agent));
        put("objectRef", self.reference(request.as_ref(), response.as_ref()));
        put("responseStatus", self.outcome());
        put("requestObject", request.unwrap_or_default());
        put("responseObject", response.unwrap_or_default());
        put(
            "requestReceivedTimestamp",
            meta::format_micro_time(about.received).into(),
        );
        put("stageTimestamp", meta::format_micro_time(self.at).into());
        if !self.annotations.is_empty() {
            put("annotations", json!(self.annotations));
        }
        let mut line = Value::Object(out).to_string().into_bytes();
        line.push(b'\n');
        line
    }

    fn reference(&self, request: Option<&Value>, response: Option<&Value>) -> Value {
        let info = &self.about.info;
        if !info.is_resource {
            return Value::Null;
        }
        // What is created but not stored says in its body only what it is called.
        let body = |key: &str| {
            [request, response]
                .into_iter()
                .flatten()
                .filter(|object| meta::kind(object) != "Status")
                .find_map(|object| object["metadata"][key].as_str())
                .unwrap_or_default()
        };
        let name = info
            .name
            .as_deref()
            .or(self.created.as_deref())
            .unwrap_or_else(|| if info.verb == "create" { body("name") } else { "" });
        let mut out = Map::new();
        for (key, value) in [
            ("resource", info.resource.as_str()),
            ("namespace", info.namespace.as_deref().unwrap_or_default()),
            ("name", name),
            ("uid", if name.is_empty() { "" } else { body("uid") }),
            ("apiGroup", &info.group),
            ("apiVersion", &info.version),
            (
                "resourceVersion",
                if name.is_empty() { "" } else { body("resourceVersion") },
            ),
            ("subresource", &info.subresource),
        ] {
            if !value.is_empty() {
                out.insert(key.to_owned(), value.into());
            }
        }
        Value::Object(out)
    }

    fn outcome(&self) -> Value {
        let Some(code) = self.code else { return Value::Null };
        let mut out = match &self.status {
            Some(status) => status.to_value(),
            None => json!({"metadata": {}}),
        };
        if let Some(out) = out.as_object_mut() {
            out.remove("kind");
            out.remove("apiVersion");
            if is_sealed(&self.about.info) {
                // A refusal may quote what was sent.
                out.remove("message");
                out.remove("details");
            }
        }
        out["code"] = code.into();
        out
    }

    /// A body as an object; what cannot be read as one is left out.
    fn object(&self, sent: &Sent) -> Option<Value> {
        let mut object = match sent.media.as_str() {
            "application/vnd.kubernetes.protobuf" => protobuf::decode(&sent.bytes).ok()?,
            media if media.ends_with("yaml") => serde_saphyr::from_str(std::str::from_utf8(&sent.bytes).ok()?).ok()?,
            _ => serde_json::from_slice(&sent.bytes).ok()?,
        };
        if self.omit_managed_fields {
            let strip = |object: &mut Value| {
                if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
                    metadata.remove("managedFields");
                }
            };
            strip(&mut object);
            if let Some(items) = object.get_mut("items").and_then(Value::as_array_mut) {
                items.iter_mut().for_each(strip);
            }
        }
        Some(object)
    }
}

fn text(text: &str) -> Value {
    if text.is_empty() { Value::Null } else { text.into() }
}

fn user(user: &UserInfo) -> Value {
    let mut out = Map::new();
    for (key, value) in [
        ("username", text(&user.name)),
        ("uid", text(&user.uid)),
        (
            "groups",
            if user.groups.is_empty() {
                Value::Null
            } else {
                json!(user.groups)
            },
        ),
        (
            "extra",
            if user.extra.is_empty() {
                Value::Null
            } else {
                json!(user.extra)
            },
        ),
    ] {
        if !value.is_null() {
            out.insert(key.to_owned(), value);
        }
    }
    Value::Object(out)
}
