//! Images from a layout, an archive of `docker save`, and a registry.

use std::fs::File;
use std::io::Write;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::harness::{World, http_get, text, wait_for};

fn demo_layout(world: &World) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let layout = folder.path().join("layout");
    let output = world.setpoint(&["image", "import", "demo", "--layout", layout.to_str().unwrap()]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    folder
}

fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn blob_path(layout: &Path, digest: &Value) -> std::path::PathBuf {
    layout
        .join("blobs")
        .join(digest.as_str().unwrap().replacen(':', "/", 1))
}

#[test]
fn the_demo_image_is_there_and_runs() {
    let world = World::start();
    let list: Value = serde_json::from_slice(&world.setpoint(&["image", "ls", "-o", "json"]).stdout).unwrap();
    let names: Vec<&str> = list
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|i| i["names"].as_array().unwrap())
        .map(|n| n.as_str().unwrap())
        .collect();
    for tag in ["v1", "v2", "crash"] {
        assert!(
            names.contains(&format!("setpoint.dev/demo:{tag}").as_str()),
            "{names:?}"
        );
    }
    assert!(text(&world.setpoint(&["image", "ls"]).stdout).starts_with("IMAGE"));
    world.demo("web", 1);
    assert!(
        http_get(&format!("http://{}/", world.cluster_ip("web")))
            .unwrap()
            .contains("version: v1")
    );
}

#[test]
fn an_archive_of_docker_save_is_imported_and_runs() {
    let world = World::start();
    let folder = demo_layout(&world);
    let layout = folder.path().join("layout");
    let manifest = read_json(&blob_path(
        &layout,
        &read_json(&layout.join("index.json"))["manifests"][0]["digest"],
    ));
    let archive = folder.path().join("saved.tar");
    let mut builder = tar::Builder::new(File::create(&archive).unwrap());
    builder
        .append_path_with_name(blob_path(&layout, &manifest["config"]["digest"]), "config.json")
        .unwrap();
    builder
        .append_path_with_name(blob_path(&layout, &manifest["layers"][0]["digest"]), "layer/layer.tar")
        .unwrap();
    let index =
        json!([{"Config": "config.json", "RepoTags": ["saved:old"], "Layers": ["layer/layer.tar"]}]).to_string();
    let mut header = tar::Header::new_gnu();
    header.set_size(index.len() as u64);
    header.set_mode(0o644);
    builder
        .append_data(&mut header, "manifest.json", index.as_bytes())
        .unwrap();
    builder.into_inner().unwrap().flush().unwrap();
    let output = world.setpoint(&["image", "import", archive.to_str().unwrap()]);
    assert!(
        text(&output.stdout).contains("docker.io/library/saved:old"),
        "{}",
        text(&output.stderr)
    );
    world.kubectl(&["run", "saved", "--image=saved:old"]);
    world.kubectl(&["wait", "--for=condition=Ready", "pod/saved", "--timeout=60s"]);
    // The image has another name still, so this name may go; the last one may not while a container runs from it.
    let id = world.get(&["pod", "saved"]).unwrap()["status"]["containerStatuses"][0]["imageID"].clone();
    assert!(world.setpoint(&["image", "rm", "saved:old"]).status.success());
    let refused = world.setpoint(&["image", "rm", "setpoint.dev/demo:v1"]);
    assert!(
        text(&refused.stderr).contains("pod saved"),
        "{id}: {}",
        text(&refused.stderr)
    );
    let broken = world.setpoint(&["image", "import", "/etc/hostname"]);
    assert!(
        !broken.status.success() && text(&broken.stderr).contains("/etc/hostname"),
        "{}",
        text(&broken.stderr)
    );
}

/// Imports `test/busybox:1`: Debian's static busybox under the names of its programs, for what needs a shell in a container.
pub fn import_busybox(world: &World) {
    let busybox = ["/bin/busybox", "/usr/bin/busybox"]
        .into_iter()
        .find(|path| Path::new(path).exists())
        .expect("busybox is there; install it: apt-get install busybox-static");
    let list = Command::new(busybox).arg("--list").output().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut layer = tar::Builder::new(Vec::new());
    for name in ["bin", "tmp", "etc"] {
        let mut header = plain_header();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_size(0);
        header.set_mode(if name == "tmp" { 0o1777 } else { 0o755 });
        layer.append_data(&mut header, name, std::io::empty()).unwrap();
    }
    layer.append_path_with_name(busybox, "bin/busybox").unwrap();
    for applet in text(&list.stdout).lines().filter(|applet| *applet != "busybox") {
        let mut header = plain_header();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        header.set_mode(0o777);
        layer
            .append_link(&mut header, format!("bin/{applet}"), "busybox")
            .unwrap();
    }
    let layer = layer.into_inner().unwrap();
    let digest = digest_of(&layer);
    let config = json!({"architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }, "os": "linux",
        "config": {"Cmd": ["/bin/sh"], "Env": ["PATH=/bin"]}, "rootfs": {"type": "layers", "diff_ids": [digest]}});
    let index = json!([{"Config": "config.json", "RepoTags": ["test/busybox:1"], "Layers": ["layer.tar"]}]);
    let archive = folder.path().join("busybox.tar");
    let mut builder = tar::Builder::new(File::create(&archive).unwrap());
    for (name, content) in [
        ("config.json", config.to_string().into_bytes()),
        ("layer.tar", layer),
        ("manifest.json", index.to_string().into_bytes()),
    ] {
        let mut header = plain_header();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, content.as_slice()).unwrap();
    }
    builder.into_inner().unwrap().flush().unwrap();
    let output = world.setpoint(&["image", "import", archive.to_str().unwrap()]);
    assert!(output.status.success(), "{}", text(&output.stderr));
}

/// A header of root's.
fn plain_header() -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

/// `sha256:` and the hex digest.
fn digest_of(bytes: &[u8]) -> String {
    let mut child = Command::new("sha256sum")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(bytes).unwrap();
    let output = child.wait_with_output().unwrap();
    format!("sha256:{}", text(&output.stdout).split_whitespace().next().unwrap())
}

/// A registry of its own on a free port, in a folder of its own.
pub struct Registry {
    process: Child,
    /// Host and port.
    pub address: String,
    _folder: tempfile::TempDir,
}

impl Registry {
    /// Starts it.
    pub fn start() -> Registry {
        let folder = tempfile::tempdir().unwrap();
        // The program cannot be given port 0 and say which it took: take one that is free, now.
        let address = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .to_string();
        let config = folder.path().join("config.yml");
        let storage = folder.path().join("storage");
        std::fs::write(
            &config,
            format!(
                "version: 0.1\nlog: {{ level: error }}\nstorage: {{ filesystem: {{ rootdirectory: {} }} }}\nhttp: {{ addr: '{address}' }}\n",
                storage.display()
            ),
        )
        .unwrap();
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("docker-registry is installed by .ci/install");
        let registry = Registry {
            process,
            address,
            _folder: folder,
        };
        wait_for("the registry", || {
            http_get(&format!("http://{}/v2/", registry.address)).ok()
        });
        registry
    }

    /// Uploads one of the demo images, by its place in the layout, under a name; returns its digest.
    pub fn push_demo(&self, world: &World, place: usize, name: &str, tag: &str) -> String {
        let folder = demo_layout(world);
        let layout = folder.path().join("layout");
        let manifest = read_json(&layout.join("index.json"))["manifests"][place].clone();
        self.push(&layout, &manifest, name, tag);
        manifest["digest"].as_str().unwrap().to_owned()
    }

    /// Uploads one image of a layout under a name.
    fn push(&self, layout: &Path, manifest: &Value, name: &str, tag: &str) {
        let path = blob_path(layout, &manifest["digest"]);
        let content = read_json(&path);
        let blobs = [&content["config"]]
            .into_iter()
            .chain(content["layers"].as_array().unwrap());
        for blob in blobs {
            let start = self.curl(
                &["-X", "POST", "-D", "-", "-o", "/dev/null"],
                &format!("/v2/{name}/blobs/uploads/"),
            );
            let location = start.lines().find_map(|line| {
                let (header, value) = line.split_once(": ")?;
                header
                    .eq_ignore_ascii_case("location")
                    .then(|| value.trim().to_string())
            });
            let location = location.expect("the registry gives a place to upload to");
            let url = format!("{location}&digest={}", blob["digest"].as_str().unwrap());
            let data = format!("@{}", blob_path(layout, &blob["digest"]).display());
            self.curl(
                &[
                    "-X",
                    "PUT",
                    "-H",
                    "Content-Type: application/octet-stream",
                    "--data-binary",
                    &data,
                ],
                &url,
            );
        }
        let kind = format!("Content-Type: {}", manifest["mediaType"].as_str().unwrap());
        let data = format!("@{}", path.display());
        self.curl(
            &["-X", "PUT", "-H", &kind, "--data-binary", &data],
            &format!("/v2/{name}/manifests/{tag}"),
        );
    }

    fn curl(&self, args: &[&str], path: &str) -> String {
        let url = if path.starts_with("http") {
            path.to_string()
        } else {
            format!("http://{}{path}", self.address)
        };
        let output = Command::new("curl")
            .args([
                "--silent",
                "--show-error",
                "--fail",
                "--max-time",
                "60",
                "--noproxy",
                "*",
            ])
            .args(args)
            .arg(&url)
            .output()
            .unwrap();
        assert!(output.status.success(), "{url}: {}", text(&output.stderr));
        text(&output.stdout)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.process.kill().expect("the registry runs");
        self.process.wait().expect("the registry ends");
    }
}

#[test]
fn an_image_is_pulled_from_a_registry_when_a_pod_needs_it() {
    let world = World::start();
    let folder = demo_layout(&world);
    let layout = folder.path().join("layout");
    let registry = Registry::start();
    let index = read_json(&layout.join("index.json"));
    registry.push(&layout, &index["manifests"][0], "team/app", "v1");
    // Nothing of it is here: the registry is the only place it can come from.
    for tag in ["v1", "v2", "crash"] {
        assert!(
            world
                .setpoint(&["image", "rm", &format!("setpoint.dev/demo:{tag}")])
                .status
                .success()
        );
    }
    let image = format!("{}/team/app:v1", registry.address);
    world.kubectl(&["run", "pulled", &format!("--image={image}")]);
    world.kubectl(&["wait", "--for=condition=Ready", "pod/pulled", "--timeout=90s"]);
    let pod = world.get(&["pod", "pulled"]).unwrap();
    let id = pod["status"]["containerStatuses"][0]["imageID"].as_str().unwrap();
    assert!(id.contains(index["manifests"][0]["digest"].as_str().unwrap()), "{id}");
    assert!(world.kubectl(&["events"]).contains("Pulled"));
    let missing = world.setpoint(&["image", "pull", &format!("{}/team/app:v9", registry.address)]);
    assert!(text(&missing.stderr).contains("not found"), "{}", text(&missing.stderr));
    let again = world.setpoint(&["image", "pull", &image, "-o", "json"]);
    assert!(again.status.success(), "{}", text(&again.stderr));
}

/// Lets every image look as if it had been installed an hour ago.
fn age(world: &World) {
    for entry in std::fs::read_dir(world.data_dir().join("images/images")).unwrap() {
        let status = Command::new("touch")
            .args(["-d", "1 hour ago"])
            .arg(entry.unwrap().path())
            .status();
        assert!(status.unwrap().success());
    }
}

/// Prunes and returns the names of what went.
fn pruned(world: &World, args: &[&str]) -> Vec<String> {
    let output = world.setpoint(&[&["image", "prune", "-o", "json"], args].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    let names = answer["removed"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|image| image["names"].as_array().unwrap());
    let mut names: Vec<String> = names.map(|name| name.as_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

#[test]
fn prune_leaves_what_runs_what_is_young_and_what_was_imported() {
    let mut world = World::start();
    let registry = Registry::start();
    registry.push_demo(&world, 0, "team/app", "v1");
    registry.push_demo(&world, 1, "team/app", "v2");
    // What is imported and in a registry as well can be had again.
    let (v1, v2) = (
        format!("{}/team/app:v1", registry.address),
        format!("{}/team/app:v2", registry.address),
    );
    for name in [&v1, &v2] {
        assert!(world.setpoint(&["image", "pull", name]).status.success());
    }
    let listed = text(&world.setpoint(&["image", "ls"]).stdout);
    let imported = |name: &str| {
        let line = listed
            .lines()
            .find(|line| line.starts_with(name))
            .expect("it is listed");
        line.ends_with("imported")
    };
    assert!(imported("setpoint.dev/demo:crash") && !imported(&v1), "{listed}");
    assert!(pruned(&world, &["--all"]).is_empty(), "they are young");
    age(&world);
    let would = pruned(&world, &["--dry-run"]);
    assert!(
        would.contains(&v1) && would.contains(&v2) && would.len() == 4,
        "{would:?}"
    );
    world.kubectl(&["run", "one", &format!("--image={v1}")]);
    world.kubectl(&["wait", "--for=condition=Ready", "pod/one", "--timeout=90s"]);
    age(&world);
    let gone = pruned(&world, &[]);
    assert!(gone.contains(&v2) && gone.len() == 2, "{gone:?}");
    assert_eq!(pruned(&world, &["--imported"]), ["setpoint.dev/demo:crash"]);
    // Without the daemon the same holds: the pod goes on.
    world.end_daemon(nix::sys::signal::Signal::SIGTERM);
    assert!(pruned(&world, &["--all", "--imported"]).is_empty());
    world.up_with(&["--no-demo"]);
    world.kubectl(&["wait", "--for=condition=Ready", "pod/one", "--timeout=90s"]);
    let refused = world.kubectl_fails(&["create", "--raw", "/api/v1/nodes/none/prune", "-f", "/dev/null"]);
    assert!(refused.contains("not found"), "{refused}");
}

#[test]
fn a_plan_says_which_images_have_to_be_fetched() {
    let (world, fleet) = crate::git::following(&["web"], "");
    let registry = Registry::start();
    registry.push_demo(&world, 1, "team/app", "v2");
    let path = fleet.path().to_str().unwrap();
    let planned = |image: &str| -> Value {
        let values = crate::git::values(image, "one", "/healthz");
        std::fs::write(fleet.path().join("web.yaml"), values).unwrap();
        serde_json::from_slice(&world.setpoint(&["plan", path, "-o", "json"]).stdout).unwrap()
    };
    assert_eq!(planned("setpoint.dev/demo:v2")["images"], json!([]), "it is here");
    let image = format!("{}/team/app:v2", registry.address);
    let lacking = planned(&image)["images"][0].clone();
    // The demo image has that layer, too.
    assert_eq!(
        (&lacking["name"], &lacking["bytes"]),
        (&json!(image), &json!(0)),
        "{lacking}"
    );
    assert_eq!(lacking["node"], world.announced["node"]);
    let absent = format!("{}/team/app:v9", registry.address);
    let lacking = planned(&absent)["images"][0].clone();
    assert!(lacking["unknown"].as_str().unwrap().contains("not found"), "{lacking}");
    let shown = text(&world.setpoint(&["plan", path]).stdout);
    assert!(
        shown.contains("images to be fetched") && shown.contains(&absent),
        "{shown}"
    );
}
