use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;

use serde_json::{Value, json};
use setpoint_runtime::spec::MountSource;

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + second).expect("a time")
}

fn pod(volumes: Value, mounts: Value) -> Pod {
    let spec = json!({"volumes": volumes, "containers": [{"name": "a", "volumeMounts": mounts}]});
    let meta = json!({"name": "web", "namespace": "shop", "uid": "u", "labels": {"app": "web"}});
    serde_json::from_value(json!({"metadata": meta, "spec": spec})).expect("a pod")
}

fn sources(pairs: &[(&str, &str)]) -> Sources {
    let data: crate::env::Data = pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec()))
        .collect();
    Sources {
        config_maps: [("cfg".to_owned(), data.clone())].into(),
        secrets: [("sec".to_owned(), data)].into(),
        ..Sources::default()
    }
}

fn make(dir: &Path, pod: &Pod, sources: &Sources, second: i64) -> Result<Places, VolumeError> {
    let places = Places::new(dir);
    prepare(&places, pod, sources, &BTreeMap::new(), &Stores::new(), at(second)).map(|()| places)
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn a_config_map_changes_as_a_whole_through_one_link() {
    let dir = tempfile::tempdir().expect("a directory");
    let pod = pod(json!([{"name": "v", "configMap": {"name": "cfg"}}]), json!([]));
    make(dir.path(), &pod, &sources(&[("a", "1"), ("b", "2")]), 0).expect("prepared");
    let volume = dir.path().join("pods/u/volumes/v");
    assert_eq!(read(&volume.join("a")), "1");
    let first = fs::read_link(volume.join("..data")).expect("a link");
    make(dir.path(), &pod, &sources(&[("a", "1"), ("b", "2")]), 1).expect("prepared");
    assert_eq!(
        fs::read_link(volume.join("..data")).expect("a link"),
        first,
        "equal content is left alone"
    );
    make(dir.path(), &pod, &sources(&[("a", "new"), ("c", "3")]), 2).expect("prepared");
    assert_eq!(
        (read(&volume.join("a")), read(&volume.join("c"))),
        ("new".to_owned(), "3".to_owned())
    );
    let mut names: Vec<_> = fs::read_dir(&volume)
        .expect("entries")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("text"))
        .collect();
    names.sort();
    assert_eq!(names.len(), 4, "{names:?}");
    assert!(!names.contains(&"b".to_owned()) && !names.contains(&first.display().to_string()));
}

#[test]
fn items_choose_keys_paths_and_modes_and_secrets_lie_in_memory() {
    let dir = tempfile::tempdir().expect("a directory");
    let items = json!([{"key": "a", "path": "deep/file", "mode": 256}]);
    let pod = pod(
        json!([{"name": "v", "secret": {"secretName": "sec", "items": items}}]),
        json!([]),
    );
    make(dir.path(), &pod, &sources(&[("a", "1"), ("b", "2")]), 0).expect("prepared");
    let volume = dir.path().join("volatile/u/volumes/v");
    assert_eq!(read(&volume.join("deep/file")), "1");
    assert_eq!(
        fs::metadata(volume.join("deep/file")).expect("metadata").mode() & 0o777,
        0o400
    );
    assert!(!volume.join("b").exists());
}

#[test]
fn what_is_missing_is_an_error_unless_it_is_optional() {
    let dir = tempfile::tempdir().expect("a directory");
    let missing = pod(json!([{"name": "v", "configMap": {"name": "gone"}}]), json!([]));
    let error = make(dir.path(), &missing, &sources(&[]), 0).expect_err("missing");
    assert_eq!(
        error.to_string(),
        "MountVolume.SetUp failed for volume \"v\" : configmap \"gone\" not found"
    );
    let optional = pod(
        json!([{"name": "v", "configMap": {"name": "gone", "optional": true}}]),
        json!([]),
    );
    make(dir.path(), &optional, &sources(&[]), 0).expect("prepared");
    let key = pod(
        json!([{"name": "v", "configMap": {"name": "cfg", "items": [{"key": "no", "path": "p"}]}}]),
        json!([]),
    );
    let error = make(dir.path(), &key, &sources(&[]), 0).expect_err("missing");
    assert!(
        error.to_string().ends_with("references non-existent config key: no"),
        "{error}"
    );
}

#[test]
fn paths_that_leave_the_volume_are_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    for path in ["../x", "/etc/x", "a/../../x", "..data", ""] {
        let items = json!([{"key": "a", "path": path}]);
        let pod = pod(
            json!([{"name": "v", "configMap": {"name": "cfg", "items": items}}]),
            json!([]),
        );
        make(dir.path(), &pod, &sources(&[("a", "1")]), 0).expect_err(path);
    }
}

#[test]
fn projected_volumes_join_their_sources() {
    let dir = tempfile::tempdir().expect("a directory");
    let list = json!([
        {"configMap": {"name": "cfg", "items": [{"key": "a", "path": "c"}]}},
        {"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
        {"serviceAccountToken": {"path": "token"}},
    ]);
    let pod = pod(json!([{"name": "v", "projected": {"sources": list}}]), json!([]));
    assert_eq!(token_requests(&pod).len(), 1);
    let tokens = [(("v".to_owned(), "token".to_owned()), "secret".to_owned())].into();
    let places = Places::new(dir.path());
    prepare(&places, &pod, &sources(&[("a", "1")]), &tokens, &Stores::new(), at(0)).expect("prepared");
    let volume = dir.path().join("volatile/u/volumes/v");
    assert_eq!(read(&volume.join("labels")), "app=\"web\"");
    assert_eq!(read(&volume.join("token")), "secret");
}

#[test]
fn host_paths_are_checked_and_made_as_their_type_says() {
    let dir = tempfile::tempdir().expect("a directory");
    let with = |name: &str, kind: &str| {
        let path = dir.path().join(name);
        make(
            dir.path(),
            &pod(
                json!([{"name": "v", "hostPath": {"path": path, "type": kind}}]),
                json!([]),
            ),
            &sources(&[]),
            0,
        )
    };
    with("made", "DirectoryOrCreate").expect("made");
    with("file", "FileOrCreate").expect("made");
    assert!(dir.path().join("made").is_dir() && dir.path().join("file").is_file());
    let error = with("file", "Directory").expect_err("no directory");
    assert!(error.to_string().contains("is not a directory"), "{error}");
    with("nothing", "File").expect_err("nothing there");
    with("made", "Socket").expect_err("no socket");
}

#[test]
fn empty_directories_are_open_and_belong_to_the_group() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut pod = pod(json!([{"name": "v", "emptyDir": {}}]), json!([]));
    let gid = fs::metadata(dir.path()).expect("metadata").gid();
    pod.spec.as_mut().expect("a spec").security_context =
        Some(serde_json::from_value(json!({"fsGroup": gid})).expect("a context"));
    make(dir.path(), &pod, &sources(&[]), 0).expect("prepared");
    let volume = dir.path().join("pods/u/volumes/v");
    assert_eq!(fs::metadata(&volume).expect("metadata").mode() & 0o7777, 0o2777);
    fs::write(volume.join("kept"), "x").expect("written");
    make(dir.path(), &pod, &sources(&[]), 1).expect("prepared");
    assert_eq!(read(&volume.join("kept")), "x");
}

#[test]
fn mounts_carry_volumes_sub_paths_and_the_generated_files() {
    let dir = tempfile::tempdir().expect("a directory");
    let volumes = json!([{"name": "v", "emptyDir": {}}, {"name": "c", "configMap": {"name": "cfg"}}]);
    let mounts = json!([
        {"name": "v", "mountPath": "/data", "subPathExpr": "x/$(NAME)"},
        {"name": "c", "mountPath": "/etc/hosts", "subPath": "a"},
    ]);
    let pod = pod(volumes, mounts);
    let places = make(dir.path(), &pod, &sources(&[("a", "1")]), 0).expect("prepared");
    let container = pod.spec.as_ref().expect("a spec").containers[0].clone();
    let variables = [("NAME".to_owned(), "one".to_owned())];
    let got = container_mounts(&places, &pod, &container, &variables, Path::new("/log")).expect("mounts");
    let shown: Vec<(String, bool)> = got
        .iter()
        .map(|mount| (mount.target.display().to_string(), mount.read_only))
        .collect();
    let expected = [
        ("/data", false),
        ("/etc/hosts", true),
        ("/etc/hostname", false),
        ("/etc/resolv.conf", false),
        ("/dev/termination-log", false),
    ];
    assert_eq!(
        shown,
        expected.map(|(target, read_only)| (target.to_owned(), read_only))
    );
    let MountSource::Volume {
        path,
        beneath: Some(beneath),
        ..
    } = &got[0].source
    else {
        panic!("a part of a volume")
    };
    assert_eq!(
        fs::metadata(path).expect("made").mode() & 0o7777,
        0o777,
        "as the volume"
    );
    assert!(path.starts_with(beneath) && beneath.ends_with("volumes/v"));
    assert!(path.ends_with("volumes/v/x/one") && path.is_dir(), "{path:?}");
    let MountSource::Bind { path } = &got[1].source else {
        panic!("a bind")
    };
    assert_eq!(read(path), "1");
}

#[test]
fn generated_files_are_as_read_only_as_the_root_but_last_words_are_not() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut pod = pod(json!([]), json!([]));
    let container = &mut pod.spec.as_mut().expect("a spec").containers[0];
    container.security_context =
        Some(serde_json::from_value(json!({"readOnlyRootFilesystem": true})).expect("a context"));
    let container = container.clone();
    let got = container_mounts(&Places::new(dir.path()), &pod, &container, &[], Path::new("/log")).expect("mounts");
    let writable: Vec<&Path> = got
        .iter()
        .filter(|mount| !mount.read_only)
        .map(|mount| mount.target.as_path())
        .collect();
    assert_eq!((got.len(), writable), (4, vec![Path::new("/dev/termination-log")]));
}

#[test]
fn a_directory_of_which_the_making_broke_off_is_finished() {
    let dir = tempfile::tempdir().expect("a directory");
    let pod = pod(
        json!([{"name": "v", "emptyDir": {}}]),
        json!([{"name": "v", "mountPath": "/d", "subPath": "sub"}]),
    );
    let volume = dir.path().join("pods/u/volumes/v");
    let broken_off = |path: &Path| {
        fs::create_dir_all(path).expect("made");
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("a mode");
    };
    let mode = |path: &Path| fs::metadata(path).expect("metadata").mode() & 0o7777;
    let names = |path: &Path| -> Vec<String> {
        let entries = fs::read_dir(path).expect("entries");
        entries
            .map(|entry| entry.expect("an entry").file_name().into_string().expect("text"))
            .collect()
    };
    broken_off(&volume.with_file_name(".v"));
    let places = make(dir.path(), &pod, &sources(&[]), 0).expect("prepared");
    assert_eq!(
        (mode(&volume), names(&dir.path().join("pods/u/volumes"))),
        (0o777, vec!["v".to_owned()])
    );
    broken_off(&volume.join(".sub.making"));
    let container = pod.spec.as_ref().expect("a spec").containers[0].clone();
    container_mounts(&places, &pod, &container, &[], Path::new("/log")).expect("mounts");
    assert_eq!(
        (mode(&volume.join("sub")), names(&volume)),
        (0o777, vec!["sub".to_owned()])
    );
    // What the pod made of it stays as it is.
    fs::set_permissions(&volume, fs::Permissions::from_mode(0o700)).expect("a mode");
    make(dir.path(), &pod, &sources(&[]), 1).expect("prepared");
    assert_eq!(mode(&volume), 0o700);
}

#[test]
fn sub_paths_cannot_leave_their_volume_not_even_by_links() {
    let dir = tempfile::tempdir().expect("a directory");
    let mount = |sub: &str| {
        let pod = pod(
            json!([{"name": "v", "emptyDir": {}}]),
            json!([{"name": "v", "mountPath": "/d", "subPath": sub}]),
        );
        let places = make(dir.path(), &pod, &sources(&[]), 0).expect("prepared");
        let container = pod.spec.as_ref().expect("a spec").containers[0].clone();
        container_mounts(&places, &pod, &container, &[], Path::new("/log"))
    };
    mount("ok").expect("a mount");
    let volume = dir.path().join("pods/u/volumes/v");
    std::os::unix::fs::symlink("/etc", volume.join("out")).expect("a link");
    std::os::unix::fs::symlink("nowhere", volume.join("dangling")).expect("a link");
    for sub in ["../x", "out", "out/passwd", "dangling", "/etc"] {
        mount(sub).expect_err(sub);
    }
}

#[test]
fn nothing_is_left_of_a_removed_pod() {
    let dir = tempfile::tempdir().expect("a directory");
    let pod = pod(
        json!([{"name": "v", "emptyDir": {"medium": "Memory"}}, {"name": "w", "emptyDir": {}}]),
        json!([]),
    );
    let places = make(dir.path(), &pod, &sources(&[]), 0).expect("prepared");
    places.remove_pod("u").expect("removed");
    places.remove_pod("u").expect("removed twice");
    assert!(!dir.path().join("pods/u").exists() && !dir.path().join("volatile/u").exists());
}

#[test]
fn the_pods_of_which_files_are_there_are_known() {
    let dir = tempfile::tempdir().expect("a directory");
    let places = Places::new(dir.path());
    for path in [
        places.disk().join("a"),
        places.disk().join("b"),
        places.memory().join("b"),
    ] {
        std::fs::create_dir_all(path).expect("a directory");
    }
    let names: Vec<String> = places.pods().expect("a list").into_iter().collect();
    assert_eq!(names, ["a", "b"]);
    places.remove_pod("b").expect("removed");
    assert_eq!(places.pods().expect("a list").len(), 1);
}
