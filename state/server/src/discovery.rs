//! What is served: groups, versions and resources, made from the scheme at each request, custom resources included.
//!
//! Two forms of the same facts: the documents per group and version that every client knows, and the aggregated ones
//! (`apidiscovery.k8s.io`, v2 and v2beta1) that tell all of it at once to those who accept them.

mod aggregated;
mod versions;

use std::collections::BTreeSet;
use std::sync::Arc;

use http::HeaderMap;
use http::header::ACCEPT;
use serde_json::{Value, json};
use setpoint_api::Resource;

use crate::timemachine;
use versions::by_priority;

/// A document of discovery and its media type.
pub(crate) struct Document {
    /// What goes into `Content-Type`.
    pub media_type: &'static str,
    /// The document.
    pub body: Value,
    /// Whether it is everything at once, which clients keep and ask for by its digest.
    pub aggregated: bool,
}

/// Finds the document at a path; `None` when there is nothing there.
pub(crate) fn document(rows: &[Arc<Resource>], path: &str, headers: &HeaderMap) -> Option<Document> {
    let segments: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let body = match segments[..] {
        ["api" | "apis"] => {
            let core = segments[0] == "api";
            match aggregated::wanted(headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok())) {
                Some(form) => {
                    return Some(Document {
                        media_type: form.media_type(),
                        body: aggregated::list(form, &groups(rows), core),
                        aggregated: true,
                    });
                }
                None if core => json!({
                    "kind": "APIVersions",
                    "versions": ["v1"],
                    "serverAddressByClientCIDRs": [],
                }),
                None => json!({
                    "kind": "APIGroupList",
                    "apiVersion": "v1",
                    "groups": groups(rows)
                        .iter()
                        .filter(|group| !group.name.is_empty())
                        .map(Group::describe)
                        .collect::<Vec<_>>(),
                }),
            }
        }
        ["api", version] => resource_list(rows, "", version)?,
        ["apis", name] => {
            let groups = groups(rows);
            let mut group = groups.iter().find(|group| group.name == name)?.describe();
            group["kind"] = "APIGroup".into();
            group["apiVersion"] = "v1".into();
            group
        }
        ["apis", group, version] => resource_list(rows, group, version)?,
        _ => return None,
    };
    Some(Document {
        media_type: "application/json",
        body,
        aggregated: false,
    })
}

/// One API group with its versions, the preferred first.
struct Group {
    name: String,
    versions: Vec<(String, Vec<Arc<Resource>>)>,
}

impl Group {
    fn describe(&self) -> Value {
        let versions: Vec<Value> = self
            .versions
            .iter()
            .map(|(version, _)| json!({"groupVersion": format!("{}/{version}", self.name), "version": version}))
            .collect();
        json!({
            "name": self.name,
            "preferredVersion": versions.first(),
            "versions": versions,
        })
    }
}

/// The groups in the order of the scheme.
fn groups(rows: &[Arc<Resource>]) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for row in rows {
        let at = groups
            .iter()
            .position(|group| group.name == row.group)
            .unwrap_or_else(|| {
                groups.push(Group {
                    name: row.group.clone(),
                    versions: Vec::new(),
                });
                groups.len() - 1
            });
        let versions = &mut groups[at].versions;
        match versions.iter_mut().find(|(name, _)| *name == row.version) {
            Some((_, resources)) => resources.push(Arc::clone(row)),
            None => versions.push((row.version.clone(), vec![Arc::clone(row)])),
        }
    }
    for group in &mut groups {
        group.versions.sort_by(|one, other| by_priority(&one.0, &other.0));
        for (_, resources) in &mut group.versions {
            resources.sort_by(|one, other| one.plural.cmp(&other.plural));
        }
    }
    groups
}

fn resource_list(rows: &[Arc<Resource>], group: &str, version: &str) -> Option<Value> {
    let mut rows: Vec<&Arc<Resource>> = rows
        .iter()
        .filter(|row| row.group == group && row.version == version)
        .collect();
    rows.sort_by(|one, other| one.plural.cmp(&other.plural));
    let group_version = rows.first()?.api_version();
    let mut resources = Vec::new();
    for row in rows {
        let mut entry = json!({
            "name": row.plural,
            "singularName": row.singular,
            "namespaced": row.namespaced,
            "kind": row.kind,
            "verbs": row.verbs,
        });
        if !row.short_names.is_empty() {
            entry["shortNames"] = json!(row.short_names);
        }
        if !row.categories.is_empty() {
            entry["categories"] = json!(row.categories);
        }
        resources.push(entry);
        for sub in &row.subresources {
            let mut entry = json!({
                "name": format!("{}/{}", row.plural, sub.name),
                "singularName": "",
                "namespaced": row.namespaced,
                "kind": sub.kind,
                "verbs": sub.verbs,
            });
            if sub.group != row.group || sub.version != row.version {
                entry["group"] = sub.group.as_str().into();
                entry["version"] = sub.version.as_str().into();
            }
            resources.push(entry);
        }
    }
    Some(json!({
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": group_version,
        "resources": resources,
    }))
}

/// The paths that `GET /` tells of.
pub(crate) fn root_paths(rows: &[Arc<Resource>]) -> Value {
    let mut paths: BTreeSet<String> = [
        "/.well-known/openid-configuration",
        "/api",
        "/apis",
        "/healthz",
        "/livez",
        "/metrics",
        "/openapi/v2",
        "/openapi/v3",
        "/openid/v1/jwks",
        "/readyz",
        "/version",
    ]
    .into_iter()
    .chain(timemachine::PATHS)
    .map(str::to_owned)
    .collect();
    for row in rows {
        if row.group.is_empty() {
            paths.insert(format!("/api/{}", row.version));
        } else {
            paths.insert(format!("/apis/{}", row.group));
            paths.insert(format!("/apis/{}/{}", row.group, row.version));
        }
    }
    json!({"paths": paths})
}

#[cfg(test)]
mod tests {
    use setpoint_api::Scheme;

    use super::*;

    fn get(path: &str, accept: &str) -> Option<Document> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, accept.parse().expect("a header"));
        document(&Scheme::builtin().resources(), path, &headers)
    }

    #[test]
    fn every_group_and_version_that_is_told_of_is_there() {
        let groups = get("/apis", "application/json").expect("groups").body;
        let names: Vec<&str> = groups["groups"]
            .as_array()
            .expect("a list")
            .iter()
            .filter_map(|group| group["name"].as_str())
            .collect();
        assert!(names.contains(&"apps") && !names.contains(&""), "{names:?}");
        for group in groups["groups"].as_array().expect("a list") {
            for version in group["versions"].as_array().expect("a list") {
                let path = format!("/apis/{}", version["groupVersion"].as_str().expect("text"));
                let list = get(&path, "*/*").expect("a list of resources").body;
                assert_eq!(list["groupVersion"], version["groupVersion"]);
                assert!(!list["resources"].as_array().expect("a list").is_empty());
            }
        }
        assert!(get("/apis/none.example.com/v1", "*/*").is_none());
        assert!(get("/api/v2", "*/*").is_none());
    }

    #[test]
    fn the_aggregated_form_is_given_to_those_who_ask_for_it() {
        let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";
        let document = get("/api", accept).expect("a document");
        assert_eq!(
            document.media_type,
            "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
        );
        assert_eq!(document.body["items"][0]["metadata"]["name"], Value::Null);
        let resources = document.body["items"][0]["versions"][0]["resources"]
            .as_array()
            .expect("a list");
        let pods = resources
            .iter()
            .find(|resource| resource["resource"] == "pods")
            .expect("pods");
        assert_eq!(pods["scope"], "Namespaced");
        assert_eq!(pods["responseKind"]["kind"], "Pod");
        assert!(
            pods["subresources"]
                .as_array()
                .expect("a list")
                .iter()
                .any(|sub| sub["subresource"] == "log")
        );
        let old = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";
        let document = get("/apis", old).expect("a document");
        assert_eq!(document.body["apiVersion"], "apidiscovery.k8s.io/v2beta1");
    }
}
