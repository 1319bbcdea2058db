//! Servers for one test each: real git behind HTTP, git:// and ssh.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What a test server does besides serving.
#[derive(Clone, Default)]
pub(super) struct Manner {
    /// Asks for this header: `Basic …`.
    pub(super) authorization: Option<&'static str>,
    /// Sends everything below `/old` to this address.
    pub(super) moved: Option<String>,
    /// Takes the request and never answers.
    pub(super) hangs: bool,
    /// Answers with this instead.
    pub(super) answer: Option<&'static str>,
}

/// Serves the repositories in a folder over HTTP; gives the address.
pub(super) fn http(root: &Path, manner: Manner) -> String {
    serve(root, move |root, stream| http_request(root, stream, &manner)).replace("tcp:", "http:")
}

/// Serves the repositories in a folder over git's own protocol.
pub(super) fn daemon(root: &Path) -> String {
    serve(root, |root, stream| {
        let output = stream.try_clone().unwrap();
        Command::new("git")
            .args([
                "daemon",
                "--inetd",
                "--export-all",
                &format!("--base-path={}", root.display()),
            ])
            .stdin(Stdio::from(std::os::fd::OwnedFd::from(stream)))
            .stdout(Stdio::from(std::os::fd::OwnedFd::from(output)))
            .stderr(Stdio::null())
            .status()
            .unwrap();
    })
    .replace("tcp:", "git:")
}

/// A program that stands for ssh: it notes its arguments and runs the command here.
pub(super) fn ssh(folder: &Path, before: &str) -> PathBuf {
    let program = folder.join("ssh");
    let script = format!(
        "#!/bin/sh\nprintf '%s\\n' \"$@\" > {}/arguments\n{before}\nfor last; do :; done\nexec sh -c \"$last\"\n",
        folder.display()
    );
    std::fs::write(&program, script).unwrap();
    assert!(
        Command::new("chmod")
            .arg("+x")
            .arg(&program)
            .status()
            .unwrap()
            .success()
    );
    program
}

fn serve(root: &Path, answer: impl Fn(&Path, TcpStream) + Send + Sync + Clone + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let root = root.to_path_buf();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (root, answer) = (root.clone(), answer.clone());
            std::thread::spawn(move || answer(&root, stream.unwrap()));
        }
    });
    format!("tcp://{address}")
}

fn http_request(root: &Path, mut stream: TcpStream, manner: &Manner) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let (mut first, mut length, mut kind, mut authorization) = (String::new(), 0, String::new(), None);
    if reader.read_line(&mut first).is_err() {
        // Not HTTP at all: somebody who wants TLS.
        return;
    }
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            break;
        };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().unwrap(),
            "content-type" => kind = value.to_owned(),
            "authorization" => authorization = Some(value.to_owned()),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let mut words = first.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut reply = |text: &str| stream.write_all(text.as_bytes()).ok();
    if manner.hangs {
        // Until the client gives up.
        reader.read_to_end(&mut Vec::new()).ok();
        return;
    }
    if let Some(answer) = manner.answer {
        reply(answer);
        return;
    }
    if let (Some(place), Some(rest)) = (&manner.moved, target.strip_prefix("/old")) {
        reply(&format!(
            "HTTP/1.1 301 Moved\r\nLocation: {place}{rest}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        ));
        return;
    }
    if manner
        .authorization
        .is_some_and(|wanted| authorization.as_deref() != Some(wanted))
    {
        reply("HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        return;
    }
    let mut child = Command::new("git")
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("REQUEST_METHOD", method)
        .env("PATH_INFO", path)
        .env("QUERY_STRING", query)
        .env("CONTENT_TYPE", kind)
        .env("CONTENT_LENGTH", length.to_string())
        .env("REMOTE_ADDR", "127.0.0.1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&body).unwrap();
    let output = child.wait_with_output().unwrap().stdout;
    let status = output
        .strip_prefix(b"Status: ")
        .and_then(|rest| rest.split(|byte| *byte == b'\r').next())
        .map_or("200 OK".to_owned(), |status| {
            String::from_utf8_lossy(status).into_owned()
        });
    stream
        .write_all(format!("HTTP/1.1 {status}\r\nConnection: close\r\n").as_bytes())
        .ok();
    stream.write_all(&output).ok();
}
