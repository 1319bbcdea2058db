//! A scripted world: containers that start and end as a test says, and an API that keeps what is written to it. Time is tokio's own, paused.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI32, Ordering};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};
use setpoint_runtime::images::Keyring;
use setpoint_runtime::spec::{ContainerSpec, ExecSpec, RuntimeEvent, SandboxSpec};
use tokio::task::JoinHandle;

mod debugging;
mod faults;
mod lifecycle;
mod resizing;
mod restarting;

use super::*;
use crate::containers::{ImageFailure, ReadyImage, RuntimeFailure};
use crate::resize;
use crate::streams::{ExecStreams, LogRequest, LogStream};

struct World {
    sandboxes: Mutex<HashMap<String, SandboxState>>,
    specs: Mutex<Vec<ContainerSpec>>,
    log: Mutex<Vec<String>>,
    /// What a process in a container ends with.
    exec: AtomicI32,
    /// How often an image of `registry:1` was pulled.
    pulls: AtomicI32,
    /// What goes wrong next, by step.
    faults: Mutex<HashMap<&'static str, faults::Fault>>,
    events: broadcast::Sender<RuntimeEvent>,
    now: Now,
}

impl World {
    fn note(&self, text: impl Into<String>) {
        self.log.lock().push(text.into());
    }

    fn end(&self, id: &str, code: i32) {
        let now = (self.now)();
        let mut sandboxes = self.sandboxes.lock();
        let states = sandboxes.values_mut().flat_map(|sandbox| &mut sandbox.containers);
        for state in states.filter(|state| state.id() == id && state.exit.is_none()) {
            state.exit = Some(Exit {
                code,
                signal: None,
                oom_killed: false,
                finished_at: now,
            });
        }
    }
}

#[async_trait]
impl Containers for World {
    async fn sandboxes(&self) -> Result<Vec<SandboxState>, RuntimeFailure> {
        Ok(self.sandboxes.lock().values().cloned().collect())
    }

    async fn sandbox(&self, id: &str) -> Result<Option<SandboxState>, RuntimeFailure> {
        Ok(self.sandboxes.lock().get(id).cloned())
    }

    async fn create_sandbox(&self, spec: SandboxSpec) -> Result<SandboxState, RuntimeFailure> {
        self.note("sandbox");
        if self.sandboxes.lock().contains_key(&spec.id) {
            return Err(RuntimeFailure::new("the sandbox exists"));
        }
        let state = SandboxState {
            spec,
            pid: 1,
            containers: vec![],
        };
        self.sandboxes.lock().insert(state.spec.id.clone(), state.clone());
        // As late as it can be: the sandbox stands, and its maker does not hear of it.
        self.step("sandbox").await?;
        Ok(state)
    }

    async fn remove_sandbox(&self, id: &str) -> Result<(), RuntimeFailure> {
        self.note("remove");
        self.step("remove").await?;
        self.sandboxes.lock().remove(id);
        Ok(())
    }

    async fn close_sandbox(&self, id: &str) -> Result<(), RuntimeFailure> {
        self.note("close");
        self.step("close").await?;
        if let Some(sandbox) = self.sandboxes.lock().get_mut(id) {
            sandbox.pid = 0;
        }
        Ok(())
    }

    async fn start_container(&self, sandbox: &str, spec: ContainerSpec) -> Result<ContainerState, RuntimeFailure> {
        self.note(format!("start {}-{}", spec.name, spec.attempt));
        if spec.command.as_deref() == Some(&["missing".to_owned()]) {
            return Err(RuntimeFailure {
                reason: "StartError",
                message: "no such file".to_owned(),
                code: 127,
            });
        }
        self.step("start").await?;
        let started_at = (self.now)();
        let state = ContainerState {
            mounted: Vec::new(),
            name: spec.name.clone(),
            attempt: spec.attempt,
            image: spec.image.clone(),
            pid: 2,
            started_at,
            exit: None,
        };
        self.specs.lock().push(spec);
        let mut sandboxes = self.sandboxes.lock();
        let sandbox = sandboxes
            .get_mut(sandbox)
            .ok_or_else(|| RuntimeFailure::new("no sandbox"))?;
        sandbox.containers.push(state.clone());
        Ok(state)
    }

    async fn resize(
        &self,
        _: &str,
        whole: setpoint_runtime::spec::Resources,
        containers: Vec<(String, setpoint_runtime::spec::Resources)>,
    ) -> Result<(), RuntimeFailure> {
        let list: Vec<String> = containers
            .iter()
            .map(|(id, resources)| format!("{id} to {}", resources.cpu_quota.unwrap_or(-1)))
            .collect();
        self.note(format!(
            "resize {} of {}",
            list.join(", "),
            whole.cpu_quota.unwrap_or(-1)
        ));
        self.step("resize").await
    }

    async fn stop_container(&self, _: &str, container: &str, grace: Duration) -> Result<(), RuntimeFailure> {
        self.note(format!("stop {container} within {} s", grace.as_secs()));
        self.end(container, 0);
        Ok(())
    }

    async fn remove_container(&self, _: &str, container: &str) -> Result<(), RuntimeFailure> {
        self.note(format!("forget {container}"));
        Ok(())
    }

    async fn connect(&self, _: &str, _: u16) -> Result<Box<dyn crate::streams::Duplex>, RuntimeFailure> {
        Err(RuntimeFailure::new("nothing listens in this world"))
    }

    async fn counters(&self, _: &str) -> Result<setpoint_runtime::SandboxCounters, RuntimeFailure> {
        Ok(setpoint_runtime::SandboxCounters::default())
    }

    async fn stats(&self, _: &str) -> Result<setpoint_runtime::SandboxStats, RuntimeFailure> {
        Ok(setpoint_runtime::SandboxStats::default())
    }

    async fn exec(&self, _: &str, container: &str, spec: ExecSpec) -> Result<ExecStreams, RuntimeFailure> {
        self.note(format!("exec {} in {container}", spec.command.join(" ")));
        let code = self.exec.load(Ordering::SeqCst);
        Ok(ExecStreams {
            stdin: None,
            stdout: None,
            stderr: None,
            resize: None,
            exit: Box::pin(async move { Ok(code) }),
        })
    }

    async fn attach(&self, _: &str, _: &str, _: bool) -> Result<ExecStreams, RuntimeFailure> {
        Err(RuntimeFailure::new("nothing to attach to"))
    }

    async fn logs(&self, _: &str, _: &str, _: u32, _: LogRequest) -> Result<LogStream, RuntimeFailure> {
        Ok(Box::pin(futures::stream::empty()))
    }

    fn events(&self) -> broadcast::Receiver<RuntimeEvent> {
        self.events.subscribe()
    }

    async fn resolve_image(&self, reference: &str) -> Result<Option<ReadyImage>, (ImageFailure, String)> {
        self.step("image")
            .await
            .map_err(|error| (ImageFailure::Pull, error.message))?;
        let image = ReadyImage {
            id: "sha256:1".to_owned(),
            digest: "sha256:2".to_owned(),
            user: None,
            size: 1,
        };
        Ok((reference != "gone:1").then_some(image))
    }

    async fn may_use_image(&self, _: &str, _: &str, _: &Keyring) -> Result<bool, (ImageFailure, String)> {
        Ok(true)
    }

    async fn pull_image(&self, reference: &str, _: Keyring) -> Result<ReadyImage, (ImageFailure, String)> {
        if reference == "registry:1" {
            self.pulls.fetch_add(1, Ordering::SeqCst);
            let found = self.resolve_image(reference).await?;
            return found.ok_or_else(|| (ImageFailure::Pull, "no such image".to_owned()));
        }
        Err((ImageFailure::Pull, "no such image".to_owned()))
    }
}

#[derive(Default)]
struct Api {
    objects: Mutex<HashMap<String, Value>>,
    /// The patches of the pod's status, and `DELETE`.
    writes: Mutex<Vec<Value>>,
    /// What was told.
    events: Mutex<Vec<Value>>,
    /// Whether writes of the status are not answered.
    silent: watch::Sender<bool>,
}

impl Api {
    async fn answer(&self, request: Request<Body>) -> Response<Full<Bytes>> {
        let (parts, body) = request.into_parts();
        let bytes = body.collect().await.expect("a body").to_bytes();
        let path = parts.uri.path().to_owned();
        let (code, value) = match (parts.method.as_str(), path.as_str()) {
            ("PATCH", path) if path.ends_with("/status") => {
                let mut silent = self.silent.subscribe();
                silent.wait_for(|silent| !silent).await.expect("the sender lives");
                let patch: Value = serde_json::from_slice(&bytes).expect("json");
                self.writes.lock().push(patch["status"].clone());
                (
                    200,
                    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"}}),
                )
            }
            ("DELETE", _) => {
                self.writes.lock().push(json!("deleted"));
                (200, json!({"apiVersion": "v1", "kind": "Status", "status": "Success"}))
            }
            ("POST", path) => {
                let object: Value = serde_json::from_slice(&bytes).expect("json");
                if path.ends_with("/events") {
                    self.events.lock().push(object.clone());
                }
                (201, object)
            }
            ("GET", path) if path.ends_with("/services") => (
                200,
                json!({"apiVersion": "v1", "kind": "ServiceList", "metadata": {}, "items": []}),
            ),
            (_, path) => match self.objects.lock().get(path) {
                Some(object) => (200, object.clone()),
                None => (
                    404,
                    json!({"kind": "Status", "status": "Failure", "code": 404, "reason": "NotFound", "message": "not found"}),
                ),
            },
        };
        let bytes = serde_json::to_vec(&value).expect("json");
        Response::builder()
            .status(code)
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(bytes)))
            .expect("a response")
    }
}

struct Rig {
    world: Arc<World>,
    api: Arc<Api>,
    shared: Arc<Shared>,
    updates: watch::Sender<Update>,
    wake: Arc<Notify>,
    stop: CancellationToken,
    task: JoinHandle<()>,
    _dir: tempfile::TempDir,
}

/// Of a node with both families.
fn ranges() -> setpoint_net::Ranges {
    serde_json::from_value(json!({
        "pods": "10.42.0.0/24", "services": "10.96.0.0/16",
        "ipv6": {"pods": "fd00:0:1:42::/64", "services": "fd00:0:1:96::/112"},
    }))
    .expect("ranges")
}

fn pod(spec: Value) -> Pod {
    let meta = json!({"name": "web", "namespace": "shop", "uid": "u"});
    serde_json::from_value(json!({"metadata": meta, "spec": spec})).expect("a pod")
}

fn simple(extra: Value) -> Pod {
    let mut container = json!({"name": "a", "image": "app:1"});
    container
        .as_object_mut()
        .expect("an object")
        .extend(extra.as_object().expect("an object").clone());
    pod(json!({"containers": [container], "terminationGracePeriodSeconds": 5}))
}

impl Rig {
    fn start(pod: Pod, adopted: Option<SandboxState>) -> Self {
        let begun = tokio::time::Instant::now();
        let base = Timestamp::from_second(1_000_000).expect("a time");
        let now: Now = Arc::new(move || base.checked_add(begun.elapsed()).expect("a time"));
        let world = Arc::new(World {
            sandboxes: Mutex::default(),
            specs: Mutex::default(),
            log: Mutex::default(),
            exec: AtomicI32::new(0),
            pulls: AtomicI32::new(0),
            faults: Mutex::default(),
            events: broadcast::channel(16).0,
            now: now.clone(),
        });
        if let Some(sandbox) = &adopted {
            world.sandboxes.lock().insert(sandbox.spec.id.clone(), sandbox.clone());
        }
        let api = Arc::new(Api::default());
        let service = {
            let api = api.clone();
            tower::service_fn(move |request| {
                let api = api.clone();
                async move { Ok::<_, std::convert::Infallible>(api.answer(request).await) }
            })
        };
        let client = kube::Client::new(service, "default");
        let dir = tempfile::tempdir().expect("a directory");
        let stop = CancellationToken::new();
        let shared = Arc::new(Shared {
            node_name: "one".to_owned(),
            node_ip: Ipv4Addr::new(192, 0, 2, 1).into(),
            facts: Facts {
                cpus: 4,
                memory: 8 << 30,
                ..Facts::default()
            },
            places: Places::new(dir.path()),
            dns: Ipv4Addr::new(10, 42, 0, 1),
            cluster_domain: "cluster.local".to_owned(),
            pods: PodSettings::default(),
            seccomp: dir.path().join("seccomp"),
            containers: world.clone(),
            addresses: Some(Arc::new(Addresses::new(ranges(), []))),
            host_ports: Arc::default(),
            allocations: Arc::new(Allocations::new(resize::Capacity {
                cpu_millis: 4000,
                memory: 8 << 30,
            })),
            changes: Changes::new(None, stop.clone()),
            events: Recorder::start(client.clone(), "one".to_owned(), now.clone(), stop.clone()),
            client,
            metrics: Metrics::new(&prometheus::Registry::new()).expect("metrics"),
            drain: None,
            now,
        });
        let (updates, receiver) = watch::channel(Update {
            pod: Arc::new(pod),
            gone: false,
        });
        let wake = Arc::new(Notify::new());
        let task = tokio::spawn(run(shared.clone(), receiver, wake.clone(), adopted, stop.clone()));
        Self {
            world,
            api,
            shared,
            updates,
            wake,
            stop,
            task,
            _dir: dir,
        }
    }

    /// Waits until the world is as wanted. The clock is paused: it moves on, to the next timer of anybody, only when every
    /// task waits and no thread works, so that whatever can happen has happened between two looks.
    async fn until(&self, what: &str, mut wanted: impl FnMut(&Self) -> bool) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(500);
        while tokio::time::Instant::now() < deadline {
            if wanted(self) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!(
            "never: {what}; log {:?}; writes {:?}",
            self.world.log.lock(),
            self.api.writes.lock()
        );
    }

    /// The status as the API has it after all merge patches.
    fn status(&self) -> Value {
        let mut status = json!({});
        for patch in self.api.writes.lock().iter().filter_map(Value::as_object) {
            for (name, value) in patch {
                status[name] = value.clone();
            }
        }
        status
    }

    fn logged(&self, text: &str) -> bool {
        self.world.log.lock().iter().any(|line| line == text)
    }

    fn update(&self, change: impl FnOnce(&mut Update)) {
        self.updates.send_modify(change);
    }

    fn ready(&self) -> bool {
        self.status()["containerStatuses"][0]["ready"] == true
    }
}

#[tokio::test(start_paused = true)]
async fn a_pod_comes_up_with_one_write_and_is_restarted_at_once() {
    let rig = Rig::start(simple(json!({})), None);
    rig.until("running", |rig| rig.status()["phase"] == "Running").await;
    assert_eq!(rig.api.writes.lock().len(), 1, "{:?}", rig.api.writes.lock());
    assert_eq!(rig.status()["podIP"], "10.42.0.2");
    assert_eq!(
        rig.status()["podIPs"],
        json!([{"ip": "10.42.0.2"}, {"ip": "fd00:0:1:42::2"}])
    );
    rig.world.end("a-0", 137);
    rig.wake.notify_one();
    rig.until("running again", |rig| {
        rig.status()["containerStatuses"][0]["restartCount"] == 1 && rig.ready()
    })
    .await;
    assert_eq!(
        rig.status()["containerStatuses"][0]["lastState"]["terminated"]["exitCode"],
        137
    );
}

#[tokio::test(start_paused = true)]
async fn a_deleted_pod_is_stopped_removed_and_forgotten() {
    let rig = Rig::start(simple(json!({})), None);
    rig.until("running", Rig::ready).await;
    rig.update(|update| {
        let mut pod = (*update.pod).clone();
        pod.metadata.deletion_timestamp = Some(crate::status::whole_seconds(
            Timestamp::from_second(1_000_000).expect("a time"),
        ));
        pod.metadata.deletion_grace_period_seconds = Some(3);
        update.pod = Arc::new(pod);
    });
    rig.until("deleted", |rig| rig.api.writes.lock().last() == Some(&json!("deleted")))
        .await;
    assert!(rig.logged("stop a-0 within 3 s") && rig.logged("remove"));
    rig.until("the worker ends", |rig| rig.task.is_finished()).await;
    assert_eq!(
        rig.shared.addresses.as_ref().expect("addresses").taken(),
        [] as [Ipv4Addr; 0]
    );
    assert_eq!(rig.status()["phase"], "Succeeded");
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_vanished_is_removed_without_a_word_to_the_api() {
    let rig = Rig::start(simple(json!({})), None);
    rig.until("running", Rig::ready).await;
    let writes = rig.api.writes.lock().len();
    rig.update(|update| update.gone = true);
    rig.until("the worker ends", |rig| rig.task.is_finished()).await;
    assert!(rig.logged("stop a-0 within 2 s") && rig.logged("remove"));
    assert_eq!(rig.api.writes.lock().len(), writes);
}

#[tokio::test(start_paused = true)]
async fn a_pod_whose_host_port_another_has_is_rejected_as_the_kubelet_does() {
    let port = json!({"ports": [{"containerPort": 80, "hostPort": 80}]});
    let rig = Rig::start(simple(port.clone()), None);
    assert!(rig.shared.host_ports.reserve("other", &simple(port)));
    rig.until("rejected", |rig| rig.status()["phase"] == "Failed").await;
    assert_eq!(rig.status()["reason"], "NodePorts");
    let expected =
        "Pod was rejected: Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports";
    assert_eq!(rig.status()["message"], expected);
    assert!(!rig.logged("sandbox"));
}

#[tokio::test(start_paused = true)]
async fn a_host_port_leads_to_its_pod_while_that_lives() {
    let rig = Rig::start(
        simple(json!({"ports": [{"containerPort": 80, "hostPort": 8080}]})),
        None,
    );
    rig.shared.host_ports.all_known();
    let open = |rig: &Rig| {
        rig.shared
            .host_ports
            .published()
            .borrow()
            .iter()
            .map(|ports| ports.len())
            .sum::<usize>()
    };
    // One way by each family.
    rig.until("open", |rig| rig.ready() && open(rig) == 2).await;
    rig.update(|update| update.gone = true);
    rig.until("the worker ends", |rig| rig.task.is_finished()).await;
    assert_eq!(open(&rig), 0);
}

#[tokio::test(start_paused = true)]
async fn a_missing_config_map_holds_a_container_back_until_it_comes() {
    let env = json!({"env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "cfg", "key": "k"}}}]});
    let rig = Rig::start(simple(env), None);
    let reason = |rig: &Rig| rig.status()["containerStatuses"][0]["state"]["waiting"]["reason"].clone();
    rig.until("an error", |rig| reason(rig) == "CreateContainerConfigError")
        .await;
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "cfg", "namespace": "shop"}, "data": {"k": "v"}});
    rig.api
        .objects
        .lock()
        .insert("/api/v1/namespaces/shop/configmaps/cfg".to_owned(), map);
    let change = Change::ConfigMap {
        namespace: "shop".to_owned(),
        name: "cfg".to_owned(),
    };
    rig.shared.changes.tell(change);
    rig.until("running", Rig::ready).await;
    assert!(
        rig.world.specs.lock()[0]
            .env
            .contains(&("A".to_owned(), "v".to_owned()))
    );
}

#[tokio::test(start_paused = true)]
async fn probes_make_ready_unready_and_restart() {
    let probe = json!({"exec": {"command": ["check"]}, "periodSeconds": 1, "failureThreshold": 2});
    let rig = Rig::start(simple(json!({"readinessProbe": probe, "livenessProbe": probe})), None);
    rig.until("ready", Rig::ready).await;
    rig.world.exec.store(1, Ordering::SeqCst);
    rig.until("unready or restarted", |rig| !rig.ready()).await;
    rig.until("stopped", |rig| rig.logged("stop a-0 within 5 s")).await;
    rig.world.exec.store(0, Ordering::SeqCst);
    rig.until("ready again", |rig| {
        rig.status()["containerStatuses"][0]["restartCount"] == 1 && rig.ready()
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_program_that_cannot_be_run_backs_off_with_its_cause() {
    let rig = Rig::start(simple(json!({"command": ["missing"]})), None);
    let reason = |rig: &Rig| rig.status()["containerStatuses"][0]["state"]["waiting"]["reason"].clone();
    rig.until("a back-off", |rig| reason(rig) == "CrashLoopBackOff").await;
    let last = rig.status()["containerStatuses"][0]["lastState"]["terminated"].clone();
    assert_eq!(
        (&last["reason"], &last["exitCode"], &last["message"]),
        (&json!("StartError"), &json!(128), &json!("no such file"))
    );
}

#[tokio::test(start_paused = true)]
async fn an_image_that_is_not_to_be_had_is_said_and_tried_again() {
    let rig = Rig::start(pod(json!({"containers": [{"name": "a", "image": "gone:1"}]})), None);
    let reason = |rig: &Rig| rig.status()["containerStatuses"][0]["state"]["waiting"]["reason"].clone();
    rig.until("an error", |rig| reason(rig) == "ErrImagePull").await;
    rig.until("a back-off", |rig| reason(rig) == "ImagePullBackOff").await;
    rig.stop.cancel();
    rig.until("the worker ends", |rig| rig.task.is_finished()).await;
}

/// A sandbox that stands, with an attempt of the container in it.
fn running_sandbox(attempt: u32) -> SandboxState {
    let state = ContainerState {
        mounted: Vec::new(),
        name: "a".to_owned(),
        attempt,
        image: "sha256:1".to_owned(),
        pid: 9,
        started_at: Timestamp::from_second(1_000_000).expect("a time"),
        exit: None,
    };
    let spec = SandboxSpec {
        id: "u".to_owned(),
        ip: Some(Ipv4Addr::new(10, 42, 0, 9)),
        ..SandboxSpec::default()
    };
    SandboxState {
        spec,
        pid: 1,
        containers: vec![state],
    }
}

#[tokio::test(start_paused = true)]
async fn what_runs_already_is_adopted_and_not_restarted() {
    let mut adopted = simple(json!({"readinessProbe": {"exec": {"command": ["x"]}, "periodSeconds": 1}}));
    let started = json!("1970-01-12T13:46:40Z");
    adopted.status = Some(
        serde_json::from_value(json!({"phase": "Running", "podIP": "10.42.0.9", "containerStatuses": [{
            "name": "a", "image": "app:1", "imageID": "app@sha256:2", "ready": true, "started": true, "restartCount": 4,
            "state": {"running": {"startedAt": started}}}]}))
        .expect("a status"),
    );
    let rig = Rig::start(adopted, Some(running_sandbox(4)));
    rig.until("a status", |rig| rig.status()["podIPs"].is_array()).await;
    let unready = |rig: &Rig| {
        rig.api
            .writes
            .lock()
            .iter()
            .any(|write| write["containerStatuses"][0]["ready"] == false)
    };
    assert!(!unready(&rig), "ready stays ready: {:?}", rig.api.writes.lock());
    assert!(
        !rig.world
            .log
            .lock()
            .iter()
            .any(|line| line.starts_with("start") || line == "sandbox")
    );
    rig.world.end("a-4", 1);
    rig.wake.notify_one();
    rig.until("started again", |rig| {
        rig.logged("start a-5")
            || rig.status()["containerStatuses"][0]["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_sandbox_that_died_is_made_anew() {
    let rig = Rig::start(simple(json!({})), None);
    rig.until("running", Rig::ready).await;
    rig.world.sandboxes.lock().clear();
    rig.wake.notify_one();
    rig.until("running again", |rig| rig.logged("start a-1") && rig.ready())
        .await;
    assert_eq!(rig.world.log.lock().iter().filter(|line| *line == "sandbox").count(), 2);
}
