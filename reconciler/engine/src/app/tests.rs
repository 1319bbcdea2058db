//! Apps in a small cluster that answers by HTTP: what is asked of it, and what becomes of its objects.

mod cluster;

use std::collections::BTreeSet;

use cluster::Cluster;
use kube::Client;
use kube::runtime::reflector::store::Writer;
use kube::runtime::watcher::Event;
use parking_lot::{Mutex, RwLock};
use serde_json::Value;
use setpoint_plan::ObjectRef;
use setpoint_templates::job::{Job, Output};
use tokio::sync::broadcast;

use super::*;
use crate::api::{OWNER_ANNOTATION, Repository};
use crate::drive::Queue;
use crate::live::Live;
use crate::metrics::Metrics;
use crate::records::digest;
use crate::records::tests::Memory;
use crate::rendered::{Renderer, Unrendered};
use crate::repository::{Declared, Sources};
use crate::state::{Cause, View};
use crate::target::Target;

struct Nothing;

#[async_trait::async_trait]
impl Renderer for Nothing {
    async fn render(&self, _: Job) -> Result<Output, Unrendered> {
        Err(Unrendered::Passing("nothing is rendered here".to_owned()))
    }
}

struct World {
    cluster: Cluster,
    shared: Arc<Shared>,
    apps: Writer<App>,
    repositories: Writer<Repository>,
    clock: Arc<Mutex<jiff::Timestamp>>,
    _folder: tempfile::TempDir,
}

impl World {
    async fn new() -> World {
        let cluster = Cluster::start().await;
        let clock = Arc::new(Mutex::new("2026-01-01T12:00:00Z".parse().unwrap()));
        let told = clock.clone();
        let client = Client::try_from(kube::Config::new(cluster.address().parse().unwrap())).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let target = Target::new(client);
        let (apps, repositories) = (Writer::<App>::default(), Writer::<Repository>::default());
        let shared = Shared {
            live: Live::new(target.clone(), Arc::new(|_: &str| {})),
            target,
            records: Arc::new(Memory::default()),
            renderer: Arc::new(Nothing),
            now: Arc::new(move || *told.lock()),
            random: Arc::new(|| [0; 32]),
            metrics: Metrics::register(&prometheus::Registry::new()).unwrap(),
            notices: broadcast::channel(16).0,
            queue: Queue::new(),
            looks: Queue::new(),
            apps: apps.as_reader(),
            repositories: repositories.as_reader(),
            sources: Sources::new(folder.path().to_owned(), |_| {}).unwrap(),
            declared: RwLock::default(),
            memory: Mutex::default(),
            collecting: tokio::sync::RwLock::default(),
            progress: RwLock::default(),
        };
        cluster.put(
            "/api/v1/namespaces/shop",
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}),
        );
        World {
            cluster,
            shared: Arc::new(shared),
            apps,
            repositories,
            clock,
            _folder: folder,
        }
    }

    /// Puts an App that the repository `fleet` owns into the cluster and where the engine knows of it.
    fn app(&mut self, name: &str, going: bool) -> App {
        let app = json!({
            "apiVersion": "setpoint.dev/v1alpha1",
            "kind": "App",
            "metadata": {
                "name": name,
                "namespace": "ns",
                "uid": format!("uid-of-{name}"),
                "resourceVersion": "1",
                "finalizers": [FINALIZER],
                "ownerReferences": [{"apiVersion": "setpoint.dev/v1alpha1", "kind": "Repository", "name": "fleet", "uid": "7"}],
                "deletionTimestamp": going.then(|| self.clock.lock().to_string()),
            },
            "spec": {"repository": "fleet", "path": "web", "namespace": "shop"},
        });
        self.cluster.put(
            &format!("/apis/setpoint.dev/v1alpha1/namespaces/ns/apps/{name}"),
            app.clone(),
        );
        let app: App = serde_json::from_value(app).unwrap();
        self.apps.apply_watcher_event(&Event::Apply(app.clone()));
        app
    }

    /// Has the repository `fleet`, which cannot be reached, declare apps at a commit.
    fn declare(&mut self, commit: &str, apps: &[&str]) {
        let repository = json!({
            "apiVersion": "setpoint.dev/v1alpha1",
            "kind": "Repository",
            "metadata": {"name": "fleet", "namespace": "ns", "uid": "7", "resourceVersion": "1"},
            "spec": {"url": "http://127.0.0.1:1/fleet.git"},
        });
        self.cluster.put(
            "/apis/setpoint.dev/v1alpha1/namespaces/ns/repositories/fleet",
            repository.clone(),
        );
        let repository: Repository = serde_json::from_value(repository).unwrap();
        self.repositories.apply_watcher_event(&Event::Apply(repository));
        let declared = Declared {
            commit: commit.to_owned(),
            apps: apps
                .iter()
                .map(|name| ((*name).to_owned(), AppSpec::default()))
                .collect(),
            ..Declared::default()
        };
        self.shared
            .declared
            .write()
            .insert(Name::new("ns", "fleet"), Arc::new(declared));
    }

    /// Keeps objects as what an app is to be at a commit.
    async fn revision(&self, commit: &str, objects: Vec<Value>) -> Revision {
        let bytes = Bytes::from(serde_json::to_vec(&objects).unwrap());
        let batch = Batch {
            blobs: vec![bytes.clone()],
            ..Batch::default()
        };
        self.shared.records.commit(batch).await.unwrap();
        Revision {
            source: commit.to_owned(),
            subject: String::new(),
            digest: digest(&bytes),
            origins: String::new(),
            images: crate::images::Images::default(),
        }
    }

    async fn remember(&self, name: &str, state: AppState) {
        let memory = self.shared.memory_of(&Name::new("ns", name));
        *memory.lock().await = AppMemory::from(state);
    }

    /// Lets an app do what it can without its source being read.
    async fn work(&self, app: &App) -> Result<Option<Duration>, AppError> {
        let name = Name::of(app);
        let kept = Kept::read(&name, &app.spec).unwrap();
        let memory = self.shared.memory_of(&name);
        let mut memory = memory.lock().await;
        let worked = work(&self.shared, &kept, &mut memory).await;
        publish::progress(&self.shared, &kept, &memory);
        worked
    }

    /// Returns the status that an App shows.
    fn status(&self, name: &str) -> Value {
        let path = format!("/apis/setpoint.dev/v1alpha1/namespaces/ns/apps/{name}");
        self.cluster.get(&path).unwrap()["status"].clone()
    }

    async fn state(&self, name: &str) -> AppState {
        self.shared.memory_of(&Name::new("ns", name)).lock().await.state.clone()
    }
}

const WEB: &str = "/api/v1/namespaces/shop/configmaps/web";

fn web(owner: &str, text: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": "web",
            "namespace": "shop",
            "labels": {"setpoint.dev/app": owner},
            "annotations": {OWNER_ANNOTATION: format!("ns/{owner}")},
        },
        "data": {"text": text},
    })
}

fn inventory(object: &Value) -> BTreeSet<ObjectRef> {
    [ObjectRef::of(object, &setpoint_plan::Origin::default()).unwrap()].into()
}

#[test]
fn only_what_a_steady_clock_did_not_see_pass_is_a_jump() {
    assert_eq!(jump(1_000, 3_601_000, Duration::from_secs(3_600)), 0);
    assert_eq!(jump(1_000, 4_000, Duration::from_secs(1)), 0);
    assert_eq!(jump(1_000, 3_602_000, Duration::from_secs(1)), 3_600_000);
    assert_eq!(jump(3_601_000, 2_000, Duration::from_secs(1)), -3_600_000);
}

#[tokio::test]
async fn an_app_that_is_renamed_hands_its_objects_over_and_none_is_deleted() {
    let mut world = World::new().await;
    world.cluster.put(WEB, web("old", "x"));
    world.declare("c2", &["new"]);
    world.app("old", true);
    let new = world.app("new", false);
    let old = AppState {
        uid: "uid-of-old".to_owned(),
        inventory: inventory(&web("old", "x")),
        ..AppState::default()
    };
    world.remember("old", old).await;
    let name = Name::new("ns", "old");
    assert!(matches!(run(&world.shared, &name).await, Ran::Again(Some(_))));
    let status = world.status("old");
    assert!(
        status["reason"]
            .as_str()
            .unwrap()
            .contains("waits for new to take up c2"),
        "{status}"
    );
    let mut state = AppState {
        uid: "uid-of-new".to_owned(),
        ..AppState::default()
    };
    state.want(world.revision("c2", vec![web("new", "x")]).await);
    world.remember("new", state).await;
    world.work(&new).await.unwrap();
    assert!(world.state("new").await.healthy.is_some());
    let live = world.cluster.get(WEB).unwrap();
    assert_eq!(live["metadata"]["annotations"][OWNER_ANNOTATION], "ns/new");
    assert!(matches!(run(&world.shared, &name).await, Ran::Again(None)));
    let gone = world
        .cluster
        .get("/apis/setpoint.dev/v1alpha1/namespaces/ns/apps/old")
        .unwrap();
    assert_eq!(gone["metadata"]["finalizers"], json!([]));
    assert_eq!(world.cluster.asked("DELETE"), [""; 0]);
    assert_eq!(
        world.cluster.get(WEB).unwrap()["metadata"]["uid"],
        live["metadata"]["uid"]
    );
}

#[tokio::test]
async fn what_a_heir_wants_stays_until_it_has_it_and_the_rest_goes() {
    let mut world = World::new().await;
    let mut other = web("old", "x");
    other["metadata"]["name"] = json!("other");
    world.cluster.put(WEB, web("old", "x"));
    world
        .cluster
        .put("/api/v1/namespaces/shop/configmaps/other", other.clone());
    world.declare("c2", &["new"]);
    world.app("old", true);
    let mut state = AppState {
        uid: "uid-of-old".to_owned(),
        inventory: inventory(&web("old", "x")),
        ..AppState::default()
    };
    state.inventory.extend(inventory(&other));
    world.remember("old", state).await;
    let waiting = Progress {
        repository: Some("fleet".to_owned()),
        source: "c2".to_owned(),
        wanted: Some(world.revision("c2", vec![web("new", "x")]).await),
        begun: true,
        settled: false,
        health: "Progressing".to_owned(),
    };
    world.shared.progress.write().insert(Name::new("ns", "new"), waiting);
    assert!(matches!(
        run(&world.shared, &Name::new("ns", "old")).await,
        Ran::Again(Some(_))
    ));
    assert_eq!(
        world.cluster.asked("DELETE"),
        ["/api/v1/namespaces/shop/configmaps/other"]
    );
    assert!(world.cluster.get(WEB).is_some());
}

#[tokio::test]
async fn an_app_waits_for_new_ones_that_do_not_say_what_they_want_however_long_and_for_no_old_one_that_is_broken() {
    let mut world = World::new().await;
    world.cluster.put(WEB, web("old", "x"));
    world.declare("c2", &["new"]);
    world.app("old", true);
    let state = AppState {
        uid: "uid-of-old".to_owned(),
        inventory: inventory(&web("old", "x")),
        ..AppState::default()
    };
    world.remember("old", state).await;
    let (old, new) = (Name::new("ns", "old"), Name::new("ns", "new"));
    let broken = |source: &str, begun| Progress {
        repository: Some("fleet".to_owned()),
        source: source.to_owned(),
        wanted: None,
        begun,
        settled: false,
        health: "Failed".to_owned(),
    };
    // Unknown; at an older commit, as after the next push; broken at this one before anything of it was there.
    for progress in [None, Some(broken("c1", true)), Some(broken("c2", false))] {
        world
            .shared
            .progress
            .write()
            .extend(progress.map(|progress| (new.clone(), progress)));
        *world.clock.lock() += Duration::from_secs(3_600);
        assert!(matches!(run(&world.shared, &old).await, Ran::Again(Some(_))));
        assert_eq!(world.cluster.asked("DELETE"), [""; 0]);
    }
    world.shared.progress.write().insert(new, broken("c2", true));
    run(&world.shared, &old).await;
    assert_eq!(world.cluster.asked("DELETE"), [WEB]);
}

#[tokio::test]
async fn an_app_whose_repository_was_not_read_yet_keeps_its_objects_and_says_why_it_is_still_there() {
    let mut world = World::new().await;
    world.cluster.put(WEB, web("web", "x"));
    world.declare("c1", &["web"]);
    world.shared.declared.write().clear();
    world.app("web", true);
    let state = AppState {
        uid: "uid-of-web".to_owned(),
        inventory: inventory(&web("web", "x")),
        ..AppState::default()
    };
    world.remember("web", state).await;
    let name = Name::new("ns", "web");
    let mut waits = Vec::new();
    for _ in 0..3 {
        match run(&world.shared, &name).await {
            Ran::Again(Some(after)) => waits.push(after.as_millis()),
            _ => panic!("it has to look again"),
        }
    }
    assert_eq!(waits, [250, 500, 1_000]);
    assert_eq!(world.cluster.asked("DELETE"), [""; 0]);
    let status = world.status("web");
    assert!(
        status["reason"]
            .as_str()
            .unwrap()
            .contains("waits for the repository fleet"),
        "{status}"
    );
}

#[tokio::test]
async fn a_cluster_that_does_not_answer_has_refused_nothing_and_what_runs_is_kept_meanwhile() {
    let mut world = World::new().await;
    let app = world.app("web", false);
    let (first, second) = (web("web", "one"), web("web", "two"));
    let mut state = AppState::default();
    state.want(world.revision("c1", vec![first.clone()]).await);
    world.remember("web", state).await;
    world.work(&app).await.unwrap();
    let mut state = world.state("web").await;
    assert!(state.healthy.is_some());
    state.want(world.revision("c2", vec![second]).await);
    world.remember("web", state).await;
    world.cluster.put(WEB, web("web", "somebody's"));
    world.cluster.fail("dryRun=All", 500);
    assert!(matches!(world.work(&app).await, Err(AppError::Target(_))));
    let state = world.state("web").await;
    assert!(state.failed.is_empty() && state.sync.is_none());
    assert_eq!(
        world.cluster.get(WEB).unwrap()["data"],
        first["data"],
        "it was put back"
    );
    world.cluster.heal();
    world.work(&app).await.unwrap();
    assert_eq!(world.state("web").await.healthy.unwrap().revision.source, "c2");
}

#[tokio::test]
async fn nothing_is_deleted_for_a_replacement_that_would_be_refused() {
    let mut world = World::new().await;
    let app = world.app("web", false);
    let frozen = |text: &str| {
        let mut object = web("web", text);
        object["immutable"] = json!(true);
        object
    };
    let mut state = AppState::default();
    state.want(world.revision("c1", vec![frozen("one")]).await);
    world.remember("web", state).await;
    world.work(&app).await.unwrap();
    let mut state = world.state("web").await;
    state.want(world.revision("c2", vec![frozen("two")]).await);
    world.remember("web", state).await;
    world
        .cluster
        .fail("POST /api/v1/namespaces/shop/configmaps?dryRun=All", 422);
    world.work(&app).await.unwrap();
    assert_eq!(world.cluster.asked("DELETE"), [""; 0]);
    assert_eq!(world.state("web").await.failed.len(), 1);
    assert_eq!(world.cluster.get(WEB).unwrap()["data"]["text"], "one");
    world.cluster.heal();
    let mut state = world.state("web").await;
    state.retry();
    world.remember("web", state).await;
    world.work(&app).await.unwrap();
    assert_eq!(world.cluster.get(WEB).unwrap()["data"]["text"], "two");
}

#[tokio::test]
async fn a_status_that_could_not_be_written_is_written_again() {
    let mut world = World::new().await;
    let app = world.app("web", false);
    world.cluster.fail("/status", 500);
    let mut memory = AppMemory::default();
    assert!(publish::publish(&world.shared, &app, &mut memory, None).await.is_some());
    world.cluster.heal();
    assert!(publish::publish(&world.shared, &app, &mut memory, None).await.is_none());
}

#[tokio::test]
async fn a_status_that_is_again_what_the_watch_still_tells_is_written() {
    let mut world = World::new().await;
    let app = world.app("web", false);
    let mut memory = AppMemory::default();
    publish::publish(&world.shared, &app, &mut memory, None).await;
    let path = "/apis/setpoint.dev/v1alpha1/namespaces/ns/apps/web";
    let told: App = serde_json::from_value(world.cluster.get(path).unwrap()).unwrap();
    memory.state.warnings = vec!["look here".to_owned()];
    publish::publish(&world.shared, &told, &mut memory, None).await;
    assert_eq!(world.status("web")["warnings"], json!(["look here"]));
    memory.state.warnings.clear();
    publish::publish(&world.shared, &told, &mut memory, None).await;
    assert_ne!(world.status("web")["warnings"], json!(["look here"]));
}

#[tokio::test]
async fn an_object_of_a_kind_that_is_not_served_is_not_forgotten() {
    let mut world = World::new().await;
    let app = world.app("web", false);
    let mut state = AppState::default();
    state.want(world.revision("c1", vec![web("web", "one")]).await);
    let odd = ObjectRef {
        group: "odd.example.com".to_owned(),
        version: "v1".to_owned(),
        kind: "Odd".to_owned(),
        namespace: Some("shop".to_owned()),
        name: "odd".to_owned(),
    };
    state.inventory.insert(odd.clone());
    world.remember("web", state).await;
    world.work(&app).await.unwrap();
    let state = world.state("web").await;
    assert!(state.healthy.is_some() && state.inventory.contains(&odd));
}

#[tokio::test]
async fn a_sync_that_a_restart_interrupted_counts_from_then_on() {
    let mut world = World::new().await;
    let app = world.app("web", false);
    world.cluster.put(WEB, web("web", "one"));
    let wanted = world.revision("c1", vec![web("web", "one")]).await;
    let kept = Kept::read(&Name::of(&app), &app.spec).unwrap();
    let mut state = AppState::default();
    state.want(wanted.clone());
    state.begin(wanted.clone(), Cause::Deploy, [], &kept.policy, world.shared.millis());
    let mut memory = AppMemory::from(state);
    let seen: View = view::observe(&world.shared, &kept, &mut memory, &wanted).await.unwrap();
    assert!(seen.trouble.is_none());
    let uid = world.cluster.get(WEB).unwrap()["metadata"]["uid"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(memory.counted, Some(1));
    assert!(
        memory.baselines.contains_key(&uid),
        "as it was found, not as if nothing had ever happened"
    );
}

#[tokio::test]
async fn a_sync_under_way_ends_although_the_spec_cannot_be_read_any_more() {
    let mut world = World::new().await;
    let mut app = world.app("web", false);
    let wanted = world.revision("c1", vec![web("web", "one")]).await;
    let kept = Kept::read(&Name::of(&app), &app.spec).unwrap();
    let mut state = AppState {
        uid: "uid-of-web".to_owned(),
        ..AppState::default()
    };
    state.want(wanted.clone());
    state.begin(
        wanted,
        Cause::Deploy,
        inventory(&web("web", "one")),
        &kept.policy,
        world.shared.millis(),
    );
    world.remember("web", state).await;
    app.spec.sync.deadline = "soon".to_owned();
    world.apps.apply_watcher_event(&Event::Apply(app));
    assert!(matches!(
        run(&world.shared, &Name::new("ns", "web")).await,
        Ran::Again(_)
    ));
    let state = world.state("web").await;
    assert!(state.sync.is_none() && state.healthy.is_some());
    let status = world.status("web");
    assert!(
        status["reason"].as_str().unwrap().contains("spec.sync.deadline"),
        "{status}"
    );
}

#[tokio::test]
async fn an_app_that_somebody_deleted_is_made_again_although_the_remote_cannot_be_reached() {
    let mut world = World::new().await;
    world.declare("c1", &["web"]);
    let fleet = Name::new("ns", "fleet");
    let ran = crate::repository::reconcile(&world.shared, &fleet).await;
    assert!(matches!(ran, Ran::Retry), "a remote that is down may be up again");
    let made = world
        .cluster
        .get("/apis/setpoint.dev/v1alpha1/namespaces/ns/apps/web")
        .unwrap();
    assert_eq!(made["metadata"]["ownerReferences"][0]["uid"], "7");
    let status = world
        .cluster
        .get("/apis/setpoint.dev/v1alpha1/namespaces/ns/repositories/fleet")
        .unwrap()["status"]
        .clone();
    assert_ne!(status["reason"], "");
    assert_eq!(status["inForce"], "c1");
}

#[tokio::test]
async fn what_became_well_unheard_of_does_not_fail_at_the_deadline() {
    const CLAIM: &str = "/api/v1/namespaces/shop/persistentvolumeclaims/data";
    let mut world = World::new().await;
    let app = world.app("web", false);
    let claim = json!({
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": "data",
            "namespace": "shop",
            "labels": {"setpoint.dev/app": "web"},
            "annotations": {OWNER_ANNOTATION: "ns/web"},
        },
        "spec": {"storageClassName": "slow"},
    });
    let mut state = AppState::default();
    state.want(world.revision("c1", vec![claim]).await);
    world.remember("web", state).await;
    world.work(&app).await.unwrap();
    assert!(world.state("web").await.sync.is_some(), "it waits for the claim");
    let mut bound = world.cluster.get(CLAIM).unwrap();
    bound["status"] = json!({"phase": "Bound"});
    world.cluster.put(CLAIM, bound);
    {
        let memory = world.shared.memory_of(&Name::of(&app));
        let now = world.shared.millis();
        memory.lock().await.state.sync.as_mut().unwrap().deadline = now;
    }
    world.work(&app).await.unwrap();
    let state = world.state("web").await;
    assert!(state.failed.is_empty() && state.healthy.is_some());
}

#[tokio::test]
async fn what_this_machine_cannot_render_is_tried_less_and_less_often() {
    let mut world = World::new().await;
    for (path, answer) in [
        (
            "/version",
            json!({
                "major": "1", "minor": "37", "gitVersion": "v1.37.0", "gitCommit": "", "gitTreeState": "", "buildDate": "",
                "goVersion": "", "compiler": "", "platform": "",
            }),
        ),
        (
            "/apis",
            json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": []}),
        ),
        (
            "/api/v1",
            json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "v1", "resources": []}),
        ),
    ] {
        world.cluster.put(path, answer);
    }
    let bytes = pack(&[("Chart.yaml".to_owned(), b"name: demo".to_vec())].into()).unwrap();
    let app = world.app("web", false);
    let spec = AppSpec {
        chart: Some(serde_json::from_value(json!({"name": "demo", "digest": digest(&bytes)})).unwrap()),
        ..AppSpec::default()
    };
    let batch = Batch {
        blobs: vec![bytes],
        ..Batch::default()
    };
    world.shared.records.commit(batch).await.unwrap();
    let kept = Kept::read(&Name::of(&app), &spec).unwrap();
    let mut memory = AppMemory::from(AppState::default());
    let rendered = || world.shared.metrics.render.get_sample_count();
    for (tries, seconds) in [(1, 5), (2, 10), (3, 20)] {
        let wait = source::take_up(&world.shared, &kept, &app, &mut memory).await.unwrap();
        assert_eq!(wait, Some(Duration::from_secs(seconds)));
        // Whatever wakes the app meanwhile.
        let wait = source::take_up(&world.shared, &kept, &app, &mut memory).await.unwrap();
        assert!(wait.is_some_and(|wait| wait <= Duration::from_secs(seconds)));
        assert_eq!(memory.stuck.as_deref(), Some("nothing is rendered here"));
        assert_eq!(rendered(), tries);
        memory.unrendered.as_mut().unwrap().again = tokio::time::Instant::now();
    }
    // Unless somebody asks for it.
    memory.unrendered.as_mut().unwrap().again += Duration::from_secs(300);
    memory.unread = true;
    source::take_up(&world.shared, &kept, &app, &mut memory).await.unwrap();
    assert_eq!(rendered(), 4);
}
