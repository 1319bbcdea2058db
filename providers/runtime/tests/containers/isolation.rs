//! What containers cannot see and do.

use libtest_mimic::Trial;
use setpoint_runtime::spec::{ContainerSpec, Mount, MountSource, Resources, SandboxSpec, Seccomp, Security};

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
        trial("a_seccomp_profile_of_the_nodes_own_is_enforced", profile),
        #[cfg(target_arch = "x86_64")]
        trial("a_program_of_32_bits_runs_under_the_same_filter", other_abi),
        trial("a_container_cannot_act_on_what_is_outside_of_it", outside),
        trial("a_user_that_is_not_root_holds_nothing", unprivileged),
        trial("a_child_that_is_killed_for_memory_is_told_of", oom_child),
        trial("limits_are_set_in_cgroups", limits),
        trial("limits_of_what_runs_are_changed_in_place", resized),
        trial("a_mount_target_cannot_lead_out_of_the_root", escape),
        trial("containers_may_share_their_processes", shared_processes),
        trial("a_container_may_look_into_anothers_processes", target_processes),
        trial("privileged_containers_hold_everything", privileged),
        trial(
            "privileged_containers_have_the_hosts_devices_with_their_owners_and_modes",
            host_devices,
        ),
        trial("the_hosts_tunnel_device_can_be_opened_and_no_other", tunnel),
        trial("ports_of_a_sandbox_are_everybodys", low_ports),
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

async fn profile() {
    let world = World::new().await;
    world.sandbox("a").await;
    let text = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}]}"#;
    let with = |text: &str| Security {
        seccomp: Seccomp::Profile(text.to_owned()),
        ..Security::default()
    };
    let spec = ContainerSpec {
        security: with(text),
        ..script(
            "app",
            "mkdir /made 2>&1; touch /made && echo touched; grep Seccomp: /proc/self/status",
        )
    };
    let log = output(&world, spec).await;
    assert!(
        log.contains("No space left on device") && log.contains("touched"),
        "{log}"
    );
    assert!(log.contains("Seccomp:\t2"), "{log}");
    let broken = ContainerSpec {
        security: with("{}"),
        ..script("broken", "true")
    };
    let error = world.start("a", broken).await.unwrap_err();
    assert_eq!(error.reason(), "CreateContainerConfigError");
    world.finish().await;
}

/// A whole program for 32-bit x86: writes `hi`, calls add_key without a name, and exits with the number of the error.
#[cfg(target_arch = "x86_64")]
const OTHER_PROGRAM: &str = "7f454c46010101000000000000000000020003000100000054800408340000000000000000000000340020000100000000000000\
    0100000000000000008004080080040889000000890000000500000000100000\
    b804000000bb01000000b986800408ba03000000cd80b81e01000031db31c931d231f631ffcd80f7d889c3b801000000cd8068690a";

#[cfg(target_arch = "x86_64")]
async fn other_abi() {
    let world = World::new().await;
    world.sandbox("a").await;
    let bytes = OTHER_PROGRAM.as_bytes().chunks(2);
    let program: Vec<u8> = bytes
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect();
    let path = world.folder.join("other");
    std::fs::write(&path, program).unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let run = |name: &str, seccomp: Seccomp| ContainerSpec {
        command: Some(vec!["/other".to_owned()]),
        security: Security {
            seccomp,
            ..Security::default()
        },
        mounts: vec![Mount {
            target: "/other".into(),
            source: MountSource::Bind { path: path.clone() },
            read_only: true,
        }],
        ..script(name, "")
    };
    for (name, seccomp, code) in [
        ("filtered", Seccomp::RuntimeDefault, libc::EPERM),
        ("open", Seccomp::Unconfined, libc::EFAULT),
    ] {
        let (ended, log) = world.run("a", run(name, seccomp)).await;
        let exit = ended.exit.unwrap();
        assert_eq!((exit.signal, exit.code, log.as_str()), (None, code, "hi\n"), "{name}");
    }
    world.finish().await;
}

/// Each line of the script prints a word where something succeeded that must not.
async fn outside() {
    let world = World::new().await;
    world.sandbox("a").await;
    let text = "
        unshare -U true 2>/dev/null && echo user-namespace
        unshare -n true 2>/dev/null && echo network-namespace
        mount --bind /tmp /mnt 2>/dev/null && echo bind
        mount -o remount,rw /proc/sys 2>/dev/null && echo remount
        umount /proc/sys 2>/dev/null && echo uncovered
        chroot / mount -t proc proc /mnt 2>/dev/null && echo proc
        for file in /proc/sys/kernel/hostname /proc/sys/kernel/core_pattern /proc/sys/vm/drop_caches /proc/sys/net/ipv4/ip_forward /proc/irq/default_smp_affinity; do
            (echo 1 > $file) 2>/dev/null && echo wrote $file
        done
        for file in /sys/kernel/mm/transparent_hugepage/enabled /sys/power/state /sys/fs/cgroup/cgroup.procs /sys/fs/cgroup/memory/cgroup.procs; do
            (echo 1 > $file) 2>/dev/null && echo wrote $file
        done
        test -n \"$(cat /proc/keys /proc/kcore 2>/dev/null | head -c1)\" && echo kernel-memory
        keyctl show 2>/dev/null && echo keys
        dmesg >/dev/null 2>&1 && echo kernel-log
        hostname other 2>/dev/null && echo renamed
        date -s 2001-01-01 >/dev/null 2>&1 && echo clock
        insmod /nothing 2>&1 | grep -qi 'no such file' && test -e /proc/modules && false
        nsenter -t 1 -m true 2>/dev/null && echo entered
        ls /dev | grep -Ev '^(core|fd|full|mqueue|null|ptmx|pts|random|shm|stderr|stdin|stdout|termination-log|tty|urandom|zero)$'
        ls /proc | grep '^[0-9]' | grep -vx -e 1 -e $$ | while read pid; do test -d /proc/$pid && grep -q setpoint /proc/$pid/comm 2>/dev/null && echo process $pid; done
        test $(wc -l < /proc/self/mountinfo) -lt 60 || echo mounts
        grep -q setpoint /proc/self/cgroup && echo cgroups
        ulimit -Hn >/dev/null; test $(ulimit -n) -le 65536 || echo files
        grep -E '^Cap(Inh|Amb):' /proc/self/status | grep -v 0000000000000000
        echo end";
    let log = output(&world, script("app", text)).await;
    assert_eq!(log, "end\n");
    world.finish().await;
}

async fn unprivileged() {
    let world = World::new().await;
    world.sandbox("a").await;
    let security = Security {
        run_as_user: Some(1000),
        run_as_group: Some(1000),
        run_as_non_root: true,
        read_only_root: true,
        drop_capabilities: vec!["ALL".to_owned()],
        ..Security::default()
    };
    let text = "grep -E '^Cap(Inh|Prm|Eff|Bnd|Amb):' /proc/self/status | grep -v 0000000000000000;                 touch /x 2>/dev/null && echo wrote; cat /etc/shadow 2>/dev/null && echo read; su -c true 2>/dev/null && echo root;                 cat /proc/1/environ >/dev/null && id -u";
    let spec = ContainerSpec {
        security,
        ..script("app", text)
    };
    assert_eq!(output(&world, spec).await, "1000\n");
    world.finish().await;
}

async fn oom_child() {
    let world = World::new().await;
    world.sandbox("a").await;
    let resources = Resources {
        memory_limit: Some(24 << 20),
        ..Resources::default()
    };
    let text = "(x=$(head -c 200000000 /dev/zero | tr '\\0' 'x'); echo ${#x}); echo went on; exit 3";
    let spec = ContainerSpec {
        resources,
        ..script("app", text)
    };
    let (ended, log) = world.run("a", spec).await;
    let exit = ended.exit.unwrap();
    // On v2 the whole container goes, as Kubernetes sets it up; on v1 the child alone.
    assert!(
        exit.oom_killed && (exit.code == 137 || (exit.code == 3 && log.contains("went on"))),
        "{exit:?} {log}"
    );
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

async fn resized() {
    let world = World::new().await;
    let of = |quota: i64, memory: u64| Resources {
        cpu_shares: Some(512),
        cpu_quota: Some(quota),
        cpu_period: Some(100_000),
        memory_limit: Some(memory << 20),
        pids_limit: None,
    };
    let spec = SandboxSpec {
        resources: of(50_000, 64),
        ..sandbox("a")
    };
    world.runtime.create_sandbox(spec).await.unwrap();
    let container = ContainerSpec {
        resources: of(50_000, 64),
        ..script("app", "exec sleep 1000")
    };
    let id = world.start("a", container).await.unwrap().id();
    let text =
        "cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes cpu*/cpu.cfs_quota_us memory.max cpu.max 2>/dev/null";
    for (quota, memory) in [(150_000, 128), (20_000, 32)] {
        let wanted = of(quota, memory);
        world
            .runtime
            .resize("a", &wanted, &[(id.clone(), wanted.clone())])
            .await
            .unwrap();
        let (_, log, _) = world.exec("a", &id, &["/bin/sh", "-c", text]).await;
        let values: Vec<&str> = log.lines().collect();
        let (quota, memory) = (quota.to_string(), (memory << 20).to_string());
        let v2 = [memory.clone(), format!("{quota} 100000")];
        assert!(values == [memory, quota] || values == v2, "{log}");
    }
    let little = Resources {
        memory_limit: Some(4096),
        ..Resources::default()
    };
    let error = world
        .runtime
        .resize("a", &Resources::default(), &[(id.clone(), little)])
        .await
        .unwrap_err();
    assert!(format!("{error:?}").contains("below current usage"), "{error:?}");
    let gone = world
        .runtime
        .resize("a", &of(1000, 64), &[("app-7".to_owned(), of(1000, 64))])
        .await;
    assert!(gone.is_err());
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

async fn host_devices() {
    let world = World::new().await;
    world.sandbox("a").await;
    let security = Security {
        privileged: true,
        ..Security::default()
    };
    // Those that every container has are bound, and look like files in the list of their directory.
    let look = "cd /dev; find . -path ./pts -prune -o -path ./shm -prune -o -path ./mqueue -prune \
                -o ! -name ptmx ! -name console ! -name null ! -name zero ! -name full ! -name '*random' ! -name tty \\( -type c -o -type b \\) -print0 | LC_ALL=C sort -z | xargs -0 stat -c '%n %t:%T %a %u:%g %F'";
    let spec = ContainerSpec {
        security,
        ..script("app", &format!("{look}; exec 3<>/dev/net/tun && echo open"))
    };
    let log = output(&world, spec).await;
    let here = std::process::Command::new("/bin/sh")
        .args(["-c", look])
        .output()
        .unwrap();
    let here = String::from_utf8(here.stdout).unwrap();
    assert!(here.contains("./net/tun a:c8 "), "this test needs /dev/net/tun: {here}");
    assert_eq!(log, format!("{here}open\n"));
    world.finish().await;
}

async fn tunnel() {
    let world = World::new().await;
    world.sandbox("a").await;
    let bind = |path: &str| Mount {
        target: path.into(),
        source: MountSource::Bind { path: path.into() },
        read_only: false,
    };
    let security = Security {
        add_capabilities: vec!["NET_ADMIN".to_owned()],
        ..Security::default()
    };
    // TUNSETIFF makes an interface of the pod's own network.
    let text = "(exec 3<>/dev/kmsg) 2>/dev/null && echo kernel-log; \
                python3 -c 'import fcntl; f = open(\"/dev/net/tun\", \"r+b\", 0); fcntl.ioctl(f, 0x400454ca, b\"tun7\".ljust(16, b\"\\0\") + b\"\\x01\\x10\".ljust(24, b\"\\0\")); \
                print(open(\"/proc/net/dev\").read().count(\"tun7\"))'";
    let spec = ContainerSpec {
        security,
        mounts: vec![bind("/dev/net/tun"), bind("/dev/kmsg")],
        ..script("app", text)
    };
    assert_eq!(output(&world, spec).await, "1\n");
    world.finish().await;
}

async fn low_ports() {
    let world = World::new().await;
    world.sandbox("a").await;
    let security = Security {
        run_as_user: Some(1000),
        run_as_group: Some(1000),
        drop_capabilities: vec!["ALL".to_owned()],
        ..Security::default()
    };
    let text = "cat /proc/sys/net/ipv4/ping_group_range; \
                python3 -c 'import socket; s = socket.socket(); s.bind((\"127.0.0.1\", 80)); s.listen(); print(s.getsockname()[1])'";
    let spec = ContainerSpec {
        security,
        ..script("app", text)
    };
    assert_eq!(output(&world, spec).await, "0\t2147483647\n80\n");
    world.finish().await;
}

async fn sandbox_scope() {
    let world = World::new().await;
    let sysctls = [("net.ipv4.ip_unprivileged_port_start".to_owned(), "81".to_owned())].into();
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
    assert_eq!(log, "shared\n81\n");
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
