//! Subresources that the program around the server answers.

use std::sync::Arc;

use async_trait::async_trait;
use http::{Method, Request};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, ApiResource, DynamicObject, PostParams};
use kube::core::GroupVersionKind;
use serde_json::{Value, json};
use setpoint_api::Status;
use setpoint_server::{ServedSubresource, SubresourceHandler, SubresourceRequest, UserInfo};

use crate::cluster::{Cluster, kubectl, kubectls};
use crate::{SOON, client, object};

/// Answers with what it was asked; `stuck` never does, `broken` panics, `refused` says no.
struct Echo;

const GET: &[&str] = &["get"];
const CREATE: &[&str] = &["create"];

fn served(name: &'static str, verbs: &'static [&'static str]) -> ServedSubresource {
    ServedSubresource {
        group: "setpoint.dev",
        resource: "apps",
        name,
        verbs,
        of_absent: false,
    }
}

#[async_trait]
impl SubresourceHandler for Echo {
    fn serves(&self) -> Vec<ServedSubresource> {
        vec![
            served("history", GET),
            served("rollback", CREATE),
            served("stuck", GET),
            served("broken", GET),
            served("refused", GET),
            ServedSubresource {
                of_absent: true,
                ..served("plan", CREATE)
            },
            ServedSubresource {
                group: "",
                resource: "configmaps",
                name: "echo",
                verbs: GET,
                of_absent: false,
            },
        ]
    }

    async fn call(&self, request: SubresourceRequest) -> Result<Value, Status> {
        match request.subresource.as_str() {
            "stuck" => std::future::pending().await,
            "broken" => panic!("a mistake"),
            "refused" => Err(Status::conflict("setpoint.dev", "apps", &request.name, "it is paused")),
            _ => Ok(json!({
                "resource": request.resource,
                "subresource": request.subresource,
                "namespace": request.namespace,
                "name": request.name,
                "verb": request.verb,
                "limit": request.query.get("limit"),
                "body": String::from_utf8_lossy(&request.body[..request.body.len().min(100)]),
                "size": request.body.len(),
                "user": request.user.name,
            })),
        }
    }
}

/// Starts a cluster with the kind App and one app, `shop/web`.
async fn start() -> Cluster {
    let cluster = Cluster::start_with(vec![Arc::new(Echo)]).await;
    let master = client(&cluster, UserInfo::system("test"));
    let definition = object(json!({
        "metadata": {"name": "apps.setpoint.dev"},
        "spec": {
            "group": "setpoint.dev",
            "scope": "Namespaced",
            "names": {"plural": "apps", "singular": "app", "kind": "App", "listKind": "AppList"},
            "versions": [{
                "name": "v1alpha1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
            }],
        },
    }));
    let definitions: Api<CustomResourceDefinition> = Api::all(master.clone());
    definitions
        .create(&PostParams::default(), &definition)
        .await
        .expect("a definition");
    let namespace = object(json!({"metadata": {"name": "shop"}}));
    let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(master.clone());
    namespaces
        .create(&PostParams::default(), &namespace)
        .await
        .expect("a namespace");
    let kind = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("setpoint.dev", "v1alpha1", "App"), "apps");
    let apps: Api<DynamicObject> = Api::namespaced_with(master, "shop", &kind);
    let app = object(json!({"apiVersion": "setpoint.dev/v1alpha1", "kind": "App", "metadata": {"name": "web"}}));
    apps.create(&PostParams::default(), &app).await.expect("an app");
    cluster
}

const WEB: &str = "/apis/setpoint.dev/v1alpha1/namespaces/shop/apps/web";

async fn call(client: &kube::Client, method: Method, path: &str, body: Vec<u8>) -> Result<Value, (u16, String)> {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .body(body)
        .expect("a request");
    match client.request(request).await {
        Ok(answer) => Ok(answer),
        Err(kube::Error::Api(status)) => Err((status.code, status.message)),
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn a_handler_gets_the_request_and_its_answer_is_the_answer() {
    let cluster = start().await;
    let master = client(&cluster, UserInfo::system("test"));
    let history = call(&master, Method::GET, &format!("{WEB}/history?limit=5"), Vec::new()).await;
    let mut expected = json!({
        "resource": "apps", "subresource": "history", "namespace": "shop", "name": "web", "verb": "get", "limit": "5",
        "body": "", "size": 0, "user": "system:test",
    });
    assert_eq!(history.expect("an answer"), expected);
    let body = br#"{"revision": 3}"#.to_vec();
    for (field, value) in [
        ("subresource", json!("rollback")),
        ("verb", json!("create")),
        ("limit", Value::Null),
        ("body", json!(r#"{"revision": 3}"#)),
        ("size", json!(body.len())),
    ] {
        expected[field] = value;
    }
    let rollback = call(&master, Method::POST, &format!("{WEB}/rollback"), body).await;
    assert_eq!(rollback.expect("an answer"), expected);
    let refused = call(&master, Method::GET, &format!("{WEB}/refused"), Vec::new()).await;
    let (code, message) = refused.expect_err("a refusal");
    assert_eq!(code, 409);
    assert!(message.contains("it is paused"), "{message}");
    let proposed = "/apis/setpoint.dev/v1alpha1/namespaces/shop/apps/none/plan";
    let plan = call(&master, Method::POST, proposed, Vec::new()).await;
    assert_eq!(plan.expect("an answer")["name"], "none");
    // Kinds of Kubernetes' own may have some, too.
    let path = "/api/v1/namespaces/kube-system/configmaps/none/echo";
    let (code, message) = call(&master, Method::GET, path, Vec::new()).await.expect_err("absent");
    assert_eq!((code, message.as_str()), (404, "configmaps \"none\" not found"));
}

#[tokio::test]
async fn what_cannot_be_asked_never_reaches_the_handler() {
    let cluster = start().await;
    let master = client(&cluster, UserInfo::system("test"));
    let apps = "/apis/setpoint.dev/v1alpha1";
    for (method, path, code) in [
        (Method::POST, format!("{WEB}/history"), 405),
        (Method::DELETE, format!("{WEB}/history"), 405),
        (Method::PUT, format!("{WEB}/rollback"), 405),
        (Method::GET, format!("{WEB}/rollback"), 405),
        (Method::GET, format!("{apps}/namespaces/shop/apps/other/history"), 404),
        (Method::GET, format!("{apps}/namespaces/other/apps/web/history"), 404),
        (Method::GET, format!("{apps}/apps/web/history"), 404),
        (
            Method::GET,
            "/apis/setpoint.dev/v2/namespaces/shop/apps/web/history".to_owned(),
            404,
        ),
        (Method::GET, format!("{WEB}/unknown"), 404),
        (Method::GET, format!("{WEB}/history/more"), 404),
    ] {
        let answer = call(&master, method.clone(), &path, Vec::new()).await;
        assert_eq!(answer.expect_err("a refusal").0, code, "{method} {path}");
    }
}

#[tokio::test]
async fn a_body_may_have_sixteen_megabytes() {
    let cluster = start().await;
    let master = client(&cluster, UserInfo::system("test"));
    let path = format!("{WEB}/rollback");
    let most = 16 << 20;
    let answer = call(&master, Method::POST, &path, vec![b' '; most]).await;
    assert_eq!(answer.expect("an answer")["size"], json!(most));
    let (code, _) = call(&master, Method::POST, &path, vec![b' '; most + 1])
        .await
        .expect_err("too large");
    assert_eq!(code, 413);
}

#[tokio::test]
async fn rights_are_those_of_the_subresource() {
    let cluster = start().await;
    let master = client(&cluster, UserInfo::system("test"));
    let bindings: Api<k8s_openapi::api::rbac::v1::RoleBinding> = Api::namespaced(master, "shop");
    for (role, user) in [("view", "vera"), ("edit", "ed")] {
        let binding = object(json!({
            "metadata": {"name": user},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
        }));
        bindings
            .create(&PostParams::default(), &binding)
            .await
            .expect("a binding");
    }
    let may = async |user: &str, method: Method, what: &str| {
        let client = client(&cluster, UserInfo::new(user, &[]));
        match call(&client, method, &format!("{WEB}/{what}"), Vec::new()).await {
            Ok(_) => true,
            Err((403, _)) => false,
            Err(other) => panic!("{other:?}"),
        }
    };
    assert!(may("vera", Method::GET, "history").await);
    assert!(!may("vera", Method::POST, "rollback").await);
    assert!(may("ed", Method::GET, "history").await);
    assert!(may("ed", Method::POST, "rollback").await);
    assert!(!may("ann", Method::GET, "history").await);
}

#[tokio::test]
async fn a_handler_that_panics_or_never_answers_costs_its_caller_only() {
    let cluster = start().await;
    let master = client(&cluster, UserInfo::system("test"));
    let broken = call(&master, Method::GET, &format!("{WEB}/broken"), Vec::new()).await;
    assert_eq!(broken.expect_err("a mistake").0, 500);
    // Nothing on the way to the handler waits for the disk, so time may fly.
    tokio::time::pause();
    let path = format!("{WEB}/stuck");
    let (code, message) = call(&master, Method::GET, &path, Vec::new())
        .await
        .expect_err("no answer");
    tokio::time::resume();
    assert_eq!(code, 504);
    assert!(message.contains("within 60 seconds"), "{message}");
    let history = call(&master, Method::GET, &format!("{WEB}/history"), Vec::new()).await;
    history.expect("the next one is answered");
}

#[tokio::test]
async fn discovery_lists_them_in_both_forms() {
    let cluster = start().await;
    let master = client(&cluster, UserInfo::system("test"));
    let list = call(&master, Method::GET, "/apis/setpoint.dev/v1alpha1", Vec::new())
        .await
        .expect("a list");
    let resources = list["resources"].as_array().expect("a list");
    let found = |name: &str| resources.iter().find(|entry| entry["name"] == name).cloned();
    let history = found("apps/history").expect("apps/history");
    assert_eq!((&history["kind"], &history["verbs"]), (&json!("App"), &json!(["get"])));
    assert_eq!(
        found("apps/rollback").expect("apps/rollback")["verbs"],
        json!(["create"])
    );
    let request = Request::get("/apis")
        .header(
            "accept",
            "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
        )
        .body(Vec::new())
        .expect("a request");
    let all: Value = master.request(request).await.expect("a document");
    let groups = all["items"].as_array().expect("groups");
    let group = groups
        .iter()
        .find(|group| group["metadata"]["name"] == "setpoint.dev")
        .expect("the group");
    let subs = group["versions"][0]["resources"][0]["subresources"]
        .as_array()
        .expect("subresources");
    assert!(subs.iter().any(|sub| sub["subresource"] == "history"), "{subs:?}");
}

#[tokio::test]
async fn kubectl_reads_one_raw() {
    let cluster = start().await;
    let config = cluster.kubeconfig("root", &["system:masters"]);
    for program in kubectls() {
        let path = format!("{WEB}/history?limit=1");
        let args = ["get", "--raw", &path];
        let reading = kubectl(&program, &config, &args, "");
        let (good, out, errors) = tokio::time::timeout(SOON, reading).await.expect("in time");
        assert!(good, "{errors}");
        let answer: Value = serde_json::from_str(&out).expect("JSON");
        assert_eq!(answer["user"], "root");
    }
    cluster.stop().await;
}

#[tokio::test]
async fn nobody_answers_for_another() {
    for (group, resource, name, message) in [
        ("setpoint.dev", "apps", "history", "apps/history of setpoint.dev"),
        ("", "pods", "log", "pods/log of "),
        ("example.com", "widgets", "status", "widgets/status of example.com"),
    ] {
        struct One(ServedSubresource);
        #[async_trait]
        impl SubresourceHandler for One {
            fn serves(&self) -> Vec<ServedSubresource> {
                vec![self.0]
            }
            async fn call(&self, _: SubresourceRequest) -> Result<Value, Status> {
                Ok(Value::Null)
            }
        }
        let one = One(ServedSubresource {
            group,
            resource,
            name,
            verbs: GET,
            of_absent: false,
        });
        let refused = Cluster::try_start(vec![Arc::new(Echo), Arc::new(one)]).await;
        let text = refused.err().expect("a refusal").to_string();
        assert!(text.starts_with(message), "{text}");
    }
}
