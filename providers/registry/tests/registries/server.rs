//! The least of an HTTP server: one request a connection, answers as raw bytes, so that it can lie in any way.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// A request as it came.
#[allow(dead_code, reason = "not every test that has this file looks at everything")]
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

/// A server on this machine, until it is dropped.
pub struct Server {
    pub address: String,
    seen: Arc<Mutex<Vec<Request>>>,
    listener: TcpListener,
}

/// Marks an answer after which the connection stays open and silent.
const HANG: &[u8] = b"\0hang";

/// Sends these bytes, then nothing more.
pub fn hang(bytes: &[u8]) -> Vec<u8> {
    [bytes, HANG].concat()
}

/// A whole answer.
pub fn reply(status: u16, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 {status} X\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// A whole answer in JSON.
pub fn json(body: &str) -> Vec<u8> {
    reply(200, "Content-Type: application/json\r\n", body.as_bytes())
}

impl Server {
    pub fn start(handler: impl Fn(&Request) -> Vec<u8> + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Server {
            address: listener.local_addr().unwrap().to_string(),
            seen: Arc::default(),
            listener: listener.try_clone().unwrap(),
        };
        let (seen, handler) = (server.seen.clone(), Arc::new(handler));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { return };
                let (seen, handler) = (seen.clone(), handler.clone());
                std::thread::spawn(move || answer(stream, &seen, &*handler));
            }
        });
        server
    }

    pub fn requests(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Ends the thread that accepts.
        rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both).ok();
    }
}

fn answer(mut stream: TcpStream, seen: &Mutex<Vec<Request>>, handler: &dyn Fn(&Request) -> Vec<u8>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut line = String::new();
    if reader.read_line(&mut line).unwrap_or(0) == 0 {
        return;
    }
    let mut words = line.split_whitespace();
    let (method, path) = (
        words.next().unwrap_or_default().to_owned(),
        words.next().unwrap_or_default().to_owned(),
    );
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            break;
        };
        headers.push((name.to_owned(), value.to_owned()));
    }
    let mut request = Request {
        method,
        path,
        headers,
        body: String::new(),
    };
    let length = request
        .header("content-length")
        .map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    request.body = String::from_utf8(body).unwrap();
    seen.lock().unwrap().push(request.clone());
    let bytes = handler(&request);
    let (bytes, hangs) = match bytes.strip_suffix(HANG) {
        Some(bytes) => (bytes, true),
        None => (bytes.as_slice(), false),
    };
    // A client may well go before it has read all of a lie.
    if stream.write_all(bytes).is_ok() && hangs {
        while stream.read(&mut [0]).is_ok_and(|count| count > 0) {}
    }
}
