//! A hundred apps of ten objects: one commit that changes all of them, a look at all of them, and what they cost at rest.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::Context;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, PostParams};
use kube::{Client, ResourceExt};
use setpoint_engine::api::{App, NAMESPACE};

use crate::UP;
use crate::fleet::{Fleet, Pushed};
use crate::instance::{DEADLINE, Instance, cpu_time, pss_kb};
use crate::objects::{COUNT, VERSION, kinds, objects};
use crate::socket::{Answer, Request, Socket};
use crate::table::{Times, row};
use crate::watch::{Metadata, Watch, metadata};

const APPS: usize = 100;
/// The namespace that the apps' objects are in.
const SPACE: &str = "apps";
/// The namespace of the same objects without apps.
const PLAIN: &str = "plain";
/// Before each run.
const REST: Duration = Duration::from_secs(1);

fn name(place: usize) -> String {
    format!("app-{place:03}")
}

/// One folder for all, so that one commit changes a line and with it every object of every app.
pub fn files() -> anyhow::Result<Vec<(String, String)>> {
    let toml: Vec<String> = (0..APPS)
        .map(|place| {
            format!(
                "[[app]]\nname = \"{}\"\npath = \"app\"\nnamespace = \"{SPACE}\"\nvalues = [\"values.yaml\"]\n\n",
                name(place)
            )
        })
        .collect();
    let mut documents = Vec::new();
    for (_, object) in objects("{{Release.Name}}", "{{Values.version}}") {
        documents.push(format!("---\n{}\n", serde_json::to_string_pretty(&object)?));
    }
    Ok(vec![
        ("setpoint.toml".to_owned(), toml.concat()),
        ("app/objects.yaml.hbs".to_owned(), documents.concat()),
        values(0),
    ])
}

fn values(run: usize) -> (String, String) {
    ("values.yaml".to_owned(), format!("version: {}\n", version(run)))
}

fn version(run: usize) -> String {
    format!("v{run}")
}

/// Prints the rows, then what the apps cost at rest.
pub async fn rows(instance: &mut Instance, fleet: &Fleet, runs: usize, idle: Duration) -> anyhow::Result<()> {
    let client = instance.client().await?;
    let mut world = World::start(&client);
    world.applied(0).await?;
    world.healthy(&fleet.head()?).await?;

    commits(&mut world, fleet, runs).await?;

    let mut socket = Socket::connect(instance).await?;
    resyncs(&mut world, &mut socket, runs).await?;

    drop(socket);
    drop(world);
    let pid = instance.pid()?;
    tokio::time::sleep(REST).await;
    let before = cpu_time(pid)?;
    tokio::time::sleep(idle).await;
    let used = cpu_time(pid)? - before;
    let worked = pss_kb(u64::from(pid))?;

    instance.end()?;
    instance.up(&UP).await?;
    let mut socket = Socket::connect(instance).await?;
    looked_at(&mut socket).await?;
    tokio::time::sleep(REST).await;
    let started = pss_kb(u64::from(instance.pid()?))?;

    // Last: its objects would count among what the apps cost.
    let client = instance.client().await?;
    row(
        "floor: 1,000 applies through the API, 8 at a time",
        applies(&client, &mut socket, runs).await?,
    );

    println!("\nwith {APPS} apps of {COUNT} objects, idle for {} s:", idle.as_secs());
    let percent = 100.0 * used.as_secs_f64() / idle.as_secs_f64();
    println!("  daemon CPU                      {percent:>8.2} %");
    println!(
        "  daemon memory after all of it   {:>8.1} MB PSS",
        worked as f64 / 1024.0
    );
    println!(
        "  daemon memory after a restart   {:>8.1} MB PSS",
        started as f64 / 1024.0
    );
    Ok(())
}

/// Watches on all that a commit changes.
struct World {
    objects: Vec<(Watch<Metadata>, usize)>,
    apps: Watch<App>,
}

impl World {
    fn start(client: &Client) -> World {
        let objects = kinds()
            .iter()
            .map(|(kind, count)| (metadata(client, SPACE, kind), count * APPS))
            .collect();
        World {
            objects,
            apps: Watch::start(Api::namespaced(client.clone(), NAMESPACE), ""),
        }
    }

    /// Waits until every object is of a run; returns the moment at which the last one was.
    async fn applied(&mut self, run: usize) -> anyhow::Result<Instant> {
        let version = version(run);
        let mut last = None;
        for (watch, count) in &mut self.objects {
            let mut names = BTreeSet::new();
            let all = |object: &Metadata| {
                if object.labels().get(VERSION) == Some(&version) {
                    names.insert(object.name_any());
                }
                names.len() == *count
            };
            let (moment, _) = watch.until(&format!("all objects are of {version}"), all).await?;
            last = last.max(Some(moment));
        }
        last.context("there are kinds")
    }

    /// Waits until every app is healthy at a commit; returns the moment at which the last one was.
    async fn healthy(&mut self, commit: &str) -> anyhow::Result<Instant> {
        let mut names = BTreeSet::new();
        let all = |app: &App| {
            let status = app.status.as_ref();
            if status.is_some_and(|s| s.health == "Healthy" && s.revision.as_deref() == Some(commit)) {
                names.insert(app.name_any());
            }
            names.len() == APPS
        };
        let (moment, _) = self
            .apps
            .until(&format!("all apps are healthy at {commit}"), all)
            .await?;
        Ok(moment)
    }

    /// Forgets what has arrived; returns how many changes of objects that were.
    fn skip(&mut self) -> usize {
        self.apps.skip();
        self.objects.iter_mut().map(|(watch, _)| watch.skip()).sum()
    }
}

/// One commit a run that changes all objects.
async fn commits(world: &mut World, fleet: &Fleet, runs: usize) -> anyhow::Result<()> {
    let (mut applied, mut returned, mut healthy) = (Times::new(), Times::new(), Times::new());
    for run in 1..=runs {
        let commit = fleet.commit(&[values(run)])?;
        tokio::time::sleep(REST).await;
        let pushed: Pushed = fleet.push().await?;
        let all_applied = world.applied(run).await?;
        let all_healthy = world.healthy(&commit).await?;
        applied.push(all_applied.duration_since(pushed.started));
        returned.push(all_applied.saturating_duration_since(pushed.returned));
        healthy.push(all_healthy.duration_since(pushed.started));
    }
    row("100 apps of 10: push started -> all applied", applied);
    row("100 apps of 10: push returned -> all applied", returned);
    row("100 apps of 10: push started -> all say Healthy", healthy);
    Ok(())
}

fn requests(method: &'static str, subresource: &str) -> Vec<Request> {
    let request = |place| Request {
        method,
        path: format!(
            "/apis/setpoint.dev/v1alpha1/namespaces/{NAMESPACE}/apps/{}{subresource}",
            name(place)
        ),
        body: Vec::new(),
    };
    (0..APPS).map(request).collect()
}

/// A sync of every app, which finds nothing to do; beside it, reading every App.
async fn resyncs(world: &mut World, socket: &mut Socket, runs: usize) -> anyhow::Result<()> {
    let (mut floor, mut all, mut sum, mut each) = (Times::new(), Times::new(), Times::new(), Times::new());
    for (subresource, method) in [("", "GET"), ("/sync", "POST")] {
        let requests = requests(method, subresource);
        for _ in 0..runs {
            tokio::time::sleep(REST).await;
            world.skip();
            let start = Instant::now();
            let answers = socket.ask(&requests).await?;
            let took = start.elapsed();
            if method == "GET" {
                floor.push(took);
                continue;
            }
            all.push(took);
            sum.push(answers.iter().map(|answer| answer.took).sum());
            each.extend(answers.iter().map(|answer| answer.took));
            nothing_done(world, &answers).await;
        }
    }
    row("floor: 100 Apps read, 8 at a time", floor);
    row("no-op resync of 100 apps, 8 at a time", all);
    row("no-op resync of 100 apps, the sum of the answers", sum);
    row("no-op resync of one app, with 7 others", each);
    Ok(())
}

/// Says so when a resync found something to do: what is measured then is something else.
async fn nothing_done(world: &mut World, answers: &[Answer]) {
    for answer in answers.iter().filter(|answer| answer.value["health"] != "Healthy") {
        eprintln!("this was no no-op: a resync answered {}", answer.value);
    }
    // What was changed is shown by watches a little later.
    tokio::time::sleep(REST).await;
    match world.skip() {
        0 => {}
        changed => {
            eprintln!("this was no no-op: a resync of all apps was followed by {changed} changes of their objects")
        }
    }
}

/// Waits after a start until every app has been looked at: a sync of each answers then.
async fn looked_at(socket: &mut Socket) -> anyhow::Result<()> {
    let requests = requests("POST", "/sync");
    let start = Instant::now();
    // The API answers a little earlier than the engine. One alone: what others have under way would be given up with it.
    while let Err(error) = socket.ask(&requests[..1]).await {
        if start.elapsed() > DEADLINE {
            return Err(error.context("the engine did not answer"));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    socket.ask(&requests).await?;
    Ok(())
}

/// The same changes of the same objects, sent as they are.
async fn applies(client: &Client, socket: &mut Socket, runs: usize) -> anyhow::Result<Times> {
    let mut namespace = Namespace::default();
    namespace.metadata.name = Some(PLAIN.to_owned());
    let namespaces: Api<Namespace> = Api::all(client.clone());
    namespaces.create(&PostParams::default(), &namespace).await?;
    let mut times = Times::new();
    for run in 0..=runs {
        let mut requests = Vec::with_capacity(APPS * COUNT);
        for place in 0..APPS {
            for (kind, object) in objects(&name(place), &version(run)) {
                let group = match kind.group.as_str() {
                    "" => "/api/v1".to_owned(),
                    group => format!("/apis/{group}/v1"),
                };
                let own = object["metadata"]["name"].as_str().context("an object has a name")?;
                requests.push(Request {
                    method: "PATCH",
                    path: format!(
                        "{group}/namespaces/{PLAIN}/{}/{own}?force=true&fieldManager=bench",
                        kind.plural
                    ),
                    body: serde_json::to_vec(&object)?,
                });
            }
        }
        tokio::time::sleep(REST).await;
        let start = Instant::now();
        socket.ask(&requests).await?;
        // The first makes them.
        if run > 0 {
            times.push(start.elapsed());
        }
    }
    Ok(times)
}
