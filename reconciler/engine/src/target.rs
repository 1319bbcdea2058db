//! The cluster that objects go to, over a [`kube::Client`]: read, apply, delete, and what each failure means.
//!
//! Objects are JSON as the cluster sends them: typed clients would drop what they do not know. Every request has a deadline.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::APIResource;
use kube::Client;
use kube::api::{Api, PartialObjectMeta};
use kube::core::{ApiResource, Status};
use kube::runtime::{WatchStreamExt as _, watcher};
use parking_lot::RwLock;
use serde_json::{Value, json};
use setpoint_plan::ObjectRef;
use setpoint_templates::Capabilities;

use crate::api::MANAGER;
use crate::records::digest;

/// How long a request may take.
const ANSWER: Duration = Duration::from_secs(30);

/// How often it is asked what the cluster serves until that does not change meanwhile.
const CALM: usize = 5;

/// What a failure of the cluster asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// It may pass: back off and try again.
    Transient,
    /// It will not pass until the object changes.
    Terminal,
}

/// The cluster did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// It refused, or could not be reached.
    #[error("cannot {operation} {object}: {}", said(.source))]
    Request {
        /// A verb.
        operation: &'static str,
        /// The object.
        object: String,
        /// What the client said.
        source: Box<kube::Error>,
    },
    /// It did not answer in time.
    #[error("cannot {operation} {object}: no answer within {} s", ANSWER.as_secs())]
    Timeout {
        /// A verb.
        operation: &'static str,
        /// The object.
        object: String,
    },
    /// What it serves changed again and again while it was asked.
    #[error("cannot say what the cluster serves: definitions of kinds change all the time")]
    Unsettled,
    /// It does not serve the kind.
    #[error(
        "cannot work with {object}: the cluster serves no {kind} in {api_version}; is its definition missing, or is it served in another version?"
    )]
    NoSuchKind {
        /// The object.
        object: String,
        /// The kind.
        kind: String,
        /// The group and version.
        api_version: String,
    },
}

/// Returns what a person should read of a client's error: the server's message where there is one.
fn said(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if !status.message.is_empty() => status.message.clone(),
        other => {
            let mut text = other.to_string();
            let mut source = std::error::Error::source(other);
            while let Some(cause) = source {
                let cause_text = cause.to_string();
                if !text.contains(&cause_text) {
                    text.push_str(": ");
                    text.push_str(&cause_text);
                }
                source = cause.source();
            }
            text
        }
    }
}

impl TargetError {
    /// Says whether it may pass.
    pub fn class(&self) -> Class {
        match self {
            TargetError::Timeout { .. } | TargetError::Unsettled => Class::Transient,
            TargetError::NoSuchKind { .. } => Class::Terminal,
            TargetError::Request { source, .. } => match &**source {
                kube::Error::Api(status) => of_status(status),
                kube::Error::SerdeError(_) | kube::Error::BuildRequest(_) | kube::Error::HttpError(_) => {
                    Class::Terminal
                }
                _ => Class::Transient,
            },
        }
    }

    /// Returns the HTTP status that the cluster answered with.
    pub fn code(&self) -> Option<u16> {
        match self {
            TargetError::Request { source, .. } => match &**source {
                kube::Error::Api(status) => Some(status.code),
                _ => None,
            },
            _ => None,
        }
    }

    /// Says whether the object was not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, TargetError::Request { source, .. } if matches!(&**source, kube::Error::Api(status) if status.code == 404))
    }
}

fn of_status(status: &Status) -> Class {
    let terminating = status.details.as_ref().is_some_and(|details| {
        details
            .causes
            .iter()
            .any(|cause| cause.reason == "NamespaceTerminating")
    });
    match status.code {
        // A conflict of versions, never of fields: everything is applied by force.
        408 | 409 | 429 | 500..=599 => Class::Transient,
        403 if terminating => Class::Transient,
        _ => Class::Terminal,
    }
}

/// A kind as the cluster serves it.
#[derive(Clone, Debug)]
pub struct Served {
    /// Where it is served.
    pub resource: ApiResource,
    /// Whether its objects have a namespace.
    pub namespaced: bool,
}

/// What templates are told of a cluster.
#[derive(Debug)]
pub struct Surroundings {
    /// Its version, its groups and kinds.
    pub capabilities: Capabilities,
    /// The digest of all that: the same for the same cluster, whenever it is asked.
    pub digest: String,
}

impl From<Capabilities> for Surroundings {
    fn from(capabilities: Capabilities) -> Surroundings {
        let versions: BTreeSet<&String> = capabilities.api_versions.iter().collect();
        let digest = digest(json!([capabilities.kube_version, versions]).to_string().as_bytes());
        Surroundings { capabilities, digest }
    }
}

/// A cluster. Cheap to clone.
#[derive(Clone)]
pub struct Target {
    client: Client,
    kinds: Arc<RwLock<HashMap<(String, String), Served>>>,
    surroundings: Arc<RwLock<Option<Arc<Surroundings>>>>,
    /// Grows when what is known of kinds is forgotten: an answer to a question from before must not be kept.
    epoch: Arc<AtomicU64>,
}

impl Target {
    /// Speaks to the cluster of `client`.
    pub fn new(client: Client) -> Target {
        Target {
            client,
            kinds: Arc::default(),
            surroundings: Arc::default(),
            epoch: Arc::default(),
        }
    }

    /// Returns the client.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Returns how the cluster serves a kind; asks again when it did not know it.
    ///
    /// # Errors
    /// When the cluster cannot be asked; a kind that is not served is `None`.
    pub async fn served(&self, group: &str, version: &str, kind: &str) -> Result<Option<Served>, TargetError> {
        let api_version = if group.is_empty() {
            version.to_owned()
        } else {
            format!("{group}/{version}")
        };
        let key = (api_version.clone(), kind.to_owned());
        if let Some(served) = self.kinds.read().get(&key) {
            return Ok(Some(served.clone()));
        }
        let epoch = self.epoch.load(Ordering::SeqCst);
        let list = async {
            match group {
                "" => self.client.list_core_api_resources(version).await,
                _ => self.client.list_api_group_resources(&api_version).await,
            }
        };
        let listed = match deadline("ask for the kinds of", &api_version, list).await {
            Ok(list) => list.resources,
            Err(error) if error.is_not_found() => Vec::new(),
            Err(error) => return Err(error),
        };
        let listed: HashMap<(String, String), Served> = listed
            .into_iter()
            .filter(|resource| !resource.name.contains('/'))
            .map(|resource| {
                let served = served_as(group, version, &api_version, &resource);
                ((api_version.clone(), resource.kind), served)
            })
            .collect();
        let found = listed.get(&key).cloned();
        let mut kinds = self.kinds.write();
        if self.epoch.load(Ordering::SeqCst) == epoch {
            kinds.extend(listed);
        }
        Ok(found)
    }

    /// Returns what templates are told of the cluster: its version, its groups and kinds.
    ///
    /// # Errors
    /// When the cluster cannot be asked.
    pub async fn surroundings(&self) -> Result<Arc<Surroundings>, TargetError> {
        if let Some(known) = self.surroundings.read().clone() {
            return Ok(known);
        }
        for _ in 0..CALM {
            let epoch = self.epoch.load(Ordering::SeqCst);
            let surroundings = Arc::new(Surroundings::from(self.ask_capabilities().await?));
            let mut known = self.surroundings.write();
            if self.epoch.load(Ordering::SeqCst) == epoch {
                *known = Some(surroundings.clone());
                return Ok(surroundings);
            }
        }
        Err(TargetError::Unsettled)
    }

    async fn ask_capabilities(&self) -> Result<Capabilities, TargetError> {
        let client = &self.client;
        let version = deadline("ask for the version of", "the cluster", client.apiserver_version()).await?;
        let groups = deadline("ask for the groups of", "the cluster", client.list_api_groups()).await?;
        let mut api_versions = vec!["v1".to_owned()];
        for group in groups.groups {
            api_versions.extend(group.versions.into_iter().map(|version| version.group_version));
        }
        for api_version in api_versions.clone() {
            let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
            // Asking for one kind makes all of its group known.
            self.served(group, version, "").await?;
        }
        let kinds = self.kinds.read();
        api_versions.extend(kinds.keys().map(|(api_version, kind)| format!("{api_version}/{kind}")));
        drop(kinds);
        api_versions.sort();
        api_versions.dedup();
        Ok(Capabilities {
            // What comes after a plus names the build, and charts compare versions.
            kube_version: version.git_version.split('+').next().unwrap_or_default().to_owned(),
            api_versions,
        })
    }

    /// Forgets how kinds are served; called when definitions change.
    pub fn forget_kinds(&self) {
        let (mut kinds, mut surroundings) = (self.kinds.write(), self.surroundings.write());
        self.epoch.fetch_add(1, Ordering::SeqCst);
        kinds.clear();
        *surroundings = None;
    }

    /// Forgets how kinds are served whenever somebody changes a definition, for ever.
    pub async fn follow_definitions(self) {
        let api: Api<PartialObjectMeta<CustomResourceDefinition>> = Api::all(self.client.clone());
        let mut events = watcher(api, watcher::Config::default()).default_backoff().boxed();
        while let Some(event) = events.next().await {
            match event {
                // A definition is served a moment after it was made, which its status tells.
                Ok(watcher::Event::Apply(_) | watcher::Event::Delete(_) | watcher::Event::InitDone) => {
                    self.forget_kinds()
                }
                Ok(watcher::Event::Init | watcher::Event::InitApply(_)) => {}
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "the watch of definitions failed and starts again"
                    );
                }
            }
        }
    }

    async fn path(&self, object: &ObjectRef, named: bool) -> Result<String, TargetError> {
        let served = self.served(&object.group, &object.version, &object.kind).await?;
        let Some(served) = served else {
            return Err(TargetError::NoSuchKind {
                object: object.to_string(),
                kind: object.kind.clone(),
                api_version: object.api_version(),
            });
        };
        let namespace = object.namespace.as_deref().filter(|_| served.namespaced);
        let mut path = ApiPath(&served.resource).of(namespace);
        if named {
            path.push('/');
            path.push_str(&escape(&object.name));
        }
        Ok(path)
    }

    /// Says whether the cluster serves an object's kind now.
    ///
    /// # Errors
    /// When the cluster cannot be asked.
    pub async fn serves(&self, object: &ObjectRef) -> Result<bool, TargetError> {
        let served = self.served(&object.group, &object.version, &object.kind).await?;
        Ok(served.is_some())
    }

    /// Reads an object; `None` when it is not there, or its kind is not served.
    ///
    /// # Errors
    /// When the cluster cannot be asked or refuses.
    pub async fn get(&self, object: &ObjectRef) -> Result<Option<Value>, TargetError> {
        let path = match self.path(object, true).await {
            Ok(path) => path,
            Err(TargetError::NoSuchKind { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        match self.send("read", object, "GET", &path, None).await {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Applies an object by force, as the engine's field manager; returns it as it is then.
    ///
    /// # Errors
    /// When the cluster cannot be asked or refuses.
    pub async fn apply(&self, object: &ObjectRef, body: &Value, dry_run: bool) -> Result<Value, TargetError> {
        let mut path = self.path(object, true).await?;
        path.push_str("?force=true&fieldManager=");
        path.push_str(MANAGER);
        if dry_run {
            path.push_str("&dryRun=All");
        }
        self.send("apply", object, "PATCH", &path, Some(body)).await
    }

    /// Asks whether an object could be made, without making it.
    ///
    /// # Errors
    /// When the cluster cannot be asked or would refuse.
    pub async fn would_make(&self, object: &ObjectRef, body: &Value) -> Result<(), TargetError> {
        let mut path = self.path(object, false).await?;
        path.push_str("?dryRun=All&fieldManager=");
        path.push_str(MANAGER);
        self.send("create", object, "POST", &path, Some(body)).await.map(drop)
    }

    /// Deletes an object if it still is the one with this uid; `false` when it was gone already.
    ///
    /// # Errors
    /// When the cluster cannot be asked or refuses.
    pub async fn delete(&self, object: &ObjectRef, uid: &str) -> Result<bool, TargetError> {
        let path = self.path(object, true).await?;
        let body = json!({
            "kind": "DeleteOptions",
            "apiVersion": "v1",
            "propagationPolicy": "Background",
            "preconditions": {"uid": uid},
        });
        match self.send("delete", object, "DELETE", &path, Some(&body)).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Makes a namespace that is not there.
    ///
    /// # Errors
    /// When the cluster cannot be asked or refuses.
    pub async fn ensure_namespace(&self, name: &str) -> Result<(), TargetError> {
        let namespace = ObjectRef {
            group: String::new(),
            version: "v1".to_owned(),
            kind: "Namespace".to_owned(),
            namespace: None,
            name: name.to_owned(),
        };
        if self.get(&namespace).await?.is_some() {
            return Ok(());
        }
        let path = self.path(&namespace, false).await?;
        let body = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        match self.send("create", &namespace, "POST", &path, Some(&body)).await {
            Ok(_) => Ok(()),
            // Somebody else was faster.
            Err(TargetError::Request { source, .. }) if matches!(&*source, kube::Error::Api(status) if status.code == 409) => {
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    async fn send(
        &self,
        operation: &'static str,
        object: &ObjectRef,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, TargetError> {
        let content = match method {
            "PATCH" => "application/apply-patch+yaml",
            _ => "application/json",
        };
        let name = object.to_string();
        let failed = |source: kube::Error| TargetError::Request {
            operation,
            object: name.clone(),
            source: Box::new(source),
        };
        let bytes = match body {
            Some(body) => serde_json::to_vec(body).map_err(|error| failed(kube::Error::SerdeError(error)))?,
            None => Vec::new(),
        };
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header(http::header::CONTENT_TYPE, content)
            .body(bytes)
            .map_err(|error| failed(kube::Error::HttpError(error)))?;
        deadline(operation, &name, self.client.request::<Value>(request)).await
    }
}

async fn deadline<T>(
    operation: &'static str,
    object: &str,
    request: impl Future<Output = kube::Result<T>>,
) -> Result<T, TargetError> {
    match tokio::time::timeout(ANSWER, request).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(source)) => Err(TargetError::Request {
            operation,
            object: object.to_owned(),
            source: Box::new(source),
        }),
        Err(_) => Err(TargetError::Timeout {
            operation,
            object: object.to_owned(),
        }),
    }
}

fn served_as(group: &str, version: &str, api_version: &str, resource: &APIResource) -> Served {
    Served {
        resource: ApiResource {
            group: group.to_owned(),
            version: version.to_owned(),
            api_version: api_version.to_owned(),
            kind: resource.kind.clone(),
            plural: resource.name.clone(),
        },
        namespaced: resource.namespaced,
    }
}

struct ApiPath<'a>(&'a ApiResource);

impl ApiPath<'_> {
    fn of(&self, namespace: Option<&str>) -> String {
        let resource = self.0;
        let mut path = match resource.group.as_str() {
            "" => format!("/api/{}", resource.version),
            group => format!("/apis/{group}/{}", resource.version),
        };
        if let Some(namespace) = namespace {
            path.push_str("/namespaces/");
            path.push_str(&escape(namespace));
        }
        path.push('/');
        path.push_str(&resource.plural);
        path
    }
}

/// Escapes what a path's segment cannot hold; names come from files that others wrote.
fn escape(segment: &str) -> String {
    let mut escaped = String::with_capacity(segment.len());
    for byte in segment.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b':' => escaped.push(byte as char),
            other => escaped.push_str(&format!("%{other:02X}")),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use setpoint_templates::Capabilities;

    use super::Surroundings;

    #[test]
    fn what_templates_see_of_a_cluster_is_the_same_until_it_serves_something_else() {
        let of = |api_versions: &[&str]| {
            Surroundings::from(Capabilities {
                kube_version: "v1.34.0".to_owned(),
                api_versions: api_versions.iter().map(|version| (*version).to_owned()).collect(),
            })
            .digest
        };
        assert_eq!(of(&["v1", "apps/v1"]), of(&["apps/v1", "v1", "v1"]));
        assert_ne!(
            of(&["v1", "apps/v1"]),
            of(&["v1", "apps/v1", "monitoring.coreos.com/v1"])
        );
    }

    #[test]
    fn a_name_cannot_leave_its_place_in_the_path() {
        assert_eq!(super::escape("web-1.x:y"), "web-1.x:y");
        assert_eq!(super::escape("../a?b#c d"), "..%2Fa%3Fb%23c%20d");
    }
}
