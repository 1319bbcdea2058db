use std::os::unix::fs::MetadataExt;

use serde_json::{Value, json};

use super::*;

fn of<T: k8s_openapi::serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("a valid object")
}

fn pod() -> Pod {
    of(json!({
        "metadata": {"name": "web", "namespace": "shop", "uid": "u"},
        "spec": {"containers": [], "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "c"}}]},
    }))
}

fn claim(change: impl FnOnce(&mut Value)) -> PersistentVolumeClaim {
    let mut claim = json!({
        "metadata": {"name": "c", "namespace": "shop", "uid": "c-1"},
        "spec": {"volumeName": "pvc-c-1"}, "status": {"phase": "Bound"},
    });
    change(&mut claim);
    of(claim)
}

fn volume(places: &Places, change: impl FnOnce(&mut Value)) -> PersistentVolume {
    let mut volume = json!({
        "metadata": {
            "name": "pvc-c-1", "annotations": {"pv.kubernetes.io/provisioned-by": PROVISIONER},
            "finalizers": [FOLDER_FINALIZER], "deletionTimestamp": "2026-01-01T00:00:00Z",
        },
        "spec": {
            "claimRef": {"uid": "c-1"}, "persistentVolumeReclaimPolicy": "Delete",
            "local": {"path": places.volumes().join("pvc-c-1")},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
                {"key": "kubernetes.io/hostname", "operator": "In", "values": ["one"]},
            ]}]}},
        },
    });
    change(&mut volume);
    of(volume)
}

#[test]
fn only_a_claim_that_is_bound_here_leads_to_data() {
    let places = Places::new(Path::new("/data"));
    let find = |claim: Option<&PersistentVolumeClaim>, volume: Option<&PersistentVolume>| {
        store(&places, "one", &pod(), "c", claim, volume).map_err(|error| error.to_string())
    };
    let words = |result: Result<Store, String>| result.expect_err("it cannot be used");
    assert!(words(find(None, None)).ends_with(
        "failed to process volumes=[data]: error processing PVC shop/c: failed to fetch PVC from API server: \
         persistentvolumeclaims \"c\" not found"
    ));
    let pending = claim(|claim| claim["status"]["phase"] = json!("Pending"));
    assert!(words(find(Some(&pending), None)).ends_with("error processing PVC shop/c: PVC is not bound"));
    let usual = volume(&places, |_| {});
    let bound = claim(|_| {});
    assert_eq!(
        find(Some(&bound), Some(&usual)),
        Ok(Store::Folder("/data/volumes/pvc-c-1".into()))
    );
    let foreign = volume(&places, |volume| volume["spec"]["claimRef"]["uid"] = json!("other"));
    assert!(words(find(Some(&bound), Some(&foreign))).contains("does not match PVC.UID c-1"));
    let block = volume(&places, |volume| volume["spec"]["volumeMode"] = json!("Block"));
    assert!(words(find(Some(&bound), Some(&block))).contains("block devices are not supported here"));
    let elsewhere = volume(&places, |volume| {
        volume["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"][0]["matchExpressions"][0]["values"] =
            json!(["two"]);
    });
    assert!(words(find(Some(&bound), Some(&elsewhere))).contains("lies on node two"));
    // One that somebody made by hand is never made here.
    let by_hand = volume(&places, |volume| volume["metadata"]["annotations"] = json!({}));
    assert!(matches!(find(Some(&bound), Some(&by_hand)), Ok(Store::Directory(_))));
}

#[test]
fn a_folder_is_made_once_and_outlives_its_pods() {
    let dir = tempfile::tempdir().expect("a directory");
    let places = Places::new(dir.path());
    fs::create_dir(places.volumes()).expect("made");
    let pod = pod();
    let source = &pod.spec.as_ref().expect("a spec").volumes.as_ref().expect("volumes")[0];
    let link = places.volume("u", source);
    let folder = places.volumes().join("pvc-c-1");
    let io = |operation, path: &Path| {
        let path = path.to_owned();
        move |source| VolumeError::Io {
            volume: "data".to_owned(),
            operation,
            path,
            source,
        }
    };
    let security: PodSecurityContext = of(json!({"fsGroup": 2000}));
    prepare(&link, source, &Store::Folder(folder.clone()), Some(&security), io).expect("prepared");
    let made = fs::metadata(&folder).expect("made");
    assert_eq!((made.mode() & 0o7777, made.gid()), (0o2777, 2000));
    fs::write(link.join("kept"), "1").expect("written");
    prepare(&link, source, &Store::Folder(folder.clone()), None, io).expect("prepared again");
    places.remove_pod("u").expect("removed");
    assert_eq!(fs::read_to_string(folder.join("kept")).expect("still there"), "1");
    let missing = prepare(&link, source, &Store::Directory(dir.path().join("none")), None, io);
    assert!(missing.expect_err("missing").to_string().ends_with("does not exist"));
}

#[test]
fn only_the_folder_itself_is_removed() {
    let dir = tempfile::tempdir().expect("a directory");
    let places = Places::new(dir.path());
    let folder = places.volumes().join("pvc-c-1");
    fs::create_dir_all(folder.join("deep")).expect("made");
    let outside = dir.path().join("outside");
    fs::create_dir(&outside).expect("made");
    fs::write(outside.join("file"), "1").expect("written");
    symlink(&outside, folder.join("deep/link")).expect("linked");
    let kept = volume(&places, |volume| {
        volume["spec"]["persistentVolumeReclaimPolicy"] = json!("Retain")
    });
    remove_folder(&places, &kept).expect("nothing to do");
    assert!(folder.exists());
    let elsewhere = volume(&places, |volume| volume["spec"]["local"]["path"] = json!(outside));
    remove_folder(&places, &elsewhere).expect("nothing to do");
    let usual = volume(&places, |_| {});
    assert!(is_leaving(&usual, "one") && !is_leaving(&usual, "two"));
    remove_folder(&places, &usual).expect("removed");
    assert!(!folder.exists());
    // A link in its place goes, and what it leads to stays.
    symlink(&outside, &folder).expect("linked");
    remove_folder(&places, &usual).expect("removed");
    assert!(fs::symlink_metadata(&folder).is_err() && outside.join("file").exists());
    remove_folder(&places, &usual).expect("again");
}

#[test]
fn a_group_is_given_without_following_links() {
    let dir = tempfile::tempdir().expect("a directory");
    let (tree, outside) = (dir.path().join("tree"), dir.path().join("outside"));
    fs::create_dir_all(tree.join("a/b")).expect("made");
    fs::write(&outside, "").expect("written");
    fs::set_permissions(&outside, fs::Permissions::from_mode(0o600)).expect("set");
    symlink(&outside, tree.join("a/b/link")).expect("linked");
    fs::write(tree.join("a/file"), "").expect("written");
    assert!(!ownership::is_given(&tree, 2000).expect("read"));
    ownership::give(&tree, 2000, false).expect("given");
    assert!(ownership::is_given(&tree, 2000).expect("read"));
    assert_eq!(fs::metadata(tree.join("a/file")).expect("there").mode() & 0o7777, 0o664);
    assert_eq!(fs::metadata(tree.join("a/b")).expect("there").gid(), 2000);
    let untouched = fs::metadata(&outside).expect("there");
    assert_eq!((untouched.mode() & 0o7777, untouched.gid()), (0o600, 0));
}
