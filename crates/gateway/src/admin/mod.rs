//! What operators can do while the server runs, on a listener of its own: it is no business of clients.
//!
//! **Invariant:** nothing here is reachable by the address that clients use, and nobody gets past the [`Door`] who is
//! neither on this machine nor has the key of operators.
//!
//! Another command is a route in [`router`] and a function below, or in `sessions` if it is about those.

mod door;
mod sessions;

use std::sync::Arc;

use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use feed::{ControlError, ReplayCommand, Speed};
use http::StatusCode;
use serde::Deserialize;

use crate::state::Shared;
pub(crate) use door::Door;

/// The most ticks of one step; who wants more sets a speed.
const STEP_TICKS_MAX: u64 = 1_000_000;

/// All admin routes.
pub(crate) fn router(shared: &Arc<Shared>, door: &Arc<Door>) -> Router {
    let guard = axum::middleware::from_fn_with_state((Arc::clone(shared), Arc::clone(door)), door::guard);
    Router::new()
        .route("/admin/sessions", get(sessions::list))
        .route("/admin/sessions/{id}", get(sessions::one))
        .route("/admin/sessions/{id}/close", post(sessions::close))
        .route("/admin/sessions/{id}/debug", post(sessions::debug))
        .route("/admin/replay", get(|shared| replay(shared, ReplayCommand::Status)))
        .route("/admin/replay/pause", post(|shared| replay(shared, ReplayCommand::Pause)))
        .route("/admin/replay/resume", post(|shared| replay(shared, ReplayCommand::Resume)))
        .route("/admin/replay/step", post(step))
        .route("/admin/replay/speed", post(speed))
        .method_not_allowed_fallback(|| async { refusal(StatusCode::METHOD_NOT_ALLOWED, "GET looks, POST does") })
        .fallback(|| async { refusal(StatusCode::NOT_FOUND, "there is no such command") })
        .layer(guard)
        .with_state(Arc::clone(shared))
}

#[derive(Debug, Deserialize)]
struct StepQuery {
    ticks: Option<String>,
}

/// `POST /admin/replay/step?ticks=N`: pauses, and lets N more ticks pass (1 when not given).
async fn step(shared: State<Arc<Shared>>, Query(query): Query<StepQuery>) -> Response {
    match query.ticks.as_deref().unwrap_or("1").parse() {
        Ok(ticks @ 1..=STEP_TICKS_MAX) => replay(shared, ReplayCommand::Step(ticks)).await,
        _ => refusal(StatusCode::BAD_REQUEST, &format!("ticks is a number from 1 to {STEP_TICKS_MAX}")),
    }
}

#[derive(Debug, Deserialize)]
struct SpeedQuery {
    x: Option<String>,
}

/// `POST /admin/replay/speed?x=N`: N times as fast as recorded, or `max`.
async fn speed(shared: State<Arc<Shared>>, Query(query): Query<SpeedQuery>) -> Response {
    match query.x.as_deref().unwrap_or_default().parse::<Speed>() {
        Ok(speed) => replay(shared, ReplayCommand::Speed(speed)).await,
        Err(error) => refusal(StatusCode::BAD_REQUEST, &format!("x: {error}")),
    }
}

async fn replay(State(shared): State<Arc<Shared>>, command: ReplayCommand) -> Response {
    match shared.sequencer.control(command).await {
        Some(Ok(status)) => Json(serde_json::json!({
            "paused": status.paused,
            "speed": status.speed.to_string(),
            "time": status.time.map(|time| time.to_string()),
        }))
        .into_response(),
        Some(Err(error @ (ControlError::NotAReplay | ControlError::Over))) => {
            refusal(StatusCode::CONFLICT, &error.to_string())
        }
        Some(Err(ControlError::Option(error))) => refusal(StatusCode::BAD_REQUEST, &error.to_string()),
        None => refusal(StatusCode::SERVICE_UNAVAILABLE, "the server is stopping"),
    }
}

fn refusal(status: StatusCode, message: &str) -> Response {
    (status, Json(serde_json::json!({ "message": message }))).into_response()
}
