//! `git-upload-pack` at the other end of the system's ssh: its keys, its configuration, its known hosts.

use std::io;
use std::process::Stdio;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::task::JoinHandle;

use super::Limits;
use super::address::Remote;
use super::link::Waits;
use crate::source::SourceError;
use crate::source::error::plain;

const CHUNK: usize = 64 * 1024;
const MAX_WORDS: u64 = 16 * 1024;
/// How long a program that has closed its output may take to end.
const END: Duration = Duration::from_secs(5);

pub(super) struct Ssh {
    child: Child,
    input: ChildStdin,
    output: ChildStdout,
    words: Option<JoinHandle<Vec<u8>>>,
    waits: Waits,
    buffer: Vec<u8>,
    silent: bool,
}

impl Ssh {
    pub(super) fn open(remote: &Remote, limits: &Limits) -> Result<Self, SourceError> {
        let mut command = Command::new(&limits.ssh);
        // Nobody is there to be asked: a question is a refusal.
        command.args([
            "-o",
            "BatchMode=yes",
            "-o",
            &format!("ConnectTimeout={}", limits.connect.as_secs().max(1)),
        ]);
        command.args(["-o", "ServerAliveInterval=15", "-T"]);
        if let Some(port) = remote.port {
            command.args(["-p", &port.to_string()]);
        }
        match &remote.user {
            Some(user) => command.arg(format!("{user}@{}", remote.host)),
            None => command.arg(&remote.host),
        };
        command.arg(format!("git-upload-pack {}", quoted(&remote.path)));
        // The words by which an answer is told apart.
        command.env("LC_ALL", "C");
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let setup = |source: io::Error| SourceError::Setup {
            remote: remote.to_string(),
            problem: match source.kind() {
                io::ErrorKind::NotFound => {
                    format!(
                        "there is no program {}; install openssh-client, or use an https:// address",
                        limits.ssh.display()
                    )
                }
                _ => format!("the program {} cannot be started", limits.ssh.display()),
            },
            source: Some(Box::new(source)),
        };
        let mut child = command.spawn().map_err(setup)?;
        let (Some(input), Some(output), Some(errors)) = (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(setup(io::Error::other("it was started without its pipes")));
        };
        Ok(Self {
            child,
            input,
            output,
            words: Some(tokio::spawn(listen(errors))),
            waits: Waits::new(remote, limits),
            buffer: vec![0; CHUNK],
            silent: true,
        })
    }

    pub(super) async fn chunk(&mut self) -> Result<Bytes, SourceError> {
        let read = self
            .waits
            .idle("send anything more", self.output.read(&mut self.buffer))
            .await?;
        match read {
            Ok(0) if self.silent => Err(self.explain().await),
            Ok(length) => {
                self.silent = false;
                Ok(Bytes::copy_from_slice(self.buffer.get(..length).unwrap_or_default()))
            }
            Err(error) => Err(self.waits.unreachable(error)),
        }
    }

    pub(super) async fn request(&mut self, body: &[u8]) -> Result<(), SourceError> {
        let written = self.waits.idle("take the request", self.input.write_all(body)).await?;
        match written {
            Ok(()) => Ok(()),
            Err(_) => Err(self.explain().await),
        }
    }

    /// Turns what ssh or the far end said before ending into an error.
    async fn explain(&mut self) -> SourceError {
        let status = match tokio::time::timeout(END, self.child.wait()).await {
            Ok(Ok(status)) => status.code(),
            _ => None,
        };
        let words = match self.words.take() {
            Some(words) => tokio::time::timeout(END, words).await,
            None => Ok(Ok(Vec::new())),
        };
        let words = plain(&words.ok().and_then(Result::ok).unwrap_or_default(), 500);
        let remote = self.waits.remote();
        let lower = words.to_lowercase();
        let has = |texts: &[&str]| texts.iter().any(|text| lower.contains(text));
        if has(&["host key verification failed", "no matching host key"]) {
            let problem =
                "its host key is not known here, or has changed; check it, and add it to known_hosts with ssh-keyscan";
            return SourceError::Denied {
                remote,
                problem: problem.to_owned(),
            };
        }
        if has(&[
            "permission denied",
            "access denied",
            "authentication failures",
            "unauthorized",
        ]) {
            return SourceError::Denied {
                remote,
                problem: format!(
                    "`{words}`; give the daemon's user a key that it accepts and that needs no passphrase"
                ),
            };
        }
        if has(&[
            "does not appear to be a git repository",
            "repository not found",
            "no such file or directory",
            "does not exist",
        ]) {
            return SourceError::NoRemote { remote };
        }
        if status == Some(127) || has(&["command not found", "git-upload-pack: not found"]) {
            return SourceError::Protocol {
                remote,
                problem: format!("git is not installed there (`{words}`)"),
            };
        }
        // 255 is ssh's own failure: the name, the network, the server.
        let words = if words.is_empty() {
            "ssh ended without a word".to_owned()
        } else {
            words
        };
        match status {
            Some(255) | None => self.waits.unreachable(io::Error::other(words)),
            Some(_) => SourceError::Answer { remote, answer: words },
        }
    }
}

async fn listen(errors: ChildStderr) -> Vec<u8> {
    let mut words = Vec::new();
    let mut errors = errors.take(MAX_WORDS);
    // What was said before a broken pipe is all there is.
    errors.read_to_end(&mut words).await.ok();
    let mut rest = errors.into_inner();
    tokio::io::copy(&mut rest, &mut tokio::io::sink()).await.ok();
    words
}

/// For the shell at the other end.
fn quoted(path: &str) -> String {
    format!("'{}'", path.replace('\'', r"'\''").replace('!', r"'\!'"))
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn a_path_reaches_the_far_shell_in_one_piece() {
        assert_eq!(quoted("/srv/a b.git"), "'/srv/a b.git'");
        assert_eq!(quoted("it's; rm -rf $HOME!"), r"'it'\''s; rm -rf $HOME'\!''");
    }
}
