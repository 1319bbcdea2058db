//! What goes through the API into pods: forwarded ports, proxied requests, terminals, one stream of a log; and what pods use.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Stdio};
use std::sync::mpsc;

use crate::harness::{DEADLINE, World, alive, http_get, text, wait_for};
use crate::images::import_busybox;

/// A kubectl that goes on until it is dropped, and the port on this host that it announced.
struct Going {
    child: Child,
    port: String,
}

impl Going {
    /// Starts kubectl and waits for the line that names a port after `127.0.0.1:`.
    fn start(world: &World, args: &[&str], env: &[(&str, &str)]) -> Going {
        let mut command = world.kubectl_command(args);
        command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .envs(env.iter().copied());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = lines.next().unwrap().unwrap();
        let port = line.split("127.0.0.1:").nth(1).and_then(|rest| rest.split(' ').next());
        let port = port.unwrap_or_else(|| panic!("{line}")).to_owned();
        std::thread::spawn(move || for _ in lines.map_while(Result::ok) {});
        Going { child, port }
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }
}

impl Drop for Going {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn ports_are_forwarded_over_websocket_and_spdy() {
    let world = World::start();
    world.demo("web", 1);
    for websockets in ["true", "false"] {
        let env = [("KUBECTL_PORT_FORWARD_WEBSOCKETS", websockets)];
        for (target, ports) in [("deployment/web", "0:8080"), ("service/web", "0:http")] {
            // A service's port is its own, not the pod's.
            let ports = if target.starts_with("service") { "0:80" } else { ports };
            let going = Going::start(&world, &["port-forward", "--address=127.0.0.1", target, ports], &env);
            for _ in 0..3 {
                assert_eq!(
                    http_get(&going.url("/healthz")).unwrap(),
                    "ok\n",
                    "{target} {websockets}"
                );
            }
        }
        let mut refused = Going::start(
            &world,
            &["port-forward", "--address=127.0.0.1", "deployment/web", "0:81"],
            &env,
        );
        assert!(http_get(&refused.url("/")).is_err());
        let mut said = String::new();
        refused.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert!(
            said.contains("error forwarding port 81 to pod") && said.contains("connection refused"),
            "{said}"
        );
    }
}

#[test]
fn requests_are_proxied_to_pods_services_and_nodes() {
    let world = World::start();
    world.demo("web", 1);
    let raw = |path: &str| world.kubectl(&["get", "--raw", path]);
    let pod = world.ready_pods("app=web", 1).remove(0);
    let pod = pod["metadata"]["name"].as_str().unwrap();
    let base = "/api/v1/namespaces/default";
    assert_eq!(raw(&format!("{base}/pods/{pod}/proxy/healthz")), "ok\n");
    assert_eq!(raw(&format!("{base}/pods/{pod}:8080/proxy/healthz")), "ok\n");
    assert!(raw(&format!("{base}/services/web:80/proxy/")).contains("version: v1"));
    let refused = world.kubectl_fails(&["get", "--raw", &format!("{base}/pods/{pod}:81/proxy/")]);
    assert!(
        refused.contains("ServiceUnavailable") && refused.contains("error trying to reach service: dial tcp"),
        "{refused}"
    );
    world.kubectl(&["scale", "deployment/web", "--replicas=0"]);
    wait_for("the service to have no endpoints", || {
        let answer = world.kubectl_output(&["get", "--raw", &format!("{base}/services/web:80/proxy/")]);
        let none = text(&answer.stderr).contains("no endpoints available for service \"web\"");
        none.then_some(())
    });
    world.kubectl(&["scale", "deployment/web", "--replicas=1"]);
    world.ready_pods("app=web", 1);

    let node = world.get(&["nodes"]).unwrap()["items"][0]["metadata"]["name"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(raw(&format!("/api/v1/nodes/{node}/proxy/healthz")), "ok");
    assert!(raw(&format!("/api/v1/nodes/{node}/proxy/stats/summary")).contains("workingSetBytes"));
    let none = world.kubectl_fails(&["get", "--raw", &format!("/api/v1/nodes/{node}/proxy/logs/")]);
    assert!(none.contains("runs no kubelet"), "{none}");

    let proxy = Going::start(&world, &["proxy", "--port=0"], &[]);
    let page = wait_for("the service through kubectl proxy", || {
        http_get(&proxy.url(&format!("{base}/services/web:80/proxy/"))).ok()
    });
    assert!(page.contains("version: v1"), "{page}");
}

#[test]
fn what_nodes_and_pods_use_is_shown_by_top() {
    let world = World::start();
    world.demo("web", 2);
    let nodes = world.kubectl(&["top", "node"]);
    assert!(nodes.starts_with("NAME") && nodes.contains("Mi"), "{nodes}");
    for args in [
        &["top", "pod"][..],
        &["top", "pod", "-l", "app=web", "--sort-by=cpu"],
        &["top", "pod", "-A", "--sort-by=memory"],
        &["top", "pod", "--containers", "--sum"],
    ] {
        let pods = world.kubectl(args);
        let lines = pods.lines().filter(|line| line.contains("web-")).count();
        assert!(lines == 2 && pods.contains("Mi"), "{args:?} {pods}");
    }
    let none = world.kubectl_output(&["top", "pod", "-l", "app=none"]);
    assert!(
        text(&none.stderr).contains("No resources found"),
        "{}",
        text(&none.stderr)
    );
    let table = world.kubectl(&["get", "pods.metrics.k8s.io"]);
    assert!(table.starts_with("NAME") && table.contains("WINDOW"), "{table}");
    let one = world.get(&["nodes.metrics.k8s.io"]).unwrap();
    assert!(one["items"][0]["usage"]["cpu"].is_string(), "{one}");
}

/// A pod with this host's programs in it.
const SHELL: &str = r#"
apiVersion: v1
kind: Pod
metadata: { name: shell }
spec:
  terminationGracePeriodSeconds: 1
  containers:
    - name: app
      image: setpoint.dev/demo:v1
      env: [{ name: PATH, value: "/usr/bin:/bin" }]
      command: [bash, -c, "echo out; echo err >&2; exec sleep 1000"]
      volumeMounts:
        - { name: usr, mountPath: /usr }
        - { name: bin, mountPath: /bin }
        - { name: lib, mountPath: /lib }
        - { name: lib64, mountPath: /lib64 }
    - name: screen
      image: setpoint.dev/demo:v1
      stdin: true
      tty: true
  volumes:
    - { name: usr, hostPath: { path: /usr } }
    - { name: bin, hostPath: { path: /usr/bin } }
    - { name: lib, hostPath: { path: /usr/lib } }
    - { name: lib64, hostPath: { path: /usr/lib64 } }
"#;

/// The processes on this host that were started with exactly these arguments.
fn processes(arguments: &[&str]) -> Vec<i32> {
    let wanted: Vec<u8> = arguments
        .iter()
        .flat_map(|argument| [argument.as_bytes(), b"\0"].concat())
        .collect();
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid: &i32| std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|found| found == wanted))
        .collect()
}

#[test]
fn a_client_that_vanishes_ends_what_it_ran_and_not_what_it_attached_to() {
    let world = World::start();
    world.apply(SHELL);
    world.kubectl(&["wait", "--for=condition=Ready", "pod/shell", "--timeout=60s"]);
    // No other test has a process of these arguments.
    let seconds = format!("4{}", std::process::id());
    let sleep = ["sleep", &seconds];
    let script = format!("sleep {seconds}; true");
    for websockets in ["true", "false"] {
        let kubectl = crate::harness::kubectl_path();
        let inner = format!("exec {} exec -it shell -c app -- bash -c '{script}'", kubectl.display());
        // `script` is the terminal of the client.
        let mut client = std::process::Command::new("script")
            .args(["-qec", &inner, "/dev/null"])
            .env("KUBECONFIG", world.data_dir().join("kubeconfig"))
            .env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", websockets)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let pid = wait_for("the process in the pod", || processes(&sleep).first().copied());
        // Without a word: the terminal goes, and kubectl with it.
        client.kill().unwrap();
        client.wait().unwrap();
        for pid in processes(&[
            &kubectl.display().to_string(),
            "exec",
            "-it",
            "shell",
            "-c",
            "app",
            "--",
            "bash",
            "-c",
            &script,
        ]) {
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
        }
        wait_for("the process in the pod to end", || (!alive(pid)).then_some(()));
    }
    let inner = format!(
        "exec {} attach -it shell -c screen",
        crate::harness::kubectl_path().display()
    );
    let mut client = std::process::Command::new("script")
        .args(["-qec", &inner, "/dev/null"])
        .env("KUBECONFIG", world.data_dir().join("kubeconfig"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // It says something once it is there.
    let mut byte = [0];
    client.stdout.take().unwrap().read_exact(&mut byte).unwrap();
    client.kill().unwrap();
    client.wait().unwrap();
    let pod = world.get(&["pod", "shell"]).unwrap();
    assert_eq!(pod["status"]["containerStatuses"][1]["restartCount"], 0, "{pod}");
    assert!(pod["status"]["containerStatuses"][1]["state"]["running"].is_object());
    assert!(
        world
            .kubectl(&["exec", "shell", "-c", "app", "--", "echo", "well"])
            .contains("well")
    );
}

#[test]
fn one_stream_of_a_log_is_read_alone_and_wrong_options_are_refused() {
    let world = World::start();
    world.apply(SHELL);
    world.kubectl(&["wait", "--for=condition=Ready", "pod/shell", "--timeout=60s"]);
    let log = |query: &str| format!("/api/v1/namespaces/default/pods/shell/log?container=app&{query}");
    let read = |query: &str| world.kubectl(&["get", "--raw", &log(query)]);
    wait_for("both lines", || (read("") == "out\nerr\n").then_some(()));
    assert_eq!(read("stream=Stdout"), "out\n");
    assert_eq!(read("stream=Stderr"), "err\n");
    assert_eq!(read("stream=All&tailLines=1&limitBytes=2"), "er");
    for (query, message) in [
        ("tailLines=-1", "must be greater than or equal to 0"),
        ("sinceSeconds=0", "must be greater than 0"),
        ("stream=x", "supported values: \"All\", \"Stderr\", \"Stdout\""),
        ("stream=Stdout&tailLines=1", "are mutually exclusive for now"),
    ] {
        let refused = world.kubectl_fails(&["get", "--raw", &log(query)]);
        assert!(
            refused.contains("PodLogOptions \"shell\" is invalid") && refused.contains(message),
            "{refused}"
        );
    }
}

#[test]
fn a_log_in_many_files_reads_and_follows_as_one() {
    let mut world = World::prepare();
    let settings = world.file("node.toml", "[pods]\nlog_max_size = \"4Ki\"\nlog_max_files = 200\n");
    world.up_with(&["--node-config", settings.to_str().unwrap()]);
    import_busybox(&world);
    world.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: { name: chatty }
spec:
  terminationGracePeriodSeconds: 1
  volumes: [{ name: own, emptyDir: {} }]
  containers:
    - name: app
      image: test/busybox:1
      command: [sh, -c, 'echo start >> /own/starts; n=$(wc -l < /own/starts); i=0; while [ $i -lt 2000 ]; do i=$((i+1)); echo $n-$i; [ $((i % 40)) = 0 ] && sleep 0.02; done; while [ ! -e /own/end-$n ]; do sleep 0.05; done']
      volumeMounts: [{ name: own, mountPath: /own }]
"#,
    );
    let all = |attempt: u32| -> String { (1..=2000).map(|line| format!("{attempt}-{line}\n")).collect() };
    world.kubectl(&["wait", "--for=condition=Ready", "pod/chatty", "--timeout=60s"]);
    let mut follow = world.kubectl_command(&["logs", "-f", "chatty"]);
    let mut follow = follow.stdout(Stdio::piped()).spawn().unwrap();
    let stdout = BufReader::new(follow.stdout.take().unwrap());
    let (send, lines) = mpsc::channel();
    std::thread::spawn(move || {
        stdout
            .lines()
            .map_while(Result::ok)
            .try_for_each(|line| send.send(line))
    });
    let mut followed = String::new();
    for line in std::iter::from_fn(|| lines.recv_timeout(DEADLINE).ok()) {
        followed += &format!("{line}\n");
        if line == "1-2000" {
            world.kubectl(&["exec", "chatty", "--", "touch", "/own/end-1"]);
        }
    }
    assert!(follow.wait().unwrap().success());
    assert_eq!(followed, all(1));
    world.until(&["pod", "chatty"], "restarted", |pod| {
        pod["status"]["containerStatuses"][0]["restartCount"] == 1
    });
    wait_for("the second log", || {
        (world.kubectl(&["logs", "chatty"]) == all(2)).then_some(())
    });
    assert_eq!(world.kubectl(&["logs", "chatty", "--previous"]), all(1));
    let timed = world.kubectl(&["logs", "chatty", "--previous", "--timestamps"]);
    let lines: Vec<(&str, &str)> = timed.lines().map(|line| line.split_once(' ').unwrap()).collect();
    assert!(lines.is_sorted_by_key(|(time, _)| *time) && lines.len() == 2000);
    // A time in an option is whole seconds, for every client.
    let second = lines[900].0.split('.').next().unwrap();
    let first = lines.iter().position(|(time, _)| *time >= second).unwrap();
    let rest: String = lines[first..].iter().map(|(_, line)| format!("{line}\n")).collect();
    let since = format!("--since-time={second}Z");
    assert_eq!(world.kubectl(&["logs", "chatty", "--previous", &since]), rest);
    assert_eq!(
        world.kubectl(&["logs", "chatty", "--previous", "--tail=1500"]),
        all(1).split_inclusive('\n').skip(500).collect::<String>()
    );
    let pod = world.get(&["pod", "chatty"]).unwrap();
    let logs = world
        .data_dir()
        .join("sandboxes")
        .join(pod["metadata"]["uid"].as_str().unwrap())
        .join("logs");
    let files = std::fs::read_dir(logs).unwrap().count();
    assert!(files > 20, "{files} files");
}
