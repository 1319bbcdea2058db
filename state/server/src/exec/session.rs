//! A process and two queues: what comes from the client, what goes to it. Knows no wire format.

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, watch};

use crate::pods;
use crate::streams::ExecStreams;

/// What the client sends.
pub(super) enum Input {
    /// Bytes for standard input.
    Stdin(Bytes),
    /// Standard input is at its end.
    StdinClosed,
    /// The terminal has a new size.
    Resize(u16, u16),
}

/// What the client gets. `Exit` is the last.
pub(super) enum Output {
    Stdout(Bytes),
    Stderr(Bytes),
    /// How it ended, as a Status object.
    Exit(Value),
}

/// Frames in flight per direction; more than that and the sender waits.
pub(super) const QUEUE: usize = 16;
const CHUNK: usize = 32 << 10;
/// A child of the process may keep its output open for ever: after the exit, silence of this length is the end.
const QUIET: Duration = Duration::from_secs(2);

/// Runs until the process has ended and its output is delivered, or the client is gone; then the process is let go.
pub(super) async fn run(process: ExecStreams, mut input: mpsc::Receiver<Input>, output: mpsc::Sender<Output>) {
    let ExecStreams {
        stdin,
        stdout,
        stderr,
        resize,
        exit,
    } = process;
    let (exited, has_exited) = watch::channel(false);
    let feed = async {
        let mut stdin = stdin;
        let mut open = true;
        while let Some(event) = input.recv().await {
            match event {
                Input::Stdin(bytes) => {
                    if let Some(pipe) = &mut stdin {
                        let written = async {
                            pipe.write_all(&bytes).await?;
                            pipe.flush().await
                        };
                        // A process that has closed its input wants no more of it; that is no error.
                        if written.await.is_err() {
                            stdin = None;
                        }
                    }
                }
                Input::StdinClosed => {
                    if let Some(mut pipe) = stdin.take() {
                        // As above: the pipe may be closed at its other end already.
                        drop(pipe.shutdown().await);
                    }
                }
                Input::Resize(columns, rows) => {
                    if let (Some(resize), true) = (&resize, open) {
                        open = resize.send((columns, rows)).await.is_ok();
                    }
                }
            }
        }
        // The queue ends only with the connection, which `closed` below tells of too.
        std::future::pending::<()>().await;
    };
    let work = async {
        let status = async {
            let status = match exit.await {
                Ok(code) => exit_status(code),
                Err(error) => pods::failure(&error).to_value(),
            };
            exited.send_replace(true);
            status
        };
        let (status, (), ()) = tokio::join!(
            status,
            copy(stdout, has_exited.clone(), &output, Output::Stdout),
            copy(stderr, has_exited.clone(), &output, Output::Stderr),
        );
        // When nobody listens any more there is nobody to tell.
        drop(output.send(Output::Exit(status)).await);
    };
    let mut work = pin!(work);
    tokio::select! {
        () = &mut work => {}
        () = feed => {}
        () = output.closed() => {}
    }
}

async fn copy(
    from: Option<Box<dyn AsyncRead + Send + Unpin>>,
    mut exited: watch::Receiver<bool>,
    to: &mpsc::Sender<Output>,
    wrap: fn(Bytes) -> Output,
) {
    let Some(mut from) = from else { return };
    let mut buffer = vec![0; CHUNK];
    loop {
        let quiet = async {
            // An error says that the sender is gone, which comes after the exit.
            drop(exited.wait_for(|exited| *exited).await);
            tokio::time::sleep(QUIET).await;
        };
        let size = tokio::select! {
            read = from.read(&mut buffer) => match read {
                Ok(0) | Err(_) => return,
                Ok(size) => size,
            },
            () = quiet => return,
        };
        if to.send(wrap(Bytes::copy_from_slice(&buffer[..size]))).await.is_err() {
            return;
        }
    }
}

/// The Status object that tells kubectl of an exit code.
fn exit_status(code: i32) -> Value {
    if code == 0 {
        return json!({"metadata": {}, "status": "Success"});
    }
    json!({
        "metadata": {},
        "status": "Failure",
        "message": format!("command terminated with non-zero exit code: exit status {code}"),
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
        "code": 500,
    })
}

/// Reads a terminal's size as clients send it.
pub(super) fn resize(message: &Value) -> Option<Input> {
    let side = |key: &str| message[key].as_u64().and_then(|value| u16::try_from(value).ok());
    Some(Input::Resize(side("Width")?, side("Height")?))
}
