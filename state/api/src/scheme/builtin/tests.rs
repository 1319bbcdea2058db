//! The table against what Kubernetes has.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::*;
use crate::{protobuf, schema};

/// The groups and versions of which every kind is served.
const COMPLETE: &[(&str, &str)] = &[
    ("", "v1"),
    ("admissionregistration.k8s.io", "v1"),
    ("apps", "v1"),
    ("authentication.k8s.io", "v1"),
    ("authorization.k8s.io", "v1"),
    ("autoscaling", "v1"),
    ("autoscaling", "v2"),
    ("batch", "v1"),
    ("certificates.k8s.io", "v1"),
    ("coordination.k8s.io", "v1"),
    ("discovery.k8s.io", "v1"),
    ("events.k8s.io", "v1"),
    ("networking.k8s.io", "v1"),
    ("node.k8s.io", "v1"),
    ("policy", "v1"),
    ("rbac.authorization.k8s.io", "v1"),
    ("scheduling.k8s.io", "v1"),
    ("storage.k8s.io", "v1"),
];

/// Where the sources of k8s-openapi are, which are made from Kubernetes' own description.
fn generated_types() -> PathBuf {
    let metadata = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--offline", "--manifest-path"])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"))
        .output()
        .expect("cargo tells of its packages");
    let metadata: Value = serde_json::from_slice(&metadata.stdout).expect("JSON");
    let package = metadata["packages"]
        .as_array()
        .and_then(|packages| packages.iter().find(|package| package["name"] == "k8s-openapi"))
        .expect("k8s-openapi is a dependency");
    let manifest = package["manifest_path"].as_str().expect("a path");
    Path::new(manifest).with_file_name("src").join("v1_37").join("api")
}

/// The kinds with an ObjectMeta that a file describes: lists and options have none.
fn kinds_in(text: &str) -> Option<(String, String, String)> {
    let constant = |name: &str| {
        let start = text.find(&format!("const {name}: &'static str = \""))?;
        text[start..].split('"').nth(1).map(str::to_owned)
    };
    let object = text.contains("apis::meta::v1::ObjectMeta;\n") && text.contains("impl crate::Metadata for");
    let kind = (constant("GROUP")?, constant("VERSION")?, constant("KIND")?);
    object.then_some(kind)
}

#[test]
fn every_kind_of_these_groups_has_a_row() {
    let (mut seen, mut missing) = (0, Vec::new());
    let mut folders = vec![generated_types()];
    let rows = rows();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let Some((group, version, kind)) = kinds_in(&std::fs::read_to_string(&path).expect("a source")) else {
                continue;
            };
            if !COMPLETE.contains(&(group.as_str(), version.as_str())) {
                continue;
            }
            seen += 1;
            let own = |row: &Resource| row.group == group && row.version == version && row.kind == kind;
            let below = |row: &Resource| {
                let subs = row.subresources.iter();
                subs.into_iter()
                    .any(|sub| sub.group == group && sub.version == version && sub.kind == kind)
            };
            if !rows.iter().any(|row| own(row) || below(row)) {
                missing.push(format!("{group}/{version} {kind}"));
            }
        }
    }
    assert!(
        seen > 40,
        "only {seen} kinds were found: is this the folder of the generated types?"
    );
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn every_kind_is_described_and_can_be_sent_as_protobuf() {
    // What is measured is computed and nobody sends it; it is no part of Kubernetes' own description.
    for row in rows().iter().filter(|row| row.group != "metrics.k8s.io") {
        assert!(
            schema::builtin(&row.group, &row.version, &row.kind).is_some(),
            "{} has no structure",
            row.kind
        );
        assert!(
            protobuf::knows(&row.api_version(), &row.kind),
            "{} {} has no message",
            row.api_version(),
            row.kind
        );
    }
}

#[test]
fn what_is_stored_as_another_kind_is_selected_by_fields_that_the_other_keeps() {
    let rows = rows();
    for row in rows.iter().filter(|row| row.conversion.is_some()) {
        let storage = rows
            .iter()
            .find(|other| other.api_version() == row.storage_api_version() && other.plural == row.plural)
            .expect("the stored form is a kind of its own");
        assert!(
            storage.conversion.is_none(),
            "{} is stored as what is not stored",
            row.kind
        );
        let kept: BTreeSet<String> = storage.selectable_fields.iter().map(|field| field.key()).collect();
        for field in &row.selectable_fields {
            assert!(kept.contains(&field.key()), "{}", field.name);
        }
    }
}

#[test]
fn no_name_means_two_kinds_of_one_group() {
    let mut seen = BTreeSet::new();
    for row in rows() {
        let names = row.short_names.iter().chain([&row.plural, &row.singular]);
        let names: BTreeSet<&String> = names.filter(|name| !name.is_empty()).collect();
        for name in names {
            assert!(
                seen.insert((row.group.clone(), row.version.clone(), name.clone())),
                "{name}"
            );
        }
    }
}

#[test]
fn what_nothing_attends_to_says_so() {
    let rows = rows();
    let silent = |plural: &str| rows.iter().any(|row| row.plural == plural && row.unattended.is_none());
    for plural in [
        "horizontalpodautoscalers",
        "replicationcontrollers",
        "volumeattachments",
    ] {
        assert!(!silent(plural), "{plural}");
    }
    assert!(
        silent("deployments")
            && silent("persistentvolumeclaims")
            && silent("storageclasses")
            && silent("podtemplates")
            && silent("events")
    );
}

#[test]
fn a_scale_of_a_replication_controller_has_its_labels_as_selector() {
    let rows = rows();
    let row = rows
        .iter()
        .find(|row| row.plural == "replicationcontrollers")
        .expect("a row");
    let object = json!({"metadata": {"name": "x"}, "spec": {"replicas": 2, "selector": {"a": "b", "c": "d"}}});
    let scale = crate::strategy::scale_of(row, &object).expect("it can be scaled");
    assert_eq!(scale["status"]["selector"], "a=b,c=d");
}

#[test]
fn names_in_discovery_are_those_of_kubernetes() {
    let expected = "\
apps controllerrevisions ControllerRevision namespaced
apps daemonsets DaemonSet namespaced ds all /status
apps deployments Deployment namespaced deploy all /status /scale
apps replicasets ReplicaSet namespaced rs all /status /scale
apps statefulsets StatefulSet namespaced sts all /status /scale
batch cronjobs CronJob namespaced cj all /status
batch jobs Job namespaced all /status
networking.k8s.io ingressclasses IngressClass cluster
networking.k8s.io ingresses Ingress namespaced ing /status
networking.k8s.io ipaddresses IPAddress cluster ip
networking.k8s.io networkpolicies NetworkPolicy namespaced netpol
networking.k8s.io servicecidrs ServiceCIDR cluster /status
scheduling.k8s.io priorityclasses PriorityClass cluster pc
node.k8s.io runtimeclasses RuntimeClass cluster
certificates.k8s.io certificatesigningrequests CertificateSigningRequest cluster csr /approval /status
certificates.k8s.io clustertrustbundles ClusterTrustBundle cluster
certificates.k8s.io podcertificaterequests PodCertificateRequest namespaced /status
admissionregistration.k8s.io mutatingwebhookconfigurations MutatingWebhookConfiguration cluster api-extensions
admissionregistration.k8s.io validatingadmissionpolicies ValidatingAdmissionPolicy cluster api-extensions /status
apiregistration.k8s.io apiservices APIService cluster api-extensions /status";
    let scheme = crate::Scheme::builtin();
    for line in expected.lines() {
        let mut words = line.split(' ');
        let (group, plural) = (words.next().unwrap(), words.next().unwrap());
        let row = scheme.get(group, "v1", plural).unwrap();
        let scope = if row.namespaced { "namespaced" } else { "cluster" };
        let mut found = vec![group.to_owned(), plural.to_owned(), row.kind.clone(), scope.to_owned()];
        found.extend(row.short_names.clone());
        found.extend(row.categories.clone());
        found.extend(row.subresources.iter().map(|sub| format!("/{}", sub.name)));
        assert_eq!(found.join(" "), line);
    }
}
