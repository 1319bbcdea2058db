//! Real containers on this host, as root. The test binary is itself executed again in the runtime's roles, so it has its own `main`.

#![allow(
    clippy::unwrap_used,
    reason = "a test may panic; clippy knows only `#[test]` functions as tests"
)]

mod basics;
mod declared;
mod isolation;
mod killed;
mod lifetime;
mod survival;
mod world;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

/// Runs an async test.
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
    if lifetime::daemon_main() || killed::keeper_main() {
        return ExitCode::SUCCESS;
    }
    let mut arguments = Arguments::from_args();
    // Two cores run them; more at once only wait for each other.
    arguments.test_threads = arguments.test_threads.or(Some(4));
    let tests = [
        basics::tests(),
        declared::tests(),
        isolation::tests(),
        lifetime::tests(),
        survival::tests(),
        killed::tests(),
    ]
    .into_iter()
    .flatten()
    .collect();
    libtest_mimic::run(&arguments, tests).exit_code()
}
