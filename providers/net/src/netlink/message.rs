//! One netlink message as bytes, written and read.

/// The size of `struct nlmsghdr`.
pub(crate) const HEADER: usize = 16;
const NESTED: u16 = 0x8000;
const TYPE_MASK: u16 = 0x3fff;

/// A message under construction; its length and sequence number are written when it is sent.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    bytes: Vec<u8>,
    what: String,
}

impl Message {
    /// Begins a message; `what` is a verb phrase for error texts ("add the link sp1234…").
    pub(crate) fn new(kind: u16, flags: u16, what: impl Into<String>) -> Message {
        let mut bytes = Vec::with_capacity(128);
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&flags.to_ne_bytes());
        bytes.extend_from_slice(&[0; 8]);
        Message {
            bytes,
            what: what.into(),
        }
    }

    /// Returns the verb phrase given to [`Message::new`].
    pub(crate) fn what(&self) -> &str {
        &self.what
    }

    /// Appends raw bytes (a family's fixed header) and pads them.
    pub(crate) fn raw(&mut self, data: &[u8]) -> &mut Message {
        self.bytes.extend_from_slice(data);
        self.pad();
        self
    }

    /// Appends an attribute.
    pub(crate) fn put(&mut self, kind: u16, data: &[u8]) -> &mut Message {
        let length = u16::try_from(data.len() + 4).expect("callers keep attributes below 64 KiB");
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.raw(data)
    }

    /// Appends a NUL-terminated string.
    pub(crate) fn put_str(&mut self, kind: u16, text: &str) -> &mut Message {
        let mut data = Vec::with_capacity(text.len() + 1);
        data.extend_from_slice(text.as_bytes());
        data.push(0);
        self.put(kind, &data)
    }

    /// Appends a number in host byte order (rtnetlink).
    pub(crate) fn put_u32(&mut self, kind: u16, value: u32) -> &mut Message {
        self.put(kind, &value.to_ne_bytes())
    }

    /// Appends a number in network byte order (nfnetlink).
    pub(crate) fn put_be32(&mut self, kind: u16, value: u32) -> &mut Message {
        self.put(kind, &value.to_be_bytes())
    }

    /// Appends a number in network byte order (nfnetlink).
    pub(crate) fn put_be64(&mut self, kind: u16, value: u64) -> &mut Message {
        self.put(kind, &value.to_be_bytes())
    }

    /// Appends an attribute that holds attributes.
    pub(crate) fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Message)) -> &mut Message {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&(kind | NESTED).to_ne_bytes());
        fill(self);
        let length = u16::try_from(self.bytes.len() - start).expect("callers keep attributes below 64 KiB");
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self
    }

    /// Returns what follows the header.
    pub(crate) fn body(&self) -> &[u8] {
        &self.bytes[HEADER..]
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    /// Sets flags in addition.
    pub(crate) fn add_flags(&mut self, flags: u16) {
        let now = u16::from_ne_bytes([self.bytes[6], self.bytes[7]]) | flags;
        self.bytes[6..8].copy_from_slice(&now.to_ne_bytes());
    }

    /// Appends the finished message to `out`.
    pub(crate) fn write(&self, sequence: u32, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        let length = u32::try_from(self.bytes.len()).expect("a message is far below 4 GiB");
        out[start..start + 4].copy_from_slice(&length.to_ne_bytes());
        out[start + 8..start + 12].copy_from_slice(&sequence.to_ne_bytes());
    }
}

/// Walks the attributes in a slice; stops at the first malformed one.
pub(crate) struct Attributes<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<(u16, &'a [u8])> {
        let header = self.0.get(..4)?;
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let kind = u16::from_ne_bytes([header[2], header[3]]) & TYPE_MASK;
        let data = self.0.get(4..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, data))
    }
}

impl<'a> Attributes<'a> {
    /// Returns the data of the first attribute of a kind.
    pub(crate) fn find(self, kind: u16) -> Option<&'a [u8]> {
        let mut all = self;
        all.find_map(|(found, data)| (found == kind).then_some(data))
    }
}

/// Reads a host-order number from the start of `data`.
pub(crate) fn u32_at(data: &[u8], offset: usize) -> Option<u32> {
    let four = data.get(offset..offset + 4)?;
    Some(u32::from_ne_bytes([four[0], four[1], four[2], four[3]]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let mut message = Message::new(7, 1, "test");
        message.raw(&[1, 2, 3, 4]).put_str(3, "eth0").nest(18, |inner| {
            inner.put_be32(1, 5);
        });
        let mut out = Vec::new();
        message.write(9, &mut out);
        assert_eq!(u32_at(&out, 0), Some(out.len() as u32));
        assert_eq!(u32_at(&out, 8), Some(9));
        let attributes: Vec<_> = Attributes(&out[HEADER + 4..]).collect();
        assert_eq!(attributes[0], (3, &b"eth0\0"[..]));
        assert_eq!(Attributes(attributes[1].1).find(1), Some(&[0, 0, 0, 5][..]));
    }

    #[test]
    fn malformed_attributes_end_the_walk() {
        assert_eq!(Attributes(&[200, 0, 1, 0, 1]).count(), 0);
        assert_eq!(Attributes(&[2, 0, 1, 0]).count(), 0);
        assert_eq!(Attributes(&[]).count(), 0);
    }
}
