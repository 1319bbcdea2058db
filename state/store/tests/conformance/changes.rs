//! The past as changes: `changes`, and the times that lead there: `moment` and `window`.

use setpoint_store::{Change, Expect, Log, Revision};

use crate::client::{Dice, bytes, compacted, delete, drain, nudge_until, put};
use crate::engine::{Clock, Engine, Settings};

/// Writes a little of everything; returns the changes as a watch tells them.
async fn busy(log: &dyn Log) -> Vec<Change> {
    let mut dice = Dice::new(3);
    let from = log.revision();
    let mut stream = log.watch("", from).await.expect("a watch");
    for i in 0..100 {
        let key = format!("{}/{}", ["a", "ab", "b"][dice.below(3) as usize], dice.below(4));
        match dice.below(4) {
            0 => drop(log.delete(&key, Expect::Any).await),
            _ => drop(put(log, &key, i.to_string()).await),
        }
    }
    let last = put(log, "a/last", "x").await;
    drain(&mut stream, last).await
}

/// Reads changes until all up to `upto` are read.
async fn read(log: &dyn Log, prefix: &str, after: Revision, upto: Revision, limit: usize) -> Vec<Change> {
    let mut seen = Vec::new();
    let mut position = after;
    while position < upto {
        let part = log.changes(prefix, position, upto, limit).await.expect("changes");
        assert!(
            part.upto > position && part.upto <= upto,
            "{position} → {} of {upto}",
            part.upto
        );
        for (_, change) in &part.changes {
            assert!(change.revision() > position && change.revision() <= part.upto);
        }
        assert!(
            limit == 0 || part.changes.len() <= limit * 2 + 16,
            "about {limit}, not {}",
            part.changes.len()
        );
        position = part.upto;
        seen.extend(part.changes.into_iter().map(|(_, change)| change));
    }
    seen
}

pub async fn changes_are_what_a_watch_would_have_told(engine: &dyn Engine) {
    if !engine.traits().parts {
        return engine.lacks("parts of changes");
    }
    let mut running = engine.start(Settings::default()).await;
    let mut log = running.log();
    let all = busy(&*log).await;
    let newest = log.revision();
    for _ in 0..2 {
        for prefix in ["", "a", "a/", "ab/", "b/1", "none/"] {
            for (after, upto) in [(0, newest), (10, 60), (59, 60), (newest - 1, newest), (20, 20)] {
                for limit in [0, 1, 7, 1000] {
                    let wanted: Vec<_> = all
                        .iter()
                        .filter(|change| change.key().starts_with(prefix))
                        .filter(|change| change.revision() > after && change.revision() <= upto)
                        .cloned()
                        .collect();
                    let found = read(&*log, prefix, after, upto, limit).await;
                    assert_eq!(found, wanted, "{prefix:?} in ({after}, {upto}] by {limit}");
                }
            }
        }
        if !engine.traits().survives_reopen {
            break;
        }
        running.reopen().await;
        log = running.log();
    }
}

pub async fn changes_are_never_complete_beyond_what_has_happened(engine: &dyn Engine) {
    if !engine.traits().parts {
        return engine.lacks("parts of changes");
    }
    let running = engine.start(Settings::default()).await;
    let log = &*running.log();
    busy(log).await;
    let newest = log.revision();
    // Whoever goes on from `upto` later would miss what was written in between.
    for upto in [newest + 1, newest + 1000, Revision::MAX] {
        match log.changes("a/", newest - 5, upto, 0).await {
            Ok(part) => assert!(part.upto <= newest, "all up to {} of {newest}", part.upto),
            Err(setpoint_store::StoreError::Future { .. }) => {}
            Err(other) => panic!("{other:?}"),
        }
    }
}

pub async fn changes_before_the_horizon_are_gone(engine: &dyn Engine) {
    if !engine.traits().parts {
        return engine.lacks("parts of changes");
    }
    let running = engine.start(Settings::default()).await;
    let log = &*running.log();
    let all = busy(log).await;
    let newest = log.revision();
    log.compact(50).await.expect("compacts");
    assert!(compacted(&log.changes("a/", 49, newest, 0).await));
    let wanted: Vec<_> = all.into_iter().filter(|change| change.revision() > 50).collect();
    assert_eq!(read(log, "", 50, newest, 9).await, wanted);
}

/// Puts `count` times, 100 seconds apart, each once the engine knows the time of the one before.
async fn spread(log: &dyn Log, clock: &Clock, count: usize) -> Vec<(jiff::Timestamp, Revision)> {
    let mut written = Vec::new();
    for i in 0..count {
        let now = clock.now();
        let revision = put(log, "time/a", i.to_string()).await;
        nudge_until(log, "the time of a write", async || {
            let moment = log.moment(now).await.expect("a moment");
            moment.is_some_and(|moment| moment.revision >= revision)
        })
        .await;
        written.push((now, revision));
        clock.advance(100);
    }
    written
}

pub async fn a_moment_names_the_newest_revision_by_then(engine: &dyn Engine) {
    let (settings, clock) = Settings::with_rules([]);
    let mut running = engine.start(settings).await;
    let mut log = running.log();
    assert_eq!(log.moment(clock.now()).await.expect("a moment"), None);
    let written = spread(&*log, &clock, 6).await;
    for _ in 0..2 {
        let second = jiff::SignedDuration::from_secs(1);
        assert_eq!(log.moment(written[0].0 - second).await.expect("a moment"), None);
        for (index, (at, revision)) in written.iter().enumerate() {
            let before_next = written.get(index + 1).map_or(Revision::MAX, |next| next.1);
            for late in [0, 30, 99] {
                let time = *at + jiff::SignedDuration::from_secs(late);
                let moment = log.moment(time).await.expect("a moment").expect("something was there");
                assert!(
                    moment.revision >= *revision && moment.revision < before_next,
                    "{moment:?} at {index}"
                );
                assert!(moment.at >= *at && moment.at <= time, "{moment:?}");
                assert_eq!(
                    crate::client::value(&*log, "time/a", Some(moment.revision)).await,
                    Some(index.to_string())
                );
            }
        }
        if !engine.traits().survives_reopen {
            break;
        }
        running.reopen().await;
        log = running.log();
    }
}

pub async fn a_moment_that_is_forgotten_is_none(engine: &dyn Engine) {
    let (settings, clock) = Settings::with_rules([]);
    let running = engine.start(settings).await;
    let log = &*running.log();
    let written = spread(log, &clock, 6).await;
    log.compact(written[3].1).await.expect("compacts");
    for (at, _) in &written[..3] {
        assert_eq!(log.moment(*at).await.expect("a moment"), None);
    }
    for (at, revision) in &written[3..] {
        let moment = log.moment(*at).await.expect("a moment").expect("it is readable");
        assert!(moment.revision >= *revision);
        log.list("", None, 0, Some(moment.revision))
            .await
            .expect("it is readable");
    }
}

pub async fn changes_carry_their_times(engine: &dyn Engine) {
    let (settings, clock) = Settings::with_rules([]);
    let mut running = engine.start(settings).await;
    let mut log = running.log();
    let mut written = spread(&*log, &clock, 5).await;
    let deleted = clock.now();
    written.push((deleted, delete(&*log, "time/a").await));
    for _ in 0..2 {
        let part = log.changes("time/", 0, log.revision(), 0).await.expect("changes");
        assert_eq!(part.changes.len(), written.len());
        for ((noted, change), (at, revision)) in part.changes.iter().zip(&written) {
            assert_eq!(change.revision(), *revision);
            match noted {
                // An engine may note times coarsely, but never one before the write.
                Some(noted) => assert!(*noted >= *at && *noted < *at + jiff::SignedDuration::from_secs(100)),
                None => assert!(!engine.traits().times, "revision {revision} has no time"),
            }
            if engine.traits().times {
                assert_eq!(*noted, Some(*at));
            }
        }
        if !engine.traits().survives_reopen {
            break;
        }
        running.reopen().await;
        log = running.log();
    }
}

pub async fn the_window_says_what_can_be_read(engine: &dyn Engine) {
    let (settings, clock) = Settings::with_rules([]);
    let mut running = engine.start(settings).await;
    let mut log = running.log();
    let window = log.window().await.expect("a window");
    assert_eq!((window.newest, window.oldest), (0, 0));
    let written = spread(&*log, &clock, 4).await;
    let window = log.window().await.expect("a window");
    assert_eq!((window.newest, window.oldest), (log.revision(), 0));
    assert!(window.bytes > 0 || !engine.traits().survives_reopen);
    log.compact(written[2].1).await.expect("compacts");
    for _ in 0..2 {
        let window = log.window().await.expect("a window");
        assert_eq!(window.oldest, written[2].1);
        assert!(log.get("time/a", Some(window.oldest)).await.is_ok());
        assert!(compacted(&log.get("time/a", Some(window.oldest - 1)).await));
        match window.since {
            Some(since) => assert!(since >= written[2].0 && since < written[3].0, "{since}"),
            None => assert!(
                !engine.traits().times,
                "nobody noted when {} was the newest",
                window.oldest
            ),
        }
        if !engine.traits().survives_reopen {
            break;
        }
        running.reopen().await;
        log = running.log();
    }
    let last = log.put("time/a", bytes("x"), Expect::Any).await.expect("puts");
    assert_eq!(log.window().await.expect("a window").newest, last);
}
