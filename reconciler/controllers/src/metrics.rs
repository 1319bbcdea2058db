//! What the controllers count.

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use crate::error::Error;

/// The families, shared by all controllers.
#[derive(Clone)]
pub struct Metrics {
    reconciles: IntCounterVec,
    errors: IntCounterVec,
    in_flight: IntGaugeVec,
    queued: IntGaugeVec,
}

/// One controller's own.
#[derive(Clone)]
pub struct ControllerMetrics {
    /// Reconciles that ended.
    pub reconciles: IntCounter,
    /// Those that ended in an error.
    pub errors: IntCounter,
    /// Those that run.
    pub in_flight: IntGauge,
    /// Objects that wait for one.
    pub queued: IntGauge,
}

impl Metrics {
    /// Registers the families.
    ///
    /// # Errors
    /// [`Error::Metrics`] when they are registered already.
    pub fn register(registry: &Registry) -> Result<Metrics, Error> {
        let counter = |name: &str, help: &str| -> Result<IntCounterVec, prometheus::Error> {
            let family = IntCounterVec::new(Opts::new(name, help), &["controller"])?;
            registry.register(Box::new(family.clone()))?;
            Ok(family)
        };
        let gauge = |name: &str, help: &str| -> Result<IntGaugeVec, prometheus::Error> {
            let family = IntGaugeVec::new(Opts::new(name, help), &["controller"])?;
            registry.register(Box::new(family.clone()))?;
            Ok(family)
        };
        Ok(Metrics {
            reconciles: counter(
                "setpoint_controller_reconciles_total",
                "Reconciles that ended, by controller.",
            )?,
            errors: counter(
                "setpoint_controller_errors_total",
                "Reconciles that ended in an error, by controller.",
            )?,
            in_flight: gauge(
                "setpoint_controller_in_flight",
                "Reconciles that run now, by controller.",
            )?,
            queued: gauge(
                "setpoint_controller_queue",
                "Objects that wait for a reconcile, by controller.",
            )?,
        })
    }

    /// Returns the metrics of one controller.
    pub fn of(&self, controller: &str) -> ControllerMetrics {
        ControllerMetrics {
            reconciles: self.reconciles.with_label_values(&[controller]),
            errors: self.errors.with_label_values(&[controller]),
            in_flight: self.in_flight.with_label_values(&[controller]),
            queued: self.queued.with_label_values(&[controller]),
        }
    }
}
