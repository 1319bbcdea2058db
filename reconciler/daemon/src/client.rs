//! The CLI's way to a cluster: the running instance's unix socket, or any cluster by a kubeconfig.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use hyper_util::rt::TokioIo;
use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};
use tokio::net::UnixStream;

use crate::cli::Global;
use crate::instance::{DaemonLock, Instance, Paths};

/// How long a command waits for an answer.
const ANSWER: Duration = Duration::from_secs(30);

/// No daemon runs on the data directory.
#[derive(Debug, thiserror::Error)]
#[error("no setpoint runs on {data_dir}; start it with `setpoint up` or name another with --data-dir", data_dir = .data_dir.display())]
pub struct NotRunning {
    data_dir: PathBuf,
}

impl NotRunning {
    /// Names the data directory on which nothing runs.
    pub fn on(data_dir: &std::path::Path) -> Self {
        NotRunning {
            data_dir: data_dir.to_path_buf(),
        }
    }
}

/// Connects to the cluster that the options name.
pub async fn connect(global: &Global) -> anyhow::Result<Client> {
    if global.kubeconfig.is_some() || global.context.is_some() {
        return by_kubeconfig(global).await;
    }
    let instance = running(global)?;
    let socket = instance.socket();
    let (mut sender, connection) = async {
        let stream = UnixStream::connect(&socket).await?;
        Ok::<_, anyhow::Error>(hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?)
    }
    .await
    .with_context(|| format!("cannot connect to {}", socket.display()))?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "the connection ended");
        }
    });
    // One connection, one request at a time: a command asks one thing after the other.
    let service = tower::service_fn(move |mut request: http::Request<kube::client::Body>| {
        request
            .headers_mut()
            .insert(http::header::HOST, http::HeaderValue::from_static("localhost"));
        let answer = sender.send_request(request);
        async move {
            match tokio::time::timeout(ANSWER, answer).await {
                Ok(answer) => answer.map_err(anyhow::Error::from),
                Err(_) => anyhow::bail!("setpoint did not answer within {} s", ANSWER.as_secs()),
            }
        }
    });
    Ok(Client::new(
        tower::util::BoxCloneService::new(Shared::new(service)),
        "default",
    ))
}

/// Returns the instance of the data directory when its daemon runs.
pub fn running(global: &Global) -> anyhow::Result<Instance> {
    let paths = Paths::new(&global.data_dir)?;
    match (Instance::load(&paths)?, DaemonLock::holder(&paths)?) {
        (Some(instance), Some(_)) => Ok(instance),
        _ => Err(NotRunning::on(paths.data_dir()).into()),
    }
}

async fn by_kubeconfig(global: &Global) -> anyhow::Result<Client> {
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        tracing::debug!("a TLS provider was installed already");
    }
    let options = KubeConfigOptions {
        context: global.context.clone(),
        ..KubeConfigOptions::default()
    };
    let config = match &global.kubeconfig {
        Some(path) => {
            let kubeconfig = Kubeconfig::read_from(path).with_context(|| format!("cannot read {}", path.display()))?;
            kube::Config::from_custom_kubeconfig(kubeconfig, &options).await
        }
        None => kube::Config::from_kubeconfig(&options).await,
    }
    .context("the kubeconfig cannot be used")?;
    Ok(Client::try_from(config)?)
}

/// A service that is not `Clone`, shared behind a lock that is held while a request is handed over, not while it is answered.
struct Shared<S>(std::sync::Arc<parking_lot::Mutex<S>>);

impl<S> Shared<S> {
    fn new(service: S) -> Self {
        Shared(std::sync::Arc::new(parking_lot::Mutex::new(service)))
    }
}

impl<S> Clone for Shared<S> {
    fn clone(&self) -> Self {
        Shared(self.0.clone())
    }
}

impl<S, R> tower::Service<R> for Shared<S>
where
    S: tower::Service<R>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), S::Error>> {
        self.0.lock().poll_ready(cx)
    }

    fn call(&mut self, request: R) -> S::Future {
        self.0.lock().call(request)
    }
}
