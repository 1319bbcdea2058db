//! The folders of volumes that are deleted: the agent watches volumes, removes those folders that lie here, and says so.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use kube::api::{Patch, PatchParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::persistent::{self, FOLDER_FINALIZER, Stores};
use super::{Places, VolumeError};
use crate::containers::chain;
use crate::sources::{REQUEST_LIMIT, ReadError, within};

/// How long after a failure it is tried again.
const RETRY: Duration = Duration::from_secs(10);

/// Why a pod's claims cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// They could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// They are not as they have to be.
    #[error(transparent)]
    Volume(#[from] VolumeError),
}

/// Reads the claims of a pod's volumes and says where their data lies.
///
/// # Errors
/// What cannot be read, and what cannot be used here.
pub async fn read_stores(client: &Client, places: &Places, node: &str, pod: &Pod) -> Result<Stores, ClaimError> {
    let mut stores = Stores::new();
    let namespace = pod.metadata.namespace.clone().unwrap_or_default();
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), &namespace);
    let volumes: Api<PersistentVolume> = Api::all(client.clone());
    for volume in pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
        let Some(name) = persistent::claim_of(pod, volume) else {
            continue;
        };
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        // What a pod began with it keeps, whatever becomes of the claim.
        let link = places.volume(uid, volume);
        if tokio::fs::metadata(&link).await.is_ok() && tokio::fs::read_link(&link).await.is_ok() {
            continue;
        }
        let claim = within(
            &format!("persistentvolumeclaim {namespace}/{name}"),
            claims.get_opt(&name),
        )
        .await?;
        let bound = claim
            .as_ref()
            .filter(|claim| claim.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound"))
            .and_then(|claim| claim.spec.as_ref()?.volume_name.clone())
            .filter(|name| !name.is_empty());
        let found = match &bound {
            Some(bound) => within(&format!("persistentvolume {bound}"), volumes.get_opt(bound)).await?,
            None => None,
        };
        let store = persistent::store(places, node, pod, &name, claim.as_ref(), found.as_ref())?;
        stores.insert(volume.name.clone(), store);
    }
    Ok(stores)
}

/// Removes the folders of volumes of this node that are deleted, until `stop`.
pub async fn keep(client: Client, places: Places, node: String, stop: CancellationToken) {
    let api: Api<PersistentVolume> = Api::all(client);
    let mut events = std::pin::pin!(watcher(api.clone(), watcher::Config::default()).default_backoff());
    let mut failed: Vec<PersistentVolume> = Vec::new();
    loop {
        let waiting = !failed.is_empty();
        let event = tokio::select! {
            () = stop.cancelled() => return,
            event = events.next() => event,
            () = tokio::time::sleep(RETRY), if waiting => {
                for volume in std::mem::take(&mut failed) {
                    failed.extend(remove(&api, &places, volume).await);
                }
                continue;
            }
        };
        match event {
            None => return,
            Some(Ok(watcher::Event::Apply(volume) | watcher::Event::InitApply(volume))) => {
                if persistent::is_leaving(&volume, &node) {
                    failed.extend(remove(&api, &places, volume).await);
                }
            }
            Some(Ok(_)) => {}
            Some(Err(error)) => tracing::debug!(
                error = chain(&error),
                "the watch of volumes broke off, it is taken up again"
            ),
        }
    }
}

/// Removes one folder and says so; returns the volume if that has to be tried again.
async fn remove(api: &Api<PersistentVolume>, places: &Places, volume: PersistentVolume) -> Option<PersistentVolume> {
    let name = volume.metadata.name.clone().unwrap_or_default();
    let going = Arc::new(volume);
    let (places, folder) = (places.clone(), going.clone());
    let removed = tokio::task::spawn_blocking(move || persistent::remove_folder(&places, &folder)).await;
    let outcome = match removed {
        Ok(Ok(())) => finalize(api, &name, &going).await,
        Ok(Err(error)) => Err(format!("its folder cannot be removed: {error}")),
        Err(error) => Err(format!("removing its folder broke off: {error}")),
    };
    match outcome {
        Ok(()) => None,
        Err(error) => {
            tracing::warn!(volume = name, error, "a deleted volume is still there, trying again");
            Some(Arc::unwrap_or_clone(going))
        }
    }
}

async fn finalize(api: &Api<PersistentVolume>, name: &str, volume: &PersistentVolume) -> Result<(), String> {
    let finalizers = volume.metadata.finalizers.as_deref().unwrap_or_default();
    let Some(at) = finalizers.iter().position(|held| held == FOLDER_FINALIZER) else {
        return Ok(());
    };
    // Only if it is still there: others may change the list meanwhile.
    let path = format!("/metadata/finalizers/{at}");
    let patch = json!([
        { "op": "test", "path": path, "value": FOLDER_FINALIZER },
        { "op": "remove", "path": path },
    ]);
    let patch: Patch<()> = Patch::Json(serde_json::from_value(patch).map_err(|error| error.to_string())?);
    let parameters = PatchParams::default();
    match tokio::time::timeout(REQUEST_LIMIT, api.patch(name, &parameters, &patch)).await {
        Ok(Ok(_)) => Ok(()),
        // Gone, or changed: then the watch tells of it anew.
        Ok(Err(kube::Error::Api(answer))) if matches!(answer.code, 404 | 409 | 422) => Ok(()),
        Ok(Err(error)) => Err(chain(&error)),
        Err(_) => Err(format!("no answer within {} s", REQUEST_LIMIT.as_secs())),
    }
}
