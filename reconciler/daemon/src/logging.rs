//! Logs: readable on a terminal, JSON lines otherwise.

use std::io::IsTerminal;

use anyhow::Context;
use tracing_subscriber::EnvFilter;

/// Installs the subscriber. `SETPOINT_LOG` takes filters such as `info,setpoint_agent=debug`.
///
/// `shown` says that notices of the engine are shown otherwise: on a terminal, the log need not say them again.
pub fn init(shown: bool) -> anyhow::Result<()> {
    let filter = match std::env::var("SETPOINT_LOG") {
        Ok(text) => EnvFilter::try_new(&text).with_context(|| format!("SETPOINT_LOG={text:?} is not a log filter"))?,
        // What the verifier of certificates refuses, whoever asked it says with the address.
        Err(_) => EnvFilter::new(
            "info,kube_client=warn,kube_runtime=warn,hyper=warn,sqlx=warn,tower=warn,rustls_platform_verifier=off",
        ),
    };
    let filter = match shown && std::io::stderr().is_terminal() && std::io::stdout().is_terminal() {
        true => filter.add_directive(format!("{}=off", setpoint_engine::NOTICES).parse()?),
        false => filter,
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        // They would be written to standard error, and whoever writes there panics when that fails: a log on a full disk must not end what it tells of.
        .log_internal_errors(false)
        .with_writer(std::io::stderr);
    let installed = if std::io::stderr().is_terminal() {
        builder.compact().with_target(false).try_init()
    } else {
        builder.json().flatten_event(true).with_current_span(false).try_init()
    };
    installed.map_err(|error| anyhow::anyhow!("cannot start the log: {error}"))
}
