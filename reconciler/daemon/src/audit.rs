//! The options of the audit log: what of whose requests is kept, and how much of it.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use setpoint_server::{AuditConfig, AuditLevel, AuditPolicy};

use crate::instance::Paths;

/// Options of the audit log.
#[derive(Args)]
pub struct AuditOptions {
    /// How much of each request the audit log keeps: None, Metadata, Request or RequestResponse
    #[arg(
        long,
        value_name = "LEVEL",
        default_value = "Metadata",
        conflicts_with = "audit_policy"
    )]
    audit_level: AuditLevel,
    /// What the audit log keeps of which requests: a Policy of audit.k8s.io/v1
    #[arg(long, value_name = "FILE")]
    audit_policy: Option<PathBuf>,
    /// The size in MiB at which a file of the audit log is put aside
    #[arg(long, value_name = "MIB", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=65536))]
    audit_max_size: u64,
    /// How many older files of the audit log are kept
    #[arg(long, value_name = "COUNT", default_value_t = 10, value_parser = clap::value_parser!(u16).range(0..=1000))]
    audit_max_files: u16,
}

impl AuditOptions {
    /// Reads the policy; `None` when nothing is to be kept.
    pub fn config(&self, paths: &Paths) -> anyhow::Result<Option<AuditConfig>> {
        let policy = match &self.audit_policy {
            Some(file) => {
                let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
                AuditPolicy::parse(&text)
                    .with_context(|| format!("{} is not a policy for the audit log", file.display()))?
            }
            None if self.audit_level == AuditLevel::None => return Ok(None),
            None => AuditPolicy::standard(self.audit_level),
        };
        Ok(Some(AuditConfig {
            policy,
            directory: paths.audit(),
            largest_file: self.audit_max_size << 20,
            older_files: self.audit_max_files.into(),
        }))
    }
}
