//! What the suite needs of an engine, and the engines that it knows.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use setpoint_store::{Keys, Log, Now, Rule, SqliteLog, SqliteOptions};
use tempfile::TempDir;

/// What an engine can do beyond what every engine must. A property that needs more says so and holds nobody to it.
#[derive(Clone, Copy, Debug)]
pub struct Traits {
    /// What was written is there after the log was closed and opened again.
    pub survives_reopen: bool,
    /// The rules that it is given are kept: no history, expiry, a greatest number.
    pub rules: bool,
    /// It notes when each change was committed, to the second.
    pub times: bool,
    /// Changes come in parts of about the size that was asked for, and none claims what has not happened yet.
    pub parts: bool,
    /// A prefix is compared byte by byte in the past too, whatever characters it has.
    pub any_prefix: bool,
}

/// How a log is opened, in words that mean something to every engine.
#[derive(Clone, Default)]
pub struct Settings {
    /// What is kept otherwise than the rest.
    pub rules: Vec<Rule>,
    /// The clock; without it nothing has a time and nothing expires.
    pub clock: Option<Clock>,
}

impl Settings {
    /// Settings with these rules and a clock.
    pub fn with_rules(rules: impl IntoIterator<Item = Rule>) -> (Settings, Clock) {
        let clock = Clock::default();
        let settings = Settings {
            rules: rules.into_iter().collect(),
            clock: Some(clock.clone()),
        };
        (settings, clock)
    }
}

/// A clock that stands still until it is turned.
#[derive(Clone)]
pub struct Clock(Arc<AtomicI64>);

impl Default for Clock {
    fn default() -> Clock {
        Clock(Arc::new(AtomicI64::new(1_700_000_000)))
    }
}

impl Clock {
    /// What it says.
    pub fn now(&self) -> Timestamp {
        Timestamp::from_second(self.0.load(Ordering::SeqCst)).expect("in range")
    }

    /// Turns it on by so many seconds.
    pub fn advance(&self, seconds: i64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }

    /// The clock as an engine takes it.
    pub fn handed_in(&self) -> Now {
        let clock = self.clone();
        Arc::new(move || clock.now())
    }
}

/// An engine that the suite can be run on.
#[async_trait(?Send)]
pub trait Engine: Send + Sync {
    /// What the engine can do.
    fn traits(&self) -> Traits;

    /// Opens an empty log of its own.
    async fn start(&self, settings: Settings) -> Box<dyn Running>;

    /// Says that a property is not asked of this engine.
    fn lacks(&self, what: &str) {
        eprintln!("not held to this property: the engine has no {what}");
    }
}

/// A log under test.
#[async_trait(?Send)]
pub trait Running: Send + Sync {
    /// The log as it is open now.
    fn log(&self) -> Arc<dyn Log>;

    /// Closes the log as at a shutdown and opens it again.
    async fn reopen(&mut self);
}

fn options(settings: &Settings, dir: &TempDir) -> SqliteOptions {
    SqliteOptions {
        now: settings.clock.as_ref().map(Clock::handed_in),
        rules: settings.rules.clone(),
        keys: Some(Keys::open(&dir.path().join("keys")).expect("keys")),
        pack_behind: 16,
        maintenance_interval: Duration::ZERO,
        keep_age: Duration::from_secs(365 * 24 * 60 * 60),
        ..SqliteOptions::default()
    }
}

/// SQLite in memory.
pub struct InMemory;

#[async_trait(?Send)]
impl Engine for InMemory {
    fn traits(&self) -> Traits {
        Traits {
            survives_reopen: false,
            ..OnDisk.traits()
        }
    }

    async fn start(&self, settings: Settings) -> Box<dyn Running> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let log = SqliteLog::in_memory(options(&settings, &dir))
            .await
            .expect("the store opens");
        Box::new(File { dir, settings, log })
    }
}

/// SQLite in a file.
pub struct OnDisk;

struct File {
    dir: TempDir,
    settings: Settings,
    log: SqliteLog,
}

#[async_trait(?Send)]
impl Engine for OnDisk {
    fn traits(&self) -> Traits {
        Traits {
            survives_reopen: true,
            rules: true,
            times: true,
            parts: true,
            any_prefix: true,
        }
    }

    async fn start(&self, settings: Settings) -> Box<dyn Running> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let log = SqliteLog::open(&dir.path().join("state.db"), options(&settings, &dir))
            .await
            .expect("the store opens");
        Box::new(File { dir, settings, log })
    }
}

#[async_trait(?Send)]
impl Running for File {
    fn log(&self) -> Arc<dyn Log> {
        Arc::new(self.log.clone())
    }

    async fn reopen(&mut self) {
        self.log.close().await.expect("closes");
        self.log = SqliteLog::open(&self.dir.path().join("state.db"), options(&self.settings, &self.dir))
            .await
            .expect("the store opens again");
    }
}
