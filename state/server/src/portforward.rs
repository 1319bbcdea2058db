//! `pods/portforward`: connections into a pod, carried by one upgraded connection.
//!
//! Three transports: SPDY/3.1 itself, SPDY inside WebSocket messages (what kubectl tries first since 1.31), and the older
//! WebSocket form with a pair of channels for each port that the query names. A connection that cannot be made is told on its
//! error stream, and the session goes on, as with Kubernetes.

mod channels;
mod spdy;

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::header::{CONNECTION, UPGRADE};
use http::{HeaderMap, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use setpoint_api::Status;

use crate::api::Session;
use crate::cache::Cache;
use crate::pods::{self, Place};
use crate::request::{Query, RequestInfo};
use crate::spdy::{PROTOCOL, STREAM_PROTOCOL};
use crate::streams::{Duplex, PodAddress, PodStreams};
use crate::upgrade::{self, Cutoff};
use crate::websocket::{self, Tunnel};

/// What streams mean: for each connection one for errors and one for bytes.
const STREAMS: &str = "portforward.k8s.io";
/// The same streams, inside WebSocket messages.
const TUNNELLED: &str = "SPDY/3.1+portforward.k8s.io";
/// Channels for ports that the query names.
const CHANNELS: &str = "v4.channel.k8s.io";

/// How many connections a session may have at a time.
const CONNECTIONS: usize = 512;
/// How many bytes wait for one connection at most; more than that and the session waits.
const BUFFER: usize = 64 << 10;
/// The longest piece that is read at once from a pod, in bytes.
const CHUNK: usize = 32 << 10;
/// Frames that wait to be sent; more than that and those who send wait.
const QUEUE: usize = 32;
/// How long a pod may take nothing while its client sends. It holds the session's other connections up meanwhile.
const STALLED: Duration = Duration::from_secs(30);
/// How long a session may be silent, as the kubelet has it.
const IDLE: Duration = Duration::from_secs(4 * 3600);

/// Whether the request is about ports of a pod.
pub(crate) fn is_portforward(info: &RequestInfo) -> bool {
    info.group.is_empty() && info.resource == "pods" && info.subresource == "portforward"
}

/// The pod behind a session.
struct Forwarding {
    streams: Arc<dyn PodStreams>,
    place: Place,
}

impl Forwarding {
    /// Connects to a port; the error is what the client is told.
    async fn connect(&self, port: u16) -> Result<Box<dyn Duplex>, String> {
        let Place {
            namespace,
            name,
            uid,
            node,
        } = &self.place;
        self.streams
            .connect(node, namespace, name, PodAddress::Loopback, port)
            .await
            .map_err(|error| {
                let error = pods::chain(&error);
                format!("error forwarding port {port} to pod {name}, uid {uid}: {error}")
            })
    }
}

/// The protocol to switch to.
enum Transport {
    Spdy,
    Tunnel(websocket::Handshake),
    Channels(websocket::Handshake, Vec<u16>),
}

/// Answers a request to forward ports.
pub(crate) async fn serve(
    cache: &Cache,
    streams: &Arc<dyn PodStreams>,
    info: &RequestInfo,
    mut request: Request<Body>,
) -> Result<Response<Body>, Status> {
    if !matches!(info.verb.as_str(), "get" | "create") {
        return Err(Status::method_not_allowed());
    }
    let (namespace, name) = (info.namespace.as_deref(), info.name.as_deref());
    let pod = pods::pod(cache, namespace.unwrap_or_default(), name.unwrap_or_default())?;
    let place = Place::of(&pod)?;
    let ports = ports(&info.query)?;
    let transport = negotiate(request.headers(), ports)?;
    let response = match &transport {
        Transport::Spdy => Response::builder()
            .status(StatusCode::SWITCHING_PROTOCOLS)
            .header(CONNECTION, "Upgrade")
            .header(UPGRADE, PROTOCOL)
            .header(STREAM_PROTOCOL, STREAMS)
            .body(Body::empty())
            .map_err(Status::internal),
        Transport::Tunnel(handshake) | Transport::Channels(handshake, _) => handshake.response(),
    }?;
    let what = format!("portforward {}/{}", place.namespace, place.name);
    let forwarding = Arc::new(Forwarding {
        streams: Arc::clone(streams),
        place,
    });
    let session = request.extensions_mut().remove::<Session>();
    let cutoff = Cutoff::of(&mut request);
    let switched = hyper::upgrade::on(&mut request);
    let carried = async move {
        // The session counts as open until it has ended.
        let _session = session;
        let Some(upgraded) = upgrade::taken(switched, &what).await else {
            return;
        };
        let done: Result<(), Box<dyn std::error::Error + Send + Sync>> = match transport {
            Transport::Spdy => spdy::run(TokioIo::new(upgraded), forwarding).await.map_err(Into::into),
            Transport::Tunnel(_) => {
                let tunnel = Tunnel::new(websocket::socket(upgraded).await);
                spdy::run(tunnel, forwarding).await.map_err(Into::into)
            }
            Transport::Channels(_, ports) => {
                let socket = websocket::socket(upgraded).await;
                channels::run(socket, &ports, forwarding).await.map_err(Into::into)
            }
        };
        if let Err(error) = done {
            tracing::debug!(what, error = %pods::chain(&*error), "the session broke");
        }
    };
    tokio::spawn(cutoff.unless_over(carried));
    Ok(response)
}

fn negotiate(headers: &HeaderMap, ports: Vec<u16>) -> Result<Transport, Status> {
    if !upgrade::is_wanted(headers) {
        return Err(Status::bad_request("Upgrade request required"));
    }
    if upgrade::wants(headers, "websocket") {
        let handshake = websocket::Handshake::read(headers, &[TUNNELLED, CHANNELS], true)?;
        if handshake.protocol == Some(TUNNELLED) {
            return Ok(Transport::Tunnel(handshake));
        }
        if ports.is_empty() {
            return Err(Status::bad_request("query parameter \"port\" is required"));
        }
        return Ok(Transport::Channels(handshake, ports));
    }
    if upgrade::wants(headers, PROTOCOL) {
        let offered = crate::spdy::offered(headers);
        // A client that names none is an old one, and means this.
        if offered.is_empty() || offered.contains(&STREAMS) {
            return Ok(Transport::Spdy);
        }
        return Err(Status::new(
            403,
            "Forbidden",
            format!(
                "unable to upgrade: unable to negotiate protocol: client supports {offered:?}, server accepts [{STREAMS:?}]"
            ),
        ));
    }
    Err(Status::bad_request(
        "unable to upgrade: WebSocket and SPDY/3.1 are spoken here",
    ))
}

/// The ports that the query names: `ports=80,443`, or repeated.
fn ports(query: &Query) -> Result<Vec<u16>, Status> {
    let mut ports = Vec::new();
    for text in query.all("ports").flat_map(|list| list.split(',')) {
        let port = port(text).map_err(Status::bad_request)?;
        if ports.len() == CONNECTIONS.min(usize::from(u8::MAX) / 2) {
            return Err(Status::bad_request("too many ports for one session"));
        }
        ports.push(port);
    }
    Ok(ports)
}

/// Reads a port as Kubernetes does; the error is its sentence.
fn port(text: &str) -> Result<u16, String> {
    match text.parse::<u16>() {
        Ok(0) => Err(format!("port {text:?} must be > 0")),
        Ok(port) => Ok(port),
        Err(error) => {
            let why = match error.kind() {
                std::num::IntErrorKind::PosOverflow => "value out of range",
                _ => "invalid syntax",
            };
            Err(format!(
                "unable to parse {text:?} as a port: strconv.ParseUint: parsing {text:?}: {why}"
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read_from_lists_and_repetitions() {
        let read = |query: &str| ports(&Query::parse(query));
        assert_eq!(read("ports=80,443&ports=1"), Ok(vec![80, 443, 1]));
        assert_eq!(read(""), Ok(Vec::new()));
        assert_eq!(read("ports=0").expect_err("no port").message, "port \"0\" must be > 0");
        assert!(
            read("ports=70000")
                .expect_err("no port")
                .message
                .contains("value out of range")
        );
        assert_eq!(
            read(&format!("ports={}", vec!["1"; 200].join(",")))
                .expect_err("many")
                .code,
            400
        );
    }
}
