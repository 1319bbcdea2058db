//! Programs that keep credentials, `docker-credential-NAME`: asked as docker asks them.

use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::Proof;

/// How long a helper may take.
const DEADLINE: Duration = Duration::from_secs(10);
/// The longest answer, in bytes.
const LONGEST: u64 = 64 << 10;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    #[serde(default)]
    username: String,
    secret: String,
}

/// Asks a helper for a host's credentials; `None` when it has none. The error says what to look at, never what was answered.
pub(super) async fn ask(helper: &str, host: &str) -> Result<Option<(String, Proof)>, String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if helper.is_empty() || !helper.bytes().all(plain) {
        return Err(format!("{helper:?} is not the name of a credential helper"));
    }
    let program = format!("docker-credential-{helper}");
    match tokio::time::timeout(DEADLINE, run(&program, host)).await {
        Ok(answer) => answer.map_err(|why| format!("{program}: {why}")),
        Err(_) => Err(format!("{program} gave no answer within {} s", DEADLINE.as_secs())),
    }
}

async fn run(program: &str, host: &str) -> Result<Option<(String, Proof)>, String> {
    let mut child = tokio::process::Command::new(program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("cannot be run: {error}"))?;
    let (Some(mut input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
        return Err("cannot be spoken to".to_owned());
    };
    // A helper that does not read what it is asked may answer all the same.
    drop(input.write_all(host.as_bytes()).await);
    drop(input);
    let mut bytes = Vec::new();
    let read = output.take(LONGEST).read_to_end(&mut bytes).await;
    read.map_err(|error| format!("cannot be read: {error}"))?;
    let status = child
        .wait()
        .await
        .map_err(|error| format!("cannot be awaited: {error}"))?;
    if !status.success() {
        // This is how helpers say that they have none.
        let text = String::from_utf8_lossy(&bytes);
        return if text.contains("credentials not found") {
            Ok(None)
        } else {
            Err(format!("ended with {status}"))
        };
    }
    let answer: Answer = serde_json::from_slice(&bytes).map_err(|_| "did not answer in its protocol".to_owned())?;
    let proof = if answer.username == "<token>" {
        Proof::IdentityToken(answer.secret)
    } else {
        Proof::Password(answer.secret)
    };
    Ok(Some((answer.username, proof)))
}
