//! `setpoint status`: the cluster at a glance.

use anyhow::Context;
use clap::Args;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};
use serde::Serialize;
use serde_json::Value;
use setpoint_engine::api::{App, Repository};
use setpoint_engine::state::short;

use crate::cli::{Format, Global};
use crate::{apps, client, output, past, wall_clock};

/// Options of `setpoint status`.
#[derive(Args)]
pub struct Status {}

#[derive(Serialize)]
struct Report {
    version: String,
    repositories: Vec<RepositoryReport>,
    apps: Vec<Value>,
    nodes: Vec<NodeReport>,
    /// What of the past can be read; nothing of a cluster that is no Setpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    history: Option<past::Window>,
    deployments: Vec<DeploymentReport>,
    pods: PodCounts,
    /// Pods that are neither ready nor done, with the reason.
    troubled: Vec<PodReport>,
}

#[derive(Serialize)]
struct RepositoryReport {
    name: String,
    url: String,
    branch: Option<String>,
    revision: Option<String>,
    reason: String,
}

#[derive(Serialize)]
struct NodeReport {
    name: String,
    ready: bool,
    address: String,
}

#[derive(Serialize)]
struct DeploymentReport {
    namespace: String,
    name: String,
    wanted: i32,
    ready: i32,
    updated: i32,
}

#[derive(Default, Serialize)]
struct PodCounts {
    total: usize,
    ready: usize,
    restarts: i64,
}

#[derive(Serialize)]
struct PodReport {
    namespace: String,
    name: String,
    reason: String,
}

impl Status {
    /// Prints the report.
    pub async fn run(self, global: Global) -> anyhow::Result<()> {
        let client = client::connect(&global).await?;
        let report = report(&client).await?;
        match global.output {
            Format::Json => output::json(&report)?,
            Format::Text => print(&report),
        }
        Ok(())
    }
}

async fn report(client: &Client) -> anyhow::Result<Report> {
    let version = client
        .apiserver_version()
        .await
        .context("cannot ask for the version")?
        .git_version;
    let everything = ListParams::default();
    let nodes = Api::<Node>::all(client.clone())
        .list(&everything)
        .await
        .context("cannot list nodes")?;
    let deployments = Api::<Deployment>::all(client.clone())
        .list(&everything)
        .await
        .context("cannot list deployments")?;
    let pods = Api::<Pod>::all(client.clone())
        .list(&everything)
        .await
        .context("cannot list pods")?;
    let mut counts = PodCounts {
        total: pods.items.len(),
        ..PodCounts::default()
    };
    let mut troubled = Vec::new();
    for pod in &pods.items {
        let statuses = pod.status.as_ref().and_then(|s| s.container_statuses.as_ref());
        counts.restarts += statuses
            .into_iter()
            .flatten()
            .map(|s| i64::from(s.restart_count))
            .sum::<i64>();
        match trouble(pod) {
            None => counts.ready += 1,
            Some(reason) => troubled.push(PodReport {
                namespace: pod.namespace().unwrap_or_default(),
                name: pod.name_any(),
                reason,
            }),
        }
    }
    let mut repositories = Api::<Repository>::all(client.clone())
        .list(&everything)
        .await
        .context("cannot list repositories")?
        .items;
    repositories.sort_by_key(ResourceExt::name_any);
    let mut apps = Api::<App>::all(client.clone())
        .list(&everything)
        .await
        .context("cannot list apps")?
        .items;
    apps.sort_by_key(|app| (app.namespace(), app.name_any()));
    Ok(Report {
        version,
        repositories: repositories.iter().map(repository).collect(),
        apps: apps.iter().map(apps::shown).collect(),
        nodes: nodes.items.iter().map(node).collect(),
        history: past::window_if_told(client).await?,
        deployments: deployments.items.iter().map(deployment).collect(),
        pods: counts,
        troubled,
    })
}

fn repository(repository: &Repository) -> RepositoryReport {
    let status = repository.status.clone().unwrap_or_default();
    RepositoryReport {
        name: repository.name_any(),
        url: repository.spec.url.clone(),
        branch: status.branch,
        revision: status.revision,
        reason: status.reason,
    }
}

fn node(node: &Node) -> NodeReport {
    let status = node.status.as_ref();
    let conditions = status.and_then(|s| s.conditions.as_ref()).into_iter().flatten();
    let addresses = status.and_then(|s| s.addresses.as_ref()).into_iter().flatten();
    NodeReport {
        name: node.name_any(),
        ready: conditions.into_iter().any(|c| c.type_ == "Ready" && c.status == "True"),
        address: addresses
            .into_iter()
            .find(|a| a.type_ == "InternalIP")
            .map(|a| a.address.clone())
            .unwrap_or_default(),
    }
}

fn deployment(deployment: &Deployment) -> DeploymentReport {
    let status = deployment.status.as_ref();
    DeploymentReport {
        namespace: deployment.namespace().unwrap_or_default(),
        name: deployment.name_any(),
        wanted: deployment.spec.replicas.unwrap_or(1),
        ready: status.and_then(|s| s.ready_replicas).unwrap_or(0),
        updated: status.and_then(|s| s.updated_replicas).unwrap_or(0),
    }
}

/// Says why a pod is neither ready nor done; `None` when it is.
fn trouble(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref();
    let conditions = || status.and_then(|s| s.conditions.as_ref()).into_iter().flatten();
    let done = status.and_then(|s| s.phase.as_deref()) == Some("Succeeded");
    if done || conditions().any(|c| c.type_ == "Ready" && c.status == "True") {
        return None;
    }
    if pod.metadata.deletion_timestamp.is_some() {
        return Some("terminating".to_string());
    }
    let statuses = status.and_then(|s| s.container_statuses.as_ref()).into_iter().flatten();
    for container in statuses {
        let state = container.state.as_ref();
        let said = state
            .and_then(|s| s.waiting.as_ref())
            .map(|w| (w.reason.as_deref(), w.message.as_deref()))
            .or_else(|| {
                state
                    .and_then(|s| s.terminated.as_ref())
                    .map(|t| (t.reason.as_deref(), t.message.as_deref()))
            });
        if let Some((reason, message)) = said {
            let message = message.map(|m| format!(": {m}")).unwrap_or_default();
            return Some(format!("{}: {}{message}", container.name, reason.unwrap_or("waiting")));
        }
    }
    conditions()
        .find(|c| c.status != "True" && c.message.is_some())
        .and_then(|c| c.message.clone())
        .or_else(|| Some("not ready yet".to_string()))
}

fn print(report: &Report) {
    let mut out = format!("setpoint {}\n\n", report.version);
    for repository in &report.repositories {
        let branch = repository.branch.as_deref().unwrap_or("?");
        let revision = repository.revision.as_deref().map(short).unwrap_or_default();
        out.push_str(&format!(
            "repository {}  {branch} {revision}  {}\n",
            repository.name, repository.url
        ));
        if !repository.reason.is_empty() {
            out.push_str(&format!("  {}\n", output::paint("31", &repository.reason)));
        }
    }
    for node in &report.nodes {
        let ready = if node.ready { "ready" } else { "NOT READY" };
        out.push_str(&format!("node {}  {ready}  {}\n", node.name, node.address));
    }
    out.push_str(&format!(
        "pods  {} of {} ready, {} restarts\n",
        report.pods.ready, report.pods.total, report.pods.restarts
    ));
    if let Some(window) = &report.history {
        let reach = window.reach(wall_clock(), &jiff::tz::TimeZone::system());
        out.push_str(&format!("history  {reach}\n"));
    }
    output::text(&out);
    if !report.apps.is_empty() {
        output::text("\n");
        let rows: Vec<Vec<String>> = report.apps.iter().map(app_row).collect();
        output::table(&["APP", "NAMESPACE", "REVISION", "HEALTH", "REASON"], &rows);
    }
    if !report.deployments.is_empty() {
        output::text("\n");
        let rows: Vec<Vec<String>> = report
            .deployments
            .iter()
            .map(|d| {
                vec![
                    d.namespace.clone(),
                    d.name.clone(),
                    format!("{}/{}", d.ready, d.wanted),
                    format!("{}/{}", d.updated, d.wanted),
                ]
            })
            .collect();
        output::table(&["NAMESPACE", "DEPLOYMENT", "READY", "UPDATED"], &rows);
    }
    if !report.troubled.is_empty() {
        output::text("\n");
        let rows: Vec<Vec<String>> = report
            .troubled
            .iter()
            .map(|pod| vec![pod.namespace.clone(), pod.name.clone(), pod.reason.clone()])
            .collect();
        output::table(&["NAMESPACE", "POD", "NOT READY BECAUSE"], &rows);
    }
}

fn app_row(app: &Value) -> Vec<String> {
    let text = |field: &str| app[field].as_str().unwrap_or_default().to_owned();
    vec![
        text("name"),
        text("target"),
        short(&text("revision")),
        apps::coloured(&text("health")),
        text("reason"),
    ]
}
