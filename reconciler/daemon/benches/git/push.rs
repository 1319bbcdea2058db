//! A push of a new version of an app of three pods, and the same without git.

use std::time::{Duration, Instant};

use anyhow::Context;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use serde_json::json;
use setpoint_engine::api::{App, NAMESPACE};

use crate::fleet::Fleet;
use crate::table::{Times, row};
use crate::watch::Watch;
use crate::workload::{done, is_ready};

/// Before each run: the watch on the repository looks once more half a second after the last change, pods of the last run end.
const REST: Duration = Duration::from_secs(1);

const WEB: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{Release.Name}}
spec:
  replicas: 3
  selector:
    matchLabels: { app: {{Release.Name}} }
  template:
    metadata:
      labels: { app: {{Release.Name}} }
    spec:
      containers:
        - name: app
          image: {{Values.image}}
          env:
            - name: MESSAGE
              value: {{Values.message}}
          ports:
            - { name: http, containerPort: 8080 }
          readinessProbe:
            httpGet: { path: /healthz, port: http }
            periodSeconds: 1
---
apiVersion: v1
kind: Service
metadata:
  name: {{Release.Name}}
spec:
  selector: { app: {{Release.Name}} }
  ports:
    - { port: 80, targetPort: http }
";

/// The app's files, and the declaration of it and of the app whose objects are changed by hand.
pub fn files() -> Vec<(String, String)> {
    let toml = "\
[[app]]
name = \"web\"
path = \"web\"
values = [\"web.yaml\"]

[[app]]
name = \"drift\"
path = \"drift\"
";
    vec![
        ("setpoint.toml".to_owned(), toml.to_owned()),
        ("web/web.yaml.hbs".to_owned(), WEB.to_owned()),
        values(0),
    ]
}

fn values(run: usize) -> (String, String) {
    let text = format!("image: {}\nmessage: {}\n", image(run), message(run));
    ("web.yaml".to_owned(), text)
}

/// The image changes with every run, and so does the message: every run has pods that no earlier one had.
fn image(run: usize) -> String {
    format!("setpoint.dev/demo:v{}", run % 2 + 1)
}

fn message(run: usize) -> String {
    format!("run-{run}")
}

/// Prints the rows.
pub async fn rows(fleet: &Fleet, client: &Client, runs: usize) -> anyhow::Result<()> {
    let mut apps: Watch<App> = Watch::start(Api::namespaced(client.clone(), NAMESPACE), "");
    settled(&mut apps, "web", &fleet.head()?).await?;
    let (ready, finished) = patched(client, runs).await?;
    row("peer: patch through the API -> first new replica ready", ready);
    row("peer: patch through the API -> roll-out of 3 done", finished);

    let mut followed = Followed::start(client, "web");
    let mut itself = Times::new();
    let mut from_start: [Times; 3] = Default::default();
    let mut from_return: [Times; 3] = Default::default();
    for run in 1..=runs {
        let commit = fleet.commit(&[values(run)])?;
        tokio::time::sleep(REST).await;
        let pushed = fleet.push().await?;
        let (ready, finished) = followed.rolled_out(run).await?;
        let healthy = settled(&mut apps, "web", &commit).await?;
        itself.push(pushed.itself());
        for (place, moment) in [ready, finished, healthy].into_iter().enumerate() {
            from_start[place].push(moment.duration_since(pushed.started));
            // Zero when it came about before git had ended.
            from_return[place].push(moment.saturating_duration_since(pushed.returned));
        }
    }
    row("floor: git push, started -> returned", itself);
    let what = ["first new replica ready", "roll-out of 3 done", "`status` says Healthy"];
    for (what, times) in what.iter().zip(from_start) {
        row(&format!("push started -> {what}"), times);
    }
    for (what, times) in what.iter().zip(from_return) {
        row(&format!("push returned -> {what}"), times);
    }
    Ok(())
}

/// Waits until an app is healthy at a commit.
async fn settled(apps: &mut Watch<App>, name: &str, commit: &str) -> anyhow::Result<Instant> {
    let healthy = |app: &App| {
        app.name_any() == name
            && app
                .status
                .as_ref()
                .is_some_and(|status| status.health == "Healthy" && status.revision.as_deref() == Some(commit))
    };
    let (moment, _) = apps.until(&format!("{name} is healthy at {commit}"), healthy).await?;
    Ok(moment)
}

/// A Deployment and its pods.
struct Followed {
    pods: Watch<Pod>,
    deployments: Watch<Deployment>,
    name: String,
}

impl Followed {
    fn start(client: &Client, name: &str) -> Followed {
        Followed {
            pods: Watch::start(Api::default_namespaced(client.clone()), &format!("app={name}")),
            deployments: Watch::start(Api::default_namespaced(client.clone()), ""),
            name: name.to_owned(),
        }
    }

    /// Waits for a run's first pod and for the end of its roll-out.
    async fn rolled_out(&mut self, run: usize) -> anyhow::Result<(Instant, Instant)> {
        let message = message(run);
        let is_new = |pod: &Pod| says(pod.spec.as_ref(), &message) && is_ready(pod);
        let (ready, _) = self.pods.until("a new replica is ready", is_new).await?;
        let finished = |deployment: &Deployment| {
            let generation = deployment.metadata.generation.unwrap_or_default();
            deployment.name_any() == self.name
                && says(deployment.spec.template.spec.as_ref(), &message)
                && done(deployment, generation)
        };
        let (finished, _) = self.deployments.until("the roll-out is done", finished).await?;
        Ok((ready, finished))
    }
}

fn says(spec: Option<&k8s_openapi::api::core::v1::PodSpec>, message: &str) -> bool {
    let containers = spec.map(|spec| spec.containers.as_slice()).unwrap_or_default();
    containers
        .iter()
        .flat_map(|container| container.env.iter().flatten())
        .any(|variable| variable.name == "MESSAGE" && variable.value.as_deref() == Some(message))
}

fn template(run: usize) -> anyhow::Result<PodTemplateSpec> {
    Ok(serde_json::from_value(json!({
        "metadata": {"labels": {"app": "plain"}},
        "spec": {"containers": [{
            "name": "app",
            "image": image(run),
            "env": [{"name": "MESSAGE", "value": message(run)}],
            "ports": [{"name": "http", "containerPort": 8080}],
            "readinessProbe": {"httpGet": {"path": "/healthz", "port": "http"}, "periodSeconds": 1},
        }]},
    }))?)
}

/// The same change of the same Deployment by a patch, without git, templates and plan.
async fn patched(client: &Client, runs: usize) -> anyhow::Result<(Times, Times)> {
    let api: Api<Deployment> = Api::default_namespaced(client.clone());
    let deployment: Deployment = serde_json::from_value(json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "plain"},
        "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "plain"}}, "template": template(0)?},
    }))?;
    let mut followed = Followed::start(client, "plain");
    api.create(&PostParams::default(), &deployment).await?;
    followed.rolled_out(0).await?;
    let (mut ready, mut finished) = (Times::new(), Times::new());
    for run in 1..=runs {
        tokio::time::sleep(REST).await;
        let patch = Patch::Strategic(json!({"spec": {"template": template(run)?}}));
        let start = Instant::now();
        api.patch("plain", &PatchParams::default(), &patch)
            .await
            .context("cannot patch the Deployment")?;
        let (at_ready, at_finished) = followed.rolled_out(run).await?;
        ready.push(at_ready.duration_since(start));
        finished.push(at_finished.duration_since(start));
    }
    api.delete("plain", &kube::api::DeleteParams::default()).await?;
    Ok((ready, finished))
}
