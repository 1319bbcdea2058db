use std::sync::Mutex;

use futures::channel::mpsc;
use serde_json::json;

use super::*;
use crate::host_ports::HostPorts;

const LIMIT: Duration = Duration::from_secs(5);

/// Keeps the tables, and fails so often first.
#[derive(Default)]
struct Recorded {
    tables: Mutex<Vec<ServiceTable>>,
    failures: Mutex<u32>,
}

#[async_trait]
impl Rules for Recorded {
    async fn apply(&self, table: &ServiceTable) -> Result<(), NetError> {
        let mut failures = self.failures.lock().unwrap();
        if *failures > 0 {
            *failures -= 1;
            return Err(NetError::Invalid {
                what: "not yet".to_owned(),
            });
        }
        self.tables.lock().unwrap().push(table.clone());
        Ok(())
    }
}

struct World {
    services: mpsc::UnboundedSender<watcher::Result<Event<Service>>>,
    slices: mpsc::UnboundedSender<watcher::Result<Event<EndpointSlice>>>,
    nodes: mpsc::UnboundedSender<watcher::Result<Event<Node>>>,
    host_ports: HostPorts,
    rules: Arc<Recorded>,
    running: Services,
}

fn start(rules: Recorded) -> World {
    let (services, service_events) = mpsc::unbounded();
    let (slices, slice_events) = mpsc::unbounded();
    let rules = Arc::new(rules);
    let metrics = Metrics::register(&Registry::new());
    let (nodes, node_events) = mpsc::unbounded();
    let host_ports = HostPorts::default();
    host_ports.all_known();
    let sources = Sources {
        services: service_events,
        slices: slice_events,
        nodes: node_events,
        host_ports: host_ports.published(),
    };
    let running = Services::run(sources, "one".to_owned(), Arc::clone(&rules), metrics);
    World {
        nodes,
        host_ports,
        services,
        slices,
        rules,
        running,
    }
}

fn service() -> Service {
    serde_json::from_value(json!({
        "metadata": {"namespace": "default", "name": "web"},
        "spec": {"clusterIP": "10.96.0.9", "ports": [{"port": 80}]},
    }))
    .unwrap()
}

fn slice(ready: &[&str]) -> EndpointSlice {
    let endpoints: Vec<_> = ready.iter().map(|ip| json!({"addresses": [ip]})).collect();
    serde_json::from_value(json!({
        "metadata": {"namespace": "default", "name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4", "ports": [{"port": 8080, "name": ""}], "endpoints": endpoints,
    }))
    .unwrap()
}

fn list(world: &World, ready: &[&str]) {
    world.services.unbounded_send(Ok(Event::Init)).unwrap();
    world.services.unbounded_send(Ok(Event::InitApply(service()))).unwrap();
    world.services.unbounded_send(Ok(Event::InitDone)).unwrap();
    world.slices.unbounded_send(Ok(Event::Init)).unwrap();
    world.slices.unbounded_send(Ok(Event::InitApply(slice(ready)))).unwrap();
    world.slices.unbounded_send(Ok(Event::InitDone)).unwrap();
}

const fn pod(last: u8) -> AddressPair {
    AddressPair {
        ipv4: std::net::Ipv4Addr::new(10, 42, 0, last),
        ipv6: None,
    }
}

const ONE: AddressPair = pod(2);
/// No service leads to it.
const NOBODY: AddressPair = pod(9);

#[tokio::test]
async fn nothing_is_applied_before_both_kinds_are_read() {
    let world = start(Recorded::default());
    world.services.unbounded_send(Ok(Event::Init)).unwrap();
    world.services.unbounded_send(Ok(Event::InitApply(service()))).unwrap();
    world.services.unbounded_send(Ok(Event::InitDone)).unwrap();
    assert!(!world.running.drained(ONE, Duration::ZERO).await);
    list(&world, &["10.42.0.2"]);
    assert!(world.running.drained(NOBODY, LIMIT).await);
    let tables = world.rules.tables.lock().unwrap();
    assert!(
        tables.iter().all(|table| table.ports[0].backends.len() == 1),
        "{tables:?}"
    );
}

#[tokio::test]
async fn a_pod_is_drained_when_the_rules_without_it_are_in_force() {
    let world = start(Recorded::default());
    list(&world, &["10.42.0.2", "10.42.0.3"]);
    assert!(world.running.drained(NOBODY, LIMIT).await);
    assert!(!world.running.drained(ONE, Duration::ZERO).await);
    world
        .slices
        .unbounded_send(Ok(Event::Apply(slice(&["10.42.0.3"]))))
        .unwrap();
    assert!(world.running.drained(ONE, LIMIT).await);
    let last = world.rules.tables.lock().unwrap().last().cloned().unwrap();
    assert_eq!(last.ports[0].backends.len(), 1);
    world.running.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_failed_apply_is_repeated() {
    let world = start(Recorded {
        failures: Mutex::new(3),
        ..Recorded::default()
    });
    list(&world, &["10.42.0.2"]);
    assert!(world.running.drained(NOBODY, LIMIT).await);
    assert_eq!(world.rules.tables.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_list_that_starts_again_forgets_what_is_gone() {
    let world = start(Recorded::default());
    list(&world, &["10.42.0.2"]);
    assert!(world.running.drained(NOBODY, LIMIT).await);
    list(&world, &[]);
    assert!(world.running.drained(ONE, LIMIT).await);
}

/// Waits until the rules that were applied last are as wanted.
async fn until(world: &World, what: &str, wanted: impl Fn(&ServiceTable) -> bool) {
    let seen = async {
        while !world.rules.tables.lock().unwrap().last().is_some_and(&wanted) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    assert!(tokio::time::timeout(LIMIT, seen).await.is_ok(), "{what}");
}

#[tokio::test]
async fn the_host_ports_of_pods_are_part_of_the_rules() {
    let world = start(Recorded::default());
    list(&world, &["10.42.0.2"]);
    until(&world, "no host port", |table| table.host_ports.is_empty()).await;
    let pod = json!({"spec": {"containers": [{"name": "a", "ports": [{"containerPort": 80, "hostPort": 8080}]}]}});
    assert!(world.host_ports.reserve("u", &serde_json::from_value(pod).unwrap()));
    world.host_ports.open("u", ONE);
    until(&world, "a host port", |table| table.host_ports.len() == 1).await;
    world.host_ports.release("u");
    until(&world, "none again", |table| table.host_ports.is_empty()).await;
}

#[tokio::test]
async fn endpoints_hinted_for_this_nodes_zone_are_preferred_once_it_has_one() {
    let world = start(Recorded::default());
    list(&world, &[]);
    let hinted = |ip: &str, zone: &str| json!({"addresses": [ip], "hints": {"forZones": [{"name": zone}]}});
    let mut both = slice(&[]);
    both.endpoints =
        Some(serde_json::from_value(json!([hinted("10.42.0.2", "east"), hinted("10.42.0.3", "west")])).unwrap());
    world.slices.unbounded_send(Ok(Event::Apply(both))).unwrap();
    let backends = |count: usize| move |table: &ServiceTable| table.ports[0].backends.len() == count;
    until(&world, "both", backends(2)).await;
    let node = json!({"metadata": {"name": "one", "labels": {"topology.kubernetes.io/zone": "east"}}});
    let node = serde_json::from_value(node).unwrap();
    world.nodes.unbounded_send(Ok(Event::Apply(node))).unwrap();
    until(&world, "the one of the zone", backends(1)).await;
}
