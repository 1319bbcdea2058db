//! Kinds that more than one part of the server takes care of, from outside.

use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::json;
use setpoint_server::UserInfo;

use super::cluster::{Cluster, kubectl, kubectls};
use super::{client, object};

const REQUEST: &str = include_str!("../../../api/src/validate/tests/request.b64");

#[tokio::test]
async fn a_request_for_a_certificate_says_who_made_it_and_is_approved_by_those_who_may() {
    let cluster = Cluster::start().await;
    let admin = client(&cluster, UserInfo::system("test"));
    let role = |name: &str, rules: serde_json::Value| object(json!({"metadata": {"name": name}, "rules": rules}));
    let roles: Api<ClusterRole> = Api::all(admin.clone());
    let group = ["certificates.k8s.io"];
    let rules = json!([{"apiGroups": group, "resources": ["certificatesigningrequests", "certificatesigningrequests/approval"],
        "verbs": ["create", "get", "update", "patch"]}]);
    let made = roles.create(&PostParams::default(), &role("asks", rules)).await;
    made.expect("a role");
    let rules = json!([{"apiGroups": group, "resources": ["signers"], "resourceNames": ["example.com/*"], "verbs": ["approve"]}]);
    let made = roles.create(&PostParams::default(), &role("approves", rules)).await;
    made.expect("a role");
    let bindings: Api<ClusterRoleBinding> = Api::all(admin);
    for (name, role, user) in [
        ("ann", "asks", "ann"),
        ("bob", "asks", "bob"),
        ("bob-too", "approves", "bob"),
    ] {
        let binding = object(json!({
            "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
        }));
        bindings
            .create(&PostParams::default(), &binding)
            .await
            .expect("a binding");
    }
    let request = |name: &str, signer: &str| {
        object::<CertificateSigningRequest>(
            json!({"metadata": {"name": name}, "spec": {"request": REQUEST.trim(), "signerName": signer,
            "usages": ["client auth"], "username": "root", "groups": ["system:masters"]}}),
        )
    };
    let ann: Api<CertificateSigningRequest> = Api::all(client(&cluster, UserInfo::new("ann", &["crew"])));
    let made = ann.create(&PostParams::default(), &request("r", "example.com/s")).await;
    let spec = made.expect("a request").spec;
    assert_eq!(spec.username.as_deref(), Some("ann"));
    assert_eq!(spec.groups.unwrap_or_default(), ["crew", "system:authenticated"]);
    let refused = ann
        .create(
            &PostParams::default(),
            &request("m", "kubernetes.io/kube-apiserver-client"),
        )
        .await;
    let told = refused.expect_err("the masters' group").to_string();
    assert!(
        told.contains("signer with system:masters group is not allowed"),
        "{told}"
    );
    let approve = json!({"status": {"conditions": [{"type": "Approved", "status": "True"}]}});
    let bob: Api<CertificateSigningRequest> = Api::all(client(&cluster, UserInfo::new("bob", &[])));
    let patch = Patch::Merge(&approve);
    let refused = ann
        .patch_subresource("approval", "r", &PatchParams::default(), &patch)
        .await;
    let told = refused.expect_err("no right").to_string();
    assert!(
        told.contains("user not permitted to approve requests with signerName \"example.com/s\""),
        "{told}"
    );
    let approved = bob
        .patch_subresource("approval", "r", &PatchParams::default(), &patch)
        .await;
    let conditions = approved.expect("bob may").status.and_then(|status| status.conditions);
    assert_eq!(conditions.map(|list| list.len()), Some(1));
}

#[tokio::test]
async fn kubectl_makes_lists_and_explains_what_no_controller_attends_to_yet() {
    let cluster = Cluster::start().await;
    let admin = cluster.kubeconfig("root", &["system:masters"]);
    for (number, program) in kubectls().iter().enumerate() {
        let run = async |args: &[&str], stdin: &str| {
            let (good, out, err) = kubectl(program, &admin, args, stdin).await;
            assert!(good, "{program:?} {args:?}: {out}{err}");
            (out, err)
        };
        let namespace = format!("k{number}");
        run(&["create", "namespace", &namespace], "").await;
        let make = async |words: &str| {
            // A schedule has blanks of its own, written `__`.
            let words: Vec<String> = words.split(' ').map(|word| word.replace("__", " ")).collect();
            let mut args: Vec<&str> = words.iter().map(String::as_str).collect();
            args.extend(["-n", namespace.as_str()]);
            run(&args, "").await
        };
        let (_, warned) = make("create job j --image=i").await;
        assert!(
            warned.contains("Warning: jobs are stored, but no controller runs"),
            "{warned}"
        );
        make("create cronjob c --image=i --schedule=*/5__*__*__*__*").await;
        make("create ingress i --rule=a.example.com/x=web:80 --class=n").await;
        let class = format!("class{number}");
        make(&format!("create priorityclass {class} --value=7")).await;
        let (out, _) = make("get all,ingress").await;
        for line in ["job.batch/j", "cronjob.batch/c", "ingress.networking.k8s.io/i"] {
            assert!(out.contains(line), "{out}");
        }
        for path in [
            "job.spec.podFailurePolicy",
            "networkpolicy.spec.ingress",
            "statefulset.spec",
            "csr.spec.usages",
        ] {
            let (out, _) = run(&["explain", path], "").await;
            assert!(out.contains("DESCRIPTION"), "{out}");
        }
        let (out, _) = run(&["get", "apiservices"], "").await;
        assert!(out.contains("v1.apps") && out.contains("Local"), "{out}");
        let (out, _) = run(&["describe", "apiservice", "v1.batch"], "").await;
        assert!(out.contains("Local APIServices are always available"), "{out}");
        let request = format!(
            "apiVersion: certificates.k8s.io/v1\nkind: CertificateSigningRequest\nmetadata: {{name: {namespace}}}\nspec: {{request: {}, signerName: example.com/s, usages: [client auth]}}\n",
            REQUEST.trim()
        );
        run(&["apply", "-f", "-"], &request).await;
        run(&["certificate", "approve", &namespace], "").await;
        let (out, _) = run(&["get", "csr", &namespace], "").await;
        assert!(out.contains("Approved"), "{out}");
    }
    cluster.stop().await;
}
