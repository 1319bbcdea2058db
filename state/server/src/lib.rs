//! The Kubernetes API as a `tower::Service` over the revision log.
//!
//! One generic path serves every kind; what is special about a kind is a row of the scheme or a small strategy. Nothing
//! here knows controllers, git or containers: streaming to a pod goes through the [`PodStreams`] trait, and subresources that
//! the program answers itself through [`SubresourceHandler`].

mod admission;
mod api;
mod authn;
mod authz;
mod body;
mod cache;
mod crd;
mod discovery;
mod exec;
mod health;
pub mod listen;
mod logs;
mod metrics;
mod openapi_routes;
mod pods;
mod registry;
pub mod request;
mod respond;
mod retention;
mod reviews;
mod seed;
mod strategy;
mod streams;
mod subresources;
mod timemachine;
mod tokens;
mod watch;

pub use admission::{Admission, AdmissionRequest, Operation};
pub use api::{ApiServer, AsUser, ServerConfig, ServerError};
pub use cache::{Cache, Stored};
pub use registry::{Now, Registry, RegistryConfig, StartError, TokenSigner};
pub use request::{Query, RequestInfo, UserInfo};
pub use retention::log_rules;
pub use streams::{ByteStream, ExecRequest, ExecStreams, LogRequest, PodStreams, StreamError};
pub use subresources::{ServedSubresource, SubresourceHandler, SubresourceRequest};
pub use tokens::TokenKeyError;
