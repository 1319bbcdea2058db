//! Secrets of type `kubernetes.io/service-account-token`: each is given the token of the account that it names, the cluster's authorities
//! and the namespace, and goes with the account. As Kubernetes' tokens controller.
//!
//! One task, woken by changes of the kinds that it reads; what is to be done is decided from what is there, never from what changed.

use std::sync::Weak;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use setpoint_api::{Status, meta};

use crate::cache::Stored;
use crate::registry::{self, Inner, Registry};
use crate::tokens::Named;

/// The type of such a Secret.
const TYPE: &str = "kubernetes.io/service-account-token";
/// The annotation that names the account.
const NAME: &str = "kubernetes.io/service-account.name";
/// The annotation that tells which account of this name.
const UID: &str = "kubernetes.io/service-account.uid";
/// The ConfigMap in each namespace that holds the authorities.
const ROOT_CA: &str = "kube-root-ca.crt";
/// When something that failed is tried again; otherwise changes wake the task.
const AGAIN: Duration = Duration::from_secs(5);

/// What is to be done with a Secret.
#[derive(Debug, PartialEq, Eq)]
enum Action {
    /// Its account is not there, or another has its name by now.
    Delete,
    /// It is given what it lacks, a token among it or not.
    Fill { token: bool },
}

/// Decides about a Secret. `authorities` is empty where they are not known yet.
fn decide(secret: &Value, account: Option<&Stored>, authorities: &str) -> Option<Action> {
    let annotation = |key: &str| secret["metadata"]["annotations"][key].as_str().unwrap_or_default();
    if annotation(NAME).is_empty() {
        return None;
    }
    let Some(account) = account.filter(|account| ["", &*account.uid].contains(&annotation(UID))) else {
        return Some(Action::Delete);
    };
    if account.deleting {
        return None;
    }
    let holds = |key: &str, text: &str| secret["data"][key] == STANDARD.encode(text);
    let token = secret["data"]["token"].as_str().unwrap_or_default().is_empty();
    let complete = !token
        && annotation(UID) == &*account.uid
        && holds("namespace", meta::namespace(secret))
        && (authorities.is_empty() || holds("ca.crt", authorities));
    (!complete).then_some(Action::Fill { token })
}

/// Keeps the Secrets as they should be. Ends with the registry.
pub(crate) async fn follow(inner: Weak<Inner>) {
    let Some(strong) = inner.upgrade() else { return };
    let mut secrets = strong.cache.subscribe("core/secrets");
    let mut accounts = strong.cache.subscribe("core/serviceaccounts");
    let mut maps = strong.cache.subscribe("core/configmaps");
    drop(strong);
    loop {
        let Some(strong) = inner.upgrade() else { return };
        let registry = Registry { inner: strong };
        for changes in [&mut secrets, &mut accounts, &mut maps] {
            changes.mark_unchanged();
        }
        let mut failed = false;
        for secret in registry.cache().list("core/secrets", None) {
            if secret.field("type") != TYPE || secret.deleting {
                continue;
            }
            if let Err(status) = look(&registry, &secret).await {
                failed = true;
                tracing::warn!(
                    namespace = &*secret.namespace,
                    secret = &*secret.name,
                    error = %status,
                    "cannot fill a service account's Secret yet"
                );
            }
        }
        drop(registry);
        let alive = tokio::select! {
            changed = secrets.changed() => changed.is_ok(),
            changed = accounts.changed() => changed.is_ok(),
            changed = maps.changed() => changed.is_ok(),
            () = tokio::time::sleep(AGAIN), if failed => true,
        };
        if !alive {
            return;
        }
    }
}

async fn look(registry: &Registry, stored: &Stored) -> Result<(), Status> {
    let (cache, secret) = (registry.cache(), stored.value());
    let name = secret["metadata"]["annotations"][NAME].as_str().unwrap_or_default();
    let account = cache.get("core/serviceaccounts", &stored.namespace, name);
    let authorities = cache
        .get("core/configmaps", &stored.namespace, ROOT_CA)
        .and_then(|map| map.value()["data"]["ca.crt"].as_str().map(str::to_owned))
        .unwrap_or_default();
    let (token, account) = match (decide(&secret, account.as_deref(), &authorities), account) {
        (Some(Action::Delete), _) => {
            let Some(row) = registry.scheme().any_version("", "secrets") else {
                return Ok(());
            };
            return registry::delete_as_system(registry, &row, &stored.namespace, &stored.name).await;
        }
        (Some(Action::Fill { token }), Some(account)) => (token, account),
        _ => return Ok(()),
    };
    let Some(signer) = registry.inner.tokens.clone().filter(|_| token) else {
        return fill(registry, &secret, &account.uid, &authorities, None).await;
    };
    let named = Named {
        name: account.name.to_string(),
        uid: account.uid.to_string(),
    };
    let token = signer.sign_for_secret(&stored.namespace, &named, &stored.name)?;
    fill(registry, &secret, &account.uid, &authorities, Some(token)).await
}

async fn fill(
    registry: &Registry,
    secret: &Value,
    uid: &str,
    authorities: &str,
    token: Option<String>,
) -> Result<(), Status> {
    registry::amend(registry, secret, |secret| {
        meta::set_annotation(secret, UID, uid);
        let namespace = STANDARD.encode(meta::namespace(secret));
        if !secret["data"].is_object() {
            secret["data"] = json!({});
        }
        secret["data"]["namespace"] = namespace.into();
        if !authorities.is_empty() {
            secret["data"]["ca.crt"] = STANDARD.encode(authorities).into();
        }
        if let Some(token) = &token {
            secret["data"]["token"] = STANDARD.encode(token).into();
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn account(uid: &str) -> Stored {
        let bytes = json!({"metadata": {"name": "robot", "namespace": "a", "uid": uid}}).to_string();
        Stored::new("a/robot", 1, Bytes::from(bytes), None)
    }

    #[test]
    fn a_secret_is_filled_with_what_it_lacks_and_goes_with_its_account() {
        let mut secret = json!({"metadata": {"namespace": "a", "annotations": {NAME: "robot"}}, "type": TYPE});
        let robot = account("u-1");
        assert_eq!(decide(&secret, Some(&robot), "pem"), Some(Action::Fill { token: true }));
        assert_eq!(decide(&secret, None, "pem"), Some(Action::Delete));
        secret["metadata"]["annotations"][UID] = "u-1".into();
        secret["data"] = json!({
            "token": "eA==", "namespace": STANDARD.encode("a"), "ca.crt": STANDARD.encode("pem"),
        });
        assert_eq!(decide(&secret, Some(&robot), "pem"), None);
        assert_eq!(decide(&secret, Some(&robot), ""), None);
        // Other authorities: they are told, the token stays.
        assert_eq!(
            decide(&secret, Some(&robot), "more"),
            Some(Action::Fill { token: false })
        );
        assert_eq!(decide(&secret, Some(&account("u-2")), "pem"), Some(Action::Delete));
        secret["metadata"]["annotations"] = json!({});
        assert_eq!(decide(&secret, None, "pem"), None, "it names no account");
    }
}
