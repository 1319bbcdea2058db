//! One file per command.

pub mod check;
pub mod completion;
pub mod down;
pub mod image;
pub mod kubeconfig;
pub mod metrics;
pub mod status;
pub mod up;
