use super::*;

fn event() -> Value {
    json!({"metadata": {"name": "e", "namespace": "d"}, "regarding": {"kind": "Pod", "name": "p", "namespace": "d"},
        "eventTime": "2024-01-01T00:00:00.000000Z", "reportingController": "k8s.io/agent", "reportingInstance": "one",
        "action": "Start", "reason": "Started", "note": "it runs", "type": "Normal"})
}

#[test]
fn an_event_of_the_new_group_is_checked_strictly() {
    table(
        "events.k8s.io",
        "events",
        event(),
        &[
            ("/eventTime", Value::Null, &["eventTime: Required value"]),
            (
                "/type",
                json!("Bad"),
                &["type: Invalid value: \"\": has invalid value: Bad"],
            ),
            (
                "/deprecatedCount",
                json!(1),
                &["count: Invalid value: \"\": needs to be unset"],
            ),
            (
                "/deprecatedSource",
                json!({"component": "a"}),
                &["source: Invalid value: \"\": needs to be unset"],
            ),
            (
                "/deprecatedFirstTimestamp",
                json!("2024-01-01T00:00:00Z"),
                &["firstTimestamp: Invalid value: \"\": needs to be unset"],
            ),
            ("/reportingInstance", json!(""), &["reportingInstance: Required value"]),
            (
                "/action",
                json!("a".repeat(129)),
                &["action: Invalid value: \"\": can have at most 128 characters"],
            ),
            (
                "/note",
                json!("a".repeat(1025)),
                &["message: Invalid value: \"\": can have at most 1024 characters"],
            ),
            (
                "/regarding",
                json!({"kind": "Node", "name": "n"}),
                &["involvedObject.namespace: Invalid value: \"\": does not match event.namespace"],
            ),
            (
                "/series",
                json!({"count": 1, "lastObservedTime": "2024-01-01T00:00:00.000000Z"}),
                &["series.count: Invalid value: \"\": should be at least 2"],
            ),
        ],
    );
}

#[test]
fn of_an_event_only_the_series_changes() {
    update_table(
        "events.k8s.io",
        "events",
        event(),
        &[
            (
                "/series",
                json!({"count": 2, "lastObservedTime": "2024-01-01T00:00:00.000000Z"}),
                &[],
            ),
            ("/deprecatedCount", json!(0), &[]),
            (
                "/note",
                json!("else"),
                &["message: Invalid value: \"else\": field is immutable"],
            ),
            (
                "/reason",
                json!("Else"),
                &["reason: Invalid value: \"Else\": field is immutable"],
            ),
        ],
    );
}

#[test]
fn an_event_of_an_old_recorder_needs_little() {
    let old = json!({"metadata": {"name": "e", "namespace": "d"}, "involvedObject": {"namespace": "d"}, "count": 3,
        "firstTimestamp": "2024-01-01T00:00:00Z", "eventTime": null});
    table(
        "",
        "events",
        old,
        &[(
            "/involvedObject/namespace",
            json!("other"),
            &["involvedObject.namespace: Invalid value: \"other\": does not match event.namespace"],
        )],
    );
}
