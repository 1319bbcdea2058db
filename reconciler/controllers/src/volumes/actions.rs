//! What the decisions about volumes come to: writes and events, and carrying them out.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::ResourceExt as _;
use serde_json::{Value, json};

use crate::cluster::{Cluster, Kind, Propagation};
use crate::error::Error;
use crate::events::{Level, Recorder};

/// What an action is about.
#[derive(Clone, Debug)]
pub enum Object {
    /// A claim.
    Claim(Arc<PersistentVolumeClaim>),
    /// A volume.
    Volume(Arc<PersistentVolume>),
}

impl PartialEq for Object {
    fn eq(&self, other: &Object) -> bool {
        match (self, other) {
            (Object::Claim(one), Object::Claim(other)) => one.metadata.uid == other.metadata.uid,
            (Object::Volume(one), Object::Volume(other)) => one.metadata.name == other.metadata.name,
            _ => false,
        }
    }
}

/// One thing to do; a list of them is done in order, up to the first that fails.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Merge a patch into an object, if it is still as it was seen.
    Patch {
        /// The object.
        object: Object,
        /// The patch, without metadata that says of which revision.
        patch: Value,
    },
    /// Merge a patch into an object's status.
    Status {
        /// The object.
        object: Object,
        /// What of the status changes.
        status: Value,
    },
    /// Make a volume.
    CreateVolume(Box<PersistentVolume>),
    /// Delete a volume.
    DeleteVolume(Arc<PersistentVolume>),
    /// Say something about an object.
    Event {
        /// The object.
        object: Object,
        /// Good or bad news.
        level: Level,
        /// The reason, as Kubernetes gives it.
        reason: &'static str,
        /// The message.
        message: String,
    },
}

impl Action {
    /// A warning about a claim.
    pub fn warn(claim: &Arc<PersistentVolumeClaim>, reason: &'static str, message: impl Into<String>) -> Action {
        Action::Event {
            object: Object::Claim(claim.clone()),
            level: Level::Warning,
            reason,
            message: message.into(),
        }
    }

    /// News about a claim.
    pub fn tell(claim: &Arc<PersistentVolumeClaim>, reason: &'static str, message: impl Into<String>) -> Action {
        Action::Event {
            object: Object::Claim(claim.clone()),
            level: Level::Normal,
            reason,
            message: message.into(),
        }
    }
}

/// The newest revisions that were written; 0 where nothing was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Newest {
    /// Of claims.
    pub claims: u64,
    /// Of volumes.
    pub volumes: u64,
}

impl Newest {
    fn note(&mut self, object: &Object, revision: u64) {
        let held = match object {
            Object::Claim(_) => &mut self.claims,
            Object::Volume(_) => &mut self.volumes,
        };
        *held = (*held).max(revision);
    }
}

/// Carries a list of actions out; returns what was written.
///
/// # Errors
/// What the API said to the first action that it refused; those after it are not done.
pub async fn carry_out(cluster: &Cluster, recorder: &Recorder, actions: Vec<Action>) -> Result<Newest, Error> {
    let mut newest = Newest::default();
    // A status is written after the object itself: what is expected of the object holds for the first write only.
    let mut written: Vec<Object> = Vec::new();
    for action in actions {
        match action {
            Action::Patch { object, mut patch } => {
                if !written.contains(&object) {
                    patch["metadata"]["resourceVersion"] = json!(object.revision());
                }
                newest.note(&object, object.patch(cluster, None, &patch).await?);
                written.push(object);
            }
            Action::Status { object, status } => {
                let patch = json!({ "status": status });
                newest.note(&object, object.patch(cluster, Some("status"), &patch).await?);
                written.push(object);
            }
            Action::CreateVolume(volume) => {
                match cluster.create(&Kind::of::<PersistentVolume>(), None, &*volume).await {
                    Ok(made) => newest.volumes = newest.volumes.max(made.revision()),
                    // The name is the claim's uid: it was made before, and the cache will show it.
                    Err(error) if error.is_already_exists() => {}
                    Err(error) => return Err(error),
                }
            }
            Action::DeleteVolume(volume) => {
                let kind = Kind::of::<PersistentVolume>();
                let (name, uid) = (volume.name_any(), volume.uid());
                let deletion = cluster.delete(&kind, None, &name, uid.as_deref(), Propagation::Background, None);
                newest.volumes = newest.volumes.max(deletion.await?.revision());
            }
            Action::Event {
                object,
                level,
                reason,
                message,
            } => match &object {
                Object::Claim(claim) => recorder.record(super::controller::NAME, &**claim, level, reason, message),
                Object::Volume(volume) => recorder.record(super::controller::NAME, &**volume, level, reason, message),
            },
        }
    }
    Ok(newest)
}

impl Object {
    fn revision(&self) -> Option<String> {
        match self {
            Object::Claim(claim) => claim.resource_version(),
            Object::Volume(volume) => volume.resource_version(),
        }
    }

    async fn patch(&self, cluster: &Cluster, subresource: Option<&str>, patch: &Value) -> Result<u64, Error> {
        let (kind, namespace, name) = match self {
            Object::Claim(claim) => (Kind::of::<PersistentVolumeClaim>(), claim.namespace(), claim.name_any()),
            Object::Volume(volume) => (Kind::of::<PersistentVolume>(), None, volume.name_any()),
        };
        let patched = cluster.patch(&kind, namespace.as_deref(), &name, subresource, patch);
        Ok(patched.await?.revision())
    }
}
