//! Writes to the cluster: create, patch, delete, never PUT.
//!
//! One untyped path for all kinds: of an answer only the metadata is read. Every request has a deadline.

use std::time::Duration;

use http::{Method, Request};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Client;
use kube::core::ApiResource;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::error::Error;

const DEADLINE: Duration = Duration::from_secs(30);
/// Who owns the fields that the controllers write.
const MANAGER: &str = "setpoint-controllers";

/// One kind of object as requests name it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Kind {
    /// `v1`, `apps/v1`.
    pub api_version: String,
    /// `Pod`.
    pub kind: String,
    /// `pods`.
    pub plural: String,
}

impl Kind {
    /// Names a typed resource.
    pub fn of<K: kube::Resource<DynamicType = ()>>() -> Kind {
        Kind {
            api_version: K::api_version(&()).into_owned(),
            kind: K::kind(&()).into_owned(),
            plural: K::plural(&()).into_owned(),
        }
    }

    fn path(&self, namespace: Option<&str>, name: Option<&str>, subresource: Option<&str>) -> String {
        let mut path = if self.api_version.contains('/') {
            format!("/apis/{}", self.api_version)
        } else {
            format!("/api/{}", self.api_version)
        };
        for part in [
            namespace.map(|_| "namespaces"),
            namespace,
            Some(&self.plural),
            name,
            subresource,
        ]
        .into_iter()
        .flatten()
        {
            path.push('/');
            path.push_str(part);
        }
        path
    }
}

impl From<&ApiResource> for Kind {
    fn from(resource: &ApiResource) -> Kind {
        Kind {
            api_version: resource.api_version.clone(),
            kind: resource.kind.clone(),
            plural: resource.plural.clone(),
        }
    }
}

/// What an answer said about the object.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Written {
    /// The object's metadata; empty where the answer was a Status.
    #[serde(default)]
    pub metadata: ObjectMeta,
}

impl Written {
    /// Returns the resource version as a number, 0 where it is none.
    pub fn revision(&self) -> u64 {
        revision(&self.metadata)
    }
}

/// Returns the resource version as a number; versions grow with every write of the cluster.
pub fn revision(metadata: &ObjectMeta) -> u64 {
    metadata
        .resource_version
        .as_deref()
        .and_then(|version| version.parse().ok())
        .unwrap_or(0)
}

/// How a deletion treats dependents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// Dependents go afterwards.
    Background,
    /// Dependents go first.
    Foreground,
    /// Dependents stay.
    Orphan,
}

/// The kinds of patch that controllers send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchKind {
    /// RFC 7386.
    Merge,
    /// Kubernetes' strategic merge: lists merge by key.
    Strategic,
}

/// The cluster as something to write to. Cheap to clone.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
}

impl Cluster {
    /// Writes through `client`.
    pub fn new(client: Client) -> Cluster {
        Cluster { client }
    }

    /// Returns the client, for reads.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Creates an object.
    pub async fn create(
        &self,
        kind: &Kind,
        namespace: Option<&str>,
        object: &impl Serialize,
    ) -> Result<Written, Error> {
        let path = format!("{}?fieldManager={MANAGER}", kind.path(namespace, None, None));
        self.send(
            "create",
            kind,
            namespace,
            "",
            Method::POST,
            &path,
            "application/json",
            object,
        )
        .await
    }

    /// Creates a subresource, as a binding.
    pub async fn create_subresource(
        &self,
        kind: &Kind,
        namespace: Option<&str>,
        name: &str,
        subresource: &str,
        object: &impl Serialize,
    ) -> Result<Written, Error> {
        let path = kind.path(namespace, Some(name), Some(subresource));
        self.send(
            "create",
            kind,
            namespace,
            name,
            Method::POST,
            &path,
            "application/json",
            object,
        )
        .await
    }

    /// Merges `patch` into an object, or into its `subresource`.
    pub async fn patch(
        &self,
        kind: &Kind,
        namespace: Option<&str>,
        name: &str,
        subresource: Option<&str>,
        patch: &Value,
    ) -> Result<Written, Error> {
        self.patch_as(PatchKind::Merge, kind, namespace, name, subresource, patch)
            .await
    }

    /// Patches an object in a given way.
    pub async fn patch_as(
        &self,
        patch_kind: PatchKind,
        kind: &Kind,
        namespace: Option<&str>,
        name: &str,
        subresource: Option<&str>,
        patch: &Value,
    ) -> Result<Written, Error> {
        let path = format!(
            "{}?fieldManager={MANAGER}",
            kind.path(namespace, Some(name), subresource)
        );
        let content = match patch_kind {
            PatchKind::Merge => "application/merge-patch+json",
            PatchKind::Strategic => "application/strategic-merge-patch+json",
        };
        self.send("patch", kind, namespace, name, Method::PATCH, &path, content, patch)
            .await
    }

    /// Deletes an object; with `uid` only that very one. An object that is gone already is no error.
    pub async fn delete(
        &self,
        kind: &Kind,
        namespace: Option<&str>,
        name: &str,
        uid: Option<&str>,
        propagation: Propagation,
        grace: Option<u32>,
    ) -> Result<Written, Error> {
        let mut options = json!({
            "kind": "DeleteOptions",
            "apiVersion": "v1",
            "propagationPolicy": match propagation {
                Propagation::Background => "Background",
                Propagation::Foreground => "Foreground",
                Propagation::Orphan => "Orphan",
            },
        });
        if let Some(uid) = uid {
            options["preconditions"] = json!({ "uid": uid });
        }
        if let Some(grace) = grace {
            options["gracePeriodSeconds"] = json!(grace);
        }
        let path = kind.path(namespace, Some(name), None);
        match self
            .send(
                "delete",
                kind,
                namespace,
                name,
                Method::DELETE,
                &path,
                "application/json",
                &options,
            )
            .await
        {
            Err(error) if error.is_not_found() => Ok(Written::default()),
            // Another object has the name now: the one that was meant is gone.
            Err(error) if uid.is_some() && error.is_conflict() => Ok(Written::default()),
            other => other,
        }
    }

    /// Deletes everything of a kind in a namespace.
    pub async fn delete_collection(&self, kind: &Kind, namespace: &str) -> Result<(), Error> {
        let options = json!({ "kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background" });
        let path = kind.path(Some(namespace), None, None);
        self.send(
            "delete all",
            kind,
            Some(namespace),
            "*",
            Method::DELETE,
            &path,
            "application/json",
            &options,
        )
        .await
        .map(|_| ())
    }

    /// Says which finalizers a namespace still has. The API knows this as PUT only.
    pub async fn finalize_namespace(&self, name: &str, uid: Option<&str>, finalizers: &[String]) -> Result<(), Error> {
        let kind = Kind {
            api_version: "v1".into(),
            kind: "Namespace".into(),
            plural: "namespaces".into(),
        };
        let body = json!({
            "kind": "Namespace",
            "apiVersion": "v1",
            "metadata": { "name": name, "uid": uid },
            "spec": { "finalizers": finalizers },
        });
        let path = kind.path(None, Some(name), Some("finalize"));
        match self
            .send(
                "finalize",
                &kind,
                None,
                name,
                Method::PUT,
                &path,
                "application/json",
                &body,
            )
            .await
        {
            Err(error) if error.is_not_found() => Ok(()),
            other => other.map(drop),
        }
    }

    /// Reads an object's metadata; `None` when there is no such object.
    pub async fn metadata(
        &self,
        kind: &Kind,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<Option<ObjectMeta>, Error> {
        let path = kind.path(namespace, Some(name), None);
        match self
            .send("get", kind, namespace, name, Method::GET, &path, "", &Value::Null)
            .await
        {
            Ok(written) => Ok(Some(written.metadata)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Counts what is left of a kind in a namespace, and which finalizers hold it.
    pub async fn remaining(&self, kind: &Kind, namespace: &str) -> Result<Vec<ObjectMeta>, Error> {
        #[derive(Deserialize)]
        struct List {
            #[serde(default)]
            items: Vec<Written>,
        }
        let path = kind.path(Some(namespace), None, None);
        let list: List = self
            .send_as("list", kind, Some(namespace), "*", Method::GET, &path, "", &Value::Null)
            .await?;
        Ok(list.items.into_iter().map(|item| item.metadata).collect())
    }

    #[allow(clippy::too_many_arguments, reason = "one call that all the others narrow")]
    async fn send(
        &self,
        operation: &'static str,
        kind: &Kind,
        namespace: Option<&str>,
        name: &str,
        method: Method,
        path: &str,
        content: &str,
        body: &impl Serialize,
    ) -> Result<Written, Error> {
        self.send_as(operation, kind, namespace, name, method, path, content, body)
            .await
    }

    #[allow(clippy::too_many_arguments, reason = "one call that all the others narrow")]
    async fn send_as<T: serde::de::DeserializeOwned>(
        &self,
        operation: &'static str,
        kind: &Kind,
        namespace: Option<&str>,
        name: &str,
        method: Method,
        path: &str,
        content: &str,
        body: &impl Serialize,
    ) -> Result<T, Error> {
        let whose = || match namespace {
            Some(namespace) => format!("{namespace}/{name}"),
            None => name.to_owned(),
        };
        let unbuilt = |source: Box<dyn std::error::Error + Send + Sync>| Error::Request {
            kind: kind.plural.clone(),
            name: whose(),
            source,
        };
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(http::header::ACCEPT, "application/json");
        let body = if content.is_empty() {
            Vec::new()
        } else {
            request = request.header(http::header::CONTENT_TYPE, content);
            serde_json::to_vec(body).map_err(|source| unbuilt(Box::new(source)))?
        };
        let request = request.body(body).map_err(|source| unbuilt(Box::new(source)))?;
        match tokio::time::timeout(DEADLINE, self.client.request::<T>(request)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(source)) => Err(Error::Api {
                operation,
                kind: kind.plural.clone(),
                name: whose(),
                source: Box::new(source),
            }),
            Err(_) => Err(Error::Timeout {
                operation,
                kind: kind.plural.clone(),
                name: whose(),
                seconds: DEADLINE.as_secs(),
            }),
        }
    }
}
