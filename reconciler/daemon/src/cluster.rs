//! The cluster in one process: store, API, controllers and this machine's node, wired together.
//!
//! Only this module knows them all. Order of the start: what answers clients first (store, API), then what works for
//! them (network, runtime, agent, controllers). The end is the other way around, and leaves the pods running.

mod admission;
pub(crate) mod engine;
pub(crate) mod images;
mod metrics;
mod renewal;
mod streams;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use setpoint_agent::settings::Settings;
use setpoint_agent::{Agent, AgentConfig};
use setpoint_controllers::ControllersConfig;
use setpoint_engine::{Engine, EngineConfig};
use setpoint_net::{AddressPair, Net, NetError};
use setpoint_runtime::images::ImageStore;
use setpoint_runtime::images::collect::GcPolicy;
use setpoint_runtime::{Runtime, RuntimeConfig};
use setpoint_server::listen::{self, ServingCerts};
use setpoint_server::{ApiServer, AuditConfig, ServerConfig, UserInfo};
use setpoint_store::{History as _, Keys, SqliteHistory, SqliteLog};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::commands::image::import_demo;
use crate::instance::{self, Instance, Paths};
use crate::pki::{Pki, PkiOptions};
use crate::{stores, wall_clock};

/// The cluster's DNS domain.
const DOMAIN: &str = "cluster.local";
/// How long the parts may take to end.
const END: Duration = Duration::from_secs(10);

/// A running cluster.
pub struct Cluster {
    api: ApiServer,
    keys: Keys,
    store: Arc<SqliteLog>,
    history: SqliteHistory,
    agent: Agent,
    runtime: Runtime,
    images: Arc<ImageStore>,
    engine: Engine,
    client: kube::Client,
    tasks: JoinSet<(&'static str, anyhow::Result<()>)>,
    stop: watch::Sender<bool>,
}

impl Cluster {
    /// Starts every part; the API answers when this returns.
    pub async fn start(
        instance: &mut Instance,
        listener: TcpListener,
        paths: &Paths,
        audit: Option<AuditConfig>,
        settings: Settings,
        demo: bool,
    ) -> anyhow::Result<Cluster> {
        let now: Arc<dyn Fn() -> jiff::Timestamp + Send + Sync> = Arc::new(wall_clock);
        let metrics = prometheus::Registry::new();
        let (stop, stopped) = watch::channel(false);
        let mut tasks = JoinSet::new();
        make_private_dir(&instance.run_dir())?;

        // The network comes first: the API also listens on the address that it makes.
        instance.settle_ipv6(paths, settings.network.ipv6).await?;
        let net = Arc::new(open_net(instance, paths).await?);
        let instance = &*instance;
        for warning in net.warnings().await.context("cannot look at this host's firewall")? {
            tracing::warn!("{warning}");
        }
        let node_ip = node_ip(instance);
        let keys = stores::open_keys(paths).await.context("cannot use the keys")?;
        let store = SqliteLog::open(&paths.store(), stores::log_options(&keys))
            .await
            .context("cannot open the store")?;
        let store = Arc::new(store);
        metrics::register_store(&metrics, &store).context("cannot register the store's metrics")?;
        let requests = engine::requests();
        let image_requests = Arc::new(images::requests::Requests::default());
        let streams = Arc::new(streams::LocalNode::new(instance.node_name.clone()));
        let api = ApiServer::start(ServerConfig {
            log: store.clone(),
            streams: streams.clone(),
            subresources: vec![requests.clone(), image_requests.clone()],
            now: now.clone(),
            data_dir: paths.data_dir().to_path_buf(),
            service_cidr: instance.service_ranges().join(","),
            node_port_range: 30000..=32767,
            admission: vec![Arc::new(admission::PodFields)],
            metrics: metrics.clone(),
            api_address: Some(instance.api_address()),
            build: env!("CARGO_PKG_VERSION").to_string(),
            audit,
        })
        .await
        .context("cannot start the API")?;
        let authorities = listen(instance, listener, paths, node_ip, &api, &mut tasks, &stopped)?;

        let client = kube::Client::new(api.as_user(UserInfo::system("setpoint")), "default");
        let images = Arc::new(crate::commands::image::open(paths)?);
        let demo = provide_demo(demo, images.clone());
        let (runtime, adopted) = Runtime::open(
            RuntimeConfig {
                data_dir: paths.data_dir().to_path_buf(),
                run_dir: instance.run_dir(),
                instance: instance.id.clone(),
                now: now.clone(),
            },
            images.clone(),
            Some(net.clone()),
        )
        .await
        .context("cannot start the runtime")?;
        if !adopted.is_empty() {
            tracing::info!(pods = adopted.len(), "adopted the pods that kept running");
        }
        let image_gc = GcPolicy {
            high: settings.images.gc_high,
            low: settings.images.gc_low,
            minimum_age: settings.images.gc_min_age,
        };
        // The agent is a client like one across the network, with no more rights than the node has.
        let node = UserInfo::node(&instance.node_name);
        let agent = Agent::start(AgentConfig {
            node_name: instance.node_name.clone(),
            data_dir: paths.data_dir().to_path_buf(),
            client: kube::Client::new(api.as_user(node), "default"),
            runtime: Arc::new(runtime.clone()),
            images: images.clone(),
            net: Some(net),
            ranges: instance.ranges.clone(),
            node_ip,
            node_labels: Default::default(),
            version: env!("CARGO_PKG_VERSION").to_string(),
            cluster_domain: DOMAIN.to_string(),
            settings,
            now: now.clone(),
            metrics: metrics.clone(),
        })
        .await
        .context("cannot start this machine's node")?;
        streams.connect(agent.clone());
        spawn_controllers(&client, authorities, now.clone(), metrics.clone(), &mut tasks, &stopped);
        let history = SqliteHistory::open(&paths.history(), Some(keys.clone()))
            .await
            .context("cannot open the history")?;
        let engine = start_engine(&client, &history, paths, now.clone(), metrics, &mut tasks, &stopped).await?;
        let node_images = Arc::new(images::requests::Node {
            name: instance.node_name.clone(),
            images: images.clone(),
            runtime: runtime.clone(),
            records: Arc::new(engine::Kept(Arc::new(history.clone()))),
            now,
        });
        let gc = images::ImageGc {
            node: node_images.clone(),
            client: client.clone(),
            policy: image_gc,
        };
        let end = ended(&stopped);
        tasks.spawn(async move {
            let outcome = tokio::select! {
                () = end => Ok(()),
                outcome = gc.run() => outcome,
            };
            ("the collection of images", outcome)
        });
        requests.connect(engine.clone());
        image_requests.connect(node_images);
        demo.await.context("the import of the demo image was cut off")??;
        Ok(Cluster {
            api,
            keys,
            store,
            history,
            agent,
            runtime,
            images,
            engine,
            client,
            tasks,
            stop,
        })
    }

    /// Returns a client of the cluster, with every right.
    pub fn client(&self) -> &kube::Client {
        &self.client
    }

    /// Returns the node's images.
    pub fn images(&self) -> &Arc<ImageStore> {
        &self.images
    }

    /// Returns the engine.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Takes up the keys that the key file has now, and seals everything with the newest one, beside everything else.
    pub fn take_up_keys(&self) {
        let (keys, store, history) = (self.keys.clone(), self.store.clone(), self.history.clone());
        tokio::spawn(async move {
            let taken = async {
                keys.reload()?;
                tracing::info!(key = %keys.newest(), "sealing everything with the newest key");
                stores::reseal(&store, &history).await
            };
            match taken.await {
                Ok(()) => tracing::info!(key = %keys.newest(), "everything is sealed with the newest key"),
                Err(error) => {
                    tracing::error!(
                        "cannot seal everything with the newest key; the next start tries again: {error:#}"
                    );
                }
            }
        });
    }

    /// Resolves when a part that must run for ever has ended, with the reason.
    pub async fn failed(&mut self) -> anyhow::Error {
        match self.tasks.join_next().await {
            Some(Ok((part, Ok(())))) => anyhow::anyhow!("{part} ended"),
            Some(Ok((part, Err(error)))) => error.context(format!("{part} failed")),
            Some(Err(error)) => anyhow::Error::from(error).context("a part of setpoint failed"),
            None => std::future::pending().await,
        }
    }

    /// Ends every part in order and returns how many pods keep running.
    pub async fn stop(mut self) -> usize {
        if self.stop.send(true).is_err() {
            tracing::debug!("every part has ended already");
        }
        // A completed pod keeps its logs, but nothing of it runs.
        let running = self
            .runtime
            .sandboxes()
            .iter()
            .filter(|sandbox| sandbox.pid != 0)
            .count();
        self.engine.stop();
        let end = async {
            self.agent.shutdown().await;
            while self.tasks.join_next().await.is_some() {}
        };
        if tokio::time::timeout(END, end).await.is_err() {
            tracing::warn!("some parts did not end within {} s and are cut off", END.as_secs());
            self.tasks.abort_all();
        }
        self.api.flush_audit().await;
        if let Err(error) = self.history.close().await {
            tracing::error!("the history did not close cleanly; nothing that was answered is lost: {error}");
        }
        if let Err(error) = self.store.close().await {
            tracing::error!("the store did not close cleanly; nothing that was answered is lost: {error}");
        }
        running
    }
}

/// Starts the engine on the cluster's own client.
async fn start_engine(
    client: &kube::Client,
    history: &SqliteHistory,
    paths: &Paths,
    now: Arc<dyn Fn() -> jiff::Timestamp + Send + Sync>,
    metrics: prometheus::Registry,
    tasks: &mut JoinSet<(&'static str, anyhow::Result<()>)>,
    stopped: &watch::Receiver<bool>,
) -> anyhow::Result<Engine> {
    let config = EngineConfig {
        client: client.clone(),
        records: Arc::new(engine::Kept(Arc::new(history.clone()))),
        renderer: Arc::new(crate::render_worker::Workers::new()),
        now,
        random: Arc::new(rand::random),
        mirrors: paths.mirrors(),
        metrics,
    };
    let mut parts = JoinSet::new();
    let engine = Engine::start(config, &mut parts)
        .await
        .context("cannot start the engine")?;
    let end = ended(stopped);
    tasks.spawn(async move {
        let outcome = tokio::select! {
            () = end => Ok(()),
            part = parts.join_next() => match part {
                Some(Ok((_, outcome))) => outcome.map_err(anyhow::Error::from),
                Some(Err(error)) => Err(error.into()),
                None => Ok(()),
            },
        };
        parts.shutdown().await;
        ("the engine", outcome)
    });
    Ok(engine)
}

/// Imports the demo image where it is missing, beside the rest of the start.
fn provide_demo(wanted: bool, images: Arc<ImageStore>) -> tokio::task::JoinHandle<anyhow::Result<()>> {
    tokio::spawn(async move {
        if wanted && images.resolve(&format!("{}:v1", crate::demo::image::NAME))?.is_none() {
            import_demo(&images).await?;
        }
        Ok(())
    })
}

/// Opens the network; ranges that somebody else took since they were chosen are chosen anew.
async fn open_net(instance: &mut Instance, paths: &Paths) -> anyhow::Result<Net> {
    for _ in 0..5 {
        match Net::open(instance.net()).await {
            Err(NetError::RangeTaken { .. }) if !paths.store().exists() => {
                instance.choose_ranges_again(paths).await?;
            }
            opened => return opened.context("cannot set up the network"),
        }
    }
    anyhow::bail!("cannot set up the network: other instances keep taking the ranges that were just free; try again")
}

/// Starts the listeners: the unix socket for this machine's root, TLS for the rest; writes the kubeconfig. Returns the authorities to trust, as
/// they are now and when they are others.
fn listen(
    instance: &Instance,
    local: TcpListener,
    paths: &Paths,
    node_ip: AddressPair,
    api: &ApiServer,
    tasks: &mut JoinSet<(&'static str, anyhow::Result<()>)>,
    stopped: &watch::Receiver<bool>,
) -> anyhow::Result<watch::Receiver<String>> {
    let mut addresses = vec![
        IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V4(instance.ranges.gateway()),
        IpAddr::V4(instance.ranges.kubernetes_service()),
    ];
    addresses.extend(node_ip.all());
    let options = PkiOptions {
        node_name: instance.node_name.clone(),
        addresses,
        names: Vec::new(),
    };
    let pki = Pki::open(&paths.pki(), options, wall_clock()).context("cannot open the certificates")?;
    instance::write_private(&paths.kubeconfig(), pki.admin_kubeconfig(&instance.url()).as_bytes())?;

    let mut listeners = Vec::new();
    for listener in [local, instance::bind(instance.api_address())?] {
        listener.set_nonblocking(true)?;
        listeners.push(tokio::net::TcpListener::from_std(listener)?);
    }
    let serving = pki.serving();
    let certs = ServingCerts::from_pem(&serving.certificate, &serving.key, &pki.ca_pem(), Arc::new(wall_clock))
        .context("cannot use the certificates")?;
    let (tls_api, tls_certs, end) = (api.clone(), certs.clone(), ended(stopped));
    tasks.spawn(async move {
        (
            "the TLS listener",
            listen::serve_tls(tls_api, listeners, tls_certs, end)
                .await
                .map_err(Into::into),
        )
    });
    let (unix_api, socket, end) = (api.clone(), instance.socket(), ended(stopped));
    tasks.spawn(async move {
        (
            "the socket's listener",
            listen::serve_unix(unix_api, &socket, end).await.map_err(Into::into),
        )
    });

    let (authorities, known) = watch::channel(pki.ca_pem());
    let renewal = renewal::Renewal {
        pki,
        api: api.clone(),
        certs,
        kubeconfig: paths.kubeconfig(),
        url: instance.url(),
        authorities,
        untold: false,
    };
    let end = ended(stopped);
    tasks.spawn(async move {
        renewal.run(end).await;
        ("the renewal of certificates", Ok(()))
    });
    Ok(known)
}

fn spawn_controllers(
    client: &kube::Client,
    authorities: watch::Receiver<String>,
    now: Arc<dyn Fn() -> jiff::Timestamp + Send + Sync>,
    metrics: prometheus::Registry,
    tasks: &mut JoinSet<(&'static str, anyhow::Result<()>)>,
    stopped: &watch::Receiver<bool>,
) {
    let mut config = ControllersConfig::new(client.clone(), now, metrics);
    config.root_ca_pem = Some(authorities);
    let end = ended(stopped);
    tasks.spawn(async move {
        (
            "the controllers",
            setpoint_controllers::run(config, end).await.map_err(Into::into),
        )
    });
}

/// Resolves when the cluster is told to stop.
fn ended(stopped: &watch::Receiver<bool>) -> impl Future<Output = ()> + Send + 'static {
    let mut stopped = stopped.clone();
    async move {
        // An error means that the sender is gone, which is the end as well.
        stopped.wait_for(|stopped| *stopped).await.map_or((), |_| ())
    }
}

fn make_private_dir(path: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .and_then(|()| std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700)))
        .with_context(|| format!("cannot create {}", path.display()))
}

/// Returns the addresses that others reach this machine by: the source addresses towards the default routes.
///
/// Connecting a UDP socket sends nothing; it only asks the kernel for a route. Without any route it is the pod network's gateway, and no address
/// of IPv6.
fn node_ip(instance: &Instance) -> AddressPair {
    let routed = |own: IpAddr, to: &str| {
        let socket = UdpSocket::bind((own, 0)).ok()?;
        socket.connect((to, 9)).ok()?;
        let own = socket.local_addr().ok()?.ip();
        (!own.is_loopback()).then_some(own)
    };
    let ipv4 = match routed(Ipv4Addr::UNSPECIFIED.into(), "192.0.2.1") {
        Some(IpAddr::V4(ip)) => ip,
        _ => instance.ranges.gateway(),
    };
    // A host whose links have none but of the link would name the pod network's gateway.
    let gateways: Vec<IpAddr> = instance
        .ranges
        .subnets()
        .iter()
        .map(|subnets| subnets.gateway)
        .collect();
    let ipv6 = match instance
        .ranges
        .ipv6
        .and_then(|_| routed(Ipv6Addr::UNSPECIFIED.into(), "2001:db8::1"))
    {
        Some(ip @ IpAddr::V6(own)) if !gateways.contains(&ip) && !own.is_unicast_link_local() => Some(own),
        _ => None,
    };
    AddressPair { ipv4, ipv6 }
}
