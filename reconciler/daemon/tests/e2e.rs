//! The program as its users meet it: the real binary, real kubectl, real containers.
//!
//! Every test has an instance of its own, so that they run side by side; each waits for states, never for time. They
//! need root, kubectl, git, ip, nft, curl and script; `make test` installs them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "e2e/harness.rs"]
mod harness;

#[path = "e2e/access.rs"]
mod access;
#[path = "e2e/admission.rs"]
mod admission;
#[path = "e2e/backup.rs"]
mod backup;
#[path = "e2e/cli.rs"]
mod cli;
#[path = "e2e/dual_stack.rs"]
mod dual_stack;
#[path = "e2e/examples.rs"]
mod examples;
#[path = "e2e/git.rs"]
mod git;
#[path = "e2e/heal.rs"]
mod heal;
#[path = "e2e/images.rs"]
mod images;
#[path = "e2e/keys.rs"]
mod keys;
#[path = "e2e/kubectl.rs"]
mod kubectl;
#[path = "e2e/lifecycle.rs"]
mod lifecycle;
#[path = "e2e/matrix.rs"]
mod matrix;
#[path = "e2e/network.rs"]
mod network;
#[path = "e2e/node.rs"]
mod node;
#[path = "e2e/servers.rs"]
mod servers;
#[path = "e2e/streams.rs"]
mod streams;
#[path = "e2e/survival.rs"]
mod survival;
#[path = "e2e/timemachine.rs"]
mod timemachine;
#[path = "e2e/volumes.rs"]
mod volumes;
#[path = "e2e/workload.rs"]
mod workload;
