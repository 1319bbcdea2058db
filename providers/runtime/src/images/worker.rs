//! Unpacking a layer by a worker, seen from the daemon: what goes in and comes out is hashed here, and the worker ends with the future.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use ring::digest::{Context, SHA256};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::process::Command;
use tokio::time::timeout;

use super::unpack::{self, Limits, Unpacked};
use crate::sys;
use crate::unpacker::{self, Task};

/// How long the worker may leave a piece lying, and how long it may take to end once all is written: a disk may be slow.
const IDLE: Duration = Duration::from_secs(300);
/// How long it gets to end once it has nothing more to read or write.
const ENDING: Duration = Duration::from_secs(20);
/// How much is passed on at once, in bytes; pipes are made as large.
const PIECE: usize = 256 << 10;
/// The longest error that is read of it, in bytes.
const LONGEST_ERROR: u64 = 4 << 10;
/// The longest result, in bytes: paths are written as numbers.
const LONGEST_RESULT: u64 = 16 << 20;

/// An unpacked layer.
pub(super) struct Outcome {
    /// The digest of the blob's bytes.
    pub packed: String,
    /// The digest of the tar in it.
    pub unpacked: String,
    /// Bytes of its files.
    pub size: u64,
}

/// Why it failed.
enum Failure {
    /// The blob could not be read.
    Source(io::Error),
    /// The worker stopped reading; it says why.
    Worker,
    /// The worker hangs, or sends what cannot be.
    Here(io::Error),
}

/// Unpacks a blob into `folder`, which exists and is empty; `empty` is an empty folder, too. Whatever happens, no worker is left; what is in the
/// folder then is the caller's to remove.
pub(super) async fn unpack(
    blob: impl AsyncRead + Unpin,
    folder: &Path,
    empty: &Path,
    limits: &Limits,
) -> io::Result<Outcome> {
    let (packed, packed_out) = pipe::pipe()?;
    let (plain_in, plain) = pipe::pipe()?;
    let (tar, tar_out) = pipe::pipe()?;
    let (result_in, mut result) = pipe::pipe()?;
    for end in [packed.as_fd(), plain.as_fd(), tar.as_fd()] {
        // Only a matter of speed; a machine may allow less.
        if let Err(error) = rustix::pipe::fcntl_setpipe_size(end, PIECE) {
            tracing::debug!(%error, "pipes stay as small as they are");
        }
    }
    let mut worker = {
        let theirs = [
            packed_out.into_blocking_fd()?,
            plain_in.into_blocking_fd()?,
            tar_out.into_blocking_fd()?,
            result_in.into_blocking_fd()?,
        ];
        let task = Task {
            folder: folder.to_owned(),
            empty: empty.to_owned(),
            limits: *limits,
        };
        start(&task, &theirs)?
    };
    let mut said = String::new();
    let moved = tokio::try_join!(feed(blob, packed), hand_back(plain, tar, limits.tar()),);
    let done = match moved {
        Ok(digests) => ended(&mut worker, &mut result, &mut said)
            .await
            .map(|unpacked| (digests, unpacked)),
        // Its pipes are closed, so that it ends by itself and says what was wrong.
        Err(Failure::Worker) => match ended(&mut worker, &mut result, &mut said).await {
            Ok(_) => Err(Failure::Worker),
            Err(failure) => Err(failure),
        },
        Err(failure) => Err(failure),
    };
    // Its pipes are closed by now, so that it ends by itself. Until it has, its processes may still write into the folder.
    if timeout(ENDING, worker.wait()).await.is_err() {
        tracing::warn!(folder = %folder.display(), "killing a worker that unpacks and does not end");
        worker.start_kill()?;
        if timeout(IDLE, worker.wait()).await.is_err() {
            return Err(io::Error::other("the worker that unpacks cannot be ended"));
        }
    }
    match done {
        Ok(((packed, unpacked), result)) => {
            unpack::mark_opaque(folder, &result.opaque)?;
            Ok(Outcome {
                packed,
                unpacked,
                size: result.bytes,
            })
        }
        Err(Failure::Source(error) | Failure::Here(error)) => Err(error),
        Err(Failure::Worker) if said.trim().is_empty() => Err(io::Error::other("the worker that unpacks has ended")),
        Err(Failure::Worker) => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            said.trim().replace('\n', "; "),
        )),
    }
}

fn start(task: &Task, theirs: &[OwnedFd; 4]) -> io::Result<tokio::process::Child> {
    let (ours, control) = UnixStream::pair()?;
    let text = serde_json::to_vec(task)?;
    let descriptors = theirs.each_ref().map(AsFd::as_fd);
    // A task is far smaller than a socket's buffer: this never waits.
    let sent = sys::descriptors::send(ours.as_fd(), &text, &descriptors)?;
    if sent != text.len() {
        return Err(io::Error::other("the task of a worker is too long"));
    }
    let mut command = Command::new("/proc/self/exe");
    command
        .arg0("setpoint")
        .arg(unpacker::VERB)
        .env_clear()
        .stdin(Stdio::from(OwnedFd::from(control)))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command.spawn()
}

/// Passes the blob to the worker; returns its digest.
async fn feed(mut blob: impl AsyncRead + Unpin, mut packed: pipe::Sender) -> Result<String, Failure> {
    let (mut hash, mut buffer) = (Context::new(&SHA256), vec![0; PIECE]);
    loop {
        let count = blob.read(&mut buffer).await.map_err(Failure::Source)?;
        if count == 0 {
            return Ok(digest(hash));
        }
        hash.update(&buffer[..count]);
        give(&mut packed, &buffer[..count]).await?;
    }
}

/// Passes what was decompressed on to be unpacked; returns its digest.
async fn hand_back(mut plain: pipe::Receiver, mut tar: pipe::Sender, most: u64) -> Result<String, Failure> {
    let (mut hash, mut buffer, mut passed) = (Context::new(&SHA256), vec![0; PIECE], 0u64);
    loop {
        let count = plain.read(&mut buffer).await.map_err(Failure::Here)?;
        if count == 0 {
            return Ok(digest(hash));
        }
        passed += count as u64;
        if passed > most {
            let why = format!("it is larger than allowed (over {most} bytes)");
            return Err(Failure::Here(io::Error::new(io::ErrorKind::InvalidData, why)));
        }
        hash.update(&buffer[..count]);
        give(&mut tar, &buffer[..count]).await?;
    }
}

async fn give(to: &mut pipe::Sender, bytes: &[u8]) -> Result<(), Failure> {
    match timeout(IDLE, to.write_all(bytes)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) if error.kind() == io::ErrorKind::BrokenPipe => Err(Failure::Worker),
        Ok(Err(error)) => Err(Failure::Here(error)),
        Err(_) => Err(hangs()),
    }
}

/// Waits for the worker's end; returns its result.
async fn ended(
    worker: &mut tokio::process::Child,
    result: &mut pipe::Receiver,
    said: &mut String,
) -> Result<Unpacked, Failure> {
    let mut errors = worker.stderr.take();
    let work = async {
        let mut text = Vec::new();
        result.take(LONGEST_RESULT).read_to_end(&mut text).await?;
        let mut complaint = Vec::new();
        if let Some(errors) = &mut errors {
            errors.take(LONGEST_ERROR).read_to_end(&mut complaint).await?;
        }
        Ok::<_, io::Error>((text, complaint, worker.wait().await?))
    };
    let (text, complaint, status) = match timeout(IDLE, work).await {
        Ok(ended) => ended.map_err(Failure::Here)?,
        Err(_) => return Err(hangs()),
    };
    let complaint = String::from_utf8_lossy(&complaint);
    // It comes from a process that may do what a layer wants.
    *said = complaint
        .chars()
        .map(|letter| {
            if letter == '\n' || !letter.is_control() {
                letter
            } else {
                '?'
            }
        })
        .collect();
    if !status.success() {
        return Err(Failure::Worker);
    }
    serde_json::from_slice(&text).map_err(|_| Failure::Worker)
}

fn hangs() -> Failure {
    Failure::Here(io::Error::new(
        io::ErrorKind::TimedOut,
        format!("nothing was unpacked for {} s", IDLE.as_secs()),
    ))
}

fn digest(hash: Context) -> String {
    format!("sha256:{}", hex::encode(hash.finish()))
}
