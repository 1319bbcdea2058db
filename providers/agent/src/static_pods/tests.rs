use std::fs;

use super::*;

const WEB: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {containers: [{name: app, image: a}]}\n";

fn read(files: &[(&str, &str)]) -> (HashMap<Key, Declared>, Vec<String>) {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text) in files {
        fs::write(folder.path().join(name), text).expect("written");
    }
    let (pods, faults) = declared::read(folder.path(), "One").expect("read");
    let faults = faults
        .iter()
        .map(|(file, fault)| format!("{file}: {}", crate::containers::chain(fault)));
    (pods, faults.collect())
}

fn web() -> Key {
    ("default".to_owned(), "web-one".to_owned())
}

/// The mirror of a pod as the API answers it.
fn mirror(declared: &Declared, uid: &str) -> Pod {
    let mut mirror = declared.pod.clone();
    mirror.metadata.uid = Some(uid.to_owned());
    mirror
}

#[test]
fn a_file_is_a_pod_of_this_node_and_tells_its_hash() {
    let (pods, faults) = read(&[("web.yaml", WEB), (".web.yaml.swp", "{"), ("x.json", "")]);
    assert_eq!(faults, [""; 0]);
    let pod = &pods[&web()];
    assert_eq!(pod.hash.len(), 32);
    assert_eq!(mirrored(&pod.pod), Some(pod.hash.as_str()));
    assert_eq!(
        pod.pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()),
        Some("One")
    );
    let (again, _) = read(&[("web.yaml", WEB)]);
    assert_eq!(again[&web()].hash, pod.hash, "the same text is the same pod");
    let (changed, _) = read(&[("web.yaml", &WEB.replace("image: a", "image: b"))]);
    assert_ne!(changed[&web()].hash, pod.hash);
}

#[test]
fn what_is_wrong_with_a_file_is_said_and_stops_no_other() {
    let (pods, faults) = read(&[
        ("a.yaml", "{"),
        ("b.yaml", "apiVersion: apps/v1\nkind: Deployment\n"),
        ("c.yaml", "apiVersion: v1\nkind: Pod\nspec: {containers: []}\n"),
        (
            "d.yaml",
            "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec: {containers: 7}\n",
        ),
        ("w.yaml", WEB),
        ("z.yaml", WEB),
    ]);
    assert_eq!(pods.keys().collect::<Vec<_>>(), [&web()]);
    let starts = [
        "a.yaml: it is neither YAML nor JSON",
        "b.yaml: it holds a \"Deployment\"",
        "c.yaml: its Pod has no metadata.name",
        "d.yaml: its Pod is not well formed",
        "z.yaml: another file has the pod default/web-one, too",
    ];
    assert_eq!(faults.len(), starts.len(), "{faults:?}");
    for (fault, start) in faults.iter().zip(starts) {
        assert!(fault.starts_with(start), "{fault}");
    }
}

#[test]
fn what_runs_keeps_its_uid_whatever_becomes_of_its_mirror() {
    let (pods, _) = read(&[("web.yaml", WEB)]);
    let declared = pods[&web()].clone();
    let statics = Statics::default();
    assert_eq!(statics.declare(pods), [""; 0]);
    let first = statics.see(mirror(&declared, "m1")).expect("it runs");
    let second = statics.see(mirror(&declared, "m2")).expect("it runs");
    for (pod, uid) in [(&first, "m1"), (&second, "m2")] {
        assert_eq!(pod.metadata.uid.as_ref(), Some(&declared.hash));
        assert_eq!(api_uid(pod), Some(uid));
    }
    let mut deleted = mirror(&declared, "m2");
    deleted.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(
        jiff::Timestamp::UNIX_EPOCH,
    ));
    assert_eq!(statics.see(deleted), None, "it neither ends nor begins anything");
    assert!(statics.has(&declared.hash));
}

#[test]
fn a_file_that_changes_ends_one_pod_and_begins_another_after_it() {
    let (old, _) = read(&[("web.yaml", WEB)]);
    let (new, _) = read(&[("web.yaml", &WEB.replace("image: a", "image: b"))]);
    let (before, after) = (old[&web()].clone(), new[&web()].clone());
    let statics = Statics::default();
    statics.declare(old);
    statics.see(mirror(&before, "m1"));
    assert_eq!(statics.declare(new), std::slice::from_ref(&before.hash));
    assert_eq!(statics.next(&web()), None, "the mirror still shows the former pod");
    assert_eq!(statics.see(mirror(&before, "m1")), None);
    statics.lose(&mirror(&before, "m1"));
    statics.see(mirror(&after, "m2"));
    let next = statics.next(&web()).expect("the new one");
    assert_eq!(next.metadata.uid, Some(after.hash));
    assert_eq!(statics.declare(HashMap::new()).len(), 1);
    assert_eq!(statics.next(&web()), None);
}
