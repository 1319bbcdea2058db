//! Jobs and CronJobs.

use serde_json::{Value, json};

use super::{refused, status_refused, update_refused};
use crate::validate::tests::resource;

fn job() -> Value {
    let labels = json!({"controller-uid": "u", "job-name": "j", "batch.kubernetes.io/controller-uid": "u", "batch.kubernetes.io/job-name": "j"});
    json!({"metadata": {"name": "j", "namespace": "d", "uid": "u"}, "spec": {
        "selector": {"matchLabels": {"batch.kubernetes.io/controller-uid": "u"}},
        "template": {"metadata": {"labels": labels}, "spec": {"restartPolicy": "Never", "containers": [{"name": "a", "image": "i"}]}}}})
}

#[test]
fn jobs() {
    refused(
        "batch",
        "jobs",
        &job(),
        &[
            (
                "/spec/template/spec/restartPolicy",
                json!("Always"),
                &["spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\""],
            ),
            (
                "/spec/template/spec/restartPolicy",
                Value::Null,
                &["spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\""],
            ),
            (
                "/spec/selector",
                Value::Null,
                &[
                    "spec.selector: Required value",
                    "spec.template.metadata.labels: Invalid value: {\"batch.kubernetes.io/controller-uid\":\"u\",\"batch.kubernetes.io/job-name\":\"j\",\"controller-uid\":\"u\",\"job-name\":\"j\"}: `selector` does not match template `labels`",
                ],
            ),
            (
                "/spec/selector/matchLabels",
                json!({"a": "b"}),
                &[
                    "spec.selector: Invalid value: {\"matchLabels\":{\"a\":\"b\"}}: `selector` not auto-generated",
                    "spec.template.metadata.labels: Invalid value: {\"batch.kubernetes.io/controller-uid\":\"u\",\"batch.kubernetes.io/job-name\":\"j\",\"controller-uid\":\"u\",\"job-name\":\"j\"}: `selector` does not match template `labels`",
                ],
            ),
            (
                "/spec/template/metadata/labels/job-name",
                json!("k"),
                &[
                    "spec.template.metadata.labels[job-name]: Invalid value: {\"batch.kubernetes.io/controller-uid\":\"u\",\"batch.kubernetes.io/job-name\":\"j\",\"controller-uid\":\"u\",\"job-name\":\"k\"}: must be 'j'",
                ],
            ),
            (
                "/spec/completions",
                json!(-1),
                &["spec.completions: Invalid value: -1: must be greater than or equal to 0"],
            ),
            (
                "/spec/ttlSecondsAfterFinished",
                json!(-1),
                &["spec.ttlSecondsAfterFinished: Invalid value: -1: must be greater than or equal to 0"],
            ),
            (
                "/spec/completionMode",
                json!("Some"),
                &["spec.completionMode: Unsupported value: \"Some\": supported values: \"Indexed\", \"NonIndexed\""],
            ),
            (
                "/spec/backoffLimitPerIndex",
                json!(1),
                &["spec.backoffLimitPerIndex: Invalid value: 1: requires indexed completion mode"],
            ),
            (
                "/spec/maxFailedIndexes",
                json!(1),
                &[
                    "spec.backoffLimitPerIndex: Required value: when maxFailedIndexes is specified",
                    "spec.maxFailedIndexes: Invalid value: 1: requires indexed completion mode",
                ],
            ),
            (
                "/spec/managedBy",
                json!("x"),
                &["spec.managedBy: Invalid value: \"x\": must be a domain-prefixed path (such as \"acme.io/foo\")"],
            ),
            (
                "/spec/successPolicy",
                json!({"rules": []}),
                &["spec.successPolicy: Invalid value: {\"rules\":[]}: requires indexed completion mode"],
            ),
            (
                "/spec/podReplacementPolicy",
                json!("Never"),
                &[
                    "spec.podReplacementPolicy: Unsupported value: \"Never\": supported values: \"Failed\", \"TerminatingOrFailed\"",
                ],
            ),
            (
                "/spec/podFailurePolicy",
                json!({"rules": [{"action": "Stop"}, {"action": "FailIndex", "onPodConditions": [{"type": "a b"}]}]}),
                &[
                    "spec.podFailurePolicy.rules[0].action: Unsupported value: \"Stop\": supported values: \"Count\", \"FailIndex\", \"FailJob\", \"Ignore\"",
                    "spec.podFailurePolicy.rules[0]: Invalid value: specifying one of OnExitCodes and OnPodConditions is required",
                    "spec.podFailurePolicy.rules[1].action: Invalid value: \"FailIndex\": requires the backoffLimitPerIndex to be set",
                    "spec.podFailurePolicy.rules[1].onPodConditions[0].type: Invalid value: \"a b\": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
                ],
            ),
            (
                "/spec/podFailurePolicy",
                json!({"rules": [{"action": "FailJob", "onExitCodes": {"containerName": "z", "operator": "In", "values": [3, 0, 3]}}]}),
                &[
                    "spec.podFailurePolicy.rules[0].onExitCodes.containerName: Invalid value: \"z\": must be one of the container or initContainer names in the pod template",
                    "spec.podFailurePolicy.rules[0].onExitCodes.values[1]: Invalid value: 0: must not be 0 for the In operator",
                    "spec.podFailurePolicy.rules[0].onExitCodes.values[2]: Duplicate value: 3",
                    "spec.podFailurePolicy.rules[0].onExitCodes.values: Invalid value: [3,0,3]: must be ordered",
                ],
            ),
        ],
    );
    let mut indexed = job();
    indexed["spec"]["completionMode"] = "Indexed".into();
    indexed["spec"]["completions"] = 5.into();
    indexed["spec"]["parallelism"] = 2.into();
    refused(
        "batch",
        "jobs",
        &indexed,
        &[
            (
                "/spec/completions",
                Value::Null,
                &["spec.completions: Required value: when completion mode is Indexed"],
            ),
            (
                "/spec/parallelism",
                json!(100_001),
                &[
                    "spec.parallelism: Invalid value: 100001: must be less than or equal to 100000 when completion mode is Indexed",
                ],
            ),
            (
                "/spec/successPolicy",
                json!({"rules": [{}, {"succeededIndexes": "0,7"}, {"succeededIndexes": "1-2", "succeededCount": 3}]}),
                &[
                    "spec.successPolicy.rules[0]: Required value: at least one of succeededCount or succeededIndexes must be specified",
                    "spec.successPolicy.rules[1].succeededIndexes: Invalid value: \"0,7\": error parsing succeededIndexes: too large index: \"7\"",
                    "spec.successPolicy.rules[2].succeededCount: Invalid value: 3: must be less than or equal to 2 (the number of indexes in the specified succeededIndexes field)",
                ],
            ),
        ],
    );
    update_refused(
        "batch",
        "jobs",
        &indexed,
        &[
            ("/spec/suspend", json!(true), &[]),
            (
                "/spec/completions",
                json!(6),
                &["spec.completions: Invalid value: 6: can only be modified in tandem with spec.parallelism"],
            ),
            (
                "/spec/completionMode",
                json!("NonIndexed"),
                &["spec.completionMode: Invalid value: \"NonIndexed\": field is immutable"],
            ),
            (
                "/spec/backoffLimitPerIndex",
                json!(1),
                &["spec.backoffLimitPerIndex: Invalid value: 1: field is immutable"],
            ),
        ],
    );
    update_refused(
        "batch",
        "jobs",
        &job(),
        &[
            (
                "/spec/completions",
                json!(6),
                &["spec.completions: Invalid value: 6: field is immutable"],
            ),
            ("/spec/parallelism", json!(6), &[]),
        ],
    );
    // What a suspended Job's pods may be scheduled by may change; their image may not.
    let mut suspended = job();
    suspended["spec"]["suspend"] = true.into();
    update_refused(
        "batch",
        "jobs",
        &suspended,
        &[
            ("/spec/template/spec/nodeSelector", json!({"a": "b"}), &[]),
            ("/spec/template/spec/affinity", json!({"nodeAffinity": {}}), &[]),
        ],
    );
    let row = resource("batch", "jobs");
    let mut old = suspended;
    row.default(&mut old);
    let mut new = old.clone();
    new["spec"]["template"]["spec"]["containers"][0]["image"] = "j".into();
    let found = row.validate_update(&new, &old);
    assert!(found.len() == 1 && found[0].to_string().starts_with("spec.template: Invalid value: {"));
    assert!(found[0].to_string().ends_with("field is immutable"));
}

#[test]
fn the_status_of_jobs() {
    let old = json!({"metadata": {"name": "j", "namespace": "d"}, "spec": {"completions": 3}, "status": {"failed": 2, "startTime": "2024-01-01T00:00:00Z"}});
    let yes = |ty: &str| json!({"type": ty, "status": "True"});
    let done = json!([yes("SuccessCriteriaMet"), yes("Complete")]);
    status_refused(
        "batch",
        "jobs",
        &old,
        &[
            (
                "/status/active",
                json!(-1),
                &[
                    "status.active: Invalid value: -1: must be greater than or equal to 0",
                    "status.ready: Invalid value: 0: cannot set more ready pods than active",
                ],
            ),
            (
                "/status/failed",
                json!(1),
                &["status.failed: Invalid value: 1: cannot decrease the failed counter"],
            ),
            (
                "/status/ready",
                json!(1),
                &["status.ready: Invalid value: 1: cannot set more ready pods than active"],
            ),
            (
                "/status/conditions",
                json!([yes("Failed")]),
                &[
                    "status.conditions: Invalid value: cannot set Failed=True condition without the FailureTarget=true condition",
                ],
            ),
            ("/status/conditions", json!([yes("FailureTarget"), yes("Failed")]), &[]),
            (
                "/status/conditions",
                done,
                &["status.completionTime: Required value: completionTime is required for Complete jobs"],
            ),
            (
                "/status/completionTime",
                json!("2024-01-01T00:00:00Z"),
                &[
                    "status.completionTime: Invalid value: \"2024-01-01T00:00:00Z\": cannot set completionTime when there is no Complete=True condition",
                ],
            ),
            (
                "/status/startTime",
                Value::Null,
                &["status.startTime: Required value: startTime cannot be removed for unsuspended job"],
            ),
            (
                "/status/completedIndexes",
                json!("1"),
                &[
                    "status.completedIndexes: Invalid value: \"1\": cannot set non-empty completedIndexes when non-indexed completion mode",
                ],
            ),
            (
                "/status/failedIndexes",
                json!("1"),
                &[
                    "status.failedIndexes: Invalid value: \"1\": cannot set non-null failedIndexes when backoffLimitPerIndex is null",
                ],
            ),
            (
                "/status/uncountedTerminatedPods",
                json!({"succeeded": ["a", ""], "failed": ["a"]}),
                &[
                    "status.uncountedTerminatedPods.succeeded[1]: Invalid value: \"\": must not be empty",
                    "status.uncountedTerminatedPods.failed[0]: Duplicate value: \"a\"",
                ],
            ),
        ],
    );
    let mut finished = old;
    finished["status"]["conditions"] = json!([yes("FailureTarget"), yes("Failed")]);
    status_refused(
        "batch",
        "jobs",
        &finished,
        &[
            (
                "/status/active",
                json!(1),
                &["status.active: Invalid value: 1: active>0 is invalid for finished job"],
            ),
            (
                "/status/conditions",
                json!([]),
                &[
                    "status.conditions: Invalid value: cannot disable the terminal Failed=True condition",
                    "status.conditions: Invalid value: cannot disable the terminal FailureTarget=True condition",
                ],
            ),
        ],
    );
}

#[test]
fn cron_jobs() {
    let template = json!({"spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "a", "image": "i"}]}}}});
    let good = json!({"metadata": {"name": "c", "namespace": "d"}, "spec": {"schedule": "* * * * ?", "timeZone": "Europe/Berlin", "jobTemplate": template}});
    let long = "a".repeat(53);
    refused(
        "batch",
        "cronjobs",
        &good,
        &[
            ("/spec/schedule", json!(""), &["spec.schedule: Required value"]),
            (
                "/spec/schedule",
                json!("error"),
                &["spec.schedule: Invalid value: \"error\": expected exactly 5 fields, found 1: [error]"],
            ),
            (
                "/spec/schedule",
                json!("TZ=UTC 0 * * * *"),
                &[
                    "spec.schedule: Invalid value: \"TZ=UTC 0 * * * *\": cannot use TZ or CRON_TZ in schedule, use timeZone field instead",
                ],
            ),
            (
                "/spec/timeZone",
                json!(""),
                &["spec.timeZone: Invalid value: \"\": timeZone must be nil or non-empty string"],
            ),
            (
                "/spec/timeZone",
                json!("Mars/Olympus"),
                &["spec.timeZone: Invalid value: \"Mars/Olympus\": unknown time zone Mars/Olympus"],
            ),
            (
                "/spec/timeZone",
                json!("../etc"),
                &["spec.timeZone: Invalid value: \"../etc\": unknown time zone ../etc"],
            ),
            (
                "/spec/timeZone",
                json!("Local"),
                &[
                    "spec.timeZone: Invalid value: \"Local\": timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones",
                ],
            ),
            (
                "/spec/concurrencyPolicy",
                json!("Maybe"),
                &[
                    "spec.concurrencyPolicy: Unsupported value: \"Maybe\": supported values: \"Allow\", \"Forbid\", \"Replace\"",
                ],
            ),
            (
                "/spec/startingDeadlineSeconds",
                json!(-1),
                &["spec.startingDeadlineSeconds: Invalid value: -1: must be greater than or equal to 0"],
            ),
            (
                "/spec/failedJobsHistoryLimit",
                json!(-1),
                &["spec.failedJobsHistoryLimit: Invalid value: -1: must be greater than or equal to 0"],
            ),
            (
                "/spec/jobTemplate/spec/selector",
                json!({}),
                &["spec.jobTemplate.spec.selector: Invalid value: {}: `selector` will be auto-generated"],
            ),
            (
                "/spec/jobTemplate/spec/manualSelector",
                json!(true),
                &[
                    "spec.jobTemplate.spec.manualSelector: Unsupported value: true: supported values: \"false\", \"nil\"",
                ],
            ),
            (
                "/spec/jobTemplate/spec/template/spec/restartPolicy",
                json!("Always"),
                &[
                    "spec.jobTemplate.spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\"",
                ],
            ),
            (
                "/metadata/name",
                json!(long),
                &[
                    "metadata.name: Invalid value: \"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\": must be no more than 52 characters",
                ],
            ),
        ],
    );
}
