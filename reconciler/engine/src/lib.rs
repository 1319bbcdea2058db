//! The GitOps loop.
