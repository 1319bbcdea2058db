//! The pod behind a streaming request: where it runs and which of its containers is meant.

use serde_json::Value;
use setpoint_api::Status;

use crate::cache::Cache;
use crate::request::RequestInfo;
use crate::streams::StreamError;

/// A pod and the node that it is bound to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub node: String,
}

impl Place {
    /// Where a pod is; one that is bound to no node cannot be reached.
    pub(crate) fn of(pod: &Value) -> Result<Place, Status> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let place = Place {
            namespace: text(&pod["metadata"]["namespace"]),
            name: text(&pod["metadata"]["name"]),
            uid: text(&pod["metadata"]["uid"]),
            node: text(&pod["spec"]["nodeName"]),
        };
        if place.node.is_empty() {
            let name = place.name;
            return Err(Status::bad_request(format!("pod {name} does not have a host assigned")));
        }
        Ok(place)
    }
}

/// Reads a pod.
pub(crate) fn pod(cache: &Cache, namespace: &str, name: &str) -> Result<Value, Status> {
    let stored = cache.get("core/pods", namespace, name);
    let stored = stored.ok_or_else(|| Status::not_found("", "pods", name))?;
    Ok(stored.value())
}

/// Finds the pod of a request and the container: the one named, or the only one.
pub(crate) fn target(cache: &Cache, info: &RequestInfo) -> Result<(Place, String), Status> {
    let namespace = info.namespace.as_deref().unwrap_or_default();
    let name = info.name.as_deref().unwrap_or_default();
    let pod = pod(cache, namespace, name)?;
    let container = container(&pod, name, info.query.non_empty("container"))?;
    Ok((Place::of(&pod)?, container))
}

fn container(pod: &Value, pod_name: &str, wanted: Option<&str>) -> Result<String, Status> {
    let names = |key: &str| -> Vec<&str> {
        pod["spec"][key]
            .as_array()
            .map(|list| list.iter().filter_map(|item| item["name"].as_str()).collect())
            .unwrap_or_default()
    };
    let (containers, init, ephemeral) = (
        names("containers"),
        names("initContainers"),
        names("ephemeralContainers"),
    );
    if let Some(wanted) = wanted {
        let known = [&containers, &init, &ephemeral]
            .iter()
            .any(|list| list.contains(&wanted));
        return if known {
            Ok(wanted.to_owned())
        } else {
            Err(Status::bad_request(format!(
                "container {wanted} is not valid for pod {pod_name}"
            )))
        };
    }
    match containers[..] {
        [only] => Ok(only.to_owned()),
        [] => Err(Status::bad_request(format!(
            "a container name must be specified for pod {pod_name}"
        ))),
        _ => {
            let mut message = format!(
                "a container name must be specified for pod {pod_name}, choose one of: [{}]",
                containers.join(" ")
            );
            if !init.is_empty() {
                message += &format!(" or one of the init containers: [{}]", init.join(" "));
            }
            if !ephemeral.is_empty() {
                message += &format!(" or one of the ephemeral containers: [{}]", ephemeral.join(" "));
            }
            Err(Status::bad_request(message))
        }
    }
}

/// How a failure to stream is answered.
pub(crate) fn failure(error: &StreamError) -> Status {
    match error {
        StreamError::BadRequest(message) => Status::bad_request(message.clone()),
        StreamError::NotFound(message) => Status::new(404, "NotFound", message.clone()),
        StreamError::NotSupported(message) => Status::not_implemented(message.clone()),
        StreamError::NodeUnreachable { .. } | StreamError::NodeNotConnected(_) => {
            Status::unavailable(error.to_string())
        }
        StreamError::Failed { .. } => Status::internal(chain(error)),
    }
}

/// An error and its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_container_is_the_one_named_or_the_only_one() {
        let one = json!({"spec": {"containers": [{"name": "a"}], "initContainers": [{"name": "i"}]}});
        assert_eq!(container(&one, "p", None).as_deref(), Ok("a"));
        assert_eq!(container(&one, "p", Some("i")).as_deref(), Ok("i"));
        let wrong = container(&one, "p", Some("z")).expect_err("no such container");
        assert_eq!(wrong.message, "container z is not valid for pod p");
        let two = json!({"spec": {"containers": [{"name": "a"}, {"name": "b"}], "initContainers": [{"name": "i"}]}});
        let which = container(&two, "p", None).expect_err("two containers");
        assert_eq!(
            which.message,
            "a container name must be specified for pod p, choose one of: [a b] or one of the init containers: [i]"
        );
    }
}
