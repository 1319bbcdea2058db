//! The door on the machine: who comes in is told by the kernel.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{CONNECTIONS, ListenError, connection, pause_after};
use crate::api::ApiServer;
use crate::authn::peer_origin;

/// Serves the API at a unix socket (mode 0600) until `shutdown` resolves and the connections are drained; then the
/// socket is removed. A socket that a dead server left is replaced.
pub async fn serve_unix(
    api: ApiServer,
    path: &Path,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), ListenError> {
    let (listener, own_uid) = bind(path).await?;
    let token = CancellationToken::new();
    let limit = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let next = async {
            // The semaphore is never closed.
            let permit = Arc::clone(&limit).acquire_owned().await.ok();
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            next = next => next,
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok((stream, _)) => {
                let (api, token) = (api.clone(), token.clone());
                connections.spawn(async move {
                    let open = api.count_connection();
                    serve(api, stream, own_uid, token).await;
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
    if let Err(error) = fs::remove_file(path) {
        tracing::debug!(%error, "cannot remove the socket");
    }
    token.cancel();
    while connections.join_next().await.is_some() {}
    Ok(())
}

async fn serve(api: ApiServer, stream: UnixStream, own_uid: u32, shutdown: CancellationToken) {
    match stream.peer_cred() {
        Ok(peer) => {
            let origin = peer_origin(peer.uid(), own_uid);
            connection::serve(api, origin, None, stream, shutdown).await;
        }
        Err(error) => tracing::warn!(%error, "cannot tell who is at the other end of the socket"),
    }
}

/// Binds the socket for its owner only and tells who that is.
async fn bind(path: &Path) -> Result<(UnixListener, u32), ListenError> {
    let fail = |operation| {
        move |source| ListenError::Socket {
            operation,
            path: path.to_owned(),
            source,
        }
    };
    match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => {
            if UnixStream::connect(path).await.is_ok() {
                return Err(ListenError::InUse { path: path.to_owned() });
            }
            fs::remove_file(path).map_err(fail("replace"))?;
        }
        Ok(_) => {
            let source = io::Error::new(
                io::ErrorKind::AlreadyExists,
                "something that is no socket has this name",
            );
            return Err(fail("bind")(source));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(fail("look at")(error)),
    }
    // Until its mode is set the socket stands under another name, so that nobody connects before.
    let temporary = path.with_extension("new");
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(fail("replace")(error)),
        _ => {}
    }
    let listener = UnixListener::bind(&temporary).map_err(fail("bind"))?;
    fs::set_permissions(&temporary, Permissions::from_mode(0o600)).map_err(fail("protect"))?;
    fs::rename(&temporary, path).map_err(fail("bind"))?;
    // The owner of a new file is who this process is.
    let own_uid = fs::metadata(path).map_err(fail("look at"))?.uid();
    Ok((listener, own_uid))
}
