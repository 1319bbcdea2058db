//! Waking when something in a folder changes.

use std::path::Path;
use std::sync::Arc;

use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::Notify;

/// Wakes `changed` for each change of the folder's entries, for as long as the watcher is kept. Looking is no change: whoever is woken looks, and would
/// wake itself.
pub(crate) fn watch(folder: &Path, changed: Arc<Notify>) -> notify::Result<RecommendedWatcher> {
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        if !event.is_ok_and(|event| is_a_look(event.kind)) {
            changed.notify_one();
        }
    })?;
    watcher.watch(folder, RecursiveMode::NonRecursive)?;
    Ok(watcher)
}

fn is_a_look(kind: EventKind) -> bool {
    matches!(kind, EventKind::Access(access) if access != AccessKind::Close(AccessMode::Write))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_change_wakes_and_a_look_does_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let changed = Arc::new(Notify::new());
        let _watcher = watch(folder.path(), changed.clone()).expect("a watcher");
        let file = folder.path().join("file");
        // Looks come first: were one of them a change, the events would be in this order, too.
        for _ in 0..3 {
            assert_eq!(std::fs::read_dir(folder.path()).expect("read").count(), 0);
        }
        let quiet = tokio::time::timeout(Duration::from_millis(200), changed.notified()).await;
        assert!(quiet.is_err(), "woken by a look");
        std::fs::write(&file, "x").expect("written");
        tokio::time::timeout(Duration::from_secs(20), changed.notified())
            .await
            .expect("woken by a change");
    }
}
