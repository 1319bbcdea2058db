//! What the controllers are started with.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

/// The clock, handed in so that tests can turn it.
pub type Now = Arc<dyn Fn() -> jiff::Timestamp + Send + Sync>;

/// What the controllers need, and how patient they are.
#[derive(Clone)]
pub struct ControllersConfig {
    /// The cluster: in process or far away, there is no difference here.
    pub client: kube::Client,
    /// The clock.
    pub now: Now,
    /// Where reconciles, errors and queues are counted.
    pub metrics: prometheus::Registry,
    /// The certificate authorities (PEM) that each namespace gets as ConfigMap `kube-root-ca.crt`, as they are now and each time that they
    /// are others; `None` writes none.
    pub root_ca_pem: Option<watch::Receiver<String>>,
    /// How long a node may leave its lease unrenewed before it counts as unreachable.
    pub node_grace: Duration,
    /// How long a pod stays bound to a node that does not exist before it is removed.
    pub missing_node_grace: Duration,
    /// How many objects of one kind are reconciled at once.
    pub concurrency: u16,
}

impl ControllersConfig {
    /// Returns the configuration with Kubernetes' own patience.
    pub fn new(client: kube::Client, now: Now, metrics: prometheus::Registry) -> ControllersConfig {
        ControllersConfig {
            client,
            now,
            metrics,
            root_ca_pem: None,
            node_grace: Duration::from_secs(40),
            missing_node_grace: Duration::from_secs(40),
            concurrency: 16,
        }
    }
}
