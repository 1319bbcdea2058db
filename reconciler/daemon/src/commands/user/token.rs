//! `setpoint user token`: bearer tokens, for what cannot show a certificate.

use anyhow::{Context, ensure};
use clap::Args;
use jiff::{SignedDuration, Timestamp};
use kube::api::{Patch, PatchParams};
use serde_json::json;
use setpoint_server::users::{TokenText, User as Record};

use super::{life, read, secrets};
use crate::cli::{Format, Global};
use crate::client::connect;
use crate::{output, wall_clock};

/// Options of `setpoint user token`.
#[derive(Args)]
pub struct Token {
    /// The user
    name: String,
    /// How long the token is good; without it, as long as the user is there
    #[arg(long, value_name = "TIME", value_parser = life)]
    expires: Option<SignedDuration>,
    /// Remove the token of this id, as `user list` shows it, instead
    #[arg(long, value_name = "ID", conflicts_with = "expires")]
    remove: Option<String>,
}

impl Token {
    /// Makes or removes a token. What it prints is kept nowhere.
    pub async fn run(self, global: &Global) -> anyhow::Result<()> {
        let client = connect(global).await?;
        let (secret, mut user) = read(&client, &self.name).await?;
        let now = wall_clock();
        let made = match &self.remove {
            Some(id) => {
                let before = user.tokens.len();
                user.tokens.retain(|token| token.id != *id);
                ensure!(user.tokens.len() < before, "user {} has no token {id}", self.name);
                None
            }
            None => {
                // Those that are over make room.
                user.tokens.retain(|token| token.expires.is_none_or(|end| end > now));
                let text = TokenText::new(&self.name, &rand::random());
                let expires = self.expires.and_then(|life| now.checked_add(life).ok());
                user.tokens.push(text.kept(expires));
                Some((text, expires))
            }
        };
        Record::from_secret(&user.to_secret()).context("the token cannot be added")?;
        // Of the version that was read: a token that somebody else makes at the same time is not lost.
        let patch = json!({
            "metadata": {"resourceVersion": secret.metadata.resource_version},
            "data": user.data(),
        });
        secrets(&client)
            .patch(
                &Record::secret_name(&self.name),
                &PatchParams::default(),
                &Patch::Merge(&patch),
            )
            .await
            .with_context(|| format!("cannot write the tokens of user {}", self.name))?;
        match made {
            Some((text, expires)) => self.print(global, &text, expires),
            None => match global.output {
                Format::Json => output::json(&json!({"name": self.name, "removed": self.remove})),
                Format::Text => {
                    output::note("the token is refused from now on");
                    Ok(())
                }
            },
        }
    }

    fn print(&self, global: &Global, text: &TokenText, expires: Option<Timestamp>) -> anyhow::Result<()> {
        match global.output {
            Format::Json => output::json(&json!({
                "name": self.name,
                "token": text.as_str(),
                "id": text.kept(expires).id,
                "expires": expires,
            })),
            Format::Text => {
                output::text(&format!("{}\n", text.as_str()));
                Ok(())
            }
        }
    }
}
