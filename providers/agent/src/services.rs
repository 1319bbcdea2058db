//! Services on this node: Services and EndpointSlices watched, and the host's rules kept as they say.
//!
//! One task owns it all. Each change is applied at once; what has queued up meanwhile goes with it. A failed apply
//! is repeated with back-off. Nothing is applied before both kinds have been read completely, so that the rules of
//! an earlier process stay in force until then.
//!
//! [`view`] is the slim form of what the API says (DNS answers from it too), [`table`] makes rules of it.

pub mod table;
pub mod view;

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::{FutureExt, Stream, StreamExt};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch_api};
use kube::{Api, Client};
use prometheus::{Histogram, HistogramOpts, IntCounter, IntGauge, Registry};
use setpoint_net::{Net, NetError, ServiceTable};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use view::{Collection, ServiceEntry, SliceEntry, View};

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
    serving: watch::Receiver<Option<Arc<BTreeSet<Ipv4Addr>>>>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Services {
    /// Starts to watch and to apply.
    pub fn start(client: Client, net: Arc<Net>, metrics: &Registry) -> Services {
        let services = watch_api::watcher(Api::<Service>::all(client.clone()), watcher::Config::default());
        let slices = watch_api::watcher(Api::<EndpointSlice>::all(client), watcher::Config::default());
        Services::run(
            services.default_backoff(),
            slices.default_backoff(),
            net,
            Metrics::register(metrics),
        )
    }

    fn run(
        services: impl Stream<Item = watcher::Result<Event<Service>>> + Send + 'static,
        slices: impl Stream<Item = watcher::Result<Event<EndpointSlice>>> + Send + 'static,
        rules: Arc<impl Rules>,
        metrics: Metrics,
    ) -> Services {
        let (view_sender, view) = watch::channel(Arc::new(View::default()));
        let (serving_sender, serving) = watch::channel(None);
        let (stop, stopped) = watch::channel(false);
        let work = Work {
            services: Collection::default(),
            slices: Collection::default(),
            view: view_sender,
            serving: serving_sender,
            rules,
            metrics,
        };
        let task = tokio::spawn(work.run(services, slices, stopped));
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
    pub async fn drained(&self, ip: Ipv4Addr, within: Duration) -> bool {
        let mut serving = self.serving.clone();
        let drained = serving.wait_for(|serving| serving.as_ref().is_some_and(|serving| !serving.contains(&ip)));
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

struct Work<R> {
    services: Collection<ServiceEntry>,
    slices: Collection<SliceEntry>,
    view: watch::Sender<Arc<View>>,
    serving: watch::Sender<Option<Arc<BTreeSet<Ipv4Addr>>>>,
    rules: Arc<R>,
    metrics: Metrics,
}

impl<R: Rules> Work<R> {
    async fn run(
        mut self,
        services: impl Stream<Item = watcher::Result<Event<Service>>>,
        slices: impl Stream<Item = watcher::Result<Event<EndpointSlice>>>,
        mut stopped: watch::Receiver<bool>,
    ) {
        let mut services = std::pin::pin!(services);
        let mut slices = std::pin::pin!(slices);
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
                () = tokio::time::sleep_until(look_again) => {}
            }
            while let Some(Some(event)) = services.next().now_or_never() {
                self.service_event(event);
            }
            while let Some(Some(event)) = slices.next().now_or_never() {
                self.slice_event(event);
            }
            if !self.services.complete() || !self.slices.complete() {
                continue;
            }
            // Most events change nothing that the rules are made from.
            let changed = self.services.take_changed() | self.slices.take_changed();
            if !changed && Instant::now() < look_again {
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

    async fn apply(&mut self) -> Result<(), NetError> {
        let view = Arc::clone(&self.view.borrow());
        let table = table::build(&view);
        let started = Instant::now();
        let applied = self.rules.apply(&table).await;
        self.metrics.duration.observe(started.elapsed().as_secs_f64());
        self.metrics
            .services
            .set(i64::try_from(view.services().count()).unwrap_or(i64::MAX));
        match &applied {
            Ok(()) => {
                self.metrics.applies.inc();
                self.serving.send_replace(Some(Arc::new(table::serving(&view))));
            }
            Err(_) => self.metrics.failures.inc(),
        }
        applied
    }
}

#[cfg(test)]
mod tests;
