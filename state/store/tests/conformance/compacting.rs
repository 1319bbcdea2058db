//! Forgetting, and starting again: what is gone says so, what is not stays right, and no revision comes twice.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::future::join_all;
use setpoint_store::{Change, Expect, Revision, StoreError};

use crate::client::{Dice, bytes, compacted, delete, drain, event, keys, next, put, value};
use crate::engine::{Engine, Settings};

pub async fn compaction_ends_the_past(engine: &dyn Engine) {
    let mut running = engine.start(Settings::default()).await;
    let mut log = running.log();
    put(&*log, "long/a", "2").await;
    let one = put(&*log, "compact/a", "1").await;
    put(&*log, "compact/gone", "1").await;
    delete(&*log, "compact/gone").await;
    let two = put(&*log, "compact/a", "2").await;
    let three = put(&*log, "compact/a", "3").await;
    log.compact(two).await.expect("compacts");
    log.compact(one).await.expect("compacting less is nothing");
    for _ in 0..2 {
        for at in 0..two {
            assert!(compacted(&log.get("compact/a", Some(at)).await), "get at {at}");
            assert!(compacted(&log.get("none", Some(at)).await), "get of nothing at {at}");
            assert!(compacted(&log.list("", None, 0, Some(at)).await), "list at {at}");
            assert!(compacted(&log.count("", Some(at)).await), "count at {at}");
            assert!(compacted(&log.watch("", at).await), "watch from {at}");
        }
        assert_eq!(value(&*log, "compact/a", Some(two)).await.as_deref(), Some("2"));
        assert_eq!(value(&*log, "compact/gone", Some(two)).await, None);
        assert_eq!(value(&*log, "compact/a", None).await.as_deref(), Some("3"));
        // What was untouched since long before the horizon is still there, in the past too.
        assert_eq!(value(&*log, "long/a", Some(two)).await.as_deref(), Some("2"));
        assert_eq!(keys(&*log, "", Some(two)).await, ["compact/a", "long/a"]);
        let mut stream = log.watch("compact/", two).await.expect("a watch");
        match next(&mut stream).await.expect("no error") {
            Change::Put {
                current,
                previous: Some(previous),
            } => assert_eq!((current.modified, previous.modified), (three, two)),
            other => panic!("expected the put of {three}, got {other:?}"),
        }
        if !engine.traits().survives_reopen {
            break;
        }
        running.reopen().await;
        log = running.log();
    }
}

/// What a reader was told, to be judged when all writes are known.
enum Told {
    Get(String, Revision, Option<bytes::Bytes>),
    List(Revision, Vec<(String, bytes::Bytes)>),
    Changes(Revision, Revision, Vec<Revision>),
}

pub async fn compaction_amid_reads_and_watches_makes_no_answer_wrong(engine: &dyn Engine) {
    let running = engine.start(Settings::default()).await;
    let log = running.log();
    let done = Arc::new(AtomicBool::new(false));
    let writers = (0..3).map(|writer| {
        let log = log.clone();
        tokio::spawn(async move {
            let mut mine = BTreeMap::new();
            let mut dice = Dice::new(100 + writer);
            for i in 0..400 {
                let key = format!("k/{writer}/{}", dice.below(4));
                let value = (dice.below(4) > 0).then(|| bytes(format!("{writer}.{i}")));
                let outcome = match &value {
                    Some(value) => log.put(&key, value.clone(), Expect::Any).await,
                    None => log.delete(&key, Expect::Any).await,
                };
                match outcome {
                    Ok(revision) => drop(mine.insert(revision, (key, value))),
                    Err(StoreError::Conflict { .. }) => {}
                    Err(other) => panic!("{other:?}"),
                }
            }
            mine
        })
    });
    let writers = join_all(writers);
    let compactor = {
        let (log, done) = (log.clone(), done.clone());
        tokio::spawn(async move {
            while !done.load(Ordering::Relaxed) {
                let keep_from = log.revision().saturating_sub(60);
                log.compact(keep_from).await.expect("compacts");
                tokio::task::yield_now().await;
            }
        })
    };
    let readers: Vec<_> = (0..3)
        .map(|reader| {
            let (log, done) = (log.clone(), done.clone());
            tokio::spawn(async move {
                let (mut told, mut gone) = (Vec::new(), 0_usize);
                let mut dice = Dice::new(200 + reader);
                while !done.load(Ordering::Relaxed) {
                    tokio::task::yield_now().await;
                    let newest = log.revision();
                    let at = newest.saturating_sub(dice.below(90));
                    let answer = match dice.below(3) {
                        0 => {
                            let key = format!("k/{}/{}", dice.below(3), dice.below(4));
                            let found = log.get(&key, Some(at)).await;
                            found.map(|kv| Told::Get(key, at, kv.map(|kv| kv.value)))
                        }
                        1 => log
                            .list("k/", None, 0, Some(at))
                            .await
                            .map(|page| Told::List(at, page.items.into_iter().map(|kv| (kv.key, kv.value)).collect())),
                        _ if at == newest => continue,
                        _ => match log.watch("k/", at).await {
                            Ok(mut stream) => {
                                let mut seen = Vec::new();
                                loop {
                                    match event(&mut stream).await {
                                        Ok(setpoint_store::WatchEvent::Change(change)) => seen.push(change.revision()),
                                        Ok(setpoint_store::WatchEvent::Progress(upto)) => {
                                            break Ok(Told::Changes(at, upto, seen));
                                        }
                                        Err(error) => break Err(error),
                                    }
                                }
                            }
                            Err(error) => Err(error),
                        },
                    };
                    match answer {
                        Ok(answer) => told.push(answer),
                        Err(StoreError::Compacted { .. }) => gone += 1,
                        Err(other) => panic!("{other:?}"),
                    }
                }
                (told, gone)
            })
        })
        .collect();
    let mut writes = BTreeMap::new();
    for mine in writers.await {
        writes.extend(mine.expect("a writer"));
    }
    done.store(true, Ordering::Relaxed);
    compactor.await.expect("the compactor");
    let state = |at: Revision| -> BTreeMap<String, bytes::Bytes> {
        let mut state = BTreeMap::new();
        for (key, value) in writes.range(..=at).map(|(_, write)| write) {
            match value {
                Some(value) => state.insert(key.clone(), value.clone()),
                None => state.remove(key),
            };
        }
        state
    };
    let (mut right, mut refused) = (0, 0);
    for reader in readers {
        let (told, gone) = reader.await.expect("a reader");
        refused += gone;
        right += told.len();
        for answer in told {
            match answer {
                Told::Get(key, at, found) => assert_eq!(found, state(at).remove(&key), "{key} at {at}"),
                Told::List(at, found) => assert_eq!(found, state(at).into_iter().collect::<Vec<_>>(), "at {at}"),
                Told::Changes(after, upto, seen) => {
                    let wanted: Vec<Revision> = writes.range(after + 1..=upto).map(|(at, _)| *at).collect();
                    assert_eq!(seen, wanted, "in ({after}, {upto}]");
                }
            }
        }
    }
    assert!(right > 0, "{refused} answers were that it is gone, none told anything");
}

pub async fn a_reopened_log_goes_on_where_it_was(engine: &dyn Engine) {
    if !engine.traits().survives_reopen {
        return engine.lacks("life beyond its process");
    }
    let mut running = engine.start(Settings::default()).await;
    let log = running.log();
    let first = put(&*log, "a", "1").await;
    put(&*log, "a", "2").await;
    put(&*log, "b", "1").await;
    let last = delete(&*log, "b").await;
    let mut stream = log.watch("", 0).await.expect("a watch");
    let before = drain(&mut stream, last).await;
    running.reopen().await;
    assert!(matches!(
        log.put("a", bytes("3"), Expect::Any).await,
        Err(StoreError::Closed)
    ));
    assert!(matches!(
        log.refresh("a", bytes("3"), Expect::Any).await,
        Err(StoreError::Closed)
    ));
    assert!(matches!(log.delete("a", Expect::Any).await, Err(StoreError::Closed)));
    assert!(matches!(log.get("a", None).await, Err(StoreError::Closed)));
    assert!(matches!(log.list("", None, 0, None).await, Err(StoreError::Closed)));
    assert!(matches!(log.watch("", 0).await, Err(StoreError::Closed)));
    assert!(matches!(
        event(&mut stream).await,
        Ok(setpoint_store::WatchEvent::Progress(_))
    ));
    assert!(matches!(next(&mut stream).await, Err(StoreError::Closed)));

    let log = running.log();
    assert!(log.revision() >= last);
    assert_eq!(keys(&*log, "", None).await, ["a"]);
    let mut stream = log.watch("", first).await.expect("a watch across the restart");
    assert_eq!(drain(&mut stream, last).await, before[1..]);
    let next_one = log.put("c", bytes("1"), Expect::Any).await.expect("puts");
    assert!(next_one > last);
    assert_eq!(next(&mut stream).await.expect("no error").revision(), next_one);
}

pub async fn no_revision_comes_twice_across_compaction_and_reopen(engine: &dyn Engine) {
    if !engine.traits().survives_reopen {
        return engine.lacks("life beyond its process");
    }
    let mut running = engine.start(Settings::default()).await;
    let (mut issued, mut last) = (HashSet::new(), 0);
    for round in 0..10 {
        let log = running.log();
        let mut new = Vec::new();
        new.push(put(&*log, "a", round.to_string()).await);
        new.push(put(&*log, "b", round.to_string()).await);
        new.push(log.refresh("b", bytes("x"), Expect::Any).await.expect("refreshes"));
        new.push(delete(&*log, "b").await);
        if round % 3 == 2 {
            new.push(delete(&*log, "a").await);
        }
        for revision in new {
            assert!(revision > last, "round {round}: {revision} after {last}");
            assert!(issued.insert(revision));
            last = revision;
        }
        if round % 2 == 0 {
            log.compact(last).await.expect("compacts");
        }
        drop(log);
        running.reopen().await;
        assert!(running.log().revision() >= last);
    }
}
