//! Spans for a collector of traces: HTTP requests, upgrades among them, and commands of sessions.
//!
//! **Invariant:** a tick is never traced, and no span has a query, a token or a symbol in it. Where nobody collects, a span
//! costs the check of a static, since its level is off.

use std::time::Duration;

use axum::body::Body;
use axum::extract::MatchedPath;
use axum::response::Response;
use hub::SessionId;
use hyper::Request;
use tracing::Span;
use tracing::field::Empty;
use wire::{Command, Encoding};

/// The target of all spans, for filters. Names of fields are those of OpenTelemetry's semantic conventions where it has one.
pub const TARGET: &str = "gateway::traces";

/// A request over HTTP, until the head of its answer is made. Without its query, in which somebody may have put a secret.
pub(crate) fn request(request: &Request<Body>) -> Span {
    let method = request.method();
    let route = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    tracing::debug_span!(
        target: TARGET,
        "request",
        otel.name = route.map_or_else(|| method.to_string(), |route| format!("{method} {route}")),
        otel.kind = "server",
        otel.status_code = Empty,
        http.request.method = %method,
        http.response.status_code = Empty,
        url.path = request.uri().path(),
    )
}

/// What came of it.
pub(crate) fn response(response: &Response, _took: Duration, span: &Span) {
    let status = response.status();
    // The convention wants a number; unsigned ones end up as texts.
    span.record("http.response.status_code", i64::from(status.as_u16()));
    if status.is_server_error() {
        span.record("otel.status_code", "ERROR");
    }
}

/// A client's message, until it has been answered or asked of the sequencer.
pub(crate) fn command(session: impl FnOnce() -> SessionId, encoding: Encoding, payload: &[u8]) -> Span {
    let span = tracing::debug_span!(
        target: TARGET,
        "command",
        otel.name = Empty,
        otel.status_code = Empty,
        session = Empty,
        bytes = payload.len() as i64,
        error = Empty,
    );
    if span.is_disabled() {
        return span;
    }
    span.record("session", tracing::field::display(session()));
    match wire::parse_command(encoding, payload) {
        Ok(envelope) => {
            span.record("otel.name", operation(&envelope.command));
        }
        Err(error) => {
            span.record("otel.status_code", "ERROR");
            span.record("error", error.code.name());
        }
    }
    span
}

fn operation(command: &Command) -> &'static str {
    match command {
        Command::Auth { .. } => "auth",
        Command::Subscribe(_) => "subscribe",
        Command::Update(_) => "update",
        Command::Unsubscribe { .. } => "unsubscribe",
        Command::Subscriptions => "subscriptions",
        Command::Instruments { .. } => "instruments",
        Command::Ping => "ping",
    }
}
