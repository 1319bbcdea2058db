//! ConfigMaps, Secrets and service account tokens: which a pod needs (pure), and reading them. [`changes`] hears of their changes.

pub mod changes;

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{ConfigMap, Container, Pod, Secret, Service, ServiceAccount};
use k8s_openapi::api::node::v1::RuntimeClass;
use kube::api::{ListParams, PostParams};
use kube::{Api, Client};

use crate::env::{self, Data};
use crate::roles;
use crate::volumes::{Tokens, token_requests};
pub use changes::{Change, Changes, Following};

/// How long one request to the API may take.
pub const REQUEST_LIMIT: Duration = Duration::from_secs(10);

/// The objects that something refers to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct References {
    /// Names of ConfigMaps.
    pub config_maps: BTreeSet<String>,
    /// Names of Secrets.
    pub secrets: BTreeSet<String>,
}

impl References {
    /// Returns what a container's variables refer to.
    pub fn of_env(container: &Container) -> Self {
        let mut all = Self::default();
        for from in container.env_from.iter().flatten() {
            all.config_maps
                .extend(from.config_map_ref.as_ref().map(|reference| reference.name.clone()));
            all.secrets
                .extend(from.secret_ref.as_ref().map(|reference| reference.name.clone()));
        }
        for from in container
            .env
            .iter()
            .flatten()
            .filter_map(|variable| variable.value_from.as_ref())
        {
            all.config_maps
                .extend(from.config_map_key_ref.as_ref().map(|reference| reference.name.clone()));
            all.secrets
                .extend(from.secret_key_ref.as_ref().map(|reference| reference.name.clone()));
        }
        all
    }

    /// Returns what a pod's volumes refer to.
    pub fn of_volumes(pod: &Pod) -> Self {
        let mut all = Self::default();
        for volume in pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
            all.config_maps
                .extend(volume.config_map.as_ref().map(|map| map.name.clone()));
            all.secrets
                .extend(volume.secret.as_ref().and_then(|secret| secret.secret_name.clone()));
            for source in volume
                .projected
                .iter()
                .flat_map(|projected| projected.sources.iter().flatten())
            {
                all.config_maps
                    .extend(source.config_map.as_ref().map(|map| map.name.clone()));
                all.secrets
                    .extend(source.secret.as_ref().map(|secret| secret.name.clone()));
            }
        }
        all
    }

    /// Returns everything that a pod refers to.
    pub fn of_pod(pod: &Pod) -> Self {
        let mut all = Self::of_volumes(pod);
        for (_, container) in pod.spec.iter().flat_map(roles::all) {
            let env = Self::of_env(&container);
            all.config_maps.extend(env.config_maps);
            all.secrets.extend(env.secrets);
        }
        all
    }

    /// Returns whether a change concerns what is referred to.
    pub fn includes(&self, change: &Change) -> bool {
        match change {
            Change::ConfigMap { name, .. } => self.config_maps.contains(name),
            Change::Secret { name, .. } => self.secrets.contains(name),
        }
    }
}

/// Why objects could not be read; passes.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {what}: {reason}")]
pub struct ReadError {
    /// What was asked for.
    pub what: String,
    /// The answer.
    pub reason: String,
}

pub(crate) async fn within<T>(
    what: &str,
    request: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, ReadError> {
    let failed = |reason: String| ReadError {
        what: what.to_owned(),
        reason,
    };
    match tokio::time::timeout(REQUEST_LIMIT, request).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(failed(crate::containers::chain(&error))),
        Err(_) => Err(failed(format!("no answer within {} s", REQUEST_LIMIT.as_secs()))),
    }
}

/// Reads what is referred to into `sources`; what does not exist is left out.
pub async fn read(
    client: &Client,
    namespace: &str,
    references: &References,
    sources: &mut env::Sources,
) -> Result<(), ReadError> {
    let config_maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    for name in &references.config_maps {
        if let Some(map) = within(&format!("configmap {namespace}/{name}"), config_maps.get_opt(name)).await? {
            let mut data: Data = map
                .data
                .into_iter()
                .flatten()
                .map(|(key, value)| (key, value.into_bytes()))
                .collect();
            data.extend(map.binary_data.into_iter().flatten().map(|(key, value)| (key, value.0)));
            sources.config_maps.insert(name.clone(), data);
        }
    }
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    for name in &references.secrets {
        if let Some(secret) = within(&format!("secret {namespace}/{name}"), secrets.get_opt(name)).await? {
            let data = secret
                .data
                .into_iter()
                .flatten()
                .map(|(key, value)| (key, value.0))
                .collect();
            sources.secrets.insert(name.clone(), data);
        }
    }
    Ok(())
}

/// Reads the variables that tell a pod of services.
pub async fn read_services(client: &Client, namespace: &str, links: bool) -> Result<Vec<(String, String)>, ReadError> {
    let mut services = Vec::new();
    if links {
        let api: Api<Service> = Api::namespaced(client.clone(), namespace);
        services = within(&format!("services of {namespace}"), api.list(&ListParams::default()))
            .await?
            .items;
    }
    if !links || namespace != "default" {
        let api: Api<Service> = Api::namespaced(client.clone(), "default");
        services.extend(within("service default/kubernetes", api.get_opt("kubernetes")).await?);
    }
    Ok(env::service_variables(&services, namespace, links))
}

/// Returns the handler of a RuntimeClass.
pub async fn read_handler(client: &Client, name: &str) -> Result<String, ReadError> {
    let classes: Api<RuntimeClass> = Api::all(client.clone());
    let class = within(&format!("runtimeclass {name}"), classes.get(name)).await?;
    Ok(class.handler)
}

/// Requests the tokens that a pod's volumes need; returns them with the time at which to ask again.
pub async fn read_tokens(client: &Client, pod: &Pod, now: Timestamp) -> Result<(Tokens, Option<Timestamp>), ReadError> {
    let mut tokens = Tokens::new();
    let mut renew: Option<Timestamp> = None;
    let requests = token_requests(pod);
    if requests.is_empty() {
        return Ok((tokens, None));
    }
    let namespace = pod.metadata.namespace.clone().unwrap_or_default();
    let account = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.service_account_name.clone())
        .filter(|name| !name.is_empty());
    let account = account.unwrap_or_else(|| "default".to_owned());
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), &namespace);
    for (volume, projection) in requests {
        let seconds = projection.expiration_seconds.unwrap_or(3600);
        let request = TokenRequest {
            spec: Some(TokenRequestSpec {
                audiences: projection
                    .audience
                    .clone()
                    .filter(|audience| !audience.is_empty())
                    .map(|audience| vec![audience]),
                expiration_seconds: Some(seconds),
                bound_object_ref: Some(BoundObjectReference {
                    api_version: Some("v1".to_owned()),
                    kind: Some("Pod".to_owned()),
                    name: pod.metadata.name.clone(),
                    uid: pod.metadata.uid.clone(),
                }),
                ..TokenRequestSpec::default()
            }),
            ..TokenRequest::default()
        };
        let what = format!("a token of service account {namespace}/{account}");
        let answer = within(
            &what,
            accounts.create_token_request(&account, &PostParams::default(), &request),
        )
        .await?;
        let token = answer.status.as_ref().and_then(|status| status.token.clone());
        let token = token.ok_or_else(|| ReadError {
            what,
            reason: "the answer holds none".to_owned(),
        })?;
        tokens.insert((volume, projection.path), token);
        let ends = answer
            .status
            .and_then(|status| status.expiration_timestamp)
            .map(|time| time.0);
        let left = ends.map_or(seconds, |ends| ends.duration_since(now).as_secs()).max(0);
        let at = Timestamp::from_second(now.as_second().saturating_add(left * 4 / 5)).unwrap_or(now);
        renew = Some(renew.map_or(at, |known| known.min(at)));
    }
    Ok((tokens, renew))
}
