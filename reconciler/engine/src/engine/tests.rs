use serde_json::json;

use super::*;
use crate::records::digest;
use crate::records::tests::Memory;
use crate::state::{Cause, Revision};

fn objects(names: &[&str]) -> Bytes {
    let object =
        |name: &&str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "shop"}});
    let objects: Vec<_> = names.iter().map(object).collect();
    serde_json::to_vec(&objects).unwrap().into()
}

fn entry(number: u64, objects: &Bytes, outcome: Outcome) -> (String, Bytes) {
    let entry = Entry {
        number,
        revision: Revision {
            source: format!("c{number}"),
            subject: String::new(),
            digest: digest(objects),
            origins: String::new(),
            images: crate::images::Images::default(),
        },
        cause: Cause::Deploy,
        started: 0,
        finished: 1,
        outcome,
        reason: String::new(),
    };
    ("apps/ns/web".to_owned(), serde_json::to_vec(&entry).unwrap().into())
}

#[tokio::test]
async fn a_damaged_record_is_made_anew_of_the_seed_and_the_history() {
    let records = Memory::default();
    let (good, bad) = (objects(&["a", "b"]), objects(&["a", "c"]));
    let put = |collection: &str, value: &str| {
        let key = "ns/web".to_owned();
        (collection.to_owned(), key, Bytes::copy_from_slice(value.as_bytes()))
    };
    let batch = Batch {
        put: vec![put(APPS, "{damaged"), put(SEEDS, "5eed")],
        append: vec![entry(6, &good, Outcome::Healthy), entry(7, &bad, Outcome::Failed)],
        blobs: vec![good.clone(), bad],
        ..Batch::default()
    };
    records.commit(batch).await.unwrap();
    let memories = load(&records, &|| [0; 32], 0).await.unwrap();
    let memory = memories[&Name::new("ns", "web")].lock().await;
    let state = &memory.state;
    assert_eq!(state.seed, "5eed");
    assert_eq!(state.last_number, 7);
    assert_eq!(state.healthy.as_ref().unwrap().number, 6);
    let names: Vec<&str> = state.inventory.iter().map(|object| object.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "c"]);
    // It is written at once, so that nothing is held up by it any more.
    let written = records.records(APPS).await.unwrap();
    assert_eq!(serde_json::from_slice::<AppState>(&written[0].1).unwrap(), *state);
}

#[tokio::test]
async fn a_damaged_record_without_anything_beside_it_has_a_new_seed() {
    let records = Memory::default();
    let batch = Batch {
        put: vec![(APPS.to_owned(), "ns/web".to_owned(), Bytes::from_static(b"?"))],
        ..Batch::default()
    };
    records.commit(batch).await.unwrap();
    let memories = load(&records, &|| [7; 32], 0).await.unwrap();
    let memory = memories[&Name::new("ns", "web")].lock().await;
    assert_eq!(memory.state.seed, hex::encode([7; 32]));
    assert_eq!(records.records(SEEDS).await.unwrap().len(), 1, "and keeps it beside");
    assert!(memory.state.inventory.is_empty());
}
