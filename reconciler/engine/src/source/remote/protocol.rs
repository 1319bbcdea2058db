//! git's pack protocol, version 0, as a client: the offer of refs, one round of wants and haves, the pack.
//!
//! See git's `gitprotocol-pack(5)` and `gitprotocol-http(5)`. Without `multi_ack`, the answer to wants, haves and `done` in one go is one
//! ACK or NAK and then the pack, over a connection and over HTTP alike.

use bytes::{Buf, Bytes, BytesMut};
use git2::Oid;

use super::address::Remote;
use super::link::Link;
use crate::source::SourceError;
use crate::source::error::plain;

const ZERO: &str = "0000000000000000000000000000000000000000";
const MAX_PACKET: usize = 65_520;
const MAX_REFS: usize = 1_000_000;
const BRANCHES: &str = "refs/heads/";

/// What a server has.
#[derive(Debug, Default)]
pub(super) struct Offer {
    /// Branches by full name, in the server's order.
    pub(super) branches: Vec<(String, Oid)>,
    /// The full name of the branch that HEAD means.
    pub(super) head: Option<String>,
    capabilities: Vec<String>,
}

#[derive(Debug, PartialEq)]
enum Packet {
    Flush,
    Data(Bytes),
}

pub(super) struct Session {
    link: Link,
    remote: String,
    buffer: BytesMut,
    received: u64,
    limit: u64,
    sideband: bool,
}

impl Session {
    pub(super) fn new(link: Link, remote: &Remote, limit: u64) -> Self {
        Self {
            link,
            remote: remote.to_string(),
            buffer: BytesMut::new(),
            received: 0,
            limit,
            sideband: false,
        }
    }

    /// Reads what the server has.
    pub(super) async fn advertisement(&mut self) -> Result<Offer, SourceError> {
        let mut lines = Vec::new();
        let mut first = true;
        loop {
            match self.packet().await? {
                Some(Packet::Data(line)) if first && self.link.stateless() => {
                    first = false;
                    if !line.starts_with(b"# service=git-upload-pack") {
                        return Err(self.fault("its offer does not begin with the service's name"));
                    }
                    if self.packet().await? != Some(Packet::Flush) {
                        return Err(self.fault("its offer does not go on as it should"));
                    }
                }
                Some(Packet::Data(line)) => {
                    first = false;
                    self.refused(&line)?;
                    if lines.len() >= MAX_REFS {
                        return Err(self.fault(&format!("it has more than {MAX_REFS} refs")));
                    }
                    lines.push(line);
                }
                Some(Packet::Flush) => break,
                None => return Err(self.fault("it ends before its list of refs does")),
            }
        }
        offer(&lines).map_err(|problem| match problem {
            Problem::Format(format) => SourceError::Unsupported {
                path: self.remote.clone().into(),
                feature: format!("{format:?} object ids"),
                advice: "make a new one with `git init --object-format=sha1` and push the files there",
            },
            Problem::Other(problem) => self.fault(&problem),
        })
    }

    /// Says goodbye without wanting anything. Whether the server hears it does not matter.
    pub(super) async fn finish(&mut self) {
        if !self.link.stateless()
            && let Err(error) = self.link.request(b"0000".to_vec()).await
        {
            tracing::debug!(
                remote = self.remote,
                error = &error as &dyn std::error::Error,
                "the remote left without goodbye"
            );
        }
    }

    /// Asks for `wants` on top of `haves`; the pack follows.
    pub(super) async fn ask(&mut self, offer: &Offer, wants: &[Oid], haves: &[Oid]) -> Result<(), SourceError> {
        self.sideband = offer
            .capabilities
            .iter()
            .any(|capability| capability == "side-band-64k");
        self.buffer.clear();
        self.link.request(request(offer, wants, haves)).await?;
        loop {
            match self.packet().await? {
                Some(Packet::Data(line)) if line.starts_with(b"NAK") || line.starts_with(b"ACK ") => break,
                Some(Packet::Data(line)) => {
                    self.refused(&line)?;
                    return Err(self.fault(&format!("it answers `{}`", plain(&line, 100))));
                }
                Some(Packet::Flush) => {}
                None => return Err(self.fault("it ends before the pack")),
            }
        }
        // git says ACK again for each have that the first one implied. Neither a pack nor a band begins like that.
        loop {
            while self.buffer.len() < 8 && self.fill().await? {}
            match self.buffer.get(4..8) {
                Some(b"ACK " | b"NAK\n") => self.packet().await?,
                _ => return Ok(()),
            };
        }
    }

    /// Gives the next bytes of the pack; none at its end.
    pub(super) async fn pack_data(&mut self) -> Result<Option<Bytes>, SourceError> {
        loop {
            if !self.sideband {
                if self.buffer.is_empty() && !self.fill().await? {
                    return Ok(None);
                }
                return Ok(Some(self.buffer.split().freeze()));
            }
            match self.packet().await? {
                Some(Packet::Data(mut data)) if !data.is_empty() => match data.get_u8() {
                    1 if data.is_empty() => {}
                    1 => return Ok(Some(data)),
                    2 => {}
                    3 => {
                        return Err(SourceError::Answer {
                            remote: self.remote.clone(),
                            answer: plain(&data, 300),
                        });
                    }
                    band => return Err(self.fault(&format!("it uses the band {band}"))),
                },
                Some(Packet::Data(_)) => {}
                // Without a flush the pack was cut off; its checksum says so.
                Some(Packet::Flush) | None => return Ok(None),
            }
        }
    }

    async fn packet(&mut self) -> Result<Option<Packet>, SourceError> {
        loop {
            match split(&mut self.buffer) {
                Ok(Some(packet)) => return Ok(Some(packet)),
                Ok(None) => {}
                Err(problem) => return Err(self.fault(&problem)),
            }
            if !self.fill().await? {
                return match self.buffer.is_empty() {
                    true => Ok(None),
                    false => Err(SourceError::Unreachable {
                        remote: self.remote.clone(),
                        source: "the connection was cut off".into(),
                    }),
                };
            }
        }
    }

    async fn fill(&mut self) -> Result<bool, SourceError> {
        let chunk = self.link.chunk().await?;
        self.received = self.received.saturating_add(chunk.len() as u64);
        if self.received > self.limit {
            return Err(SourceError::TooLarge {
                remote: self.remote.clone(),
                limit: self.limit,
            });
        }
        self.buffer.extend_from_slice(&chunk);
        Ok(!chunk.is_empty())
    }

    fn refused(&self, line: &[u8]) -> Result<(), SourceError> {
        let Some(words) = line.strip_prefix(b"ERR ") else {
            return Ok(());
        };
        let answer = plain(words, 300);
        let lower = answer.to_lowercase();
        let remote = self.remote.clone();
        if [
            "not found",
            "not exported",
            "no such",
            "does not exist",
            "access denied",
        ]
        .iter()
        .any(|text| lower.contains(text))
        {
            return Err(SourceError::NoRemote { remote });
        }
        Err(SourceError::Answer { remote, answer })
    }

    fn fault(&self, problem: &str) -> SourceError {
        SourceError::Protocol {
            remote: self.remote.clone(),
            problem: problem.to_owned(),
        }
    }
}

enum Problem {
    Format(String),
    Other(String),
}

/// Takes one packet off the front; none while it is not complete.
fn split(buffer: &mut BytesMut) -> Result<Option<Packet>, String> {
    let Some(header) = buffer.get(..4) else {
        return Ok(None);
    };
    let length = std::str::from_utf8(header)
        .ok()
        .filter(|header| header.bytes().all(|byte| byte.is_ascii_hexdigit()))
        .and_then(|header| usize::from_str_radix(header, 16).ok())
        .ok_or_else(|| {
            format!(
                "it sends `{}` where the length of a packet should be",
                plain(header, 4).escape_debug()
            )
        })?;
    match length {
        0 => {
            buffer.advance(4);
            Ok(Some(Packet::Flush))
        }
        1..=3 => Err(format!("it sends the packet {length:04x}, which was not asked for")),
        _ if length > MAX_PACKET => Err(format!("it sends a packet of {length} bytes")),
        _ if buffer.len() < length => Ok(None),
        _ => {
            buffer.advance(4);
            Ok(Some(Packet::Data(buffer.split_to(length - 4).freeze())))
        }
    }
}

fn offer(lines: &[Bytes]) -> Result<Offer, Problem> {
    let mut offer = Offer::default();
    let mut head = None;
    for (index, line) in lines.iter().enumerate() {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let mut halves = line.splitn(2, |byte| *byte == 0);
        let named = halves.next().unwrap_or_default();
        if index == 0 {
            let capabilities = String::from_utf8_lossy(halves.next().unwrap_or_default());
            offer.capabilities = capabilities.split_ascii_whitespace().map(str::to_owned).collect();
            let format = offer
                .capabilities
                .iter()
                .find_map(|capability| capability.strip_prefix("object-format="));
            if let Some(format) = format.filter(|format| *format != "sha1") {
                return Err(Problem::Format(plain(format.as_bytes(), 20)));
            }
        }
        if named.starts_with(b"shallow ") || named.starts_with(b"version ") {
            continue;
        }
        let odd = || Problem::Other(format!("it offers `{}`", plain(named, 100).escape_debug()));
        let text = std::str::from_utf8(named).map_err(|_| odd())?;
        let (id, name) = text.split_once(' ').ok_or_else(odd)?;
        if id.len() != ZERO.len() {
            return Err(odd());
        }
        let oid = Oid::from_str(id).map_err(|_| odd())?;
        if id == ZERO {
            // `capabilities^{}`: there are no refs.
            continue;
        }
        if name == "HEAD" {
            head = Some(oid);
        } else if name.starts_with(BRANCHES) {
            if git2::Reference::is_valid_name(name) {
                offer.branches.push((name.to_owned(), oid));
            } else {
                tracing::warn!(
                    name,
                    "a remote branch has a name that git does not allow; it is left out"
                );
            }
        }
    }
    let told = offer
        .capabilities
        .iter()
        .find_map(|capability| capability.strip_prefix("symref=HEAD:"));
    offer.head = match told {
        Some(target) => Some(target.to_owned())
            .filter(|target| git2::Reference::is_valid_name(target) && target.starts_with(BRANCHES)),
        None => guessed(&offer.branches, head),
    };
    Ok(offer)
}

/// An old server says where HEAD is, but not by which branch.
fn guessed(branches: &[(String, Oid)], head: Option<Oid>) -> Option<String> {
    let fits = |name: &str| branches.iter().find(|(branch, id)| branch == name && Some(*id) == head);
    fits("refs/heads/main")
        .or_else(|| fits("refs/heads/master"))
        .or_else(|| branches.iter().find(|(_, id)| Some(*id) == head))
        .map(|(name, _)| name.clone())
}

fn request(offer: &Offer, wants: &[Oid], haves: &[Oid]) -> Vec<u8> {
    let mut body = Vec::new();
    let mut packet = |text: String| body.extend_from_slice(format!("{:04x}{text}", text.len() + 4).as_bytes());
    let useful = ["side-band-64k", "ofs-delta", "no-progress"];
    let mut capabilities: Vec<&str> = useful
        .into_iter()
        .filter(|useful| offer.capabilities.iter().any(|capability| capability == useful))
        .collect();
    if offer
        .capabilities
        .iter()
        .any(|capability| capability.starts_with("agent="))
    {
        capabilities.push(concat!("agent=setpoint/", env!("CARGO_PKG_VERSION")));
    }
    for (index, want) in wants.iter().enumerate() {
        match index {
            0 => packet(format!("want {want} {}\n", capabilities.join(" "))),
            _ => packet(format!("want {want}\n")),
        }
    }
    body.extend_from_slice(b"0000");
    let mut packet = |text: String| body.extend_from_slice(format!("{:04x}{text}", text.len() + 4).as_bytes());
    for have in haves {
        packet(format!("have {have}\n"));
    }
    packet("done\n".to_owned());
    body
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const A: &str = "1111111111111111111111111111111111111111";
    const B: &str = "2222222222222222222222222222222222222222";

    fn lines(lines: &[String]) -> Vec<Bytes> {
        lines.iter().map(|line| Bytes::from(line.clone())).collect()
    }

    #[test]
    fn an_offer_names_branches_and_the_one_that_head_means() {
        let told = lines(&[
            format!("{A} HEAD\0ofs-delta symref=HEAD:refs/heads/trunk agent=git/2\n"),
            format!("{B} refs/heads/main\n"),
            format!("{A} refs/heads/trunk\n"),
            format!("{A} refs/heads/a..b\n"),
            format!("{A} refs/tags/v1\n"),
        ]);
        let offer = offer(&told).ok().unwrap();
        assert_eq!(offer.head.as_deref(), Some("refs/heads/trunk"));
        let names: Vec<_> = offer.branches.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["refs/heads/main", "refs/heads/trunk"]);
    }

    #[test]
    fn the_branch_of_head_is_guessed_where_it_is_not_told() {
        let told = lines(&[
            format!("{A} HEAD\0ofs-delta\n"),
            format!("{A} refs/heads/a\n"),
            format!("{A} refs/heads/main\n"),
        ]);
        assert_eq!(offer(&told).ok().unwrap().head.as_deref(), Some("refs/heads/main"));
        let told = lines(&[format!("{B} HEAD\0ofs-delta\n"), format!("{A} refs/heads/a\n")]);
        assert_eq!(offer(&told).ok().unwrap().head, None);
    }

    #[test]
    fn an_empty_repository_and_other_formats_are_told_apart() {
        let offered = offer(&lines(&[format!("{ZERO} capabilities^{{}}\0ofs-delta\n")]))
            .ok()
            .unwrap();
        assert!(offered.branches.is_empty());
        assert!(matches!(
            offer(&lines(&[format!("{A} HEAD\0object-format=sha256\n")])),
            Err(Problem::Format(_))
        ));
        for rubbish in ["", "x", "<html>", "1111 refs/heads/x"] {
            assert!(
                matches!(offer(&lines(&[rubbish.to_owned()])), Err(Problem::Other(_))),
                "{rubbish}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), text in "[0-9a-f]{4}[ -~\\x00]{0,60}") {
            for bytes in [&bytes[..], text.as_bytes()] {
                let mut buffer = BytesMut::from(bytes);
                let mut lines = Vec::new();
                while let Ok(Some(packet)) = split(&mut buffer) {
                    if let Packet::Data(data) = packet {
                        lines.push(data);
                    }
                }
                lines.push(Bytes::copy_from_slice(bytes));
                drop(offer(&lines));
            }
        }
    }
}
