//! What holds for every plan.

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::*;

/// What git says: some objects, some of which may be of any of two forms.
fn revision() -> impl Strategy<Value = Vec<Desired>> {
    let object = prop_oneof![
        (1_u8..3, 0_u8..3).prop_map(|(replicas, image)| deployment("x", replicas, &image.to_string())),
        btree_map("[a-b]", "[0-2]", 0..3).prop_map(|data| config("x", json!(data))),
        btree_map("[a-b]", "[0-2]", 0..3).prop_map(|data| json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x", "namespace": "shop"}, "stringData": data})),
        "[0-2]".prop_map(|value| json!({"apiVersion": "example.org/v1", "kind": "Thing", "metadata": {"name": "x", "namespace": "shop"}, "spec": {"a": [value]}})),
        Just(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "x"}})),
    ];
    let waved = (object, proptest::option::of("-?[0-2]")).prop_map(|(mut object, wave)| {
        if let Some(wave) = wave {
            meta::set_annotation(&mut object, "setpoint.dev/wave", &wave);
        }
        object
    });
    btree_map("[a-d]", waved, 0..5).prop_map(|objects| {
        let named = objects.into_iter().map(|(name, mut object)| {
            meta::set(&mut object, "name", name);
            desired(object)
        });
        named.collect()
    })
}

proptest! {
    #[test]
    fn planning_after_a_sync_finds_nothing_to_do(revisions in vec(revision(), 1..4)) {
        let mut live = Live::new();
        let mut inventory = Vec::new();
        for all in &revisions {
            let todo = plan(all, &live, &inventory, &policy()).unwrap();
            sync(&todo, &mut live);
            let left = plan(all, &live, &inventory, &policy()).unwrap();
            prop_assert!(left.is_empty(), "{todo}\n{left}");
            prop_assert_eq!(live.len(), all.len());
            inventory = references(all);
        }
    }

    #[test]
    fn a_plan_does_not_depend_on_the_order_of_what_it_is_made_from(
        (first, (one, other)) in (revision(), revision().prop_flat_map(|all| (Just(all.clone()), Just(all).prop_shuffle())))
    ) {
        let mut live = Live::new();
        sync(&plan(&first, &live, &[], &policy()).unwrap(), &mut live);
        let inventory = references(&first);
        let reversed: Vec<ObjectRef> = inventory.iter().rev().cloned().collect();
        let planned = plan(&one, &live, &inventory, &policy()).unwrap();
        prop_assert_eq!(&planned, &plan(&other, &live, &reversed, &policy()).unwrap());
        let waves = |wanted: fn(&Change) -> bool| -> Vec<i64> {
            planned.steps.iter().filter(|step| wanted(&step.change)).map(|step| step.wave).collect()
        };
        prop_assert!(waves(|change| *change != Change::Delete).is_sorted());
        let mut deleted = waves(|change| *change == Change::Delete);
        deleted.reverse();
        prop_assert!(deleted.is_sorted());
    }
}
