//! How far a pull is: what a terminal shows while it waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

/// One layer as it is pulled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerProgress {
    /// The digest of its blob.
    pub digest: String,
    /// The blob's size in bytes; 0 where it is not known.
    pub size: u64,
    /// How much of that has come.
    pub done: u64,
    /// Whether it is in its place: fetched, checked and unpacked, or here before.
    pub ready: bool,
}

/// A pull as it goes on. Cheap to clone; clones show the same pull.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    layers: Arc<Mutex<Vec<Arc<Layer>>>>,
}

#[derive(Debug, Default)]
pub(super) struct Layer {
    digest: String,
    size: u64,
    done: AtomicU64,
    /// 1 once it is in its place.
    ready: AtomicU64,
}

impl Progress {
    /// Returns every layer as it is now, bottom first; none before the manifest has come.
    pub fn layers(&self) -> Vec<LayerProgress> {
        let show = |layer: &Arc<Layer>| LayerProgress {
            digest: layer.digest.clone(),
            size: layer.size,
            done: layer.done.load(Ordering::Relaxed),
            ready: layer.ready.load(Ordering::Relaxed) == 1,
        };
        self.layers.lock().iter().map(show).collect()
    }

    /// Returns the bytes that have come, and those that come in all.
    pub fn bytes(&self) -> (u64, u64) {
        let layers = self.layers();
        let done = layers
            .iter()
            .map(|layer| if layer.ready { layer.size } else { layer.done });
        (done.sum(), layers.iter().map(|layer| layer.size).sum())
    }

    pub(super) fn begin(&self, digest: &str, size: u64) -> Arc<Layer> {
        let layer = Arc::new(Layer {
            digest: digest.to_owned(),
            size,
            ..Layer::default()
        });
        self.layers.lock().push(layer.clone());
        layer
    }
}

/// The pulls in flight.
#[derive(Debug, Default)]
pub(super) struct Board {
    pulls: Arc<Mutex<Vec<(String, Progress)>>>,
}

/// Shows a pull until it is dropped.
#[derive(Debug)]
pub(super) struct Shown {
    pulls: Arc<Mutex<Vec<(String, Progress)>>>,
    progress: Progress,
}

impl Board {
    /// Shows a pull among the others.
    pub fn show(&self, name: String, progress: &Progress) -> Shown {
        self.pulls.lock().push((name, progress.clone()));
        Shown {
            pulls: self.pulls.clone(),
            progress: progress.clone(),
        }
    }

    /// Returns all, in the order of their names.
    pub fn all(&self) -> Vec<(String, Progress)> {
        let mut all = self.pulls.lock().clone();
        all.sort_by(|one, other| one.0.cmp(&other.0));
        all
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        let mut pulls = self.pulls.lock();
        if let Some(at) = pulls
            .iter()
            .position(|(_, progress)| Arc::ptr_eq(&progress.layers, &self.progress.layers))
        {
            pulls.remove(at);
        }
    }
}

impl Layer {
    pub fn came(&self, bytes: usize) {
        self.done.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// What came has to come once more.
    pub fn begins_anew(&self) {
        self.done.store(0, Ordering::Relaxed);
    }

    pub fn is_ready(&self) {
        self.ready.store(1, Ordering::Relaxed);
    }
}
