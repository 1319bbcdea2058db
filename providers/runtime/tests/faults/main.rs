//! A pod's start that fails, at each of its steps: whatever was done before is undone.
//!
//! It needs root, and runs in a network namespace of its own, so that what it counts is its own and the host's network is left alone.

#![allow(
    clippy::unwrap_used,
    reason = "a test may panic; clippy knows only `#[test]` functions as tests"
)]

mod counted;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use libtest_mimic::{Arguments, Trial};
use setpoint_net::{Net, NetConfig, Ranges};
use setpoint_runtime::fault::{ContainerStep, Fault, NetStep, SandboxStep};
use setpoint_runtime::images::{Image, ImageStore};
use setpoint_runtime::spec::{ContainerSpec, Mount, MountSource, Resources, SandboxSpec, SandboxState};
use setpoint_runtime::{Runtime, RuntimeConfig, RuntimeError};

use counted::Counted;

const IP: Ipv4Addr = Ipv4Addr::new(10, 42, 0, 9);

fn main() -> ExitCode {
    setpoint_runtime::reexec_main();
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("these tests need root");
    let mut arguments = Arguments::from_args();
    // What is to fail is armed for the whole process, and what is counted is of all of it.
    arguments.test_threads = Some(1);
    let tests = vec![
        Trial::test("a_sandbox_that_fails_at_any_step_leaves_nothing", || run(sandboxes)),
        Trial::test("a_sandbox_that_is_adopted_without_its_network_gets_it_later", || {
            run(adopted)
        }),
        Trial::test("a_container_that_fails_at_any_step_leaves_nothing", || run(containers)),
    ];
    libtest_mimic::run(&arguments, tests).exit_code()
}

fn run<F: Future<Output = ()>>(test: fn() -> F) -> Result<(), libtest_mimic::Failed> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    Ok(runtime.block_on(async { tokio::time::timeout(Duration::from_secs(240), test()).await })?)
}

async fn sandboxes() {
    let world = World::new().await;
    // Some things are made once, by the first pod.
    world.make().await.unwrap();
    world.runtime.remove_sandbox("a").await.unwrap();
    let before = Counted::of(&world.folder, &world.instance, &[]);
    let steps = SandboxStep::ALL.iter().map(|step| step.name());
    for step in steps.chain(NetStep::ALL.iter().map(|step| step.name())) {
        Fault::at(step).arm();
        let failed = world.make().await;
        Fault::default().arm();
        let error = failed.expect_err(&format!("the fault at {step:?} is in no way of a sandbox"));
        assert!(
            counted::chain(&error).contains(step) || step == SandboxStep::Detached.name(),
            "{step}: {error:?}"
        );
        assert_eq!(world.runtime.sandboxes(), [], "{step}");
        before.is_so_again(&format!("a failure after {step:?}")).await;
        // The same again, without a fault.
        world
            .make()
            .await
            .unwrap_or_else(|error| panic!("after {step:?}: {error:?}"));
        world
            .runtime
            .start_container_with("a", container(&world), &image())
            .await
            .unwrap();
        world.runtime.remove_sandbox("a").await.unwrap();
        before.is_so_again(&format!("a pod after {step:?}")).await;
    }
    world.finish().await;
}

async fn adopted() {
    let mut world = World::new().await;
    for step in NetStep::ALL.iter().map(|step| step.name()) {
        world.make().await.unwrap();
        world.net.detach(IP).await.unwrap();
        Fault::at(step).arm();
        let adopted = world.open_again().await;
        assert_eq!(adopted.len(), 1, "{step}");
        let refused = world.start_and_remove().await;
        assert!(
            matches!(refused, Err(RuntimeError::Unreached(_))),
            "{step}: {refused:?}"
        );
        assert_eq!(world.net.attached().await.unwrap().len(), 0, "{step}");
        Fault::default().arm();
        let reached = async {
            while let Err(RuntimeError::Unreached(_)) = world.start_and_remove().await {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), reached)
            .await
            .expect(step);
        assert_eq!(world.net.attached().await.unwrap().len(), 1, "{step}");
        world.runtime.remove_sandbox("a").await.unwrap();
    }
    world.finish().await;
}

async fn containers() {
    let world = World::new().await;
    let shim = world.make().await.unwrap();
    world.start_and_remove().await.unwrap();
    let before = Counted::of(&world.folder, &world.instance, &[shim]);
    for step in ContainerStep::ALL.iter().map(|step| step.name()) {
        Fault::at(step).arm();
        let failed = world.start_and_remove().await;
        Fault::default().arm();
        let error = failed.expect_err(&format!("the fault at {step:?} is in no way of a container"));
        assert!(matches!(error, RuntimeError::Start { .. }), "{step}: {error:?}");
        assert!(error.to_string().contains(step), "{step}: {error}");
        assert_eq!(world.runtime.sandbox("a").unwrap().containers, [], "{step}");
        before.is_so_again(&format!("a failure after {step:?}")).await;
        world
            .start_and_remove()
            .await
            .unwrap_or_else(|error| panic!("after {step:?}: {error:?}"));
        before.is_so_again(&format!("a container after {step:?}")).await;
    }
    world.finish().await;
}

/// An instance with a network.
struct World {
    runtime: Runtime,
    net: Arc<Net>,
    folder: PathBuf,
    instance: String,
    _folder: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("sp").tempdir().unwrap();
        let instance = format!("{:04x}", std::process::id() & 0xffff);
        let net = NetConfig {
            instance: instance.clone(),
            ranges: Ranges {
                pods: "10.42.0.0/24".parse().unwrap(),
                services: "10.43.0.0/24".parse().unwrap(),
                ipv6: None,
            },
        };
        let net = Arc::new(Net::open(net).await.unwrap());
        std::fs::create_dir(folder.path().join("volume")).unwrap();
        let (runtime, _) = open(folder.path(), &instance, &net).await;
        Self {
            runtime,
            net,
            folder: folder.path().to_owned(),
            instance,
            _folder: folder,
        }
    }

    /// Opens the runtime anew, as the next daemon does; returns what it adopts.
    async fn open_again(&mut self) -> Vec<SandboxState> {
        let (runtime, adopted) = open(&self.folder, &self.instance, &self.net).await;
        self.runtime = runtime;
        adopted
    }

    /// Makes the sandbox; returns its shim.
    async fn make(&self) -> Result<i32, RuntimeError> {
        let spec = SandboxSpec {
            id: "a".to_owned(),
            namespace: "default".to_owned(),
            name: "web".to_owned(),
            hostname: "web-host".to_owned(),
            ip: Some(IP),
            share_process_namespace: true,
            sysctls: [("net.ipv4.ip_unprivileged_port_start".to_owned(), "80".to_owned())].into(),
            resources: limits(),
            ..SandboxSpec::default()
        };
        self.runtime.create_sandbox(spec).await.map(|state| state.pid)
    }

    async fn start_and_remove(&self) -> Result<(), RuntimeError> {
        let started = self
            .runtime
            .start_container_with("a", container(self), &image())
            .await?;
        self.runtime.remove_container("a", &started.id()).await
    }

    async fn finish(self) {
        Runtime::remove_all(&self.folder.join("data"), &self.folder.join("run"), &self.instance)
            .await
            .unwrap();
        self.net.remove_all().await.unwrap();
    }
}

async fn open(folder: &Path, instance: &str, net: &Arc<Net>) -> (Runtime, Vec<SandboxState>) {
    #[allow(clippy::disallowed_methods, reason = "tests are the edge of their process")]
    let now: setpoint_runtime::Now = Arc::new(jiff::Timestamp::now);
    let config = RuntimeConfig {
        data_dir: folder.join("data"),
        run_dir: folder.join("run"),
        instance: instance.to_owned(),
        now,
    };
    let images = Arc::new(ImageStore::open(&folder.join("images")).unwrap());
    Runtime::open(config, images, Some(net.clone())).await.unwrap()
}

/// A test that fails must not leave containers on the machine either.
impl Drop for World {
    fn drop(&mut self) {
        counted::kill_all(&self.instance);
    }
}

fn limits() -> Resources {
    Resources {
        memory_limit: Some(256 << 20),
        pids_limit: Some(100),
        ..Resources::default()
    }
}

fn container(world: &World) -> ContainerSpec {
    let mount = |target: &str, source| Mount {
        target: PathBuf::from(target),
        source,
        read_only: false,
    };
    let path = world.folder.join("volume");
    ContainerSpec {
        name: "app".to_owned(),
        image: image().id,
        command: Some(["/bin/sh", "-c", "exec sleep 1000"].map(str::to_owned).to_vec()),
        mounts: vec![
            mount("/mnt/volume", MountSource::Bind { path }),
            mount("/mnt/scratch", MountSource::Tmpfs { size: Some(1 << 20) }),
        ],
        resources: limits(),
        working_dir: Some("/tmp".to_owned()),
        stdin: true,
        ..ContainerSpec::default()
    }
}

/// The host's own root as an image: there is no other on a fresh machine.
fn image() -> Image {
    Image {
        id: format!("sha256:{}", "0".repeat(64)),
        layers: vec![Path::new("/").to_owned()],
        ..Image::default()
    }
}
