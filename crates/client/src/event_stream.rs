//! Server-sent events over HTTP/1.1, on hyper.
//!
//! **Invariant:** whatever goes wrong becomes a [`Lost`]; nothing is read while nobody asks for more.
//!
//! What is *not* here: what is asked for and what the answers mean (`engine::stream`), and proxies that the environment names.

use std::collections::VecDeque;
use std::time::Duration;

use http::header::{ACCEPT, AUTHORIZATION, HOST, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_tungstenite::MaybeTlsStream;

use crate::Lost;
use crate::engine::{EventParser, ServerEvent, StreamRequest};
use crate::socket::{BODY_CHARS_MAX, io};

/// A refusal says what it has to say in less.
const REFUSAL_BYTES_MAX: usize = 64 << 10;
/// As of a message of a WebSocket.
const LIST_BYTES_MAX: usize = 64 << 20;

/// Where the server's HTTP is, and how to be let in.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    host: String,
    port: u16,
    secure: bool,
    /// What stands before the server's own paths, behind a proxy
    prefix: String,
    authorization: Option<HeaderValue>,
}

/// Why there is no stream.
pub(crate) enum Unopened {
    /// The server's own words about what was asked for, and what they mean if they are not
    Refused(Bytes, Lost),
    Lost(Lost),
}

/// What came.
pub(crate) enum Streamed {
    Event(ServerEvent),
    /// A part of one, or a comment: a sign of life
    Other,
    Lost(Lost),
}

pub(crate) struct EventStream {
    body: Incoming,
    parser: EventParser,
    waiting: VecDeque<ServerEvent>,
    /// It was only asked whether the server is there: nothing comes, and the end of the answer is none.
    probe: bool,
}

impl Target {
    /// The server of a WebSocket's address, which has been checked.
    pub(crate) fn of(upgrade: &Request<()>, authorization: Option<HeaderValue>) -> Self {
        let uri = upgrade.uri();
        let secure = uri.scheme_str() == Some("wss");
        let path = uri.path();
        Self {
            host: uri.host().unwrap_or_default().to_owned(),
            port: uri.port_u16().unwrap_or(if secure { 443 } else { 80 }),
            secure,
            prefix: path.strip_suffix("/ws").unwrap_or(path).trim_end_matches('/').to_owned(),
            authorization,
        }
    }

    async fn connect(&self) -> Result<MaybeTlsStream<TcpStream>, Lost> {
        // An address of IPv6 stands in brackets.
        let host = self.host.trim_start_matches('[').trim_end_matches(']');
        let stream = TcpStream::connect((host, self.port)).await.map_err(|error| io(&error))?;
        if self.secure { tls::wrap(host, stream).await } else { Ok(MaybeTlsStream::Plain(stream)) }
    }

    async fn get(&self, path: &str, headers: HeaderMap) -> Result<http::Response<Incoming>, Lost> {
        let stream = self.connect().await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        // It ends when the answer is dropped.
        tokio::spawn(connection);
        let request =
            Request::get(format!("{}{path}", self.prefix)).header(HOST, format!("{}:{}", self.host, self.port));
        let mut request = request.body(Empty::<Bytes>::new()).map_err(|error| Lost::Network(error.to_string()))?;
        request.headers_mut().extend(headers);
        if let Some(token) = &self.authorization {
            request.headers_mut().insert(AUTHORIZATION, token.clone());
        }
        sender.send_request(request).await.map_err(broken)
    }

    /// The list of instruments, or the error in its place; in JSON.
    pub(crate) async fn instruments(&self) -> Result<Bytes, Lost> {
        let answer = self.get("/api/v1/instruments", HeaderMap::new()).await?;
        let body = Limited::new(answer.into_body(), LIST_BYTES_MAX).collect().await;
        body.map(http_body_util::Collected::to_bytes).map_err(|error| Lost::Malformed(error.to_string()))
    }
}

impl EventStream {
    pub(crate) async fn open(target: Target, request: StreamRequest) -> Result<Self, Unopened> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
        if let Some(id) = request.last_event_id.and_then(|id| HeaderValue::try_from(id).ok()) {
            headers.insert("last-event-id", id);
        }
        let probe = request.query.is_none();
        let path = request.query.map_or_else(|| "/readyz".to_owned(), |query| format!("/api/v1/stream?{query}"));
        let answer = target.get(&path, headers).await.map_err(Unopened::Lost)?;
        let status = answer.status();
        if status == StatusCode::OK {
            return Ok(Self {
                body: answer.into_body(),
                parser: EventParser::default(),
                waiting: VecDeque::new(),
                probe,
            });
        }
        let retry_after = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let body = Limited::new(answer.into_body(), REFUSAL_BYTES_MAX).collect().await;
        let body = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        let text = String::from_utf8_lossy(&body);
        let refused = Lost::Refused {
            status: status.as_u16(),
            body: text.lines().next().unwrap_or_default().chars().take(BODY_CHARS_MAX).collect(),
            retry_after: retry_after.map(Duration::from_secs),
        };
        // Only what will never be served as it is, and is not about who asks.
        Err(match status {
            StatusCode::BAD_REQUEST | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND => {
                Unopened::Refused(body.clone(), refused)
            }
            _ => Unopened::Lost(refused),
        })
    }

    /// What comes next.
    ///
    /// # Cancel safety
    /// Nothing is lost when it is dropped before it is done.
    pub(crate) async fn receive(&mut self) -> Streamed {
        if let Some(event) = self.waiting.pop_front() {
            return Streamed::Event(event);
        }
        if self.probe {
            return std::future::pending().await;
        }
        match self.body.frame().await {
            Some(Ok(frame)) => {
                let Ok(chunk) = frame.into_data() else { return Streamed::Other };
                match self.parser.feed(&chunk, &mut self.waiting) {
                    Ok(()) => self.waiting.pop_front().map_or(Streamed::Other, Streamed::Event),
                    Err(error) => Streamed::Lost(Lost::Malformed(error)),
                }
            }
            Some(Err(error)) => Streamed::Lost(broken(error)),
            None => Streamed::Lost(Lost::Network("the event stream ended".into())),
        }
    }
}

#[allow(clippy::needless_pass_by_value, reason = "it is what errors are mapped with")]
fn broken(error: hyper::Error) -> Lost {
    use std::error::Error as _;
    match error.source().and_then(|source| source.downcast_ref::<std::io::Error>()) {
        Some(error) => io(error),
        None if error.is_incomplete_message() => Lost::Closed { code: None, reason: String::new() },
        None => Lost::Malformed(error.to_string()),
    }
}

#[cfg(feature = "tls")]
mod tls {
    use std::sync::{Arc, OnceLock};

    use rustls::pki_types::ServerName;
    use rustls::{ClientConfig, RootCertStore};
    use tokio::net::TcpStream;
    use tokio_rustls::TlsConnector;
    use tokio_tungstenite::MaybeTlsStream;

    use crate::Lost;

    /// With the certificates that the system trusts, which are read once.
    pub(super) async fn wrap(host: &str, stream: TcpStream) -> Result<MaybeTlsStream<TcpStream>, Lost> {
        static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
        let config = CONFIG.get_or_init(|| {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
        });
        let name = ServerName::try_from(host.to_owned()).map_err(|error| Lost::Network(error.to_string()))?;
        let connected = TlsConnector::from(Arc::clone(config)).connect(name, stream).await;
        connected.map(MaybeTlsStream::Rustls).map_err(|error| Lost::Network(error.to_string()))
    }
}

#[cfg(not(feature = "tls"))]
mod tls {
    use tokio::net::TcpStream;
    use tokio_tungstenite::MaybeTlsStream;

    use crate::Lost;

    /// Such an address has been refused before.
    #[allow(clippy::unused_async, reason = "with TLS it waits")]
    pub(super) async fn wrap(_: &str, _: TcpStream) -> Result<MaybeTlsStream<TcpStream>, Lost> {
        Err(Lost::Network("this program is built without TLS (feature tls)".into()))
    }
}
