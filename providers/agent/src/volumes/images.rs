//! Volumes that are images: which image each is made of, found or fetched before the containers start.

use std::io;
use std::path::Path;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, Pod};
use setpoint_runtime::images::Keyring;

use super::Places;
use crate::containers::{Containers, ReadyImage};
use crate::images::{self, Found, ImageProblem};

/// What came of looking for a volume's image.
pub struct Fetched {
    /// The reference, as the pod has it.
    pub reference: String,
    /// The image.
    pub image: ReadyImage,
    /// How it came to be there.
    pub found: Found,
}

/// Finds or fetches the images of a pod's volumes and notes them down; those that were noted before stay as they are. `secrets` are the pod's credentials, `pulling` is
/// called with the reference before a fetch begins.
///
/// # Errors
/// Why one cannot be had, with its reference; or that it cannot be noted.
pub async fn prepare(
    containers: &Arc<dyn Containers>,
    places: &Places,
    pod: &Pod,
    secrets: &Keyring,
    pulling: impl Fn(&str) + Send + Sync,
) -> Result<Vec<Fetched>, String> {
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    let mut fetched = Vec::new();
    for volume in pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
        let Some(source) = &volume.image else { continue };
        let reference = source.reference.clone().unwrap_or_default();
        let note = places.image(uid, &volume.name);
        if tokio::fs::try_exists(&note).await.is_ok_and(|there| there) {
            continue;
        }
        // The policies are those of a container's image.
        let wanted = Container {
            name: volume.name.clone(),
            image: Some(reference.clone()),
            image_pull_policy: source.pull_policy.clone(),
            ..Container::default()
        };
        let found = images::find(containers, &wanted, secrets.clone(), || pulling(&reference)).await;
        let (image, found) = found.map_err(|ImageProblem { reason, message }| {
            format!(
                "MountVolume.SetUp failed for volume \"{}\" : {reason}: {message}",
                volume.name
            )
        })?;
        write(&note, &image.id)
            .await
            .map_err(|error| format!("cannot write {}: {error}", note.display()))?;
        fetched.push(Fetched {
            reference,
            image,
            found,
        });
    }
    Ok(fetched)
}

async fn write(note: &Path, id: &str) -> io::Result<()> {
    if let Some(parent) = note.parent() {
        tokio::fs::create_dir_all(parent).await?;
    }
    // By a rename: half a note would name no image.
    let temporary = note.with_extension("new");
    tokio::fs::write(&temporary, id).await?;
    tokio::fs::rename(&temporary, note).await
}
