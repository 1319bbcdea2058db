//! `setpoint user remove`.

use anyhow::{Context, bail};
use clap::Args;
use k8s_openapi::api::rbac::v1::{ClusterRoleBinding, RoleBinding};
use kube::api::{DeleteParams, ListParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::json;
use setpoint_server::users::User as Record;

use super::{LABEL, secrets};
use crate::cli::{Format, Global};
use crate::client::connect;
use crate::output;

/// Options of `setpoint user remove`.
#[derive(Args)]
pub struct Remove {
    /// The user
    name: String,
}

impl Remove {
    /// Removes the user.
    pub async fn run(self, global: &Global) -> anyhow::Result<()> {
        let client = connect(global).await?;
        if !remove(&client, &self.name).await? {
            bail!(
                "there is no user {}; `setpoint user list` shows who there is",
                self.name
            );
        }
        match global.output {
            Format::Json => output::json(&json!({"removed": self.name})),
            Format::Text => {
                output::note(&format!("user {} is refused from now on", self.name));
                Ok(())
            }
        }
    }
}

/// Removes a user and what was bound to it when it was added; says whether there was one.
pub(super) async fn remove(client: &Client, name: &str) -> anyhow::Result<bool> {
    let secret = Record::secret_name(name);
    // First the user: whatever fails after that, it has no access any more.
    let there = match secrets(client).delete(&secret, &DeleteParams::default()).await {
        Ok(_) => true,
        Err(kube::Error::Api(status)) if status.code == 404 => false,
        Err(error) => return Err(error).with_context(|| format!("cannot remove user {name}")),
    };
    let bindings = async {
        let labelled = ListParams::default().labels(&format!("{LABEL}={secret}"));
        let everywhere: Api<ClusterRoleBinding> = Api::all(client.clone());
        for binding in everywhere.list(&labelled).await?.items {
            gone(
                everywhere
                    .delete(&binding.name_any(), &DeleteParams::default())
                    .await
                    .map(drop),
            )?;
        }
        let inside: Api<RoleBinding> = Api::all(client.clone());
        for binding in inside.list(&labelled).await?.items {
            let api: Api<RoleBinding> =
                Api::namespaced(client.clone(), binding.namespace().as_deref().unwrap_or_default());
            gone(
                api.delete(&binding.name_any(), &DeleteParams::default())
                    .await
                    .map(drop),
            )?;
        }
        Ok::<(), kube::Error>(())
    };
    bindings
        .await
        .with_context(|| format!("user {name} is removed, but what was bound to it is left"))?;
    Ok(there)
}

/// Takes what is gone already for removed.
fn gone(result: Result<(), kube::Error>) -> Result<(), kube::Error> {
    match result {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        result => result,
    }
}
