//! The generic path: every operation on every kind, over one cache and one log.
//!
//! An operation is one file below. All of them read from the [`Cache`], write through `write` (the only place that
//! touches the log), and answer only when the cache shows the write. What is special about a kind comes from its row of
//! the scheme or, where it needs the state of other objects, from a [`crate::strategy`].

mod answer;
mod binding;
mod bookkeeping;
mod call;
mod collection;
mod computed;
mod continuation;
mod create;
mod delete;
mod delete_options;
mod eviction;
mod failure;
mod finalize;
mod get;
mod identity;
mod list;
mod list_options;
mod owners;
mod patch;
mod scale;
mod select;
mod system;
mod token;
mod update;
mod versions;
mod warning;
mod write;
mod write_options;

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use axum::body::Body;
use http::{Request, Response};
use jiff::Timestamp;
use serde_json::Value;
use setpoint_api::scheme::SubresourceAction;
use setpoint_api::{Scheme, Status};
use setpoint_store::{Log, StoreError};

use crate::admission::Admission;
use crate::audit::Annotations;
use crate::cache::Cache;
use crate::openapi_routes::Digests;
use crate::request::{RequestInfo, UserInfo};
use crate::strategy::Strategies;
use crate::strategy::service::Ranges;
use crate::tokens::Named;
use crate::{apiservices, crd, respond, seed, watch};

pub(crate) use answer::{Answer, value_of};
pub(crate) use call::{Call, MayCreate};
pub(crate) use create::generated;
pub(crate) use delete::{DeleteOptions, mark};
pub(crate) use failure::from_store;
pub(crate) use list::selected;
pub(crate) use list_options::{ListOptions, parse_revision};
pub(crate) use select::Selection;
pub(crate) use system::{amend, correct, delete_as_system, delete_object, release, revise};

/// The clock that is handed in.
pub type Now = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// What a service account's token is to say.
#[derive(Clone, Copy, Debug)]
pub struct TokenRequest<'a> {
    /// The account's namespace.
    pub namespace: &'a str,
    /// The account.
    pub account: &'a Named,
    /// Whom the token is for; not empty.
    pub audiences: &'a [String],
    /// When the token ends.
    pub expires: Timestamp,
    /// The pod that the token is bound to.
    pub pod: Option<&'a Named>,
    /// The Secret that the token is bound to.
    pub secret: Option<&'a Named>,
    /// The node that the token is bound to or, with a pod, the node that the pod is on.
    pub node: Option<&'a Named>,
}

/// Signs tokens for service accounts.
pub trait TokenSigner: Send + Sync + 'static {
    /// Returns a token as `serviceaccounts/token` gives it.
    fn sign(&self, request: &TokenRequest<'_>) -> Result<String, Status>;

    /// Returns a token without an end for an account (of `namespace`), to be kept in a Secret.
    fn sign_for_secret(&self, namespace: &str, account: &Named, secret: &str) -> Result<String, Status>;

    /// Whom a token is for that names nobody: the API itself.
    fn own_audience(&self) -> &str;
}

/// What a [`Registry`] is made of.
pub struct RegistryConfig {
    /// Where objects are kept.
    pub log: Arc<dyn Log>,
    /// The kinds served; rows of CustomResourceDefinitions come and go in it.
    pub scheme: Scheme,
    /// The clock.
    pub now: Now,
    /// The range that cluster IPs are taken from, as `a.b.c.d/len`.
    pub service_cidr: String,
    /// The range that node ports are taken from.
    pub node_port_range: RangeInclusive<u16>,
    /// The admission chain, in order.
    pub admission: Vec<Arc<dyn Admission>>,
    /// Signs service account tokens; without one `serviceaccounts/token` answers that it is not supported.
    pub tokens: Option<Arc<dyn TokenSigner>>,
    /// Where pods reach the API (the endpoint behind `default/kubernetes`); `None` leaves that Service without endpoints.
    pub api_address: Option<SocketAddr>,
}

/// Why a [`Registry`] could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The log could not be read.
    #[error("cannot load the cluster's state from the store")]
    Load(#[source] StoreError),
    /// The range of cluster IPs makes no sense.
    #[error(
        "cannot take cluster IPs from {0:?}: give an IPv4 range of /12 to /30, such as 10.96.0.0/16, and with a comma one of IPv6 of /108 to /126"
    )]
    ServiceCidr(String),
    /// What every cluster has could not be created.
    #[error("cannot create {what}: {status}")]
    Seed {
        /// The object.
        what: String,
        /// What the API said.
        status: Box<Status>,
    },
}

pub(crate) struct Inner {
    pub(crate) log: Arc<dyn Log>,
    pub(crate) cache: Arc<Cache>,
    pub(crate) scheme: Scheme,
    pub(crate) now: Now,
    pub(crate) admission: Vec<Arc<dyn Admission>>,
    pub(crate) tokens: Option<Arc<dyn TokenSigner>>,
    pub(crate) strategies: Strategies,
    pub(crate) openapi: Digests,
    locks: write::Locks,
}

/// The generic path over one log. Cheap to clone.
#[derive(Clone)]
pub struct Registry {
    pub(crate) inner: Arc<Inner>,
}

impl Registry {
    /// Loads the log into memory, registers the stored CustomResourceDefinitions, starts to follow the log, and creates
    /// what every cluster has (namespaces, the `kubernetes` Service).
    pub async fn start(config: RegistryConfig) -> Result<Registry, StartError> {
        let ranges = Ranges::parse(&config.service_cidr, config.node_port_range)
            .ok_or_else(|| StartError::ServiceCidr(config.service_cidr.clone()))?;
        let cache = Cache::start(config.log.clone(), config.scheme.clone())
            .await
            .map_err(StartError::Load)?;
        let inner = Inner {
            log: config.log,
            cache,
            scheme: config.scheme,
            now: config.now,
            admission: config.admission,
            tokens: config.tokens,
            strategies: Strategies::new(ranges.clone()),
            openapi: Digests::default(),
            locks: write::Locks::default(),
        };
        let registry = Registry { inner: Arc::new(inner) };
        seed::run(&registry, &ranges, config.api_address).await?;
        apiservices::reconcile(&registry, true)
            .await
            .map_err(|status| StartError::Seed {
                what: "the APIServices".to_owned(),
                status: Box::new(status),
            })?;
        tokio::spawn(crd::clean_up(Arc::downgrade(&registry.inner)));
        tokio::spawn(apiservices::maintain(Arc::downgrade(&registry.inner)));
        Ok(registry)
    }

    /// Answers one authorized resource request: everything but the streaming subresources and the reviews.
    ///
    /// Whoever may update or patch an object here may also make it so, where the verb can; see `serve_limited`.
    pub async fn serve(&self, info: &RequestInfo, user: &UserInfo, request: Request<Body>) -> Response<Body> {
        self.serve_limited(info, user, request, &|| Ok(())).await
    }

    /// As [`Registry::serve`], but an update or an apply makes an object only if `may_create` agrees.
    pub(crate) async fn serve_limited(
        &self,
        info: &RequestInfo,
        user: &UserInfo,
        request: Request<Body>,
        may_create: MayCreate<'_>,
    ) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let mut call = match Call::new(self, info, user, &parts.headers) {
            Ok(call) => call,
            Err(status) => return respond::status(&status),
        };
        if let Some(annotations) = parts.extensions.get::<Arc<Annotations>>() {
            call.annotations = Arc::clone(annotations);
        }
        call.may_create = may_create;
        let answer = self.dispatch(&mut call, body).await;
        answer::respond(&call, answer).await
    }

    async fn dispatch(&self, call: &mut Call<'_>, body: Body) -> Result<Answer, Status> {
        if !call.info.subresource.is_empty() {
            return self.subresource(call, body).await;
        }
        let verb = call.info.verb.as_str();
        if !call.row.allows(verb) {
            return Err(call.not_supported());
        }
        match (verb, call.name.is_empty()) {
            // There is no such route; those of custom resources are one for all methods.
            ("create", false) | ("update" | "patch", true) if !call.row.custom => return Err(call.not_supported()),
            ("update" | "patch", true) => return Err(Status::bad_request("name must be provided")),
            _ => {}
        }
        match verb {
            "get" => get::get(call).await,
            "list" => list::list(call).await,
            "watch" => watch::watch(call).await,
            "create" => match call.row.creates {
                Some(SubresourceAction::Binding) => binding::create_by_name(call, body).await,
                Some(_) => Err(call.not_supported()),
                None => create::create(call, body).await,
            },
            "update" => update::put(call, body).await,
            "patch" => patch::patch(call, body).await,
            "delete" => delete::delete(call, body).await,
            "deletecollection" => collection::delete(call, body).await,
            _ => Err(call.not_supported()),
        }
    }

    async fn subresource(&self, call: &mut Call<'_>, body: Body) -> Result<Answer, Status> {
        let sub = call.sub()?;
        if !sub.verbs.contains(&call.info.verb.as_str()) {
            return Err(call.not_supported());
        }
        match (&sub.action, call.info.verb.as_str()) {
            (SubresourceAction::Status | SubresourceAction::Part(_), "get") => get::get(call).await,
            (SubresourceAction::Status | SubresourceAction::Part(_), "update") => update::put(call, body).await,
            (SubresourceAction::Status | SubresourceAction::Part(_), "patch") => patch::patch(call, body).await,
            (SubresourceAction::Scale(_), "get") => scale::get(call),
            (SubresourceAction::Scale(_), "update") => scale::put(call, body).await,
            (SubresourceAction::Scale(_), "patch") => scale::patch(call, body).await,
            (SubresourceAction::Eviction, "create") => eviction::create(call, body).await,
            (SubresourceAction::Binding, "create") => binding::create(call, body).await,
            (SubresourceAction::Finalize, "update") => finalize::put(call, body).await,
            (SubresourceAction::Token, "create") => token::create(call, body).await,
            _ => Err(Status::not_implemented(format!(
                "{} on {} is not supported by this server",
                call.info.verb,
                call.info.resource_path()
            ))),
        }
    }

    /// Creates an object (with apiVersion, kind and metadata) unless its name is taken; returns whether it was created.
    pub async fn create_if_absent(&self, object: Value) -> Result<bool, Status> {
        system::create_if_absent(self, object).await
    }

    /// The kinds served now.
    pub fn scheme(&self) -> &Scheme {
        &self.inner.scheme
    }

    /// The objects as they are now, and their changes.
    pub fn cache(&self) -> &Arc<Cache> {
        &self.inner.cache
    }
}

impl Inner {
    pub(crate) fn now(&self) -> Timestamp {
        (self.now)()
    }
}
