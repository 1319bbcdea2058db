//! The images that a plan needs and nodes do not have, with what fetching them takes. Nodes are asked; one that cannot tell is passed over.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt as _};
use serde_json::json;

use crate::cluster::images::requests::{Lacking, MOST_NAMES};
use crate::commands::image::size;
use crate::output;

/// An image that a node does not have.
#[derive(serde::Serialize)]
pub struct Wanted {
    node: String,
    #[serde(flatten)]
    image: Lacking,
}

/// Asks every node which of these images it lacks.
pub async fn lacking(client: &Client, names: &BTreeSet<String>) -> Vec<Wanted> {
    let names: Vec<&String> = names.iter().take(MOST_NAMES).collect();
    let mut wanted = Vec::new();
    if names.is_empty() {
        return wanted;
    }
    // Whoever may plan need not know of nodes; the plan is as good without this.
    let nodes = match Api::<Node>::all(client.clone()).list(&ListParams::default()).await {
        Ok(nodes) => nodes.items,
        Err(error) => {
            tracing::debug!(%error, "the nodes are not asked for images");
            return wanted;
        }
    };
    for node in nodes.iter().map(|node| node.name_any()) {
        let asked = async {
            let request = http::Request::post(format!("/api/v1/nodes/{node}/images"))
                .header(http::header::CONTENT_TYPE, "application/json")
                .body(serde_json::to_vec(&json!({"names": names}))?)?;
            anyhow::Ok(client.request::<Answer>(request).await?.lacking)
        };
        match asked.await {
            Ok(images) => wanted.extend(images.into_iter().map(|image| Wanted {
                node: node.clone(),
                image,
            })),
            Err(error) => tracing::debug!(%error, node, "the node does not say which images it lacks"),
        }
    }
    wanted
}

#[derive(serde::Deserialize)]
struct Answer {
    lacking: Vec<Lacking>,
}

/// Prints them for people.
pub fn print(wanted: &[Wanted]) {
    if wanted.is_empty() {
        return;
    }
    output::text(&format!("{}\n", output::paint("1", "images to be fetched")));
    for Wanted { node, image } in wanted {
        let what = match (image.bytes, &image.unknown) {
            (Some(0), _) => "its layers are there".to_owned(),
            (Some(bytes), _) => size(bytes),
            (None, Some(why)) => output::paint("33", why),
            (None, None) => "its registry did not answer in time".to_owned(),
        };
        output::text(&format!("  {:<40} {node:<16} {what}\n", image.name));
    }
}
