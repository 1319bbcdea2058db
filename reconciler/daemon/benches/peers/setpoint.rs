//! Ourselves: pods through the API, by a client that is there already, as a controller is, or by `kubectl create`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Context;
use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, ListParams, PostParams};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::image::{NAME, PROGRAM};
use crate::instance::Instance;
use crate::marks::DEADLINE;
use crate::peer::Peer;

/// The daemon and who speaks to it.
pub struct World {
    /// What the client runs on.
    pub runtime: Runtime,
    /// The daemon.
    pub instance: Instance,
    /// A client over TLS.
    pub client: kube::Client,
}

impl World {
    /// Starts a daemon in a folder of its own and gives it the image.
    pub fn start(folder: &Path) -> anyhow::Result<Rc<World>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let mut instance = Instance::new()?;
        runtime.block_on(instance.up(&[]))?;
        let mut import = instance.command("image");
        // `image` is a command of commands: what is done comes after it.
        let status = import.arg("import").arg(folder.join("image.tar")).status()?;
        anyhow::ensure!(status.success(), "the image could not be imported");
        let client = runtime.block_on(instance.client())?;
        Ok(Rc::new(World {
            runtime,
            instance,
            client,
        }))
    }
}

/// Pods of a daemon.
pub struct Setpoint {
    world: Rc<World>,
    marks: PathBuf,
    kubectl: Option<PathBuf>,
}

impl Setpoint {
    /// With a path, `kubectl create` makes the pods, else this process does.
    pub fn new(world: Rc<World>, marks: &Path, kubectl: Option<PathBuf>) -> Setpoint {
        Setpoint {
            world,
            marks: marks.to_owned(),
            kubectl,
        }
    }

    fn api(&self) -> Api<Pod> {
        Api::default_namespaced(self.world.client.clone())
    }

    fn pod(&self, number: usize) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": format!("bench-{number}"), "labels": {"bench": "peers"}},
            "spec": {
                "terminationGracePeriodSeconds": 0,
                "containers": [{
                    "name": "app", "image": NAME, "imagePullPolicy": "IfNotPresent", "command": ["/bin/sh", "-c", PROGRAM],
                    "volumeMounts": [{"name": "marks", "mountPath": "/marks"}],
                }],
                "volumes": [{"name": "marks", "hostPath": {"path": self.marks}}],
            },
        })
    }
}

impl Peer for Setpoint {
    fn name(&self) -> &'static str {
        match self.kubectl {
            Some(_) => "setpoint, kubectl create",
            None => "setpoint, a client of the API",
        }
    }

    fn start(&mut self, count: usize) -> anyhow::Result<()> {
        let pods: Vec<Value> = (0..count).map(|number| self.pod(number)).collect();
        if let Some(kubectl) = &self.kubectl {
            let file = self.world.instance.folder().join("pods.json");
            let list = json!({"apiVersion": "v1", "kind": "List", "items": pods});
            std::fs::write(&file, list.to_string())?;
            let status = Command::new(kubectl)
                .env("KUBECONFIG", self.world.instance.folder().join("data/kubeconfig"))
                .args(["create", "--filename"])
                .arg(file)
                .stdout(Stdio::null())
                .status()
                .context("cannot run kubectl")?;
            anyhow::ensure!(status.success(), "kubectl create failed");
            return Ok(());
        }
        let api = self.api();
        self.world.runtime.block_on(async {
            let creates = pods.into_iter().map(|pod| {
                let api = api.clone();
                async move {
                    let pod: Pod = serde_json::from_value(pod)?;
                    api.create(&PostParams::default(), &pod).await?;
                    anyhow::Ok(())
                }
            });
            let mut creates = futures::stream::iter(creates).buffer_unordered(8);
            while let Some(created) = creates.next().await {
                created?;
            }
            Ok(())
        })
    }

    fn remove(&mut self) -> anyhow::Result<()> {
        let api = self.api();
        self.world.runtime.block_on(async {
            let all = ListParams::default().labels("bench=peers");
            api.delete_collection(&DeleteParams::default().grace_period(0), &all)
                .await?;
            let start = Instant::now();
            while !api.list(&all).await?.items.is_empty() {
                anyhow::ensure!(start.elapsed() < DEADLINE, "the pods are not removed");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Ok(())
        })
    }

    fn supervisors(&self) -> anyhow::Result<(Vec<i32>, Vec<i32>)> {
        let mut shims = Vec::new();
        for entry in std::fs::read_dir(self.world.instance.folder().join("data/sandboxes"))? {
            let state = entry?.path().join("state.json");
            let state: Value = serde_json::from_slice(&std::fs::read(state)?)?;
            shims.push(i32::try_from(state["pid"].as_i64().context("the shim's process")?)?);
        }
        Ok((shims, vec![i32::try_from(self.world.instance.pid()?)?]))
    }
}
