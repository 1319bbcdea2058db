//! Who is let in, as whom, and what nodes may.

use std::path::Path;

use futures::StreamExt;
use k8s_openapi::api::authentication::v1::{SelfSubjectReview, TokenRequest, TokenReview};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Node, PersistentVolume, Pod, Secret, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::{Value, json};
use setpoint_server::UserInfo;
use setpoint_server::users::{TokenText, User};

use super::cluster::{Cluster, kubectls};
use super::{client, object};

/// A client over TLS by a kubeconfig, with one connection.
async fn over_tls(kubeconfig: &Path) -> kube::Client {
    // Another test of this process may have been first.
    drop(rustls::crypto::ring::default_provider().install_default());
    let read = Kubeconfig::read_from(kubeconfig).expect("a kubeconfig");
    let config = kube::Config::from_custom_kubeconfig(read, &KubeConfigOptions::default())
        .await
        .expect("a configuration");
    kube::Client::try_from(config).expect("a client")
}

async fn who(client: &kube::Client) -> Result<Value, u16> {
    let api: Api<SelfSubjectReview> = Api::all(client.clone());
    match api.create(&PostParams::default(), &SelfSubjectReview::default()).await {
        Ok(review) => Ok(serde_json::to_value(review.status.expect("a status")).expect("JSON")["userInfo"].clone()),
        Err(kube::Error::Api(status)) => Err(status.code),
        Err(error) => panic!("{error}"),
    }
}

fn code<T: std::fmt::Debug>(result: Result<T, kube::Error>) -> (u16, String) {
    match result {
        Err(kube::Error::Api(status)) => (status.code, status.message.clone()),
        other => panic!("{other:?}"),
    }
}

fn secrets(client: &kube::Client) -> Api<Secret> {
    Api::namespaced(client.clone(), "kube-system")
}

fn ann() -> User {
    User {
        name: "ann@example.com".to_owned(),
        groups: vec!["team".to_owned()],
        ..User::default()
    }
}

async fn add(client: &kube::Client, user: &User) -> String {
    let made = secrets(client)
        .create(&PostParams::default(), &object(user.to_secret()))
        .await
        .expect("a user");
    made.metadata.uid.expect("a uid")
}

#[tokio::test]
async fn a_removed_users_certificate_is_refused_at_once_also_on_a_connection_that_is_open() {
    let cluster = Cluster::start().await;
    let master = client(&cluster, UserInfo::system("test"));
    let uid = add(&master, &ann()).await;
    let binding = json!({
        "metadata": {"name": "team"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "team"}],
    });
    let bindings: Api<k8s_openapi::api::rbac::v1::ClusterRoleBinding> = Api::all(master.clone());
    bindings
        .create(&PostParams::default(), &object(binding))
        .await
        .expect("bound");
    // The groups are those that are kept, whatever the certificate says.
    let file = cluster.kubeconfig_of("ann@example.com", &["system:masters"], Some(&uid));
    let ann_client = over_tls(&file).await;
    let info = who(&ann_client).await.expect("known");
    assert_eq!(info["username"], "ann@example.com");
    assert_eq!(info["uid"], uid);
    assert_eq!(info["groups"], json!(["team", "system:authenticated"]));
    let credential = info["extra"]["authentication.kubernetes.io/credential-id"][0].as_str();
    assert!(credential.expect("an id").starts_with("X509SHA256="), "{info}");
    let watched: Api<Secret> = Api::namespaced(ann_client.clone(), "kube-system");
    let mut watch = watched
        .watch(&WatchParams::default(), "0")
        .await
        .expect("a watch")
        .boxed();
    secrets(&master)
        .delete(&User::secret_name("ann@example.com"), &DeleteParams::default())
        .await
        .expect("removed");
    assert_eq!(who(&ann_client).await, Err(401));
    // What was under way ends, too.
    let ended = async { while watch.next().await.is_some() {} };
    tokio::time::timeout(super::SOON, ended).await.expect("an end");
    // The name given out anew is another user.
    add(&master, &ann()).await;
    assert_eq!(who(&ann_client).await, Err(401));
    // A certificate of the authority that is no kept user's is what it says, as anywhere.
    let other = over_tls(&cluster.kubeconfig("bob", &["x"])).await;
    assert_eq!(who(&other).await.expect("known")["username"], "bob");
}

#[tokio::test]
async fn what_a_removed_user_runs_in_a_pod_ends_with_their_access() {
    use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _};
    let cluster = Cluster::start().await;
    let master = client(&cluster, UserInfo::system("test"));
    super::create_pod(&cluster, "web").await;
    let mut user = ann();
    user.groups = vec!["system:masters".to_owned()];
    let uid = add(&master, &user).await;
    let file = cluster.kubeconfig_of("ann@example.com", &[], Some(&uid));
    let mut session = tokio::process::Command::new(&kubectls()[0])
        .args(["exec", "-i", "web", "--", "cat"])
        .env("KUBECONFIG", &file)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("kubectl");
    let mut input = session.stdin.take().expect("its input");
    let mut output = tokio::io::BufReader::new(session.stdout.take().expect("its output")).lines();
    input.write_all(b"here\n").await.expect("written");
    let line = tokio::time::timeout(super::SOON, output.next_line()).await;
    assert_eq!(line.expect("in time").expect("read").as_deref(), Some("here"));
    secrets(&master)
        .delete(&User::secret_name("ann@example.com"), &DeleteParams::default())
        .await
        .expect("removed");
    let end = tokio::time::timeout(super::SOON, session.wait()).await;
    assert!(!end.expect("an end").expect("a status").success());
}

#[tokio::test]
async fn a_users_token_is_good_until_it_is_removed() {
    let cluster = Cluster::start().await;
    let master = client(&cluster, UserInfo::system("test"));
    let text = TokenText::new("ann@example.com", &[3; 32]);
    let mut user = ann();
    user.tokens.push(text.kept(None));
    let uid = add(&master, &user).await;
    let ann_client = over_tls(&cluster.kubeconfig_with_token("ann", text.as_str())).await;
    let info = who(&ann_client).await.expect("known");
    assert_eq!(
        (&info["username"], &info["uid"]),
        (&json!("ann@example.com"), &json!(uid))
    );
    let wrong = TokenText::new("ann@example.com", &[4; 32]);
    let other = over_tls(&cluster.kubeconfig_with_token("other", wrong.as_str())).await;
    assert_eq!(who(&other).await, Err(401));
    user.tokens.clear();
    let name = User::secret_name(&user.name);
    let patch = Patch::Merge(json!({"data": user.data()}));
    secrets(&master)
        .patch(&name, &PatchParams::default(), &patch)
        .await
        .expect("patched");
    assert_eq!(who(&ann_client).await, Err(401));
}

#[tokio::test]
async fn who_may_write_secrets_may_not_make_users_of_more_rights() {
    let cluster = Cluster::start().await;
    let master = client(&cluster, UserInfo::system("test"));
    let role = json!({
        "metadata": {"name": "writer"},
        "rules": [
            {"apiGroups": [""], "resources": ["secrets"], "verbs": ["*"]},
            {"apiGroups": [""], "resources": ["users", "groups"], "resourceNames": ["ann@example.com", "team"], "verbs": ["impersonate"]},
        ],
    });
    let roles: Api<k8s_openapi::api::rbac::v1::ClusterRole> = Api::all(master.clone());
    roles
        .create(&PostParams::default(), &object(role))
        .await
        .expect("a role");
    let binding = json!({
        "metadata": {"name": "writer"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "writer"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "bob"}],
    });
    let bindings: Api<k8s_openapi::api::rbac::v1::ClusterRoleBinding> = Api::all(master);
    bindings
        .create(&PostParams::default(), &object(binding))
        .await
        .expect("bound");
    let bob = client(&cluster, UserInfo::new("bob", &[]));
    let mut user = ann();
    user.groups.push("system:masters".to_owned());
    let refused = secrets(&bob)
        .create(&PostParams::default(), &object(user.to_secret()))
        .await;
    let (status, message) = code(refused);
    assert_eq!(status, 403);
    assert!(message.contains("system:masters"), "{message}");
    add(&bob, &ann()).await;
    let patch = Patch::Merge(json!({"data": user.data()}));
    let name = User::secret_name(&user.name);
    let refused = secrets(&bob).patch(&name, &PatchParams::default(), &patch).await;
    assert_eq!(code(refused).0, 403);
    let mut misnamed = ann().to_secret();
    misnamed["metadata"]["name"] = "other".into();
    assert_eq!(
        code(secrets(&bob).create(&PostParams::default(), &object(misnamed)).await).0,
        422
    );
}

async fn pod_on(master: &kube::Client, name: &str, node: &str, spec: Value) -> Pod {
    let mut pod = json!({
        "metadata": {"name": name},
        "spec": {"nodeName": node, "containers": [{"name": "main", "image": "image"}]},
    });
    for (key, value) in spec.as_object().expect("a map") {
        pod["spec"][key] = value.clone();
    }
    let pods: Api<Pod> = Api::default_namespaced(master.clone());
    pods.create(&PostParams::default(), &object(pod)).await.expect("a pod")
}

#[tokio::test]
async fn a_node_reads_what_its_pods_refer_to_as_long_as_they_are_there() {
    let cluster = Cluster::start().await;
    let master = client(&cluster, UserInfo::system("test"));
    for name in ["used", "pulled", "other"] {
        let all: Api<Secret> = Api::default_namespaced(master.clone());
        let secret = object(json!({"metadata": {"name": name}}));
        all.create(&PostParams::default(), &secret).await.expect("a Secret");
    }
    let map = object(json!({"metadata": {"name": "settings"}}));
    let maps: Api<ConfigMap> = Api::default_namespaced(master.clone());
    maps.create(&PostParams::default(), &map).await.expect("a ConfigMap");
    let one = client(&cluster, UserInfo::node("one"));
    let two = client(&cluster, UserInfo::node("two"));
    let own: Api<Secret> = Api::default_namespaced(one.clone());
    assert_eq!(
        code(own.get("used").await),
        (
            403,
            "secrets \"used\" is forbidden: User \"system:node:one\" cannot get resource \"secrets\" in API group \"\" in the namespace \"default\": no relationship found between node 'one' and this object".to_owned()
        )
    );
    let spec = json!({
        "imagePullSecrets": [{"name": "pulled"}],
        "volumes": [
            {"name": "a", "secret": {"secretName": "used"}},
            {"name": "b", "configMap": {"name": "settings"}},
        ],
    });
    pod_on(&master, "p", "one", spec.clone()).await;
    own.get("used").await.expect("its pod's");
    own.get("pulled").await.expect("its pod's");
    let named = ListParams::default().fields("metadata.name=used");
    assert_eq!(own.list(&named).await.expect("one by its name").items.len(), 1);
    assert_eq!(code(own.list(&ListParams::default()).await).0, 403);
    assert_eq!(code(own.get("other").await).0, 403);
    let maps: Api<ConfigMap> = Api::default_namespaced(one.clone());
    maps.get("settings").await.expect("its pod's");
    let everywhere: Api<ConfigMap> = Api::all(one.clone());
    assert_eq!(code(everywhere.list(&ListParams::default()).await).0, 403);
    let foreign: Api<Secret> = Api::default_namespaced(two.clone());
    assert_eq!(code(foreign.get("used").await).0, 403);
    let patch = Patch::Merge(json!({"data": {}}));
    assert_eq!(code(own.patch("used", &PatchParams::default(), &patch).await).0, 403);
    // A second pod that refers to the same keeps it when the first goes.
    pod_on(&master, "q", "one", spec).await;
    let pods: Api<Pod> = Api::default_namespaced(master.clone());
    let now = DeleteParams::default().grace_period(0);
    pods.delete("p", &now).await.expect("gone");
    own.get("used").await.expect("the other pod's");
    pods.delete("q", &now).await.expect("gone");
    assert_eq!(code(own.get("used").await).0, 403);
}

#[tokio::test]
async fn a_node_says_of_its_own_volumes_that_their_folders_are_gone_and_nothing_else() {
    let cluster = Cluster::start().await;
    let master = client(&cluster, UserInfo::system("test"));
    let all: Api<PersistentVolume> = Api::all(master);
    for (name, node, by) in [
        ("own", "one", "setpoint.dev/local"),
        ("foreign", "two", "setpoint.dev/local"),
        ("by-hand", "one", "somebody"),
    ] {
        let volume = object(json!({
            "metadata": {
                "name": name, "annotations": {"pv.kubernetes.io/provisioned-by": by},
                "finalizers": ["kubernetes.io/pv-protection", "setpoint.dev/local-volume"],
            },
            "spec": {
                "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "local": {"path": "/x"},
                "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
                    {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]},
                ]}]}},
            },
        }));
        all.create(&PostParams::default(), &volume).await.expect("a volume");
    }
    let one: Api<PersistentVolume> = Api::all(client(&cluster, UserInfo::node("one")));
    assert_eq!(one.list(&ListParams::default()).await.expect("a list").items.len(), 3);
    one.get("own").await.expect("its own");
    assert_eq!(code(one.get("foreign").await).0, 403);
    let params = PatchParams::default();
    let finalized = |left: &[&str]| Patch::Merge(json!({"metadata": {"finalizers": left}}));
    for name in ["foreign", "by-hand"] {
        let refused = one
            .patch(name, &params, &finalized(&["kubernetes.io/pv-protection"]))
            .await;
        assert_eq!(code(refused).0, 403, "{name}");
    }
    let protection = finalized(&["setpoint.dev/local-volume"]);
    assert_eq!(code(one.patch("own", &params, &protection).await).0, 403);
    let more = Patch::Merge(json!({"spec": {"capacity": {"storage": "9Gi"}}}));
    assert_eq!(code(one.patch("own", &params, &more).await).0, 403);
    one.patch("own", &params, &finalized(&["kubernetes.io/pv-protection"]))
        .await
        .expect("its folder is gone");
    assert_eq!(code(one.delete("own", &DeleteParams::default()).await).0, 403);
}

#[tokio::test]
async fn a_node_writes_itself_its_lease_and_its_own_pods() {
    let cluster = Cluster::start().await;
    let master = client(&cluster, UserInfo::system("test"));
    let one = client(&cluster, UserInfo::node("one"));
    let post = PostParams::default();
    let nodes: Api<Node> = Api::all(one.clone());
    let node = |name: &str, label: &str| object::<Node>(json!({"metadata": {"name": name, "labels": {label: "x"}}}));
    let (status, message) = code(
        nodes
            .create(&post, &node("one", "node-restriction.kubernetes.io/safe"))
            .await,
    );
    assert_eq!(status, 403);
    assert_eq!(
        message,
        "nodes \"one\" is forbidden: node \"one\" is not allowed to set the following labels: node-restriction.kubernetes.io/safe"
    );
    assert_eq!(
        code(nodes.create(&post, &node("two", "rack")).await).1,
        "nodes \"two\" is forbidden: node \"one\" is not allowed to modify node \"two\""
    );
    nodes.create(&post, &node("one", "rack")).await.expect("itself");
    let admins: Api<Node> = Api::all(master.clone());
    admins.create(&post, &node("two", "rack")).await.expect("another");
    let merge = |value: Value| Patch::Merge(value);
    let params = PatchParams::default();
    let ready = merge(json!({"status": {"phase": "Running"}}));
    nodes.patch_status("one", &params, &ready).await.expect("its status");
    assert_eq!(code(nodes.patch_status("two", &params, &ready).await).0, 403);
    let taint = merge(json!({"spec": {"taints": [{"key": "a", "effect": "NoSchedule"}]}}));
    assert!(code(nodes.patch("one", &params, &taint).await).1.contains("taints"));
    assert_eq!(code(nodes.get("two").await).0, 403);
    assert_eq!(code(nodes.list(&ListParams::default()).await).0, 403);
    assert_eq!(code(nodes.delete("one", &DeleteParams::default()).await).0, 403);

    let leases: Api<Lease> = Api::namespaced(one.clone(), "kube-node-lease");
    let lease = |name: &str| object::<Lease>(json!({"metadata": {"name": name}}));
    leases.create(&post, &lease("one")).await.expect("its lease");
    assert_eq!(code(leases.create(&post, &lease("two")).await).0, 403);
    let elsewhere: Api<Lease> = Api::default_namespaced(one.clone());
    assert_eq!(code(elsewhere.create(&post, &lease("one")).await).0, 403);

    pod_on(&master, "mine", "one", json!({})).await;
    pod_on(&master, "yours", "two", json!({})).await;
    // A refused eviction costs the budget nothing.
    let budgets: Api<PodDisruptionBudget> = Api::default_namespaced(master.clone());
    let budget = object(json!({"metadata": {"name": "all"}, "spec": {"minAvailable": 0, "selector": {}}}));
    budgets.create(&post, &budget).await.expect("a budget");
    let allowed = merge(
        json!({"status": {"observedGeneration": 1, "disruptionsAllowed": 1, "currentHealthy": 1,
        "desiredHealthy": 0, "expectedPods": 1}}),
    );
    budgets
        .patch_status("all", &params, &allowed)
        .await
        .expect("its status");
    let running = merge(json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}));
    let admin_pods: Api<Pod> = Api::default_namespaced(master.clone());
    admin_pods
        .patch_status("yours", &params, &running)
        .await
        .expect("running");
    let evicting: Api<Pod> = Api::default_namespaced(one.clone());
    let refused = code(evicting.evict("yours", &Default::default()).await);
    assert_eq!(refused.0, 403);
    assert!(
        refused
            .1
            .contains("can only evict pods with spec.nodeName set to itself"),
        "{}",
        refused.1
    );
    let left = budgets.get("all").await.expect("the budget").status.expect("a status");
    assert_eq!((left.disruptions_allowed, left.disrupted_pods), (Some(1), None));
    let pods: Api<Pod> = Api::default_namespaced(one.clone());
    pods.get("mine").await.expect("its pod");
    assert_eq!(code(pods.get("yours").await).0, 403);
    assert_eq!(code(pods.list(&ListParams::default()).await).0, 403);
    let bound = ListParams::default().fields("spec.nodeName=one");
    assert_eq!(pods.list(&bound).await.expect("its pods").items.len(), 1);
    pods.patch_status("mine", &params, &ready)
        .await
        .expect("its pod's status");
    assert_eq!(
        code(pods.patch_status("yours", &params, &ready).await).1,
        "pods \"yours\" is forbidden: node \"one\" can only update pod status for pods with spec.nodeName set to itself"
    );
    let relabel = merge(json!({"metadata": {"labels": {"a": "b"}}}));
    assert_eq!(code(pods.patch("mine", &params, &relabel).await).0, 403);
    let now = DeleteParams::default().grace_period(0);
    assert_eq!(code(pods.delete("yours", &now).await).0, 403);
    pods.delete("mine", &now).await.expect("its pod");
    let plain = object(json!({
        "metadata": {"name": "new"},
        "spec": {"nodeName": "one", "containers": [{"name": "c", "image": "i"}]},
    }));
    assert!(
        code(pods.create(&post, &plain).await)
            .1
            .contains("can only create mirror pods")
    );
    let uid = nodes.get("one").await.expect("itself").metadata.uid;
    let mut mirror = json!({
        "metadata": {
            "name": "mirror",
            "annotations": {"kubernetes.io/config.mirror": "x"},
            "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "one", "uid": uid, "controller": true}],
        },
        "spec": {"nodeName": "one", "containers": [{"name": "c", "image": "i"}]},
    });
    pods.create(&post, &object(mirror.clone())).await.expect("a mirror pod");
    mirror["metadata"]["name"] = "with-secret".into();
    mirror["spec"]["volumes"] = json!([{"name": "v", "secret": {"secretName": "s"}}]);
    assert!(
        code(pods.create(&post, &object(mirror)).await)
            .1
            .contains("reference secrets")
    );
}

fn bound(kind: &str, name: &str, uid: Option<&str>) -> TokenRequest {
    object(json!({
        "metadata": {},
        "spec": {"audiences": [], "boundObjectRef": {"apiVersion": "v1", "kind": kind, "name": name, "uid": uid}},
    }))
}

async fn review(master: &kube::Client, token: &str, audiences: &[&str]) -> Value {
    let api: Api<TokenReview> = Api::all(master.clone());
    let asked = object(json!({"metadata": {}, "spec": {"token": token, "audiences": audiences}}));
    let answer = api.create(&PostParams::default(), &asked).await.expect("a review");
    serde_json::to_value(answer.status).expect("JSON")
}

#[tokio::test]
async fn a_token_dies_with_the_pod_secret_or_node_that_it_is_bound_to() {
    let cluster = Cluster::start().await;
    let master = client(&cluster, UserInfo::system("test"));
    let post = PostParams::default();
    let accounts: Api<ServiceAccount> = Api::default_namespaced(master.clone());
    let account = object(json!({"metadata": {"name": "robot"}}));
    accounts.create(&post, &account).await.expect("an account");
    let nodes: Api<Node> = Api::all(master.clone());
    let node = object(json!({"metadata": {"name": "one"}}));
    let node: Node = nodes.create(&post, &node).await.expect("a node");
    let secrets: Api<Secret> = Api::default_namespaced(master.clone());
    let secret = object(json!({"metadata": {"name": "s"}}));
    secrets.create(&post, &secret).await.expect("a Secret");
    let pod = pod_on(&master, "p", "one", json!({"serviceAccountName": "robot"})).await;

    // A node asks for its own pods' accounts only, and only bound to them.
    let one: Api<ServiceAccount> = Api::default_namespaced(client(&cluster, UserInfo::node("one")));
    let two: Api<ServiceAccount> = Api::default_namespaced(client(&cluster, UserInfo::node("two")));
    let to_pod = bound("Pod", "p", pod.metadata.uid.as_deref());
    assert_eq!(code(two.create_token_request("robot", &post, &to_pod).await).0, 403);
    let free = object(json!({"metadata": {}, "spec": {"audiences": []}}));
    assert!(
        code(one.create_token_request("robot", &post, &free).await)
            .1
            .contains("not bound to a pod")
    );
    let token = |request: TokenRequest| request.status.and_then(|status| status.token).expect("a token");
    let of_pod = token(
        one.create_token_request("robot", &post, &to_pod)
            .await
            .expect("its pod's"),
    );

    let answer = accounts
        .create_token_request("robot", &post, &bound("Secret", "s", None))
        .await;
    let of_secret = token(answer.expect("a token"));
    let answer = accounts
        .create_token_request("robot", &post, &bound("Node", "one", None))
        .await;
    let of_node = token(answer.expect("a token"));
    let wrong = accounts
        .create_token_request("robot", &post, &bound("Node", "one", Some("u")))
        .await;
    assert_eq!(code(wrong).0, 409);
    let wrong = accounts
        .create_token_request("robot", &post, &bound("Service", "x", None))
        .await;
    assert_eq!(
        code(wrong),
        (400, "cannot bind token to object of type /v1, Kind=Service".to_owned())
    );

    let answer = review(&master, &of_pod, &[]).await;
    assert_eq!(answer["authenticated"], true, "{answer}");
    assert_eq!(answer["user"]["username"], "system:serviceaccount:default:robot");
    let extra = &answer["user"]["extra"];
    assert_eq!(extra["authentication.kubernetes.io/pod-name"], json!(["p"]));
    assert_eq!(extra["authentication.kubernetes.io/node-name"], json!(["one"]));
    assert_eq!(
        extra["authentication.kubernetes.io/node-uid"],
        json!([node.metadata.uid])
    );
    let answer = review(&master, &of_pod, &["vault", "web"]).await;
    assert_eq!(
        answer["error"],
        "[invalid bearer token, token audiences [\"https://kubernetes.default.svc.cluster.local\"] is invalid for the target audiences [\"vault\" \"web\"]]"
    );
    assert_ne!(answer["authenticated"], true);
    for token in [&of_secret, &of_node] {
        assert_eq!(review(&master, token, &[]).await["authenticated"], true);
    }
    let now = DeleteParams::default().grace_period(0);
    let pods: Api<Pod> = Api::default_namespaced(master.clone());
    pods.delete("p", &now).await.expect("gone");
    secrets.delete("s", &now).await.expect("gone");
    nodes.delete("one", &now).await.expect("gone");
    for token in [&of_pod, &of_secret, &of_node] {
        let answer = review(&master, token, &[]).await;
        assert_eq!(
            answer["error"],
            "[invalid bearer token, service account token has been invalidated]"
        );
    }
}

#[tokio::test]
async fn a_secret_of_an_account_is_given_a_token_and_goes_with_the_account() {
    let cluster = Cluster::start().await;
    let master = client(&cluster, UserInfo::system("test"));
    let post = PostParams::default();
    let accounts: Api<ServiceAccount> = Api::default_namespaced(master.clone());
    let account = object(json!({"metadata": {"name": "robot"}}));
    accounts.create(&post, &account).await.expect("an account");
    let secrets: Api<Secret> = Api::default_namespaced(master.clone());
    let secret = object(json!({
        "metadata": {"name": "robot-token", "annotations": {"kubernetes.io/service-account.name": "robot"}},
        "type": "kubernetes.io/service-account-token",
    }));
    secrets.create(&post, &secret).await.expect("a Secret");
    let filled = until(|| async {
        let secret = secrets.get("robot-token").await.expect("a Secret");
        let token = secret.data?.get("token")?.0.clone();
        String::from_utf8(token).ok()
    });
    let token = filled.await;
    let robot = over_tls(&cluster.kubeconfig_with_token("robot", &token)).await;
    let info = who(&robot).await.expect("known");
    assert_eq!(info["username"], "system:serviceaccount:default:robot");
    // A token that no longer stands in the Secret is none.
    let other = Patch::Merge(json!({"stringData": {"token": "x"}}));
    secrets
        .patch("robot-token", &PatchParams::default(), &other)
        .await
        .expect("patched");
    assert_eq!(who(&robot).await, Err(401));
    accounts.delete("robot", &DeleteParams::default()).await.expect("gone");
    until(|| async {
        secrets
            .get_opt("robot-token")
            .await
            .expect("an answer")
            .is_none()
            .then_some(())
    })
    .await;
}

/// Waits until something is as wanted.
async fn until<T, F: Future<Output = Option<T>>>(look: impl Fn() -> F) -> T {
    let waiting = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(super::SOON, waiting).await.expect("in time")
}
