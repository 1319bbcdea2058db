//! Removing images when the disk fills, as the kubelet does: looked at every five minutes; what is wrong is an event of the Node.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::Api;
use kube::api::PostParams;
use setpoint_engine::Records;
use setpoint_runtime::Runtime;
use setpoint_runtime::images::ImageStore;
use setpoint_runtime::images::collect::{Candidate, GcPolicy, plan};

/// How often the disk is looked at: nothing tells that it fills.
const LOOK: Duration = Duration::from_secs(300);
/// How long an event may take to be written.
const ANSWER: Duration = Duration::from_secs(10);

/// What keeps a node's disk from filling with images.
pub struct ImageGc {
    pub images: Arc<ImageStore>,
    pub runtime: Runtime,
    pub records: Arc<dyn Records>,
    pub client: kube::Client,
    pub node: String,
    pub policy: GcPolicy,
    pub now: Arc<dyn Fn() -> jiff::Timestamp + Send + Sync>,
}

/// Why a collection did not do what it should.
struct Failed {
    reason: &'static str,
    message: String,
}

impl ImageGc {
    /// Looks from time to time until it is dropped.
    pub async fn run(self) -> anyhow::Result<()> {
        loop {
            if let Err(Failed { reason, message }) = self.once().await {
                tracing::warn!(reason, message, "images could not be removed as they should");
                if let Err(error) = self.tell(reason, &message).await {
                    tracing::warn!(error = format!("{error:#}"), "cannot write an event of the node");
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// The images whose layers a container has, by id.
    fn used(&self) -> BTreeSet<String> {
        let sandboxes = self.runtime.sandboxes();
        let containers = sandboxes.iter().flat_map(|sandbox| &sandbox.containers);
        containers
            .flat_map(|container| container.images().map(str::to_owned))
            .collect()
    }

    async fn once(&self) -> Result<(), Failed> {
        let failed = |error: anyhow::Error| Failed {
            reason: "ImageGCFailed",
            message: format!("{error:#}"),
        };
        let now = (self.now)();
        let images = self.images.list().map_err(|error| failed(error.into()))?;
        let used = self.used();
        let mut usage = self.images.usage().map_err(|error| failed(error.into()))?;
        let before = usage.clone();
        let present = images.iter().map(|image| image.id.clone()).collect();
        usage.look(&present, &used, now);
        if usage != before {
            self.images.write_usage(&usage).map_err(|error| failed(error.into()))?;
        }
        let disk = self.images.disk().map_err(|error| failed(error.into()))?;
        if disk.capacity == 0 {
            return Err(Failed {
                reason: "InvalidDiskCapacity",
                message: "invalid capacity 0 on image filesystem".to_owned(),
            });
        }
        if disk.used_percent() < u64::from(self.policy.high) || self.policy.high >= 100 {
            return Ok(());
        }
        let kept = kept(&*self.records).await.map_err(failed)?;
        let mut candidates = Vec::new();
        for image in &images {
            let answers = self
                .images
                .answers_to(&image.id)
                .map_err(|error| failed(error.into()))?;
            let seen = usage.of(&image.id);
            candidates.push(Candidate {
                size: image.size,
                detected: seen.map_or(now, |seen| seen.detected),
                last_used: seen.and_then(|seen| seen.last_used),
                kept: used.contains(&image.id)
                    || self.images.is_wanted(&image.id)
                    || answers.iter().any(|answer| kept.contains(answer)),
                id: image.id.clone(),
            });
        }
        let planned = plan(disk, self.policy, candidates, now);
        for id in &planned.remove {
            // Removing takes long: somebody may have begun to use this one meanwhile.
            if self.images.is_wanted(id) || self.used().contains(id) {
                continue;
            }
            tracing::info!(
                image = id,
                used = disk.used_percent(),
                "removing an image: the disk fills"
            );
            self.images.remove(id).await.map_err(|error| failed(error.into()))?;
        }
        if planned.falls_short() {
            return Err(Failed {
                reason: "FreeDiskSpaceFailed",
                message: format!(
                    "Failed to garbage collect required amount of images. Attempted to free {} bytes, but only found {} bytes eligible to free.",
                    planned.wanted, planned.found
                ),
            });
        }
        Ok(())
    }

    /// Writes an event of the Node.
    async fn tell(&self, reason: &str, message: &str) -> anyhow::Result<()> {
        let now = (self.now)();
        let event = Event {
            metadata: ObjectMeta {
                name: Some(format!("{}.{:x}", self.node, now.as_nanosecond())),
                namespace: Some("default".to_owned()),
                ..ObjectMeta::default()
            },
            involved_object: ObjectReference {
                kind: Some("Node".to_owned()),
                name: Some(self.node.clone()),
                uid: Some(self.node.clone()),
                ..ObjectReference::default()
            },
            reason: Some(reason.to_owned()),
            message: Some(message.chars().take(1024).collect()),
            type_: Some("Warning".to_owned()),
            count: Some(1),
            first_timestamp: Some(Time(now)),
            last_timestamp: Some(Time(now)),
            source: Some(EventSource {
                component: Some("kubelet".to_owned()),
                host: Some(self.node.clone()),
            }),
            ..Event::default()
        };
        let api: Api<Event> = Api::namespaced(self.client.clone(), "default");
        let written = tokio::time::timeout(ANSWER, api.create(&PostParams::default(), &event)).await;
        written
            .context("no answer in time")?
            .map(drop)
            .context("it was refused")
    }
}

/// The digests of the images that apps may go back to.
pub async fn kept(records: &dyn Records) -> anyhow::Result<BTreeSet<String>> {
    match setpoint_engine::images_kept(records)
        .await
        .context("cannot read what apps may go back to")?
    {
        Some(kept) => Ok(kept),
        None => bail!("the record of an app is damaged, so that it is not known which images it may go back to"),
    }
}
