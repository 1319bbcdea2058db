//! `/metrics`: the registry that all parts of the process write to, and the requests counted here.

use std::time::Duration;

use axum::body::Body;
use http::{HeaderValue, Response, StatusCode};
use prometheus::{
    Encoder, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, TextEncoder,
};
use setpoint_api::Status;

use crate::request::RequestInfo;
use crate::respond;

/// The counters of requests. Cheap to clone.
#[derive(Clone)]
pub(crate) struct RequestMetrics {
    registry: prometheus::Registry,
    total: IntCounterVec,
    duration: HistogramVec,
    in_flight: IntGaugeVec,
    /// Connections that are open.
    pub connections: IntGauge,
    /// Handlers that panicked; each was answered with 500.
    pub panics: IntCounter,
}

impl RequestMetrics {
    /// Registers the metrics.
    pub(crate) fn new(registry: &prometheus::Registry) -> Result<RequestMetrics, prometheus::Error> {
        let labels = ["verb", "group", "version", "resource", "subresource"];
        let metrics = RequestMetrics {
            registry: registry.clone(),
            total: IntCounterVec::new(
                Opts::new("apiserver_request_total", "Requests by verb, resource and HTTP code."),
                &["verb", "group", "version", "resource", "subresource", "code"],
            )?,
            duration: HistogramVec::new(
                HistogramOpts::new(
                    "apiserver_request_duration_seconds",
                    "Time to the start of the answer, without watches and streams.",
                )
                .buckets(vec![0.001, 0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0]),
                &labels,
            )?,
            in_flight: IntGaugeVec::new(
                Opts::new(
                    "apiserver_current_inflight_requests",
                    "Requests being answered, by kind.",
                ),
                &["request_kind"],
            )?,
            connections: IntGauge::new("setpoint_server_connections", "Connections that are open.")?,
            panics: IntCounter::new("setpoint_server_panics_total", "Requests whose handling panicked.")?,
        };
        registry.register(Box::new(metrics.total.clone()))?;
        registry.register(Box::new(metrics.duration.clone()))?;
        registry.register(Box::new(metrics.in_flight.clone()))?;
        registry.register(Box::new(metrics.connections.clone()))?;
        registry.register(Box::new(metrics.panics.clone()))?;
        Ok(metrics)
    }

    /// Counts one answered request. What names no known resource must not make a series: it is counted as `unknown`.
    pub(crate) fn record(&self, info: &RequestInfo, known: bool, code: StatusCode, took: Duration) {
        let verb = match info.verb.as_str() {
            "get" | "list" | "watch" | "create" | "update" | "patch" | "delete" | "deletecollection" | "post"
            | "put" | "head" => info.verb.as_str(),
            _ => "other",
        };
        let (group, version, resource, subresource) = match (info.is_resource, known) {
            (false, _) => ("", "", "", ""),
            (true, false) => ("", "", "unknown", ""),
            (true, true) => (
                info.group.as_str(),
                info.version.as_str(),
                info.resource.as_str(),
                info.subresource.as_str(),
            ),
        };
        self.total
            .with_label_values(&[verb, group, version, resource, subresource, code.as_str()])
            .inc();
        if !info.is_long_running() {
            self.duration
                .with_label_values(&[verb, group, version, resource, subresource])
                .observe(took.as_secs_f64());
        }
    }

    /// Counts a request as long as the guard lives.
    pub(crate) fn in_flight(&self, kind: &str) -> InFlight {
        let gauge = self.in_flight.with_label_values(&[kind]);
        gauge.inc();
        InFlight(gauge)
    }

    /// The page.
    pub(crate) fn page(&self) -> Result<Response<Body>, Status> {
        let mut text = Vec::new();
        let encoder = TextEncoder::new();
        encoder
            .encode(&self.registry.gather(), &mut text)
            .map_err(Status::internal)?;
        let media_type = HeaderValue::from_str(encoder.format_type()).map_err(Status::internal)?;
        Ok(respond::bytes(StatusCode::OK, media_type, text))
    }
}

/// A request that is being answered.
pub(crate) struct InFlight(IntGauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}
