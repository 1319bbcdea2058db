//! Two families of addresses: pods and services are reached by each, from pods and from the host, by address and by name.

use std::net::Ipv6Addr;

use serde_json::{Value, json};

use crate::harness::{World, items, wait_for};
use crate::images::import_busybox;

const PODS: &str = "
apiVersion: v1
kind: Pod
metadata: { name: server, labels: { app: web } }
spec:
  hostname: one
  subdomain: pods
  containers:
    - name: httpd
      image: test/busybox:1
      command: [sh, -c, 'mkdir /www && echo it works > /www/index.html && exec httpd -f -p 80 -h /www']
      ports: [{ name: http, containerPort: 80, hostPort: 18080 }]
      readinessProbe: { tcpSocket: { port: 80 } }
---
apiVersion: v1
kind: Pod
metadata: { name: client, labels: { app: client } }
spec:
  terminationGracePeriodSeconds: 0
  containers:
    - name: shell
      image: test/busybox:1
      command: [sleep, '3600']
      env:
        - { name: IPS, valueFrom: { fieldRef: { fieldPath: status.podIPs } } }
---
apiVersion: v1
kind: Service
metadata: { name: web }
spec: { type: NodePort, ipFamilyPolicy: RequireDualStack, selector: { app: web }, ports: [{ name: http, port: 80, targetPort: http }] }
---
apiVersion: v1
kind: Service
metadata: { name: six }
spec: { ipFamilies: [IPv6], selector: { app: web }, ports: [{ name: http, port: 80 }] }
---
apiVersion: v1
kind: Service
metadata: { name: pods }
spec: { clusterIP: None, ipFamilyPolicy: PreferDualStack, selector: { app: web }, ports: [{ name: http, port: 80 }] }
---
apiVersion: v1
kind: Service
metadata: { name: plain }
spec: { selector: { app: web }, ports: [{ name: http, port: 80 }] }
";

fn texts(value: &Value) -> Vec<String> {
    let all = value.as_array().into_iter().flatten();
    all.filter_map(|text| text.as_str().map(str::to_owned)).collect()
}

fn in_client(world: &World, command: &str) -> Result<String, String> {
    let output = world.kubectl_output(&["exec", "client", "--", "sh", "-c", command]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    match output.status.success() {
        true => Ok(text),
        false => Err(format!("{text}{}", String::from_utf8_lossy(&output.stderr))),
    }
}

/// A request by nothing but a connection: a static busybox looks names up, but fetches nothing.
fn request(host: &str) -> String {
    format!("echo 'GET / HTTP/1.0' | nc -w 3 {host} 80")
}

fn answers(world: &World, host: &str) -> Option<()> {
    let page = in_client(world, &request(host)).ok()?;
    page.ends_with("it works\n").then_some(())
}

#[test]
fn a_service_of_both_families_is_reached_by_each_and_by_name_until_it_goes_back_to_one() {
    let world = World::start();
    import_busybox(&world);
    world.apply(PODS);
    let server = world.ready_pods("app=web", 1).remove(0);
    world.ready_pods("app=client", 1);
    let ips: Vec<String> = server["status"]["podIPs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|ip| ip["ip"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(ips[0], server["status"]["podIP"].as_str().unwrap());
    let own: Ipv6Addr = ips[1].parse().unwrap();
    assert!(own.is_unique_local(), "{ips:?}");
    let hosts = world.kubectl(&["exec", "server", "--", "cat", "/etc/hosts"]);
    for ip in &ips {
        assert!(
            hosts.contains(&format!("{ip}\tone.pods.default.svc.cluster.local\tone\n")),
            "{hosts}"
        );
    }
    let told = in_client(&world, "echo $IPS").unwrap();
    assert!(
        told.contains(',') && told.trim().split(',').nth(1).unwrap().parse::<Ipv6Addr>().is_ok(),
        "{told}"
    );
    let node = items(&world.get(&["nodes"]).unwrap()).remove(0);
    assert_eq!(texts(&node["spec"]["podCIDRs"]).len(), 2);
    let ipv4 = node["status"]["addresses"][0]["address"].as_str().unwrap();
    assert!(ipv4.parse::<std::net::Ipv4Addr>().is_ok(), "{node}");

    let service = world.get(&["service", "web"]).unwrap();
    assert_eq!(service["spec"]["ipFamilies"], json!(["IPv4", "IPv6"]));
    let cluster_ips = texts(&service["spec"]["clusterIPs"]);
    assert_eq!(cluster_ips.len(), 2);
    let described = world.kubectl(&["describe", "service", "web"]);
    assert!(described.contains(&cluster_ips.join(",")), "{described}");
    let slices = ["get", "endpointslices", "-l", "kubernetes.io/service-name=web", "-o"];
    let types = world.kubectl(&[&slices[..], &["jsonpath={.items[*].addressType}"]].concat());
    assert!(types == "IPv4 IPv6" || types == "IPv6 IPv4", "{types}");

    // From a pod: by address, by name, to the pod itself.
    for host in [
        &cluster_ips[0],
        &cluster_ips[1],
        &own.to_string(),
        "web",
        "six",
        "one.pods",
    ] {
        wait_for(&format!("{host} to answer"), || answers(&world, host));
    }
    // From itself: the hairpin.
    let itself = world.kubectl(&["exec", "server", "--", "sh", "-c", &request(&cluster_ips[1])]);
    assert!(itself.ends_with("it works\n"), "{itself}");
    let looked = in_client(&world, "nslookup -type=aaaa web.default.svc.cluster.local").unwrap();
    assert!(looked.contains(&cluster_ips[1]), "{looked}");
    let named = in_client(&world, &format!("nslookup {own}")).unwrap();
    assert!(named.contains("name = one.pods.default.svc.cluster.local"), "{named}");

    // From the host: the node port and the host port at the gateway's address.
    let gateway = {
        let range = texts(&node["spec"]["podCIDRs"])[1].clone();
        let network: Ipv6Addr = range.split('/').next().unwrap().parse().unwrap();
        Ipv6Addr::from(u128::from(network) + 1)
    };
    let port = service["spec"]["ports"][0]["nodePort"].as_u64().unwrap();
    for port in [port, 18080] {
        let url = format!("http://[{gateway}]:{port}/");
        wait_for(&format!("{url} to answer"), || crate::harness::http_get(&url).ok());
    }

    let plain = world.get(&["service", "plain"]).unwrap();
    assert_eq!(plain["spec"]["ipFamilyPolicy"], "SingleStack");
    assert_eq!(texts(&plain["spec"]["clusterIPs"]).len(), 1);
    let kubernetes = world.get(&["service", "kubernetes"]).unwrap();
    assert_eq!(kubernetes["spec"]["ipFamilies"], json!(["IPv4"]));
    let patch = r#"{"spec":{"ipFamilyPolicy":"PreferDualStack"}}"#;
    world.kubectl(&["patch", "service", "plain", "-p", patch]);
    let plain = world.get(&["service", "plain"]).unwrap();
    let second = texts(&plain["spec"]["clusterIPs"])[1].clone();
    wait_for("the second address to answer", || answers(&world, &second));
    let patch = r#"{"spec":{"ipFamilyPolicy":"SingleStack"}}"#;
    world.kubectl(&["patch", "service", "plain", "-p", patch]);
    wait_for("the second address to be gone", || {
        answers(&world, &second).is_none().then_some(())
    });
    let plain = world.get(&["service", "plain"]).unwrap();
    assert_eq!(texts(&plain["spec"]["clusterIPs"]).len(), 1);
    let refused = world.kubectl_fails(&[
        "patch",
        "service",
        "web",
        "-p",
        r#"{"spec":{"ipFamilies":["IPv4"],"ipFamilyPolicy":"PreferDualStack"}}"#,
    ]);
    assert!(
        refused.contains("must be 'SingleStack' to release the secondary IP family"),
        "{refused}"
    );
}

#[test]
fn a_node_is_told_to_have_one_family_and_learns_the_other_again() {
    let mut world = World::prepare();
    let settings = world.file("one-family.toml", "[network]\nipv6 = false\n");
    world.up_with(&["--node-config", settings.to_str().unwrap()]);
    assert_eq!(texts(&world.announced["podRanges"]).len(), 1);
    let required = "
apiVersion: v1
kind: Service
metadata: { name: web }
spec: { ipFamilyPolicy: RequireDualStack, selector: { app: web }, ports: [{ port: 80 }] }
";
    let manifest = world.file("required.yaml", required);
    let refused = world.kubectl_fails(&["apply", "-f", manifest.to_str().unwrap()]);
    assert!(
        refused.contains("this cluster is not configured for dual-stack services"),
        "{refused}"
    );
    world.demo("web", 1);
    let before = world.ready_pods("app=web", 1).remove(0);
    assert_eq!(before["status"]["podIPs"].as_array().unwrap().len(), 1);
    world.end_daemon(nix::sys::signal::Signal::SIGTERM);
    world.up();
    let ranges = texts(&world.announced["podRanges"]);
    assert_eq!(ranges.len(), 2);
    let same = world.ready_pods("app=web", 1).remove(0);
    assert_eq!(
        same["status"]["podIPs"], before["status"]["podIPs"],
        "it runs on as it is"
    );
    assert_eq!(same["metadata"]["uid"], before["metadata"]["uid"]);
    world.kubectl(&["delete", "pod", "-l", "app=web", "--grace-period=1"]);
    wait_for("a pod of both families", || {
        let pods = world.ready_pods("app=web", 1);
        (pods[0]["status"]["podIPs"].as_array()?.len() == 2).then_some(())
    });
    // The ranges are kept.
    world.end_daemon(nix::sys::signal::Signal::SIGTERM);
    world.up();
    assert_eq!(texts(&world.announced["podRanges"]), ranges);
}
