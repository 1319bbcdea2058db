use std::convert::Infallible;

use http_body_util::StreamBody;
use hyper::body::Frame;
use tokio::net::TcpListener;

use super::*;

/// A server that answers by the name of the service: `ok`, `down`, `unknown`, `slow`, `cut`; anything else is not known to it.
async fn server() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let port = listener.local_addr().expect("address").port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = hyper::service::service_fn(|request: hyper::Request<hyper::body::Incoming>| async move {
                assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
                let asked = request.into_body().collect().await.expect("a body").to_bytes();
                let name = String::from_utf8_lossy(asked.get(7..).unwrap_or_default()).into_owned();
                if name == "slow" {
                    std::future::pending::<()>().await;
                }
                Ok::<_, Infallible>(answer(&name))
            });
            tokio::spawn(async move {
                let served = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), service);
                drop(served.await);
            });
        }
    });
    port
}

type Body = StreamBody<futures::stream::Iter<std::vec::IntoIter<Result<Frame<Bytes>, Infallible>>>>;

fn answer(name: &str) -> hyper::Response<Body> {
    let status = |code: &'static str, message: &'static str| {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static(code));
        trailers.insert("grpc-message", HeaderValue::from_static(message));
        Ok(Frame::trailers(trailers))
    };
    let said = |state: u8| Ok(Frame::data(Bytes::from(vec![0, 0, 0, 0, 2, 8, state])));
    let frames = match name {
        "" | "ok" => vec![said(1), status("0", "")],
        "down" => vec![said(2), status("0", "")],
        "cut" => vec![said(1)],
        "none" => vec![status("12", "unknown service grpc.health.v1.Health")],
        _ => vec![status("5", "unknown%20service")],
    };
    hyper::Response::builder()
        .header("content-type", "application/grpc")
        .body(StreamBody::new(futures::stream::iter(frames)))
        .expect("a response")
}

async fn asked(port: u16, service: &str, limit: Duration) -> Result<(), String> {
    let wanted = Check {
        host: "127.0.0.1".to_owned(),
        port,
        service: service.to_owned(),
        tls: false,
    };
    check(&wanted, limit).await
}

#[tokio::test]
async fn a_serving_service_passes_and_others_fail_in_the_kubelets_words() {
    let port = server().await;
    let limit = Duration::from_secs(10);
    assert_eq!(asked(port, "", limit).await, Ok(()));
    assert_eq!(asked(port, "ok", limit).await, Ok(()));
    for (service, words) in [
        ("down", "service unhealthy (responded with \"NOT_SERVING\")"),
        (
            "none",
            "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): unknown service grpc.health.v1.Health",
        ),
        (
            "other",
            "error: health rpc probe failed: rpc error: code = NotFound desc = unknown service",
        ),
        (
            "cut",
            "error: health rpc probe failed: rpc error: code = Internal desc = server closed the stream without sending trailers",
        ),
    ] {
        assert_eq!(asked(port, service, limit).await, Err(words.to_owned()), "{service}");
    }
    assert_eq!(
        asked(port, "slow", Duration::from_secs(1)).await,
        Err("timeout: health rpc did not complete within 1s".to_owned())
    );
}

#[tokio::test]
async fn what_does_not_listen_or_speak_grpc_is_said() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let port = listener.local_addr().expect("address").port();
    drop(listener);
    assert_eq!(
        asked(port, "", Duration::from_secs(10)).await,
        Err(format!(
            "error: failed to connect service at \"127.0.0.1:{port}\": connection error: desc = \"transport: Error while dialing: \
             dial tcp 127.0.0.1:{port}: connect: connection refused\""
        ))
    );
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let port = listener.local_addr().expect("address").port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            use tokio::io::AsyncWriteExt;
            drop(stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await);
        }
    });
    let error = asked(port, "", Duration::from_secs(10)).await.expect_err("no gRPC");
    assert!(
        error.starts_with("error: health rpc probe failed: rpc error: code = Unavailable desc = "),
        "{error}"
    );
}

#[test]
fn answers_are_read_as_protobuf_and_nonsense_is_none() {
    assert_eq!(state(&[0, 0, 0, 0, 0]), Some(0));
    assert_eq!(state(&[0, 0, 0, 0, 2, 8, 3]), Some(3));
    // A field that is not known is skipped.
    assert_eq!(state(&[0, 0, 0, 0, 5, 0x12, 1, 9, 8, 1]), Some(1));
    for nonsense in [
        &[][..],
        &[0, 0, 0, 0, 9, 8, 1],
        &[1, 0, 0, 0, 2, 8, 1],
        &[0, 0, 0, 0, 1, 8],
        &[0, 0, 0, 0, 2, 0x0b, 1],
    ] {
        assert_eq!(state(nonsense), None, "{nonsense:?}");
    }
    assert_eq!(unescaped(b"a%20b%zz%"), "a b%zz%");
}
