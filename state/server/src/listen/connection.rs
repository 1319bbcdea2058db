//! One connection: HTTP/1.1 or HTTP/2 over any stream, until its client or the shutdown ends it.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::Body;
use futures::StreamExt;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use super::DRAIN_WITHIN;
use crate::api::{ApiServer, LongRunning};
use crate::audit::Peer;
use crate::authn::Origin;
use crate::upgrade::Cutoff;

/// How long a client may take to send the head of a request.
const HEAD_WITHIN: Duration = Duration::from_secs(30);
/// How often a silent HTTP/2 connection is asked whether it is still there.
const PING_EVERY: Duration = Duration::from_secs(30);
/// How long it may take to answer that.
const PONG_WITHIN: Duration = Duration::from_secs(20);

/// Serves until the end; `peer` is where the other end is, when it is across the network.
pub(super) async fn serve<S>(api: ApiServer, origin: Origin, peer: Option<Peer>, stream: S, shutdown: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let ending = shutdown.clone();
    let asked = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&asked);
    let service = service_fn(move |request: Request<Incoming>| {
        let (api, origin, ending, asked) = (api.clone(), origin.clone(), ending.clone(), Arc::clone(&seen));
        async move {
            let taken_back = api.taken_back(&origin, request.headers());
            let mut request = request.map(Body::new);
            asked.store(true, Ordering::Relaxed);
            let end = Cutoff::new(async move {
                tokio::select! {
                    () = ending.cancelled() => {}
                    () = taken_back => {}
                }
            });
            request.extensions_mut().insert(end.clone());
            if let Some(peer) = peer {
                request.extensions_mut().insert(peer);
            }
            let response = api.handle(&origin, request).await;
            Ok::<_, Infallible>(end_with(response, end))
        }
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PONG_WITHIN)
        .max_concurrent_streams(500);
    let mut connection = pin!(builder.serve_connection_with_upgrades(TokioIo::new(stream), service));
    // Before the first request nobody knows who it is, and until the protocol is chosen nothing else has a deadline.
    let silent = async {
        tokio::time::sleep(HEAD_WITHIN).await;
        if asked.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    };
    let done = tokio::select! {
        done = &mut connection => done,
        () = silent => {
            tracing::debug!("a connection on which nothing was asked is closed");
            return;
        }
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            match tokio::time::timeout(DRAIN_WITHIN, connection).await {
                Ok(done) => done,
                Err(_) => return,
            }
        }
    };
    if let Err(error) = done {
        // A client that hangs up in the middle is its own business.
        tracing::debug!(%error, "a connection broke");
    }
}

/// Lets an answer that goes on for ever come to an end.
fn end_with(response: Response<Body>, end: Cutoff) -> Response<Body> {
    if response.extensions().get::<LongRunning>().is_none() {
        return response;
    }
    response.map(|body| Body::from_stream(body.into_data_stream().take_until(Box::pin(end.over()))))
}
