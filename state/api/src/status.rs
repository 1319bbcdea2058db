//! `meta/v1 Status`: the one way in which the API says no (and sometimes yes).

use std::borrow::Cow;
use std::fmt;

use serde_json::{Map, Value, json};

use crate::validate::field::FieldError;

/// One cause in the details of a [`Status`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// A machine's word, such as `FieldValueRequired`.
    pub reason: Cow<'static, str>,
    /// The text for people.
    pub message: String,
    /// The path of the field, or "".
    pub field: String,
}

/// Whom a [`Status`] is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Details {
    /// The object's name, or "".
    pub name: String,
    /// The API group, "" for core.
    pub group: String,
    /// The plural resource or the kind, as Kubernetes has it for the reason at hand.
    pub kind: String,
    /// The object's uid, or "".
    pub uid: String,
    /// What is wrong, in parts.
    pub causes: Vec<Cause>,
    /// When it may be worth to try again, in seconds.
    pub retry_after_seconds: Option<u32>,
}

/// An answer of the API that is no object: an error, as a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The HTTP code.
    pub code: u16,
    /// The machine's word for it, such as `NotFound`; "" is "unknown".
    pub reason: Cow<'static, str>,
    /// The text for people.
    pub message: String,
    /// Whom and what it is about.
    pub details: Option<Box<Details>>,
    /// By which token a list can go on all the same (`metadata.continue`).
    pub next: Option<Box<str>>,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Status {}

/// Writes a resource as Kubernetes does in messages: `pods`, `deployments.apps`.
pub fn qualified(resource: &str, group: &str) -> String {
    if group.is_empty() {
        resource.to_owned()
    } else {
        format!("{resource}.{group}")
    }
}

impl Status {
    /// Makes a failure of the given code, reason and message.
    pub fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Status {
        Status {
            code,
            reason: Cow::Borrowed(reason),
            message: message.into(),
            details: None,
            next: None,
        }
    }

    fn about(mut self, group: &str, kind: &str, name: &str) -> Status {
        let details = Details {
            name: name.into(),
            group: group.into(),
            kind: kind.into(),
            ..Details::default()
        };
        self.details = Some(Box::new(details));
        self
    }

    /// Adds causes to the details.
    #[must_use]
    pub fn with_causes(mut self, causes: Vec<Cause>) -> Status {
        self.details.get_or_insert_default().causes.extend(causes);
        self
    }

    /// Sets after how many seconds a client may try again.
    #[must_use]
    pub fn with_retry_after(mut self, seconds: u32) -> Status {
        self.details.get_or_insert_default().retry_after_seconds = Some(seconds);
        self
    }

    /// Says by which token a list that ends here can go on.
    #[must_use]
    pub fn with_continue(mut self, token: String) -> Status {
        self.next = Some(token.into());
        self
    }

    /// 404: no such object.
    pub fn not_found(group: &str, resource: &str, name: &str) -> Status {
        let message = format!("{} \"{name}\" not found", qualified(resource, group));
        Status::new(404, "NotFound", message).about(group, resource, name)
    }

    /// 404: no such path, group, version or resource.
    pub fn no_such_resource() -> Status {
        Status::new(404, "NotFound", "the server could not find the requested resource").with_causes(Vec::new())
    }

    /// 409: an object of this name exists.
    pub fn already_exists(group: &str, resource: &str, name: &str) -> Status {
        let message = format!("{} \"{name}\" already exists", qualified(resource, group));
        Status::new(409, "AlreadyExists", message).about(group, resource, name)
    }

    /// 409: the write cannot be done to the object as it stands; `why` is a sentence.
    pub fn conflict(group: &str, resource: &str, name: &str, why: &str) -> Status {
        let message = format!(
            "Operation cannot be fulfilled on {} \"{name}\": {why}",
            qualified(resource, group)
        );
        Status::new(409, "Conflict", message).about(group, resource, name)
    }

    /// 409: the object was changed since the client read it.
    pub fn modified(group: &str, resource: &str, name: &str) -> Status {
        let why = "the object has been modified; please apply your changes to the latest version and try again";
        Status::conflict(group, resource, name, why)
    }

    /// 422: the object's fields are wrong. `kind` is the kind, not the resource.
    pub fn invalid(group: &str, kind: &str, name: &str, errors: &[FieldError]) -> Status {
        let qualified_kind = qualified(kind, group);
        let list = aggregate(errors);
        let message = if list.is_empty() {
            format!("{qualified_kind} \"{name}\" is invalid")
        } else {
            format!("{qualified_kind} \"{name}\" is invalid: {list}")
        };
        let causes = errors.iter().map(FieldError::to_cause).collect();
        Status::new(422, "Invalid", message)
            .about(group, kind, name)
            .with_causes(causes)
    }

    /// 403: the user may not; `why` is the part after the colon.
    pub fn forbidden(group: &str, resource: &str, name: &str, why: &str) -> Status {
        let subject = qualified(resource, group);
        let message = match (resource.is_empty(), name.is_empty()) {
            (true, _) => format!("forbidden: {why}"),
            (false, true) => format!("{subject} is forbidden: {why}"),
            (false, false) => format!("{subject} \"{name}\" is forbidden: {why}"),
        };
        Status::new(403, "Forbidden", message).about(group, resource, name)
    }

    /// 401: no or wrong credentials.
    pub fn unauthorized() -> Status {
        Status::new(401, "Unauthorized", "Unauthorized")
    }

    /// 400: the request cannot be understood.
    pub fn bad_request(message: impl Into<String>) -> Status {
        Status::new(400, "BadRequest", message)
    }

    /// 405: there is something at this path, but not with this method.
    pub fn method_not_allowed() -> Status {
        let message = "the server does not allow this method on the requested resource";
        Status::new(405, "MethodNotAllowed", message).with_causes(Vec::new())
    }

    /// 405: the custom resource does not have this verb. Built-in ones answer [`Status::method_not_allowed`].
    pub fn method_not_supported(group: &str, resource: &str, verb: &str) -> Status {
        let message = format!(
            "{verb} is not supported on resources of kind \"{}\"",
            qualified(resource, group)
        );
        Status::new(405, "MethodNotAllowed", message).about(group, resource, "")
    }

    /// 406: none of the accepted media types can be written.
    pub fn not_acceptable(accepted: &str) -> Status {
        let message = format!("only the following media types are accepted: {accepted}");
        Status::new(406, "NotAcceptable", message)
    }

    /// 415: the body's media type cannot be read.
    pub fn unsupported_media_type(accepted: &str) -> Status {
        let message =
            format!("the body of the request was in an unknown format - accepted media types include: {accepted}");
        Status::new(415, "UnsupportedMediaType", message)
    }

    /// 410: the revision asked for was compacted away, or a continue token is too old.
    pub fn expired(message: impl Into<String>) -> Status {
        Status::new(410, "Expired", message)
    }

    /// 410 for a watch that starts too far back.
    pub fn too_old(requested: u64, oldest: u64) -> Status {
        Status::new(
            410,
            "Expired",
            format!("too old resource version: {requested} ({oldest})"),
        )
    }

    /// 504: a list or watch at a revision that is still to come.
    pub fn too_large_resource_version(requested: u64, current: u64) -> Status {
        let cause = Cause {
            reason: "ResourceVersionTooLarge".into(),
            message: "Too large resource version".into(),
            field: String::new(),
        };
        let message = format!("Timeout: Too large resource version: {requested}, current: {current}");
        Status::new(504, "Timeout", message)
            .with_causes(vec![cause])
            .with_retry_after(1)
    }

    /// 413: the body is larger than `limit` bytes.
    pub fn too_large(limit: usize) -> Status {
        let message = format!("Request entity too large: limit is {limit}");
        Status::new(413, "RequestEntityTooLarge", message)
    }

    /// 429: come back later.
    pub fn too_many_requests(message: impl Into<String>, retry_after_seconds: u32) -> Status {
        Status::new(429, "TooManyRequests", message).with_retry_after(retry_after_seconds)
    }

    /// 500: a fault of ours.
    pub fn internal(message: impl fmt::Display) -> Status {
        let text = message.to_string();
        let cause = Cause {
            reason: Cow::Borrowed(""),
            message: text.clone(),
            field: String::new(),
        };
        Status::new(500, "InternalError", format!("Internal error occurred: {text}")).with_causes(vec![cause])
    }

    /// 501: Kubernetes has it, this server does not.
    pub fn not_implemented(message: impl Into<String>) -> Status {
        Status::new(501, "NotImplemented", message)
    }

    /// 503: not ready, or going away.
    pub fn unavailable(message: impl Into<String>) -> Status {
        Status::new(503, "ServiceUnavailable", message)
    }

    /// 504: it took too long.
    pub fn timeout(message: impl Into<String>) -> Status {
        Status::new(504, "Timeout", message)
    }

    /// 200: what was asked for is done, and there is no object to show (a deletion, an eviction).
    pub fn success() -> Status {
        Status {
            code: 200,
            reason: Cow::Borrowed(""),
            message: String::new(),
            details: None,
            next: None,
        }
    }

    /// 200 for a deletion that is complete: says what went.
    pub fn deleted(group: &str, resource: &str, name: &str, uid: &str) -> Status {
        let mut status = Status::success().about(group, resource, name);
        if let Some(details) = &mut status.details {
            details.uid = uid.to_owned();
        }
        status
    }

    /// Returns whether this is a failure.
    pub fn is_failure(&self) -> bool {
        self.code >= 400
    }

    /// Returns the `v1.Status` object.
    pub fn to_value(&self) -> Value {
        let mut out = Map::new();
        out.insert("kind".into(), "Status".into());
        out.insert("apiVersion".into(), "v1".into());
        let metadata = match &self.next {
            Some(token) => json!({"continue": token}),
            None => json!({}),
        };
        out.insert("metadata".into(), metadata);
        out.insert(
            "status".into(),
            if self.is_failure() { "Failure" } else { "Success" }.into(),
        );
        put(&mut out, "message", &self.message);
        put(&mut out, "reason", &self.reason);
        if let Some(details) = &self.details {
            out.insert("details".into(), details.to_value());
        }
        // A plain success does not say its code; that of a creation does.
        if self.code != 200 {
            out.insert("code".into(), self.code.into());
        }
        Value::Object(out)
    }
}

/// The members of a Status, of its details and of a cause, in the order in which Kubernetes writes them.
const ORDER: [&[&str]; 3] = [
    &[
        "kind",
        "apiVersion",
        "metadata",
        "status",
        "message",
        "reason",
        "details",
        "code",
    ],
    &["name", "group", "kind", "uid", "causes", "retryAfterSeconds"],
    &["reason", "message", "field"],
];

impl Status {
    /// Returns the object as Kubernetes sends it: its members in their usual order (clients compare the text), and a line's end.
    pub fn to_text(&self) -> String {
        let mut out = String::new();
        write_ordered(&self.to_value(), 0, &mut out);
        out.push('\n');
        out
    }
}

fn write_ordered(value: &Value, level: usize, out: &mut String) {
    match (value, ORDER.get(level)) {
        (Value::Object(map), Some(order)) => {
            let known = order.iter().filter_map(|key| map.get_key_value(*key));
            let others = map.iter().filter(|(key, _)| !order.contains(&key.as_str()));
            out.push('{');
            for (number, (key, member)) in known.chain(others).enumerate() {
                if number > 0 {
                    out.push(',');
                }
                out.push_str(&Value::from(key.as_str()).to_string());
                out.push(':');
                write_ordered(member, level + 1, out);
            }
            out.push('}');
        }
        (Value::Array(items), Some(_)) => {
            out.push('[');
            for (number, item) in items.iter().enumerate() {
                if number > 0 {
                    out.push(',');
                }
                write_ordered(item, level, out);
            }
            out.push(']');
        }
        _ => out.push_str(&value.to_string()),
    }
}

impl Details {
    fn to_value(&self) -> Value {
        let mut out = Map::new();
        put(&mut out, "name", &self.name);
        put(&mut out, "group", &self.group);
        put(&mut out, "kind", &self.kind);
        put(&mut out, "uid", &self.uid);
        if !self.causes.is_empty() {
            let causes = self.causes.iter().map(|cause| {
                let mut entry = Map::new();
                put(&mut entry, "reason", &cause.reason);
                put(&mut entry, "message", &cause.message);
                put(&mut entry, "field", &cause.field);
                Value::Object(entry)
            });
            out.insert("causes".into(), causes.collect());
        }
        if let Some(seconds) = self.retry_after_seconds {
            out.insert("retryAfterSeconds".into(), seconds.into());
        }
        Value::Object(out)
    }
}

fn put(map: &mut Map<String, Value>, key: &str, value: &str) {
    if !value.is_empty() {
        map.insert(key.to_owned(), value.into());
    }
}

/// Joins errors as `utilerrors.Aggregate` does: one as it is, several in brackets, each once.
fn aggregate(errors: &[FieldError]) -> String {
    let mut texts: Vec<String> = Vec::new();
    for error in errors {
        let text = error.to_string();
        if !texts.contains(&text) {
            texts.push(text);
        }
    }
    if texts.len() <= 1 {
        texts.pop().unwrap_or_default()
    } else {
        format!("[{}]", texts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validate::field::FieldError;

    #[test]
    fn the_text_is_in_kubernetes_order() {
        assert_eq!(
            Status::already_exists("", "services", "mock").to_text(),
            "{\"kind\":\"Status\",\"apiVersion\":\"v1\",\"metadata\":{},\"status\":\"Failure\",\"message\":\"services \\\"mock\\\" already exists\",\"reason\":\"AlreadyExists\",\"details\":{\"name\":\"mock\",\"kind\":\"services\"},\"code\":409}\n"
        );
        let status = Status::invalid("apps", "Deployment", "x", &[FieldError::required("spec", "")]);
        let text = status.to_text();
        assert!(
            text.contains(
                r#""causes":[{"reason":"FieldValueRequired","message":"Required value","field":"spec"}]},"code":422}"#
            ),
            "{text}"
        );
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), status.to_value());
    }

    #[test]
    fn an_invalid_object_reads_as_on_kubernetes() {
        let one = [FieldError::required("spec.selector", "")];
        let status = Status::invalid("apps", "Deployment", "x", &one);
        assert_eq!(
            status.message,
            "Deployment.apps \"x\" is invalid: spec.selector: Required value"
        );
        let value = status.to_value();
        assert_eq!(value["details"]["causes"][0]["reason"], "FieldValueRequired");
        assert_eq!(value["details"]["causes"][0]["message"], "Required value");
        assert_eq!(value["code"], 422);
        let two = [FieldError::required("spec.a", ""), FieldError::required("spec.b", "")];
        let message = Status::invalid("", "Pod", "x", &two).message;
        assert_eq!(
            message,
            "Pod \"x\" is invalid: [spec.a: Required value, spec.b: Required value]"
        );
    }

    #[test]
    fn a_missing_object_names_its_resource_and_group() {
        assert_eq!(Status::not_found("", "pods", "x").message, "pods \"x\" not found");
        let value = Status::not_found("apps", "deployments", "x").to_value();
        assert_eq!(value["message"], "deployments.apps \"x\" not found");
        assert_eq!(
            value["details"],
            json!({"name": "x", "group": "apps", "kind": "deployments"})
        );
    }
}
