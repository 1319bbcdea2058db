//! Keeping the Node: its lease renewed, its status true, the object there.
//!
//! The agent watches its own Node. A status that says something else than was written last (the node controller took this
//! agent for dead while only it stood still, or somebody edited it) is written again at once, and a Node that was deleted is
//! registered again. What somebody writes over and over is answered once a second at most.

use std::path::PathBuf;
use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Facts, Identity, Pressure, register, says, status, within, write_status};
use crate::Now;
use crate::containers::chain;

/// How often the lease is renewed and the machine looked at.
const RENEW: Duration = Duration::from_secs(10);
/// How often the status is written though nothing changed.
const HEARTBEAT: Duration = Duration::from_secs(300);
/// How long the Node is left to others after it was written.
const CALM: Duration = Duration::from_secs(1);
/// How long after a failure the Node is written again.
const RETRY: Duration = Duration::from_secs(5);
/// The namespace of the nodes' leases.
const LEASES: &str = "kube-node-lease";

async fn renew_lease(client: &Client, identity: &Identity, uid: &str, now: Timestamp) -> Result<(), kube::Error> {
    let api: Api<Lease> = Api::namespaced(client.clone(), LEASES);
    let spec = json!({
        "holderIdentity": identity.name,
        "leaseDurationSeconds": 40,
        "renewTime": now.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string(),
    });
    match within(api.patch(
        &identity.name,
        &PatchParams::default(),
        &Patch::Merge(&json!({"spec": spec})),
    ))
    .await
    {
        Err(kube::Error::Api(answer)) if answer.code == 404 => {
            let lease = json!({
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {
                    "name": identity.name, "namespace": LEASES,
                    "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": identity.name, "uid": uid}],
                },
                "spec": spec,
            });
            let lease: Lease = serde_json::from_value(lease).map_err(kube::Error::SerdeError)?;
            within(api.create(&PostParams::default(), &lease)).await.map(drop)
        }
        result => result.map(drop),
    }
}

/// What the API says of the Node, as far as it matters here.
#[derive(Debug, PartialEq)]
enum Shown {
    /// What was written last.
    AsWritten,
    /// Another status.
    Otherwise(Value),
    /// There is no Node.
    Gone,
}

/// Why it is not known what the API says; that passes.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error("the watch broke off, it is taken up again")]
    Watch(#[source] watcher::Error),
    #[error("its status cannot be read")]
    Status(#[source] serde_json::Error),
}

/// What is known of the Node.
struct Keeper {
    client: Client,
    identity: Identity,
    data_dir: PathBuf,
    now: Now,
    uid: String,
    /// The status as it was written last.
    written: Value,
    written_at: Timestamp,
    facts: Facts,
    pressure: Pressure,
    shown: Shown,
    /// Whether a list that began has not yet named the Node.
    missing: bool,
}

impl Keeper {
    /// Takes what the watch shows.
    fn see(&mut self, event: watcher::Event<Node>) -> Result<(), Lost> {
        match event {
            watcher::Event::Init => self.missing = true,
            watcher::Event::Apply(node) | watcher::Event::InitApply(node) => {
                self.missing = false;
                let found = serde_json::to_value(&node.status).map_err(Lost::Status)?;
                self.shown = if says(&found, &self.written) {
                    Shown::AsWritten
                } else {
                    Shown::Otherwise(found)
                };
            }
            watcher::Event::InitDone if !self.missing => {}
            watcher::Event::InitDone | watcher::Event::Delete(_) => self.shown = Shown::Gone,
        }
        Ok(())
    }

    async fn renew(&self) {
        if let Err(error) = renew_lease(&self.client, &self.identity, &self.uid, (self.now)()).await {
            tracing::warn!(
                node = self.identity.name,
                error = chain(&error),
                "the node's lease could not be renewed"
            );
        }
    }

    /// Whether the status is to be written: somebody changed it, the machine changed, or it is time.
    fn is_due(&self, facts: &Facts, pressure: Pressure) -> bool {
        let since = (self.now)().duration_since(self.written_at).unsigned_abs();
        self.shown != Shown::AsWritten || *facts != self.facts || pressure != self.pressure || since >= HEARTBEAT
    }

    /// Writes the Node as it should be; returns whether that succeeded.
    async fn write(&mut self, facts: Facts, pressure: Pressure) -> bool {
        let time = (self.now)();
        let result = match &self.shown {
            Shown::Gone => register(&self.client, &self.identity, &facts, pressure, time)
                .await
                .map(|(status, uid)| {
                    self.uid = uid;
                    status
                }),
            Shown::AsWritten | Shown::Otherwise(_) => {
                // A condition that somebody turned turns back now, not when it was written first.
                let old = match &self.shown {
                    Shown::Otherwise(found) => found,
                    _ => &self.written,
                };
                let status = status(&self.identity, &facts, pressure, Some(old), time);
                let api: Api<Node> = Api::all(self.client.clone());
                write_status(&api, &self.identity.name, &status).await.map(|()| status)
            }
        };
        match result {
            Ok(status) => {
                (self.written, self.written_at, self.facts, self.pressure) = (status, time, facts, pressure);
                self.shown = Shown::AsWritten;
                true
            }
            Err(kube::Error::Api(answer)) if answer.code == 404 && self.shown != Shown::Gone => {
                // The next round registers it.
                self.shown = Shown::Gone;
                true
            }
            Err(error) => {
                tracing::warn!(
                    node = self.identity.name,
                    error = chain(&error),
                    "the node's status could not be written"
                );
                false
            }
        }
    }
}

/// Renews the lease every ten seconds and keeps the status as it should be, until `stop`.
pub async fn keep(
    client: Client,
    identity: Identity,
    data_dir: PathBuf,
    (written, uid): (Value, String),
    now: Now,
    stop: CancellationToken,
) {
    let api: Api<Node> = Api::all(client.clone());
    let config = watcher::Config::default().fields(&format!("metadata.name={}", identity.name));
    let mut events = std::pin::pin!(watcher(api, config).default_backoff());
    // Time passes by itself only here: a lease is a promise to be heard from.
    let mut ticks = tokio::time::interval(RENEW);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut keeper = Keeper {
        facts: Facts::read(&data_dir),
        written_at: now(),
        client,
        identity,
        data_dir,
        now,
        uid,
        written,
        pressure: Pressure::default(),
        shown: Shown::AsWritten,
        missing: false,
    };
    let mut not_before = Instant::now();
    loop {
        let wrong = keeper.shown != Shown::AsWritten;
        tokio::select! {
            () = stop.cancelled() => return,
            Some(event) = events.next() => {
                if let Err(error) = event.map_err(Lost::Watch).and_then(|event| keeper.see(event)) {
                    tracing::warn!(node = keeper.identity.name, error = chain(&error), "lost sight of the node");
                }
                continue;
            }
            _ = ticks.tick() => keeper.renew().await,
            () = tokio::time::sleep_until(not_before), if wrong => {
                // Whoever took the agent for dead is to hear of it first.
                keeper.renew().await;
            }
        }
        let (facts, pressure) = (Facts::read(&keeper.data_dir), Pressure::read(&keeper.data_dir));
        if Instant::now() >= not_before && keeper.is_due(&facts, pressure) {
            let pause = if keeper.write(facts, pressure).await {
                CALM
            } else {
                RETRY
            };
            not_before = Instant::now() + pause;
        }
    }
}

#[cfg(test)]
mod tests;
