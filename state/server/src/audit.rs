//! The audit log: who asked for what, when, and what they were answered.
//!
//! A request's [`Trail`] begins when the request arrives and gathers what becomes known of it; `policy` decides how much of
//! that is kept. Events are `audit.k8s.io/v1`, one line of JSON each, in a file that only its owner reads and that is
//! rotated (`file`). They are encoded and written by a thread of their own (`log`): no request ever waits for the disk, and
//! what there is no room for is counted and said in the log.
//!
//! Bodies of what the store keeps sealed (Secrets, tokens, Apps with what they render to) are never kept, whatever the policy says.

mod annotations;
mod event;
mod file;
mod log;
mod policy;
mod standard;
mod tee;
#[cfg(test)]
mod tests;
mod trail;

use std::path::PathBuf;
use std::sync::Arc;

use http::HeaderMap;

use crate::registry::Now;
use crate::request::RequestInfo;

pub use annotations::Annotations;
pub use file::AuditFileError;
pub use policy::{AuditLevel, AuditPolicy, AuditPolicyError};
pub(crate) use trail::{Ending, Peer, Trail};

use log::AuditLog;

/// How a server keeps its audit log.
#[derive(Clone, Debug)]
pub struct AuditConfig {
    /// What is kept of which requests.
    pub policy: AuditPolicy,
    /// The directory of the log; it is made for its owner only. The newest events are in `audit.log`, older ones in
    /// `audit.log.1` and so on.
    pub directory: PathBuf,
    /// The size in bytes at which a file is put aside.
    pub largest_file: u64,
    /// How many files are kept beside the newest one.
    pub older_files: usize,
}

/// The audit log of a server; without a configuration nothing is kept. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Audit {
    on: Option<On>,
    now: Now,
}

#[derive(Clone)]
struct On {
    policy: Arc<AuditPolicy>,
    log: AuditLog,
}

impl Audit {
    /// Opens the log.
    pub(crate) fn open(
        config: Option<AuditConfig>,
        now: Now,
        registry: &prometheus::Registry,
    ) -> Result<Audit, crate::api::ServerError> {
        let on = match config {
            Some(config) => {
                let log = AuditLog::open(&config, registry)?;
                Some(On {
                    policy: Arc::new(config.policy),
                    log,
                })
            }
            None => None,
        };
        Ok(Audit { on, now })
    }

    /// Begins the trail of a request.
    pub(crate) fn begin(&self, info: &RequestInfo, uri: &http::Uri, headers: &HeaderMap, peer: Option<Peer>) -> Trail {
        match &self.on {
            Some(on) => Trail::begin(
                on.policy.clone(),
                on.log.clone(),
                self.now.clone(),
                info,
                uri,
                headers,
                peer,
            ),
            None => Trail::none(),
        }
    }

    /// Waits until everything that has happened is written.
    pub(crate) async fn flush(&self) {
        if let Some(on) = &self.on {
            on.log.flush().await;
        }
    }
}
