//! The plain HTTP side: instruments, snapshots, health and metrics.
//!
//! **Invariant:** what is said about the market here is written by the same encoder as the JSON messages of a session, so
//! prices are exact decimal strings and the words are the same.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use axum::extract::{FromRequestParts, Query, State};
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG};
use http::request::Parts;
use http::{HeaderValue, StatusCode};
use hub::{Sequencer, SnapshotElement};
use market::{Channel, ChannelSet, Instrument, InstrumentId, UnknownChannel};
use serde::Deserialize;
use wire::{Dialect, ErrorCode, FrameKind, ServerMessage};

use crate::auth::Caller;
use crate::state::{Phase, Shared};

/// Symbols in one request: as many as a session may subscribe to by default.
const SYMBOLS_MAX: usize = 10_000;

/// `GET /api/v1/instruments`
pub(crate) async fn instruments(State(shared): State<Arc<Shared>>, caller: Caller) -> Response {
    let catalog = shared.catalog();
    let instruments: Vec<&Instrument> = catalog.iter().filter(|i| caller.allows(i.symbol.as_str())).collect();
    let mut body = Vec::new();
    let message = ServerMessage::Instruments { id: None, instruments: &instruments };
    wire::encode_message(Dialect::NativeJson, &message, &mut body);
    let tag = entity_tag(&body);
    revalidated(&tag, body)
}

#[derive(Debug, Deserialize)]
pub(crate) struct SnapshotQuery {
    symbols: Option<String>,
    channels: Option<String>,
}

/// The channels of a snapshot that names none: those with one small element each.
const SNAPSHOT_CHANNELS: [Channel; 4] = [Channel::Trades, Channel::Quotes, Channel::Ticker, Channel::Status];

/// `GET /api/v1/snapshot?symbols=A,B&channels=quotes,book.10`; `*` is every symbol.
pub(crate) async fn snapshot(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Params(query): Params<SnapshotQuery>,
) -> Response {
    let channels = match channels(&caller, query.channels.as_deref(), &SNAPSHOT_CHANNELS) {
        Ok(channels) => channels,
        Err(refusal) => return *refusal,
    };
    let wanted = match query.symbols.as_deref() {
        Some("*") => {
            let catalog = shared.catalog();
            let allowed = catalog.iter().filter(|instrument| caller.allows(instrument.symbol.as_str()));
            allowed.map(|instrument| instrument.id).collect()
        }
        named => match resolve(&shared, &caller, named) {
            Ok(ids) => ids,
            Err(refusal) => return *refusal,
        },
    };
    elements(&shared, move |sequencer| sequencer.snapshot(&wanted, channels)).await
}

/// A snapshot frame with what `read` finds in the sequencer.
pub(crate) async fn elements(
    shared: &Shared,
    read: impl FnOnce(&Sequencer) -> Vec<SnapshotElement> + Send + 'static,
) -> Response {
    let Some(elements) = shared.sequencer.read(read).await else {
        return error(StatusCode::SERVICE_UNAVAILABLE, ErrorCode::Internal, "the server is stopping", &[]);
    };
    let catalog = shared.catalog();
    let mut body = Vec::new();
    wire::begin_data(Dialect::NativeJson, FrameKind::Snapshot, shared.clock.now().wall, elements.len(), &mut body);
    let head = body.len();
    for element in &elements {
        if let Some(instrument) = catalog.get(element.key.instrument()) {
            wire::encode_element(Dialect::NativeJson, instrument, element.seq, element.time, &element.event, &mut body);
        }
    }
    // Of the elements alone: when they were read differs each time.
    let tag = entity_tag(&body[head..]);
    wire::end_data(Dialect::NativeJson, &mut body);
    revalidated(&tag, body)
}

/// `GET /healthz`: the process answers.
pub(crate) async fn healthz() -> &'static str {
    "ok\n"
}

/// `GET /readyz`: new clients are welcome.
pub(crate) async fn readyz(State(shared): State<Arc<Shared>>) -> (StatusCode, &'static str) {
    match shared.phase() {
        Phase::Serving => (StatusCode::OK, "ready\n"),
        Phase::Draining => (StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
    }
}

/// `GET /metrics`: the text format of Prometheus.
pub(crate) async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    let text = shared.metrics.render();
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

/// A method that a path does not have; `Allow` says which it has.
pub(crate) async fn method_not_allowed() -> Response {
    error(StatusCode::METHOD_NOT_ALLOWED, ErrorCode::UnknownOp, "only GET and HEAD are answered here", &[])
}

/// Anything else below `/api/`.
pub(crate) async fn unknown_endpoint() -> Response {
    error(StatusCode::NOT_FOUND, ErrorCode::UnknownOp, "there is no such endpoint", &[])
}

/// The instruments of a list of symbols.
pub(crate) fn resolve(
    shared: &Shared,
    caller: &Caller,
    symbols: Option<&str>,
) -> Result<Vec<InstrumentId>, Box<Response>> {
    let bad = |message: &str| Box::new(error(StatusCode::BAD_REQUEST, ErrorCode::BadCommand, message, &[]));
    let Some(symbols) = symbols.filter(|symbols| !symbols.is_empty()) else {
        return Err(bad("symbols is missing: name them as ?symbols=A,B, or ?symbols=* for all"));
    };
    let names: Vec<&str> = symbols.split(',').collect();
    if names.len() > SYMBOLS_MAX {
        return Err(bad(&format!("{} symbols are too many, at most {SYMBOLS_MAX} are allowed", names.len())));
    }
    if let Some(refusal) = caller.refuse(&names, ChannelSet::EMPTY) {
        return Err(Box::new(refusal));
    }
    let catalog = shared.catalog();
    let mut ids = Vec::with_capacity(names.len());
    let mut unknown = Vec::new();
    for name in names {
        match catalog.by_symbol(name) {
            Some(instrument) => ids.push(instrument.id),
            None => unknown.push(name),
        }
    }
    if !unknown.is_empty() {
        let message = format!("unknown: {}", unknown.join(", "));
        return Err(Box::new(error(StatusCode::NOT_FOUND, ErrorCode::UnknownSymbol, &message, &unknown)));
    }
    // A symbol named twice is answered once.
    ids.sort_unstable();
    ids.dedup();
    Ok(ids)
}

/// The channels of a list of names; when there is none those of `default`, as far as the caller may have them.
pub(crate) fn channels(caller: &Caller, names: Option<&str>, default: &[Channel]) -> Result<ChannelSet, Box<Response>> {
    let entitled = default.iter().copied().filter(|channel| caller.allows_channel(*channel)).collect();
    let channels = match names {
        // Where none of them is left, the answer says so.
        None if entitled == ChannelSet::EMPTY => default.iter().copied().collect(),
        None => entitled,
        Some(names) => names.split(',').map(str::parse).collect::<Result<_, UnknownChannel>>().map_err(|unknown| {
            Box::new(error(StatusCode::BAD_REQUEST, ErrorCode::UnknownChannel, &unknown.to_string(), &[]))
        })?,
    };
    caller.refuse(&[], channels).map_or(Ok(channels), |refusal| Err(Box::new(refusal)))
}

/// The parameters of a query; mistakes are answered as all others are.
#[derive(Debug)]
pub(crate) struct Params<T>(pub(crate) T);

impl<S: Send + Sync, T: serde::de::DeserializeOwned> FromRequestParts<S> for Params<T> {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Response> {
        let read = Query::try_from_uri(&parts.uri);
        read.map(|Query(query)| Self(query)).map_err(|rejection| {
            let message = format!("the query cannot be read: {}", rejection.body_text());
            error(StatusCode::BAD_REQUEST, ErrorCode::BadCommand, &message, &[])
        })
    }
}

/// Tells contents apart. Weak, as an answer may also be sent compressed.
fn entity_tag(content: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    content.hash(&mut hasher);
    format!("W/\"{:016x}\"", hasher.finish())
}

/// An answer in JSON that a client may keep, and ask whether it still holds.
fn revalidated(tag: &str, body: Vec<u8>) -> Response {
    let mut response = json(StatusCode::OK, body);
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Ok(tag) = HeaderValue::from_str(tag) {
        headers.insert(ETAG, tag);
    }
    response
}

/// An answer in JSON that is true only now.
pub(crate) fn json(status: StatusCode, body: Vec<u8>) -> Response {
    (status, [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")], body).into_response()
}

/// An error in the words of a session's `error` message.
pub(crate) fn error(status: StatusCode, code: ErrorCode, message: &str, symbols: &[&str]) -> Response {
    let message = message.chars().take(1024).collect();
    let symbols = symbols.iter().map(|symbol| (*symbol).to_owned()).collect();
    let mut body = Vec::new();
    let error = wire::CommandError { id: None, code, message, symbols };
    wire::encode_message(Dialect::NativeJson, &ServerMessage::Error(&error), &mut body);
    json(status, body)
}
