//! The CLI's way to apps: their objects, and what can be asked of them.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt as _};
use serde::de::DeserializeOwned;
use serde_json::Value;
use setpoint_engine::Name;
use setpoint_engine::api::{App, NAMESPACE};

use crate::cli::Global;
use crate::{client, output};

/// How often an app is looked at while its sync is waited for.
const LOOK: Duration = Duration::from_millis(200);

/// Reads an app's name as people give it: `name`, or `namespace/name`.
pub fn name(text: &str) -> Name {
    Name::parse(text).unwrap_or_else(|| Name::new(NAMESPACE, text))
}

/// The apps of a cluster.
pub struct Apps {
    client: Client,
}

impl Apps {
    /// Connects to the cluster that the options name.
    pub async fn connect(global: &Global) -> anyhow::Result<Apps> {
        Ok(Apps {
            client: client::connect(global).await?,
        })
    }

    /// Returns the client.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Lists all apps in order of their names.
    pub async fn list(&self) -> anyhow::Result<Vec<App>> {
        let api: Api<App> = Api::all(self.client.clone());
        let mut apps = api
            .list(&ListParams::default())
            .await
            .context("cannot list apps")?
            .items;
        apps.sort_by_key(|app| (app.namespace(), app.name_any()));
        Ok(apps)
    }

    /// Returns an app.
    pub async fn get(&self, name: &Name) -> anyhow::Result<App> {
        let api: Api<App> = Api::namespaced(self.client.clone(), &name.namespace);
        let found = api
            .get_opt(&name.name)
            .await
            .with_context(|| format!("cannot read the app {}", name.name))?;
        match found {
            Some(app) => Ok(app),
            None => bail!(
                "there is no app {}; `setpoint status` lists those that there are",
                name.name
            ),
        }
    }

    /// Asks something of an app: `subresource`, with a body where it is told something.
    pub async fn ask<T: DeserializeOwned>(
        &self,
        name: &Name,
        subresource: &str,
        query: &[(&str, &str)],
        body: Option<Vec<u8>>,
    ) -> anyhow::Result<T> {
        let mut path = format!(
            "/apis/setpoint.dev/v1alpha1/namespaces/{}/apps/{}/{subresource}",
            escape(&name.namespace),
            escape(&name.name)
        );
        for (place, (key, value)) in query.iter().enumerate() {
            path.push(if place == 0 { '?' } else { '&' });
            path.push_str(&format!("{key}={}", escape(value)));
        }
        let request = http::Request::builder()
            .method(if body.is_some() { "POST" } else { "GET" })
            .uri(path)
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(body.unwrap_or_default())?;
        match self.client.request::<T>(request).await {
            Ok(answer) => Ok(answer),
            Err(kube::Error::Api(status)) if status.code == 404 => {
                bail!(
                    "there is no app {}; `setpoint status` lists those that there are",
                    name.name
                )
            }
            Err(kube::Error::Api(status)) => bail!("{}", status.message),
            Err(error) => Err(error).with_context(|| format!("cannot ask for the {subresource} of {}", name.name)),
        }
    }

    /// Waits until nothing of an app is under way, telling what it waits for; returns the app as it is then.
    pub async fn settle(&self, name: &Name, deadline: Duration) -> anyhow::Result<App> {
        let end = Instant::now() + deadline;
        let mut told = String::new();
        loop {
            let app = self.get(name).await?;
            let (health, reason) = standing(&app);
            let going_back = health == "Failed" && reason.contains("going back to");
            // What the engine has not seen yet says nothing about what was asked for.
            let seen = app.status.as_ref().and_then(|status| status.observed_generation) == app.metadata.generation;
            if seen && !going_back && !matches!(health, "Progressing" | "Waiting" | "Unknown" | "") {
                return Ok(app);
            }
            if told != reason {
                output::progress(&format!("{}: {reason}", name.name));
                told = reason.to_owned();
            }
            if Instant::now() >= end {
                bail!("{} is still {}: {reason}", name.name, health.to_lowercase());
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// Returns an app's health and reason.
pub fn standing(app: &App) -> (&str, &str) {
    app.status.as_ref().map_or(("Unknown", "not looked at yet"), |status| {
        (&status.health, &status.reason)
    })
}

/// Returns an app as `status` shows it to programs.
pub fn shown(app: &App) -> Value {
    let status = app.status.clone().unwrap_or_default();
    let (health, reason) = standing(app);
    serde_json::json!({
        "name": app.name_any(),
        "namespace": app.namespace(),
        "repository": app.spec.repository,
        "chart": app.spec.chart.as_ref().map(|chart| &chart.name),
        "target": app.spec.namespace,
        "revision": status.revision,
        "number": status.number,
        "wanted": status.wanted,
        "health": health,
        "reason": reason,
        "held": status.held,
        "objects": status.objects,
        "warnings": status.warnings,
    })
}

/// Colours a health on a terminal.
pub fn coloured(health: &str) -> String {
    match health {
        "Healthy" => output::paint("32", health),
        "Progressing" | "Waiting" => output::paint("33", health),
        "Failed" | "Degraded" => output::paint("31", health),
        other => other.to_owned(),
    }
}

/// Writes a text as part of a URL.
pub fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => escaped.push(byte as char),
            other => escaped.push_str(&format!("%{other:02X}")),
        }
    }
    escaped
}
