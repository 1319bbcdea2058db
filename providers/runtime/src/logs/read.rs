//! Taking log files apart.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::{ReadOptions, Stream, aside, rotated};

/// One line of a log file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry<'a> {
    pub(super) time: &'a str,
    pub(super) stream: &'a [u8],
    pub(super) complete: bool,
    pub(super) text: &'a [u8],
}

/// Takes a line of a log file apart; `None` for what a crash left unfinished.
pub(super) fn parse(line: &[u8]) -> Option<Entry<'_>> {
    let line = line.strip_suffix(b"\n")?;
    let mut parts = line.splitn(4, |byte| *byte == b' ');
    let time = str::from_utf8(parts.next()?).ok()?;
    let stream = parts.next()?;
    let complete = parts.next()? == b"F";
    Some(Entry {
        time,
        stream,
        complete,
        text: parts.next()?,
    })
}

/// Turns entries into what the caller sees.
#[derive(Debug)]
pub(super) struct Printer {
    since: Option<jiff::Timestamp>,
    timestamps: bool,
    left: Option<u64>,
    stream: Option<Stream>,
    within_line: bool,
}

impl Printer {
    pub(super) fn new(options: &ReadOptions) -> Self {
        Self {
            since: options.since,
            timestamps: options.timestamps,
            left: options.limit_bytes,
            stream: options.stream,
            within_line: false,
        }
    }

    /// Appends one line of a file to `out`; false once the limit is reached.
    pub(super) fn print(&mut self, line: &[u8], out: &mut Vec<u8>) -> bool {
        let Some(entry) = parse(line) else { return true };
        if self.stream.is_some_and(|stream| stream.name() != entry.stream) {
            return true;
        }
        if let Some(since) = self.since {
            match entry.time.parse::<jiff::Timestamp>() {
                Ok(time) if time >= since => self.since = None,
                _ => return true,
            }
        }
        let before = out.len();
        if self.timestamps && !self.within_line {
            out.extend_from_slice(entry.time.as_bytes());
            out.push(b' ');
        }
        out.extend_from_slice(entry.text);
        if entry.complete {
            out.push(b'\n');
        }
        self.within_line = !entry.complete;
        if let Some(left) = &mut self.left {
            let count = (out.len() - before) as u64;
            if count >= *left {
                out.truncate(before + *left as usize);
                *left = 0;
                return false;
            }
            *left -= count;
        }
        true
    }
}

/// An open log file and how far it was read.
#[derive(Debug)]
pub(super) struct Reader {
    reader: BufReader<File>,
    inode: u64,
    partial: Vec<u8>,
}

impl Reader {
    fn open(path: &Path) -> io::Result<Option<Self>> {
        match File::open(path) {
            Ok(file) => {
                let inode = file.metadata()?.ino();
                Ok(Some(Self {
                    reader: BufReader::new(file),
                    inode,
                    partial: Vec::new(),
                }))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns the next whole line of the file, `None` at its present end.
    pub(super) fn line(&mut self) -> io::Result<Option<Vec<u8>>> {
        self.reader.read_until(b'\n', &mut self.partial)?;
        if self.partial.ends_with(b"\n") {
            Ok(Some(std::mem::take(&mut self.partial)))
        } else {
            Ok(None)
        }
    }

    /// Returns whether the path meanwhile names another file (this one was put aside).
    pub(super) fn was_rotated(&self, path: &Path) -> io::Result<bool> {
        match std::fs::metadata(path) {
            Ok(metadata) => Ok(metadata.ino() != self.inode),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// How often files are opened anew because some were put aside meanwhile.
const TRIES: u32 = 16;

/// Opens an attempt's files, oldest first; empty when there is no log.
pub(super) fn open_all(path: &Path) -> io::Result<Vec<Reader>> {
    let mut files = Vec::new();
    for _ in 0..TRIES {
        files = open_once(path)?;
        // The one that is written is the last one still, so nothing came between it and those before.
        let rotated = files.last().map(|current: &Reader| current.was_rotated(path));
        if !rotated.transpose()?.unwrap_or(false) {
            break;
        }
    }
    Ok(files)
}

fn open_once(path: &Path) -> io::Result<Vec<Reader>> {
    let last = aside(path)?.last().copied().unwrap_or(0);
    // The newest first, as they move away from it: one that moves meanwhile is met again, and none is missed.
    let mut files: Vec<Reader> = Vec::new();
    let aside = (1..=last.saturating_add(1)).map(|number| rotated(path, number));
    for path in [path.to_owned()].into_iter().chain(aside) {
        if let Some(reader) = Reader::open(&path)?
            && files.iter().all(|open| open.inode != reader.inode)
        {
            files.push(reader);
        }
    }
    files.reverse();
    Ok(files)
}

/// Opens the files that came after one, oldest first. Those of which it is not known any more what came before are all newer.
pub(super) fn open_after(path: &Path, file: &Reader) -> io::Result<Vec<Reader>> {
    let mut files = open_all(path)?;
    if let Some(own) = files.iter().position(|open| open.inode == file.inode) {
        files.drain(..=own);
    }
    Ok(files)
}

/// Sets files to where the last `count` lines begin; what comes before is skipped.
pub(super) fn seek_tail(files: &mut Vec<Reader>, count: u64) -> io::Result<()> {
    let mut wanted = count;
    for position in (0..files.len()).rev() {
        let file = files[position].reader.get_mut();
        let end = file.metadata()?.len();
        match find_tail(file, end, &mut wanted)? {
            Some(start) => {
                files[position].reader.seek(SeekFrom::Start(start))?;
                files.drain(..position);
                return Ok(());
            }
            None => {
                files[position].reader.seek(SeekFrom::Start(0))?;
            }
        }
    }
    Ok(())
}

/// Looks backwards for the start of the last `wanted` complete lines; counts down what it found.
fn find_tail(file: &mut File, end: u64, wanted: &mut u64) -> io::Result<Option<u64>> {
    if *wanted == 0 {
        return Ok(Some(end));
    }
    const STEP: u64 = 64 << 10;
    let mut tail: Vec<u8> = Vec::new();
    let mut start = end;
    loop {
        let step = start.min(STEP);
        start -= step;
        let mut chunk = vec![0; step as usize];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(&mut chunk)?;
        chunk.extend_from_slice(&tail);
        tail = chunk;
        // Only whole lines: the first one of the chunk may be cut off.
        let skip = if start == 0 {
            0
        } else {
            tail.iter()
                .position(|byte| *byte == b'\n')
                .map_or(tail.len(), |end| end + 1)
        };
        let mut found = 0;
        let mut at = tail.len();
        let mut first_of_line = None;
        for line in tail[skip..].split_inclusive(|byte| *byte == b'\n').rev() {
            if !line.ends_with(b"\n") {
                // Being written, or left by a crash.
                at -= line.len();
                continue;
            }
            let complete = parse(line).is_some_and(|entry| entry.complete);
            // A complete entry ends a line; partial entries before it belong to it, partial ones after it are a line of their own.
            if complete || first_of_line.is_none() {
                if found == *wanted {
                    return Ok(Some(start + at as u64));
                }
                found += 1;
            }
            first_of_line = Some(complete);
            at -= line.len();
        }
        if start == 0 {
            *wanted -= found.min(*wanted);
            return Ok(None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn print(options: &ReadOptions, path: &Path) -> String {
        let mut files = open_all(path).unwrap();
        if let Some(count) = options.tail {
            seek_tail(&mut files, count).unwrap();
        }
        let mut printer = Printer::new(options);
        let mut out = Vec::new();
        'all: for file in &mut files {
            while let Some(line) = file.line().unwrap() {
                if !printer.print(&line, &mut out) {
                    break 'all;
                }
            }
        }
        String::from_utf8(out).unwrap()
    }

    fn sample(directory: &Path) -> std::path::PathBuf {
        let path = directory.join("web-0.log");
        let line = |second: u32, tag: char, text: &str| {
            format!("2026-01-01T00:00:{second:02}.000000000Z stdout {tag} {text}\n")
        };
        std::fs::write(rotated(&path, 1), line(1, 'F', "one") + &line(2, 'F', "two")).unwrap();
        std::fs::write(
            &path,
            line(3, 'P', "thr") + &line(3, 'F', "ee") + &line(4, 'F', "four") + "2026-01",
        )
        .unwrap();
        path
    }

    #[test]
    fn rotated_files_and_partial_lines_read_as_one_text() {
        let directory = tempfile::tempdir().unwrap();
        let path = sample(directory.path());
        assert_eq!(print(&ReadOptions::default(), &path), "one\ntwo\nthree\nfour\n");
    }

    #[test]
    fn tail_counts_whole_lines_over_files() {
        let directory = tempfile::tempdir().unwrap();
        let path = sample(directory.path());
        let tail = |count| {
            print(
                &ReadOptions {
                    tail: Some(count),
                    ..ReadOptions::default()
                },
                &path,
            )
        };
        assert_eq!(tail(0), "");
        assert_eq!(tail(1), "four\n");
        assert_eq!(tail(2), "three\nfour\n");
        assert_eq!(tail(3), "two\nthree\nfour\n");
        assert_eq!(tail(99), "one\ntwo\nthree\nfour\n");
    }

    #[test]
    fn since_times_and_limits_apply() {
        let directory = tempfile::tempdir().unwrap();
        let path = sample(directory.path());
        let since = Some("2026-01-01T00:00:03Z".parse().unwrap());
        let options = ReadOptions {
            since,
            timestamps: true,
            limit_bytes: Some(37),
            ..ReadOptions::default()
        };
        assert_eq!(print(&options, &path), "2026-01-01T00:00:03.000000000Z three\n");
    }

    #[test]
    fn one_stream_is_read_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("web-0.log");
        let line = |stream: &str, text: &str| format!("2026-01-01T00:00:01.000000000Z {stream} F {text}\n");
        std::fs::write(
            &path,
            line("stdout", "out") + &line("stderr", "err") + &line("stdout", "more"),
        )
        .unwrap();
        let only = |stream| {
            let options = ReadOptions {
                stream: Some(stream),
                ..ReadOptions::default()
            };
            print(&options, &path)
        };
        assert_eq!(only(Stream::Stdout), "out\nmore\n");
        assert_eq!(only(Stream::Stderr), "err\n");
    }

    #[test]
    fn an_absent_log_is_empty() {
        assert!(open_all(Path::new("/nonexistent/x.log")).unwrap().is_empty());
    }
}
