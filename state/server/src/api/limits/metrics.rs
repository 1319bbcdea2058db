//! What the limits do, under the names that dashboards for Kubernetes look for.

use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts};

/// Counters by priority level and kind of request (`readOnly`, `mutating`, `longRunning`).
pub(super) struct LimitMetrics {
    /// Seats taken.
    pub(super) seats: IntGaugeVec,
    /// Requests that wait.
    pub(super) waiting: IntGaugeVec,
    /// Requests that had their turn.
    pub(super) dispatched: IntCounterVec,
    /// Requests turned away, by reason.
    pub(super) rejected: IntCounterVec,
    /// How long a request waited, in seconds.
    pub(super) waited: HistogramVec,
}

impl LimitMetrics {
    /// Registers the metrics.
    pub(super) fn new(registry: &prometheus::Registry) -> Result<LimitMetrics, prometheus::Error> {
        let labels = ["priority_level", "request_kind"];
        let metrics = LimitMetrics {
            seats: IntGaugeVec::new(
                Opts::new(
                    "apiserver_flowcontrol_current_executing_seats",
                    "Seats taken by requests that are being answered.",
                ),
                &labels,
            )?,
            waiting: IntGaugeVec::new(
                Opts::new(
                    "apiserver_flowcontrol_current_inqueue_requests",
                    "Requests that wait for a seat.",
                ),
                &labels,
            )?,
            dispatched: IntCounterVec::new(
                Opts::new(
                    "apiserver_flowcontrol_dispatched_requests_total",
                    "Requests that were given a seat.",
                ),
                &labels,
            )?,
            rejected: IntCounterVec::new(
                Opts::new(
                    "apiserver_flowcontrol_rejected_requests_total",
                    "Requests that were answered with 429.",
                ),
                &["priority_level", "request_kind", "reason"],
            )?,
            waited: HistogramVec::new(
                HistogramOpts::new(
                    "apiserver_flowcontrol_request_wait_duration_seconds",
                    "How long requests waited for a seat.",
                )
                .buckets(vec![0.0, 0.005, 0.02, 0.1, 0.5, 2.0, 5.0, 15.0]),
                &labels,
            )?,
        };
        registry.register(Box::new(metrics.seats.clone()))?;
        registry.register(Box::new(metrics.waiting.clone()))?;
        registry.register(Box::new(metrics.dispatched.clone()))?;
        registry.register(Box::new(metrics.rejected.clone()))?;
        registry.register(Box::new(metrics.waited.clone()))?;
        Ok(metrics)
    }
}
