//! Watches: each change once, in order, and bookmarks that never promise too much.

use std::collections::BTreeMap;

use futures::future::{join, join_all};
use setpoint_store::{Expect, WatchEvent};

use crate::client::{apply, bytes, drain, event, next, put};
use crate::engine::{Engine, Settings};

pub async fn watchers_see_each_change_once(engine: &dyn Engine) {
    let running = engine.start(Settings::default()).await;
    let log = running.log();
    let from = log.revision();
    put(&*log, "watch/before", "x").await;
    let writers = (0..8).map(|writer| {
        let log = log.clone();
        tokio::spawn(async move {
            for i in 0..50 {
                let key = format!("watch/{writer}-{}", i % 5);
                if i % 7 == 6 {
                    log.delete(&key, Expect::Any).await.ok();
                } else {
                    log.put(&key, bytes(i.to_string()), Expect::Any).await.expect("puts");
                }
            }
        })
    });
    let writers = join_all(writers);
    // Watches begin before, amid and after the writers.
    let mut early = log.watch("watch/", from).await.expect("a watch");
    let amid = {
        let log = log.clone();
        async move {
            let mut streams = Vec::new();
            for _ in 0..20 {
                streams.push(log.watch("watch/", from).await.expect("a watch"));
                tokio::task::yield_now().await;
            }
            streams
        }
    };
    let (written, mut streams) = join(writers, amid).await;
    written.into_iter().for_each(|writer| writer.expect("a writer"));
    streams.push(log.watch("watch/", from).await.expect("a watch"));
    let last = put(&*log, "watch/last", "x").await;
    let expected = drain(&mut early, last).await;
    for mut stream in streams {
        assert_eq!(drain(&mut stream, last).await, expected);
    }
    // Replaying the changes gives what a list gives.
    let mut model = BTreeMap::new();
    for change in &expected {
        apply(&mut model, change);
    }
    let listed = log.list("watch/", None, 0, None).await.expect("a list").items;
    assert_eq!(model.into_values().collect::<Vec<_>>(), listed);
}

pub async fn a_watch_goes_on_from_any_revision(engine: &dyn Engine) {
    let mut running = engine.start(Settings::default()).await;
    let mut log = running.log();
    for i in 0..40 {
        let key = format!("{}/{}", if i % 3 == 0 { "other" } else { "mine" }, i % 4);
        if i % 8 == 7 {
            log.delete(&key, Expect::Any).await.ok();
        } else {
            put(&*log, &key, i.to_string()).await;
        }
    }
    let last = put(&*log, "mine/last", "x").await;
    let mut whole = log.watch("mine/", 0).await.expect("a watch");
    let whole = drain(&mut whole, last).await;
    for _ in 0..2 {
        for from in 0..last {
            let mut stream = log.watch("mine/", from).await.expect("a watch");
            let rest: Vec<_> = whole
                .iter()
                .filter(|change| change.revision() > from)
                .cloned()
                .collect();
            assert_eq!(drain(&mut stream, last).await, rest, "from {from}");
        }
        if !engine.traits().survives_reopen {
            break;
        }
        running.reopen().await;
        log = running.log();
    }
}

pub async fn a_quiet_prefix_gets_a_bookmark_once_the_past_is_through(engine: &dyn Engine) {
    let running = engine.start(Settings::default()).await;
    let log = &*running.log();
    for i in 0..30 {
        put(log, &format!("busy/{}", i % 4), i.to_string()).await;
    }
    for (round, from) in [0, 7, log.revision()].into_iter().enumerate() {
        let known = log.revision();
        let prefix = format!("quiet/{round}/");
        let mut stream = log.watch(&prefix, from).await.expect("a watch");
        match event(&mut stream).await {
            Ok(WatchEvent::Progress(at)) => {
                assert!(at >= known, "from {from}: all up to {known} is through, not only {at}");
                assert!(at <= log.revision());
            }
            other => panic!("expected a bookmark, got {other:?}"),
        }
        // What comes then comes as ever.
        let written = put(log, &format!("{prefix}a"), "x").await;
        assert_eq!(next(&mut stream).await.expect("no error").revision(), written);
    }
}

pub async fn the_first_bookmark_comes_after_the_past_and_before_the_rest(engine: &dyn Engine) {
    let running = engine.start(Settings::default()).await;
    let log = &*running.log();
    for i in 0..30 {
        put(log, &format!("busy/{}", i % 4), i.to_string()).await;
    }
    let known = log.revision();
    let mut stream = log.watch("busy/", 10).await.expect("a watch");
    let mut seen = 10;
    let bookmark = loop {
        match event(&mut stream).await.expect("no error") {
            WatchEvent::Change(change) => seen = change.revision(),
            WatchEvent::Progress(at) if at >= known => break at,
            WatchEvent::Progress(at) => assert!(at >= seen),
        }
    };
    assert_eq!((seen, bookmark), (known, known));
}

pub async fn no_bookmark_runs_ahead_of_a_change(engine: &dyn Engine) {
    let running = engine.start(Settings::default()).await;
    let log = running.log();
    let writers = (0..6).map(|writer| {
        let log = log.clone();
        tokio::spawn(async move {
            for i in 0..80 {
                let prefix = ["busy", "rare"][usize::from(i % 20 == 0)];
                put(&*log, &format!("{prefix}/{writer}"), i.to_string()).await;
            }
        })
    });
    let (started, mut starts) = tokio::sync::mpsc::channel(12);
    let watchers: Vec<_> = (0..12)
        .map(|watcher| {
            let (log, started) = (log.clone(), started.clone());
            tokio::spawn(async move {
                for _ in 0..watcher {
                    tokio::task::yield_now().await;
                }
                let from = if watcher % 2 == 0 { 0 } else { log.revision() };
                let prefix = ["rare/", "busy/", ""][watcher % 3];
                let mut stream = log.watch(prefix, from).await.expect("a watch");
                started.send(()).await.expect("somebody counts");
                let (mut promised, mut changes, mut bookmarks) = (from, 0, 0);
                loop {
                    match event(&mut stream).await.expect("no error") {
                        WatchEvent::Progress(at) => {
                            assert!(at >= promised, "a bookmark does not go back: {promised}, then {at}");
                            promised = at;
                            bookmarks += 1;
                        }
                        WatchEvent::Change(change) if change.key() == "rare/end" || change.key() == "busy/end" => break,
                        WatchEvent::Change(change) => {
                            assert!(
                                change.revision() > promised,
                                "{} after bookmark {promised}",
                                change.revision()
                            );
                            promised = change.revision();
                            changes += 1;
                        }
                    }
                }
                assert!(bookmarks > 0);
                if from == 0 {
                    assert_eq!(changes, [24, 456, 480][watcher % 3], "all of {prefix:?}");
                }
            })
        })
        .collect();
    for writer in join_all(writers).await {
        writer.expect("a writer");
    }
    for _ in &watchers {
        starts.recv().await.expect("a watch began");
    }
    put(&*log, "busy/end", "x").await;
    put(&*log, "rare/end", "x").await;
    for watcher in watchers {
        watcher.await.expect("a watcher");
    }
}
