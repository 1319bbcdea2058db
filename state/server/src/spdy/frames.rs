//! SPDY/3.1 on the wire: frames and compressed header blocks.

use bytes::Bytes;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status as Flow};
use tokio::io::{AsyncRead, AsyncReadExt};

/// The words that both ends know before the first header (SPDY protocol, draft 3, 2.6.10.1).
const DICTIONARY: &[u8] = include_bytes!("header.dictionary");

/// Control frames, and header blocks when unpacked, are at most this long.
const CONTROL_LIMIT: usize = 64 << 10;
/// Data frames are at most this long; clients send 32 KiB.
const DATA_LIMIT: usize = 4 << 20;

const FIN: u8 = 1;
const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const VERSION: u16 = 3;
const REFUSED_STREAM: u32 = 3;

/// Why a connection cannot be gone on with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpdyError {
    #[error("the connection broke")]
    Io(#[from] std::io::Error),
    #[error("a header block cannot be unpacked")]
    Unpack(#[from] flate2::DecompressError),
    #[error("a header block cannot be packed")]
    Pack(#[from] flate2::CompressError),
    #[error("the client sent a malformed frame: {0}")]
    Malformed(&'static str),
    #[error("the client did not open its streams in time")]
    NotOpened,
}

/// A frame as far as it matters here.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    Open { stream: u32, block: Bytes },
    Data { stream: u32, bytes: Bytes, last: bool },
    Reset { stream: u32 },
    Ping { id: u32 },
    GoAway,
    Other,
}

impl Frame {
    /// Reads one frame; `None` at the end between frames.
    pub(crate) async fn read(from: &mut (impl AsyncRead + Unpin)) -> Result<Option<Frame>, SpdyError> {
        let first = match from.read_u32().await {
            Ok(first) => first,
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let second = from.read_u32().await?;
        let [flags, ..] = second.to_be_bytes();
        // 24 bits fit.
        let length = (second & 0x00ff_ffff) as usize;
        let control = first >> 31 == 1;
        if length > if control { CONTROL_LIMIT } else { DATA_LIMIT } {
            return Err(SpdyError::Malformed("too long"));
        }
        let mut payload = vec![0; length];
        from.read_exact(&mut payload).await?;
        let payload = Bytes::from(payload);
        if !control {
            return Ok(Some(Frame::Data {
                stream: first,
                bytes: payload,
                last: flags & FIN != 0,
            }));
        }
        let [a, b, c, d] = first.to_be_bytes();
        if u16::from_be_bytes([a & 0x7f, b]) != VERSION {
            return Err(SpdyError::Malformed("another version of SPDY"));
        }
        let number = || {
            payload
                .first_chunk::<4>()
                .map(|bytes| u32::from_be_bytes(*bytes))
                .ok_or(SpdyError::Malformed("too short"))
        };
        Ok(Some(match u16::from_be_bytes([c, d]) {
            SYN_STREAM => {
                if payload.len() < 10 {
                    return Err(SpdyError::Malformed("a SYN_STREAM that is too short"));
                }
                // The stream, the one it belongs to, priority and slot, then the headers.
                Frame::Open {
                    stream: number()? & 0x7fff_ffff,
                    block: payload.slice(10..),
                }
            }
            RST_STREAM => Frame::Reset {
                stream: number()? & 0x7fff_ffff,
            },
            PING => Frame::Ping { id: number()? },
            GOAWAY => Frame::GoAway,
            _ => Frame::Other,
        }))
    }
}

fn control(kind: u16, payload: &[&[u8]]) -> Vec<u8> {
    let length: usize = payload.iter().map(|part| part.len()).sum();
    let mut frame = Vec::with_capacity(length + 8);
    frame.extend((0x8000 | VERSION).to_be_bytes());
    frame.extend(kind.to_be_bytes());
    frame.extend(size(length, 0));
    for part in payload {
        frame.extend_from_slice(part);
    }
    frame
}

/// Flags and a length of 24 bits; what is sent here is far shorter.
fn size(length: usize, flags: u8) -> [u8; 4] {
    let length = u32::try_from(length).unwrap_or(u32::MAX) & 0x00ff_ffff;
    (length | u32::from(flags) << 24).to_be_bytes()
}

/// The frame that accepts a stream.
pub(crate) fn reply(stream: u32, block: &[u8]) -> Vec<u8> {
    control(SYN_REPLY, &[&stream.to_be_bytes(), block])
}

/// The frame that refuses a stream.
pub(crate) fn reset(stream: u32) -> Vec<u8> {
    control(RST_STREAM, &[&stream.to_be_bytes(), &REFUSED_STREAM.to_be_bytes()])
}

/// The frame that answers a ping.
pub(crate) fn ping(id: u32) -> Vec<u8> {
    control(PING, &[&id.to_be_bytes()])
}

/// What stands before the bytes of a data frame.
pub(crate) fn data_header(stream: u32, length: usize, last: bool) -> [u8; 8] {
    let mut header = [0; 8];
    header[..4].copy_from_slice(&(stream & 0x7fff_ffff).to_be_bytes());
    header[4..].copy_from_slice(&size(length, if last { FIN } else { 0 }));
    header
}

/// Packs and unpacks header blocks; all blocks of a direction are one zlib stream.
pub(crate) struct HeaderBlocks {
    unpack: Decompress,
    pack: Compress,
}

impl HeaderBlocks {
    pub(crate) fn new() -> Result<HeaderBlocks, SpdyError> {
        let mut pack = Compress::new(Compression::default(), true);
        pack.set_dictionary(DICTIONARY)?;
        Ok(HeaderBlocks {
            unpack: Decompress::new(true),
            pack,
        })
    }

    /// Unpacks a block into names and values.
    pub(crate) fn decode(&mut self, block: &[u8]) -> Result<Vec<(String, String)>, SpdyError> {
        let mut out = Vec::with_capacity(1024);
        let mut rest = block;
        loop {
            if out.len() == out.capacity() {
                if out.len() >= CONTROL_LIMIT {
                    return Err(SpdyError::Malformed("a header block that is too long"));
                }
                out.reserve(out.len());
            }
            let (before_in, before_out) = (self.unpack.total_in(), out.len());
            let flow = self.unpack.decompress_vec(rest, &mut out, FlushDecompress::Sync);
            let used = usize::try_from(self.unpack.total_in() - before_in)
                .map_err(|_| SpdyError::Malformed("a header block that is too long"))?;
            rest = rest.get(used..).unwrap_or_default();
            match flow {
                Ok(Flow::StreamEnd) => break,
                Ok(_) => {
                    let moved = used > 0 || out.len() > before_out;
                    if (rest.is_empty() && out.len() < out.capacity()) || !moved {
                        break;
                    }
                }
                Err(error) if error.needs_dictionary().is_some() => {
                    self.unpack.set_dictionary(DICTIONARY)?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        fields(&out)
    }

    /// Packs names and values.
    pub(crate) fn encode(&mut self, fields: &[(&str, &str)]) -> Result<Vec<u8>, SpdyError> {
        let word = |number: usize| u32::try_from(number).unwrap_or(u32::MAX).to_be_bytes();
        let mut plain = Vec::from(word(fields.len()));
        for (name, value) in fields {
            for text in [name, value] {
                plain.extend(word(text.len()));
                plain.extend_from_slice(text.as_bytes());
            }
        }
        let mut out = Vec::with_capacity(plain.len() + 64);
        let start = self.pack.total_in();
        loop {
            let used = usize::try_from(self.pack.total_in() - start).unwrap_or(usize::MAX);
            let rest = plain.get(used..).unwrap_or_default();
            self.pack.compress_vec(rest, &mut out, FlushCompress::Sync)?;
            if out.len() < out.capacity() {
                return Ok(out);
            }
            out.reserve(out.len());
        }
    }
}

fn fields(plain: &[u8]) -> Result<Vec<(String, String)>, SpdyError> {
    let mut rest = plain;
    let number = |rest: &mut &[u8]| -> Result<usize, SpdyError> {
        let (head, tail) = rest
            .split_first_chunk::<4>()
            .ok_or(SpdyError::Malformed("a header block that is too short"))?;
        *rest = tail;
        usize::try_from(u32::from_be_bytes(*head)).map_err(|_| SpdyError::Malformed("a length out of range"))
    };
    let count = number(&mut rest)?;
    let mut fields = Vec::new();
    for _ in 0..count {
        let mut texts = [String::new(), String::new()];
        for text in &mut texts {
            let length = number(&mut rest)?;
            let bytes = rest
                .get(..length)
                .ok_or(SpdyError::Malformed("a header that is too short"))?;
            *text = String::from_utf8_lossy(bytes).into_owned();
            rest = &rest[length..];
        }
        let [name, value] = texts;
        fields.push((name, value));
    }
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_blocks_of_one_direction_share_a_stream() {
        let (mut client, mut server) = (HeaderBlocks::new().expect("zlib"), HeaderBlocks::new().expect("zlib"));
        for kind in ["error", "stdin", "stdout", "stderr", "resize"] {
            let block = client.encode(&[("streamtype", kind), ("x", "y")]).expect("packed");
            let fields = server.decode(&block).expect("unpacked");
            assert_eq!(
                fields,
                [
                    ("streamtype".to_owned(), kind.to_owned()),
                    ("x".to_owned(), "y".to_owned())
                ]
            );
        }
        let empty = server.encode(&[]).expect("packed");
        assert_eq!(client.decode(&empty).expect("unpacked"), []);
        let long = "z".repeat(9000);
        let block = client.encode(&[("long", &long)]).expect("packed");
        assert_eq!(server.decode(&block).expect("unpacked")[0].1, long);
    }

    #[tokio::test]
    async fn frames_are_told_apart_and_limits_hold() {
        let mut wire = ping(7);
        wire.extend(data_header(3, 2, true));
        wire.extend(b"hi");
        wire.extend(reset(5));
        let mut from = wire.as_slice();
        assert_eq!(
            Frame::read(&mut from).await.expect("a frame"),
            Some(Frame::Ping { id: 7 })
        );
        let data = Frame::Data {
            stream: 3,
            bytes: Bytes::from_static(b"hi"),
            last: true,
        };
        assert_eq!(Frame::read(&mut from).await.expect("a frame"), Some(data));
        assert_eq!(
            Frame::read(&mut from).await.expect("a frame"),
            Some(Frame::Reset { stream: 5 })
        );
        assert_eq!(Frame::read(&mut from).await.expect("the end"), None);
        let long = data_header(1, DATA_LIMIT + 1, false);
        assert!(Frame::read(&mut long.as_slice()).await.is_err());
    }
}

#[cfg(test)]
mod laws {
    use proptest::prelude::*;

    use super::*;

    fn block_on<T>(work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime")
            .block_on(work)
    }

    proptest! {
        #[test]
        fn any_bytes_are_frames_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            block_on(async {
                let mut from = bytes.as_slice();
                let mut before = from.len();
                while let Ok(Some(_)) = Frame::read(&mut from).await {
                    assert!(from.len() + 8 <= before, "a frame is at least its head");
                    before = from.len();
                }
            });
        }

        #[test]
        fn any_block_is_headers_or_an_error(blocks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 1..4)) {
            let mut headers = HeaderBlocks::new().expect("zlib");
            for block in blocks {
                if let Ok(fields) = headers.decode(&block) {
                    let size: usize = fields.iter().map(|(name, value)| name.len() + value.len()).sum();
                    // What is no UTF-8 becomes longer by replacement.
                    prop_assert!(size <= 3 * 2 * CONTROL_LIMIT);
                }
            }
        }

        #[test]
        fn headers_come_out_as_they_went_in(
            fields in proptest::collection::vec(("[a-z:-]{0,20}", ".{0,40}"), 0..20),
            times in 1..4usize,
        ) {
            let (mut one, mut other) = (HeaderBlocks::new().expect("zlib"), HeaderBlocks::new().expect("zlib"));
            let plain: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            for _ in 0..times {
                let block = one.encode(&plain).expect("packed");
                prop_assert_eq!(&other.decode(&block).expect("unpacked"), &fields);
            }
        }
    }

    #[test]
    fn a_block_that_unpacks_to_too_much_is_refused() {
        let (mut one, mut other) = (HeaderBlocks::new().expect("zlib"), HeaderBlocks::new().expect("zlib"));
        let long = "z".repeat(4 * CONTROL_LIMIT);
        let block = one.encode(&[("x", &long)]).expect("packed");
        assert!(block.len() < CONTROL_LIMIT);
        assert!(other.decode(&block).is_err());
    }
}
