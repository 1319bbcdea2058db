//! The store's own figures as metrics: the store knows no metrics library, so they are read from it when somebody asks.

use std::sync::Arc;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntCounter, IntGauge, Registry};
use setpoint_store::{SqliteLog, StoreStats};

/// Reads one figure.
type Read = fn(&StoreStats) -> u64;

const GAUGES: [(&str, &str, Read); 6] = [
    ("setpoint_store_revision", "The newest revision.", |stats| {
        stats.revision
    }),
    (
        "setpoint_store_oldest_revision",
        "The oldest revision that can still be read.",
        |stats| stats.oldest,
    ),
    ("setpoint_store_keys", "Objects that exist.", |stats| stats.keys),
    ("setpoint_store_bytes", "Size of the database file.", |stats| {
        stats.bytes
    }),
    (
        "setpoint_store_wal_bytes",
        "Size of the database's write-ahead log.",
        |stats| stats.wal_bytes,
    ),
    ("setpoint_store_watchers", "Watches on the log.", |stats| stats.watchers),
];

const COUNTERS: [(&str, &str, Read); 3] = [
    (
        "setpoint_store_writes_total",
        "Durable writes since the start.",
        |stats| stats.writes,
    ),
    (
        "setpoint_store_refreshes_total",
        "Heartbeats since the start, which cost no write.",
        |stats| stats.refreshes,
    ),
    (
        "setpoint_store_batches_total",
        "Transactions that these writes shared.",
        |stats| stats.batches,
    ),
];

struct StoreCollector {
    store: Arc<SqliteLog>,
    gauges: Vec<(IntGauge, Read)>,
    counters: Vec<(IntCounter, Read)>,
}

/// Registers the store's figures.
pub fn register_store(registry: &Registry, store: &Arc<SqliteLog>) -> prometheus::Result<()> {
    let gauges = GAUGES
        .iter()
        .map(|(name, help, read)| Ok((IntGauge::new(*name, *help)?, *read)));
    let counters = COUNTERS
        .iter()
        .map(|(name, help, read)| Ok((IntCounter::new(*name, *help)?, *read)));
    let collector = StoreCollector {
        store: store.clone(),
        gauges: gauges.collect::<prometheus::Result<_>>()?,
        counters: counters.collect::<prometheus::Result<_>>()?,
    };
    registry.register(Box::new(collector))
}

impl Collector for StoreCollector {
    fn desc(&self) -> Vec<&Desc> {
        let gauges = self.gauges.iter().flat_map(|(gauge, _)| gauge.desc());
        gauges
            .chain(self.counters.iter().flat_map(|(counter, _)| counter.desc()))
            .collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let stats = self.store.stats();
        let mut families = Vec::new();
        for (gauge, read) in &self.gauges {
            gauge.set(i64::try_from(read(&stats)).unwrap_or(i64::MAX));
            families.extend(gauge.collect());
        }
        for (counter, read) in &self.counters {
            counter.inc_by(read(&stats).saturating_sub(counter.get()));
            families.extend(counter.collect());
        }
        families
    }
}
