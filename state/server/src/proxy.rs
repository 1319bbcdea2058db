//! `pods/proxy`, `services/proxy` and `nodes/proxy`: HTTP requests passed on to a pod, or answered for a node.
//!
//! The rules are Kubernetes': the name may carry scheme and port (`https:web:8443`), a service is one of its ready endpoints, and
//! only pods of this cluster are reached, by way of their node. Whoever asks is known to the API only: credentials do not travel
//! on. `target` finds the pod, `forward` passes the request on, `node` answers for nodes.

mod forward;
mod node;
mod target;
mod tls;

use std::sync::Arc;

use axum::body::Body;
use http::header::LOCATION;
use http::{HeaderValue, Request, Response, StatusCode};
use setpoint_api::Status;

use crate::cache::Cache;
use crate::metrics::RequestMetrics;
use crate::request::RequestInfo;
use crate::streams::PodStreams;

/// Whether the request is to be passed on.
pub(crate) fn is_proxy(info: &RequestInfo) -> bool {
    info.is_resource
        && info.group.is_empty()
        && info.version == "v1"
        && info.subresource == "proxy"
        && matches!(info.resource.as_str(), "pods" | "services" | "nodes")
}

/// Answers a request that is to be passed on.
pub(crate) async fn serve(
    cache: &Cache,
    streams: &Arc<dyn PodStreams>,
    metrics: &RequestMetrics,
    info: &RequestInfo,
    request: Request<Body>,
) -> Result<Response<Body>, Status> {
    let (namespace, name) = (info.namespace.as_deref(), info.name.as_deref().unwrap_or_default());
    let namespaced = info.resource != "nodes";
    if namespaced != namespace.is_some() {
        return Err(Status::no_such_resource());
    }
    let upgrades = crate::upgrade::is_wanted(request.headers());
    if info.resource == "nodes" {
        let node = node::find(cache, name)?;
        if info.proxied_path().is_empty() {
            return moved(&request);
        }
        return node::serve(cache, streams, metrics, &node, info).await;
    }
    let namespace = namespace.unwrap_or_default();
    let target = match info.resource.as_str() {
        "services" => target::of_service(cache, namespace, name),
        _ => target::of_pod(cache, namespace, name),
    }?;
    // What a page refers to relatively is below the proxy's path only when that ends with a slash.
    if info.proxied_path().is_empty() && !upgrades {
        return moved(&request);
    }
    forward::forward(streams, &target, info, request).await
}

fn moved(request: &Request<Body>) -> Result<Response<Body>, Status> {
    let uri = request.uri();
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let location = HeaderValue::try_from(format!("{}/{query}", uri.path())).map_err(Status::internal)?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    response.headers_mut().insert(LOCATION, location);
    Ok(response)
}
