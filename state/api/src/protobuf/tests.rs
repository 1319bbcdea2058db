//! Bodies as kubectl 1.37 sends them, and bodies made by hand.

use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use serde_json::json;

use super::*;

const SECRET: &str = "azhzAAoMCgJ2MRIGU2VjcmV0Eh0KEQoBcxIAGgAiACoAMgA4AEIAEgYKAWESAWIaABoAIgA=";
const TOKEN: &str =
    "azhzAAooChhhdXRoZW50aWNhdGlvbi5rOHMuaW8vdjESDFRva2VuUmVxdWVzdBIdChAKABIAGgAiACoAMgA4AEIAEgMgkBwaBAoAEgAaACIA";
const SERVICE: &str = "azhzAAoNCgJ2MRIHU2VydmljZRJnCh0KAm5wEgAaACIAKgAyADgAQgBaCQoDYXBwEgJucBJCCh0KBzgwLTgwODASA1RDUBhQIgcIABCQPxoAKLHqARIJCgNhcHASAm5wGgAiCE5vZGVQb3J0OgBCAFIAWgBgAGgAGgIKABoAIgA=";
const DEPLOYMENT: &str = "azhzAAoVCgdhcHBzL3YxEgpEZXBsb3ltZW50Er0BCh8KA3dlYhIAGgAiACoAMgA4AEIAWgoKA2FwcBIDd2ViEosBCAASDAoKCgNhcHASA3dlYhpxChwKABIAGgAiACoAMgA4AEIAWgoKA2FwcBIDd2ViElESMwoFbmdpbngSCm5naW54OjEuMjUqADIKCgAQABhQIgAqAEIAagByAIABAIgBAJABAKIBABoAMgBCAEoAUgBYAGAAaACCAQCKAQCaAQDCAQAiAgoAKAA4ABoMCAAQABgAIAAoADgAGgAiAA==";
const REVIEW: &str =
    "azhzAAotChhhdXRoZW50aWNhdGlvbi5rOHMuaW8vdjESEVNlbGZTdWJqZWN0UmV2aWV3EhoKEAoAEgAaACIAKgAyADgAQgASBgoECgASABoAIgA=";
const BINDING: &str = "azhzAAoyChxyYmFjLmF1dGhvcml6YXRpb24uazhzLmlvL3YxEhJDbHVzdGVyUm9sZUJpbmRpbmcSkAEKEwoDY3JiEgAaACIAKgAyADgAQgASKAoEVXNlchIZcmJhYy5hdXRob3JpemF0aW9uLms4cy5pbxoDYm9iIgASHgoOU2VydmljZUFjY291bnQSABoBeCIHZGVmYXVsdBovChlyYmFjLmF1dGhvcml6YXRpb24uazhzLmlvEgtDbHVzdGVyUm9sZRoFYWRtaW4aACIA";

fn decoded(text: &str) -> Value {
    decode(&STANDARD.decode(text).unwrap()).unwrap()
}

/// Encodes a length-delimited field.
fn bytes(number: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut length = content.len();
    while length >= 0x80 {
        out.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(content);
    out
}

fn envelope(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let type_meta = [bytes(1, api_version.as_bytes()), bytes(2, kind.as_bytes())].concat();
    [MAGIC, &bytes(1, &type_meta), &bytes(2, raw)].concat()
}

#[test]
fn a_deployment_of_no_replicas_keeps_the_zero() {
    let object = decoded(DEPLOYMENT);
    assert_eq!(
        object,
        json!({
            "kind": "Deployment", "apiVersion": "apps/v1",
            "metadata": {"name": "web", "labels": {"app": "web"}},
            "spec": {
                "replicas": 0,
                "selector": {"matchLabels": {"app": "web"}},
                "template": {
                    "metadata": {"labels": {"app": "web"}},
                    "spec": {"containers": [{"name": "nginx", "image": "nginx:1.25", "ports": [{"containerPort": 80}]}]},
                },
            },
        })
    );
}

#[test]
fn a_secrets_bytes_become_base64() {
    let object = decoded(SECRET);
    assert_eq!(
        (&object["data"], &object["kind"]),
        (&json!({"a": "Yg=="}), &json!("Secret"))
    );
}

#[test]
fn bindings_services_and_reviews_are_read() {
    let binding = decoded(BINDING);
    assert_eq!(
        binding["roleRef"],
        json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "admin"})
    );
    assert_eq!(
        binding["subjects"][1],
        json!({"kind": "ServiceAccount", "name": "x", "namespace": "default"})
    );
    let service = decoded(SERVICE);
    let port = json!({"name": "80-8080", "protocol": "TCP", "port": 80, "targetPort": 8080, "nodePort": 30001});
    assert_eq!(
        (&service["spec"]["ports"][0], &service["spec"]["type"]),
        (&port, &json!("NodePort"))
    );
    assert_eq!(decoded(TOKEN)["spec"]["expirationSeconds"], 3600);
    assert_eq!(decoded(REVIEW)["kind"], "SelfSubjectReview");
}

#[test]
fn types_with_a_json_form_of_their_own_are_converted() {
    // metadata{creationTimestamp: 2024-01-01, deletionTimestamp: zero}, spec{containers{name, resources{limits{cpu}}, livenessProbe{~httpGet{port "http"}}}, volumes{name, ~emptyDir{}}}
    let time = bytes(8, &[0x08, 0x80, 0x81, 0xc8, 0xac, 0x06]);
    let limits = bytes(1, &[bytes(1, b"cpu"), bytes(2, &bytes(1, b"500m"))].concat());
    let port = bytes(2, &[vec![0x08, 0x01], bytes(3, b"http")].concat());
    let probe = bytes(10, &bytes(1, &bytes(2, &port)));
    let container = bytes(2, &[bytes(1, b"c"), bytes(8, &limits), probe].concat());
    let volume = bytes(1, &[bytes(1, b"v"), bytes(2, &bytes(2, b""))].concat());
    let raw = [bytes(1, &time), bytes(2, &[volume, container].concat())].concat();
    let pod = decode(&envelope("v1", "Pod", &raw)).unwrap();
    assert_eq!(pod["metadata"], json!({"creationTimestamp": "2024-01-01T00:00:00Z"}));
    assert_eq!(pod["spec"]["volumes"], json!([{"name": "v", "emptyDir": {}}]));
    let container =
        json!({"name": "c", "resources": {"limits": {"cpu": "500m"}}, "livenessProbe": {"httpGet": {"port": "http"}}});
    assert_eq!(pod["spec"]["containers"][0], container);
}

#[test]
fn options_are_read_in_every_group() {
    let options = decode(&envelope("apps/v1", "DeleteOptions", &[0x08, 0x00])).unwrap();
    assert_eq!(
        options,
        json!({"kind": "DeleteOptions", "apiVersion": "apps/v1", "gracePeriodSeconds": 0})
    );
}

#[test]
fn what_cannot_be_read_is_an_error() {
    assert!(matches!(decode(b"{}"), Err(DecodeError::Magic)));
    assert!(matches!(
        decode(&envelope("v1", "Nothing", b"")),
        Err(DecodeError::UnknownKind { .. })
    ));
    assert!(matches!(
        decode(&envelope("v1", "Pod", &[0x0a, 0x05])),
        Err(DecodeError::Truncated)
    ));
    assert!(matches!(
        decode(&envelope("v1", "Pod", &[0x08, 0x05])),
        Err(DecodeError::WireType(_))
    ));
    // A schema within a schema, deeper than anybody writes it.
    let mut schema = Vec::new();
    for _ in 0..70 {
        schema = [vec![0xe2, 0x01], bytes(0, &schema)[1..].to_vec()].concat();
    }
    let version = bytes(4, &bytes(1, &schema));
    let raw = bytes(2, &bytes(7, &version));
    let result = decode(&envelope("apiextensions.k8s.io/v1", "CustomResourceDefinition", &raw));
    assert!(matches!(result, Err(DecodeError::TooDeep)), "{result:?}");
}

#[test]
fn every_message_that_a_field_names_is_in_the_table() {
    let table = Table::get();
    for (message, fields) in table.messages() {
        for field in fields {
            if let Type::Message(inner) = field.ty {
                assert!(table.contains(inner), "{message}: {inner}");
            }
            assert!(
                field.name.is_some() || matches!(field.ty, Type::Message(_)),
                "{message}"
            );
        }
    }
    let resources = crate::Scheme::builtin().resources();
    // What nobody writes is never sent here.
    for resource in resources.iter().filter(|resource| resource.allows("create")) {
        assert!(
            table.kind(&resource.api_version(), &resource.kind).is_some(),
            "{}",
            resource.kind
        );
        for sub in &resource.subresources {
            let options = sub.kind.ends_with("Options");
            let api_version = if sub.group.is_empty() {
                sub.version.clone()
            } else {
                format!("{}/{}", sub.group, sub.version)
            };
            assert!(options || table.kind(&api_version, &sub.kind).is_some(), "{}", sub.kind);
        }
    }
}

/// Both tables come from the same sources by different ways: the structural schemas say which fields a kind has.
#[test]
fn a_decoded_kind_has_only_fields_that_its_schema_knows() {
    for text in [DEPLOYMENT, SECRET, BINDING, SERVICE] {
        let object = decoded(text);
        let (group, version) = crate::meta::group_version(crate::meta::api_version(&object));
        let schema = crate::schema::builtin(group, version, crate::meta::kind(&object)).unwrap();
        assert_eq!(schema.unknown_fields(&object), Vec::<String>::new());
        assert!(schema.check_types(&object).is_ok());
    }
}

proptest! {
    #[test]
    fn no_body_makes_the_decoder_panic(raw in proptest::collection::vec(any::<u8>(), 0..200)) {
        drop(decode(&envelope("v1", "Pod", &raw)));
        drop(decode(&[MAGIC, &raw].concat()));
    }
}
