//! The plain HTTP side: instruments, snapshots, health and metrics.
//!
//! **Invariant:** what is said about the market here is written by the same encoder as the JSON messages of a session, so
//! prices are exact decimal strings and the words are the same.

use std::sync::Arc;

use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use hub::{Sequencer, SnapshotElement};
use market::{Channel, ChannelSet, Instrument, InstrumentId, UnknownChannel};
use serde::Deserialize;
use wire::{Dialect, ErrorCode, FrameKind, ServerMessage};

use crate::state::{Phase, Shared};

/// Symbols in one request: as many as a session may subscribe to by default.
const SYMBOLS_MAX: usize = 10_000;

/// `GET /api/v1/instruments`
pub(crate) async fn instruments(State(shared): State<Arc<Shared>>) -> Response {
    let catalog = shared.catalog();
    let instruments: Vec<&Instrument> = catalog.iter().collect();
    let mut body = Vec::new();
    let message = ServerMessage::Instruments { id: None, instruments: &instruments };
    wire::encode_message(Dialect::NativeJson, &message, &mut body);
    json(StatusCode::OK, body)
}

#[derive(Debug, Deserialize)]
pub(crate) struct SnapshotQuery {
    symbols: Option<String>,
    channels: Option<String>,
}

/// The channels of a snapshot that names none: those with one small element each.
const SNAPSHOT_CHANNELS: [Channel; 4] = [Channel::Trades, Channel::Quotes, Channel::Ticker, Channel::Status];

/// `GET /api/v1/snapshot?symbols=A,B&channels=quotes,book.10`; `*` is every symbol.
pub(crate) async fn snapshot(State(shared): State<Arc<Shared>>, Query(query): Query<SnapshotQuery>) -> Response {
    let catalog = shared.catalog();
    let wanted = match query.symbols.as_deref() {
        None | Some("") => {
            let message = "symbols is missing: name them as ?symbols=A,B, or ?symbols=* for all";
            return error(StatusCode::BAD_REQUEST, ErrorCode::BadCommand, message, &[]);
        }
        Some("*") => catalog.iter().map(|instrument| instrument.id).collect(),
        Some(names) => {
            let names: Vec<&str> = names.split(',').collect();
            if names.len() > SYMBOLS_MAX {
                let message = format!("{} symbols are too many, at most {SYMBOLS_MAX} are allowed", names.len());
                return error(StatusCode::BAD_REQUEST, ErrorCode::BadCommand, &message, &[]);
            }
            match resolve(&catalog, &names) {
                Ok(ids) => ids,
                Err(unknown) => {
                    let message = format!("unknown: {}", unknown.join(", "));
                    return error(StatusCode::NOT_FOUND, ErrorCode::UnknownSymbol, &message, &unknown);
                }
            }
        }
    };
    let names = query.channels.as_deref().map(|names| names.split(',').map(str::parse).collect());
    let channels: ChannelSet = match names {
        None => SNAPSHOT_CHANNELS.into_iter().collect(),
        Some(Ok(channels)) => channels,
        Some(Err(unknown)) => {
            let unknown: UnknownChannel = unknown;
            return error(StatusCode::BAD_REQUEST, ErrorCode::UnknownChannel, &unknown.to_string(), &[]);
        }
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
    for element in &elements {
        if let Some(instrument) = catalog.get(element.key.instrument()) {
            wire::encode_element(Dialect::NativeJson, instrument, element.seq, element.time, &element.event, &mut body);
        }
    }
    wire::end_data(Dialect::NativeJson, &mut body);
    json(StatusCode::OK, body)
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

/// Anything else below `/api/`.
pub(crate) async fn unknown_endpoint() -> Response {
    error(StatusCode::NOT_FOUND, ErrorCode::UnknownOp, "there is no such endpoint", &[])
}

fn resolve<'a>(catalog: &hub::Catalog, names: &[&'a str]) -> Result<Vec<InstrumentId>, Vec<&'a str>> {
    let mut ids = Vec::with_capacity(names.len());
    let mut unknown = Vec::new();
    for name in names {
        match catalog.by_symbol(name) {
            Some(instrument) => ids.push(instrument.id),
            None => unknown.push(*name),
        }
    }
    // A symbol named twice is answered once.
    ids.sort_unstable();
    ids.dedup();
    if unknown.is_empty() { Ok(ids) } else { Err(unknown) }
}

fn json(status: StatusCode, body: Vec<u8>) -> Response {
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
