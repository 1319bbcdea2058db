//! The GitOps loop: from a commit to what runs, and back when it does not get well.
//!
//! Where to start: [`Engine`] is what the daemon starts. [`state`] decides, purely, what an app does next; [`app`] looks and acts;
//! [`repository`] follows git. What the engine needs of the rest of the world it states itself: [`Records`] to remember by,
//! [`Renderer`] to run templates; the cluster is a `kube::Client`, whichever that is.
//!
//! Invariants:
//! * Everything is level-triggered: an event only wakes. A process that dies anywhere goes on from its records.
//! * Nothing is applied whose bytes are not kept, and nothing is deleted that is not in the app's inventory and carries its mark.
//! * Nothing waits without a deadline.

pub mod api;
pub mod app;
pub mod declaration;
mod drive;
mod engine;
pub mod images;
pub mod live;
mod metrics;
mod notice;
pub mod records;
pub mod rendered;
pub mod repository;
pub mod source;
pub mod state;
pub mod target;

pub use app::pack;
pub use engine::{
    Difference, Engine, EngineConfig, EngineError, NOTICES, Name, Now, Proposal, RenderedAnswer, RequestError,
    ResumeAnswer, RollbackAnswer, Standing,
};
pub use images::{ImagesKept, images_kept};
pub use notice::{Notice, NoticeKind};
pub use records::{Batch, Records, RecordsError};
pub use rendered::Renderer;
