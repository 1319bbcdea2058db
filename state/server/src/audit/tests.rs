use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use http::{Method, Uri};
use serde_json::Value;

use super::event::{About, Event};
use super::file::RotatedFile;
use super::log::AuditLog;
use super::policy::Stage;
use super::*;
use crate::request::UserInfo;

fn info(method: &Method, uri: &str) -> RequestInfo {
    RequestInfo::parse(method, &uri.parse::<Uri>().expect("a path"))
}

fn level(policy: &AuditPolicy, method: &Method, uri: &str, user: &UserInfo) -> AuditLevel {
    policy.decide(&info(method, uri), user).level
}

#[test]
fn the_standard_policy_leaves_out_what_repeats_itself_and_keeps_no_secret() {
    let policy = AuditPolicy::standard(AuditLevel::RequestResponse);
    let (ann, parts) = (UserInfo::new("ann", &[]), UserInfo::system("setpoint"));
    let cases = [
        (Method::GET, "/healthz", &ann, AuditLevel::None),
        (Method::GET, "/openapi/v3", &ann, AuditLevel::None),
        (Method::POST, "/api/v1/namespaces/a/events", &ann, AuditLevel::None),
        (
            Method::PATCH,
            "/apis/coordination.k8s.io/v1/namespaces/a/leases/x",
            &parts,
            AuditLevel::None,
        ),
        (Method::GET, "/api/v1/pods", &parts, AuditLevel::None),
        (
            Method::PATCH,
            "/api/v1/namespaces/a/pods/x/status",
            &parts,
            AuditLevel::None,
        ),
        (
            Method::DELETE,
            "/api/v1/namespaces/a/pods/x",
            &parts,
            AuditLevel::RequestResponse,
        ),
        (Method::GET, "/api/v1/pods", &ann, AuditLevel::RequestResponse),
        (
            Method::GET,
            "/api/v1/namespaces/a/secrets/x",
            &ann,
            AuditLevel::Metadata,
        ),
        (
            Method::PUT,
            "/api/v1/namespaces/a/configmaps/x",
            &ann,
            AuditLevel::Metadata,
        ),
        (
            Method::POST,
            "/api/v1/namespaces/a/serviceaccounts/x/token",
            &ann,
            AuditLevel::Metadata,
        ),
        (
            Method::GET,
            "/apis/setpoint.dev/v1alpha1/namespaces/a/apps/x/rendered",
            &ann,
            AuditLevel::Metadata,
        ),
    ];
    for (method, uri, user, wanted) in cases {
        assert_eq!(
            level(&policy, &method, uri, user),
            wanted,
            "{method} {uri} by {}",
            user.name
        );
    }
    assert_eq!(
        level(
            &AuditPolicy::standard(AuditLevel::None),
            &Method::GET,
            "/api/v1/pods",
            &ann
        ),
        AuditLevel::None
    );
}

#[test]
fn the_first_rule_that_fits_decides_and_secrets_are_never_kept() {
    let policy = AuditPolicy::parse(
        r#"
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: None
  users: [robot]
  verbs: [get, list]
- level: Request
  namespaces: [shop]
  resources:
  - group: ""
    resources: ["pods/*", "*/scale"]
  - group: apps
- level: Metadata
  nonResourceURLs: ["/metrics", "/debug*"]
  omitStages: [ResponseStarted]
- level: RequestResponse
  userGroups: [staff]
"#,
    )
    .expect("a policy");
    let (robot, ann) = (UserInfo::new("robot", &["staff"]), UserInfo::new("ann", &["staff"]));
    let cases = [
        (Method::GET, "/api/v1/namespaces/shop/pods", &robot, AuditLevel::None),
        (
            Method::POST,
            "/api/v1/namespaces/shop/pods",
            &robot,
            AuditLevel::Request,
        ),
        (
            Method::POST,
            "/api/v1/namespaces/shop/pods/x/exec",
            &ann,
            AuditLevel::Request,
        ),
        (
            Method::PUT,
            "/apis/apps/v1/namespaces/shop/deployments/x",
            &ann,
            AuditLevel::Request,
        ),
        (
            Method::PUT,
            "/apis/apps/v1/namespaces/other/deployments/x",
            &ann,
            AuditLevel::RequestResponse,
        ),
        (Method::GET, "/debug/pprof", &ann, AuditLevel::Metadata),
        (
            Method::PUT,
            "/api/v1/namespaces/shop/secrets/x",
            &ann,
            AuditLevel::Metadata,
        ),
    ];
    for (method, uri, user, wanted) in cases {
        assert_eq!(
            level(&policy, &method, uri, user),
            wanted,
            "{method} {uri} by {}",
            user.name
        );
    }
    let nobody = UserInfo::new("bob", &[]);
    assert_eq!(level(&policy, &Method::GET, "/api/v1/nodes", &nobody), AuditLevel::None);
    let decision = policy.decide(&info(&Method::GET, "/metrics"), &ann);
    assert_eq!(decision.omit_stages, [Stage::RequestReceived, Stage::ResponseStarted]);
}

#[test]
fn a_policy_that_cannot_be_meant_is_refused_with_its_reason() {
    let said = |text: &str| AuditPolicy::parse(text).expect_err("no policy").to_string();
    let head = "apiVersion: audit.k8s.io/v1\nkind: Policy\n";
    assert!(said("kind: Pod\napiVersion: v1\n").contains("not a \"Policy\""));
    assert!(said(head).contains("no rules"));
    assert!(said(&format!("{head}rules:\n- level: Some\n")).contains("no Policy"));
    assert!(said(&format!("{head}rules:\n- level: None\n  user: [a]\n")).contains("user"));
    let both = format!("{head}rules:\n- level: None\n- level: None\n  namespaces: [a]\n  nonResourceURLs: [/x]\n");
    assert!(said(&both).starts_with("rules[1]: it cannot apply to both"));
    assert!(
        said(&format!("{head}rules:\n- level: None\n  nonResourceURLs: ['/a*b']\n")).contains("'*' at its end only")
    );
}

#[test]
fn files_are_put_aside_when_they_are_large_and_the_oldest_goes() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("audit");
    let mut file = RotatedFile::open(&path, 10, 2).expect("a file");
    for line in ["first\n", "second\n", "third\n", "fourth\n"] {
        file.write(line.as_bytes()).expect("written");
    }
    let read = |name: &str| std::fs::read_to_string(path.join(name)).ok();
    assert_eq!(read("audit.log").as_deref(), Some("fourth\n"));
    assert_eq!(read("audit.log.1").as_deref(), Some("third\n"));
    assert_eq!(read("audit.log.2").as_deref(), Some("second\n"));
    assert_eq!(read("audit.log.3"), None);
    let mode = |path: &std::path::Path| std::fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    assert_eq!(mode(&path.join("audit.log")), 0o600);
    assert_eq!(mode(&path), 0o700);
    drop(file);
    let mut again = RotatedFile::open(&path, 100, 2).expect("a file");
    again.write(b"fifth\n").expect("written");
    assert_eq!(read("audit.log").as_deref(), Some("fourth\nfifth\n"));
}

#[tokio::test]
async fn what_cannot_be_written_is_counted_and_nothing_waits_for_it() {
    let registry = prometheus::Registry::new();
    let dir = tempfile::tempdir().expect("a directory");
    let log = AuditLog::open(
        &AuditConfig {
            policy: AuditPolicy::standard(AuditLevel::Metadata),
            directory: dir.path().join("audit"),
            largest_file: 1,
            older_files: 1,
        },
        &registry,
    );
    let Ok(log) = log else { panic!("it opens") };
    let about = Arc::new(About {
        id: "id".to_owned(),
        info: info(&Method::GET, "/api/v1/pods"),
        uri: String::new(),
        agent: String::new(),
        address: None,
        received: jiff::Timestamp::UNIX_EPOCH,
    });
    let send = || {
        log.send(Event {
            about: Arc::clone(&about),
            level: AuditLevel::Metadata,
            stage: Stage::ResponseComplete,
            at: jiff::Timestamp::UNIX_EPOCH,
            user: UserInfo::new("ann", &[]),
            impersonated: None,
            code: Some(200),
            status: None,
            request: None,
            response: None,
            omit_managed_fields: true,
            annotations: Default::default(),
            created: None,
        });
    };
    send();
    log.flush().await;
    // The next file cannot be made.
    std::fs::remove_dir_all(dir.path().join("audit")).expect("removed");
    (0..10).for_each(|_| send());
    log.flush().await;
    let lost = registry
        .gather()
        .into_iter()
        .find(|family| family.name() == "apiserver_audit_error_total")
        .expect("the metric")
        .get_metric()
        .iter()
        .map(|metric| metric.get_counter().get_value())
        .sum::<f64>();
    assert!((lost - 10.0).abs() < 0.5, "{lost}");
}

#[test]
fn an_event_reads_as_on_kubernetes() {
    let event = Event {
        about: Arc::new(About {
            id: "id".to_owned(),
            info: info(&Method::POST, "/apis/apps/v1/namespaces/shop/deployments"),
            uri: "/apis/apps/v1/namespaces/shop/deployments?dryRun=All".to_owned(),
            agent: "kubectl/v1.37".to_owned(),
            address: Some("192.0.2.1".to_owned()),
            received: jiff::Timestamp::UNIX_EPOCH,
        }),
        level: AuditLevel::Request,
        stage: Stage::ResponseComplete,
        at: jiff::Timestamp::UNIX_EPOCH,
        user: UserInfo::new("ann", &["staff"]),
        impersonated: Some(UserInfo::new("bob", &[])),
        code: Some(403),
        status: Some(setpoint_api::Status::forbidden("apps", "deployments", "web", "no")),
        request: Some(super::event::Sent {
            bytes: bytes::Bytes::from_static(b"{\"metadata\": {\"name\": \"web\", \"managedFields\": []}}"),
            media: "application/json".to_owned(),
        }),
        response: None,
        omit_managed_fields: true,
        annotations: [("a".to_owned(), "b".to_owned())].into(),
        created: None,
    };
    let line = event.encode();
    assert_eq!(line.last(), Some(&b'\n'));
    let found: Value = serde_json::from_slice(&line).expect("JSON");
    let wanted = serde_json::json!({
        "kind": "Event",
        "apiVersion": "audit.k8s.io/v1",
        "level": "Request",
        "auditID": "id",
        "stage": "ResponseComplete",
        "requestURI": "/apis/apps/v1/namespaces/shop/deployments?dryRun=All",
        "verb": "create",
        "user": {"username": "ann", "groups": ["staff", "system:authenticated"]},
        "impersonatedUser": {"username": "bob", "groups": ["system:authenticated"]},
        "sourceIPs": ["192.0.2.1"],
        "userAgent": "kubectl/v1.37",
        "objectRef": {
            "resource": "deployments", "namespace": "shop", "name": "web", "apiGroup": "apps", "apiVersion": "v1",
        },
        "responseStatus": {
            "metadata": {}, "status": "Failure", "reason": "Forbidden", "code": 403,
            "message": "deployments.apps \"web\" is forbidden: no",
            "details": {"name": "web", "group": "apps", "kind": "deployments"},
        },
        "requestObject": {"metadata": {"name": "web"}},
        "requestReceivedTimestamp": "1970-01-01T00:00:00.000000Z",
        "stageTimestamp": "1970-01-01T00:00:00.000000Z",
        "annotations": {"a": "b"},
    });
    assert_eq!(found, wanted);
}
