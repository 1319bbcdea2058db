//! The table of controllers, and their life.

use std::future::Future;

use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::config::ControllersConfig;
use crate::error::Error;
use crate::metrics::Metrics;
use crate::wiring::Wiring;
use crate::{balancer, deployment, endpoints, garbage, namespace, nodes, replicaset, scheduler, volumes};

/// Every controller: what it says when it is asked to wire itself up.
const CONTROLLERS: [fn(&mut Wiring); 11] = [
    deployment::wire,
    replicaset::wire,
    endpoints::wire,
    balancer::wire,
    nodes::lifecycle::wire,
    nodes::orphans::wire,
    namespace::content::wire,
    namespace::defaults::wire,
    scheduler::wire,
    volumes::wire,
    garbage::wire,
];

/// Runs every controller until `shutdown` resolves.
///
/// # Errors
/// [`Error::Metrics`] when the metrics are registered already, [`Error::WatchEnded`] and [`Error::Ended`] when a watch or a controller
/// ends, which none does unless it panics.
pub async fn run(config: ControllersConfig, shutdown: impl Future<Output = ()> + Send + 'static) -> Result<(), Error> {
    let metrics = Metrics::register(&config.metrics)?;
    let mut tasks = JoinSet::new();
    // The drivers run until the sender goes.
    let (_stop, stopped) = watch::channel(false);
    let mut wiring = Wiring::new(config, metrics, stopped);
    for wire in CONTROLLERS {
        wire(&mut wiring);
    }
    let work = async {
        wiring.run(&mut tasks).await?;
        let part = match tasks.join_next().await {
            Some(Ok(part)) => part.to_owned(),
            Some(Err(error)) => error.to_string(),
            None => "everything".to_owned(),
        };
        Err(Error::Ended { part })
    };
    let outcome = tokio::select! {
        outcome = work => outcome,
        () = shutdown => Ok(()),
    };
    tasks.shutdown().await;
    outcome
}
