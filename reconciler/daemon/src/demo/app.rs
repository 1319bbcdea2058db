//! The demo's program: says its version, host name and environment on `/`, and `ok` on `/healthz`.
//!
//! It stops as a well-behaved server does: on SIGTERM it takes no new connection, answers what it has begun, and ends.

use std::convert::Infallible;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

/// The argument that makes this binary the demo's program.
pub const ROLE: &str = "__demo";
/// The further argument that makes it fail soon after its start.
pub const CRASH: &str = "--crash";
/// The further argument that makes it fetch a URL once, print what comes, and end: the image has no other client in it.
pub const GET: &str = "--get";
/// The variable that says which version it calls itself.
pub const VERSION: &str = "DEMO_VERSION";

/// How long requests that have begun may take once it is told to stop.
const DRAIN: Duration = Duration::from_secs(10);
/// How long a connection may take to ask.
const FIRST_REQUEST: Duration = Duration::from_secs(5);

/// Runs the demo when this process was started for that; `None` when it was not.
pub fn main_when_asked() -> Option<ExitCode> {
    let mut arguments = std::env::args().skip(1);
    if arguments.next()? != ROLE {
        return None;
    }
    let outcome = match (arguments.next().as_deref(), arguments.next()) {
        (Some(CRASH), _) => Err(anyhow::anyhow!(
            "cannot reach the database at db:5432: this is the image that always fails"
        )),
        (Some(GET), Some(url)) => get(&url),
        _ => tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(anyhow::Error::from)
            .and_then(|runtime| runtime.block_on(serve())),
    };
    Some(match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            crate::output::error(&error);
            ExitCode::FAILURE
        }
    })
}

async fn serve() -> anyhow::Result<()> {
    let mut stop = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let port: u16 = match std::env::var("PORT") {
        Ok(text) => text.parse().with_context(|| format!("PORT={text:?} is not a port"))?,
        Err(_) => 8080,
    };
    // For both families; for one where the pod has no other.
    let listener = match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await {
        Ok(listener) => listener,
        Err(_) => {
            let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
            let bound = TcpListener::bind(address).await;
            bound.with_context(|| format!("cannot listen on {address}"))?
        }
    };
    crate::output::text(&format!("demo {} listens on {}\n", version(), listener.local_addr()?));
    let (stopping, stopped) = watch::channel(false);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                connections.spawn(serve_connection(stream, stopped.clone()));
            }
            Some(_) = connections.join_next() => {}
            _ = stop.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
    crate::output::text("demo stops\n");
    // What the kernel has accepted for us is answered too: take it before the listener closes.
    while let Ok(Ok((stream, _))) = tokio::time::timeout(Duration::ZERO, listener.accept()).await {
        connections.spawn(serve_connection(stream, stopped.clone()));
    }
    drop(listener);
    stopping.send_replace(true);
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN, drained).await.is_err() {
        crate::output::text("some requests were cut off\n");
    }
    Ok(())
}

/// Serves one connection. Once the program stops it ends after the request at hand, but not before its first: whoever
/// connected in time is answered.
async fn serve_connection(stream: tokio::net::TcpStream, mut stopped: watch::Receiver<bool>) {
    let asked = Arc::new(Notify::new());
    let first = asked.clone();
    let service = service_fn(move |request| {
        first.notify_one();
        answer(request)
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(FIRST_REQUEST)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ending = async {
        // An error means that the sender is gone, which is the end as well.
        drop(stopped.wait_for(|stopped| *stopped).await);
        asked.notified().await;
    };
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        () = ending => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = outcome {
        crate::output::text(&format!("a connection failed: {error}\n"));
    }
}

/// Fetches `http://HOST[:PORT]/PATH` and prints the body; a status of 400 or above is an error.
fn get(url: &str) -> anyhow::Result<()> {
    const LIMIT: Duration = Duration::from_secs(5);
    let uri: http::Uri = url.parse().with_context(|| format!("{url:?} is not a URL"))?;
    let host = uri.host().with_context(|| format!("{url:?} names no host"))?;
    let address = (host, uri.port_u16().unwrap_or(80))
        .to_socket_addrs()
        .with_context(|| format!("cannot resolve {host}"))?
        .next()
        .with_context(|| format!("{host} has no address"))?;
    let mut stream =
        TcpStream::connect_timeout(&address, LIMIT).with_context(|| format!("cannot connect to {address}"))?;
    stream.set_read_timeout(Some(LIMIT))?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n")?;
    let mut answer = Vec::new();
    stream
        .take(1 << 20)
        .read_to_end(&mut answer)
        .with_context(|| format!("{address} did not answer"))?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").context("the answer is not HTTP")?;
    let status: u16 = head
        .split(' ')
        .nth(1)
        .and_then(|text| text.parse().ok())
        .context("the answer is not HTTP")?;
    crate::output::text(body);
    anyhow::ensure!(status < 400, "{url} answered {status}");
    Ok(())
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (status, text) = match request.uri().path() {
        "/healthz" => (200, "ok\n".to_string()),
        "/" => (200, page()),
        path => (404, format!("there is no {path} here; try / or /healthz\n")),
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = http::StatusCode::from_u16(status).unwrap_or_default();
    response.headers_mut().insert(
        http::header::CONTENT_TYPE,
        http::HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    Ok(response)
}

fn version() -> String {
    std::env::var(VERSION).unwrap_or_else(|_| "unknown".to_string())
}

fn page() -> String {
    let mut variables: Vec<String> = std::env::vars_os()
        .map(|(name, value)| format!("{}={}", name.to_string_lossy(), value.to_string_lossy()))
        .collect();
    variables.sort();
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    format!("version: {}\nhost: {host}\n\n{}\n", version(), variables.join("\n"))
}
