//! Sealing what is too long to be held in memory: chunks, each of which opens only at its own place in its own stream.
//!
//! A stream is 32 random bytes, then chunks of 64 KiB, each with its tag; the last one may be shorter, and is empty only in an empty stream. The
//! random bytes derive a key for this stream alone (HKDF-SHA256, RFC 5869), so its nonces need not be random: they are the
//! chunk's number and whether it is the last one. A chunk that is changed, moved, left out or taken from another stream does
//! not open, and a stream that is cut between two chunks lacks its last one.

use std::io::{self, Read, Write};

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Salt};
use ring::rand::SecureRandom as _;

use super::{Key, KeyError, KeyId, Keys, associated};

/// How many bytes are sealed in one piece.
const CHUNK: usize = 64 << 10;
const TAG: usize = 16;
const SALT: usize = 32;

/// Derives the key of one stream.
fn derive(key: &Key, salt: &[u8; SALT]) -> LessSafeKey {
    let salt = Salt::new(HKDF_SHA256, salt);
    let pseudo_random = salt.extract(&key.bytes);
    let material = pseudo_random
        .expand(&[b"setpoint sealed stream"], &AES_256_GCM)
        .expect("the key of AES-256 is shorter than what HKDF can give");
    LessSafeKey::new(UnboundKey::from(material))
}

fn nonce(number: u64, last: bool) -> Nonce {
    let mut nonce = [0; NONCE_LEN];
    nonce[..8].copy_from_slice(&number.to_be_bytes());
    nonce[11] = u8::from(last);
    Nonce::assume_unique_for_key(nonce)
}

fn invalid(error: KeyError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

impl Keys {
    /// Begins a stream that is sealed with the newest key for a place; what is written to it goes to `into`. [`SealWriter::finish`] ends it.
    ///
    /// # Errors
    /// Those of `into`; [`KeyError::Random`] inside an [`io::Error`].
    pub fn seal_stream<W: Write>(&self, place: &[&[u8]], mut into: W) -> io::Result<SealWriter<W>> {
        let key = self.newest_key();
        let mut salt = [0; SALT];
        self.shared
            .random
            .fill(&mut salt)
            .map_err(|_| io::Error::other(KeyError::Random))?;
        into.write_all(&salt)?;
        Ok(SealWriter {
            into,
            id: key.id,
            aead: derive(&key, &salt),
            place: associated(place),
            number: 0,
            chunk: Vec::with_capacity(CHUNK + TAG),
        })
    }

    /// Begins to read a stream that [`Keys::seal_stream`] began with key `id`. Reading fails with [`io::ErrorKind::InvalidData`] around a
    /// [`KeyError`] at the first chunk that is not what was sealed; nothing of that chunk is given out. Only a reader that has come to the
    /// end knows that the stream is whole.
    ///
    /// # Errors
    /// [`KeyError::Missing`] when the key is not held, [`KeyError::Truncated`] when not even the beginning is there, [`KeyError::Stream`] when it cannot be read.
    pub fn open_stream<R: Read>(&self, id: KeyId, place: &[&[u8]], mut from: R) -> Result<OpenReader<R>, KeyError> {
        let key = self.key(id)?;
        let mut salt = [0; SALT];
        from.read_exact(&mut salt).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => KeyError::Truncated { id },
            _ => KeyError::Stream { source: error },
        })?;
        Ok(OpenReader {
            from,
            id,
            aead: derive(&key, &salt),
            place: associated(place),
            number: 0,
            sealed: Vec::with_capacity(CHUNK + TAG + 1),
            plain: Vec::new(),
            given: 0,
            state: State::Reading,
        })
    }
}

/// Seals what is written to it. Dropped before [`SealWriter::finish`], it leaves a stream that does not open to its end.
pub struct SealWriter<W: Write> {
    into: W,
    id: KeyId,
    aead: LessSafeKey,
    place: Vec<u8>,
    number: u64,
    /// What waits to be sealed. A full chunk waits until more comes, because it may be the last one.
    chunk: Vec<u8>,
}

impl<W: Write> SealWriter<W> {
    /// Returns the key that the stream is sealed with.
    pub fn key(&self) -> KeyId {
        self.id
    }

    /// Ends the stream and gives back what it was written to.
    ///
    /// # Errors
    /// Those of the writer; the stream does not open to its end then.
    pub fn finish(mut self) -> io::Result<W> {
        self.seal(true)?;
        self.into.flush()?;
        Ok(self.into)
    }

    fn seal(&mut self, last: bool) -> io::Result<()> {
        let tag = self
            .aead
            .seal_in_place_separate_tag(nonce(self.number, last), Aad::from(&self.place), &mut self.chunk)
            .map_err(|_| {
                io::Error::other(KeyError::TooLong {
                    bytes: self.chunk.len(),
                })
            })?;
        self.number += 1;
        self.into.write_all(&self.chunk)?;
        self.into.write_all(tag.as_ref())?;
        self.chunk.clear();
        Ok(())
    }
}

impl<W: Write> Write for SealWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        if self.chunk.len() == CHUNK {
            self.seal(false)?;
        }
        let taken = bytes.len().min(CHUNK - self.chunk.len());
        self.chunk.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    /// Flushes the writer below; what does not fill a chunk yet waits.
    fn flush(&mut self) -> io::Result<()> {
        self.into.flush()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Reading,
    /// The last chunk has been opened.
    Ended,
    /// A chunk was refused: nothing follows, and the end is never reported.
    Failed,
}

/// Reads a sealed stream: gives out only what was sealed, in order.
pub struct OpenReader<R: Read> {
    from: R,
    id: KeyId,
    aead: LessSafeKey,
    place: Vec<u8>,
    number: u64,
    /// One sealed chunk, and the first byte of the next one, if there is a next one.
    sealed: Vec<u8>,
    plain: Vec<u8>,
    given: usize,
    state: State,
}

impl<R: Read> OpenReader<R> {
    /// Opens the next chunk into `plain`.
    fn next(&mut self) -> Result<(), io::Error> {
        let wanted = (CHUNK + TAG + 1).saturating_sub(self.sealed.len());
        self.from.by_ref().take(wanted as u64).read_to_end(&mut self.sealed)?;
        let last = self.sealed.len() <= CHUNK + TAG;
        let length = self.sealed.len().min(CHUNK + TAG);
        self.plain.clear();
        self.plain.extend_from_slice(&self.sealed[..length]);
        self.given = 0;
        let opened = self
            .aead
            .open_in_place(nonce(self.number, last), Aad::from(&self.place), &mut self.plain)
            .map(|plain| plain.len());
        let Ok(length_plain) = opened else {
            self.plain.clear();
            // Cut between two chunks, the last one that is left opens as one from the middle.
            let cut = length < TAG
                || last && {
                    let mut chunk = self.sealed[..length].to_vec();
                    self.aead
                        .open_in_place(nonce(self.number, false), Aad::from(&self.place), &mut chunk)
                        .is_ok()
                };
            return Err(invalid(if cut {
                KeyError::Truncated { id: self.id }
            } else {
                KeyError::Damaged { id: self.id }
            }));
        };
        self.plain.truncate(length_plain);
        self.sealed.drain(..length);
        self.number += 1;
        if last {
            self.state = State::Ended;
        }
        Ok(())
    }
}

impl<R: Read> Read for OpenReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.given == self.plain.len() {
            match self.state {
                State::Ended => return Ok(0),
                State::Failed => return Err(invalid(KeyError::Damaged { id: self.id })),
                State::Reading => self.next().inspect_err(|error| {
                    if error.kind() == io::ErrorKind::InvalidData {
                        self.state = State::Failed;
                    }
                })?,
            }
        }
        let count = buffer.len().min(self.plain.len() - self.given);
        buffer[..count].copy_from_slice(&self.plain[self.given..self.given + count]);
        self.given += count;
        Ok(count)
    }
}
