//! The CLI's way to the past of a cluster: what Setpoint tells of it beside the Kubernetes API.

use anyhow::Context;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use kube::Client;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::apps::escape;
use crate::moment::{self, Moment};

/// What of the past can be read.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Window {
    /// The newest revision.
    pub newest: u64,
    /// The oldest revision that can be read.
    pub oldest: u64,
    /// When that was the newest, where it is known.
    pub since: Option<Timestamp>,
    /// What the log takes on disk.
    pub bytes: u64,
    /// What it may take; 0 is anything.
    pub keep_bytes: u64,
    /// How long history is kept where there is room, in seconds; 0 is for ever.
    pub keep_age_seconds: u64,
    /// The revision of the time that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<At>,
}

/// A revision and its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct At {
    /// The revision.
    pub revision: u64,
    /// By when it had been committed; nothing where it was named by its number.
    pub time: Option<Timestamp>,
}

impl At {
    /// Writes the moment for people: `2026-11-21 14:03:10 (revision 1234)`.
    pub fn shown(&self, zone: &TimeZone) -> String {
        match self.time {
            Some(time) => format!("{} (revision {})", moment::shown(time, zone), self.revision),
            None => format!("revision {}", self.revision),
        }
    }
}

impl Window {
    /// Writes it for people: `since 2026-11-21 14:03:10 (19 h), 212 MiB of 1 GiB, 24 h kept`.
    pub fn reach(&self, now: Timestamp, zone: &TimeZone) -> String {
        let since = match self.since {
            Some(since) => {
                let ago = u64::try_from(now.as_second().saturating_sub(since.as_second())).unwrap_or(0);
                format!("since {} ({})", moment::shown(since, zone), spoken(ago))
            }
            None => format!("from revision {} on", self.oldest),
        };
        let limit = match self.keep_bytes {
            0 => String::new(),
            limit => format!(" of {}", size(limit)),
        };
        let kept = match self.keep_age_seconds {
            0 => String::new(),
            age => format!(", {} kept", spoken(age)),
        };
        format!("{since}, {}{limit}{kept}", size(self.bytes))
    }
}

/// A span of time in one unit: the largest of which there are two at least.
fn spoken(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// A number of bytes in the largest unit of which there is one at least.
fn size(bytes: u64) -> String {
    let (unit, name) = match bytes {
        0..1_024 => (1, "bytes"),
        1_024..1_048_576 => (1 << 10, "KiB"),
        1_048_576..1_073_741_824 => (1 << 20, "MiB"),
        _ => (1_u64 << 30, "GiB"),
    };
    let (whole, tenths) = (bytes / unit, bytes % unit * 10 / unit);
    match tenths {
        1.. if whole < 10 => format!("{whole}.{tenths} {name}"),
        _ => format!("{whole} {name}"),
    }
}

/// One change, as the API tells it.
#[derive(Clone, Debug, Deserialize)]
pub struct Change {
    /// The revision of the write.
    pub revision: u64,
    /// By when it had been committed, where it is known.
    pub time: Option<Timestamp>,
    /// The kind in the log: `apps/deployments`.
    pub resource: String,
    /// The kind.
    pub kind: String,
    /// The namespace; empty for what has none.
    pub namespace: String,
    /// The name.
    pub name: String,
    /// `created`, `changed` or `deleted`.
    pub r#type: String,
    /// The object before it.
    pub before: Option<Value>,
    /// The object after it.
    pub after: Option<Value>,
}

/// A part of the changes that were asked for.
#[derive(Clone, Debug, Deserialize)]
pub struct Page {
    /// The changes, the oldest first.
    pub changes: Vec<Change>,
    /// Where to go on, if this is not all.
    pub next: Option<u64>,
    /// Up to which revision this is all.
    pub upto: u64,
}

/// Only Setpoint keeps what was.
#[derive(Debug, thiserror::Error)]
#[error("this cluster keeps no past that can be read: only Setpoint does")]
pub struct NoPast;

/// The API did not answer as it was asked.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
struct Refused {
    code: u16,
    message: String,
}

/// Asks what of the past can be read; `None` of a cluster that is no Setpoint.
pub async fn window(client: &Client) -> anyhow::Result<Option<Window>> {
    ask(client, "log", &[]).await
}

/// Asks what of the past can be read; `None` also where the user may not know.
pub async fn window_if_told(client: &Client) -> anyhow::Result<Option<Window>> {
    match window(client).await {
        Err(error)
            if error
                .downcast_ref::<Refused>()
                .is_some_and(|refused| refused.code == 403) =>
        {
            Ok(None)
        }
        window => window,
    }
}

/// Finds the revision of a moment.
pub async fn find(client: &Client, moment: Moment) -> anyhow::Result<At> {
    let time = match moment {
        Moment::Revision(revision) => return Ok(At { revision, time: None }),
        Moment::Time(time) => time,
    };
    let window: Option<Window> = ask(client, "log", &[("at", time.to_string())]).await?;
    window.ok_or(NoPast)?.at.context("the API answered without the moment")
}

/// Asks for changes; the query is the API's own.
pub async fn changes(client: &Client, query: &[(&str, String)]) -> anyhow::Result<Page> {
    Ok(ask(client, "changes", query).await?.ok_or(NoPast)?)
}

async fn ask<T: serde::de::DeserializeOwned>(
    client: &Client,
    what: &str,
    query: &[(&str, String)],
) -> anyhow::Result<Option<T>> {
    let pairs: Vec<String> = query
        .iter()
        .map(|(key, value)| format!("{key}={}", escape(value)))
        .collect();
    let request = http::Request::get(format!("/setpoint/v1/{what}?{}", pairs.join("&"))).body(Vec::new())?;
    match client.request(request).await {
        Ok(answer) => Ok(Some(answer)),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
        Err(kube::Error::Api(status)) => Err(Refused {
            code: status.code,
            message: status.message,
        }
        .into()),
        Err(error) => Err(error).context("cannot ask for the past"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_is_told_in_words() {
        let mut window = Window {
            newest: 900,
            oldest: 12,
            since: Some("2026-11-21T14:03:10Z".parse().expect("a time")),
            bytes: 212 << 20,
            keep_bytes: 1 << 30,
            keep_age_seconds: 24 * 3600,
            at: None,
        };
        let now = "2026-11-22T09:10:00Z".parse().expect("a time");
        assert_eq!(
            window.reach(now, &TimeZone::UTC),
            "since 2026-11-21 14:03:10 (19 h), 212 MiB of 1 GiB, 24 h kept"
        );
        (window.since, window.keep_bytes, window.keep_age_seconds) = (None, 0, 0);
        assert_eq!(window.reach(now, &TimeZone::UTC), "from revision 12 on, 212 MiB");
    }

    /// A cluster that answers everything with a failure.
    fn failing(code: u16) -> Client {
        let service = tower::service_fn(move |_: http::Request<kube::client::Body>| async move {
            let status = serde_json::json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": "no", "reason": ""});
            http::Response::builder()
                .status(code)
                .body(kube::client::Body::from(status.to_string().into_bytes()))
        });
        Client::new(service, "default")
    }

    #[tokio::test]
    async fn of_another_cluster_it_is_said_that_it_keeps_no_past() {
        let client = failing(404);
        assert!(window(&client).await.expect("an answer").is_none());
        let time = Moment::Time(Timestamp::UNIX_EPOCH);
        let error = find(&client, time).await.expect_err("no past");
        assert!(error.is::<NoPast>(), "{error:#}");
        assert!(changes(&client, &[]).await.expect_err("no past").is::<NoPast>());
    }

    #[tokio::test]
    async fn who_may_not_know_the_past_is_told_so_when_it_is_asked_for() {
        let client = failing(403);
        assert!(window_if_told(&client).await.expect("an answer").is_none());
        assert!(changes(&client, &[]).await.is_err());
        assert!(window_if_told(&failing(500)).await.is_err());
    }

    #[test]
    fn sizes_and_spans_have_a_unit_that_suits_them() {
        let sizes: Vec<String> = [0, 1023, 1024, 1536, 15_800_000, 3 << 29].map(size).into();
        assert_eq!(
            sizes,
            ["0 bytes", "1023 bytes", "1 KiB", "1.5 KiB", "15 MiB", "1.5 GiB"]
        );
        let spans: Vec<String> = [0, 119, 120, 7_199, 7_200, 172_799, 172_800].map(spoken).into();
        assert_eq!(spans, ["0 s", "119 s", "2 min", "119 min", "2 h", "47 h", "2 days"]);
    }
}
