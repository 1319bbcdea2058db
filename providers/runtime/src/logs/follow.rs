//! Streaming a log, and following it until its container ended.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use rustix::fs::inotify;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;

use super::ReadOptions;
use super::read::{Printer, Reader, open_after, open_all, seek_tail};
use crate::error::RuntimeError;

/// How much is sent at once, in bytes.
const CHUNK: usize = 64 << 10;

/// Streams a log. `ended` resolves once the container ended and its last output is in the file.
pub(crate) fn stream(
    path: PathBuf,
    options: ReadOptions,
    ended: impl Future<Output = ()> + Send + 'static,
) -> mpsc::Receiver<Result<Bytes, RuntimeError>> {
    let (sender, receiver) = mpsc::channel(4);
    tokio::spawn(async move {
        if let Err(error) = run(&path, options, ended, &sender).await {
            let error = RuntimeError::Io {
                operation: "read",
                path,
                source: error,
            };
            // A receiver that is gone has no use for the error.
            drop(sender.send(Err(error)).await);
        }
    });
    receiver
}

async fn run(
    path: &Path,
    options: ReadOptions,
    ended: impl Future<Output = ()>,
    sender: &mpsc::Sender<Result<Bytes, RuntimeError>>,
) -> io::Result<()> {
    // The watch comes first, so that nothing falls between reading and watching.
    let watch = if options.follow { Watch::new(path)? } else { None };
    let mut files = open_all(path)?;
    if let Some(count) = options.tail {
        seek_tail(&mut files, count)?;
    }
    let mut printer = Printer::new(&options);
    let mut current: Option<Reader> = None;
    for mut file in files {
        if !pump(&mut file, &mut printer, sender).await? {
            return Ok(());
        }
        current = Some(file);
    }
    let Some(watch) = watch else { return Ok(()) };
    let mut ended = std::pin::pin!(ended);
    let mut last = false;
    loop {
        if !last {
            tokio::select! {
                () = &mut ended => last = true,
                () = sender.closed() => return Ok(()),
                changed = watch.changed() => changed?,
            }
        }
        let newer = match &mut current {
            Some(file) => {
                // Asked before reading: what the shim wrote to it before it put it aside is read then.
                let rotated = file.was_rotated(path)?;
                if !pump(file, &mut printer, sender).await? {
                    return Ok(());
                }
                // More than one may have come since.
                if rotated { open_after(path, file)? } else { Vec::new() }
            }
            None => open_all(path)?,
        };
        for mut file in newer {
            if !pump(&mut file, &mut printer, sender).await? {
                return Ok(());
            }
            current = Some(file);
        }
        if last {
            return Ok(());
        }
    }
}

/// Sends what a file has; false when nobody wants more.
async fn pump(
    file: &mut Reader,
    printer: &mut Printer,
    sender: &mpsc::Sender<Result<Bytes, RuntimeError>>,
) -> io::Result<bool> {
    let mut out = Vec::new();
    let mut goes_on = true;
    while goes_on {
        let line = file.line()?;
        let at_end = line.is_none();
        if let Some(line) = line {
            goes_on = printer.print(&line, &mut out);
        }
        if !out.is_empty() && (out.len() >= CHUNK || at_end || !goes_on) {
            let chunk = Bytes::from(std::mem::take(&mut out));
            if sender.send(Ok(chunk)).await.is_err() {
                return Ok(false);
            }
        }
        if at_end {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Notices writes to and rotations of a log.
struct Watch {
    notifications: AsyncFd<OwnedFd>,
}

impl Watch {
    /// Watches a log's directory; `None` when there is none.
    fn new(path: &Path) -> io::Result<Option<Self>> {
        let Some(directory) = path.parent() else {
            return Ok(None);
        };
        let notifications = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
        let events = inotify::WatchFlags::MODIFY | inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVED_TO;
        match inotify::add_watch(&notifications, directory, events) {
            Ok(_) => Ok(Some(Self {
                notifications: crate::sys::descriptors::watch(notifications)?,
            })),
            Err(rustix::io::Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits for a change of any log of the sandbox.
    async fn changed(&self) -> io::Result<()> {
        let mut ready = self.notifications.readable().await?;
        let mut space = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(self.notifications.get_ref(), &mut space);
        loop {
            match reader.next() {
                Ok(_) => {}
                Err(rustix::io::Errno::AGAIN) => {
                    ready.clear_ready();
                    return Ok(());
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::rotated;
    use super::*;

    fn put_aside(path: &Path, count: u32) {
        for number in (1..=count).rev() {
            std::fs::rename(rotated(path, number), rotated(path, number + 1)).unwrap();
        }
        std::fs::rename(path, rotated(path, 1)).unwrap();
    }

    #[tokio::test]
    async fn files_that_were_put_aside_between_two_looks_are_followed_in_order() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("web-0.log");
        let write = |text: &str| {
            let line = format!("2026-01-01T00:00:00.000000000Z stdout F {text}\n");
            std::fs::write(&path, line).unwrap();
        };
        write("1");
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        let options = ReadOptions {
            follow: true,
            ..ReadOptions::default()
        };
        let mut chunks = stream(path.clone(), options, async move { drop(ended.await) });
        assert_eq!(chunks.recv().await.unwrap().unwrap(), "1\n");
        // The reader has no turn in between.
        for number in 2..=6 {
            put_aside(&path, number - 2);
            write(&number.to_string());
        }
        let mut text = Vec::new();
        while !text.ends_with(b"6\n") {
            text.extend_from_slice(&chunks.recv().await.unwrap().unwrap());
        }
        put_aside(&path, 5);
        write("7");
        end.send(()).unwrap();
        while let Some(chunk) = chunks.recv().await {
            text.extend_from_slice(&chunk.unwrap());
        }
        assert_eq!(String::from_utf8(text).unwrap(), "2\n3\n4\n5\n6\n7\n");
    }
}
