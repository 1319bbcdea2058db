//! The present and the past, whole and in pages.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use setpoint_store::{Expect, KeyValue, Log, Revision, Rule};

use crate::client::{Dice, bytes, compacted, delete, future, keys, list, put, value};
use crate::engine::{Engine, Settings};

pub async fn an_empty_log_is_empty(engine: &dyn Engine) {
    let running = engine.start(Settings::default()).await;
    let log = &*running.log();
    assert_eq!(log.revision(), 0);
    assert_eq!(log.get("a", None).await.expect("reads"), None);
    assert_eq!(log.get("a", Some(0)).await.expect("reads"), None);
    for at in [None, Some(0)] {
        let page = log.list("", None, 0, at).await.expect("lists");
        assert_eq!((page.items.len(), page.revision, page.more), (0, 0, false));
        assert_eq!(log.count("", at).await.expect("counts"), 0);
    }
    assert!(future(&log.get("a", Some(1)).await));
    log.compact(0).await.expect("nothing to compact");
}

pub async fn the_past_stays_readable(engine: &dyn Engine) {
    let running = engine.start(Settings::default()).await;
    let log = &*running.log();
    let one = put(log, "past/a", "1").await;
    let two = put(log, "past/b", "1").await;
    let three = put(log, "past/a", "2").await;
    let four = delete(log, "past/b").await;
    assert_eq!(value(log, "past/a", Some(one)).await.as_deref(), Some("1"));
    assert_eq!(value(log, "past/a", Some(two)).await.as_deref(), Some("1"));
    assert_eq!(value(log, "past/a", Some(three)).await.as_deref(), Some("2"));
    assert_eq!(value(log, "past/a", Some(0)).await, None);
    assert_eq!(value(log, "past/b", Some(one)).await, None);
    assert_eq!(value(log, "past/b", Some(three)).await.as_deref(), Some("1"));
    assert_eq!(value(log, "past/b", Some(four)).await, None);
    assert_eq!(keys(log, "past/", Some(three)).await, ["past/a", "past/b"]);
    assert_eq!(keys(log, "past/", Some(four)).await, ["past/a"]);
    assert_eq!(keys(log, "past/", None).await, ["past/a"]);
}

pub async fn the_future_is_refused(engine: &dyn Engine) {
    let running = engine.start(Settings::default()).await;
    let log = &*running.log();
    let at = put(log, "a", "1").await + 1;
    assert!(future(&log.get("a", Some(at)).await));
    assert!(future(&log.get("none", Some(at)).await));
    assert!(future(&log.list("", None, 0, Some(at)).await));
    assert!(future(&log.count("", Some(at)).await));
    assert!(future(&log.watch("", at).await));
    assert!(future(&log.changes("", at, at, 0).await));
    assert!(future(&log.compact(at).await));
}

/// Reads a list page by page, all at the revision of its first page.
async fn pages(log: &dyn Log, prefix: &str, size: usize, at: Option<Revision>) -> (Vec<KeyValue>, Revision) {
    let mut items: Vec<KeyValue> = Vec::new();
    let mut revision = at;
    loop {
        let after = items.last().map(|kv| kv.key.clone());
        let page = log
            .list(prefix, after.as_deref(), size, revision)
            .await
            .expect("a page");
        assert!(page.items.len() <= size);
        assert!(revision.is_none_or(|revision| revision == page.revision));
        assert!(
            !page.more || page.items.len() == size,
            "a page that is not the last is full"
        );
        revision = Some(page.revision);
        items.extend(page.items);
        if !page.more {
            assert!(items.is_sorted_by(|a, b| a.key < b.key), "in key order, each once");
            return (items, page.revision);
        }
    }
}

pub async fn lists_come_in_pages(engine: &dyn Engine) {
    let running = engine.start(Settings::default()).await;
    let log = &*running.log();
    put(log, "pag", "x").await;
    for i in 0..10 {
        put(log, &format!("page/{i:02}"), "x").await;
    }
    put(log, "pagf", "x").await;
    let past = log.revision();
    delete(log, "page/05").await;
    for size in 1..12 {
        for (at, expected) in [(None, 9), (Some(past), 10)] {
            let (seen, _) = pages(log, "page/", size, at).await;
            assert_eq!(seen.len(), expected, "pages of {size} at {at:?}");
        }
    }
    // A page may begin after a key that is not there, before the prefix, or behind it.
    for at in [None, Some(log.revision()), Some(past)] {
        for (after, expected) in [
            ("page/075", 2),
            ("a", 9),
            ("page", 9),
            ("page/", 9),
            ("page/09", 0),
            ("zzz", 0),
        ] {
            let expected = expected + usize::from(expected == 9 && at == Some(past));
            let page = log.list("page/", Some(after), 0, at).await.expect("a page");
            assert_eq!(page.items.len(), expected, "after {after} at {at:?}");
        }
    }
}

pub async fn pages_of_one_revision_agree_amid_writes(engine: &dyn Engine) {
    let silent = Rule {
        history: false,
        ..Rule::new("silent/")
    };
    let (settings, _clock) = Settings::with_rules([silent]);
    let running = engine.start(settings).await;
    let log = running.log();
    for i in 0..60 {
        put(&*log, &format!("loud/{i:03}"), "0").await;
        put(&*log, &format!("silent/{i:03}"), "0").await;
    }
    let done = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..3)
        .map(|writer| {
            let (log, done) = (log.clone(), done.clone());
            tokio::spawn(async move {
                let mut dice = Dice::new(writer);
                // A bound keeps the recent past of the keys without history within what memory holds.
                for round in 0..400 {
                    if done.load(Ordering::Relaxed) {
                        break;
                    }
                    let prefix = if dice.below(2) == 0 { "loud" } else { "silent" };
                    let key = format!("{prefix}/{:03}", dice.below(80));
                    match dice.below(4) {
                        0 => drop(log.delete(&key, Expect::Any).await),
                        1 => drop(log.refresh(&key, bytes(round.to_string()), Expect::Any).await),
                        _ => drop(log.put(&key, bytes(round.to_string()), Expect::Any).await),
                    }
                }
            })
        })
        .collect();
    for round in 0..20 {
        for prefix in ["loud/", "silent/", "loud/00", ""] {
            let (paged, revision) = pages(&*log, prefix, 7, None).await;
            let whole = log.list(prefix, None, 0, Some(revision)).await.expect("a list");
            assert_eq!(paged, whole.items, "{prefix} at {revision}, round {round}");
            assert_eq!(
                log.count(prefix, Some(revision)).await.expect("a count"),
                paged.len() as u64
            );
            assert!(
                paged
                    .iter()
                    .all(|kv| kv.modified <= revision && kv.created <= kv.modified)
            );
        }
    }
    done.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.expect("a writer");
    }
}

pub async fn counts_agree_with_lists(engine: &dyn Engine) {
    let running = engine.start(Settings::default()).await;
    let log = &*running.log();
    let mut dice = Dice::new(7);
    for _ in 0..120 {
        let key = format!("{}/{}", ["a", "ab", "b"][dice.below(3) as usize], dice.below(9));
        if dice.below(3) == 0 {
            drop(log.delete(&key, Expect::Any).await);
        } else {
            put(log, &key, "x").await;
        }
    }
    let newest = log.revision();
    for at in (0..=newest).map(Some).chain([None]) {
        for prefix in ["", "a", "a/", "ab/", "b/1", "c"] {
            let counted = log.count(prefix, at).await.expect("counts");
            assert_eq!(counted, list(log, prefix, at).await.len() as u64, "{prefix} at {at:?}");
        }
    }
}

/// Keys that a range scan with too small an end, a comparison by anything but bytes, or a pattern would get wrong.
const ODD: [&str; 20] = [
    "a",
    "a/",
    "a/b",
    "a/b/c",
    "a/bc",
    "a0",
    "a%",
    "a_b",
    "a*",
    "a[b]",
    "A/b",
    "aa",
    "ab",
    "e\u{301}/x",
    "\u{e9}/x",
    "a\u{ffff}",
    "a\u{10ffff}",
    "a\u{10ffff}/b",
    "a\u{10ffff}\u{10ffff}",
    "\u{10ffff}",
];

pub async fn a_prefix_is_bytes_and_nothing_else(engine: &dyn Engine) {
    if !engine.traits().any_prefix {
        return engine.lacks("end of a prefix beyond all characters");
    }
    let running = engine.start(Settings::default()).await;
    let log = &*running.log();
    let mut state = BTreeMap::new();
    let mut past = 0;
    for (i, key) in ODD.iter().enumerate() {
        past = put(log, key, i.to_string()).await;
        state.insert(*key, i.to_string());
    }
    put(log, "zz", "after").await;
    let prefixes = ODD.iter().copied().chain(["", "a\u{10fffe}", "\u{e9}", "e", "z0"]);
    for prefix in prefixes {
        for at in [None, Some(past)] {
            let wanted: Vec<&str> = state.keys().copied().filter(|key| key.starts_with(prefix)).collect();
            let mut found = keys(log, prefix, at).await;
            found.retain(|key| key != "zz");
            assert_eq!(found, wanted, "the prefix {prefix:?} at {at:?}");
            let mut stream = log.watch(prefix, 0).await.expect("a watch");
            let mut seen: Vec<String> = Vec::new();
            while seen.len() < wanted.len() {
                let change = crate::client::next(&mut stream).await.expect("no error");
                if change.key() != "zz" {
                    seen.push(change.key().to_owned());
                }
            }
            seen.sort();
            assert_eq!(seen, wanted, "a watch of {prefix:?}");
        }
    }
    for (key, text) in &state {
        for at in [None, Some(past)] {
            assert_eq!(value(log, key, at).await.as_ref(), Some(text), "{key:?} at {at:?}");
            // Every key is a place where a page may begin.
            let page = log.list("", Some(key), 0, at).await.expect("a page");
            let rest = state.keys().filter(|other| *other > key).count();
            let found = page.items.iter().filter(|kv| kv.key != "zz").count();
            assert_eq!(found, rest, "after {key:?} at {at:?}");
        }
    }
    assert!(!compacted(&log.get("a", Some(0)).await));
}
