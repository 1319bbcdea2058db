//! An instance of its own for each test, which is gone afterwards.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use setpoint_runtime::images::{Image, ImageStore};
use setpoint_runtime::logs::ReadOptions;
use setpoint_runtime::spec::{ContainerSpec, ContainerState, ExecSpec, SandboxSpec, SandboxState};
use setpoint_runtime::{Runtime, RuntimeConfig, RuntimeError};
use tokio::io::AsyncReadExt;

/// A runtime in a folder of its own.
pub struct World {
    pub runtime: Runtime,
    pub adopted: Vec<SandboxState>,
    pub folder: PathBuf,
    pub instance: String,
    _folder: Option<tempfile::TempDir>,
}

/// The host's own root as an image: there is no other on a fresh machine.
pub fn image() -> Image {
    Image {
        id: format!("sha256:{}", "0".repeat(64)),
        layers: vec![PathBuf::from("/")],
        ..Image::default()
    }
}

pub async fn open(folder: &Path, instance: &str) -> (Runtime, Vec<SandboxState>) {
    let images = Arc::new(ImageStore::open(&folder.join("images")).expect("an image store"));
    #[allow(clippy::disallowed_methods, reason = "tests are the edge of their process")]
    let now: setpoint_runtime::Now = Arc::new(jiff::Timestamp::now);
    let config = RuntimeConfig {
        data_dir: folder.join("data"),
        run_dir: folder.join("run"),
        instance: instance.to_owned(),
        now,
    };
    Runtime::open(config, images, None).await.expect("an open runtime")
}

impl World {
    pub async fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("sp").tempdir().expect("a folder");
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = (std::process::id() << 4) + NEXT.fetch_add(1, Ordering::Relaxed);
        let instance = format!("t{:05x}", number & 0xf_ffff);
        let (runtime, adopted) = open(folder.path(), &instance).await;
        Self {
            runtime,
            adopted,
            folder: folder.path().to_owned(),
            instance,
            _folder: Some(folder),
        }
    }

    /// A sandbox with its own network namespace.
    pub async fn sandbox(&self, id: &str) -> SandboxState {
        self.runtime.create_sandbox(sandbox(id)).await.expect("a sandbox")
    }

    pub async fn start(&self, sandbox: &str, spec: ContainerSpec) -> Result<ContainerState, RuntimeError> {
        self.runtime.start_container_with(sandbox, spec, &image()).await
    }

    /// Starts a shell script, waits for its end and returns how it ended and what it wrote.
    pub async fn run(&self, sandbox: &str, spec: ContainerSpec) -> (ContainerState, String) {
        let started = self.start(sandbox, spec).await.expect("a started container");
        let ended = self.ended(sandbox, &started.id()).await;
        (ended, self.log(sandbox, &started).await)
    }

    /// Waits until a container ended.
    pub async fn ended(&self, sandbox: &str, container: &str) -> ContainerState {
        let mut events = self.runtime.events();
        loop {
            let state = self.runtime.sandbox(sandbox).expect("the sandbox");
            let found = state
                .containers
                .into_iter()
                .find(|state| state.id() == container)
                .expect("the container");
            if found.exit.is_some() {
                return found;
            }
            let event = tokio::time::timeout(Duration::from_secs(30), events.recv());
            event.await.expect("an exit in time").expect("an event");
        }
    }

    pub async fn log(&self, sandbox: &str, container: &ContainerState) -> String {
        let options = ReadOptions {
            follow: true,
            ..ReadOptions::default()
        };
        let mut chunks = self.runtime.logs(sandbox, &container.name, container.attempt, options);
        let mut text = Vec::new();
        while let Some(chunk) = chunks.recv().await {
            text.extend_from_slice(&chunk.expect("a readable log"));
        }
        String::from_utf8(text).expect("text")
    }

    /// Runs a command in a container; returns its exit code, output and errors.
    pub async fn exec(&self, sandbox: &str, container: &str, command: &[&str]) -> (i32, String, String) {
        let command = command.iter().map(|&part| part.to_owned()).collect();
        let spec = ExecSpec {
            command,
            tty: false,
            stdin: false,
        };
        let session = self.runtime.exec(sandbox, container, spec).await.expect("a session");
        let (mut out, mut err) = (String::new(), String::new());
        let (mut stdout, mut stderr) = (session.stdout.expect("stdout"), session.stderr.expect("stderr"));
        let (a, b, code) = tokio::join!(
            stdout.read_to_string(&mut out),
            stderr.read_to_string(&mut err),
            session.exit
        );
        a.expect("output");
        b.expect("errors");
        (code.expect("an exit code"), out, err)
    }

    /// Takes the instance away and shows that nothing of it is left.
    pub async fn finish(self) {
        let (data, run) = (self.folder.join("data"), self.folder.join("run"));
        Runtime::remove_all(&data, &run, &self.instance)
            .await
            .expect("everything removed");
        assert_eq!(self.traces(), Vec::<String>::new());
        assert!(!data.join("sandboxes").exists() && !run.exists());
    }

    /// Everything on the host that carries this instance's name: cgroups, mounts, processes.
    pub fn traces(&self) -> Vec<String> {
        let mut found = Vec::new();
        let name = format!("setpoint-{}", self.instance);
        collect_directories(Path::new("/sys/fs/cgroup"), &name, 0, &mut found);
        let folder = self.folder.to_string_lossy().into_owned();
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mounts");
        found.extend(
            mounts
                .lines()
                .filter(|line| line.contains(&folder))
                .map(|line| format!("mount {line}")),
        );
        for entry in std::fs::read_dir("/proc").expect("processes").flatten() {
            let cgroup = std::fs::read_to_string(entry.path().join("cgroup")).unwrap_or_default();
            if cgroup.contains(&name) && is_alive(&entry.path()) {
                found.push(format!("process {}", entry.path().display()));
            }
        }
        found
    }
}

/// A test that fails must not leave containers on the machine either.
impl Drop for World {
    fn drop(&mut self) {
        let (data, run, instance) = (self.folder.join("data"), self.folder.join("run"), self.instance.clone());
        let removing = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(Runtime::remove_all(&data, &run, &instance))
        });
        if let Ok(Err(error)) = removing.join() {
            eprintln!("cannot clean up: {error}");
        }
    }
}

/// Whether a process is more than an entry that its parent has not yet taken note of.
pub fn is_alive(process: &Path) -> bool {
    let stat = std::fs::read_to_string(process.join("stat")).unwrap_or_default();
    stat.rsplit(')')
        .next()
        .is_some_and(|rest| !rest.is_empty() && !rest.trim_start().starts_with(['Z', 'X']))
}

fn collect_directories(directory: &Path, name: &str, depth: u32, found: &mut Vec<String>) {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return;
    };
    for entry in entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
    {
        if entry.file_name().to_string_lossy() == name {
            found.push(format!("cgroup {}", entry.path().display()));
        } else if depth < 6 {
            collect_directories(&entry.path(), name, depth + 1, found);
        }
    }
}

/// A sandbox that is cut off from the host's network.
pub fn sandbox(id: &str) -> SandboxSpec {
    SandboxSpec {
        id: id.to_owned(),
        namespace: "default".to_owned(),
        name: "web".to_owned(),
        hostname: "web-host".to_owned(),
        ip: Some(std::net::Ipv4Addr::new(10, 42, 0, 9)),
        ..SandboxSpec::default()
    }
}

/// A container that runs a shell script.
pub fn script(name: &str, text: &str) -> ContainerSpec {
    ContainerSpec {
        name: name.to_owned(),
        image: image().id,
        command: Some(["/bin/sh", "-c", text].map(str::to_owned).to_vec()),
        ..ContainerSpec::default()
    }
}
