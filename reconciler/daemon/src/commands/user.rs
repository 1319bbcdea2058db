//! `setpoint user`: who has access from outside, beside the administrator.
//!
//! A user is a Secret in `kube-system` ([`setpoint_server::users`]); a certificate or token is good as long as it is there. The private
//! key of a certificate is made here and is kept nowhere but in the kubeconfig.

mod add;
mod list;
mod remove;
mod token;

use anyhow::{Context, bail};
use clap::Subcommand;
use jiff::{SignedDuration, Span, SpanRelativeTo, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use setpoint_server::users::{NAMESPACE, User as Record};

use crate::cli::Global;

/// The label of bindings that were made for a user: the name of the user's Secret.
const LABEL: &str = "setpoint.dev/user";

/// Users: who has access from outside, by certificates and tokens that can be taken back
#[derive(Subcommand)]
pub enum User {
    /// Make a user and a kubeconfig for it
    Add(add::Add),
    /// List the users
    List(list::List),
    /// Remove a user: its certificate and tokens are refused from then on, and what was bound to it here goes
    Remove(remove::Remove),
    /// Make a bearer token for a user, or remove one
    Token(token::Token),
}

impl User {
    /// Runs the command.
    pub async fn run(self, global: Global) -> anyhow::Result<()> {
        match self {
            User::Add(add) => add.run(&global).await,
            User::List(list) => list.run(&global).await,
            User::Remove(remove) => remove.run(&global).await,
            User::Token(token) => token.run(&global).await,
        }
    }
}

fn secrets(client: &Client) -> Api<Secret> {
    Api::namespaced(client.clone(), NAMESPACE)
}

/// Reads a user; fails, naming it, when there is none.
async fn read(client: &Client, name: &str) -> anyhow::Result<(Secret, Record)> {
    let secret = secrets(client)
        .get_opt(&Record::secret_name(name))
        .await
        .with_context(|| format!("cannot read user {name}"))?;
    let Some(secret) = secret else {
        bail!("there is no user {name}; `setpoint user list` shows who there is");
    };
    let record = record(&secret).with_context(|| format!("user {name} is damaged; remove it and add it again"))?;
    Ok((secret, record))
}

fn record(secret: &Secret) -> anyhow::Result<Record> {
    Ok(Record::from_secret(&serde_json::to_value(secret)?)?)
}

/// Reads how long something is to be good: `365d`, `12h`, `1w`.
fn life(text: &str) -> Result<SignedDuration, String> {
    let wrong = || format!("{text:?} is no length of time: write 365d, 12h or 1w");
    let span: Span = text.parse().map_err(|_| wrong())?;
    let life = span
        .to_duration(SpanRelativeTo::days_are_24_hours())
        .map_err(|_| wrong())?;
    if life < SignedDuration::from_mins(10) {
        return Err("it has to be good for 10 minutes at least".to_owned());
    }
    Ok(life)
}

/// How a time is shown.
fn shown(time: Option<Timestamp>, now: Timestamp) -> String {
    match time {
        None => "-".to_owned(),
        Some(time) if time <= now => format!("{} (over)", time.strftime("%Y-%m-%d")),
        Some(time) => time.strftime("%Y-%m-%d").to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_are_read_as_people_write_them() {
        assert_eq!(life("365d"), Ok(SignedDuration::from_hours(365 * 24)));
        assert_eq!(life("12h"), Ok(SignedDuration::from_hours(12)));
        assert_eq!(life("1w"), Ok(SignedDuration::from_hours(7 * 24)));
        for wrong in ["", "365", "-3d", "1m", "soon", "99999999999999d"] {
            assert!(life(wrong).is_err(), "{wrong}");
        }
    }
}
