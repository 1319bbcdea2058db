//! Telling which images a node has: the scheduler sends pods where their images are.
//!
//! `status.images` is written when the store changes, which is noticed by its files, and now and then as a safety net: the Node may have been made
//! anew. Nothing else of the status is touched.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use setpoint_runtime::images::{Image, ImageError, ImageStore};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::within;
use crate::containers::chain;
use crate::folder_watch::watch;
use crate::images::by_digest;

/// How many images a Node tells of, as the kubelet (`nodeStatusMaxImages`).
const MOST: usize = 50;
/// How long a change of the store may be followed by others that are told with it.
const TOGETHER: Duration = Duration::from_millis(500);
/// The safety net.
const LOOK_AGAIN: Duration = Duration::from_secs(300);

/// Why the images were not told; that passes.
#[derive(Debug, thiserror::Error)]
enum Untold {
    #[error("the store cannot be read")]
    Store(#[source] ImageError),
    #[error("reading the store broke off")]
    Broken(#[source] tokio::task::JoinError),
    #[error("the Node cannot be written")]
    Write(#[source] kube::Error),
}

/// Tells which images the node has until `stop`.
pub(crate) async fn keep(client: Client, node: String, store: Arc<ImageStore>, stop: CancellationToken) {
    let changed = Arc::new(Notify::new());
    let watcher = watch(store.root(), changed.clone());
    if let Err(error) = &watcher {
        tracing::warn!(
            error = chain(error),
            "the image store cannot be watched; it is looked at every 300 s"
        );
    }
    let api: Api<Node> = Api::all(client);
    loop {
        if let Err(error) = tell(&api, &node, &store).await {
            tracing::debug!(node, error = chain(&error), "the node's images could not be told");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = changed.notified() => tokio::time::sleep(TOGETHER).await,
            () = tokio::time::sleep(LOOK_AGAIN) => {}
        }
    }
}

async fn tell(api: &Api<Node>, node: &str, store: &Arc<ImageStore>) -> Result<(), Untold> {
    let store = store.clone();
    let images = tokio::task::spawn_blocking(move || store.list())
        .await
        .map_err(Untold::Broken)?
        .map_err(Untold::Store)?;
    let patch = json!({"status": {"images": told(images)}});
    let (params, patch) = (PatchParams::default(), Patch::Merge(&patch));
    within(api.patch_status(node, &params, &patch))
        .await
        .map(drop)
        .map_err(Untold::Write)
}

/// The largest images first, each by its digest under every name and by its names, as the kubelet tells them.
fn told(mut images: Vec<Image>) -> Vec<Value> {
    images.sort_by(|one, other| other.size.cmp(&one.size).then_with(|| one.id.cmp(&other.id)));
    let entry = |image: Image| {
        let mut names: Vec<String> = image
            .references
            .iter()
            .map(|name| by_digest(name, &image.digest))
            .collect();
        names.dedup();
        names.extend(image.references.iter().cloned());
        (!names.is_empty()).then(|| json!({"names": names, "sizeBytes": image.size}))
    };
    images.into_iter().filter_map(entry).take(MOST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(id: &str, size: u64, names: &[&str]) -> Image {
        Image {
            id: id.to_owned(),
            digest: "sha256:d".to_owned(),
            references: names.iter().map(|name| (*name).to_owned()).collect(),
            size,
            ..Image::default()
        }
    }

    #[test]
    fn the_largest_images_are_told_by_digest_and_name() {
        let small = image("b", 1, &["docker.io/library/a:1"]);
        let told = told(vec![
            small,
            image("a", 9, &["x.io/y:1", "x.io/y:2"]),
            image("c", 5, &[]),
        ]);
        assert_eq!(
            told,
            [
                json!({"names": ["x.io/y@sha256:d", "x.io/y:1", "x.io/y:2"], "sizeBytes": 9}),
                json!({"names": ["docker.io/library/a@sha256:d", "docker.io/library/a:1"], "sizeBytes": 1}),
            ]
        );
    }
}
