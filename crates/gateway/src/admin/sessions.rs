//! `/admin/sessions`: who is connected and how each one is doing; one can be closed or looked at closely.
//!
//! **Invariant:** a shard is asked by message and never waited for longer than [`ANSWER_MAX`]; an answer has at most
//! [`PAGE_MAX`] sessions.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use hub::{Compression, SessionId, SessionSubscription, Transport};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::refusal;
use crate::shard::{Ask, Seen, Which};
use crate::state::Shared;

/// Sessions of a page when nothing is said, and at most: 1000 are 400 kB of JSON.
const PAGE: usize = 100;
const PAGE_MAX: usize = 1000;
/// How long a shard may take; it answers within a turn, which is milliseconds also under load.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// How long a session is debugged when nothing is said, and at most, in seconds.
const DEBUG_S: u64 = 60;
const DEBUG_S_MAX: u64 = 3600;

#[derive(Debug, Deserialize)]
pub(super) struct ListQuery {
    limit: Option<String>,
    from: Option<String>,
    behind: Option<String>,
}

/// `GET /admin/sessions?limit=N&from=PLACE&behind=1`: a page of them.
pub(super) async fn list(State(shared): State<Arc<Shared>>, Query(query): Query<ListQuery>) -> Response {
    let Ok(limit @ 1..=PAGE_MAX) = query.limit.as_deref().map_or(Ok(PAGE), str::parse) else {
        return refusal(StatusCode::BAD_REQUEST, &format!("limit is a number from 1 to {PAGE_MAX}"));
    };
    let which = match query.behind.as_deref() {
        None | Some("0") => Which::All,
        Some("1") => Which::Behind,
        Some(_) => return refusal(StatusCode::BAD_REQUEST, "behind is 0 or 1"),
    };
    let Some((first, mut from)) = place(query.from.as_deref().unwrap_or("0-0")) else {
        return refusal(StatusCode::BAD_REQUEST, "from is what an answer has as next, such as 0-100");
    };
    let mut sessions: Vec<Value> = Vec::new();
    let mut next = None;
    for shard in first..shared.shards.len() {
        let max = limit - sessions.len();
        if max == 0 {
            next = Some(format!("{shard}-{from}"));
            break;
        }
        let page = ask(&shared, shard, |answer| Ask::Page { from, max, which, answer }).await;
        let page = match page {
            Ok(page) => page,
            Err(refusal) => return *refusal,
        };
        sessions.extend(page.sessions.iter().map(|seen| describe(shard, seen)));
        // A shard also ends its page when it has looked at enough places.
        if let Some(index) = page.next {
            next = Some(format!("{shard}-{index}"));
            break;
        }
        from = 0;
    }
    Json(json!({ "sessions": sessions, "next": next })).into_response()
}

fn place(text: &str) -> Option<(usize, u32)> {
    let (shard, index) = text.split_once('-')?;
    Some((shard.parse().ok()?, index.parse().ok()?))
}

/// `GET /admin/sessions/{id}`: one, with what it is subscribed to.
pub(super) async fn one(State(shared): State<Arc<Shared>>, Path(id): Path<String>) -> Response {
    with(
        &shared,
        &id,
        |key, answer| Ask::One { key, answer },
        |shard, (seen, subscriptions)| {
            let mut body = describe(shard, &seen);
            body["subscribed"] = subscriptions.iter().map(subscription).collect();
            Json(body).into_response()
        },
    )
    .await
}

/// `POST /admin/sessions/{id}/close`: closes it with 1008 and the reason `closed_by_operator`.
pub(super) async fn close(State(shared): State<Arc<Shared>>, Path(id): Path<String>) -> Response {
    with(
        &shared,
        &id,
        |key, answer| Ask::Close { key, answer },
        |shard, seen| Json(describe(shard, &seen)).into_response(),
    )
    .await
}

#[derive(Debug, Deserialize)]
pub(super) struct DebugQuery {
    seconds: Option<String>,
}

/// `POST /admin/sessions/{id}/debug?seconds=N`: logs what it does for so long; 0 ends that.
pub(super) async fn debug(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    Query(query): Query<DebugQuery>,
) -> Response {
    let lasts = match query.seconds.as_deref().map_or(Ok(DEBUG_S), str::parse) {
        Ok(seconds @ 0..=DEBUG_S_MAX) => Duration::from_secs(seconds),
        _ => return refusal(StatusCode::BAD_REQUEST, &format!("seconds is a number from 0 to {DEBUG_S_MAX}")),
    };
    with(
        &shared,
        &id,
        |key, answer| Ask::Debug { key, lasts, answer },
        |shard, outcome| match outcome {
            Ok(seen) => Json(describe(shard, &seen)).into_response(),
            Err(error) => refusal(StatusCode::CONFLICT, &error.to_string()),
        },
    )
    .await
}

/// Asks the shard of a session, and answers with what comes of it.
async fn with<T>(
    shared: &Shared,
    id: &str,
    question: impl FnOnce(hub::SessionKey, oneshot::Sender<Option<T>>) -> Ask,
    found: impl FnOnce(usize, T) -> Response,
) -> Response {
    let id: SessionId = match id.parse() {
        Ok(id) => id,
        Err(error) => return refusal(StatusCode::BAD_REQUEST, &format!("{id:.64}: {error}")),
    };
    let gone = || refusal(StatusCode::NOT_FOUND, &format!("there is no session {id} (any more)"));
    if id.shard >= shared.shards.len() {
        return gone();
    }
    match ask(shared, id.shard, |answer| question(id.key, answer)).await {
        Ok(Some(answer)) => found(id.shard, answer),
        Ok(None) => gone(),
        Err(refusal) => *refusal,
    }
}

async fn ask<T>(
    shared: &Shared,
    shard: usize,
    question: impl FnOnce(oneshot::Sender<T>) -> Ask,
) -> Result<T, Box<Response>> {
    let busy = |message: &str| Box::new(refusal(StatusCode::SERVICE_UNAVAILABLE, message));
    let (answer, answered) = oneshot::channel();
    if shared.shards[shard].ask(question(answer)).is_err() {
        return Err(busy("too many questions wait for an answer; ask again later"));
    }
    match tokio::time::timeout(ANSWER_MAX, answered).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(_)) => Err(busy("the server is stopping")),
        Err(_) => Err(busy("the shard did not answer in time")),
    }
}

fn describe(shard: usize, seen: &Seen) -> Value {
    let report = &seen.report;
    let state = match report {
        report if report.closing.is_some() => "closing",
        report if report.auth_awaited => "auth_awaited",
        report if report.stalled => "stalled",
        _ => "open",
    };
    json!({
        "id": SessionId { shard, key: report.key }.to_string(),
        "address": seen.ip.map(|ip| ip.to_string()),
        "key": report.name,
        "since": seen.since.to_string(),
        "dialect": report.dialect.subprotocol(),
        "transport": match report.transport {
            Transport::WebSocket => "websocket",
            Transport::EventStream => "event_stream",
        },
        "deflate": match report.compression {
            Compression::Off => "off",
            Compression::Stateless { .. } => "stateless",
            Compression::Shared { .. } => "shared",
        },
        "state": state,
        "closing": report.closing,
        "subscriptions": report.subscriptions,
        "lag_ms": report.lag.as_millis() as u64,
        "outbox_bytes": report.outbox_bytes,
        "delivered": report.delivered,
        "dropped": report.dropped,
        "gaps": report.gaps,
        "sent_bytes": report.bytes,
        "debugged_s": seen.debugged.map(|left| left.as_secs()),
    })
}

fn subscription(subscription: &SessionSubscription) -> Value {
    json!({
        "channel": subscription.channel.to_string(),
        "mode": subscription.mode.name(),
        "interval_ms": subscription.mode.interval_ms(),
        "count": subscription.count,
        "symbols": subscription.symbols,
    })
}
