//! The one binary: configuration, wiring and the command line; no rule of the rooms below it.
//!
//! Where to start: [`cli`] lists the commands, a file per command stands in `commands/`; `commands/up.rs` starts the
//! [`cluster`] that everything else talks to.

mod apps;
mod audit;
mod backup;
mod carried;
mod cli;
mod client;
mod cluster;
mod commands;
mod demo;
mod doctor;
mod fleet;
mod folder;
mod instance;
mod kinds;
mod logging;
mod moment;
mod output;
mod past;
mod pki;
mod render_worker;
mod stores;
mod takeover;

use std::process::ExitCode;

/// Objects come and go as small pieces of JSON on every thread: this allocator takes half the time of the system's for that.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// How the allocator is set up, in its own words, before anything else runs: few arenas, and what is free goes back to the system soon, since
/// the daemon is idle most of the time and memory is counted.
#[expect(unsafe_code, reason = "the allocator looks for this name; nothing else has it")]
#[unsafe(export_name = "_rjem_malloc_conf")]
static ALLOCATOR_SETTINGS: &[u8] =
    b"narenas:2,lg_tcache_max:12,dirty_decay_ms:250,muzzy_decay_ms:0,background_thread:false,abort_conf:true\0";

fn main() -> ExitCode {
    // The runtime's hidden roles come before everything: they are small single-threaded processes and must stay so.
    setpoint_runtime::reexec_main();
    // So does the demo image's program: it is this binary inside a container.
    if let Some(code) = demo::app::main_when_asked() {
        return code;
    }
    if let Some(code) = render_worker::main_when_asked() {
        return code;
    }
    cli::run()
}

/// Returns the wall clock's time: the one place that reads it; everything else is handed a clock.
fn wall_clock() -> jiff::Timestamp {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the clock that is handed in everywhere else"
    )]
    jiff::Timestamp::now()
}
