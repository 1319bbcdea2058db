//! Ways into pods from the host and beyond: host ports, load balancers, health checks; and updates under load by each of them.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::Value;

use crate::harness::{World, http_get, items, wait_for};

/// A port of this host that nobody has just now.
fn free_port() -> u16 {
    let listener = TcpListener::bind(("0.0.0.0", 0)).unwrap();
    listener.local_addr().unwrap().port()
}

fn pod_with_host_port(name: &str, port: u16) -> String {
    format!(
        "
apiVersion: v1
kind: Pod
metadata: {{ name: {name}, labels: {{ app: {name} }} }}
spec:
  containers:
    - name: app
      image: setpoint.dev/demo:v1
      ports: [{{ containerPort: 8080, hostPort: {port} }}]
      readinessProbe: {{ httpGet: {{ path: /healthz, port: 8080 }} }}
"
    )
}

#[test]
fn a_host_port_leads_to_its_pod_and_a_second_pod_waits_for_it() {
    let world = World::start();
    let port = free_port();
    world.apply(&pod_with_host_port("one", port));
    world.ready_pods("app=one", 1);
    let url = format!("http://127.0.0.1:{port}/");
    wait_for("the host port to answer", || http_get(&url).ok());
    let node = items(&world.get(&["nodes"]).unwrap()).remove(0);
    let ip = node["status"]["addresses"][0]["address"].as_str().unwrap().to_owned();
    http_get(&format!("http://{ip}:{port}/")).unwrap();
    world.apply(&pod_with_host_port("two", port));
    let expected = "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports";
    world.until(&["pod", "two"], "to wait", |pod| {
        let conditions = pod["status"]["conditions"].as_array();
        conditions.is_some_and(|all| {
            all.iter().any(|condition| {
                condition["message"]
                    .as_str()
                    .is_some_and(|text| text.starts_with(expected))
            })
        })
    });
    // One that the scheduler was not asked about is refused by the node.
    let node_name = node["metadata"]["name"].as_str().unwrap();
    let bound = pod_with_host_port("three", port).replace("spec:\n", &format!("spec:\n  nodeName: {node_name}\n"));
    world.apply(&bound);
    let three = world.until(&["pod", "three"], "rejected", |pod| pod["status"]["phase"] == "Failed");
    assert_eq!(three["status"]["reason"], "NodePorts");
    world.kubectl(&["delete", "pod", "one", "--grace-period=1"]);
    world.ready_pods("app=two", 1);
    wait_for("the host port to lead to the other", || {
        http_get(&url).ok().filter(|page| page.contains("two"))
    });
    world.kubectl(&["delete", "pod", "two", "--grace-period=1"]);
    wait_for("the host port to be closed", || http_get(&url).err());
}

#[test]
fn a_load_balanced_service_is_reached_at_the_nodes_address_and_a_second_on_its_port_is_told() {
    let world = World::start();
    world.demo("web", 1);
    let port = free_port();
    let patch = format!(
        r#"{{"spec":{{"type":"LoadBalancer","externalTrafficPolicy":"Local","ports":[{{"port":{port},"targetPort":"http"}}]}}}}"#
    );
    world.kubectl(&["patch", "service", "web", "--type=merge", "-p", &patch]);
    let service = world.until(&["service", "web"], "balanced", |service| {
        service["status"]["loadBalancer"]["ingress"][0]["ip"].is_string()
    });
    let ip = service["status"]["loadBalancer"]["ingress"][0]["ip"].as_str().unwrap();
    let url = format!("http://{ip}:{port}/");
    wait_for("the load balancer to answer", || http_get(&url).ok());
    let health = service["spec"]["healthCheckNodePort"].as_u64().unwrap();
    let health = format!("http://127.0.0.1:{health}/");
    let answer = wait_for("the health check to answer", || http_get(&health).ok());
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer["localEndpoints"], 1);
    assert_eq!(answer["service"]["name"], "web");

    world.apply(&format!(
        "
apiVersion: v1
kind: Service
metadata: {{ name: second }}
spec: {{ type: LoadBalancer, selector: {{ app: web }}, ports: [{{ port: {port}, targetPort: http }}] }}
"
    ));
    let about = "involvedObject.name=second,reason=SyncLoadBalancerFailed";
    let events = world.until(&["events", "--field-selector", about], "told", |list| {
        !items(list).is_empty()
    });
    let message = items(&events)[0]["message"].as_str().unwrap().to_owned();
    assert!(
        message.contains(&format!("port {port}/TCP of {ip} is taken by service default/web")),
        "{message}"
    );
    world.kubectl(&["delete", "service", "web"]);
    world.until(&["service", "second"], "balanced", |service| {
        service["status"]["loadBalancer"]["ingress"][0]["ip"] == ip
    });
    wait_for("the second to answer", || http_get(&url).ok());
    world.kubectl(&["scale", "deployment", "web", "--replicas=0"]);
    wait_for("the port to be closed", || http_get(&url).err());
}

#[test]
fn an_update_of_two_replicas_fails_no_request_by_the_cluster_ip_or_the_node_port() {
    let world = World::start();
    world.demo("web", 2);
    world.kubectl(&["patch", "service", "web", "-p", r#"{"spec":{"type":"NodePort"}}"#]);
    let service = world.get(&["service", "web"]).unwrap();
    let node_port = service["spec"]["ports"][0]["nodePort"].as_u64().unwrap();
    let urls = [
        format!("http://{}/", world.cluster_ip("web")),
        format!("http://127.0.0.1:{node_port}/"),
    ];
    for url in &urls {
        wait_for("an answer", || http_get(url).ok());
    }
    let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let askers: Vec<_> = urls
        .iter()
        .cycle()
        .take(4)
        .map(|url| {
            let (stop, asked, url) = (stop.clone(), asked.clone(), url.clone());
            std::thread::spawn(move || {
                let mut failures = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    failures.extend(http_get(&url).err().map(|error| format!("{url}: {error}")));
                    asked.fetch_add(1, Ordering::Relaxed);
                }
                failures
            })
        })
        .collect();
    for version in ["v2", "v1", "v2"] {
        let image = format!("app=setpoint.dev/demo:{version}");
        world.kubectl(&["set", "image", "deployment/web", &image]);
        world.kubectl(&["rollout", "status", "deployment/web", "--timeout=90s"]);
    }
    wait_for("only the new version to be left", || {
        let pods = items(&world.get(&["pods", "-l", "app=web"]).unwrap());
        (pods.len() == 2).then_some(())
    });
    stop.store(true, Ordering::Relaxed);
    let failures: Vec<String> = askers.into_iter().flat_map(|asker| asker.join().unwrap()).collect();
    let asked = asked.load(Ordering::Relaxed);
    println!("{asked} requests");
    assert!(asked > 20, "only {asked} requests were made");
    assert!(
        failures.is_empty(),
        "{} of {asked} failed: {failures:?}",
        failures.len()
    );
}
