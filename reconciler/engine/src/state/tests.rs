//! The decisions, alone and in a simulated world: revisions that are good, bad or slow, faults and restarts in between.

mod simulation;

use setpoint_plan::{Health, HealthStatus, ObjectRef};

use crate::images::Images;

use super::{AppState, Cause, Next, Observed, Outcome, Policy, Revision, Surplus, Trouble, View};

const POLICY: Policy = Policy {
    prune: true,
    heal: true,
    rollback: true,
    deadline: 120_000,
};

fn revision(digest: &str) -> Revision {
    Revision {
        source: format!("commit-of-{digest}"),
        subject: String::new(),
        digest: digest.to_owned(),
        origins: String::new(),
        images: Images::default(),
    }
}

fn object(name: &str) -> ObjectRef {
    ObjectRef {
        group: "apps".to_owned(),
        version: "v1".to_owned(),
        kind: "Deployment".to_owned(),
        namespace: Some("shop".to_owned()),
        name: name.to_owned(),
    }
}

fn seen(name: &str, in_sync: bool, status: HealthStatus) -> Observed {
    Observed {
        object: object(name),
        stage: 0,
        in_sync,
        deleting: false,
        health: Health {
            status,
            reason: "1 of 3 replicas are ready".to_owned(),
        },
    }
}

fn view(objects: Vec<Observed>) -> View {
    View {
        objects,
        ..View::default()
    }
}

/// A state that holds a healthy revision.
fn healthy(digest: &str) -> AppState {
    let mut state = AppState::default();
    state.want(revision(digest));
    state.begin(revision(digest), Cause::Deploy, [object("web")], &POLICY, 0);
    state.succeed(&view(vec![seen("web", true, HealthStatus::Healthy)]), 1);
    state
}

#[test]
fn a_new_revision_is_begun_applied_and_waited_for() {
    let mut state = AppState::default();
    assert_eq!(
        state.next(&POLICY, &View::default(), false, 0),
        Next::Wait { until: None }
    );
    state.want(revision("a"));
    let begin = Next::Begin {
        revision: revision("a"),
        cause: Cause::Deploy,
    };
    assert_eq!(state.next(&POLICY, &View::default(), false, 0), begin);
    state.begin(revision("a"), Cause::Deploy, [object("web")], &POLICY, 0);
    let missing = view(vec![seen("web", false, HealthStatus::Missing)]);
    let apply = Next::Apply {
        places: vec![0],
        heal: false,
    };
    assert_eq!(state.next(&POLICY, &missing, false, 1), apply);
    let coming = view(vec![seen("web", true, HealthStatus::Progressing)]);
    assert_eq!(
        state.next(&POLICY, &coming, false, 2),
        Next::Wait { until: Some(120_000) }
    );
    let there = view(vec![seen("web", true, HealthStatus::Healthy)]);
    assert_eq!(state.next(&POLICY, &there, false, 3), Next::Succeed);
}

#[test]
fn a_stage_is_healthy_before_the_next_is_applied() {
    let mut state = AppState::default();
    state.want(revision("a"));
    state.begin(revision("a"), Cause::Deploy, [], &POLICY, 0);
    let mut second = seen("second", false, HealthStatus::Missing);
    second.stage = 1;
    let coming = view(vec![seen("first", true, HealthStatus::Progressing), second.clone()]);
    assert_eq!(
        state.next(&POLICY, &coming, false, 1),
        Next::Wait { until: Some(120_000) }
    );
    let there = view(vec![seen("first", true, HealthStatus::Healthy), second]);
    let apply = Next::Apply {
        places: vec![1],
        heal: false,
    };
    assert_eq!(state.next(&POLICY, &there, false, 1), apply);
}

#[test]
fn what_failed_goes_back_and_is_not_tried_again_until_git_changes_it() {
    let mut state = healthy("a");
    state.want(revision("b"));
    state.begin(revision("b"), Cause::Deploy, [object("web")], &POLICY, 10);
    let mut crashing = view(vec![seen("web", true, HealthStatus::Progressing)]);
    crashing.trouble = Some(Trouble {
        reason: "container web crashed three times".to_owned(),
        passing: false,
    });
    let Next::Fail { reason, passing: false } = state.next(&POLICY, &crashing, false, 20) else {
        panic!("three crashes end a sync");
    };
    let entry = state.fail(&reason, false, 20).unwrap();
    assert_eq!((entry.number, entry.outcome), (2, Outcome::Failed));
    let back = Next::Begin {
        revision: revision("a"),
        cause: Cause::Rollback,
    };
    assert_eq!(state.next(&POLICY, &View::default(), false, 21), back);
    state.begin(revision("a"), Cause::Rollback, [object("web")], &POLICY, 21);
    state.succeed(&view(vec![seen("web", true, HealthStatus::Healthy)]), 30);
    let rest = Next::Wait { until: None };
    let well = view(vec![seen("web", true, HealthStatus::Healthy)]);
    assert_eq!(state.next(&POLICY, &well, false, 1_000_000_000), rest);
    let report = state.report(&POLICY, &well, None, None, 31);
    assert_eq!(report.health, "Failed");
    assert!(
        report.reason.contains("crashed three times") && report.reason.contains("commit-of-a runs"),
        "{report:?}"
    );
    // The same bytes under a newer commit are still what failed.
    state.want(Revision {
        source: "newer".to_owned(),
        ..revision("b")
    });
    assert_eq!(state.next(&POLICY, &well, false, 40), rest);
    state.want(revision("c"));
    assert!(matches!(
        state.next(&POLICY, &well, false, 50),
        Next::Begin {
            cause: Cause::Deploy,
            ..
        }
    ));
}

#[test]
fn a_cause_that_may_pass_is_tried_again_later_and_later() {
    let mut state = healthy("a");
    state.want(revision("b"));
    let mut now = 0;
    let mut waits = Vec::new();
    for _ in 0..8 {
        state.begin(revision("b"), Cause::Deploy, [object("web")], &POLICY, now);
        let mut waiting = view(vec![seen("web", true, HealthStatus::Progressing)]);
        waiting.trouble = Some(Trouble {
            reason: "the registry is down".to_owned(),
            passing: true,
        });
        assert!(matches!(
            state.next(&POLICY, &waiting, false, now + 1),
            Next::Wait { .. }
        ));
        now += POLICY.deadline;
        let Next::Fail { reason, passing: true } = state.next(&POLICY, &waiting, false, now) else {
            panic!("the deadline ends a sync");
        };
        state.fail(&reason, true, now);
        state.begin(revision("a"), Cause::Rollback, [object("web")], &POLICY, now);
        state.succeed(&view(vec![seen("web", true, HealthStatus::Healthy)]), now);
        let Next::Wait { until: Some(at) } = state.next(&POLICY, &View::default(), false, now) else {
            panic!("a retry is due");
        };
        waits.push((at - now) / 1000);
        now = at;
        assert!(matches!(
            state.next(&POLICY, &View::default(), false, now),
            Next::Begin {
                cause: Cause::Deploy,
                ..
            }
        ));
    }
    assert_eq!(waits, [30, 60, 120, 240, 480, 600, 600, 600]);
}

#[test]
fn what_failed_with_nothing_to_go_back_to_is_kept_and_begun_again_once_it_is_well() {
    let mut state = AppState::default();
    state.want(revision("a"));
    state.begin(revision("a"), Cause::Deploy, [object("web")], &POLICY, 0);
    let coming = view(vec![seen("web", true, HealthStatus::Progressing)]);
    assert!(matches!(
        state.next(&POLICY, &coming, false, 120_000),
        Next::Fail { passing: false, .. }
    ));
    state.fail("not healthy after 120 s", false, 120_000);
    let rest = Next::Wait { until: None };
    assert_eq!(state.next(&POLICY, &coming, false, 120_001), rest);
    assert_eq!(state.report(&POLICY, &coming, None, None, 120_001).health, "Failed");
    // It is put back meanwhile, and what waits for it goes on waiting.
    let mut later = seen("later", false, HealthStatus::Missing);
    later.stage = 1;
    let drifted = view(vec![seen("web", false, HealthStatus::Progressing), later.clone()]);
    let heal = Next::Apply {
        places: vec![0],
        heal: true,
    };
    assert_eq!(state.next(&POLICY, &drifted, false, 120_002), heal);
    let first = view(vec![seen("web", true, HealthStatus::Healthy), later]);
    let second = Next::Apply {
        places: vec![1],
        heal: true,
    };
    assert_eq!(state.next(&POLICY, &first, false, 120_003), second);
    let mut there = view(vec![seen("web", true, HealthStatus::Healthy)]);
    there.proved_at = Some(200_000);
    assert_eq!(
        state.next(&POLICY, &there, false, 190_000),
        Next::Wait { until: Some(200_000) }
    );
    let begin = Next::Begin {
        revision: revision("a"),
        cause: Cause::Deploy,
    };
    assert_eq!(state.next(&POLICY, &there, false, 200_000), begin);
    state.begin(revision("a"), Cause::Deploy, [object("web")], &POLICY, 200_000);
    assert_eq!(state.next(&POLICY, &there, false, 200_001), Next::Succeed);
    state.succeed(&there, 200_001);
    assert_eq!(state.report(&POLICY, &there, None, None, 200_002).health, "Healthy");
}

#[test]
fn what_runs_is_tended_while_what_git_names_was_refused_and_nothing_was_ever_healthy() {
    let mut state = AppState::default();
    state.want(revision("a"));
    state.begin(revision("a"), Cause::Deploy, [object("web")], &POLICY, 0);
    state.fail("too slow", false, 1);
    state.want(revision("b"));
    state.refuse(&revision("b"), Cause::Deploy, "no", false, 2);
    let there = view(vec![seen("web", true, HealthStatus::Healthy)]);
    let back = Next::Begin {
        revision: revision("a"),
        cause: Cause::Rollback,
    };
    assert_eq!(state.next(&POLICY, &there, false, 3), back);
    state.begin(revision("a"), Cause::Rollback, [object("web")], &POLICY, 3);
    state.succeed(&there, 4);
    assert_eq!(state.next(&POLICY, &there, false, 5), Next::Wait { until: None });
    assert_eq!(state.report(&POLICY, &there, None, None, 5).health, "Failed");
}

#[test]
fn without_rollback_what_failed_stays_and_is_kept() {
    let policy = Policy {
        rollback: false,
        ..POLICY
    };
    let mut state = healthy("a");
    state.want(revision("b"));
    state.begin(revision("b"), Cause::Deploy, [object("web")], &policy, 0);
    state.fail("no", false, 1);
    let drifted = view(vec![seen("web", false, HealthStatus::Healthy)]);
    let heal = Next::Apply {
        places: vec![0],
        heal: true,
    };
    assert_eq!(state.next(&policy, &drifted, false, 2), heal);
    let left = Policy { heal: false, ..policy };
    assert_eq!(state.next(&left, &drifted, false, 2), Next::Wait { until: None });
    let there = view(vec![seen("web", true, HealthStatus::Healthy)]);
    let begin = Next::Begin {
        revision: revision("b"),
        cause: Cause::Deploy,
    };
    assert_eq!(state.next(&policy, &there, false, 3), begin);
}

#[test]
fn what_is_refused_before_it_began_leaves_what_was_held() {
    let mut state = healthy("a");
    state.want(revision("b"));
    let entry = state.refuse(&revision("b"), Cause::Deploy, "spec.replicas: no", false, 5);
    assert_eq!(entry.outcome, Outcome::Failed);
    let well = view(vec![seen("web", true, HealthStatus::Healthy)]);
    assert_eq!(state.next(&POLICY, &well, false, 6), Next::Wait { until: None });
    let drifted = view(vec![seen("web", false, HealthStatus::Healthy)]);
    let heal = Next::Apply {
        places: vec![0],
        heal: true,
    };
    assert_eq!(state.next(&POLICY, &drifted, false, 6), heal);
}

#[test]
fn a_pin_holds_until_git_names_other_bytes_or_it_is_resumed() {
    let mut state = healthy("a");
    state.want(revision("b"));
    state.begin(revision("b"), Cause::Deploy, [object("web")], &POLICY, 0);
    state.succeed(&view(vec![seen("web", true, HealthStatus::Healthy)]), 1);
    state.pin(revision("a"));
    assert!(matches!(
        state.next(&POLICY, &View::default(), false, 2),
        Next::Begin {
            cause: Cause::Request,
            ..
        }
    ));
    state.begin(revision("a"), Cause::Request, [object("web")], &POLICY, 2);
    state.succeed(&view(vec![seen("web", true, HealthStatus::Healthy)]), 3);
    state.want(Revision {
        source: "unrelated commit".to_owned(),
        ..revision("b")
    });
    assert_eq!(
        state.next(&POLICY, &View::default(), false, 4),
        Next::Wait { until: None }
    );
    let mut resumed = state.clone();
    resumed.resume();
    assert!(matches!(
        resumed.next(&POLICY, &View::default(), false, 5),
        Next::Begin {
            cause: Cause::Deploy,
            ..
        }
    ));
    state.want(revision("c"));
    assert!(
        matches!(state.next(&POLICY, &View::default(), false, 5), Next::Begin { revision, .. } if revision.digest == "c")
    );
}

#[test]
fn a_newer_revision_supersedes_a_sync_and_keeps_its_objects_in_the_inventory() {
    let mut state = AppState::default();
    state.want(revision("a"));
    state.begin(revision("a"), Cause::Deploy, [object("old")], &POLICY, 0);
    state.want(revision("b"));
    let next = state.next(&POLICY, &View::default(), false, 1);
    assert!(matches!(next, Next::Begin { ref revision, .. } if revision.digest == "b"));
    let superseded = state
        .begin(revision("b"), Cause::Deploy, [object("new")], &POLICY, 1)
        .unwrap();
    assert_eq!((superseded.number, superseded.outcome), (1, Outcome::Superseded));
    assert!(state.inventory.contains(&object("old")));
    let mut there = view(vec![seen("new", true, HealthStatus::Healthy)]);
    there.surplus = vec![Surplus {
        object: object("old"),
        deleting: false,
    }];
    assert_eq!(state.next(&POLICY, &there, false, 2), Next::Prune(vec![object("old")]));
    there.surplus[0].deleting = true;
    assert!(matches!(state.next(&POLICY, &there, false, 3), Next::Wait { .. }));
    there.surplus.clear();
    assert_eq!(state.next(&POLICY, &there, false, 4), Next::Succeed);
    state.succeed(&there, 4);
    assert_eq!(state.inventory.iter().collect::<Vec<_>>(), [&object("new")]);
}

#[test]
fn who_comes_after_others_waits_and_keeps_what_it_had() {
    let mut state = healthy("a");
    state.want(revision("b"));
    let drifted = view(vec![seen("web", false, HealthStatus::Healthy)]);
    let heal = Next::Apply {
        places: vec![0],
        heal: true,
    };
    assert_eq!(state.next(&POLICY, &drifted, true, 1), heal);
    assert_eq!(state.viewed(&POLICY, true, 1).unwrap().digest, "a");
    assert!(matches!(state.next(&POLICY, &drifted, false, 1), Next::Begin { .. }));
    assert_eq!(state.viewed(&POLICY, false, 1).unwrap().digest, "b");
}

#[test]
fn a_sync_under_way_goes_on_while_something_newer_is_blocked_or_was_refused() {
    let mut state = healthy("a");
    state.want(revision("b"));
    state.begin(revision("b"), Cause::Deploy, [object("web")], &POLICY, 0);
    state.want(revision("c"));
    let there = view(vec![seen("web", true, HealthStatus::Healthy)]);
    assert_eq!(state.next(&POLICY, &there, true, 1), Next::Succeed);
    let mut refused = state.clone();
    refused.refuse(&revision("c"), Cause::Deploy, "no", false, 1);
    assert_eq!(refused.next(&POLICY, &there, false, 1), Next::Succeed);
    // What fails while something newer is blocked goes back all the same.
    state.fail("no", false, 2);
    assert!(matches!(
        state.next(&POLICY, &there, true, 3),
        Next::Begin {
            cause: Cause::Rollback,
            ..
        }
    ));
}

#[test]
fn what_was_applied_and_never_healthy_is_synced_again_when_it_is_tried_again() {
    let mut state = AppState::default();
    state.want(revision("a"));
    state.begin(revision("a"), Cause::Deploy, [object("web")], &POLICY, 0);
    state.fail("the registry is down", true, 1);
    let there = view(vec![seen("web", true, HealthStatus::Healthy)]);
    let coming = view(vec![seen("web", true, HealthStatus::Progressing)]);
    let Next::Wait { until: Some(at) } = state.next(&POLICY, &coming, false, 2) else {
        panic!("a retry is due");
    };
    assert!(matches!(
        state.next(&POLICY, &there, false, at),
        Next::Begin {
            cause: Cause::Deploy,
            ..
        }
    ));
    state.begin(revision("a"), Cause::Deploy, [object("web")], &POLICY, at);
    assert_eq!(state.next(&POLICY, &there, false, at), Next::Succeed);
}

#[test]
fn what_a_revision_brings_is_applied_before_its_pods_are_judged() {
    let mut state = AppState::default();
    state.want(revision("a"));
    state.begin(revision("a"), Cause::Deploy, [object("web")], &POLICY, 0);
    let mut waiting = view(vec![
        seen("secret", false, HealthStatus::Missing),
        seen("web", true, HealthStatus::Progressing),
    ]);
    waiting.trouble = Some(Trouble {
        reason: "a Secret does not exist".to_owned(),
        passing: false,
    });
    assert!(matches!(state.next(&POLICY, &waiting, false, 1), Next::Apply { .. }));
    waiting.objects[0] = seen("secret", true, HealthStatus::Healthy);
    assert!(matches!(state.next(&POLICY, &waiting, false, 1), Next::Fail { .. }));
}

#[test]
fn a_process_without_a_probe_has_to_go_on_running() {
    let mut state = AppState::default();
    state.want(revision("a"));
    state.begin(revision("a"), Cause::Deploy, [object("web")], &POLICY, 0);
    let mut there = view(vec![seen("web", true, HealthStatus::Healthy)]);
    there.proved_at = Some(3_000);
    assert_eq!(state.next(&POLICY, &there, false, 1), Next::Wait { until: Some(3_000) });
    assert_eq!(state.next(&POLICY, &there, false, 3_000), Next::Succeed);
}

#[test]
fn a_restart_gives_a_sync_some_time_but_not_for_ever() {
    let mut state = AppState::default();
    state.want(revision("a"));
    state.begin(revision("a"), Cause::Deploy, [], &POLICY, 0);
    state.restarted(10_000_000);
    let coming = view(vec![seen("web", true, HealthStatus::Progressing)]);
    assert_eq!(
        state.next(&POLICY, &coming, false, 10_000_001),
        Next::Wait {
            until: Some(10_030_000)
        }
    );
    assert!(matches!(
        state.next(&POLICY, &coming, false, 10_030_000),
        Next::Fail { .. }
    ));
}

#[test]
fn a_clock_that_was_ahead_before_a_restart_keeps_nothing_waiting() {
    let mut state = healthy("a");
    state.want(revision("b"));
    state.refuse(&revision("b"), Cause::Deploy, "no", true, 10_000_000);
    state.want(revision("c"));
    state.begin(revision("c"), Cause::Deploy, [], &POLICY, 10_000_000);
    state.restarted(1_000);
    assert_eq!(state.sync.as_ref().unwrap().deadline, 1_000 + POLICY.deadline);
    assert!(state.failure_of("b").unwrap().retry.unwrap() <= 1_000 + 600_000);
}

#[test]
fn a_jump_of_the_clock_fails_no_sync_and_brings_no_retry_forward() {
    let mut state = healthy("a");
    state.want(revision("b"));
    state.refuse(&revision("b"), Cause::Deploy, "no", true, 1_000);
    state.begin(revision("b"), Cause::Deploy, [object("web")], &POLICY, 1_000);
    state.shift(3_600_000);
    let coming = view(vec![seen("web", true, HealthStatus::Progressing)]);
    assert_eq!(
        state.next(&POLICY, &coming, false, 3_601_001),
        Next::Wait {
            until: Some(3_600_000 + 1_000 + POLICY.deadline)
        }
    );
    assert_eq!(state.failure_of("b").unwrap().retry, Some(3_600_000 + 1_000 + 30_000));
}

#[test]
fn an_object_whose_kind_is_not_served_stays_in_the_inventory() {
    let mut state = AppState::default();
    state.want(revision("a"));
    state.begin(revision("a"), Cause::Deploy, [object("web"), object("odd")], &POLICY, 0);
    let mut there = view(vec![seen("web", true, HealthStatus::Healthy)]);
    there.unserved = vec![object("odd")];
    assert_eq!(state.next(&POLICY, &there, false, 1), Next::Succeed);
    state.succeed(&there, 1);
    assert_eq!(state.inventory, [object("odd"), object("web")].into());
}

#[test]
fn a_retry_is_brought_forward_and_what_is_not_tried_again_stays_so() {
    let mut state = healthy("a");
    state.want(revision("b"));
    state.refuse(&revision("b"), Cause::Deploy, "belongs to the app other", true, 5);
    state.hasten(6);
    assert!(matches!(
        state.next(&POLICY, &View::default(), false, 6),
        Next::Begin { .. }
    ));
    state.refuse(&revision("b"), Cause::Deploy, "no", false, 7);
    state.hasten(8);
    assert_eq!(
        state.next(&POLICY, &View::default(), false, 8),
        Next::Wait { until: None }
    );
}

#[test]
fn what_is_suspended_is_ready() {
    assert!(seen("web", true, HealthStatus::Suspended).is_ready());
    assert!(!seen("web", false, HealthStatus::Suspended).is_ready());
    assert!(!seen("web", true, HealthStatus::Progressing).is_ready());
}

#[test]
fn a_state_is_read_back_as_it_was_written() {
    let mut state = healthy("a");
    state.want(revision("b"));
    state.refuse(&revision("b"), Cause::Deploy, "no", true, 5);
    state.pin(revision("a"));
    state.broke("c", "values.yaml:3:1: no");
    let text = serde_json::to_vec(&state).unwrap();
    assert_eq!(serde_json::from_slice::<AppState>(&text).unwrap(), state);
}

#[test]
fn an_image_whose_name_has_moved_on_is_gone_back_to_by_its_digest_and_not_otherwise() {
    let shown = |digest: &str| [("web:v1".to_owned(), [digest.to_owned()].into())].into();
    let mut state = AppState::default();
    state.want(revision("a"));
    state.begin(revision("a"), Cause::Deploy, [object("web")], &POLICY, 0);
    let mut seen_a = view(vec![seen("web", true, HealthStatus::Healthy)]);
    seen_a.newest = shown("sha256:1");
    state.succeed(&seen_a, 1);
    state.want(revision("b"));
    state.begin(revision("b"), Cause::Deploy, [object("web")], &POLICY, 2);
    state.fail("it crashed", false, 3);

    let mut back = view(vec![seen("web", false, HealthStatus::Healthy)]);
    back.images = shown("sha256:1");
    assert!(matches!(
        state.next(&POLICY, &back, false, 4),
        Next::Begin {
            cause: Cause::Rollback,
            ..
        }
    ));
    back.images = shown("sha256:2");
    let Next::Fix { digest, images } = state.next(&POLICY, &back, false, 4) else {
        panic!("the name has moved");
    };
    state.fix(&digest, &images);
    let Next::Begin {
        revision: gone_back,
        cause: Cause::Rollback,
    } = state.next(&POLICY, &back, false, 4)
    else {
        panic!("it goes back");
    };
    assert!(gone_back.images.fixed.contains("web:v1"));
    // Git comes back to the same bytes: what runs is that, and stays as it is.
    state.begin(gone_back, Cause::Rollback, [object("web")], &POLICY, 5);
    state.succeed(&view(vec![seen("web", true, HealthStatus::Healthy)]), 6);
    state.want(revision("a"));
    assert!(
        state
            .viewed(&POLICY, false, 7)
            .is_some_and(|wanted| wanted.images.fixed.contains("web:v1"))
    );
    // Somebody asks for what it means now.
    state.retry();
    assert!(
        state
            .viewed(&POLICY, false, 8)
            .is_some_and(|wanted| wanted.images.fixed.is_empty())
    );
}
