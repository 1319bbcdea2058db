//! Which images a revision ran with, and how it gets them again when their names have moved on to others.
//!
//! Bytes say `shop/web:v1`; what that names is decided anew whenever a pod starts. A revision therefore remembers the digest that each of
//! its images had when it became healthy. When it is gone back to and a pod is given another image under such a name, the name is
//! fixed: the objects are applied with `shop/web:v1@sha256:…`. A name that still means the same is left as it is, since changing
//! the pods' template would replace pods that run well.

mod kept;

use std::collections::{BTreeMap, BTreeSet};

pub(crate) use kept::names_in;
pub use kept::{ImagesKept, images_kept};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use setpoint_plan::PodFacts;

/// Where kinds keep the description of their pods.
const PODS: [(&[&str], &str); 3] = [
    (&["Pod"], "/spec"),
    (
        &[
            "Deployment",
            "StatefulSet",
            "DaemonSet",
            "ReplicaSet",
            "ReplicationController",
            "Job",
        ],
        "/spec/template/spec",
    ),
    (&["CronJob"], "/spec/jobTemplate/spec/template/spec"),
];

/// Returns where an object keeps the description of its pods, as a JSON pointer; `None` when it makes none.
pub(crate) fn pod_pointer(object: &Value) -> Option<&'static str> {
    let kind = object["kind"].as_str()?;
    let (_, pointer) = PODS.iter().find(|(kinds, _)| kinds.contains(&kind))?;
    Some(pointer)
}

/// The images that pods run: each name with the digests that were seen under it.
pub type Shown = BTreeMap<String, BTreeSet<String>>;

/// Notes what pods run.
pub(crate) fn show(shown: &mut Shown, pods: &[PodFacts]) {
    let containers = pods.iter().flat_map(|pod| &pod.containers);
    for container in containers.filter(|container| !container.digest.is_empty()) {
        let digests = shown.entry(container.image.clone()).or_default();
        digests.insert(container.digest.clone());
    }
}

/// Returns every digest that stands in rendered bytes. More than images may have one; keeping more than is needed does no harm.
pub(crate) fn digests_in(rendered: &[u8]) -> BTreeSet<String> {
    const MARK: &[u8] = b"sha256:";
    let starts = (0..rendered.len()).filter(|at| rendered[*at..].starts_with(MARK));
    let digests = starts.filter_map(|at| {
        let hex = rendered.get(at + MARK.len()..at + MARK.len() + 64)?;
        let whole = hex.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        whole.then(|| format!("sha256:{}", String::from_utf8_lossy(hex)))
    });
    digests.collect()
}

/// The images of a revision.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Images {
    /// The digest that each name meant when the revision became healthy.
    pub digests: BTreeMap<String, String>,
    /// The names that mean something else now: they are applied with their digest.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub fixed: BTreeSet<String>,
}

impl Images {
    /// Says whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.digests.is_empty() && self.fixed.is_empty()
    }

    /// Takes what the newest pods run; a name under which they run several is left out, and fixed ones keep their digest.
    pub fn remember(&mut self, shown: &Shown) {
        let one = |(name, digests): (&String, &BTreeSet<String>)| match digests.first() {
            Some(digest) if digests.len() == 1 && !name.contains('@') => Some((name.clone(), digest.clone())),
            _ => None,
        };
        self.digests.retain(|name, _| self.fixed.contains(name));
        self.digests.extend(shown.iter().filter_map(one));
    }

    /// Returns the names under which pods were given another image than this revision ran with.
    pub fn moved(&self, shown: &Shown) -> BTreeSet<String> {
        let moved = self.digests.iter().filter(|(name, digest)| {
            !self.fixed.contains(*name)
                && shown
                    .get(*name)
                    .is_some_and(|digests| digests.iter().any(|shown| shown != *digest))
        });
        moved.map(|(name, _)| name.clone()).collect()
    }

    /// Writes the digests of fixed names into an object.
    pub fn fix(&self, object: &mut Value) {
        if self.fixed.is_empty() {
            return;
        }
        let Some(spec) = pod_pointer(object).and_then(|pointer| object.pointer_mut(pointer)) else {
            return;
        };
        for list in ["initContainers", "containers"] {
            let containers = spec.get_mut(list).and_then(Value::as_array_mut);
            for container in containers.into_iter().flatten() {
                let Some(image) = container.get_mut("image") else {
                    continue;
                };
                let name = image.as_str().filter(|name| self.fixed.contains(*name));
                if let Some(fixed) = name.and_then(|name| Some(format!("{name}@{}", self.digests.get(name)?))) {
                    *image = Value::String(fixed);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use setpoint_plan::{ContainerFacts, PodFacts};

    use super::{Images, Shown, show};

    fn pods(images: &[(&str, &str)]) -> Vec<PodFacts> {
        let containers = images.iter().map(|(image, digest)| ContainerFacts {
            image: (*image).to_owned(),
            digest: (*digest).to_owned(),
            ..ContainerFacts::default()
        });
        vec![PodFacts {
            containers: containers.collect(),
            ..PodFacts::default()
        }]
    }

    fn shown(images: &[(&str, &str)]) -> Shown {
        let mut all = Shown::new();
        show(&mut all, &pods(images));
        all
    }

    fn ran(images: &[(&str, &str)]) -> Images {
        let mut all = Images::default();
        all.remember(&shown(images));
        all
    }

    #[test]
    fn what_has_no_single_digest_or_names_one_itself_is_not_remembered() {
        let images = ran(&[
            ("web:v1", "sha256:1"),
            ("two:v1", "sha256:1"),
            ("two:v1", "sha256:2"),
            ("own@sha256:3", "sha256:3"),
            ("unknown:v1", ""),
        ]);
        assert_eq!(images.digests.into_keys().collect::<Vec<_>>(), ["web:v1"]);
    }

    #[test]
    fn a_name_has_moved_once_a_pod_was_given_something_else_under_it() {
        let mut images = ran(&[("web:v1", "sha256:1"), ("side:v1", "sha256:9")]);
        assert!(
            images
                .moved(&shown(&[("web:v1", "sha256:1"), ("other:v1", "sha256:5")]))
                .is_empty()
        );
        let later = shown(&[("web:v1", "sha256:1"), ("web:v1", "sha256:2"), ("side:v1", "sha256:9")]);
        let moved = images.moved(&later);
        assert_eq!(moved.iter().collect::<Vec<_>>(), ["web:v1"]);
        images.fixed.extend(moved);
        assert!(images.moved(&later).is_empty());
        // Applied so, pods no longer show the name alone; what it stands for is kept.
        images.remember(&shown(&[("web:v1@sha256:1", "sha256:1"), ("side:v1", "sha256:9")]));
        assert_eq!(images.digests["web:v1"], "sha256:1");
    }

    #[test]
    fn only_fixed_names_are_applied_with_their_digest_wherever_pods_are_described() {
        let mut images = ran(&[("web:v1", "sha256:1"), ("side:v1", "sha256:9")]);
        images.fixed.insert("web:v1".to_owned());
        let spec = json!({
            "initContainers": [{"name": "first", "image": "web:v1"}],
            "containers": [{"name": "web", "image": "web:v1"}, {"name": "side", "image": "side:v1"}],
        });
        let objects = [
            (json!({"kind": "Pod", "spec": spec}), "/spec"),
            (
                json!({"kind": "Deployment", "spec": {"template": {"spec": spec}}}),
                "/spec/template/spec",
            ),
            (
                json!({"kind": "CronJob", "spec": {"jobTemplate": {"spec": {"template": {"spec": spec}}}}}),
                "/spec/jobTemplate/spec/template/spec",
            ),
        ];
        for (mut object, pointer) in objects {
            images.fix(&mut object);
            let spec = object.pointer(pointer).expect("it is there");
            assert_eq!(spec["initContainers"][0]["image"], "web:v1@sha256:1");
            assert_eq!(spec["containers"][0]["image"], "web:v1@sha256:1");
            assert_eq!(spec["containers"][1]["image"], "side:v1");
        }
        let mut other = json!({"kind": "ConfigMap", "spec": {"containers": [{"image": "web:v1"}]}});
        images.fix(&mut other);
        assert_eq!(other["spec"]["containers"][0]["image"], "web:v1");
    }

    #[test]
    fn digests_are_found_in_rendered_bytes() {
        let digest = format!("sha256:{}", "0a".repeat(32));
        let text = format!("{{\"image\":\"web@{digest}\",\"other\":\"sha256:short\"}} sha256:");
        assert_eq!(
            super::digests_in(text.as_bytes()).into_iter().collect::<Vec<_>>(),
            [digest]
        );
    }
}
