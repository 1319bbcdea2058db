//! What is asked of a node's images: `nodes/prune`, for room, since the daemon alone knows what is about to be used; and `nodes/images`, which of some
//! images the node lacks.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt as _;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use setpoint_api::Status;
use setpoint_engine::Records;
use setpoint_runtime::Runtime;
use setpoint_runtime::images::ImageStore;
use setpoint_server::{ServedSubresource, SubresourceHandler, SubresourceRequest};

use super::needed::{self, Pruned, Wish};

/// What requests about a node's images need.
pub struct Node {
    pub name: String,
    pub images: Arc<ImageStore>,
    pub runtime: Runtime,
    pub records: Arc<dyn Records>,
    pub now: Arc<dyn Fn() -> jiff::Timestamp + Send + Sync>,
}

impl Node {
    /// The images whose layers a container has, by id.
    pub fn used(&self) -> BTreeSet<String> {
        let sandboxes = self.runtime.sandboxes();
        let containers = sandboxes.iter().flat_map(|sandbox| &sandbox.containers);
        containers
            .flat_map(|container| container.images().map(str::to_owned))
            .collect()
    }

    async fn prune(&self, wish: Wish) -> anyhow::Result<Pruned> {
        let kept = needed::kept(&*self.records).await?;
        let used = || Ok(self.used());
        let (pruned, doomed) = needed::prune(&self.images, used, &kept, wish, (self.now)()).await?;
        tracing::info!(
            images = pruned.removed.len(),
            bytes = pruned.freed,
            dry_run = pruned.dry_run,
            "pruned images by request"
        );
        // Files may take longer than a request has; what a crash leaves goes at the next start.
        tokio::task::spawn_blocking(move || {
            if let Err(error) = doomed.remove() {
                tracing::warn!(%error, "layers that no image needs stay until the next start");
            }
        });
        Ok(pruned)
    }
}

/// How many images are asked about at once.
pub const MOST_NAMES: usize = 100;
/// How many registries are asked at a time.
const AT_ONCE: usize = 8;
/// How long registries have to say how large their images are.
const ANSWER: Duration = Duration::from_secs(8);

/// Which images somebody asks about.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Names {
    names: Vec<String>,
}

/// An image that a node does not have.
#[derive(Debug, Serialize, Deserialize)]
pub struct Lacking {
    /// What it is called.
    pub name: String,
    /// How many bytes have to be fetched, as its layers are packed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Why that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unknown: Option<String>,
}

/// Says which images are not here, and asks their registries how large they are, with this machine's credentials.
async fn lacking(images: Arc<ImageStore>, names: Vec<String>) -> Vec<Lacking> {
    let deadline = tokio::time::Instant::now() + ANSWER;
    let asked = names.into_iter().map(|name| {
        let images = images.clone();
        async move {
            let (bytes, unknown) = match tokio::time::timeout_at(deadline, images.missing(&name)).await {
                Ok(Ok(None)) => return None,
                Ok(Ok(bytes)) => (bytes, None),
                Ok(Err(error)) => (None, Some(format!("{:#}", anyhow::Error::from(error)))),
                Err(_) => (None, None),
            };
            Some(Lacking { name, bytes, unknown })
        }
    });
    let answers = futures::stream::iter(asked).buffered(AT_ONCE);
    answers.filter_map(async |answer| answer).collect().await
}

/// Answers for this process' node once it is there.
#[derive(Default)]
pub struct Requests {
    node: OnceLock<Arc<Node>>,
}

impl Requests {
    /// Starts to answer, once.
    pub fn connect(&self, node: Arc<Node>) {
        if self.node.set(node).is_err() {
            tracing::error!("the node's images were joined twice; the first stay");
        }
    }
}

#[async_trait]
impl SubresourceHandler for Requests {
    fn serves(&self) -> Vec<ServedSubresource> {
        let served = ["prune", "images"].map(|name| ServedSubresource {
            group: "",
            resource: "nodes",
            name,
            verbs: &["create"],
            of_absent: false,
        });
        served.to_vec()
    }

    async fn call(&self, request: SubresourceRequest) -> Result<Value, Status> {
        let node = self.node.get().filter(|node| node.name == request.name).cloned();
        let Some(node) = node else {
            let message = format!("the node {} is not connected, please try again", request.name);
            return Err(Status::unavailable(&message));
        };
        if request.subresource == "images" {
            let Names { names } = serde_json::from_slice(&request.body)
                .map_err(|error| Status::bad_request(format!("this does not name images: {error}")))?;
            if names.len() > MOST_NAMES {
                return Err(Status::bad_request(format!(
                    "at most {MOST_NAMES} images can be asked about at once"
                )));
            }
            return Ok(json!({"lacking": lacking(node.images.clone(), names).await}));
        }
        let wish: Wish = match request.body.is_empty() {
            true => Wish::default(),
            false => serde_json::from_slice(&request.body)
                .map_err(|error| Status::bad_request(format!("this does not say what may go: {error}")))?,
        };
        // A task of its own: a client that goes away must not cut it off between two steps.
        let pruned = tokio::spawn(async move { node.prune(wish).await }).await;
        let pruned = pruned
            .map_err(|error| Status::internal(format!("the request was cut off: {error}")))?
            .map_err(|error| Status::internal(format!("{error:#}")))?;
        serde_json::to_value(pruned).map_err(Status::internal)
    }
}
