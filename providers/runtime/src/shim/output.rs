//! A container's output: from its pipes into its log, in the CRI's format (`TIME STREAM F|P TEXT`).

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::clock;
use crate::complaint::complain;
use crate::logs;
use crate::spec::LogLimits;

/// A line longer than this is written in parts marked `P`, in bytes.
const LONGEST: usize = 16 << 10;

/// How often one turn of the loop reads a stream, so that a container that writes without end does not starve others.
const READS_PER_TURN: usize = 8;

/// The log file of one attempt.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    limits: LogLimits,
    file: File,
    written: u64,
    /// Whether the last line is there in part only.
    torn: bool,
}

/// One stream of a container.
#[derive(Debug)]
pub(super) struct Stream {
    name: &'static str,
    pub(super) file: Option<OwnedFd>,
    pending: Vec<u8>,
    /// What was written before the first client came, where it is kept for that one.
    early: Option<Vec<u8>>,
}

impl Log {
    pub(super) fn create(path: PathBuf, limits: LogLimits) -> io::Result<Self> {
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        let file = open(&path)?;
        let written = file.metadata()?.len();
        Ok(Self {
            path,
            limits,
            file,
            written,
            torn: false,
        })
    }

    /// Appends whole lines. A full disk loses them: a container must not wait for its log.
    fn append(&mut self, lines: &[u8]) {
        if self.written >= self.limits.size
            && let Err(error) = self.rotate()
        {
            complain!("cannot rotate {}: {error}", self.path.display());
        }
        let ended = if self.torn { self.file.write_all(b"\n") } else { Ok(()) };
        match ended.and_then(|()| self.file.write_all(lines)) {
            Ok(()) => {
                self.torn = false;
                self.written += lines.len() as u64;
            }
            Err(error) => {
                // Perhaps a part of it is there: what comes next must not be read as its end.
                self.torn = true;
                complain!("cannot write {}: {error}", self.path.display());
            }
        }
    }

    fn rotate(&mut self) -> io::Result<()> {
        let aside = self.limits.files.max(2) - 1;
        for number in (1..aside).rev() {
            rename_if_there(
                &logs::rotated(&self.path, number),
                &logs::rotated(&self.path, number + 1),
            )?;
        }
        rename_if_there(&self.path, &logs::rotated(&self.path, 1))?;
        self.file = open(&self.path)?;
        self.written = 0;
        self.torn = false;
        Ok(())
    }

    /// Removes the log of an attempt that did not start.
    pub(super) fn discard(&self) {
        remove(&self.path);
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o640).open(path)
}

fn rename_if_there(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        complain!("cannot remove {}: {error}", path.display());
    }
}

impl Stream {
    pub(super) fn new(name: &'static str, file: Option<OwnedFd>, keep_early: bool) -> Self {
        Self {
            name,
            file,
            pending: Vec::new(),
            early: keep_early.then(Vec::new),
        }
    }

    /// Returns what was kept for the first client; nothing more is kept.
    pub(super) fn take_early(&mut self) -> Vec<u8> {
        self.early.take().unwrap_or_default()
    }

    /// Moves what there is into the log, at the end (or when `all`) also what has no line end; `copy` gets it as it came. Returns whether the stream goes on.
    pub(super) fn pump(&mut self, log: &mut Log, all: bool, copy: &mut dyn FnMut(&[u8])) -> bool {
        let mut buffer = [0u8; LONGEST];
        let mut lines = Vec::new();
        let mut turns = 0;
        while let Some(file) = &self.file {
            match rustix::io::read(file, &mut buffer) {
                // A terminal answers EIO once its last user is gone.
                Ok(0) | Err(rustix::io::Errno::IO) => {
                    self.file = None;
                    self.flush(&mut lines);
                }
                Ok(count) => {
                    copy(&buffer[..count]);
                    if let Some(early) = &mut self.early {
                        super::attach::keep_newest(early, &buffer[..count]);
                    }
                    self.take(&buffer[..count], &mut lines);
                }
                Err(rustix::io::Errno::INTR) => continue,
                Err(rustix::io::Errno::AGAIN) => break,
                Err(error) => {
                    complain!("cannot read a container's {}: {error}", self.name);
                    self.file = None;
                    self.flush(&mut lines);
                }
            }
            turns += 1;
            if turns >= READS_PER_TURN && !all {
                break;
            }
            if lines.len() >= 4 * LONGEST {
                log.append(&lines);
                lines.clear();
            }
        }
        if !lines.is_empty() {
            log.append(&lines);
        }
        self.file.is_some()
    }

    fn take(&mut self, bytes: &[u8], lines: &mut Vec<u8>) {
        let now = clock::now();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, complete) = match piece.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (piece, false),
            };
            if complete && self.pending.is_empty() {
                line(lines, now, self.name, 'F', text);
                continue;
            }
            self.pending.extend_from_slice(text);
            while self.pending.len() > LONGEST {
                let rest = self.pending.split_off(LONGEST);
                line(lines, now, self.name, 'P', &self.pending);
                self.pending = rest;
            }
            if complete {
                line(lines, now, self.name, 'F', &self.pending);
                self.pending = Vec::new();
            }
        }
    }

    fn flush(&mut self, lines: &mut Vec<u8>) {
        if !self.pending.is_empty() {
            line(lines, clock::now(), self.name, 'P', &self.pending);
            self.pending = Vec::new();
        }
    }
}

fn line(lines: &mut Vec<u8>, now: jiff::Timestamp, stream: &str, tag: char, text: &[u8]) {
    lines.extend_from_slice(format!("{now:.9} {stream} {tag} ").as_bytes());
    lines.extend_from_slice(text);
    lines.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(chunks: &[&[u8]]) -> Vec<(String, String)> {
        let mut stream = Stream::new("stdout", None, false);
        let mut lines = Vec::new();
        for chunk in chunks {
            stream.take(chunk, &mut lines);
        }
        stream.flush(&mut lines);
        let text = String::from_utf8(lines).unwrap();
        text.lines()
            .map(|line| {
                let mut parts = line.splitn(4, ' ').skip(2);
                (parts.next().unwrap().to_owned(), parts.next().unwrap().to_owned())
            })
            .collect()
    }

    #[test]
    fn lines_are_joined_from_pieces_and_the_rest_is_marked() {
        let found = written(&[b"one\ntw", b"o\n\nend"]);
        let expected = [("F", "one"), ("F", "two"), ("F", ""), ("P", "end")];
        assert_eq!(found, expected.map(|(tag, text)| (tag.to_owned(), text.to_owned())));
    }

    #[test]
    fn long_lines_are_cut_into_marked_parts() {
        let long = vec![b'x'; LONGEST + 10];
        let found = written(&[&long, b"\n"]);
        assert_eq!(
            found
                .iter()
                .map(|(tag, text)| (tag.as_str(), text.len()))
                .collect::<Vec<_>>(),
            [("P", LONGEST), ("F", 10)]
        );
    }

    #[test]
    fn a_full_log_moves_aside_and_the_oldest_goes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a-0.log");
        let limits = LogLimits { size: 4, files: 3 };
        let mut log = Log::create(path.clone(), limits).unwrap();
        for number in 10..20 {
            log.append(format!("{number}\n").as_bytes());
        }
        let mut files = logs::files(&path).unwrap();
        files.reverse();
        let texts: Vec<String> = files.iter().map(|file| fs::read_to_string(file).unwrap()).collect();
        assert_eq!(texts, ["14\n15\n", "16\n17\n", "18\n19\n"]);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 3);
    }

    #[test]
    fn what_follows_a_line_that_was_written_in_part_is_a_line_of_its_own() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a-0.log");
        let mut log = Log::create(path.clone(), LogLimits::default()).unwrap();
        log.append(b"one\n");
        let file = std::mem::replace(&mut log.file, File::open("/dev/null").unwrap());
        log.append(b"lost\n");
        log.file = file;
        log.file.write_all(b"lo").unwrap();
        log.append(b"two\n");
        log.append(b"three\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "one\nlo\ntwo\nthree\n");
    }
}
