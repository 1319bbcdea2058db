//! Volumes: claims and their folders through the lives of pods and of the daemon, and the other kinds that pods mount.

use std::path::PathBuf;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::harness::{World, items, wait_for};

/// A pod with this host's programs that runs a script and then stays; `more` are lines of its mounts, `volumes` of its volumes.
fn pod(name: &str, script: &str, more: &str, volumes: &str) -> String {
    let hosts: String = ["usr", "bin", "lib", "lib64"]
        .map(|dir| format!("    - {{ name: {dir}, hostPath: {{ path: /{dir} }} }}\n"))
        .concat();
    let mounts: String = ["usr", "bin", "lib", "lib64"]
        .map(|dir| format!("        - {{ name: {dir}, mountPath: /{dir} }}\n"))
        .concat();
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{ name: {name} }}\nspec:\n  terminationGracePeriodSeconds: 1\n  containers:\n    - name: app\n      \
         image: setpoint.dev/demo:v1\n      securityContext: {{ runAsUser: 0 }}\n      env: [{{ name: PATH, value: '/usr/bin:/bin' }}]\n      \
         command: [bash, -c, '{script}; exec sleep 1000']\n      volumeMounts:\n{mounts}{more}  volumes:\n{hosts}{volumes}"
    )
}

fn claim(name: &str, rest: &str) -> String {
    format!(
        "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {{ name: {name} }}\nspec: {{ accessModes: [ReadWriteOnce], resources: {{ requests: {{ \
         storage: 1Gi }} }}{rest} }}\n"
    )
}

fn with_claim(name: &str, script: &str) -> String {
    pod(
        name,
        script,
        "        - { name: data, mountPath: /data }\n",
        "    - { name: data, persistentVolumeClaim: { claimName: data } }\n",
    )
}

fn running(world: &World, name: &str) -> Value {
    world.until(&["pod", name], "running", |pod| pod["status"]["phase"] == "Running")
}

fn exec(world: &World, name: &str, script: &str) -> String {
    world.kubectl(&["exec", name, "--", "/usr/bin/bash", "-c", script])
}

fn folder_of(world: &World, claim: &str) -> (String, PathBuf) {
    let claim = world.get(&["pvc", claim]).unwrap();
    let volume = claim["spec"]["volumeName"].as_str().unwrap().to_owned();
    let path = world.data_dir().join("volumes").join(&volume);
    (volume, path)
}

fn gone(world: &World, args: &[&str]) {
    wait_for(&format!("{args:?} to be gone"), || {
        world.get(args).is_none().then_some(())
    });
}

#[test]
fn a_claims_data_outlives_pods_and_the_daemon_and_goes_with_the_claim() {
    let mut world = World::start();
    let classes = world.kubectl(&["get", "storageclass"]);
    assert!(
        classes.contains("local (default)") && classes.contains("WaitForFirstConsumer"),
        "{classes}"
    );
    world.apply(&claim("data", ""));
    let waiting = world.until(&["pvc", "data"], "of the default class", |claim| {
        claim["spec"]["storageClassName"] == "local"
    });
    assert_eq!(waiting["status"]["phase"], "Pending");
    let told = wait_for("the event of a claim that waits", || {
        let events = world.kubectl(&["get", "events", "-o", "jsonpath={.items[*].message}"]);
        events.contains("waiting for first consumer").then_some(events)
    });
    assert!(
        told.contains("waiting for first consumer to be created before binding"),
        "{told}"
    );

    world.apply(&with_claim("one", "echo first > /data/file"));
    running(&world, "one");
    let bound = world.until(&["pvc", "data"], "bound", |claim| claim["status"]["phase"] == "Bound");
    assert_eq!(bound["status"]["capacity"]["storage"], "1Gi");
    let (volume, folder) = folder_of(&world, "data");
    wait_for("the file", || {
        std::fs::read_to_string(folder.join("file"))
            .ok()
            .filter(|text| text == "first\n")
    });

    // Who uses it keeps it.
    world.kubectl(&["delete", "pvc", "data", "--wait=false"]);
    let kept = world.get(&["pvc", "data"]).unwrap();
    assert!(!kept["metadata"]["deletionTimestamp"].is_null(), "{kept}");
    assert!(folder.join("file").exists());
    world.kubectl(&["delete", "pod", "one"]);
    gone(&world, &["pvc", "data"]);
    gone(&world, &["pv", &volume]);
    assert!(!folder.exists(), "the folder goes with its volume");

    world.apply(&claim("data", ""));
    world.apply(&with_claim("two", "echo second > /data/file"));
    running(&world, "two");
    let (_, folder) = folder_of(&world, "data");
    wait_for("the file", || folder.join("file").exists().then_some(()));
    world.kubectl(&["delete", "pod", "two"]);
    world.end_daemon(Signal::SIGKILL);
    world.up();
    world.apply(&with_claim("three", "cat /data/file"));
    running(&world, "three");
    assert_eq!(exec(&world, "three", "cat /data/file"), "second\n");

    // It grows while it is used; it does not shrink.
    let grow = r#"{"spec":{"resources":{"requests":{"storage":"3Gi"}}}}"#;
    world.kubectl(&["patch", "pvc", "data", "-p", grow]);
    world.until(&["pvc", "data"], "larger", |claim| {
        claim["status"]["capacity"]["storage"] == "3Gi"
    });
    let shrink = r#"{"spec":{"resources":{"requests":{"storage":"2Gi"}}}}"#;
    let error = world.kubectl_fails(&["patch", "pvc", "data", "-p", shrink]);
    assert!(error.contains("field can not be less than"), "{error}");
}

#[test]
fn volumes_by_hand_are_bound_kept_and_waited_for() {
    let world = World::start();
    let folder = world.folder().join("by-hand");
    std::fs::create_dir(&folder).unwrap();
    let volume = format!(
        "apiVersion: v1\nkind: PersistentVolume\nmetadata: {{ name: by-hand }}\nspec: {{ capacity: {{ storage: 2Gi }}, accessModes: [ReadWriteOnce], \
         storageClassName: manual, hostPath: {{ path: {} }} }}\n",
        folder.display()
    );
    let missing = world.apply(&with_claim("early", "true"));
    assert!(missing.contains("created"), "{missing}");
    let why = |world: &World, words: &str| {
        world.until(&["pod", "early"], words, |pod| {
            let conditions = pod["status"]["conditions"].as_array();
            conditions.is_some_and(|all| {
                all.iter()
                    .any(|c| c["message"].as_str().is_some_and(|text| text.contains(words)))
            })
        });
    };
    why(
        &world,
        "0/1 nodes are available: persistentvolumeclaim \"data\" not found.",
    );
    world.apply(&claim("data", ", storageClassName: manual"));
    why(&world, "pod has unbound immediate PersistentVolumeClaims");
    world.apply(&volume);
    running(&world, "early");
    exec(&world, "early", "echo kept > /data/file");
    world.kubectl(&["delete", "pod", "early"]);
    world.kubectl(&["delete", "pvc", "data"]);
    world.until(&["pv", "by-hand"], "released", |volume| {
        volume["status"]["phase"] == "Released"
    });
    assert_eq!(std::fs::read_to_string(folder.join("file")).unwrap(), "kept\n");
    // Freed by hand, it is taken again.
    world.kubectl(&["patch", "pv", "by-hand", "-p", r#"{"spec":{"claimRef":null}}"#]);
    world.until(&["pv", "by-hand"], "available", |volume| {
        volume["status"]["phase"] == "Available"
    });
    world.apply(&claim("data", ", storageClassName: manual"));
    world.until(&["pvc", "data"], "bound", |claim| claim["status"]["phase"] == "Bound");

    // A class that retains leaves both the volume and its folder.
    world.apply(
        "apiVersion: storage.k8s.io/v1\nkind: StorageClass\nmetadata: { name: kept }\nprovisioner: setpoint.dev/local\nreclaimPolicy: Retain\n",
    );
    world.apply(&claim("kept", ", storageClassName: kept"));
    world.until(&["pvc", "kept"], "bound at once", |claim| {
        claim["status"]["phase"] == "Bound"
    });
    let (name, kept) = folder_of(&world, "kept");
    world.apply(&pod(
        "user",
        "echo x > /data/file",
        "        - { name: data, mountPath: /data }\n",
        "    - { name: data, persistentVolumeClaim: { claimName: kept } }\n",
    ));
    wait_for("the file", || kept.join("file").exists().then_some(()));
    world.kubectl(&["delete", "pod", "user"]);
    world.kubectl(&["delete", "pvc", "kept"]);
    world.until(&["pv", &name], "released", |volume| {
        volume["status"]["phase"] == "Released"
    });
    world.kubectl(&["delete", "pv", &name]);
    assert!(kept.join("file").exists(), "what is retained is never removed");
    // Block volumes are refused in words.
    let error = world.kubectl_fails(&["patch", "pvc", "data", "-p", r#"{"spec":{"volumeMode":"Block"}}"#]);
    assert!(error.contains("immutable"), "{error}");
}

#[test]
fn a_pods_own_claim_comes_and_goes_with_it() {
    let world = World::start();
    world.apply(&pod(
        "own",
        "echo x > /scratch/file",
        "        - { name: scratch, mountPath: /scratch }\n",
        "    - name: scratch\n      ephemeral: { volumeClaimTemplate: { spec: { accessModes: [ReadWriteOncePod], resources: { requests: { storage: \
         1Mi } } } } }\n",
    ));
    running(&world, "own");
    let (volume, folder) = folder_of(&world, "own-scratch");
    wait_for("the file", || folder.join("file").exists().then_some(()));
    world.apply(&pod(
        "other",
        "true",
        "        - { name: scratch, mountPath: /scratch }\n",
        "    - { name: scratch, persistentVolumeClaim: { claimName: own-scratch } }\n",
    ));
    world.until(&["pod", "other"], "kept out", |pod| {
        let conditions = pod["status"]["conditions"].to_string();
        conditions
            .contains("node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode")
    });
    world.kubectl(&["delete", "pod", "own", "other"]);
    gone(&world, &["pvc", "own-scratch"]);
    gone(&world, &["pv", &volume]);
    assert!(!folder.exists());
}

#[test]
fn images_memory_and_shared_mounts_are_what_they_are_said_to_be() {
    let world = World::start();
    let shared = world.folder().join("shared");
    std::fs::create_dir(&shared).unwrap();
    // A place whose mounts travel, whatever the host's own do.
    let mount = |args: &[&str]| {
        let status = std::process::Command::new("mount").args(args).status().unwrap();
        assert!(status.success(), "mount {args:?}");
    };
    let place = shared.to_str().unwrap();
    mount(&["-t", "tmpfs", "tmpfs", place]);
    mount(&["--make-shared", place]);
    std::fs::create_dir(shared.join("from-host")).unwrap();
    std::fs::create_dir(shared.join("from-pod")).unwrap();
    let yaml = pod(
        "mixed",
        "mount -t tmpfs tmpfs /both/from-pod && touch /both/from-pod/made",
        "        - { name: image, mountPath: /image }\n        - { name: image, mountPath: /part, subPath: setpoint }\n        - { name: memory, \
         mountPath: /memory }\n        - { name: memory, mountPath: /sub, subPath: a/b }\n        - { name: shared, mountPath: /both, mountPropagation: \
         Bidirectional }\n        - { name: shared, mountPath: /down, mountPropagation: HostToContainer }\n        - { name: shared, mountPath: /apart \
         }\n        - { name: shared, mountPath: /fixed, readOnly: true, recursiveReadOnly: Enabled }\n",
        &format!(
            "    - {{ name: image, image: {{ reference: 'setpoint.dev/demo:v2', pullPolicy: IfNotPresent }} }}\n    - {{ name: memory, emptyDir: {{ \
             medium: Memory, sizeLimit: 1Mi }} }}\n    - {{ name: shared, hostPath: {{ path: {place}, type: Directory }} }}\n"
        ),
    )
    .replace("runAsUser: 0", "runAsUser: 0, privileged: true");
    world.apply(&yaml);
    running(&world, "mixed");
    let look = |script: &str| exec(&world, "mixed", script).trim().to_owned();
    assert_eq!(look("test -f /image/setpoint && test -f /part && echo there"), "there");
    assert_eq!(look("touch /image/x 2>/dev/null || echo fixed"), "fixed");
    assert_eq!(
        look("/image/setpoint --version 2>/dev/null || echo unrunnable"),
        "unrunnable"
    );
    assert_eq!(
        look("stat -f -c %T /memory; df --output=size /memory | tail -1 | tr -d \" \""),
        "tmpfs\n1024"
    );
    assert_eq!(look("touch /sub/x; ls /memory/a/b"), "x");
    assert_eq!(look("touch /fixed/x 2>/dev/null || echo fixed"), "fixed");
    wait_for("the pod's mount on the host", || {
        shared.join("from-pod/made").exists().then_some(())
    });
    mount(&["-t", "tmpfs", "tmpfs", shared.join("from-host").to_str().unwrap()]);
    std::fs::write(shared.join("from-host/file"), "").unwrap();
    assert_eq!(
        look("ls /down/from-host /both/from-host"),
        "/both/from-host:\nfile\n\n/down/from-host:\nfile"
    );
    assert_eq!(look("ls /apart/from-host"), "");
    world.kubectl(&["delete", "pod", "mixed"]);
    let status = std::process::Command::new("umount")
        .args(["-R", "-l", place])
        .status()
        .unwrap();
    assert!(status.success());
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let volatile = world.data_dir().join("volatile");
    let left = table
        .lines()
        .filter(|line| line.contains(&format!("{}/", volatile.display())));
    assert_eq!(left.count(), 0, "no volume in memory is left mounted");
}

#[test]
fn a_pod_that_fills_its_disk_is_evicted() {
    let world = World::start();
    world.apply(&pod(
        "greedy",
        "head -c 3000000 /dev/zero > /scratch/file",
        "        - { name: scratch, mountPath: /scratch }\n",
        "    - { name: scratch, emptyDir: { sizeLimit: 1Mi } }\n",
    ));
    let failed = world.until(&["pod", "greedy"], "evicted", |pod| pod["status"]["phase"] == "Failed");
    assert_eq!(failed["status"]["reason"], "Evicted");
    assert_eq!(
        failed["status"]["message"],
        "Usage of EmptyDir volume \"scratch\" exceeds the limit \"1Mi\". "
    );
    let events = world.get(&["events", "--field-selector", "reason=Evicted"]).unwrap();
    assert_eq!(items(&events).len(), 1, "{events}");
}
