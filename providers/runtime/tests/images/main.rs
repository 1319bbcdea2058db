//! The image store with its workers, as root. The test binary is itself executed again in the worker's role, so it has its own `main`.

#![allow(
    clippy::unwrap_used,
    reason = "a test may panic; clippy knows only `#[test]` functions as tests"
)]

mod archives;
mod hostile;
mod pulls;
mod real;
#[path = "../../../registry/tests/registries/server.rs"]
mod server;
mod shared;
mod store;

use std::os::unix::process::CommandExt;
use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

/// Makes a trial of an async test.
fn trial<F: Future<Output = ()> + 'static>(name: &'static str, test: fn() -> F) -> Trial {
    Trial::test(name, move || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime for the test");
        runtime.block_on(async {
            tokio::time::timeout(std::time::Duration::from_secs(120), test())
                .await
                .expect("the test ends in time");
        });
        Ok(())
    })
}

/// Where the tests' own credential helper is.
const HELPERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/images/helpers");

/// Begins anew with the helpers among the programs: a process cannot change its own environment once it has threads.
fn find_helpers() {
    let path = std::env::var("PATH").unwrap_or_default();
    if path.split(':').any(|folder| folder == HELPERS) {
        return;
    }
    let error = std::process::Command::new("/proc/self/exe")
        .args(std::env::args_os().skip(1))
        .env("PATH", format!("{HELPERS}:{path}"))
        .exec();
    panic!("cannot begin anew: {error}");
}

fn main() -> ExitCode {
    setpoint_runtime::reexec_main();
    find_helpers();
    let arguments = Arguments::from_args();
    let tests = [
        store::tests(),
        hostile::tests(),
        pulls::tests(),
        shared::tests(),
        real::tests(),
        archives::tests(),
    ]
    .into_iter()
    .flatten()
    .collect();
    libtest_mimic::run(&arguments, tests).exit_code()
}
