//! What pods take of memory, in the server and in the caches of all controllers: `cargo bench -p setpoint-controllers --bench caches`.
//!
//! Each row is a process of its own with the daemon's allocator, weighed (PSS) before the pods are made and once whoever watches has
//! seen the last of them. The floor is what the same pods take as a list of JSON. An argument is the number of pods (10,000).

#![allow(clippy::disallowed_methods, reason = "a bench measures time")]

#[path = "../../../state/store/benches/log/measure.rs"]
#[allow(dead_code, reason = "the log's bench uses more of it")]
mod measure;
#[path = "../tests/cluster/server.rs"]
mod server;

use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod};
use kube::api::{DeleteParams, PostParams};
use kube::runtime::wait::await_condition;
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};
use setpoint_controllers::{ControllersConfig, run};
use setpoint_server::UserInfo;

use measure::{mebibytes, memory};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;
/// How the daemon sets its allocator up.
const ALLOCATOR_SETTINGS: &str =
    "narenas:2,lg_tcache_max:12,dirty_decay_ms:250,muzzy_decay_ms:0,background_thread:false";

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Tells a process what to weigh: `server` or `all`, and how many pods.
const WEIGH: &str = "SETPOINT_BENCH_WEIGH";
/// Longer than any bench: nothing here is patient with nodes that are not there.
const EVER: Duration = Duration::from_secs(24 * 60 * 60);
const DEADLINE: Duration = Duration::from_secs(120);

fn of<K: serde::de::DeserializeOwned>(object: Value) -> Outcome<K> {
    Ok(serde_json::from_value(object)?)
}

/// A pod of about 1,500 bytes.
fn pod(name: &str, node: Option<&str>) -> Value {
    let env: Vec<Value> = (0..12)
        .map(|number| json!({ "name": format!("SETTING_{number}"), "value": format!("value-{number}-of-{name}") }))
        .collect();
    json!({
        "metadata": { "name": name, "labels": { "app": "bench", "name": name } },
        "spec": {
            "nodeName": node, "automountServiceAccountToken": false,
            "containers": [{ "name": "main", "image": "registry.example/app:v1", "env": env }],
        },
    })
}

/// Returns once the scheduler has seen what there is, and garbage collection too.
async fn caught_up(client: &Client) -> Outcome<()> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), "default");
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    let owner = of(json!({ "metadata": { "name": "owner" } }))?;
    let owner = maps.create(&PostParams::default(), &owner).await?;
    let mut last = pod("last", None);
    last["metadata"]["ownerReferences"] =
        json!([{ "apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner.uid() }]);
    let last = pods.create(&PostParams::default(), &of(last)?).await?;
    let bound =
        |pod: Option<&Pod>| pod.is_some_and(|pod| pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some()));
    tokio::time::timeout(DEADLINE, await_condition(pods.clone(), "last", bound)).await??;
    maps.delete("owner", &DeleteParams::default()).await?;
    let asked_to_go = |pod: Option<&Pod>| pod.is_none_or(|pod| pod.metadata.deletion_timestamp.is_some());
    tokio::time::timeout(DEADLINE, await_condition(pods, "last", asked_to_go)).await??;
    drop(last);
    Ok(())
}

/// Makes so many pods and prints this process's memory before and after, and the size of the pods as JSON.
async fn weigh(controllers: bool, count: usize) -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let metrics = prometheus::Registry::new();
    let api = server::start(folder.path(), metrics.clone(), jiff::Timestamp::now).await;
    let client = Client::new(api.as_user(UserInfo::system("setpoint")), "default");
    let node = json!({
        "metadata": { "name": "box" },
        "status": {
            "allocatable": { "cpu": "4", "memory": "8Gi", "pods": "1000000" },
            "conditions": [{ "type": "Ready", "status": "True", "reason": "KubeletReady" }],
        },
    });
    let nodes: Api<Node> = Api::all(client.clone());
    let made = nodes.create(&PostParams::default(), &of(node.clone())?).await?;
    let mut status: Node = of(node)?;
    status.metadata.resource_version = made.resource_version();
    nodes.replace_status("box", &PostParams::default(), &status).await?;
    let running = controllers.then(|| {
        let mut config = ControllersConfig::new(client.clone(), Arc::new(jiff::Timestamp::now), metrics);
        (config.node_grace, config.missing_node_grace) = (EVER, EVER);
        tokio::spawn(run(config, std::future::pending()))
    });
    if controllers {
        caught_up(&client).await?;
    }
    let before = memory(std::process::id())?;
    let pods: Api<Pod> = Api::namespaced(client.clone(), "default");
    let size = futures::stream::iter(0..count)
        .map(|number| {
            let pods = pods.clone();
            async move {
                let pod = of(pod(&format!("pod-{number}"), Some("box")))?;
                let made = pods.create(&PostParams::default(), &pod).await?;
                Outcome::Ok(serde_json::to_vec(&made)?.len())
            }
        })
        .buffer_unordered(64)
        .try_fold(0, async |total, size| Ok(total + size))
        .await?;
    if controllers {
        // The one of before may still be going.
        let gone = await_condition(pods.clone(), "last", |pod: Option<&Pod>| pod.is_none());
        pods.delete("last", &DeleteParams::default().grace_period(0)).await.ok();
        tokio::time::timeout(DEADLINE, gone).await??;
        caught_up(&client).await?;
    }
    // What was free for a second is back with the system.
    tokio::time::sleep(Duration::from_secs(1)).await;
    println!("{before} {} {size}", memory(std::process::id())?);
    if let Some(running) = running {
        running.abort();
    }
    Ok(())
}

fn weighed(what: &str, count: usize) -> Outcome<(u64, u64, u64)> {
    let output = std::process::Command::new(std::env::current_exe()?)
        .env(WEIGH, format!("{what} {count}"))
        .env("_RJEM_MALLOC_CONF", ALLOCATOR_SETTINGS)
        .stderr(std::process::Stdio::inherit())
        .output()?;
    let text = String::from_utf8(output.stdout)?;
    let numbers = text
        .split_whitespace()
        .map(str::parse)
        .collect::<Result<Vec<u64>, _>>()?;
    match numbers[..] {
        [before, after, size] => Ok((before, after, size)),
        _ => Err(format!("the process that weighs {what} printed {text:?}").into()),
    }
}

fn main() -> Outcome<()> {
    if let Ok(wanted) = std::env::var(WEIGH) {
        let (what, count) = wanted.split_once(' ').ok_or("what to weigh, and how many")?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        return runtime.block_on(weigh(what == "all", count.parse()?));
    }
    let count = std::env::args().skip(1).find_map(|argument| argument.parse().ok());
    let count = count.unwrap_or(10_000);
    println!("| memory (PSS) | empty | with {count} pods | the pods | × their JSON |");
    println!("|---|---:|---:|---:|---:|");
    for (what, shown) in [("server", "store and API"), ("all", "store, API and all controllers")] {
        let (before, after, size) = weighed(what, count)?;
        let taken = after.saturating_sub(before);
        println!(
            "| {shown} | {} | {} | {} | {:.2} |",
            mebibytes(before),
            mebibytes(after),
            mebibytes(taken),
            taken as f64 / size as f64
        );
    }
    Ok(())
}
