//! How things go: foreground, orphans, namespaces; with custom definitions and finalizers.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret, Service};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams, PropagationPolicy};
use kube::core::GroupVersionKind;
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

use crate::deployment;
use crate::world::{World, eventually, of};

fn widget() -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk("example.com", "v1", "Widget"))
}

async fn define_widgets(world: &World, namespace: &str) -> Api<DynamicObject> {
    let definitions: Api<CustomResourceDefinition> = Api::all(world.client.clone());
    let definition = of(json!({
        "metadata": { "name": "widgets.example.com" },
        "spec": {
            "group": "example.com",
            "scope": "Namespaced",
            "names": { "plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList" },
            "versions": [{ "name": "v1", "served": true, "storage": true,
                "schema": { "openAPIV3Schema": { "type": "object" } } }],
        },
    }));
    definitions
        .create(&PostParams::default(), &definition)
        .await
        .expect("created");
    let widgets: Api<DynamicObject> = Api::namespaced_with(world.client.clone(), namespace, &widget());
    eventually("the kind is served", || async {
        widgets.list(&Default::default()).await.ok().map(drop)
    })
    .await;
    widgets
}

fn object(name: &str, finalizers: &[&str], owner: Option<&DynamicObject>) -> DynamicObject {
    let mut object = DynamicObject::new(name, &widget());
    object.metadata.finalizers = Some(finalizers.iter().map(ToString::to_string).collect());
    object.metadata.owner_references = owner.map(|owner| {
        of(json!([{
            "apiVersion": "example.com/v1", "kind": "Widget", "name": owner.name_any(), "uid": owner.uid(), "blockOwnerDeletion": true,
        }]))
    });
    object
}

async fn release(widgets: &Api<DynamicObject>, name: &str) {
    let patch = json!({ "metadata": { "finalizers": null } });
    widgets
        .patch(name, &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .expect("patched");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_deleted_in_the_foreground_waits_for_what_it_owns() {
    let world = World::start().await;
    let widgets = define_widgets(&world, "default").await;
    let create = async |object: &DynamicObject| widgets.create(&PostParams::default(), object).await.expect("created");
    let owner = create(&object("owner", &[], None)).await;
    create(&object("child", &["example.com/hold"], Some(&owner))).await;
    let params = DeleteParams {
        propagation_policy: Some(PropagationPolicy::Foreground),
        ..DeleteParams::default()
    };
    widgets.delete("owner", &params).await.expect("deleted");
    eventually("the child is asked to go", || async {
        let child = widgets.get("child").await.expect("the child");
        child.metadata.deletion_timestamp.map(drop)
    })
    .await;
    assert!(widgets.get_opt("owner").await.expect("an answer").is_some(), "it waits");
    release(&widgets, "child").await;
    eventually("both are gone", || async {
        let left = widgets.list(&Default::default()).await.expect("a list");
        left.items.is_empty().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn orphans_of_a_custom_owner_stay_without_it() {
    let world = World::start().await;
    let widgets = define_widgets(&world, "default").await;
    let owner = widgets
        .create(&PostParams::default(), &object("owner", &[], None))
        .await
        .expect("created");
    widgets
        .create(&PostParams::default(), &object("child", &[], Some(&owner)))
        .await
        .expect("created");
    let params = DeleteParams {
        propagation_policy: Some(PropagationPolicy::Orphan),
        ..DeleteParams::default()
    };
    widgets.delete("owner", &params).await.expect("deleted");
    eventually("the owner is gone and the child is free", || async {
        let owner = widgets.get_opt("owner").await.expect("an answer");
        let child = widgets.get("child").await.expect("the child stays");
        (owner.is_none() && child.owner_references().is_empty()).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_says_what_holds_it_and_goes_with_the_last_of_it() {
    let world = World::start().await;
    let namespaces: Api<Namespace> = Api::all(world.client.clone());
    namespaces
        .create(&PostParams::default(), &of(json!({ "metadata": { "name": "space" } })))
        .await
        .expect("created");
    let widgets = define_widgets(&world, "space").await;
    async fn create<K>(world: &World, object: Value)
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + serde::de::DeserializeOwned
            + serde::Serialize,
    {
        let api: Api<K> = Api::namespaced(world.client.clone(), "space");
        api.create(&PostParams::default(), &of(object)).await.expect("created");
    }
    create::<ConfigMap>(&world, json!({ "metadata": { "name": "a" } })).await;
    create::<Secret>(&world, json!({ "metadata": { "name": "a" } })).await;
    let service =
        json!({ "metadata": { "name": "a" }, "spec": { "selector": { "app": "web" }, "ports": [{ "port": 80 }] } });
    create::<Service>(&world, service).await;
    create::<Deployment>(&world, deployment(2, "web:v1")).await;
    widgets
        .create(&PostParams::default(), &object("held", &["example.com/hold"], None))
        .await
        .expect("created");
    namespaces
        .delete("space", &DeleteParams::default())
        .await
        .expect("deleted");
    eventually("it says what holds it", || async {
        let space = namespaces.get("space").await.expect("the namespace");
        let conditions = space.status?.conditions?;
        let says = |kind: &str, text: &str| {
            conditions.iter().any(|condition| {
                condition.type_ == kind
                    && condition
                        .message
                        .as_deref()
                        .is_some_and(|message| message.ends_with(text))
            })
        };
        let content = "Some resources are remaining: widgets.example.com has 1 resource instances";
        (says("NamespaceContentRemaining", content)
            && says(
                "NamespaceFinalizersRemaining",
                "example.com/hold in 1 resource instances",
            ))
        .then_some(())
    })
    .await;
    release(&widgets, "held").await;
    eventually("the namespace is gone", || async {
        let space = namespaces.get_opt("space").await.expect("an answer");
        space.is_none().then_some(())
    })
    .await;
}
