//! The engine's own kinds, as kubectl sees them: `App` and `Repository`.
//!
//! The descriptions here are what `kubectl explain` prints.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, CustomResourceExt as _};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The API group.
pub const GROUP: &str = "setpoint.dev";
/// The field manager of everything that git sets.
pub const MANAGER: &str = "setpoint";
/// The label that every object of an app carries: the app's name.
pub const APP_LABEL: &str = "setpoint.dev/app";
/// The annotation that every object of an app carries: the app's namespace and name.
pub const OWNER_ANNOTATION: &str = "setpoint.dev/owner";
/// The finalizer that keeps an App until its objects are gone.
pub const FINALIZER: &str = "setpoint.dev/objects";
/// The namespace of the Repository and App objects that the command line makes.
pub const NAMESPACE: &str = "setpoint-system";

/// Something to be kept as git says.
#[derive(CustomResource, Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[kube(
    group = "setpoint.dev",
    version = "v1alpha1",
    kind = "App",
    plural = "apps",
    namespaced,
    status = "AppStatus",
    doc = "Something to be kept as git says.",
    printcolumn = r#"{"name":"Revision","type":"string","jsonPath":".status.revision"}"#,
    printcolumn = r#"{"name":"Health","type":"string","jsonPath":".status.health"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.reason"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct AppSpec {
    /// The Repository, in the App's own namespace, that the path is in; or a chart is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// The chart or folder, relative to the repository's root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// A chart that was handed to setpoint, in place of a repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chart: Option<ChartSource>,
    /// The namespace that objects without one go to; `default` when empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Files of values in the repository, relative to its root; later ones win.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values_files: Vec<String>,
    /// Values over the files and the chart's own.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    #[schemars(schema_with = "any_object")]
    pub values: Map<String, Value>,
    /// Apps of the same namespace that must be healthy first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<String>,
    /// Fields that are left to others, as `[KIND[/NAME]:]PATH`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ignore: Vec<String>,
    /// How it is kept.
    #[serde(default)]
    pub sync: SyncPolicy,
}

/// A chart whose files setpoint holds.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
pub struct ChartSource {
    /// The digest of the chart's files, as the upload answered it.
    pub digest: String,
    /// The chart's name.
    pub name: String,
    /// The chart's version.
    #[serde(default)]
    pub version: String,
}

/// How an app is kept.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(default)]
pub struct SyncPolicy {
    /// Whether objects that git no longer names are deleted.
    #[serde(default = "yes")]
    pub prune: bool,
    /// Whether live edits are put back.
    #[serde(default = "yes")]
    pub heal: bool,
    /// Whether a failed revision goes back to the last healthy one.
    #[serde(default = "yes")]
    pub rollback: bool,
    /// How long a revision may take to become healthy, such as `2m` or `90s`.
    #[serde(default = "two_minutes")]
    pub deadline: String,
}

fn yes() -> bool {
    true
}

fn two_minutes() -> String {
    "2m".to_owned()
}

impl Default for SyncPolicy {
    fn default() -> SyncPolicy {
        SyncPolicy {
            prune: true,
            heal: true,
            rollback: true,
            deadline: two_minutes(),
        }
    }
}

/// What was last seen of an app.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AppStatus {
    /// The commit, or the chart's version, that runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// The number of the revision that runs, as `setpoint history` shows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<u64>,
    /// The newest revision that git names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wanted: Option<String>,
    /// `Healthy`, `Progressing`, `Waiting`, `Degraded`, `Failed` or `Unknown`.
    #[serde(default)]
    pub health: String,
    /// Why, in words.
    #[serde(default)]
    pub reason: String,
    /// What keeps the objects where they are, if anything does: `rollback` while one that was asked for holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<String>,
    /// How many objects the app has.
    #[serde(default)]
    pub objects: u64,
    /// What could not be honoured, and what the chart says after an install.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// The generation of the spec that this is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Conditions as Kubernetes' kinds have them: `Ready`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// A git repository that is followed.
#[derive(CustomResource, Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[kube(
    group = "setpoint.dev",
    version = "v1alpha1",
    kind = "Repository",
    plural = "repositories",
    shortname = "repo",
    namespaced,
    status = "RepositoryStatus",
    doc = "A git repository that is followed.",
    printcolumn = r#"{"name":"URL","type":"string","jsonPath":".spec.url"}"#,
    printcolumn = r#"{"name":"Branch","type":"string","jsonPath":".status.branch"}"#,
    printcolumn = r#"{"name":"Revision","type":"string","jsonPath":".status.revision"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.reason"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct RepositorySpec {
    /// A path on this machine, or a remote's URL.
    #[schemars(length(min = 1))]
    pub url: String,
    /// The branch that is followed; the repository's HEAD when empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// How often a remote is asked, such as `30s`; one on disk is watched and never asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<String>,
    /// A Secret, in the Repository's namespace, with `username` and `password` for a remote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<String>,
}

/// What was last seen of a repository.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RepositoryStatus {
    /// The branch that is followed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// The commit at the branch's head.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// The commit whose `setpoint.toml` is in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_force: Option<String>,
    /// How many apps it has.
    #[serde(default)]
    pub apps: u64,
    /// Why it could not be read or used, if it could not.
    #[serde(default)]
    pub reason: String,
    /// The generation of the spec that this is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

fn any_object(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "object",
        "description": "Values over the files and the chart's own.",
        "x-kubernetes-preserve-unknown-fields": true,
    })
}

/// Returns the definitions of the engine's kinds.
pub fn definitions() -> Vec<CustomResourceDefinition> {
    vec![App::crd(), Repository::crd()]
}
