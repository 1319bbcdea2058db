//! `setpoint up`: the daemon in the foreground.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, bail};
use clap::Args;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::json;
use setpoint_agent::settings::{self, Settings};
use tokio::signal::unix::{SignalKind, signal};

use crate::audit::AuditOptions;
use crate::cli::{Format, Global};
use crate::cluster::Cluster;
use crate::commands::check;
use crate::fleet::{self, Source};
use crate::instance::{DaemonLock, Instance, Paths};
use crate::{logging, output, takeover};

/// Options of `setpoint up`.
#[derive(Args)]
pub struct Up {
    /// A git repository to follow: a path, each of whose commits counts, or a URL (default: what was followed before)
    source: Option<String>,
    /// Make the repository from this example, and SOURCE a clone of it to work in; push there to deploy
    #[arg(long, value_name = "EXAMPLE", requires = "source")]
    init: Option<String>,
    /// The branch to follow (default: the repository's HEAD)
    #[arg(long, requires = "source", conflicts_with = "init")]
    branch: Option<String>,
    /// The repository's name in the cluster (default: of its path)
    #[arg(long, requires = "source")]
    name: Option<String>,
    /// The API's port, chosen at the first start and kept (default: 6443 where that is free); 0 for any that is free
    #[arg(long, value_name = "PORT")]
    api_port: Option<u16>,
    /// The node's name (default: this machine's host name); kept from the first start on
    #[arg(long, value_name = "NAME")]
    node_name: Option<String>,
    /// How this node is configured (default: node.toml in the data directory, where there is one)
    #[arg(long, value_name = "FILE")]
    node_config: Option<PathBuf>,
    /// Do not import the built-in demo image
    #[arg(long)]
    no_demo: bool,
    #[command(flatten)]
    audit: AuditOptions,
}

impl Up {
    /// Starts the cluster and stays until it is told to stop.
    pub async fn run(self, global: Global) -> anyhow::Result<()> {
        let started = Instant::now();
        if global.kubeconfig.is_some() || global.context.is_some() {
            bail!("`up` starts a cluster on this machine; --kubeconfig and --context name one that runs already");
        }
        logging::init(global.output == Format::Text)?;
        raise_open_files();
        if rustls::crypto::ring::default_provider().install_default().is_err() {
            tracing::debug!("a TLS provider was installed already");
        }
        check::require()?;
        let paths = Paths::new(&global.data_dir)?;
        paths.create()?;
        // Before the lock is held: whoever finds a daemon by it may send this.
        let mut hangup = signal(SignalKind::hangup()).context("cannot wait for signals")?;
        let on_terminal = std::io::stdout().is_terminal();
        // Kept until the process is gone, not only until this returns: work that threads have begun (the service rules, say)
        // goes on until then, and `down` must not run beside it, or what it removes is written again.
        let _lock = std::mem::ManuallyDrop::new(DaemonLock::take(&paths)?);
        takeover::take(&paths, env!("CARGO_PKG_VERSION")).await?;
        let mut terminate = signal(SignalKind::terminate()).context("cannot wait for signals")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for signals")?;
        let source = self.source(&paths)?;
        let audit = self.audit.config(&paths)?;
        let settings = self.settings(&paths)?;
        let (mut instance, listener) = Instance::load_or_choose(&paths, self.node_name, self.api_port).await?;
        let mut cluster = tokio::select! {
            cluster = Cluster::start(&mut instance, listener, &paths, audit, settings, !self.no_demo) => cluster?,
            _ = terminate.recv() => bail!("stopped before it was ready"),
            _ = interrupt.recv() => bail!("stopped before it was ready"),
        };
        announce(&instance, &paths, started, source.as_ref(), global.output)?;
        let (engine, client) = (cluster.engine().clone(), cluster.client().clone());
        let images = cluster.images().clone();
        let shown = async {
            let followed = match &source {
                Some(source) => Some(fleet::follow(&client, source).await?),
                None => None,
            };
            if global.output == Format::Text {
                fleet::show(&engine, &client, &images, source.as_ref(), followed).await;
            }
            std::future::pending::<anyhow::Result<()>>().await
        };
        tokio::pin!(shown);
        let failure = loop {
            tokio::select! {
                _ = terminate.recv() => break None,
                _ = interrupt.recv() => break None,
                // The end of its terminal is the daemon's; without that the signal says that there is a new key.
                _ = hangup.recv() => match on_terminal && !std::io::stdout().is_terminal() {
                    true => break None,
                    false => cluster.take_up_keys(),
                },
                error = cluster.failed() => break Some(error),
                outcome = &mut shown => break outcome.err(),
            }
        };
        let running = cluster.stop().await;
        if global.output == Format::Text {
            farewell(running, &global);
        }
        failure.map_or(Ok(()), Err)
    }
}

impl Up {
    fn settings(&self, paths: &Paths) -> anyhow::Result<Settings> {
        let file = match &self.node_config {
            // What somebody names has to be there.
            Some(named) => named
                .canonicalize()
                .with_context(|| format!("cannot find {}", named.display()))?,
            None => paths.data_dir().join(settings::FILE),
        };
        Settings::read(&file).context("cannot configure this node")
    }

    /// Finds or makes the repository that is to be followed, before anything is started.
    fn source(&self, paths: &Paths) -> anyhow::Result<Option<Source>> {
        let (name, branch) = (self.name.clone(), self.branch.clone());
        match (&self.init, &self.source) {
            (Some(example), Some(dest)) => fleet::init(example, Path::new(dest), paths, name).map(Some),
            (None, Some(source)) => fleet::find(source, paths, name, branch).map(Some),
            _ => Ok(None),
        }
    }
}

/// Raises how many files this process may open to what it is allowed at most: every pod, client and watched file costs some, and the usual
/// limit of 1024 is from another time. Containers get a limit of their own.
fn raise_open_files() {
    let raised =
        getrlimit(Resource::RLIMIT_NOFILE).and_then(|(_, most)| setrlimit(Resource::RLIMIT_NOFILE, most, most));
    if let Err(error) = raised {
        tracing::warn!(%error, "cannot raise the limit of open files; with many pods they may run out");
    }
}

fn announce(
    instance: &Instance,
    paths: &Paths,
    started: Instant,
    source: Option<&Source>,
    format: Format,
) -> anyhow::Result<()> {
    let milliseconds = started.elapsed().as_millis();
    let kubeconfig = paths.kubeconfig();
    match format {
        Format::Json => output::json(&json!({
            "ready": true,
            "milliseconds": u64::try_from(milliseconds).unwrap_or(u64::MAX),
            "version": env!("CARGO_PKG_VERSION"),
            "node": instance.node_name,
            "api": instance.url(),
            "kubeconfig": kubeconfig,
            "socket": instance.socket(),
            "repository": source.map(|source| &source.url),
            "podRange": instance.ranges.pods.to_string(),
            "podRanges": instance.pod_ranges(),
            "serviceRange": instance.ranges.services.to_string(),
            "serviceRanges": instance.service_ranges(),
        })),
        Format::Text => {
            let next = match source {
                Some(source) => format!(
                    "  following   {}\n\n  export KUBECONFIG={}",
                    source.url,
                    kubeconfig.display()
                ),
                None => format!(
                    "\n  export KUBECONFIG={}\n  kubectl create deployment hello --image=setpoint.dev/demo:v1",
                    kubeconfig.display()
                ),
            };
            output::text(&format!(
                "setpoint {} is ready: node {}, {milliseconds} ms\n\n  API         {}\n  kubeconfig  {}\n{next}\n\nCtrl-C stops setpoint and leaves the pods running.\n\n",
                env!("CARGO_PKG_VERSION"),
                instance.node_name,
                instance.url(),
                kubeconfig.display(),
            ));
            Ok(())
        }
    }
}

fn farewell(running: usize, global: &Global) {
    let option = match global.data_dir.to_str() {
        Some("/var/lib/setpoint") => String::new(),
        _ => format!(" --data-dir {}", global.data_dir.display()),
    };
    let pods = match running {
        0 => "no pod runs".to_string(),
        1 => "1 pod keeps running".to_string(),
        several => format!("{several} pods keep running"),
    };
    output::text(&format!(
        "\nsetpoint has stopped; {pods}.\n  setpoint{option} up    goes on with them\n  setpoint{option} down  stops them and removes what setpoint made on this host\n",
    ));
}
