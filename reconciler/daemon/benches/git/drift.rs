//! Objects of an app that somebody edits or deletes, and how long they stay so.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use anyhow::Context;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use kube::{Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::table::{Times, row};
use crate::watch::Watch;

/// Before each run.
const REST: Duration = Duration::from_millis(250);

const FROM_GIT: &str = "from git";
const IMAGE: &str = "setpoint.dev/demo:v1";

/// How many objects of a kind there are: one that is put back ten times in a minute would be left alone for the rest of it.
fn count(runs: usize) -> usize {
    runs.div_ceil(2)
}

/// The app's objects: ConfigMaps, and Deployments without pods.
pub fn files(runs: usize) -> Vec<(String, String)> {
    let texts: Vec<String> = (0..count(runs))
        .map(|place| {
            format!(
                "\
---
apiVersion: v1
kind: ConfigMap
metadata: {{ name: drift-{place} }}
data: {{ greeting: {FROM_GIT} }}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{ name: drift-{place} }}
spec:
  replicas: 0
  selector: {{ matchLabels: {{ app: drift-{place} }} }}
  template:
    metadata: {{ labels: {{ app: drift-{place} }} }}
    spec:
      containers: [{{ name: app, image: \"{IMAGE}\" }}]
"
            )
        })
        .collect();
    vec![("drift/objects.yaml".to_owned(), texts.concat())]
}

/// Prints the rows.
pub async fn rows(client: &Client, runs: usize) -> anyhow::Result<()> {
    let (answered, shown) = floor(client, runs).await?;
    row("floor: patch through the API -> answered", answered);
    row("floor: patch through the API -> shown by a watch", shown);
    let greeting = |map: &ConfigMap| map.data.as_ref().and_then(|data| data.get("greeting").cloned());
    let mut maps = Kind {
        api: Api::default_namespaced(client.clone()),
        watch: Watch::start(Api::default_namespaced(client.clone()), ""),
        edit: Patch::Merge(json!({"data": {"greeting": "by hand"}})),
        as_in_git: |map: &ConfigMap| greeting(map).as_deref() == Some(FROM_GIT),
    };
    maps.all_there(count(runs)).await?;
    row("ConfigMap edited -> put back", maps.edited(runs).await?);
    row("ConfigMap deleted -> put back", maps.deleted(runs).await?);
    let containers = json!([{"name": "app", "image": "setpoint.dev/demo:v2"}]);
    let mut deployments = Kind {
        api: Api::default_namespaced(client.clone()),
        watch: Watch::start(Api::default_namespaced(client.clone()), ""),
        edit: Patch::Strategic(json!({"spec": {"template": {"spec": {"containers": containers}}}})),
        as_in_git: |deployment: &Deployment| {
            let pod = deployment.spec.template.spec.as_ref();
            pod.and_then(|pod| pod.containers.first()?.image.as_deref()) == Some(IMAGE)
        },
    };
    deployments.all_there(count(runs)).await?;
    row("Deployment edited -> put back", deployments.edited(runs).await?);
    row("Deployment deleted -> put back", deployments.deleted(runs).await?);
    Ok(())
}

/// A kind of objects, what is done to them, and how they are when that is undone.
struct Kind<K, F> {
    api: Api<K>,
    watch: Watch<K>,
    edit: Patch<Value>,
    as_in_git: F,
}

impl<K, F> Kind<K, F>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned + Send + 'static,
    F: Fn(&K) -> bool,
{
    async fn all_there(&mut self, count: usize) -> anyhow::Result<()> {
        let mut names = std::collections::BTreeSet::new();
        let all = |object: &K| {
            if object.name_any().starts_with("drift-") && (self.as_in_git)(object) {
                names.insert(object.name_any());
            }
            names.len() == count
        };
        self.watch.until("the objects of the app are there", all).await?;
        Ok(())
    }

    async fn edited(&mut self, runs: usize) -> anyhow::Result<Times> {
        let mut times = Times::new();
        for run in 0..runs {
            let name = format!("drift-{}", run % count(runs));
            tokio::time::sleep(REST).await;
            let start = Instant::now();
            let edited = self.api.patch(&name, &PatchParams::default(), &self.edit).await?;
            anyhow::ensure!(!(self.as_in_git)(&edited), "the edit of {name} changed nothing");
            let before = version(&edited)?;
            let back = |object: &K| {
                object.name_any() == name
                    && (self.as_in_git)(object)
                    && version(object).is_ok_and(|version| version > before)
            };
            let (moment, _) = self.watch.until(&format!("{name} is as git says"), back).await?;
            times.push(moment.duration_since(start));
        }
        Ok(times)
    }

    async fn deleted(&mut self, runs: usize) -> anyhow::Result<Times> {
        let mut times = Times::new();
        for run in 0..runs {
            let name = format!("drift-{}", run % count(runs));
            let before = self.api.get(&name).await?.uid();
            tokio::time::sleep(REST).await;
            self.watch.skip();
            let start = Instant::now();
            self.api.delete(&name, &DeleteParams::background()).await?;
            let back = |object: &K| object.name_any() == name && object.uid() != before && (self.as_in_git)(object);
            let (moment, _) = self.watch.until(&format!("{name} is there again"), back).await?;
            times.push(moment.duration_since(start));
        }
        Ok(times)
    }
}

fn version(object: &impl ResourceExt) -> anyhow::Result<u64> {
    let version = object.resource_version().context("an object has a version")?;
    Ok(version.parse()?)
}

/// A patch of an object that is nobody's: until its answer, and until a watch shows it.
async fn floor(client: &Client, runs: usize) -> anyhow::Result<(Times, Times)> {
    let api: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let mut watch: Watch<ConfigMap> = Watch::start(api.clone(), "");
    let mut map = ConfigMap::default();
    map.metadata.name = Some("nobodys".to_owned());
    api.create(&PostParams::default(), &map).await?;
    watch
        .until("the ConfigMap is shown", |map| map.name_any() == "nobodys")
        .await?;
    let (mut answered, mut shown) = (Times::new(), Times::new());
    for run in 0..runs {
        let patch = Patch::Merge(json!({"data": {"greeting": format!("run {run}")}}));
        tokio::time::sleep(REST).await;
        let start = Instant::now();
        let patched = api.patch("nobodys", &PatchParams::default(), &patch).await?;
        answered.push(start.elapsed());
        let version = patched.resource_version();
        let same = |map: &ConfigMap| map.name_any() == "nobodys" && map.resource_version() == version;
        let (moment, _) = watch.until("the patch is shown", same).await?;
        shown.push(moment.duration_since(start));
    }
    Ok((answered, shown))
}
