//! The Kubernetes API as a `tower::Service` over the revision log.
//!
//! One generic path serves every kind; what is special about a kind is a row of the scheme or a small strategy. Nothing
//! here knows controllers, git or containers: streaming to a pod goes through the [`PodStreams`] trait, and subresources that
//! the program answers itself through [`SubresourceHandler`].

mod account_secrets;
mod admission;
mod api;
mod apiservices;
mod audit;
mod authn;
mod authz;
mod body;
mod cache;
mod computed;
mod crd;
mod discovery;
mod exec;
mod health;
pub mod listen;
mod logs;
mod metrics;
mod openapi_routes;
mod pods;
mod portforward;
mod proxy;
mod registry;
pub mod request;
mod respond;
mod retention;
mod reviews;
mod seed;
mod spdy;
mod strategy;
mod streams;
mod subresources;
mod timemachine;
mod tokens;
mod upgrade;
mod usage;
pub mod users;
mod watch;
mod websocket;

pub use admission::{Admission, AdmissionRequest, Operation};
pub use api::{ApiServer, AsUser, ServerConfig, ServerError};
pub use audit::{Annotations, AuditConfig, AuditFileError, AuditLevel, AuditPolicy, AuditPolicyError};
pub use cache::{Cache, Stored};
pub use registry::{Now, Registry, RegistryConfig, StartError, TokenRequest, TokenSigner};
pub use request::{Query, RequestInfo, UserInfo};
pub use retention::log_rules;
pub use streams::{
    ByteStream, Duplex, ExecRequest, ExecStreams, LogRequest, LogSource, NodeUsage, PodAddress, PodStreams, PodUsage,
    StreamError, Usage,
};
pub use subresources::{ServedSubresource, SubresourceHandler, SubresourceRequest};
pub use tokens::{Named, TokenKeyError};
