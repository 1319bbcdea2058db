//! The door across the network.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::{CONNECTIONS, ListenError, ServingCerts, connection, pause_after};
use crate::api::ApiServer;
use crate::audit::Peer;
use crate::authn::{Holder, Origin};

/// How long a client may take for the TLS handshake.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);
/// After how long a silence the kernel asks whether the client is still there, and how often again.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How often it is asked in vain.
const PROBES: u32 = 4;

/// Serves the API over TLS (1.2 and newer; HTTP/1.1 and HTTP/2) at every listener until `shutdown` resolves and the
/// connections are drained.
pub async fn serve_tls(
    api: ApiServer,
    listeners: Vec<TcpListener>,
    certificates: ServingCerts,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), ListenError> {
    if listeners.is_empty() {
        return Err(ListenError::NoListener);
    }
    let token = CancellationToken::new();
    let limit = Arc::new(Semaphore::new(CONNECTIONS));
    let mut doors = JoinSet::new();
    for listener in listeners {
        doors.spawn(accept(
            api.clone(),
            listener,
            certificates.clone(),
            Arc::clone(&limit),
            token.clone(),
        ));
    }
    shutdown.await;
    token.cancel();
    while doors.join_next().await.is_some() {}
    Ok(())
}

async fn accept(
    api: ApiServer,
    listener: TcpListener,
    certificates: ServingCerts,
    limit: Arc<Semaphore>,
    shutdown: CancellationToken,
) {
    let mut connections = JoinSet::new();
    loop {
        let next = async {
            // The semaphore is never closed; connections beyond the limit wait in the kernel's queue.
            let permit = Arc::clone(&limit).acquire_owned().await.ok();
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            next = next => next,
            () = shutdown.cancelled() => break,
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok((stream, address)) => {
                let (api, certificates, shutdown) = (api.clone(), certificates.clone(), shutdown.clone());
                connections.spawn(async move {
                    let open = api.count_connection();
                    serve(api, stream, Peer(address.ip()), certificates, shutdown).await;
                    drop((permit, open));
                });
            }
            Err(error) => {
                if let Some(pause) = pause_after(&error) {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }
    drop(listener);
    // Each connection ends within the drain's deadline.
    while connections.join_next().await.is_some() {}
}

async fn serve(api: ApiServer, stream: TcpStream, peer: Peer, certificates: ServingCerts, shutdown: CancellationToken) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    if let Err(error) = keep_alive(&stream) {
        tracing::debug!(%error, "cannot set TCP's keep-alive");
    }
    let handshake = TlsAcceptor::from(certificates.current()).accept(stream);
    let stream = tokio::select! {
        done = tokio::time::timeout(HANDSHAKE_WITHIN, handshake) => match done {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                tracing::debug!(%error, "a TLS handshake failed");
                return;
            }
            Err(_) => return,
        },
        () = shutdown.cancelled() => return,
    };
    let origin = match stream.get_ref().1.peer_certificates() {
        Some([certificate, ..]) => match Holder::read(certificate) {
            Some(holder) => Origin::Certificate(Arc::new(holder)),
            None => Origin::Refused("the client certificate names no user".to_owned()),
        },
        _ => Origin::Unknown,
    };
    connection::serve(api, origin, Some(peer), stream, shutdown).await;
}

/// Has the kernel find out about a client that is gone without a word: a process that somebody ran in a terminal is to end then.
fn keep_alive(stream: &TcpStream) -> Result<(), rustix::io::Errno> {
    use rustix::net::sockopt;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, KEEP_ALIVE)?;
    sockopt::set_tcp_keepintvl(stream, KEEP_ALIVE)?;
    sockopt::set_tcp_keepcnt(stream, PROBES)
}
