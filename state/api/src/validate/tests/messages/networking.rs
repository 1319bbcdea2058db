//! Ingresses, policies and ranges.

use serde_json::{Value, json};

use super::{refused, status_refused, update_refused};
use crate::validate::tests::errors;

#[test]
fn ingresses_and_classes() {
    let backend = json!({"service": {"name": "web", "port": {"number": 80}}});
    let good = json!({"metadata": {"name": "i", "namespace": "d"}, "spec": {"rules": [{"host": "a.example.com", "http": {"paths": [
        {"path": "/", "pathType": "Prefix", "backend": backend}]}}], "tls": [{"hosts": ["*.example.com"], "secretName": "s"}]}});
    const SUBDOMAIN: &str = "spec.ingressClassName: Invalid value: \"A\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
    refused(
        "networking.k8s.io",
        "ingresses",
        &good,
        &[
            (
                "/spec",
                json!({}),
                &["spec: Invalid value: null: either `defaultBackend` or `rules` must be specified"],
            ),
            (
                "/spec/rules/0/host",
                json!("1.2.3.4"),
                &["spec.rules[0].host: Invalid value: \"1.2.3.4\": must be a DNS name, not an IP address"],
            ),
            (
                "/spec/rules/0/http/paths",
                json!([]),
                &["spec.rules[0].http.paths: Required value"],
            ),
            (
                "/spec/rules/0/http/paths/0/pathType",
                Value::Null,
                &["spec.rules[0].http.paths[0].pathType: Required value: pathType must be specified"],
            ),
            (
                "/spec/rules/0/http/paths/0/pathType",
                json!("Any"),
                &[
                    "spec.rules[0].http.paths[0].pathType: Unsupported value: \"Any\": supported values: \"Exact\", \"ImplementationSpecific\", \"Prefix\"",
                ],
            ),
            (
                "/spec/rules/0/http/paths/0/path",
                json!("a//b/.."),
                &[
                    "spec.rules[0].http.paths[0].path: Invalid value: \"a//b/..\": must be an absolute path",
                    "spec.rules[0].http.paths[0].path: Invalid value: \"a//b/..\": must not contain '//'",
                    "spec.rules[0].http.paths[0].path: Invalid value: \"a//b/..\": cannot end with '/..'",
                ],
            ),
            (
                "/spec/rules/0/http/paths/0/backend",
                json!({}),
                &["spec.rules[0].http.paths[0].backend: Invalid value: \"\": resource or service backend is required"],
            ),
            (
                "/spec/rules/0/http/paths/0/backend/service",
                json!({"port": {}}),
                &[
                    "spec.rules[0].http.paths[0].backend.service.name: Required value",
                    "spec.rules[0].http.paths[0].backend: Required value: port name or number is required",
                ],
            ),
            (
                "/spec/rules/0/http/paths/0/backend/service/port",
                json!({"name": "a", "number": 1}),
                &["spec.rules[0].http.paths[0].backend: Invalid value: \"\": cannot set both port name & port number"],
            ),
            (
                "/spec/rules/0/http/paths/0/backend/resource",
                json!({"kind": "A", "name": "b"}),
                &[
                    "spec.rules[0].http.paths[0].backend: Invalid value: \"\": cannot set both resource and service backends",
                ],
            ),
            (
                "/spec/defaultBackend",
                json!({"resource": {"kind": "", "name": "a/b"}}),
                &[
                    "spec.defaultBackend.resource.kind: Required value",
                    "spec.defaultBackend.resource.name: Invalid value: \"a/b\": may not contain '/'",
                ],
            ),
            ("/spec/ingressClassName", json!("A"), &[SUBDOMAIN]),
        ],
    );
    let annotated = json!({"metadata": {"name": "i", "namespace": "d", "annotations": {"kubernetes.io/ingress.class": "a"}}, "spec": {"ingressClassName": "b", "defaultBackend": backend}});
    assert_eq!(
        errors("networking.k8s.io", "ingresses", annotated),
        [
            "annotations.kubernetes.io/ingress.class: Invalid value: \"a\": must match `ingressClassName` when both are specified"
        ]
    );
    status_refused(
        "networking.k8s.io",
        "ingresses",
        &good,
        &[(
            "/status/loadBalancer/ingress",
            json!([{"ip": "x"}, {"hostname": "1.2.3.4"}]),
            &[
                "status.loadBalancer.ingress[0].ip: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
                "status.loadBalancer.ingress[1].hostname: Invalid value: \"1.2.3.4\": must be a DNS name, not an IP address",
            ],
        )],
    );
    let class = json!({"metadata": {"name": "c"}, "spec": {"controller": "example.com/c"}});
    refused(
        "networking.k8s.io",
        "ingressclasses",
        &class,
        &[
            ("/spec/controller", json!(""), &["spec.controller: Required value"]),
            (
                "/spec/controller",
                json!("x"),
                &["spec.controller: Invalid value: \"x\": must be a domain-prefixed path (such as \"acme.io/foo\")"],
            ),
            (
                "/spec/parameters",
                json!({"kind": "A", "name": "b", "scope": "Namespace"}),
                &["spec.parameters.namespace: Required value: `parameters.scope` is set to 'Namespace'"],
            ),
            (
                "/spec/parameters",
                json!({"kind": "A", "name": "b", "namespace": "c"}),
                &["spec.parameters.namespace: Forbidden: `parameters.scope` is set to 'Cluster'"],
            ),
        ],
    );
    update_refused(
        "networking.k8s.io",
        "ingressclasses",
        &class,
        &[(
            "/spec/controller",
            json!("example.com/d"),
            &["spec.controller: Invalid value: \"example.com/d\": field is immutable"],
        )],
    );
}

#[test]
fn network_policies_and_ranges() {
    let good = json!({"metadata": {"name": "n", "namespace": "d"}, "spec": {"podSelector": {}, "ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}], "ports": [{"port": 80, "endPort": 90}]}]}});
    refused(
        "networking.k8s.io",
        "networkpolicies",
        &good,
        &[
            (
                "/spec/policyTypes",
                json!(["Ingress", "Out"]),
                &["spec.policyTypes[1]: Unsupported value: \"Out\": supported values: \"Egress\", \"Ingress\""],
            ),
            (
                "/spec/policyTypes",
                json!(["Ingress", "Egress", "Ingress"]),
                &[
                    "spec.policyTypes: Invalid value: [\"Ingress\",\"Egress\",\"Ingress\"]: may not specify more than two policyTypes",
                ],
            ),
            (
                "/spec/ingress/0/ports/0/endPort",
                json!(70),
                &["spec.ingress[0].ports[0].endPort: Invalid value: 70: must be greater than or equal to `port`"],
            ),
            (
                "/spec/ingress/0/ports/0/port",
                json!("http"),
                &[
                    "spec.ingress[0].ports[0].endPort: Invalid value: 90: may not be specified when `port` is non-numeric",
                ],
            ),
            (
                "/spec/ingress/0/ports/0/port",
                Value::Null,
                &[
                    "spec.ingress[0].ports[0].endPort: Invalid value: 90: may not be specified when `port` is not specified",
                ],
            ),
            (
                "/spec/ingress/0/ports/0/protocol",
                json!("ICMP"),
                &[
                    "spec.ingress[0].ports[0].protocol: Unsupported value: \"ICMP\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
                ],
            ),
            (
                "/spec/ingress/0/from/0",
                json!({}),
                &["spec.ingress[0].from[0]: Required value: must specify a peer"],
            ),
            (
                "/spec/ingress/0/from/0/podSelector",
                json!({}),
                &["spec.ingress[0].from[0]: Forbidden: may not specify both ipBlock and another peer"],
            ),
            (
                "/spec/ingress/0/from/0/ipBlock/cidr",
                json!(""),
                &["spec.ingress[0].from[0].ipBlock.cidr: Required value"],
            ),
            (
                "/spec/ingress/0/from/0/ipBlock/cidr",
                json!("x"),
                &[
                    "spec.ingress[0].from[0].ipBlock.cidr: Invalid value: \"x\": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
                ],
            ),
            (
                "/spec/ingress/0/from/0/ipBlock/except",
                json!(["11.0.0.0/16"]),
                &[
                    "spec.ingress[0].from[0].ipBlock.except[0]: Invalid value: \"11.0.0.0/16\": must be a strict subset of `cidr`",
                ],
            ),
        ],
    );
    let range = json!({"metadata": {"name": "r"}, "spec": {"cidrs": ["10.0.0.0/24"]}});
    refused(
        "networking.k8s.io",
        "servicecidrs",
        &range,
        &[
            (
                "/spec/cidrs",
                json!([]),
                &["spec.cidrs: Required value: at least one CIDR required"],
            ),
            (
                "/spec/cidrs",
                json!(["10.0.0.0/24", "10.0.1.0/24"]),
                &[
                    "spec.cidrs: Invalid value: [\"10.0.0.0/24\",\"10.0.1.0/24\"]: may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64",
                ],
            ),
            (
                "/spec/cidrs",
                json!(["10.0.0.1/24"]),
                &["spec.cidrs[0]: Invalid value: \"10.0.0.1/24\": must not have bits set beyond the prefix length"],
            ),
        ],
    );
    update_refused(
        "networking.k8s.io",
        "servicecidrs",
        &range,
        &[
            ("/spec/cidrs", json!(["10.0.0.0/24", "fd00::/64"]), &[]),
            (
                "/spec/cidrs",
                json!(["10.0.1.0/24"]),
                &["spec.cidrs[0]: Invalid value: \"10.0.1.0/24\": field is immutable"],
            ),
            (
                "/spec/cidrs",
                json!([]),
                &["spec.cidrs: Invalid value: []: field is immutable"],
            ),
        ],
    );
    let address = json!({"metadata": {"name": "10.0.0.1"}, "spec": {"parentRef": {"resource": "services", "name": "s", "namespace": "d"}}});
    refused(
        "networking.k8s.io",
        "ipaddresses",
        &address,
        &[
            (
                "/metadata/name",
                json!("a"),
                &["metadata.name: Invalid value: \"a\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"],
            ),
            (
                "/metadata/name",
                json!("FE80::1"),
                &["metadata.name: Invalid value: \"FE80::1\": must be in canonical form (\"fe80::1\")"],
            ),
            ("/spec/parentRef", Value::Null, &["spec.parentRef: Required value"]),
            (
                "/spec/parentRef/resource",
                json!(""),
                &["spec.parentRef.resource: Required value"],
            ),
        ],
    );
    update_refused(
        "networking.k8s.io",
        "ipaddresses",
        &address,
        &[(
            "/spec/parentRef/name",
            json!("t"),
            &[
                "spec.parentRef: Invalid value: {\"name\":\"t\",\"namespace\":\"d\",\"resource\":\"services\"}: field is immutable",
            ],
        )],
    );
}
