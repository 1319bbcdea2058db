//! What others bring into the API.

use serde_json::{Value, json};

use super::refused;

#[test]
fn webhooks_and_policies() {
    let good = json!({"metadata": {"name": "w"}, "webhooks": [{"name": "a.example.com", "sideEffects": "None", "admissionReviewVersions": ["v1"],
        "clientConfig": {"service": {"name": "s", "namespace": "d"}}, "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}]}]});
    let group = "admissionregistration.k8s.io";
    for plural in ["validatingwebhookconfigurations", "mutatingwebhookconfigurations"] {
        refused(
            group,
            plural,
            &good,
            &[
                (
                    "/webhooks/0/name",
                    json!("a.b"),
                    &[
                        "webhooks[0].name: Invalid value: \"a.b\": should be a domain with at least three segments separated by dots",
                    ],
                ),
                (
                    "/webhooks/0/sideEffects",
                    Value::Null,
                    &["webhooks[0].sideEffects: Required value: must specify one of None, NoneOnDryRun"],
                ),
                (
                    "/webhooks/0/sideEffects",
                    json!("Some"),
                    &[
                        "webhooks[0].sideEffects: Unsupported value: \"Some\": supported values: \"None\", \"NoneOnDryRun\"",
                    ],
                ),
                (
                    "/webhooks/0/failurePolicy",
                    json!("X"),
                    &["webhooks[0].failurePolicy: Unsupported value: \"X\": supported values: \"Fail\", \"Ignore\""],
                ),
                (
                    "/webhooks/0/timeoutSeconds",
                    json!(31),
                    &[
                        "webhooks[0].timeoutSeconds: Invalid value: 31: the timeout value must be between 1 and 30 seconds",
                    ],
                ),
                (
                    "/webhooks/0/clientConfig",
                    json!({}),
                    &["webhooks[0].clientConfig: Required value: exactly one of url or service is required"],
                ),
                (
                    "/webhooks/0/clientConfig",
                    json!({"url": "http://x"}),
                    &[
                        "webhooks[0].clientConfig.url: Invalid value: \"http\": 'https' is the only allowed URL scheme; desired format: https://host[/path]",
                    ],
                ),
                (
                    "/webhooks/0/clientConfig/service/path",
                    json!("a"),
                    &["webhooks[0].clientConfig.service.path: Invalid value: \"a\": must start with a '/'"],
                ),
                (
                    "/webhooks/0/admissionReviewVersions",
                    json!([]),
                    &["webhooks[0].admissionReviewVersions: Required value: must specify one of v1, v1beta1"],
                ),
                (
                    "/webhooks/0/admissionReviewVersions",
                    json!(["v2"]),
                    &[
                        "webhooks[0].admissionReviewVersions: Invalid value: [\"v2\"]: must include at least one of v1, v1beta1",
                    ],
                ),
                (
                    "/webhooks/0/rules/0/operations",
                    json!(["CREATE", "*"]),
                    &[
                        "webhooks[0].rules[0].operations: Invalid value: [\"CREATE\",\"*\"]: if '*' is present, must not specify other operations",
                    ],
                ),
                (
                    "/webhooks/0/rules/0/resources",
                    json!(["*", "pods"]),
                    &[
                        "webhooks[0].rules[0].resources: Invalid value: [\"*\",\"pods\"]: if '*' is present, must not specify other resources without subresources",
                    ],
                ),
                (
                    "/webhooks/0/rules/0/resources",
                    json!(["pods/*", "pods/log"]),
                    &[
                        "webhooks[0].rules[0].resources[1]: Invalid value: \"pods/log\": if 'pods/*' is present, must not specify pods/log",
                    ],
                ),
                (
                    "/webhooks/0/matchConditions",
                    json!([{"name": "a", "expression": " "}]),
                    &["webhooks[0].matchConditions[0].expression: Required value"],
                ),
            ],
        );
    }
    let policy = json!({"metadata": {"name": "p"}, "spec": {"matchConstraints": {"resourceRules": [{"operations": ["CREATE"], "apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments"]}]},
        "validations": [{"expression": "true"}], "variables": [{"name": "a", "expression": "1"}]}});
    refused(
        group,
        "validatingadmissionpolicies",
        &policy,
        &[
            (
                "/spec/matchConstraints",
                Value::Null,
                &["spec.matchConstraints: Required value"],
            ),
            (
                "/spec/matchConstraints/resourceRules",
                json!([]),
                &["spec.matchConstraints.resourceRules: Required value"],
            ),
            (
                "/spec/validations",
                json!([]),
                &[
                    "spec.validations: Required value: validations or auditAnnotations must contain at least one item",
                    "spec.auditAnnotations: Required value: validations or auditAnnotations must contain at least one item",
                ],
            ),
            (
                "/spec/validations/0/expression",
                json!(""),
                &["spec.validations[0].expression: Required value: expression is not specified"],
            ),
            (
                "/spec/validations/0/message",
                json!("a\nb"),
                &["spec.validations[0].message: Invalid value: \"a\\nb\": message must not contain line breaks"],
            ),
            (
                "/spec/paramKind",
                json!({"apiVersion": "v1"}),
                &["spec.paramKind.kind: Required value"],
            ),
            (
                "/spec/variables/0/name",
                json!("in"),
                &["spec.variables[0].name: Invalid value: \"in\": name is not a valid CEL identifier"],
            ),
        ],
    );
    let binding = json!({"metadata": {"name": "b"}, "spec": {"policyName": "p", "validationActions": ["Deny"]}});
    refused(
        group,
        "validatingadmissionpolicybindings",
        &binding,
        &[
            ("/spec/policyName", json!(""), &["spec.policyName: Required value"]),
            (
                "/spec/validationActions",
                json!([]),
                &["spec.validationActions: Required value: at least one validation action is required"],
            ),
            (
                "/spec/validationActions",
                json!(["Deny", "Warn"]),
                &[
                    "spec.validationActions: Invalid value: [\"Deny\",\"Warn\"]: must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)",
                ],
            ),
            (
                "/spec/paramRef",
                json!({"parameterNotFoundAction": "Deny"}),
                &["spec.paramRef: Required value: one of name or selector must be specified"],
            ),
        ],
    );
    let mut mutating = policy;
    mutating["spec"]["validations"] = Value::Null;
    mutating["spec"]["mutations"] = json!([{"patchType": "JSONPatch", "jsonPatch": {"expression": "[]"}}]);
    refused(
        group,
        "mutatingadmissionpolicies",
        &mutating,
        &[
            (
                "/spec/mutations/0/patchType",
                json!(""),
                &["spec.mutations[0].patchType: Required value"],
            ),
            (
                "/spec/reinvocationPolicy",
                json!("Often"),
                &["spec.reinvocationPolicy: Unsupported value: \"Often\": supported values: \"IfNeeded\", \"Never\""],
            ),
        ],
    );
}

#[test]
fn api_services() {
    let good = json!({"metadata": {"name": "v1beta1.metrics.k8s.io"}, "spec": {"group": "metrics.k8s.io", "version": "v1beta1",
        "groupPriorityMinimum": 100, "versionPriority": 100, "service": {"name": "s", "namespace": "d"}}});
    refused(
        "apiregistration.k8s.io",
        "apiservices",
        &good,
        &[
            (
                "/metadata/name",
                json!("x"),
                &[
                    "metadata.name: Invalid value: \"x\": must be `spec.version+\".\"+spec.group`: \"v1beta1.metrics.k8s.io\"",
                ],
            ),
            (
                "/spec/groupPriorityMinimum",
                json!(0),
                &["spec.groupPriorityMinimum: Invalid value: 0: must be positive and less than 20000"],
            ),
            (
                "/spec/versionPriority",
                json!(1001),
                &["spec.versionPriority: Invalid value: 1001: must be positive and less than 1000"],
            ),
            ("/spec/service/name", json!(""), &["spec.service.name: Required value"]),
            (
                "/spec/service/port",
                json!(70000),
                &["spec.service.port: Invalid value: 70000: port is not valid: must be between 1 and 65535, inclusive"],
            ),
            (
                "/spec",
                json!({"group": "metrics.k8s.io", "version": "v1beta1", "groupPriorityMinimum": 100, "versionPriority": 100, "insecureSkipTLSVerify": true}),
                &[
                    "spec.insecureSkipTLSVerify: Invalid value: true: local APIServices may not have insecureSkipTLSVerify",
                ],
            ),
        ],
    );
}
