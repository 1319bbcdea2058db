//! The way from requests to the file: a bounded queue, and a thread at its end.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use prometheus::{IntCounter, IntCounterVec, Opts};
use tokio::sync::{mpsc, oneshot};

use super::AuditConfig;
use super::event::Event;
use super::file::RotatedFile;
use crate::api::ServerError;

/// How many events may wait to be written.
const EVENTS: usize = 16 << 10;
/// How much memory they may take, in bytes.
const BYTES: usize = 64 << 20;
/// How many bytes are written at once.
const BATCH: usize = 256 << 10;
/// How long a flush waits for the disk.
const FLUSH_WITHIN: Duration = Duration::from_secs(5);

enum Work {
    Event(Box<Event>),
    Flush(oneshot::Sender<()>),
}

/// Takes events; cheap to clone. The thread ends when the last clone goes, with everything written.
#[derive(Clone)]
pub(super) struct AuditLog {
    queue: mpsc::Sender<Work>,
    waiting: Arc<AtomicUsize>,
    metrics: AuditMetrics,
}

#[derive(Clone)]
struct AuditMetrics {
    events: IntCounter,
    levels: IntCounterVec,
    errors: IntCounterVec,
}

impl AuditMetrics {
    fn new(registry: &prometheus::Registry) -> Result<AuditMetrics, prometheus::Error> {
        let metrics = AuditMetrics {
            events: IntCounter::new("apiserver_audit_event_total", "Audit events that were made.")?,
            levels: IntCounterVec::new(
                Opts::new("apiserver_audit_level_total", "Audit events, by level."),
                &["level"],
            )?,
            errors: IntCounterVec::new(
                Opts::new(
                    "apiserver_audit_error_total",
                    "Audit events that were lost: no room to wait in, not encoded, or not written.",
                ),
                &["reason"],
            )?,
        };
        registry.register(Box::new(metrics.events.clone()))?;
        registry.register(Box::new(metrics.levels.clone()))?;
        registry.register(Box::new(metrics.errors.clone()))?;
        for reason in ["encode", "queue-full", "write"] {
            metrics.errors.with_label_values(&[reason]).reset();
        }
        Ok(metrics)
    }
}

impl AuditLog {
    /// Opens the file and starts the thread.
    pub(super) fn open(config: &AuditConfig, registry: &prometheus::Registry) -> Result<AuditLog, ServerError> {
        let file = RotatedFile::open(&config.directory, config.largest_file, config.older_files)?;
        let metrics = AuditMetrics::new(registry)?;
        let (queue, work) = mpsc::channel(EVENTS);
        let waiting = Arc::new(AtomicUsize::new(0));
        let writer = Writer {
            file,
            work,
            waiting: Arc::clone(&waiting),
            metrics: metrics.clone(),
            failing: false,
            lost: 0,
        };
        thread::Builder::new()
            .name("audit-log".to_owned())
            .spawn(move || writer.run())
            .map_err(ServerError::AuditThread)?;
        Ok(AuditLog {
            queue,
            waiting,
            metrics,
        })
    }

    /// Hands an event over; never waits. Where there is no room it is counted and lost.
    pub(super) fn send(&self, event: Event) {
        self.metrics.events.inc();
        self.metrics.levels.with_label_values(&[event.level.as_str()]).inc();
        let weight = event.weight();
        let before = self.waiting.fetch_add(weight, Ordering::Relaxed);
        if before + weight > BYTES || self.queue.try_send(Work::Event(Box::new(event))).is_err() {
            self.waiting.fetch_sub(weight, Ordering::Relaxed);
            self.metrics.errors.with_label_values(&["queue-full"]).inc();
        }
    }

    /// Waits until what was handed over is written, or the disk takes too long.
    pub(super) async fn flush(&self) {
        let (done, written) = oneshot::channel();
        let flushed = async {
            if self.queue.send(Work::Flush(done)).await.is_ok() {
                // The thread answers every flush, or is gone with everything written.
                written.await.ok();
            }
        };
        if tokio::time::timeout(FLUSH_WITHIN, flushed).await.is_err() {
            tracing::warn!("the audit log was not written within {} s", FLUSH_WITHIN.as_secs());
        }
    }
}

struct Writer {
    file: RotatedFile,
    work: mpsc::Receiver<Work>,
    waiting: Arc<AtomicUsize>,
    metrics: AuditMetrics,
    /// Whether the last write failed: said once, not for every event.
    failing: bool,
    /// What was lost since.
    lost: u64,
}

impl Writer {
    fn run(mut self) {
        let mut batch = Vec::new();
        while let Some(first) = self.work.blocking_recv() {
            let mut next = Some(first);
            let mut events = 0;
            let mut flushes = Vec::new();
            while let Some(work) = next {
                match work {
                    Work::Event(event) => {
                        match catch_unwind(AssertUnwindSafe(|| event.encode())) {
                            Ok(line) => {
                                batch.extend(line);
                                events += 1;
                            }
                            // One event that cannot be encoded is no reason to keep none.
                            Err(_) => self.metrics.errors.with_label_values(&["encode"]).inc(),
                        }
                        self.waiting.fetch_sub(event.weight(), Ordering::Relaxed);
                    }
                    Work::Flush(done) => flushes.push(done),
                }
                next = if batch.len() < BATCH {
                    self.work.try_recv().ok()
                } else {
                    None
                };
            }
            self.write(&batch, events);
            batch.clear();
            for done in flushes {
                // Whoever asked may have gone.
                done.send(()).ok();
            }
        }
    }

    fn write(&mut self, batch: &[u8], events: u64) {
        if batch.is_empty() {
            return;
        }
        match self.file.write(batch) {
            Ok(()) if self.failing => {
                tracing::warn!(lost = self.lost, "the audit log is written again");
                self.failing = false;
                self.lost = 0;
            }
            Ok(()) => {}
            Err(error) => {
                self.metrics.errors.with_label_values(&["write"]).inc_by(events);
                self.lost += events;
                if !self.failing {
                    tracing::error!(%error, "the audit log cannot be written; events are lost until it can");
                    self.failing = true;
                }
            }
        }
    }
}
