//! A cluster's life as its store sees it, with a clock that is turned as fast as the store takes the writes.
//!
//! 2,000 pods of which twenty statuses a second change a little; now and then one goes and another comes; heartbeats and events beside
//! them. Which object changes and how is drawn from a seed, so that every run writes the same.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use setpoint_store::{Expect, Log as _, Rule, SqliteLog, SqliteOptions, StoreError};

/// How many pods a whole cluster has.
const PODS: usize = 2_000;
/// How many of their statuses change in a second.
pub const CHANGES: usize = 20;
/// How many nodes send a heartbeat every ten seconds.
pub const NODES: usize = 10;
/// How many of the changes of a second wait together: several controllers write at once.
const TOGETHER: usize = 4;
/// The smallest limit that makes sense.
const FLOOR: u64 = 6 << 20;
const START: i64 = 1_700_000_000;

/// What is run.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// How many days are lived through.
    pub days: f64,
    /// How many pods there are.
    pub pods: usize,
    /// The limit of the database's size in bytes.
    pub keep_bytes: u64,
    /// How long history is kept.
    pub keep_age: Duration,
    /// How often the store looks after itself, by the machine's clock: the cluster's runs a hundred times as fast or more.
    pub upkeep: Duration,
    /// In how many parts the figures are taken.
    pub samples: usize,
}

impl Scale {
    /// So many days with the limits that the store has by itself.
    pub fn whole(days: f64) -> Scale {
        let defaults = SqliteOptions::default();
        Scale {
            days,
            pods: PODS,
            keep_bytes: defaults.keep_bytes,
            keep_age: defaults.keep_age,
            upkeep: Duration::from_millis(100),
            samples: (days.ceil() as usize).max(10),
        }
    }

    /// So many days of a cluster and with limits that are smaller in the same measure: what thirty days are to the defaults. Below, there
    /// is what no limit can take away: the present, and the last minute.
    pub fn scaled(days: f64) -> Scale {
        let whole = Scale::whole(days);
        let share = (days / 30.0).min(1.0);
        Scale {
            pods: ((whole.pods as f64 * share * 10.0) as usize).clamp(200, PODS),
            keep_bytes: ((whole.keep_bytes as f64 * share) as u64).max(FLOOR),
            keep_age: whole
                .keep_age
                .mul_f64((share * 10.0).min(1.0))
                .max(Duration::from_secs(3600)),
            // A tenth of a small limit is soon written.
            upkeep: Duration::from_millis(5),
            ..whole
        }
    }
}

/// What was measured in a part of the run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sample {
    /// The end of the part, in days.
    pub day: f64,
    /// The database, in bytes.
    pub bytes: u64,
    /// The largest that it was seen to be.
    pub bytes_max: u64,
    /// The largest that its write-ahead log was seen to be.
    pub wal_max: u64,
    /// Free pages in the database.
    pub free_pages: i64,
    /// How many seconds of history can be read.
    pub window: i64,
    /// Half of the writes took no longer.
    pub p50: Duration,
    /// 99 of 100 writes took no longer.
    pub p99: Duration,
    /// The slowest write.
    pub slowest: Duration,
    /// How many keys there are.
    pub keys: u64,
}

struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }
}

/// One pod: what of it changes.
struct Pod {
    name: String,
    uid: u64,
    env: usize,
    restarts: usize,
    ready: bool,
    changed: i64,
}

impl Pod {
    fn new(slot: usize, life: u64, dice: &mut Dice) -> Pod {
        Pod {
            name: format!("web-{:x}-{slot}", life.wrapping_mul(0x9e37_79b9) & 0xffff_ffff),
            uid: life,
            env: dice.below(24),
            restarts: 0,
            ready: false,
            changed: START,
        }
    }

    fn key(&self) -> String {
        format!("core/pods/default/{}", self.name)
    }

    /// The pod as JSON of 1.5 to 3 KB, as an API server keeps one.
    fn json(&self, now: i64) -> Bytes {
        let env: String = (0..self.env)
            .map(|i| format!(r#",{{"name":"SETTING_{i}","value":"value-of-{i}-{}"}}"#, self.uid))
            .collect();
        let (name, uid, ready, restarts) = (&self.name, self.uid, self.ready, self.restarts);
        let condition = |kind: &str| {
            format!(
                r#"{{"type":"{kind}","status":"{}","lastProbeTime":null,"lastTransitionTime":"{}"}}"#,
                if ready { "True" } else { "False" },
                self.changed
            )
        };
        Bytes::from(format!(
            r#"{{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"{name}","namespace":"default","uid":"00000000-0000-4000-8000-{uid:012x}","creationTimestamp":"{START}","labels":{{"app":"web","pod-template-hash":"{uid:08x}","tier":"frontend"}},"annotations":{{"checksum/config":"{uid:064x}"}},"ownerReferences":[{{"apiVersion":"apps/v1","kind":"ReplicaSet","name":"web","uid":"11111111-0000-4000-8000-{uid:012x}","controller":true,"blockOwnerDeletion":true}}],"managedFields":[{{"manager":"setpoint","operation":"Apply","apiVersion":"v1","time":"{START}","fieldsType":"FieldsV1","fieldsV1":{{"f:spec":{{"f:containers":{{"k:{{\"name\":\"web\"}}":{{"f:image":{{}},"f:ports":{{}},"f:resources":{{}}}}}}}}}}}}]}},"spec":{{"containers":[{{"name":"web","image":"registry.example.com/web:1.{}","ports":[{{"containerPort":8080,"protocol":"TCP"}}],"env":[{{"name":"POD","value":"{name}"}}{env}],"resources":{{"requests":{{"cpu":"100m","memory":"128Mi"}},"limits":{{"memory":"256Mi"}}}},"readinessProbe":{{"httpGet":{{"path":"/ready","port":8080}},"periodSeconds":10}}}}],"restartPolicy":"Always","terminationGracePeriodSeconds":30,"dnsPolicy":"ClusterFirst","serviceAccountName":"default","nodeName":"node-{}"}},"status":{{"phase":"Running","conditions":[{},{},{}],"hostIP":"10.0.0.{}","podIP":"10.42.{}.{}","startTime":"{START}","containerStatuses":[{{"name":"web","ready":{ready},"restartCount":{restarts},"state":{{"running":{{"startedAt":"{}"}}}},"image":"registry.example.com/web","imageID":"registry.example.com/web@sha256:{uid:064x}","containerID":"setpoint://{uid:064x}"}}],"observedAt":"{now}"}}}}"#,
            uid % 50,
            uid as usize % NODES,
            condition("Initialized"),
            condition("Ready"),
            condition("ContainersReady"),
            uid % 250,
            uid % 250,
            uid / 250 % 250,
            self.changed,
        ))
    }
}

fn rules() -> Vec<Rule> {
    let leases = Rule {
        history: false,
        ..Rule::new("coordination.k8s.io/leases/")
    };
    let events = Rule {
        history: false,
        expire: Some(Duration::from_secs(3600)),
        at_most: Some(10_000),
        ..Rule::new("core/events/")
    };
    vec![leases, events]
}

struct Cluster {
    log: SqliteLog,
    clock: Arc<AtomicI64>,
    dice: Dice,
    pods: Vec<Pod>,
    lives: u64,
    events: u64,
    times: Vec<Duration>,
}

impl Cluster {
    async fn put(&mut self, key: &str, value: Bytes) -> Result<(), StoreError> {
        let started = Instant::now();
        self.log.put(key, value, Expect::Any).await?;
        self.times.push(started.elapsed());
        Ok(())
    }

    async fn second(&mut self) -> Result<(), StoreError> {
        let now = self.clock.fetch_add(1, Ordering::Relaxed) + 1;
        for _ in 0..CHANGES / TOGETHER {
            let writes = (0..TOGETHER).map(|_| self.change(now)).collect::<Vec<_>>();
            let log = &self.log;
            let writes = writes.into_iter().map(|(key, value)| async move {
                let started = Instant::now();
                log.put(&key, value, Expect::Any).await?;
                Ok::<Duration, StoreError>(started.elapsed())
            });
            for time in futures::future::join_all(writes).await {
                self.times.push(time?);
            }
        }
        if now % 10 == 0 {
            for node in 0..NODES {
                let value = Bytes::from(format!(r#"{{"kind":"Lease","spec":{{"renewTime":"{now}"}}}}"#));
                let key = format!("coordination.k8s.io/leases/kube-node-lease/node-{node}");
                self.log.refresh(&key, value, Expect::Any).await?;
            }
        }
        if now % 5 == 0 {
            let number = self.events;
            let pod = self.dice.below(self.pods.len());
            self.events += 1;
            let name = &self.pods[pod].name;
            let value = format!(
                r#"{{"apiVersion":"v1","kind":"Event","metadata":{{"name":"{name}.{number:x}","namespace":"default"}},"involvedObject":{{"kind":"Pod","name":"{name}","namespace":"default"}},"reason":"Unhealthy","message":"Readiness probe failed: HTTP probe failed with statuscode: 503","type":"Warning","lastTimestamp":"{now}"}}"#
            );
            let key = format!("core/events/default/{name}.{number:x}");
            self.put(&key, Bytes::from(value)).await?;
        }
        if now % 15 == 0 {
            self.replace(now).await?;
        }
        Ok(())
    }

    /// Changes one pod's status a little.
    fn change(&mut self, now: i64) -> (String, Bytes) {
        let slot = self.dice.below(self.pods.len());
        let dice = self.dice.below(100);
        let pod = &mut self.pods[slot];
        if dice < 5 {
            pod.ready = !pod.ready;
            pod.changed = now;
        }
        if dice.is_multiple_of(20) {
            pod.restarts += 1;
        }
        (pod.key(), pod.json(now))
    }

    /// One pod goes and another comes.
    async fn replace(&mut self, now: i64) -> Result<(), StoreError> {
        let slot = self.dice.below(self.pods.len());
        let old = self.pods[slot].key();
        self.log.delete(&old, Expect::Any).await?;
        self.lives += 1;
        self.pods[slot] = Pod::new(slot, self.lives, &mut self.dice);
        let (key, value) = (self.pods[slot].key(), self.pods[slot].json(now));
        self.put(&key, value).await
    }

    async fn sample(&mut self, path: &Path, day: f64, seen: (u64, u64)) -> Result<Sample, Failure> {
        self.times.sort_unstable();
        let quantile = |of_hundred: usize| {
            let index = self.times.len() * of_hundred / 100;
            self.times
                .get(index.min(self.times.len().saturating_sub(1)))
                .copied()
                .unwrap_or_default()
        };
        let stats = self.log.stats();
        let window = self.log.window().await?;
        let now = self.clock.load(Ordering::Relaxed);
        let sample = Sample {
            day,
            bytes: stats.bytes,
            bytes_max: seen.0.max(stats.bytes),
            wal_max: seen.1,
            free_pages: free_pages(path).await?,
            window: window.since.map_or(0, |since| now - since.as_second()),
            p50: quantile(50),
            p99: quantile(99),
            slowest: quantile(100),
            keys: stats.keys,
        };
        self.times.clear();
        Ok(sample)
    }
}

/// Why a run ended early.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

async fn free_pages(path: &Path) -> Result<i64, Failure> {
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path).read_only(true);
    let mut connection = sqlx::ConnectOptions::connect(&options).await?;
    let (free,): (i64,) = sqlx::query_as("PRAGMA freelist_count")
        .fetch_one(&mut connection)
        .await?;
    sqlx::Connection::close(connection).await?;
    Ok(free)
}

/// Lives through it all in a database in `dir`; tells of each part when it is over.
pub async fn run(dir: &Path, scale: Scale, mut tell: impl FnMut(&Sample)) -> Result<Vec<Sample>, Failure> {
    let clock = Arc::new(AtomicI64::new(START));
    let now = clock.clone();
    let path = dir.join("state.db");
    let options = SqliteOptions {
        keep_age: scale.keep_age,
        keep_bytes: scale.keep_bytes,
        maintenance_interval: scale.upkeep,
        now: Some(Arc::new(move || {
            jiff::Timestamp::from_second(now.load(Ordering::Relaxed)).unwrap_or(jiff::Timestamp::UNIX_EPOCH)
        })),
        rules: rules(),
        ..SqliteOptions::default()
    };
    let log = SqliteLog::open(&path, options).await?;
    let mut dice = Dice(1);
    let pods = (0..scale.pods)
        .map(|slot| Pod::new(slot, slot as u64, &mut dice))
        .collect();
    let mut cluster = Cluster {
        log,
        clock,
        dice,
        pods,
        lives: scale.pods as u64,
        events: 0,
        times: Vec::new(),
    };
    for slot in 0..scale.pods {
        let (key, value) = (cluster.pods[slot].key(), cluster.pods[slot].json(START));
        cluster.put(&key, value).await?;
    }
    cluster.times.clear();
    let seconds = (scale.days * 86_400.0) as u64;
    let part = (seconds / scale.samples as u64).max(1);
    let mut samples = Vec::new();
    let mut seen = (0, 0);
    for second in 1..=seconds {
        cluster.second().await?;
        if second % 5 == 0 {
            let stats = cluster.log.stats();
            seen = (stats.bytes.max(seen.0), stats.wal_bytes.max(seen.1));
        }
        if second % part == 0 {
            let sample = cluster.sample(&path, second as f64 / 86_400.0, seen).await?;
            tell(&sample);
            samples.push(sample);
            seen = (0, 0);
        }
    }
    cluster.log.close().await?;
    Ok(samples)
}

/// Says what of a run is not as it must be.
pub fn faults(scale: &Scale, samples: &[Sample]) -> Vec<String> {
    let mut faults = Vec::new();
    let limit = scale.keep_bytes + scale.keep_bytes / 10;
    for sample in samples {
        if sample.bytes_max > limit {
            faults.push(format!(
                "day {:.2}: the database had {} bytes, more than {limit}",
                sample.day, sample.bytes_max
            ));
        }
        if sample.wal_max >= 64 << 20 {
            faults.push(format!(
                "day {:.2}: the write-ahead log had {} bytes",
                sample.day, sample.wal_max
            ));
        }
        if sample.keys < scale.pods as u64 {
            faults.push(format!("day {:.2}: {} keys are left", sample.day, sample.keys));
        }
    }
    faults
}
