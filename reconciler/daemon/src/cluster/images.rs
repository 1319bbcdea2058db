//! Removing images when the disk fills, as the kubelet does: looked at every five minutes; what is wrong is an event of the Node.
//!
//! What speaks for keeping an image is in [`needed`]; what somebody asks of a node's images in [`requests`].

pub mod needed;
pub mod requests;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::Api;
use kube::api::PostParams;
use setpoint_runtime::images::collect::{Candidate, GcPolicy, plan};

/// How often the disk is looked at: nothing tells that it fills.
const LOOK: Duration = Duration::from_secs(300);
/// How long an event may take to be written.
const ANSWER: Duration = Duration::from_secs(10);

/// What keeps a node's disk from filling with images.
pub struct ImageGc {
    pub node: Arc<requests::Node>,
    pub client: kube::Client,
    pub policy: GcPolicy,
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

    async fn once(&self) -> Result<(), Failed> {
        let failed = |error: anyhow::Error| Failed {
            reason: "ImageGCFailed",
            message: format!("{error:#}"),
        };
        let now = (self.node.now)();
        let images = &self.node.images;
        let present = images.list().map_err(|error| failed(error.into()))?;
        let used = self.node.used();
        let mut usage = images.usage().map_err(|error| failed(error.into()))?;
        let before = usage.clone();
        usage.look(&present.iter().map(|image| image.id.clone()).collect(), &used, now);
        if usage != before {
            images.write_usage(&usage).map_err(|error| failed(error.into()))?;
        }
        let disk = images.disk().map_err(|error| failed(error.into()))?;
        if disk.capacity == 0 {
            return Err(Failed {
                reason: "InvalidDiskCapacity",
                message: "invalid capacity 0 on image filesystem".to_owned(),
            });
        }
        if disk.used_percent() < u64::from(self.policy.high) || self.policy.high >= 100 {
            return Ok(());
        }
        let kept = needed::kept(&*self.node.records).await.map_err(failed)?;
        let standings = needed::look(images, &used, &kept).map_err(failed)?;
        let candidates = standings.into_iter().map(|standing| {
            let seen = usage.of(&standing.image.id);
            let wanted = standing.used || standing.needed || standing.history || standing.image.pinned;
            Candidate {
                size: standing.image.size,
                detected: seen.map_or(now, |seen| seen.detected),
                last_used: seen.and_then(|seen| seen.last_used),
                // One that was fetched again was first seen long before that.
                kept: wanted || standing.is_young(now),
                id: standing.image.id,
            }
        });
        let candidates = candidates.collect();
        let planned = plan(disk, self.policy, candidates, now);
        for id in &planned.remove {
            // Removing takes long: somebody may have begun to use this one meanwhile.
            if images.is_wanted(id) || self.node.used().contains(id) {
                continue;
            }
            tracing::info!(
                image = id,
                used = disk.used_percent(),
                "removing an image: the disk fills"
            );
            images.remove(id).await.map_err(|error| failed(error.into()))?;
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
        let now = (self.node.now)();
        let node = &self.node.name;
        let event = Event {
            metadata: ObjectMeta {
                name: Some(format!("{node}.{:x}", now.as_nanosecond())),
                namespace: Some("default".to_owned()),
                ..ObjectMeta::default()
            },
            involved_object: ObjectReference {
                kind: Some("Node".to_owned()),
                name: Some(node.clone()),
                uid: Some(node.clone()),
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
                host: Some(node.clone()),
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
