//! The API as a service: a request comes in with what is known of its sender and goes out answered.
//!
//! [`ApiServer::handle`] is the whole way: who (authentication, impersonation), how many at a time, may they (RBAC), then
//! the one who answers: the [`Registry`] for objects, [`SubresourceHandler`]s for what they serve, and the modules here for
//! everything else. A panic on the way is an
//! answer of 500 and a line in the log, never the end of a connection's task.

mod limits;
mod service;

use std::any::Any;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::body::Body;
use futures::FutureExt;
use http::header::CACHE_CONTROL;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use serde_json::{Value, json};
use setpoint_api::{Scheme, Status};
use setpoint_store::Log;

pub use service::AsUser;

use crate::admission::{Admission, PodSecurity};
use crate::audit::{Audit, AuditConfig, AuditFileError, Peer, Trail};
use crate::authn::{self, Authenticator, Origin};
use crate::authz::{self, Attributes, Authorizer, Escalation, NodeRestriction, Signers};
use crate::computed::{self, ComputedKind};
use crate::metrics::RequestMetrics;
use crate::registry::{Now, Registry, RegistryConfig, StartError, TokenSigner};
use crate::request::{RequestInfo, UserInfo};
use crate::streams::PodStreams;
use crate::subresources::{SubresourceHandler, Subresources};
use crate::tokens::{TokenKeyError, Tokens};
use crate::{
    account_secrets, discovery, exec, health, logs, openapi_routes, portforward, proxy, respond, reviews, timemachine,
    usage, users,
};
use limits::{Kind, Limits, Seat, held};

pub(crate) use limits::Session;

/// The version of Kubernetes whose API this is.
const VERSION: (&str, &str) = ("1", "37");
/// How long an answer may take; watches and streams may take for ever.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// What an [`ApiServer`] is made of.
pub struct ServerConfig {
    /// Where objects are kept.
    pub log: Arc<dyn Log>,
    /// Who reaches into running pods.
    pub streams: Arc<dyn PodStreams>,
    /// Who answers subresources that are none of Kubernetes' own.
    pub subresources: Vec<Arc<dyn SubresourceHandler>>,
    /// The clock.
    pub now: Now,
    /// A directory of this server's own, for the key that signs tokens.
    pub data_dir: PathBuf,
    /// The range that cluster IPs are taken from, as `a.b.c.d/len`.
    pub service_cidr: String,
    /// The range that node ports are taken from.
    pub node_port_range: RangeInclusive<u16>,
    /// The admission chain, in order; the checks against escalation of rights and of who may
    /// approve certificates, and Pod Security, come after it.
    pub admission: Vec<Arc<dyn Admission>>,
    /// The registry that `/metrics` shows; the server's own metrics are added.
    pub metrics: prometheus::Registry,
    /// Where pods reach the API (the endpoint behind `default/kubernetes`).
    pub api_address: Option<SocketAddr>,
    /// This program's own version, such as `0.1.0`.
    pub build: String,
    /// How the audit log is kept; `None` keeps none.
    pub audit: Option<AuditConfig>,
}

/// Why a server could not start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The registry could not.
    #[error(transparent)]
    Registry(#[from] StartError),
    /// The key that signs tokens cannot be had.
    #[error(transparent)]
    TokenKey(#[from] TokenKeyError),
    /// A metric of the server has a namesake.
    #[error("cannot register the server's metrics")]
    Metrics(#[from] prometheus::Error),
    /// The audit log cannot be opened.
    #[error("cannot keep an audit log")]
    Audit(#[from] AuditFileError),
    /// The thread that writes the audit log cannot be started.
    #[error("cannot start the thread that writes the audit log")]
    AuditThread(#[source] std::io::Error),
    /// Two answer the same subresource.
    #[error("{0} is answered by more than one part of this program")]
    Subresource(String),
    /// A role or binding that every cluster has could not be created or brought up to date.
    #[error("cannot create or update {what}")]
    Bootstrap {
        /// The object.
        what: String,
        /// What the registry said.
        #[source]
        source: Box<Status>,
    },
}

/// Marks an answer that goes on until its client or the server ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LongRunning;

struct Shared {
    registry: Registry,
    authorizer: Authorizer,
    authenticator: Authenticator,
    tokens: Arc<Tokens>,
    streams: Arc<dyn PodStreams>,
    subresources: Subresources,
    computed: Vec<ComputedKind>,
    now: Now,
    metrics: RequestMetrics,
    limits: Limits,
    audit: Audit,
    version: Value,
}

/// The API. Cheap to clone.
#[derive(Clone)]
pub struct ApiServer {
    shared: Arc<Shared>,
}

impl ApiServer {
    /// Loads the state, starts to follow it, and creates what every cluster has.
    pub async fn start(config: ServerConfig) -> Result<ApiServer, ServerError> {
        let metrics = RequestMetrics::new(&config.metrics)?;
        let limits = Limits::new(&config.metrics)?;
        let audit = Audit::open(config.audit, Arc::clone(&config.now), &config.metrics)?;
        let subresources =
            Subresources::new(config.subresources, &Scheme::builtin()).map_err(ServerError::Subresource)?;
        let tokens = Arc::new(Tokens::open(&config.data_dir, Arc::clone(&config.now))?);
        let cell = Arc::new(OnceLock::new());
        let mut admission = config.admission;
        admission.push(Arc::new(Escalation::new(Arc::clone(&cell))));
        admission.push(Arc::new(NodeRestriction::new(Arc::clone(&cell))));
        admission.push(Arc::new(users::Guard::new(Arc::clone(&cell))));
        admission.push(Arc::new(Signers::new(Arc::clone(&cell))));
        admission.push(Arc::new(PodSecurity::new(&config.metrics)?));
        let registry = Registry::start(RegistryConfig {
            log: config.log,
            scheme: Scheme::builtin(),
            now: Arc::clone(&config.now),
            service_cidr: config.service_cidr,
            node_port_range: config.node_port_range,
            admission,
            tokens: Some(Arc::clone(&tokens) as Arc<dyn TokenSigner>),
            api_address: config.api_address,
        })
        .await?;
        authz::reconcile(&registry, authz::bootstrap_objects())
            .await
            .map_err(|(what, source)| ServerError::Bootstrap {
                what,
                source: Box::new(source),
            })?;
        tokio::spawn(authz::follow_aggregation(Arc::downgrade(&registry.inner)));
        tokio::spawn(account_secrets::follow(Arc::downgrade(&registry.inner)));
        let authorizer = Authorizer::new(Arc::clone(registry.cache()));
        // The cell was made above and is set here only.
        drop(cell.set(authorizer.clone()));
        Ok(ApiServer {
            shared: Arc::new(Shared {
                computed: usage::kinds(registry.cache(), &config.streams),
                authenticator: Authenticator::new(
                    Arc::clone(&tokens),
                    Arc::clone(registry.cache()),
                    Arc::clone(&config.now),
                ),
                authorizer,
                registry,
                tokens,
                streams: config.streams,
                subresources,
                now: config.now,
                metrics,
                limits,
                audit,
                version: version(&config.build),
            }),
        })
    }

    /// The API as one user sees it, in this process: a service for `kube::Client::new` or any other caller.
    pub fn as_user(&self, user: UserInfo) -> AsUser {
        AsUser::new(self.clone(), user)
    }

    /// Takes the next step of the renewal of the keys that sign tokens, where one is due; says whether one was. To be asked every
    /// now and then: it costs nothing when there is nothing to do.
    pub fn renew_token_keys(&self) -> Result<bool, TokenKeyError> {
        self.shared.tokens.renew()
    }

    /// Waits until the audit log has everything that has happened, a few seconds at most. For the end of the program.
    pub async fn flush_audit(&self) {
        self.shared.audit.flush().await;
    }

    /// The objects behind the API.
    pub fn registry(&self) -> &Registry {
        &self.shared.registry
    }

    /// Resolves when the credential of a request was taken back.
    pub(crate) fn taken_back(&self, origin: &Origin, headers: &HeaderMap) -> impl Future<Output = ()> + Send + 'static {
        self.shared.authenticator.taken_back(origin, headers)
    }

    /// Counts an open connection as long as the guard lives.
    pub(crate) fn count_connection(&self) -> impl Drop + Send + use<> {
        let gauge = self.shared.metrics.connections.clone();
        gauge.inc();
        Connection(gauge)
    }

    /// Answers a request.
    pub(crate) async fn handle(&self, origin: &Origin, request: Request<Body>) -> Response<Body> {
        let started = tokio::time::Instant::now();
        let info = RequestInfo::parse(request.method(), request.uri());
        let head = request.method() == Method::HEAD;
        let peer = request.extensions().get::<Peer>().copied();
        let trail = self.shared.audit.begin(&info, request.uri(), request.headers(), peer);
        let answering = AssertUnwindSafe(self.answer(origin, &info, request, &trail)).catch_unwind();
        let mut response = match answering.await {
            Ok(Ok(response)) => response,
            Ok(Err(status)) => respond::status(&status),
            Err(panic) => {
                self.shared.metrics.panics.inc();
                tracing::error!(
                    verb = info.verb,
                    path = info.path,
                    panic = panic_text(&*panic),
                    "the handling of a request panicked"
                );
                trail.panicked();
                respond::status(&Status::internal("this server made a mistake; its log says more"))
            }
        };
        let code = response.status();
        if info.is_long_running() && code.is_success() {
            response.extensions_mut().insert(LongRunning);
        }
        let lasts = info.is_long_running() && (code.is_success() || code == StatusCode::SWITCHING_PROTOCOLS);
        let mut response = trail.answered(response, lasts);
        // Who does not say otherwise says that nobody may keep the answer.
        let cache = response.headers_mut().entry(CACHE_CONTROL);
        cache.or_insert(HeaderValue::from_static(respond::UNCACHED));
        if head {
            *response.body_mut() = Body::empty();
        }
        let known = self.knows(&info);
        self.shared
            .metrics
            .record(&info, known, response.status(), started.elapsed());
        response
    }

    fn knows(&self, info: &RequestInfo) -> bool {
        let row = self
            .shared
            .registry
            .scheme()
            .get(&info.group, &info.version, &info.resource);
        row.is_some_and(|row| {
            info.subresource.is_empty()
                || row.subresource(&info.subresource).is_some()
                || self.shared.subresources.find(info).is_some()
        })
    }

    async fn answer(
        &self,
        origin: &Origin,
        info: &RequestInfo,
        request: Request<Body>,
        trail: &Trail,
    ) -> Result<Response<Body>, Status> {
        let shared = &*self.shared;
        let known = shared.authenticator.authenticate(origin, request.headers());
        trail.asked_by(known.as_ref().ok().and_then(Option::as_ref));
        let Some(mut user) = known? else {
            return self.answer_anybody(info);
        };
        let request = trail.request(request);
        // Until it is known better.
        trail.decided(|| None);
        if let Some(other) = authn::impersonate(&user, request.headers(), &shared.authorizer)? {
            trail.acts_as(&other);
            user = other;
        }
        shared.authorizer.check(&user, &Attributes::of(info))?;
        if (exec::is_exec(info) || portforward::is_portforward(info)) && info.verb == "get" {
            // A GET that upgrades runs commands all the same: it needs the right to create, too.
            let attributes = Attributes {
                verb: "create",
                ..Attributes::of(info)
            };
            shared.authorizer.check(&user, &attributes)?;
        }
        trail.decided(|| {
            let reason = shared.authorizer.reason(&user, &Attributes::of(info));
            Some(reason.unwrap_or_default())
        });
        let in_process = origin.is_in_process();
        if info.is_long_running() {
            return self.answer_long(info, &user, in_process, request, trail).await;
        }
        let of_kind = if info.is_read() { Kind::Read } else { Kind::Write };
        let seat = self.admit(info, &user, in_process, of_kind).await?;
        let kind = if info.is_read() { "readOnly" } else { "mutating" };
        let counted = shared.metrics.in_flight(kind);
        let answer = tokio::time::timeout(ANSWER_WITHIN, self.route(info, &user, request)).await;
        drop((seat, counted));
        answer.unwrap_or_else(|_| {
            Err(Status::timeout(format!(
                "the request was not answered within {} seconds",
                ANSWER_WITHIN.as_secs()
            )))
        })
    }

    /// Answers what lasts: its session lasts until the answer has been sent, or the upgraded connection has ended.
    async fn answer_long(
        &self,
        info: &RequestInfo,
        user: &UserInfo,
        in_process: bool,
        mut request: Request<Body>,
        trail: &Trail,
    ) -> Result<Response<Body>, Status> {
        let seat = self.shared.limits.admit(user, in_process, Kind::Stream, 1).await?;
        let session = Session::new(seat, trail.ending());
        // A watch may begin with a list, and costs as much until it has begun.
        let listing = match info.verb.as_str() {
            "watch" => Some(self.admit(info, user, in_process, Kind::Read).await?),
            _ => None,
        };
        request.extensions_mut().insert(session.clone());
        let response = self.route(info, user, request).await?;
        drop(listing);
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(response);
        }
        Ok(response.map(|body| held(body, session)))
    }

    /// Waits for a request's turn.
    async fn admit(&self, info: &RequestInfo, user: &UserInfo, in_process: bool, kind: Kind) -> Result<Seat, Status> {
        let shared = &*self.shared;
        let width = if matches!(info.verb.as_str(), "list" | "watch") {
            let row = shared.registry.scheme().get(&info.group, &info.version, &info.resource);
            let objects = row.map_or(0, |row| shared.registry.cache().count(&row.storage_prefix()));
            let page = info.query.get("limit").and_then(|limit| limit.parse().ok());
            limits::list_width(page.filter(|page| *page > 0).map_or(objects, |page| objects.min(page)))
        } else {
            1
        };
        let seat = shared.limits.admit(user, in_process, kind, width).await?;
        if width > 1 {
            // A list is made without a pause: those that have arrived meanwhile are to queue up first, or the order in
            // which connections happen to be served would be the order of answers.
            tokio::task::yield_now().await;
        }
        Ok(seat)
    }

    /// What is told to those who are not known: health and version.
    fn answer_anybody(&self, info: &RequestInfo) -> Result<Response<Body>, Status> {
        // As the role system:public-info-viewer has it: the single checks are for those who are known.
        match &*info.path {
            _ if !info.is_read() || info.is_resource => Err(Status::unauthorized()),
            "/version" | "/version/" => Ok(respond::json(StatusCode::OK, &self.shared.version)),
            "/healthz" | "/livez" | "/readyz" => health::serve(self.shared.registry.cache(), info),
            _ => Err(Status::unauthorized()),
        }
    }

    async fn route(
        &self,
        info: &RequestInfo,
        user: &UserInfo,
        request: Request<Body>,
    ) -> Result<Response<Body>, Status> {
        let shared = &*self.shared;
        let cache = shared.registry.cache();
        if !info.is_resource {
            if !matches!(*request.method(), Method::GET | Method::HEAD) {
                return Err(Status::method_not_allowed());
            }
            if let Some(answer) = timemachine::serve(&shared.registry, &shared.authorizer, info, user).await {
                return answer;
            }
            return self.route_path(info, request.headers());
        }
        if exec::is_exec(info) {
            return exec::serve(cache, &shared.streams, info, request).await;
        }
        if portforward::is_portforward(info) {
            return portforward::serve(cache, &shared.streams, info, request).await;
        }
        if proxy::is_proxy(info) {
            return proxy::serve(cache, &shared.streams, &shared.metrics, info, request).await;
        }
        if info.group.is_empty() && info.resource == "pods" && info.subresource == "log" {
            return logs::serve(cache, &shared.streams, &shared.now, info).await;
        }
        if let Some(served) = shared.subresources.find(info) {
            return shared
                .subresources
                .serve(served, &shared.registry, info, user, request)
                .await;
        }
        if let Some(source) = computed::find(&shared.computed, info) {
            let answer = shared
                .registry
                .serve_computed(source, info, user, request.headers())
                .await;
            return Ok(answer);
        }
        if reviews::is_review(info) {
            let (authorizer, authenticator) = (&shared.authorizer, &shared.authenticator);
            return Ok(reviews::serve(&shared.registry, authorizer, authenticator, info, user, request).await);
        }
        // An update or an apply that makes an object is a creation, too.
        let create = Attributes {
            verb: "create",
            ..Attributes::of(info)
        };
        let may_create = || shared.authorizer.check(user, &create);
        Ok(shared.registry.serve_limited(info, user, request, &may_create).await)
    }

    fn route_path(&self, info: &RequestInfo, headers: &HeaderMap) -> Result<Response<Body>, Status> {
        let shared = &*self.shared;
        let registry = &shared.registry;
        let found = |document: &Value| Ok(respond::json(StatusCode::OK, document));
        match info.path.trim_end_matches('/') {
            "" => found(&discovery::root_paths(&registry.scheme().resources())),
            "/version" => found(&shared.version),
            "/metrics" => shared.metrics.page(),
            "/.well-known/openid-configuration" => found(&shared.tokens.openid_configuration()),
            "/openid/v1/jwks" => found(&shared.tokens.key_set()),
            path if health::is_health(path) => health::serve(registry.cache(), info),
            path if path.starts_with("/openapi/") => openapi_routes::serve(registry, info, headers),
            path => {
                let rows = shared.subresources.listed(registry.scheme().resources());
                let document = discovery::document(&rows, path, headers).ok_or_else(Status::no_such_resource)?;
                let (kind, body) = (HeaderValue::from_static(document.media_type), document.body.to_string());
                if document.aggregated {
                    respond::tagged(headers, kind, body)
                } else {
                    Ok(respond::bytes(StatusCode::OK, kind, body))
                }
            }
        }
    }
}

struct Connection(prometheus::IntGauge);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.dec();
    }
}

fn version(build: &str) -> Value {
    let (major, minor) = VERSION;
    json!({
        "major": major,
        "minor": minor,
        "gitVersion": format!("v{major}.{minor}.0+setpoint-{build}"),
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "rustc",
        "platform": format!("linux/{}", match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        }),
    })
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no text")
}
