//! The rows of the table.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::watcher;
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

use crate::floor;
use crate::instance::{DEADLINE, Instance, cpu_time, pss_kb};
use crate::table::{Times, head, ms, row};
use crate::workload::{done, is_ready};

/// Measures every row and prints the table.
pub async fn all(runs: usize, idle: Duration) -> anyhow::Result<()> {
    let mut instance = Instance::new()?;
    let first_start = instance.up(&[]).await?;
    let client = instance.client().await?;
    println!(
        "{runs} runs a row; first start on an empty folder {:.0} ms\n",
        ms(first_start)
    );
    head();
    let root = instance.demo_root().await?;
    row("floor: namespaces + pivot_root + exec", floor::bare(&root, runs)?);
    match floor::crun(&root, runs)? {
        Ok(times) => row("peer: crun run, same root file system", times),
        Err(reason) => println!("peer: crun run: {reason}"),
    }
    let (running, ready, killed) = pods(&instance, &client, runs).await?;
    row("pod: create -> running", running);
    row("pod: create -> Ready", ready);
    row("container: kill -9 -> running again", killed);
    let (deleted, updated) = deployment(&client, runs).await?;
    row("pod deleted -> replacement running", deleted);
    row("Deployment of 3: updated -> done", updated);
    memory(&mut instance, &client, runs, idle).await
}

fn pod(name: &str) -> anyhow::Result<Pod> {
    Ok(serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "labels": {"bench": "pod"}},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [{
            "name": "app", "image": "setpoint.dev/demo:v1",
            "readinessProbe": {"httpGet": {"path": "/healthz", "port": 8080}},
        }]},
    }))?)
}

/// Follows pods by a watch until `wanted` is true of one of them.
async fn until<K>(api: &Api<K>, selector: &str, mut wanted: impl FnMut(&K) -> bool) -> anyhow::Result<K>
where
    K: kube::Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + 'static,
{
    let config = watcher::Config::default().fields(selector);
    let mut events = watcher(api.clone(), config).boxed();
    let follow = async {
        while let Some(event) = events.try_next().await? {
            match event {
                watcher::Event::Apply(object) | watcher::Event::InitApply(object) if wanted(&object) => {
                    return Ok(object);
                }
                _ => {}
            }
        }
        bail!("the watch ended")
    };
    tokio::time::timeout(DEADLINE, follow)
        .await
        .context("it did not come about in time")?
}

fn is_running(pod: &Pod, restarts: i32) -> bool {
    let statuses = pod.status.as_ref().and_then(|s| s.container_statuses.as_ref());
    statuses.into_iter().flatten().any(|status| {
        status.restart_count >= restarts && status.state.as_ref().is_some_and(|state| state.running.is_some())
    })
}

/// What the shim of a pod wrote down.
fn sandbox(instance: &Instance, uid: &str) -> anyhow::Result<Value> {
    let path = instance.folder().join("data/sandboxes").join(uid).join("state.json");
    let bytes = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(serde_json::from_slice(&bytes)?)
}

/// One pod a run: created, running, ready, its process killed, running again, deleted.
async fn pods(instance: &Instance, client: &Client, runs: usize) -> anyhow::Result<(Times, Times, Times)> {
    let api: Api<Pod> = Api::default_namespaced(client.clone());
    let (mut running, mut ready, mut killed) = (Vec::new(), Vec::new(), Vec::new());
    for run in 0..runs {
        let name = format!("bench-{run}");
        let selector = format!("metadata.name={name}");
        // The watch stands before the create, so that its own start is not measured.
        let mut events = watcher(api.clone(), watcher::Config::default().fields(&selector)).boxed();
        while !matches!(events.try_next().await?, Some(watcher::Event::InitDone)) {}
        let start = Instant::now();
        let uid = api
            .create(&PostParams::default(), &pod(&name)?)
            .await?
            .uid()
            .context("it has a uid")?;
        let follow = async {
            let mut was_running = None;
            while let Some(event) = events.try_next().await? {
                let watcher::Event::Apply(pod) = event else { continue };
                if is_running(&pod, 0) {
                    was_running.get_or_insert_with(|| start.elapsed());
                }
                if is_ready(&pod) {
                    return Ok((was_running.unwrap_or_else(|| start.elapsed()), start.elapsed()));
                }
            }
            bail!("the watch ended")
        };
        let (at_running, at_ready) = tokio::time::timeout(DEADLINE, follow)
            .await
            .context("the pod was not ready")??;
        running.push(at_running);
        ready.push(at_ready);

        let sandbox = sandbox(instance, &uid)?;
        let pid = sandbox["containers"][0]["pid"]
            .as_i64()
            .context("the container has a process")?;
        let start = Instant::now();
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(i32::try_from(pid)?),
            nix::sys::signal::Signal::SIGKILL,
        )?;
        let follow = async {
            while let Some(event) = events.try_next().await? {
                if matches!(&event, watcher::Event::Apply(pod) if is_running(pod, 1)) {
                    return Ok(start.elapsed());
                }
            }
            bail!("the watch ended")
        };
        killed.push(
            tokio::time::timeout(DEADLINE, follow)
                .await
                .context("the container did not run again")??,
        );
        api.delete(&name, &DeleteParams::default().grace_period(0)).await?;
    }
    Ok((running, ready, killed))
}

fn demo(name: &str, replicas: i32) -> anyhow::Result<Deployment> {
    let template = pod("x")?;
    let mut template = serde_json::to_value(&template)?;
    template["metadata"] = json!({"labels": {"app": name}});
    Ok(serde_json::from_value(json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": template["metadata"], "spec": template["spec"]},
        },
    }))?)
}

/// A Deployment of three: one of its pods deleted, then its image changed, each `runs` times.
async fn deployment(client: &Client, runs: usize) -> anyhow::Result<(Times, Times)> {
    let api: Api<Deployment> = Api::default_namespaced(client.clone());
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let created = api.create(&PostParams::default(), &demo("web", 3)?).await?;
    let selector = "metadata.name=web";
    until(&api, selector, |d| done(d, created.metadata.generation.unwrap_or(1))).await?;
    let (mut deleted, mut updated) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        let list = pods.list(&kube::api::ListParams::default().labels("app=web")).await?;
        let known: BTreeSet<String> = list.items.iter().filter_map(ResourceExt::uid).collect();
        let victim = list.items.first().context("a pod runs")?.name_any();
        let start = Instant::now();
        pods.delete(&victim, &DeleteParams::default().grace_period(0)).await?;
        until(&pods, "", |pod| {
            pod.labels().get("app").is_some_and(|app| app == "web")
                && pod.uid().is_some_and(|uid| !known.contains(&uid))
                && is_running(pod, 0)
        })
        .await?;
        deleted.push(start.elapsed());
        until(&api, selector, |d| done(d, 1)).await?;
    }
    for run in 0..runs {
        let version = if run % 2 == 0 { "v2" } else { "v1" };
        let patch = json!({"spec": {"template": {"spec": {"containers": [
            {"name": "app", "image": format!("setpoint.dev/demo:{version}")}]}}}});
        let start = Instant::now();
        let patched = api
            .patch("web", &PatchParams::default(), &Patch::Strategic(patch))
            .await?;
        let generation = patched.metadata.generation.context("it has a generation")?;
        until(&api, selector, |d| done(d, generation)).await?;
        updated.push(start.elapsed());
    }
    api.delete("web", &DeleteParams::default()).await?;
    Ok((deleted, updated))
}

/// Ten pods at rest: memory and CPU, then cold starts of the daemon beside them.
async fn memory(instance: &mut Instance, client: &Client, runs: usize, idle: Duration) -> anyhow::Result<()> {
    let api: Api<Deployment> = Api::default_namespaced(client.clone());
    api.create(&PostParams::default(), &demo("ten", 10)?).await?;
    until(&api, "metadata.name=ten", |d| done(d, 1)).await?;
    let mut starts = Vec::new();
    for _ in 0..runs {
        instance.end()?;
        starts.push(instance.up(&[]).await?);
    }
    row("`up` on 10 pods -> API answers", starts);
    let client = instance.client().await?;
    let api: Api<Deployment> = Api::default_namespaced(client.clone());
    until(&api, "metadata.name=ten", |d| done(d, 1)).await?;
    let pods: Api<Pod> = Api::default_namespaced(client);
    let list = pods.list(&kube::api::ListParams::default().labels("app=ten")).await?;
    let before = cpu_time(instance.pid()?)?;
    tokio::time::sleep(idle).await;
    let used = cpu_time(instance.pid()?)? - before;
    println!("\nwith 10 pods, idle for {} s:", idle.as_secs());
    println!(
        "  daemon CPU     {:>8.2} %",
        100.0 * used.as_secs_f64() / idle.as_secs_f64()
    );
    println!(
        "  daemon memory  {:>8.1} MB PSS",
        pss_kb(u64::from(instance.pid()?))? as f64 / 1024.0
    );
    let mut shims = Vec::new();
    for pod in &list.items {
        let shim = sandbox(instance, &pod.uid().unwrap_or_default())?;
        shims.push(pss_kb(shim["pid"].as_u64().context("the shim has a process")?)?);
    }
    shims.sort_unstable();
    let (least, most) = (
        shims.first().context("ten pods run")?,
        shims.last().context("ten pods run")?,
    );
    println!(
        "  shim memory    {:>8.2} MB PSS each ({:.2} at the most)",
        *least as f64 / 1024.0,
        *most as f64 / 1024.0
    );
    Ok(())
}
