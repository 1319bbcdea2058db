use super::*;

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millisecond(1_000_000 + millis).expect("a time")
}

fn probe(period: i32, failures: i32) -> Probe {
    Probe {
        period_seconds: Some(period),
        failure_threshold: Some(failures),
        ..Probe::default()
    }
}

/// Runs a schedule with the same result until a time; returns when it was run, in milliseconds, and the verdicts.
fn run_until(schedule: &mut Schedule, success: bool, end: i64) -> Vec<(i64, Verdict)> {
    let mut runs = Vec::new();
    while let Some(next) = schedule.next().filter(|next| *next <= at(end)) {
        assert!(schedule.begin(next));
        assert!(!schedule.begin(next), "it runs already");
        runs.push((next.as_millisecond() - 1_000_000, schedule.observe(success, next)));
    }
    runs
}

#[test]
fn readiness_is_tried_at_once_and_ever_less_often_until_it_succeeds() {
    let mut schedule = Schedule::new(Kind::Readiness, &probe(2, 3), at(0), at(0));
    let times: Vec<i64> = run_until(&mut schedule, false, 7_000)
        .into_iter()
        .map(|(time, _)| time)
        .collect();
    assert_eq!(times, [0, 100, 300, 700, 1500, 3100, 5100]);
    let next = schedule.next().expect("another");
    assert!(schedule.begin(next));
    assert_eq!(schedule.observe(true, next).changed, Some(true));
    assert_eq!(schedule.next(), next.checked_add(Duration::from_secs(2)).ok());
}

#[test]
fn quick_failures_count_once_a_period() {
    let mut schedule = Schedule::new(Kind::Startup, &probe(1, 3), at(0), at(0));
    let runs = run_until(&mut schedule, false, 60_000);
    let counted: Vec<i64> = runs
        .iter()
        .filter(|(_, verdict)| verdict.counted)
        .map(|(time, _)| *time)
        .collect();
    // Three failures a period apart at the least, as if it had been tried every second.
    assert_eq!(counted.len(), 3);
    assert!(
        counted[0] >= 1000,
        "nothing counts while the program warms up: {counted:?}"
    );
    assert!(counted.windows(2).all(|pair| pair[1] - pair[0] >= 1000), "{counted:?}");
    assert_eq!(runs.last().map(|(_, verdict)| verdict.changed), Some(Some(false)));
    assert_eq!(schedule.next(), None, "it is over");
}

#[test]
fn a_slow_starter_has_as_many_whole_periods_as_failures_are_allowed() {
    for kind in [Kind::Liveness, Kind::Startup, Kind::Readiness] {
        let mut schedule = Schedule::new(kind, &probe(10, 3), at(0), at(0));
        let runs = run_until(&mut schedule, false, 60_000);
        let counted: Vec<i64> = runs
            .iter()
            .filter(|(_, verdict)| verdict.counted)
            .map(|(time, _)| *time)
            .collect();
        assert!(counted[0] >= 10_000, "{kind:?}: {counted:?}");
        let failed = runs.iter().find(|(_, verdict)| verdict.changed == Some(false));
        let (time, _) = failed.expect("it fails at last");
        assert!((30_000..=50_000).contains(time), "{kind:?}: {time}");
    }
}

#[test]
fn a_startup_probe_ends_with_its_first_success() {
    let mut schedule = Schedule::new(Kind::Startup, &probe(10, 3), at(0), at(0));
    assert!(schedule.begin(at(0)));
    assert_eq!(schedule.observe(true, at(1)).changed, Some(true));
    assert_eq!(schedule.next(), None);
}

#[test]
fn liveness_keeps_its_period_and_fails_after_its_threshold() {
    let mut schedule = Schedule::new(Kind::Liveness, &probe(5, 2), at(0), at(0));
    let good = run_until(&mut schedule, true, 10_000);
    // The first comes when the program has warmed up.
    assert_eq!(good.iter().map(|(time, _)| *time).collect::<Vec<_>>(), [5_000, 10_000]);
    let bad = run_until(&mut schedule, false, 20_000);
    assert_eq!(
        bad.iter().map(|(_, verdict)| verdict.changed).collect::<Vec<_>>(),
        [None, Some(false)]
    );
}

#[test]
fn initial_delays_are_kept_and_thresholds_of_success_too() {
    let probe = Probe {
        initial_delay_seconds: Some(3),
        success_threshold: Some(2),
        ..probe(1, 1)
    };
    let mut schedule = Schedule::new(Kind::Readiness, &probe, at(0), at(1_000));
    assert_eq!(schedule.next(), Some(at(3_000)));
    let runs = run_until(&mut schedule, true, 4_000);
    assert_eq!(runs[0].1.changed, None);
    assert_eq!(runs[1].1.changed, Some(true));
}

#[test]
fn successes_that_count_together_are_a_period_apart() {
    let probe = Probe {
        success_threshold: Some(3),
        ..probe(10, 3)
    };
    let mut schedule = Schedule::new(Kind::Readiness, &probe, at(0), at(0));
    run_until(&mut schedule, false, 100);
    let runs = run_until(&mut schedule, true, 30_000);
    let changes: Vec<_> = runs.iter().map(|(time, verdict)| (*time, verdict.changed)).collect();
    assert_eq!(changes, [(300, None), (10_300, None), (20_300, Some(true))]);
}

#[test]
fn a_ready_container_becomes_unready_after_enough_failures_only() {
    let mut schedule = Schedule::new(Kind::Readiness, &probe(1, 3), at(0), at(0));
    assert!(schedule.begin(at(0)));
    schedule.observe(true, at(0));
    let runs = run_until(&mut schedule, false, 3_000);
    assert_eq!(
        runs.iter().map(|(_, verdict)| verdict.changed).collect::<Vec<_>>(),
        [None, None, Some(false)]
    );
}

#[test]
fn ports_are_numbers_or_names() {
    let container: Container =
        serde_json::from_value(serde_json::json!({"name": "a", "ports": [{"name": "http", "containerPort": 8080}]}))
            .expect("a container");
    assert_eq!(port(&container, &IntOrString::Int(80)), Ok(80));
    assert_eq!(port(&container, &IntOrString::String("http".to_owned())), Ok(8080));
    assert_eq!(port(&container, &IntOrString::String("81".to_owned())), Ok(81));
    assert!(port(&container, &IntOrString::String("nope".to_owned())).is_err());
    assert!(port(&container, &IntOrString::Int(70_000)).is_err());
}

#[test]
fn answers_are_told_in_the_kubelets_words_and_a_warning_passes() {
    let failed = Answer::Failed("HTTP probe failed with statuscode: 503".to_owned());
    let errored = Answer::Errored("port web not found".to_owned());
    let warned = Answer::Warned("Probe terminated redirects, Response body: ".to_owned());
    let told = |answer: &Answer| answer.event(Kind::Readiness);
    assert_eq!(told(&Answer::Passed), None);
    assert_eq!(
        told(&failed),
        Some((
            "Unhealthy",
            "Readiness probe failed: HTTP probe failed with statuscode: 503".to_owned()
        ))
    );
    assert_eq!(
        told(&errored),
        Some((
            "Unhealthy",
            "Readiness probe errored and resulted in unknown state: port web not found".to_owned()
        ))
    );
    assert_eq!(told(&warned).map(|(reason, _)| reason), Some("ProbeWarning"));
    assert_eq!([&failed, &errored, &warned].map(Answer::passes), [false, false, true]);
}
