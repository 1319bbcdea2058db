//! Subresources that the program around the server answers: `apps/history` and what else a [`SubresourceHandler`] serves.
//!
//! To clients they are subresources as any other: discovery lists them, RBAC decides on `apps/history`, an object that is not
//! there is 404 and a verb that is not served 405. The handler gets the request once all of that holds.

use std::sync::Arc;

use async_trait::async_trait;
use axum::body::Body;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use serde_json::Value;
use setpoint_api::scheme::{Subresource, SubresourceAction};
use setpoint_api::{Resource, Scheme, Status};
use tokio::sync::Semaphore;

use crate::registry::Registry;
use crate::request::{Query, RequestInfo, UserInfo};
use crate::{body, respond};

/// The largest body that is read for a handler, in bytes.
const LIMIT: usize = 16 << 20;
/// How many bodies may be in memory at a time.
const BODIES: usize = 16;

/// A subresource that a handler answers, such as `apps/history` of `setpoint.dev`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ServedSubresource {
    /// The API group of the resource.
    pub group: &'static str,
    /// The resource, as `apps`.
    pub resource: &'static str,
    /// The last part of the path, as `history`.
    pub name: &'static str,
    /// The verbs: `get` (GET) and `create` (POST).
    pub verbs: &'static [&'static str],
    /// Whether it is also served for a name that no object has: a proposal, say.
    pub of_absent: bool,
}

/// A request that its sender may make, about an object that is there.
#[derive(Clone, Debug)]
pub struct SubresourceRequest {
    /// The resource, as `apps`.
    pub resource: String,
    /// The last part of the path, as `history`.
    pub subresource: String,
    /// The object's namespace; empty when it has none.
    pub namespace: String,
    /// The object's name.
    pub name: String,
    /// `get` or `create`.
    pub verb: String,
    /// The query.
    pub query: Query,
    /// The body of a `create`; empty for a `get`. At most 16 MiB.
    pub body: Bytes,
    /// Who asks.
    pub user: UserInfo,
}

/// Answers subresources. Its answer has a minute, as any other; it is dropped then, or when its client goes.
#[async_trait]
pub trait SubresourceHandler: Send + Sync + 'static {
    /// What it answers; asked once.
    fn serves(&self) -> Vec<ServedSubresource>;

    /// Answers a request with a JSON document.
    async fn call(&self, request: SubresourceRequest) -> Result<Value, Status>;
}

/// One subresource and who answers it.
pub(crate) struct Served {
    subresource: ServedSubresource,
    handler: Arc<dyn SubresourceHandler>,
}

impl Served {
    fn is(&self, group: &str, resource: &str, name: &str) -> bool {
        let served = &self.subresource;
        (served.group, served.resource, served.name) == (group, resource, name)
    }
}

/// All subresources that are answered by handlers: a handful.
pub(crate) struct Subresources {
    served: Vec<Served>,
    bodies: Semaphore,
}

impl Subresources {
    /// Asks the handlers what they serve. The error is what somebody else serves already.
    pub(crate) fn new(handlers: Vec<Arc<dyn SubresourceHandler>>, builtin: &Scheme) -> Result<Subresources, String> {
        let mut served: Vec<Served> = Vec::new();
        for handler in handlers {
            for subresource in handler.serves() {
                let ServedSubresource {
                    group, resource, name, ..
                } = subresource;
                let row = builtin.any_version(group, resource);
                // A custom resource has these two, or may have them one day.
                let taken = matches!(name, "status" | "scale")
                    || row.is_some_and(|row| row.subresource(name).is_some())
                    || served.iter().any(|other| other.is(group, resource, name));
                if taken {
                    return Err(format!("{resource}/{name} of {group}"));
                }
                served.push(Served {
                    subresource,
                    handler: Arc::clone(&handler),
                });
            }
        }
        Ok(Subresources {
            served,
            bodies: Semaphore::new(BODIES),
        })
    }

    /// What a request is about, if a handler answers it.
    pub(crate) fn find(&self, info: &RequestInfo) -> Option<&Served> {
        if !info.is_resource || info.subresource.is_empty() {
            return None;
        }
        self.served
            .iter()
            .find(|served| served.is(&info.group, &info.resource, &info.subresource))
    }

    /// The rows with their handled subresources, as discovery lists them.
    pub(crate) fn listed(&self, mut rows: Vec<Arc<Resource>>) -> Vec<Arc<Resource>> {
        for row in &mut rows {
            let handled: Vec<Subresource> = self
                .served
                .iter()
                .map(|served| &served.subresource)
                .filter(|served| served.group == row.group && served.resource == row.plural)
                .map(|served| Subresource {
                    name: served.name.to_owned(),
                    group: row.group.clone(),
                    version: row.version.clone(),
                    kind: row.kind.clone(),
                    verbs: served.verbs,
                    action: SubresourceAction::Handled,
                })
                .collect();
            if !handled.is_empty() {
                Arc::make_mut(row).subresources.extend(handled);
            }
        }
        rows
    }

    /// Answers a request that its sender may make.
    pub(crate) async fn serve(
        &self,
        served: &Served,
        registry: &Registry,
        info: &RequestInfo,
        user: &UserInfo,
        request: Request<Body>,
    ) -> Result<Response<Body>, Status> {
        let row = registry
            .scheme()
            .get(&info.group, &info.version, &info.resource)
            .filter(|row| row.namespaced == info.namespace.is_some())
            .ok_or_else(Status::no_such_resource)?;
        if !served.subresource.verbs.contains(&info.verb.as_str()) {
            return Err(Status::method_not_supported(
                &info.group,
                &info.resource_path(),
                &info.verb,
            ));
        }
        let namespace = info.namespace.clone().unwrap_or_default();
        let name = info.name.clone().unwrap_or_default();
        if !served.subresource.of_absent && registry.cache().get(&row.storage_prefix(), &namespace, &name).is_none() {
            return Err(Status::not_found(&row.group, &row.plural, &name));
        }
        let (body, room) = if info.is_read() {
            (Bytes::new(), None)
        } else {
            let room = self
                .bodies
                .try_acquire()
                .map_err(|_| Status::too_many_requests("too many requests of this kind, please try again later", 1))?;
            (body::read_up_to(request.into_body(), LIMIT).await?, Some(room))
        };
        let answer = served
            .handler
            .call(SubresourceRequest {
                resource: info.resource.clone(),
                subresource: info.subresource.clone(),
                namespace,
                name,
                verb: info.verb.clone(),
                query: info.query.clone(),
                body,
                user: user.clone(),
            })
            .await;
        drop(room);
        Ok(respond::json(StatusCode::OK, &answer?))
    }
}
