//! The WebSocket below a client: the hand-shake, and messages there and back.
//!
//! **Invariant:** whatever goes wrong becomes a [`Lost`]; a close frame is answered by the library, and its code kept.
//!
//! What is *not* here: permessage-deflate. The library has none, and the server compresses for those that offer it only.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use http::{HeaderValue, Request, Response};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Bytes, Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};
use wire::{Dialect, Encoding};

use crate::{ConnectError, Lost};

/// The longest message that is taken. A frame of elements has at most 128 KiB; a list of instruments grows with their
/// number, about 200 bytes each, and this is a quarter of a million of them.
const MESSAGE_BYTES_MAX: usize = 64 << 20;
/// What is read at once.
const READ_BUFFER_BYTES: usize = 64 << 10;
/// How long the server may take to take a command.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// How much of a refusal's body is repeated.
pub(crate) const BODY_CHARS_MAX: usize = 200;

pub(crate) struct Socket {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    encoding: Encoding,
    closed: Option<Lost>,
}

/// What came.
pub(crate) enum Received {
    Message(Bytes),
    /// A ping, a pong: a sign of life
    Other,
    Lost(Lost),
}

/// The upgrade request, checked.
pub(crate) fn request(url: &str, encoding: Encoding, bearer: Option<&str>) -> Result<Request<()>, ConnectError> {
    let wrong = |reason: String| ConnectError::Url { url: url.to_owned(), reason };
    let mut request = url.into_client_request().map_err(|error| wrong(error.to_string()))?;
    match request.uri().scheme_str() {
        Some("ws") => {}
        #[cfg(feature = "tls")]
        Some("wss") => {
            // Another one may have been chosen by the program, which is as well.
            let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        }
        #[cfg(not(feature = "tls"))]
        Some("wss") => return Err(wrong("this program is built without TLS (feature tls)".into())),
        _ => return Err(wrong("it does not begin with ws:// or wss://".into())),
    }
    let dialect = match encoding {
        Encoding::MessagePack => Dialect::NativeMessagePack,
        Encoding::Json => Dialect::NativeJson,
    };
    request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static(dialect.subprotocol()));
    if let Some(value) = authorization(bearer)? {
        request.headers_mut().insert("authorization", value);
    }
    Ok(request)
}

/// The header that presents a token.
pub(crate) fn authorization(token: Option<&str>) -> Result<Option<HeaderValue>, ConnectError> {
    let Some(token) = token else { return Ok(None) };
    let mut value = HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| ConnectError::Token)?;
    value.set_sensitive(true);
    Ok(Some(value))
}

impl Socket {
    pub(crate) async fn connect(request: Request<()>, encoding: Encoding) -> Result<Self, Lost> {
        let mut config = WebSocketConfig::default();
        config.max_message_size = Some(MESSAGE_BYTES_MAX);
        config.max_frame_size = Some(MESSAGE_BYTES_MAX);
        config.read_buffer_size = READ_BUFFER_BYTES;
        // Commands wait for nobody: small ones must not be held back for more to come.
        let nodelay = true;
        let connecting = tokio_tungstenite::connect_async_with_config(request, Some(config), nodelay);
        let (stream, _) = connecting.await.map_err(lost)?;
        Ok(Self { stream, encoding, closed: None })
    }

    /// What comes next.
    ///
    /// # Cancel safety
    /// Nothing is lost when it is dropped before it is done.
    pub(crate) async fn receive(&mut self) -> Received {
        match self.stream.next().await {
            Some(Ok(Message::Binary(payload))) => Received::Message(payload),
            Some(Ok(Message::Text(text))) => Received::Message(text.into()),
            Some(Ok(Message::Close(frame))) => {
                let (code, reason) =
                    frame.map_or((None, String::new()), |frame| (Some(frame.code.into()), frame.reason.to_string()));
                self.closed = Some(Lost::Closed { code, reason });
                Received::Other
            }
            Some(Ok(_)) => Received::Other,
            Some(Err(error)) => Received::Lost(self.closed.take().unwrap_or_else(|| lost(error))),
            None => {
                let nothing = || Lost::Closed { code: None, reason: String::new() };
                Received::Lost(self.closed.take().unwrap_or_else(nothing))
            }
        }
    }

    pub(crate) async fn send(&mut self, command: Vec<u8>) -> Result<(), Lost> {
        let message = match self.encoding {
            Encoding::MessagePack => Message::binary(command),
            // What is encoded here is UTF-8.
            Encoding::Json => Message::text(String::from_utf8_lossy(&command).into_owned()),
        };
        match tokio::time::timeout(SEND_TIMEOUT, self.stream.send(message)).await {
            Ok(sent) => sent.map_err(lost),
            Err(_) => Err(Lost::TimedOut { what: "take a command", after: SEND_TIMEOUT }),
        }
    }

    /// Says goodbye, as far as that is possible at once.
    pub(crate) async fn close(mut self) {
        let _ = tokio::time::timeout(Duration::from_millis(500), self.stream.close(None)).await;
    }
}

fn lost(error: Error) -> Lost {
    match error {
        Error::Http(response) => refused(&response),
        Error::Protocol(error) => Lost::Malformed(error.to_string()),
        Error::Capacity(error) => Lost::Malformed(error.to_string()),
        Error::Utf8(error) => Lost::Malformed(error),
        Error::ConnectionClosed | Error::AlreadyClosed => Lost::Closed { code: None, reason: String::new() },
        Error::Io(error) => io(&error),
        other => Lost::Network(other.to_string()),
    }
}

/// Without the number of the operating system, which says nothing to a person.
pub(crate) fn io(error: &std::io::Error) -> Lost {
    use std::io::ErrorKind as K;
    match error.kind() {
        K::ConnectionRefused => Lost::Network("nobody listens there (connection refused)".into()),
        K::ConnectionReset => Lost::Reset,
        K::UnexpectedEof => Lost::Closed { code: None, reason: String::new() },
        _ => Lost::Network(error.to_string()),
    }
}

fn refused(response: &Response<Option<Vec<u8>>>) -> Lost {
    let body = response.body().as_deref().unwrap_or_default();
    let body = String::from_utf8_lossy(body);
    let retry_after = response.headers().get("retry-after").and_then(|value| value.to_str().ok()?.trim().parse().ok());
    Lost::Refused {
        status: response.status().as_u16(),
        body: body.lines().next().unwrap_or_default().chars().take(BODY_CHARS_MAX).collect(),
        retry_after: retry_after.map(Duration::from_secs),
    }
}
