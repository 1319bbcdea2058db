//! As much of a cluster as an app needs, over HTTP: objects by their paths, answers that fail on demand, watches that say nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Value>,
    versions: u64,
    /// Method and path of every request that could change something.
    asked: Vec<(String, String)>,
    /// What part of `METHOD path?query` is answered with what code.
    failing: Option<(String, u16)>,
}

pub(super) struct Cluster {
    state: Arc<Mutex<State>>,
    address: String,
}

impl Cluster {
    pub(super) async fn start() -> Cluster {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let state: Arc<Mutex<State>> = Arc::default();
        let served = state.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, served.clone()));
            }
        });
        Cluster { state, address }
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }

    pub(super) fn put(&self, path: &str, object: Value) {
        self.state.lock().put(path, object);
    }

    pub(super) fn get(&self, path: &str) -> Option<Value> {
        self.state.lock().objects.get(path).cloned()
    }

    /// Returns the paths of the requests of a method.
    pub(super) fn asked(&self, method: &str) -> Vec<String> {
        let state = self.state.lock();
        let asked = state.asked.iter().filter(|(of, _)| of == method);
        asked.map(|(_, path)| path.clone()).collect()
    }

    pub(super) fn fail(&self, part: &str, code: u16) {
        self.state.lock().failing = Some((part.to_owned(), code));
    }

    pub(super) fn heal(&self) {
        self.state.lock().failing = None;
    }
}

impl State {
    fn put(&mut self, path: &str, mut object: Value) -> Value {
        self.versions += 1;
        let before = self.objects.get(path).map(|before| before["metadata"]["uid"].clone());
        let metadata = &mut object["metadata"];
        metadata["resourceVersion"] = json!(self.versions.to_string());
        if metadata["uid"].is_null() {
            metadata["uid"] = before.unwrap_or_else(|| json!(format!("uid-{}", self.versions)));
        }
        self.objects.insert(path.to_owned(), object.clone());
        object
    }

    fn answer(&mut self, method: &str, target: &str, body: &Value) -> (u16, Value) {
        if let Some((part, code)) = &self.failing
            && format!("{method} {target}").contains(part.as_str())
        {
            return (*code, status(*code));
        }
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let dry = query.contains("dryRun=All");
        if method != "GET" && !dry {
            self.asked.push((method.to_owned(), path.to_owned()));
        }
        let status_of = path.strip_suffix("/status");
        match (method, path) {
            ("GET", "/api/v1") => (
                200,
                kinds(
                    "v1",
                    &[
                        ("configmaps", "ConfigMap", true),
                        ("namespaces", "Namespace", false),
                        ("persistentvolumeclaims", "PersistentVolumeClaim", true),
                    ],
                ),
            ),
            ("GET", _) => match self.objects.get(path) {
                Some(object) => (200, object.clone()),
                None if path.ends_with("s") => (
                    200,
                    json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": []}),
                ),
                None => (404, status(404)),
            },
            ("PATCH", _) if status_of.is_some() => {
                let path = status_of.unwrap_or_default();
                match self.objects.get(path).cloned() {
                    Some(mut object) => {
                        object["status"] = body["status"].clone();
                        if let Some(status) = object["status"].as_object_mut() {
                            status.retain(|_, value| !value.is_null());
                        }
                        (200, self.put(path, object))
                    }
                    None => (404, status(404)),
                }
            }
            ("PATCH", _) if dry => (200, body.clone()),
            ("PATCH", _) if query.contains("fieldManager") => (200, self.put(path, body.clone())),
            ("PATCH", _) => match self.objects.get(path).cloned() {
                Some(mut object) => {
                    object["metadata"]["finalizers"] = body["metadata"]["finalizers"].clone();
                    (200, self.put(path, object))
                }
                None => (404, status(404)),
            },
            ("POST", _) => (201, body.clone()),
            ("DELETE", _) => match self.objects.remove(path) {
                Some(object) => (200, object),
                None => (404, status(404)),
            },
            _ => (405, status(405)),
        }
    }
}

fn kinds(group_version: &str, kinds: &[(&str, &str, bool)]) -> Value {
    let resources: Vec<Value> = kinds
        .iter()
        .map(|(name, kind, namespaced)| {
            json!({"name": name, "singularName": "", "kind": kind, "namespaced": namespaced, "verbs": ["get", "list", "watch"]})
        })
        .collect();
    json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": resources})
}

fn status(code: u16) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": "Because", "message": format!("the cluster says {code}")})
}

/// Answers the requests of one connection, one after the other.
async fn serve(stream: TcpStream, state: Arc<Mutex<State>>) {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    loop {
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            match reader.read_line(&mut line).await {
                Ok(0) | Err(_) => return,
                Ok(_) if line.trim().is_empty() => break,
                Ok(_) => head.push(line),
            }
        }
        let mut words = head[0].split_whitespace();
        let (method, target) = (words.next().unwrap(), words.next().unwrap());
        let length = head.iter().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length")
                .then(|| value.trim().parse().unwrap())
        });
        let mut body = vec![0; length.unwrap_or(0)];
        reader.read_exact(&mut body).await.unwrap();
        if target.contains("watch=true") {
            // It goes on, and nothing happens.
            let answer = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
            writer.write_all(answer.as_bytes()).await.unwrap();
            std::future::pending::<()>().await;
        }
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let (code, answer) = state.lock().answer(method, target, &body);
        let answer = answer.to_string();
        let head = format!(
            "HTTP/1.1 {code} -\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            answer.len()
        );
        if writer.write_all(format!("{head}{answer}").as_bytes()).await.is_err() {
            return;
        }
    }
}
