//! Sessions in memory: a client that writes frames of its own, and pods that echo, refuse or never answer.

use std::time::Duration;

use async_trait::async_trait;
use proptest::prelude::*;

use super::*;
use crate::pods::Place;
use crate::streams::{
    ByteStream, Duplex, ExecRequest, ExecStreams, LogRequest, NodeUsage, PodAddress, PodStreams, StreamError,
};

// Longer than any deadline of a session; where those matter the clock is paused.
const SOON: Duration = Duration::from_secs(120);

/// Port 7 echoes, port 9 takes nothing, everything else is refused.
struct Pods;

#[async_trait]
impl PodStreams for Pods {
    async fn logs(&self, _: &str, _: &str, _: &str, _: LogRequest) -> Result<ByteStream, StreamError> {
        Err(StreamError::NotSupported("no logs".to_owned()))
    }

    async fn exec(&self, _: &str, _: &str, _: &str, _: ExecRequest) -> Result<ExecStreams, StreamError> {
        Err(StreamError::NotSupported("no processes".to_owned()))
    }

    async fn connect(
        &self,
        _: &str,
        _: &str,
        _: &str,
        address: PodAddress,
        port: u16,
    ) -> Result<Box<dyn Duplex>, StreamError> {
        assert_eq!(address, PodAddress::Loopback);
        let (ours, theirs) = tokio::io::duplex(1024);
        match port {
            7 => tokio::spawn(async move {
                let (mut read, mut write) = tokio::io::split(theirs);
                drop(tokio::io::copy(&mut read, &mut write).await);
                drop(write.shutdown().await);
            }),
            9 => tokio::spawn(async move {
                std::future::pending::<()>().await;
                drop(theirs);
            }),
            _ => {
                return Err(StreamError::Failed {
                    operation: format!("connect to port {port} of pod web"),
                    source: "connect: connection refused".into(),
                });
            }
        };
        Ok(Box::new(ours))
    }

    async fn usage(&self, node: &str) -> Result<NodeUsage, StreamError> {
        Err(StreamError::NodeNotConnected(node.to_owned()))
    }
}

fn forwarding() -> Arc<Forwarding> {
    let place = Place {
        namespace: "default".to_owned(),
        name: "web".to_owned(),
        uid: "u-1".to_owned(),
        node: "box".to_owned(),
    };
    Arc::new(Forwarding {
        streams: Arc::new(Pods),
        place,
    })
}

/// The frame that opens a stream.
fn open(headers: &mut HeaderBlocks, stream: u32, fields: &[(&str, &str)]) -> Vec<u8> {
    let block = headers.encode(fields).expect("packed");
    let mut frame = vec![0x80, 3, 0, 1];
    let length = u32::try_from(block.len() + 10).expect("short");
    frame.extend(length.to_be_bytes());
    frame.extend(stream.to_be_bytes());
    frame.extend([0; 6]);
    frame.extend(block);
    frame
}

fn data(stream: u32, bytes: &[u8], last: bool) -> Vec<u8> {
    let mut frame = spdy::data_header(stream, bytes.len(), last).to_vec();
    frame.extend_from_slice(bytes);
    frame
}

/// A client and its session.
struct Client {
    stream: DuplexStream,
    headers: HeaderBlocks,
    next: u32,
}

impl Client {
    fn start() -> Client {
        let (stream, theirs) = tokio::io::duplex(1 << 20);
        tokio::spawn(async move { drop(run(theirs, forwarding()).await) });
        Client {
            stream,
            headers: HeaderBlocks::new().expect("zlib"),
            next: 1,
        }
    }

    async fn send(&mut self, frame: &[u8]) {
        self.stream.write_all(frame).await.expect("sent");
    }

    /// Opens the streams of a connection; gives back those for errors and for bytes.
    async fn connect(&mut self, port: &str, id: &str) -> (u32, u32) {
        let (errors, bytes) = (self.next, self.next + 2);
        self.next += 4;
        for (stream, kind) in [(errors, "error"), (bytes, "data")] {
            let fields = [("streamtype", kind), ("port", port), ("requestid", id)];
            let frame = open(&mut self.headers, stream, &fields);
            self.send(&frame).await;
        }
        (errors, bytes)
    }

    /// Reads what comes on a stream until its end; what comes on others is dropped.
    async fn read(&mut self, wanted: u32) -> Vec<u8> {
        let mut all = Vec::new();
        let read = async {
            loop {
                match Frame::read(&mut self.stream).await.expect("a frame").expect("no end") {
                    Frame::Data { stream, bytes, last } if stream == wanted => {
                        all.extend_from_slice(&bytes);
                        if last {
                            return;
                        }
                    }
                    Frame::Reset { stream } if stream == wanted => return,
                    _ => {}
                }
            }
        };
        tokio::time::timeout(SOON, read).await.expect("in time");
        all
    }
}

#[tokio::test]
async fn bytes_go_both_ways_and_the_end_is_told_on_both_streams() {
    let mut client = Client::start();
    let (errors, bytes) = client.connect("7", "0").await;
    client.send(&data(bytes, b"hello ", false)).await;
    client.send(&data(bytes, b"there", true)).await;
    assert_eq!(client.read(bytes).await, b"hello there");
    assert_eq!(client.read(errors).await, b"");
}

#[tokio::test]
async fn a_refused_connection_is_told_and_the_session_goes_on() {
    let mut client = Client::start();
    let (errors, _) = client.connect("81", "0").await;
    assert_eq!(
        String::from_utf8(client.read(errors).await).expect("text"),
        "error forwarding port 81 to pod web, uid u-1: cannot connect to port 81 of pod web: connect: connection refused"
    );
    let (_, bytes) = client.connect("7", "1").await;
    client.send(&data(bytes, b"x", true)).await;
    assert_eq!(client.read(bytes).await, b"x");
}

#[tokio::test]
async fn streams_that_make_no_sense_are_refused() {
    let mut client = Client::start();
    for fields in [
        &[("streamtype", "data"), ("port", "0"), ("requestid", "0")][..],
        &[("streamtype", "data"), ("port", "x"), ("requestid", "0")],
        &[("streamtype", "data"), ("requestid", "0")],
        &[("streamtype", "stdin"), ("port", "7"), ("requestid", "0")],
        &[],
    ] {
        let stream = client.next;
        client.next += 2;
        let frame = open(&mut client.headers, stream, fields);
        client.send(&frame).await;
        assert_eq!(client.read(stream).await, b"", "{fields:?}");
    }
    let (_, bytes) = client.connect("7", "1").await;
    client.send(&data(bytes, b"x", true)).await;
    assert_eq!(client.read(bytes).await, b"x");
}

#[tokio::test]
async fn a_reset_ends_the_connection_and_its_stream_for_errors() {
    let mut client = Client::start();
    let (errors, bytes) = client.connect("9", "0").await;
    client.send(&spdy::reset(bytes)).await;
    assert_eq!(client.read(errors).await, b"");
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_takes_nothing_is_let_go_and_others_go_on() {
    let mut client = Client::start();
    let (_, stuck) = client.connect("9", "0").await;
    let (_, bytes) = client.connect("7", "1").await;
    client.send(&data(stuck, &vec![0; 4 * BUFFER], false)).await;
    client.send(&data(bytes, b"x", true)).await;
    assert_eq!(client.read(bytes).await, b"x");
}

#[tokio::test(start_paused = true)]
async fn a_stream_without_its_other_half_is_told_so() {
    let mut client = Client::start();
    let fields = [("streamtype", "error"), ("port", "7"), ("requestid", "0")];
    let frame = open(&mut client.headers, 1, &fields);
    client.send(&frame).await;
    assert_eq!(client.read(1).await, b"timed out waiting for streams");
}

/// What a client may send, sense or not.
#[derive(Clone, Debug)]
enum Sent {
    Open(u32, Vec<(String, String)>),
    Data(u32, Vec<u8>, bool),
    Reset(u32),
    Ping(u32),
    Raw(Vec<u8>),
}

fn sent() -> impl Strategy<Value = Sent> {
    let stream = || 0..12u32;
    let field = prop_oneof![
        Just(("streamtype".to_owned(), "data".to_owned())),
        Just(("streamtype".to_owned(), "error".to_owned())),
        Just(("port".to_owned(), "7".to_owned())),
        Just(("port".to_owned(), "80".to_owned())),
        (0..3u8).prop_map(|id| ("requestid".to_owned(), id.to_string())),
        (".{0,9}", ".{0,9}"),
    ];
    prop_oneof![
        4 => (stream(), proptest::collection::vec(field, 0..5)).prop_map(|(stream, fields)| Sent::Open(stream, fields)),
        4 => (stream(), proptest::collection::vec(any::<u8>(), 0..50), any::<bool>()).prop_map(|(stream, bytes, last)| Sent::Data(stream, bytes, last)),
        1 => stream().prop_map(Sent::Reset),
        1 => any::<u32>().prop_map(Sent::Ping),
        1 => proptest::collection::vec(any::<u8>(), 0..30).prop_map(Sent::Raw),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_a_client_sends_the_session_ends_with_it(all in proptest::collection::vec(sent(), 0..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
        runtime.block_on(async {
            let (mut client, theirs) = tokio::io::duplex(1 << 20);
            let mut headers = HeaderBlocks::new().expect("zlib");
            for frame in all {
                let bytes = match frame {
                    Sent::Open(stream, fields) => {
                        let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
                        open(&mut headers, stream, &fields)
                    }
                    Sent::Data(stream, bytes, last) => data(stream, &bytes, last),
                    Sent::Reset(stream) => spdy::reset(stream),
                    Sent::Ping(id) => spdy::ping(id),
                    Sent::Raw(bytes) => bytes,
                };
                client.write_all(&bytes).await.expect("sent");
            }
            client.shutdown().await.expect("shut down");
            let session = run(theirs, forwarding());
            // The clock only moves when nobody has anything to do.
            drop(tokio::time::timeout(SOON * 60, session).await.expect("the session ends"));
        });
    }
}
