//! Keys that are kept otherwise: without history, for a while, so many at most, sealed.

use std::time::Duration;

use futures::StreamExt as _;
use futures::stream;
use setpoint_store::{Change, Expect, Log, Revision, Rule, StoreError, WatchEvent};

use crate::client::{apply, bytes, compacted, delete, drain, event, keys, list, next, nudge_until, put, value};
use crate::engine::{Engine, Settings};

fn silent() -> Rule {
    Rule {
        history: false,
        ..Rule::new("silent/")
    }
}

/// Writes some keys of both kinds, three times each; returns the changes of the ones without history.
async fn both_kinds(log: &dyn Log) -> (Revision, Vec<Change>) {
    let from = log.revision();
    let mut stream = log.watch("silent/", from).await.expect("a watch");
    for round in 0..3 {
        for i in 0..5 {
            put(log, &format!("loud/{i}"), round.to_string()).await;
            put(log, &format!("silent/{i}"), round.to_string()).await;
        }
    }
    let last = delete(log, "silent/4").await;
    put(log, "loud/end", "x").await;
    (from, drain(&mut stream, last).await)
}

pub async fn the_recent_past_of_keys_without_history_is_read_from_memory(engine: &dyn Engine) {
    if !engine.traits().rules {
        return engine.lacks("rules");
    }
    let (settings, _clock) = Settings::with_rules([silent()]);
    let running = engine.start(settings).await;
    let log = &*running.log();
    let (from, changes) = both_kinds(log).await;
    let mut state = std::collections::BTreeMap::new();
    for (index, change) in changes.iter().enumerate() {
        apply(&mut state, change);
        let upto = changes
            .get(index + 1)
            .map_or(log.revision(), |next| next.revision() - 1);
        for at in [change.revision(), upto] {
            let found = list(log, "silent/", Some(at)).await;
            assert_eq!(found, state.values().cloned().collect::<Vec<_>>(), "at {at}");
            assert_eq!(
                log.count("silent/", Some(at)).await.expect("counts"),
                state.len() as u64
            );
            let whole = list(log, "", Some(at)).await;
            assert_eq!(
                whole.iter().filter(|kv| kv.key.starts_with("silent/")).count(),
                state.len()
            );
            for i in 0..5 {
                let key = format!("silent/{i}");
                assert_eq!(log.get(&key, Some(at)).await.expect("reads"), state.get(&key).cloned());
            }
        }
        let mut stream = log.watch("silent/", change.revision()).await.expect("a watch");
        for wanted in &changes[index + 1..] {
            assert_eq!(&next(&mut stream).await.expect("no error"), wanted);
        }
    }
    let told = log.changes("", from, log.revision(), 0).await.expect("changes");
    assert!(told.changes.iter().all(|(_, change)| change.key().starts_with("loud/")));
    assert_eq!(told.changes.len(), 16);
    let told = log.changes("silent/", from, log.revision(), 0).await.expect("changes");
    assert!(told.changes.is_empty());
    assert_eq!(told.upto, log.revision());
}

pub async fn keys_without_history_have_no_past_after_a_reopen(engine: &dyn Engine) {
    if !engine.traits().rules || !engine.traits().survives_reopen {
        return engine.lacks("rules and a life beyond its process");
    }
    let (settings, _clock) = Settings::with_rules([silent()]);
    let mut running = engine.start(settings).await;
    let (from, changes) = both_kinds(&*running.log()).await;
    let before = list(&*running.log(), "", None).await;
    running.reopen().await;
    let log = &*running.log();
    assert_eq!(list(log, "", None).await, before);
    assert_eq!(value(log, "silent/4", None).await, None);
    for at in [from, changes[3].revision(), changes[changes.len() - 2].revision()] {
        // What has not been written since is as it was, and may be told.
        let mut then = std::collections::BTreeMap::new();
        let upto = changes.iter().take_while(|change| change.revision() <= at);
        upto.for_each(|change| apply(&mut then, change));
        for key in ["silent/0", "silent/4"] {
            match log.get(key, Some(at)).await {
                Err(StoreError::Compacted { .. }) => {}
                Ok(found) => assert_eq!(found, then.get(key).cloned(), "{key} at {at}"),
                Err(other) => panic!("{other:?}"),
            }
        }
        assert!(compacted(&log.list("silent/", None, 0, Some(at)).await), "list at {at}");
        assert!(
            compacted(&log.list("silent/0", None, 0, Some(at)).await),
            "list of a part at {at}"
        );
        assert!(compacted(&log.count("silent/", Some(at)).await), "count at {at}");
        assert!(compacted(&log.watch("silent/", at).await), "watch from {at}");
        // What has both kinds in it must not look as if there had been only one.
        match log.list("", None, 0, Some(at)).await {
            Err(StoreError::Compacted { .. }) => {}
            Ok(page) => {
                let found = page.items.iter().filter(|kv| kv.key.starts_with("silent/")).count();
                assert_eq!(found, then.len(), "a list of everything at {at}");
            }
            Err(other) => panic!("{other:?}"),
        }
        assert!(compacted(&log.watch("", at).await), "a watch of everything from {at}");
        // The others have theirs.
        log.list("loud/", None, 0, Some(at)).await.expect("lists");
        let mut stream = log.watch("loud/", at).await.expect("a watch");
        assert!(matches!(event(&mut stream).await, Ok(WatchEvent::Change(_))));
    }
    // From now on it is as before.
    let now = log.revision();
    let mut stream = log.watch("silent/", now).await.expect("a watch from now on");
    let written = put(log, "silent/0", "new").await;
    assert_eq!(next(&mut stream).await.expect("no error").revision(), written);
    put(log, "loud/0", "new").await;
    assert_eq!(value(log, "silent/0", Some(written)).await.as_deref(), Some("new"));
}

pub async fn keys_without_history_are_forgotten_beyond_what_memory_holds(engine: &dyn Engine) {
    if !engine.traits().rules {
        return engine.lacks("rules");
    }
    let (settings, _clock) = Settings::with_rules([silent()]);
    let running = engine.start(settings).await;
    let log = running.log();
    let from = put(&*log, "silent/0", "first").await;
    let loud = put(&*log, "loud/0", "first").await;
    let mut forgotten = false;
    for round in 0..200 {
        let writes = stream::iter(0..500).map(|i| {
            let log = log.clone();
            async move {
                log.put(&format!("silent/{}", i % 7), bytes("x".repeat(1000)), Expect::Any)
                    .await
            }
        });
        writes
            .buffer_unordered(128)
            .for_each(async |outcome| assert!(outcome.expect("puts") > from))
            .await;
        put(&*log, "loud/0", round.to_string()).await;
        if compacted(&log.watch("silent/", from).await) {
            forgotten = true;
            break;
        }
    }
    assert!(forgotten, "100,000 changes are still in memory");
    assert!(compacted(&log.get("silent/0", Some(from)).await));
    assert!(compacted(&log.list("silent/", None, 0, Some(from)).await));
    assert_eq!(value(&*log, "loud/0", Some(loud)).await.as_deref(), Some("first"));
    assert_eq!(keys(&*log, "silent/", None).await.len(), 7);
}

pub async fn what_expires_is_deleted_and_watchers_see_it(engine: &dyn Engine) {
    if !engine.traits().rules {
        return engine.lacks("rules");
    }
    let hour = Rule {
        expire: Some(Duration::from_secs(3600)),
        history: false,
        ..Rule::new("events/")
    };
    let (settings, clock) = Settings::with_rules([hour]);
    let mut running = engine.start(settings).await;
    let log = running.log();
    put(&*log, "events/old", "x").await;
    put(&*log, "events/renewed", "x").await;
    put(&*log, "eventful", "x").await;
    clock.advance(1800);
    put(&*log, "events/renewed", "y").await;
    put(&*log, "events/young", "x").await;
    let mut stream = log.watch("events/", log.revision()).await.expect("a watch");
    clock.advance(1700);
    put(&*log, "nudge/now", "x").await;
    assert_eq!(keys(&*log, "events/", None).await.len(), 3, "3,500 seconds are no hour");
    clock.advance(200);
    nudge_until(&*log, "the oldest event is gone", async || {
        value(&*log, "events/old", None).await.is_none()
    })
    .await;
    match next(&mut stream).await.expect("no error") {
        Change::Delete { previous, .. } => assert_eq!(previous.key, "events/old"),
        other => panic!("expected the deletion of events/old, got {other:?}"),
    }
    assert_eq!(keys(&*log, "events/", None).await, ["events/renewed", "events/young"]);
    if engine.traits().survives_reopen {
        drop(log);
        running.reopen().await;
    }
    // The time of a write is not forgotten with the process.
    let log = running.log();
    clock.advance(1700);
    nudge_until(&*log, "all events are gone", async || {
        keys(&*log, "events/", None).await.is_empty()
    })
    .await;
    assert_eq!(value(&*log, "eventful", None).await.as_deref(), Some("x"));
}

pub async fn beyond_their_greatest_number_the_longest_unwritten_go(engine: &dyn Engine) {
    if !engine.traits().rules {
        return engine.lacks("rules");
    }
    let ten = Rule {
        at_most: Some(10),
        history: false,
        ..Rule::new("events/")
    };
    let (settings, _clock) = Settings::with_rules([ten]);
    let running = engine.start(settings).await;
    let log = &*running.log();
    let mut stream = log.watch("events/", log.revision()).await.expect("a watch");
    for i in 0..10 {
        put(log, &format!("events/{i:02}"), "x").await;
        put(log, &format!("other/{i:02}"), "x").await;
    }
    // The oldest is written again and is the youngest then.
    put(log, "events/00", "again").await;
    for i in 10..15 {
        put(log, &format!("events/{i:02}"), "x").await;
    }
    nudge_until(log, "five events go", async || {
        log.count("events/", None).await.expect("counts") <= 10
    })
    .await;
    let mut deleted = Vec::new();
    while deleted.len() < 5 {
        if let Change::Delete { previous, .. } = next(&mut stream).await.expect("no error") {
            deleted.push(previous.key);
        }
    }
    assert_eq!(
        deleted,
        ["events/01", "events/02", "events/03", "events/04", "events/05"]
    );
    assert_eq!(log.count("events/", None).await.expect("counts"), 10);
    assert_eq!(value(log, "events/00", None).await.as_deref(), Some("again"));
    assert_eq!(log.count("other/", None).await.expect("counts"), 10);
}

pub async fn sealed_values_read_back(engine: &dyn Engine) {
    if !engine.traits().rules {
        return engine.lacks("rules");
    }
    let sealed = Rule {
        sealed: true,
        ..Rule::new("secrets/")
    };
    let (settings, _clock) = Settings::with_rules([sealed]);
    let mut running = engine.start(settings).await;
    let mut log = running.log();
    let mut revisions = Vec::new();
    for i in 0..12 {
        let text = format!("hunter{i}").repeat(1 + i * 40);
        revisions.push((
            put(&*log, &format!("secrets/{}", i % 3), text.clone()).await,
            i % 3,
            text,
        ));
    }
    let empty = log.put("secrets/empty", bytes(""), Expect::Any).await.expect("puts");
    for _ in 0..2 {
        for (at, key, text) in &revisions {
            assert_eq!(
                value(&*log, &format!("secrets/{key}"), Some(*at)).await.as_ref(),
                Some(text)
            );
        }
        assert_eq!(value(&*log, "secrets/2", None).await.as_ref(), Some(&revisions[11].2));
        assert_eq!(value(&*log, "secrets/empty", None).await.as_deref(), Some(""));
        assert_eq!(list(&*log, "secrets/", Some(revisions[11].0)).await.len(), 3);
        let mut stream = log.watch("secrets/", 0).await.expect("a watch");
        let seen = drain(&mut stream, empty).await;
        let told = log.changes("secrets/", 0, empty, 0).await.expect("changes");
        assert_eq!(
            told.changes.into_iter().map(|(_, change)| change).collect::<Vec<_>>(),
            seen
        );
        for (change, (at, _, text)) in seen.iter().zip(&revisions) {
            match change {
                Change::Put { current, .. } => {
                    assert_eq!((current.modified, &current.value[..]), (*at, text.as_bytes()))
                }
                Change::Delete { .. } => panic!("nothing was deleted"),
            }
        }
        if !engine.traits().survives_reopen {
            break;
        }
        running.reopen().await;
        log = running.log();
    }
}
