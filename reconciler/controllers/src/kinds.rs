//! Which kinds the cluster serves, found by discovery and found again when definitions change.

use std::sync::Arc;

use kube::Client;
use kube::core::ApiResource;
use kube::discovery::{Discovery, Scope, verbs};

use crate::cluster::Kind;
use crate::error::Error;

/// A kind that the cluster serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// As requests name it.
    pub kind: Arc<Kind>,
    /// As kube names it.
    pub resource: ApiResource,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
    /// Whether it can be listed, watched and deleted.
    pub collectable: bool,
    /// Whether it can be deleted by the collection.
    pub deletes_collection: bool,
    /// Whether its objects can be listed and deleted.
    pub deletable: bool,
}

/// All kinds, each in the version that the cluster prefers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kinds {
    served: Vec<Served>,
}

impl Kinds {
    /// Asks the cluster.
    ///
    /// # Errors
    /// [`Error::Discovery`] when it does not answer; a part of the kinds is never taken for all.
    pub async fn discover(client: Client) -> Result<Kinds, Error> {
        let discovery = Discovery::new(client)
            .run_aggregated()
            .await
            .map_err(|source| Error::Discovery(Box::new(source)))?;
        let mut served = Vec::new();
        for group in discovery.groups() {
            for (resource, capabilities) in group.recommended_resources() {
                let can = |verb: &str| capabilities.supports_operation(verb);
                let deletable = can(verbs::LIST) && can(verbs::DELETE);
                // Events expire by themselves, own nothing and are many.
                let event = resource.kind == "Event";
                served.push(Served {
                    kind: Arc::new(Kind::from(&resource)),
                    namespaced: capabilities.scope == Scope::Namespaced,
                    collectable: deletable && can(verbs::WATCH) && !event,
                    deletes_collection: can(verbs::DELETE_COLLECTION),
                    deletable,
                    resource,
                });
            }
        }
        Ok(Kinds { served })
    }

    /// Iterates over the kinds.
    pub fn iter(&self) -> impl Iterator<Item = &Served> {
        self.served.iter()
    }

    /// Finds a kind that an owner reference names, in whatever version.
    pub fn find(&self, api_version: &str, kind: &str) -> Option<&Served> {
        let group = |api_version: &str| api_version.rsplit_once('/').map_or("", |(group, _)| group).to_owned();
        let wanted = group(api_version);
        self.served
            .iter()
            .find(|served| served.kind.kind == kind && group(&served.kind.api_version) == wanted)
    }
}
