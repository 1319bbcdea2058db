//! Real servers as workloads: nginx, Redis and PostgreSQL as Debian has them, in images that are made of its packages.

use std::fs::File;
use std::path::PathBuf;

use serde_json::json;

use crate::harness::{World, http_get, text, wait_for};

/// Imports `test/NAME:1`, made of the root file system that `.ci/install` assembled.
fn import(world: &World, name: &str) {
    let servers = std::env::var_os("SETPOINT_TEST_SERVERS");
    let servers = PathBuf::from(
        servers.expect("SETPOINT_TEST_SERVERS says where servers are; eval \"$(bash .ci/install)\" sets it"),
    );
    let layer = servers.join(name).join("root.tar");
    let digest = std::process::Command::new("sha256sum").arg(&layer).output().unwrap();
    let digest = text(&digest.stdout).split_whitespace().next().unwrap().to_owned();
    let config = json!({"architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }, "os": "linux",
        "config": {"Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin:/usr/lib/postgresql/15/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{digest}")]}});
    let index = json!([{"Config": "config.json", "RepoTags": [format!("test/{name}:1")], "Layers": ["layer.tar"]}]);
    let archive = world.folder().join(format!("{name}.tar"));
    let mut builder = tar::Builder::new(File::create(&archive).unwrap());
    for (name, content) in [
        ("config.json", config.to_string()),
        ("manifest.json", index.to_string()),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, content.as_bytes()).unwrap();
    }
    builder.append_path_with_name(&layer, "layer.tar").unwrap();
    builder.finish().unwrap();
    let output = world.setpoint(&["image", "import", archive.to_str().unwrap()]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    std::fs::remove_file(archive).unwrap();
}

const NGINX: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: { name: nginx }
data:
  index.html: "served by nginx\n"
  nginx.conf: |
    daemon off;
    pid /run/nginx/pid;
    error_log stderr;
    events {}
    http {
      access_log /dev/stdout;
      client_body_temp_path /run/nginx/a; proxy_temp_path /run/nginx/b; fastcgi_temp_path /run/nginx/c;
      uwsgi_temp_path /run/nginx/d; scgi_temp_path /run/nginx/e;
      server { listen 8080; root /etc/nginx-test; }
    }
---
apiVersion: apps/v1
kind: Deployment
metadata: { name: nginx }
spec:
  replicas: 2
  selector: { matchLabels: { app: nginx } }
  template:
    metadata: { labels: { app: nginx } }
    spec:
      securityContext: { runAsNonRoot: true, runAsUser: 33, runAsGroup: 33, seccompProfile: { type: RuntimeDefault } }
      containers:
        - name: nginx
          image: test/nginx:1
          command: [nginx, -c, /etc/nginx-test/nginx.conf]
          ports: [{ name: http, containerPort: 8080 }]
          readinessProbe: { httpGet: { path: /index.html, port: http }, periodSeconds: 1 }
          securityContext: { allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: { drop: [ALL] } }
          volumeMounts: [{ name: config, mountPath: /etc/nginx-test }, { name: run, mountPath: /run/nginx }, { name: lib, mountPath: /var/lib/nginx }]
      volumes: [{ name: config, configMap: { name: nginx } }, { name: run, emptyDir: {} }, { name: lib, emptyDir: {} }]
---
apiVersion: v1
kind: Service
metadata: { name: nginx }
spec: { selector: { app: nginx }, ports: [{ port: 80, targetPort: http }] }
"#;

#[test]
fn nginx_serves_by_two_replicas_as_nobody_in_particular() {
    let world = World::start();
    import(&world, "nginx");
    world.apply(NGINX);
    world.kubectl(&["rollout", "status", "deployment/nginx", "--timeout=90s"]);
    let page = wait_for("the page", || {
        http_get(&format!("http://{}/index.html", world.cluster_ip("nginx"))).ok()
    });
    assert_eq!(page, "served by nginx\n");
    world.kubectl(&["rollout", "restart", "deployment/nginx"]);
    world.kubectl(&["rollout", "status", "deployment/nginx", "--timeout=90s"]);
    assert!(http_get(&format!("http://{}/index.html", world.cluster_ip("nginx"))).is_ok());
    wait_for("the request in the log", || {
        world
            .kubectl(&["logs", "-l", "app=nginx"])
            .contains("GET /index.html")
            .then_some(())
    });
}

/// A claim, and a Deployment of one pod that keeps its data there.
fn keeper(name: &str, user: u32, spec: &str) -> String {
    format!(
        r#"
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {{ name: {name} }}
spec: {{ accessModes: [ReadWriteOnce], resources: {{ requests: {{ storage: 1Gi }} }} }}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{ name: {name} }}
spec:
  strategy: {{ type: Recreate }}
  selector: {{ matchLabels: {{ app: {name} }} }}
  template:
    metadata: {{ labels: {{ app: {name} }} }}
    spec:
      securityContext: {{ runAsNonRoot: true, runAsUser: {user}, runAsGroup: {user}, fsGroup: {user}, fsGroupChangePolicy: OnRootMismatch }}
      volumes: [{{ name: data, persistentVolumeClaim: {{ claimName: {name} }} }}]
{spec}
"#
    )
}

/// Ends the pod of a Deployment by force and waits for the next one.
fn replace_pod(world: &World, name: &str) {
    let before = world.ready_pods(&format!("app={name}"), 1)[0]["metadata"]["uid"].clone();
    world.kubectl(&[
        "delete",
        "pod",
        "-l",
        &format!("app={name}"),
        "--force",
        "--grace-period=0",
    ]);
    wait_for("the next pod", || {
        let pods = world.ready_pods(&format!("app={name}"), 1);
        (pods[0]["metadata"]["uid"] != before).then_some(())
    });
}

#[test]
fn redis_finds_its_data_again_after_its_pod() {
    let world = World::start();
    import(&world, "redis");
    let spec = "      containers:
        - name: redis
          image: test/redis:1
          command: [redis-server, --dir, /data, --appendonly, 'yes', --appendfsync, always]
          readinessProbe: { tcpSocket: { port: 6379 }, periodSeconds: 1 }
          volumeMounts: [{ name: data, mountPath: /data }]";
    world.apply(&keeper("redis", 100, spec));
    world.kubectl(&["rollout", "status", "deployment/redis", "--timeout=90s"]);
    assert_eq!(
        world.kubectl(&["exec", "deployment/redis", "--", "redis-cli", "set", "city", "Aachen"]),
        "OK\n"
    );
    replace_pod(&world, "redis");
    assert_eq!(
        world.kubectl(&["exec", "deployment/redis", "--", "redis-cli", "get", "city"]),
        "Aachen\n"
    );
}

#[test]
fn postgresql_is_made_by_an_init_container_and_keeps_what_was_committed() {
    let world = World::start();
    import(&world, "postgresql");
    let spec = "      initContainers:
        - name: make
          image: test/postgresql:1
          command: [sh, -c, '[ -d /data/base ] || initdb -D /data/base --locale=C.UTF-8 -E UTF8']
          volumeMounts: [{ name: data, mountPath: /data }]
      containers:
        - name: postgresql
          image: test/postgresql:1
          command: [postgres, -D, /data/base, -k, /tmp, -c, jit=off]
          lifecycle: { stopSignal: SIGINT }
          readinessProbe: { exec: { command: [pg_isready, -h, /tmp] }, periodSeconds: 1, timeoutSeconds: 5 }
          volumeMounts: [{ name: data, mountPath: /data }]
      os: { name: linux }";
    world.apply(&keeper("postgresql", 101, spec));
    world.kubectl(&["rollout", "status", "deployment/postgresql", "--timeout=120s"]);
    let sql = |command: &str| {
        world.kubectl(&[
            "exec",
            "deployment/postgresql",
            "-c",
            "postgresql",
            "--",
            "psql",
            "-h",
            "/tmp",
            "-d",
            "postgres",
            "-Atc",
            command,
        ])
    };
    sql("create table kept as select generate_series(1, 1000) as number");
    replace_pod(&world, "postgresql");
    assert_eq!(sql("select count(*) from kept"), "1000\n");
}
