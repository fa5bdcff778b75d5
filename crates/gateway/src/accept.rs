//! The accept loop and the routes.
//!
//! **Invariant:** a connection has a task of its own as soon as it is accepted; nothing that a client does or leaves undone
//! holds up the next one.
//!
//! axum's own `serve` hides the socket from an upgrade, so the loop is written out. What happens on a connection is in
//! `connection`.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::{MethodRouter, get};
use http::HeaderValue;
use http::header::{CONTENT_SECURITY_POLICY, HeaderName, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS};
use metrics::Gauge;
use tokio::net::TcpListener;
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::set_header::SetResponseHeaderLayer;
use tower_http::trace::{DefaultOnFailure, TraceLayer};
use tracing::Level;

use crate::connection::{self, Doors};
use crate::metrics as names;
use crate::state::Shared;
use crate::upgrade::{OriginPolicy, UpgradeState};
use crate::{assets, auth, history, http_policy, rest, stream, traces, upgrade};

/// Nothing here takes a body worth speaking of.
const BODY_BYTES_MAX: usize = 16 * 1024;
/// For answers that are no pages: what is shown of them may load and run nothing. (The dashboard has a policy of its own.)
const NO_PAGE: &str = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// How long to wait after a failed accept. Running out of descriptors would otherwise be a busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// All routes.
pub(crate) fn router(shared: &Arc<Shared>, origins: OriginPolicy) -> Router {
    let upgrades = UpgradeState { shared: Arc::clone(shared), origins: Arc::new(origins) };
    let header =
        |name: HeaderName, value| SetResponseHeaderLayer::if_not_present(name, HeaderValue::from_static(value));
    let cors = http_policy::cors(&upgrades.origins);
    // Who is refused under load, or while the server drains, is counted and is no error.
    let quietly = DefaultOnFailure::new().level(Level::DEBUG);
    // What tells of the market wants to know whom it tells.
    let guard = axum::middleware::from_fn_with_state(Arc::clone(shared), auth::guard);
    let (guarded, open): (Vec<_>, Vec<_>) = routes().into_iter().partition(|(path, _)| path.starts_with("/api/"));
    let add = |router: Router<Arc<Shared>>, (path, route)| router.route(path, route);
    let guarded = guarded.into_iter().fold(Router::new(), add).route_layer(guard);
    open.into_iter()
        .fold(guarded, add)
        .route("/api/{*rest}", axum::routing::any(rest::unknown_endpoint))
        .method_not_allowed_fallback(rest::method_not_allowed)
        // Files too: pages of the allowed origins import the SDK from here.
        .fallback(get(assets::serve))
        .layer(cors)
        .layer(axum::middleware::from_fn(http_policy::not_modified))
        .layer(http_policy::compression())
        .route("/ws", axum::routing::any(upgrade::upgrade).with_state(upgrades))
        .with_state(Arc::clone(shared))
        .layer(RequestBodyLimitLayer::new(BODY_BYTES_MAX))
        .layer(header(X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .layer(header(REFERRER_POLICY, "no-referrer"))
        .layer(header(X_FRAME_OPTIONS, "DENY"))
        .layer(header(CONTENT_SECURITY_POLICY, NO_PAGE))
        .layer(header(HeaderName::from_static("cross-origin-opener-policy"), "same-origin"))
        .layer(header(HeaderName::from_static("cross-origin-resource-policy"), "same-origin"))
        .layer(
            TraceLayer::new_for_http()
                .make_span_with(traces::request)
                .on_response(traces::response)
                .on_failure(quietly),
        )
}

/// The routes that the OpenAPI document describes; a test holds the two together.
pub(crate) fn routes() -> [(&'static str, MethodRouter<Arc<Shared>>); 10] {
    [
        ("/api/v1/instruments", get(rest::instruments)),
        ("/api/v1/snapshot", get(rest::snapshot)),
        ("/api/v1/bars", get(history::bars)),
        ("/api/v1/book", get(history::book)),
        ("/api/v1/trades", get(history::trades)),
        ("/api/v1/stream", get(stream::stream)),
        ("/openapi.json", get(http_policy::openapi)),
        ("/healthz", get(rest::healthz)),
        ("/readyz", get(rest::readyz)),
        ("/metrics", get(rest::metrics)),
    ]
}

/// Accepts connections for as long as it is polled. Cancel safe: a connection that was accepted has its own task.
pub(crate) async fn accept(listener: TcpListener, doors: Doors) -> Infallible {
    let shared = &doors.shared;
    let accepted = shared.metrics.counter(names::CONNECTIONS_ACCEPTED);
    let errors = shared.metrics.counter(names::ACCEPT_ERRORS);
    let open = shared.metrics.gauge(names::CONNECTIONS);
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                accepted.increment(1);
                let place = match doors.place(peer) {
                    Ok(place) => place,
                    Err(refused) => {
                        connection::turn_away(stream, peer.ip().to_canonical(), refused, &doors);
                        continue;
                    }
                };
                let served = connection::serve(stream, peer, place, doors.clone());
                let held = Held::new(open.clone());
                tokio::spawn(async move {
                    served.await;
                    drop(held);
                });
            }
            Err(error) => {
                errors.increment(1);
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Counts a connection as open for as long as it lives, also when its task is cancelled.
struct Held(Gauge);

impl Held {
    fn new(gauge: Gauge) -> Self {
        gauge.increment(1.0);
        Self(gauge)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}
