//! `pods/exec` and `pods/attach`: a process in a pod at the other end of an upgraded connection.
//!
//! Two transports carry the same session: WebSocket (`v5.channel.k8s.io` and the subprotocols before it) and, for kubectl before
//! 1.31, SPDY/3.1. The process is started before the upgrade is answered, so that what is wrong with the request is an ordinary Status; a
//! program that cannot be started is told at the end of the session, as the exit code would be.

mod session;
mod spdy;
mod websocket;

use std::sync::Arc;

use axum::body::Body;
use http::{HeaderMap, Request, Response};
use setpoint_api::Status;

use crate::api::Session;
use crate::cache::Cache;
use crate::pods;
use crate::request::RequestInfo;
use crate::streams::{ExecRequest, ExecStreams, PodStreams, StreamError};
use crate::upgrade::{self, Cutoff};

/// The protocol to switch to.
enum Transport {
    WebSocket(websocket::Handshake),
    Spdy(spdy::Handshake),
}

/// Whether the request is about a process in a pod.
pub(crate) fn is_exec(info: &RequestInfo) -> bool {
    info.group.is_empty() && info.resource == "pods" && matches!(info.subresource.as_str(), "exec" | "attach")
}

/// Answers a request to run or to attach.
pub(crate) async fn serve(
    cache: &Cache,
    streams: &Arc<dyn PodStreams>,
    info: &RequestInfo,
    mut request: Request<Body>,
) -> Result<Response<Body>, Status> {
    if !matches!(info.verb.as_str(), "get" | "create") {
        return Err(Status::method_not_allowed());
    }
    let (target, container) = pods::target(cache, info)?;
    let wanted = read(info, container)?;
    let transport = negotiate(request.headers())?;
    let process = match streams
        .exec(&target.node, &target.namespace, &target.name, wanted.clone())
        .await
    {
        Ok(process) => process,
        // Told where the exit code would be: to a refused upgrade kubectl answers by trying again over SPDY.
        Err(error @ StreamError::Failed { .. }) => ExecStreams::failed(error),
        Err(error) => return Err(pods::failure(&error)),
    };
    let session = request.extensions_mut().remove::<Session>();
    let cutoff = Cutoff::of(&mut request);
    let switched = hyper::upgrade::on(&mut request);
    let response = match &transport {
        Transport::WebSocket(handshake) => handshake.response(),
        Transport::Spdy(handshake) => handshake.response(),
    }?;
    let what = format!("{} {}/{}", info.subresource, target.namespace, target.name);
    let carried = async move {
        // The session counts as open until it has ended.
        let _session = session;
        // Until here the process waits; it is killed when the client does not come.
        let Some(upgraded) = upgrade::taken(switched, &what).await else {
            return;
        };
        let done = match transport {
            Transport::WebSocket(handshake) => websocket::run(upgraded, &handshake, process).await,
            Transport::Spdy(_) => spdy::run(upgraded, &wanted, process).await,
        };
        if let Err(error) = done {
            tracing::debug!(what, error = %pods::chain(&*error), "the session broke");
        }
    };
    tokio::spawn(cutoff.unless_over(carried));
    Ok(response)
}

fn read(info: &RequestInfo, container: String) -> Result<ExecRequest, Status> {
    let query = &info.query;
    let exec = info.subresource == "exec";
    let tty = query.flag("tty");
    let request = ExecRequest {
        container: Some(container),
        command: if exec {
            query.all("command").map(str::to_owned).collect()
        } else {
            Vec::new()
        },
        stdin: query.flag("stdin"),
        stdout: query.flag("stdout"),
        // A terminal has one output.
        stderr: query.flag("stderr") && !tty,
        tty,
    };
    if exec && request.command.is_empty() {
        return Err(Status::bad_request(
            "you must specify at least one command for the container",
        ));
    }
    if !request.stdin && !request.stdout && !request.stderr {
        return Err(Status::bad_request(
            "you must specify at least 1 of stdin, stdout, stderr",
        ));
    }
    Ok(request)
}

fn negotiate(headers: &HeaderMap) -> Result<Transport, Status> {
    if !upgrade::is_wanted(headers) {
        return Err(Status::bad_request("Upgrade request required"));
    }
    if upgrade::wants(headers, "websocket") {
        return websocket::Handshake::read(headers).map(Transport::WebSocket);
    }
    if upgrade::wants(headers, crate::spdy::PROTOCOL) {
        return spdy::Handshake::read(headers).map(Transport::Spdy);
    }
    Err(Status::bad_request(
        "unable to upgrade: WebSocket and SPDY/3.1 are spoken here",
    ))
}
