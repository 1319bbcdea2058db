//! What a few kinds need beyond their row: the state of other objects, or a way of their own to go.
//!
//! A row's rules are pure functions of one object. A [`Strategy`] also sees the cache (which cluster IPs are taken) and
//! decides how a deletion proceeds (a pod is given time, a namespace is emptied first). Kinds without one share
//! [`Plain`].

pub(crate) mod account;
pub(crate) mod api_service;
pub(crate) mod definition;
pub(crate) mod job;
pub(crate) mod namespace;
pub(crate) mod node;
pub(crate) mod pod;
pub(crate) mod priority;
mod runtime_class;
pub(crate) mod service;
pub(crate) mod signing_request;
pub(crate) mod volume;

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;
use setpoint_api::{Scheme, Status};
use tokio::sync::Mutex;

use crate::cache::Cache;
use crate::registry::DeleteOptions;

/// What a strategy may look at.
pub(crate) struct Scene<'a> {
    pub(crate) cache: &'a Arc<Cache>,
    pub(crate) scheme: &'a Scheme,
    pub(crate) now: Timestamp,
}

/// Whether an object that is deleted may go at once, finalizers aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Removal {
    /// It may.
    Now,
    /// It stays until somebody says that it may go.
    Later,
    /// It was asked before, and being asked again changes nothing.
    Pending,
}

/// What is special about writing objects of a kind.
pub(crate) trait Strategy: Send + Sync {
    /// The lock under which objects are written that are given something of which there is one.
    fn exclusive(&self) -> Option<&Mutex<()>> {
        None
    }

    /// Whether the status of a new object is taken as it comes.
    fn takes_status_on_create(&self) -> bool {
        false
    }

    /// Completes or refuses a new object.
    fn create(&self, _: &Scene<'_>, _: &mut Value, _: &mut Vec<String>) -> Result<(), Status> {
        Ok(())
    }

    /// Completes or refuses a change (new, old).
    fn update(&self, _: &Scene<'_>, _: &mut Value, _: &Value, _: &mut Vec<String>) -> Result<(), Status> {
        Ok(())
    }

    /// Completes or refuses a change through a subresource that writes the status or a part (new, old).
    fn update_part(&self, _: &Scene<'_>, _subresource: &str, _: &mut Value, _: &Value) -> Result<(), Status> {
        Ok(())
    }

    /// Writes what the server itself says in an object's status, once the client's is put aside (updates of the object alone).
    fn settle(&self, _: &Scene<'_>, _: &mut Value) {}

    /// Notes in the object that it was asked to go.
    fn delete(&self, _: &Scene<'_>, _: &mut Value, _: &DeleteOptions) -> Result<Removal, Status> {
        Ok(Removal::Now)
    }

    /// Whether an object that was asked to go and that no finalizer holds may be removed.
    fn may_go(&self, _: &Value) -> bool {
        true
    }
}

/// A kind with nothing special.
struct Plain;

impl Strategy for Plain {}

/// The strategies, by kind.
pub(crate) struct Strategies {
    special: HashMap<&'static str, Box<dyn Strategy>>,
}

impl Strategies {
    pub(crate) fn new(ranges: service::Ranges) -> Strategies {
        let mut special: HashMap<&'static str, Box<dyn Strategy>> = HashMap::new();
        special.insert("apiregistration.k8s.io/apiservices", Box::new(api_service::ApiServices));
        special.insert("batch/jobs", Box::new(job::Jobs));
        special.insert(
            "certificates.k8s.io/certificatesigningrequests",
            Box::new(signing_request::SigningRequests),
        );
        special.insert("core/namespaces", Box::new(namespace::Namespaces));
        special.insert("core/nodes", Box::new(node::Nodes));
        special.insert("core/persistentvolumeclaims", Box::new(volume::Claims));
        special.insert("core/persistentvolumes", Box::new(volume::Volumes));
        special.insert("core/pods", Box::new(pod::Pods));
        special.insert("core/services", Box::new(service::Services::new(ranges)));
        special.insert(
            "scheduling.k8s.io/priorityclasses",
            Box::new(priority::PriorityClasses::default()),
        );
        special.insert(crate::crd::RESOURCE, Box::<definition::Definitions>::default());
        Strategies { special }
    }

    /// The strategy of a kind.
    pub(crate) fn of(&self, resource: &str) -> &dyn Strategy {
        self.special.get(resource).map_or(&Plain, |strategy| &**strategy)
    }
}
