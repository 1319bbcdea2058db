//! What clients may keep of what they are told, and the words of health.

use axum::body::Body;
use http::{HeaderMap, Request};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use setpoint_server::UserInfo;
use tower::Service;

use crate::cluster::Cluster;

struct Got {
    code: u16,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Got {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("text"))
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }
}

async fn send(cluster: &Cluster, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Got {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Body::from(body.to_owned())).expect("a request");
    let mut api = cluster.api.as_user(UserInfo::system("test"));
    let (parts, body) = api.call(request).await.expect("an answer").into_parts();
    Got {
        code: parts.status.as_u16(),
        headers: parts.headers,
        body: body.collect().await.expect("a body").to_bytes().to_vec(),
    }
}

async fn get(cluster: &Cluster, path: &str, headers: &[(&str, &str)]) -> Got {
    send(cluster, "GET", path, headers, "").await
}

async fn define(cluster: &Cluster, plural: &str, field: &str) {
    let kind = plural.trim_end_matches('s').to_uppercase();
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{plural}.example.com")},
        "spec": {
            "group": format!("{plural}.example.com"), "scope": "Namespaced", "names": {"plural": plural, "kind": kind},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                "type": "object", "properties": {"spec": {"type": "object", "properties": {field: {"type": "string"}}}}}}}],
        },
    });
    let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let apply = format!("{path}/{plural}.{plural}.example.com?fieldManager=test&force=true");
    let kind = [("content-type", "application/apply-patch+yaml")];
    let made = send(cluster, "PATCH", &apply, &kind, &definition.to_string()).await;
    assert!(made.code < 300, "{}", made.json());
}

#[tokio::test]
async fn nobody_may_keep_what_may_change() {
    let cluster = Cluster::start().await;
    for path in [
        "/api/v1/namespaces",
        "/api/v1/namespaces/none",
        "/api/v1/namespaces?watch=1&timeoutSeconds=1",
        "/api/v1",
        "/apis",
        "/version",
        "/nowhere",
        "/openapi/v3",
    ] {
        let got = get(&cluster, path, &[]).await;
        assert_eq!(got.header("cache-control"), "no-cache, private", "{path}");
    }
}

#[tokio::test]
async fn everything_at_once_is_told_once_to_those_who_keep_it() {
    let cluster = Cluster::start().await;
    let accept = (
        "accept",
        "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json",
    );
    let first = get(&cluster, "/apis", &[accept]).await;
    let tag = first.header("etag").to_owned();
    assert_eq!(tag.len(), 130, "128 digits in quotes: {tag}");
    assert_eq!(
        (first.header("vary"), first.header("cache-control")),
        ("Accept", "public")
    );
    let again = get(&cluster, "/apis", &[accept, ("if-none-match", &tag)]).await;
    assert_eq!(
        (again.code, again.body.len(), again.header("etag")),
        (304, 0, tag.as_str())
    );
    define(&cluster, "widgets", "size").await;
    let changed = get(&cluster, "/apis", &[accept, ("if-none-match", &tag)]).await;
    assert_eq!(changed.code, 200);
    assert_ne!(changed.header("etag"), tag);
    assert_eq!(
        get(&cluster, "/apis", &[]).await.header("etag"),
        "",
        "the plain list is not kept"
    );
}

#[tokio::test]
async fn a_described_group_is_kept_for_ever_under_the_digest_of_its_description() {
    let cluster = Cluster::start().await;
    define(&cluster, "widgets", "size").await;
    define(&cluster, "gadgets", "size").await;
    let index = async || get(&cluster, "/openapi/v3", &[]).await.json();
    let url = |index: &Value, group: &str| {
        let path = &index["paths"][format!("apis/{group}.example.com/v1")]["serverRelativeURL"];
        path.as_str().expect("a URL").to_owned()
    };
    let before = index().await;
    let (widgets, gadgets) = (url(&before, "widgets"), url(&before, "gadgets"));
    let kept = get(&cluster, &widgets, &[]).await;
    assert_eq!((kept.code, kept.header("cache-control")), (200, "public, immutable"));
    let (_, digest) = widgets.split_once("?hash=").expect("a digest");
    assert_eq!(kept.header("etag"), format!("\"{digest}\""));
    assert!(kept.header("expires").ends_with("GMT"));
    // Another kind's definition changes nothing about this one.
    define(&cluster, "gadgets", "weight").await;
    let after = index().await;
    assert_eq!(url(&after, "widgets"), widgets);
    assert_ne!(url(&after, "gadgets"), gadgets);
    assert_eq!(after["paths"]["api/v1"], before["paths"]["api/v1"]);
    let moved = get(&cluster, &gadgets, &[]).await;
    assert_eq!(
        (moved.code, moved.header("location")),
        (301, url(&after, "gadgets").as_str())
    );
    assert_eq!(moved.header("cache-control"), "no-cache, private");
    let plain = get(&cluster, "/openapi/v3/apis/gadgets.example.com/v1", &[]).await;
    assert_eq!((plain.code, plain.header("cache-control")), (200, "no-cache, private"));
    let tag = plain.header("etag").to_owned();
    let known = get(
        &cluster,
        "/openapi/v3/apis/gadgets.example.com/v1",
        &[("if-none-match", &tag)],
    )
    .await;
    assert_eq!(known.code, 304);
}

#[tokio::test]
async fn health_says_what_was_left_out() {
    let cluster = Cluster::start().await;
    let got = get(&cluster, "/readyz?verbose&exclude=log&exclude=etcd", &[]).await;
    assert_eq!((got.code, got.header("x-content-type-options")), (200, "nosniff"));
    assert_eq!(
        String::from_utf8(got.body).expect("text"),
        "[+]ping ok\n[+]log excluded: ok\n[+]cache ok\nwarn: some health checks cannot be excluded: no matches for \"etcd\"\nreadyz check passed\n"
    );
}
