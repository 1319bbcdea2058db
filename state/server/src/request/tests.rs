use super::*;

fn parse(method: &str, uri: &str) -> RequestInfo {
    RequestInfo::parse(&method.parse().expect("a method"), &uri.parse().expect("a URI"))
}

/// Method, URI, verb, group/version, resource/subresource, namespace, name.
type Case = (
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    Option<&'static str>,
    Option<&'static str>,
);

#[test]
fn paths_become_what_kubernetes_makes_of_them() {
    let table: &[Case] = &[
        ("GET", "/api/v1/namespaces", "list", "v1", "namespaces", None, None),
        (
            "GET",
            "/api/v1/namespaces/a",
            "get",
            "v1",
            "namespaces",
            Some("a"),
            Some("a"),
        ),
        (
            "PUT",
            "/api/v1/namespaces/a/finalize",
            "update",
            "v1",
            "namespaces/finalize",
            Some("a"),
            Some("a"),
        ),
        (
            "PUT",
            "/api/v1/namespaces/a/status",
            "update",
            "v1",
            "namespaces/status",
            Some("a"),
            Some("a"),
        ),
        ("GET", "/api/v1/pods", "list", "v1", "pods", None, None),
        ("GET", "/api/v1/pods?watch=true", "watch", "v1", "pods", None, None),
        ("GET", "/api/v1/pods?watch=0", "list", "v1", "pods", None, None),
        ("GET", "/api/v1/watch/pods", "watch", "v1", "pods", None, None),
        (
            "GET",
            "/api/v1/namespaces/a/pods",
            "list",
            "v1",
            "pods",
            Some("a"),
            None,
        ),
        (
            "POST",
            "/api/v1/namespaces/a/pods",
            "create",
            "v1",
            "pods",
            Some("a"),
            None,
        ),
        (
            "DELETE",
            "/api/v1/namespaces/a/pods",
            "deletecollection",
            "v1",
            "pods",
            Some("a"),
            None,
        ),
        (
            "DELETE",
            "/api/v1/namespaces/a/pods/b",
            "delete",
            "v1",
            "pods",
            Some("a"),
            Some("b"),
        ),
        (
            "GET",
            "/api/v1/namespaces/a/pods/b/log",
            "get",
            "v1",
            "pods/log",
            Some("a"),
            Some("b"),
        ),
        (
            "PATCH",
            "/apis/apps/v1/namespaces/a/deployments/b",
            "patch",
            "apps/v1",
            "deployments",
            Some("a"),
            Some("b"),
        ),
        (
            "PUT",
            "/apis/apps/v1/namespaces/a/deployments/b/scale",
            "update",
            "apps/v1",
            "deployments/scale",
            Some("a"),
            Some("b"),
        ),
        (
            "GET",
            "/apis/rbac.authorization.k8s.io/v1/clusterroles/x%3Ay",
            "get",
            "rbac.authorization.k8s.io/v1",
            "clusterroles",
            None,
            Some("x:y"),
        ),
        (
            "GET",
            "/api/v1/namespaces/a/pods?fieldSelector=metadata.name%3Db&watch=1",
            "watch",
            "v1",
            "pods",
            Some("a"),
            Some("b"),
        ),
        (
            "GET",
            "/api/v1/namespaces/a/pods?fieldSelector=metadata.name!%3Db",
            "list",
            "v1",
            "pods",
            Some("a"),
            None,
        ),
    ];
    for (method, uri, verb, version, resource, namespace, name) in table {
        let info = parse(method, uri);
        assert!(info.is_resource, "{uri}");
        assert_eq!(info.verb, *verb, "{method} {uri}");
        assert_eq!(info.api_version(), *version, "{uri}");
        assert_eq!(info.resource_path(), *resource, "{uri}");
        assert_eq!(info.namespace.as_deref(), *namespace, "{uri}");
        assert_eq!(info.name.as_deref(), *name, "{uri}");
    }
}

#[test]
fn what_stops_at_the_version_is_no_resource() {
    for uri in [
        "/",
        "/api",
        "/api/v1",
        "/apis",
        "/apis/apps",
        "/apis/apps/v1",
        "/healthz",
        "/openapi/v3/apis/apps/v1",
    ] {
        let info = parse("GET", uri);
        assert!(!info.is_resource, "{uri}");
        assert_eq!(info.verb, "get");
        assert_eq!(info.path, uri);
    }
}

#[test]
fn queries_are_decoded_and_keep_repeated_keys() {
    let query = Query::parse("command=sh&command=-c&command=echo+a%20b%26c&stdin=false&tty=true&x=%zz");
    assert_eq!(query.all("command").collect::<Vec<_>>(), ["sh", "-c", "echo a b&c"]);
    assert!(!query.flag("stdin"));
    assert!(query.flag("tty"));
    assert_eq!(query.get("x"), Some("%zz"));
    assert_eq!(query.get("none"), None);
}

#[test]
fn what_follows_proxy_is_a_path_of_somebody_elses() {
    for (path, name, rest) in [
        ("/api/v1/namespaces/a/pods/web:80/proxy", "web:80", ""),
        ("/api/v1/namespaces/a/pods/web/proxy/", "web", "/"),
        (
            "/api/v1/namespaces/a/services/https:web:x/proxy/a%2Fb//c/",
            "https:web:x",
            "/a%2Fb//c/",
        ),
        ("/api/v1//namespaces/a//services/w/proxy//x", "w", "//x"),
        ("/api/v1/nodes/one/proxy/stats/summary", "one", "/stats/summary"),
    ] {
        let uri: http::Uri = format!("{path}?q=1").parse().expect("a URI");
        let info = RequestInfo::parse(&http::Method::PUT, &uri);
        assert_eq!(info.subresource, "proxy", "{path}");
        assert_eq!(info.name.as_deref(), Some(name), "{path}");
        assert_eq!(info.proxied_path(), rest, "{path}");
        assert!(info.is_long_running() && info.verb == "update", "{path}");
    }
}
