//! `setpoint user list`.

use anyhow::Context;
use clap::Args;
use kube::api::ListParams;
use serde_json::{Value, json};
use setpoint_server::users::SECRET_TYPE;

use super::{record, secrets, shown};
use crate::cli::{Format, Global};
use crate::client::connect;
use crate::{output, wall_clock};

/// Options of `setpoint user list`.
#[derive(Args)]
pub struct List {}

impl List {
    /// Lists the users by name.
    pub async fn run(self, global: &Global) -> anyhow::Result<()> {
        let client = connect(global).await?;
        let params = ListParams::default().fields(&format!("type={SECRET_TYPE}"));
        let found = secrets(&client).list(&params).await.context("cannot list the users")?;
        let mut users = Vec::new();
        for secret in &found.items {
            match record(secret) {
                Ok(user) => users.push((user, secret.metadata.creation_timestamp.clone())),
                Err(error) => output::note(&format!(
                    "Secret {} is of a user's type, but damaged: {error}",
                    secret.metadata.name.as_deref().unwrap_or_default()
                )),
            }
        }
        users.sort_by(|one, other| one.0.name.cmp(&other.0.name));
        let now = wall_clock();
        match global.output {
            Format::Json => {
                let list: Vec<Value> = users
                    .iter()
                    .map(|(user, created)| {
                        let tokens: Vec<Value> = user
                            .tokens
                            .iter()
                            .map(|token| json!({"id": token.id, "expires": token.expires}))
                            .collect();
                        json!({
                            "name": user.name,
                            "groups": user.groups,
                            "created": created,
                            "certificateExpires": user.certificate_expires,
                            "tokens": tokens,
                        })
                    })
                    .collect();
                output::json(&json!({"users": list}))
            }
            Format::Text => {
                let rows: Vec<Vec<String>> = users
                    .iter()
                    .map(|(user, created)| {
                        let tokens: Vec<String> = user
                            .tokens
                            .iter()
                            .map(|token| match token.expires {
                                None => token.id.clone(),
                                end => format!("{} until {}", token.id, shown(end, now)),
                            })
                            .collect();
                        vec![
                            user.name.clone(),
                            user.groups.join(","),
                            shown(created.as_ref().map(|time| time.0), now).replace(" (over)", ""),
                            shown(user.certificate_expires, now),
                            tokens.join(", "),
                        ]
                    })
                    .collect();
                output::table(&["NAME", "GROUPS", "SINCE", "CERTIFICATE UNTIL", "TOKENS"], &rows);
                Ok(())
            }
        }
    }
}
