//! Concurrent clients, and the check that what each was told fits into one order.

mod checker;
#[cfg(test)]
mod refused;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use setpoint_store::{Expect, KeyValue, Log, Rule, StoreError};

use crate::client::Dice;
use crate::engine::{Engine, Settings};
use checker::{Held, Operation, Told};

const CLIENTS: u64 = 8;
/// Half of them keep no history, so that a refresh need not be a put.
const KEYS: usize = 4;
const OPERATIONS: u64 = 400;
/// Runs with `SETPOINT_SEED` have that one alone.
const SEEDS: std::ops::Range<u64> = 1..4;

fn name(key: usize) -> String {
    let prefix = if key < KEYS / 2 { "pods" } else { "leases" };
    format!("core/{prefix}/{key}")
}

fn key(name: &str) -> usize {
    name.rsplit('/')
        .next()
        .and_then(|number| number.parse().ok())
        .expect("one of ours")
}

fn held(kv: &KeyValue) -> Held {
    Held {
        write: String::from_utf8_lossy(&kv.value).parse().expect("a number"),
        created: kv.created,
        modified: kv.modified,
    }
}

/// One client: what it knows of the log is what it was told last.
struct Client {
    log: Arc<dyn Log>,
    clock: Arc<AtomicU64>,
    writes: Arc<AtomicU64>,
    dice: Dice,
    known: [Option<u64>; KEYS],
    history: Vec<Operation>,
}

impl Client {
    async fn run(mut self) -> Vec<Operation> {
        for _ in 0..OPERATIONS {
            self.step().await;
        }
        self.history
    }

    fn expect(&mut self, key: usize) -> Expect {
        match (self.dice.below(4), self.known[key]) {
            (0, _) => Expect::Any,
            (1, _) => Expect::Absent,
            (_, Some(revision)) => Expect::Revision(revision),
            (_, None) => Expect::Absent,
        }
    }

    async fn step(&mut self) {
        let key = self.dice.below(KEYS as u64) as usize;
        let name = name(key);
        let called = self.clock.fetch_add(1, Ordering::SeqCst);
        let told = match self.dice.below(10) {
            kind @ 0..=5 => {
                let expect = self.expect(key);
                let write = (kind < 5).then(|| self.writes.fetch_add(1, Ordering::SeqCst));
                let value = write.map(|write| Bytes::from(write.to_string()));
                let outcome = match value {
                    Some(value) if kind < 2 => self.log.refresh(&name, value, expect).await,
                    Some(value) => self.log.put(&name, value, expect).await,
                    None => self.log.delete(&name, expect).await,
                };
                match outcome {
                    Ok(at) => {
                        self.known[key] = write.map(|_| at);
                        Told::Written { key, write, expect, at }
                    }
                    Err(StoreError::Conflict { current, .. }) => {
                        let found = current.as_ref().map(held);
                        self.known[key] = found.map(|found| found.modified);
                        let delete = write.is_none();
                        Told::Refused {
                            key,
                            delete,
                            expect,
                            found,
                        }
                    }
                    Err(other) => panic!("{other:?}"),
                }
            }
            6 | 7 => {
                let found = self.log.get(&name, None).await.expect("reads").as_ref().map(held);
                self.known[key] = found.map(|found| found.modified);
                Told::Read { key, found }
            }
            8 => {
                // The recent past; of it a compaction may have taken something.
                let at = self.log.revision().saturating_sub(self.dice.below(20));
                if self.dice.below(2) == 0 {
                    match self.log.get(&name, Some(at)).await {
                        Ok(found) => Told::ReadAt {
                            key,
                            at,
                            found: found.as_ref().map(held),
                        },
                        Err(StoreError::Compacted { .. }) => return,
                        Err(other) => panic!("{other:?}"),
                    }
                } else {
                    match self.log.list("core/", None, 0, Some(at)).await {
                        Ok(page) => Told::Listed {
                            at: page.revision,
                            past: true,
                            found: page.items.iter().map(|kv| (self::key(&kv.key), held(kv))).collect(),
                        },
                        Err(StoreError::Compacted { .. }) => return,
                        Err(other) => panic!("{other:?}"),
                    }
                }
            }
            _ => {
                let page = self.log.list("core/", None, 0, None).await.expect("lists");
                Told::Listed {
                    at: page.revision,
                    past: false,
                    found: page.items.iter().map(|kv| (self::key(&kv.key), held(kv))).collect(),
                }
            }
        };
        let answered = self.clock.fetch_add(1, Ordering::SeqCst);
        self.history.push(Operation { called, answered, told });
    }
}

async fn history(log: Arc<dyn Log>, seed: u64) -> Vec<Operation> {
    let (clock, writes) = (Arc::new(AtomicU64::new(1)), Arc::new(AtomicU64::new(1)));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let client = Client {
                log: log.clone(),
                clock: clock.clone(),
                writes: writes.clone(),
                dice: Dice::new(seed * 1000 + number),
                known: [None; KEYS],
                history: Vec::new(),
            };
            tokio::spawn(client.run())
        })
        .collect();
    let mut all = Vec::new();
    for client in clients {
        all.extend(client.await.expect("a client"));
    }
    all
}

async fn run(engine: &dyn Engine, compact: bool) {
    let seeds = match std::env::var("SETPOINT_SEED") {
        Ok(seed) => {
            let seed = seed.parse().expect("SETPOINT_SEED is a number");
            seed..seed + 1
        }
        Err(_) => SEEDS,
    };
    for seed in seeds {
        let leases = Rule {
            history: false,
            ..Rule::new("core/leases/")
        };
        let (settings, _clock) = Settings::with_rules([leases]);
        let running = engine.start(settings).await;
        let log = running.log();
        let compactor = compact.then(|| {
            let log = log.clone();
            tokio::spawn(async move {
                loop {
                    log.compact(log.revision().saturating_sub(10)).await.expect("compacts");
                    tokio::task::yield_now().await;
                }
            })
        });
        let history = history(log, seed).await;
        if let Some(compactor) = compactor {
            compactor.abort();
        }
        assert!(history.len() as u64 > CLIENTS * OPERATIONS / 2);
        if let Err(why) = checker::check(&history) {
            panic!("not linearizable with SETPOINT_SEED={seed}: {why}");
        }
    }
}

pub async fn histories_of_many_clients_are_linearizable(engine: &dyn Engine) {
    run(engine, false).await;
}

pub async fn histories_amid_compaction_are_linearizable(engine: &dyn Engine) {
    run(engine, true).await;
}
