//! What containers cannot see and do.

use libtest_mimic::Trial;
use setpoint_runtime::spec::{ContainerSpec, Mount, MountSource, Resources, SandboxSpec, Security};

use crate::trial;
use crate::world::{World, sandbox, script};

pub fn tests() -> Vec<Trial> {
    vec![
        trial("a_container_has_its_own_processes_network_and_host_name", namespaces),
        trial("capabilities_seccomp_and_new_privileges_are_limited", privileges),
        trial("kernel_files_are_masked_and_write_protected", masks),
        trial("device_files_that_a_container_makes_cannot_be_opened", devices),
        trial("users_and_groups_come_from_spec_and_image", users),
        trial("run_as_non_root_refuses_a_root_image", non_root),
        trial("a_read_only_root_cannot_be_written", read_only_root),
        trial("limits_are_set_in_cgroups", limits),
        trial("a_mount_target_cannot_lead_out_of_the_root", escape),
        trial("containers_may_share_their_processes", shared_processes),
        trial("a_container_may_look_into_anothers_processes", target_processes),
        trial("privileged_containers_hold_everything", privileged),
        trial(
            "pods_of_one_sandbox_share_memory_and_sysctls_are_its_own",
            sandbox_scope,
        ),
    ]
}

async fn output(world: &World, spec: ContainerSpec) -> String {
    world.run("a", spec).await.1
}

async fn namespaces() {
    let world = World::new().await;
    world.sandbox("a").await;
    let text =
        "echo $$; hostname; ls /sys/class/net; cat /proc/self/cgroup | grep -c setpoint; ls /proc | grep -c '^[0-9]'";
    let log = output(&world, script("app", text)).await;
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!(&lines[..2], ["1", "web-host"], "{log}");
    assert!(
        lines[2..lines.len() - 2]
            .iter()
            .all(|name| ["lo", "tunl0", "sit0", "ip6tnl0"].contains(name)),
        "{log}"
    );
    assert_eq!(lines[lines.len() - 2], "0", "the host's cgroups are not seen: {log}");
    world.finish().await;
}

async fn privileges() {
    let world = World::new().await;
    world.sandbox("a").await;
    let text = "grep -E '^(CapEff|CapBnd|NoNewPrivs|Seccomp):' /proc/self/status; \
                unshare -m true 2>/dev/null || echo refused; mount -t tmpfs none /mnt 2>/dev/null || echo refused";
    let log = output(&world, script("app", text)).await;
    let words: Vec<String> = log
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    let expected = [
        "CapEff: 00000000a80425fb",
        "CapBnd: 00000000a80425fb",
        "NoNewPrivs: 1",
        "Seccomp: 2",
        "refused",
        "refused",
    ];
    assert_eq!(words, expected);

    let security = Security {
        drop_capabilities: vec!["ALL".to_owned()],
        add_capabilities: vec!["NET_BIND_SERVICE".to_owned()],
        allow_privilege_escalation: true,
        ..Security::default()
    };
    let log = output(
        &world,
        ContainerSpec {
            security,
            ..script("less", "grep -E '^(CapEff|NoNew|Seccomp:)' /proc/self/status")
        },
    )
    .await;
    let words: Vec<&str> = log.split_whitespace().collect();
    assert_eq!(
        words,
        ["CapEff:", "0000000000000400", "NoNewPrivs:", "0", "Seccomp:", "2"]
    );
    world.finish().await;
}

async fn masks() {
    let world = World::new().await;
    world.sandbox("a").await;
    let text = "cat /proc/kcore /proc/timer_list /proc/keys 2>/dev/null | wc -c; ls /sys/firmware | wc -l; \
                (echo 1 > /proc/sys/kernel/sysrq) 2>/dev/null || echo protected; \
                (echo 0 > /proc/sysrq-trigger) 2>/dev/null || echo protected; \
                mkdir /sys/fs/cgroup/x 2>/dev/null || echo protected";
    let log = output(&world, script("app", text)).await;
    assert_eq!(log, "0\n0\nprotected\nprotected\nprotected\n");
    world.finish().await;
}

async fn devices() {
    let world = World::new().await;
    world.sandbox("a").await;
    let text = "for d in / /dev /dev/shm; do mknod $d/mine c 1 5 && head -c1 $d/mine >/dev/null 2>&1 && echo open $d; done; \
                head -c 3 /dev/zero | wc -c; echo x > /dev/null && echo written; ls -l /dev/fd /dev/ptmx >/dev/null && echo links";
    let log = output(&world, script("app", text)).await;
    assert_eq!(log, "3\nwritten\nlinks\n");
    world.finish().await;
}

async fn users() {
    let world = World::new().await;
    world.sandbox("a").await;
    let security = Security {
        run_as_user: Some(1234),
        run_as_group: Some(2345),
        supplemental_groups: vec![3456],
        ..Security::default()
    };
    let text = "id -u; id -g; id -G; echo $HOME; grep CapEff /proc/self/status; echo again > /dev/stdout";
    let log = output(
        &world,
        ContainerSpec {
            security,
            ..script("app", text)
        },
    )
    .await;
    assert_eq!(log, "1234\n2345\n2345 3456\n/\nCapEff:\t0000000000000000\nagain\n");

    let mut image = crate::world::image();
    image.config.user = Some("daemon".to_owned());
    let started = world
        .runtime
        .start_container_with("a", script("named", "id -un; id -gn"), &image)
        .await
        .unwrap();
    assert_eq!(world.log("a", &started).await, "daemon\ndaemon\n");
    image.config.user = Some("ghost".to_owned());
    let error = world
        .runtime
        .start_container_with("a", script("ghost", "id"), &image)
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "unable to find user ghost: no matching entries in passwd file"
    );
    world.finish().await;
}

async fn non_root() {
    let world = World::new().await;
    world.sandbox("a").await;
    let security = Security {
        run_as_non_root: true,
        ..Security::default()
    };
    let error = world
        .start(
            "a",
            ContainerSpec {
                security,
                ..script("app", "true")
            },
        )
        .await
        .unwrap_err();
    assert_eq!(error.reason(), "CreateContainerConfigError");
    assert_eq!(
        error.to_string(),
        "container has runAsNonRoot and image will run as root (pod: \"web_default(a)\", container: app)"
    );
    world.finish().await;
}

async fn read_only_root() {
    let world = World::new().await;
    world.sandbox("a").await;
    let security = Security {
        read_only_root: true,
        ..Security::default()
    };
    let mounts = vec![Mount {
        target: "/scratch".into(),
        source: MountSource::Tmpfs { size: None },
        read_only: false,
    }];
    let text = "touch /file 2>/dev/null || echo ro; touch /scratch/file && echo rw; echo x > /dev/null && echo dev";
    let log = output(
        &world,
        ContainerSpec {
            security,
            mounts,
            ..script("app", text)
        },
    )
    .await;
    assert_eq!(log, "ro\nrw\ndev\n");
    world.finish().await;
}

async fn limits() {
    let world = World::new().await;
    let pod = Resources {
        memory_limit: Some(256 << 20),
        ..Resources::default()
    };
    world
        .runtime
        .create_sandbox(SandboxSpec {
            resources: pod,
            ..sandbox("a")
        })
        .await
        .unwrap();
    let resources = Resources {
        cpu_shares: Some(512),
        cpu_quota: Some(50_000),
        cpu_period: Some(100_000),
        memory_limit: Some(64 << 20),
        pids_limit: Some(77),
    };
    let text = "cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes cpu*/cpu.cfs_quota_us cpu*/cpu.shares pids/pids.max \
                memory.max cpu.max cpu.weight pids.max 2>/dev/null";
    let log = output(
        &world,
        ContainerSpec {
            resources,
            ..script("app", text)
        },
    )
    .await;
    let values: Vec<&str> = log.lines().collect();
    let v1 = ["67108864", "50000", "512", "77"];
    let v2 = ["67108864", "50000 100000", "20", "77"];
    assert!(values == v1 || values == v2, "{log}");
    let running = world.start("a", script("idle", "exec sleep 1000")).await.unwrap();
    let stats = world.runtime.stats("a").await.unwrap();
    let own = stats.containers.iter().find(|(id, _)| *id == running.id()).unwrap().1;
    assert!(
        own.memory_bytes > 0 && stats.total.cpu_nanoseconds >= own.cpu_nanoseconds,
        "{stats:?}"
    );
    world.finish().await;
}

async fn escape() {
    let world = World::new().await;
    world.sandbox("a").await;
    // A layer whose link would lead a mount target to the host.
    let layer = world.folder.join("layer");
    let outside = world.folder.join("outside");
    std::fs::create_dir_all(&layer).unwrap();
    std::fs::create_dir_all(&outside).unwrap();
    std::os::unix::fs::symlink(&outside, layer.join("link")).unwrap();
    std::os::unix::fs::symlink("../../../../../..", layer.join("up")).unwrap();
    let mut image = crate::world::image();
    image.layers.push(layer);
    for (number, target) in ["/link/made", "/up/etc/made"].into_iter().enumerate() {
        let source = MountSource::Tmpfs { size: None };
        let mounts = vec![Mount {
            target: target.into(),
            source,
            read_only: false,
        }];
        let spec = ContainerSpec {
            mounts,
            attempt: number as u32,
            ..script("app", "true")
        };
        // Whether it starts (inside) or is refused: nothing may appear outside.
        drop(world.runtime.start_container_with("a", spec, &image).await);
    }
    let mounts = vec![Mount {
        target: "/a/../../x".into(),
        source: MountSource::Tmpfs { size: None },
        read_only: false,
    }];
    assert!(
        world
            .start(
                "a",
                ContainerSpec {
                    mounts,
                    ..script("dots", "true")
                }
            )
            .await
            .is_err()
    );
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
    assert!(!std::path::Path::new("/etc/made").exists());
    world.finish().await;
}

async fn shared_processes() {
    let world = World::new().await;
    let spec = SandboxSpec {
        share_process_namespace: true,
        ..sandbox("a")
    };
    world.runtime.create_sandbox(spec).await.unwrap();
    world.start("a", script("one", "exec sleep 4711")).await.unwrap();
    let log = output(
        &world,
        script(
            "two",
            "ps -eo args | grep -c 'slee[p] 4711'; test $$ -ne 1 && echo other",
        ),
    )
    .await;
    assert_eq!(log, "1\nother\n");
    let exit = world
        .runtime
        .stop_container("a", "one-0", std::time::Duration::ZERO)
        .await
        .unwrap()
        .exit
        .unwrap();
    assert_eq!(exit.signal, Some(9));
    world.finish().await;
}

async fn target_processes() {
    let world = World::new().await;
    world.sandbox("a").await;
    let target = |id: &str, name: &str, text: &str| ContainerSpec {
        target: Some(id.to_owned()),
        ..script(name, text)
    };
    let missing = world.start("a", target("app-0", "early", "true")).await.unwrap_err();
    assert!(missing.to_string().contains("app-0"), "{missing}");
    world.start("a", script("app", "exec sleep 4712")).await.unwrap();
    let look = target(
        "app-0",
        "look",
        "tr '\\0' ' ' < /proc/1/cmdline; echo; ls /proc/1/root >/dev/null 2>&1 || echo closed; exec sleep 4713",
    );
    let started = world.start("a", look).await.unwrap();
    let (code, said, _) = world
        .exec("a", "look-0", &["/bin/sh", "-c", "ps -eo args | grep -c 'slee[p] 471'"])
        .await;
    assert_eq!((code, said.as_str()), (0, "2\n"));
    // Its processes end with those that it looks into.
    world
        .runtime
        .stop_container("a", "app-0", std::time::Duration::ZERO)
        .await
        .unwrap();
    let ended = world.ended("a", &started.id()).await;
    assert_eq!(ended.exit.unwrap().signal, Some(9));
    let log = world.log("a", &started).await;
    assert!(log.starts_with("sleep 4712"), "{log}");
    world.finish().await;
}

async fn privileged() {
    let world = World::new().await;
    world.sandbox("a").await;
    let security = Security {
        privileged: true,
        ..Security::default()
    };
    let text = "grep -E '^(Seccomp|NoNewPrivs):' /proc/self/status | cut -f2; mount -t tmpfs none /mnt && echo mounted; \
                mknod /dev/mine c 1 5 && head -c1 /dev/mine | wc -c";
    let log = output(
        &world,
        ContainerSpec {
            security,
            ..script("app", text)
        },
    )
    .await;
    assert_eq!(log, "0\n0\nmounted\n1\n");
    world.finish().await;
}

async fn sandbox_scope() {
    let world = World::new().await;
    let sysctls = [("net.ipv4.ip_unprivileged_port_start".to_owned(), "0".to_owned())].into();
    world
        .runtime
        .create_sandbox(SandboxSpec {
            sysctls,
            ..sandbox("a")
        })
        .await
        .unwrap();
    world.run("a", script("writer", "echo shared > /dev/shm/x")).await;
    let log = output(
        &world,
        script("reader", "cat /dev/shm/x /proc/sys/net/ipv4/ip_unprivileged_port_start"),
    )
    .await;
    assert_eq!(log, "shared\n0\n");
    let host = [("kernel.panic".to_owned(), "1".to_owned())].into();
    let error = world
        .runtime
        .create_sandbox(SandboxSpec {
            sysctls: host,
            ..sandbox("b")
        })
        .await
        .unwrap_err();
    assert!(error.to_string().contains("kernel.panic"), "{error}");
    assert!(world.runtime.sandbox("b").is_none() && !world.folder.join("data/sandboxes/b").exists());
    world.finish().await;
}
