//! `setpoint changes`: who changed what, and how.

use anyhow::bail;
use clap::Args;
use jiff::tz::TimeZone;
use serde_json::json;
use setpoint_plan::{FieldChange, ObjectRef, mask, past as written};

use crate::cli::{Format, Global};
use crate::kinds::Kind;
use crate::moment::{self, Moment};
use crate::past::{self, Change, NoPast, Window};
use crate::{client, kinds, output, wall_clock};

/// Of one object no more changed fields are shown than this.
const MAX_FIELDS: usize = 50;

/// Options of `setpoint changes`.
#[derive(Args)]
#[command(after_help = "\
TIME is one of:
  \"10 minutes ago\", \"2h ago\", 90s     so long before now
  14:30, \"yesterday 14:30\"            a time of the day (the last one that was)
  2026-11-21, \"2026-11-21 14:30\"      a date, in this machine's time zone
  2026-11-21T14:30:00Z                RFC 3339
  @1234                               a revision of the cluster

Whoever changed an object is named by the field manager of the write; (status) is a write of the status. Who deleted an object is not
known. Values of Secrets are hidden: their length and the start of their hash show whether they changed. Changes of nothing but the
status are left out unless --status is given; Events and Leases are never shown.")]
pub struct Changes {
    /// The kind: plural, singular or short name, alone or with its group (default: all)
    kind: Option<String>,
    /// The object's name (default: all)
    #[arg(requires = "kind")]
    name: Option<String>,
    /// From when on (default: an hour ago)
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Up to when (default: now)
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Only objects of this namespace (default: all objects)
    #[arg(short, long)]
    namespace: Option<String>,
    /// Objects of all namespaces, and those that have none: the default
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    all_namespaces: bool,
    /// Show changes of nothing but the status, too
    #[arg(long)]
    status: bool,
}

impl Changes {
    /// Prints the changes, the oldest first.
    pub async fn run(self, global: Global) -> anyhow::Result<()> {
        let zone = TimeZone::system();
        let now = wall_clock().to_zoned(zone.clone());
        let read = |text: &Option<String>| text.as_deref().map(|text| moment::parse(text, &now)).transpose();
        let since = read(&self.since)?.unwrap_or_else(|| moment::an_hour_before(&now));
        let until = read(&self.until)?;
        let client = client::connect(&global).await?;
        let window = past::window(&client).await?.ok_or(NoPast)?;
        let kind = match &self.kind {
            Some(word) => Some(kinds::resolve(&client, word).await?),
            None => None,
        };
        if let Some(kind) = &kind
            && !kind.namespaced
            && self.namespace.is_some()
        {
            bail!("{} are in no namespace: leave -n out", kind.qualified());
        }
        let last = match until {
            Some(Moment::Revision(revision)) => revision,
            Some(Moment::Time(_)) => u64::MAX,
            // Now is when it was asked.
            None => window.newest,
        };
        tell_of_what_is_gone(&window, since, &zone);
        let mut query = self.query(kind.as_ref(), since, until);
        let mut printer = Printer::new(global.output, self.status, zone);
        loop {
            let page = past::changes(&client, &query).await?;
            for change in page.changes.into_iter().filter(|change| change.revision <= last) {
                printer.print(change);
            }
            match page.next.filter(|next| *next < last) {
                Some(next) => {
                    query.retain(|(key, _)| !matches!(*key, "since" | "after"));
                    query.push(("after", next.to_string()));
                }
                None => {
                    printer.end(page.upto.min(last));
                    return Ok(());
                }
            }
        }
    }

    fn query(&self, kind: Option<&Kind>, since: Moment, until: Option<Moment>) -> Vec<(&'static str, String)> {
        let mut query = vec![match since {
            Moment::Time(time) => ("since", time.to_string()),
            Moment::Revision(revision) => ("after", revision.to_string()),
        }];
        if let Some(Moment::Time(until)) = until {
            query.push(("until", until.to_string()));
        }
        let texts = [
            ("resource", kind.map(Kind::in_log)),
            ("namespace", self.namespace.clone()),
            ("name", self.name.clone()),
        ];
        query.extend(texts.into_iter().filter_map(|(key, text)| Some((key, text?))));
        query
    }
}

/// Says that history does not reach back as far as was asked.
fn tell_of_what_is_gone(window: &Window, since: Moment, zone: &TimeZone) {
    let begins = match (since, window.since) {
        (Moment::Time(asked), Some(begins)) if asked < begins => moment::shown(begins, zone),
        _ => return,
    };
    output::note(&format!("history begins at {begins} (revision {})", window.oldest));
}

/// Prints changes as they come.
struct Printer {
    format: Format,
    status: bool,
    zone: TimeZone,
    printed: usize,
    left_out: usize,
}

impl Printer {
    fn new(format: Format, status: bool, zone: TimeZone) -> Printer {
        Printer {
            format,
            status,
            zone,
            printed: 0,
            left_out: 0,
        }
    }

    fn print(&mut self, change: Change) {
        let told = Told::of(change);
        if told.is_noise && !self.status {
            self.left_out += 1;
            return;
        }
        match self.format {
            Format::Text => output::text(&told.text(&self.zone)),
            // One document, written as it comes: a day of changes need not fit into memory.
            Format::Json => {
                let start = if self.printed == 0 { "{\"changes\": [\n" } else { ",\n" };
                output::text(&format!("{start}{}", told.json()));
            }
        }
        self.printed += 1;
    }

    fn end(&self, upto: u64) {
        match (self.format, self.printed) {
            (Format::Json, 0) => output::text(&format!("{{\"changes\": [], \"upto\": {upto}}}\n")),
            (Format::Json, _) => output::text(&format!("\n], \"upto\": {upto}}}\n")),
            (Format::Text, 0) => output::text("nothing changed\n"),
            (Format::Text, _) => {}
        }
        if self.left_out > 0 && self.format == Format::Text {
            output::note(&format!(
                "left out: {} changes of nothing but the status (--status shows them)",
                self.left_out
            ));
        }
    }
}

/// A change with what it means, its secrets hidden.
struct Told {
    change: Change,
    object: ObjectRef,
    diff: Vec<FieldChange>,
    by: Vec<String>,
    /// Whether nothing changed but the status, or who owns which fields.
    is_noise: bool,
}

impl Told {
    fn of(change: Change) -> Told {
        let diff = match (&change.before, &change.after) {
            (Some(before), Some(after)) => written::changes(before, after),
            _ => Vec::new(),
        };
        let status_only = written::is_status_only(&diff);
        // Owners' times are cut to the second, and given before the write is committed.
        let since = change
            .time
            .and_then(|time| time.checked_sub(jiff::SignedDuration::from_secs(2)).ok())
            .map(|time| time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
        let by = match since {
            Some(since) => written::writers(change.before.as_ref(), change.after.as_ref(), status_only, &since),
            None => Vec::new(),
        };
        let both = change.before.is_some() && change.after.is_some();
        let (group, _) = change.resource.split_once('/').unwrap_or_default();
        let object = ObjectRef {
            group: if group == "core" { "" } else { group }.to_owned(),
            version: String::new(),
            kind: if change.kind.is_empty() {
                change.resource.clone()
            } else {
                change.kind.clone()
            },
            namespace: (!change.namespace.is_empty()).then(|| change.namespace.clone()),
            name: change.name.clone(),
        };
        Told {
            is_noise: both && (status_only || diff.is_empty()),
            diff: mask::changes(&object, &diff),
            object,
            by,
            change,
        }
    }

    fn text(&self, zone: &TimeZone) -> String {
        let time = self
            .change
            .time
            .map_or("?".to_owned(), |time| moment::shown(time, zone));
        let by = if self.by.is_empty() {
            "?".to_owned()
        } else {
            self.by.join(", ")
        };
        let (sign, colour) = match self.change.r#type.as_str() {
            "created" => ('+', "32"),
            "deleted" => ('-', "31"),
            _ => ('~', "33"),
        };
        let what = output::paint(colour, &format!("{sign} {} {}", self.change.r#type, self.object));
        let mut text = format!("{time}  @{}  {what}  by {by}\n", self.change.revision);
        for field in self.diff.iter().take(MAX_FIELDS) {
            text.push_str(&format!("    {field}\n"));
        }
        if let Some(more) = self.diff.len().checked_sub(MAX_FIELDS).filter(|more| *more > 0) {
            text.push_str(&format!("    and {more} more\n"));
        }
        text
    }

    fn json(&self) -> serde_json::Value {
        let change = &self.change;
        json!({
            "revision": change.revision,
            "time": change.time,
            "resource": change.resource,
            "kind": change.kind,
            "namespace": change.namespace,
            "name": change.name,
            "type": change.r#type,
            "by": self.by,
            "diff": self.diff,
            "before": change.before.as_ref().map(mask::object),
            "after": change.after.as_ref().map(mask::object),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn secret(value: &str, time: &str) -> Value {
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "shop",
            "managedFields": [{"manager": "kubectl-edit", "operation": "Update", "time": time}]},
            "data": {"password": value}})
    }

    fn change(before: Option<Value>, after: Option<Value>) -> Change {
        let kind = |object: &Value| object["kind"].as_str().unwrap_or_default().to_owned();
        Change {
            revision: 7,
            time: Some("2026-11-21T14:03:10Z".parse().expect("a time")),
            resource: "core/secrets".to_owned(),
            kind: after.as_ref().or(before.as_ref()).map(kind).unwrap_or_default(),
            namespace: "shop".to_owned(),
            name: "s".to_owned(),
            r#type: match (&before, &after) {
                (None, _) => "created",
                (_, None) => "deleted",
                _ => "changed",
            }
            .to_owned(),
            before,
            after,
        }
    }

    #[test]
    fn a_change_tells_when_what_by_whom_and_how_without_its_secrets() {
        let told = Told::of(change(
            Some(secret("aHVudGVyMg==", "2026-11-21T14:00:00Z")),
            Some(secret("aHVudGVyMw==", "2026-11-21T14:03:10Z")),
        ));
        let text = told.text(&TimeZone::UTC);
        let mut lines = text.lines();
        assert_eq!(
            lines.next(),
            Some("2026-11-21 14:03:10  @7  ~ changed Secret shop/s  by kubectl-edit")
        );
        let field = lines.next().expect("a field");
        assert!(field.starts_with("    data.password: \"hidden, 7 bytes, "), "{field}");
        let all = format!("{text}{}", told.json());
        assert!(!all.contains("aHVudGVy"), "{all}");
    }

    #[test]
    fn creations_and_deletions_show_no_fields() {
        let made = Told::of(change(None, Some(secret("YQ==", "1"))));
        assert_eq!(
            made.text(&TimeZone::UTC),
            "2026-11-21 14:03:10  @7  + created Secret shop/s  by kubectl-edit\n"
        );
        let gone = Told::of(change(Some(secret("YQ==", "1")), None));
        assert_eq!(
            gone.text(&TimeZone::UTC),
            "2026-11-21 14:03:10  @7  - deleted Secret shop/s  by ?\n"
        );
        assert!(!made.is_noise && !gone.is_noise);
        assert!(!gone.json().to_string().contains("YQ=="));
    }

    #[test]
    fn what_changes_only_the_status_or_the_owners_is_noise() {
        let pod = |phase: &str, image: &str, time: &str| {
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "managedFields": [{"manager": "agent", "time": time}]},
                "spec": {"containers": [{"name": "a", "image": image}]}, "status": {"phase": phase}})
        };
        let is_noise = |before: Value, after: Value| Told::of(change(Some(before), Some(after))).is_noise;
        assert!(is_noise(pod("Pending", "a:1", "1"), pod("Running", "a:1", "1")));
        assert!(is_noise(pod("Running", "a:1", "1"), pod("Running", "a:1", "2")));
        assert!(!is_noise(pod("Pending", "a:1", "1"), pod("Running", "a:2", "1")));
    }
}
