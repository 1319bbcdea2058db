//! Which images apps need: what they run or want or would fall back to, and what their history could be gone back to.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{digests_in, pod_pointer};
use crate::engine::{APPS, HISTORY, Name};
use crate::records::{Records, RecordsError};
use crate::state::{AppState, Entry, Revision};

/// The images that apps need.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImagesKept {
    /// The digests of what every app runs, is on its way to, or falls back to when that fails.
    pub needed: BTreeSet<String>,
    /// The names under which these revisions' objects ask for images, as they stand there: nothing need have run of them yet.
    pub names: BTreeSet<String>,
    /// The digests of what further revisions of the history ran, each of which somebody may ask to go back to.
    pub history: BTreeSet<String>,
}

/// Returns the images that apps need; `None` when a damaged record does not tell.
///
/// # Errors
/// That the records cannot be read.
pub async fn images_kept(records: &dyn Records) -> Result<Option<ImagesKept>, RecordsError> {
    let (mut present, mut past) = (Vec::new(), Vec::new());
    for (key, bytes) in records.records(APPS).await? {
        let Ok(state) = serde_json::from_slice::<AppState>(&bytes) else {
            return Ok(None);
        };
        present.extend(state.revisions().cloned());
        let Some(name) = Name::parse(&key) else { continue };
        for bytes in records.series(&crate::app::series(&name), HISTORY).await? {
            if let Ok(entry) = serde_json::from_slice::<Entry>(&bytes) {
                past.push(entry.revision);
            }
        }
    }
    let mut kept = ImagesKept {
        history: digests(records, past).await?,
        ..ImagesKept::default()
    };
    let mut read = BTreeSet::new();
    for revision in &present {
        if read.insert(&revision.digest)
            && let Some(objects) = records.blob(&revision.digest).await?
        {
            kept.names.extend(names_in(&objects));
        }
    }
    kept.needed = digests(records, present).await?;
    Ok(Some(kept))
}

/// What each name meant when a revision was healthy, and what it names by digest itself.
async fn digests(records: &dyn Records, revisions: Vec<Revision>) -> Result<BTreeSet<String>, RecordsError> {
    let (mut found, mut read) = (BTreeSet::new(), BTreeSet::new());
    for revision in revisions {
        found.extend(revision.images.digests.into_values());
        if read.insert(revision.digest.clone())
            && let Some(objects) = records.blob(&revision.digest).await?
        {
            found.extend(digests_in(&objects));
        }
    }
    Ok(found)
}

/// Returns the names of the images that rendered objects ask for, those of volumes included.
pub(crate) fn names_in(rendered: &[u8]) -> BTreeSet<String> {
    // What cannot be read is not applied either: there is nothing in it to be run.
    let objects: Vec<Value> = serde_json::from_slice(rendered).unwrap_or_default();
    let mut names = BTreeSet::new();
    for object in &objects {
        let Some(spec) = pod_pointer(object).and_then(|pointer| object.pointer(pointer)) else {
            continue;
        };
        let listed = |list: &str| spec[list].as_array().map(Vec::as_slice).unwrap_or_default();
        let containers = listed("initContainers").iter().chain(listed("containers"));
        let images = containers.map(|container| &container["image"]);
        let volumes = listed("volumes").iter().map(|volume| &volume["image"]["reference"]);
        names.extend(images.chain(volumes).filter_map(Value::as_str).map(str::to_owned));
    }
    names
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::json;

    use super::*;
    use crate::images::Images;
    use crate::records::tests::Memory;
    use crate::records::{Batch, digest};
    use crate::state::{Cause, Numbered, Outcome};

    fn revision(image: &str, objects: &Bytes) -> Revision {
        Revision {
            source: String::new(),
            subject: String::new(),
            digest: digest(objects),
            origins: String::new(),
            images: Images {
                digests: [(image.to_owned(), format!("sha256:{image}"))].into(),
                ..Images::default()
            },
        }
    }

    #[tokio::test]
    async fn what_an_app_falls_back_to_is_needed_and_what_its_history_names_is_told_apart() {
        let objects = |image: &str| -> Bytes {
            let pod = json!([{"kind": "Pod", "spec": {"containers": [{"image": image}]}}]);
            serde_json::to_vec(&pod).unwrap().into()
        };
        let (old, healthy, wanted) = (objects("old"), objects("healthy"), objects("wanted"));
        let state = AppState {
            wanted: Some(revision("wanted", &wanted)),
            healthy: Some(Numbered {
                number: 2,
                revision: revision("healthy", &healthy),
            }),
            ..AppState::default()
        };
        let entry = Entry {
            number: 1,
            revision: revision("old", &old),
            cause: Cause::Deploy,
            started: 0,
            finished: 1,
            outcome: Outcome::Healthy,
            reason: String::new(),
        };
        let records = Memory::default();
        let batch = Batch {
            put: vec![(
                APPS.to_owned(),
                "ns/web".to_owned(),
                serde_json::to_vec(&state).unwrap().into(),
            )],
            append: vec![("apps/ns/web".to_owned(), serde_json::to_vec(&entry).unwrap().into())],
            blobs: vec![old, healthy, wanted],
            ..Batch::default()
        };
        records.commit(batch).await.unwrap();
        let kept = images_kept(&records).await.unwrap().unwrap();
        let set = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<BTreeSet<_>>();
        assert_eq!(kept.needed, set(&["sha256:healthy", "sha256:wanted"]));
        assert_eq!(kept.names, set(&["healthy", "wanted"]));
        assert_eq!(kept.history, set(&["sha256:old"]));
        let damage = Batch {
            put: vec![(APPS.to_owned(), "ns/web".to_owned(), Bytes::from_static(b"?"))],
            ..Batch::default()
        };
        records.commit(damage).await.unwrap();
        assert_eq!(images_kept(&records).await.unwrap(), None);
    }

    #[test]
    fn names_are_found_in_every_place_where_an_object_asks_for_an_image() {
        let objects = json!([
            {"kind": "ConfigMap", "data": {"image": "no"}},
            {"kind": "Deployment", "spec": {"template": {"spec": {
                "initContainers": [{"image": "init:v1"}],
                "containers": [{"image": "web:v1"}, {}],
                "volumes": [{"name": "a", "emptyDir": {}}, {"name": "b", "image": {"reference": "files:v1"}}],
            }}}},
            {"kind": "CronJob", "spec": {"jobTemplate": {"spec": {"template": {"spec": {
                "containers": [{"image": "job:v1"}]}}}}}},
        ]);
        let names = names_in(objects.to_string().as_bytes());
        assert_eq!(
            names.into_iter().collect::<Vec<_>>(),
            ["files:v1", "init:v1", "job:v1", "web:v1"]
        );
        assert!(names_in(b"{").is_empty());
    }
}
