//! What each namespace has from the start: the ServiceAccount `default` and the certificate authority's ConfigMap.

use std::sync::Arc;

use futures::FutureExt as _;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use kube::ResourceExt as _;
use serde_json::json;
use tokio::sync::watch;

use crate::cluster::{Cluster, Kind};
use crate::drive::{Key, Outcome, Reconcile};
use crate::error::Error;
use crate::hub::{Hub, Seen};
use crate::wiring::Wiring;

/// The name of the account that a pod has unless it names another.
pub const ACCOUNT: &str = "default";
/// The name of the ConfigMap with the certificate authority.
pub const ROOT_CA: &str = "kube-root-ca.crt";
const ROOT_CA_KEY: &str = "ca.crt";

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Create the account.
    CreateAccount,
    /// Create the ConfigMap.
    CreateRootCa,
    /// Set the ConfigMap's data right.
    PatchRootCa,
}

/// Chooses what a namespace still needs. `root_ca` is the certificate that it should have, if any.
pub fn decide(
    namespace: &Namespace,
    account: bool,
    config_map: Option<&ConfigMap>,
    root_ca: Option<&str>,
) -> Vec<Action> {
    if namespace.metadata.deletion_timestamp.is_some() {
        return Vec::new();
    }
    let mut actions = Vec::new();
    if !account {
        actions.push(Action::CreateAccount);
    }
    if let Some(root_ca) = root_ca {
        match config_map {
            None => actions.push(Action::CreateRootCa),
            Some(map) => {
                let held = map.data.as_ref().and_then(|data| data.get(ROOT_CA_KEY));
                if held.map(String::as_str) != Some(root_ca) {
                    actions.push(Action::PatchRootCa);
                }
            }
        }
    }
    actions
}

/// The thin part.
pub struct Controller {
    cluster: Cluster,
    accounts: Arc<Hub<ServiceAccount>>,
    config_maps: Arc<Hub<ConfigMap>>,
    root_ca: Option<watch::Receiver<String>>,
}

/// Wires the controller up.
pub fn wire(wiring: &mut Wiring) {
    let (trigger, queue) = wiring.queue("namespace-defaults");
    let root_ca = wiring.config.root_ca_pem.clone();
    let (accounts, config_maps) = (wiring.hub(), wiring.hub());
    let controller = Arc::new(Controller::new(wiring.cluster.clone(), accounts, config_maps, root_ca));
    wiring.listen_self::<Namespace>(&trigger, |_| {});
    let fire = trigger.clone();
    wiring.listen::<ServiceAccount>(move |account, _, seen| {
        if seen == Seen::Gone {
            fire.fire(Key::new("", account.namespace().unwrap_or_default()));
        }
    });
    let (fire, namespaces, changed) = (trigger.clone(), wiring.hub::<Namespace>(), controller.root_ca.clone());
    if let Some(mut changed) = changed {
        wiring.spawn("namespace-authorities", async move {
            // Other authorities are news for every namespace; without their keeper there are none any more.
            while changed.changed().await.is_ok() {
                for namespace in namespaces.all() {
                    fire.fire(Key::of(&*namespace));
                }
            }
            std::future::pending().await
        });
    }
    wiring.listen::<ConfigMap>(move |map, _, _| trigger.fire(Key::new("", map.namespace().unwrap_or_default())));
    wiring.drive("namespace-defaults", queue, 4, controller.reconcile());
}

impl Controller {
    /// Puts the parts together.
    pub fn new(
        cluster: Cluster,
        accounts: Arc<Hub<ServiceAccount>>,
        config_maps: Arc<Hub<ConfigMap>>,
        root_ca: Option<watch::Receiver<String>>,
    ) -> Controller {
        Controller {
            cluster,
            accounts,
            config_maps,
            root_ca,
        }
    }

    /// Returns the reconcile for the driver.
    pub fn reconcile(self: Arc<Self>) -> Reconcile<Namespace> {
        Arc::new(move |namespace| {
            let controller = self.clone();
            async move { controller.look(namespace).await }.boxed()
        })
    }

    async fn look(&self, namespace: Arc<Namespace>) -> Outcome {
        let name = namespace.name_any();
        let account = self.accounts.get(Some(&name), ACCOUNT).is_some();
        let config_map = self.config_maps.get(Some(&name), ROOT_CA);
        let maps = Kind::of::<ConfigMap>();
        let root_ca = self.root_ca.as_ref().map(|now| now.borrow().clone());
        for action in decide(&namespace, account, config_map.as_deref(), root_ca.as_deref()) {
            let outcome = match action {
                Action::CreateAccount => {
                    let kind = Kind::of::<ServiceAccount>();
                    let object =
                        json!({ "kind": "ServiceAccount", "apiVersion": "v1", "metadata": { "name": ACCOUNT } });
                    self.cluster.create(&kind, Some(&name), &object).await
                }
                Action::CreateRootCa => {
                    let object = json!({
                        "kind": "ConfigMap",
                        "apiVersion": "v1",
                        "metadata": { "name": ROOT_CA },
                        "data": { ROOT_CA_KEY: root_ca },
                    });
                    self.cluster.create(&maps, Some(&name), &object).await
                }
                Action::PatchRootCa => {
                    let patch = json!({ "data": { ROOT_CA_KEY: root_ca } });
                    self.cluster.patch(&maps, Some(&name), ROOT_CA, None, &patch).await
                }
            };
            match outcome {
                Ok(_) => {}
                // The cache will show it; or the namespace goes away meanwhile.
                Err(error) if error.is_already_exists() || error.is_not_found() || is_terminating(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }
}

fn is_terminating(error: &Error) -> bool {
    error.status().is_some_and(|status| {
        status.details.as_ref().is_some_and(|details| {
            details
                .causes
                .iter()
                .any(|cause| cause.reason == "NamespaceTerminating")
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_gets_what_it_lacks_until_it_goes() {
        let mut namespace: Namespace = serde_json::from_value(json!({ "metadata": { "name": "a" } })).expect("valid");
        assert_eq!(
            decide(&namespace, false, None, Some("pem")),
            [Action::CreateAccount, Action::CreateRootCa]
        );
        let map: ConfigMap = serde_json::from_value(json!({ "data": { ROOT_CA_KEY: "old" } })).expect("valid");
        assert_eq!(decide(&namespace, true, Some(&map), Some("pem")), [Action::PatchRootCa]);
        assert_eq!(decide(&namespace, true, Some(&map), None), []);
        namespace.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(
            jiff::Timestamp::UNIX_EPOCH,
        ));
        assert_eq!(decide(&namespace, false, None, Some("pem")), []);
    }
}
