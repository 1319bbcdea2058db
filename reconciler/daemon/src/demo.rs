//! The demo image: a small web app that needs no network to be had, because it is this very binary.
//!
//! The runtime knows nothing of it but the OCI layout that [`image`] writes; inside the container the binary is
//! started as `setpoint __demo` and becomes [`app`].

pub mod app;
pub mod image;
