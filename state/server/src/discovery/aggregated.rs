//! `apidiscovery.k8s.io`: everything in one document.

use std::sync::Arc;

use serde_json::{Map, Value, json};
use setpoint_api::Resource;

use super::Group;

/// The version of the aggregated form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Since Kubernetes 1.30.
    V2,
    /// Before that; kubectl 1.27 to 1.29 ask for it.
    V2beta1,
}

impl Form {
    pub(super) fn media_type(self) -> &'static str {
        match self {
            Form::V2 => "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
            Form::V2beta1 => "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList",
        }
    }
}

/// The form that the accepted media types ask for; `None` is the plain documents.
pub(super) fn wanted<'a>(accept: impl Iterator<Item = &'a str>) -> Option<Form> {
    for range in accept.flat_map(|value| value.split(',')) {
        let mut parts = range.split(';').map(str::trim);
        if !matches!(parts.next(), Some("application/json" | "application/*" | "*/*")) {
            continue;
        }
        let (mut group, mut version, mut shape) = ("", "", "");
        for part in parts {
            match part.split_once('=') {
                Some(("g", value)) => group = value,
                Some(("v", value)) => version = value,
                Some(("as", value)) => shape = value,
                _ => {}
            }
        }
        match (shape, group, version) {
            ("", ..) => return None,
            ("APIGroupDiscoveryList", "apidiscovery.k8s.io", "v2") => return Some(Form::V2),
            ("APIGroupDiscoveryList", "apidiscovery.k8s.io", "v2beta1") => {
                return Some(Form::V2beta1);
            }
            _ => {}
        }
    }
    None
}

/// The document of the core group, or that of all others.
pub(super) fn list(form: Form, groups: &[Group], core: bool) -> Value {
    let version = match form {
        Form::V2 => "v2",
        Form::V2beta1 => "v2beta1",
    };
    let items: Vec<Value> = groups
        .iter()
        .filter(|group| group.name.is_empty() == core)
        .map(describe)
        .collect();
    json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": format!("apidiscovery.k8s.io/{version}"),
        "metadata": {},
        "items": items,
    })
}

fn describe(group: &Group) -> Value {
    let mut metadata = Map::new();
    if !group.name.is_empty() {
        metadata.insert("name".into(), group.name.as_str().into());
    }
    let versions: Vec<Value> = group
        .versions
        .iter()
        .map(|(version, rows)| {
            json!({
                "version": version,
                "resources": rows.iter().map(resource).collect::<Vec<_>>(),
                "freshness": "Current",
            })
        })
        .collect();
    json!({"metadata": metadata, "versions": versions})
}

fn resource(row: &Arc<Resource>) -> Value {
    let mut entry = json!({
        "resource": row.plural,
        "responseKind": {"group": row.group, "version": row.version, "kind": row.kind},
        "scope": if row.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": row.singular,
        "verbs": row.verbs,
    });
    if !row.short_names.is_empty() {
        entry["shortNames"] = json!(row.short_names);
    }
    if !row.categories.is_empty() {
        entry["categories"] = json!(row.categories);
    }
    if !row.subresources.is_empty() {
        let subs = row.subresources.iter().map(|sub| {
            json!({
                "subresource": sub.name,
                "responseKind": {"group": sub.group, "version": sub.version, "kind": sub.kind},
                "verbs": sub.verbs,
            })
        });
        entry["subresources"] = subs.collect();
    }
    entry
}
