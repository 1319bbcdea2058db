//! What load balancers ask: whether this node has pods of a service (`healthCheckNodePort`).
//!
//! One listener per service, on every address of the host. The answer is kube-proxy's: 200 with ready pods here, 503
//! without, and a few words of JSON.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::view::Key;

/// How long a request and its answer may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest head of a request that is read.
const LONGEST_REQUEST: usize = 8 * 1024;
/// How many requests of one service are answered at once.
const REQUESTS: usize = 16;

/// A service's health check as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Check {
    /// Where it is asked for.
    pub port: u16,
    /// How many ready pods are here.
    pub local: usize,
}

#[derive(Debug)]
struct Running {
    port: u16,
    local: watch::Sender<usize>,
    task: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The listeners; they end when this is dropped.
#[derive(Debug, Default)]
pub struct Checks {
    running: BTreeMap<Key, Running>,
}

impl Checks {
    /// Makes the listeners what is wanted. A port that cannot be listened on is tried again at the next call.
    pub async fn keep(&mut self, wanted: &BTreeMap<Key, Check>) {
        self.running
            .retain(|key, running| wanted.get(key).is_some_and(|check| check.port == running.port));
        for (key, check) in wanted {
            if let Some(running) = self.running.get(key) {
                running.local.send_replace(check.local);
                continue;
            }
            match listen(check.port).await {
                Ok(listener) => {
                    let (local, seen) = watch::channel(check.local);
                    let task = tokio::spawn(serve(listener, key.clone(), seen));
                    let port = check.port;
                    self.running.insert(key.clone(), Running { port, local, task });
                }
                Err(error) => tracing::warn!(
                    namespace = key.0, service = key.1, port = check.port, %error,
                    "the health check of a service cannot be served"
                ),
            }
        }
    }
}

/// Listens for both families, or for IPv4 on a host that has no other.
async fn listen(port: u16) -> io::Result<TcpListener> {
    match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await {
        Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await
        }
        both => both,
    }
}

async fn serve(listener: TcpListener, service: Key, local: watch::Receiver<usize>) {
    let requests = Arc::new(Semaphore::new(REQUESTS));
    loop {
        let Ok(permit) = Arc::clone(&requests).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, peer)) => {
                let answer = answer(&service, *local.borrow());
                tokio::spawn(async move {
                    match timeout(PATIENCE, converse(stream, &answer)).await {
                        Ok(Ok(())) => {}
                        Ok(Err(error)) => tracing::debug!(%error, %peer, "a health check broke off"),
                        Err(_) => tracing::debug!(%peer, "a health check took too long"),
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "accepting a health check");
                // An error that stays must not spin.
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// Reads a request to the end of its head, whatever it asks for, and answers.
async fn converse(mut stream: TcpStream, answer: &str) -> io::Result<()> {
    let mut head = Vec::new();
    let mut buffer = [0; 1024];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") && head.len() < LONGEST_REQUEST {
        match stream.read(&mut buffer).await? {
            0 => return Ok(()),
            count => head.extend_from_slice(&buffer[..count]),
        }
    }
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}

fn answer((namespace, name): &Key, local: usize) -> String {
    let (status, quoted) = (
        if local > 0 { "200 OK" } else { "503 Service Unavailable" },
        |text: &str| Value::from(text).to_string(),
    );
    let body = format!(
        "{{\n\t\"service\": {{\n\t\t\"namespace\": {},\n\t\t\"name\": {}\n\t}},\n\t\"localEndpoints\": {local},\n\t\"serviceProxyHealthy\": true\n}}",
        quoted(namespace),
        quoted(name),
    );
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nX-Content-Type-Options: nosniff\r\n\
         X-Load-Balancing-Endpoint-Weight: {local}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn ask(port: u16) -> (String, Value) {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))
            .await
            .expect("it listens");
        stream
            .write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            .await
            .expect("sent");
        let mut text = String::new();
        timeout(PATIENCE, stream.read_to_string(&mut text))
            .await
            .expect("in time")
            .expect("an answer");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
        let status = head.lines().next().expect("a status").to_owned();
        (status, serde_json::from_str(body).expect("json"))
    }

    #[tokio::test]
    async fn the_answer_says_how_many_pods_are_here_until_the_service_is_gone() {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let port = free.local_addr().expect("an address").port();
        drop(free);
        let key = ("default".to_owned(), "web".to_owned());
        let mut checks = Checks::default();
        for (local, status) in [(2, "HTTP/1.1 200 OK"), (0, "HTTP/1.1 503 Service Unavailable")] {
            checks.keep(&[(key.clone(), Check { port, local })].into()).await;
            let (seen, body) = ask(port).await;
            assert_eq!(seen, status);
            assert_eq!(body["localEndpoints"], local);
            assert_eq!(body["service"]["name"], "web");
            assert_eq!(body["serviceProxyHealthy"], true);
        }
        checks.keep(&BTreeMap::new()).await;
        let closed = async {
            while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_ok() {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, closed).await.expect("the listener ends");
    }
}
