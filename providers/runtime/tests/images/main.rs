//! The image store with its workers, as root. The test binary is itself executed again in the worker's role, so it has its own `main`.

#![allow(
    clippy::unwrap_used,
    reason = "a test may panic; clippy knows only `#[test]` functions as tests"
)]

mod hostile;
mod pulls;
#[path = "../../../registry/tests/registries/server.rs"]
mod server;
mod shared;
mod store;

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

fn main() -> ExitCode {
    setpoint_runtime::reexec_main();
    let arguments = Arguments::from_args();
    let tests = [store::tests(), hostile::tests(), pulls::tests(), shared::tests()]
        .into_iter()
        .flatten()
        .collect();
    libtest_mimic::run(&arguments, tests).exit_code()
}
