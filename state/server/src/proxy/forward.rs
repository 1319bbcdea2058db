//! Passing one request on: headers that are for one hop or for the API only are taken away, where the answer redirects to is
//! rewritten to go through the proxy again, and an upgrade joins both connections.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::header::{
    AUTHORIZATION, CONNECTION, HOST, LOCATION, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING,
    UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use setpoint_api::Status;

use super::target::Target;
use super::tls;
use crate::api::Session;
use crate::pods;
use crate::request::RequestInfo;
use crate::streams::{Duplex, PodAddress, PodStreams, StreamError};
use crate::upgrade::{self, Cutoff};

/// How long a connection to a pod may take to be made, TLS included.
const CONNECT_WITHIN: Duration = Duration::from_secs(30);
/// How long a pod may take to begin its answer. Kubernetes waits for ever; this is for pods that never will.
const ANSWER_WITHIN: Duration = Duration::from_secs(600);

/// What is for one hop only (RFC 9110, 7.6.1, and what is older).
const HOP_BY_HOP: [HeaderName; 8] = [
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Passes a request on to a pod.
pub(super) async fn forward(
    streams: &Arc<dyn PodStreams>,
    target: &Target,
    info: &RequestInfo,
    mut request: Request<Body>,
) -> Result<Response<Body>, Status> {
    let path = info.proxied_path().to_owned();
    let prefix = info.path.strip_suffix(path.as_str()).unwrap_or_default().to_owned();
    let upgrades = upgrade::is_wanted(request.headers());
    let session = request.extensions_mut().remove::<Session>();
    let cutoff = Cutoff::of(&mut request);
    let switched = hyper::upgrade::on(&mut request);
    let host = host(&request);
    let connection = match tokio::time::timeout(CONNECT_WITHIN, connect(streams, target)).await {
        Ok(connection) => connection.map_err(|why| unreachable(&why))?,
        Err(_) => return Err(unreachable("the connection took too long")),
    };
    let (mut sender, driver) = hyper::client::conn::http1::handshake(TokioIo::new(connection))
        .await
        .map_err(|error| unreachable(&pods::chain(&error)))?;
    tokio::spawn(async move {
        if let Err(error) = driver.with_upgrades().await {
            tracing::debug!(error = %pods::chain(&error), "a proxied connection broke");
        }
    });
    let (mut parts, body) = request.into_parts();
    outgoing(&mut parts.headers, upgrades);
    if let Some(host) = host.as_deref().and_then(|host| HeaderValue::from_str(host).ok()) {
        parts.headers.insert(HOST, host);
    }
    if let Ok(uri) = HeaderValue::from_str(&info.path) {
        parts.headers.insert("x-forwarded-uri", uri);
    }
    let query = parts.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let path = if path.is_empty() { "/" } else { path.as_str() };
    let mut passed = Request::new(body);
    *passed.method_mut() = parts.method;
    *passed.uri_mut() = format!("{path}{query}")
        .parse::<Uri>()
        .map_err(|error| Status::bad_request(format!("the path {path:?} cannot be passed on: {error}")))?;
    *passed.headers_mut() = parts.headers;
    let mut response = match tokio::time::timeout(ANSWER_WITHIN, sender.send_request(passed)).await {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => return Err(unreachable(&pods::chain(&error))),
        Err(_) => {
            return Err(Status::timeout(format!(
                "the pod did not begin to answer within {} seconds",
                ANSWER_WITHIN.as_secs()
            )));
        }
    };
    let protocol = response.headers().get(UPGRADE).cloned();
    let joined = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    strip(response.headers_mut());
    if joined {
        if !upgrades {
            return Err(Status::new(
                502,
                "InternalError",
                "the pod switched protocols without being asked to",
            ));
        }
        let pod = hyper::upgrade::on(&mut response);
        let what = format!("proxy {}/{}", target.place.namespace, target.place.name);
        tokio::spawn(async move {
            // The connection counts as open until it has ended.
            let _session = session;
            cutoff.unless_over(join(switched, pod, what)).await;
        });
        let headers = response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        if let Some(protocol) = protocol {
            headers.insert(UPGRADE, protocol);
        }
        return Ok(response.map(|_| Body::empty()));
    }
    let headers = response.headers_mut();
    if let Some(location) = headers.get(LOCATION).and_then(|value| value.to_str().ok()) {
        let rewritten = rewrite(location, &prefix, target, host.as_deref());
        if let Some(value) = rewritten.and_then(|location| HeaderValue::try_from(location).ok()) {
            headers.insert(LOCATION, value);
        }
    }
    Ok(response.map(Body::new))
}

/// Whom the client believes to talk to.
fn host(request: &Request<Body>) -> Option<String> {
    let authority = request.uri().authority().map(ToString::to_string);
    authority.or_else(|| Some(request.headers().get(HOST)?.to_str().ok()?.to_owned()))
}

async fn connect(streams: &Arc<dyn PodStreams>, target: &Target) -> Result<Box<dyn Duplex>, String> {
    let place = &target.place;
    let connected = streams
        .connect(&place.node, &place.namespace, &place.name, PodAddress::Pod, target.port)
        .await;
    let stream = connected.map_err(|error| match &error {
        // What was being done is said already.
        StreamError::Failed { source, .. } => pods::chain(&**source),
        error => error.to_string(),
    })?;
    if target.tls {
        return tls::connect(stream, target.ip).await.map_err(|error| error.to_string());
    }
    Ok(stream)
}

fn unreachable(why: &str) -> Status {
    Status::unavailable(format!("error trying to reach service: {why}"))
}

/// Takes away what is for one hop only.
fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| HeaderName::try_from(name.trim()).ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
    headers.remove(CONNECTION);
}

/// The request's headers as the pod gets them: nothing by which the sender is known to the API.
fn outgoing(headers: &mut HeaderMap, upgrades: bool) {
    let protocol = headers.get(UPGRADE).cloned().filter(|_| upgrades);
    strip(headers);
    headers.remove(AUTHORIZATION);
    let impersonation: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().starts_with("impersonate-"))
        .cloned()
        .collect();
    for name in impersonation {
        headers.remove(name);
    }
    if let Some(protocol) = protocol {
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, protocol);
    }
}

/// Where a redirect leads when it is followed through the proxy; `None` when it stays as it is.
fn rewrite(location: &str, prefix: &str, target: &Target, host: Option<&str>) -> Option<String> {
    let (authority, rest) = match location.split_once("://") {
        Some((scheme, rest)) if scheme.chars().all(|letter| letter.is_ascii_alphanumeric()) => {
            let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
            (Some(&rest[..end]), &rest[end..])
        }
        _ => match location.strip_prefix("//") {
            Some(rest) => {
                let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
                (Some(&rest[..end]), &rest[end..])
            }
            None => (None, location),
        },
    };
    if let Some(authority) = authority {
        let own = std::net::SocketAddr::new(target.ip, target.port).to_string();
        let bare = target.ip.to_string();
        let same = authority == own || authority == bare || Some(authority) == host;
        if !same {
            return None;
        }
    }
    let below = rest.starts_with(prefix);
    match authority {
        // What is relative stays below the proxy by itself.
        None if below || !rest.starts_with('/') => None,
        Some(_) if below => Some(rest.to_owned()),
        _ if rest.starts_with('/') => Some(format!("{prefix}{rest}")),
        _ => Some(format!("{prefix}/{rest}")),
    }
}

/// Joins two connections that switched protocols until one of them ends. A silent one is found out by TCP's keep-alive.
async fn join(client: hyper::upgrade::OnUpgrade, pod: hyper::upgrade::OnUpgrade, what: String) {
    let (client, pod) = tokio::join!(upgrade::taken(client, &what), upgrade::taken(pod, &what));
    let (Some(client), Some(pod)) = (client, pod) else {
        return;
    };
    let (mut from_client, mut to_client) = tokio::io::split(TokioIo::new(client));
    let (mut from_pod, mut to_pod) = tokio::io::split(TokioIo::new(pod));
    let ended = tokio::select! {
        ended = tokio::io::copy(&mut from_client, &mut to_pod) => ended,
        ended = tokio::io::copy(&mut from_pod, &mut to_client) => ended,
    };
    if let Err(error) = ended {
        tracing::debug!(what, %error, "a proxied session broke");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target() -> Target {
        Target {
            place: crate::pods::Place::default(),
            tls: false,
            ip: "10.42.0.7".parse().expect("an address"),
            port: 8080,
        }
    }

    #[test]
    fn redirects_lead_through_the_proxy_again() {
        let prefix = "/api/v1/namespaces/a/pods/web/proxy";
        let rewrite = |location: &str| rewrite(location, prefix, &target(), Some("api:6443"));
        let below = |rest: &str| Some(format!("{prefix}{rest}"));
        assert_eq!(rewrite("/login?next=/"), below("/login?next=/"));
        assert_eq!(rewrite("http://10.42.0.7:8080/x/"), below("/x/"));
        assert_eq!(rewrite("http://api:6443/x"), below("/x"));
        assert_eq!(rewrite("//10.42.0.7/x"), below("/x"));
        assert_eq!(rewrite("http://10.42.0.7:8080"), below("/"));
        assert_eq!(rewrite("next"), None);
        assert_eq!(rewrite("https://elsewhere.example/x"), None);
        assert_eq!(rewrite(&format!("{prefix}/x")), None);
    }

    #[test]
    fn nothing_by_which_the_sender_is_known_goes_on() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("authorization", "Bearer secret"),
            ("impersonate-user", "root"),
            ("impersonate-extra-scopes", "all"),
            ("connection", "x-hop, keep-alive"),
            ("x-hop", "1"),
            ("keep-alive", "timeout=5"),
            ("upgrade", "websocket"),
            ("te", "trailers"),
            ("cookie", "a=b"),
        ] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        outgoing(&mut headers, false);
        assert_eq!(headers.len(), 1, "{headers:?}");
        assert_eq!(headers["cookie"], "a=b");
        headers.insert(CONNECTION, HeaderValue::from_static("keep-alive, Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        outgoing(&mut headers, true);
        assert_eq!(
            (&headers[CONNECTION], &headers[UPGRADE]),
            (
                &HeaderValue::from_static("Upgrade"),
                &HeaderValue::from_static("websocket")
            )
        );
    }
}
