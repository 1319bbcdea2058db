//! This program's version, and the running daemon's.

use std::time::Duration;

use super::{Finding, Findings, Subject};
use crate::client;

/// How long the daemon may take to answer.
const ANSWER: Duration = Duration::from_secs(10);

/// Compares the versions; an answer also says that the API works.
pub async fn versions(subject: &Subject) -> Findings {
    let own = env!("CARGO_PKG_VERSION");
    let Some(pid) = subject.daemon else {
        return Ok(vec![Finding::ok(format!("setpoint {own}; no daemon runs"))]);
    };
    let ask = async {
        let client = client::connect(&subject.global).await?;
        Ok::<_, anyhow::Error>(client.apiserver_version().await?.git_version)
    };
    let stuck = "its log says what it does; pods go on when it is restarted (kill it, then `setpoint up`)";
    Ok(vec![match tokio::time::timeout(ANSWER, ask).await {
        Err(_) => Finding::failed(
            format!(
                "the running daemon (process {pid}) did not answer within {} s",
                ANSWER.as_secs()
            ),
            stuck,
        ),
        Ok(Err(error)) => Finding::failed(
            format!("the running daemon (process {pid}) does not answer: {error:#}"),
            stuck,
        ),
        Ok(Ok(version)) if version.contains(own) => {
            Finding::ok(format!("setpoint {own}, as the running daemon (process {pid})"))
        }
        Ok(Ok(version)) => Finding::warning(
            format!("this is setpoint {own}, and the running daemon (process {pid}) is {version}"),
            "restart it to run this version: pods go on meanwhile",
        ),
    }])
}
