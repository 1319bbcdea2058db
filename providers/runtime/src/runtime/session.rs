//! Processes inside containers (exec), and containers' own (attach): streams, terminal, exit code.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::pipe::{PipeFlags, pipe_with};
use rustix::termios::{Winsize, tcsetwinsize};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::unix::pipe;
use tokio::sync::{mpsc, oneshot};

use super::ExecSession;
use super::channel::Channel;
use super::link::{from_failure, greet};
use crate::error::RuntimeError;
use crate::protocol::{Call, Message, Request};
use crate::spec::ExecSpec;

/// How long a process may take to be executed.
const START: Duration = Duration::from_secs(30);

/// Runs a process in a container by way of a connection of its own, whose end kills it.
pub(super) async fn exec(
    socket: &Path,
    sandbox: &str,
    container: &str,
    spec: ExecSpec,
) -> Result<ExecSession, RuntimeError> {
    let gone = |_: io::Error| RuntimeError::ShimGone(sandbox.to_owned());
    let channel = Channel::connect(socket).await.map_err(gone)?;
    let mut channel = greet(sandbox, channel, false).await?.into_channel();
    let tty = spec.tty;
    let streams = if tty {
        None
    } else {
        Some(Streams::new(spec.stdin).map_err(RuntimeError::io("make", "a pipe"))?)
    };
    let wants_input = spec.stdin;
    let request = Request::Exec {
        container: container.to_owned(),
        spec,
    };
    let passed: Vec<BorrowedFd<'_>> = streams
        .iter()
        .flat_map(|streams| streams.theirs.iter().map(AsFd::as_fd))
        .collect();
    channel.send(&Call { id: 1, request }, &passed).await.map_err(gone)?;
    drop(passed);

    let operation = format!("starting a process in container {container}");
    answered(&mut channel, sandbox, operation, "run a process").await?;
    let terminal = channel.take_descriptors().pop();
    let exit = Box::pin(exited(channel, sandbox.to_owned()));
    match (streams, terminal) {
        (
            Some(Streams {
                theirs,
                stdin,
                stdout,
                stderr,
            }),
            _,
        ) => {
            // Only the process holds the other ends now, so that its end is their end.
            drop(theirs);
            let stdin = stdin.map(|stdin| Box::new(stdin) as Box<dyn AsyncWrite + Send + Unpin>);
            Ok(ExecSession {
                stdin,
                stdout: Some(Box::new(stdout)),
                stderr: Some(Box::new(stderr)),
                resize: None,
                exit,
            })
        }
        (None, Some(terminal)) => {
            let terminal = Terminal::new(terminal).map_err(RuntimeError::io("open", "a terminal"))?;
            let stdin = wants_input.then(|| Box::new(terminal.clone()) as Box<dyn AsyncWrite + Send + Unpin>);
            let resize = Some(terminal.resizer());
            Ok(ExecSession {
                stdin,
                stdout: Some(Box::new(terminal)),
                stderr: None,
                resize,
                exit,
            })
        }
        (None, None) => Err(RuntimeError::Shim {
            sandbox: sandbox.to_owned(),
            operation: "run a process",
            message: "no terminal came along".to_owned(),
        }),
    }
}

/// Waits until the shim has answered the session's request.
async fn answered(
    channel: &mut Channel,
    sandbox: &str,
    awaited: String,
    operation: &'static str,
) -> Result<(), RuntimeError> {
    let gone = || RuntimeError::ShimGone(sandbox.to_owned());
    let answer = tokio::time::timeout(START, async {
        loop {
            match channel.receive::<Message>().await.map_err(|_| gone())? {
                Some(Message::Answer { failure: None, .. }) => return Ok(()),
                Some(Message::Answer {
                    failure: Some(failure), ..
                }) => {
                    return Err(from_failure(sandbox, operation, failure));
                }
                Some(_) => {}
                None => return Err(gone()),
            }
        }
    });
    answer.await.map_err(|_| RuntimeError::Deadline {
        operation: awaited,
        seconds: START.as_secs(),
    })?
}

/// Connects to a container's own streams by way of a connection of its own, whose end detaches.
pub(super) async fn attach(
    socket: &Path,
    sandbox: &str,
    container: &str,
    stdin: bool,
) -> Result<ExecSession, RuntimeError> {
    let gone = |_: io::Error| RuntimeError::ShimGone(sandbox.to_owned());
    let channel = Channel::connect(socket).await.map_err(gone)?;
    let mut channel = greet(sandbox, channel, false).await?.into_channel();
    let streams = Streams::new(false).map_err(RuntimeError::io("make", "a pipe"))?;
    let passed: Vec<BorrowedFd<'_>> = streams.theirs.iter().map(AsFd::as_fd).collect();
    let request = Request::Attach {
        container: container.to_owned(),
        stdin,
    };
    channel.send(&Call { id: 1, request }, &passed).await.map_err(gone)?;
    drop(passed);
    let operation = format!("attaching to container {container}");
    answered(&mut channel, sandbox, operation, "attach")
        .await
        .map_err(|error| match error {
            // So does a shim of an earlier version end a conversation that it does not understand.
            RuntimeError::ShimGone(_) => RuntimeError::Shim {
                sandbox: sandbox.to_owned(),
                operation: "attach",
                message: "the pod was started by a version that cannot attach, or it is ending".to_owned(),
            },
            error => error,
        })?;
    let Streams {
        theirs, stdout, stderr, ..
    } = streams;
    // Only the shim holds the other ends now, so that its letting go is their end.
    drop(theirs);
    let mut input: Option<Box<dyn AsyncWrite + Send + Unpin>> = None;
    let mut resize = None;
    // Dropped with the input: that tells its end.
    let (held, ended) = oneshot::channel();
    if let Some(file) = channel.take_descriptors().pop() {
        if rustix::termios::isatty(&file) {
            let terminal = Terminal::new(file).map_err(RuntimeError::io("open", "a terminal"))?;
            resize = Some(terminal.resizer());
            input = stdin.then(|| {
                Box::new(Input {
                    to: terminal,
                    _held: held,
                }) as _
            });
        } else {
            let to = pipe::Sender::from_owned_fd(file).map_err(RuntimeError::io("open", "a pipe"))?;
            input = Some(Box::new(Input { to, _held: held }));
        }
    }
    let has_input = input.is_some();
    let container = container.to_owned();
    let sandbox = sandbox.to_owned();
    let exit = async move {
        if has_input {
            let closed = tokio::select! {
                // Its sender only ever goes.
                _ = ended => true,
                code = exit_code(&mut channel, &sandbox) => return code,
            };
            let request = Request::CloseInput { container };
            if closed && channel.send(&Call { id: 2, request }, &[]).await.is_err() {
                return Err(RuntimeError::ShimGone(sandbox));
            }
        }
        exit_code(&mut channel, &sandbox).await
    };
    Ok(ExecSession {
        stdin: input,
        stdout: Some(Box::new(stdout)),
        stderr: Some(Box::new(stderr)),
        resize,
        exit: Box::pin(exit),
    })
}

/// A container's input as one client holds it.
struct Input<W> {
    to: W,
    _held: oneshot::Sender<()>,
}

impl<W: AsyncWrite + Unpin> AsyncWrite for Input<W> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.to).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.to).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.to).poll_shutdown(context)
    }
}

async fn exited(mut channel: Channel, sandbox: String) -> Result<i32, RuntimeError> {
    exit_code(&mut channel, &sandbox).await
}

async fn exit_code(channel: &mut Channel, sandbox: &str) -> Result<i32, RuntimeError> {
    loop {
        match channel.receive::<Message>().await {
            Ok(Some(Message::ExecExited { code })) => return Ok(code),
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => return Err(RuntimeError::ShimGone(sandbox.to_owned())),
        }
    }
}

struct Streams {
    /// The process's ends.
    theirs: Vec<OwnedFd>,
    stdin: Option<pipe::Sender>,
    stdout: pipe::Receiver,
    stderr: pipe::Receiver,
}

impl Streams {
    fn new(input: bool) -> io::Result<Self> {
        let mut theirs = Vec::with_capacity(3);
        let stdin = if input {
            let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
            theirs.push(reader);
            Some(pipe::Sender::from_owned_fd(writer)?)
        } else {
            None
        };
        let mut output = || -> io::Result<pipe::Receiver> {
            let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
            theirs.push(writer);
            pipe::Receiver::from_owned_fd(reader)
        };
        let (stdout, stderr) = (output()?, output()?);
        Ok(Self {
            theirs,
            stdin,
            stdout,
            stderr,
        })
    }
}

/// The controlling end of a terminal; clones share it.
#[derive(Clone, Debug)]
struct Terminal {
    file: Arc<AsyncFd<OwnedFd>>,
}

impl Terminal {
    fn new(file: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&file, true)?;
        Ok(Self {
            file: Arc::new(crate::sys::descriptors::watch(file)?),
        })
    }

    fn resizer(&self) -> mpsc::Sender<(u16, u16)> {
        let (sender, mut sizes) = mpsc::channel(4);
        // Holds the terminal weakly: a session that is dropped hangs up.
        let file = Arc::downgrade(&self.file);
        tokio::spawn(async move {
            while let Some((columns, rows)) = sizes.recv().await {
                let Some(file) = file.upgrade() else { return };
                let size = Winsize {
                    ws_row: rows,
                    ws_col: columns,
                    ws_xpixel: 0,
                    ws_ypixel: 0,
                };
                if let Err(error) = tcsetwinsize(file.get_ref(), size) {
                    tracing::debug!(%error, "cannot resize a terminal");
                }
            }
        });
        sender
    }
}

impl AsyncRead for Terminal {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.file.poll_read_ready(context))?;
            let space = buffer.initialize_unfilled();
            match guard.try_io(|file| rustix::io::read(file.get_ref(), space).map_err(io::Error::from)) {
                Ok(Ok(count)) => {
                    buffer.advance(count);
                    return Poll::Ready(Ok(()));
                }
                // What a terminal answers once its last process is gone: the end.
                Ok(Err(error)) if error.raw_os_error() == Some(libc::EIO) => return Poll::Ready(Ok(())),
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                Err(_would_block) => {}
            }
        }
    }
}

impl AsyncWrite for Terminal {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.file.poll_write_ready(context))?;
            match guard.try_io(|file| rustix::io::write(file.get_ref(), bytes).map_err(io::Error::from)) {
                Ok(result) => return Poll::Ready(result),
                Err(_would_block) => {}
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
