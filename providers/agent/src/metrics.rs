//! What the agent counts.

use prometheus::{Histogram, HistogramOpts, IntCounter, IntGaugeVec, Opts, Registry};

/// The agent's metrics. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Pods on this node by phase.
    pub pods: IntGaugeVec,
    /// Containers that were started again.
    pub restarts: IntCounter,
    /// Seconds from the first sight of a pod to its first running container.
    pub start: Histogram,
    /// Writes of pod statuses.
    pub writes: IntCounter,
}

impl Metrics {
    /// Makes and registers the metrics.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let buckets = vec![
            0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0,
        ];
        let metrics = Self {
            pods: IntGaugeVec::new(
                Opts::new("setpoint_agent_pods", "Pods on this node by phase."),
                &["phase"],
            )?,
            restarts: IntCounter::new(
                "setpoint_agent_container_restarts_total",
                "Containers that were started again.",
            )?,
            start: Histogram::with_opts(
                HistogramOpts::new(
                    "setpoint_agent_pod_start_seconds",
                    "Seconds from the first sight of a pod to its first running container.",
                )
                .buckets(buckets),
            )?,
            writes: IntCounter::new("setpoint_agent_status_writes_total", "Writes of pod statuses.")?,
        };
        registry.register(Box::new(metrics.pods.clone()))?;
        registry.register(Box::new(metrics.restarts.clone()))?;
        registry.register(Box::new(metrics.start.clone()))?;
        registry.register(Box::new(metrics.writes.clone()))?;
        Ok(metrics)
    }
}

/// Counts one pod under its phase for as long as it lives.
pub struct PhaseGauge {
    pods: IntGaugeVec,
    phase: String,
}

impl PhaseGauge {
    /// Begins to count a pod as pending.
    pub fn new(metrics: &Metrics) -> Self {
        let gauge = Self {
            pods: metrics.pods.clone(),
            phase: "Pending".to_owned(),
        };
        gauge.pods.with_label_values(&[gauge.phase.as_str()]).inc();
        gauge
    }

    /// Moves the pod to another phase.
    pub fn set(&mut self, phase: &str) {
        if self.phase != phase {
            self.pods.with_label_values(&[self.phase.as_str()]).dec();
            self.phase = phase.to_owned();
            self.pods.with_label_values(&[phase]).inc();
        }
    }
}

impl Drop for PhaseGauge {
    fn drop(&mut self) {
        self.pods.with_label_values(&[self.phase.as_str()]).dec();
    }
}
