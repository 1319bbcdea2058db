//! A real workload: configuration, probes, limits, service, DNS, updates under load.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::Value;

use crate::harness::{World, http_get, items, wait_for};

const FULL: &str = "
apiVersion: v1
kind: ConfigMap
metadata: { name: settings }
data: { COLOR: blue, app.conf: 'level = debug' }
---
apiVersion: v1
kind: Secret
metadata: { name: credentials }
stringData: { PASSWORD: hunter2 }
---
apiVersion: apps/v1
kind: Deployment
metadata: { name: web }
spec:
  replicas: 3
  selector: { matchLabels: { app: web } }
  template:
    metadata: { labels: { app: web } }
    spec:
      containers:
        - name: app
          image: setpoint.dev/demo:v1
          ports: [{ name: http, containerPort: 8080 }]
          env:
            - { name: PLAIN, value: 'plain $(POD)' }
            - { name: POD, valueFrom: { fieldRef: { fieldPath: metadata.name } } }
            - { name: COLOR, valueFrom: { configMapKeyRef: { name: settings, key: COLOR } } }
            - { name: PASSWORD, valueFrom: { secretKeyRef: { name: credentials, key: PASSWORD } } }
            - { name: LIMIT, valueFrom: { resourceFieldRef: { resource: limits.memory } } }
          resources:
            requests: { cpu: 10m, memory: 16Mi }
            limits: { cpu: 500m, memory: 64Mi }
          startupProbe: { httpGet: { path: /healthz, port: http }, failureThreshold: 30 }
          readinessProbe: { httpGet: { path: /healthz, port: http } }
          livenessProbe: { tcpSocket: { port: http } }
          volumeMounts:
            - { name: settings, mountPath: /etc/app, readOnly: true }
            - { name: credentials, mountPath: /etc/credentials }
            - { name: scratch, mountPath: /scratch }
      volumes:
        - { name: settings, configMap: { name: settings } }
        - { name: credentials, secret: { secretName: credentials } }
        - { name: scratch, emptyDir: {} }
---
apiVersion: v1
kind: Service
metadata: { name: web }
spec:
  selector: { app: web }
  ports: [{ port: 80, targetPort: http }]
";

#[test]
fn a_deployment_with_everything_works_and_is_reached_by_address_and_name() {
    let world = World::start();
    world.apply(FULL);
    world.kubectl(&["rollout", "status", "deployment/web", "--timeout=90s"]);
    let pods = world.ready_pods("app=web", 3);
    let page = http_get(&format!("http://{}/", world.cluster_ip("web"))).unwrap();
    for part in [
        "version: v1",
        "COLOR=blue",
        "PASSWORD=hunter2",
        "LIMIT=67108864",
        "PLAIN=plain $(POD)",
    ] {
        assert!(page.contains(part), "no {part} in {page}");
    }
    // Every pod answers through the service, sooner or later.
    let mut seen = std::collections::BTreeSet::new();
    wait_for("each of the three pods to answer", || {
        let page = http_get(&format!("http://{}/", world.cluster_ip("web"))).unwrap();
        seen.insert(page.lines().nth(1).unwrap().to_string());
        (seen.len() == 3).then_some(())
    });
    // From a pod by DNS name, in every form, itself included.
    let name = pods[0]["metadata"]["name"].as_str().unwrap();
    for url in [
        "http://web/",
        "http://web.default/",
        "http://web.default.svc.cluster.local/",
    ] {
        let page = world.kubectl(&["exec", name, "--", "/setpoint", "__demo", "--get", url]);
        assert!(page.contains("version: v1"), "{url}: {page}");
    }
    for _ in 0..12 {
        // Among twelve, some come back to the pod that asks (hairpin).
        world.kubectl(&["exec", name, "--", "/setpoint", "__demo", "--get", "http://web/healthz"]);
    }
    let missing = world.kubectl_fails(&["exec", name, "--", "/setpoint", "__demo", "--get", "http://nosuch/"]);
    assert!(missing.contains("cannot resolve nosuch"), "{missing}");
    // The files are there, with what the objects say.
    let pid = world.pid_of(&pods[0]);
    let inside = |path: &str| std::fs::read_to_string(format!("/proc/{pid}/root{path}")).unwrap();
    assert_eq!(inside("/etc/app/app.conf"), "level = debug");
    assert_eq!(inside("/etc/credentials/PASSWORD"), "hunter2");
    world.kubectl(&[
        "patch",
        "configmap",
        "settings",
        "-p",
        r#"{"data":{"app.conf":"level = info"}}"#,
    ]);
    wait_for("the file to follow the ConfigMap", || {
        (inside("/etc/app/app.conf") == "level = info").then_some(())
    });
    // The limits hold in the kernel.
    let cgroup = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    assert!(cgroup.contains(&format!("setpoint-{}", world.id())), "{cgroup}");
}

#[test]
fn an_update_fails_no_request_through_the_service() {
    let world = World::start();
    world.demo("web", 3);
    let url = format!("http://{}/", world.cluster_ip("web"));
    http_get(&url).unwrap();
    let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let askers: Vec<_> = (0..3)
        .map(|_| {
            let (stop, asked, url) = (stop.clone(), asked.clone(), url.clone());
            std::thread::spawn(move || {
                let mut failures = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    if let Err(error) = http_get(&url) {
                        failures.push(error);
                    }
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
        (pods.len() == 3).then_some(())
    });
    stop.store(true, Ordering::Relaxed);
    let failures: Vec<String> = askers.into_iter().flat_map(|asker| asker.join().unwrap()).collect();
    let asked = asked.load(Ordering::Relaxed);
    assert!(asked > 20, "only {asked} requests were made");
    assert!(
        failures.is_empty(),
        "{} of {asked} requests failed: {failures:?}",
        failures.len()
    );
    assert!(http_get(&url).unwrap().contains("version: v2"));
}

#[test]
fn a_service_without_endpoints_refuses_at_once() {
    let world = World::start();
    world.demo("web", 0);
    let error = http_get(&format!("http://{}/", world.cluster_ip("web"))).unwrap_err();
    assert!(
        error.contains("refused") || error.contains("Failed to connect"),
        "{error}"
    );
}

#[test]
fn a_node_port_is_reached_on_the_host() {
    let world = World::start();
    world.demo("web", 1);
    world.kubectl(&["patch", "service", "web", "-p", r#"{"spec":{"type":"NodePort"}}"#]);
    let service = world.get(&["service", "web"]).unwrap();
    let port = service["spec"]["ports"][0]["nodePort"].as_u64().unwrap();
    wait_for("the node port to answer", || {
        http_get(&format!("http://127.0.0.1:{port}/healthz")).ok()
    });
}

#[test]
fn the_container_is_confined() {
    let world = World::start();
    world.demo("web", 1);
    let pid = world.pid_of(&world.ready_pods("app=web", 1)[0]);
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_once(':').unwrap().1.trim().to_string()
    };
    assert_eq!(field("NoNewPrivs"), "1");
    assert_eq!(field("Seccomp"), "2");
    assert_eq!(
        field("CapEff"),
        "0000000000000000",
        "the image runs as an ordinary user"
    );
    assert_eq!(field("Uid").split_whitespace().next().unwrap(), "65532");
    assert!(field("NSpid").ends_with("\t1"), "{}", field("NSpid"));
    for namespace in ["mnt", "pid", "net", "ipc", "uts"] {
        let link = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/{namespace}")).unwrap();
        assert_ne!(link(&pid.to_string()), link("self"), "{namespace} is the host's");
    }
    let mounts = std::fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
    for hidden in [
        "/proc/acpi",
        "/proc/kcore",
        "/proc/keys",
        "/proc/timer_list",
        "/sys/firmware",
    ] {
        // Not every kernel has each of them.
        let there = std::path::Path::new(hidden).exists();
        assert!(
            !there || mounts.contains(&format!(" {hidden} ")),
            "{hidden} is open: {mounts}"
        );
    }
    let read_only = mounts.lines().any(|line| line.contains(" /proc/sys ro,"));
    assert!(read_only, "{mounts}");
}

#[test]
fn a_pod_that_fits_nowhere_says_why() {
    let world = World::start();
    world.apply(
        "apiVersion: v1\nkind: Pod\nmetadata: { name: big }\nspec: { containers: [{ name: x, image: 'setpoint.dev/demo:v1', resources: { requests: { cpu: '900' } } }] }\n",
    );
    let pod = world.until(&["pod", "big"], "unschedulable", |pod| {
        pod["status"]["conditions"]
            .as_array()
            .is_some_and(|all| all.iter().any(|c| c["reason"] == "Unschedulable"))
    });
    let conditions = pod["status"]["conditions"].as_array().unwrap();
    let message = conditions.iter().find(|c| c["type"] == "PodScheduled").unwrap()["message"]
        .as_str()
        .unwrap();
    assert!(
        message.starts_with("0/1 nodes are available: 1 Insufficient cpu"),
        "{message}"
    );
}

#[test]
fn deleting_a_deployment_takes_its_replica_sets_and_pods() {
    let world = World::start();
    world.demo("web", 2);
    world.kubectl(&["delete", "deployment", "web"]);
    for kind in ["rs", "pods"] {
        world.until(&[kind, "-l", "app=web"], "gone", |list: &Value| items(list).is_empty());
    }
    world.demo("kept", 1);
    world.kubectl(&["delete", "deployment", "kept", "--cascade=orphan"]);
    world.until(&["deployments"], "gone", |list| items(list).is_empty());
    world.ready_pods("app=kept", 1);
}
