//! Services and DNS of the node as one thing, and its network kept against others' changes.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use setpoint_net::{AddressPair, Net};
use tokio::sync::RwLock;
use tokio::task::JoinSet;

use crate::dns::{Dns, DnsConfig};
use crate::host_ports::HostPorts;
use crate::services::Services;
use crate::worker::Drain;
use crate::{AgentConfig, AgentError};

/// The port of DNS.
const DNS_PORT: u16 = 53;

struct Running {
    services: Services,
    dns: Dns,
    /// Ends when it is dropped.
    keeper: JoinSet<()>,
}

impl Running {
    async fn shutdown(mut self) {
        self.keeper.shutdown().await;
        self.dns.shutdown().await;
        self.services.shutdown().await;
    }
}

/// The node's services and DNS, until they are shut down.
pub(crate) struct Network {
    running: RwLock<Option<Running>>,
}

impl Network {
    /// Starts both.
    pub(crate) async fn start(config: &AgentConfig, net: Arc<Net>, host_ports: &HostPorts) -> Result<Self, AgentError> {
        let node = config.node_name.clone();
        let mut keeper = JoinSet::new();
        let kept = Arc::clone(&net);
        keeper.spawn(async move { kept.keep().await });
        let services = Services::start(
            config.client.clone(),
            net,
            node,
            host_ports.published(),
            &config.metrics,
        );
        let dns = DnsConfig {
            bind: config.ranges.gateway(),
            clients: config.ranges.pods,
            port: DNS_PORT,
            cluster_domain: config.cluster_domain.clone(),
            upstreams: None,
        };
        let view = services.view();
        match Dns::start(dns, view).await {
            Ok(dns) => Ok(Self {
                running: RwLock::new(Some(Running { services, dns, keeper })),
            }),
            Err(source) => Err(AgentError::Network {
                what: "the cluster's DNS",
                source: Box::new(source),
            }),
        }
    }

    /// Stops both; the rules stay in force.
    pub(crate) async fn shutdown(&self) {
        if let Some(running) = self.running.write().await.take() {
            running.shutdown().await;
        }
    }
}

#[async_trait]
impl Drain for Network {
    async fn drained(&self, pod: AddressPair, within: Duration) {
        let running = self.running.read().await;
        let Some(running) = running.as_ref() else { return };
        if !running.services.drained(pod, within).await {
            tracing::debug!(%pod, "the rules still lead to a pod that is being stopped");
        }
    }
}
