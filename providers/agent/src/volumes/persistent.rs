//! Volumes that outlive their pods: what a claim stands for on this node, and the folders of volumes that are made here.
//!
//! A pod's volume of this kind is a link below the pod's own directory that leads to the place itself: who removes the pod's files never
//! follows it. Folders are made and removed only directly below the instance's own `volumes/`.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{
    HostPathVolumeSource, PersistentVolume, PersistentVolumeClaim, Pod, PodSecurityContext, Volume,
};

use super::{Places, VolumeError, host_path, ownership};

/// Who makes volumes that are folders on a node.
pub const PROVISIONER: &str = "setpoint.dev/local";
/// Says of a volume who made it.
const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
/// What keeps a volume until its node has removed the folder.
pub const FOLDER_FINALIZER: &str = "setpoint.dev/local-volume";

/// Where the data of a claim lies on this node.
#[derive(Clone, Debug, PartialEq)]
pub enum Store {
    /// A folder that is made when it is needed first.
    Folder(PathBuf),
    /// A directory that somebody made.
    Directory(PathBuf),
    /// A path of the host, to be checked as a hostPath is.
    Host(HostPathVolumeSource),
}

impl Store {
    /// Returns the path.
    pub fn path(&self) -> &Path {
        match self {
            Self::Folder(path) | Self::Directory(path) => path,
            Self::Host(host) => Path::new(&host.path),
        }
    }
}

/// The data of a pod's claims, by the name of the pod's volume.
pub type Stores = BTreeMap<String, Store>;

/// Returns the name of the claim that a volume of a pod is of.
pub fn claim_of(pod: &Pod, volume: &Volume) -> Option<String> {
    if let Some(source) = &volume.persistent_volume_claim {
        return Some(source.claim_name.clone());
    }
    volume.ephemeral.as_ref()?;
    let pod = pod.metadata.name.as_deref().unwrap_or_default();
    Some(format!("{pod}-{}", volume.name))
}

/// Returns where the data of a claim lies on the node of this name. `volume` is the one that the claim names, if it is there.
///
/// # Errors
/// In the kubelet's words: a claim or volume that is missing, not bound, or of a kind that is not kept here.
pub fn store(
    places: &Places,
    node: &str,
    pod: &Pod,
    name: &str,
    claim: Option<&PersistentVolumeClaim>,
    volume: Option<&PersistentVolume>,
) -> Result<Store, VolumeError> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let of = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let own = of.clone().find(|volume| claim_of(pod, volume).as_deref() == Some(name));
    let failed = |message: String| VolumeError::Claim {
        volume: own.map(|volume| volume.name.clone()).unwrap_or_default(),
        claim: format!("{namespace}/{name}"),
        message,
    };
    let Some(claim) = claim else {
        return Err(failed(format!(
            "failed to fetch PVC from API server: persistentvolumeclaims \"{name}\" not found"
        )));
    };
    if own.is_some_and(|volume| volume.ephemeral.is_some()) {
        let owners = claim.metadata.owner_references.iter().flatten();
        if !owners
            .into_iter()
            .any(|owner| Some(&owner.uid) == pod.metadata.uid.as_ref())
        {
            let pod = pod.metadata.name.as_deref().unwrap_or_default();
            return Err(failed(format!(
                "PVC {namespace}/{name} was not created for pod {namespace}/{pod} (pod is not owner)"
            )));
        }
    }
    if claim.metadata.deletion_timestamp.is_some() {
        return Err(failed("PVC is being deleted".to_owned()));
    }
    let bound = claim.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound");
    let volume_name = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref());
    let Some(volume_name) = volume_name.filter(|name| bound && !name.is_empty()) else {
        return Err(failed("PVC is not bound".to_owned()));
    };
    let Some(volume) = volume else {
        return Err(failed(format!(
            "failed to get PV {volume_name} from API server: persistentvolumes \"{volume_name}\" not found"
        )));
    };
    let spec = volume.spec.clone().unwrap_or_default();
    let claimed = spec.claim_ref.as_ref().and_then(|claim| claim.uid.as_deref());
    if claimed.is_none() || claimed != claim.metadata.uid.as_deref() {
        return Err(failed(format!(
            "PV {volume_name} spec.claimRef.uid {} does not match PVC.UID {}",
            claimed.unwrap_or_default(),
            claim.metadata.uid.as_deref().unwrap_or_default()
        )));
    }
    if spec.volume_mode.as_deref() == Some("Block") {
        return Err(failed(format!(
            "PV {volume_name} has volumeMode Block, and block devices are not supported here"
        )));
    }
    if let Some(host) = host_of(volume).filter(|host| *host != node) {
        return Err(failed(format!("PV {volume_name} lies on node {host}, this is {node}")));
    }
    if let Some(local) = &spec.local {
        let path = PathBuf::from(&local.path);
        return Ok(if own_folder(places, volume).is_some() {
            Store::Folder(path)
        } else {
            Store::Directory(path)
        });
    }
    if let Some(host) = spec.host_path {
        return Ok(Store::Host(host));
    }
    Err(failed(format!(
        "PV {volume_name} is of a kind that is not supported here: use local, hostPath or the class local"
    )))
}

/// Returns the host name of the node that a volume is tied to, where one alone is named.
fn host_of(volume: &PersistentVolume) -> Option<&str> {
    let required = volume.spec.as_ref()?.node_affinity.as_ref()?.required.as_ref()?;
    let [term] = required.node_selector_terms.as_slice() else {
        return None;
    };
    let expression = term
        .match_expressions
        .iter()
        .flatten()
        .find(|expression| expression.key == "kubernetes.io/hostname" && expression.operator == "In")?;
    match expression.values.as_deref() {
        Some([host]) => Some(host),
        _ => None,
    }
}

/// Returns the folder of a volume that was made for this instance: directly below its own directory, and called as the volume is.
pub fn own_folder(places: &Places, volume: &PersistentVolume) -> Option<PathBuf> {
    let annotations = volume.metadata.annotations.as_ref()?;
    if annotations.get(PROVISIONED_BY).is_none_or(|by| by != PROVISIONER) {
        return None;
    }
    let name = volume.metadata.name.as_deref()?;
    let path = Path::new(&volume.spec.as_ref()?.local.as_ref()?.path);
    let own = places.volumes().join(name);
    // Compared as texts: a path that means the same in another way was not written by the provisioner.
    let plain = !name.is_empty() && !name.contains('/') && name != "." && name != "..";
    (plain && own.as_os_str() == path.as_os_str()).then_some(own)
}

/// Returns whether a volume is to be removed here now: it is going, no claim keeps it, and its node is to say when the folder is gone.
pub fn is_leaving(volume: &PersistentVolume, node: &str) -> bool {
    let finalizers = volume.metadata.finalizers.as_deref().unwrap_or_default();
    let has = |name: &str| finalizers.iter().any(|held| held == name);
    volume.metadata.deletion_timestamp.is_some()
        && has(FOLDER_FINALIZER)
        && !has("kubernetes.io/pv-protection")
        && host_of(volume) == Some(node)
}

/// Removes the folder of a volume that is leaving, unless it is to be kept. Blocking; succeeds when there is none.
pub fn remove_folder(places: &Places, volume: &PersistentVolume) -> io::Result<()> {
    let spec = volume.spec.as_ref();
    let policy = spec.and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref());
    let Some(folder) = own_folder(places, volume).filter(|_| policy == Some("Delete")) else {
        return Ok(());
    };
    // A link in its place is removed itself, not followed; below, the removal goes from directory to directory by descriptor.
    let removed = match fs::symlink_metadata(&folder) {
        Ok(metadata) if metadata.is_dir() => {
            super::mounts::unmount_below(&folder).and_then(|()| setpoint_runtime::tree::remove(&folder))
        }
        Ok(_) => fs::remove_file(&folder),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Makes a pod's volume lead to the data of its claim; a folder is made, and given to the pod's group. Blocking.
pub(super) fn prepare<F>(
    link: &Path,
    volume: &Volume,
    store: &Store,
    security: Option<&PodSecurityContext>,
    io: impl Fn(&'static str, &Path) -> F,
) -> Result<(), VolumeError>
where
    F: FnOnce(io::Error) -> VolumeError,
{
    let path = store.path();
    if fs::read_link(link).is_ok_and(|target| target == path) && path.exists() {
        return Ok(());
    }
    match store {
        Store::Host(host) => host_path(&volume.name, host, &io)?,
        Store::Directory(_) => {
            if !path.exists() {
                return Err(VolumeError::NoPath {
                    volume: volume.name.clone(),
                    path: path.to_owned(),
                });
            }
        }
        Store::Folder(_) => {
            let new = match fs::create_dir(path) {
                Ok(()) => true,
                // One that was just made when this was killed is not given to anybody yet.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    fs::read_dir(path).map_err(io("look at", path))?.next().is_none()
                }
                Err(error) => return Err(io("create", path)(error)),
            };
            if !fs::symlink_metadata(path).map_err(io("look at", path))?.is_dir() {
                return Err(io("use", path)(io::ErrorKind::NotADirectory.into()));
            }
            if new {
                fs::set_permissions(path, fs::Permissions::from_mode(0o777)).map_err(io("open up", path))?;
            }
        }
    }
    // Paths of the host keep their owners, as for the kubelet.
    let group = security.and_then(|security| u32::try_from(security.fs_group?).ok());
    if let Some(group) = group.filter(|_| !matches!(store, Store::Host(_))) {
        let policy = security.and_then(|security| security.fs_group_change_policy.as_deref());
        let only_on_mismatch = policy == Some("OnRootMismatch");
        let read_only = volume
            .persistent_volume_claim
            .as_ref()
            .is_some_and(|claim| claim.read_only == Some(true));
        let given = only_on_mismatch && ownership::is_given(path, group).map_err(io("look at", path))?;
        if !given && !read_only {
            ownership::give(path, group, false).map_err(io("change the group of", path))?;
        }
    }
    if let Some(parent) = link.parent() {
        fs::create_dir_all(parent).map_err(io("create", parent))?;
    }
    match fs::remove_file(link) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io("remove", link)(error)),
        _ => {}
    }
    symlink(path, link).map_err(io("link", link))
}

#[cfg(test)]
mod tests;
