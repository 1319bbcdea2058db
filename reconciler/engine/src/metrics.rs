//! What the engine counts.

use prometheus::{Histogram, HistogramOpts, IntCounterVec, IntGauge, Opts, Registry};

/// The engine's metrics.
#[derive(Clone)]
pub struct Metrics {
    /// Syncs by how they ended.
    pub syncs: IntCounterVec,
    /// Objects written, by why: `sync`, `heal`, `prune`.
    pub objects: IntCounterVec,
    /// Seconds from the beginning of a sync until it was healthy.
    pub healthy_after: Histogram,
    /// Seconds that rendering took.
    pub render: Histogram,
    /// Apps that are known.
    pub apps: IntGauge,
    /// Keys that wait for a reconcile.
    pub queued: IntGauge,
    /// Reconciles, by how they ended.
    pub reconciles: IntCounterVec,
}

impl Metrics {
    /// Makes and registers them.
    pub fn register(registry: &Registry) -> Result<Metrics, prometheus::Error> {
        let counter = |name: &str, help: &str, label: &str| IntCounterVec::new(Opts::new(name, help), &[label]);
        let metrics = Metrics {
            syncs: counter("setpoint_engine_syncs_total", "Syncs of apps by outcome.", "outcome")?,
            objects: counter(
                "setpoint_engine_objects_total",
                "Objects applied or deleted, by cause.",
                "cause",
            )?,
            healthy_after: Histogram::with_opts(
                HistogramOpts::new(
                    "setpoint_engine_healthy_seconds",
                    "Seconds from the beginning of a sync until all was healthy.",
                )
                .buckets(vec![0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0]),
            )?,
            render: Histogram::with_opts(
                HistogramOpts::new("setpoint_engine_render_seconds", "Seconds that rendering an app took.")
                    .buckets(vec![0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0]),
            )?,
            apps: IntGauge::new("setpoint_engine_apps", "Apps that are kept.")?,
            queued: IntGauge::new(
                "setpoint_engine_queue",
                "Apps and repositories that wait for a reconcile.",
            )?,
            reconciles: counter(
                "setpoint_engine_reconciles_total",
                "Reconciles by how they ended.",
                "outcome",
            )?,
        };
        registry.register(Box::new(metrics.syncs.clone()))?;
        registry.register(Box::new(metrics.objects.clone()))?;
        registry.register(Box::new(metrics.healthy_after.clone()))?;
        registry.register(Box::new(metrics.render.clone()))?;
        registry.register(Box::new(metrics.apps.clone()))?;
        registry.register(Box::new(metrics.queued.clone()))?;
        registry.register(Box::new(metrics.reconciles.clone()))?;
        Ok(metrics)
    }
}
