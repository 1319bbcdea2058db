use super::*;

#[test]
fn a_quota_is_checked_in_kubernetes_words() {
    let good =
        json!({"metadata": {"name": "q", "namespace": "d"}, "spec": {"hard": {"pods": "10", "requests.cpu": "2"}}});
    table(
        "",
        "resourcequotas",
        good,
        &[
            (
                "/spec/hard",
                json!({"apples": "1"}),
                &["spec.hard[apples]: Invalid value: \"apples\": must be a standard resource for quota"],
            ),
            (
                "/spec/hard",
                json!({"pods": "500m"}),
                &["spec.hard[pods]: Invalid value: \"500m\": must be an integer"],
            ),
            (
                "/spec/hard",
                json!({"count/apps.example.com": "-1"}),
                &["spec.hard[count/apps.example.com]: Invalid value: \"-1\": must be greater than or equal to 0"],
            ),
            (
                "/spec/scopes",
                json!(["BestEffort"]),
                &["spec.scopes: Invalid value: [\"BestEffort\"]: unsupported scope applied to resource"],
            ),
            (
                "/spec/scopes",
                json!(["Terminating", "NotTerminating"]),
                &["spec.scopes: Invalid value: [\"Terminating\",\"NotTerminating\"]: conflicting scopes"],
            ),
            (
                "/spec/scopeSelector",
                json!({"matchExpressions": [{"scopeName": "PriorityClass", "operator": "In"}]}),
                &[
                    "spec.scopeSelector.matchExpressions.values: Required value: must be at least one value when `operator` is 'In' or 'NotIn' for scope selector",
                ],
            ),
        ],
    );
}

#[test]
fn the_scopes_of_a_quota_stay() {
    let good = json!({"metadata": {"name": "q", "namespace": "d"}, "spec": {"hard": {"pods": "10"}, "scopes": ["BestEffort"]}});
    update_table(
        "",
        "resourcequotas",
        good,
        &[
            ("/spec/hard/pods", json!("20"), &[]),
            (
                "/spec/scopes",
                json!(["NotBestEffort"]),
                &["spec.scopes: Invalid value: [\"NotBestEffort\"]: field is immutable"],
            ),
        ],
    );
}

#[test]
fn the_bounds_of_a_limit_range_fit_each_other() {
    let range = |item: Value| json!({"metadata": {"name": "l", "namespace": "d"}, "spec": {"limits": [item]}});
    let cases: &[(Value, &[&str])] = &[
        (
            json!({"type": "Container", "max": {"cpu": "2"}, "min": {"cpu": "1"}, "maxLimitRequestRatio": {"cpu": "2"}}),
            &[],
        ),
        (
            json!({"type": "Container", "max": {"cpu": "1"}, "min": {"cpu": "2"}, "defaultRequest": {"cpu": "1500m"}}),
            &[
                "spec.limits[0].min[cpu]: Invalid value: \"2\": min value 2 is greater than max value 1",
                "spec.limits[0].defaultRequest[cpu]: Invalid value: \"1500m\": min value 2 is greater than default request value 1500m",
                "spec.limits[0].defaultRequest[cpu]: Invalid value: \"1500m\": default request value 1500m is greater than max value 1",
                "spec.limits[0].defaultRequest[cpu]: Invalid value: \"1500m\": default request value 1500m is greater than default limit value 1",
                "spec.limits[0].default[cpu]: Invalid value: \"2\": min value 2 is greater than default value 1",
            ],
        ),
        (
            json!({"type": "Pod", "default": {"cpu": "1"}}),
            &["spec.limits[0].default: Forbidden: may not be specified when `type` is 'Pod'"],
        ),
        (
            json!({"type": "Thing"}),
            &["spec.limits[0].type: Invalid value: \"Thing\": must be a standard limit type or fully qualified"],
        ),
        (
            json!({"type": "PersistentVolumeClaim"}),
            &[
                "spec.limits[0].limits: Required value: either minimum or maximum storage value is required, but neither was provided",
            ],
        ),
        (
            json!({"type": "Pod", "maxLimitRequestRatio": {"cpu": "500m"}}),
            &["spec.limits[0].maxLimitRequestRatio[cpu]: Invalid value: \"500m\": ratio 500m is less than 1"],
        ),
    ];
    for (item, expected) in cases {
        assert_eq!(errors("", "limitranges", range(item.clone())), *expected, "{item}");
    }
}

#[test]
fn a_replication_controller_is_checked_in_kubernetes_words() {
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "a", "image": "i"}]}});
    let good = json!({"metadata": {"name": "r", "namespace": "d"}, "spec": {"template": template}});
    table(
        "",
        "replicationcontrollers",
        good,
        &[
            (
                "/spec/selector",
                json!({"a": "c"}),
                &[
                    "spec.template.metadata.labels: Invalid value: {\"a\":\"b\"}: `selector` does not match template `labels`",
                ],
            ),
            (
                "/spec/template",
                Value::Null,
                &["spec.selector: Required value", "spec.template: Required value"],
            ),
            (
                "/spec/template/spec/restartPolicy",
                json!("Never"),
                &["spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\""],
            ),
            (
                "/spec/template/spec/activeDeadlineSeconds",
                json!(5),
                &[
                    "spec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in ReplicationController is not Supported",
                ],
            ),
        ],
    );
}
