//! Services and DNS of the node as one thing.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use setpoint_net::Net;
use tokio::sync::RwLock;

use crate::dns::{Dns, DnsConfig};
use crate::host_ports::HostPorts;
use crate::services::Services;
use crate::worker::Drain;
use crate::{AgentConfig, AgentError};

/// The port of DNS.
const DNS_PORT: u16 = 53;

/// The node's services and DNS, until they are shut down.
pub(crate) struct Network {
    running: RwLock<Option<(Services, Dns)>>,
}

impl Network {
    /// Starts both.
    pub(crate) async fn start(config: &AgentConfig, net: Arc<Net>, host_ports: &HostPorts) -> Result<Self, AgentError> {
        let node = config.node_name.clone();
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
        let dns = Dns::start(dns, services.view())
            .await
            .map_err(|source| AgentError::Network {
                what: "the cluster's DNS",
                source: Box::new(source),
            })?;
        Ok(Self {
            running: RwLock::new(Some((services, dns))),
        })
    }

    /// Stops both; the rules stay in force.
    pub(crate) async fn shutdown(&self) {
        if let Some((services, dns)) = self.running.write().await.take() {
            dns.shutdown().await;
            services.shutdown().await;
        }
    }
}

#[async_trait]
impl Drain for Network {
    async fn drained(&self, ip: Ipv4Addr, within: Duration) {
        let running = self.running.read().await;
        let Some((services, _)) = running.as_ref() else { return };
        if !services.drained(ip, within).await {
            tracing::debug!(%ip, "the rules still lead to a pod that is being stopped");
        }
    }
}
