//! Compare-and-swap, the lives of a key, refreshes, values of every kind.

use bytes::Bytes;
use futures::future::join_all;
use setpoint_store::{Change, Expect, Rule, StoreError, WatchEvent};

use crate::client::{bytes, conflict, delete, drain, event, next, put, value};
use crate::engine::{Engine, Settings};

pub async fn compare_and_swap_holds(engine: &dyn Engine) {
    let running = engine.start(Settings::default()).await;
    let log = &*running.log();
    let first = log.put("cas/a", bytes("1"), Expect::Absent).await.expect("creates");
    match log.put("cas/a", bytes("2"), Expect::Absent).await {
        Err(StoreError::Conflict {
            key,
            current: Some(current),
        }) => {
            assert_eq!(
                (key.as_str(), current.modified, current.created),
                ("cas/a", first, first)
            );
        }
        other => panic!("expected a conflict, got {other:?}"),
    }
    let second = log
        .put("cas/a", bytes("2"), Expect::Revision(first))
        .await
        .expect("swaps");
    assert!(second > first);
    assert!(conflict(&log.put("cas/a", bytes("3"), Expect::Revision(first)).await));
    assert!(conflict(&log.delete("cas/a", Expect::Revision(first)).await));
    assert!(conflict(&log.delete("cas/a", Expect::Absent).await));
    assert!(matches!(
        log.delete("cas/none", Expect::Any).await,
        Err(StoreError::Conflict { current: None, .. })
    ));
    assert!(matches!(
        log.put("cas/none", bytes("x"), Expect::Revision(first)).await,
        Err(StoreError::Conflict { current: None, .. })
    ));
    assert_eq!(log.revision(), second, "what is refused draws no revision");
    let found = log.get("cas/a", None).await.expect("reads").expect("exists");
    assert_eq!(
        (found.created, found.modified, &found.value[..]),
        (first, second, &b"2"[..])
    );
}

pub async fn of_many_swaps_of_one_revision_one_wins(engine: &dyn Engine) {
    let running = engine.start(Settings::default()).await;
    let log = running.log();
    let mut base = put(&*log, "race/a", "0").await;
    for round in 0..10 {
        let swaps = (0..20).map(|i| {
            let log = log.clone();
            tokio::spawn(async move {
                let text = bytes(format!("{round}/{i}"));
                match i % 3 {
                    0 => log.delete("race/a", Expect::Revision(base)).await,
                    1 => log.refresh("race/a", text, Expect::Revision(base)).await,
                    _ => log.put("race/a", text, Expect::Revision(base)).await,
                }
            })
        });
        let mut won = Vec::new();
        for outcome in join_all(swaps).await {
            match outcome.expect("no panic") {
                Ok(revision) => won.push(revision),
                Err(StoreError::Conflict { .. }) => {}
                Err(other) => panic!("{other:?}"),
            }
        }
        assert_eq!(won.len(), 1, "round {round}");
        base = put(&*log, "race/a", "again").await;
        assert!(base > won[0]);
    }
}

pub async fn a_deleted_key_that_comes_back_begins_a_new_life(engine: &dyn Engine) {
    let running = engine.start(Settings::default()).await;
    let log = &*running.log();
    let mut stream = log.watch("life/", 0).await.expect("a watch");
    let mut lives = Vec::new();
    for life in 0..5 {
        let created = log
            .put("life/a", bytes(format!("{life}.0")), Expect::Absent)
            .await
            .expect("creates");
        let modified = put(log, "life/a", format!("{life}.1")).await;
        let deleted = log.delete("life/a", Expect::Revision(modified)).await.expect("deletes");
        lives.push((life, created, modified, deleted));
    }
    let last = put(log, "life/a", "last").await;
    let found = log.get("life/a", None).await.expect("reads").expect("exists");
    assert_eq!((found.created, found.modified), (last, last));
    for (life, created, modified, deleted) in lives {
        for (at, text, since) in [(created, "0", created), (modified, "1", modified)] {
            let found = log.get("life/a", Some(at)).await.expect("reads").expect("exists");
            assert_eq!(found.value, bytes(format!("{life}.{text}")));
            assert_eq!((found.created, found.modified), (created, since));
        }
        assert_eq!(log.get("life/a", Some(deleted)).await.expect("reads"), None);
        // A watcher sees that nothing was there before a life.
        match next(&mut stream).await.expect("no error") {
            Change::Put {
                current,
                previous: None,
            } => assert_eq!(current.modified, created),
            other => panic!("expected the creation at {created}, got {other:?}"),
        }
        match next(&mut stream).await.expect("no error") {
            Change::Put {
                current,
                previous: Some(previous),
            } => assert_eq!((current.modified, previous.modified), (modified, created)),
            other => panic!("expected the put at {modified}, got {other:?}"),
        }
        match next(&mut stream).await.expect("no error") {
            Change::Delete { previous, revision } => {
                assert_eq!(
                    (revision, previous.modified, previous.created),
                    (deleted, modified, created)
                );
            }
            other => panic!("expected the deletion at {deleted}, got {other:?}"),
        }
    }
}

pub async fn values_of_every_kind_come_back_as_they_were(engine: &dyn Engine) {
    let mut running = engine.start(Settings::default()).await;
    let mut log = running.log();
    let large: Vec<u8> = (0..1_u32 << 20)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    let values = [
        ("empty", Bytes::new()),
        ("zeros", Bytes::from(vec![0; 3000])),
        ("every byte", Bytes::from((0..=255).collect::<Vec<u8>>())),
        ("one mebibyte that does not pack", Bytes::from(large)),
        ("one mebibyte that packs", Bytes::from(vec![b'a'; 1 << 20])),
    ];
    let from = log.revision();
    let mut revisions = Vec::new();
    for (name, value) in &values {
        let key = format!("value/{name}");
        let first = log.put(&key, value.clone(), Expect::Absent).await.expect("puts");
        let second = put(&*log, &key, "between").await;
        let third = log.put(&key, value.clone(), Expect::Any).await.expect("puts");
        revisions.push((key, value.clone(), first, second, third));
    }
    for round in 0..2 {
        for (key, value, first, second, third) in &revisions {
            for (at, wanted) in [
                (*first, value.clone()),
                (*second, bytes("between")),
                (*third, value.clone()),
            ] {
                let found = log.get(key, Some(at)).await.expect("reads").expect("exists");
                assert!(found.value == wanted, "{key} at {at}: {} bytes", found.value.len());
            }
            let found = log.get(key, None).await.expect("reads").expect("exists");
            assert!(found.value == *value, "{key} now: {} bytes", found.value.len());
        }
        let mut stream = log.watch("value/", from).await.expect("a watch");
        let last = revisions.last().expect("some").4;
        let seen = drain(&mut stream, last).await;
        assert_eq!(seen.len(), revisions.len() * 3, "round {round}");
        for change in seen {
            let Change::Put { current, .. } = change else {
                panic!("nothing was deleted")
            };
            let (_, value, _, second, _) = revisions.iter().find(|row| row.0 == current.key).expect("one of ours");
            let wanted = if current.modified == *second {
                bytes("between")
            } else {
                value.clone()
            };
            assert!(current.value == wanted, "{} at {}", current.key, current.modified);
        }
        if !engine.traits().survives_reopen {
            break;
        }
        running.reopen().await;
        log = running.log();
    }
}

fn leases() -> Rule {
    Rule {
        history: false,
        ..Rule::new("leases/")
    }
}

pub async fn a_refresh_is_seen_at_once_by_readers_and_watchers(engine: &dyn Engine) {
    let (settings, _clock) = Settings::with_rules([leases()]);
    let running = engine.start(settings).await;
    let log = &*running.log();
    let from = log.revision();
    let mut stream = log.watch("leases/", from).await.expect("a watch");
    assert!(matches!(event(&mut stream).await, Ok(WatchEvent::Progress(_))));
    // A refresh of what is not there is a put.
    let mut last = log
        .refresh("leases/a", bytes("0"), Expect::Absent)
        .await
        .expect("creates");
    let created = last;
    for beat in 1..50_u64 {
        let revision = log
            .refresh("leases/a", bytes(beat.to_string()), Expect::Revision(last))
            .await
            .expect("refreshes");
        assert!(revision > last);
        assert!(conflict(
            &log.refresh("leases/a", bytes("late"), Expect::Revision(last)).await
        ));
        assert!(conflict(&log.refresh("leases/a", bytes("late"), Expect::Absent).await));
        assert!(conflict(
            &log.put("leases/a", bytes("late"), Expect::Revision(last)).await
        ));
        let found = log.get("leases/a", None).await.expect("reads").expect("exists");
        assert_eq!((found.created, found.modified), (created, revision));
        assert_eq!(found.value, bytes(beat.to_string()));
        assert_eq!(value(log, "leases/a", Some(revision)).await, Some(beat.to_string()));
        // Other writes share the order.
        let other = put(log, "core/pods/a", beat.to_string()).await;
        assert!(other > revision);
        assert_eq!(log.revision(), other);
        last = revision;
    }
    let seen = drain(&mut stream, last).await;
    assert_eq!(seen.len(), 50);
    for (beat, change) in seen.into_iter().enumerate() {
        let Change::Put { current, .. } = change else {
            panic!("nothing was deleted")
        };
        assert_eq!(current.value, bytes(beat.to_string()));
    }
    let deleted = log.delete("leases/a", Expect::Revision(last)).await.expect("deletes");
    assert!(deleted > last);
    assert_eq!(value(log, "leases/a", None).await, None);
    assert!(conflict(
        &log.refresh("leases/a", bytes("late"), Expect::Revision(last)).await
    ));
}

pub async fn refreshes_and_puts_at_once_share_one_order(engine: &dyn Engine) {
    let (settings, _clock) = Settings::with_rules([leases()]);
    let running = engine.start(settings).await;
    let log = running.log();
    let mut stream = log.watch("", log.revision()).await.expect("a watch");
    let writers = (0..8).map(|writer| {
        let log = log.clone();
        tokio::spawn(async move {
            let mut mine = Vec::new();
            for i in 0..60 {
                let text = bytes(i.to_string());
                let revision = if writer % 2 == 0 {
                    log.refresh(&format!("leases/{}", writer % 3), text, Expect::Any).await
                } else {
                    log.put(&format!("core/pods/{writer}"), text, Expect::Any).await
                };
                mine.push(revision.expect("writes"));
            }
            assert!(mine.is_sorted(), "one writer's revisions grow");
            mine
        })
    });
    let mut all: Vec<u64> = Vec::new();
    for mine in join_all(writers).await {
        all.extend(mine.expect("a writer"));
    }
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 480, "no revision twice");
    let seen: Vec<u64> = drain(&mut stream, all[all.len() - 1])
        .await
        .iter()
        .map(Change::revision)
        .collect();
    assert_eq!(seen, all);
}

pub async fn refreshes_are_there_after_a_clean_close(engine: &dyn Engine) {
    if !engine.traits().survives_reopen {
        return engine.lacks("life beyond its process");
    }
    let (settings, _clock) = Settings::with_rules([leases()]);
    let mut running = engine.start(settings).await;
    let mut last = 0;
    for round in 0..4 {
        let log = running.log();
        assert!(log.revision() >= last);
        for lease in 0..5 {
            for beat in 0..10 {
                let text = bytes(format!("{round}.{beat}"));
                let revision = log
                    .refresh(&format!("leases/{lease}"), text, Expect::Any)
                    .await
                    .expect("refreshes");
                assert!(revision > last, "no revision comes again");
                last = revision;
            }
        }
        if round % 2 == 0 {
            last = delete(&*log, "leases/4").await;
        }
        drop(log);
        running.reopen().await;
        let log = running.log();
        for lease in 0..4 {
            let found = log
                .get(&format!("leases/{lease}"), None)
                .await
                .expect("reads")
                .expect("exists");
            assert_eq!(found.value, bytes(format!("{round}.9")));
            assert!(found.modified <= log.revision());
        }
        assert_eq!(value(&*log, "leases/4", None).await.is_none(), round % 2 == 0);
    }
}

pub async fn a_refresh_of_a_key_that_keeps_its_history_is_part_of_it(engine: &dyn Engine) {
    let mut running = engine.start(Settings::default()).await;
    let mut log = running.log();
    let mut revisions = vec![put(&*log, "kept/a", "0").await];
    for beat in 1..10 {
        revisions.push(
            log.refresh("kept/a", bytes(beat.to_string()), Expect::Any)
                .await
                .expect("refreshes"),
        );
    }
    for _ in 0..2 {
        for (beat, revision) in revisions.iter().enumerate() {
            assert_eq!(value(&*log, "kept/a", Some(*revision)).await, Some(beat.to_string()));
        }
        if !engine.traits().survives_reopen {
            break;
        }
        running.reopen().await;
        log = running.log();
    }
}
