//! `GET /api/v1/stream`: server-sent events and long polling, for clients that cannot have a WebSocket.
//!
//! **Invariant:** each is a session in a shard like any other. Nothing is fanned out here: bytes that lanes have written go
//! from a pipe into a response.
//!
//! What is *not* here: how an event looks and what an id stands for, which is the hub's.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Extension, State};
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use hub::{Access, AuthRefusal, Position, StreamRequest, Targets};
use market::{Channel, ChannelSet};
use serde::Deserialize;
use tokio::time::{Instant, timeout_at};
use wire::{ErrorCode, Mode};

use crate::admission::Permit;
use crate::auth::{self, Caller, Holding};
use crate::metrics as names;
use crate::rest::{Params, channels, error, json, resolve};
use crate::shard::{NewStream, PipeReader, pipe};
use crate::state::{Phase, Shared};
use crate::upgrade::Peer;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// nginx gathers what a server answers unless it is told not to.
const BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// How long a poll waits when it does not say: proxies give up after 30 s or more.
const POLL_TIMEOUT_MS: u32 = 20_000;
/// The longest that a poll may wait.
const POLL_TIMEOUT_MS_MAX: u32 = 60_000;
/// How long a poll waits for its subscription to be applied, which takes milliseconds.
const SUBSCRIBE_MAX: Duration = Duration::from_secs(5);
/// A poll that has so much is answered at once: the rest comes with the next one.
const POLL_BYTES_MAX: usize = 1 << 20;
/// The largest interval of mode `latest`: a minute, as with a poll.
const INTERVAL_MS_MAX: u32 = 60_000;

/// What the request says.
#[derive(Debug, Deserialize)]
pub(crate) struct StreamQuery {
    symbols: Option<String>,
    channels: Option<String>,
    interval_ms: Option<String>,
    after: Option<String>,
    poll: Option<String>,
    timeout_ms: Option<String>,
}

/// How the client wants to be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Events,
    Poll { timeout: Duration },
}

/// The channels of a stream that names none: those with small elements.
const STREAM_CHANNELS: [Channel; 4] = [Channel::Trades, Channel::Quotes, Channel::Ticker, Channel::Status];

/// See the module.
pub(crate) async fn stream(
    State(shared): State<Arc<Shared>>,
    Extension(Peer(ip)): Extension<Peer>,
    caller: Caller,
    method: Method,
    headers: HeaderMap,
    Params(query): Params<StreamQuery>,
) -> Response {
    let asked = query.request(&shared, &caller, &headers).and_then(|request| Ok((request, query.answer()?)));
    let (request, answer) = match asked {
        Ok(asked) => asked,
        Err(refusal) => return *refusal,
    };
    if method == Method::HEAD {
        return match answer {
            Answer::Events => events(Body::empty()),
            Answer::Poll { .. } => json(StatusCode::OK, Vec::new()),
        };
    }
    let permit = match admit(&shared, ip) {
        Ok(permit) => permit,
        Err(refusal) => return *refusal,
    };
    let (access, holding) = match hold(&shared, &caller) {
        Ok(held) => held,
        Err(refusal) => return refusal,
    };
    let after = request.after.clone();
    let (writer, reader) = pipe(&shared.responses);
    let fewest = shared.shards.iter().min_by_key(|shard| shard.load());
    if let Some(shard) = fewest {
        shard.hand_over_stream(NewStream { writer, request, permit, access, holding });
    }
    match answer {
        Answer::Events => events(Body::new(reader)),
        Answer::Poll { timeout } => poll(reader, timeout, after).await,
    }
}

fn events(body: Body) -> Response {
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (BUFFERING, HeaderValue::from_static("no")),
    ];
    (headers, body).into_response()
}

impl StreamQuery {
    fn request(&self, shared: &Shared, caller: &Caller, headers: &HeaderMap) -> Result<StreamRequest, Box<Response>> {
        let channels = channels(caller, self.channels.as_deref(), &STREAM_CHANNELS)?;
        let served = shared.config.served();
        if let Some(channel) = channels.iter().find(|channel| !served.contains(*channel)) {
            let message = format!("{channel} is not served here");
            return Err(Box::new(error(StatusCode::BAD_REQUEST, ErrorCode::UnknownChannel, &message, &[])));
        }
        let targets = match self.symbols.as_deref() {
            Some("*") => Targets::All,
            named => Targets::Named(resolve(shared, caller, named)?),
        };
        check_count(shared, channels, &targets)?;
        let mode = match number("interval_ms", self.interval_ms.as_deref(), INTERVAL_MS_MAX)? {
            Some(interval_ms) => Mode::Latest { interval_ms },
            None => Mode::Every,
        };
        if let Some(refusal) = caller.refuse_mode(channels, mode) {
            return Err(Box::new(refusal));
        }
        // A client that connects again by itself repeats its query, and says in the header how far it has come since.
        let header = headers.get(LAST_EVENT_ID).map(HeaderValue::as_bytes).filter(|id| !id.is_empty());
        let after = match (header, self.after.as_deref()) {
            (Some(id), _) => Some(position("Last-Event-ID", &String::from_utf8_lossy(id))?),
            (None, Some(id)) if !id.is_empty() => Some(position("after", id)?),
            (None, _) => None,
        };
        Ok(StreamRequest { channels, targets, mode, after })
    }

    fn answer(&self) -> Result<Answer, Box<Response>> {
        let timeout_ms = number("timeout_ms", self.timeout_ms.as_deref(), POLL_TIMEOUT_MS_MAX)?;
        match self.poll.as_deref() {
            None | Some("0") => Ok(Answer::Events),
            Some("1") => {
                let timeout_ms = timeout_ms.unwrap_or(POLL_TIMEOUT_MS);
                Ok(Answer::Poll { timeout: Duration::from_millis(timeout_ms.into()) })
            }
            Some(other) => bad(&format!("poll is {other:?}; 1 polls, 0 or nothing asks for events")),
        }
    }
}

fn check_count(shared: &Shared, channels: ChannelSet, targets: &Targets) -> Result<(), Box<Response>> {
    let (Targets::Named(ids), max) = (targets, shared.tuned().limits.subscriptions_max as usize) else { return Ok(()) };
    let count = ids.len() * channels.iter().count();
    if max > 0 && count > max {
        let message = format!("{count} (channel, symbol) pairs, and {max} are allowed (subscriptions_max)");
        let code = ErrorCode::TooManySubscriptions;
        return Err(Box::new(error(StatusCode::BAD_REQUEST, code, &message, &[])));
    }
    Ok(())
}

fn number(key: &str, text: Option<&str>, max: u32) -> Result<Option<u32>, Box<Response>> {
    let Some(text) = text else { return Ok(None) };
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|number| digits && *number <= max);
    let wrong = || bad(&format!("{key} is {text:?}, and a whole number from 0 to {max} is right"));
    number.map_or_else(wrong, |number| Ok(Some(number)))
}

fn position(key: &str, text: &str) -> Result<Position, Box<Response>> {
    text.parse().or_else(|right: hub::InvalidPosition| bad(&format!("{key} is {text:?}; {right}")))
}

fn bad<T>(message: &str) -> Result<T, Box<Response>> {
    Err(Box::new(error(StatusCode::BAD_REQUEST, ErrorCode::BadCommand, message, &[])))
}

fn admit(shared: &Shared, ip: std::net::IpAddr) -> Result<Permit, Box<Response>> {
    let refuse = |label, status, after_s, code, message: &str| {
        shared.metrics.reason(names::UPGRADES_REFUSED, label).increment(1);
        let mut response = error(status, code, message, &[]);
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static(after_s));
        Box::new(response)
    };
    if shared.phase() == Phase::Draining {
        let message = "the server is draining, connect again";
        return Err(refuse("draining", StatusCode::SERVICE_UNAVAILABLE, "5", ErrorCode::Internal, message));
    }
    if let Some(overloaded) = shared.overload.now() {
        let (label, status) = (overloaded.label(), StatusCode::SERVICE_UNAVAILABLE);
        return Err(refuse(label, status, "5", ErrorCode::RateLimited, &overloaded.to_string()));
    }
    shared
        .admission
        .admit(ip, shared.clock.now().monotonic)
        .map_err(|refused| refuse(refused.label(), refused.status(), "1", ErrorCode::RateLimited, &refused.to_string()))
}

/// What the session begins with, and its place among the connections of its key.
#[allow(clippy::result_large_err, reason = "a response is what the caller returns either way")]
fn hold(shared: &Shared, caller: &Caller) -> Result<(Access, Option<Holding>), Response> {
    let access = caller.0.access();
    let Access::Granted(grant) = &access else { return Ok((access, None)) };
    match shared.auth.holders.connect(grant) {
        Ok(holding) => Ok((access, Some(holding))),
        Err(limit) => Err(auth::refuse(shared, &AuthRefusal::TooManyConnections(limit))),
    }
}

/// Waits until there is something after the client's position, and answers with it.
async fn poll(mut reader: PipeReader, timeout: Duration, after: Option<Position>) -> Response {
    let begun = Instant::now();
    let mut gathered = Gathered::new(after.is_none());
    loop {
        let waits = if gathered.next.is_some() { timeout } else { timeout.max(SUBSCRIBE_MAX) };
        let bytes = timeout_at(begun + waits, poll_fn(|context| reader.poll_bytes(context))).await;
        let Ok(Some(bytes)) = bytes else { break };
        gathered.feed(&bytes);
        if gathered.elements && (reader.is_empty() || gathered.bytes() >= POLL_BYTES_MAX) {
            break;
        }
    }
    json(StatusCode::OK, gathered.answer(after))
}

/// The events of a poll, up to the last one that is a point to go on from.
#[derive(Debug)]
struct Gathered {
    /// The poll begins anew: it is told of its instruments.
    tells_instruments: bool,
    /// Bytes of no whole event yet
    rest: Vec<u8>,
    /// Messages with commas between them
    messages: Vec<u8>,
    /// How much of them was there with the last id
    settled: usize,
    /// The last id
    next: Option<String>,
    /// Whether data stands before the last id
    elements: bool,
    unsettled_elements: bool,
}

impl Gathered {
    fn new(tells_instruments: bool) -> Self {
        Self {
            tells_instruments,
            rest: Vec::new(),
            messages: Vec::new(),
            settled: 0,
            next: None,
            elements: false,
            unsettled_elements: false,
        }
    }

    fn bytes(&self) -> usize {
        self.messages.len()
    }

    fn feed(&mut self, bytes: &[u8]) {
        let mut rest = std::mem::take(&mut self.rest);
        // What was there is no whole event; its end may be the first byte of two.
        let mut from = rest.len().saturating_sub(1);
        rest.extend_from_slice(bytes);
        let mut begin = 0;
        while let Some(at) = rest[from..].windows(2).position(|two| two == b"\n\n") {
            let end = from + at;
            self.event(&rest[begin..end]);
            begin = end + 2;
            from = begin;
        }
        rest.drain(..begin);
        self.rest = rest;
    }

    fn event(&mut self, event: &[u8]) {
        let mut id = None;
        for line in event.split(|byte| *byte == b'\n') {
            if let Some(value) = line.strip_prefix(b"id: ") {
                id = Some(String::from_utf8_lossy(value).into_owned());
            } else if let Some(message) = line.strip_prefix(b"data: ") {
                self.message(message);
            }
        }
        if id.is_some() {
            self.next = id;
            self.settled = self.messages.len();
            self.elements |= std::mem::take(&mut self.unsettled_elements);
        }
    }

    fn message(&mut self, message: &[u8]) {
        if message.starts_with(br#"{"sent_at":"#) {
            self.unsettled_elements = true;
        } else if !self.is_told(message) {
            return;
        }
        if !self.messages.is_empty() {
            self.messages.push(b',');
        }
        self.messages.extend_from_slice(message);
    }

    /// Whether a poll is told of a control message: its session is its own affair, but what has become of its streams is
    /// not.
    fn is_told(&self, message: &[u8]) -> bool {
        let kind = |kind: &str| message.starts_with(format!(r#"{{"type":"{kind}""#).as_bytes());
        if kind("subscribed") {
            let has = |how: &[u8]| message.windows(how.len()).any(|text| text == how);
            return self.tells_instruments || has(br#":"gap""#) || has(br#":"snapshot""#);
        }
        !kind("welcome") && !kind("heartbeat")
    }

    fn answer(mut self, after: Option<Position>) -> Vec<u8> {
        self.messages.truncate(self.settled);
        let next = self.next.or(after.map(|after| after.to_string()));
        // An id has no character that JSON would escape.
        let next = next.map_or_else(|| "null".to_owned(), |next| format!("\"{next}\""));
        let mut body = format!(r#"{{"next":{next},"messages":["#).into_bytes();
        body.append(&mut self.messages);
        body.extend_from_slice(b"]}");
        body
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gather(text: &str, piece: usize, anew: bool) -> (String, bool) {
        let mut gathered = Gathered::new(anew);
        for bytes in text.as_bytes().chunks(piece) {
            gathered.feed(bytes);
        }
        let elements = gathered.elements;
        (String::from_utf8(gathered.answer(None)).unwrap(), elements)
    }

    #[test]
    fn a_poll_ends_with_the_last_id_however_the_bytes_come() {
        let text = "retry: 1\ndata: {\"type\":\"welcome\"}\n\ndata: {\"type\":\"subscribed\",\"recovered\":{\"A\":{\"trades\":\"gap\"}}}\n\n\
            :\ndata: {\"sent_at\":\"a\"}\n\nid: e-5\ndata: {\"sent_at\":\"b\"}\n\ndata: {\"sent_at\":\"c\"}\n\ndata: {\"sen";
        let want = r#"{"next":"e-5","messages":[{"type":"subscribed","recovered":{"A":{"trades":"gap"}}},{"sent_at":"a"},{"sent_at":"b"}]}"#;
        for piece in 1..text.len() {
            assert_eq!(gather(text, piece, false), (want.to_owned(), true), "{piece}");
        }
    }

    #[test]
    fn who_goes_on_is_not_told_of_instruments_again() {
        let text = "id: e-5\ndata: {\"type\":\"subscribed\",\"recovered\":{\"A\":{\"trades\":\"recovered\"}}}\n\n";
        assert_eq!(gather(text, 7, false), (r#"{"next":"e-5","messages":[]}"#.to_owned(), false));
        assert!(gather(text, 7, true).0.contains("subscribed"));
        assert_eq!(gather("", 1, true).0, r#"{"next":null,"messages":[]}"#);
    }
}
