//! Services on this node: Services and EndpointSlices watched, and the host's rules kept as they say.
//!
//! One task owns it all. Each change is applied at once; what has queued up meanwhile goes with it. A failed apply
//! is repeated with back-off. Nothing is applied before both kinds have been read completely, so that the rules of
//! an earlier process stay in force until then.
//!
//! [`view`] is the slim form of what the API says (DNS answers from it too), [`table`] makes rules of it, [`health`] answers
//! load balancers. The host ports of this node's pods are part of the rules, and the node's own zone says which endpoints
//! are preferred.

pub mod health;
pub mod table;
pub mod view;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::{FutureExt, Stream, StreamExt};
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch_api};
use kube::{Api, Client};
use prometheus::{Histogram, HistogramOpts, IntCounter, IntGauge, Registry};
use setpoint_net::{AddressPair, Net, NetError, ServiceTable};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::host_ports::Published;
use health::{Check, Checks};
use table::Here;
use view::{Collection, ServiceEntry, SliceEntry, View};

const ZONE: &str = "topology.kubernetes.io/zone";

const FIRST_RETRY: Duration = Duration::from_millis(100);
const LONGEST_RETRY: Duration = Duration::from_secs(10);
/// A slow safety net behind the events: finds rules that somebody else has removed. It costs one look-up.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// Where rules are applied.
#[async_trait]
pub trait Rules: Send + Sync + 'static {
    /// Makes the rules what the table says.
    async fn apply(&self, table: &ServiceTable) -> Result<(), NetError>;
}

#[async_trait]
impl Rules for Net {
    async fn apply(&self, table: &ServiceTable) -> Result<(), NetError> {
        Net::apply(self, table).await.map(|_| ())
    }
}

/// The running task; ends with [`Services::shutdown`] or when dropped, and leaves the rules in force.
#[derive(Debug)]
pub struct Services {
    view: watch::Receiver<Arc<View>>,
    serving: watch::Receiver<Option<Arc<BTreeSet<IpAddr>>>>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Services {
    /// Starts to watch and to apply.
    pub fn start(
        client: Client,
        net: Arc<Net>,
        node: String,
        host_ports: watch::Receiver<Published>,
        metrics: &Registry,
    ) -> Services {
        let services = watch_api::watcher(Api::<Service>::all(client.clone()), watcher::Config::default());
        let slices = watch_api::watcher(Api::<EndpointSlice>::all(client.clone()), watcher::Config::default());
        let own = watcher::Config::default().fields(&format!("metadata.name={node}"));
        let nodes = watch_api::watcher(Api::<Node>::all(client), own);
        let sources = Sources {
            services: services.default_backoff(),
            slices: slices.default_backoff(),
            nodes: nodes.default_backoff(),
            host_ports,
        };
        Services::run(sources, node, net, Metrics::register(metrics))
    }

    fn run<S, E, N>(sources: Sources<S, E, N>, node: String, rules: Arc<impl Rules>, metrics: Metrics) -> Services
    where
        S: Stream<Item = watcher::Result<Event<Service>>> + Send + 'static,
        E: Stream<Item = watcher::Result<Event<EndpointSlice>>> + Send + 'static,
        N: Stream<Item = watcher::Result<Event<Node>>> + Send + 'static,
    {
        let (view_sender, view) = watch::channel(Arc::new(View::default()));
        let (serving_sender, serving) = watch::channel(None);
        let (stop, stopped) = watch::channel(false);
        let work = Work {
            services: Collection::default(),
            slices: Collection::default(),
            here: Here { node, zone: None },
            checks: Checks::default(),
            view: view_sender,
            serving: serving_sender,
            host_ports: None,
            rules,
            metrics,
        };
        let task = tokio::spawn(work.run(sources, stopped));
        Services {
            view,
            serving,
            stop,
            task,
        }
    }

    /// Returns what the API says, for DNS; it changes with the API, before the rules do.
    pub fn view(&self) -> watch::Receiver<Arc<View>> {
        self.view.clone()
    }

    /// Waits until the rules in force send no new connection to a pod, but for want of another backend.
    ///
    /// Returns false if that is not so `within` that time. True at once for a pod that no service leads to.
    pub async fn drained(&self, pod: AddressPair, within: Duration) -> bool {
        let mut serving = self.serving.clone();
        let left = |serving: &BTreeSet<IpAddr>| pod.all().all(|ip| !serving.contains(&ip));
        let drained = serving.wait_for(|serving| serving.as_deref().is_some_and(left));
        matches!(tokio::time::timeout(within, drained).await, Ok(Ok(_)))
    }

    /// Ends the task; an apply that is under way is finished.
    pub async fn shutdown(mut self) {
        self.stop.send_replace(true);
        if let Err(error) = (&mut self.task).await {
            tracing::error!(%error, "the services' task failed");
        }
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Clone, Debug)]
struct Metrics {
    applies: IntCounter,
    failures: IntCounter,
    duration: Histogram,
    services: IntGauge,
}

impl Metrics {
    fn register(registry: &Registry) -> Metrics {
        let valid = "the names are valid";
        let metrics = Metrics {
            applies: IntCounter::new(
                "setpoint_service_applies_total",
                "Times that service rules were applied.",
            )
            .expect(valid),
            failures: IntCounter::new("setpoint_service_apply_failures_total", "Times that this failed.").expect(valid),
            duration: Histogram::with_opts(
                HistogramOpts::new("setpoint_service_apply_seconds", "Time to apply service rules.")
                    .buckets(vec![0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0]),
            )
            .expect(valid),
            services: IntGauge::new("setpoint_services", "Services that are known to this node.").expect(valid),
        };
        let all: [Box<dyn prometheus::core::Collector>; 4] = [
            Box::new(metrics.applies.clone()),
            Box::new(metrics.failures.clone()),
            Box::new(metrics.duration.clone()),
            Box::new(metrics.services.clone()),
        ];
        for collector in all {
            if let Err(error) = registry.register(collector) {
                tracing::warn!(%error, "a metric of the services is not shown");
            }
        }
        metrics
    }
}

/// What the task reads.
struct Sources<S, E, N> {
    services: S,
    slices: E,
    /// This node alone.
    nodes: N,
    host_ports: watch::Receiver<Published>,
}

struct Work<R> {
    services: Collection<ServiceEntry>,
    slices: Collection<SliceEntry>,
    here: Here,
    checks: Checks,
    view: watch::Sender<Arc<View>>,
    serving: watch::Sender<Option<Arc<BTreeSet<IpAddr>>>>,
    /// As they were at the last look.
    host_ports: Published,
    rules: Arc<R>,
    metrics: Metrics,
}

impl<R: Rules> Work<R> {
    async fn run<S, E, N>(mut self, sources: Sources<S, E, N>, mut stopped: watch::Receiver<bool>)
    where
        S: Stream<Item = watcher::Result<Event<Service>>>,
        E: Stream<Item = watcher::Result<Event<EndpointSlice>>>,
        N: Stream<Item = watcher::Result<Event<Node>>>,
    {
        let mut services = std::pin::pin!(sources.services);
        let mut slices = std::pin::pin!(sources.slices);
        let mut nodes = std::pin::pin!(sources.nodes);
        let mut host_ports = sources.host_ports;
        let mut moved = false;
        let mut retry = FIRST_RETRY;
        let mut look_again = Instant::now() + LOOK_AGAIN;
        loop {
            tokio::select! {
                _ = stopped.wait_for(|stopped| *stopped) => return,
                event = services.next() => match event {
                    Some(event) => self.service_event(event),
                    None => return,
                },
                event = slices.next() => match event {
                    Some(event) => self.slice_event(event),
                    None => return,
                },
                event = nodes.next() => match event {
                    Some(event) => moved |= self.node_event(event),
                    None => return,
                },
                changed = host_ports.changed() => if changed.is_err() { return },
                () = tokio::time::sleep_until(look_again) => {}
            }
            while let Some(Some(event)) = services.next().now_or_never() {
                self.service_event(event);
            }
            while let Some(Some(event)) = slices.next().now_or_never() {
                self.slice_event(event);
            }
            // What is not known yet must not be taken out of rules that an earlier process has made.
            let held = host_ports.borrow().clone();
            let (true, true, Some(held)) = (self.services.complete(), self.slices.complete(), held) else {
                look_again = Instant::now() + LOOK_AGAIN;
                continue;
            };
            // Most events change nothing that the rules are made from.
            let changed = self.services.take_changed() | self.slices.take_changed();
            let other =
                std::mem::take(&mut moved) | !self.host_ports.as_ref().is_some_and(|known| Arc::ptr_eq(known, &held));
            self.host_ports = Some(held);
            if !changed && !other && Instant::now() < look_again {
                continue;
            }
            if changed {
                self.view
                    .send_replace(Arc::new(View::new(self.services.entries(), self.slices.entries())));
            }
            let wait = match self.apply().await {
                Ok(()) => {
                    retry = FIRST_RETRY;
                    LOOK_AGAIN
                }
                Err(error) => {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "service rules are not applied; trying again"
                    );
                    let wait = retry;
                    retry = (retry * 2).min(LONGEST_RETRY);
                    wait
                }
            };
            look_again = Instant::now() + wait;
        }
    }

    fn service_event(&mut self, event: watcher::Result<Event<Service>>) {
        match event {
            Ok(event) => self.services.take(event, ServiceEntry::from_service),
            Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "watching services"),
        }
    }

    fn slice_event(&mut self, event: watcher::Result<Event<EndpointSlice>>) {
        match event {
            Ok(event) => self.slices.take(event, SliceEntry::from_slice),
            Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "watching endpoint slices"),
        }
    }

    /// Takes note of this node's zone; returns whether that is another one now.
    fn node_event(&mut self, event: watcher::Result<Event<Node>>) -> bool {
        let node = match event {
            Ok(Event::Apply(node) | Event::InitApply(node)) => node,
            Ok(Event::Init | Event::InitDone | Event::Delete(_)) => return false,
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "watching this node");
                return false;
            }
        };
        let zone = node.metadata.labels.and_then(|mut labels| labels.remove(ZONE));
        let zone = zone.filter(|zone| !zone.is_empty());
        let moved = zone != self.here.zone;
        self.here.zone = zone;
        moved
    }

    async fn apply(&mut self) -> Result<(), NetError> {
        let view = Arc::clone(&self.view.borrow());
        let host_ports = self.host_ports.clone().unwrap_or_default();
        let table = table::build(&view, &self.here, &host_ports);
        let started = Instant::now();
        let applied = self.rules.apply(&table).await;
        self.metrics.duration.observe(started.elapsed().as_secs_f64());
        self.metrics
            .services
            .set(i64::try_from(view.services().count()).unwrap_or(i64::MAX));
        match &applied {
            Ok(()) => {
                self.metrics.applies.inc();
                self.serving
                    .send_replace(Some(Arc::new(table::serving(&view, &self.here))));
            }
            Err(_) => self.metrics.failures.inc(),
        }
        let checks = view.services().filter_map(|service| {
            let check = Check {
                port: service.health_check_port?,
                local: table::local_endpoints(&view, &self.here, service),
            };
            Some((service.key.clone(), check))
        });
        self.checks.keep(&checks.collect()).await;
        applied
    }
}

#[cfg(test)]
mod tests;
