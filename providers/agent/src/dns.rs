//! The name server of this node's pods: answers for the cluster's domain from what the API says, asks the host's
//! resolvers for everything else.
//!
//! It listens on the gateway's address, on UDP and TCP. [`zone`] decides on names of the cluster, pure and without
//! waiting; [`forward`] asks others, with deadlines and a bound on how many questions are under way.

pub mod forward;
pub mod zone;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RecordType};
use ipnet::Ipv4Net;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::services::view::View;
use forward::{Forwarder, Upstreams};
use zone::{Answer, Zone};

/// What a UDP answer may hold at most (DNS flag day 2020).
const LARGEST_DATAGRAM: u16 = 1232;
const QUESTIONS_UNDER_WAY: usize = 512;
const CONNECTIONS: usize = 128;
const IDLE: Duration = Duration::from_secs(10);
/// How many names an alias may lead on to.
const ALIASES: usize = 8;

/// What the name server needs to know.
#[derive(Clone, Debug)]
pub struct DnsConfig {
    /// The address to listen on: the gateway's.
    pub bind: Ipv4Addr,
    /// Who is answered, besides this host.
    pub clients: Ipv4Net,
    /// The port: 53; 0 for any free one.
    pub port: u16,
    /// The cluster's domain, `cluster.local`.
    pub cluster_domain: String,
    /// Who is asked for other names; `None` for those of the host's `/etc/resolv.conf`, as it is at the time.
    pub upstreams: Option<Vec<SocketAddr>>,
}

/// Why the name server does not run.
#[derive(Debug, thiserror::Error)]
pub enum DnsError {
    /// The address cannot be listened on.
    #[error(
        "cannot listen for DNS on {address} ({transport}); if another name server holds all addresses, let it listen on its own \
         ones only (`ss -lnp 'sport = :{port}'` names it)", port = address.port()
    )]
    Bind {
        /// Where.
        address: SocketAddr,
        /// UDP or TCP.
        transport: &'static str,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The cluster's domain is not a domain name.
    #[error("{domain:?} is no domain name")]
    Domain {
        /// What was given.
        domain: String,
    },
}

/// The running name server; ends with [`Dns::shutdown`] or when dropped.
#[derive(Debug)]
pub struct Dns {
    address: SocketAddr,
    tasks: Vec<JoinHandle<()>>,
}

impl Dns {
    /// Begins to answer.
    pub async fn start(config: DnsConfig, view: watch::Receiver<Arc<View>>) -> Result<Dns, DnsError> {
        let zone = Zone::new(&config.cluster_domain, config.bind).ok_or_else(|| DnsError::Domain {
            domain: config.cluster_domain.clone(),
        })?;
        let (udp, tcp) = bind(SocketAddr::from((config.bind, config.port))).await?;
        let address = udp
            .local_addr()
            .unwrap_or_else(|_| SocketAddr::from((config.bind, config.port)));
        let upstreams = match config.upstreams {
            Some(fixed) => Upstreams::Fixed(fixed),
            None => Upstreams::File {
                path: PathBuf::from("/etc/resolv.conf"),
                not: config.bind.into(),
            },
        };
        let server = Arc::new(Server {
            zone,
            view,
            forwarder: Forwarder::new(upstreams),
            turn: AtomicUsize::new(0),
            clients: config.clients,
            questions: Semaphore::new(QUESTIONS_UNDER_WAY),
            connections: Arc::new(Semaphore::new(CONNECTIONS)),
        });
        let tasks = vec![
            tokio::spawn(serve_udp(Arc::clone(&server), Arc::new(udp))),
            tokio::spawn(serve_tcp(server, tcp)),
        ];
        Ok(Dns { address, tasks })
    }

    /// Returns where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops answering and gives the port back.
    pub async fn shutdown(mut self) {
        for task in &mut self.tasks {
            task.abort();
            if let Err(error) = task.await
                && !error.is_cancelled()
            {
                tracing::error!(%error, "the name server's task failed");
            }
        }
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Takes both sockets on one port.
async fn bind(address: SocketAddr) -> Result<(UdpSocket, TcpListener), DnsError> {
    let tcp = TcpListener::bind(address).await;
    let tcp = tcp.map_err(|source| DnsError::Bind {
        address,
        transport: "TCP",
        source,
    })?;
    let address = tcp.local_addr().unwrap_or(address);
    let udp = UdpSocket::bind(address).await;
    let udp = udp.map_err(|source| DnsError::Bind {
        address,
        transport: "UDP",
        source,
    })?;
    Ok((udp, tcp))
}

struct Server {
    zone: Zone,
    view: watch::Receiver<Arc<View>>,
    forwarder: Forwarder,
    turn: AtomicUsize,
    clients: Ipv4Net,
    questions: Semaphore,
    connections: Arc<Semaphore>,
}

/// Returns whether somebody is answered: pods and this host are, others that find a way to the address are not.
fn serves(clients: Ipv4Net, peer: IpAddr) -> bool {
    let IpAddr::V4(address) = peer else { return false };
    // Only an address of this host can be bound.
    clients.contains(&address) || address.is_loopback() || std::net::UdpSocket::bind((address, 0)).is_ok()
}

async fn serve_udp(server: Arc<Server>, socket: Arc<UdpSocket>) {
    let mut buffer = vec![0; 4096];
    loop {
        let (length, peer) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                tracing::warn!(%error, "receiving a DNS question");
                // An error that stays must not spin.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        if !serves(server.clients, peer.ip()) {
            tracing::debug!(%peer, "a DNS question from elsewhere is not answered");
            continue;
        }
        let Some(request) = parse(&buffer[..length]) else {
            continue;
        };
        let limit = usize::from(request.max_payload().clamp(512, LARGEST_DATAGRAM));
        match server.at_once(request) {
            Decided::Answer(answer) => reply(&socket, peer, answer, limit).await,
            Decided::Ask(question) => {
                let server = Arc::clone(&server);
                let socket = Arc::clone(&socket);
                tokio::spawn(async move { reply(&socket, peer, server.ask(*question).await, limit).await });
            }
        }
    }
}

async fn reply(socket: &UdpSocket, peer: SocketAddr, answer: Message, limit: usize) {
    let bytes = encode(&answer).map(|bytes| match bytes.len() > limit {
        true => encode(&answer.truncate()).unwrap_or_default(),
        false => bytes,
    });
    let Some(bytes) = bytes.filter(|bytes| !bytes.is_empty()) else {
        return;
    };
    if let Err(error) = socket.send_to(&bytes, peer).await {
        tracing::debug!(%error, %peer, "a DNS answer is lost");
    }
}

async fn serve_tcp(server: Arc<Server>, listener: TcpListener) {
    loop {
        let Ok(permit) = Arc::clone(&server.connections).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((_, peer)) if !serves(server.clients, peer.ip()) => {
                tracing::debug!(%peer, "a DNS connection from elsewhere is closed");
            }
            Ok((stream, peer)) => {
                let server = Arc::clone(&server);
                tokio::spawn(async move {
                    if let Err(error) = converse(&server, stream).await {
                        tracing::debug!(%error, %peer, "a DNS connection ended");
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "accepting a DNS connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// Answers one connection's questions, one after another, until it is idle or closed.
async fn converse(server: &Server, mut stream: TcpStream) -> io::Result<()> {
    loop {
        let length = match timeout(IDLE, stream.read_u16()).await {
            Ok(Ok(length)) => length,
            Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Ok(Err(error)) => return Err(error),
            Err(_) => return Ok(()),
        };
        let mut bytes = vec![0; usize::from(length)];
        timeout(IDLE, stream.read_exact(&mut bytes)).await??;
        let Some(request) = parse(&bytes) else { return Ok(()) };
        let answer = match server.at_once(request) {
            Decided::Answer(answer) => answer,
            Decided::Ask(question) => server.ask(*question).await,
        };
        let encoded = encode(&answer).filter(|bytes| u16::try_from(bytes.len()).is_ok());
        let bytes = encoded.or_else(|| encode(&answer.truncate())).unwrap_or_default();
        let mut framed = u16::try_from(bytes.len()).unwrap_or_default().to_be_bytes().to_vec();
        framed.extend(bytes);
        timeout(IDLE, stream.write_all(&framed)).await??;
    }
}

/// Reads a question; `None` for what is none and is best left alone (answers among it: two servers must not talk in
/// circles).
fn parse(bytes: &[u8]) -> Option<Message> {
    match Message::from_vec(bytes) {
        Ok(message) if message.metadata.message_type == MessageType::Query => Some(message),
        Ok(_) => None,
        Err(error) => {
            tracing::debug!(%error, "a DNS message that is not readable");
            None
        }
    }
}

fn encode(message: &Message) -> Option<Vec<u8>> {
    match message.to_vec() {
        Ok(bytes) => Some(bytes),
        Err(error) => {
            tracing::warn!(%error, "a DNS answer cannot be written");
            None
        }
    }
}

/// An answer under construction, with what is still to be asked of others.
struct Question {
    answer: Message,
    query: Query,
    dnssec: bool,
}

enum Decided {
    Answer(Message),
    Ask(Box<Question>),
}

impl Server {
    /// Answers what needs no waiting.
    fn at_once(&self, request: Message) -> Decided {
        let mut answer = Message::new(request.metadata.id, MessageType::Response, request.metadata.op_code);
        answer.metadata = Metadata::response_from_request(&request.metadata);
        answer.metadata.recursion_available = true;
        answer.queries.clone_from(&request.queries);
        let dnssec = request.edns.as_ref().is_some_and(|edns| edns.flags().dnssec_ok);
        if request.edns.is_some() {
            let mut edns = Edns::new();
            edns.set_max_payload(LARGEST_DATAGRAM).set_dnssec_ok(dnssec);
            answer.edns = Some(edns);
        }
        let asked = match request.queries.as_slice() {
            _ if request.metadata.op_code != OpCode::Query => Err(ResponseCode::NotImp),
            [query] if query.query_class() != DNSClass::IN => Err(ResponseCode::Refused),
            [query] if matches!(query.query_type(), RecordType::AXFR | RecordType::IXFR) => Err(ResponseCode::Refused),
            [query] => Ok((query.name().clone(), query.query_type())),
            _ => Err(ResponseCode::FormErr),
        };
        match asked {
            Ok((name, kind)) => self.decide(answer, name, kind, dnssec),
            Err(code) => {
                answer.metadata.response_code = code;
                Decided::Answer(answer)
            }
        }
    }

    /// Follows aliases inside the cluster's domain; what leads out of it is to be asked.
    fn decide(&self, mut answer: Message, mut name: Name, kind: RecordType, dnssec: bool) -> Decided {
        let view = Arc::clone(&self.view.borrow());
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        for _ in 0..ALIASES {
            let found = self.zone.answer(&view, &name, kind, turn);
            answer.metadata.authoritative = !matches!(found, Answer::Elsewhere) || !answer.answers.is_empty();
            match found {
                Answer::Elsewhere => {
                    let query = Query::query(name, kind);
                    return Decided::Ask(Box::new(Question { answer, query, dnssec }));
                }
                Answer::Records { answers, additionals } => {
                    answer.answers.extend(answers);
                    answer.additionals.extend(additionals);
                    return Decided::Answer(answer);
                }
                Answer::Alias { record, target } => {
                    answer.answers.push(*record);
                    if kind == RecordType::CNAME {
                        return Decided::Answer(answer);
                    }
                    name = target;
                }
                Answer::NoData => {
                    answer.authorities.push(self.zone.soa());
                    return Decided::Answer(answer);
                }
                Answer::NoName => {
                    answer.metadata.response_code = ResponseCode::NXDomain;
                    answer.authorities.push(self.zone.soa());
                    return Decided::Answer(answer);
                }
                Answer::NotYet => break,
            }
        }
        answer.answers.clear();
        answer.metadata.response_code = ResponseCode::ServFail;
        Decided::Answer(answer)
    }

    /// Asks the host's resolvers.
    async fn ask(&self, question: Question) -> Message {
        let Question {
            mut answer,
            query,
            dnssec,
        } = question;
        let failed = |mut answer: Message| {
            answer.answers.clear();
            answer.metadata.response_code = ResponseCode::ServFail;
            answer
        };
        let Ok(_permit) = self.questions.try_acquire() else {
            tracing::warn!("too many DNS questions are under way; one is refused");
            return failed(answer);
        };
        match self.forwarder.ask(&query, dnssec).await {
            Ok(found) => {
                answer.metadata.response_code = found.metadata.response_code;
                answer.metadata.authentic_data = found.metadata.authentic_data && answer.answers.is_empty();
                answer.answers.extend(found.answers);
                answer.authorities.extend(found.authorities);
                answer.additionals.extend(found.additionals);
                answer
            }
            Err(error) => {
                tracing::debug!(error = &error as &dyn std::error::Error, %query, "a DNS question is not answered");
                failed(answer)
            }
        }
    }
}

#[cfg(test)]
mod tests;
