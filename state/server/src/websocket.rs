//! WebSocket: the handshake, and sockets on upgraded connections.

mod tunnel;

use axum::body::Body;
use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use http::{HeaderMap, Response, StatusCode};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use setpoint_api::Status;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message, Role, WebSocketConfig};

pub(crate) use tunnel::Tunnel;

/// Larger messages than this are no honest client's, in bytes.
const MESSAGE_LIMIT: usize = 16 << 20;

/// A socket to a client.
pub(crate) type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// What both ends agreed on.
pub(crate) struct Handshake {
    accept: String,
    /// The subprotocol; `None` when the client named none.
    pub protocol: Option<&'static str>,
}

impl Handshake {
    /// Takes the first subprotocol of the client's that is spoken here. A client that names none is understood where
    /// `or_none` says so.
    pub(crate) fn read(headers: &HeaderMap, spoken: &[&'static str], or_none: bool) -> Result<Handshake, Status> {
        let key = headers
            .get(SEC_WEBSOCKET_KEY)
            .ok_or_else(|| Status::bad_request("the Sec-WebSocket-Key header is missing"))?;
        let offered: Vec<&str> = headers
            .get_all(SEC_WEBSOCKET_PROTOCOL)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .map(str::trim)
            .filter(|protocol| !protocol.is_empty())
            .collect();
        let protocol = offered
            .iter()
            .find_map(|wanted| spoken.iter().find(|protocol| *protocol == wanted))
            .copied();
        if protocol.is_none() && !(or_none && offered.is_empty()) {
            return Err(Status::bad_request(format!(
                "unable to upgrade: none of the subprotocols {offered:?} is spoken here, which are {spoken:?}"
            )));
        }
        Ok(Handshake {
            accept: derive_accept_key(key.as_bytes()),
            protocol,
        })
    }

    /// The answer that switches protocols.
    pub(crate) fn response(&self) -> Result<Response<Body>, Status> {
        let mut response = Response::builder()
            .status(StatusCode::SWITCHING_PROTOCOLS)
            .header(CONNECTION, "Upgrade")
            .header(UPGRADE, "websocket")
            .header(SEC_WEBSOCKET_ACCEPT, &self.accept);
        if let Some(protocol) = self.protocol {
            response = response.header(SEC_WEBSOCKET_PROTOCOL, protocol);
        }
        response.body(Body::empty()).map_err(Status::internal)
    }
}

/// The socket on a connection that has switched.
pub(crate) async fn socket(upgraded: Upgraded) -> Socket {
    let config = WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_LIMIT))
        .max_frame_size(Some(MESSAGE_LIMIT));
    WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await
}

/// The message that ends a session well: clients take a close without a code for a broken connection.
pub(crate) fn goodbye() -> Message {
    Message::Close(Some(CloseFrame {
        code: CloseCode::Normal,
        reason: "".into(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(offered: &[&str], or_none: bool) -> Result<Option<&'static str>, u16> {
        let mut headers = HeaderMap::new();
        headers.insert(SEC_WEBSOCKET_KEY, "x3JJHMbDL1EzLkh9GBhXDw==".parse().expect("a header"));
        for protocol in offered {
            headers.append(SEC_WEBSOCKET_PROTOCOL, protocol.parse().expect("a header"));
        }
        Handshake::read(&headers, &["v5", "v4"], or_none)
            .map(|handshake| handshake.protocol)
            .map_err(|status| status.code)
    }

    #[test]
    fn the_clients_first_subprotocol_that_is_spoken_is_taken() {
        assert_eq!(read(&["v9, v4", "v5"], false), Ok(Some("v4")));
        assert_eq!(read(&["v9"], true), Err(400));
        assert_eq!(read(&[], true), Ok(None));
        assert_eq!(read(&[], false), Err(400));
    }
}
