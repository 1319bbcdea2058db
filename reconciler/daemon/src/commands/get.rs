//! `setpoint get`: objects as they are, or as they were.

use anyhow::{Context, bail};
use clap::Args;
use jiff::tz::TimeZone;
use kube::Client;
use serde_json::{Value, json};

use crate::apps::escape;
use crate::cli::{Format, Global};
use crate::kinds::{self, Kind};
use crate::past::{self, At};
use crate::{client, moment, output, wall_clock};

const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";

/// Options of `setpoint get`.
#[derive(Args)]
#[command(after_help = "\
TIME is one of:
  \"10 minutes ago\", \"2h ago\", 90s     so long before now
  14:30, \"yesterday 14:30\"            a time of the day (the last one that was)
  2026-11-21, \"2026-11-21 14:30\"      a date, in this machine's time zone
  2026-11-21T14:30:00Z                RFC 3339
  @1234                               a revision of the cluster

`setpoint status` shows how far back history reaches. Of Events and Leases only the present is kept.")]
pub struct Get {
    /// The kind: plural, singular or short name, alone or with its group (deployments, deploy, deployments.apps)
    kind: String,
    /// The object's name (default: all)
    name: Option<String>,
    /// The namespace
    #[arg(short, long)]
    namespace: Option<String>,
    /// Objects of all namespaces
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    all_namespaces: bool,
    /// How it was then, instead of how it is now
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
}

impl Get {
    /// Prints the objects.
    pub async fn run(self, global: Global) -> anyhow::Result<()> {
        let zone = TimeZone::system();
        let now = wall_clock().to_zoned(zone.clone());
        // Read before anything is asked: a wrong word needs no cluster.
        let wanted = self.at.as_deref().map(|text| moment::parse(text, &now)).transpose()?;
        let (word, name) = match (self.kind.split_once('/'), self.name) {
            (Some((kind, name)), None) => (kind.to_owned(), Some(name.to_owned())),
            (_, name) => (self.kind, name),
        };
        if name.is_some() && self.all_namespaces {
            bail!("an object has one namespace: give -n NAMESPACE with a name, not -A");
        }
        let client = client::connect(&global).await?;
        let at = match wanted {
            Some(moment) => Some(past::find(&client, moment).await?),
            None => None,
        };
        let kind = kinds::resolve(&client, &word).await?;
        let namespace = match (kind.namespaced, self.all_namespaces) {
            (true, false) => Some(self.namespace.unwrap_or_else(|| client.default_namespace().to_owned())),
            _ => None,
        };
        let query = Query {
            client: &client,
            kind: &kind,
            namespace: namespace.as_deref(),
            name: name.as_deref(),
            at,
            zone: &zone,
        };
        match global.output {
            Format::Json => output::json(&query.objects().await?),
            Format::Text => {
                if let Some(at) = at {
                    output::note(&format!("as of {}", at.shown(&zone)));
                }
                query.print(self.all_namespaces && kind.namespaced).await
            }
        }
    }
}

/// What is asked for.
struct Query<'a> {
    client: &'a Client,
    kind: &'a Kind,
    namespace: Option<&'a str>,
    name: Option<&'a str>,
    at: Option<At>,
    zone: &'a TimeZone,
}

impl Query<'_> {
    /// Says what is asked for, for messages: `Deployment "web" in the namespace shop`, `deployments.apps in the namespace shop`.
    fn what(&self) -> String {
        let what = match self.name {
            Some(name) => format!("{} {name:?}", self.kind.kind),
            None => self.kind.qualified(),
        };
        let place = self
            .namespace
            .map(|namespace| format!(" in the namespace {namespace}"))
            .unwrap_or_default();
        format!("{what}{place}")
    }

    async fn ask(&self, accept: &str) -> anyhow::Result<Value> {
        let mut path = self.kind.path(self.namespace);
        match (self.at, self.name) {
            (None, None) => {}
            (None, Some(name)) => path.push_str(&format!("/{}", escape(name))),
            // The past is read by lists: an object by its name is always the present one.
            (Some(at), name) => {
                path.push_str(&format!("?resourceVersion={}&resourceVersionMatch=Exact", at.revision));
                if let Some(name) = name {
                    path.push_str(&format!("&fieldSelector={}", escape(&format!("metadata.name={name}"))));
                }
            }
        }
        let request = http::Request::get(path)
            .header(http::header::ACCEPT, accept)
            .body(Vec::new())?;
        match (self.client.request(request).await, self.at) {
            (Ok(answer), _) => Ok(answer),
            (Err(kube::Error::Api(status)), Some(at)) if status.code == 410 => bail!(
                "how {} was at {} is no longer kept: {}",
                self.what(),
                at.shown(self.zone),
                status.message
            ),
            (Err(kube::Error::Api(status)), _) => bail!("{}", status.message),
            (Err(error), _) => Err(error).with_context(|| format!("cannot ask for {}", self.what())),
        }
    }

    fn absent(&self) -> anyhow::Error {
        match self.at {
            Some(at) => anyhow::anyhow!("there was no {} at {}", self.what(), at.shown(self.zone)),
            None => anyhow::anyhow!("there is no {}", self.what()),
        }
    }

    /// Returns the object that is named, or all of them as a List, as kubectl does.
    async fn objects(&self) -> anyhow::Result<Value> {
        let mut answer = self.ask("application/json").await?;
        let Some(items) = answer.get_mut("items").and_then(Value::as_array_mut) else {
            hide_owners(&mut answer);
            return Ok(answer);
        };
        let mut items = std::mem::take(items);
        for item in &mut items {
            hide_owners(item);
            // Items of a list need not say what they are.
            if item.get("kind").is_none() {
                item["kind"] = self.kind.kind.as_str().into();
                item["apiVersion"] = match self.kind.group.as_str() {
                    "" => self.kind.version.clone(),
                    group => format!("{group}/{}", self.kind.version),
                }
                .into();
            }
        }
        match self.name {
            None => Ok(json!({"apiVersion": "v1", "kind": "List", "items": items})),
            Some(_) => items.into_iter().next().ok_or_else(|| self.absent()),
        }
    }

    async fn print(&self, with_namespaces: bool) -> anyhow::Result<()> {
        let table = self.ask(TABLE).await?;
        let Some(columns) = table["columnDefinitions"].as_array() else {
            bail!("the cluster makes no table of {}; use -o json", self.kind.qualified());
        };
        let shown: Vec<usize> = (0..columns.len())
            .filter(|&at| columns[at]["priority"].as_i64().unwrap_or(0) == 0)
            .collect();
        let rows: Vec<Vec<String>> = table["rows"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|row| {
                let namespace = with_namespaces.then(|| cell(&row["object"]["metadata"]["namespace"]));
                namespace
                    .into_iter()
                    .chain(shown.iter().map(|&at| cell(&row["cells"][at])))
                    .collect()
            })
            .collect();
        if rows.is_empty() {
            if self.name.is_some() {
                return Err(self.absent());
            }
            let there = if self.at.is_some() { "there were" } else { "there are" };
            output::note(&format!("{there} no {}", self.what()));
            return Ok(());
        }
        let header: Vec<String> = with_namespaces
            .then(|| "NAMESPACE".to_owned())
            .into_iter()
            .chain(shown.iter().map(|&at| cell(&columns[at]["name"]).to_uppercase()))
            .collect();
        let header: Vec<&str> = header.iter().map(String::as_str).collect();
        output::table(&header, &rows);
        Ok(())
    }
}

/// Leaves out who owns which fields, as kubectl does: nobody reads it, and it is most of the text.
fn hide_owners(object: &mut Value) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => "<none>".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
