//! The kinds of a cluster, and which of them a word means: as kubectl reads it.

use anyhow::{Context, bail};
use kube::Client;
use serde_json::Value;

/// How discovery is asked for everything at once: the form of Kubernetes from 1.30 on, and that of 1.27 to 1.29.
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,\
                          application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";

/// A kind that a cluster serves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kind {
    /// The API group; empty for the core.
    pub group: String,
    /// The group's preferred version that has it.
    pub version: String,
    /// The kind: `Deployment`.
    pub kind: String,
    /// The plural: `deployments`.
    pub plural: String,
    /// The singular; empty where there is none.
    pub singular: String,
    /// Short names: `deploy`.
    pub short: Vec<String>,
    /// Whether objects live in a namespace.
    pub namespaced: bool,
}

impl Kind {
    /// Returns the path of its objects, of one namespace or of all.
    pub fn path(&self, namespace: Option<&str>) -> String {
        let root = match self.group.as_str() {
            "" => format!("/api/{}", self.version),
            group => format!("/apis/{group}/{}", self.version),
        };
        match namespace.filter(|_| self.namespaced) {
            Some(namespace) => format!("{root}/namespaces/{}/{}", crate::apps::escape(namespace), self.plural),
            None => format!("{root}/{}", self.plural),
        }
    }

    /// Returns the kind as the log names it: `apps/deployments`, `core/pods`.
    pub fn in_log(&self) -> String {
        let group = if self.group.is_empty() { "core" } else { &self.group };
        format!("{group}/{}", self.plural)
    }

    /// Returns what messages call its objects: `deployments.apps`.
    pub fn qualified(&self) -> String {
        match self.group.as_str() {
            "" => self.plural.clone(),
            group => format!("{}.{group}", self.plural),
        }
    }

    /// Whether a word names the kind: its plural, singular or kind, alone or with `.group` or `.version.group` after it.
    fn is_named(&self, word: &str) -> bool {
        let (name, place) = word.split_once('.').unwrap_or((word, ""));
        let here = place.is_empty()
            || place == self.group
            || place
                .strip_prefix(self.version.as_str())
                .is_some_and(|rest| rest.strip_prefix('.').unwrap_or(rest) == self.group);
        here && !name.is_empty() && (name == self.plural || name == self.singular || name == self.kind.to_lowercase())
    }
}

/// Finds the kind that a word means on a cluster.
pub async fn resolve(client: &Client, word: &str) -> anyhow::Result<Kind> {
    let mut kinds = Vec::new();
    for root in ["/api", "/apis"] {
        let request = http::Request::get(root)
            .header(http::header::ACCEPT, AGGREGATED)
            .body(Vec::new())?;
        let document: Value = client
            .request(request)
            .await
            .context("cannot ask which kinds the cluster has")?;
        kinds.extend(read(&document));
    }
    match choose(&kinds, word) {
        Some(kind) => Ok(kind.clone()),
        None => bail!("the cluster has no kind {word:?} whose objects could be listed"),
    }
}

/// Reads the kinds that can be listed, of each group's first version that has them.
fn read(document: &Value) -> Vec<Kind> {
    let list = |value: &Value, key: &str| value[key].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut kinds: Vec<Kind> = Vec::new();
    for group in list(document, "items") {
        let name = text(&group["metadata"]["name"]);
        for version in list(&group, "versions") {
            for resource in list(&version, "resources") {
                let plural = text(&resource["resource"]);
                let known = kinds.iter().any(|kind| kind.group == name && kind.plural == plural);
                if known || !list(&resource, "verbs").iter().any(|verb| verb == "list") {
                    continue;
                }
                kinds.push(Kind {
                    group: name.clone(),
                    version: text(&version["version"]),
                    kind: text(&resource["responseKind"]["kind"]),
                    plural,
                    singular: text(&resource["singularResource"]),
                    short: list(&resource, "shortNames").iter().map(text).collect(),
                    namespaced: resource["scope"] == "Namespaced",
                });
            }
        }
    }
    kinds
}

/// Names go before short names, and groups in the cluster's order.
fn choose<'a>(kinds: &'a [Kind], word: &str) -> Option<&'a Kind> {
    let word = word.to_lowercase();
    kinds
        .iter()
        .find(|kind| kind.is_named(&word))
        .or_else(|| kinds.iter().find(|kind| kind.short.contains(&word)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn kinds() -> Vec<Kind> {
        let resource = |plural: &str, kind: &str, short: &[&str], verbs: &[&str]| {
            json!({"resource": plural, "responseKind": {"group": "", "version": "", "kind": kind}, "scope": "Namespaced",
                "singularResource": kind.to_lowercase(), "shortNames": short, "verbs": verbs})
        };
        read(&json!({"items": [
            {"metadata": {}, "versions": [{"version": "v1", "resources": [
                resource("pods", "Pod", &["po"], &["get", "list"]), resource("events", "Event", &["ev"], &["list"]),
                resource("bindings", "Binding", &[], &["create"])]}]},
            {"metadata": {"name": "apps"}, "versions": [
                {"version": "v1", "resources": [resource("deployments", "Deployment", &["deploy"], &["list"])]},
                {"version": "v1beta1", "resources": [resource("deployments", "Deployment", &["deploy"], &["list"])]}]},
            {"metadata": {"name": "events.k8s.io"}, "versions": [{"version": "v1", "resources": [resource("events", "Event", &["ev"], &["list"])]}]},
        ]}))
    }

    fn found(word: &str) -> Option<String> {
        let kinds = kinds();
        choose(&kinds, word).map(|kind| kind.path(Some("shop")))
    }

    #[test]
    fn a_word_means_what_it_means_to_kubectl() {
        let deployments = Some("/apis/apps/v1/namespaces/shop/deployments".to_owned());
        for word in [
            "deployments",
            "deployment",
            "Deployment",
            "deploy",
            "deployments.apps",
            "deployment.apps",
            "deployments.v1.apps",
        ] {
            assert_eq!(found(word), deployments, "{word}");
        }
        assert_eq!(found("po").as_deref(), Some("/api/v1/namespaces/shop/pods"));
        assert_eq!(
            found("ev").as_deref(),
            Some("/api/v1/namespaces/shop/events"),
            "the core first"
        );
        assert_eq!(
            found("events.events.k8s.io").as_deref(),
            Some("/apis/events.k8s.io/v1/namespaces/shop/events")
        );
        for word in ["bindings", "deployments.example.com", "nothing", ""] {
            assert_eq!(found(word), None, "{word}");
        }
    }

    #[test]
    fn a_kind_has_its_place_in_the_log() {
        let kinds = kinds();
        let place = |word: &str| choose(&kinds, word).map(Kind::in_log);
        assert_eq!(place("po").as_deref(), Some("core/pods"));
        assert_eq!(place("deploy").as_deref(), Some("apps/deployments"));
    }
}
