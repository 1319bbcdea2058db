//! One file per command.

pub mod backup;
pub mod changes;
pub mod chart;
pub mod check;
pub mod completion;
pub mod diff;
pub mod doctor;
pub mod down;
pub mod get;
pub mod history;
pub mod image;
pub mod key;
pub mod kubeconfig;
pub mod metrics;
pub mod plan;
pub mod restore;
pub mod status;
pub mod sync;
pub mod up;
pub mod user;
