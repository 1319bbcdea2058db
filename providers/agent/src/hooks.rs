//! Lifecycle hooks: what a container wants done right after it started and right before it is stopped.

use std::time::Duration;

use k8s_openapi::api::core::v1::LifecycleHandler;

use crate::http_client;
use crate::probes::{self, Target};

/// Runs a hook within a time. The error is fit for an event.
pub async fn run(target: &Target<'_>, handler: &LifecycleHandler, limit: Duration) -> Result<(), String> {
    if let Some(exec) = &handler.exec {
        let command = exec.command.clone().unwrap_or_default();
        let shown = command.join(" ");
        return match probes::exec_once(target, command, limit).await? {
            Some((0, _)) => Ok(()),
            Some((code, output)) => Err(format!("command '{shown}' exited with {code}: {output}")),
            None => Err(format!("command '{shown}' took longer than {} s", limit.as_secs())),
        };
    }
    if let Some(http) = &handler.http_get {
        let request = probes::http_request(target, http)?;
        // As in Kubernetes a hook has only to be heard: what it answers is its own affair.
        let answered = http_client::get(&request, limit).await;
        return answered.map(drop).map_err(|error| error.to_string());
    }
    if let Some(sleep) = &handler.sleep {
        let wanted = Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or(0));
        tokio::time::sleep(wanted.min(limit)).await;
        return Ok(());
    }
    Err("invalid handler: hooks by TCP are not run".to_owned())
}
