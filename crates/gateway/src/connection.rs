//! A connection from its first byte until it is closed or upgraded: what a proxy says of it, TLS where it is spoken, then HTTP/1.1 or HTTP/2.
//!
//! **Invariant:** a client that sends slowly, or nothing, holds a connection for `handshake_timeout` for each of the steps
//! (TLS, the head of a request, the pause to the next) and no longer, and the head of a request for no more than
//! [`HEAD_BYTES_MAX`]; one that does not read its answer, for twice `stall_timeout`.
//!
//! WebSockets over HTTP/2 (RFC 8441) are not offered: a stream of HTTP/2 has framing and flow control of its own, so the
//! frames of a lane could not go to all its members as the same bytes by one call of the kernel each.

use std::convert::Infallible;
use std::error::Error as _;
use std::io::{ErrorKind, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use http::header::{CONNECTION, CONTENT_TYPE};
use http::{HeaderValue, Response, StatusCode};
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use peer::proxy_protocol::{self, Progress, Said};
#[cfg(target_os = "linux")]
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tower::ServiceExt as _;

use crate::ProxyConfig;
use crate::admission::{NotAdmitted, Place};
use crate::metrics as names;
use crate::state::Shared;
use crate::tls::{Spoken, Tls};
use crate::upgrade::Peer;

/// The longest head of a request; a browser with many cookies stays below.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// The most headers in it.
const HEADERS_MAX: usize = 64;
/// Requests of one connection of HTTP/2 at a time. Browsers send six or so for a page; event streams last.
const STREAMS_MAX: u32 = 64;
/// What a request of HTTP/2 may leave waiting for a slow reader before its response has to wait too.
const STREAM_BUFFER_BYTES: usize = 64 * 1024;
/// How often a client of HTTP/2 is pinged, and how long it may take to answer.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// What the content type of a record is that begins a hand-shake (RFC 8446, section 5.1).
const HANDSHAKE_RECORD: u8 = 22;

/// What the connections of a listener have in common.
#[derive(Clone)]
pub(crate) struct Doors {
    pub(crate) guests: Guests,
    pub(crate) shared: Arc<Shared>,
    pub(crate) router: Router,
    /// None speaks plain HTTP
    pub(crate) tls: Option<Tls>,
    /// Who is believed that a connection is somebody else's
    pub(crate) proxies: Arc<ProxyConfig>,
}

/// Whom a listener is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Guests {
    Clients,
    /// They are let in however many clients there are.
    Operators,
}

impl Doors {
    /// Takes the place that a connection needs to be served.
    ///
    /// # Errors
    /// [`NotAdmitted`] names the limit.
    pub(crate) fn place(&self, address: SocketAddr) -> Result<Option<Place>, NotAdmitted> {
        let ip = address.ip().to_canonical();
        match self.guests {
            Guests::Operators => Ok(None),
            // Its connections are its clients', who are many.
            Guests::Clients if self.proxies.trusts(ip) => self.shared.admission.accept(None).map(Some),
            Guests::Clients => self.shared.admission.accept(Some(ip)).map(Some),
        }
    }
}

/// Ends a connection for which there is no place. It costs as little as possible: who can be told without TLS is, as far as
/// the kernel takes it at once.
pub(crate) fn turn_away(stream: TcpStream, ip: IpAddr, refused: NotAdmitted, doors: &Doors) {
    doors.shared.metrics.reason(names::CONNECTIONS_REFUSED, refused.label()).increment(1);
    // The log has a bound of its own on repetition.
    tracing::warn!(%ip, reason = refused.label(), "a connection was closed: {refused}");
    if doors.tls.is_some() {
        return;
    }
    let answer = format!(
        "HTTP/1.1 {}\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {}\r\nretry-after: 1\r\n\
         connection: close\r\n\r\n{refused}\n",
        refused.status(),
        refused.to_string().len() + 1
    );
    if let Ok(mut stream) = stream.into_std() {
        // A socket that has just been opened takes it.
        let _ = stream.write(answer.as_bytes());
    }
}

/// Serves a connection to its end.
pub(crate) async fn serve(mut stream: TcpStream, address: SocketAddr, mut place: Option<Place>, doors: Doors) {
    // Frames are gathered by the lanes; what is written is meant to leave.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "the connection was lost at once");
        return;
    }
    bound_stalls(&stream, doors.shared.config.stall_timeout);
    bound_unsent(&stream, doors.shared.config.unsent_bytes_max);
    let timeout = doors.shared.config.handshake_timeout;
    let mut ip = address.ip().to_canonical();
    if doors.proxies.protocol && doors.proxies.trusts(ip) {
        let header = tokio::time::timeout(timeout, read_proxy_header(&mut stream)).await;
        match header.unwrap_or(Err("timeout")) {
            Ok(Said::Client(client)) => {
                ip = client;
                if let Some(Err(refused)) = place.as_mut().map(|place| place.belongs_to(ip)) {
                    return turn_away(stream, ip, refused, &doors);
                }
            }
            Ok(Said::Own) => {}
            Err(reason) => {
                doors.shared.metrics.reason(names::PROXY_HEADERS_REFUSED, reason).increment(1);
                tracing::debug!(proxy = %ip, reason, "a connection of a proxy has no good header of the PROXY protocol");
                return;
            }
        }
    }
    let Doors { shared, router, tls, proxies, .. } = doors;
    let peer = From { ip, proxies, shared: Arc::clone(&shared), asked: Arc::default() };
    // `place` is given back where this ends, which for a session is its upgrade.
    let Some(tls) = tls else { return speak_http1(TokioIo::new(stream), peer, router, timeout).await };
    let shaken = tokio::time::timeout(timeout, shake_hands(stream, &tls)).await;
    match shaken.unwrap_or(Shaken::Failed("timeout")) {
        Shaken::Hands(stream, spoken) => {
            shared.metrics.counter(names::TLS_HANDSHAKES).increment(1);
            match spoken {
                Spoken::Http1 => speak_http1(TokioIo::new(*stream), peer, router, timeout).await,
                Spoken::Http2 => speak_http2(TokioIo::new(*stream), peer, router, timeout).await,
            }
        }
        Shaken::Gone => {}
        Shaken::PlainHttp(stream) => {
            shared.metrics.reason(names::TLS_HANDSHAKE_FAILURES, "plain_http").increment(1);
            refuse_plain_http(stream, timeout).await;
        }
        Shaken::Failed(reason) => {
            shared.metrics.reason(names::TLS_HANDSHAKE_FAILURES, reason).increment(1);
            tracing::debug!(%ip, reason, "a hand-shake of TLS failed");
        }
    }
}

/// Has the kernel end the connection when the client has taken nothing for so long of what it was sent, which hyper would
/// wait for without end. It waits twice as long, so that sessions are ended by the hub first, with a word. Elsewhere than on
/// Linux there is no such option.
fn bound_stalls(stream: &TcpStream, timeout: Duration) {
    /// The kernel counts milliseconds in an `int`.
    #[cfg(target_os = "linux")]
    const TIMEOUT_MAX: Duration = Duration::from_millis(i32::MAX.unsigned_abs() as u64);
    #[cfg(target_os = "linux")]
    if let Err(error) = SockRef::from(stream).set_tcp_user_timeout(Some(timeout.saturating_mul(2).min(TIMEOUT_MAX))) {
        tracing::debug!(%error, "the connection was lost at once");
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (stream, timeout);
}

/// Has the kernel say that it is full when so many bytes wait for the line. It would take in megabytes otherwise, which a
/// client on a slow line gets first, pings and answers behind them: old prices, and a time-out. What is under way does not
/// count, so a fast line stays as full as it was. Elsewhere than on Linux there is no such option.
fn bound_unsent(stream: &TcpStream, bytes: u32) {
    #[cfg(target_os = "linux")]
    if bytes > 0
        && let Err(error) = SockRef::from(stream).set_tcp_notsent_lowat(bytes)
    {
        tracing::debug!(%error, "the connection was lost at once");
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (stream, bytes);
}

/// Whose connection it is, as far as the connection says.
#[derive(Clone)]
struct From {
    ip: IpAddr,
    proxies: Arc<ProxyConfig>,
    shared: Arc<Shared>,
    /// Whether the connection has got as far as a request
    asked: Arc<AtomicBool>,
}

impl From {
    /// Writes into a request whose it is.
    fn mark(&self, request: &mut hyper::Request<Incoming>) {
        let ProxyConfig { trusted, header, .. } = &*self.proxies;
        let ip = if trusted.is_empty() {
            self.ip
        } else {
            let values: Vec<&[u8]> =
                request.headers().get_all(header.name()).iter().map(http::HeaderValue::as_bytes).collect();
            peer::client(self.ip, trusted, *header, values.into_iter())
        };
        request.extensions_mut().insert(Peer(ip));
        self.asked.store(true, Ordering::Relaxed);
    }

    /// What a client was too slow with, as a label of the metrics.
    fn too_slow(&self) -> &'static str {
        if self.asked.load(Ordering::Relaxed) { "pause_timeout" } else { "handshake_timeout" }
    }

    /// The connection has come to an end that it should not have. hyper has answered where it could.
    fn cut(&self, error: &hyper::Error) {
        tracing::debug!(%error, ip = %self.ip, "a connection ended with an error");
        self.count_cut(match error {
            error if error.is_parse_too_large() => "head_too_large",
            error if error.is_parse() => "malformed",
            error if error.is_timeout() => self.too_slow(),
            // The kernel's, see `bound_stalls`.
            error if source_kind(error) == Some(ErrorKind::TimedOut) => "stalled",
            _ => "lost",
        });
    }

    fn count_cut(&self, reason: &'static str) {
        self.shared.metrics.reason(names::CONNECTIONS_CUT, reason).increment(1);
    }
}

/// The kind of error of the socket that an error of hyper comes from, if it does.
fn source_kind(error: &hyper::Error) -> Option<ErrorKind> {
    error.source()?.downcast_ref().map(std::io::Error::kind)
}

/// Reads what a proxy says of the connection, and not a byte further. The error is a label of the metrics.
async fn read_proxy_header(stream: &mut TcpStream) -> Result<Said, &'static str> {
    let mut header = Vec::new();
    loop {
        match proxy_protocol::parse(&header) {
            Ok(Progress::Complete(said)) => return Ok(said),
            Ok(Progress::NeedsBytes(needed)) => {
                // Bounded by what the parser asks for, `HEADER_BYTES_MAX`.
                let have = header.len();
                header.resize(needed, 0);
                stream.read_exact(&mut header[have..]).await.map_err(|_| "lost")?;
            }
            Err(error) => {
                tracing::debug!(%error, "no header of the PROXY protocol");
                return Err("malformed");
            }
        }
    }
}

/// What came of a hand-shake.
enum Shaken {
    Hands(Box<TlsStream<TcpStream>>, Spoken),
    /// It closed without a word, as those do that only look whether the port is open.
    Gone,
    /// It does not know that this port speaks TLS.
    PlainHttp(TcpStream),
    /// The reason is a label of the metrics.
    Failed(&'static str),
}

async fn shake_hands(stream: TcpStream, tls: &Tls) -> Shaken {
    let mut first = [0];
    match stream.peek(&mut first).await {
        Ok(0) | Err(_) => return Shaken::Gone,
        Ok(_) if first[0] != HANDSHAKE_RECORD => {
            return if first[0].is_ascii_uppercase() { Shaken::PlainHttp(stream) } else { Shaken::Failed("not_tls") };
        }
        Ok(_) => {}
    }
    match tls.accept(stream).await {
        Ok((stream, spoken)) => Shaken::Hands(Box::new(stream), spoken),
        Err(error) => {
            tracing::debug!(%error, "a hand-shake of TLS failed");
            Shaken::Failed(failure(&error))
        }
    }
}

/// Why a hand-shake failed, as a label of the metrics.
fn failure(error: &std::io::Error) -> &'static str {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        // Its alert says that it does not trust the certificate, or that this is not whom it was looking for.
        Some(rustls::Error::AlertReceived(_)) => "refused_by_client",
        Some(rustls::Error::PeerIncompatible(_) | rustls::Error::NoApplicationProtocol) => "incompatible",
        Some(_) => "malformed",
        None => "lost",
    }
}

/// Says where to go. Not by a redirect: who sends a key in the clear and gets what it asked for all the same never learns
/// that it has been read on the way.
async fn refuse_plain_http(stream: TcpStream, timeout: Duration) {
    let service = service_fn(|_: hyper::Request<Incoming>| async {
        let mut response =
            Response::new(Body::from("this port speaks TLS: the address begins with https:// or wss://\n"));
        *response.status_mut() = StatusCode::BAD_REQUEST;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        Ok::<_, Infallible>(response)
    });
    // Whoever does not take the answer goes without.
    let _ = http1_builder(timeout).serve_connection(TokioIo::new(stream), service).await;
}

fn http1_builder(timeout: Duration) -> http1::Builder {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(timeout).max_buf_size(HEAD_BYTES_MAX).max_headers(HEADERS_MAX);
    http
}

async fn speak_http1<S>(stream: TokioIo<S>, peer: From, router: Router, timeout: Duration)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let from = peer.clone();
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        from.mark(&mut request);
        router.clone().oneshot(request)
    });
    if let Err(error) = http1_builder(timeout).serve_connection(stream, service).with_upgrades().await {
        peer.cut(&error);
    }
}

async fn speak_http2<S>(stream: TokioIo<S>, peer: From, router: Router, timeout: Duration)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let requests = Requests::default();
    let counted = requests.clone();
    let from = peer.clone();
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        from.mark(&mut request);
        let open = counted.open();
        let answer = router.clone().oneshot(request);
        async move { answer.await.map(|response| response.map(|body| Counted { body, _open: open })) }
    });
    let mut http = http2::Builder::new(TokioExecutor::new());
    http.timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEAD_BYTES_MAX as u32)
        .max_send_buf_size(STREAM_BUFFER_BYTES)
        // A client that is gone without a word is found out while it has a request, too.
        .keep_alive_interval(Some(KEEP_ALIVE))
        .keep_alive_timeout(KEEP_ALIVE);
    let mut connection = pin!(http.serve_connection(stream, service));
    let mut told_to_go = false;
    let mut seen = 0;
    loop {
        // Both branches lose nothing when the other wins: the connection goes on where it was, and the pause begins anew
        // only when it is over.
        match tokio::time::timeout(timeout, connection.as_mut()).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => return peer.cut(&error),
            Err(_) if !requests.idle_since(&mut seen) => {}
            // It has been told, and nothing is under way.
            Err(_) if told_to_go => return peer.count_cut(peer.too_slow()),
            Err(_) => {
                told_to_go = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

/// The requests of one connection.
#[derive(Clone, Default)]
struct Requests(Arc<Counts>);

#[derive(Default)]
struct Counts {
    begun: AtomicUsize,
    open: AtomicUsize,
}

/// Counts a request as open until the end of its response.
struct OpenRequest(Requests);

impl Requests {
    fn open(&self) -> OpenRequest {
        self.0.begun.fetch_add(1, Ordering::Relaxed);
        self.0.open.fetch_add(1, Ordering::Relaxed);
        OpenRequest(self.clone())
    }

    /// Whether none is open and none has begun since this was last asked.
    fn idle_since(&self, seen: &mut usize) -> bool {
        let begun = self.0.begun.load(Ordering::Relaxed);
        std::mem::replace(seen, begun) == begun && self.0.open.load(Ordering::Relaxed) == 0
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        self.0.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The body of a response that counts as open.
struct Counted {
    body: Body,
    _open: OpenRequest,
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
