//! Questions to the host's resolvers, and their answers kept for as long as these say.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use hickory_proto::op::{Edns, Message, MessageType, Query, ResponseCode};
use hickory_proto::rr::{RData, RecordType};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{Instant, timeout};

/// A client waits five seconds as a rule: two tries fit in.
const PATIENCE: Duration = Duration::from_secs(2);
const TRIES: usize = 2;
const KEPT: usize = 1024;
const LONGEST: u32 = 300;
const LONGEST_NEGATIVE: u32 = 30;
const PAYLOAD: u16 = 1232;

/// Who is asked.
#[derive(Clone, Debug)]
pub enum Upstreams {
    /// These.
    Fixed(Vec<SocketAddr>),
    /// The name servers of a `resolv.conf`, read again when it has changed.
    File {
        /// Where it is.
        path: PathBuf,
        /// The address that is ourselves, and is not asked.
        not: IpAddr,
    },
}

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    /// Nobody can be asked.
    #[error("no name server is known on this host; write one to /etc/resolv.conf")]
    Nobody,
    /// Nobody answered.
    #[error("no answer from {server}")]
    Unanswered {
        /// Who was asked last.
        server: SocketAddr,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    name: String,
    kind: RecordType,
    dnssec: bool,
}

#[derive(Debug)]
struct Kept {
    message: Message,
    since: Instant,
    until: Instant,
}

/// The servers of a file as it was at that time.
#[derive(Debug, Default)]
struct FileServers {
    modified: Option<SystemTime>,
    servers: Vec<SocketAddr>,
}

/// Asks others.
#[derive(Debug)]
pub struct Forwarder {
    upstreams: Upstreams,
    file: Mutex<FileServers>,
    kept: Mutex<HashMap<Key, Kept>>,
    /// The server that answered last is asked first.
    preferred: AtomicUsize,
}

impl Forwarder {
    /// Makes one that has asked nothing yet.
    pub fn new(upstreams: Upstreams) -> Forwarder {
        Forwarder {
            upstreams,
            file: Mutex::default(),
            kept: Mutex::default(),
            preferred: AtomicUsize::new(0),
        }
    }

    /// Returns an answer, kept or asked for; waits four seconds at most, a truncated answer's TCP aside.
    pub async fn ask(&self, query: &Query, dnssec: bool) -> Result<Message, ForwardError> {
        let key = Key {
            name: query.name().to_ascii().to_ascii_lowercase(),
            kind: query.query_type(),
            dnssec,
        };
        if let Some(message) = self.kept(&key) {
            return Ok(message);
        }
        let servers = self.servers();
        if servers.is_empty() {
            return Err(ForwardError::Nobody);
        }
        let first = self.preferred.load(Ordering::Relaxed);
        let mut last = None;
        for attempt in 0..TRIES.max(servers.len().min(3)) {
            let number = (first + attempt) % servers.len();
            let server = servers[number];
            match exchange(server, query, dnssec).await {
                // A server that fails or refuses may not be the only one.
                Ok(message)
                    if attempt + 1 < servers.len()
                        && matches!(
                            message.metadata.response_code,
                            ResponseCode::ServFail | ResponseCode::Refused
                        ) =>
                {
                    last = Some((server, io::Error::other(message.metadata.response_code.to_str())));
                }
                Ok(message) => {
                    self.preferred.store(number, Ordering::Relaxed);
                    self.keep(key, &message);
                    return Ok(message);
                }
                Err(error) => last = Some((server, error)),
            }
        }
        let (server, source) = last.unwrap_or_else(|| (servers[0], io::ErrorKind::TimedOut.into()));
        Err(ForwardError::Unanswered { server, source })
    }

    fn servers(&self) -> Vec<SocketAddr> {
        match &self.upstreams {
            Upstreams::Fixed(servers) => servers.clone(),
            Upstreams::File { path, not } => {
                let mut file = self.file.lock();
                // Following links: resolv.conf often is one.
                let modified = std::fs::metadata(path).and_then(|meta| meta.modified()).ok();
                if modified.is_none() || modified != file.modified {
                    match std::fs::read_to_string(path) {
                        Ok(text) => file.servers = name_servers(&text, *not),
                        // The last known ones are better than none.
                        Err(error) => tracing::warn!(%error, path = %path.display(), "name servers cannot be read"),
                    }
                    file.modified = modified;
                }
                file.servers.clone()
            }
        }
    }

    fn kept(&self, key: &Key) -> Option<Message> {
        let now = Instant::now();
        let mut kept = self.kept.lock();
        let entry = kept.get(key)?;
        if entry.until <= now {
            kept.remove(key);
            return None;
        }
        let mut message = entry.message.clone();
        let age = u32::try_from((now - entry.since).as_secs()).unwrap_or(u32::MAX);
        let sections = [&mut message.answers, &mut message.authorities, &mut message.additionals];
        for record in sections.into_iter().flatten() {
            record.decrement_ttl(age);
        }
        Some(message)
    }

    fn keep(&self, key: Key, message: &Message) {
        let Some(seconds) = lifetime(message).filter(|seconds| *seconds > 0) else {
            return;
        };
        let now = Instant::now();
        let mut kept = self.kept.lock();
        if kept.len() >= KEPT {
            kept.retain(|_, entry| entry.until > now);
        }
        if kept.len() >= KEPT {
            let any = kept.keys().next().cloned();
            any.map(|any| kept.remove(&any));
        }
        let until = now + Duration::from_secs(u64::from(seconds));
        kept.insert(
            key,
            Kept {
                message: message.clone(),
                since: now,
                until,
            },
        );
    }
}

/// Returns how many seconds an answer may be kept (RFC 2308 for negative ones).
fn lifetime(message: &Message) -> Option<u32> {
    if message.metadata.truncation {
        return None;
    }
    match message.metadata.response_code {
        ResponseCode::NoError if !message.answers.is_empty() => message
            .answers
            .iter()
            .map(|record| record.ttl)
            .min()
            .map(|ttl| ttl.min(LONGEST)),
        ResponseCode::NoError | ResponseCode::NXDomain => message.authorities.iter().find_map(|record| {
            let RData::SOA(soa) = &record.data else { return None };
            Some(soa.minimum.min(record.ttl).min(LONGEST_NEGATIVE))
        }),
        _ => None,
    }
}

/// Returns the name servers of a `resolv.conf`, without `not`.
fn name_servers(text: &str, not: IpAddr) -> Vec<SocketAddr> {
    let lines = text
        .lines()
        .map(|line| line.split(['#', ';']).next().unwrap_or_default());
    let servers = lines.filter_map(|line| line.trim().strip_prefix("nameserver")?.trim().parse::<IpAddr>().ok());
    servers
        .filter(|server| *server != not)
        .map(|server| SocketAddr::new(server, 53))
        .collect()
}

/// Asks one server over UDP, and over TCP if the answer does not fit.
async fn exchange(server: SocketAddr, query: &Query, dnssec: bool) -> io::Result<Message> {
    let mut edns = Edns::new();
    edns.set_max_payload(PAYLOAD).set_dnssec_ok(dnssec);
    let answer = exchange_with(server, query, Some(edns)).await?;
    // A server from before EDNS does not understand the question (RFC 6891, 7).
    match answer.metadata.response_code {
        ResponseCode::FormErr | ResponseCode::NotImp => exchange_with(server, query, None).await,
        _ => Ok(answer),
    }
}

async fn exchange_with(server: SocketAddr, query: &Query, edns: Option<Edns>) -> io::Result<Message> {
    let mut question = Message::query();
    question.metadata.recursion_desired = true;
    question.queries.push(query.clone());
    question.edns = edns;
    let bytes = question.to_vec().map_err(io::Error::other)?;
    let answer = timeout(PATIENCE, over_udp(server, &question, &bytes)).await??;
    if !answer.metadata.truncation {
        return Ok(answer);
    }
    timeout(PATIENCE, over_tcp(server, &question, &bytes)).await?
}

/// Says whether a message answers this very question.
fn answers(message: &Message, question: &Message) -> bool {
    message.metadata.message_type == MessageType::Response
        && message.metadata.id == question.metadata.id
        && message.queries == question.queries
}

async fn over_udp(server: SocketAddr, question: &Message, bytes: &[u8]) -> io::Result<Message> {
    let any: SocketAddr = if server.is_ipv4() {
        ([0, 0, 0, 0], 0).into()
    } else {
        ([0_u16; 8], 0).into()
    };
    // A socket per question: each has a port of its own, which an answer must hit as well as the id.
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    socket.send(bytes).await?;
    let mut buffer = vec![0; 4096];
    loop {
        let length = socket.recv(&mut buffer).await?;
        match Message::from_vec(&buffer[..length]) {
            Ok(message) if answers(&message, question) => return Ok(message),
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, %server, "a DNS answer that is not readable"),
        }
    }
}

async fn over_tcp(server: SocketAddr, question: &Message, bytes: &[u8]) -> io::Result<Message> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes()[..], bytes].concat()).await?;
    let mut buffer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut buffer).await?;
    let message = Message::from_vec(&buffer).map_err(io::Error::other)?;
    match answers(&message, question) {
        true => Ok(message),
        false => Err(io::Error::other("the answer is to another question")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use hickory_proto::rr::rdata::{A, SOA};
    use hickory_proto::rr::{Name, Record};

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    fn answer(ttl: u32) -> Message {
        let mut message = Message::response(1, hickory_proto::op::OpCode::Query);
        let address = RData::A(A([192, 0, 2, 1].into()));
        message
            .answers
            .push(Record::from_rdata(name("a.example."), ttl, address));
        message
    }

    #[test]
    fn answers_are_kept_as_long_as_they_say_and_not_too_long() {
        assert_eq!(lifetime(&answer(60)), Some(60));
        assert_eq!(lifetime(&answer(86_400)), Some(LONGEST));
        let mut truncated = answer(60);
        truncated.metadata.truncation = true;
        assert_eq!(lifetime(&truncated), None);
        let mut failed = answer(60);
        failed.metadata.response_code = ResponseCode::ServFail;
        assert_eq!(lifetime(&failed), None);
        let mut absent = answer(60);
        absent.answers.clear();
        absent.metadata.response_code = ResponseCode::NXDomain;
        assert_eq!(lifetime(&absent), None, "it does not say how long");
        for (minimum, kept) in [(5, 5), (3600, LONGEST_NEGATIVE)] {
            let soa = RData::SOA(SOA::new(name("ns."), name("mail."), 1, 1, 1, 1, minimum));
            absent.authorities = vec![Record::from_rdata(name("example."), 7200, soa)];
            assert_eq!(lifetime(&absent), Some(kept));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_kept_is_bounded_ages_and_ends() {
        let forwarder = Forwarder::new(Upstreams::Fixed(Vec::new()));
        let key = |number: usize| Key {
            name: format!("{number}.example."),
            kind: RecordType::A,
            dnssec: false,
        };
        for number in 0..KEPT * 2 {
            forwarder.keep(key(number), &answer(60));
        }
        assert_eq!(forwarder.kept.lock().len(), KEPT);
        let last = key(KEPT * 2 - 1);
        tokio::time::advance(Duration::from_secs(20)).await;
        assert_eq!(forwarder.kept(&last).unwrap().answers[0].ttl, 40);
        tokio::time::advance(Duration::from_secs(40)).await;
        assert!(forwarder.kept(&last).is_none());
    }

    #[test]
    fn name_servers_are_read_and_we_are_not_among_them() {
        let text = "search a.b\nnameserver 10.42.0.1\nnameserver 192.0.2.1 # first\n#nameserver 192.0.2.9\nnameserver fd00::1\nnameserver bad\n";
        let servers = name_servers(text, IpAddr::from([10, 42, 0, 1]));
        assert_eq!(
            servers,
            ["192.0.2.1:53".parse().unwrap(), "[fd00::1]:53".parse().unwrap()]
        );
    }
}
