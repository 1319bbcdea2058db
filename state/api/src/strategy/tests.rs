//! What clients may not choose.

use serde_json::json;

use super::*;
use crate::Scheme;

fn resource(group: &str, plural: &str) -> std::sync::Arc<Resource> {
    Scheme::builtin().get(group, "v1", plural).unwrap()
}

#[test]
fn a_new_object_loses_status_and_what_only_the_server_sets() {
    let deployments = resource("apps", "deployments");
    let mut object = json!({"metadata": {"name": "x", "uid": "u", "resourceVersion": "3", "generation": 9}, "spec": {}, "status": {"replicas": 4}});
    prepare_for_create(&deployments, &mut object);
    assert_eq!(
        object,
        json!({"kind": "Deployment", "apiVersion": "apps/v1", "metadata": {"name": "x", "generation": 1}, "spec": {}})
    );
}

#[test]
fn the_generation_counts_changes_of_the_spec_alone() {
    let deployments = resource("apps", "deployments");
    let old = json!({"metadata": {"name": "x", "uid": "u", "generation": 1, "creationTimestamp": "t"}, "spec": {"replicas": 1}, "status": {"replicas": 1}});
    let mut new = json!({"metadata": {"name": "x", "labels": {"a": "b"}, "uid": "other"}, "spec": {"replicas": 1}, "status": {"replicas": 7}});
    prepare_for_update(&deployments, &mut new, &old);
    assert_eq!(meta::generation(&new), 1);
    assert_eq!((meta::uid(&new), &new["status"]), ("u", &json!({"replicas": 1})));
    new["spec"]["replicas"] = 2.into();
    prepare_for_update(&deployments, &mut new, &old);
    assert_eq!(meta::generation(&new), 2);
    let config_maps = resource("", "configmaps");
    let mut new = json!({"metadata": {"name": "x"}, "data": {"a": "b"}});
    prepare_for_update(&config_maps, &mut new, &json!({"metadata": {"name": "x"}}));
    assert_eq!(meta::generation(&new), 0);
}

#[test]
fn the_status_subresource_keeps_the_spec_and_takes_labels() {
    let pods = resource("", "pods");
    let old = json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "x", "labels": {"a": "b"}, "ownerReferences": [{"uid": "u"}], "uid": "p"}, "spec": {"nodeName": "n"}, "status": {"phase": "Pending"}});
    let mut new = json!({"metadata": {"name": "x", "resourceVersion": "5", "labels": {"c": "d"}, "ownerReferences": []}, "spec": {}, "status": {"phase": "Running"}});
    prepare_for_status(&pods, &mut new, &old);
    assert_eq!(new["spec"], old["spec"]);
    assert_eq!(
        new["metadata"],
        json!({"name": "x", "uid": "p", "labels": {"c": "d"}, "ownerReferences": [{"uid": "u"}], "resourceVersion": "5"})
    );
    assert_eq!(new["status"]["phase"], "Running");
    let mut new = json!({"metadata": {"name": "x", "labels": {"c": "d"}, "annotations": {"e": "f"}}, "spec": {}});
    prepare_for_status(&resource("apps", "deployments"), &mut new, &old);
    assert_eq!(new["metadata"]["labels"], json!({"a": "b"}));
    assert_eq!(new["metadata"]["annotations"], json!({"e": "f"}));
}

#[test]
fn the_status_of_a_definition_and_of_a_custom_resource_keeps_all_metadata() {
    let definitions = resource("apiextensions.k8s.io", "customresourcedefinitions");
    let mut custom = (*definitions).clone();
    custom.custom = true;
    let old = json!({"kind": "X", "apiVersion": "v1", "metadata": {"name": "x", "labels": {"a": "b"}}, "spec": {"a": 1}, "data": 1, "status": {}});
    for row in [&*definitions, &custom] {
        let mut new = json!({"metadata": {"name": "x", "resourceVersion": "5", "managedFields": [{}], "labels": {}}, "spec": {}, "data": 1, "status": {"s": 1}});
        prepare_for_status(row, &mut new, &old);
        assert_eq!(
            (&new["spec"], &new["data"], &new["status"]),
            (&json!({"a": 1}), &json!(1), &json!({"s": 1}))
        );
        assert_eq!(
            new["metadata"],
            json!({"name": "x", "labels": {"a": "b"}, "resourceVersion": "5", "managedFields": [{}]})
        );
    }
}

#[test]
fn a_new_pod_is_pending_and_knows_its_class() {
    let pods = resource("", "pods");
    let pod = |resources: Value| json!({"metadata": {"name": "x"}, "spec": {"containers": [{"name": "a", "resources": resources}]}});
    for (resources, class) in [
        (json!({}), "BestEffort"),
        (json!({"requests": {"cpu": "1"}}), "Burstable"),
        (
            json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1000m", "memory": "1024Mi"}}),
            "Guaranteed",
        ),
        (
            json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1", "memory": "1Mi"}}),
            "Burstable",
        ),
    ] {
        let mut object = pod(resources);
        prepare_for_create(&pods, &mut object);
        assert_eq!(object["status"], json!({"phase": "Pending", "qosClass": class}));
    }
}

#[test]
fn a_gated_pod_says_why_it_waits_and_selectors_know_its_labels() {
    let mut pod = json!({"metadata": {"name": "x", "labels": {"a": "b"}}, "spec": {
        "schedulingGates": [{"name": "g"}],
        "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"podAffinityTerm": {"labelSelector": {}, "matchLabelKeys": ["a", "no"], "mismatchLabelKeys": ["a"]}}]}},
        "topologySpreadConstraints": [{"matchLabelKeys": ["a"], "labelSelector": {"matchLabels": {"c": "d"}}}],
    }});
    prepare_for_create(&resource("", "pods"), &mut pod);
    assert_eq!(pod["status"]["conditions"][0]["reason"], "SchedulingGated");
    let term = &pod["spec"]["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"][0]["podAffinityTerm"];
    assert_eq!(
        term["labelSelector"]["matchExpressions"],
        json!([{"key": "a", "operator": "In", "values": ["b"]}, {"key": "a", "operator": "NotIn", "values": ["b"]}])
    );
    assert_eq!(
        pod["spec"]["topologySpreadConstraints"][0]["labelSelector"],
        json!({"matchLabels": {"c": "d"}, "matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]})
    );
}

#[test]
fn a_node_may_bring_its_status_along_and_a_service_gets_an_empty_one() {
    let mut node = json!({"metadata": {"name": "n"}, "status": {"capacity": {"cpu": "1"}}});
    prepare_for_create(&resource("", "nodes"), &mut node);
    assert_eq!(node["status"]["capacity"]["cpu"], "1");
    let mut service = json!({"metadata": {"name": "s"}, "status": {"loadBalancer": {"ingress": [{"ip": "1.1.1.1"}]}}});
    prepare_for_create(&resource("", "services"), &mut service);
    assert_eq!(service["status"], json!({"loadBalancer": {}}));
}

#[test]
fn a_namespace_keeps_its_finalizers_on_update() {
    let namespaces = resource("", "namespaces");
    let mut object = json!({"metadata": {"name": "x"}});
    prepare_for_create(&namespaces, &mut object);
    assert_eq!(
        (&object["spec"], &object["status"]),
        (&json!({"finalizers": ["kubernetes"]}), &json!({"phase": "Active"}))
    );
    let mut new = json!({"metadata": {"name": "x"}, "spec": {"finalizers": []}});
    prepare_for_update(&namespaces, &mut new, &object);
    assert_eq!(new["spec"], object["spec"]);
}

#[test]
fn a_scale_shows_and_sets_the_replicas() {
    let deployments = resource("apps", "deployments");
    let mut object = json!({"metadata": {"name": "x", "namespace": "n", "labels": {"no": "no"}}, "spec": {"replicas": 2, "selector": {"matchLabels": {"a": "b"}}}, "status": {"replicas": 1}});
    let scale = scale_of(&deployments, &object).unwrap();
    assert_eq!(
        (&scale["spec"]["replicas"], &scale["status"]),
        (&json!(2), &json!({"replicas": 1, "selector": "a=b"}))
    );
    assert_eq!(scale["metadata"], json!({"name": "x", "namespace": "n"}));
    set_replicas(&deployments, &mut object, 0);
    assert_eq!(object["spec"]["replicas"], 0);
}

#[test]
fn a_service_that_changes_its_type_loses_what_the_former_one_needed() {
    let services = resource("", "services");
    let old = json!({"metadata": {"name": "s"}, "spec": {"type": "LoadBalancer", "externalTrafficPolicy": "Local", "loadBalancerClass": "a/b",
        "allocateLoadBalancerNodePorts": true, "internalTrafficPolicy": "Cluster"}});
    let mut new = old.clone();
    new["spec"]["type"] = "ClusterIP".into();
    prepare_for_update(&services, &mut new, &old);
    assert_eq!(
        new["spec"],
        json!({"type": "ClusterIP", "internalTrafficPolicy": "Cluster"})
    );
    let mut said = old.clone();
    said["spec"]["type"] = "ClusterIP".into();
    said["spec"]["externalTrafficPolicy"] = "Cluster".into();
    prepare_for_update(&services, &mut said, &old);
    assert_eq!(
        said["spec"]["externalTrafficPolicy"], "Cluster",
        "for validation to refuse"
    );
}
